//! PM2's ecosystem files, run by PM2 itself and by appctl: what the apps find and are told must be the same.
//!
//! The files and their apps are in `tests/apps/pm2`; each app tells a collector what it finds when it starts, and what it
//! is told when it is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use serde_json::Value;

use crate::boxed::{Boxed, MANIFEST, Options, skipped};

const PM2: &str = "PM2_HOME=/run/pm2 PM2_DISABLE_VERSION_CHECK=true /srv/apps/pm2/node_modules/.bin/pm2 --no-color";

/// An app of a file.
struct App {
    name: &'static str,
    /// What it is called here, where that is another name.
    ours: Option<&'static str>,
    workers: usize,
    /// Variables that must be the same, beside those that all have.
    variables: &'static [&'static str],
    /// It is started again when it is killed.
    comes_back: bool,
    /// It tells by which signal or message it was stopped.
    tells_its_end: bool,
    /// The same account runs it.
    account: bool,
}

const APP: App =
    App { name: "", ours: None, workers: 1, variables: &[], comes_back: true, tells_its_end: true, account: false };

struct Case {
    file: &'static str,
    arguments: &'static str,
    apps: &'static [App],
    /// A port that must answer.
    port: Option<u16>,
}

fn witnesses(machine: &Boxed, who: &str) -> Vec<Value> {
    let text = machine.ok("cat /run/witnesses");
    // The last line may be on its way.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["who"] == who).collect()
}

/// What the workers of an app found when they started, by index; and what they were told.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// How often each index was started.
    starts: BTreeMap<String, usize>,
    facts: BTreeMap<String, BTreeMap<String, String>>,
    told: BTreeSet<String>,
}

fn found(lines: &[Value], name: &str, app: &App) -> Found {
    let mut found = Found { starts: BTreeMap::new(), facts: BTreeMap::new(), told: BTreeSet::new() };
    for line in lines.iter().filter(|line| line["name"] == name) {
        let index = line["index"].as_str().unwrap().to_owned();
        if line["event"] != "start" {
            found.told.insert(format!(
                "{}{}",
                line["signal"].as_str().unwrap_or(""),
                line["message"].as_str().unwrap_or("")
            ));
            continue;
        }
        *found.starts.entry(index.clone()).or_default() += 1;
        let mut facts = BTreeMap::new();
        for variable in ["NODE_APP_INSTANCE", "instances"].iter().chain(app.variables) {
            facts.insert(format!("${variable}"), line["environment"][variable].to_string());
        }
        let accounts: &[&str] = if app.account { &["user", "group"] } else { &[] };
        for fact in ["arguments", "directory"].iter().chain(accounts) {
            facts.insert((*fact).to_owned(), line[fact].to_string());
        }
        // PM2 switches source maps on from within.
        let flags = line["runtime"].as_array().unwrap().iter().filter(|flag| *flag != "--enable-source-maps");
        facts.insert("runtime".to_owned(), flags.map(Value::to_string).collect::<Vec<_>>().join(" "));
        found.facts.insert(index, facts);
    }
    found
}

/// Starts a file's apps, kills a worker of each, stops them; says what each found.
fn run(machine: &Boxed, case: &Case, who: &str) -> Vec<Found> {
    let ours = who == "appctl";
    let command = |line: &str| {
        if ours { format!("cd /srv/apps/pm2 && appctl {line}") } else { format!("cd /srv/apps/pm2 && {PM2} {line}") }
    };
    let name = |app: &App| app.ours.filter(|_| ours).unwrap_or(app.name).to_owned();
    let starts = |app: &App| {
        let lines = witnesses(machine, who);
        lines.iter().filter(|line| line["name"] == *name(app) && line["event"] == "start").cloned().collect::<Vec<_>>()
    };
    machine.ok(&command(&format!("start {} {}", case.file, case.arguments)));
    for app in case.apps {
        machine.until(&format!("{who} runs {}", app.name), || (starts(app).len() >= app.workers).then_some(()));
    }
    if let Some(port) = case.port {
        machine.until(&format!("{who} serves on {port}"), || {
            machine.shell(&format!("curl -sf --max-time 10 127.0.0.1:{port}")).status.success().then_some(())
        });
    }
    for app in case.apps.iter().filter(|app| app.comes_back) {
        let started = starts(app);
        let first = started.iter().find(|line| line["index"] == "0").expect("an index is 0");
        let pid = first["pid"].clone();
        machine.ok(&format!("kill -KILL {pid}"));
        machine.until(&format!("{who} starts {} again", app.name), || (starts(app).len() > app.workers).then_some(()));
    }
    for app in case.apps.iter().filter(|app| !app.comes_back) {
        let pid = starts(app)[0]["pid"].clone();
        machine.until(&format!("{} ends", app.name), || {
            (!machine.shell(&format!("kill -0 {pid}")).status.success()).then_some(())
        });
    }
    machine.ok(&command("stop all"));
    for app in case.apps.iter().filter(|app| app.tells_its_end) {
        machine.until(&format!("the workers of {} tell {who}'s word", app.name), || {
            let lines = witnesses(machine, who);
            let ends = lines.iter().filter(|line| line["name"] == *name(app) && line["event"] != "start").count();
            (ends >= app.workers).then_some(())
        });
    }
    let lines = witnesses(machine, who);
    case.apps.iter().map(|app| found(&lines, &name(app), app)).collect()
}

