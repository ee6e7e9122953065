//! Reloads: issue 3, lines 1, 2 and 8.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Output, Stdio};

use serde_json::Value;

use crate::boxed::{Boxed, Options};

/// `app.toml`: the test worker, with what a test wants to add.
fn file(workers: u32, version: &str, more: &str) -> String {
    format!(
        "exec = [\"node\", \"worker.js\"]\ndirectory = \"/srv/apps/chat\"\nworkers = {workers}\nlisten = [\"8080\"]\n\
         drain = \"1s\"\n[reload]\nsettle = \"500ms\"\n[environment]\nVERSION = \"{version}\"\n{more}"
    )
}

const FILE: &str = "/etc/appctl/app.toml";

fn start(workers: u32) -> Option<Boxed> {
    let machine = Options::default().file(FILE, &file(workers, "1", "")).boot()?;
    machine.ok("appctl start app");
    assert_eq!(active(&machine).len(), workers as usize);
    Some(machine)
}

/// The workers that run: unit and main process.
fn active(machine: &Boxed) -> Vec<(String, u32)> {
    let units = machine.ok("systemctl list-units --no-legend --plain --state=active 'app@*' | cut -d' ' -f1");
    units.lines().map(|unit| (unit.to_owned(), machine.main_pid(unit).unwrap_or(0))).collect()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `load.js` at work.
struct Load {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Load {
    fn start(machine: &Boxed, more: &[&str]) -> Self {
        let mut command = machine.command("node");
        command.args(["/srv/apps/clients/load.js", "http://127.0.0.1:8080"]).args(more);
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
    fn report(&mut self) -> Value {
        writeln!(self.stdin, "report").unwrap();
        self.line()
    }

    /// No request failed, no connect was refused or reset, nobody but the app answered.
    #[track_caller]
    fn nothing_failed(report: &Value) {
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
    reload_under_load(std::env::var("T").map_or(20, |t| t.parse().unwrap()), 4, 10);
}

/// Releases that do not work: name, more in the file, the program, what the command must say.
const BROKEN: [(&str, &str, &str, &str); 4] = [
    ("throws", "", "throw new Error('there is no such module')", "there is no such module"),
    ("exits", "", "require('http').createServer().listen(1); setTimeout(() => process.exit(7), 200)", "status 7"),
    ("silent", "[ready]\non = \"message\"\ntimeout = \"2s\"\n", "setInterval(() => {}, 1000)", "not ready in time"),
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
