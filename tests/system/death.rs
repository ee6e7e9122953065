//! A worker can die: issue 3, line 5.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::boxed::{Boxed, Options};

/// Of each transport.
const EACH: u64 = 16;
/// The adapter gives a call up after 5 s.
const AT_ONCE: Duration = Duration::from_secs(2);

/// `asker.js`
struct Asker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Asker {
    fn start(machine: &Boxed) -> (Self, Value) {
        let mut command = machine.command("node");
        command.args(["/srv/apps/clients/asker.js", "http://127.0.0.1:8080", "--each", &EACH.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut asker = Self { child, stdin, stdout };
        let workers = asker.line()["workers"].take();
        (asker, workers)
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the asker says {line:?}"))
    }

    fn say(&mut self, words: &str) -> Value {
        writeln!(self.stdin, "{words}").unwrap();
        self.line()
    }

    /// `workers` have answered, each with so many sockets.
    #[track_caller]
    fn answered(&mut self, workers: usize, sockets: u64) {
        let began = Instant::now();
        let answers = self.say("answers");
        let list = answers["answers"].as_array().unwrap();
        assert_eq!(list.len(), workers, "{answers}");
        for one in list {
            assert_eq!((&one["error"], &one["sockets"]), (&Value::Null, &sockets.into()), "{answers}");
        }
        assert!(began.elapsed() < AT_ONCE, "{:?}: {answers}", began.elapsed());
        println!("answers after {:?}", began.elapsed());
    }

    /// Only the sessions of `dead` were dropped, all of them; everybody is there again and hears everybody.
    #[track_caller]
    fn only_dropped(&mut self, dead: u32, sessions: u64) {
        let report = self.say(&format!("drops {dead}"));
        assert_eq!(report["standing"], true, "{report}");
        assert_eq!(report["drops"], serde_json::json!({ dead.to_string(): sessions }), "{report}");
        let heard = self.say("shout");
        assert_eq!(heard["heard"], heard["wanted"], "{heard}");
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `app@SLOT`'s process, and its sessions.
fn worker(machine: &Boxed, slot: u32, workers: &Value) -> (u32, u64) {
    let pid = machine.main_pid(&format!("app@{slot}.service")).unwrap();
    (pid, workers[pid.to_string()].as_u64().unwrap_or_else(|| panic!("slot {slot} has no session: {workers}")))
}

fn until_four(machine: &Boxed) {
    machine.until("four workers are ready", || {
        let status: Value = serde_json::from_str(&machine.ok("appctl status app --json")).unwrap();
        let workers = status[0]["status"]["workers"].as_array()?;
        (workers.iter().filter(|one| one["state"] == "ready").count() == 4).then_some(())
    });
}

fn pending(machine: &Boxed, slot: &str) -> u64 {
    let status: Value = serde_json::from_str(&machine.ok("appctl status app --json")).unwrap();
    let workers = status[0]["status"]["workers"].as_array().unwrap();
    workers.iter().find(|one| one["slot"] == slot).map_or(0, |one| one["pending"].as_u64().unwrap())
}

/// `directory`: of the seeds' worker, as it is, with the tests' events added from outside.
fn a_worker_dies(directory: &str) {
    let file = format!(
        "exec = [\"node\", \"--require\", \"/srv/apps/chat/preload.js\", \"worker.js\"]\n\
         directory = \"/srv/apps/{directory}\"\nworkers = 4\nlisten = [\"8080\"]\n[restart]\ndelay = \"3s\"\n"
    );
    let Some(machine) = Options::default().file("/etc/appctl/app.toml", &file).boot() else { return };
    machine.start_app("app", 4);
    let (mut asker, workers) = Asker::start(&machine);
    let all = 2 * EACH;

    // It stands still: what is asked of it stays open, and so do the requests that it was given.
    let (pid, sessions) = worker(&machine, 2, &workers);
    machine.ok(&format!("kill -STOP {pid}"));
    assert_eq!(asker.say(&format!("ask {pid}"))["asked"], 3);
    let flags = ["http://127.0.0.1:8080/path?n=7", "--count", "24", "--width", "8"];
    let requests = std::thread::scope(|scope| {
        let requests = scope.spawn(|| machine.drive("requests.js", &flags));
        machine.until("it was given a request", || (pending(&machine, "2") > 0).then_some(()));
        assert_eq!(asker.say("open")["open"], 3);
        machine.ok(&format!("kill -KILL {pid}"));
        asker.answered(3, all - sessions);
        requests.join().unwrap()
    });
    // Those too that it had not acknowledged: others served them.
    assert_eq!(requests["answers"], serde_json::json!({ "200 7\n": 24 }), "{requests}");
    asker.only_dropped(pid, sessions);
    until_four(&machine);

    // Without a warning.
    let workers = asker.say("drops")["workers"].take();
    let busiest = (1..=4).filter(|slot| *slot != 2).max_by_key(|slot| worker(&machine, *slot, &workers).1).unwrap();
    let (pid, sessions) = worker(&machine, busiest, &workers);
    machine.ok(&format!("kill -KILL {pid}"));
    let live = workers.as_object().unwrap().len() - 1;
    if directory == "seed-old" {
        // This adapter counts: what it asks before it has read that a worker is gone, but when the router knows, fails.
        let known = || machine.ok("appctl status app --json").contains(&format!("\"pid\":{pid},"));
        machine.until("the router knows of the death", || (!known()).then_some(()));
        asker.say("open");
    }
    // Its sessions may have gone to one that had none.
    assert!(asker.say(&format!("ask {pid}"))["asked"].as_u64().unwrap() >= live as u64);
    let began = Instant::now();
    let answers = asker.say("answers");
    assert!(began.elapsed() < AT_ONCE, "{:?}: {answers}", began.elapsed());
    let told = answers["answers"].as_array().unwrap();
    assert!(!told.is_empty() && told.iter().all(|one| one["error"].is_null()), "{answers}");
    asker.only_dropped(pid, sessions);
    until_four(&machine);
    for slot in 1..=4 {
        let restarts = machine.property(&format!("app@{slot}.service"), "NRestarts");
        assert_eq!(restarts == "1", slot == 2 || slot == busiest, "slot {slot}: {restarts}");
    }
    // All four, the new ones too.
    let workers = asker.say("drops")["workers"].as_object().unwrap().len();
    asker.say("ask");
    asker.answered(workers, all);
}

#[test]
fn only_the_sessions_of_a_dead_worker_are_dropped_and_the_others_answer_at_once() {
    a_worker_dies("seed");
}

#[test]
fn only_the_sessions_of_a_dead_worker_are_dropped_with_the_older_packages() {
    a_worker_dies("seed-old");
}
