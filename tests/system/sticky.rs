//! Clients that come back by other keys than the sid of Engine.IO, while routers and workers come and go.

use crate::boxed::{Boxed, Options};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

const FILE: &str = "/etc/appctl/app.toml";
/// Clients of each kind.
const EACH: usize = 9;

fn file(directory: &str, script: &str, sticky: &str, version: &str) -> String {
    format!(
        "exec = [\"node\", \"{script}\"]\ndirectory = \"/srv/apps/{directory}\"\nworkers = 3\nlisten = [\"8080\"]\n\
         sticky = {sticky}\ndrain = \"1s\"\n[reload]\nsettle = \"100ms\"\n[environment]\nVERSION = \"{version}\"\n"
    )
}

fn boot(directory: &str, script: &str, sticky: &str) -> Option<Boxed> {
    let machine = Options::default().file(FILE, &file(directory, script, sticky, "1")).boot()?;
    machine.start_app("app", 3);
    Some(machine)
}

/// One that comes back by its key.
#[derive(Debug)]
struct Client {
    target: String,
    /// What it sends each time.
    fields: String,
    cookie: Option<String>,
    /// Cookies that it was given.
    given: usize,
}

impl Client {
    fn new(target: &str, fields: &str) -> Self {
        Self { target: target.to_owned(), fields: fields.to_owned(), cookie: None, given: 0 }
    }

    /// Some of each kind.
    fn all() -> Vec<Self> {
        let header = (0..EACH).map(|n| Self::new("/who", &format!("X-User: {n}\r\n")));
        let query = (0..EACH).map(|n| Self::new(&format!("/who?room={n}"), ""));
        let cookie = (0..EACH).map(|_| Self::new("/who", ""));
        header.chain(query).chain(cookie).collect()
    }

