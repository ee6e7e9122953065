//! Reloads that are cut short, and what they leave behind: issue 3, line 8; and a release that is on hold, line 2.

use std::process::Child;

use serde_json::Value;

use crate::boxed::{Boxed, Options};
use crate::reload::{FILE, Load, active, background, code, file, indices, start, text};

/// Waits for its gate to open; the worker of index 0 does not.
const GATED: &str = "const sleep = new Int32Array(new SharedArrayBuffer(4));
const gate = process.env.NODE_APP_INSTANCE === '0' ? '/run/gate0' : '/run/gate';
while (require('fs').existsSync(gate)) Atomics.wait(sleep, 0, 0, 20);
require('/srv/apps/chat/worker.js');";

/// A release whose workers do not become ready while their gate is there.
fn gated(workers: u32, version: &str, more: &str) -> String {
    file(workers, version, more).replace("worker.js", "/opt/gated.js")
}

fn close(machine: &Boxed, gates: &[&str]) {
    machine.write("/opt/gated.js", GATED);
    for gate in gates {
        machine.write(&format!("/run/{gate}"), "");
    }
}

/// A reload with a worker in `slot` that waits for its gate.
fn reload_until_slot(machine: &Boxed, command: &str, slot: u32) -> Child {
    let child = background(machine, command);
    let unit = format!("app@{slot}.service");
    machine.until("the new worker is on its way", || {
        (machine.property(&unit, "ActiveState") == "activating" && machine.main_pid(&unit).is_some()).then_some(())
    });
    child
}

fn status(machine: &Boxed) -> Value {
    let status: Value = serde_json::from_str(&machine.ok("appctl status app --json")).unwrap();
    status[0].clone()
}

/// `VERSION` of each worker that runs, by unit.
fn versions(machine: &Boxed) -> Vec<(String, String)> {
    let version = |pid| machine.ok(&format!("tr '\\0' '\\n' </proc/{pid}/environ | sed -n s/^VERSION=//p"));
    active(machine).into_iter().map(|(unit, pid)| (unit, version(pid))).collect()
}

/// Both workers run that version.
#[track_caller]
fn both_are(machine: &Boxed, wanted: &str) {
    let versions = versions(machine);
    assert!(versions.len() == 2 && versions.iter().all(|(_, version)| version == wanted), "{wanted}: {versions:?}");
}

