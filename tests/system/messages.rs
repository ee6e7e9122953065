//! Every message that a user can cause says what is wrong and what to do: issue 5, line 5. Where each is shown:
//!
//! | message | test |
//! | --- | --- |
//! | wrong flag, wrong value, wrong command | [`what_is_typed_wrong_is_exit_2`] |
//! | what PM2 has and is not here | [`what_is_typed_wrong_is_exit_2`] |
//! | unknown app, or none that matches | `commands::names_and_rights_that_are_missing_are_exit_4`, `verbs::selectors_choose_apps_and_workers` |
//! | no right to manage units, to write, to see an environment | `commands::names_and_rights_that_are_missing_are_exit_4`, `verbs::an_environment_without_its_secrets` |
//! | no right to read the journal | [`a_machine_that_lacks_something`] |
//! | systemd absent, D-Bus absent, no user manager | [`a_machine_that_lacks_something`] |
//! | router down, or deaf | [`an_app_that_is_down`], `verbs::an_environment_without_its_secrets` |
//! | broken file | `commands::a_broken_file_holds_up_no_other_app`, `commands::start_of_a_file_installs_it` |
//! | a name that systemd has | `commands::start_of_a_file_installs_it` |
//! | port taken | `commands::a_start_that_fails_says_why` |
//! | a program that ends at once | `commands::a_start_that_fails_says_why` |
//! | program, directory, user, group or script missing | [`what_an_app_lacks_is_named`] |
//! | Node missing | [`a_machine_that_lacks_something`] |
//! | another reload under way, nothing to abort | `reload` |

use crate::boxed::Boxed;
use crate::commands::{appctl, boot, done};

/// What is wrong with what a line says, and with its exit code.
fn wrong(line: &str, (found, out, err): (i32, String, String), code: i32, said: &[&str]) -> Option<String> {
    let missing: Vec<_> = said.iter().filter(|words| !err.contains(**words)).collect();
    let right = found == code && missing.is_empty() && !err.contains("panicked");
    (!right).then(|| format!("{line}: exit code {found}, not {code}; missing {missing:?} in\n{out}{err}"))
}

/// What `appctl` says, all of it.
#[track_caller]
fn fails(machine: &Boxed, arguments: &str, code: i32, said: &[&str]) {
    nothing_is_wrong(&[wrong(arguments, appctl(machine, arguments), code, said)]);
}

/// All that is wrong is told at once.
#[track_caller]
fn nothing_is_wrong(found: &[Option<String>]) {
    let found: Vec<&str> = found.iter().flatten().map(String::as_str).collect();
    assert!(found.is_empty(), "{} are wrong:\n{}", found.len(), found.join("\n"));
}

#[test]
fn what_is_typed_wrong_is_exit_2() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js --name shop");
    let mut found = Vec::new();
    for (arguments, said) in [
        ("start --nmae x worker.js", &["unexpected argument '--nmae'", "'--name'"][..]),
        ("start", &["what is to be started?", "name an app, a file or a script"]),
        ("strat worker.js", &["there is no command strat", "`appctl start`"]),
        ("lst", &["there is no command lst", "Did you mean `appctl l"]),
        ("xyzzy", &["there is no command xyzzy", "`appctl --help`"]),
        ("scale shop many", &["`many` is no number of workers", "write 4, +1"]),
        ("list --sort size", &["there is no field size", "memory"]),
        ("sendSignal SIGNONE shop", &["there is no signal SIGNONE", "SIGUSR2"]),
        ("start shop -i 3", &["shop is an app already", "/etc/appctl/shop.toml"]),
        ("deploy production", &["no command deploy here", "`appctl reload NAME`"]),
        ("kill", &["no command kill here", "`appctl stop all`"]),
        ("flush shop", &["no command flush here", "journalctl --vacuum-time"]),
        ("module:install pm2-logrotate", &["There are no modules"]),
    ] {
        found.push(wrong(arguments, appctl(&machine, arguments), 2, said));
    }
    for (arguments, said) in [
        ("save --force", "Nothing to save"),
        ("startup systemd -u deploy", "at boot by itself"),
        ("resurrect", "at boot by itself"),
        ("update", "no daemon"),
        ("reloadLogs", "journal"),
        ("logrotate", "rotates by itself"),
    ] {
        found.push(wrong(arguments, appctl(&machine, arguments), 0, &[said]));
    }
    nothing_is_wrong(&found);
    assert!(machine.is_active("shop@1.service"), "none of them has touched it");
}

