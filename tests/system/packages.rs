//! The packages, in trees that have never heard of appctl: installed, used, upgraded, removed.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::boxed::{Boxed, MANIFEST, Options, skipped};
use crate::upgrade::{OTHER, PROGRAM};

const APP: &str = "const http = require('http');
console.log('worker', process.env.NODE_APP_INSTANCE, 'is here');
http.createServer((request, answer) => {
  if (request.url === '/die') process.exit(7);
  answer.end(`served by ${process.env.NODE_APP_INSTANCE} ${process.pid}`);
}).listen(3000);
";
const FILE: &str = "exec = ['node', 'app.js']\ndirectory = '/srv/own'\nworkers = 3\nlisten = ['8080']\n";

/// Both packages in two versions, `now` and `next`, and what packaging/install needs, `source`: made once, of the program
/// that is tested. Or why not.
fn packages() -> Result<&'static Path, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        for (program, package) in [("dpkg-deb", "dpkg"), ("dpkg-shlibdeps", "dpkg-dev"), ("rpmbuild", "rpm")] {
            if !has(program) {
                return Err(format!("{program} is missing; install {package}"));
            }
        }
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let _ = std::fs::remove_dir_all(&directory);
        let source = directory.join("source");
        std::fs::create_dir_all(&source).unwrap();
        for (name, program) in [("appctl", PROGRAM.clone()), ("appctl-next", OTHER.program())] {
            std::fs::write(source.join(name), program).unwrap();
            std::fs::set_permissions(source.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut copy = Command::new("cp");
        copy.args(["-a", "packaging", "README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"]);
        assert!(copy.arg(&source).current_dir(MANIFEST).status().unwrap().success());
        build(&directory.join("now"), &source.join("appctl"), &[]);
        build(&directory.join("next"), &source.join("appctl-next"), &["--version", OTHER.version]);
        Ok(directory)
    });
    made.as_deref().map_err(Clone::clone)
}

fn has(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|output| output.status.success())
}

#[track_caller]
fn build(output: &Path, program: &Path, more: &[&str]) {
    let mut command = Command::new(format!("{MANIFEST}/packaging/build"));
    command.args(["--quick", "--binary"]).arg(program).arg("--output").arg(output).args(more).stdin(Stdio::null());
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The directory of packages, or it is told why there is none.
fn told() -> Option<&'static Path> {
    packages().inspect_err(|reason| skipped(reason)).ok()
}

/// A booted system with the packages at hand.
fn boot() -> Option<Boxed> {
    let options = Options::default().multi_user().packages(told()?);
    options.file("/srv/own/app.js", APP).file("/srv/own/data", "mine").boot()
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
    // Of the group: a package that is removed leaves it until it is purged, and its making leaves copies.
    let group = ["/etc/group", "/etc/group-", "/etc/gshadow", "/etc/gshadow-", "/etc/.pwd.lock"];
    let list = machine.ok("find / -xdev -printf '%p\\t%y %s %m %U:%G\\n'");
    let lines = list.lines().filter_map(|line| line.split_once('\t'));
    let ours = lines.filter(|(path, _)| !others.iter().any(|other| path.starts_with(other)) && !group.contains(path));
    // A directory's size says nothing.
    ours.map(|(path, what)| (path.to_owned(), if what.starts_with('d') { "directory".into() } else { what.into() }))
        .collect()
}

