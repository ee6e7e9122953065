//! Metrics and actions of apps (@pm2/io), seen and called by the operator.

use serde_json::Value;

use crate::boxed::{Boxed, Options};

const WORKERS: usize = 3;

fn file(package: &str, workers: usize) -> String {
    format!(
        "exec = [\"node\", \"/srv/apps/pmx/app.js\"]\nworkers = {workers}\nlisten = [\"8080\"]\ndrain = \"2s\"\n\
         [reload]\nsettle = \"0s\"\n[environment]\nPACKAGE = \"{package}\"\n"
    )
}

/// Exit code, standard output, standard error.
fn appctl(machine: &Boxed, arguments: &str) -> (i32, String, String) {
    let output = machine.shell(&format!("appctl {arguments}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(machine: &Boxed, arguments: &str) -> Value {
    let (_, out, err) = appctl(machine, arguments);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments}: {error}: {out}{err}"))
}

fn workers(status: &Value) -> &Vec<Value> {
    status[0]["workers"].as_array().unwrap()
}

/// Waits until every worker shows its metrics, and has its actions.
fn until_shown(machine: &Boxed, workers_wanted: usize) -> Value {
    machine.until("all workers show their metrics", || {
        let status = json(machine, "status app --json");
        let shows = |worker: &&Value| {
            worker["metrics"].as_array().is_some_and(|it| it.iter().any(|metric| metric["name"] == "Users"))
        };
        (workers(&status).iter().filter(shows).count() == workers_wanted).then_some(status)
    })
}

#[test]
fn metrics_and_actions_of_an_app() {
    if !std::path::Path::new(crate::boxed::MANIFEST).join("tests/apps/pmx/node_modules").exists() {
        return crate::boxed::skipped("no packages in tests/apps/pmx; tests/run installs them");
    }
    let Some(machine) = Options::default().file("/etc/appctl/app.toml", &file("@pm2/io", WORKERS)).boot() else {
        return;
    };
    machine.ok("appctl start app");
    let status = until_shown(&machine, WORKERS);
    let users: i64 = workers(&status)
        .iter()
        .flat_map(|it| it["metrics"].as_array().unwrap())
        .filter(|it| it["name"] == "Users")
        .map(|it| it["value"].as_i64().unwrap())
        .sum();
    assert_eq!(users, 10 + 11 + 12);
    let (_, text, _) = appctl(&machine, "describe app");
    for wanted in [
        "Downloads",
        "users",
        "Mood",
        "appctl trigger app ACTION",
        "log-level [PARAM]",
        "commented  what it is for",
        "km:heapdump",
    ] {
        assert!(text.contains(wanted), "{wanted}:\n{text}");
    }
    let page = machine.ok("appctl metrics app");
    assert!(page.contains("appctl_app_metric{app=\"app\",worker=\"2\",metric=\"Downloads\",unit=\"\"} 6\n"), "{page}");
    let listed = json(&machine, "jlist");
    let env = &listed[0]["pm2_env"];
    assert_eq!(env["axm_monitor"]["Downloads"]["value"], 6, "{env}");
    assert!(env["axm_actions"].as_array().unwrap().iter().any(|it| it["action_name"] == "who" && it["arity"] == 1));

    every_kind_of_answer(&machine);
    what_can_go_wrong(&machine);

    // The actions were told once, to a router that is killed now.
    let router = machine.main_pid("app.service").unwrap();
    machine.ok(&format!("kill -9 {router}"));
    machine.until("another router", || machine.main_pid("app.service").filter(|pid| *pid != router));
    let (code, out, err) = appctl(&machine, "trigger app who");
    assert_eq!((code, out.lines().count()), (0, WORKERS), "{out}{err}");
    until_shown(&machine, WORKERS);

    // New workers tell their own; those that are gone leave nothing behind.
    machine.ok("appctl reload app");
    let status = until_shown(&machine, WORKERS);
    assert_eq!(workers(&status).len(), WORKERS);
    let (code, out, err) = appctl(&machine, "trigger app log-level");
    assert_eq!((code, out.matches("{\"level\":{},\"type\":\"object\"}").count()), (0, WORKERS), "{out}{err}");
}

/// What the actions of `tests/apps/pmx/app.js` answer.
fn every_kind_of_answer(machine: &Boxed) {
    let (code, out, err) = appctl(machine, "trigger app who");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), WORKERS, "{out}");
    for (slot, line) in lines.iter().enumerate() {
        assert!(
            line.starts_with(&format!("app@{}: {{\"index\":", slot + 1)) && line.ends_with("\"list\":[1,\"é\",null]}"),
            "{line}"
        );
    }
    let (code, out, err) = appctl(machine, "trigger app@2 log-level 'de bug ☃'");
    assert_eq!((code, out.trim()), (0, "app@2: {\"level\":\"de bug ☃\",\"type\":\"string\"}"), "{err}");
    let (code, out, _) = appctl(machine, "trigger 1 log-level x");
    assert!(code == 0 && out.lines().count() == 1 && out.contains("\"level\":\"x\""), "by the id of a worker: {out}");
    assert_eq!(appctl(machine, "trigger app@1 twice"), (0, "app@1: \"first\"\n".into(), String::new()));
    assert_eq!(appctl(machine, "trigger app@1 commented"), (0, "app@1: null\n".into(), String::new()));
    let (code, out, _) = appctl(machine, "trigger app@3 report x");
    let parts = "app@3: {\"param\":\"x\",\"part\":1}\napp@3: {\"param\":\"x\",\"part\":2}\napp@3: {\"param\":\"x\",\"part\":3}\n";
    assert_eq!((code, out), (0, format!("{parts}app@3: \"done\"\n")));
    let told = json(machine, "trigger app@3 report x --json");
    assert_eq!(
        (&told[0]["outcome"], &told[0]["answer"], told[0]["parts"].as_array().unwrap().len()),
        (&"answered".into(), &"done".into(), 3)
    );
    // Two at once of the same action: each gets its own answer, though they do not say whose they are.
    let call = |when: &str| format!("test \"$(appctl trigger app@1 later {when})\" = 'app@1: \"{when}\"'");
    let slow = crate::reload::background(machine, &call("/run/go"));
    machine.until("the first is under way", || machine.journal("-u app@1").contains("waits for /run/go").then_some(()));
    let quick = crate::reload::background(machine, &call("1"));
    machine.until("the other one is asked for, too", || {
        let asked = machine.ok("ss -xH state established src /run/appctl/app/control");
        (asked.lines().count() == 2).then_some(())
    });
    machine.ok("touch /run/go");
    for call in [slow, quick] {
        let output = call.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

fn what_can_go_wrong(machine: &Boxed) {
    let fails = |arguments: &str, code: i32, words: &[&str]| {
        let (found, out, err) = appctl(machine, arguments);
        assert_eq!(found, code, "{arguments}: {out}{err}");
        for word in words {
            assert!(err.contains(word), "{arguments}: {word:?} in {err}");
        }
        out
    };
    let out = fails("trigger app@1 refuse", 1, &["app@1 says that it has failed"]);
    assert!(out.contains("not today"), "{out}");
    fails("trigger app@1 broken", 1, &["app@1 failed: {\"reason\":\"no\"}"]);
    fails("trigger app never --timeout 300ms", 1, &["app@2 has not answered within 300ms", "app@3 has not"]);
    fails("trigger app whom", 1, &["app has no action whom\nDid you mean who?"]);
    fails("trigger app xyzzy", 1, &["There are: broken, commented, fail"]);
    fails("trigger ap who", 4, &["Did you mean app?"]);
    fails("trigger app@9 who", 3, &["app@9 does not run"]);
    fails("trigger app who --timeout soon", 2, &["soon"]);
    fails("trigger app", 2, &["<ACTION>"]);
    let told = json(machine, "trigger app@1 never --timeout 100ms --json");
    assert_eq!(told[0]["outcome"], "timed_out", "{told}");
    // The action throws, as all of @pm2/io's do in the worker itself: it ends, and is started again.
    fails("trigger app@2 fail", 1, &["app@2 ended before it had answered; `appctl logs app@2` tells more"]);
    machine.until("worker 2 is back, with its actions", || (appctl(machine, "trigger app@2 who").0 == 0).then_some(()));
    let denied = machine.shell("runuser -u nobody -- appctl trigger app who");
    let text = String::from_utf8_lossy(&denied.stderr);
    assert!(denied.status.code() == Some(4) && text.contains("for root and the group appctl"), "{text}");
    // An app without any; workers without a channel; one that does not run.
    machine.write("/srv/none.js", "require('http').createServer((q, r) => r.end()).listen(process.env.PORT || 3000);");
    let app = |listen: u16, more: &str| {
        format!("exec = [\"node\", \"/srv/none.js\"]\nworkers = 1\nlisten = [\"{listen}\"]\n{more}\n")
    };
    machine.write("/etc/appctl/none.toml", &app(8081, ""));
    machine.write("/etc/appctl/outside.toml", &app(8082, "runtime = \"port\""));
    machine.write("/etc/appctl/down.toml", &app(8083, ""));
    machine.ok("appctl start none outside");
    fails("trigger none who", 1, &["none has no actions: its program has registered none"]);
    fails("trigger outside who", 1, &["outside has no actions: its workers have no channel"]);
    fails("trigger down who", 3, &["down does not run\n`appctl start down` starts it."]);
    // Of all, those that have it.
    let (code, out, err) = appctl(machine, "trigger all who");
    assert_eq!((code, out.lines().count(), err.as_str()), (0, WORKERS, ""), "{out}");
    machine.ok("appctl delete none outside down");
}

/// What `appctl send` says instead.
#[test]
fn a_line_reaches_a_worker_by_a_fifo() {
    let script = "require('http').createServer((q, r) => r.end()).listen(3000);\
                  require('readline').createInterface({ input: process.stdin }).on('line', (line) => console.log('got ' + line));";
    let file = "exec = [\"sh\", \"-c\", \"exec node /srv/lines.js <>/run/lines.in\"]\nworkers = 1\nlisten = [\"8080\"]\nuser = \"nobody\"\n";
    let options = Options::default().file("/srv/lines.js", script).file("/etc/appctl/lines.toml", file);
    let Some(machine) = options.boot() else { return };
    let (code, _, err) = appctl(&machine, "send lines hello");
    assert!(code == 2 && err.contains("<>/run/NAME.in"), "{err}");
    machine.ok("mkfifo -m 600 /run/lines.in && chown nobody /run/lines.in && appctl start lines");
    assert_eq!(machine.ok("curl -s -o /dev/null -w '%{http_code}' 127.0.0.1:8080"), "200");
    for line in ["hello", "and again"] {
        machine.ok(&format!("echo '{line}' > /run/lines.in"));
        machine.until("it has read the line", || {
            machine.journal("-u lines@1").contains(&format!("got {line}")).then_some(())
        });
    }
}
