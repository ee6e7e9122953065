//! Workers that are not Node: issue 4, line 4.

use crate::boxed::{Boxed, LANGUAGES, Options, skipped};
use crate::reload::{Load, active, code, text};
use serde_json::Value;
use std::path::Path;

const FILE: &str = "/etc/appctl/app.toml";
const RUST: &str = "/srv/languages/rust-ws/debug/rust-ws";

/// The Rust server as an app of 3 workers. `runtime`: `socket` or `port`.
fn rust(runtime: &str, version: &str, more: &str) -> String {
    format!(
        "exec = [\"{RUST}\"]\nruntime = \"{runtime}\"\nworkers = 3\nlisten = [\"8080\"]\ndrain = \"1s\"\n\
         [reload]\nsettle = \"200ms\"\n[environment]\nVERSION = \"{version}\"\n{more}"
    )
}

fn is_there(path: &str) -> bool {
    let there = Path::new(LANGUAGES).join(path).exists();
    if !there {
        skipped(&format!("no {path} in {LANGUAGES}; tests/run makes it"));
    }
    there
}

fn boot(file: &str) -> Option<Boxed> {
    if !is_there("rust-ws/debug/rust-ws") {
        return None;
    }
    let machine = Options::default().file(FILE, file).boot()?;
    let output = machine.shell("appctl start app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    Some(machine)
}

fn status(machine: &Boxed) -> Value {
    let status = machine.ok("curl -s --unix-socket /run/appctl/app/control http://router/v1/status");
    serde_json::from_str(&status).unwrap()
}

fn reloads_without_a_failed_request(runtime: &str) {
    let Some(machine) = boot(&rust(runtime, "1", "")) else { return };
    println!("{}", machine.ok("curl -s http://127.0.0.1:8080/who"));
    let mut load = Load::by(&machine, "sockets.js", &["--each", "100"]);
    for time in 1..=4 {
        let version = format!("r{time}");
        machine.write(FILE, &rust(runtime, &version, ""));
        let output = machine.shell("appctl reload app");
        assert_eq!(code(&output), 0, "{}", text(&output));
        let report = load.report();
        println!("reload {time}: {report}");
        Load::nothing_failed(&report);
        assert_eq!(report["versions"], serde_json::json!({ &version: 100 }), "{report}");
        assert_eq!(report["workers"].as_object().unwrap().len(), 3, "{report}");
        assert!(report["most_drops"].as_u64().is_some_and(|n| n <= 1), "{report}");
    }
    println!("{}", status(&machine));
    assert_eq!(active(&machine).len(), 3);
    assert_eq!(machine.property("app.service", "NRestarts"), "0");
}

#[test]
fn a_program_on_a_port_reloads_without_a_failed_request() {
    reloads_without_a_failed_request("port");
}

#[test]
fn a_program_on_a_socket_reloads_without_a_failed_request() {
    reloads_without_a_failed_request("socket");
}