/// So many workers of index 0…N−1, all of them ready, none of them anything else, and no job waits.
#[track_caller]
fn all_is_well(machine: &Boxed, workers: usize) {
    machine.until("no job is left", || (machine.ok("systemctl list-jobs --no-legend | wc -l") == "0").then_some(()));
    machine.until("the router knows them all", || (indices(machine).len() == workers).then_some(()));
    let now = status(machine);
    let units: Vec<(&str, u64)> = now["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| (worker["state"].as_str().unwrap(), worker["index"].as_u64().unwrap_or(99)))
        .collect();
    assert_eq!(units.len(), workers, "{now}");
    assert!(units.iter().all(|(state, _)| *state == "ready"), "{now}");
    let trials = now["status"]["workers"].as_array().unwrap().iter().filter(|it| it["trial"] != false).count();
    assert_eq!(trials, 0, "{now}");
    assert_eq!(
        indices(machine).iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        (0..workers as u64).collect::<Vec<_>>()
    );
    assert_eq!(machine.ok("systemctl --failed --no-legend | wc -l"), "0");
}

fn killed_machine(orderly: bool) {
    let small = file(1, "small", "").replace("8080", "8081");
    let options = Options::default().multi_user().file(FILE, &file(3, "1", ""));
    let Some(mut machine) = options.file("/etc/appctl/small.toml", &small).boot() else { return };
    machine.until("all come up at boot", || (active(&machine).len() == 3).then_some(()));
    machine.ok("appctl scale small 2");
    // The first one is replaced, the second one on trial.
    close(&machine, &["gate"]);
    machine.write(FILE, &gated(3, "2", ""));
    let mut reload = reload_until_slot(&machine, "systemctl reload app", 1);
    let now = status(&machine);
    assert_eq!(now["reload"]["replaced"], serde_json::json!(["4"]), "{now}");
    let told = machine.ok("appctl status app");
    assert!(told.contains("reload: under way, 1 of 3 replaced"), "{told}");
    if orderly {
        machine.reboot();
    } else {
        machine.power_loss();
    }
    let _ = reload.wait();
    machine.until("all come up at boot", || (active(&machine).len() == 3).then_some(()));
    let slots = ["1", "2", "3"].map(|slot| (format!("app@{slot}.service"), "2".to_owned()));
    assert_eq!(versions(&machine), slots, "the file as it is, and the first slots");
    all_is_well(&machine, 3);
    let now = status(&machine);
    assert_eq!((&now["reload"], &now["on_hold"]), (&Value::Null, &Value::Bool(false)), "{now}");
    machine.until("scale lasts", || {
        let units = machine.ok("systemctl list-units --no-legend --plain --state=active 'small@*' | wc -l");
        (units == "2").then_some(())
    });
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    all_is_well(&machine, 3);
}

#[test]
fn a_reboot_during_a_reload_starts_what_the_file_says() {
    killed_machine(true);
}

#[test]
fn a_loss_of_power_during_a_reload_starts_what_the_file_says() {
    killed_machine(false);
}

/// SIGKILL for the process of the reload.
fn kill_the_reload(machine: &Boxed) {
    let process = machine.property("app.service", "ControlPID");
    assert_ne!(process, "0");
    machine.ok(&format!("kill -9 {process}"));
}

/// What a killed reload says, and that another one works.
#[track_caller]
fn killed(machine: &Boxed, reload: Child, left: &str) {
    let output = reload.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}", text(&output));
    let told = text(&output);
    assert!(told.contains("app not reloaded: its process was killed") && told.contains(left), "{told}");
    all_is_well(machine, 2);
    let told = machine.ok("appctl status app");
    assert!(told.contains("the last one failed") && told.contains("its process was killed"), "{told}");
}

#[test]
fn a_reload_that_is_killed_leaves_no_worker_on_trial() {
    let Some(machine) = start(2) else { return };
    let mut load = Load::start(&machine, &["--each", "3"]);
    let nothing_happened = |load: &mut Load| {
        let report = load.report();
        Load::nothing_failed(&report);
        assert!(report["most_drops"].as_u64().is_none_or(|drops| drops <= 1), "{report}");
    };
    let before = active(&machine);
    // A new worker starts.
    close(&machine, &["gate0", "gate"]);
    machine.write(FILE, &gated(2, "2", ""));
    let reload = reload_until_slot(&machine, "appctl reload app", 3);
    kill_the_reload(&machine);
    killed(&machine, reload, "nothing changed, the old workers serve on");
    assert_eq!(active(&machine), before);
    nothing_happened(&mut load);

    // It is ready, and has yet to stand for a while.
    machine.write(FILE, &file(2, "3", "").replace("500ms", "10min"));
    let reload = background(&machine, "appctl reload app");
    machine.until("it is on trial", || machine.ok("appctl list").contains("on trial").then_some(()));
    kill_the_reload(&machine);
    killed(&machine, reload, "nothing changed, the old workers serve on");
    assert_eq!(active(&machine), before);
    nothing_happened(&mut load);

    // One is replaced, the second one starts.
    machine.ok("rm /run/gate0");
    machine.write(FILE, &gated(2, "4", ""));
    let reload = reload_until_slot(&machine, "appctl reload app", 1);
    kill_the_reload(&machine);
    killed(&machine, reload, "new and staying: app@3; old and serving on: app@2");
    assert_eq!(
        versions(&machine),
        [("app@2.service".to_owned(), "1".to_owned()), ("app@3.service".to_owned(), "4".to_owned())]
    );
    nothing_happened(&mut load);

    // The next one finishes it, and an old one that is slow to go is killed with the reload that waits for it.
    machine.write(
        "/opt/slow.js",
        "process.on('SIGTERM', () => setTimeout(() => process.exit(0), 3000));\nrequire('/srv/apps/chat/worker.js');",
    );
    machine.write(FILE, &file(2, "5", "").replace("worker.js", "/opt/slow.js"));
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    let told = machine.ok("appctl status app");
    assert!(!told.contains("the last one failed"), "{told}");
    nothing_happened(&mut load);
    machine.write(FILE, &file(2, "6", ""));
    let reload = background(&machine, "appctl reload app");
    machine.until("the first old one stops", || {
        let stopping = machine.ok("systemctl list-units --all --no-legend --plain --state=deactivating 'app@*'");
        (!stopping.is_empty()).then_some(())
    });
    kill_the_reload(&machine);
    killed(&machine, reload, "new and staying: app@");
    let mut left: Vec<String> = versions(&machine).into_iter().map(|(_, version)| version).collect();
    left.sort();
    assert_eq!(left, ["5", "6"]);
    nothing_happened(&mut load);
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    all_is_well(&machine, 2);
    both_are(&machine, "6");
    nothing_happened(&mut load);
}

