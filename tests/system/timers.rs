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
}

/// systemd 252 lets a timer that is started again elapse for what is long past.
#[test]
fn the_routers_death_and_a_restart_do_not_repeat_what_was_done() {
    let Some(machine) = start(&format!("reload = \"{NEVER}\"\n")) else { return };
    let soon = machine.ok("date -d '+6 seconds' +%H:%M:%S");
    machine.write(FILE, &file("1", &format!("reload = \"{soon}\"\n")));
    machine.ok("appctl reload app");
    machine.until("the reload of that second", || (acts(&machine, "reload") == 1).then_some(()));
    let next = || machine.property("app-reload.timer", "NextElapseUSecRealtime");
    let rests =
        || machine.property("app-reload.timer", "SubState") == "waiting" && !machine.is_active("app-reload.service");
    machine.until("the reload is done", || (reloads(&machine) == 2 && rests()).then_some(()));
    let tomorrow = next();
    for disturb in
        ["kill -KILL $(systemctl show --value -p MainPID app)", "appctl restart app", "systemctl restart app"]
    {
        let router = machine.main_pid("app.service").unwrap();
        let since = machine.property("app-reload.timer", "ActiveEnterTimestampMonotonic");
        machine.ok(disturb);
        machine.until("another router", || machine.main_pid("app.service").filter(|pid| *pid != router));
        machine.until("the timer was started again", || {
            let other = machine.property("app-reload.timer", "ActiveEnterTimestampMonotonic") != since;
            (other && rests() && next() == tomorrow).then_some(())
        });
        assert_eq!((acts(&machine, "reload"), reloads(&machine)), (1, 2), "after {disturb}");
    }
}

#[test]
fn a_scheduled_act_fails_when_it_fails() {
    let schedule = format!("reload = \"{NEVER}\"\nrestart = [\"30 4 1 1 *\", \"{NEVER}\"]\n");
    let Some(machine) = start(&schedule) else { return };
    assert_eq!(machine.ok("systemctl show -p TimersCalendar app-restart.timer | grep -c OnCalendar="), "2");
    let status = machine.ok("appctl status app");
    assert!(status.contains("next: app-reload.timer at 2099-01-01 00:00:00, in "), "{status}");
    // A broken release.
    machine.write(FILE, &file("2", &schedule).replace("worker.js", "/nowhere.js"));
    let output = machine.shell("systemctl start app-reload.service");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(machine.property("app-reload.service", "Result"), "exit-code");
    let journal = machine.journal("-u app-reload.service");
    assert!(journal.contains("app not reloaded"), "{journal}");
    // The next one gets in; a restart takes addresses too.
    machine.write(FILE, &file("3", &schedule).replace("8080", "8081"));
    machine.ok("systemctl start app-restart.service");
    assert!(machine.ok("curl -sS http://127.0.0.1:8081/who").contains("\"version\":\"3\""));
    assert!(machine.is_active("app-reload.timer") && machine.is_active("app-restart.timer"));
}

#[test]
fn a_timer_lives_with_its_app() {
    let Some(machine) = start(&format!("reload = \"{NEVER}\"\n")) else { return };
    assert!(machine.is_active("app-reload.timer"));
    machine.write(FILE, &file("1", ""));
    machine.ok("appctl reload app");
    assert!(!machine.is_active("app-reload.timer"), "it is not in the file any more");
    assert_eq!(machine.property("app-reload.timer", "LoadState"), "not-found");
    machine.write(FILE, &file("1", &format!("reload = \"{NEVER}\"\n")));
    machine.ok("appctl reload app");
    assert!(machine.is_active("app-reload.timer"));
    // Nor does one stay that a start of what runs has taken away.
    machine.write(FILE, &file("1", ""));
    machine.ok("appctl start app");
    assert_eq!(machine.property("app-reload.timer", "ActiveState"), "inactive", "it is no failure that it is gone");
    machine.write(FILE, &file("1", &format!("reload = \"{NEVER}\"\n")));
    machine.ok("appctl reload app");
    machine.ok("appctl stop app");
    assert_eq!(machine.shell("appctl reload app").status.code(), Some(3), "not running");
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
