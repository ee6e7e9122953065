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
    let shop = |changed, reload_needed| {
        json!({
            "name": "shop", "scope": "system", "changed": changed, "serves": true, "reload_needed": reload_needed,
            "restart_needed": false,
        })
    };
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
    for again in ["start ./shop.toml --no-block --json", "start shop --no-block --json"] {
        let (code, told, text) = run(&machine, again);
        assert_eq!((code, &told["changed"], &told["serves"]), (0, &false.into(), &Value::Null), "{text}");
        assert!(text.contains("shop was started already"), "{text}");
    }
}

#[test]
fn what_a_change_of_the_file_still_needs_is_told_at_once() {
    let Some(machine) = boot() else { return };
    machine.ok("cd /srv && appctl start ./shop.toml");
    let change = |from: &str, to: &str| machine.ok(&format!("sed -i 's/{from}/{to}/' /etc/appctl/shop.toml"));
    let needs = |told: &Value| ["changed", "reload_needed", "restart_needed"].map(|key| told[key].as_bool().unwrap());
    let start = || {
        let (code, told, text) = run(&machine, "start shop --json");
        assert_eq!(code, 0, "{text}");
        (needs(&told), text)
    };
    // A worker is started, and the others still have the file as it was.
    change("workers = 2", "workers = 3");
    let (told, text) = start();
    assert_eq!(told, [true, true, false], "{text}");
    assert!(text.contains("`appctl reload shop` lets that hold"), "{text}");
    machine.ok("appctl reload shop");
    assert_eq!(start().0, [false, false, false]);

    // A reload leaves the addresses as they are, and nobody is told that they are others.
    change("3000", "127.0.0.1:3001");
    for expected in [[false, true, true], [false, false, true]] {
        let (told, text) = start();
        assert_eq!(told, expected, "{text}");
        assert!(text.contains("shop was running already, with 3 workers on [::]:3000\n"), "{text}");
        assert!(text.contains("its file has other addresses by now: `appctl restart shop` lets them hold"), "{text}");
        machine.ok("appctl reload shop");
    }
    machine.ok("appctl restart shop && curl -sf -m 20 http://127.0.0.1:3001/");
    let (told, text) = start();
    assert_eq!(told, [false, false, false], "{text}");
    assert!(text.contains("on http://127.0.0.1:3001\n"), "{text}");

    // Its first address, while it runs.
    change("listen = .*", "");
    machine.ok("appctl restart shop");
    machine.ok("sed -i '1 i listen = [\"3002\"]' /etc/appctl/shop.toml");
    let (told, text) = start();
    assert_eq!(told, [false, true, true], "{text}");
    machine.ok("appctl restart shop && curl -sf -m 20 http://127.0.0.1:3002/");
}

#[test]
fn nothing_is_stopped_for_an_address_that_is_taken() {
    let Some(machine) = boot() else { return };
    machine.ok("systemd-run --quiet --unit=other --service-type=notify --property=NotifyAccess=all -- \
                node -e \"require('net').createServer().listen(4000, () => require('child_process').execFileSync('systemd-notify', ['--ready']))\"");
    machine.ok("cd /srv && appctl start ./shop.toml");
    let before = machine.ok("appctl pid shop");
    let router = machine.main_pid("shop.service");
    for wrong in
        ["s/3000/127.0.0.1:4000/", "s/.*4000.*/listen = [\"3000\"]/; $ a [router]\\nmetrics = \"127.0.0.1:4000\""]
    {
        machine.ok(&format!("sed -i '{wrong}' /etc/appctl/shop.toml"));
        let (code, _, told) = run(&machine, "restart shop");
        assert_eq!(code, 1, "{told}");
        assert!(
            told.contains("error: 127.0.0.1:4000, where shop is to serve, is taken\n  4000 is taken by node (pid "),
            "{told}"
        );
        assert!(told.contains(", of other.service)\nshop is not restarted; it is left as it is"), "{told}");
        assert_eq!((machine.ok("appctl pid shop"), machine.main_pid("shop.service")), (before.clone(), router));
        machine.ok("curl -sf -m 20 http://127.0.0.1:3000/");
    }
    // And installing such a file says what is so.
    let (code, said, _) = run(&machine, "start ./shop.toml --name shop --force --json");
    assert_eq!((code, &said["serves"]), (0, &json!(true)), "{said}");
    machine.ok("sed 's/3000/127.0.0.1:4000/' /srv/shop.toml >/srv/taken.toml");
    let (code, said, told) = run(&machine, "start ./taken.toml --name shop --force --json");
    assert_eq!((code, &said["serves"], &said["restart_needed"]), (1, &json!(false), &json!(true)), "{said} {told}");
    machine.ok("curl -sf -m 20 http://127.0.0.1:3000/");

    // What failed stays on hold when it is not restarted.
    machine.ok("touch /run/bad");
    assert_eq!(run(&machine, "reload shop").0, 1);
    let held = "ls /run/appctl/.held";
    assert_eq!(machine.ok(held), "shop.toml");
    let (code, _, told) = run(&machine, "restart shop");
    assert!(code == 1 && told.contains("is taken"), "{told}");
    assert_eq!(machine.ok(held), "shop.toml");
    machine.ok("rm /run/bad && systemctl stop other && appctl restart shop && curl -sf -m 20 http://127.0.0.1:4000/");
}

