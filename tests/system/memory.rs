//! `limits.memory_reload`: issue 3, line 4. Without the kernel's controllers here; `limits.rs` has them.

use crate::boxed::{Boxed, Options};

const FILE: &str = "/etc/appctl/app.toml";

/// What `NAME-memory.service` runs, but it looks more often: a worker has to be two seconds old to be replaced.
const OFTEN: &str = "[Service]\nExecStart=\nExecStart=/usr/bin/appctl memory --limit=150M --every=350ms app\n";

/// Two workers, of which one may use 150M.
fn file(version: &str, program: &str) -> String {
    format!(
        "exec = [\"node\", \"{program}\"]\ndirectory = \"/srv/apps/limits\"\nworkers = 2\nlisten = [\"8080\"]\n\
         drain = \"1s\"\n[reload]\nsettle = \"300ms\"\n[limits]\nmemory_reload = \"150M\"\n[environment]\nVERSION = \"{version}\"\n"
    )
}

/// A release whose workers become ready when `/run/go` is there.
const GATED: &str = "const sleep = new Int32Array(new SharedArrayBuffer(4));
while (!require('fs').existsSync('/run/go')) Atomics.wait(sleep, 0, 0, 20);
require('/srv/apps/limits/app.js');";

fn start() -> Option<Boxed> {
    let machine = Options::default()
        .file(FILE, &file("1", "app.js"))
        .file("/etc/systemd/system/app-memory.service.d/often.conf", OFTEN)
        .file("/opt/gated.js", GATED)
        // Masked: not every machine has polkit, which would help root.
        .file("/etc/systemd/system/polkit.service", "")
        .boot()?;
    machine.ok("appctl start app");
    machine.until("its memory is looked at", || machine.is_active("app-memory.service").then_some(()));
    Some(machine)
}

/// The workers that run: unit and main process.
fn active(machine: &Boxed) -> Vec<(String, u32)> {
    let units = machine.ok("systemctl list-units --no-legend --plain --state=active 'app@*' | cut -d' ' -f1");
    units.lines().map(|unit| (unit.to_owned(), machine.main_pid(unit).unwrap_or(0))).collect()
}

/// One worker takes 200 MiB; the unit of that one.
fn eat(machine: &Boxed) -> String {
    let answer: serde_json::Value =
        serde_json::from_str(&machine.ok("curl -sS 'http://127.0.0.1:8080/eat?n=200'")).unwrap();
    let pid = answer["pid"].as_u64().unwrap();
    active(machine).into_iter().find(|(_, main)| u64::from(*main) == pid).expect("a worker ate").0
}

/// The slot in the name of a worker's unit.
fn slot(unit: &str) -> &str {
    unit.split_once('@').unwrap().1.strip_suffix(".service").unwrap()
}

#[track_caller]
fn two_workers(machine: &Boxed) -> Vec<(String, u32)> {
    machine.until("two workers, and nothing on its way", || {
        let quiet = machine.ok("systemctl list-jobs --no-legend | wc -l") == "0";
        let starting = machine.ok("systemctl list-units --no-legend --state=activating,deactivating 'app@*' | wc -l");
        (quiet && starting == "0" && active(machine).len() == 2).then(|| active(machine))
    })
}

/// The worker that is to replace another has begun to start, and waits.
fn heir_waits(machine: &Boxed) {
    machine.until("the new worker is on its way", || {
        (machine.property("app@3.service", "ActiveState") == "activating"
            && machine.main_pid("app@3.service").is_some())
        .then_some(())
    });
}

/// What the app's part of the journal says.
fn told(machine: &Boxed) -> String {
    machine.journal("-u app.service")
}

/// From here on new workers wait for `/run/go`.
fn gate(machine: &Boxed) {
    machine.write(FILE, &file("2", "/opt/gated.js"));
    machine.ok("systemctl daemon-reload");
}

