//! PM2's verbs and selectors, as their users type them.

use serde_json::Value;

use crate::boxed::Boxed;
use crate::commands::{appctl, boot, done, list};

/// An app of one worker for each name.
fn start(machine: &Boxed, names: &[&str]) {
    for (at, name) in names.iter().enumerate() {
        done(machine, &format!("start worker.js --name {name} --listen {}", 8080 + at));
    }
}

fn jlist(machine: &Boxed) -> Vec<Value> {
    serde_json::from_str(&done(machine, "jlist")).unwrap()
}

#[test]
fn selectors_choose_apps_and_workers() {
    let Some(machine) = boot() else { return };
    let names = ["api-one", "api-two", "web"];
    start(&machine, &names);
    let pids = || names.map(|name| machine.main_pid(&format!("{name}@1.service")));
    let changed = |before: [Option<u32>; 3]| {
        let after = pids();
        let changed = names.iter().enumerate().filter(|(at, _)| before[*at] != after[*at]);
        changed.map(|(_, name)| *name).collect::<Vec<_>>()
    };
    for (selector, meant) in [
        ("'/^api-/'", vec!["api-one", "api-two"]),
        ("'/WEB|two/i'", vec!["api-two", "web"]),
        ("api-one@1 web", vec!["api-one", "web"]),
        ("all", names.to_vec()),
        ("web /web/ web", vec!["web"]),
    ] {
        let before = pids();
        done(&machine, &format!("restart {selector}"));
        assert_eq!(changed(before), meant, "{selector}");
    }
    let before = pids();
    for (selector, code, said) in [
        ("'/mail/'", 4, "no app's name matches /mail/\nThere are: api-one, api-two, web"),
        ("'/(/'", 2, "/(/ is no regular expression: unclosed group"),
        ("api-oen", 4, "Did you mean api-one?"),
        ("3", 4, "no worker has the id 3\nIds run from 0 to 2 now, `appctl list` shows whose they are."),
        ("web@9x/", 4, "web"),
    ] {
        for verb in ["restart", "reload", "stop", "delete", "reset", "list", "logs", "pid", "sendSignal USR2"] {
            // No worker of that name runs, which a command may find later.
            if selector.contains('@') {
                continue;
            }
            let (found, out, err) = appctl(&machine, &format!("{verb} {selector}"));
            assert!(found == code && err.contains(said), "{verb} {selector}: {found}\n{out}{err}");
        }
    }
    assert_eq!(changed(before), [] as [&str; 0]);
    done(&machine, "start '/api/' web");
    done(&machine, "stop '/api/'");
    assert_eq!(list(&machine, "api-two")["workers"][0]["state"], "stopped");
    assert_eq!(list(&machine, "web")["workers"][0]["state"], "ready");
    done(&machine, "cat /etc/appctl/web.toml > /dev/null || true; appctl list /etc/appctl/web.toml");
    let shown = |arguments: &str| {
        let out = done(&machine, &format!("cat {arguments}"));
        names
            .into_iter()
            .filter(|name| out.contains(&format!("/run/systemd/generator/{name}.service\n")))
            .collect::<Vec<_>>()
    };
    machine.write("/srv/own/two.json", "[{script: 'worker.js', name: 'api-one'}, {script: 'worker.js', name: 'web'}]");
    for (selector, meant) in [
        ("", names.to_vec()),
        ("all", names.to_vec()),
        ("'/^api-/' api-one", vec!["api-one", "api-two"]),
        ("2 api-one@1", vec!["api-one", "web"]),
        ("two.json", vec!["api-one", "web"]),
        ("/etc/appctl/web.toml", vec!["web"]),
    ] {
        assert_eq!(shown(selector), meant, "cat {selector}");
        let checked = done(&machine, &format!("check {selector}"));
        for name in names {
            assert_eq!(checked.contains(&format!("{name}: ok")), meant.contains(&name), "check {selector}: {checked}");
        }
    }
    for verb in ["cat", "check"] {
        for (selector, said) in
            [("7", "no worker has the id 7"), ("'/mail/'", "no app's name matches"), ("wbe", "no app `wbe`")]
        {
            let (code, out, err) = appctl(&machine, &format!("{verb} {selector}"));
            assert!(code == 4 && (out + &err).contains(said), "{verb} {selector}: {code} {err}");
        }
    }
    done(&machine, "delete '/^api-/'");
    assert_eq!(machine.ok("ls /etc/appctl"), "web.toml");
}

