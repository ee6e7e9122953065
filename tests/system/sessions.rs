//! Sessions on several workers: issue 2, lines 1 and 3.

use serde_json::Value;

use crate::boxed::Options;

/// `NAME.toml` of the test worker.
pub(crate) fn chat(listen: &str, workers: u32, pair: &str) -> String {
    format!(
        "exec = [\"node\", \"worker.js\"]\ndirectory = \"/srv/apps/chat\"\nworkers = {workers}\nlisten = [\"{listen}\"]\n\
         \n[environment]\nPAIR = \"{pair}\"\n"
    )
}

/// `NAME.toml` of the seeds' worker as it is, with the tests' events added from outside.
fn seed(directory: &str, workers: u32) -> String {
    format!(
        "exec = [\"node\", \"--require\", \"/srv/apps/chat/preload.js\", \"worker.js\"]\n\
         directory = \"/srv/apps/{directory}\"\nworkers = {workers}\nlisten = [\"8080\"]\n"
    )
}

/// Nothing is missing in the report of `sessions.js`.
#[track_caller]
pub(crate) fn complete(result: &Value, each: u64, workers: u64) {
    let sessions = each * 3;
    assert_eq!(result["errors"], serde_json::json!([]), "{result}");
    for kind in ["polling", "websocket", "upgrade"] {
        assert_eq!(result["connected"][kind], each, "{kind}: {result}");
        for (answer, wanted) in
            [("fetchSockets", sessions), ("serverSideEmit", workers - 1), ("broadcastAck", sessions)]
        {
            assert_eq!(result[format!("{answer}_{kind}")], wanted, "{answer}, {kind}: {result}");
        }
    }
    assert_eq!(result["upgraded"], each, "{result}");
    assert_eq!(result["events"], sessions * sessions, "{result}");
    for count in ["missing", "duplicates", "corrupted", "disconnects"] {
        assert_eq!(result[count], 0, "{count}: {result}");
    }
    assert_eq!(result["workers"].as_object().map(|map| map.len() as u64), Some(workers), "{result}");
}

fn every_emit_once(options: Options, file: &str, each: u64, more: &[&str]) {
    let Some(machine) = options.file("/etc/appctl/app.toml", file).boot() else { return };
    machine.start_app("app", 4);
    let number = each.to_string();
    let arguments = [&["http://127.0.0.1:8080", "--each", &number], more].concat();
    let result = machine.drive("sessions.js", &arguments);
    complete(&result, each, 4);
}

#[test]
fn sessions_of_all_transports_get_every_emit_once() {
    every_emit_once(Options::default(), &seed("seed", 4), 200, &[]);
}

#[test]
fn sessions_of_all_transports_get_every_emit_once_with_the_older_packages() {
    every_emit_once(Options::default(), &seed("seed-old", 4), 200, &[]);
}

/// The same on another Node, and both pairs of packages.
fn every_emit_once_on_node(major: u32, more: &[&str]) {
    every_emit_once(Options::default().node(major), &seed("seed", 4), 20, more);
    every_emit_once(Options::default().node(major), &seed("seed-old", 4), 20, more);
}

/// Text only: Node 18 cannot be given the encoding that carries bytes from worker to worker.
#[test]
fn sessions_get_every_emit_once_on_node_18() {
    every_emit_once_on_node(18, &["--text"]);
}

#[test]
fn sessions_get_every_emit_once_on_node_22() {
    every_emit_once_on_node(22, &[]);
}

#[test]
fn sessions_get_every_emit_once_on_node_24() {
    every_emit_once_on_node(24, &[]);
}

/// The seeds' worker with nothing added at all.
#[test]
fn the_seeds_worker_serves_all_transports_as_it_is() {
    let file = "exec = [\"node\", \"worker.js\"]\ndirectory = \"/srv/apps/seed\"\nworkers = 4\nlisten = [\"8080\"]\n";
    let Some(machine) = Options::default().file("/etc/appctl/app.toml", file).boot() else { return };
    machine.start_app("app", 4);
    let result = machine.drive("sessions.js", &["http://127.0.0.1:8080", "--each", "200", "--connect-only"]);
    for kind in ["polling", "websocket", "upgrade"] {
        assert_eq!(result["connected"][kind], 200, "{kind}: {result}");
    }
    assert_eq!((&result["upgraded"], &result["errors"]), (&200.into(), &serde_json::json!([])), "{result}");
    // Each worker's lines are in the journal under its own unit; together they are all.
    let lines = [1, 2, 3, 4].map(|slot| {
        let journal = machine.journal(&format!("-u app@{slot}.service"));
        journal.lines().filter(|line| line.starts_with("connect ")).count()
    });
    assert_eq!(lines.iter().sum::<usize>(), 600, "{lines:?}");
    assert!(lines.iter().all(|count| *count > 50), "{lines:?}");
}

fn never_unknown(pair: &str) {
    let boxed = Options::default().file("/etc/appctl/app.toml", &chat("8080", 4, pair)).boot();
    let Some(machine) = boxed else { return };
    machine.ok("systemctl start app.service");
    // Several addresses, because one has too few ports for so many connections.
    let hosts = (1..=9).map(|n| format!("127.0.0.{n}")).collect::<Vec<_>>().join(",");
    let result = machine.drive("handshakes.js", &[&hosts, "8080", "--count", "20000"]);
    assert_eq!(result["unknown"], 0, "{result}");
    assert_eq!((&result["sessions"], &result["failed"]), (&20_000.into(), &0.into()), "{result}");
}

#[test]
fn no_session_is_ever_unknown() {
    never_unknown("new");
}

#[test]
fn no_session_is_ever_unknown_with_the_older_packages() {
    never_unknown("old");
}
