//! Upgrades: another build takes the place of `/usr/bin/appctl` as dpkg does it, and `appctl upgrade` follows. Issue 6, line 3.
//!
//! Another release is a copy of the program with another stamp in it (`src/system/stamp.rs`).

use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use crate::boxed::{BINARY, Boxed, Options};
use crate::survival::{
    Witness, boot_with, holdings, lost, no_worker_restarted, nothing_established_was_lost, router, status, workers,
};

/// The built program, without what only a debugger needs.
pub(crate) static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let file = tempfile::NamedTempFile::new().unwrap();
    let stripped = Command::new("strip").args(["--strip-debug", BINARY, "-o"]).arg(file.path()).status();
    let path = if stripped.is_ok_and(|status| status.success()) { file.path() } else { BINARY.as_ref() };
    std::fs::read(path).unwrap()
});

/// A release as the program's file has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release {
    pub(crate) version: &'static str,
    build: &'static str,
    wire: u32,
    record: u32,
}

/// Nothing but their names tells these two apart.
pub(crate) const ONE: Release = Release { version: "0.1.7", build: "1111111111111111", wire: 1, record: 1 };
pub(crate) const OTHER: Release = Release { version: "0.2.0", build: "2222222222222222", wire: 1, record: 1 };

impl Release {
    pub(crate) fn program(self) -> Vec<u8> {
        let mut program = PROGRAM.clone();
        // Not in one piece: the program that tests has none.
        let mark = ["appctl-stamp:", " version=0."].concat();
        let places: Vec<usize> = memchr::memmem::find_iter(&program, mark.as_bytes()).collect();
        assert!(!places.is_empty(), "the program has no stamp");
        for at in places {
            let length = memchr::memmem::find(&program[at..], b" .").unwrap() + 2;
            let Self { version, build, wire, record } = self;
            let line = format!("appctl-stamp: version={version} build={build} wire={wire} record={record} .");
            assert_eq!(line.len(), length, "{line}");
            program[at..at + length].copy_from_slice(line.as_bytes());
        }
        program
    }

    /// Puts it beside the place where it is installed.
    fn bring(self, machine: &Boxed) {
        let path = machine.path(&format!("/srv/{}", self.build));
        std::fs::write(path, self.program()).unwrap();
        machine.ok(&format!("chmod 755 /srv/{}", self.build));
    }

    /// As dpkg puts a new file into the place of an old one, which stays what it is to those who run it.
    fn install(self, machine: &Boxed) {
        machine.ok(&format!(
            "cp /srv/{} /usr/bin/appctl.dpkg-new && mv -f /usr/bin/appctl.dpkg-new /usr/bin/appctl",
            self.build
        ));
        assert_eq!(machine.ok("appctl --version"), format!("appctl {}", self.version));
    }
}

fn boot() -> Option<Boxed> {
    let machine = boot_with(Options::default().replaceable())?;
    for release in [ONE, OTHER] {
        release.bring(&machine);
    }
    Some(machine)
}

/// What `appctl upgrade-check --json` says: its exit code, and the parts that are another build than the installed one.
fn check(machine: &Boxed) -> (i32, Vec<String>) {
    let output = machine.shell("appctl upgrade-check --json");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let processes = told["processes"].as_array().unwrap().iter();
    let outdated = processes.filter(|it| it["outdated"] != false).map(|it| it["part"].as_str().unwrap().to_owned());
    (output.status.code().unwrap(), outdated.collect())
}

#[test]
fn an_upgrade_under_load_loses_nothing() {
    const TIMES: usize = 20;
    let Some(machine) = boot() else { return };
    let known = workers(&machine);
    let witness = Witness::start(&machine, &[]);
    let before = holdings(&machine);
    for time in 0..TIMES {
        let release = [ONE, OTHER][time % 2];
        let old = router(&machine).unwrap();
        release.install(&machine);
        let (code, mut outdated) = check(&machine);
        outdated.dedup();
        assert_eq!((code, outdated), (1, vec!["router".to_owned(), "guard".to_owned()]), "round {time}");
        let told = machine.ok("appctl upgrade 2>&1");
        assert!(told.contains(&format!("→ {}); its workers were not touched", release.version)), "{told}");
        assert_ne!(router(&machine), Some(old));
        let status = status(&machine).unwrap();
        assert_eq!((&status["version"], &status["build"]), (&release.version.into(), &release.build.into()));
        assert_eq!(workers(&machine), known, "round {time}");
        assert_eq!(check(&machine), (0, vec![]), "round {time}");
    }
    assert_eq!(machine.ok("appctl upgrade 2>&1"), "app: nothing to do");
    let report = witness.report();
    nothing_established_was_lost(&report);
    assert_eq!((lost(&report), &report["broadcasts"]["lost"]), (0, &0.into()), "{report}");
    assert_eq!((&report["moves"], &report["dropped"]), (&0.into(), &serde_json::json!([])), "{report}");
    no_worker_restarted(&machine);
    let after = holdings(&machine);
    println!("resident {} → {} kB", before.1, after.1);
}