#[test]
fn lists_in_the_shape_of_pm2() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js -i 2 --name shop -- --port 1");
    let shop = jlist(&machine);
    assert_eq!(shop.len(), 2);
    let ids: Vec<&Value> = shop.iter().map(|process| &process["pm_id"]).collect();
    assert_eq!(ids, [0, 1], "what the workers of a single app see as pm_id");
    for (at, process) in shop.iter().enumerate() {
        let unit = format!("shop@{}.service", at + 1);
        assert_eq!(process["pid"].as_u64(), machine.main_pid(&unit).map(u64::from), "{process}");
        let env = &process["pm2_env"];
        assert_eq!((&env["status"], &env["restart_time"], &env["instances"]), (&"online".into(), &0.into(), &2.into()));
        assert_eq!((&env["exec_mode"], &env["unit"]), (&"cluster_mode".into(), &Value::from(unit)));
        assert_eq!((&env["pm_exec_path"], &env["pm_cwd"]), (&"/srv/own/worker.js".into(), &"/srv/own".into()));
        assert_eq!(env["args"], serde_json::json!(["--port", "1"]));
        assert!(process["monit"]["memory"].as_u64() > Some(1 << 20), "{process}");
        let uptime = machine.ok("date +%s%3N").parse::<u64>().unwrap() - env["pm_uptime"].as_u64().unwrap();
        assert!(uptime < 100_000, "{uptime}");
    }
    assert_eq!(done(&machine, "id shop").trim(), format!("[ {}, {} ]", ids[0], ids[1]));
    let pids = ["1", "2"].map(|slot| machine.main_pid(&format!("shop@{slot}.service")).unwrap().to_string());
    assert_eq!(done(&machine, "pid shop").trim(), pids.join("\n"));
    assert_eq!(done(&machine, "pid shop@2").trim(), pids[1]);
    assert_eq!(done(&machine, "pid").trim(), pids.join("\n"));

    machine.ok("systemctl kill -s KILL --kill-whom=main shop@2.service");
    machine.until("it is back", || {
        let process = jlist(&machine).remove(1);
        (process["pm2_env"]["status"] == "online" && process["pm2_env"]["restart_time"] == 1).then_some(())
    });
    let pretty = done(&machine, "prettylist");
    for said in ["restart_time: 1", "exec_mode: 'cluster_mode'", "status: 'online'", "args: [ '--port', '1' ]"] {
        assert!(pretty.contains(said), "{said}: {pretty}");
    }
    let listed = list(&machine, "shop");
    assert_eq!((&listed["workers"][1]["restarts"], &listed["router"]["restarts"]), (&1.into(), &0.into()));
    done(&machine, "reset shop@1");
    assert_eq!(list(&machine, "shop")["workers"][1]["restarts"], 1);
    done(&machine, "reset '/shop/'");
    assert_eq!(list(&machine, "shop")["workers"][1]["restarts"], 0);
    // Ids are the indices', whoever has them: after a reload another slot has the first.
    done(&machine, "reload shop");
    let after: Vec<Value> = jlist(&machine).iter().map(|process| process["pm_id"].clone()).collect();
    assert!(ids.iter().all(|id| after.contains(id)) && after.len() == 2, "{after:?}");

    done(&machine, "stop shop");
    let stopped = jlist(&machine);
    assert_eq!(stopped.len(), 2);
    assert!(stopped.iter().all(|process| process["pid"] == 0 && process["pm2_env"]["status"] == "stopped"));
    let (code, out, _) = appctl(&machine, "pid shop");
    assert_eq!((code, out.trim()), (3, ""), "nobody has a pid of 0");
}

