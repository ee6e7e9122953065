//! Every runtime that a worker may have: Node 18 to 24, Bun, Deno.

use crate::support::{Cluster, free_address, head, skip};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// `APPCTL_TEST_NODES`, or where `tests/run` installs them.
fn node(major: u32) -> Option<PathBuf> {
    let nodes =
        std::env::var_os("APPCTL_TEST_NODES").map_or_else(|| Path::new(ROOT).join(".cache/nodes"), PathBuf::from);
    let node = nodes.join(format!("{major}/bin/node"));
    if node.exists() {
        return Some(node);
    }
    skip(&format!("no {}: tests/run installs it", node.display()));
    None
}

fn packages(app: &str) -> bool {
    let there = Path::new(ROOT).join("tests/apps").join(app).join("node_modules").exists();
    if !there {
        skip(&format!("no packages in tests/apps/{app}: run npm ci there"));
    }
    there
}

/// The chat app under a program; `None`: something is not installed.
fn chat(program: &[&str], workers: usize, more: &str) -> Option<Cluster> {
    if !packages("chat") || !packages("clients") {
        return None;
    }
    let script = format!("{ROOT}/tests/apps/chat/worker.js");
    let mut exec = program.to_vec();
    exec.push(&script);
    let address = free_address();
    let text = format!("exec = {exec:?}\nworkers = {workers}\nlisten = [\"{address}\"]\n{more}\n");
    let mut cluster = Cluster::launch_text(&text);
    cluster.address = address;
    Some(cluster.until_ready(workers))
}

