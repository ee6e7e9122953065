//! What is left when a disk is full: nothing half written, and what runs goes on.

use crate::boxed::{Boxed, Options};
use crate::commands::{appctl, done, list};

const SERVES: &str = "require('http').createServer((_, answer) => answer.end('here')).listen(8080)\n";

fn serves(machine: &Boxed) {
    assert_eq!(machine.ok("curl -sf --max-time 20 127.0.0.1:8080"), "here");
}

/// Fills the file system that a directory is in. Says what undoes it.
fn fill(machine: &Boxed, directory: &str) -> String {
    let full = machine.shell(&format!("cat /dev/zero >{directory}/filling"));
    assert!(String::from_utf8_lossy(&full.stderr).contains("No space left"), "{full:?}");
    format!("rm {directory}/filling")
}

fn workers(machine: &Boxed) -> usize {
    list(machine, "shop")["workers"].as_array().unwrap().iter().filter(|worker| worker["state"] == "ready").count()
}

#[test]
fn a_full_disk_changes_no_file_of_an_app() {
    let Some(machine) = Options::default().file("/srv/own/worker.js", SERVES).boot() else { return };
    machine.ok("mkdir -p /etc/appctl && mount -t tmpfs -o size=64k tmpfs /etc/appctl");
    done(&machine, "start worker.js --name shop -i 2");
    let before = machine.ok("cat /etc/appctl/shop.toml");
    let again = fill(&machine, "/etc/appctl");
    for line in
        ["scale shop 3", "start worker.js --name second --listen 8081", "start worker.js --name shop -i 4 --force"]
    {
        let (code, _, err) = appctl(&machine, line);
        assert!(
            code == 1 && err.contains("cannot write /etc/appctl/") && err.contains("No space left"),
            "{line}: {err}"
        );
    }
    assert_eq!(machine.ok("cat /etc/appctl/shop.toml"), before);
    assert_eq!(machine.ok("ls -A /etc/appctl"), "filling\nshop.toml");
    done(&machine, "reload shop");
    serves(&machine);
    machine.ok(&again);
    done(&machine, "scale shop 3");
    assert_eq!(workers(&machine), 3);
}

/// systemd itself reads no files then: what it has made of them would not fit in there.
#[test]
fn with_a_full_run_apps_run_on_and_are_reloaded() {
    let Some(machine) = Options::default().file("/srv/own/worker.js", SERVES).boot() else { return };
    // It is memory.
    machine.ok("mount -o remount,size=96m /run");
    done(&machine, "start worker.js --name shop -i 2");
    let again = fill(&machine, "/run");
    let (code, _, err) = appctl(&machine, "reload shop");
    assert!(code == 0 && err.contains("shop reloaded: 2 new workers"), "{err}");
    serves(&machine);
    // Once by each of its two commands; and the journal is in there as well.
    assert!(machine.journal("-u shop").matches("cannot write down how the reload goes").count() <= 2);
    machine.ok("kill -KILL $(systemctl show -P MainPID shop.service)");
    serves(&machine);
    machine.until("both are back", || (workers(&machine) == 2).then_some(()));
    let (code, _, err) = appctl(&machine, "scale shop 3");
    assert!(code == 1 && err.contains("/run/appctl") && err.contains("No space left"), "{err}");
    assert!(machine.ok("cat /etc/appctl/shop.toml").contains("workers = 2\n"));
    machine.ok("sed -i 's/^workers = .*/workers = 3/' /etc/appctl/shop.toml");
    let (code, _, err) = appctl(&machine, "restart shop");
    assert!(code == 1 && err.contains("did not read the files of units again") && err.contains("space"), "{err}");
    assert!(err.contains("do the same again; until then shop runs on as it is"), "{err}");
    serves(&machine);
    assert_eq!(machine.ok("find /run/appctl -name '.[0-9]*'"), "", "half a file");
    machine.ok(&again);
    done(&machine, "restart shop");
    assert_eq!(workers(&machine), 3);
    serves(&machine);
}