fn same(case: &Case) {
    if !std::path::Path::new(MANIFEST).join("tests/apps/pm2/node_modules/pm2").exists() {
        return skipped("PM2 is missing in tests/apps/pm2/node_modules; get it with tests/run");
    }
    let Some(machine) = Options::default().boot() else { return };
    machine.ok("systemd-run -q --unit=collector /usr/local/bin/node /srv/apps/pm2/collector.js");
    machine.until("the collector listens", || machine.path("/run/witnesses").exists().then_some(()));
    let theirs = run(&machine, case, "pm2");
    machine.ok(&format!("{PM2} kill"));
    let ours = run(&machine, case, "appctl");
    for (app, (theirs, ours)) in case.apps.iter().zip(theirs.iter().zip(&ours)) {
        assert_eq!(theirs, ours, "{} of {}: PM2's, and ours", app.name, case.file);
        assert!(!ours.facts.is_empty(), "{}", app.name);
    }
}

#[test]
fn a_shop() {
    same(&Case {
        file: "shop/ecosystem.config.js",
        arguments: "--env production",
        port: Some(4000),
        apps: &[
            App {
                name: "shop",
                workers: 2,
                variables: &[
                    "NODE_ENV",
                    "FEATURES",
                    "PORT",
                    "CACHE",
                    "DEPLOYED",
                    "name",
                    "namespace",
                    "exec_mode",
                    "pm_cwd",
                ],
                ..APP
            },
            App { name: "shop-queue", variables: &["NODE_ENV", "FEATURES", "DEPLOYED"], ..APP },
        ],
    });
}

#[test]
fn an_api_that_numbers_its_instances() {
    same(&Case {
        file: "api/pm2.config.cjs",
        arguments: "",
        port: Some(4101),
        apps: &[App {
            name: "api v2",
            ours: Some("api-v2"),
            workers: 2,
            variables: &["MY_INDEX", "PORT", "TOKEN_LIFETIME"],
            ..APP
        }],
    });
}

#[test]
fn a_chat_and_tasks_that_end() {
    same(&Case {
        file: "chat/chat.config.mjs",
        arguments: "",
        port: Some(4200),
        apps: &[
            App { name: "chat", variables: &["PORT"], ..APP },
            App { name: "migrate", variables: &["ONCE"], comes_back: false, tells_its_end: false, ..APP },
            App { name: "import", variables: &["ONCE"], comes_back: false, tells_its_end: false, ..APP },
        ],
    });
}

#[test]
fn jobs_of_other_languages() {
    same(&Case {
        file: "jobs/ecosystem.json",
        arguments: "",
        port: None,
        apps: &[
            App { name: "report", variables: &["REGION", "PYTHONUNBUFFERED"], ..APP },
            App { name: "sweep", variables: &["GREETING"], tells_its_end: false, ..APP },
            App { name: "native", variables: &["GREETING"], tells_its_end: false, ..APP },
            App { name: "line", variables: &["A"], ..APP },
        ],
    });
}

