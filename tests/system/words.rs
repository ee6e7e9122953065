//! What commands say, and what they spare, for those who know PM2.

use crate::boxed::{Boxed, Options};
use crate::commands::{appctl, boot, done, list};

const SERVES: &str = "require('http').createServer((_, answer) => answer.end('here')).listen(8080)\n";

/// The file of PM2's with one app, of so many instances.
fn ecosystem(instances: u32) -> String {
    format!(
        "module.exports = {{ apps: [{{ name: 'shop', script: './shop.js', instances: {instances}, namespace: 'web', \
         env: {{ PORT: 8080 }}, env_production: {{ A: '1' }} }}] }}\n"
    )
}

fn workers(machine: &Boxed) -> usize {
    list(machine, "shop")["workers"].as_array().unwrap().iter().filter(|worker| worker["state"] == "ready").count()
}

#[test]
fn a_scaled_app_is_deployed_again_and_an_edited_one_is_spared() {
    let options =
        Options::default().file("/srv/own/ecosystem.config.js", &ecosystem(1)).file("/srv/own/shop.js", SERVES);
    let Some(machine) = options.boot() else { return };
    let write = |instances| std::fs::write(machine.path("/srv/own/ecosystem.config.js"), ecosystem(instances)).unwrap();
    // Without a word the file that is here.
    done(&machine, "start --env production");
    let (code, _, err) = appctl(&machine, "startOrReload ecosystem.config.js --env production");
    assert!(code == 0 && err.contains("shop: its file says the same as before"), "{err}");
    assert!(!err.contains("namespace"), "told once: {err}");
    let (_, _, err) = appctl(&machine, "startOrReload ecosystem.config.js");
    assert!(err.contains("warning: shop: its profile is none now, and was \"production\""), "{err}");

    done(&machine, "scale shop 2");
    let (code, _, err) = appctl(&machine, "scale shop 2");
    assert!(code == 0 && err.contains("shop has 2 workers already"), "{err}");
    let (code, _, err) = appctl(&machine, "startOrReload ecosystem.config.js");
    assert!(code == 0 && err.contains("shop: keeps the number of workers that `appctl scale` gave it, 2"), "{err}");
    assert_eq!(workers(&machine), 2);
    write(3);
    let (code, _, err) = appctl(&machine, "startOrReload ecosystem.config.js");
    assert!(code == 0 && err.contains("workers: 3, as the file says by now, instead of 2"), "{err}");
    assert_eq!(workers(&machine), 3);

    // By hand.
    machine.ok("sed -i 's/^listen = .*/listen = [\"8081\"]/' /etc/appctl/shop.toml");
    let (code, _, err) = appctl(&machine, "startOrReload ecosystem.config.js");
    assert!(
        code == 1 && err.contains("  - listen = [\"8081\"]\n  + listen = [\"8080\"]") && err.contains("--force"),
        "{err}"
    );
    let dry = done(&machine, "delete all --dry-run");
    assert!(dry.contains("StopUnit(shop.service)") && !dry.contains("would remove"), "{dry}");
    let (code, _, err) = appctl(&machine, "delete all");
    assert!(code == 0 && err.contains("was changed since its import, delete it by `appctl delete shop`"), "{err}");
    assert!(machine.path("/etc/appctl/shop.toml").exists());
    done(&machine, "startOrReload ecosystem.config.js --force");
    assert!(machine.ok("cat /etc/appctl/shop.toml").contains("listen = [\"8080\"]"));
    let dry = done(&machine, "delete '/shop/' --dry-run");
    assert!(dry.contains("would remove /etc/appctl/shop.toml"), "{dry}");

    let (code, _, err) = appctl(&machine, "restart web");
    assert!(code == 4 && err.contains("web was a namespace of PM2's") && err.contains("name them, shop"), "{err}");
    done(&machine, "delete '/shop/'");
    assert!(!machine.path("/etc/appctl/shop.toml").exists());
}

#[test]
fn commands_say_what_is_so() {
    let Some(machine) = boot() else { return };
    let (code, _, err) = appctl(&machine, "start");
    assert!(code == 2 && err.contains("There is no ecosystem.config.js here"), "{err}");
    let (code, _, err) = appctl(&machine, "start worker.js -i 2 --name shop --parallel 2 --attach -w");
    assert!(code == 0 && err.contains("--attach: no counterpart") && err.contains("--parallel: not needed"), "{err}");
    assert!(err.contains("The script says 3000; clients connect at 8080, `--listen 3000 --force`"), "{err}");

    let (code, _, err) = appctl(&machine, "restart shop@9");
    assert!(code == 3 && err.contains("shop@9 does not run, and shop has 2 workers"), "{err}");
    assert_eq!(list(&machine, "shop")["workers"].as_array().unwrap().len(), 2);
    let (code, _, err) = appctl(&machine, "restart shop -s");
    assert!(code == 0 && err.is_empty(), "{err}");
    let (_, _, err) = appctl(&machine, "restart shop");
    assert!(err.contains("shop@1 ready") && err.contains("shop@2 ready"), "{err}");
    let (code, _, err) = appctl(&machine, "restart shop --waatch");
    assert!(code == 2 && !err.contains("as a value"), "{err}");

    // The newest since a time.
    let last = |more: &str| done(&machine, &format!("logs shop@1 -n 2 --raw {more}"));
    machine.until("the journal has it all", || (last("") == last("--since '1 hour ago'")).then_some(()));
    let (code, _, err) = appctl(&machine, "logs shop --err");
    assert!(code == 0 && err.contains("no line of priority err"), "{err}");
    let (code, _, err) = appctl(&machine, "logs shop --timestamp 'HH:mm'");
    assert!(code == 2 && err.contains("write --timestamp=short"), "{err}");

    // Nothing of it is done.
    let pids = done(&machine, "pid shop");
    for (line, said) in [
        ("sendSignal KILL shop --dry-run", "KillUnit(shop@1.service)"),
        ("reset shop --dry-run", "ResetFailedUnit(shop@2.service)"),
        ("trigger shop refresh --dry-run", "call the action refresh in every worker"),
        ("serve . 8090 --dry-run", "would write /etc/appctl/site-8090.toml"),
    ] {
        let out = done(&machine, line);
        assert!(out.contains(said), "{line}: {out}");
    }
    assert_eq!(done(&machine, "pid shop"), pids);
    assert!(!machine.path("/etc/appctl/site-8090.toml").exists());

    // Who has the port.
    let holder = "systemd-run -q --unit=holder /usr/local/bin/node -e \"require('net').createServer().listen(8099)\"";
    machine.ok(holder);
    machine.until("it listens", || {
        machine.shell("curl -s --max-time 5 127.0.0.1:8099").status.code().filter(|code| *code != 7)
    });
    let (code, _, err) = appctl(&machine, "start worker.js --name second --listen 8099");
    assert!(code == 1 && err.contains("8099 is taken by node (pid") && err.contains("of holder.service"), "{err}");

    machine.ok("echo 'exec = 7' > /etc/appctl/broken.toml; echo nonsense >> /etc/appctl/shop.toml");
    let (code, _, err) = appctl(&machine, "restart shop");
    assert!(code == 1 && err.contains("shop is not restarted; nothing has changed"), "{err}");
    machine.ok("sed -i '/nonsense/d' /etc/appctl/shop.toml; rm /etc/appctl/broken.toml");
    let (_, _, err) = appctl(&machine, "stop shop");
    assert!(err.contains("shop stopped (until the next boot; start = \"manual\""), "{err}");
    assert_eq!(appctl(&machine, "pid shop").0, 3);
}