/// The id of a worker by `list`, `jlist` and `id`.
fn id(machine: &Boxed, app: &str, slot: &str) -> u64 {
    let listed = list(machine, app);
    let worker = listed["workers"].as_array().unwrap().iter().find(|worker| worker["slot"] == slot).unwrap().clone();
    let id = worker["id"].as_u64().unwrap_or_else(|| panic!("{listed}"));
    let all = jlist(machine);
    let process = all.iter().find(|process| process["pm2_env"]["unit"] == worker["unit"]).unwrap();
    assert_eq!((&process["pm_id"], &process["pm2_env"]["pm_id"]), (&worker["id"], &worker["id"]));
    assert_eq!(done(machine, &format!("id {app}@{slot}")).trim(), format!("[ {id} ]"));
    id
}

#[test]
fn a_number_is_a_worker_of_the_list() {
    let Some(machine) = boot() else { return };
    start(&machine, &["solo"]);
    done(&machine, "start worker.js --name chat --listen 8090 -i 2");
    done(&machine, "start worker.js --name web --listen 8091 -i 2");
    let workers = [("chat", "1"), ("chat", "2"), ("solo", "1"), ("web", "1"), ("web", "2")];
    assert_eq!(workers.map(|(app, slot)| id(&machine, app, slot)), [0, 1, 2, 3, 4]);
    // Of one app alone they are the same.
    assert_eq!(done(&machine, "id web").trim(), "[ 3, 4 ]");
    let status = done(&machine, "status web");
    assert!(status.contains("\nID  NAME") && status.contains("\n 4  web"), "{status}");
    assert!(done(&machine, "list").contains("\n 2  solo  1"), "{}", done(&machine, "list"));

    let pids = || workers.map(|(app, slot)| machine.main_pid(&format!("{app}@{slot}.service")));
    let changed = |before: [Option<u32>; 5]| {
        let after = pids();
        (0..5).filter(|at| before[*at] != after[*at]).collect::<Vec<_>>()
    };
    let before = pids();
    let (code, _, err) = appctl(&machine, "restart 1 3");
    assert!(code == 0 && err.contains("chat@2 restarted") && err.contains("web@1 restarted"), "{err}");
    assert_eq!(changed(before), [1, 3]);
    // The only worker of an app is the app.
    let (before, router) = (pids(), machine.main_pid("solo.service"));
    done(&machine, "restart 2");
    assert_eq!(changed(before), [2]);
    assert_ne!(machine.main_pid("solo.service"), router);
    done(&machine, "reload 2");
    let (_, _, err) = appctl(&machine, "sendSignal 0 4");
    assert!(err.contains("there is no signal 0"), "{err}");
    let (code, _, err) = appctl(&machine, "sendSignal CONT 4");
    assert!(code == 0 && err.contains("SIGCONT to web@2"), "{err}");
    let before = pids();
    done(&machine, "stop 3 4");
    assert_eq!(changed(before), [3, 4]);
    assert_eq!(id(&machine, "web", "2"), 4, "one that is down keeps its place");
    done(&machine, "start 4");
    let (_, _, err) = appctl(&machine, "start 3");
    assert!(err.contains("web@1"), "{err}");
    let (_, out, err) = appctl(&machine, "env 4");
    assert!(
        err.contains("id 4 is web@2") && out.contains("NODE_APP_INSTANCE: 1") && out.contains("pm_id: 1"),
        "{err}{out}"
    );
    let (_, out, err) = appctl(&machine, "pid 4");
    assert!(err.contains("id 4 is web@2") && out.trim() == pids()[4].unwrap().to_string(), "{err}{out}");
    let (_, out, err) = appctl(&machine, "logs 1 -n 50");
    assert!(err.contains("id 1 is chat@2") && out.contains("chat@2[") && !out.contains("chat@1["), "{err}{out}");
    assert!(done(&machine, "describe 0").contains("chat: serves"));
    let (_, _, err) = appctl(&machine, "reset 0");
    assert!(err.contains("chat@1: restarts count from 0"), "{err}");
    let (_, _, err) = appctl(&machine, "restart 0 --dry-run");
    assert!(err.is_empty() && done(&machine, "restart 0 --dry-run").contains("RestartUnit(chat@1.service)"), "{err}");
    for (arguments, code, said) in [
        ("reload 0", 2, "a reload is of a whole app; `appctl restart chat@1`"),
        ("delete 4", 2, "web@2 is a worker, not an app; `appctl scale web -1`"),
        ("scale 0 3", 4, "An id is one worker's, and this is about a whole app"),
        ("restart 5", 4, "no worker has the id 5\nIds run from 0 to 4 now, `appctl list` shows whose they are."),
        ("stop -- -1", 4, "no app -1"),
    ] {
        let (found, out, err) = appctl(&machine, arguments);
        assert!(found == code && err.contains(said), "{arguments}: {found} {out}{err}");
    }
    // An app whose name is a number comes first, and takes its place in the list.
    done(&machine, "start worker.js --name 4 --listen 8092");
    assert_eq!((id(&machine, "4", "1"), id(&machine, "chat", "1"), id(&machine, "web", "2")), (0, 1, 5));
    let (before, four) = (pids(), machine.main_pid("4@1.service"));
    done(&machine, "restart 4");
    assert!(changed(before).is_empty());
    assert_ne!(machine.main_pid("4@1.service"), four);
    done(&machine, "delete 3");
    assert_eq!(machine.ok("ls /etc/appctl"), "4.toml\nchat.toml\nweb.toml");
}

