//! The router can die: issue 3, line 3, and promise 3.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::boxed::{Boxed, Options};

const WORKERS: usize = 4;
/// Of each transport.
const HELD: u64 = 8;

/// `witness.js` at work.
pub(crate) struct Witness {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Witness {
    pub(crate) fn start(machine: &Boxed, more: &[&str]) -> Self {
        let mut command = machine.command("node");
        command.args(["/srv/apps/clients/witness.js", "127.0.0.1", "8080", "--each", &HELD.to_string()]).args(more);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut witness = Self { child, stdin, stdout };
        let ready = witness.line();
        assert_eq!(ready["ready"], true, "{ready}");
        witness
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the witness says {line:?}"))
    }

    /// Another reload begins.
    pub(crate) fn turn(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"turn\n").unwrap();
    }

    /// Ends the load; what the clients saw.
    pub(crate) fn report(mut self) -> Value {
        drop(self.stdin.take());
        let report = self.line();
        println!("{report}");
        self.child.wait().unwrap();
        report
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a kill may not touch: the held sessions, what they say, and the numbers of their broadcasts.
#[track_caller]
pub(crate) fn nothing_established_was_lost(report: &Value) {
    println!(
        "{} connections, {} lost; {} broadcasts, {} lost; longest wait {} ms",
        report["connections"],
        lost(report),
        report["broadcasts"]["sent"],
        report["broadcasts"]["lost"],
        report["longest_connection_ms"],
    );
    assert_eq!(report["standing"], true, "{report}");
    for count in ["refused", "unknown"] {
        assert_eq!(report[count], 0, "{count}: {report}");
    }
    // A tenth of a second on a quiet machine, a few on a very busy one. When nobody accepts until some time is up, it is more.
    assert!(report["longest_connection_ms"].as_u64().is_some_and(|wait| wait < 10_000), "{report}");
    for count in ["lost", "doubled", "reordered"] {
        assert_eq!(report["echoes"][count], 0, "echoes {count}: {report}");
    }
    for count in ["doubled", "reordered"] {
        assert_eq!(report["broadcasts"][count], 0, "broadcasts {count}: {report}");
    }
    for busy in [&report["echoes"]["back"], &report["broadcasts"]["heard"], &report["sessions"], &report["upgraded"]] {
        assert!(busy.as_u64().is_some_and(|count| count > 10), "{report}");
    }
    // A session over WebSocket is a connection that its worker has.
    let dropped = report["dropped"].as_array().unwrap();
    assert!(dropped.iter().all(|one| one["kind"] == "polling"), "{report}");
    assert!(report["most_moves"].as_u64().is_some_and(|moves| moves <= 1), "{report}");
}

/// New connections, requests of long-polling among them, that ended without an answer.
pub(crate) fn lost(report: &Value) -> u64 {
    let dropped = report["dropped"].as_array().unwrap().len() as u64;
    report["lost"].as_u64().unwrap() + report["failed"].as_u64().unwrap() + dropped
}

/// Not for secrets.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn pause(&mut self, milliseconds: u64) {
        std::thread::sleep(Duration::from_micros(self.below(milliseconds * 1000)));
    }
}

fn boot() -> Option<Boxed> {
    boot_with(Options::default())
}

pub(crate) fn boot_with(options: Options) -> Option<Boxed> {
    let file = format!(
        "exec = [\"node\", \"worker.js\"]\ndirectory = \"/srv/apps/chat\"\nworkers = {WORKERS}\nlisten = [\"8080\"]\n\
         drain = \"500ms\"\n[reload]\nsettle = \"50ms\"\n"
    );
    let machine = options.file("/etc/appctl/app.toml", &file).boot()?;
    machine.start_app("app", WORKERS as u32);
    Some(machine)
}

/// The router's process, as this machine numbers it.
pub(crate) fn router(machine: &Boxed) -> Option<Pid> {
    machine
        .processes("app.service")
        .into_iter()
        .find(|(_, words)| words.get(1).is_some_and(|word| word == "router"))
        .map(|(pid, _)| pid)
}

