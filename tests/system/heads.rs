//! Requests in every shape that TCP allows, and some that HTTP does not: issue 2, line 7.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};

use crate::boxed::{Boxed, LIMIT, Options};
use crate::patient;
use crate::sessions::chat;

const ADDRESS: &str = "127.0.0.1:8080";

fn machine(pair: &str) -> Option<Boxed> {
    let file = format!("{}[router]\nhead_timeout = \"3s\"\n", chat("8080", 4, pair));
    let machine = Options::default().file("/etc/appctl/app.toml", &file).boot()?;
    machine.start_app("app", 4);
    Some(machine)
}

fn connect(machine: &Boxed) -> TcpStream {
    let stream = machine.connect(ADDRESS);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// All that comes until the other side closes; a reset ends it too.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        match patient::read(&mut stream, &mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `end` has come.
fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(end.as_bytes()) {
        assert_eq!(
            patient::read(&*stream, &mut byte).unwrap(),
            1,
            "closed after {:?}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

fn ask(machine: &Boxed, request: &str) -> String {
    let mut stream = connect(machine);
    stream.write_all(request.as_bytes()).unwrap();
    rest(stream)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n")
}

#[track_caller]
fn assert_answer(answer: &str, status: u16, body: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
    assert!(answer.ends_with(body), "{answer:?} should end with {body:?}");
}

/// A new session's id.
fn open(machine: &Boxed) -> String {
    let answer = ask(machine, &get("/socket.io/?EIO=4&transport=polling"));
    let sid = answer.split("\"sid\":\"").nth(1).and_then(|text| text.split('"').next());
    sid.unwrap_or_else(|| panic!("no session: {answer:?}")).to_owned()
}

/// Bytes that are no text, and their SHA-256.
fn binary(length: usize) -> (Vec<u8>, String) {
    let bytes: Vec<u8> = (0..length).map(|i| (i * 31 + i / 251) as u8).collect();
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned();
    (bytes, hash)
}

#[test]
fn heads_split_at_every_byte_are_understood() {
    let Some(machine) = machine("new") else { return };
    // Plain requests: all first parts, then all second parts, so that they arrive apart.
    let request = get("/path?n=split");
    let mut halves: Vec<(usize, TcpStream)> = (1..request.len()).map(|at| (at, connect(&machine))).collect();
    for (at, stream) in &mut halves {
        stream.write_all(&request.as_bytes()[..*at]).unwrap();
    }
    for (at, stream) in &mut halves {
        stream.write_all(&request.as_bytes()[*at..]).unwrap();
    }
    for (_, stream) in halves {
        assert_answer(&rest(stream), 200, "split\n");
    }

    // With a session: only its own worker answers "ok". One session for each place to split at.
    let post = |sid: &str| {
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
        format!("POST {target} HTTP/1.1\r\nHost: box\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n40")
    };
    let length = post(&"s".repeat(20)).len();
    let mut halves: Vec<(usize, String, TcpStream)> =
        (1..length).map(|at| (at, post(&open(&machine)), connect(&machine))).collect();
    for (at, request, stream) in &mut halves {
        stream.write_all(&request.as_bytes()[..*at]).unwrap();
    }
    for (at, request, stream) in &mut halves {
        stream.write_all(&request.as_bytes()[*at..]).unwrap();
    }
    for (_, _, stream) in halves {
        stream.shutdown(Shutdown::Write).unwrap();
        assert_answer(&rest(stream), 200, "ok");
    }

    // Byte by byte.
    let mut stream = connect(&machine);
    for byte in get("/path?n=bytes").bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert_answer(&rest(stream), 200, "bytes\n");
}

fn bodies(pair: &str) {
    let Some(machine) = machine(pair) else { return };
    let (bytes, hash) = binary(1_000_000);
    let wanted = format!("1000000 {hash}\n");
    let head = "POST /hash HTTP/1.1\r\nHost: box\r\nConnection: close\r\n";

    // Head and first piece together; then in many pieces.
    let mut stream = connect(&machine);
    let mut first = format!("{head}Content-Length: 1000000\r\n\r\n").into_bytes();
    first.extend_from_slice(&bytes[..100]);
    stream.write_all(&first).unwrap();
    for piece in bytes[100..].chunks(997) {
        stream.write_all(piece).unwrap();
    }
    assert_answer(&rest(stream), 200, &wanted);

    // All at once.
    let mut stream = connect(&machine);
    let mut whole = format!("{head}Content-Length: 1000000\r\n\r\n").into_bytes();
    whole.extend_from_slice(&bytes);
    stream.write_all(&whole).unwrap();
    assert_answer(&rest(stream), 200, &wanted);

    // Chunked.
    let mut stream = connect(&machine);
    stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    for chunk in bytes.chunks(40_000) {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
        stream.write_all(chunk).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_answer(&rest(stream), 200, &wanted);

    // The client waits for the word to go on.
    let mut stream = connect(&machine);
    stream.write_all(format!("{head}Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n").as_bytes()).unwrap();
    assert!(until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 100 "));
    stream.write_all(&bytes).unwrap();
    assert_answer(&rest(stream), 200, &wanted);

    // A long answer to a client that has finished sending.
    let mut stream = connect(&machine);
    stream.write_all(get("/big?bytes=3000000").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = rest(stream);
    assert_answer(&answer, 200, "xxx");
    assert_eq!(answer.split("\r\n\r\n").nth(1).map(str::len), Some(3_000_000));
}

#[test]
fn bodies_in_any_pieces_arrive_whole() {
    bodies("new");
}

#[test]
fn bodies_in_any_pieces_arrive_whole_with_the_older_packages() {
    bodies("old");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    // sticky 2.0.1 closes after every answer, 1.0.4 keeps the connection.
    let Some(machine) = machine("old") else { return };
    let requests: String = (0..20).map(|n| format!("GET /path?n={n} HTTP/1.1\r\nHost: box\r\n\r\n")).collect();
    let answer = ask(&machine, &(requests + &get("/path?n=last")));
    let numbers: Vec<&str> =
        answer.split("HTTP/1.1 200 OK\r\n").skip(1).filter_map(|part| part.trim_end().lines().last()).collect();
    let wanted: Vec<String> = (0..20).map(|n| n.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(numbers, wanted, "{answer:?}");
}

#[test]
fn bad_heads_get_the_stated_answer_while_the_others_are_served() {
    let Some(machine) = machine("new") else { return };
    let served = || assert_answer(&ask(&machine, &get("/path?n=served")), 200, "served\n");

    // Garbage.
    for garbage in
        ["\0\x01\x02\r\n\r\n", "hello\r\n\r\n", "GET / SPDY/9\r\n\r\n", "GET /\u{7f}\r\nHost: x\r\n: y\r\n\r\n"]
    {
        let answer = ask(&machine, garbage);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{garbage:?}: {answer:?}");
        served();
    }
    // A TLS client where no TLS is.
    let mut stream = connect(&machine);
    stream.write_all(&[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]).unwrap();
    stream.write_all(&[7; 196]).unwrap();
    let answer = rest(stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer:?}");

    // A head without an end.
    let mut stream = connect(&machine);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: box\r\n").unwrap();
    let line = format!("X-Long: {}\r\n", "x".repeat(1000));
    for _ in 0..100 {
        // It may be refused before all is sent.
        if stream.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    let answer = rest(stream);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    served();

    // Slow heads, many at once; meanwhile the others are served; past the time each gets its answer.
    let mut slow: Vec<TcpStream> = (0..300).map(|_| connect(&machine)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /slow HTTP/1.1\r\nHo").unwrap();
    }
    let silent: Vec<TcpStream> = (0..50).map(|_| connect(&machine)).collect();
    for _ in 0..20 {
        served();
    }
    for stream in slow {
        let answer = rest(stream);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    }
    drop(silent);

    // Half-closed after a whole request: answered. In the middle of a head: ended at once, not after the time limit.
    let mut stream = connect(&machine);
    stream.write_all(get("/path?n=half").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_answer(&rest(stream), 200, "half\n");
    let mut stream = connect(&machine);
    stream.write_all(b"GET /half HTTP/1.1\r\nHost:").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = rest(stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    // Closed without a word, and with half a head: no trace.
    for _ in 0..100 {
        drop(connect(&machine));
        let mut stream = connect(&machine);
        stream.write_all(b"GET").unwrap();
    }
    served();
    assert_eq!(machine.property("app.service", "NRestarts"), "0");
    for slot in 1..=4 {
        assert_eq!(machine.property(&format!("app@{slot}.service"), "NRestarts"), "0");
    }
    // Nobody waits any more.
    machine.until("no connection is waiting", || {
        let status = machine.ok("curl -s --unix-socket /run/appctl/app/control http://app/v1/status");
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        (status["waiting"] == 0).then_some(())
    });
}
