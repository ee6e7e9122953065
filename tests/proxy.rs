//! Connections that a reverse proxy shares among its clients: routed request by request, each to its own worker.

use crate::kept::{Kept, SHARED};
use crate::support::{Cluster, PATIENCE, POLLING, finish, signal};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Tells the app what it was asked, as JSON; a few paths behave in a way of their own.
pub(crate) const ECHO: &str = "
    const http = require('http');
    const server = http.createServer((q, r) => {
      r.sendDate = false;
      if (q.url === '/none') return r.writeHead(204).end();
      if (q.url === '/same') return r.writeHead(304, { ETag: 'x' }).end();
      if (q.url === '/early') return r.end('early');
      if (q.url === '/hints') { r.writeEarlyHints({ link: '</a>; rel=preload' }); setTimeout(() => r.end('hinted'), 50); return; }
      if (q.url === '/trailers') {
        r.writeHead(200, { Trailer: 'X-Sum' });
        r.write('body');
        r.addTrailers({ 'X-Sum': '4' });
        return r.end();
      }
      if (q.url === '/close') { r.setHeader('Connection', 'close'); }
      if (q.url === '/fields') {
        r.setHeader('X-MiXed', 'a'); r.setHeader('Connection', 'X-Gone, keep-alive'); r.setHeader('X-Gone', '1');
        r.setHeader('Set-Cookie', ['one', 'two']); r.statusMessage = 'Fine By Me';
        return r.end('fields');
      }
      if (q.url.startsWith('/drip')) {
        let n = 0;
        const drip = setInterval(() => { r.write('drip\\n'); if (++n === 5) { clearInterval(drip); r.end(); } }, 20);
        return;
      }
      if (q.url === '/cut') { r.writeHead(200, { 'Content-Length': 1000 }); r.write('half'); setTimeout(() => q.socket.destroy(), 50); return; }
      if (q.url === '/cut/chunked') { r.write('half'); setTimeout(() => q.socket.destroy(), 50); return; }
      if (q.url === '/gone') { console.log('asked for /gone'); r.on('close', () => console.log('closed', r.writableEnded)); return; }
      if (q.url.startsWith('/big')) {
        const piece = Buffer.alloc(65536, 'b');
        let left = Number(q.url.split('=')[1]) / piece.length;
        const more = () => { while (left-- > 0) if (!r.write(piece)) return r.once('drain', more); r.end(); };
        return more();
      }
      let length = 0;
      q.on('data', (data) => { length += data.length; if (q.url === '/upload') console.log('uploading'); });
      q.on('error', () => {});
      q.on('aborted', () => console.log('aborted after', length));
      q.on('end', () => r.end(JSON.stringify({
        worker: process.env.NODE_APP_INSTANCE, method: q.method, url: q.url, headers: q.headers, raw: q.rawHeaders,
        address: q.socket.remoteAddress, port: q.socket.remotePort, version: q.httpVersion, length, trailers: q.trailers,
      })));
    });
    server.on('upgrade', (q, socket, head) => {
      socket.on('error', () => {});
      socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: ' + q.headers.upgrade + '\\r\\nConnection: Upgrade\\r\\n\\r\\nearly:' + head);
      socket.on('data', (data) => socket.write(data));
      socket.on('end', () => socket.end('bye'));
      console.log('switched', q.socket.remotePort);
    });
    server.listen(3000);
";

fn echo(more: &str) -> Cluster {
    Cluster::script(ECHO, 2, more).until_ready(2)
}

#[test]
fn the_requests_of_one_connection_go_to_different_workers() {
    let cluster = echo("");
    let mut client = Kept::new(&cluster);
    let workers: Vec<_> = (0..6).map(|n| client.get(&format!("/{n}")).json()["worker"].clone()).collect();
    let each: BTreeSet<_> = workers.iter().map(Value::to_string).collect();
    assert_eq!(each.len(), 2, "{workers:?}");
    // Connections to workers are kept: two of them are enough for any number of requests.
    let ports: BTreeSet<_> = (0..50).map(|n| client.get(&format!("/{n}")).json()["port"].to_string()).collect();
    assert_eq!(ports.len(), 2, "{ports:?}");
}