#[test]
fn an_environment_without_its_secrets() {
    let Some(machine) = boot() else { return };
    machine.write(
        "/etc/appctl/shop.toml",
        "exec = 'node /srv/own/worker.js'\nworkers = 2\nlisten = 8080\n[environment]\nSTRIPE_SECRET_KEY = 's3cret'\n\
         DATABASE_URL = 'postgres://shop:s3cret@db/shop'\nNODE_ENV = 'production'\n",
    );
    let (code, _, err) = appctl(&machine, "env shop");
    assert!(code == 3 && err.contains("does not run"), "{err}");
    done(&machine, "start shop");
    let shown = done(&machine, "env shop@2");
    for line in [
        "NODE_ENV: production",
        "STRIPE_SECRET_KEY: ***",
        "DATABASE_URL: postgres://shop:***@db/shop",
        "NODE_APP_INSTANCE: 1",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(done(&machine, "env shop --show-secrets").contains("STRIPE_SECRET_KEY: s3cret"));
    let all: Value = serde_json::from_str(&done(&machine, "env shop --json")).unwrap();
    assert_eq!(all["NODE_APP_INSTANCE"], "0");
    let output = machine.shell("runuser -u nobody -- appctl env shop");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(4) && err.contains("no right"), "{err}");
    assert!(!done(&machine, "jlist").contains("s3cret"));

    let report = done(&machine, "report");
    for said in
        ["version      0.1", "systemd      systemd 2", "app shop", "shop@2.service: ready", "shop.socket: active"]
    {
        assert!(report.contains(said), "{said}: {report}");
    }
    assert!(!report.contains("s3cret"), "{report}");
    let pong = done(&machine, "ping");
    assert!(pong.contains("systemd 2") && pong.contains("\nshop: pong ("), "{pong}");
    machine.ok("systemctl kill -s STOP --kill-whom=main shop.service");
    let (code, out, _) = appctl(&machine, "ping");
    machine.ok("systemctl kill -s CONT --kill-whom=main shop.service");
    assert!(code == 1 && out.contains("shop: the router did not answer in time"), "{out}");
}

