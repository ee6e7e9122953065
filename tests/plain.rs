//! Requests that need nothing but to be passed on, and answers of every shape that a worker may give to them.

use crate::kept::{Kept, SHARED};
use crate::metrics::Metrics;
use crate::proxy::ECHO;
use crate::support::{Cluster, finish};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Answers with the bytes that the query says, piece by piece, and does then as the path says.
const RAW: &str = "
    const net = require('net');
    net.createServer((s) => {
      let came = '';
      const say = async (target) => {
        const [path, query] = target.split('?');
        console.log('asked for', path, s.remotePort);
        for (const piece of query.split('&')) {
          if (s.destroyed) return;
          s.write(Buffer.from(decodeURIComponent(piece), 'latin1'));
          await new Promise((done) => setTimeout(done, 15));
        }
        if (path === '/end') s.end();
        if (path === '/reset') s.resetAndDestroy();
        const poison = 'HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\npoison';
        if (path === '/late') setTimeout(() => s.write(poison, () => console.log('poisoned')), 100);
      };
      s.setEncoding('latin1');
      s.on('error', () => {});
      s.on('close', () => console.log('closed', s.remotePort));
      s.on('data', (data) => {
        came += data;
        for (let end; (end = came.indexOf('\\r\\n\\r\\n')) >= 0; came = came.slice(end + 4))
          say(came.slice(0, end).split(' ')[1]);
      });
    }).listen(3000);
";

fn raw() -> Cluster {
    Cluster::script(RAW, 1, "").until_ready(1)
}

/// The target that is answered so.
fn target(path: &str, pieces: &[&str]) -> String {
    let code = |piece: &&str| piece.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    format!("{path}?{}", pieces.iter().map(code).collect::<Vec<_>>().join("&"))
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

#[test]
fn answers_of_every_shape() {
    let cluster = raw();
    let mut client = Kept::new(&cluster);
    for (path, pieces, method, status, body) in [
        ("/", &[FINE][..], "GET", 200, "fine"),
        ("/", &["HTTP/1.1 200 OK\r\nContent-Le", "ngth: 4\r\n\r", "\nfi", "ne"], "GET", 200, "fine"),
        ("/", &["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"], "HEAD", 200, ""),
        ("/", &["HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n"], "GET", 204, ""),
        ("/", &["HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n"], "GET", 304, ""),
        (
            "/",
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n02\r\nne\r\n0\r\n\r\n"],
            "GET",
            200,
            "fine",
        ),
        // Nobody has asked for trailer fields.
        (
            "/",
            &[
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r",
                "\n4",
                "\r\nfin",
                "e\r",
                "\n0\r\nSet-Cookie: x\r",
                "\n\r",
                "\n",
            ],
            "GET",
            200,
            "fine",
        ),
        ("/end", &["HTTP/1.1 200 OK\r\n\r\nfi", "ne"], "GET", 200, "fine"),
        ("/end", &["HTTP/1.1 200 OK\r\n\r\n"], "GET", 200, ""),
        ("/end", &["HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfine"], "GET", 200, "fine"),
        ("/end", &["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine"], "POST", 200, "fine"),
        ("/", &["HTTP/1.1 404 Not Here\nContent-Length: 4\n\nfine"], "DELETE", 404, "fine"),
        ("/", &["HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n"], "GET", 500, ""),
    ] {
        for _ in 0..2 {
            let answer = client.ask(method, &target(path, pieces), "");
            assert_eq!((answer.status, answer.text().as_str()), (status, body), "{pieces:?}");
            assert_eq!(answer.trailers, "", "{pieces:?}");
            let head = answer.head.to_lowercase();
            assert!(!head.contains("connection") && head.starts_with("http/1.1 "), "{pieces:?}: {answer:?}");
        }
    }
    let fields = "HTTP/1.1 299 Fine By Me\r\nX-MiXed: 1\r\nSet-Cookie: one\r\nA: b\r\nset-COOKIE: two\r\nConnection: x-gone\r\n\
                  X-Gone: 1\r\nKeep-Alive: timeout=9\r\nContent-Length: 4\r\n\r\nfine";
    let head = client.get(&target("/", &[fields])).head;
    let want = "HTTP/1.1 299 Fine By Me\nX-MiXed: 1\nSet-Cookie: one\nA: b\nset-COOKIE: two\nContent-Length: 4\n";
    assert_eq!(head, want);
}

#[test]
fn interim_answers() {
    let cluster = raw();
    let mut client = Kept::new(&cluster);
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: a\r\nConnection: close\r\n\r\n";
    for pieces in [
        &["HTTP/1.1 100 Continue\r\n\r\n", hints, "HTTP/1.1 102 Processing\r\n\r\n", FINE][..],
        &[&["HTTP/1.1 100 Continue\r\n\r\n", hints, "HTTP/1.1 102 Processing\r\n\r\n", FINE].concat()],
    ] {
        let first = client.get(&target("/", pieces));
        assert_eq!(first.head, "HTTP/1.1 103 Early Hints\nLink: a\n");
        assert_eq!(client.answer("GET").status, 102);
        assert_eq!(client.answer("GET").text(), "fine");
    }
}

/// Two parsers could read them differently, or they are none; nothing of them gets to the client, nor to the next one.
#[test]
fn answers_that_cannot_be_passed_on() {
    let cluster = raw();
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nfine",
        "HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\n\r\nfine",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c: d\r\nContent-Length: 4\r\n\r\nfine",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nfine",
        "HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\nfine",
        "ICY 200 OK\r\n\r\nfine",
    ] {
        let mut client = Kept::new(&cluster);
        client.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n", target("/", &[answer])));
        let refused = client.answer("GET");
        assert_eq!(refused.status, 502, "{answer:?}: {refused:?}");
        assert!(!refused.text().contains("fine") && refused.head.to_lowercase().contains("connection: close"));
        assert_eq!(client.rest(), b"");
        assert_eq!(Kept::new(&cluster).get(&target("/", &[FINE])).text(), "fine", "{answer:?}");
    }
    // In the middle it is too late to say so.
    for body in ["4\r\nfineX", "4\nfine", "-4\r\nfine\r\n0\r\n\r\n"] {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
        let mut client = Kept::new(&cluster);
        client.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n", target("/", &[head, body])));
        let rest = String::from_utf8(client.rest()).unwrap();
        assert!(rest.ends_with("\r\n\r\n3\r\none\r\n"), "{rest:?}");
    }
}

