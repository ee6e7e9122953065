//! Workers that hang, crash and loop: issue 3, lines 4 to 6.

use crate::boxed::{Boxed, Options};
use serde_json::Value;

/// Answers with its pid; can block its event loop.
const APP: &str = "
    const http = require('http');
    http.createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url, 'http://host');
      if (pathname === '/hang') while (true);
      if (pathname === '/busy') for (const end = Date.now() + Number(searchParams.get('ms')); Date.now() < end; );
      response.end(`${process.pid}\\n`);
    }).listen(3000);";

fn boot(more: &str) -> Option<Boxed> {
    let file = format!("exec = [\"node\", \"/srv/hang.js\"]\nworkers = 3\nlisten = [\"3000\"]\n{more}\n");
    let machine = Options::default().file("/etc/appctl/app.toml", &file).file("/srv/hang.js", APP).boot()?;
    machine.ok("systemctl start app.service");
    until_ready(&machine, 3);
    Some(machine)
}

fn until_ready(machine: &Boxed, workers: usize) {
    machine.until("the workers are active", || {
        (1..=3).filter(|slot| machine.is_active(&format!("app@{slot}.service"))).count().ge(&workers).then_some(())
    });
}

fn restarts(machine: &Boxed) -> u32 {
    (1..=3).map(|slot| machine.property(&format!("app@{slot}.service"), "NRestarts").parse::<u32>().unwrap()).sum()
}

#[test]
fn a_hung_worker_is_aborted_and_the_others_serve_on() {
    let Some(machine) = boot("[health]\ntimeout = \"2s\"") else { return };
    // Busy for less than the limit, one after the other: nobody is hurt.
    for _ in 0..3 {
        machine.ok("curl -sf 'http://127.0.0.1:3000/busy?ms=1200'");
    }
    assert_eq!(restarts(&machine), 0, "{}", machine.journal("-u app"));
    machine.ok("curl -s -m 120 http://127.0.0.1:3000/hang >/dev/null & disown");
    for _ in 0..30 {
        machine.ok("curl -sf -m 5 http://127.0.0.1:3000/");
    }
    machine.until("the hung worker has been replaced", || (restarts(&machine) == 1).then_some(()));
    until_ready(&machine, 3);
    let journal = machine.journal("-u app.service");
    assert!(journal.contains("hangs: its event loop has stood still for"), "{journal}");
    assert!(journal.contains(" ended: hung for 2 s; systemd starts it again in 100ms"), "{journal}");
    let list = machine.ok("appctl list");
    assert!(list.contains("  1 (hung for 2 s)  "), "{list}");
    assert!(
        machine.journal("-u 'app@*'").contains("status=6/ABRT") || machine.journal("-u 'app@*'").contains("dumped")
    );
    assert_eq!(restarts(&machine), 1);
}

/// A stopped process neither runs nor dies of SIGABRT.
#[test]
fn a_stopped_worker_is_killed() {
    let Some(machine) = boot("[health]\ntimeout = \"1s\"") else { return };
    let pid = machine.main_pid("app@2.service").unwrap();
    machine.ok(&format!("kill -STOP {pid}"));
    machine.until("it has been replaced", || (machine.property("app@2.service", "NRestarts") == "1").then_some(()));
    until_ready(&machine, 3);
    assert_eq!(restarts(&machine), 1);
}

#[test]
fn a_guard_outlives_the_router_and_not_its_worker() {
    let Some(machine) = boot("[health]\ntimeout = \"1s\"") else { return };
    let guards = || machine.ok("ps -e -o args= | grep -c '[w]orker guard' || true");
    machine.until("each has its guard", || (guards() == "3").then_some(()));
    machine.ok("systemctl kill -s KILL --kill-who=main app.service");
    machine.until("another router is up", || machine.is_active("app.service").then_some(()));
    let pid = machine.main_pid("app@1.service").unwrap();
    machine.ok(&format!("kill -STOP {pid}"));
    machine.until("it has been replaced", || (machine.property("app@1.service", "NRestarts") == "1").then_some(()));
    machine.ok("systemctl stop app.service");
    machine.until("no guard is left", || (guards() == "0").then_some(()));
}

#[test]
fn a_crash_loop_in_one_slot_ends_at_its_limit_and_the_others_serve() {
    let Some(machine) = boot("[restart]\nlimit = 4\ninterval = \"1min\"") else { return };
    machine.write("/srv/hang.js", &format!("if (process.env.APPCTL_SLOT === '2') process.exit(7);{APP}"));
    machine.ok("systemctl kill -s KILL --kill-who=main app@2.service");
    machine.until("slot 2 has failed", || (machine.property("app@2.service", "ActiveState") == "failed").then_some(()));
    for _ in 0..30 {
        machine.ok("curl -sf -m 5 http://127.0.0.1:3000/");
    }
    let list = machine.ok("appctl list");
    assert!(list.contains("  failed (exit status 7; failed too often)  "), "{list}");
    let json = machine.ok("appctl list --json app");
    let worker = &serde_json::from_str::<Value>(&json).unwrap()[0]["workers"][1];
    assert_eq!(worker["last_end"]["reason"], "exit status 7", "{worker}");
    let status = machine.ok("appctl status app");
    assert!(status.contains("worker 2: exit status 7, "), "{status}");
    assert!(machine.journal("-u app.service").contains(" ended: exit status 7; systemd starts it again in 100ms"));
    machine.write("/srv/hang.js", APP);
    machine.ok("appctl restart app");
    until_ready(&machine, 3);
}