#[test]
fn a_signal_goes_to_the_main_process_of_workers() {
    let Some(machine) = boot() else { return };
    machine.write(
        "/srv/own/signals.js",
        "require('child_process').spawn('sleep', ['infinity'])
         process.on('SIGUSR2', () => console.log('worker ' + process.env.NODE_APP_INSTANCE + ' got it'))
         require('http').createServer((_, answer) => answer.end()).listen(3000)",
    );
    done(&machine, "start signals.js -i 2");
    // Beside it its own child, and the guard: the signal would end them.
    let all = || [1, 2].map(|slot| machine.processes(&format!("signals@{slot}.service")));
    machine.until("their children", || all().iter().all(|processes| processes.len() == 3).then_some(()));
    let before = all();
    for (arguments, got) in [("SIGUSR2 signals", [1, 1]), ("usr2 signals@2", [1, 2]), ("12 all", [2, 3])] {
        done(&machine, &format!("sendSignal {arguments}"));
        machine.until(arguments, || {
            let said = machine.journal("-u signals@1.service -u signals@2.service");
            ([0, 1].map(|worker| said.matches(&format!("worker {worker} got it")).count()) == got).then_some(())
        });
    }
    assert_eq!(all(), before);
    assert_eq!(appctl(&machine, "sendSignal SIGNONE signals").0, 2);
    done(&machine, "stop signals@1");
    let (code, _, err) = appctl(&machine, "sendSignal USR2 signals@1");
    assert!(code == 3 && err.contains("signals@1 does not run"), "{err}");
    done(&machine, "stop signals");
    assert_eq!(appctl(&machine, "sendSignal USR2 signals").0, 3);
}

#[test]
fn what_is_there_is_reloaded_and_what_is_not_is_started() {
    let Some(machine) = boot() else { return };
    machine.write("/srv/own/shop.toml", "exec = 'node worker.js'\ndirectory = '/srv/own'\nlisten = 8080\n");
    let pid = || ["shop.service", "shop@1.service", "shop@2.service"].map(|unit| machine.main_pid(unit));
    done(&machine, "startOrReload shop.toml");
    let first = pid();
    assert!(first[1].is_some());
    // It takes over what the file says now, without a gap.
    machine.ok("sed -i 's/^listen/drain = \"1s\"\\nlisten/' /srv/own/shop.toml");
    done(&machine, "startOrGracefulReload shop.toml");
    let second = pid();
    assert!(second[0] == first[0] && second[2].is_some(), "{first:?} {second:?}");
    assert!(machine.ok("cat /etc/appctl/shop.toml").contains("drain"));
    done(&machine, "startOrRestart shop");
    assert_ne!(pid()[0], first[0]);
    done(&machine, "stop shop");
    done(&machine, "startOrReload '/sh/'");
    assert!(pid()[0].is_some());
    let (code, _, err) = appctl(&machine, "startOrReload shpo");
    assert!(code == 4 && err.contains("Did you mean shop?"), "{err}");
}

