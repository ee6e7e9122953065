//! The metrics' own socket, and the access log in the real journal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::boxed::{Boxed, Options};

const FILE: &str = "/etc/appctl/app.toml";
const APP: &str = "require('http').createServer((q, r) => r.end('fine')).listen(3000);";

fn file(router: &str) -> String {
    format!("exec = [\"node\", \"/srv/fine.js\"]\nworkers = 2\nlisten = [\"8080\"]\n[router]\n{router}\n")
}

fn boot(router: &str) -> Option<Boxed> {
    let machine = Options::default().file(FILE, &file(router)).file("/srv/fine.js", APP).boot()?;
    machine.ok("appctl start app");
    Some(machine)
}

/// The page at an address of the machine; `None`: nobody is there.
fn page(machine: &Boxed, address: &str) -> Option<String> {
    let answer = machine.shell(&format!("curl -sf http://{address}/metrics"));
    answer.status.success().then(|| String::from_utf8(answer.stdout).unwrap())
}

fn value(page: &str, sample: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample}:\n{page}")).parse().unwrap()
}

/// A connection that a reverse proxy shares.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn new(machine: &Boxed) -> Self {
        Self(BufReader::new(machine.connect("127.0.0.1:8080")))
    }

    fn get(&mut self, target: &str) -> u16 {
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nUser-Agent: box\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "{head}");
        }
        self.0.read_exact(&mut [0; 4]).unwrap();
        head[9..12].parse().unwrap()
    }
}

#[test]
fn the_metrics_have_an_address_of_their_own() {
    let Some(machine) = boot("metrics = \"127.0.0.1:9100\"") else { return };
    for _ in 0..5 {
        machine.ok("curl -sf http://127.0.0.1:8080/");
    }
    let there = page(&machine, "127.0.0.1:9100").expect("a page");
    let connections = "appctl_connections_total{app=\"app\"}";
    assert_eq!(value(&there, connections), 5.0);
    assert!(value(&there, "process_resident_memory_bytes{app=\"app\"}") > 1e6);
    let said = machine.ok("appctl metrics app");
    assert_eq!((value(&said, connections), said.lines().next()), (5.0, there.lines().next()));
    // Several on one page; as JSON; for root alone.
    machine.write("/etc/appctl/two.toml", &file("").replace("8080", "8081"));
    machine.ok("appctl start two");
    for names in ["", "app two"] {
        let said = machine.ok(&format!("appctl metrics {names}"));
        assert_eq!(
            value(&said, "appctl_workers_wanted{app=\"two\"}"),
            value(&said, "appctl_workers_wanted{app=\"app\"}")
        );
        assert_eq!(said.matches("# HELP appctl_workers_wanted ").count(), 1, "{said}");
    }
    let json: Value = serde_json::from_str(&machine.ok("appctl metrics two app --json")).unwrap();
    let family = json.as_array().unwrap().iter().find(|it| it["name"] == "appctl_connections_total").unwrap();
    assert_eq!((&family["type"], &family["samples"][1]["value"]), (&"counter".into(), &5.0.into()), "{family}");
    machine.ok("appctl delete two");
    let denied = machine.shell("runuser -u nobody -- appctl metrics app");
    let text = String::from_utf8_lossy(&denied.stderr);
    assert!(denied.status.code() == Some(4) && text.contains("for root and the group appctl"), "{text}");
    let control = machine.ok("curl -sf --unix-socket /run/appctl/app/control http://app/metrics");
    assert_eq!(value(&control, connections), 5.0);
    for target in ["v1/status", ""] {
        let code = machine.ok(&format!("curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:9100/{target}"));
        assert_eq!(code, "404", "{target}");
    }
    assert!(machine.ok("appctl status app").contains("app-metrics.socket"));

    // The next router goes on with the same socket.
    let start = "process_start_time_seconds{app=\"app\"}";
    machine.ok("systemctl kill --kill-whom=main -s KILL app.service");
    machine.until("another router", || {
        let now = page(&machine, "127.0.0.1:9100")?;
        (value(&now, start) > value(&there, start)).then_some(())
    });
    machine.ok("systemctl restart app.service");
    assert!(page(&machine, "127.0.0.1:9100").is_some());

    // Another address; a router that runs keeps its own until it is restarted.
    machine.write(FILE, &file("metrics = \"/run/metrics\""));
    machine.ok("appctl reload app && appctl start app");
    assert!(page(&machine, "127.0.0.1:9100").is_some());
    machine.ok("appctl restart app");
    assert!(page(&machine, "127.0.0.1:9100").is_none());
    assert!(machine.ok("curl -sf --unix-socket /run/metrics http://a/metrics").contains(connections));
    // None, by systemctl alone.
    machine.write(FILE, &file(""));
    machine.ok("systemctl daemon-reload && systemctl restart app.service");
    machine.until("that socket is closed", || {
        (machine.property("app-metrics.socket", "ActiveState") == "inactive").then_some(())
    });
    machine.write(FILE, &file("metrics = \"/run/metrics\""));
    machine.ok("appctl restart app");
    assert!(machine.ok("curl -sf --unix-socket /run/metrics http://a/metrics").contains(connections));
    // None.
    machine.write(FILE, &file(""));
    machine.ok("appctl restart app");
    assert!(!machine.path("/run/metrics").exists());
    assert_eq!(machine.property("app-metrics.socket", "ActiveState"), "inactive");
    // And one again, beside a router that runs.
    machine.write(FILE, &file("metrics = \"127.0.0.1:9101\""));
    machine.ok("appctl start app");
    assert!(page(&machine, "127.0.0.1:9101").is_none());
    machine.ok("appctl restart app");
    assert!(page(&machine, "127.0.0.1:9101").is_some());

    // Whoever asks for metrics starts nothing.
    machine.ok("appctl stop app");
    assert!(page(&machine, "127.0.0.1:9101").is_none());
    assert_eq!(machine.shell("appctl metrics app").status.code(), Some(3));
    assert!(!machine.is_active("app.service"));
    // Clients are served, also when somebody else has that address.
    let other = APP.replace("3000", "9101, '127.0.0.1'");
    machine.ok(&format!("systemd-run --quiet --unit=other node -e \"{other}\""));
    machine.until("the other one", || machine.shell("curl -sf http://127.0.0.1:9101/").status.success().then_some(()));
    machine.ok("systemctl start app.service");
    machine.until("an answer", || machine.shell("curl -sf http://127.0.0.1:8080/").status.success().then_some(()));
    machine.ok("systemctl stop other.service");
    machine.ok("appctl delete app");
    assert_eq!(machine.property("app-metrics.socket", "LoadState"), "not-found");
    assert_eq!(machine.ok("systemctl list-units --all --no-legend 'app*' | wc -l"), "0");
}

