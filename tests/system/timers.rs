//! `[schedule]`: an app that is reloaded and restarted by the clock.

use crate::boxed::{Boxed, Options};

/// `app.toml` of the test worker, with what a test wants to add.
fn file(version: &str, schedule: &str) -> String {
    format!(
        "exec = [\"node\", \"worker.js\"]\ndirectory = \"/srv/apps/chat\"\nworkers = 1\nlisten = [\"8080\"]\ndrain = \"0\"\n\
         [reload]\nsettle = \"100ms\"\n[environment]\nVERSION = \"{version}\"\n[schedule]\n{schedule}"
    )
}

const FILE: &str = "/etc/appctl/app.toml";
const OFTEN: &str = "*:*:0/5";
/// Not while this test lives.
const NEVER: &str = "2099-01-01";

fn start(schedule: &str) -> Option<Boxed> {
    let machine = Options::default().file(FILE, &file("1", schedule)).boot()?;
    machine.ok("appctl start app");
    Some(machine)
}

/// How often the app was reloaded.
fn reloads(machine: &Boxed) -> usize {
    machine.journal("APP=app ROLLOUT=done").lines().count()
}

/// How often a scheduled act of the app was begun.
fn acts(machine: &Boxed, act: &str) -> usize {
    let wanted = format!("scheduled {act} of app");
    machine.journal(&format!("-u app-{act}.service")).lines().filter(|line| *line == wanted).count()
}

#[test]
fn a_scheduled_reload_and_a_scheduled_restart_happen() {
    let Some(machine) = start(&format!("reload = \"{OFTEN}\"\n")) else { return };
    let router = machine.main_pid("app.service");
    machine.until("two reloads by the clock", || (reloads(&machine) >= 2).then_some(()));
    assert_eq!(machine.main_pid("app.service"), router, "a reload leaves the router alone");

    machine.write(FILE, &file("1", &format!("restart = \"{OFTEN}\"\n")));
    machine.ok("appctl reload app");
    machine.until("a restart by the clock", || machine.main_pid("app.service").filter(|pid| Some(*pid) != router));
    assert!(!machine.is_active("app-reload.timer"), "it is not in the file any more");
    assert_eq!(machine.property("app-reload.timer", "LoadState"), "not-found");
}

#[test]
fn a_timer_lives_with_its_app_and_outlives_the_routers_death() {
    let Some(machine) = start(&format!("reload = \"{NEVER}\"\n")) else { return };
    assert!(machine.is_active("app-reload.timer"));
    let router = machine.main_pid("app.service").unwrap();
    machine.ok(&format!("kill -KILL {router}"));
    machine.until("another router", || machine.main_pid("app.service").filter(|pid| *pid != router));
    machine.until("the timer is back", || machine.is_active("app-reload.timer").then_some(()));
    assert_eq!(acts(&machine, "reload"), 0);

    machine.ok("appctl stop app");
    assert!(!machine.is_active("app-reload.timer"), "a stopped app is not reloaded");
    machine.ok("appctl start app");
    assert!(machine.is_active("app-reload.timer"));
    machine.ok("systemctl stop app.service");
    assert!(!machine.is_active("app-reload.timer"), "nor one that systemctl stopped");
    let output =
        machine.ok("systemctl start app-reload.service; journalctl --sync; journalctl -o cat -u app-reload.service");
    assert!(output.contains("app does not run"), "{output}");

    machine.ok("appctl start app; appctl delete app");
    let left = machine.ok("systemctl list-units --all --no-legend --plain 'app*' | cut -d' ' -f1");
    assert_eq!(left, "", "deleted is deleted");
}
