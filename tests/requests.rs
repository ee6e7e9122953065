//! Requests however they are cut, and clients that are not clients: each gets what is its due, the others are served.

use crate::support::{Cluster, POLLING, Response, finish, head, read_response, read_to_end};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::net::TcpStream;

/// Both generations of the packages; the older one keeps connections alive.
const PAIRS: [&str; 2] = ["new", "old"];

fn cluster(pair: &str, router: &str) -> Option<Cluster> {
    Cluster::start("chat/worker.js", 2, &format!("[router]\n{router}\n[environment]\nPAIR = \"{pair}\""))
}

/// Once this is answered the router has dealt with all that came before it.
fn settle(cluster: &Cluster) {
    assert_eq!(cluster.get("/path?n=settled").text(), "settled");
}

fn digest(body: &[u8]) -> String {
    let hash: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {hash}", body.len())
}

/// Bytes of every value, in no order.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn assert_refused(answer: &Response, status: u16, case: &str) {
    assert_eq!(answer.status, status, "{case}: {answer:?}");
    assert!(answer.head.contains("Connection: close"), "{case}: {answer:?}");
    assert!(!answer.text().is_empty(), "{case} is told no reason");
}

#[test]
fn a_head_split_at_every_byte() {
    let Some(cluster) = cluster("new", "") else { return };
    let whole = head("GET", "/path?n=split", 0);
    for at in 1..whole.len() {
        let mut stream = cluster.connect();
        stream.write_all(&whole[..at]).unwrap();
        // A connection of its own, taken after the first piece: the router has seen that by now.
        if at % 8 == 0 {
            settle(&cluster);
        }
        stream.write_all(&whole[at..]).unwrap();
        assert_eq!(read_response(&mut stream).text(), "split", "split at {at}");
    }
}

#[test]
fn a_head_byte_by_byte() {
    let Some(cluster) = cluster("old", "") else { return };
    let mut stream = cluster.connect();
    for byte in head("GET", "/path?n=bytes", 0) {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(read_response(&mut stream).text(), "bytes");
}

#[test]
fn bodies_in_many_pieces() {
    for pair in PAIRS {
        let Some(cluster) = cluster(pair, "") else { return };
        let body = noise(300_000);
        for size in [1, 1000, 65_536, 300_000] {
            // One byte at a time for the beginning only.
            let fine = if size == 1 { 500 } else { body.len() };
            let mut stream = cluster.connect();
            stream.write_all(&head("POST", "/hash", body.len())).unwrap();
            for piece in body[..fine].chunks(size) {
                stream.write_all(piece).unwrap();
            }
            stream.write_all(&body[fine..]).unwrap();
            assert_eq!(read_response(&mut stream).text(), digest(&body), "{pair}, pieces of {size}");
        }
    }
}

#[test]
fn a_body_that_comes_with_the_head_and_one_that_comes_later() {
    let Some(cluster) = cluster("new", "") else { return };
    let body = noise(20_000);
    for with_head in [0, 1, 5_000, body.len()] {
        let mut stream = cluster.connect();
        let mut first = head("POST", "/hash", body.len());
        first.extend_from_slice(&body[..with_head]);
        stream.write_all(&first).unwrap();
        settle(&cluster);
        stream.write_all(&body[with_head..]).unwrap();
        assert_eq!(read_response(&mut stream).text(), digest(&body), "{with_head} bytes with the head");
    }
}

#[test]
fn chunked_bodies() {
    for pair in PAIRS {
        let Some(cluster) = cluster(pair, "") else { return };
        let body = noise(100_000);
        let mut stream = cluster.connect();
        stream
            .write_all(b"POST /hash HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        for piece in body.chunks(7_777) {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
            stream.write_all(piece).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut stream).text(), digest(&body), "{pair}");
    }
}