/// The lines of the access log that match.
fn lines(machine: &Boxed, matches: &str) -> Vec<Value> {
    let text = machine.journal(&format!("-u app -o json {matches}"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_access_log_is_in_the_journal() {
    let Some(machine) = boot("access_log = true\nmetrics = \"127.0.0.1:9100\"") else { return };
    machine.ok("curl -sf 'http://127.0.0.1:8080/direct?sid=secret'");
    let mut kept = Kept::new(&machine);
    assert_eq!(kept.get("/routed?sid=secret&x=%22"), 200);
    let line = machine.until("the line of the routed one", || lines(&machine, "CLIENT=203.0.113.9").pop());
    for (field, value) in [
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_TARGET", "/routed?sid=***&x=%22"),
        ("REQUEST_VERSION", "HTTP/1.1"),
        ("RESPONSE_STATUS", "200"),
        ("RESPONSE_BYTES", "4"),
        ("USER_AGENT", "box"),
        ("SYSLOG_IDENTIFIER", "app"),
        ("APP", "app"),
        ("PRIORITY", "6"),
        ("_SYSTEMD_UNIT", "app.service"),
    ] {
        let found = match &line[field] {
            // One is the router's, one its unit's.
            Value::Array(both) => both[0].clone(),
            one => one.clone(),
        };
        assert_eq!(found, value, "{field}: {line}");
    }
    assert!(["1", "2"].contains(&line["WORKER"].as_str().unwrap()), "{line}");
    let message = line["MESSAGE"].as_str().unwrap();
    assert!(message.starts_with("203.0.113.9 \"GET /routed?sid=***&x=%22 HTTP/1.1\" 200 4 "), "{message}");
    let handed = machine.until("the line of the other", || lines(&machine, "RESPONSE_STATUS=handed-over").pop());
    assert_eq!((&handed["REQUEST_TARGET"], &handed["CLIENT"]), (&"/direct?sid=***".into(), &"127.0.0.1".into()));
    assert!(!machine.journal("-u app").contains("secret"));

    // A journal that stands still holds nobody up; what it had no room for is counted.
    machine.ok("systemctl kill -s STOP systemd-journald");
    let target = format!("/{}", "x".repeat(1000));
    for _ in 0..5000 {
        assert_eq!(kept.get(&target), 200);
    }
    let lost = value(&page(&machine, "127.0.0.1:9100").unwrap(), "appctl_access_log_lost_total{app=\"app\"}");
    machine.ok("systemctl kill -s CONT systemd-journald");
    assert!(lost > 0.0);
    println!("{lost} of 5000 lines were dropped");
    // It has much to read by then, and may drop some more.
    machine.until("it goes on", || {
        assert_eq!(kept.get("/again"), 200);
        lines(&machine, "REQUEST_TARGET=/again").pop()
    });
    assert_eq!(machine.property("app.service", "NRestarts"), "0");
}
