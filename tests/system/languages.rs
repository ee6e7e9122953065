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

/// What the clients saw from now on, once each kind of them has done something; nothing failed.
fn goes_on(load: &mut Load) -> Value {
    loop {
        let report = load.report();
        for count in ["failed_requests", "failed_sessions", "connect_errors"] {
            assert_eq!(report[count], 0, "{count}: {report}");
        }
        if report["requests"].as_u64() > Some(0) && report["new_sessions"].as_u64() > Some(0) {
            return report;
        }
    }
}

fn reloads_without_a_failed_request(runtime: &str) {
    let Some(machine) = boot(&rust(runtime, "1", "")) else { return };
    println!("{}", machine.ok("curl -s http://127.0.0.1:8080/who"));
    let mut load = Load::by(&machine, "sockets.js", &["--each", "100"]);
    let tunnels = |machine: &Boxed| {
        let status = status(machine);
        let workers = status["workers"].as_array().unwrap().clone();
        workers.iter().map(|worker| worker["tunnels"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let held = tunnels(&machine);
    assert!(held.len() == 3 && held.iter().all(|count| *count >= 5), "{held:?}");
    let list: Value = serde_json::from_str(&machine.ok("appctl list --json")).unwrap();
    assert!(list[0]["router"]["sessions"].as_u64() >= Some(100), "{list}");
    for time in 1..=4 {
        let version = format!("r{time}");
        machine.write(FILE, &rust(runtime, &version, ""));
        let output = machine.shell("appctl reload app");
        assert_eq!(code(&output), 0, "{}", text(&output));
        let report = load.report();
        println!("reload {time}: {report}");
        Load::nothing_failed(&report);
        assert_eq!(report["versions"], serde_json::json!({ &version: 100 }), "{report}");
        assert_eq!(report["drops"], serde_json::json!({ "1012": 100 }), "each heard of it: {report}");
        let workers = report["workers"].as_object().unwrap();
        // How evenly, depends on how busy this machine is.
        assert!(workers.len() >= 2, "{report}");
        assert!(report["most_drops"].as_u64().is_some_and(|n| n <= 1), "{report}");
    }
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

/// python-socketio under uvicorn, as its users have it, on the socket that it gets as descriptor 3.
fn python(version: &str) -> String {
    format!(
        "exec = [\"python3\", \"-m\", \"uvicorn\", \"app:app\", \"--fd\", \"3\", \"--ws\", \"wsproto\", \
         \"--forwarded-allow-ips\", \"*\", \"--timeout-graceful-shutdown\", \"1\", \"--no-access-log\"]\n\
         runtime = \"socket\"\ndirectory = \"/srv/apps/python\"\nworkers = 3\nlisten = [\"8080\"]\ndrain = \"1s\"\n\
         [reload]\nsettle = \"200ms\"\n\
         [environment]\nVERSION = \"{version}\"\nPYTHONPATH = \"/srv/languages/python\"\nPYTHONDONTWRITEBYTECODE = \"1\"\n"
    )
}

#[test]
fn python_socketio_serves_100_sessions_and_reloads_without_a_failed_request() {
    if !is_there("python/socketio") {
        return;
    }
    let Some(machine) = Options::default().file(FILE, &python("1")).boot() else { return };
    if !machine.shell("python3 -c 'import asyncio'").status.success() {
        return skipped("this system has no python3");
    }
    let output = machine.shell("appctl start app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    let who: Value = serde_json::from_str(&machine.ok("curl -s http://127.0.0.1:8080/who")).unwrap();
    assert_eq!(who["client"], "127.0.0.1", "{who}");
    // 34 of each transport.
    let mut load = Load::start(&machine, &["--each", "34"]);
    let status = status(&machine);
    let workers = status["workers"].as_array().unwrap();
    let load_of = |worker: &Value| worker["sessions"].as_u64().unwrap() + worker["tunnels"].as_u64().unwrap();
    assert!(workers.len() == 3 && workers.iter().all(|worker| load_of(worker) >= 5), "{workers:?}");
    for time in 1..=3 {
        let version = format!("r{time}");
        machine.write(FILE, &python(&version));
        let output = machine.shell("appctl reload app");
        assert_eq!(code(&output), 0, "{}", text(&output));
        let report = load.report();
        println!("reload {time}: {report}");
        Load::nothing_failed(&report);
        assert_eq!(report["versions"], serde_json::json!({ &version: 102 }), "{report}");
        assert!(report["most_drops"].as_u64().is_some_and(|n| n <= 1), "{report}");
    }
    assert_eq!(active(&machine).len(), 3);
}

/// Requests that a dying worker had are asked again of another; only its own WebSockets are cut.
#[test]
fn a_worker_without_a_channel_that_dies_loses_no_request() {
    for runtime in ["socket", "port"] {
        let Some(machine) = boot(&rust(runtime, "1", "")) else { return };
        let mut load = Load::by(&machine, "sockets.js", &["--each", "30", "--width", "4"]);
        load.report();
        let mut dropped = 0;
        for slot in [1, 2, 3] {
            let unit = format!("app@{slot}.service");
            let pid = machine.main_pid(&unit).unwrap();
            machine.ok(&format!("kill -KILL {pid}"));
            machine.until("it is back", || {
                (machine.is_active(&unit) && machine.main_pid(&unit) != Some(pid)).then_some(())
            });
            let report = load.report();
            println!("{runtime}, worker {slot}: {report}");
            assert_eq!((&report["failed_requests"], &report["connect_errors"]), (&0.into(), &0.into()), "{report}");
            assert!(report["drops"].as_object().unwrap().keys().all(|code| code == "1006"), "{report}");
            dropped += report["drops"]["1006"].as_u64().unwrap_or(0);
        }
        assert!(dropped > 0);
        let journal = machine.journal("-u app.service");
        assert!(journal.contains("ended: killed by SIGKILL; systemd starts it again"), "{journal}");
    }
}

#[test]
fn a_release_that_is_never_healthy_changes_nothing() {
    let file = |version: &str| {
        rust("socket", version, "[ready]\nhttp = \"/health\"\ntimeout = \"3s\"\n[health]\ntimeout = \"2s\"\n")
    };
    let Some(machine) = boot(&file("1")) else { return };
    let before = active(&machine);
    machine.write("/run/sick", "");
    machine.write(FILE, &file("2"));
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 1, "{}", text(&output));
    assert!(text(&output).contains("not ready in time"), "{}", text(&output));
    assert_eq!(active(&machine), before);
    assert!(machine.journal("-u app.service").contains("worker 4 is not ready yet: GET /health got 503"));
    std::fs::remove_file(machine.path("/run/sick")).unwrap();
    machine.ok("appctl reload app");
    assert!(machine.ok("curl -s http://127.0.0.1:8080/who").contains("\"version\":\"2\""));
    // One that answers nobody any more is aborted by the guard in its unit.
    let hang = crate::reload::background(&machine, "curl -s -X POST http://127.0.0.1:8080/hang");
    let journal = machine.until("it is aborted", || {
        let journal = machine.journal("-u app.service");
        journal.contains("hung for").then_some(journal)
    });
    assert!(journal.contains("no answer to GET /health for"), "{journal}");
    machine.until("it is back", || (active(&machine).len() == 3).then_some(()));
    drop(hang.wait_with_output());
}

#[test]
fn a_worker_that_tells_systemd_itself_when_it_is_ready() {
    let waits = "WAIT_FOR = \"/run/go\"\n[ready]\non = \"notify\"\n[service]\nWatchdogSec = \"1h\"\n";
    let node = "const { execFileSync } = require('child_process');
        require('http').createServer((q, r) => r.end('served')).listen(3000);
        const wait = setInterval(() => {
            if (!require('fs').existsSync('/run/go')) return;
            clearInterval(wait);
            execFileSync('systemd-notify', ['--ready']);
        }, 20);";
    let other = "exec = [\"node\", \"/opt/app.js\"]\nworkers = 1\nlisten = [\"8081\"]\n[ready]\non = \"notify\"\n";
    if !is_there("rust-ws/debug/rust-ws") {
        return;
    }
    let boxed = Options::default()
        .file(FILE, &rust("port", "1", waits))
        .file("/etc/appctl/other.toml", other)
        .file("/opt/app.js", node);
    let Some(machine) = boxed.boot() else { return };
    machine.ok("systemctl start app.service other.service");
    let units = ["app@1.service", "app@2.service", "app@3.service", "other@1.service"];
    for unit in units {
        machine.until("its process runs", || machine.main_pid(unit));
        assert_eq!(machine.property(unit, "Type"), "notify");
        assert_eq!(machine.property(unit, "ActiveState"), "activating");
    }
    let states = |machine: &Boxed| {
        let workers = status(machine)["workers"].as_array().unwrap().clone();
        workers.iter().map(|it| it["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    machine.until("all are known", || (states(&machine) == ["starting"; 3]).then_some(()));
    machine.write("/run/go", "");
    for unit in units {
        machine.until("it is active", || machine.is_active(unit).then_some(()));
    }
    assert_eq!(states(&machine), ["ready"; 3]);
    assert!(machine.ok("curl -s http://127.0.0.1:8080/who").contains("\"version\":\"1\""));
    assert_eq!(machine.ok("curl -s http://127.0.0.1:8081/"), "served");
    assert_eq!(machine.property("app@1.service", "WatchdogUSec"), "1h");
}

/// The router's memory has no descriptor of such a worker: it finds the process again.
#[test]
fn workers_without_a_channel_outlive_their_router() {
    for runtime in ["socket", "port"] {
        let Some(machine) = boot(&rust(runtime, "1", "")) else { return };
        let mut load = Load::by(&machine, "sockets.js", &["--each", "10"]);
        for time in 1..=3 {
            let (before, router) = (active(&machine), machine.main_pid("app.service").unwrap());
            // The third time a worker dies with it.
            let also = if time == 3 { before[0].1.to_string() } else { String::new() };
            machine.ok(&format!("kill -KILL {router} {also}"));
            machine.until("the next router", || machine.main_pid("app.service").filter(|pid| *pid != router));
            let ready = || {
                let status = status(&machine);
                let workers = status["workers"].as_array().unwrap().clone();
                let pids: Vec<_> =
                    workers.iter().filter(|it| it["state"] == "ready").map(|it| it["pid"].as_u64().unwrap()).collect();
                (pids.len() == 3 && workers.len() == 3).then_some(pids)
            };
            let pids = machine.until("three workers", ready);
            for (_, pid) in &before[usize::from(time == 3)..] {
                assert!(pids.contains(&u64::from(*pid)), "{pids:?} {before:?}");
            }
            // What passed through the dead router was cut.
            load.report();
            println!("{runtime}, {time}: {}", goes_on(&mut load));
        }
    }
}

#[test]
fn workers_without_a_channel_by_hand() {
    if !is_there("rust-ws/debug/rust-ws") {
        return;
    }
    let Some(machine) = Options::default().multi_user().file(FILE, &rust("socket", "1", "")).boot() else { return };
    machine.until("three workers from the boot on", || (active(&machine).len() == 3).then_some(()));
    let who = "curl -s http://127.0.0.1:8080/who | grep -o '\"index\":\"[0-9]\"'";
    let serving = || {
        let seen: std::collections::BTreeSet<_> =
            machine.ok(&format!("for n in $(seq 60); do {who}; done")).lines().map(str::to_owned).collect();
        seen.len()
    };
    assert_eq!(serving(), 3);
    // Nobody but the router (and root) can connect past it; and the program has nothing of ours open.
    let direct = "curl -s -o /dev/null --unix-socket /run/appctl/app/slots/1 http://a/who";
    assert!(!machine.shell(&format!("setpriv --reuid=nobody --clear-groups {direct}")).status.success());
    machine.ok(direct);
    assert_eq!(machine.journal("-t app@1 -n 1"), "open descriptors: 3");
    machine.ok("systemctl stop app@1.service");
    assert_eq!(serving(), 2);
    machine.until("its socket is gone", || (!machine.path("/run/appctl/app/slots/1").exists()).then_some(()));
    machine.ok("systemctl start app@1.service");
    assert_eq!(serving(), 3);
    let before = machine.main_pid("app@2.service");
    machine.ok("systemctl restart app@2.service");
    assert_ne!(machine.main_pid("app@2.service"), before);
    assert_eq!(serving(), 3);
    machine.ok("appctl scale app 2 && appctl restart app");
    assert_eq!(serving(), 2);
    machine.ok("systemctl start app@blue.service");
    assert_eq!(serving(), 3);
    machine.ok("appctl stop app");
    crate::reload::all_is_quiet(&machine);
    machine.ok("appctl delete app");
    assert_eq!(machine.ok("systemctl list-unit-files --no-legend 'app*' | grep -v apparmor || true"), "");
}

/// What has switched protocols is waited for as long as `drain` says.
#[test]
fn a_drain_waits_for_tunnels() {
    let Some(machine) = boot(&rust("port", "1", "").replace("drain = \"1s\"", "drain = \"4s\"")) else { return };
    let mut load = Load::by(&machine, "sockets.js", &["--each", "30", "--width", "1"]);
    load.report();
    let stop = crate::reload::background(&machine, "systemctl stop app@1.service");
    machine.until("it drains", || machine.journal("-u app.service").contains("worker 1 is draining").then_some(()));
    // No cut for a good part of that time, though other workers are there.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let report = load.report();
    assert_eq!(report["drops"], serde_json::json!({}), "{report}");
    assert!(stop.wait_with_output().unwrap().status.success());
    let report = goes_on(&mut load);
    assert!(report["drops"]["1012"].as_u64().is_some_and(|n| (1..30).contains(&n)), "{report}");
}

/// Between the choice of a port and the program's listening another user may have taken it.
#[test]
fn a_port_that_somebody_else_took_is_not_the_workers() {
    let file =
        "exec = [\"/bin/sh\", \"-c\", \"echo port $PORT; exec sleep 1000\"]\nruntime = \"port\"\nlisten = [\"8080\"]\n";
    let Some(machine) = Options::default().file(FILE, file).boot() else { return };
    machine.ok("systemctl start app.service");
    let port = machine.until("the port", || {
        let line = machine.journal("-t app@1");
        line.lines().find_map(|line| line.strip_prefix("port ")).map(str::to_owned)
    });
    let steal = "require('http').createServer((q, r) => r.end('stolen')).listen(process.argv[1], '127.0.0.1')";
    machine.ok(&format!("systemd-run -q -p User=nobody node -e \"{steal}\" {port}"));
    machine.until("it listens", || {
        (machine.ok(&format!("curl -s http://127.0.0.1:{port} || true")) == "stolen").then_some(())
    });
    machine.until("the router says so", || {
        let journal = machine.journal("-u app.service");
        journal.contains(&format!("listens on port {port}, which was given to worker 1")).then_some(())
    });
    assert_eq!(machine.property("app@1.service", "ActiveState"), "activating");
    assert_eq!(machine.ok("curl -s -m 1 http://127.0.0.1:8080 || true"), "");
}

#[test]
fn a_users_own_app_on_sockets() {
    if !is_there("rust-ws/debug/rust-ws") {
        return;
    }
    let file = rust("socket", "1", "");
    let Some(machine) = Options::default().file("/root/.config/appctl/app.toml", &file).boot() else { return };
    if !machine.shell("systemctl start user@0.service").status.success() {
        return skipped("user@0.service does not start in the box; install libpam-systemd and dbus-user-session");
    }
    let user = |line: &str| machine.ok(&format!("export XDG_RUNTIME_DIR=/run/user/0; {line}"));
    user("appctl --user start app");
    assert!(machine.ok("curl -s http://127.0.0.1:8080/who").contains("\"version\":\"1\""));
    assert_eq!(machine.ok("stat -c '%a %U' /run/user/0/appctl/app/slots"), "700 root");
    user("appctl --user reload app && appctl --user stop app");
}

/// What a worker that is asked for an answer does not do is told by `start`, with what it wrote last.
#[test]
fn why_a_worker_on_a_port_is_not_ready() {
    let file = |more: &str| {
        let program = "console.log('here I am'); require('http').createServer((q, r) => { \
                       r.statusCode = 503; r.end(); }).listen(process.env.FIXED || process.env.PORT)";
        format!(
            "exec = [\"node\", \"-e\", \"{program}\"]\nruntime = \"port\"\nlisten = [\"8080\"]\n[ready]\n\
             timeout = \"8s\"\n{more}"
        )
    };
    let Some(machine) = Options::default().file(FILE, &file("[environment]\nFIXED = \"3000\"\n")).boot() else {
        return;
    };
    let output = machine.shell("appctl start app");
    let told = text(&output);
    assert_eq!(code(&output), 1, "{told}");
    for words in ["not ready in time", "here I am", "nothing listens on 127.0.0.1:", "its variable PORT names"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    machine.ok("appctl stop app");
    machine.write(FILE, &file("http = \"/health\"\n"));
    let output = machine.shell("appctl start app");
    let told = text(&output);
    assert_eq!(code(&output), 1, "{told}");
    assert!(told.contains("GET /health got 503 at 127.0.0.1:") && told.contains("here I am"), "{told}");
}