#[test]
fn a_board_in_yaml() {
    same(&Case {
        file: "board/processes.yaml",
        arguments: "--env staging",
        port: None,
        apps: &[
            App { name: "board", variables: &["LOG_LEVEL", "EMPTY", "FLAG"], ..APP },
            App { name: "ticker", variables: &["LOG_LEVEL", "EMPTY", "FLAG"], ..APP },
        ],
    });
}

#[test]
fn legacy_spellings() {
    same(&Case {
        file: "legacy/processes.json",
        arguments: "",
        port: Some(4300),
        apps: &[
            App { name: "legacy", variables: &["PORT", "HOMEPAGE"], ..APP },
            App { name: "legacy-cmd", ..APP },
            App { name: "legacy-command", ..APP },
        ],
    });
}

#[test]
fn a_package_of_modules() {
    same(&Case {
        file: "esm/ecosystem.config.js",
        arguments: "",
        port: Some(4400),
        apps: &[App { name: "modern", variables: &["PORT"], ..APP }],
    });
}

#[test]
fn a_package_with_a_key_of_pm2s() {
    same(&Case {
        file: "package.json",
        arguments: "",
        port: Some(4700),
        apps: &[App { name: "packed", variables: &["PORT"], ..APP }],
    });
}

#[test]
fn what_is_for_pm2s_own_agent() {
    same(&Case { file: "agent/ecosystem.config.js", arguments: "", port: None, apps: &[App { name: "agent", ..APP }] });
}

#[test]
fn accounts_and_directories() {
    same(&Case {
        file: "users/ecosystem.config.cjs",
        arguments: "--env production --only tenant",
        port: Some(4600),
        apps: &[App { name: "tenant-production", variables: &["PORT", "TENANT", "HOME"], account: true, ..APP }],
    });
}

