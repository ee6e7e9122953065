//! Limits that the kernel enforces: issue 3, lines 9 and 4. All of it in one boot of a kernel with the controllers.

use std::sync::LazyLock;

use serde_json::Value;

use crate::boxed::{self, Options};
use crate::uml::{self, Results};

/// `NAME.toml`: an app that does to its limits what it is asked to.
fn app(port: u16, workers: u32, more: &str) -> String {
    format!(
        "exec = [\"node\", \"app.js\"]\ndirectory = \"/srv/apps/limits\"\nworkers = {workers}\nlisten = [\"{port}\"]\n\
         start = \"manual\"\n{more}"
    )
}

/// What the one boot gave. When it fails, so do all that ask for it, at once.
static RESULTS: LazyLock<Result<Results, String>> = LazyLock::new(|| {
    let options = Options::default()
        .file("/etc/appctl/eat.toml", &app(8081, 2, "[limits]\nmemory = \"160M\"\n"))
        .file("/etc/appctl/spin.toml", &app(8082, 1, "[limits]\ncpu = \"20%\"\n"))
        .file("/etc/appctl/spawn.toml", &app(8083, 1, "[limits]\ntasks = 40\nfiles = 200\n"));
    // Looked at more often than in earnest.
    let often = "[Service]\nExecStart=\nExecStart=/usr/bin/appctl memory --limit=150M --every=400ms grow\n";
    let ported = "exec = ['node', '/srv/ported.js']\nruntime = 'port'\nlisten = '8085'\nstart = 'manual'\n";
    let script =
        "require('http').createServer((_, answer) => answer.end('served')).listen(process.env.PORT, '127.0.0.1')";
    let options = options.file("/etc/appctl/ported.toml", ported).file("/srv/ported.js", script);
    let options = options
        .file(
            "/etc/appctl/grow.toml",
            &app(8084, 2, "[limits]\nmemory_reload = \"150M\"\n[environment]\nFILE = \"/opt/large\"\n"),
        )
        .file("/etc/systemd/system/grow-memory.service.d/often.conf", often);
    uml::run(options, include_str!("limits.sh"))
});

/// `None`: it cannot run here; the reason has been printed.
fn results() -> Option<&'static Results> {
    RESULTS.as_ref().inspect_err(|reason| boxed::skipped(reason)).ok()
}

/// What a test reads of one file.
#[track_caller]
fn file<'r>(results: &'r Results, name: &str) -> &'r str {
    results.get(name).unwrap_or_else(|| panic!("there is no {name}: {:?}\n{}", results.keys(), results["log"])).trim()
}

/// The answer of a worker.
#[track_caller]
fn answer(results: &Results, name: &str) -> Value {
    serde_json::from_str(file(results, name)).unwrap_or_else(|error| panic!("{name}: {error}\n{}", results[name]))
}

#[test]
fn a_worker_that_eats_too_much_is_killed_and_started_again() {
    let Some(results) = results() else { return };
    let units = file(results, "eat.units");
    let restarts = |line: &&str| line.starts_with("NRestarts=") && *line != "NRestarts=0";
    assert_eq!(units.lines().filter(restarts).count(), 1, "one worker of two\n{units}");
    let journal = file(results, "eat.journal");
    assert!(journal.contains("Failed with result 'oom-kill'"), "{journal}");
    let told = |text: &str| text.matches("out of memory").count();
    let (list, status) = (file(results, "eat.list"), file(results, "eat.status"));
    assert!(list.contains("1 (out of memory)"), "{list}");
    assert!(told(status) >= 1 && status.contains("Last ends:"), "{status}");
    assert!(journal.lines().any(|line| line.starts_with("worker ") && told(line) == 1), "{journal}");
    // One is asked for after the other: the dying one took no more than one with it. What it had not taken from its
    // channel was given to the other.
    let answers = file(results, "eat.answers");
    let served = answers.lines().filter(|line| line.contains("\"result\":\"/who\"")).count();
    let lost = answers.lines().filter(|line| line.contains("Connection reset") || line.contains("Empty reply")).count();
    assert!(served >= 19 && served + lost == 20, "{answers}");
}

#[test]
fn a_worker_that_spins_gets_no_more_than_its_share() {
    let Some(results) = results() else { return };
    let percent: u32 = file(results, "spin.percent").parse().unwrap();
    assert!((5..40).contains(&percent), "{percent} % of a processor, 20 % are allowed");
}

#[test]
fn a_worker_starts_no_more_tasks_and_opens_no_more_files_than_it_may() {
    let Some(results) = results() else { return };
    assert_eq!(answer(results, "spawn.few")["result"], 0);
    let failed = answer(results, "spawn.many")["result"].as_u64().unwrap();
    assert!((20..60).contains(&failed), "{failed} of 60 children did not start, 40 tasks are allowed");
    assert_eq!(answer(results, "open.few")["result"], "opened");
    assert_eq!(answer(results, "open.many")["result"], "EMFILE");
}

#[test]
fn a_worker_that_grows_is_replaced_but_not_for_the_files_that_it_reads() {
    let Some(results) = results() else { return };
    assert_eq!(answer(results, "grow.read")["result"], 300 << 20);
    // The kernel counts the file to the worker that has read it.
    let current: u64 = file(results, "grow.current").parse().unwrap();
    assert!(current > 200 << 20, "{current}");
    assert_eq!(file(results, "grow.wrong"), "no", "it was replaced though it only had read a file");
    let journal = file(results, "grow.journal");
    assert_eq!(journal.matches("M, more than limits.memory_reload = 150M: replacing it").count(), 1, "{journal}");
    let units = file(results, "grow.units");
    let count = |line: &str| units.lines().filter(|it| *it == line).count();
    assert_eq!((count("ActiveState=active"), count("ActiveState=inactive")), (2, 1), "{units}");
    assert_eq!((count("Result=success"), count("NRestarts=0")), (3, 3), "{units}");
}

/// The router of workers on ports may connect to this machine alone; clients come from everywhere all the same.
#[test]
fn a_router_reaches_nothing_but_this_machine() {
    let Some(results) = results() else { return };
    assert_eq!(file(results, "ported.local"), "served");
    assert_eq!(file(results, "ported.outside"), "served", "a client from outside");
    // What the same switches keep from connecting, so that this kernel is known to heed them.
    assert_eq!(file(results, "ported.filtered"), "7 or 28");
    // systemd keeps the addresses in a set, and lists them in any order.
    let units = file(results, "ported.units");
    let mut words: Vec<&str> = units.split([' ', '=', '\n']).collect();
    words.sort_unstable();
    assert_eq!(words, ["0.0.0.0/0", "::/0", "IPAddressDeny", "PrivateNetwork", "no"], "{units}");
}