#[test]
fn what_an_app_lacks_is_named() {
    let Some(machine) = boot() else { return };
    let mut port = 8090;
    let mut found = Vec::new();
    for (name, file, said) in [
        ("program", "exec = 'nonesuch --x'\n", &["cannot run nonesuch", "install it, or write its whole path"][..]),
        ("path", "exec = '/srv/nonesuch'\nruntime = 'port'\n", &["cannot run /srv/nonesuch", "is it installed there?"]),
        ("plain-file", "exec = '/srv/own/worker.js'\n", &["cannot run /srv/own/worker.js", "chmod +x"]),
        ("place", "exec = 'node worker.js'\ndirectory = '/srv/none'\n", &["200/CHDIR", "`directory`"]),
        (
            "stranger",
            "exec = 'node /srv/own/worker.js'\nuser = 'nobodyhere'\n",
            &["there is no user nobodyhere", "/etc/appctl/stranger.toml", "useradd"],
        ),
        (
            "crowd",
            "exec = 'node /srv/own/worker.js'\nuser = 'root'\ngroup = 'nobodyhere'\n",
            &["there is no group nobodyhere", "groupadd"],
        ),
        ("script", "exec = 'node /srv/own/none.js'\n", &["Cannot find module '/srv/own/none.js'"]),
    ] {
        port += 1;
        machine.write(&format!("/etc/appctl/{name}.toml"), &format!("{file}listen = {port}\n"));
        found.push(wrong(name, appctl(&machine, &format!("start {name}")), 1, said));
        done(&machine, &format!("delete {name}"));
    }
    for (arguments, said) in [
        ("start worker.js --uid nobodyhere", "there is no user nobodyhere"),
        ("start worker.js --gid nobodyhere", "there is no group nobodyhere"),
        ("start none.js", "none.js"),
        ("start ./none.toml", "cannot read ./none.toml"),
    ] {
        found.push(wrong(arguments, appctl(&machine, arguments), 1, &[said]));
    }
    nothing_is_wrong(&found);
    assert_eq!(machine.ok("ls /etc/appctl"), "", "what cannot be started is not written");
}

#[test]
fn a_machine_that_lacks_something() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js --name shop");
    let mut found = Vec::new();
    let mut fails = |line: &str, said: &[&str]| {
        let output = machine.shell(&format!("cd /srv/own; {line}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr));
        found.push(wrong(line, told, 1, said));
    };
    let node = ["node is not in your PATH", "--interpreter"];
    fails("mkdir /srv/empty; PATH=/srv/empty /usr/bin/appctl start worker.js --name other", &node);
    for command in ["list", "start worker.js", "stop shop", "status shop", "ping", "reload shop", "reset shop", "pid"] {
        let line = format!("unshare -m sh -c 'mount -t tmpfs none /run && exec appctl {command}'");
        fails(&line, &["cannot reach systemd", "Does systemd run this machine?", "`appctl run SCRIPT`"]);
        let line = format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path=/none appctl {command}");
        fails(&line, &["systemd runs, but cannot be reached by D-Bus", "Install or start dbus"]);
    }
    // A report is for such a machine.
    let report = machine.ok("unshare -m sh -c 'mount -t tmpfs none /run && exec appctl report'");
    assert!(report.contains("cannot reach systemd"), "{report}");
    let manager = ["cannot reach your systemd user manager", "enable-linger"];
    fails("runuser -u nobody -- appctl --user start worker.js", &manager);
    fails("runuser -u nobody -- appctl logs shop", &["systemd-journal"]);
    nothing_is_wrong(&found);
}

#[test]
fn an_app_that_is_down() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js --name shop");
    done(&machine, "stop shop");
    let start = "appctl start shop";
    fails(&machine, "metrics shop", 3, &["does not run", start]);
    fails(&machine, "env shop", 3, &["does not run", start]);
    fails(&machine, "reload shop", 3, &["is not running", start]);
    fails(&machine, "sendSignal USR2 shop", 3, &["does not run"]);
    let (code, out, _) = appctl(&machine, "status shop");
    assert!(code == 3 && out.contains("stopped"), "{out}");
    assert!(done(&machine, "ping").contains("shop: does not run"));
    // Asking does not start it, not even where something would listen.
    machine.ok("systemctl start shop-control.socket");
    for line in ["list", "list --json", "ping", "jlist", "report"] {
        done(&machine, line);
        assert!(!machine.is_active("shop.service"), "{line}");
    }
}
