//! The packages, in trees that have never heard of appctl: installed, used, upgraded, removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::boxed::{BINARY, Boxed, MANIFEST, Options, skipped};

/// What the second version is called.
const NEXT: &str = "99.0";

const APP: &str = "const http = require('http');
console.log('worker', process.env.NODE_APP_INSTANCE, 'is here');
http.createServer((request, answer) => {
  if (request.url === '/die') process.exit(7);
  answer.end(`served by ${process.env.NODE_APP_INSTANCE} ${process.pid}`);
}).listen(3000);
";
const FILE: &str = "exec = ['node', 'app.js']\ndirectory = '/srv/own'\nworkers = 3\nlisten = ['8080']\n";

/// Both packages in two versions, made once of the program that is tested; or why not.
fn packages() -> Result<&'static Path, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(|| {
        for (program, package) in [("dpkg-deb", "dpkg"), ("dpkg-shlibdeps", "dpkg-dev"), ("rpmbuild", "rpm")] {
            let there = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
            if !there.is_ok_and(|output| output.status.success()) {
                return Err(format!("{program} is missing; install {package}"));
            }
        }
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let _ = std::fs::remove_dir_all(&directory);
        build(&directory.join("now"), &[]);
        build(&directory.join("next"), &["--version", NEXT]);
        Ok(directory)
    })
    .as_deref()
    .map_err(Clone::clone)
}

