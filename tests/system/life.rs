//! An unprivileged user's apps, from the first start to the last trace: issue 6, line 4.

use crate::boxed::{Boxed, Options, skipped};
use crate::upgrade::{ONE, OTHER};

const APP: &str = "require('http').createServer((q, r) => r.end(String(process.pid))).listen(3000);
                   console.log('worker', process.env.NODE_APP_INSTANCE, 'starts');";

/// As in a login: a session of systemd-logind's, which ends with the command.
#[track_caller]
fn alice(machine: &Boxed, line: &str) -> String {
    let output = machine.command("runuser").args(["-l", "alice", "-c", line]).output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {}\n{text}{error}", output.status);
    format!("{text}{error}").trim_end().to_owned()
}

/// The process that answers.
fn answer(machine: &Boxed) -> Option<String> {
    let output = machine.shell("curl -sf -m 20 http://127.0.0.1:8090/");
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn all_of(machine: &Boxed) -> String {
    alice(machine, "find . \"$XDG_RUNTIME_DIR\" -path '*/inaccessible' -prune -o -iname '*app*' -print | sort")
}

#[test]
fn a_users_whole_life_without_root() {
    // journald keeps a journal for each user only on disk.
    let journal = "[Journal]\nStorage=persistent\n";
    let options = Options::default().multi_user().replaceable().file("/srv/app.js", APP);
    let Some(mut machine) = options.file("/etc/systemd/journald.conf.d/later.conf", journal).boot() else { return };
    if !machine.shell("systemctl start systemd-logind && test -e /usr/lib/*/security/pam_systemd.so").status.success() {
        return skipped("systemd-logind does not run in the box; install libpam-systemd and dbus-user-session");
    }
    machine.ok("useradd --create-home --shell /bin/bash alice && install -o alice /srv/app.js /home/alice/app.js");
    for release in [ONE, OTHER] {
        release.bring(&machine);
    }
    ONE.install(&machine);

    // ---- the first start, by somebody who logs out again
    let told = alice(&machine, "appctl start app.js -i 2 --listen 8090");
    assert!(told.contains("It ends when you log out; `appctl start --linger` or `loginctl enable-linger`"), "{told}");
    assert!(answer(&machine).is_some());
    let user = "systemctl show -P ActiveState user@$(id -u alice).service";
    machine.until("the user's manager is gone", || (machine.ok(user).trim() == "inactive").then_some(()));
    assert_eq!(answer(&machine), None, "lingering is off");

    // ---- and by one who reads what is said
    let told = alice(&machine, "appctl start --linger app");
    assert!(told.contains("Your own apps run on when you log out, and start at boot"), "{told}");
    assert!(!told.contains("It ends when you log out"), "{told}");
    let list = alice(&machine, "appctl list");
    assert_eq!(list.matches(" ready ").count(), 2, "{list}");
    for line in ["journalctl -q --user -u app@1 -o cat", "appctl logs app@1"] {
        let log = alice(&machine, line);
        assert!(log.contains("worker 0 starts"), "{line}: {log}");
    }
    assert!(alice(&machine, "journalctl -q --user -u app -o cat").contains("worker 1 (pid "));

    // ---- changes
    alice(&machine, "appctl reload app && appctl scale app 3");
    let list = alice(&machine, "appctl list");
    assert_eq!(list.matches(" ready ").count(), 3, "{list}");
    let before = alice(&machine, "appctl pid app");
    OTHER.install(&machine);
    let system = machine.ok("appctl upgrade 2>&1");
    assert!(system.contains("Apps of their own have: alice. Each of them says `appctl --user upgrade`"), "{system}");
    let list = alice(&machine, "appctl list");
    assert!(
        list.contains("app: the router is another build than the installed one: `appctl --user upgrade`"),
        "{list}"
    );
    let upgraded = alice(&machine, "appctl upgrade && appctl upgrade-check");
    assert!(upgraded.contains("(0.1.7 → 0.2.0); its workers were not touched"), "{upgraded}");
    assert_eq!(alice(&machine, "appctl pid app"), before);

    // ---- a reboot
    machine.reboot();
    machine.until("it serves again", || answer(&machine));
    machine.until("all of its workers are ready", || {
        (alice(&machine, "appctl list").matches(" ready ").count() == 3).then_some(())
    });

    // ---- the end
    let told = alice(&machine, "appctl delete app");
    assert!(told.contains("/home/alice/.config/appctl/app.toml removed"), "{told}");
    assert_eq!(answer(&machine), None);
    assert_eq!(all_of(&machine), "./app.js", "what is alice's own is left, and nothing else");
    assert_eq!(
        alice(&machine, "systemctl --user list-units --all --no-legend --plain 'app*' | grep -v ^app.slice || true"),
        ""
    );
    assert!(!machine.path("/etc/appctl").exists(), "the system knows nothing of it");
}

#[test]
fn without_a_journal_of_the_users_own_it_is_said_who_may_read() {
    let Some(machine) = Options::default().multi_user().file("/srv/app.js", APP).boot() else { return };
    machine.ok("useradd --create-home --shell /bin/bash alice && install -o alice /srv/app.js /home/alice/app.js");
    let output = machine.command("runuser").args(["-l", "alice", "-c", "appctl --user logs"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("journald keeps one for each user only on disk"), "{error}");
}
