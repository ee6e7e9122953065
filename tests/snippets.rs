//! The files in packaging/snippets: what is for proxies runs in `behind`, what is for Prometheus and Grafana here.

use crate::behind::changed;
use crate::support::{Cluster, PATIENCE, free_address, read_response, skip};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ALERTS: &str = include_str!("../packaging/snippets/alerts.yml");
const SCRAPE: &str = include_str!("../packaging/snippets/prometheus.yml");
const DASHBOARD: &str = include_str!("../packaging/snippets/grafana.json");

/// A program of Prometheus', or why there is none.
fn program(name: &str) -> Option<Command> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/prometheus/usr/bin").join(name);
    let command = if unpacked.exists() { Command::new(unpacked) } else { Command::new(name) };
    let mut probe = Command::new(command.get_program());
    if probe.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        skip(&format!("{name} is not there; tests/run fetches it"));
        return None;
    }
    Some(command)
}

#[track_caller]
fn passes(mut command: Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("FAILED"), "{said}");
}

/// By Prometheus' own words; and each alert has a series here that makes it fire, see the file.
#[test]
fn the_alerts_fire_when_they_should() {
    let Some(mut check) = program("promtool") else { return };
    let Some(mut test) = program("promtool") else { return };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    check.args(["check", "rules"]).arg(here.join("packaging/snippets/alerts.yml"));
    passes(check);
    let cases = here.join("tests/fixtures/alerts.yml");
    test.args(["test", "rules"]).arg(&cases);
    passes(test);
    let cases = std::fs::read_to_string(cases).unwrap();
    for alert in ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(cases.contains(&format!("alertname: {alert}")) || cases.contains(&format!("\"{alert}\"")), "{alert}");
    }
}

/// A Prometheus that runs; ended when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _files: tempfile::TempDir,
}

impl Prometheus {
    /// By the shipped file, but for addresses, paths and pace.
    fn start(mut command: Command, target: SocketAddr) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        std::fs::write(path("alerts.yml"), ALERTS).unwrap();
        let rules = path("alerts.yml").display().to_string();
        let text = changed(
            SCRAPE,
            &[("/etc/prometheus/appctl-alerts.yml", &rules), ("127.0.0.1:19100\"]", &format!("{target}\"]"))],
        );
        let text = format!("global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n{text}");
        std::fs::write(path("prometheus.yml"), text).unwrap();
        let address = free_address();
        let child = command
            .arg(format!("--config.file={}", path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut started = Self { child, address, _files: files };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until && started.child.try_wait().unwrap().is_none(), "Prometheus does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        started
    }

    fn get(&self, target: &str) -> Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let answer = read_response(&mut stream);
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{target}: {}", answer.text()))
    }

    /// How many series an expression gives now.
    #[track_caller]
    fn series(&self, expression: &str) -> usize {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().len()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every panel of the dashboard shows something of an app that is in use, and every alert can be evaluated.
#[test]
fn a_real_prometheus_finds_what_dashboard_and_alerts_ask_for() {
    let Some(command) = program("prometheus") else { return };
    let metrics = free_address();
    let more = format!("[router]\nshared = \"always\"\nhead_timeout = \"1s\"\nmetrics = \"{metrics}\"\n");
    let Some(cluster) = Cluster::start("chat/worker.js", 2, &more) else { return };
    let prometheus = Prometheus::start(command, metrics);
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut missing: BTreeSet<String> = expressions(&dashboard).into_iter().collect();
    let mut silent = Vec::new();
    let until = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        // Something of each kind: sessions, requests, refusals, connections that say nothing.
        cluster.session();
        cluster.get("/socket.io/?EIO=4&transport=polling&sid=nobody");
        let mut bad = cluster.connect();
        bad.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        read_response(&mut bad);
        silent.push(cluster.connect());
        missing.retain(|expression| prometheus.series(expression) == 0);
        assert!(Instant::now() < until, "nothing for:\n{missing:#?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    let rules = prometheus.get("/api/v1/rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), ALERTS.matches("- alert:").count());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        // What they look at is there, whether or not anything is wrong with it; certificates are only where TLS is.
        for metric in metric_names(rule["query"].as_str().unwrap()) {
            assert!(metric.starts_with("appctl_certificate") || prometheus.series(&metric) > 0, "{metric}");
        }
    }
}

/// The words of an expression that are names of metrics.
fn metric_names(expression: &str) -> BTreeSet<String> {
    expression
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| ["appctl_", "process_"].iter().any(|start| word.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

/// What the panels ask, with every variable as when all is chosen.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let filled = targets.map(|target| {
        let text = target["expr"].as_str().unwrap().to_owned();
        text.replace("$app", ".*").replace("$instance", ".*").replace("$__rate_interval", "10s")
    });
    filled.collect()
}

/// As Grafana wants it: ids of their own, nothing on top of another, within the 24 columns, only variables that there are.
#[test]
fn the_dashboard_is_well_formed() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36 && dashboard["uid"] == "appctl");
    assert!(dashboard.get("id").is_none(), "an id of somebody's own Grafana");
    let variables: BTreeSet<&str> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(cells.insert((x, y)), "on top of another: {panel}");
            }
        }
        for target in panel["targets"].as_array().unwrap() {
            let text = target["expr"].as_str().unwrap();
            for variable in text.split('$').skip(1) {
                let end = variable.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap();
                let name = &variable[..end];
                assert!(name == "__rate_interval" || variables.contains(name), "{name}");
            }
        }
    }
}

/// The operators' page names only commands, keys, metrics and files that there are.
#[test]
fn the_operators_page_is_true() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(here.join("packaging/OPERATING.md")).unwrap();
    let readme = std::fs::read_to_string(here.join("README.md")).unwrap();
    let mut seen = BTreeSet::new();
    for word in page.split('`').skip(1).step_by(2) {
        if let Some(command) = word.strip_prefix("appctl ") {
            let verb = command.split(' ').next().unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_appctl")).args([verb, "--help"]).output().unwrap();
            assert!(output.status.success(), "{word}");
            let help = String::from_utf8(output.stdout).unwrap();
            for flag in command.split(' ').filter(|word| word.starts_with('-')) {
                assert!(crate::readme::offers(&help, flag), "{word}");
            }
            seen.insert("command");
        }
        let (table, _) = word.split_once(['.', ' ']).unwrap_or((word, ""));
        if ["router", "limits", "ready", "restart", "reload", "health"].contains(&table) && word.contains('.') {
            let key = word.split(' ').next().unwrap();
            assert!(readme.contains(&format!("| `{key}` |")), "no key {key}");
            seen.insert("key");
        }
        if word.starts_with("appctl_") {
            assert!(readme.contains(&format!("`{word}`")), "no metric {word}");
            seen.insert("metric");
        }
    }
    assert_eq!(seen.len(), 3);
    for link in page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
        assert!(here.join("packaging").join(link).exists(), "no {link}");
    }
}
