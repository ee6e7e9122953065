//! A program that really is older: built of an earlier commit, it serves, the tested one takes its place, and the other way
//! round. (tests/system/upgrade.rs has two builds of the same code.)
//!
//! `APPCTL_TEST_OLDER=PROGRAM[:PROGRAM…]` names such programs; without it this is skipped. One is made by
//! `git worktree add DIRECTORY COMMIT && cargo build --manifest-path DIRECTORY/Cargo.toml`. What the oldest of them say over the
//! sockets and leave to the next router is in tests/fixtures/older, and read by the tests that need none.

use std::path::Path;
use std::process::Output;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::boxed::{Boxed, Options, skipped};
use crate::survival::{
    Witness, lost, next, no_worker_restarted, nothing_established_was_lost, router, settled, status, workers,
};
use crate::upgrade::PROGRAM;

const FILE: &str = "exec = [\"node\", \"worker.js\"]\ndirectory = \"/srv/apps/chat\"\nworkers = 4\nlisten = [\"8080\"]\n\
                    drain = \"500ms\"\n[reload]\nsettle = \"50ms\"\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Older,
    Tested,
}
use Age::{Older, Tested};

impl Age {
    fn path(self) -> &'static str {
        if self == Older { "/srv/older" } else { "/srv/tested" }
    }

    /// As dpkg puts a new file into the place of an old one.
    fn install(self, machine: &Boxed) {
        machine.ok(&format!("cp {} /usr/bin/appctl.new && mv -f /usr/bin/appctl.new /usr/bin/appctl", self.path()));
    }

    /// As a package brings it.
    fn upgrade_to(self, machine: &Boxed) {
        self.install(machine);
        let before = router(machine).unwrap();
        let known = workers(machine);
        // From before there was `appctl upgrade`, this is what it did by hand.
        if self == Older && !machine.shell("appctl upgrade --help").status.success() {
            machine.ok("systemctl daemon-reload");
            kill(before, Signal::SIGTERM).unwrap();
        } else {
            machine.ok("systemctl daemon-reload && appctl upgrade");
        }
        next(machine, before);
        assert_eq!(workers(machine), known, "{self:?}");
    }
}

/// A machine where the older program serves.
fn boot(program: &Path) -> Option<Boxed> {
    let machine = Options::default().replaceable().boot()?;
    let program = std::fs::read(program).unwrap();
    std::fs::write(machine.path(Older.path()), program).unwrap();
    std::fs::write(machine.path(Tested.path()), &*PROGRAM).unwrap();
    machine.ok(&format!("chmod 755 {} {}", Older.path(), Tested.path()));
    machine.write("/etc/appctl/app.toml", FILE);
    Older.install(&machine);
    machine.ok("systemctl daemon-reload");
    machine.start_app("app", 4);
    Some(machine)
}

fn is_standing(machine: &Boxed, what: &str) {
    machine.until(what, || settled(machine));
}

#[test]
fn older_programs() {
    let Some(programs) = std::env::var_os("APPCTL_TEST_OLDER").filter(|programs| !programs.is_empty()) else {
        return skipped("APPCTL_TEST_OLDER names no older program");
    };
    for program in std::env::split_paths(&programs) {
        println!("---- {}", program.display());
        back_and_forth(&program);
        old_and_new_sides(&program);
        commands(&program);
    }
}

/// As `an_upgrade_under_load_loses_nothing` of the same code.
fn back_and_forth(program: &Path) {
    let Some(machine) = boot(program) else { return };
    let witness = Witness::start(&machine, &[]);
    for _ in 0..5 {
        Tested.upgrade_to(&machine);
        Older.upgrade_to(&machine);
    }
    let report = witness.report();
    nothing_established_was_lost(&report);
    assert_eq!((lost(&report), &report["broadcasts"]["lost"], &report["moves"]), (0, &0.into(), &0.into()), "{report}");
    no_worker_restarted(&machine);
}

