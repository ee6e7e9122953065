"""Socket.IO (`who`, `echo`) and plain requests (`/who`, `/path?n=`, `/slow?ms=&n=`), by python-socketio; run by uvicorn."""

import asyncio
import json
import os
from urllib.parse import parse_qs

import socketio

sio = socketio.AsyncServer(async_mode="asgi")


def me(client=None):
    return {
        "pid": os.getpid(),
        "index": os.environ.get("NODE_APP_INSTANCE"),
        "version": os.environ.get("VERSION"),
        "client": client,
    }


@sio.event
async def who(sid):
    return me()


@sio.event
async def echo(sid, what):
    return what


async def plain(scope, receive, send):
    if scope["type"] != "http":
        return
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    status, text = 200, query.get("n", "") + "\n"
    if scope["path"] == "/who":
        text = json.dumps(me(scope["client"] and scope["client"][0]))
    elif scope["path"] == "/slow":
        await asyncio.sleep(int(query["ms"]) / 1000)
    elif scope["path"] != "/path":
        status = 404
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})


app = socketio.ASGIApp(sio, plain)
