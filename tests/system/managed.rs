//! What Ansible, cloud-init and the like need: a second run changes nothing and says so, exit codes that mean something.

use serde_json::{Value, json};

use crate::boxed::{Boxed, Options};

const APP: &str = "if (require('fs').existsSync('/run/bad')) process.exit(7);
                   require('http').createServer((q, r) => r.end('served')).listen(3000);";
const FILE: &str = "exec = [\"node\", \"/srv/app.js\"]\nworkers = 2\nlisten = [\"3000\"]\n[restart]\nlimit = 2\n";

fn boot() -> Option<Boxed> {
    Options::default().file("/srv/app.js", APP).file("/srv/shop.toml", FILE).boot()
}

/// Exit code, what `--json` says, and what people are told.
fn run(machine: &Boxed, arguments: &str) -> (i32, Value, String) {
    let output = machine.shell(&format!("cd /srv && appctl {arguments}"));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), told)
}

#[test]
fn a_second_start_changes_nothing_and_says_so() {
    let Some(machine) = boot() else { return };
    let shop = |changed, reload_needed| json!({ "name": "shop", "scope": "system", "changed": changed, "serves": true, "reload_needed": reload_needed });
    let (code, first, told) = run(&machine, "start ./shop.toml --json");
    assert_eq!((code, first), (0, shop(true, false)), "{told}");
    let before = machine.ok("appctl pid shop; stat -c %Y%i /etc/appctl/shop.toml");
    for again in ["start ./shop.toml --json", "start shop --json", "start ./shop.toml --force --json"] {
        let (code, second, told) = run(&machine, again);
        assert_eq!((code, second), (0, shop(false, false)), "{again}: {told}");
        assert!(told.contains("shop was running already, with 2 workers"), "{told}");
    }
    assert_eq!(machine.ok("appctl pid shop; stat -c %Y%i /etc/appctl/shop.toml"), before);
    // A file that was changed in its place holds when somebody says so.
    machine.ok("sed -i '$ a interval = \"1min\"' /etc/appctl/shop.toml");
    let (code, third, told) = run(&machine, "start shop --json");
    assert_eq!((code, third), (0, shop(false, true)), "{told}");
    assert!(told.contains("its file says something else by now: `appctl reload shop` lets that hold"), "{told}");
    machine.ok("appctl reload shop");
    assert_eq!(run(&machine, "start shop --json").1, shop(false, false));
    // Another one is not installed over it unless that is said.
    let (code, _, told) = run(&machine, "start ./shop.toml");
    assert_eq!(code, 1);
    assert!(told.contains("is there already, and says something else"), "{told}");
    assert_eq!(run(&machine, "start ./shop.toml --force --json").1["changed"], true);
    assert_eq!(run(&machine, "start ./shop.toml --force --json").1["changed"], false);
}

#[test]
fn a_start_that_is_not_waited_for() {
    let gated = "const fs = require('fs'), wait = new Int32Array(new SharedArrayBuffer(4));
                 while (!fs.existsSync('/run/go')) Atomics.wait(wait, 0, 0, 20);";
    // It would wait for ever.
    let file = format!("{FILE}[ready]\ntimeout = \"1h\"\n");
    let options = Options::default().file("/srv/app.js", &format!("{gated}{APP}")).file("/srv/shop.toml", &file);
    let Some(machine) = options.boot() else { return };
    let mut start = crate::reload::background(&machine, "cd /srv && appctl start ./shop.toml --no-block --json");
    machine.until("the command has ended", || start.try_wait().unwrap());
    let output = start.wait_with_output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = (output.status.code(), &told["changed"], &told["serves"]);
    assert_eq!(told, (Some(0), &true.into(), &Value::Null), "{output:?}");
    machine.ok("touch /run/go");
    machine
        .until("it serves", || machine.shell("curl -sf -m 20 http://127.0.0.1:3000/").status.success().then_some(()));
}

#[test]
fn exit_codes_mean_what_the_manual_says() {
    let Some(machine) = boot() else { return };
    machine.ok("useradd bob");
    let code = |line: &str| machine.shell(&format!("cd /srv && {line}")).status.code().unwrap();
    assert_eq!(code("appctl start ./shop.toml"), 0);
    assert_eq!(code("appctl start --no-such-flag shop"), 2);
    assert_eq!(code("appctl start nothing"), 4);
    assert_eq!(code("runuser -u bob -- appctl --system stop shop"), 4);
    assert_eq!(code("appctl stop shop"), 0);
    assert_eq!(code("appctl stop shop"), 0, "it is stopped, that is all that was asked for");
    assert_eq!(code("appctl reload shop"), 3);
    assert_eq!(code("touch /run/bad; appctl start shop"), 1);
    assert_eq!(code("appctl delete shop"), 0);
    assert_eq!(code("appctl delete shop"), 4);
}
