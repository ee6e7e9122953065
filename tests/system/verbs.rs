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
        ("0", 4, "not by numbers"),
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
    assert_eq!(ids[1].as_u64(), ids[0].as_u64().map(|id| id + 1));
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
    assert!(stopped.iter().all(|process| process["pid"] == 0 && process["pm2_env"]["status"] == "stopped"));
    assert_eq!(done(&machine, "pid shop").trim(), "0\n0");
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
        "process.on('SIGUSR2', () => console.log('worker ' + process.env.NODE_APP_INSTANCE + ' got it'))
         require('http').createServer((_, answer) => answer.end()).listen(3000)",
    );
    done(&machine, "start signals.js -i 2");
    for (arguments, got) in [("SIGUSR2 signals", [1, 1]), ("usr2 signals@2", [1, 2]), ("12 all", [2, 3])] {
        done(&machine, &format!("sendSignal {arguments}"));
        machine.until(arguments, || {
            let said = machine.journal("-u signals@1.service -u signals@2.service");
            ([0, 1].map(|worker| said.matches(&format!("worker {worker} got it")).count()) == got).then_some(())
        });
    }
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