/// Exit code and standard error of a line of shell in `/srv/own`.
fn told(machine: &Boxed, line: &str) -> (i32, String) {
    let output = machine.shell(&format!("cd /srv/own && {line}"));
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

const SERVER: &str =
    "require('http').createServer((_, r) => r.end(process.env.A + process.argv[2])).listen(process.env.PORT)";

fn says(machine: &Boxed, port: u16, text: &str) -> bool {
    machine.ok(&format!("curl -s --max-time 10 127.0.0.1:{port}")) == text
}

#[test]
fn a_file_is_imported_once_and_again() {
    let file = "module.exports = { apps: [{ name: 'one', script: 'one.js', args: 'x', port: 4001, env: { A: 'a' }, namespace: 'n' }, \
                { name: 'two', script: 'one.js', port: 4002, env: { A: 'b' } }] }";
    let boxed = Options::default().file("/srv/own/one.js", SERVER).file("/srv/own/ecosystem.config.js", file).boot();
    let Some(machine) = boxed else { return };
    let out = machine.ok("cd /srv/own && appctl import --dry-run 2>&1");
    for said in [
        "one → /etc/appctl/one.toml",
        "port = 4001 → environment.PORT",
        "namespace",
        "no counterpart",
        "listen = [\"4001\"]",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
    assert!(!machine.path("/etc/appctl/one.toml").exists(), "--dry-run writes nothing");
    let (code, err) = told(&machine, "appctl start ecosystem.config.js --only one");
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("namespace") && says(&machine, 4001, "ax"), "{err}");
    assert!(!machine.path("/etc/appctl/two.toml").exists(), "only one");

    // Again, as a deployment does it: nothing, then something is new.
    let (code, err) = told(&machine, "appctl start ecosystem.config.js");
    assert!(code == 0 && err.contains("one was running already"), "{err}");
    let before = machine.main_pid("two@1.service");
    machine.ok("sed -i \"s/args: 'x'/args: 'y'/\" /srv/own/ecosystem.config.js");
    let (code, err) = told(&machine, "appctl start ecosystem.config.js");
    assert_eq!(code, 0, "{err}");
    assert!(says(&machine, 4001, "ay") && machine.main_pid("two@1.service") == before, "{err}");

    // What the operator has changed is his.
    machine.ok("sed -i 's/^workers = 1/workers = 2/' /etc/appctl/one.toml");
    for line in ["appctl start ecosystem.config.js --only one", "appctl import --only one"] {
        let (code, err) = told(&machine, line);
        assert!(code == 1 && err.contains("--force"), "{line}: {err}");
    }
    assert_eq!(told(&machine, "appctl import --only one --force").0, 0);
    assert!(machine.ok("cat /etc/appctl/one.toml").contains("workers = 1"));
    machine.ok("cd /srv/own && echo '[{script: \"one.js\", name: \"three\", port: 4003, args: \"d\", env: {A: \"c\"}}]' | appctl start -");
    assert!(says(&machine, 4003, "cd"));

    // The file in a name's place; and what a deployment says.
    let (one, two) = (machine.main_pid("one@1.service"), machine.main_pid("two@1.service"));
    machine.ok("sed -i \"s/args: 'x'/args: 'z'/; s/args: 'y'/args: 'z'/\" /srv/own/ecosystem.config.js");
    let (code, err) = told(&machine, "appctl startOrReload ecosystem.config.js");
    assert!(code == 0 && says(&machine, 4001, "az"), "{err}");
    assert!(machine.main_pid("one@1.service") != one && machine.main_pid("two@1.service") != two);
    machine.ok("cd /srv/own && appctl stop ecosystem.config.js");
    assert!(
        !machine.is_active("one.service") && !machine.is_active("two.service") && machine.is_active("three.service")
    );
    machine.ok("cd /srv/own && appctl startOrRestart ecosystem.config.js");
    assert!(says(&machine, 4001, "az"));
    machine.ok("appctl delete all");
    assert_eq!(machine.ok("ls /etc/appctl"), "");

    // In the foreground, as pm2-runtime does.
    let (code, err) = told(&machine, "appctl run ecosystem.config.js");
    assert!(code == 2 && err.contains("--only NAME: one, two"), "{err}");
    let file = ["run", "/srv/own/ecosystem.config.js", "--only", "two"];
    let mut foreground =
        machine.command("appctl").args(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    machine.until("it serves in the foreground", || {
        let output = machine.shell("curl -s --max-time 10 127.0.0.1:4002");
        (output.stdout == b"bundefined").then_some(())
    });
    foreground.kill().unwrap();
    foreground.wait().unwrap();
}

#[test]
fn a_file_in_the_place_of_names() {
    let file = "module.exports = { apps: [{ name: 'one', script: 'one.js', args: 'x', port: 4001, env: { A: 'a' }, env_b: { A: 'b' } }, \
                { name: 'two', script: 'one.js', args: 'x', port: 4002, env: { A: 'c' } }, \
                { name: 'three', script: 'one.js', port: 4003, autostart: false }] }";
    let boxed = Options::default().file("/srv/own/one.js", SERVER).file("/srv/own/ecosystem.config.js", file).boot();
    let Some(machine) = boxed else { return };
    let pids = || ["one", "two"].map(|name| machine.main_pid(&format!("{name}@1.service")));
    let routers = || ["one", "two"].map(|name| machine.main_pid(&format!("{name}.service")));
    let edit = |from: &str, to: &str| {
        machine.ok(&format!("sed -i \"s/args: '{from}'/args: '{to}'/g\" /srv/own/ecosystem.config.js"))
    };
    let go = |line: &str| {
        let (code, err) = told(&machine, &format!("appctl {line}"));
        assert_eq!(code, 0, "{line}: {err}");
        err
    };
    // What is not there is started, as by PM2; one that is not to be started by itself is not.
    let said = go("restart ecosystem.config.js");
    assert!(said.contains("three is not started"), "{said}");
    assert!(says(&machine, 4001, "ax") && says(&machine, 4002, "cx"));
    assert!(machine.path("/etc/appctl/three.toml").exists() && !machine.is_active("three.service"));

    let (before, router) = (pids(), routers());
    edit("x", "y");
    go("restart ecosystem.config.js --only one --env b --update-env");
    assert!(says(&machine, 4001, "by") && says(&machine, 4002, "cx"));
    let (after, routers_after) = (pids(), routers());
    assert!(after[0] != before[0] && after[1] == before[1] && routers_after[0] != router[0], "{before:?} {after:?}");
    edit("y", "z");
    let dry = go("reload ecosystem.config.js --dry-run 2>&1");
    let out = machine.ok("cd /srv/own && appctl reload ecosystem.config.js --dry-run");
    for said in ["would write /etc/appctl/one.toml", "would call ReloadUnit(one.service)", "ReloadUnit(two.service)"] {
        assert!(out.contains(said), "{said}: {out}{dry}");
    }
    let out = machine.ok("cd /srv/own && appctl start ecosystem.config.js --dry-run --only two");
    assert!(out.contains("would write /etc/appctl/two.toml") && out.contains("RestartUnit(two.service)"), "{out}");
    assert!(!out.contains("one.toml"), "{out}");
    assert!(pids() == after && says(&machine, 4001, "by"));
    go("reload ecosystem.config.js");
    assert!(says(&machine, 4001, "az") && says(&machine, 4002, "cz"));
    assert!(routers() == routers_after && pids()[0] != after[0] && pids()[1] != after[1]);
    // A file of ours, too; and beside names.
    let before = pids();
    machine.ok("cd /srv/own && sed 's/\"z\"/\"toml\"/' /etc/appctl/two.toml > two.toml");
    go("reload ./two.toml one");
    assert!(says(&machine, 4002, "ctoml") && pids()[0] != before[0], "{}", machine.ok("cat /srv/own/two.toml"));
    let said = go("restart one --update-env");
    assert!(said.contains("--update-env: the environment is what the app's file says"), "{said}");

    for (line, code, said) in [
        ("restart one --only two", 2, "--only is for a file of PM2's"),
        ("reload one --env b", 2, "--env is for a file; set active_profile in the file of one"),
        ("stop one --only two", 2, "--only is for a file of PM2's"),
        ("stop ecosystem.config.js --only four", 1, "ecosystem.config.js has no app four; it has one, two, three"),
        ("restart gone.config.js", 4, "no app gone.config.js"),
    ] {
        let (found, err) = told(&machine, &format!("appctl {line}"));
        assert!(found == code && err.contains(said), "{line}: {found} {err}");
    }
    go("stop ecosystem.config.js --only one");
    assert!(!machine.is_active("one.service") && machine.is_active("two.service"));
    go("start one");
    // One that is not there holds up no other.
    go("delete three");
    let (code, err) = told(&machine, "appctl stop ecosystem.config.js");
    assert!(code == 4 && err.contains("no app three"), "{err}");
    assert!(!machine.is_active("one.service") && !machine.is_active("two.service"));
    // A file that somebody has written is spared.
    machine.ok("sed -i 1d /etc/appctl/two.toml");
    let (code, err) = told(&machine, "appctl delete ecosystem.config.js");
    assert!(code == 4 && err.contains("two.toml is not ours"), "{err}");
    assert_eq!(machine.ok("ls /etc/appctl"), "two.toml");
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let Some(machine) = Options::default().file("/srv/own/one.js", SERVER).boot() else { return };
    let write = |name: &str, text: &str| machine.write(&format!("/srv/own/{name}"), text);
    write("throws.config.js", "throw new Error('no database here')");
    write("endless.config.js", "setInterval(() => {}, 1000); module.exports = new Promise(() => {})");
    write("broken.json", "{ apps: [ }");
    write("broken.yaml", "apps: [");
    write("wrong.json", "[{script: 'one.js', instances: 'many', kill_timeout: []}, {name: 'x'}]");
    write("twins.json", "[{script: 'one.js'}, {script: 'one.js'}]");
    write("cron.json", "[{script: 'one.js', name: 'cron', cron_restart: 'never'}]");
    write("package.json", "{}");
    for (arguments, code, said) in [
        ("throws.config.js", 1, &["no database here", "throws.config.js"][..]),
        ("endless.config.js", 1, &["still running after 10 s"]),
        ("broken.json", 1, &["broken.json", "ecosystem.config.js"]),
        ("broken.yaml", 1, &["broken.yaml"]),
        ("wrong.json", 1, &["instances: write a number", "kill_timeout: write milliseconds", "x: script is missing"]),
        ("twins.json", 1, &["two apps of that name"]),
        ("cron.json", 1, &["schedule.restart"]),
        ("package.json", 1, &["no key `pm2`"]),
        ("gone.json", 1, &["gone.json"]),
        ("gone.config.js", 1, &["gone.config.js"]),
        ("one.js", 2, &["no file of PM2's"]),
        ("twins.json --only three", 1, &["no app three", "one"]),
        ("", 1, &["appctl ecosystem"]),
        ("--from-pm2", 1, &["dump.pm2", "pm2 save"]),
    ] {
        let (exit, err) = told(&machine, &format!("appctl import {arguments}"));
        assert!(exit == code && said.iter().all(|said| err.contains(said)), "{arguments}: {exit}\n{err}");
    }
    let (code, err) = told(&machine, "PATH=/usr/sbin /usr/bin/appctl import throws.config.js");
    assert!(code == 1 && err.contains("no node in your PATH"), "{err}");
    let (code, err) = told(&machine, "appctl start twins.json --name x");
    assert!(code == 2 && err.contains("--name"), "{err}");
    assert!(!machine.path("/etc/appctl").exists() || machine.ok("ls /etc/appctl").is_empty());

    // Nothing says where this serves: its listen() is heard, and told of.
    write("lost.js", "require('http').createServer().listen(4000 + 9)");
    let (code, err) = told(&machine, "echo '[{script: \"lost.js\"}]' | appctl start -");
    assert!(code == 0 && err.contains("nothing says where it serves"), "{err}");
    let said = machine.journal("-u lost.service");
    assert!(said.contains("nobody reaches it") && said.contains("listen = [\"4009\"]"), "{said}");

    machine.ok("cd /srv/own && mkdir new && cd new && appctl ecosystem && test -e app.toml && touch app.js");
    let (code, err) = told(&machine, "cd new && appctl init simple");
    assert!(code == 1 && err.contains("ecosystem.config.js is there already"), "{err}");
    machine.ok("cd /srv/own/new && appctl import --env production --dry-run");
}

#[test]
fn root_evaluates_a_file_as_its_owner() {
    let file = "module.exports = [{ name: 'own', script: '/srv/own/one.js', port: 4001, \
                args: [process.getuid(), process.env.SECRET || 'nothing', process.getgroups().length] }]";
    let boxed = Options::default().file("/srv/own/one.js", SERVER).file("/srv/own/own.config.js", file).boot();
    let Some(machine) = boxed else { return };
    machine.ok("useradd --create-home alice");
    let exec = || {
        machine.ok(
            "cd /srv/own && SECRET=s appctl import --force own.config.js >/dev/null; grep ^exec /etc/appctl/own.toml",
        )
    };
    assert!(exec().ends_with("\"0\", \"s\", \"1\"]"), "root's own: {}", exec());
    machine.ok("chown alice: /srv/own/own.config.js");
    let uid = machine.ok("id -u alice");
    assert!(exec().contains(&format!("\"{uid}\", \"nothing\", ")), "{}", exec());

    machine.ok("chown root: /srv/own/own.config.js && chmod 666 /srv/own/own.config.js");
    let (code, err) = told(&machine, "appctl import own.config.js");
    assert!(code == 1 && err.contains("everybody may write"), "{err}");
    machine.ok("chmod 644 /srv/own/own.config.js && chmod 777 /srv/own");
    let (code, err) = told(&machine, "appctl import own.config.js");
    assert!(code == 1 && err.contains("everybody may write /srv/own"), "{err}");
}

#[test]
fn the_apps_of_a_running_pm2_are_taken_over() {
    if !std::path::Path::new(MANIFEST).join("tests/apps/pm2/node_modules/pm2").exists() {
        return skipped("PM2 is missing in tests/apps/pm2/node_modules; get it with tests/run");
    }
    let Some(machine) = Options::default().file("/srv/own/one.js", SERVER).boot() else { return };
    machine.ok(&format!(
        "cd /srv/own && A=shell PORT=4001 SSH_TTY=x {PM2} start one.js -i 2 --name shop -k 3000 -- x && {PM2} save"
    ));
    machine.until("PM2 serves it", || machine.shell("curl -sf 127.0.0.1:4001").status.success().then_some(()));
    let out = machine.ok("cd / && PM2_HOME=/run/pm2 appctl import --from-pm2 2>&1");
    for said in ["shop → /etc/appctl/shop.toml", "kill_timeout = 3000 → stop.timeout", "SSH_TTY", "pm2 kill"] {
        assert!(out.contains(said), "{said}: {out}");
    }
    machine.ok(&format!("{PM2} kill"));
    machine.ok("appctl start shop");
    assert!(says(&machine, 4001, "shellx"));
    let file = machine.ok("cat /etc/appctl/shop.toml");
    assert!(file.contains("workers = 2\n") && !file.contains("PATH") && !file.contains("SSH"), "{file}");
}
