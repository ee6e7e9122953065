//! Reloads: issue 3, lines 1, 2 and 8.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Output, Stdio};

use serde_json::Value;

use crate::boxed::{Boxed, Options};

/// `app.toml`: the test worker, with what a test wants to add.
pub(crate) fn file(workers: u32, version: &str, more: &str) -> String {
    format!(
        "exec = [\"node\", \"worker.js\"]\ndirectory = \"/srv/apps/chat\"\nworkers = {workers}\nlisten = [\"8080\"]\n\
         drain = \"1s\"\n[reload]\nsettle = \"500ms\"\n[environment]\nVERSION = \"{version}\"\n{more}"
    )
}

pub(crate) const FILE: &str = "/etc/appctl/app.toml";

pub(crate) fn start(workers: u32) -> Option<Boxed> {
    let machine = Options::default().file(FILE, &file(workers, "1", "")).boot()?;
    machine.ok("appctl start app");
    assert_eq!(active(&machine).len(), workers as usize);
    Some(machine)
}

/// The workers that run: unit and main process.
pub(crate) fn active(machine: &Boxed) -> Vec<(String, u32)> {
    let units = machine.ok("systemctl list-units --no-legend --plain --state=active 'app@*.service' | cut -d' ' -f1");
    units.lines().map(|unit| (unit.to_owned(), machine.main_pid(unit).unwrap_or(0))).collect()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `load.js` at work.
pub(crate) struct Load {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Load {
    pub(crate) fn start(machine: &Boxed, more: &[&str]) -> Self {
        Self::by(machine, "load.js", more)
    }

    /// By another driver that speaks the same.
    pub(crate) fn by(machine: &Boxed, driver: &str, more: &[&str]) -> Self {
        let mut command = machine.command("node");
        command.args([&format!("/srv/apps/clients/{driver}"), "http://127.0.0.1:8080"]).args(more);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut load = Self { child, stdin, stdout };
        let ready = load.line();
        assert_eq!(ready["ready"], true, "{ready}");
        load
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("a line of JSON")
    }

    /// What the clients saw since the last time.
    pub(crate) fn report(&mut self) -> Value {
        writeln!(self.stdin, "report").unwrap();
        self.line()
    }

    /// No request failed, no connect was refused or reset, nobody but the app answered.
    #[track_caller]
    pub(crate) fn nothing_failed(report: &Value) {
        for count in ["failed_requests", "failed_sessions", "connect_errors"] {
            assert_eq!(report[count], 0, "{count}: {report}");
        }
        for count in ["requests", "new_sessions"] {
            assert!(report[count].as_u64().is_some_and(|n| n > 0), "{count}: {report}");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reload_under_load(times: u32, workers: u32, each: u64) {
    let Some(machine) = start(workers) else { return };
    let mut load = Load::start(&machine, &["--each", &each.to_string()]);
    let mut total = (0, 0, 0);
    for time in 1..=times {
        let version = format!("r{time}");
        // The second half ends its sessions in order.
        let more = if time * 2 > times { "GRACEFUL = \"1\"\n" } else { "" };
        machine.write(FILE, &file(workers, &version, more));
        let command = if time % 2 == 0 { "systemctl reload app" } else { "appctl reload app" };
        let output = machine.shell(command);
        assert_eq!(code(&output), 0, "{}", text(&output));
        let report = load.report();
        println!("reload {time}: {report}");
        Load::nothing_failed(&report);
        assert!(report["most_drops"].as_u64().is_some_and(|n| n <= 1), "{report}");
        assert_eq!(report["versions"], serde_json::json!({ &version: each * 3 }), "{report}");
        total.0 += report["requests"].as_u64().unwrap();
        total.1 += report["new_sessions"].as_u64().unwrap();
        total.2 += each * 3;
    }
    println!("{times} reloads: {} requests, {} new sessions, {} held sessions moved", total.0, total.1, total.2);
    assert_eq!(active(&machine).len(), workers as usize);
    assert_eq!(machine.property("app.service", "NRestarts"), "0");
}

#[test]
fn a_reload_cuts_nobody_off_twice() {
    reload_under_load(20, 4, 10);
}

/// Releases that do not work: name, more in the file, the program, what the command must say.
const BROKEN: [(&str, &str, &str, &str); 5] = [
    ("throws", "", "throw new Error('there is no such module')", "there is no such module"),
    ("exits", "", "require('http').createServer().listen(1); setTimeout(() => process.exit(7), 200)", "status 7"),
    ("silent", "[ready]\non = \"message\"\ntimeout = \"2s\"\n", "setInterval(() => {}, 1000)", "not ready in time"),
    // Stuck before it listens, on its way to a database say.
    ("mute", "[ready]\ntimeout = \"8s\"\n", "setInterval(() => {}, 1000)", "it does not listen"),
    ("file", "[[[", "", "/etc/appctl/app.toml:"),
];

#[test]
fn a_broken_release_changes_nothing() {
    let Some(machine) = start(3) else { return };
    let mut load = Load::start(&machine, &["--each", "5", "--width", "2"]);
    let before = active(&machine);
    for (name, more, program, reason) in BROKEN {
        machine.write(&format!("/opt/{name}.js"), program);
        let release = file(3, name, more).replace("worker.js", &format!("/opt/{name}.js"));
        machine.write(FILE, &release);
        for command in ["appctl reload app", "systemctl reload app"] {
            let since = machine.ok("date +%s.%N");
            let output = machine.shell(command);
            assert_eq!(code(&output), 1, "{name}: {}", text(&output));
            let report = load.report();
            println!("{name}, {command}: {report}\n{}", text(&output));
            Load::nothing_failed(&report);
            assert_eq!(
                (&report["drops"], &report["versions"]),
                (&serde_json::json!({}), &serde_json::json!({ "1": 15 }))
            );
            assert_eq!(active(&machine), before, "{name}");
            let journal = machine.journal(&format!("-u app.service --since @{since}"));
            let told = if command.starts_with("appctl") { text(&output) } else { journal };
            assert!(told.contains(reason), "{name}: {told}");
        }
    }
    // The next one is good.
    machine.write(FILE, &file(3, "2", ""));
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    let report = load.report();
    Load::nothing_failed(&report);
    assert_eq!(report["versions"], serde_json::json!({ "2": 15 }), "{report}");
}

/// A release whose workers become ready when `/run/go` is there.
fn gated(workers: u32) -> String {
    file(workers, "gated", "").replace("worker.js", "/opt/gated.js")
}

const GATED: &str = "const sleep = new Int32Array(new SharedArrayBuffer(4));
while (!require('fs').existsSync('/run/go')) Atomics.wait(sleep, 0, 0, 20);
require('/srv/apps/chat/worker.js');";

/// A reload that waits for `/run/go`, with its first new worker on its way.
fn waiting_reload(machine: &Boxed, workers: u32, command: &str) -> Child {
    machine.write("/opt/gated.js", GATED);
    machine.write(FILE, &gated(workers));
    let child = background(machine, command);
    let unit = format!("app@{}.service", workers + 1);
    machine.until("the new worker is on its way", || {
        (machine.property(&unit, "ActiveState") == "activating" && machine.main_pid(&unit).is_some()).then_some(())
    });
    child
}

pub(crate) fn background(machine: &Boxed, line: &str) -> Child {
    let mut command = machine.command("bash");
    command.args(["-c", line]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Nothing of the app runs, and nothing failed.
#[track_caller]
pub(crate) fn all_is_quiet(machine: &Boxed) {
    let units = machine.ok("systemctl list-units --all --no-legend --plain 'app@*' app.service app.socket 'app-*.socket' | awk '{ print $1, $3 }'");
    assert!(units.lines().all(|line| line.ends_with(" inactive")), "{units}");
    assert_eq!(machine.ok("ps -e -o args= | grep -c '[w]orker.js\\|[g]ated.js\\|[a]ppctl ro' || true"), "0");
}

#[test]
fn stop_during_a_reload_stops_all() {
    let Some(machine) = start(2) else { return };
    for stop in ["systemctl stop app", "appctl stop app"] {
        let reload = waiting_reload(&machine, 2, "appctl reload app");
        machine.ok(stop);
        let output = reload.wait_with_output().unwrap();
        assert_eq!(code(&output), 1, "{}", text(&output));
        assert!(text(&output).contains("cancelled"), "{}", text(&output));
        machine
            .until("all has stopped", || (machine.ok("systemctl list-jobs --no-legend | wc -l") == "0").then_some(()));
        all_is_quiet(&machine);
        machine.write(FILE, &file(2, "1", ""));
        machine.ok("appctl start app");
    }
}

#[test]
fn delete_during_a_reload_leaves_nothing() {
    let Some(machine) = start(2) else { return };
    let reload = waiting_reload(&machine, 2, "systemctl reload app");
    machine.ok("appctl delete app");
    let output = reload.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}", text(&output));
    machine.until("all has stopped", || (machine.ok("systemctl list-jobs --no-legend | wc -l") == "0").then_some(()));
    all_is_quiet(&machine);
    assert!(!machine.path(FILE).exists());
    assert_eq!(machine.ok("systemctl --failed --no-legend | wc -l"), "0");
    assert_eq!(machine.property("app.service", "LoadState"), "not-found");
}

#[test]
fn restart_during_a_reload_restarts_all() {
    let Some(machine) = start(2) else { return };
    let reload = waiting_reload(&machine, 2, "appctl reload app");
    machine.write(FILE, &file(2, "2", ""));
    machine.ok("systemctl daemon-reload && systemctl restart app");
    let output = reload.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}", text(&output));
    machine.until("two workers serve", || (active(&machine).len() == 2).then_some(()));
    let who = machine.ok("curl -sS http://127.0.0.1:8080/who");
    assert!(who.contains("\"version\":\"2\""), "{who}");
}

#[test]
fn an_aborted_reload_leaves_the_old_workers() {
    let Some(machine) = start(2) else { return };
    assert_eq!(code(&machine.shell("appctl reload --abort app")), 1, "there is none");
    let before = active(&machine);
    let mut load = Load::start(&machine, &["--each", "4"]);
    let reload = waiting_reload(&machine, 2, "appctl reload app");
    machine.ok("appctl reload --abort app");
    let output = reload.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}", text(&output));
    assert!(text(&output).contains("app@3 removed"), "{}", text(&output));
    assert_eq!(active(&machine), before);
    let report = load.report();
    Load::nothing_failed(&report);
    assert_eq!(report["drops"], serde_json::json!({}), "{report}");
}

#[test]
fn reloads_of_one_app_queue_and_apps_do_not_wait_for_each_other() {
    let other = file(1, "1", "").replace("8080", "8081");
    let options = Options::default().file(FILE, &file(2, "1", "")).file("/etc/appctl/other.toml", &other);
    let Some(machine) = options.boot() else { return };
    machine.ok("appctl start app other");
    let before = active(&machine);
    let first = waiting_reload(&machine, 2, "appctl reload app");
    let second = background(&machine, "appctl reload app");
    machine.until("the second one waits", || {
        machine.ok("systemctl list-jobs --no-legend").contains("waiting").then_some(())
    });
    machine.ok("appctl reload other");
    assert_eq!(active(&machine), before, "the first one still waits");
    machine.write("/run/go", "");
    for child in [first, second] {
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{}", text(&output));
    }
    let journal = machine.journal("-u app.service");
    assert_eq!(journal.matches("app reloaded: 2 new workers").count(), 2, "{journal}");
    assert_eq!(active(&machine).len(), 2);
    // Both at once.
    let output = machine.shell("appctl reload app other");
    assert_eq!(code(&output), 0, "{}", text(&output));
    let told = text(&output);
    assert!(told.contains("app reloaded") && told.contains("other reloaded"), "{told}");
    assert_eq!(code(&machine.shell("appctl reload nobody")), 4);
    machine.ok("appctl stop other");
    let output = machine.shell("appctl reload other");
    assert!(code(&output) == 3 && text(&output).contains("not running: appctl start other"), "{}", text(&output));
}

/// Index and slot of every worker, by the router's word.
pub(crate) fn indices(machine: &Boxed) -> Vec<(u64, String)> {
    let status: Value = serde_json::from_str(&machine.ok("appctl status app --json")).unwrap();
    let workers = status[0]["status"]["workers"].as_array().unwrap();
    let mut indices: Vec<_> =
        workers.iter().map(|it| (it["index"].as_u64().unwrap(), it["slot"].as_str().unwrap().to_owned())).collect();
    indices.sort();
    indices
}

#[test]
fn a_reload_brings_the_number_of_workers_that_the_file_says() {
    let Some(machine) = start(2) else { return };
    for workers in [4, 1, 3] {
        machine.write(FILE, &file(workers, "n", ""));
        let output = machine.shell("appctl reload app");
        assert_eq!(code(&output), 0, "{}", text(&output));
        let indices: Vec<u64> = indices(&machine).into_iter().map(|(index, _)| index).collect();
        assert_eq!(indices, (0..u64::from(workers)).collect::<Vec<_>>());
        assert_eq!(active(&machine).len(), workers as usize);
    }
    for (typed, workers) in [("+2", 5), ("2", 2)] {
        machine.ok(&format!("appctl scale app -- {typed}"));
        let indices: Vec<u64> = indices(&machine).into_iter().map(|(index, _)| index).collect();
        assert_eq!(indices, (0..workers).collect::<Vec<_>>(), "scale {typed}");
        let status: Value = serde_json::from_str(&machine.ok("appctl status app --json")).unwrap();
        assert_eq!(status[0]["status"]["workers_wanted"], workers, "{status}");
    }
}

#[test]
fn a_crash_loop_does_not_keep_good_code_out() {
    let Some(machine) = start(3) else { return };
    machine.write("/opt/throws.js", "throw new Error('no')");
    machine.write(FILE, &file(3, "bad", "").replace("worker.js", "/opt/throws.js"));
    machine.ok("systemctl daemon-reload");
    assert_ne!(code(&machine.shell("systemctl restart app@2")), 0);
    machine.until("it loops", || (machine.property("app@2.service", "NRestarts") != "0").then_some(()));
    machine.write(FILE, &file(3, "good", ""));
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    assert!(text(&output).contains("app@4 starts, to replace app@2"), "{}", text(&output));
    let indices = indices(&machine);
    assert_eq!(indices.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(active(&machine).len(), 3);
}

#[test]
fn the_slots_in_use_stay_what_they_are_when_the_router_starts_again() {
    let Some(machine) = start(2) else { return };
    machine.ok("appctl reload app");
    let before = active(&machine);
    let slots = |workers: &[(String, u32)]| workers.iter().map(|(unit, _)| unit.clone()).collect::<Vec<_>>();
    assert_eq!(slots(&before), ["app@1.service", "app@3.service"]);
    let router = machine.main_pid("app.service").unwrap();
    machine.ok(&format!("kill -9 {router}"));
    machine.until("the next router is there", || {
        (machine.is_active("app.service") && machine.main_pid("app.service") != Some(router)).then_some(())
    });
    machine.ok("curl -sS http://127.0.0.1:8080/who");
    machine.until("two workers", || (active(&machine).len() == 2).then_some(()));
    assert_eq!(slots(&active(&machine)), slots(&before));

    machine.ok("systemctl restart app.service");
    machine.until("two workers", || (active(&machine).len() == 2).then_some(()));
    assert_eq!(slots(&active(&machine)), slots(&before));
    machine.ok("appctl start app");
    assert_eq!(slots(&active(&machine)), slots(&before));
    // A worker that stopped is started by a start of the app, in the lowest slot that is free.
    machine.ok("systemctl stop app@3 && appctl start app");
    assert_eq!(slots(&active(&machine)), ["app@1.service", "app@2.service"]);
    machine.ok("systemctl stop app.service && systemctl start app.service");
    machine.until("two workers", || (active(&machine).len() == 2).then_some(()));
    assert_eq!(slots(&active(&machine)), ["app@1.service", "app@2.service"]);
}

#[test]
fn a_router_killed_during_a_reload_comes_back_to_a_clean_state() {
    let Some(machine) = start(2) else { return };
    let reload = waiting_reload(&machine, 2, "appctl reload app");
    let router = machine.main_pid("app.service").unwrap();
    machine.ok(&format!("kill -9 {router}"));
    let output = reload.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}", text(&output));
    machine.until("the next router is there", || {
        (machine.is_active("app.service") && machine.main_pid("app.service") != Some(router)).then_some(())
    });
    machine.until("the new worker is gone", || {
        (machine.property("app@3.service", "ActiveState") == "inactive").then_some(())
    });
    // Should one have been restarted, it has the new code.
    machine.write("/run/go", "");
    machine.until("two workers", || (active(&machine).len() == 2).then_some(()));
    machine.write(FILE, &file(2, "2", ""));
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    let who = machine.ok("curl -sS http://127.0.0.1:8080/who");
    assert!(who.contains("\"version\":\"2\""), "{who}");
}

#[test]
fn a_file_with_mistakes_does_not_take_the_units_of_what_runs() {
    let Some(machine) = start(2) else { return };
    machine.write(FILE, "[[[");
    machine.ok("systemctl daemon-reload");
    assert_eq!(machine.property("app@1.service", "LoadState"), "loaded");
    let pid = machine.main_pid("app@1.service").unwrap();
    machine.ok(&format!("kill -9 {pid}"));
    machine.until("it is started again", || {
        (machine.is_active("app@1.service") && machine.main_pid("app@1.service") != Some(pid)).then_some(())
    });
    let description = machine.property("app.service", "Description");
    assert!(description.contains("its file has errors"), "{description}");
    let status = machine.shell("appctl status app");
    assert!(text(&status).contains("/etc/appctl/app.toml:1:3"), "{}", text(&status));
    assert_eq!(code(&machine.shell("systemctl reload app")), 1);
    machine.write(FILE, &file(2, "2", ""));
    machine.ok("systemctl reload app");
    assert_eq!(machine.property("app.service", "Description"), "app: router");
}

#[test]
fn users_reload_their_own_apps() {
    let file = file(2, "1", "");
    let Some(machine) = Options::default().file("/root/.config/appctl/app.toml", &file).boot() else { return };
    if !machine.shell("systemctl start user@0.service").status.success() {
        crate::boxed::skipped("user@0.service does not start in the box; install libpam-systemd and dbus-user-session");
        return;
    }
    let appctl = |words: &str| machine.shell(&format!("XDG_RUNTIME_DIR=/run/user/0 appctl --user {words}"));
    let output = appctl("start app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    let who = || machine.ok("curl -sS http://127.0.0.1:8080/who");
    assert!(who().contains("\"version\":\"1\""));
    machine.write("/root/.config/appctl/app.toml", &file.replace("VERSION = \"1\"", "VERSION = \"2\""));
    let output = appctl("reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    assert!(text(&output).contains("app reloaded: 2 new workers"), "{}", text(&output));
    assert!(who().contains("\"version\":\"2\""));
    // A release that fails is on hold here, too.
    machine.write("/opt/throws.js", "throw new Error('no')");
    machine.write("/root/.config/appctl/app.toml", &file.replace("worker.js", "/opt/throws.js"));
    let output = appctl("reload app");
    assert!(code(&output) == 1 && text(&output).contains("app.toml is on hold"), "{}", text(&output));
    let exec = machine.ok("XDG_RUNTIME_DIR=/run/user/0 systemctl --user show -p ExecStart app@1");
    assert!(exec.contains("worker.js") && !exec.contains("throws.js"), "{exec}");
}

#[test]
fn several_workers_are_replaced_at_a_time() {
    let Some(machine) = start(4) else { return };
    let mut load = Load::start(&machine, &["--each", "4"]);
    machine.write(FILE, &file(4, "2", "").replace("[reload]\n", "[reload]\nsurge = 2\n"));
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    let told = text(&output);
    let (fifth, sixth) = (told.find("app@5 starts").unwrap(), told.find("app@6 starts").unwrap());
    assert!(fifth.max(sixth) < told.find("ready").unwrap(), "{told}");
    let report = load.report();
    Load::nothing_failed(&report);
    assert_eq!((&report["versions"], &report["most_drops"]), (&serde_json::json!({ "2": 12 }), &1.into()), "{report}");
    assert_eq!(indices(&machine).iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

/// An app that knows nothing of signals or sessions: what it is answering when its time comes is answered, for `drain` is.
#[test]
fn plain_requests_in_flight_are_answered() {
    let program =
        "require('http').createServer((q, r) => setTimeout(() => r.end(process.env.VERSION), 700)).listen(8080)";
    let app = |version: &str| file(2, version, "").replace("worker.js", "/opt/plain.js");
    let Some(machine) = Options::default().file("/opt/plain.js", program).file(FILE, &app("1")).boot() else { return };
    machine.ok("appctl start app");
    machine.write(FILE, &app("2"));
    let reload = background(&machine, "appctl reload app");
    let result = machine.drive("requests.js", &["http://127.0.0.1:8080/", "--count", "80", "--width", "8"]);
    let output = reload.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output));
    let count = |answer: &str| result["answers"][answer].as_u64().unwrap_or(0);
    assert!(count("200 1") > 0 && count("200 2") > 0, "{result}");
    assert_eq!(count("200 1") + count("200 2"), 80, "{result}");
}

#[test]
fn a_bus_that_dies_during_a_reload_leaves_the_old_workers() {
    let Some(machine) = start(2) else { return };
    let before = active(&machine);
    let mut load = Load::start(&machine, &["--each", "4"]);
    let reload = waiting_reload(&machine, 2, "systemctl reload app");
    let bus = machine.main_pid("dbus.service").unwrap();
    machine.ok(&format!("kill -9 {bus}"));
    let output = reload.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}", text(&output));
    assert_eq!(active(&machine), before);
    assert_eq!(machine.property("app@3.service", "ActiveState"), "inactive");
    let report = load.report();
    Load::nothing_failed(&report);
    assert_eq!(report["drops"], serde_json::json!({}), "{report}");
    machine.write("/run/go", "");
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
}

#[test]
fn a_reload_during_a_start_comes_after_it() {
    let Some(machine) = start(3) else { return };
    machine.ok("systemctl stop app.service && systemctl start --no-block app.service && systemctl reload app.service");
    machine.until("all jobs are done", || (machine.ok("systemctl list-jobs --no-legend | wc -l") == "0").then_some(()));
    assert_eq!(active(&machine).len(), 3);
    assert_eq!(indices(&machine).iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(machine.ok("systemctl --failed --no-legend | wc -l"), "0");
}