/// Sessions of every transport talk to each other: what they saw.
fn sessions(cluster: &Cluster, each: usize) -> Value {
    let output = Command::new("node")
        .arg(format!("{ROOT}/tests/apps/clients/sessions.js"))
        .arg(format!("http://{}", cluster.address))
        .args(["--each", &each.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim())
        .unwrap_or_else(|error| panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// All there, once each. `binary`: whether packets with Buffers cross workers as they are.
fn assert_complete(seen: &Value, each: usize, workers: usize, binary: bool, case: &str) {
    let all = each * 3;
    assert_eq!(
        seen["connected"],
        serde_json::json!({"polling": each, "websocket": each, "upgrade": each}),
        "{case}: {seen}"
    );
    for (key, wanted) in [
        ("upgraded", each),
        ("disconnects", 0),
        ("missing", 0),
        ("duplicates", 0),
        ("events", all * all),
        ("fetchSockets_polling", all),
        ("fetchSockets_websocket", all),
        ("serverSideEmit_upgrade", workers - 1),
        ("broadcastAck_websocket", all),
    ] {
        assert_eq!(seen[key], wanted, "{case}: {key}: {seen}");
    }
    assert_eq!(seen["workers"].as_object().map(serde_json::Map::len), Some(workers), "{case}: {seen}");
    assert_eq!(seen["errors"], serde_json::json!([]), "{case}: {seen}");
    assert_eq!(seen["corrupted"] == 0, binary, "{case}: {seen}");
}

fn node_serves_sessions(major: u32) {
    let Some(node) = node(major) else { return };
    for pair in ["new", "old"] {
        let more = format!("[environment]\nPAIR = \"{pair}\"");
        let Some(cluster) = chat(&[node.to_str().unwrap()], 3, &more) else { return };
        // JSON has no Buffers: Node 18 cannot read the other encoding soundly.
        assert_complete(&sessions(&cluster, 8), 8, 3, major >= 20, &format!("Node {major}, {pair}"));
    }
}

#[test]
fn node_18_serves_sessions() {
    node_serves_sessions(18);
}

#[test]
fn node_20_serves_sessions() {
    node_serves_sessions(20);
}

#[test]
fn node_22_serves_sessions() {
    node_serves_sessions(22);
}

#[test]
fn node_24_serves_sessions() {
    node_serves_sessions(24);
}

const PLAIN: &str = "
    const http = require('http');
    http.createServer((q, r) => r.end(String(process.pid))).listen(3000);
";

/// Every request is answered, by each of the workers.
fn assert_plain(cluster: &Cluster, workers: usize, case: &str) {
    let seen: BTreeSet<_> = (0..30)
        .map(|_| {
            let answer = cluster.get("/");
            assert_eq!(answer.status, 200, "{case}");
            answer.text()
        })
        .collect();
    assert_eq!(seen.len(), workers, "{case}");
}

#[test]
fn every_node_serves_plain_http() {
    for major in [18, 20, 22, 24] {
        let Some(node) = node(major) else { continue };
        let address = [free_address().to_string()];
        let cluster = Cluster::script_by(&[node.to_str().unwrap()], &address, PLAIN, 3, "").until_ready(3);
        assert_plain(&cluster, 3, &format!("Node {major}"));
    }
}

/// A runtime's program from its npm package.
fn runtime(path: &str) -> Option<String> {
    let program = Path::new(ROOT).join("tests/apps/runtimes/node_modules").join(path);
    // The packages hold binaries for one kind of machine; whether they run here is their business.
    let runs = Command::new(&program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !runs {
        skip(&format!("{} does not run: run npm ci in tests/apps/runtimes", program.display()));
        return None;
    }
    Some(program.to_str().unwrap().to_owned())
}

fn deno() -> Option<String> {
    runtime("@deno/linux-x64-glibc/deno")
}

fn bun() -> Option<String> {
    runtime("@oven/bun-linux-x64-baseline/bin/bun")
}

#[test]
fn deno_serves_plain_http() {
    let Some(deno) = deno() else { return };
    let address = [free_address().to_string()];
    let script = PLAIN.replace("require('http')", "(await import('node:http')).default");
    let more = "runtime = \"deno\"";
    let cluster = Cluster::script_by(&[&deno, "run", "-A"], &address, &script, 2, more).until_ready(2);
    assert_plain(&cluster, 2, "Deno");
}

#[test]
fn deno_serves_sessions() {
    let Some(deno) = deno() else { return };
    let Some(cluster) = chat(&[&deno, "run", "-A", "--unstable-detect-cjs"], 2, "runtime = \"deno\"") else { return };
    assert_complete(&sessions(&cluster, 4), 4, 2, false, "Deno");
}

#[test]
fn bun_serves_sessions() {
    let Some(bun) = bun() else { return };
    let Some(cluster) = chat(&[&bun], 2, "runtime = \"bun\"") else { return };
    assert_complete(&sessions(&cluster, 4), 4, 2, false, "Bun");
}

/// Bun binds the port itself: its operator is told, and clients do not hang.
#[test]
fn a_plain_server_under_bun_is_an_error_that_says_what_to_do() {
    let Some(bun) = bun() else { return };
    let address = [free_address().to_string()];
    let more = "runtime = \"bun\"\n[ready]\ngrace = \"50ms\"\n[router]\nwait_timeout = \"500ms\"";
    let script = PLAIN.replace("3000", "0");
    let mut cluster = Cluster::script_by(&[&bun], &address, &script, 1, more);
    let line = cluster.until("has bound TCP");
    assert!(line.contains("setupWorker()"), "{line}");
    assert_eq!(cluster.get("/").status, 503);
}

/// The server in Rust that `tests/run` builds.
fn rust() -> Option<String> {
    let program = Path::new(ROOT).join(".cache/languages/rust-ws/debug/rust-ws");
    if !program.exists() {
        skip(&format!("no {}: tests/run builds it", program.display()));
        return None;
    }
    Some(program.to_str().unwrap().to_owned())
}

/// It, as an app of so many workers. `runtime`: `socket` or `port`.
fn outside(runtime: &str, workers: usize, more: &str) -> Option<Cluster> {
    let (program, address) = (rust()?, free_address());
    let text = format!(
        "exec = [{program:?}]\nruntime = \"{runtime}\"\nworkers = {workers}\nlisten = [\"{address}\"]\n{more}\n"
    );
    let mut cluster = Cluster::launch_text(&text);
    cluster.address = address;
    Some(cluster)
}

fn who(cluster: &Cluster) -> Value {
    let answer = cluster.get("/who");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

#[test]
fn a_program_with_a_port_or_a_socket_of_its_own() {
    for runtime in ["port", "socket"] {
        let Some(cluster) = outside(runtime, 3, "") else { return };
        let mut cluster = cluster.until_ready(3);
        let seen: BTreeSet<_> = (0..30).map(|_| who(&cluster)["index"].to_string()).collect();
        assert_eq!(seen.len(), 3, "{runtime}: {seen:?}");
        assert_eq!(who(&cluster)["forwarded"], "127.0.0.1", "{runtime}");
        // No other request is lost with the one that kills it.
        assert_eq!(cluster.get("/exit").status, 502, "{runtime}");
        cluster.until("exit status 7");
        for _ in 0..20 {
            who(&cluster);
        }
        assert!(cluster.stop().success(), "{runtime}");
    }
}

#[test]
fn readiness_without_a_channel() {
    let gate = tempfile::tempdir().unwrap();
    let go = gate.path().join("go");
    let variable = format!("[environment]\nWAIT_FOR = {go:?}\n");
    for (runtime, ready) in [
        ("socket", ""),
        ("port", ""),
        ("socket", "[ready]\nhttp = \"/health\""),
        ("socket", "[ready]\non = \"notify\""),
        ("port", "[ready]\non = \"notify\""),
    ] {
        let more = format!("{variable}{ready}\n[router]\nwait_timeout = \"500ms\"");
        let Some(mut cluster) = outside(runtime, 1, &more) else { return };
        cluster.until("serves on");
        assert_eq!(cluster.get("/who").status, 503, "{runtime} {ready}");
        std::fs::write(&go, "").unwrap();
        cluster.until("is ready");
        assert_eq!(cluster.get("/who").status, 200, "{runtime} {ready}");
        std::fs::remove_file(&go).unwrap();
    }
    let more = "[ready]\nhttp = \"/nothing\"\n[router]\nwait_timeout = \"500ms\"";
    let Some(mut cluster) = outside("port", 1, more) else { return };
    cluster.until("is not ready yet: GET /nothing got 404");
    assert_eq!(cluster.get("/who").status, 503);
}

#[test]
fn one_that_does_not_answer_its_health_check_is_aborted() {
    let more = "[ready]\nhttp = \"/health\"\n[health]\ntimeout = \"2s\"";
    let Some(cluster) = outside("socket", 2, more) else { return };
    let mut cluster = cluster.until_ready(2);
    let mut hung = cluster.connect();
    hung.write_all(&head("GET", "/hang", 0)).unwrap();
    cluster.until("no answer to GET /health for");
    cluster.until("ended: hung for");
    cluster.until("is ready");
    for _ in 0..10 {
        who(&cluster);
    }
}

#[test]
fn raw_connections_to_a_port() {
    let Some(cluster) = outside("port", 2, "[router]\nprotocol = \"tcp\"") else { return };
    let cluster = cluster.until_ready(2);
    let seen: BTreeSet<_> = (0..20)
        .map(|_| {
            let who = who(&cluster);
            assert_eq!(who["forwarded"], "-", "nobody has read or written a head: {who}");
            who["index"].to_string()
        })
        .collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
}
