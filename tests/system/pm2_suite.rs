//! PM2's own end-to-end scripts, run as they are, with a `pm2` that calls appctl (`pm2.sh`): what a PM2 user relies on works
//! alike, or `pm2_suite.txt` says why not.
//!
//! Nothing of PM2 (AGPL) is in this repository: `tests/run` puts its scripts into `.cache/pm2-e2e`. `APPCTL_PM2_SCRIPTS=WORD`
//! runs those alone whose name contains it (`.sh`: all), with all the time that they want, and prints what each says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::boxed::{Boxed, MANIFEST, Options, skipped, tree};

/// What is expected of each script.
const TABLE: &str = include_str!("pm2_suite.txt");
/// How long a script may take, seconds.
const LIMIT: u32 = 600;
/// One that cannot pass: most fail sooner, and a script that would pass takes longer only where it has much to say.
const SHORT_LIMIT: u32 = 15;
/// Scripts that run at a time, each in a box: they sleep most of the time.
const BOXES: usize = 3;
/// Those of PM2's files that its scripts need.
const PARTS: [&str; 2] = ["test", "modules"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Passes,
    /// By design.
    Cannot,
    /// It passes whatever `pm2` does, or takes minutes: it is not run.
    Left,
}

/// Script, what is expected of it, and why.
fn table() -> BTreeMap<&'static str, (Expected, &'static str)> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (script, rest) = line.split_once(' ').expect("a script and what is expected");
            let (word, why) = rest.trim().split_once(": ").unwrap_or((rest.trim(), ""));
            let expected = match word {
                "passes" => Expected::Passes,
                "cannot" => Expected::Cannot,
                "left" => Expected::Left,
                other => panic!("{script}: {other}"),
            };
            (script, (expected, why))
        })
        .collect()
}

/// A box with the scripts in `/srv/pm2`, as a checkout has them.
fn boot() -> Option<Boxed> {
    let suite = Path::new(MANIFEST).join(".cache/pm2-e2e");
    if !suite.join("test/e2e/include.sh").exists() {
        skipped("PM2's scripts are missing in .cache/pm2-e2e; get them with tests/run, which needs GitHub");
        return None;
    }
    let machine = Options::default().directory(&suite, "/srv/suite").boot()?;
    machine.write("/srv/pm2/bin/pm2", include_str!("pm2.sh"));
    machine.ok("chmod +x /srv/pm2/bin/pm2; ln -s /srv/apps/pm2/node_modules /srv/pm2/node_modules");
    for part in PARTS {
        machine.ok(&format!("cp -r /srv/suite/{part} /srv/pm2/"));
    }
    Some(machine)
}

/// What came of a script.
struct Outcome {
    passed: bool,
    text: String,
    took: Duration,
}

fn run(machine: &Boxed, script: &str, limit: u32) -> Outcome {
    let began = Instant::now();
    let unit = "systemd-run --pipe --wait --quiet --collect -p WorkingDirectory=/srv/pm2 -p KillMode=control-group";
    let output = machine.shell(&format!(
        "{unit} -p RuntimeMaxSec={limit} -E HOME=/root -E PATH=\"$PATH\" bash test/e2e/{script} </dev/null 2>&1"
    ));
    let took = began.elapsed();
    // For the next one.
    machine.shell("appctl delete all; rm -rf /root/.pm2 /root/.pm2-dev");
    Outcome { passed: output.status.success(), text: String::from_utf8_lossy(&output.stdout).into_owned(), took }
}

/// The check that failed, or the last line.
fn last_words(text: &str) -> &str {
    let failed = text.lines().rfind(|line| line.contains("######## "));
    failed.or_else(|| text.lines().rfind(|line| !line.trim().is_empty())).unwrap_or("it said nothing")
}

/// Runs a script as often as it deserves, and says what is wrong with the table.
fn judge(machine: &Boxed, script: &str, (expected, why): (Expected, &str), alone: bool) -> String {
    let limit = if expected == Expected::Cannot && !alone { SHORT_LIMIT } else { LIMIT };
    let mut outcome = run(machine, script, limit);
    // PM2's own runner gives each a second try, too.
    if !outcome.passed && expected == Expected::Passes {
        println!("{script}: once more, after {}", last_words(&outcome.text));
        outcome = run(machine, script, limit);
    }
    let Outcome { passed, text, took } = outcome;
    let verb = if passed { "passed" } else { "failed" };
    println!("{script}: {verb} in {:.1} s: {}", took.as_secs_f32(), last_words(&text));
    if alone {
        println!("{text}");
    }
    match (expected, passed) {
        (Expected::Passes, false) => format!("{script} no longer passes: {}\n{text}\n", last_words(&text)),
        (Expected::Cannot, true) => format!("{script} passes, but pm2_suite.txt says that it cannot: {why}\n"),
        _ => String::new(),
    }
}

#[test]
fn pm2s_own_scripts() {
    if tree().is_some() {
        return skipped("PM2's scripts need this machine's own programs, and say nothing of systemd's releases");
    }
    let Some(first) = boot() else { return };
    let chosen = std::env::var("APPCTL_PM2_SCRIPTS").unwrap_or_default();
    let there = first.ok("cd /srv/pm2/test/e2e && find . -name '[!.]*.sh' ! -name include.sh -printf '%P\\n' | sort");
    let table = table();
    let there: Vec<&str> = there.lines().collect();
    let mut wrong = String::new();
    for script in there.iter().filter(|script| !table.contains_key(*script)) {
        let _ = writeln!(wrong, "{script} is not in pm2_suite.txt");
    }
    for script in table.keys().filter(|script| !there.contains(script)) {
        let _ = writeln!(wrong, "{script} is in pm2_suite.txt, and not among PM2's scripts");
    }
    let mut queue: Vec<_> = table
        .into_iter()
        .filter(|(script, (expected, _))| {
            there.contains(script) && *expected != Expected::Left && script.contains(&chosen)
        })
        .collect();
    // Those that take longest are those that pass: they begin.
    queue.sort_by_key(|(_, (expected, _))| *expected == Expected::Passes);
    let boxes = BOXES.min(queue.len());
    let (queue, wrong) = (Mutex::new(queue), Mutex::new(wrong));
    let work = |machine: &Boxed| {
        loop {
            let next = queue.lock().unwrap().pop();
            let Some((script, expectation)) = next else { break };
            let told = judge(machine, script, expectation, !chosen.is_empty());
            wrong.lock().unwrap().push_str(&told);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..boxes {
            scope.spawn(|| work(&boot().expect("there was one already")));
        }
        work(&first);
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong}");
}