/// Workers of one program under a router of the other, and beside those of its own: their sessions, their broadcasts.
fn old_and_new_sides(program: &Path) {
    let Some(machine) = boot(program) else { return };
    let mut witness = Witness::start(&machine, &[]);
    for (age, other) in [(Tested, Older), (Older, Tested)] {
        age.upgrade_to(&machine);
        // Beside three of the other age.
        let (slot, _) = workers(&machine).into_iter().next().unwrap();
        witness.turn();
        machine.ok(&format!("systemctl restart app@{slot}.service"));
        is_standing(&machine, "old and new workers serve");
        witness.turn();
        machine.ok("appctl reload app");
        is_standing(&machine, "all workers are replaced");
        // Workers of this router's age, which the other's program replaces.
        other.install(&machine);
        machine.ok("systemctl daemon-reload");
        witness.turn();
        machine.ok("appctl reload app");
        is_standing(&machine, "all workers are replaced by the other program");
        age.install(&machine);
        machine.ok("systemctl daemon-reload");
    }
    // In the middle of a reload.
    for age in [Tested, Older] {
        witness.turn();
        machine.ok("systemctl reload --no-block app.service");
        machine.until("new workers come", || {
            status(&machine)
                .filter(|it| it["workers"].as_array().is_some_and(|all| all.iter().any(|it| it["trial"] == true)))
        });
        age.install(&machine);
        let before = router(&machine).unwrap();
        machine.ok("systemctl daemon-reload");
        kill(before, Signal::SIGTERM).unwrap();
        next(&machine, before);
        is_standing(&machine, "the reload is over");
    }
    let report = witness.report();
    nothing_established_was_lost(&report);
    assert_eq!((&report["lost"], &report["broadcasts"]["lost"]), (&0.into(), &0.into()), "{report}");
    no_worker_restarted(&machine);
}

/// Each age's commands with the other's router.
fn commands(program: &Path) {
    let Some(machine) = boot(program) else { return };
    Tested.install(&machine);
    tested_commands_tell_the_old_router(&machine);
    each_command(&machine, Tested);
    Tested.upgrade_to(&machine);
    Older.install(&machine);
    each_command(&machine, Older);
    // The unit of the other's router, and its state on disk.
    for age in [Older, Tested, Older] {
        age.install(&machine);
        machine.ok("appctl restart app");
        is_standing(&machine, "all workers serve");
        machine.ok("appctl stop app && appctl start app");
        is_standing(&machine, "all workers serve again");
    }
}

fn each_command(machine: &Boxed, age: Age) {
    for (line, said) in [
        ("list", "ready"),
        ("list --json", "\"ready\""),
        ("status app", "4 of 4 workers ready"),
        ("metrics app", "appctl_connections_total"),
        ("check", "app"),
        ("jlist", "\"pid\""),
        ("ping", "pong"),
        ("describe app", "app"),
        ("scale app 5", "5 workers"),
        ("scale app 4", "4 workers"),
        ("stop app@4", "app@4"),
        ("start app@4", "app@4 ready"),
        ("reload app", "app reloaded: 4 new workers"),
        ("restart app@2", "app@2 restarted"),
    ] {
        let output = machine.shell(&format!("appctl {line} 2>&1"));
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        // What the older one has not learnt yet it says.
        let strange = age == Older && is_unknown(&output);
        assert!(strange || (output.status.success() && told.contains(said)), "{age:?}: appctl {line}: {told}");
    }
    is_standing(machine, "all workers serve");
}

fn is_unknown(output: &Output) -> bool {
    let told = String::from_utf8_lossy(&output.stdout);
    output.status.code() == Some(2)
        && (told.contains("unrecognized subcommand") || told.contains("there is no command"))
}

fn tested_commands_tell_the_old_router(machine: &Boxed) {
    let output = machine.shell("appctl upgrade-check --json");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let routers: Vec<_> = told["processes"].as_array().unwrap().iter().filter(|it| it["part"] == "router").collect();
    assert_eq!((output.status.code(), &routers[0]["outdated"]), (Some(1), &true.into()), "{told}");
    let list = machine.ok("appctl list 2>&1");
    assert!(list.contains("app: the router is another build than the installed one: `appctl upgrade`"), "{list}");
}