#[track_caller]
fn build(output: &Path, more: &[&str]) {
    let mut command = Command::new(format!("{MANIFEST}/packaging/build"));
    command.args(["--quick", "--binary", BINARY, "--output"]).arg(output).args(more).stdin(Stdio::null());
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A booted system with the packages at hand.
fn boot() -> Option<Boxed> {
    match packages() {
        Ok(directory) => Options::default()
            .multi_user()
            .packages(directory)
            .file("/srv/own/app.js", APP)
            .file("/srv/own/data", "mine")
            .boot(),
        Err(reason) => {
            skipped(&reason);
            None
        }
    }
}

/// What is on the disk, each with its size; not what anybody else writes whenever anything is installed or runs.
fn disk(machine: &Boxed) -> BTreeMap<String, String> {
    let others = [
        "/var/lib/dpkg",
        "/var/lib/rpm",
        "/var/cache",
        "/var/log",
        "/var/lib/apt",
        "/var/lib/systemd",
        "/var/lib/private",
        "/tmp",
        "/var/tmp",
        "/root",
    ];
    // Of the group, which stays, and what its making leaves.
    let group = ["/etc/group", "/etc/group-", "/etc/gshadow", "/etc/gshadow-", "/etc/.pwd.lock"];
    let list = machine.ok("find / -xdev -printf '%p\\t%y %s %m %U:%G\\n'");
    let lines = list.lines().filter_map(|line| line.split_once('\t'));
    let ours = lines.filter(|(path, _)| !others.iter().any(|other| path.starts_with(other)) && !group.contains(path));
    // A directory's size says nothing.
    ours.map(|(path, what)| (path.to_owned(), if what.starts_with('d') { "directory".into() } else { what.into() }))
        .collect()
}

fn answer(machine: &Boxed, port: u16) -> Option<String> {
    let output = machine.shell(&format!("curl -sf --max-time 20 http://127.0.0.1:{port}/"));
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[track_caller]
fn serves(machine: &Boxed, port: u16) {
    machine.until(&format!("it serves on {port}"), || answer(machine, port));
}

/// Nothing of apps runs, and systemd knows no unit of theirs.
#[track_caller]
fn nothing_runs(machine: &Boxed) {
    assert_eq!(machine.ok("systemctl list-units --all --plain --no-legend 'app*' 'own*'"), "");
    assert_eq!(machine.ok("pgrep -a 'appctl|node' || true"), "");
    assert_eq!(machine.ok("ls -d /run/appctl* 2>/dev/null || true"), "");
    for port in [8080, 8081] {
        assert_eq!(answer(machine, port), None);
    }
    assert_eq!(machine.ok("systemctl list-units --failed --plain --no-legend"), "");
}

fn workers(machine: &Boxed) -> Vec<Option<u32>> {
    (1..=3).map(|slot| machine.main_pid(&format!("app@{slot}.service"))).collect()
}

#[test]
fn a_deb_from_its_installation_to_its_removal() {
    let Some(mut machine) = boot() else { return };
    let before = disk(&machine);
    machine.ok("apt-get install -y /srv/packages/now/*.deb");
    assert_eq!(machine.ok("dpkg --verify appctl"), "");
    assert_eq!(machine.ok("appctl --version"), concat!("appctl ", env!("CARGO_PKG_VERSION")));
    assert!(machine.ok("getent group appctl").starts_with("appctl:"));
    assert!(machine.ok("man appctl.toml | col -b").contains("/etc/appctl"));
    assert!(
        machine.ok("bash -c '. /usr/share/bash-completion/completions/appctl; complete -p appctl'").contains("appctl")
    );

    // One file.
    machine.write("/etc/appctl/app.toml", FILE);
    machine.ok("systemctl daemon-reload");
    machine.start_app("app", 3);
    serves(&machine, 8080);
    // It starts at boot by itself; systemd has nothing to enable, and says so.
    let enabled = machine.shell("systemctl enable --now app.service");
    assert!(String::from_utf8_lossy(&enabled.stderr).contains("generated"), "{enabled:?}");
    assert_eq!(machine.ok("systemctl is-enabled app.service"), "generated");
    // And another way.
    machine.ok("cd /srv/own && appctl start app.js --name own -i 2 --listen 8081");
    serves(&machine, 8081);

    machine.ok("systemctl start app@4.service");
    assert!(machine.is_active("app@4.service"));
    machine.ok("systemctl stop app@4.service");
    let old = workers(&machine);
    machine.ok("appctl reload app");
    assert!(workers(&machine).iter().all(|pid| !old.contains(pid)));
    assert!(machine.journal("-u app").contains("app reloaded: 3 new workers"));
    assert!(machine.journal("-u app@1").contains("is here"));
    assert_eq!(answer(&machine, 8080).map(|text| text.contains("served by")), Some(true));
    machine.shell("curl -s http://127.0.0.1:8080/die");
    // What the catalog has to say, with the message's own values.
    let explained = machine.until("the end is told", || {
        let text = machine.ok("journalctl --sync; journalctl -q -x --no-pager -u app.service");
        text.contains("of the app app has ended").then_some(text)
    });
    for words in ["A reload of the app app (done)", "man:appctl.toml(5)", "journalctl APP=app SLOT="] {
        assert!(explained.contains(words), "{words}: {explained}");
    }

    machine.reboot();
    serves(&machine, 8080);
    serves(&machine, 8081);

    // The app's own files and its configuration stay, and are all that stays.
    machine.ok("appctl delete own");
    machine.ok("apt-get remove -y appctl");
    nothing_runs(&machine);
    let mut expected = before.clone();
    for (path, what) in disk(&machine) {
        if path.starts_with("/etc/appctl") {
            expected.insert(path, what);
        }
    }
    assert_eq!(disk(&machine), expected);
    assert_eq!(machine.ok("cat /etc/appctl/app.toml /srv/own/data"), format!("{FILE}mine"));

    // Back: what starts at boot starts at once.
    machine.ok("apt-get install -y /srv/packages/now/*.deb");
    serves(&machine, 8080);
    machine.ok("apt-get purge -y appctl");
    nothing_runs(&machine);
    assert_eq!(disk(&machine), expected);

    // Without a file of anybody's, nothing is left.
    machine.ok("apt-get install -y /srv/packages/now/*.deb && rm /etc/appctl/app.toml && apt-get purge -y appctl");
    assert_eq!(disk(&machine), before);
    assert_eq!(machine.ok("find / -xdev -name '*appctl*' -not -path '/var/log/*' -not -path '/var/cache/man/*'"), "");
}
