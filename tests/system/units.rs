//! The generator and its units under a real systemd.

use crate::boxed::{Boxed, Options};

const FINE: &str = "exec = '/bin/sleep infinity'\nlisten = '/run/fine.sock'\nworkers = 2\n";

fn boot() -> Option<Boxed> {
    Options::default()
        .file("/etc/appctl/fine.toml", FINE)
        .file("/etc/appctl/my-app.toml", "exec = '/bin/true'\nlisten = '127.0.0.1:8080'\nstart = 'demand'\n")
        .file("/etc/appctl/broken.toml", "exec = '/bin/true'\nworkers = 'many'\n")
        .file("/etc/appctl/dbus.toml", "exec = '/bin/true'\n")
        .boot()
}

#[test]
fn a_broken_file_stops_neither_the_boot_nor_another_app() {
    let Some(machine) = boot() else { return };
    assert_eq!(machine.ok("systemctl --failed --no-legend --plain | wc -l"), "0");
    for socket in ["fine.socket", "my-app.socket"] {
        assert!(machine.is_active(socket), "{socket}: sockets come up at boot");
    }
    let description = machine.property("broken.service", "Description");
    assert!(description.contains("/etc/appctl/broken.toml:2:11: workers:"), "{description}");
    // A unit of the system is never hidden.
    assert!(machine.property("dbus.service", "FragmentPath").ends_with("/lib/systemd/system/dbus.service"));
    assert!(!machine.path("/run/systemd/generator/dbus.service").exists());

    // Mended, the stub gives way.
    machine.write("/etc/appctl/broken.toml", "exec = '/bin/true'\n");
    machine.ok("systemctl daemon-reload");
    assert_eq!(machine.property("broken.service", "Description"), "broken: router");
    assert_eq!(machine.ok("systemctl is-enabled broken.service || true"), "generated");
}

#[test]
fn the_units_are_ordinary_to_their_admin() {
    let Some(machine) = boot() else { return };
    assert_eq!(machine.property("fine.service", "SourcePath"), "/etc/appctl/fine.toml");
    assert_eq!(machine.property("my-app@1.service", "Slice"), "my\\x2dapp.slice");
    let wants = machine.property("fine.service", "Wants");
    assert!(!wants.contains("fine@"), "{wants}");
    // Nothing comes after the router but what systemd itself adds at shutdown.
    for property in ["After", "BindsTo", "PartOf", "Requires"] {
        let value = machine.property("fine@1.service", property);
        assert!(!value.split(' ').any(|unit| unit == "fine.service"), "{property}={value}");
    }

    // systemctl edit
    machine
        .write("/etc/systemd/system/fine@.service.d/override.conf", "[Service]\nRestartSec=7s\nEnvironment=A=edited\n");
    machine.ok("systemctl daemon-reload");
    assert_eq!(machine.property("fine@1.service", "RestartUSec"), "7s");
    assert_eq!(machine.property("fine@1.service", "Environment"), "A=edited");
    // systemctl edit --full: the admin's copy wins, and the app is not refused for it.
    machine.ok("sed s/RestartSec=.*/RestartSec=9s/ /run/systemd/generator/my-app@.service >/etc/systemd/system/my-app@.service");
    machine.ok("systemctl daemon-reload");
    assert_eq!(machine.property("my-app@1.service", "RestartUSec"), "9s");
    assert_eq!(machine.property("my-app.service", "Description"), "my-app: router");
    machine.ok("systemctl mask my-app.service");
    assert_eq!(machine.property("my-app.service", "LoadState"), "masked");
    assert!(machine.path("/run/systemd/generator/my-app.socket").exists());
    // An edited file is noticed.
    assert_eq!(machine.property("fine.service", "NeedDaemonReload"), "no");
    machine.ok("touch -d '+1 hour' /etc/appctl/fine.toml");
    assert_eq!(machine.property("fine.service", "NeedDaemonReload"), "yes");
}