/// What `appctl` writes to a terminal, and how much memory it had at the most, in KiB.
fn on_a_terminal(machine: &Boxed, arguments: &str, environment: &str) -> (String, u64) {
    machine.write(
        "/srv/terminal.py",
        "import os, pty, re, sys
pid, terminal = pty.fork()
if pid == 0: os.execvp('appctl', ['appctl'] + sys.argv[1:])
peak = 0
while True:
    try: data = os.read(terminal, 65536)
    except OSError: break
    if not data: break
    os.write(1, data)
    # Gone with the process.
    try: peak = int(re.search(r'VmHWM:\\s+(\\d+)', open(f'/proc/{pid}/status').read()).group(1))
    except (OSError, AttributeError): pass
os.write(2, str(peak).encode())
",
    );
    let output =
        machine.shell(&format!("cd /srv/own && env TERM=xterm {environment} python3 /srv/terminal.py {arguments}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let peak = String::from_utf8_lossy(&output.stderr).trim().parse().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), peak)
}

#[test]
fn logs_of_several_apps() {
    let Some(machine) = boot() else { return };
    machine.write(
        "/srv/own/talk.js",
        "console.log('<3>a bad timeout')
         console.log('all is well')
         require('http').createServer((_, answer) => answer.end()).listen(3000)",
    );
    done(&machine, "start talk.js --name api-one -i 2");
    done(&machine, "start talk.js --name api-two --listen 8081");
    done(&machine, "start talk.js --name web --listen 8082");
    machine.ok("journalctl --sync");
    let count = |arguments: &str, word: &str| done(&machine, arguments).matches(word).count();
    assert_eq!(count("logs '/^api-/' -n 200 --raw", "all is well"), 3);
    assert_eq!(count("logs web api-one@2 -n 200 --raw", "all is well"), 2);
    assert_eq!(count("logs all -n 200 --out", "all is well"), 4);
    assert_eq!(count("logs all -n 200 --out", "timeout"), 0);
    assert_eq!((count("logs all -n 200 --err", "timeout"), count("logs all -n 200 --err", "all is well")), (4, 0));
    assert_eq!(count("logs all --nostream --lines 0", "all is well"), 0);
    assert_eq!(count("logs all --since '1 hour ago' --raw", "all is well"), 4);
    assert_eq!(done(&machine, "logs web --since now --raw"), "");
    let json = done(&machine, "logs web --json -n 200");
    let entries: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(entries.iter().any(|entry| entry["MESSAGE"] == "all is well" && entry["SLOT"] == "1"), "{json}");
    let keyed = done(&machine, "logs '/^api-/' web -n 200 --format");
    let mut said: Vec<String> = keyed
        .lines()
        .filter(|line| line.contains("all is well") || line.contains("a bad timeout"))
        .map(|line| line.split_once(' ').map(|(_, rest)| rest.to_owned()).unwrap())
        .collect();
    said.sort();
    let workers = [("api-one", 0, 1), ("api-one", 1, 2), ("api-two", 2, 1), ("web", 3, 1)];
    let mut expected = Vec::new();
    for (app, id, slot) in workers {
        expected.push(format!("app={app} id={id} unit={app}@{slot}.service type=error message=a bad timeout"));
        expected.push(format!("app={app} id={id} unit={app}@{slot}.service type=out message=all is well"));
    }
    assert_eq!(said, expected, "{keyed}");
    let time =
        |line: &str| line.starts_with("timestamp=20") && line.split(' ').next().is_some_and(|it| it.ends_with('Z'));
    assert!(keyed.lines().all(time), "{keyed}");
    assert!(keyed.contains("app=web unit=web.service type=out message="), "{keyed}");
    let iso = done(&machine, "logs web -n 200 --timestamp --out");
    let line = iso.lines().find(|line| line.contains("all is well")).unwrap();
    assert!(line.starts_with("20") && line.contains('T') && line.contains(" web@1["), "{line}");
    assert!(!iso.contains('\x1b'), "no colour in a pipe");
    for (wrong, said) in [
        ("--raw --highlight x", "cannot be used with"),
        ("--timestamp=never", "possible values"),
        ("--err --out", "cannot be used with"),
        ("--format --json", "cannot be used with"),
        ("--format --raw", "cannot be used with"),
    ] {
        let (code, _, err) = appctl(&machine, &format!("logs web {wrong}"));
        assert!(code == 2 && err.contains(said), "{wrong}: {err}");
    }

    let (painted, _) = on_a_terminal(&machine, "logs '/^api-/' -n 200 --highlight timeout", "");
    let colour = |worker: &str| {
        let line =
            painted.lines().find(|line| line.contains(&format!("m{worker}["))).unwrap_or_else(|| panic!("{painted}"));
        let before = &line[..line.find(worker).unwrap()];
        before[before.rfind("\x1b[").unwrap()..].to_owned()
    };
    let colours = ["api-one@1", "api-one@2", "api-two@1"].map(colour);
    assert!(colours[0] != colours[1] && colours[1] != colours[2] && colours[0] != colours[2], "{painted}");
    assert!(painted.contains("a bad \x1b[7mtimeout\x1b[27m"), "{painted}");
    let (plain, _) = on_a_terminal(&machine, "logs '/^api-/' -n 200", "NO_COLOR=1");
    assert!(plain.contains("api-one@1[") && !plain.contains("\x1b[3"), "{plain}");
    let (listed, _) = on_a_terminal(&machine, "list", "");
    assert!(listed.contains("\x1b[32mready"), "{listed}");
    let (listed, _) = on_a_terminal(&machine, "list", "NO_COLOR=1");
    assert!(listed.contains("ready") && !listed.contains('\x1b'), "{listed}");
}

#[test]
fn logs_hold_one_line_at_a_time() {
    let Some(machine) = boot() else { return };
    machine.write(
        "/srv/own/big.js",
        "const line = 'x'.repeat(40000) + '\\n'
         for (let i = 0; i < 2500; i++) require('fs').writeSync(1, line)
         console.log('that is all')
         require('http').createServer((_, answer) => answer.end()).listen(3000)",
    );
    done(&machine, "start big.js");
    machine.until("the journal has it all", || {
        machine.journal("-u big@1.service -n 5").contains("that is all").then_some(())
    });
    let (text, peak) = on_a_terminal(&machine, "logs big -n 3000", "");
    assert!(text.len() > 100_000_000 && text.contains("that is all"), "{}", text.len());
    assert!(peak > 1000 && peak < 60_000, "{peak} KiB for {} bytes", text.len());
}

#[test]
fn a_dry_run_tells_all_and_does_nothing() {
    let Some(machine) = boot() else { return };
    let said = |arguments: &str, lines: &[&str]| {
        let before = state(&machine);
        let out = done(&machine, arguments);
        assert_eq!(state(&machine), before, "{arguments}");
        for line in lines {
            assert!(out.lines().any(|told| told == *line), "{arguments}: {line}\n{out}");
        }
        out
    };
    let start = [
        "would write /etc/appctl/shop.toml",
        "  | workers = 2",
        "would call Reload()",
        "would call StartUnit(shop.socket)",
        "would call StartUnit(shop-channel.socket)",
        "would call StartUnit(shop.service)",
        "would call StartUnit(shop@2.service)",
    ];
    said("start worker.js -i 2 --name shop --dry-run", &start);
    done(&machine, "start worker.js -i 2 --name shop");
    assert_eq!(said("start shop --dry-run", &[]), "", "all of it runs");
    let stop = [
        "would call StopUnit(shop.service)",
        "would call StopUnit(shop.socket)",
        "would call StopUnit(shop@1.service)",
    ];
    let out = said("stop shop --dry-run", &stop);
    assert!(!out.contains("metrics"), "what it has not is not stopped: {out}");
    said("stop shop@2 --dry-run", &["would call StopUnit(shop@2.service)"]);
    said("restart shop --dry-run", &["would call RestartUnit(shop.service)"]);
    said("restart shop@1 --dry-run", &["would call RestartUnit(shop@1.service)"]);
    said("reload shop --dry-run", &["would call ReloadUnit(shop.service)"]);
    said(
        "scale shop 3 --dry-run",
        &["would write /etc/appctl/shop.toml", "  | workers = 3", "would call StartUnit(shop@3.service)"],
    );
    said("scale shop 1 --dry-run", &["would call StopUnit(shop@2.service)"]);
    said("delete shop --dry-run", &["would remove /etc/appctl/shop.toml", "would call StopUnit(shop.slice)"]);
    let steps: Value = serde_json::from_str(&said("stop shop --dry-run --json", &[])).unwrap();
    assert_eq!(steps[0]["step"], "call");
    let (code, _, err) = appctl(&machine, "start worker.js -i 7 --name shop --dry-run");
    assert!(code == 1 && err.contains("--force"), "{err}");
    said("start worker.js -i 3 --name shop --force --dry-run", &["would call RestartUnit(shop.service)"]);
    // What was told is what is done.
    done(&machine, "stop shop");
    for unit in ["shop.service", "shop.socket", "shop@1.service"] {
        assert!(!machine.is_active(unit), "{unit}");
    }
    assert_eq!(appctl(&machine, "reload shop --dry-run").0, 1);
    assert_eq!(appctl(&machine, "stop shpo --dry-run").0, 4);
}

/// Everything that a command could have changed.
fn state(machine: &Boxed) -> String {
    machine.ok("ls /etc/appctl 2>/dev/null; cat /etc/appctl/*.toml 2>/dev/null; \
                systemctl list-units --all --no-legend --plain 'shop*'; systemctl show -p MainPID 'shop*.service'; true")
}
