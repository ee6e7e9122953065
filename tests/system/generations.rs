//! Which workers run which code: the number in `appctl list`.

use serde_json::Value;

use crate::boxed::Boxed;
use crate::commands::{appctl, boot, done, list};

/// Each worker that runs: its generation, and whether its code is the old or the new.
fn generations(machine: &Boxed) -> Vec<(u64, String)> {
    let shop = list(machine, "shop");
    let workers = shop["workers"].as_array().unwrap().iter().filter(|worker| worker["pid"].is_u64());
    let code = |worker: &Value| worker["code"].as_str().unwrap_or("").to_owned();
    let mut all: Vec<_> = workers.map(|worker| (worker["generation"].as_u64().unwrap_or(0), code(worker))).collect();
    all.sort();
    all
}

/// All of one.
fn all(number: u64, workers: usize) -> Vec<(u64, String)> {
    vec![(number, String::new()); workers]
}

#[test]
fn each_rollout_counts_one_more() {
    let Some(machine) = boot() else { return };
    let worker = |last: &str| {
        let code = format!(
            "if (process.env.NODE_APP_INSTANCE === '{last}') throw new Error('no')
             require('http').createServer((_, answer) => answer.end()).listen(3000)"
        );
        machine.write("/srv/own/shop.js", &code);
    };
    worker("none");
    done(&machine, "start shop.js --name shop -i 2");
    assert_eq!(generations(&machine), all(1, 2));
    done(&machine, "start shop");
    assert_eq!(generations(&machine), all(1, 2), "nothing new was started");
    machine.ok("printf '[reload]\\nsettle = \"4s\"\\n' > /tmp/tail; grep -v -e settle -e reload /etc/appctl/shop.toml > /tmp/head; cat /tmp/head /tmp/tail > /etc/appctl/shop.toml");

    // In its midst.
    machine.ok(
        "systemctl daemon-reload; systemctl start --no-block shop.service; systemctl reload --no-block shop.service",
    );
    machine.until("one is new, the others old", || {
        let now = generations(&machine);
        (now.len() == 3 && now[0] == (1, "old".into()) && now[2] == (2, "new".into())).then_some(())
    });
    machine.until("the reload is over", || (generations(&machine) == all(2, 2)).then_some(()));

    // The router's end is none of the workers'.
    machine.until("no reload is under way", || (list(&machine, "shop")["router"]["state"] == "running").then_some(()));
    let router = machine.main_pid("shop.service");
    machine.ok("systemctl kill -s KILL --kill-whom=main shop.service");
    machine.until("there is another router", || {
        let now = machine.main_pid("shop.service");
        (now.is_some() && now != router && machine.is_active("shop.service")).then_some(())
    });
    assert_eq!(generations(&machine), all(2, 2));
    done(&machine, "scale shop 3");
    assert_eq!(generations(&machine), all(2, 3));
    done(&machine, "restart shop");
    assert_eq!(generations(&machine), all(3, 3));

    // Nothing of this one stays, so its number is the next one's.
    worker("0");
    assert_eq!(appctl(&machine, "reload shop").0, 1);
    assert_eq!(generations(&machine), all(3, 3));
    worker("2");
    assert_eq!(appctl(&machine, "reload shop").0, 1);
    let mixed = [(3, "old"), (4, "new"), (4, "new")].map(|(number, code)| (number, code.to_owned()));
    assert_eq!(generations(&machine), mixed);
    let status = done(&machine, "status shop");
    assert!(status.contains("ready (old code)    3  ") && status.contains("ready (new code)    4  "), "{status}");
    worker("none");
    done(&machine, "reload shop");
    assert_eq!(generations(&machine), all(5, 3));
    // Everybody may see it.
    let seen: Value = serde_json::from_str(&machine.ok("runuser -u nobody -- appctl list shop --json")).unwrap();
    assert_eq!((&seen[0]["workers"][0]["generation"], &seen[0]["reload"]["state"]), (&5.into(), &"done".into()));

    done(&machine, "delete shop");
    done(&machine, "start shop.js --name shop");
    assert_eq!(generations(&machine), all(1, 1), "an app of that name, but another one");
}