/// The sandbox must leave the router what it needs: its peers' /proc, the journal, and sockets of three families.
#[test]
fn the_routers_sandbox_leaves_what_it_needs() {
    let Some(machine) = boot() else { return };
    let trial = r#"set -x
        connects() { node --jitless -e "
            const wanted = process.argv[2] ?? ''
            const told = code => process.exit(code === wanted ? 0 : 1)
            require('net').connect(JSON.parse(process.argv[1])).on('error', e => told(e.code)).on('connect', () => told(''))
            " "$@"; }
        id -un
        cat /proc/1/cgroup >/dev/null || exit 11
        connects '{"path": "/run/dbus/system_bus_socket"}' || exit 12
        connects '{"port": 1, "host": "127.0.0.1"}' ECONNREFUSED || exit 13
        connects '{"port": 1, "host": "::1"}' ECONNREFUSED || exit 14
        echo "named $LISTEN_FDNAMES"
        echo logged | systemd-cat -t trial || exit 15
        touch /etc/x && exit 16
        touch /usr/x && exit 17
        touch /run/x && exit 18
        grep -q '^NoNewPrivs:.1' /proc/self/status || exit 19
        grep -q '^CapEff:.0000000000000000' /proc/self/status || exit 20
        systemd-notify --ready
        sleep infinity
    "#;
    machine.write("/usr/local/bin/trial", trial);
    let overriding = "[Service]\nExecStart=\nExecStart=/bin/sh /usr/local/bin/trial\nExecStop=\nWatchdogSec=0\nNotifyAccess=all\nRestart=no\n";
    machine.write("/etc/systemd/system/fine.service.d/trial.conf", overriding);
    machine.ok("systemctl daemon-reload");
    let output = machine.shell("systemctl start fine.service");
    let journal = machine.journal("-u fine.service");
    assert!(output.status.success(), "{journal}");
    assert!(journal.contains("_fine-router"), "an own user: {journal}");
    for name in ["public", "channel", "control"] {
        let named = journal.lines().find(|line| line.starts_with("named ")).unwrap_or_default();
        assert!(named.split([' ', ':']).any(|it| it == name), "{name}: {journal}");
    }
    assert!(machine.journal("-t trial").contains("logged"));
    // Who asks for the router's or the app's lines by field finds them.
    assert!(machine.journal("APP=fine").contains("_fine-router"), "{journal}");
    machine.ok("systemctl stop fine.service");
}

/// A user's own manager takes the same file from the user's own directory.
#[test]
fn a_user_has_apps_of_their_own() {
    let file = "exec = '/bin/sleep infinity'\nlisten = '18080'\n";
    let Some(machine) = Options::default().file("/root/.config/appctl/my-own.toml", file).boot() else { return };
    let output = machine.shell("systemctl start user@0.service");
    if !output.status.success() {
        crate::boxed::skipped("user@0.service does not start in the box; install libpam-systemd and dbus-user-session");
        return;
    }
    let ask = |line: &str| machine.ok(&format!("XDG_RUNTIME_DIR=/run/user/0 systemctl --user {line}"));
    assert_eq!(ask("is-active my-own.socket"), "active");
    assert_eq!(ask("show --value -p SourcePath my-own.service"), "/root/.config/appctl/my-own.toml");
    assert_eq!(ask("show --value -p Slice my-own@1.service"), "app-my\\x2down.slice");
    assert_eq!(ask("show --value -p Listen my-own-channel.socket"), "/run/user/0/appctl/my-own/channel (Stream)");
    ask("start my-own-channel.socket my-own-control.socket");
    assert!(machine.path("/run/user/0/appctl/my-own/control").exists());
}

/// The whole life under the users and the sandbox that the units give: start, serve, stop, and nothing failed.
#[test]
fn an_app_starts_on_demand_serves_and_stops_cleanly() {
    let program =
        "require('http').createServer((_, answer) => answer.end('uid ' + process.getuid() + '\\n')).listen(8080)\n";
    let file = "exec = ['node', '/opt/plain app.js']\nlisten = 8080\nworkers = 2\nstart = 'demand'\n";
    let boxed = Options::default().file("/opt/plain app.js", program).file("/etc/appctl/my-app.toml", file).boot();
    let Some(machine) = boxed else { return };
    assert!(!machine.is_active("my-app.service"), "nothing runs before the first connection");
    let answer = machine.ok("curl -sS --max-time 60 http://127.0.0.1:8080/");
    let user: u32 = answer.trim_start_matches("uid ").parse().unwrap();
    assert!((61184..=65519).contains(&user), "a dynamic user: {answer}");
    machine.until("both workers are active", || {
        (1..=2).all(|slot| machine.is_active(&format!("my-app@{slot}.service"))).then_some(())
    });
    machine.ok("systemctl stop my-app.socket my-app.service");
    for unit in ["my-app.service", "my-app@1.service", "my-app@2.service"] {
        assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
        assert_eq!(machine.property(unit, "Result"), "success", "{unit}");
    }
}
