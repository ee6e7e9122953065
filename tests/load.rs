//! Who gets the next connection, and a worker that cannot keep up.

use crate::support::{Cluster, PATIENCE, POLLING, read_response, signal};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Answers with its index; `/block` blocks the event loop until a file exists.
const APP: &str = "
    const { existsSync } = require('fs');
    require('http').createServer((q, r) => {
      if (q.url === '/block') while (!existsSync(process.env.UNBLOCK)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
      r.end(process.env.NODE_APP_INSTANCE);
    }).listen(3000);
";

fn spread(balance: &str, requests: usize) -> BTreeMap<String, usize> {
    let cluster = Cluster::script(APP, 3, &format!("[router]\nbalance = \"{balance}\"")).until_ready(3);
    let mut spread = BTreeMap::new();
    for _ in 0..requests {
        *spread.entry(cluster.get("/").text()).or_default() += 1;
    }
    spread
}

#[test]
fn new_connections_are_spread() {
    for balance in ["least-loaded", "round-robin"] {
        let even: BTreeMap<_, _> = ["0", "1", "2"].map(|index| (index.to_owned(), 20)).into();
        assert_eq!(spread(balance, 60), even, "{balance}");
    }
    let random = spread("random", 120);
    assert!(random.len() == 3 && random.values().all(|count| (15..=70).contains(count)), "{random:?}");
    assert!(random.values().any(|count| *count != 40), "that is no chance: {random:?}");
}

/// A worker whose event loop is blocked gets one connection more; once that is not acknowledged, it gets none.
#[test]
fn a_blocked_worker_gets_nothing_new() {
    const BURST: usize = 30;
    let files = tempfile::tempdir().unwrap();
    let unblock = files.path().join("unblock");
    let more = format!("[environment]\nUNBLOCK = {unblock:?}");
    let cluster = Cluster::script(APP, 3, &more).until_ready(3);
    let mut blocker = cluster.connect();
    blocker.write_all(b"GET /block HTTP/1.0\r\n\r\n").unwrap();
    let ask = || {
        let (sender, answer) = channel();
        let mut client = cluster.connect();
        std::thread::spawn(move || {
            client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let _ = sender.send(read_response(&mut client).text());
        });
        answer
    };
    let stuck = loop {
        let answer = ask();
        // Long enough for all who are merely slow.
        if answer.recv_timeout(Duration::from_secs(3)).is_err() {
            break answer;
        }
    };
    let burst: Vec<_> = (0..BURST).map(|_| ask()).collect();
    for answer in burst {
        answer.recv_timeout(PATIENCE).expect("it waits for the blocked worker");
    }
    std::fs::write(&unblock, "").unwrap();
    let blocked = read_response(&mut blocker).text();
    assert_eq!(stuck.recv_timeout(PATIENCE).unwrap(), blocked);
}

/// The worker that answers a session's requests.
fn worker_of(cluster: &Cluster, sid: &str) -> i32 {
    let answer = cluster.get(&format!("/who?sid={sid}"));
    let who: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    who["pid"].as_i64().unwrap() as i32
}

/// One session on each worker: pid and sid.
fn session_each(cluster: &Cluster, workers: usize) -> Vec<(i32, String)> {
    let mut sessions = BTreeMap::new();
    while sessions.len() < workers {
        let sid = cluster.session();
        sessions.insert(worker_of(cluster, &sid), sid);
    }
    sessions.into_iter().collect()
}

/// A figure of `/proc/PID/status`, KiB.
fn memory(pid: i32, key: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A stopped worker and a flood of packets for it: its queue has an end, it is given up, nobody else notices.
#[test]
fn a_worker_that_does_not_read_is_given_up() {
    const PACKETS: usize = 150;
    for pair in ["new", "old"] {
        let more = format!("[environment]\nPAIR = \"{pair}\"\n[router]\nqueue_limit = \"1M\"");
        let Some(mut cluster) = Cluster::start("chat/worker.js", 3, &more) else { return };
        let sessions = session_each(&cluster, 3);
        let [(stopped, _), (_, talker), (_, other)] = &sessions[..] else { panic!() };
        let before = memory(cluster.pid(), "VmHWM");
        signal(*stopped, "STOP");
        let packet = format!("42[\"all\",\"{}\"]", "x".repeat(256 * 1024));
        for _ in 0..PACKETS {
            assert_eq!(cluster.send(talker, &packet), 200);
            // Its own queue of packets for the client would grow as well.
            assert_eq!(cluster.get(&format!("{POLLING}&sid={talker}")).status, 200);
            assert_eq!(cluster.get(&format!("{POLLING}&sid={other}")).status, 200);
        }
        cluster.until("giving it up");
        let grown = memory(cluster.pid(), "VmHWM") - before;
        assert!(grown < 16 * 1024, "{grown} KiB more for {PACKETS} packets of 256 KiB, with a queue of 1 MiB");
        // Its channel is closed, which ends it as soon as it goes on.
        signal(*stopped, "CONT");
        cluster.until(&format!("(pid {stopped}) ended"));
        cluster.until("is ready");
    }
}

/// Without a word from the primary the others would wait for the dead worker for 5 seconds, and then fail.
#[test]
fn the_others_learn_of_a_death_at_once() {
    for pair in ["new", "old"] {
        let more = format!("[restart]\ndelay = \"60s\"\n[environment]\nPAIR = \"{pair}\"");
        let Some(mut cluster) = Cluster::start("chat/worker.js", 3, &more) else { return };
        let sessions = session_each(&cluster, 3);
        let everybody = ask(&cluster, &sessions[1].1);
        assert!(sessions.len() <= everybody.1, "{everybody:?}");
        signal(sessions[0].0, "KILL");
        cluster.until("ended: killed by SIGKILL");
        let started = Instant::now();
        for (_, sid) in &sessions[1..] {
            let (error, count) = ask(&cluster, sid);
            assert_eq!(error, "null", "{pair}");
            assert!((2..everybody.1).contains(&count), "{pair}: {count} of {}", everybody.1);
        }
        assert!(started.elapsed() < Duration::from_secs(3), "{pair}: {:?}", started.elapsed());
    }
}

/// `fetchSockets()` on a session's worker: the error and the number of sockets.
fn ask(cluster: &Cluster, sid: &str) -> (String, usize) {
    assert_eq!(cluster.send(sid, "421[\"fetchSockets\"]"), 200);
    loop {
        let polled = cluster.get(&format!("{POLLING}&sid={sid}"));
        assert_eq!(polled.status, 200);
        let text = polled.text();
        if let Some(answer) = text.split('\x1e').find_map(|packet| packet.strip_prefix("431")) {
            let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
            return (answer[0].to_string(), answer[1].as_array().map_or(0, Vec::len));
        }
        if text.split('\x1e').any(|packet| packet == "2") {
            assert_eq!(cluster.send(sid, "3"), 200);
        }
    }
}