#[test]
fn a_reload_and_a_router_that_are_killed_together_leave_no_worker_on_trial() {
    let Some(machine) = start(2) else { return };
    let before = active(&machine);
    close(&machine, &["gate0", "gate"]);
    machine.write(FILE, &gated(2, "2", ""));
    let reload = reload_until_slot(&machine, "appctl reload app", 3);
    let router = machine.main_pid("app.service");
    machine.ok("systemctl kill --signal=KILL app.service");
    let output = reload.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}", text(&output));
    machine.until("the next router is there", || {
        (machine.is_active("app.service") && machine.main_pid("app.service") != router).then_some(())
    });
    machine.until("the file is on hold", || (status(&machine)["on_hold"] == true).then_some(()));
    all_is_well(&machine, 2);
    assert_eq!(active(&machine), before);
    machine.ok("rm /run/gate /run/gate0");
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    all_is_well(&machine, 2);
}

#[test]
fn an_abort_is_of_the_reloads_that_wait_as_well() {
    let Some(machine) = start(2) else { return };
    let before = active(&machine);
    let told = machine.shell("appctl reload --abort app");
    assert!(code(&told) == 1 && text(&told).contains("no reload of app is under way"), "{}", text(&told));
    close(&machine, &["gate0", "gate"]);
    machine.write(FILE, &gated(2, "2", ""));
    let first = reload_until_slot(&machine, "appctl reload app", 3);
    let second = background(&machine, "systemctl reload app");
    let waits = || machine.ok("systemctl list-jobs --no-legend").contains("waiting");
    machine.until("the second one waits", || waits().then_some(()));
    let told = machine.shell("appctl reload --abort app");
    assert_eq!(code(&told), 0, "{}", text(&told));
    assert!(text(&told).contains("is stopped, and the one that waited is cancelled"), "{}", text(&told));
    assert!(text(&told).contains("is on hold"), "{}", text(&told));
    for child in [first, second] {
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 1, "{}", text(&output));
    }
    all_is_well(&machine, 2);
    assert_eq!(active(&machine), before);
    let journal = machine.journal("-u app.service MESSAGE_ID=5f0e6a1d0c8b4e0a9d6b0f6a4a3f7c21");
    assert_eq!(journal.matches("workers to replace").count(), 1, "no second one began: {journal}");
    assert!(journal.contains("it was told to stop"), "{journal}");

    // Ctrl-C ends the watching, also of one that waits.
    let first = reload_until_slot(&machine, "appctl reload app", 3);
    let second = background(&machine, "appctl reload app");
    machine.until("the second one waits", || waits().then_some(()));
    machine.ok("kill -INT $(pgrep -nf '^appctl reload app$')");
    let output = second.wait_with_output().unwrap();
    assert!(code(&output) == 130 && text(&output).contains("the reload goes on"), "{}", text(&output));
    assert!(waits(), "it still does");
    machine.ok("rm /run/gate /run/gate0");
    assert_eq!(code(&first.wait_with_output().unwrap()), 0);
    all_is_well(&machine, 2);
    let journal = machine.journal("-u app.service");
    assert_eq!(journal.matches("app reloaded: 2 new workers").count(), 2, "{journal}");
}