    /// Asks over a connection of its own, or over one that is there. `None`: it ended first.
    fn ask(&mut self, kept: &mut BufReader<TcpStream>) -> Option<Value> {
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
        let head = format!("GET {} HTTP/1.1\r\nHost: a\r\n{}{cookie}\r\n", self.target, self.fields);
        kept.get_mut().write_all(head.as_bytes()).ok()?;
        let (mut first, mut length) = (true, 0);
        loop {
            let mut line = String::new();
            if kept.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end();
            if std::mem::take(&mut first) {
                assert!(line.starts_with("HTTP/1.1 200"), "{self:?}: {line}");
                continue;
            }
            match line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
                Some((name, value)) if name == "set-cookie" => {
                    self.cookie = value.split(';').next().map(str::to_owned);
                    self.given += 1;
                }
                Some((name, value)) if name == "content-length" => length = value.parse().unwrap(),
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        kept.read_exact(&mut body).ok()?;
        serde_json::from_slice(&body).ok()
    }

    fn who(&mut self, machine: &Boxed) -> Value {
        let mut stream = BufReader::new(machine.connect("127.0.0.1:8080"));
        self.ask(&mut stream).expect("an answer")
    }
}

fn owners(clients: &mut [Client], machine: &Boxed) -> Vec<u64> {
    clients.iter_mut().map(|client| client.who(machine)["pid"].as_u64().unwrap()).collect()
}

/// The same, the last one first: who spreads them anew would spread them in another way.
fn owners_backwards(clients: &mut [Client], machine: &Boxed) -> Vec<u64> {
    let mut owners: Vec<_> =
        clients.iter_mut().rev().map(|client| client.who(machine)["pid"].as_u64().unwrap()).collect();
    owners.reverse();
    owners
}

fn next_router(machine: &Boxed, signal: &str) {
    let before = machine.main_pid("app.service");
    machine.ok(&format!("kill -{signal} $(systemctl show -P MainPID app.service)"));
    machine.until("the next router", || machine.main_pid("app.service").filter(|pid| Some(*pid) != before));
}

const ALL: &str = "[\"header:X-User\", \"query:room\", \"cookie\"]";

#[test]
fn keys_and_cookies_outlive_the_router() {
    let Some(machine) = boot("chat", "listen.js", ALL) else { return };
    let mut clients = Client::all();
    let before = owners(&mut clients, &machine);
    for kind in before.chunks(EACH) {
        assert_eq!(kind.iter().collect::<BTreeSet<_>>().len(), 3, "{before:?}");
    }
    for signal in ["KILL", "TERM", "KILL"] {
        next_router(&machine, signal);
        assert_eq!(owners_backwards(&mut clients, &machine), before, "{signal}");
    }
    let given: Vec<_> = clients.iter().map(|client| client.given).collect();
    assert!(given[..2 * EACH].iter().all(|given| *given == 0), "{given:?}");
    assert!(given[2 * EACH..].iter().all(|given| *given == 1), "{given:?}");
    // What was signed by a router that nothing is left of is no cookie of ours, and no error.
    machine.ok("systemctl stop app.service");
    machine.start_app("app", 3);
    let after = owners(&mut clients, &machine);
    assert!(clients[2 * EACH..].iter().all(|client| client.given == 2), "{clients:?}");
    assert_eq!(owners(&mut clients, &machine), after);
}

/// The clients ask on while all workers are replaced.
#[test]
fn a_reload_moves_each_client_once() {
    let Some(machine) = boot("chat", "listen.js", ALL) else { return };
    let mut clients = Client::all();
    // Routed request by request, so that the connection is the router's, which stays.
    let mut kept = BufReader::new(machine.connect("127.0.0.1:8080"));
    let mut first = |client: &mut Client| client.ask(&mut kept).expect("an answer")["pid"].as_u64().unwrap();
    let mut owner: Vec<u64> = clients.iter_mut().map(&mut first).collect();
    let mut moves = vec![0; clients.len()];
    for time in 2..=3 {
        machine.write(FILE, &file("chat", "listen.js", ALL, &time.to_string()));
        let new = Value::from(time.to_string());
        let mut reload = machine.command("appctl").args(["reload", "app"]).stdout(Stdio::null()).spawn().unwrap();
        let (mut rounds, mut ended) = (0, false);
        loop {
            let done = ended;
            ended = reload.try_wait().unwrap().is_some_and(|status| {
                assert!(status.success());
                true
            });
            let mut versions = BTreeSet::new();
            for ((client, owner), moves) in clients.iter_mut().zip(&mut owner).zip(&mut moves) {
                let who = client.ask(&mut kept).expect("an answer");
                let pid = who["pid"].as_u64().unwrap();
                if std::mem::replace(owner, pid) != pid {
                    *moves += 1;
                    assert_eq!(who["version"], new, "to new code: {client:?}");
                }
                versions.insert(who["version"].to_string());
            }
            rounds += 1;
            if done {
                assert_eq!(versions.len(), 1, "{versions:?}");
                break;
            }
        }
        println!("{rounds} rounds");
        assert!(moves.iter().all(|moves| *moves == time - 1), "{moves:?}");
    }
}

/// Real clients of MCP: their sessions are in the workers' memory, and the router is killed between their requests.
#[test]
fn sessions_of_mcp_outlive_the_router() {
    let Some(machine) = boot("mcp", "server.js", "\"header:Mcp-Session-Id\"") else { return };
    let mut command = machine.command("node");
    command.args(["/srv/apps/mcp/client.js", "http://127.0.0.1:8080/mcp", "--sessions", "20", "--hold"]);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("{\"open\":20}"));
    for _ in 0..3 {
        next_router(&machine, "KILL");
    }
    client.stdin.take().unwrap().write_all(b"on\n").unwrap();
    let seen: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    println!("{seen}");
    client.wait().unwrap();
    for (what, count) in [("sessions", 20), ("moved", 0), ("lost", 0), ("closed", 20)] {
        assert_eq!(seen[what], count, "{what}: {seen}");
    }
}