#[test]
fn a_worker_that_uses_too_much_is_replaced_and_nobody_is_cut_off() {
    let Some(machine) = start() else { return };
    let before = active(&machine);
    let large = eat(&machine);
    let line = format!("worker {} uses 2", slot(&large));
    machine.until("it is told", || {
        // Requests all the while: none fails.
        let result = machine.drive("requests.js", &["http://127.0.0.1:8080/who", "--count", "40", "--width", "2"]);
        let answers = result["answers"].as_object().unwrap();
        let fine = answers.iter().filter(|(answer, _)| answer.starts_with("200 "));
        assert_eq!(fine.map(|(_, count)| count.as_u64().unwrap()).sum::<u64>(), 40, "{result}");
        (machine.property(&large, "ActiveState") == "inactive").then_some(())
    });
    let journal = told(&machine);
    let line = journal.lines().find(|told| told.contains(&line) && told.ends_with("replacing it"));
    assert!(line.is_some_and(|line| line.contains("M, more than limits.memory_reload = 150M: ")), "{journal}");
    let after = two_workers(&machine);
    // The other one is the same, and the new one is in the free slot with the index of the old one.
    let (other, _) = before.iter().find(|(unit, _)| *unit != large).unwrap();
    assert!(after.contains(before.iter().find(|(unit, _)| unit == other).unwrap()), "{before:?} {after:?}");
    assert!(after.iter().any(|(unit, _)| unit == "app@3.service"), "{after:?}");
    let status: serde_json::Value = serde_json::from_str(&machine.ok("appctl status app --json")).unwrap();
    let workers = status[0]["status"]["workers"].as_array().unwrap();
    let heir = workers.iter().find(|worker| worker["slot"] == "3").unwrap();
    assert_eq!(heir["index"].as_u64().unwrap() + 1, slot(&large).parse::<u64>().unwrap(), "{status}");
    assert_eq!(heir["trial"], false, "{status}");
    assert_eq!(machine.property(&large, "Result"), "success");
    assert_eq!(machine.ok("systemctl --failed --no-legend | wc -l"), "0");
}

#[test]
fn one_that_is_always_too_large_is_told_once_and_not_replaced_in_a_loop() {
    let Some(machine) = start() else { return };
    machine.write(FILE, &(file("1", "app.js") + "LEAK = \"200\"\n"));
    machine.ok("systemctl daemon-reload && appctl restart app");
    let replaced = |journal: &str| journal.matches(": replacing it").count();
    machine.until("both are replaced, one of them twice", || (replaced(&told(&machine)) >= 3).then_some(()));
    machine.ok("appctl stop app");
    let journal = told(&machine);
    for index in [1, 2] {
        let early = format!("worker {index} uses");
        let early = journal.lines().filter(|line| line.contains(&early) && line.contains("so soon after its start"));
        assert_eq!(early.count(), 1, "{journal}");
    }
    assert!(journal.contains("Is the limit too low?"), "{journal}");
}

#[test]
fn a_new_worker_that_does_not_stand_leaves_the_old_one() {
    let Some(machine) = start() else { return };
    machine.write("/opt/throws.js", "throw new Error('there is no such module')");
    machine.write(FILE, &file("2", "/opt/throws.js"));
    machine.ok("systemctl daemon-reload");
    let before = active(&machine);
    let large = eat(&machine);
    let failed = format!("worker {} is not replaced, and serves on: app@3 did not become ready", slot(&large));
    machine.until("it is told", || told(&machine).contains(&failed).then_some(()));
    let journal = told(&machine);
    assert!(journal.contains("  | Error: there is no such module"), "{journal}");
    assert!(journal.contains("; the next try is in 2s100ms"), "{journal}");
    assert_eq!(two_workers(&machine), before);
    machine.ok("curl -sS http://127.0.0.1:8080/who");
    // A later try finds code that works.
    machine.write(FILE, &file("3", "app.js"));
    machine.ok("systemctl daemon-reload");
    machine.until("it is replaced", || (machine.property(&large, "ActiveState") == "inactive").then_some(()));
    assert_eq!(two_workers(&machine).len(), 2);
    assert_eq!(machine.ok("systemctl --failed --no-legend | wc -l"), "0");
}

#[test]
fn stop_and_restart_during_a_replacement() {
    let Some(machine) = start() else { return };
    gate(&machine);
    eat(&machine);
    heir_waits(&machine);
    machine.ok("systemctl stop app");
    machine.until("all has stopped", || (machine.ok("systemctl list-jobs --no-legend | wc -l") == "0").then_some(()));
    let units = machine
        .ok("systemctl list-units --all --no-legend --plain 'app@*' app.service 'app-*' | awk '{ print $1, $3 }'");
    assert!(units.lines().all(|line| line.ends_with(" inactive")), "{units}");
    assert_eq!(machine.ok("ps -e -o args= | grep -c '[a]pp.js\\|[g]ated.js\\|[a]ppctl mem' || true"), "0");

    for command in ["systemctl restart app", "appctl restart app"] {
        machine.write(FILE, &file("1", "app.js"));
        machine.ok("rm -f /run/go; systemctl daemon-reload && appctl restart app");
        gate(&machine);
        eat(&machine);
        heir_waits(&machine);
        machine.write("/run/go", "");
        machine.ok(command);
        let workers = two_workers(&machine);
        assert!(workers.iter().all(|(unit, _)| unit != "app@3.service"), "{command}: {workers:?}");
        assert!(machine.ok("curl -sS http://127.0.0.1:8080/who").contains("\"version\":\"2\""));
    }
}