/// Kills a worker, and waits for the next one in its place.
fn crash(machine: &Boxed, unit: &str) {
    let pid = machine.main_pid(unit).unwrap();
    machine.ok(&format!("kill -9 {pid}"));
    machine.until("it is started again", || {
        (machine.is_active(unit) && machine.main_pid(unit).is_some_and(|now| now != pid)).then_some(())
    });
}

#[test]
fn a_release_that_failed_is_on_hold() {
    let Some(machine) = start(2) else { return };
    let all_old = |workers: usize| {
        let versions = versions(&machine);
        assert!(versions.len() == workers && versions.iter().all(|(_, version)| version == "1"), "{versions:?}");
    };
    machine.write("/opt/throws.js", "throw new Error('no')");
    let broken = file(4, "2", "").replace("worker.js", "/opt/throws.js");
    machine.write(FILE, &broken);
    let output = machine.shell("appctl reload app");
    assert!(code(&output) == 1 && text(&output).contains("/etc/appctl/app.toml is on hold"), "{}", text(&output));
    assert_eq!(status(&machine)["status"]["workers_wanted"], 2);
    all_is_well(&machine, 2);
    // A worker that dies is started as it was, whoever has systemd read all units again meanwhile.
    crash(&machine, "app@1.service");
    all_old(2);
    machine.ok("systemctl daemon-reload");
    crash(&machine, "app@2.service");
    all_old(2);
    let told = machine.ok("appctl status app");
    for words in ["the last one failed", "app@3 did not become ready", "/etc/appctl/app.toml, on hold", "Mend it"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(text(&machine.shell("appctl list")).contains("app.toml is on hold"));
    let description = machine.property("app@1.service", "Description");
    assert!(description.contains("its file is on hold: appctl status app"), "{description}");

    // One worker more, and one less, of those that work.
    machine.ok("appctl scale app +1");
    all_is_well(&machine, 3);
    all_old(3);
    assert_eq!(machine.ok(&format!("cat {FILE}")), broken.replace("workers = 4", "workers = 3").trim_end());
    machine.ok("appctl scale app 2 && appctl restart app@1");
    all_is_well(&machine, 2);
    all_old(2);
    // A mistake on top of it, and a router that dies.
    machine.write(FILE, "[[[");
    assert_eq!(code(&machine.shell("systemctl reload app")), 1);
    let router = machine.main_pid("app.service");
    machine.ok(&format!("kill -9 {}", router.unwrap()));
    machine.until("the next router is there", || {
        (machine.is_active("app.service") && machine.main_pid("app.service") != router).then_some(())
    });
    crash(&machine, "app@1.service");
    all_old(2);
    // It is tried again, and fails again.
    machine.write(FILE, &broken);
    assert_eq!(code(&machine.shell("systemctl reload app")), 1);
    assert_eq!(status(&machine)["on_hold"], true);
    crash(&machine, "app@1.service");
    all_old(2);

    // Mended.
    machine.write(FILE, &file(2, "3", ""));
    let output = machine.shell("appctl reload app");
    assert_eq!(code(&output), 0, "{}", text(&output));
    let now = status(&machine);
    assert_eq!((&now["on_hold"], &now["reload"]["state"]), (&Value::Bool(false), &Value::from("done")), "{now}");
    assert_eq!(machine.property("app.service", "Description"), "app: router");
    both_are(&machine, "3");

    // A restart starts what the file says, good or not.
    machine.write(FILE, &broken);
    assert_eq!(code(&machine.shell("systemctl reload app")), 1);
    assert_eq!(status(&machine)["on_hold"], true);
    let output = machine.shell("appctl restart app");
    assert!(code(&output) == 1 && text(&output).contains("Error: no"), "{}", text(&output));
    let now = status(&machine);
    assert_eq!((&now["on_hold"], &now["reload"]), (&Value::Bool(false), &Value::Null), "{now}");
}

/// Whatever comes, whenever it comes.
#[test]
fn a_reload_may_be_cut_short_at_any_moment() {
    let rounds: u64 = std::env::var("ROUNDS").map_or(4, |rounds| rounds.parse().unwrap());
    let Some(machine) = start(2) else { return };
    machine.write("/opt/throws.js", "setTimeout(() => { throw new Error('no'); }, 100)");
    let cuts = [
        "systemctl kill --kill-whom=control --signal=KILL app || true",
        "systemctl stop app",
        "appctl reload --abort app || true",
        "systemctl kill --kill-whom=main --signal=KILL app",
        "systemctl restart app",
        "systemctl kill --signal=KILL app",
        "appctl restart app || true",
        "systemctl daemon-reload",
    ];
    let mut random = u64::from(std::process::id()) | 1;
    for round in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let good = random & 1 == 0;
        // While it runs, mostly.
        let delay = (random >> 8) % if good { 1800 } else { 900 };
        let cut = cuts[usize::try_from(round + u64::from(std::process::id())).unwrap() % cuts.len()];
        let release = file(2, &format!("r{round}"), "").replace("500ms", "200ms");
        machine.write(FILE, &if good { release } else { release.replace("worker.js", "/opt/throws.js") });
        let mut reload = background(&machine, "systemctl reload app");
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let over = reload.try_wait().unwrap();
        println!(
            "{:?} round {round}: good {good}, after {delay} ms ({over:?}): {cut}",
            std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
        );
        machine.ok(cut);
        let output = reload.wait_with_output().unwrap();
        println!("  {} {}", code(&output), text(&output).trim());
        machine
            .until("no job is left", || (machine.ok("systemctl list-jobs --no-legend | wc -l") == "0").then_some(()));
        if cut.ends_with("stop app") {
            crate::reload::all_is_quiet(&machine);
        } else if good || !cut.contains("restart") {
            machine.until("the router is there", || machine.is_active("app.service").then_some(()));
            all_is_well(&machine, 2);
        }
        // A good one is taken from any state.
        machine.write(FILE, &file(2, &format!("g{round}"), "").replace("500ms", "50ms"));
        machine.ok("appctl start app || true");
        let output = machine.shell("appctl reload app");
        assert_eq!(code(&output), 0, "{}", text(&output));
        all_is_well(&machine, 2);
        both_are(&machine, &format!("g{round}"));
        assert_eq!(status(&machine)["on_hold"], false);
    }
}

#[test]
fn what_a_dead_router_was_told_is_not_for_the_next_one() {
    let Some(machine) = start(1) else { return };
    let router = machine.main_pid("app.service").unwrap();
    // It does not come to read it: the request waits in the socket.
    machine.ok(&format!("kill -STOP {router}"));
    let curl = "curl -sS --max-time 1 --unix-socket /run/appctl/app/control -X POST";
    assert!(!machine.shell(&format!("{curl} http://localhost/v1/stopping/{router}")).status.success());
    machine.ok(&format!("kill -9 {router}"));
    machine.until("the next router is there", || {
        (machine.is_active("app.service") && machine.main_pid("app.service") != Some(router)).then_some(())
    });
    crash(&machine, "app@1.service");
    all_is_well(&machine, 1);
}
