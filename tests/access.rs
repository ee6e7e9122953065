//! The access log: a line for what is routed, handed over and refused; nothing that a client sends gets out of its line.

use crate::kept::{Kept, SHARED};
use crate::support::{Cluster, finish, read_to_end};
use std::io::Write;

const APP: &str = "
    require('http').createServer((q, r) => {
      q.on('error', () => {});
      if (q.url === '/never') return console.log('asked');
      q.resume();
      q.on('end', () => { r.statusCode = Number(q.url.slice(1, 4)) || 200; r.end('fine'); });
    }).on('upgrade', (q, s) => s.end('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: x\\r\\nConnection: Upgrade\\r\\n\\r\\n')).listen(3000);
";

#[test]
fn a_line_for_each_request_that_is_routed() {
    let mut cluster = Cluster::script(APP, 1, "[router]\naccess_log = true").until_ready(1);
    let mut client = Kept::new(&cluster);
    assert_eq!(client.ask("GET", "/socket.io/?EIO=4&sid=secret&t=1", "User-Agent: one \"two\"\\three\r\n").status, 200);
    let line = cluster.until("203.0.113.9 ");
    let (before, rest) = line.split_once(" 200 4 ").unwrap_or_else(|| panic!("{line}"));
    assert_eq!(before, "203.0.113.9 \"GET /socket.io/?EIO=4&sid=***&t=1 HTTP/1.1\"");
    let (seconds, rest) = rest.split_once(' ').unwrap();
    assert!(seconds.parse::<f64>().is_ok_and(|seconds| seconds < 60.0), "{line}");
    assert_eq!(rest, "1 \"one \\x22two\\x22\\x5cthree\"");
    // The last one is whom the trusted proxy has met; the others are what that one said of itself.
    client.ask("HEAD", "/404", "X-Forwarded-For: 6.6.6.6, 203.0.113.7\r\n");
    cluster.until("203.0.113.7 \"HEAD /404 HTTP/1.1\" 404 0 ");
    client.send(format!("POST /500?x=%0A HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nContent-Length: 2\r\n\r\nab"));
    assert_eq!(client.answer("POST").status, 500);
    cluster.until("\"POST /500?x=%0A HTTP/1.1\" 500 4 ");
    client.send(format!("GET /ws HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"));
    assert_eq!(client.answer("GET").status, 101);
    cluster.until("\"GET /ws HTTP/1.1\" 101 0 ");
    // One that goes away before it is answered.
    let mut client = Kept::new(&cluster);
    client.send(format!("GET /never HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n"));
    cluster.until("asked");
    drop(client);
    let line = cluster.until("\"GET /never HTTP/1.1\" 499 0 ");
    assert!(line.ends_with(" 1 \"-\""), "who had it: {line}");
    // One that is refused: with its reason.
    let mut client = Kept::new(&cluster);
    client.get("/");
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"));
    assert_eq!(client.answer("POST").status, 400);
    cluster.until("127.0.0.1 \"-\" 400 0 0.000 - \"-\" (more than one Content-Length)");
}

/// What the router answers in a worker's place names that worker, though it is dead by then.
#[test]
fn whose_place_the_router_answered_in() {
    let (metrics, line) = crate::metrics::Metrics::new();
    let router = format!("[router]\naccess_log = true\nanswer_timeout = \"1s\"\nshared = \"always\"\n{line}\n");
    let script = "require('http').createServer((q, r) => { if (q.url === '/die') process.exit(1); }).listen(3000);";
    let mut cluster = Cluster::script(script, 1, &router).until_ready(1);
    let mut client = Kept::new(&cluster);
    assert_eq!(client.get("/never").status, 504);
    let line = cluster.until("\"GET /never HTTP/1.1\" 504 ");
    assert!(line.contains(" 1 \"-\" ("), "{line}");
    assert_eq!(Kept::new(&cluster).ask("POST", "/die", "").status, 502);
    let line = cluster.until("\"POST /die HTTP/1.1\" 502 ");
    assert!(line.contains(" 1 \"-\" ("), "{line}");
    let page = metrics.page();
    assert_eq!(page["appctl_requests_total{worker=1,code=504}"], 1.0, "{page:#?}");
    assert_eq!(page["appctl_requests_total{worker=1,code=502}"], 1.0, "{page:#?}");
    assert!(!page.keys().any(|key| key.contains("code=499")), "nobody has left: {page:#?}");
    let cluster = cluster.until_ready(1);
    let mut client = Kept::new(&cluster);
    client.send(format!("GET /left HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n"));
    metrics.until("appctl_requests_in_flight{worker=1}", 1.0);
    drop(client);
    metrics.until("appctl_requests_total{worker=1,code=499}", 1.0);
}

#[test]
fn a_line_for_each_connection_that_is_handed_over() {
    let mut cluster = Cluster::script(APP, 1, "[router]\naccess_log = true").until_ready(1);
    assert_eq!(cluster.get("/?sid=secret\u{1b}[2J&a").status, 400);
    cluster.until("127.0.0.1 \"GET /?sid=***&a HTTP/1.1\" 400 0 0.000 - \"-\" (");
    assert_eq!(cluster.get("/200?a").status, 200);
    let line = cluster.until("127.0.0.1 \"GET /200?a HTTP/1.1\" handed-over - ");
    assert!(line.ends_with(" 1 \"-\""), "{line}");
    // What is no request shows nothing of itself.
    let mut client = cluster.connect();
    client.write_all(b"secret stuff\r\n\r\n").unwrap();
    finish(&client);
    assert!(read_to_end(&mut client).starts_with(b"HTTP/1.1 400 "));
    cluster.until("127.0.0.1 \"-\" 400 0 0.000 - \"-\" (");
    assert!(!cluster.output.iter().any(|line| line.contains("secret")), "{:?}", cluster.output);
}

/// Nobody reads what it prints: requests are served all the same.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    use crate::metrics::Metrics;
    use crate::support::{PATIENCE, free_address};
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let files = tempfile::tempdir().unwrap();
    let script = files.path().join("worker.js");
    std::fs::write(&script, APP).unwrap();
    let (metrics, line) = Metrics::new();
    let address = free_address();
    let text =
        format!("exec = [\"node\", {script:?}]\nlisten = [\"{address}\"]\n[router]\naccess_log = true\n{line}\n");
    let file = files.path().join("app.toml");
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_appctl"))
        .arg("run")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("is ready") {
        assert!(stderr.read_line(&mut told).unwrap() > 0, "{told}");
    }
    let served = std::panic::catch_unwind(|| {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Kept::over(stream);
        // A pipe holds 64 KiB.
        for n in 0..2000 {
            assert_eq!(client.ask("GET", &format!("/200?{n}&{}", "x".repeat(100)), "").status, 200, "{n}");
        }
        assert!(metrics.page()["appctl_access_log_lost_total"] > 100.0, "{:#?}", metrics.page());
    });
    child.kill().unwrap();
    child.wait().unwrap();
    served.unwrap();
}

/// What `sticky` finds clients by is no more for a log's readers than a sid.
#[test]
fn sticky_parameters_are_hidden() {
    let mut cluster =
        Cluster::script(APP, 1, "sticky = [\"engine.io\", \"query:room\"]\n[router]\naccess_log = true").until_ready(1);
    assert_eq!(Kept::new(&cluster).get("/200?a=b&room=secret&sid=x").status, 200);
    cluster.until("\"GET /200?a=b&room=***&sid=*** HTTP/1.1\" 200 ");
    assert!(!cluster.output.iter().any(|line| line.contains("secret")), "{:?}", cluster.output);
}