#[test]
fn what_a_worker_sees_and_what_comes_back() {
    let cluster = echo("");
    let mut client = Kept::new(&cluster);
    let fields = "X-MiXed: 1\r\nAccept: a\r\naccept: b\r\nConnection: keep-alive, X-Private\r\nX-Private: 2\r\n\
                  Keep-Alive: 9\r\nTE: gzip, trailers\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-Proto: https\r\nHost2: x\r\n";
    let seen = client.ask("GET", "/a?b=c%20d&e", fields).json();
    assert_eq!(
        (seen["method"].as_str(), seen["url"].as_str(), seen["version"].as_str()),
        (Some("GET"), Some("/a?b=c%20d&e"), Some("1.1"))
    );
    let raw: Vec<&str> = seen["raw"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let raw: Vec<_> = raw.chunks(2).map(|pair| format!("{}: {}", pair[0], pair[1])).collect();
    for field in [
        "Host: a",
        "X-MiXed: 1",
        "Accept: a",
        "accept: b",
        SHARED,
        "Forwarded: for=1.2.3.4",
        "X-Forwarded-Proto: https",
    ] {
        assert!(raw.iter().any(|it| it == field), "no {field} in {raw:?}");
    }
    assert_eq!(seen["headers"]["te"], "trailers");
    for gone in ["x-private", "keep-alive", "x-forwarded-host", "transfer-encoding", "date", "via"] {
        assert!(seen["headers"][gone].is_null(), "{gone}: {seen}");
    }
    assert_eq!(seen["address"], "127.0.0.1");
    let many = |count: u32| (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>();
    let seen = client.ask("GET", "/", &many(90)).json();
    assert!((0..90).all(|n| seen["headers"][format!("x-{n}")].as_str() == Some(&n.to_string())));
    let too_many = Kept::new(&cluster).ask("GET", "/", &many(101));
    assert_eq!(too_many.status, 431, "{too_many:?}");
    let back = client.get("/fields");
    assert!(back.head.starts_with("HTTP/1.1 200 Fine By Me\n"), "{back:?}");
    for field in ["X-MiXed: a\n", "Set-Cookie: one\nSet-Cookie: two\n"] {
        assert!(back.head.contains(field), "{back:?}");
    }
    for gone in ["x-gone", "connection:", "keep-alive", "date:", "via:"] {
        assert!(!back.head.to_lowercase().contains(gone), "{back:?}");
    }
}

#[test]
fn who_is_routed_request_by_request() {
    // Handed over, a worker sees the client's own address and port.
    let handed_over = |cluster: &Cluster, fields: &str| {
        let mut client = Kept::new(cluster);
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let answer = client.answer("GET").json();
        (answer["port"] == client.stream.local_addr().unwrap().port(), answer)
    };
    let forged =
        "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n";
    let auto = echo("");
    assert!(handed_over(&auto, "").0, "a direct client");
    for fields in [forged, "Forwarded: for=1.1.1.1\r\n", "Via: 1.1 x\r\n"] {
        assert!(!handed_over(&auto, fields).0, "{fields}");
    }
    let stranger = echo("[router]\ntrusted_proxies = [\"10.0.0.0/8\"]");
    assert!(handed_over(&stranger, forged).0, "nobody that is trusted");
    let never = echo("[router]\nshared = \"never\"");
    assert!(handed_over(&never, forged).0);
    let always = echo("[router]\nshared = \"always\"\ntrusted_proxies = []");
    let (handed, seen) = handed_over(&always, forged);
    assert!(!handed);
    let client = |name: &str| seen["headers"][name].as_str().map(str::to_owned);
    assert_eq!(client("x-forwarded-for").as_deref(), Some("127.0.0.1"), "{seen}");
    assert_eq!(
        (client("x-forwarded-proto").as_deref(), client("x-forwarded-host").as_deref()),
        (Some("http"), Some("a"))
    );
    assert_eq!((client("forwarded"), client("x-real-ip")), (None, None));
    let (handed, seen) = handed_over(&always, "");
    assert!(!handed && seen["headers"]["x-forwarded-for"] == "127.0.0.1", "{seen}");
}

#[test]
fn a_connection_that_begins_with_an_upgrade_is_handed_over() {
    let mut cluster = echo("");
    let upgrade = |fields: &str| {
        format!("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{fields}\r\n\r\n")
    };
    let mut client = Kept::new(&cluster);
    client.send(upgrade(SHARED) + "abc");
    assert_eq!(client.answer("GET").status, 101);
    let port = client.stream.local_addr().unwrap().port();
    cluster.until(&format!("switched {port}"));
    // Not with the word of a stranger in it, where all is routed here.
    let mut cluster = echo("[router]\nshared = \"always\"\ntrusted_proxies = []");
    let mut client = Kept::new(&cluster);
    client.send(upgrade(SHARED));
    assert_eq!(client.answer("GET").status, 101);
    assert!(!cluster.until("switched").ends_with(&format!(" {}", client.stream.local_addr().unwrap().port())));
    let mut client = Kept::new(&cluster);
    client.send(upgrade("X: y"));
    assert_eq!(client.answer("GET").status, 101);
    cluster.until(&format!("switched {}", client.stream.local_addr().unwrap().port()));
}

#[test]
fn an_upgrade_later_on_a_connection() {
    let cluster = echo("");
    for together in [false, true] {
        let mut client = Kept::new(&cluster);
        client.get("/first");
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
        );
        // Before the answer, and neither HTTP nor text.
        let early = b"\0\xff\nearly\r\n\r\n";
        if together {
            client.send([request.as_bytes(), early].concat());
        } else {
            client.send(request);
            client.send(early);
        }
        let answer = client.answer("GET");
        assert_eq!(answer.status, 101, "{answer:?}");
        assert!(answer.head.contains("Upgrade: WebSocket\n"), "{answer:?}");
        assert_eq!(client.bytes(6), b"early:");
        assert_eq!(client.bytes(12), b"\0\xff\nearly\r\n\r\n");
        for size in [1, 1000, 300_000] {
            let piece = vec![b'x'; size];
            client.send(&piece);
            assert_eq!(client.bytes(size), piece);
        }
        finish(&client.stream);
        assert_eq!(client.rest(), b"bye");
    }
}

/// One that is not followed is answered like any other request; the connection goes on.
#[test]
fn an_upgrade_that_nobody_follows() {
    let script = "require('http').createServer((q, r) => r.end(q.headers.upgrade || 'none')).listen(3000);";
    let cluster = Cluster::script(script, 1, "").until_ready(1);
    let mut client = Kept::new(&cluster);
    client.get("/");
    for protocol in ["websocket", "h2c", "x"] {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.answer("GET").text(), if protocol == "h2c" { "none" } else { protocol });
        assert_eq!(client.answer("GET").text(), "none");
    }
}

