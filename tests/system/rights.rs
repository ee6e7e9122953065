//! Who may manage apps: root, the members of the group `appctl` by polkit's word, and nobody else.

use std::process::Output;

use crate::boxed::{Boxed, Options};

const RULES: &str = include_str!("../../packaging/polkit/50-appctl.rules");
const SCRIPT: &str = "process.on('SIGUSR2', () => {});\n\
    require('http').createServer((_, answer) => answer.end(String(process.pid))).listen(8080)\n";
const FILE: &str =
    "exec = ['node', '/srv/plain.js']\nworkers = 2\nlisten = '8080'\nuser = 'www-data'\n[reload]\nsettle = '100ms'\n";

/// A machine with polkit, its rule, `member` and `stranger`. `None`: it has none.
fn boot() -> Option<Boxed> {
    let machine = Options::default()
        .file("/usr/share/polkit-1/rules.d/50-appctl.rules", RULES)
        .file("/srv/plain.js", SCRIPT)
        .file("/etc/appctl/web.toml", FILE)
        .file("/etc/systemd/system/other.service", "[Service]\nExecStart=/bin/sleep infinity\n")
        .file("/etc/systemd/system/web-other.service", "[Service]\nExecStart=/bin/sleep infinity\n")
        .boot()?;
    if !machine.path("/usr/lib/polkit-1/polkitd").exists() {
        crate::boxed::skipped("polkitd is missing; install polkitd");
        return None;
    }
    machine.ok(
        "groupadd --system appctl && useradd -m -G appctl member && useradd -m stranger && systemctl daemon-reload",
    );
    machine.ok("systemctl start polkit.service other.service && appctl start web");
    Some(machine)
}

fn by(machine: &Boxed, user: &str, line: &str) -> Output {
    machine.command("runuser").args(["-u", user, "--", "bash", "-c", line]).output().unwrap()
}

#[track_caller]
fn may(machine: &Boxed, user: &str, line: &str) -> String {
    let output = by(machine, user, line);
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{user}: {line}: {}\n{text}{error}", output.status);
    format!("{text}{error}")
}

#[track_caller]
fn may_not(machine: &Boxed, user: &str, line: &str) -> String {
    let output = by(machine, user, line);
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{user} may not {line}:\n{text}{error}");
    format!("{text}{error}")
}

fn pids(machine: &Boxed) -> [Option<u32>; 3] {
    ["web.service", "web@1.service", "web@2.service"].map(|unit| machine.main_pid(unit))
}

#[test]
fn members_of_the_group_manage_apps_and_nothing_else() {
    let Some(machine) = boot() else { return };
    for line in [
        "appctl restart web",
        "appctl reload web",
        "systemctl reload web.service",
        "appctl restart web@$(appctl list --json web | grep -o '\"slot\": *\"[0-9]*' | grep -o '[0-9]*$' | head -1)",
        "appctl stop web",
        "appctl start web",
        "systemctl restart web.service",
        "systemctl start web@7.service && systemctl stop web@7.service",
        "systemctl kill --signal=SIGUSR2 'web@1.service' || systemctl kill --signal=SIGUSR2 web@3.service",
        "appctl sendSignal SIGUSR2 web",
        "systemctl reset-failed web.service",
        "appctl stop web && appctl startOrReload web",
    ] {
        may(&machine, "member", line);
    }
    assert!(machine.ok("curl -sS http://127.0.0.1:8080/").parse::<u32>().is_ok());
    // The control socket is theirs, too.
    assert_eq!(machine.ok("stat -c '%U %G %a' /run/appctl/web/control"), "root appctl 660");
    let listed = may(&machine, "member", "appctl list --json web");
    assert!(listed.contains("\"sessions\": 0") || listed.contains("\"sessions\":0"), "{listed}");

    let post = "curl -sS -o /dev/null -w '%{http_code}' --unix-socket /run/appctl/web/control -X POST http://x/v1";
    assert_eq!(may(&machine, "member", &format!("{post}/wanted/2")), "204");
    assert_eq!(may(&machine, "member", &format!("{post}/certificates -d '[]'")), "403", "they are root's");
    assert_eq!(may(&machine, "root", &format!("{post}/certificates -d '[]'")), "204");

    // Everything else is root's.
    let before = pids(&machine);
    let other = machine.main_pid("other.service");
    let lines = [
        "systemctl restart other.service",
        "systemctl stop web-other.service",
        "systemctl start web-other.service",
        "systemctl stop dbus.service",
        "systemctl daemon-reload",
        "systemctl set-property --runtime web.service CPUWeight=7",
        "systemctl mask --runtime web.service",
        "systemctl start 'web@--user.service'",
        "systemctl start 'web@a.service'",
        "systemctl start 'web@1@2.service'",
        "systemd-run --unit=web@9 id",
        // Names of an app's that have no unit.
        "systemd-run --unit=web-watch id",
        "systemd-run --unit=web-memory id",
        "systemd-run --unit=web-reload id",
        "systemd-run --unit=web-restart --on-active=1s id",
        "systemd-run --unit=web-metrics --socket-property=ListenStream=9999 id",
        "systemctl start web-watch.service",
        "systemd-run id",
        "appctl scale web 3",
        "appctl delete web",
        "appctl start --system /srv/plain.js --name mine",
        "echo 'exec = \"/bin/true\"' >/etc/appctl/mine.toml",
        "systemctl stop web.service/../other.service",
    ];
    // By polkit's word: whatever else is wrong with a line is not what refuses it.
    let refused = |line: &&str| {
        let output = by(&machine, "member", line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let by_polkit = told.contains("authentication required") || told.contains("Access denied");
        // To anybody, and before polkit is asked (systemd 257): the unit is there by its template.
        let by_polkit = by_polkit || told.contains("was already loaded or has a fragment file");
        !output.status.success()
            && (by_polkit || told.contains("no right to write") || told.contains("Permission denied"))
    };
    let allowed: Vec<&str> = lines.into_iter().filter(|line| !refused(line)).collect();
    assert!(allowed.is_empty(), "a member of the group may {allowed:#?}");
    assert_eq!((pids(&machine), machine.main_pid("other.service")), (before, other));
    assert_eq!(machine.ok("ls /etc/appctl"), "web.toml");

    // To read a changed file is to start what it says as whom it says.
    machine.ok("echo '# changed' >>/etc/appctl/web.toml && touch -d '+1 hour' /etc/appctl/web.toml");
    let told = may_not(&machine, "member", "appctl restart web");
    assert!(told.contains("has changed") && told.contains("sudo systemctl daemon-reload"), "{told}");
    assert_eq!(pids(&machine), before);
    may(&machine, "member", "systemctl restart web.service");
}

#[test]
fn a_stranger_gets_one_clear_refusal() {
    let Some(machine) = boot() else { return };
    let before = pids(&machine);
    for line in
        ["appctl stop web", "appctl start web", "appctl restart web", "appctl reload web", "appctl restart web@1"]
    {
        let output = by(&machine, "stranger", line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if line == "appctl start web" && output.status.success() {
            // It runs already.
            continue;
        }
        assert_eq!(output.status.code(), Some(4), "{line}: {told}");
        assert_eq!(told.matches("error:").count(), 1, "{line}: {told}");
        assert!(
            told.contains("no right to manage the system's units") && told.contains("group appctl"),
            "{line}: {told}"
        );
    }
    assert_eq!(pids(&machine), before);
    let refused = "node -e \"require('net').connect('/run/appctl/web/control').on('error', e => console.log(e.code))\"";
    assert_eq!(may(&machine, "stranger", refused).trim(), "EACCES");
    may(&machine, "stranger", "appctl list web");
}