/// What differs from what was on the disk `before`, but for what `passes`.
#[track_caller]
fn nothing_is_left(machine: &Boxed, before: &BTreeMap<String, String>, passes: impl Fn(&str) -> bool) {
    let now = disk(machine);
    let paths = before.keys().chain(now.keys()).filter(|path| before.get(*path) != now.get(*path) && !passes(path));
    let differ: Vec<_> = paths.map(|path| (path, before.get(path), now.get(path))).collect();
    assert!(differ.is_empty(), "{differ:#?}");
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

fn version(machine: &Boxed) -> String {
    machine.ok("appctl --version").replace("appctl ", "")
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
    assert_eq!(version(&machine), env!("CARGO_PKG_VERSION"));
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
    let files = |path: &str| path.starts_with("/etc/appctl");
    nothing_is_left(&machine, &before, files);
    assert_eq!(machine.ok("cat /etc/appctl/app.toml /srv/own/data"), format!("{FILE}mine"));

    // Back, where the administrator does not want packages to start anything.
    machine.ok("printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d");
    machine.ok("apt-get install -y /srv/packages/now/*.deb && rm /usr/sbin/policy-rc.d");
    assert!(!machine.is_active("app.service"));
    machine.start_app("app", 3);
    assert!(!machine.ok("getent group appctl").is_empty());
    machine.ok("apt-get purge -y appctl");
    nothing_runs(&machine);
    nothing_is_left(&machine, &before, files);
    assert_eq!(machine.ok("getent group appctl || true"), "");

    // Without a file of anybody's, nothing is left.
    machine.ok("apt-get install -y /srv/packages/now/*.deb && rm /etc/appctl/app.toml && apt-get purge -y appctl");
    nothing_is_left(&machine, &before, |_| false);
    assert_eq!(machine.ok("find / -xdev -name '*appctl*' -not -path '/var/log/*' -not -path '/var/cache/man/*'"), "");
}

/// Somebody whose own manager runs, with an app of their own; what does a line of shell as they.
fn somebody(machine: &Boxed) -> impl Fn(&str) -> String {
    machine.ok("useradd --create-home alice && mkdir -p /home/alice/.config/appctl");
    let text = FILE.replace("8080", "8081").replace("workers = 3", "workers = 1");
    machine.write("/home/alice/.config/appctl/own.toml", &text);
    machine.ok("chown -R alice /home/alice && systemctl start user@$(id -u alice).service");
    move |line| {
        let line = line.to_owned();
        machine.ok(&format!("runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/$(id -u alice) bash -c '{line}'"))
    }
}

/// The routers are the installed program's, the workers are those of before; root's apps and others' alike.
#[track_caller]
fn upgraded(machine: &Boxed, alice: &impl Fn(&str) -> String, install: &str, to: &str) {
    let pids = |alice: &dyn Fn(&str) -> String| {
        let of = |unit: &str| alice(&format!("systemctl --user show --value -p MainPID {unit}"));
        let routers = (machine.main_pid("app.service"), of("own.service"));
        (routers, (workers(machine), of("own@1.service")))
    };
    let (routers, known) = pids(alice);
    let told = machine.ok(&format!("{install} 2>&1"));
    assert_eq!(version(machine), to, "{told}");
    let (new_routers, new) = pids(alice);
    assert_eq!(new, known);
    assert!(new_routers.0 != routers.0 && new_routers.1 != routers.1, "{routers:?} {new_routers:?} {told}");
    machine.ok("appctl --system upgrade-check");
    alice("appctl --user upgrade-check");
    serves(machine, 8080);
    serves(machine, 8081);
}

#[test]
fn an_upgraded_deb_leaves_workers_alone_and_a_removed_one_leaves_none() {
    let Some(machine) = boot() else { return };
    machine.write("/etc/appctl/app.toml", FILE);
    machine.ok("apt-get install -y /srv/packages/now/*.deb");
    // The file was there already: the app is started.
    machine.until("it runs", || workers(&machine).iter().all(Option::is_some).then_some(()));
    let alice = somebody(&machine);
    alice("appctl --user start own");
    serves(&machine, 8080);
    upgraded(&machine, &alice, "apt-get install -y /srv/packages/next/*.deb", OTHER.version);
    let back = "apt-get install -y --allow-downgrades /srv/packages/now/*.deb";
    upgraded(&machine, &alice, back, env!("CARGO_PKG_VERSION"));
    // The rule for polkit is where it works.
    machine.ok("usermod -a -G appctl alice && runuser -u alice -- systemctl --no-ask-password restart app@1.service");
    assert!(!machine.shell("runuser -u nobody -- systemctl --no-ask-password restart app@1.service").status.success());
    // What an administrator has stopped stays so.
    machine.ok("systemctl stop app.service && apt-get install -y /srv/packages/next/*.deb");
    assert!(!machine.is_active("app.service") && !machine.is_active("app@1.service"));
    serves(&machine, 8081);
    machine.ok("systemctl start app.service");
    // One whose file is gone.
    machine.ok("rm /etc/appctl/app.toml && systemctl daemon-reload");
    machine.ok("apt-get purge -y appctl");
    nothing_runs(&machine);
    assert_eq!(machine.ok("getent group appctl || true"), "");
    assert_eq!(alice("systemctl --user list-units --all --plain --no-legend own*"), "");
    assert_eq!(machine.ok("ls -d /run/user/*/appctl 2>/dev/null || true; ls /home/alice/.config/appctl"), "own.toml");
}

/// No distribution of RPM's can be had for the test: Debian's rpm, with its scriptlets and without its dependencies.
#[test]
fn an_rpm_from_its_installation_to_its_erasure() {
    let Some(machine) = boot() else { return };
    // Debian 12 wants to be asked twice.
    let rpm = |line: &str| {
        format!("rpm {line} --nodeps $(rpm --force-debian --version >/dev/null 2>&1 && echo --force-debian)")
    };
    let before = disk(&machine);
    machine.ok(&rpm("-ivh /srv/packages/now/*.rpm"));
    assert_eq!(machine.ok("rpm -V --nodeps appctl"), "");
    assert!(machine.ok("getent group appctl && journalctl --list-catalog").contains("appctl: Worker"));
    machine.write("/etc/appctl/app.toml", FILE);
    machine.ok("systemctl daemon-reload && appctl start app");
    serves(&machine, 8080);
    let alice = somebody(&machine);
    alice("appctl --user start own");
    upgraded(&machine, &alice, &rpm("-Uvh /srv/packages/next/*.rpm"), OTHER.version);
    upgraded(&machine, &alice, &rpm("-Uvh --oldpackage /srv/packages/now/*.rpm"), env!("CARGO_PKG_VERSION"));
    machine.ok("rpm -e --nodeps appctl");
    nothing_runs(&machine);
    assert_eq!(alice("systemctl --user list-units --all --plain --no-legend own*"), "");
    assert_eq!(machine.ok("cat /etc/appctl/app.toml"), FILE.trim_end());
    machine.ok("rm -r /etc/appctl && systemctl stop user@$(id -u alice).service && userdel --remove alice");
    let users = ["/etc/passwd", "/etc/shadow", "/etc/subuid", "/etc/subgid", "/home", "/var/mail"];
    nothing_is_left(&machine, &before, |path| users.iter().any(|user| path.starts_with(user)));
}

#[test]
fn without_a_package() {
    let Some(machine) = boot() else { return };
    let before = disk(&machine);
    let install = "/srv/packages/source/packaging/install --binary /srv/packages/source/appctl";
    machine.ok(install);
    assert_eq!(machine.ok("command -v appctl"), "/usr/local/bin/appctl");
    machine.write("/etc/appctl/app.toml", FILE);
    machine.ok("systemctl daemon-reload && appctl start app && man -w appctl");
    serves(&machine, 8080);
    let (router, known) = (machine.main_pid("app.service"), workers(&machine));
    machine.ok(&format!("{install}-next"));
    assert_ne!(machine.main_pid("app.service"), router);
    assert_eq!(workers(&machine), known);
    serves(&machine, 8080);
    machine.ok("/srv/packages/source/packaging/uninstall");
    nothing_runs(&machine);
    machine.ok("rm -r /etc/appctl; find /usr/local /etc/polkit-1 -mindepth 1 -type d -empty -delete");
    assert_eq!(machine.ok("find /usr/local /etc -name '*appctl*'"), "");
    nothing_is_left(&machine, &before, |path| path.starts_with("/usr/local") || path.starts_with("/etc/polkit-1"));
}

/// The same program and the same sources: the same packages.
#[test]
fn packages_made_twice_are_the_same() {
    let Some(directory) = told() else { return };
    let again = tempfile::tempdir().unwrap();
    build(again.path(), &directory.join("source/appctl"), &[]);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(again.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let [one, other] = [again.path(), &directory.join("now")].map(|at| std::fs::read(at.join(&name)).unwrap());
        assert!(one == other, "{} differs", name.display());
        names.push(name);
    }
    assert_eq!(names.len(), 2);
}

#[test]
fn lintian_and_rpmlint_have_no_objection() {
    let Some(directory) = told() else { return };
    let config = format!("{MANIFEST}/packaging/rpm/rpmlint.toml");
    for (program, arguments, kind) in [
        ("lintian", &["--no-cfg", "--fail-on", "error,warning", "--allow-root"][..], ".deb"),
        ("rpmlint", &["--strict", "--config", &config], ".rpm"),
    ] {
        if !has(program) {
            skipped(&format!("{program} is missing; install it"));
            continue;
        }
        let files = std::fs::read_dir(directory.join("now")).unwrap().map(|entry| entry.unwrap().path());
        let file = files.into_iter().find(|path| path.to_string_lossy().ends_with(kind)).unwrap();
        let output = Command::new(program).args(arguments).arg(file).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
}
