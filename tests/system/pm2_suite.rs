//! PM2's own end-to-end scripts, run as they are, with a `pm2` that calls appctl (`pm2.sh`): what a PM2 user relies on works
//! alike, or `pm2_suite.txt` says why not.
//!
//! Nothing of PM2 (AGPL) is in this repository: `tests/run` puts its scripts into `.cache/pm2-e2e`. `APPCTL_PM2_SCRIPTS=WORD`
//! runs those alone whose name contains it, and prints what each says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::boxed::{Boxed, MANIFEST, Options, skipped};

/// What is expected of each script.
const TABLE: &str = include_str!("pm2_suite.txt");
/// How long a script may take, seconds.
const LIMIT: u32 = 150;
/// Those of PM2's files that its scripts need.
const PARTS: [&str; 2] = ["test", "modules"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Passes,
    /// By design.
    Cannot,
    /// It is not run, since it could tell nothing.
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

/// Runs one, and says whether it passed and its last words.
fn run(machine: &Boxed, script: &str) -> (bool, String, Duration) {
    let began = Instant::now();
    let unit = "systemd-run --pipe --wait --quiet --collect -p WorkingDirectory=/srv/pm2 -p KillMode=control-group";
    let output = machine.shell(&format!(
        "{unit} -p RuntimeMaxSec={LIMIT} -E HOME=/root -E PATH=\"$PATH\" bash test/e2e/{script} </dev/null 2>&1"
    ));
    let took = began.elapsed();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // For the next one.
    machine.shell("appctl delete all; rm -rf /root/.pm2 /root/.pm2-dev");
    (output.status.success(), text, took)
}

/// The check that failed, or the last line.
fn last_words(text: &str) -> &str {
    let failed = text.lines().rfind(|line| line.contains("######## "));
    failed.or_else(|| text.lines().rfind(|line| !line.trim().is_empty())).unwrap_or("it said nothing")
}

/// Runs the scripts of one directory.
fn group(directory: &str) {
    let Some(machine) = boot() else { return };
    let chosen = std::env::var("APPCTL_PM2_SCRIPTS").unwrap_or_default();
    let there = machine.ok("cd /srv/pm2/test/e2e && find . -name '[!.]*.sh' ! -name include.sh -printf '%P\\n' | sort");
    let table = table();
    let mut wrong = String::new();
    for script in there.lines().filter(|script| script.split_once('/').map_or("", |(of, _)| of) == directory) {
        if !script.contains(&chosen) {
            continue;
        }
        let Some((expected, why)) = table.get(script) else {
            let _ = writeln!(wrong, "{script} is not in the table");
            continue;
        };
        if *expected == Expected::Left {
            println!("{script}: left out, {why}");
            continue;
        }
        let (mut passed, mut text, mut took) = run(&machine, script);
        // PM2's own runner gives each a second try, too.
        if !passed && *expected == Expected::Passes {
            println!("{script}: once more, after {}", last_words(&text));
            (passed, text, took) = run(&machine, script);
        }
        println!(
            "{script}: {} in {:.1} s: {}",
            if passed { "passed" } else { "failed" },
            took.as_secs_f32(),
            last_words(&text)
        );
        if !chosen.is_empty() {
            println!("{text}");
        }
        match (expected, passed) {
            (Expected::Passes, false) => {
                let _ = writeln!(wrong, "{script} no longer passes: {}\n{text}", last_words(&text));
            }
            (Expected::Cannot, true) => {
                let _ = writeln!(wrong, "{script} passes, but the table says that it cannot: {why}");
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn pm2s_own_scripts_of_commands() {
    group("cli");
}

#[test]
fn pm2s_own_scripts_of_internals() {
    group("internals");
}

#[test]
fn pm2s_own_scripts_of_logs() {
    group("logs");
}

#[test]
fn pm2s_own_scripts_of_this_and_that() {
    group("");
    group("binaries");
    group("misc");
    group("modules");
}

#[test]
fn pm2s_own_scripts_of_files() {
    group("process-file");
}