/// What the router says of itself.
pub(crate) fn status(machine: &Boxed) -> Option<Value> {
    let mut socket = UnixStream::connect(machine.path("/run/appctl/app/control")).ok()?;
    socket.write_all(b"GET /v1/status HTTP/1.1\r\nHost: router\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// A router other than `before` serves.
pub(crate) fn next(machine: &Boxed, before: Pid) -> Pid {
    machine.until("the next router serves", || {
        let pid = router(machine).filter(|pid| *pid != before)?;
        status(machine).map(|_| pid)
    })
}

/// Slot and process of each worker that the router knows.
pub(crate) fn workers(machine: &Boxed) -> BTreeSet<(String, i64)> {
    let status = machine.until("the router says its status", || status(machine));
    let workers = status["workers"].as_array().unwrap();
    workers.iter().map(|one| (one["slot"].as_str().unwrap().to_owned(), one["pid"].as_i64().unwrap())).collect()
}

/// As many workers as there should be, all ready, and nothing else on its way.
pub(crate) fn settled(machine: &Boxed) -> Option<()> {
    let status = status(machine)?;
    let workers = status["workers"].as_array()?;
    (workers.len() == WORKERS && workers.iter().all(|one| one["state"] == "ready")).then_some(())?;
    let units = machine.ok(
        "systemctl list-jobs --no-legend; systemctl list-units --all --no-legend --plain 'app@*' | awk '$3 != \"inactive\" { print $3 }'",
    );
    (units.lines().count() == WORKERS && units.lines().all(|state| state == "active")).then_some(())
}

/// What the router and systemd hold for it.
pub(crate) fn holdings(machine: &Boxed) -> (u64, u64) {
    // Two descriptors a worker, the log, and three listening sockets.
    let wanted = 2 * WORKERS as u64 + 1 + 3;
    let stored = || machine.property("app.service", "NFileDescriptorStore").parse::<u64>().unwrap();
    machine.until("nothing more is stored than is needed", || (stored() == wanted).then_some(()));
    let pid = router(machine).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (wanted, resident.trim().trim_end_matches(" kB").parse().unwrap())
}

/// No worker was started again by itself. A reload starts and stops them.
#[track_caller]
pub(crate) fn no_worker_restarted(machine: &Boxed) {
    let journal = machine.journal("-u 'app@*'");
    assert!(!journal.contains("Scheduled restart job"), "{journal}");
    for slot in 1..=WORKERS + 1 {
        assert_eq!(machine.property(&format!("app@{slot}.service"), "NRestarts"), "0", "slot {slot}");
    }
}

/// Ends the router again and again by `signal` at random moments while clients are at work; in every third round a reload
/// is under way, if there are to be `reloads`. Gives what the clients saw.
fn end_routers(times: u32, signal: Signal, reloads: bool, more: &[&str]) -> Option<(Boxed, Value)> {
    let machine = boot()?;
    let mut random = Random::new();
    let mut witness = Witness::start(&machine, more);
    let before = holdings(&machine);
    let mut kills = 0;
    for round in 1..=times {
        let pid = router(&machine).unwrap();
        let reload = reloads && round % 3 == 0;
        let known = workers(&machine);
        if reload {
            witness.turn();
            machine.ok("systemctl reload --no-block app.service");
        }
        // A reload takes some seconds; most kills come in its first.
        let most = if reload { 1 + random.below(2500) } else { 200 };
        random.pause(most);
        kill(pid, signal).unwrap();
        kills += 1;
        if round % 8 == 0 {
            // The next one too, somewhere between its start and its first second.
            let heir = machine.until_soon("the next router starts", || router(&machine).filter(|heir| *heir != pid));
            random.pause(20);
            kill(heir, signal).unwrap();
            kills += 1;
            next(&machine, heir);
        } else {
            next(&machine, pid);
        }
        if reload {
            machine.until("the workers are as many as they should be", || settled(&machine));
        } else {
            assert_eq!(workers(&machine), known, "round {round}");
        }
    }
    machine.until("the workers are as many as they should be", || settled(&machine));
    if reloads {
        witness.turn();
        machine.ok("systemctl reload app.service");
        machine.until("the workers are as many as they should be", || settled(&machine));
    }
    let report = witness.report();
    nothing_established_was_lost(&report);
    no_worker_restarted(&machine);
    let after = holdings(&machine);
    let reloaded = machine.journal("-u app.service | grep -c 'app reloaded:' || true");
    println!("{kills} ends, {reloaded} reloads done; resident {} → {} kB", before.1, after.1);
    assert!(after.1 < before.1 + 4096, "{} kB → {} kB", before.1, after.1);
    Some((machine, report))
}

#[test]
fn a_killed_router_loses_nothing_that_a_worker_has() {
    const TIMES: u32 = 100;
    let Some((_machine, report)) = end_routers(TIMES, Signal::SIGKILL, true, &[]) else { return };
    // What the dead had accepted and not handed over. Some 50 µs from accept(2) to sendmsg(2), and a millisecond more for the
    // few whose session its worker is just about to tell, at 1,000 connections a second: one in ten to twenty kills.
    assert!(lost(&report) <= u64::from(TIMES) / 4, "{report}");
    assert!(report["broadcasts"]["lost"].as_u64().unwrap() <= 20, "{report}");
}

/// As a package upgrade does it.
#[test]
fn a_planned_restart_of_the_router_loses_nothing() {
    let Some((_machine, report)) = end_routers(100, Signal::SIGTERM, false, &[]) else { return };
    assert_eq!((lost(&report), &report["broadcasts"]["lost"]), (0, &0.into()), "{report}");
    assert_eq!((&report["moves"], &report["dropped"]), (&0.into(), &serde_json::json!([])), "{report}");
}

/// A worker that is being stopped gets its time to answer, though the router that it drains by ends.
#[test]
fn a_drain_outlives_the_router() {
    let file = "exec = [\"node\", \"worker.js\"]\ndirectory = \"/srv/apps/chat\"\nworkers = 1\nlisten = [\"8080\"]\n\
                drain = \"6s\"\n";
    let Some(machine) = Options::default().file("/etc/appctl/app.toml", file).boot() else { return };
    machine.start_app("app", 1);
    let result = std::thread::scope(|scope| {
        let request =
            scope.spawn(|| machine.drive("requests.js", &["http://127.0.0.1:8080/slow?ms=3000&n=7", "--count", "1"]));
        machine.until("the worker has the request", || status(&machine).filter(|status| status["connections"] == 1));
        machine.ok("systemctl stop --no-block app@1.service");
        machine.until("it drains", || status(&machine).filter(|status| status["workers"][0]["state"] == "draining"));
        let pid = router(&machine).unwrap();
        let stopping = machine.processes("app@1.service");
        let (drain, _) = stopping.iter().find(|(_, words)| words.iter().any(|word| word == "drain")).unwrap();
        kill(*drain, Signal::SIGSTOP).unwrap();
        kill(pid, Signal::SIGKILL).unwrap();
        next(&machine, pid);
        let status = status(&machine).unwrap();
        assert_eq!(status["workers"][0]["state"], "draining", "nobody has told this router yet: {status}");
        kill(*drain, Signal::SIGCONT).unwrap();
        request.join().unwrap()
    });
    assert_eq!(result["answers"], serde_json::json!({ "200 7\n": 1 }), "{result}");
    machine.until("it has stopped", || (machine.property("app@1.service", "ActiveState") == "inactive").then_some(()));
}

/// Nothing here depends on the manager or the bus while it serves.
#[test]
fn a_manager_that_reloads_and_a_bus_that_dies_are_not_noticed() {
    let Some(machine) = boot() else { return };
    let known = workers(&machine);
    let witness = Witness::start(&machine, &[]);
    for _ in 0..3 {
        machine.ok("systemctl daemon-reload");
        machine.ok("systemctl daemon-reexec");
        let bus = machine.until("the bus is up", || machine.main_pid("dbus.service"));
        machine.ok(&format!("kill -9 {bus}"));
        // Debian does not start it again by itself.
        machine.until("another bus is up", || {
            machine.shell("systemctl start dbus.service").status.success().then_some(())
        });
    }
    assert_eq!(workers(&machine), known);
    let report = witness.report();
    nothing_established_was_lost(&report);
    assert_eq!((lost(&report), &report["broadcasts"]["lost"], &report["moves"]), (0, &0.into(), &0.into()), "{report}");
}