#[test]
fn expect_100_continue() {
    for pair in PAIRS {
        let Some(cluster) = cluster(pair, "") else { return };
        let body = noise(50_000);
        let mut stream = cluster.connect();
        let head = format!(
            "POST /hash HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).status, 100, "{pair}");
        stream.write_all(&body).unwrap();
        assert_eq!(read_response(&mut stream).text(), digest(&body), "{pair}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    // The newer sticky closes after every response; the older one keeps the connection.
    let Some(cluster) = cluster("old", "") else { return };
    let mut stream = cluster.connect();
    let requests: String = (0..20).map(|n| format!("GET /path?n={n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    stream.write_all(requests.as_bytes()).unwrap();
    finish(&stream);
    let text = String::from_utf8(read_to_end(&mut stream)).unwrap();
    let answers: Vec<_> = text.lines().filter_map(|line| line.trim().parse::<u32>().ok()).filter(|n| *n < 20).collect();
    let in_order: Vec<_> = answers.iter().scan(0, |next, n| (*n == *next).then(|| *next += 1)).collect();
    assert!(in_order.len() >= 20, "{text}");
}

#[test]
fn messages_of_a_megabyte() {
    for pair in PAIRS {
        let Some(cluster) = cluster(pair, "") else { return };
        let (one, other) = (cluster.session(), cluster.session());
        let packet = format!("42[\"all\",\"{}\"]", "m".repeat(1_000_000));
        assert_eq!(cluster.send(&one, &packet), 200);
        for sid in [&one, &other] {
            let got = cluster.get(&format!("{POLLING}&sid={sid}"));
            assert_eq!((got.status, got.body.len()), (200, packet.len()), "{pair}");
            assert_eq!(got.text(), packet);
        }
        let body = noise(1_000_000);
        assert_eq!(cluster.request("POST", "/hash", &body).text(), digest(&body));
        assert_eq!(cluster.get("/big?bytes=1000000").body.len(), 1_000_000);
    }
}

#[test]
fn a_whole_request_of_a_client_that_has_shut_down_its_side() {
    let Some(cluster) = cluster("new", "") else { return };
    let mut stream = cluster.connect();
    stream.write_all(&head("GET", "/path?n=half", 0)).unwrap();
    finish(&stream);
    assert_eq!(read_response(&mut stream).text(), "half");
}

#[test]
fn garbage_gets_its_answer_and_the_others_are_served() {
    let Some(cluster) = cluster("new", "") else { return };
    for garbage in [
        &b"\x00\x01\x02\x03\r\n\r\n"[..],
        b"hello\r\n\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GE\xffT / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = cluster.connect();
        stream.write_all(garbage).unwrap();
        assert_refused(&read_response(&mut stream), 400, &String::from_utf8_lossy(garbage));
        settle(&cluster);
    }
}

#[test]
fn an_endless_head_is_cut_at_the_limit() {
    let Some(cluster) = cluster("new", "head_limit = \"8K\"") else { return };
    let mut stream = cluster.connect();
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let line = format!("X-More: {}\r\n", "x".repeat(1000));
    for _ in 0..9 {
        stream.write_all(line.as_bytes()).unwrap();
    }
    assert_refused(&read_response(&mut stream), 431, "9 KB of headers");
    // One that fits is served.
    let mut stream = cluster.connect();
    let head = format!("GET /path?n=fits HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n", line.repeat(7));
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).text(), "fits");
}

#[test]
fn a_slow_head_is_given_up_and_the_others_are_served_meanwhile() {
    let Some(cluster) = cluster("new", "head_timeout = \"1s\"") else { return };
    let mut slow: Vec<TcpStream> = (0..50).map(|_| cluster.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").unwrap();
    }
    settle(&cluster);
    for stream in &mut slow {
        assert_refused(&read_response(stream), 408, "a head without an end");
    }
}

#[test]
fn silent_connections_are_closed_without_a_word() {
    let Some(cluster) = cluster("new", "head_timeout = \"1s\"") else { return };
    let mut silent = cluster.connect();
    assert_eq!(read_to_end(&mut silent), b"");
    let mut gone = cluster.connect();
    finish(&gone);
    assert_eq!(read_to_end(&mut gone), b"");
    settle(&cluster);
}

#[test]
fn a_head_that_ends_in_the_middle() {
    let Some(cluster) = cluster("new", "") else { return };
    let mut stream = cluster.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a").unwrap();
    finish(&stream);
    assert_refused(&read_response(&mut stream), 400, "half a head");
    settle(&cluster);
}

#[test]
fn too_many_silent_connections_make_way_for_those_who_speak() {
    let Some(cluster) = cluster("new", "waiting_limit = 20") else { return };
    let mut slow: Vec<TcpStream> = (0..20).map(|_| cluster.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    }
    for n in 0..20 {
        assert_eq!(cluster.get(&format!("/path?n={n}")).text(), n.to_string());
    }
    // The oldest was the first to go.
    assert_refused(&read_response(&mut slow[0]), 408, "the oldest");
}

#[test]
fn an_unknown_session_gets_the_apps_own_answer() {
    let Some(cluster) = cluster("new", "session_wait = \"100ms\"") else { return };
    let answer = cluster.get(&format!("{POLLING}&sid=AAAAAAAAAAAAAAAAAAAA"));
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("Session ID unknown"), "{answer:?}");
}
