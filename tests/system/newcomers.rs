//! What those who come from PM2 type out of habit.

use serde_json::Value;

use crate::boxed::{Boxed, Options};
use crate::commands::{appctl, done, list, refused};

/// It does its work, and serves nobody.
const WORK: &str = "console.log('working', process.argv.slice(2).join(' '))\nsetInterval(() => {}, 1000)\n";
const SERVES: &str = "require('http').createServer((_, answer) => answer.end('here')).listen(3000)\n";

fn boot() -> Option<Boxed> {
    let python = "import time\nprint('in Python', flush=True)\ntime.sleep(1000)\n";
    let options = Options::default().file("/srv/own/work.js", WORK).file("/srv/own/serves.js", SERVES);
    options.file("/srv/own/work.py", python).boot()
}

fn restarts(machine: &Boxed, name: &str) -> Vec<u64> {
    let all: Vec<Value> = serde_json::from_str(&done(machine, "jlist")).unwrap();
    let own = all.iter().filter(|process| process["name"] == name);
    own.map(|process| process["pm2_env"]["restart_time"].as_u64().unwrap()).collect()
}

#[test]
fn apps_that_serve_nobody_need_no_address() {
    let Some(machine) = boot() else { return };
    let (code, _, err) = appctl(&machine, "restart all");
    assert!(code == 4 && err.contains("There are no apps yet"), "{code}: {err}");

    // The first has the address that an app has; the others are no mistake.
    done(&machine, "start work.js --name one");
    let (code, _, err) = appctl(&machine, "start work.js --name two");
    assert!(code == 0 && err.contains("two.toml: 1 worker without an address"), "{err}");
    done(&machine, "start serves.js");
    assert_eq!(machine.ok("curl -sf --max-time 10 127.0.0.1:3000"), "here");
    for (name, listen) in [("one", vec!["8080"]), ("two", vec![]), ("serves", vec!["3000"])] {
        assert_eq!(list(&machine, name)["listen"], serde_json::json!(listen), "{name}");
    }
    // The same again says the same, whoever has the address by now.
    done(&machine, "delete one");
    let (code, _, err) = appctl(&machine, "start work.js --name two");
    assert!(code == 0 && !err.contains("wrote"), "{err}");

    let (code, _, err) = appctl(&machine, "start work.py -i 2");
    assert!(code == 0 && err.contains("2 workers, which no router connects to"), "{err}");
    let (code, _, err) = appctl(&machine, "start work.py --name web --listen 8090");
    assert!(code == 1 && err.contains("--runtime"), "an address needs a way there: {err}");
    let (code, _, err) = appctl(&machine, "start 'python3 work.py' --name line");
    assert!(code == 0 && err.contains("line@1 ready"), "{err}");
    done(&machine, "start \"node -e 'setInterval(() => {}, 1000)'\" --name eval");
    let (code, _, err) = appctl(&machine, "start 'my work.js'");
    assert!(code == 1 && err.contains("there is no file my work.js, and no program my"), "{err}");
    assert!(refused(&machine, 8080));
}

#[test]
fn a_script_is_a_name_of_its_apps() {
    let Some(machine) = boot() else { return };
    done(&machine, "start work.js --name one");
    done(&machine, "start work.js serves.js -- --fast");
    assert!(machine.journal("-u work@1.service").contains("working --fast"));
    done(&machine, "stop work.js");
    let states = || ["one", "work", "serves"].map(|name| list(&machine, name)["workers"][0]["state"].clone());
    assert_eq!(states(), ["stopped", "stopped", "ready"]);
    done(&machine, "restart /srv/own/work.js");
    assert_eq!(states(), ["ready", "ready", "ready"]);
    let (code, _, err) = appctl(&machine, "stop work.py");
    assert!(code == 4, "a script of nobody's: {err}");
    done(&machine, "delete serves.js");
    assert_eq!(machine.ok("ls /etc/appctl"), "one.toml\nwork.toml");
}

#[test]
fn restart_time_counts_what_was_wanted_as_well() {
    let Some(machine) = boot() else { return };
    done(&machine, "start work.js -i 2");
    assert_eq!(restarts(&machine, "work"), [0, 0]);
    done(&machine, "restart work --update-env");
    machine.ok("systemctl restart work.service");
    machine.until("both are there", || {
        let work = list(&machine, "work");
        let workers = work["workers"].as_array().unwrap();
        (workers.len() == 2 && workers.iter().all(|it| it["state"] == "ready")).then_some(())
    });
    assert_eq!(restarts(&machine, "work"), [2, 2]);
    done(&machine, "reload work");
    assert_eq!(restarts(&machine, "work"), [3, 3]);
    done(&machine, "restart 1");
    assert_eq!(restarts(&machine, "work"), [3, 4]);
    machine.ok("kill -KILL $(appctl pid 0)");
    machine.until("systemd's own count is in it", || (restarts(&machine, "work") == [4, 4]).then_some(()));
    done(&machine, "stop work");
    done(&machine, "start work");
    assert_eq!(restarts(&machine, "work")[0], 3, "no restart, but systemd begins anew");
    done(&machine, "reset work");
    assert_eq!(restarts(&machine, "work"), [0, 0]);
    assert_eq!(list(&machine, "work")["workers"][0]["restarts"], 0, "of systemd's own alone");
    done(&machine, "restart work");
    done(&machine, "delete work");
    done(&machine, "start work.js -i 2");
    assert_eq!(restarts(&machine, "work"), [0, 0], "another app of that name");
}

#[test]
fn flags_without_a_meaning_are_told_of() {
    let Some(machine) = boot() else { return };
    let flags = "-x -o out.log -e err.log --merge-logs --no-vizion --namespace shops --disable-logs";
    let (code, _, err) = appctl(&machine, &format!("start work.js {flags} -c '0 4 * * *'"));
    assert_eq!(code, 0, "{err}");
    for said in [
        "--execute-command: not needed: a Node program is always",
        "--output: not needed: the journal has",
        "--error: not needed: the journal has",
        "--merge-logs: not needed",
        "--no-vizion: not needed: no version control",
        "--namespace: no counterpart: apps have no groups",
    ] {
        assert!(err.contains(said), "{said}: {err}");
    }
    let file = machine.ok("cat /etc/appctl/work.toml");
    assert!(file.contains("StandardOutput = \"null\"") && file.contains("[schedule]"), "{file}");
    let (code, _, err) = appctl(&machine, "reload work -a");
    assert!(code == 0 && err.contains("--update-env: the environment is what the app's file says"), "{err}");
    done(&machine, "serve . --port 8091");
    assert!(machine.ok("curl -sf --max-time 10 127.0.0.1:8091/work.py").contains("in Python"));
}
