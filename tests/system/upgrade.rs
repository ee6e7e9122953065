//! Upgrades: another build takes the place of `/usr/bin/appctl` as dpkg does it, and `appctl upgrade` follows. Issue 6, line 3.
//!
//! Another release is a copy of the program with another stamp in it (`src/system/stamp.rs`).

use std::process::Command;
use std::sync::LazyLock;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::boxed::{BINARY, Boxed, Options};
use crate::survival::{
    Witness, boot_with, holdings, lost, no_worker_restarted, nothing_established_was_lost, router, settled, status,
    workers,
};

/// The built program, without what only a debugger needs.
pub(crate) static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let file = tempfile::NamedTempFile::new().unwrap();
    let stripped = Command::new("strip").args(["--strip-debug", BINARY, "-o"]).arg(file.path()).status();
    let path = if stripped.is_ok_and(|status| status.success()) { file.path() } else { BINARY.as_ref() };
    std::fs::read(path).unwrap()
});

/// A release as the program's file has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release {
    pub(crate) version: &'static str,
    build: &'static str,
    wire: u32,
    record: u32,
}

/// Nothing but their names tells these two apart.
pub(crate) const ONE: Release = Release { version: "0.1.7", build: "1111111111111111", wire: 1, record: 1 };
pub(crate) const OTHER: Release = Release { version: "0.2.0", build: "2222222222222222", wire: 1, record: 1 };

impl Release {
    pub(crate) fn program(self) -> Vec<u8> {
        let mut program = PROGRAM.clone();
        // Not in one piece: the program that tests has none.
        let mark = ["appctl-stamp:", " version=0."].concat();
        let places: Vec<usize> = memchr::memmem::find_iter(&program, mark.as_bytes()).collect();
        assert!(!places.is_empty(), "the program has no stamp");
        for at in places {
            let length = memchr::memmem::find(&program[at..], b" .").unwrap() + 2;
            let Self { version, build, wire, record } = self;
            let line = format!("appctl-stamp: version={version} build={build} wire={wire} record={record} .");
            assert_eq!(line.len(), length, "{line}");
            program[at..at + length].copy_from_slice(line.as_bytes());
        }
        program
    }

    /// Puts it beside the place where it is installed.
    pub(crate) fn bring(self, machine: &Boxed) {
        let path = machine.path(&format!("/srv/{}", self.build));
        std::fs::write(path, self.program()).unwrap();
        machine.ok(&format!("chmod 755 /srv/{}", self.build));
    }

    /// As dpkg puts a new file into the place of an old one, which stays what it is to those who run it.
    pub(crate) fn install(self, machine: &Boxed) {
        machine.ok(&format!(
            "cp /srv/{} /usr/bin/appctl.dpkg-new && mv -f /usr/bin/appctl.dpkg-new /usr/bin/appctl",
            self.build
        ));
        assert_eq!(machine.ok("appctl --version"), format!("appctl {}", self.version));
    }
}

fn boot() -> Option<Boxed> {
    let machine = boot_with(Options::default().replaceable())?;
    for release in [ONE, OTHER] {
        release.bring(&machine);
    }
    Some(machine)
}

/// What `appctl upgrade-check --json` says: its exit code, and the parts that are another build than the installed one.
fn check(machine: &Boxed) -> (i32, Vec<String>) {
    let output = machine.shell("appctl upgrade-check --json");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let processes = told["processes"].as_array().unwrap().iter();
    let outdated = processes.filter(|it| it["outdated"] != false).map(|it| it["part"].as_str().unwrap().to_owned());
    (output.status.code().unwrap(), outdated.collect())
}

#[test]
fn an_upgrade_under_load_loses_nothing() {
    const TIMES: usize = 20;
    let Some(machine) = boot() else { return };
    let known = workers(&machine);
    let witness = Witness::start(&machine, &[]);
    let before = holdings(&machine);
    for time in 0..TIMES {
        let release = [ONE, OTHER][time % 2];
        let old = router(&machine).unwrap();
        release.install(&machine);
        let (code, mut outdated) = check(&machine);
        outdated.dedup();
        assert_eq!((code, outdated), (1, vec!["router".to_owned(), "guard".to_owned()]), "round {time}");
        let told = machine.ok("appctl upgrade 2>&1");
        assert!(told.contains(&format!("→ {}); its workers were not touched", release.version)), "{told}");
        assert_ne!(router(&machine), Some(old));
        let status = status(&machine).unwrap();
        assert_eq!((&status["version"], &status["build"]), (&release.version.into(), &release.build.into()));
        assert_eq!(workers(&machine), known, "round {time}");
        assert_eq!(check(&machine), (0, vec![]), "round {time}");
    }
    assert_eq!(machine.ok("appctl upgrade 2>&1"), "app: nothing to do");
    let report = witness.report();
    nothing_established_was_lost(&report);
    assert_eq!((lost(&report), &report["broadcasts"]["lost"]), (0, &0.into()), "{report}");
    assert_eq!((&report["moves"], &report["dropped"]), (&0.into(), &serde_json::json!([])), "{report}");
    no_worker_restarted(&machine);
    let after = holdings(&machine);
    println!("resident {} → {} kB", before.1, after.1);
}