#[test]
fn bodies() {
    let cluster = echo("");
    for mut client in Kept::both(&cluster) {
        let body = vec![b'x'; 300_000];
        let head = format!("POST /x HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n");
        client.send(format!("{head}Content-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        assert_eq!(client.answer("POST").json()["length"], body.len());
        client.send(format!("{head}Content-Length: 0\r\n\r\n"));
        assert_eq!(client.answer("POST").json()["length"], 0);
        for method in ["POST", "GET", "DELETE"] {
            client.send(format!(
                "{method} /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n"
            ));
            for piece in body.chunks(7_777) {
                client.send(format!("{:x}\r\n", piece.len()));
                client.send(piece);
                client.send("\r\n");
            }
            client.send("0\r\nX-End: yes\r\n\r\n");
            let seen = client.answer(method).json();
            assert_eq!((&seen["length"], &seen["trailers"]["x-end"]), (&body.len().into(), &"yes".into()), "{method}");
        }
        client.send(format!("{head}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
        assert_eq!(client.answer("POST").status, 100);
        client.send("12345");
        assert_eq!(client.answer("POST").json()["length"], 5);
    }
}

/// The worker does not want the body: its answer comes instead of the 100.
#[test]
fn expectations_are_the_workers_to_meet() {
    let script = "const server = require('http').createServer();
                  server.on('checkContinue', (q, r) => {
                    q.socket.on('close', () => console.log('given up'));
                    r.writeHead(417); r.end('no');
                  });
                  server.on('request', (q, r) => r.end('plain'));
                  server.listen(3000);";
    let mut cluster = Cluster::script(script, 1, "").until_ready(1);
    let mut client = Kept::new(&cluster);
    client.get("/");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let answer = client.answer("POST");
    assert_eq!((answer.status, answer.text().as_str()), (417, "no"));
    assert_eq!(client.rest(), b"", "no body will come, so the connection ends");
    cluster.until("given up");
    // A client of HTTP/1.0 knows of no 100.
    let mut client = Kept::new(&cluster);
    client.send(format!("POST / HTTP/1.0\r\n{SHARED}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab"));
    assert_eq!(client.answer("POST").text(), "plain");
}

#[test]
fn answers_without_a_body_and_with_trailers() {
    let cluster = echo("");
    for mut client in Kept::both(&cluster) {
        for _ in 0..3 {
            let answer = client.ask("HEAD", "/x", "");
            assert_eq!(answer.status, 200);
            assert_eq!(client.get("/none").status, 204);
            let same = client.get("/same");
            assert!(same.status == 304 && same.head.contains("ETag: x\n"), "{same:?}");
            assert_eq!(client.get("/drip").text(), "drip\n".repeat(5));
            let answer = client.ask("GET", "/trailers", "TE: trailers\r\nConnection: TE\r\n");
            assert_eq!((answer.text().as_str(), answer.trailers.to_lowercase().as_str()), ("body", "x-sum: 4\n"));
        }
    }
}

#[test]
fn early_hints_come_before_the_answer() {
    let cluster = echo("");
    for mut client in Kept::both(&cluster) {
        for _ in 0..3 {
            let hints = client.get("/hints");
            assert!(
                hints.status == 103 && hints.head.to_lowercase().contains("link: </a>; rel=preload\n"),
                "{hints:?}"
            );
            assert_eq!(client.answer("GET").text(), "hinted");
        }
    }
}

#[test]
fn old_clients_and_those_that_close() {
    let cluster = echo("");
    let mut client = Kept::new(&cluster);
    client.send(format!("GET /drip HTTP/1.0\r\n{SHARED}\r\n\r\n"));
    let answer = client.answer("GET");
    assert!(answer.head.starts_with("HTTP/1.0 200") && !answer.head.to_lowercase().contains("chunked"), "{answer:?}");
    assert_eq!(answer.text(), "drip\n".repeat(5));
    let mut client = Kept::new(&cluster);
    for _ in 0..2 {
        client.send(format!("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n{SHARED}\r\n\r\n"));
        assert_eq!(client.answer("GET").json()["version"], "1.1");
    }
    let mut client = Kept::new(&cluster);
    let answer = client.ask("GET", "/x", "Connection: close\r\n");
    assert!(answer.status == 200 && answer.head.to_lowercase().contains("connection: close"), "{answer:?}");
    assert_eq!(client.rest(), b"");
    // That the worker closes is between it and the router.
    let mut client = Kept::new(&cluster);
    for _ in 0..5 {
        let answer = client.get("/close");
        assert!(!answer.head.to_lowercase().contains("connection:"), "{answer:?}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let cluster = echo("");
    let mut client = Kept::new(&cluster);
    let requests: String = (0..50)
        .map(|n| match n % 3 {
            0 => format!("POST /{n} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nContent-Length: 4\r\n\r\nGET "),
            1 => format!("POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n"),
            _ => format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
        })
        .collect();
    client.send(requests);
    for n in 0..50 {
        assert_eq!(client.answer("GET").json()["url"], format!("/{n}"));
    }
}

#[test]
fn the_absolute_form_of_a_target() {
    let cluster = echo("");
    let mut client = Kept::new(&cluster);
    client.send(format!("GET http://b.example:81/x?y HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n"));
    let seen = client.answer("GET").json();
    assert_eq!((seen["url"].as_str(), seen["headers"]["host"].as_str()), (Some("/x?y"), Some("b.example:81")));
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer("OPTIONS").json()["url"], "*");
    for bad in ["GET ftp://b/ HTTP/1.1", "GET http://u@b/ HTTP/1.1", "CONNECT b:80 HTTP/1.1", "GET * HTTP/1.1"] {
        let mut client = Kept::new(&cluster);
        client.send(format!("{bad}\r\nHost: b\r\n{SHARED}\r\n\r\n"));
        assert_eq!(client.answer("GET").status, 400, "{bad}");
        assert_eq!(client.rest(), b"");
    }
}

/// Each of these is read differently by one parser or another: none gets to a worker, and nothing behind it either.
#[test]
fn what_smugglers_send_is_refused() {
    let cluster = echo("");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n12345",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n12345",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n12345",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n12345",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\n12345\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n12345\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n12345\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\n12345\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123456\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\n12345\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\0: a\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\nHost: a\r\n\r\n",
    ] {
        for before in ["", "plain", "other", "together"] {
            let mut client = Kept::new(&cluster);
            let mut text = request.to_owned();
            match before {
                // So that it is not the first head, at which the router has looked already.
                "plain" => assert_eq!(client.get("/").status, 200),
                "other" => assert_eq!(client.ask("GET", "/", "TE: trailers\r\nConnection: TE\r\n").status, 200),
                "together" => text.insert_str(0, &format!("GET / HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n")),
                _ => text = text.replacen("Host: a", &format!("{SHARED}\r\nHost: a"), 1),
            }
            client.send(text + smuggled);
            if before == "together" {
                assert_eq!(client.answer("GET").status, 200);
            }
            let answer = client.answer("POST");
            assert_eq!(answer.status, 400, "{request:?} {before:?}: {answer:?}");
            assert!(answer.head.to_lowercase().contains("connection: close"), "{request:?}: {answer:?}");
            assert_eq!(String::from_utf8_lossy(&client.rest()), "", "{request:?}: more than one answer");
        }
    }
    assert_eq!(Kept::new(&cluster).get("/").status, 200);
}

#[test]
fn heads_that_are_too_long_or_too_slow() {
    let cluster = echo("[router]\nhead_limit = \"2K\"\nhead_timeout = \"1s\"\nkeepalive_timeout = \"3s\"");
    let mut client = Kept::new(&cluster);
    client.get("/");
    let answer = client.ask("GET", "/", &format!("X: {}\r\n", "x".repeat(3000)));
    assert_eq!(answer.status, 431, "{answer:?}");
    assert_eq!(client.rest(), b"");
    let mut client = Kept::new(&cluster);
    client.get("/");
    client.send("GET / HTTP/1.1\r\nHost:");
    let answer = client.answer("GET");
    assert_eq!(answer.status, 408, "{answer:?}");
    // One that comes between requests is closed without a word, but not before its time.
    let mut client = Kept::new(&cluster);
    client.get("/");
    let idle = Instant::now();
    assert_eq!(client.rest(), b"");
    assert!(idle.elapsed() > Duration::from_millis(2500), "{:?}", idle.elapsed());
    // What takes long in a worker is neither.
    let slow = Cluster::script(
        "require('http').createServer((q, r) => setTimeout(() => r.end('slow'), 2500)).listen(3000);",
        1,
        "[router]\nhead_timeout = \"500ms\"\nkeepalive_timeout = \"1s\"",
    )
    .until_ready(1);
    let mut client = Kept::new(&slow);
    assert_eq!((client.get("/").text().as_str(), client.get("/").text().as_str()), ("slow", "slow"));
}

#[test]
fn an_answer_that_comes_before_the_end_of_the_body() {
    let cluster = echo("");
    for mut client in Kept::both(&cluster) {
        client.get("/");
        client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome");
        assert_eq!(client.answer("POST").text(), "early");
        client.send(vec![b'x'; 1_000_000 - 4]);
        assert_eq!(client.get("/").status, 200, "the same connection goes on");
    }
}

#[test]
fn a_client_that_goes_away() {
    let mut cluster = echo("");
    for way in 0..2 {
        let new = |cluster: &Cluster| {
            let [plain, other] = Kept::both(cluster);
            if way == 0 { plain } else { other }
        };
        // In the middle of its body.
        let mut client = new(&cluster);
        client.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nContent-Length: 1000\r\n\r\n12345"));
        cluster.until("uploading");
        drop(client);
        cluster.until("aborted after 5");
        // While it waits for its answer.
        let mut client = new(&cluster);
        client.send(format!("GET /gone HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n"));
        cluster.until("asked for /gone");
        drop(client);
        cluster.until("closed false");
        // In the middle of its answer.
        let mut client = new(&cluster);
        client.send(format!("GET /big?n=100000000 HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n"));
        client.line();
        drop(client);
        for _ in 0..10 {
            assert_eq!(Kept::new(&cluster).get("/").status, 200);
        }
    }
}

/// An answer that a worker does not finish must not look whole.
#[test]
fn a_worker_that_breaks_off() {
    let cluster = echo("");
    for path in ["/cut", "/cut/chunked"] {
        for mut client in Kept::both(&cluster) {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n"));
            let rest = String::from_utf8(client.rest()).unwrap();
            assert!(rest.starts_with("HTTP/1.1 200") && rest.contains("half"), "{rest}");
            assert!(!rest.contains("\r\n0\r\n"), "{rest}");
        }
    }
}

/// `VmHWM` of a process, KiB.
fn peak(pid: i32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn large_bodies_flow_and_are_not_kept() {
    const SIZE: usize = 100 << 20;
    let cluster = echo("");
    let clients = Kept::both(&cluster);
    let before = peak(cluster.pid());
    for mut client in clients {
        client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nContent-Length: {SIZE}\r\n\r\n"));
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            client.send(&piece);
        }
        assert_eq!(client.answer("POST").json()["length"], SIZE);
        assert_eq!(client.get(&format!("/big?n={SIZE}")).body.len(), SIZE);
    }
    // Clients that do not read: what is on its way to them stays with the worker.
    let mut slow: Vec<_> = (0..10).flat_map(|_| Kept::both(&cluster)).collect();
    for client in &mut slow {
        client.send(format!("GET /big?n={SIZE} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n"));
        client.line();
    }
    for _ in 0..20 {
        assert_eq!(Kept::new(&cluster).get("/").status, 200);
    }
    let grown = peak(cluster.pid()) - before;
    assert!(grown < 20 * 1024, "{grown} KiB");
}

/// A worker may close idle connections when it likes, whatever it has said; no request may meet that.
#[test]
fn a_kept_connection_that_the_worker_has_closed_fails_nobody() {
    let script = "require('http').createServer((q, r) => {
                    q.resume();
                    q.on('end', () => r.end('fine'));
                    r.on('finish', () => q.socket.end());
                    q.socket.on('close', () => console.log('closed'));
                  }).listen(3000);";
    let mut cluster = Cluster::script(script, 1, "").until_ready(1);
    let clients = Kept::both(&cluster);
    cluster.until("closed");
    for mut client in clients {
        for n in 0..20 {
            let method = ["GET", "POST"][n % 2];
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nContent-Length: 2\r\n\r\nab"));
            let answer = client.answer(method);
            assert_eq!((answer.status, answer.text().as_str()), (200, "fine"), "{n}");
            cluster.until("closed");
        }
    }
}

/// A worker that breaks off the second request of each connection: what may be asked twice is asked again.
#[test]
fn what_may_be_asked_twice_is() {
    let script = "let seen = 0;
        require('http').createServer((q, r) => {
          q.socket.count = (q.socket.count || 0) + 1;
          if (q.socket.count > 1 || q.url === '/never') { console.log('broken off', q.method); return q.socket.destroy(); }
          q.resume(); q.on('end', () => r.end('fine'));
        }).listen(3000);";
    let cluster = Cluster::script(script, 1, "").until_ready(1);
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        for fields in ["", "TE: trailers\r\nConnection: TE\r\n"] {
            let mut client = Kept::new(&cluster);
            client.ask("GET", "/", fields);
            assert_eq!(client.ask(method, "/", fields).status, 200, "{method}");
        }
    }
    // One that may change something, and one whose body is partly sent.
    for request in ["POST / HTTP/1.1\r\nHost: a\r\n\r\n", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"] {
        for fields in ["", "TE: trailers\r\nConnection: TE\r\n"] {
            let mut client = Kept::new(&cluster);
            client.ask("GET", "/", fields);
            client.send(request);
            let answer = client.answer("POST");
            assert_eq!(answer.status, 502, "{answer:?}");
            assert!(answer.text().contains("ended the connection"), "{answer:?}");
        }
    }
    let mut client = Kept::new(&cluster);
    assert_eq!(client.get("/never").status, 502);
}

#[test]
fn nobody_notices_a_killed_worker() {
    let script = "console.log('pid', process.pid);
                  require('http').createServer((q, r) => r.end(String(process.pid))).listen(3000);";
    let mut cluster = Cluster::script(script, 3, "").until_ready(3);
    for mut client in Kept::both(&cluster) {
        for _ in 0..3 {
            let pid: i32 = client.get("/").text().parse().unwrap();
            signal(pid, "KILL");
            for n in 0..30 {
                let answer = client.get("/");
                assert_eq!(answer.status, 200, "{n}: {answer:?}");
                assert_ne!(answer.text(), pid.to_string());
            }
            cluster.until("is ready");
        }
    }
}

#[test]
fn without_a_worker_the_answer_is_503() {
    let cluster =
        Cluster::script("setTimeout(() => {}, 1e6);", 1, "[router]\nwait_timeout = \"1s\"\n[ready]\non = \"message\"");
    let mut client = loop {
        if let Ok(stream) = TcpStream::connect(cluster.address) {
            break Kept::over(stream);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let answer = client.get("/");
    assert!(answer.status == 503 && answer.head.to_lowercase().contains("retry-after: 2"), "{answer:?}");
}

/// One session of each worker, over one connection.
#[test]
fn sessions_of_different_workers_share_a_connection() {
    for (script, pair) in [("chat/worker.js", "new"), ("chat/worker.js", "old"), ("chat/listen.js", "none")] {
        let Some(cluster) = Cluster::start(script, 2, &format!("[environment]\nPAIR = \"{pair}\"")) else { return };
        let mut client = Kept::new(&cluster);
        let mut sessions = Vec::new();
        for _ in 0..6 {
            let opened = client.get(POLLING).text();
            let packet: Value =
                serde_json::from_str(opened.trim_start_matches('0')).unwrap_or_else(|_| panic!("{opened}"));
            sessions.push(packet["sid"].as_str().unwrap().to_owned());
        }
        let workers: BTreeSet<_> =
            sessions.iter().map(|sid| client.get(&format!("/who?sid={sid}")).json()["index"].to_string()).collect();
        assert_eq!(workers.len(), 2, "{pair}");
        for sid in &sessions {
            client.send(format!("POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n40"));
            assert_eq!(client.answer("POST").text(), "ok", "{pair}");
            let polled = client.get(&format!("{POLLING}&sid={sid}"));
            assert_eq!(polled.status, 200, "{pair}: {polled:?}");
            assert!(polled.text().starts_with("40"), "{pair}: {polled:?}");
        }
    }
}