/// What a worker says beyond its answer is nobody's, and the connection is of no use any more.
#[test]
fn what_follows_an_answer() {
    let mut cluster = raw();
    let fine = target("/", &[FINE]);
    let mut client = Kept::new(&cluster);
    for answer in [
        &format!("{FINE}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
        "HTTP/1.1 204 None\r\nContent-Length: 6\r\n\r\npoison",
        "HTTP/1.1 204 None\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        client.get(&target("/odd", &[answer]));
        let odd = cluster.until("asked for /odd ").rsplit(' ').next().unwrap().to_owned();
        assert_eq!(client.get(&fine).text(), "fine", "{answer:?}");
        let next = cluster.until("asked for / ").rsplit(' ').next().unwrap().to_owned();
        assert_ne!(odd, next, "{answer:?}");
    }
    // Later, while nobody asks.
    for method in ["GET", "POST"] {
        client.get(&target("/late", &[FINE]));
        cluster.until("poisoned");
        assert_eq!(client.ask(method, &fine, "").text(), "fine", "{method}");
    }
}

#[test]
fn workers_that_break_off() {
    let cluster = raw();
    for (pieces, method, status) in [
        // Nothing has come of them that anybody saw: asked again, and in vain.
        (&[""][..], "GET", 502),
        (&["HTTP/1.1 200 OK\r\nContent-Le"], "GET", 502),
        (&["HTTP/1.1 200 OK\r\nContent-Le"], "POST", 502),
    ] {
        for path in ["/reset", "/end"] {
            let mut client = Kept::new(&cluster);
            let answer = client.ask(method, &target(path, pieces), "");
            assert_eq!(answer.status, status, "{path} {pieces:?}");
            assert!(answer.text().contains("ended the connection"), "{answer:?}");
        }
    }
    for (head, body) in [("Content-Length: 10", "half"), ("Transfer-Encoding: chunked", "4\r\nhalf\r\n")] {
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
        for path in ["/reset", "/end"] {
            let mut client = Kept::new(&cluster);
            client.send(format!(
                "GET {} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                target(path, &[&head, body])
            ));
            let rest = String::from_utf8(client.rest()).unwrap();
            assert!(rest.to_lowercase().starts_with(&head.to_lowercase()), "{rest:?}");
            assert!(rest.ends_with(body), "{rest:?}");
        }
    }
    // At the end of the connection the answer is whole, but not where that breaks.
    let open = "HTTP/1.1 200 OK\r\n\r\n";
    let mut client = Kept::new(&cluster);
    client.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n", target("/reset", &[open, "half"])));
    let rest = String::from_utf8(client.rest()).unwrap();
    assert!(rest.ends_with("4\r\nhalf\r\n"), "{rest:?}");
}

/// A connection changes hands in the middle of what was sent together; all of it is answered, in order and by the same rules.
#[test]
fn plain_requests_and_others_on_one_connection() {
    let cluster = Cluster::script(ECHO, 2, "").until_ready(2);
    let kinds = [
        "GET /0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ",
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encodings: x\r\n\r\n\r\n\r\n",
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n",
        "GET /4 HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
        "GET http://b/5 HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for other in 3..6 {
        for before in 0..4 {
            for size in [1000, 40, 7] {
                let order: Vec<_> = (0..before).map(|n| n % 3).chain([other, 0, 1, 4, 2]).collect();
                let text: String = order.iter().map(|kind| kinds[*kind]).collect();
                let text = text.replacen("Host: a", &format!("Host: a\r\n{SHARED}"), 1);
                let mut client = Kept::new(&cluster);
                for piece in text.as_bytes().chunks(size) {
                    client.send(piece);
                    if size == 40 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                for kind in &order {
                    let seen = client.answer("GET").json();
                    assert_eq!(seen["url"], format!("/{kind}"), "{order:?} in pieces of {size}");
                    assert_eq!(seen["length"], if (1..4).contains(kind) { 4 } else { 0 }, "{order:?}");
                }
                client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                assert_eq!(client.answer("GET").status, 200);
                assert_eq!(client.rest(), b"");
            }
        }
    }
}

#[test]
fn what_a_worker_sees_of_a_plain_request() {
    let cluster = Cluster::script(ECHO, 1, "[router]\nshared = \"always\"\ntrusted_proxies = []").until_ready(1);
    let mut client = Kept::new(&cluster);
    let fields = "X-MiXed: 1\r\naccept: b\r\nX: \t y \r\nAccept: a\r\nConnection: keep-alive\r\nKeep-Alive: 9\r\n\
                  Proxy-Connection: x\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nContent-Length: 2\r\n\r\nab";
    client.send(format!("PUT /a?b=c%20d&e HTTP/1.1\r\nHost: a:80\r\n{SHARED}\r\n{fields}"));
    let seen = client.answer("PUT").json();
    let raw: Vec<&str> = seen["raw"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let want = [
        ["Host", "a:80"],
        ["X-MiXed", "1"],
        ["accept", "b"],
        ["X", "y"],
        ["Accept", "a"],
        ["Content-Length", "2"],
        ["x-forwarded-for", "127.0.0.1"],
        ["x-forwarded-proto", "http"],
        ["x-forwarded-host", "a:80"],
    ];
    assert_eq!(raw, want.concat());
    assert_eq!((seen["method"].as_str(), seen["url"].as_str()), (Some("PUT"), Some("/a?b=c%20d&e")));
    assert_eq!((seen["version"].as_str(), &seen["length"]), (Some("1.1"), &2.into()));
}

/// The client gets it, though the worker is gone while the body is under way, and what is sent then is read by nobody.
#[test]
fn an_answer_that_comes_instead_of_the_body() {
    let script = "require('net').createServer((s) => {
                    s.on('error', () => {});
                    s.on('close', () => console.log('gone'));
                    s.once('data', () => s.end('HTTP/1.1 413 No\\r\\nConnection: close\\r\\nContent-Length: 8\\r\\n\\r\\ntoo much', () => s.destroy()));
                  }).listen(3000);";
    let mut cluster = Cluster::script(script, 1, "").until_ready(1);
    for _ in 0..3 {
        let mut client = Kept::new(&cluster);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nContent-Length: 100000000\r\n\r\nsome"));
        cluster.until("gone");
        for _ in 0..20 {
            client.send([b'x'; 10_000]);
            std::thread::sleep(Duration::from_millis(10));
        }
        let answer = client.answer("POST");
        assert_eq!((answer.status, answer.text().as_str()), (413, "too much"));
        assert_eq!(client.rest(), b"");
    }
}

/// To a proxy that is a client that went away.
#[test]
fn a_client_that_half_closes() {
    let mut cluster = Cluster::script(ECHO, 1, "").until_ready(1);
    for client in Kept::both(&cluster) {
        let mut client = client;
        client.send(format!("GET /gone HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n"));
        cluster.until("asked for /gone");
        finish(&client.stream);
        cluster.until("closed false");
        assert_eq!(client.rest(), b"");
    }
    for mut client in Kept::both(&cluster) {
        client.get("/");
        finish(&client.stream);
        assert_eq!(client.rest(), b"", "between requests");
    }
    // In the middle of a head.
    let mut client = Kept::new(&cluster);
    client.get("/");
    client.send("GET / HTTP/1.1\r\nHo");
    finish(&client.stream);
    assert_eq!(client.rest(), b"");
}

/// However few bytes come at a time, a head has `head_timeout` in all, and no more than `head_limit`.
#[test]
fn heads_in_many_pieces() {
    let (metrics, line) = Metrics::new();
    let more = format!("[router]\n{line}\nhead_limit = \"2K\"\nhead_timeout = \"1s\"");
    let cluster = Cluster::script(ECHO, 1, &more).until_ready(1);
    let mut client = Kept::new(&cluster);
    client.get("/");
    for piece in "GET /pieces HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n".as_bytes().chunks(1) {
        client.send(piece);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.answer("GET").json()["url"], "/pieces");
    let mut client = Kept::new(&cluster);
    client.get("/");
    let began = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost:");
    // Some of them before the connection changes hands, others behind that.
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(100));
        client.send("a");
    }
    let answer = client.answer("GET");
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    let mut client = Kept::new(&cluster);
    client.get("/");
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(1900)));
    std::thread::sleep(Duration::from_millis(50));
    client.send("x".repeat(300));
    assert_eq!(client.answer("GET").status, 431);
    assert_eq!(client.rest(), b"");
    let page = metrics.page();
    assert_eq!(page["appctl_refused_total{reason=head_timeout,code=408}"], 1.0);
    assert_eq!(page["appctl_refused_total{reason=head_limit,code=431}"], 1.0);
}
