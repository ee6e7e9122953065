//! The router can die: issue 3, line 3, and promise 3.

use crate::boxed::{Boxed, Options};
use crate::sessions::{chat, complete};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

/// `sessions.js` that has connected and waits.
struct Held {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Held {
    fn connect(machine: &Boxed, each: u32) -> Self {
        let mut child = machine
            .command("node")
            .args(["/srv/apps/clients/sessions.js", "http://127.0.0.1:8080", "--hold", "--each", &each.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut held = Self { lines: BufReader::new(child.stdout.take().unwrap()), child };
        assert!(held.line()["connected"].is_object());
        held
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the driver says {line:?}"))
    }

    /// Lets it talk, and gives its report.
    fn talk(mut self) -> Value {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let result = self.line();
        self.child.wait().unwrap();
        result
    }
}

/// Worker pids and how often systemd has restarted them.
fn workers(machine: &Boxed) -> Vec<(Option<u32>, String)> {
    (1..=4)
        .map(|slot| format!("app@{slot}.service"))
        .map(|unit| (machine.main_pid(&unit), machine.property(&unit, "NRestarts")))
        .collect()
}

/// Sessions that the router knows.
fn sessions(machine: &Boxed) -> u64 {
    let status = machine.ok("curl -s --unix-socket /run/appctl/app/control http://router/v1/status");
    serde_json::from_str::<Value>(&status).unwrap()["sessions"].as_u64().unwrap()
}

fn boot() -> Option<Boxed> {
    let machine = Options::default().file("/etc/appctl/app.toml", &chat("8080", 4, "new")).boot()?;
    machine.ok("systemctl start app.service");
    machine.until("four workers are active", || {
        (1..=4).all(|slot| machine.is_active(&format!("app@{slot}.service"))).then_some(())
    });
    Some(machine)
}

/// Ends the router's process with `signal`, `times` over, as soon as the one before is up, and not at the same point of its life.
fn end_routers(machine: &Boxed, signal: &str, times: u32) {
    machine.ok(&format!(
        "for i in $(seq {times}); do
           pid=$(systemctl show --value -p MainPID app.service); [ $pid -gt 1 ] && kill -{signal} $pid
           while :; do
             now=$(systemctl show --value -p MainPID app.service)
             [ $now -gt 1 ] && [ $now != $pid ] && [ $(systemctl show --value -p ActiveState app.service) = active ] && break
           done
           sleep 0.$((RANDOM % 4))$((RANDOM % 10))
         done"
    ));
}

#[test]
fn a_killed_router_loses_no_worker_and_no_session() {
    let Some(machine) = boot() else { return };
    let before = workers(&machine);
    let held = Held::connect(&machine, 50);
    end_routers(&machine, "KILL", 20);
    assert_eq!(workers(&machine), before);
    let result = held.talk();
    complete(&result, 50, 4);
    assert_eq!(workers(&machine), before);
}

/// Sessions are held and 20,000 more opened while something happens to the system. Gives the load's report once the held
/// sessions have shown that nothing is missing, and no worker has been started again.
fn under_load(happens: impl FnOnce(&Boxed)) -> Option<Value> {
    let machine = boot()?;
    let before = workers(&machine);
    let held = Held::connect(&machine, 30);
    let load = std::thread::scope(|scope| {
        let flags = ["127.0.0.1", "8080", "--count", "20000", "--width", "40"];
        let load = scope.spawn({
            let machine = &machine;
            move || machine.drive("handshakes.js", &flags)
        });
        happens(&machine);
        load.join().unwrap()
    });
    println!("{load}");
    assert_eq!(load["unknown"], 0, "{load}");
    assert_eq!(workers(&machine), before);
    // The load's sessions end when their clients no longer answer pings.
    machine.until("only the held sessions are left", || (sessions(&machine) == 90).then_some(()));
    complete(&held.talk(), 30, 4);
    assert_eq!(workers(&machine), before);
    Some(load)
}

#[test]
fn routers_killed_under_load_leave_every_channel_in_step() {
    let Some(load) = under_load(|machine| end_routers(machine, "KILL", 20)) else { return };
    // Connections that a router had accepted and not handed over when it was killed.
    assert!(load["failed"].as_u64().unwrap() <= 20, "{load}");
}

/// As a package upgrade does it.
#[test]
fn a_planned_restart_of_the_router_loses_nothing() {
    let Some(load) = under_load(|machine| end_routers(machine, "TERM", 20)) else { return };
    assert_eq!(load["failed"], 0, "{load}");
}

/// Nothing here depends on the manager or the bus while it serves.
#[test]
fn a_manager_that_reloads_and_a_bus_that_dies_are_not_noticed() {
    let happens = |machine: &Boxed| {
        for _ in 0..3 {
            machine.ok("systemctl daemon-reload");
            machine.ok("systemctl daemon-reexec");
            let bus = machine.until("the bus is up", || machine.main_pid("dbus.service"));
            machine.ok(&format!("kill -9 {bus}"));
            // Debian does not start it again by itself.
            machine.until("another bus is up", || {
                machine.shell("systemctl start dbus.service").status.success().then_some(())
            });
        }
    };
    let Some(load) = under_load(happens) else { return };
    assert_eq!(load["failed"], 0, "{load}");
}