/// A router that cannot read what the one before it has written down.
#[test]
fn a_router_of_another_layout_takes_the_workers_over() {
    let Some(machine) = boot() else { return };
    let strange = Release { build: "3333333333333333", record: 2, ..OTHER };
    strange.bring(&machine);
    let known = workers(&machine);
    let witness = Witness::start(&machine, &[]);
    for release in [strange, ONE] {
        release.install(&machine);
        machine.ok("appctl upgrade");
        assert_eq!(workers(&machine), known);
        let journal = machine.journal("-u app.service");
        assert!(journal.contains("took over 4 workers and 0 sessions"), "{journal}");
        machine.until("all workers are served again", || settled(&machine));
    }
    let report = witness.report();
    // What a worker has, it keeps: WebSockets, and each new connection is served.
    let dropped = report["dropped"].as_array().unwrap();
    assert!(dropped.iter().all(|one| one["kind"] == "polling"), "{report}");
    assert_eq!(
        (&report["lost"], &report["refused"], &report["echoes"]["lost"]),
        (&0.into(), &0.into(), &0.into()),
        "{report}"
    );
    assert_eq!(report["standing"], true, "{report}");
    no_worker_restarted(&machine);
    holdings(&machine);
}

#[test]
fn workers_without_a_channel_are_taken_over_by_another_layout() {
    let app =
        "require('http').createServer((q, r) => r.end(String(process.pid))).listen(process.env.PORT, '127.0.0.1');";
    let file = "exec = [\"node\", \"/srv/app.js\"]\nruntime = \"port\"\nworkers = 2\nlisten = [\"8080\"]\n";
    let options = Options::default().replaceable().file("/srv/app.js", app).file("/etc/appctl/app.toml", file);
    let Some(machine) = options.boot() else { return };
    machine.start_app("app", 2);
    let strange = Release { build: "3333333333333333", record: 2, ..OTHER };
    strange.bring(&machine);
    strange.install(&machine);
    let known = workers(&machine);
    machine.ok("appctl upgrade");
    assert_eq!(workers(&machine), known);
    let pid = machine.ok("curl -sf -m 20 http://127.0.0.1:8080/");
    assert!(known.iter().any(|(_, worker)| worker.to_string() == pid), "{pid} {known:?}");
    machine.ok("systemctl stop app@2.service");
    machine.until("the log, three listening sockets and one worker are stored", || {
        (machine.property("app.service", "NFileDescriptorStore") == "5").then_some(())
    });
    assert_eq!(check(&machine), (0, vec![]));
}

/// The router of one release, and the workers' side of another whose words it does not understand.
#[test]
fn sides_that_do_not_understand_each_other_say_so() {
    let Some(machine) = boot() else { return };
    let strange = Release { build: "3333333333333333", wire: 2, ..OTHER };
    strange.bring(&machine);
    ONE.install(&machine);
    machine.ok("appctl upgrade");
    strange.install(&machine);
    machine.shell("systemctl kill -s KILL --kill-who=main app@1.service");
    let told = "the hello cannot be read: it is of appctl 0.2.0, this is 0.1.7, and they do not understand each other: its \
                protocol is 2, this one's 1; `appctl upgrade` starts the installed build of the router";
    let hers = "the router of app did not answer: it is of appctl 0.1.7, this is 0.2.0, and they do not understand each other: \
                its protocol is 1, this one's 2; run `appctl upgrade app`";
    machine.until("the worker says why it is refused", || {
        machine.journal("-u app@1.service").contains(hers).then_some(())
    });
    assert!(machine.journal("-u app.service").contains(told), "{}", machine.journal("-u app.service"));
    let list = machine.ok("appctl list 2>&1");
    assert!(list.contains("app: the router is another build than the installed one: `appctl upgrade`"), "{list}");
    let others: Vec<_> = workers(&machine).into_iter().filter(|(slot, _)| slot != "1").collect();
    assert_eq!(others.len(), 3, "{others:?}");
    machine.ok("appctl upgrade");
    machine.until("all workers serve", || settled(&machine));
    let now = workers(&machine);
    assert!(others.iter().all(|worker| now.contains(worker)), "{others:?} {now:?}");
}

