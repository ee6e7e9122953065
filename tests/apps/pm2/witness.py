"""The same for a program that is not Node's."""
import json, os, signal, socket, sys, time

WHO = "appctl" if "APPCTL_APP" in os.environ else "pm2"
INDEX = os.environ.get("NODE_APP_INSTANCE", "0")


def tell(event, **facts):
    line = {"who": WHO, "name": os.environ.get("name"), "index": INDEX, "pid": os.getpid(), "event": event, **facts}
    with socket.create_connection(("127.0.0.1", 4999)) as collector:
        collector.sendall((json.dumps(line) + "\n").encode())


def told(number, _frame):
    tell("signal", signal=signal.Signals(number).name)
    sys.exit(0)


for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, told)
tell("start", environment=dict(os.environ), arguments=sys.argv[1:], runtime=[], directory=os.getcwd(), user=os.getuid(), group=os.getgid())
while True:
    time.sleep(3600)
