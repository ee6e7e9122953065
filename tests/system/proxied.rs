//! Connections that are routed request by request, while workers and routers come and go.

use crate::boxed::{Boxed, Options};
use crate::reload::{Load, active};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

const FILE: &str = "/etc/appctl/app.toml";

fn file(script: &str, workers: u32, version: &str, more: &str) -> String {
    format!(
        "exec = [\"node\", \"{script}\"]\ndirectory = \"/srv/apps/chat\"\nworkers = {workers}\nlisten = [\"8080\"]\n\
         drain = \"10s\"\n[reload]\nsettle = \"200ms\"\n[environment]\nVERSION = \"{version}\"\n{more}"
    )
}

fn boot(script: &str, workers: u32, more: &str) -> Option<Boxed> {
    let machine = Options::default().file(FILE, &file(script, workers, "1", more)).boot()?;
    machine.ok("appctl start app");
    Some(machine)
}

/// One connection, as a reverse proxy on this machine keeps it.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn new(machine: &Boxed) -> Self {
        Self(BufReader::new(machine.connect("127.0.0.1:8080")))
    }

    fn ask(&mut self, target: &str) {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes()).unwrap();
    }

    /// Status and body; `None`: the connection has ended.
    fn answer(&mut self) -> Option<(u16, String)> {
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            } else if status == 0 {
                status = line[9..12].parse().unwrap();
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Some((status, String::from_utf8(body).unwrap().trim().to_owned()))
    }

    fn get(&mut self, target: &str) -> (u16, String) {
        self.ask(target);
        self.answer().expect("an answer")
    }

    fn index(&mut self, target: &str) -> String {
        let (status, who) = self.get(target);
        assert_eq!(status, 200, "{who}");
        serde_json::from_str::<Value>(&who).unwrap()["index"].as_str().unwrap().to_owned()
    }
}

fn status(machine: &Boxed) -> Value {
    let status = machine.ok("curl -s --unix-socket /run/appctl/app/control http://router/v1/status");
    serde_json::from_str(&status).unwrap()
}

/// All that clients do goes through the router here, but WebSockets from the start.
#[test]
fn a_reload_where_all_requests_are_routed_one_by_one() {
    const ALWAYS: &str = "GRACEFUL = \"1\"\n[router]\nshared = \"always\"\n";
    let Some(machine) = boot("worker.js", 3, ALWAYS) else { return };
    let mut load = Load::start(&machine, &["--each", "8"]);
    for time in 1..=4 {
        let version = format!("r{time}");
        machine.write(FILE, &file("worker.js", 3, &version, ALWAYS).replace("10s", "2s"));
        machine.ok("appctl reload app");
        // A long-polling client learns of it by the answer to its request, a moment later than its worker ends.
        let reloaded = Instant::now();
        machine.until("all sessions on new code", || {
            let report = load.report();
            println!("reload {time}: {report}");
            for count in ["failed_requests", "failed_sessions", "connect_errors"] {
                assert_eq!(report[count], 0, "{count}: {report}");
            }
            assert!(report["most_drops"].as_u64().is_some_and(|n| n <= 1), "{report}");
            (report["versions"] == serde_json::json!({ &version: 24 })).then_some(())
        });
        println!("all moved {:?} later", reloaded.elapsed());
    }
    assert_eq!(active(&machine).len(), 3);
    assert!(status(&machine)["proxied"].as_u64().is_some_and(|n| n > 100), "{}", status(&machine));
    assert_eq!(machine.property("app.service", "NRestarts"), "0");
}

/// A worker that is stopped finishes what it has; the connection goes on with the other one.
#[test]
fn a_drain_waits_for_requests_in_flight() {
    let Some(machine) = boot("listen.js", 2, "") else { return };
    let (mut one, mut other) = (Kept::new(&machine), Kept::new(&machine));
    // A slow request on each worker.
    one.ask("/slow?ms=3000&n=one");
    machine.until("the first request", || in_flight(&machine, 1));
    other.ask("/slow?ms=3000&n=other");
    machine.until("the second request", || in_flight(&machine, 2));
    machine.ok("systemctl stop app@1.service");
    assert_eq!(one.answer(), Some((200, "one".to_owned())));
    assert_eq!(other.answer(), Some((200, "other".to_owned())));
    for _ in 0..5 {
        assert_eq!((one.index("/who"), other.index("/who")), ("1".to_owned(), "1".to_owned()));
    }
}

fn in_flight(machine: &Boxed, count: u64) -> Option<()> {
    let status = status(machine);
    let workers = status["workers"].as_array()?;
    let sum: u64 = workers.iter().filter_map(|worker| worker["in_flight"].as_u64()).sum();
    (sum == count).then_some(())
}

/// A router that is replaced in peace answers what it has begun; what it has learnt stays, even if it is killed.
#[test]
fn a_router_that_goes_answers_first_and_what_it_learnt_stays() {
    let Some(machine) = boot("listen.js", 2, "") else { return };
    let mut kept = Kept::new(&machine);
    let sids: Vec<String> = (0..2)
        .map(|_| {
            let (_, opened) = kept.get("/socket.io/?EIO=4&transport=polling");
            let packet: Value = serde_json::from_str(opened.trim_start_matches('0')).unwrap();
            packet["sid"].as_str().unwrap().to_owned()
        })
        .collect();
    let owners: Vec<_> = sids.iter().map(|sid| kept.index(&format!("/who?sid={sid}"))).collect();
    assert_ne!(owners[0], owners[1]);
    for signal in ["TERM", "KILL"] {
        let before = machine.main_pid("app.service");
        if signal == "TERM" {
            kept.ask("/slow?ms=1000&n=last");
            machine.until("the request", || in_flight(&machine, 1));
        }
        machine.ok(&format!("kill -{signal} $(systemctl show -P MainPID app.service)"));
        if signal == "TERM" {
            assert_eq!(kept.answer(), Some((200, "last".to_owned())));
            assert_eq!(kept.answer(), None);
        }
        machine.until("the next router", || machine.main_pid("app.service").filter(|pid| Some(*pid) != before));
        kept = Kept::new(&machine);
        for (sid, owner) in sids.iter().zip(&owners) {
            assert_eq!(&kept.index(&format!("/who?sid={sid}")), owner, "{signal}");
        }
    }
    assert_eq!(active(&machine).len(), 2);
}