/// A guard that does not follow its router, as of releases that could not; and a unit with a flag of a later one.
#[test]
fn what_stays_of_another_release_is_told() {
    let Some(machine) = boot() else { return };
    let known = workers(&machine);
    let (guard, _) = machine
        .processes("app@1.service")
        .into_iter()
        .find(|(_, words)| words.iter().any(|word| word == "guard"))
        .unwrap();
    kill(guard, Signal::SIGSTOP).unwrap();
    OTHER.install(&machine);
    let left = "app: what stays beside app@1 is another build still: it ends with its worker, whom it serves until then; \
                `appctl reload app` replaces them";
    let told = machine.ok("appctl upgrade 2>&1");
    assert!(told.contains("its workers were not touched") && told.ends_with(left), "{told}");
    assert_eq!(machine.ok("appctl upgrade 2>&1"), left);
    let output = machine.shell("appctl upgrade-check 2>&1");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("`appctl reload app` replaces them") && !told.contains("appctl upgrade"), "{told}");
    assert_eq!(workers(&machine), known);
    kill(guard, Signal::SIGCONT).unwrap();
    machine.until("it follows", || (check(&machine) == (0, vec![])).then_some(()));

    machine.write(
        "/etc/systemd/system/app@.service.d/later.conf",
        "[Service]\nExecStartPost=\nExecStartPost=/usr/bin/appctl worker ready --kindly=yes app %i\n",
    );
    machine.ok("systemctl daemon-reload && systemctl restart app@1.service");
    assert!(machine.is_active("app@1.service"));
    let told =
        "--kindly is not known to appctl 0.2.0: it is left out; run systemctl daemon-reload, then appctl upgrade";
    assert!(machine.journal("-u app@1.service -p warning").contains(told), "{}", machine.journal("-u app@1.service"));
}

/// Actions are told once: what a router of another release has heard is not known to the next one, which says so.
#[test]
fn actions_that_another_release_has_heard_are_told_anew() {
    let app = "require('http').createServer((q, r) => r.end()).listen(8080);\n\
               const say = (message) => process.send(message);\n\
               say({ type: 'axm:action', data: { action_name: 'hi', opts: null, arity: 0 } });\n\
               process.on('message', (m) => m === 'hi' && say({ type: 'axm:reply', data: { return: 'hello', action_name: 'hi' } }));";
    let file = "exec = [\"node\", \"/srv/app.js\"]\nworkers = 2\nlisten = [\"8080\"]\n[reload]\nsettle = \"50ms\"\n";
    let options = Options::default().replaceable().file("/srv/app.js", app).file("/etc/appctl/app.toml", file);
    let Some(machine) = options.boot() else { return };
    let strange = Release { build: "3333333333333333", record: 2, ..OTHER };
    for release in [ONE, strange] {
        release.bring(&machine);
    }
    ONE.install(&machine);
    machine.start_app("app", 2);
    let answers = "app@1: \"hello\"\napp@2: \"hello\"";
    let trigger = |wanted: &str| {
        machine.until(wanted, || {
            let output = machine.shell("appctl trigger app hi 2>&1 | sort");
            String::from_utf8_lossy(&output.stdout).contains(wanted).then_some(())
        });
    };
    trigger(answers);
    // By one that reads the log they are known.
    machine.ok("cp /srv/1111111111111111 /usr/bin/again && mv /usr/bin/again /usr/bin/appctl");
    kill(router(&machine).unwrap(), Signal::SIGKILL).unwrap();
    trigger(answers);
    for release in [strange, ONE] {
        release.install(&machine);
        machine.ok("appctl upgrade");
        trigger("which actions app has is not known: its workers told them once, to a router of another release");
    }
    machine.ok("systemctl restart app@1.service");
    trigger(
        "app@2 told its actions to a router of another release; `appctl restart app@2` starts one that tells them anew",
    );
    trigger("app@1: \"hello\"");
    machine.ok("systemctl restart app@2.service");
    trigger(answers);
}

/// A file with mistakes gives no unit, and so no router that could follow.
#[test]
fn an_app_whose_file_has_mistakes_is_left_as_it_is() {
    let Some(machine) = boot() else { return };
    OTHER.install(&machine);
    let old = router(&machine).unwrap();
    machine.ok("cp /etc/appctl/app.toml /root/app.toml && echo '[[' >> /etc/appctl/app.toml");
    let output = machine.shell("appctl upgrade");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("app is left as it is: its file has mistakes"), "{error}");
    assert_eq!(router(&machine), Some(old));
    machine.ok("cp /root/app.toml /etc/appctl/app.toml && appctl upgrade");
    assert_ne!(router(&machine), Some(old));
    assert_eq!(
        machine.ok("appctl upgrade-check"),
        format!("installed: 0.2.0 (build {})\nall that runs is that build", OTHER.build)
    );
}