#[test]
fn a_port_that_its_own_worker_has_is_not_taken() {
    let own = "require('http').createServer((q, r) => r.end('served')).listen(process.env.PORT || 3000)";
    let file = "exec = [\"node\", \"/srv/own.js\"]\nruntime = \"none\"\n";
    let Some(machine) = Options::default().file("/srv/own.js", own).file("/srv/own.toml", file).boot() else { return };
    machine.ok("cd /srv && appctl start ./own.toml");
    machine
        .until("it listens", || machine.shell("curl -sf -m 20 http://127.0.0.1:3000/").status.success().then_some(()));
    machine.ok("sed -i 's/\"none\"/\"port\"/; $ a listen = [\"3000\", \"/var/run/own.sock\"]' /etc/appctl/own.toml");
    let dry = machine.ok("appctl restart own --dry-run");
    assert!(dry.contains("StartUnit(own.socket") && dry.contains("StartUnit(own.service"), "{dry}");
    let (code, _, told) = run(&machine, "restart own");
    assert_eq!(code, 0, "{told}");
    machine.ok("curl -sf -m 20 http://127.0.0.1:3000/ && curl -sf -m 20 --unix-socket /run/own.sock http://own/");
    // systemd calls that /run/own.sock.
    assert_eq!(run(&machine, "start own --json").1["restart_needed"], false);
}

#[test]
fn what_systemd_may_not_start_or_does_not_know_is_called_so() {
    let Some(machine) = boot() else { return };
    machine.ok("cd /srv && appctl start ./shop.toml --no-block && systemctl mask shop.service && appctl stop shop");
    let (code, _, told) = run(&machine, "start shop");
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("error: shop.service is masked") && told.contains("systemctl unmask shop.service"), "{told}");
    let status = || String::from_utf8(machine.shell("appctl status shop").stdout).unwrap();
    assert!(status().ends_with("shop.service is masked: `systemctl unmask shop.service` allows it to start.\n"));
    machine.ok("systemctl unmask shop.service && appctl start shop");
    let before = machine.ok("appctl pid shop; systemctl mask shop.service");
    let (code, _, told) = run(&machine, "restart shop");
    assert!(code == 1 && told.contains("error: shop.service is masked"), "{told}");
    machine.ok("curl -sf -m 20 http://127.0.0.1:3000/");
    machine.ok("systemctl unmask shop.service");
    assert_eq!(machine.ok("appctl pid shop"), before);
    // Nobody has told systemd of the file.
    machine.ok("appctl delete shop && cp /srv/shop.toml /etc/appctl/");
    assert!(
        status().contains("systemd has not read /etc/appctl/shop.toml yet: `systemctl daemon-reload` has it do so")
    );
    machine.ok("systemctl daemon-reload");
    assert!(status().contains("systemctl status shop, journalctl -u shop and appctl logs shop tell more."));
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

#[test]
fn to_look_at_an_app_that_waits_for_its_first_client_starts_nothing() {
    let Some(machine) = boot() else { return };
    machine.write("/etc/appctl/shop.toml", &format!("start = \"demand\"\n{FILE}"));
    machine.ok("systemctl daemon-reload && systemctl start shop.socket shop-channel.socket shop-control.socket");
    for command in [
        "status shop",
        "status shop --json",
        "list",
        "jlist",
        "report",
        "ping",
        "metrics shop",
        "upgrade-check",
        "pid shop",
        "trigger shop x",
        "restart shop --dry-run",
        "stop shop --dry-run",
        "scale shop +1 --dry-run",
        "reload shop",
    ] {
        machine.shell(&format!("appctl {command}"));
        // By then systemd has seen who connected.
        machine.ok("systemd-run --quiet --wait true");
        let ever = machine.property("shop.service", "ActiveEnterTimestampMonotonic");
        assert_eq!((ever.as_str(), machine.is_active("shop.service")), ("0", false), "appctl {command} started it");
    }
    machine.ok("curl -sf -m 20 http://127.0.0.1:3000/");
    assert!(machine.is_active("shop.service"));
}