#[test]
fn a_reload_waits_for_a_replacement_and_makes_the_next_one_superfluous() {
    let Some(machine) = start() else { return };
    gate(&machine);
    eat(&machine);
    heir_waits(&machine);
    machine.ok("systemctl reload --no-block app");
    let waits = "app: a worker is being replaced, the reload comes after that";
    machine.until("the reload waits", || told(&machine).contains(waits).then_some(()));
    machine.write("/run/go", "");
    machine.until("the reload is done", || told(&machine).contains("app reloaded: 2 new workers").then_some(()));
    let workers = two_workers(&machine);
    assert!(workers.iter().all(|(_, pid)| machine.ok(&format!("grep -z VERSION= /proc/{pid}/environ")).contains('2')));

    // And the other way round.
    machine.ok("rm /run/go");
    machine.ok("systemctl reload --no-block app");
    machine.until("the reload is under way", || {
        (machine.ok("systemctl list-units --no-legend --state=activating 'app@*' | wc -l") == "1").then_some(())
    });
    let tried = told(&machine).matches(": replacing it").count();
    eat(&machine);
    // Long enough for the memory to be looked at several times.
    machine.ok("sleep 4");
    assert_eq!(told(&machine).matches(": replacing it").count(), tried);
    machine.write("/run/go", "");
    machine.until("the reload is done", || (told(&machine).matches("app reloaded: ").count() == 2).then_some(()));
    two_workers(&machine);
    assert_eq!(told(&machine).matches(": replacing it").count(), tried, "it was no more there to be replaced");
}

#[test]
fn what_dies_during_a_replacement_leaves_two_workers() {
    let Some(machine) = start() else { return };
    for who in ["app.service", "app-memory.service"] {
        machine.ok("rm -f /run/go");
        gate(&machine);
        let large = eat(&machine);
        machine.until("a new worker is on its way", || {
            (machine.ok("systemctl list-units --no-legend --state=activating 'app@*' | wc -l") == "1").then_some(())
        });
        let pid = machine.main_pid(who).unwrap();
        machine.ok(&format!("kill -9 {pid}"));
        machine.until("the next one is there", || {
            (machine.is_active(who) && machine.main_pid(who).is_some_and(|next| next != pid)).then_some(())
        });
        machine.write("/run/go", "");
        machine.until("it is replaced after all", || {
            (machine.property(&large, "ActiveState") == "inactive").then_some(())
        });
        let workers = two_workers(&machine);
        let status: serde_json::Value = serde_json::from_str(&machine.ok("appctl status app --json")).unwrap();
        let mut indices: Vec<_> =
            status[0]["status"]["workers"].as_array().unwrap().iter().map(|it| it["index"].clone()).collect();
        indices.sort_by_key(serde_json::Value::as_u64);
        assert_eq!(indices, [0, 1], "{who}: {workers:?} {status}");
        machine.write(FILE, &file("1", "app.js"));
        machine.ok("systemctl daemon-reload && appctl reload app");
    }
}

#[test]
fn users_workers_are_replaced_as_well() {
    let often = OFTEN.replace("appctl memory", "appctl --user memory");
    let boot = Options::default()
        .file("/root/.config/appctl/app.toml", &file("1", "app.js"))
        .file("/root/.config/systemd/user/app-memory.service.d/often.conf", &often)
        .boot();
    let Some(machine) = boot else { return };
    if !machine.shell("systemctl start user@0.service").status.success() {
        crate::boxed::skipped("user@0.service does not start in the box; install libpam-systemd and dbus-user-session");
        return;
    }
    let user = |line: &str| machine.ok(&format!("XDG_RUNTIME_DIR=/run/user/0 {line}"));
    user("appctl --user start app");
    machine.ok("curl -sS 'http://127.0.0.1:8080/eat?n=200'");
    machine.until("a worker is replaced", || {
        (user("systemctl --user show --value -p ActiveState app@3.service") == "active").then_some(())
    });
    machine.until("the old one is gone", || {
        (user("systemctl --user list-units --no-legend --state=active 'app@*' | wc -l") == "2").then_some(())
    });
    assert!(machine.journal("").contains("more than limits.memory_reload = 150M: replacing it"));
}
