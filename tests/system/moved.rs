//! Addresses that change in the file of an app that runs: what systemd closes meanwhile, the router serves on.

use serde_json::Value;

use crate::boxed::{Boxed, Options};

const APP: &str = "require('http').createServer((q, r) => r.end('fine')).listen(3000);";

fn file(listen: &str) -> String {
    format!("exec = [\"node\", \"/srv/fine.js\"]\nworkers = 2\nlisten = {listen}\n")
}

fn boot() -> Option<Boxed> {
    let file = file("['8080', '/run/fine.sock']");
    let machine = Options::default().file("/etc/appctl/app.toml", &file).file("/srv/fine.js", APP).boot()?;
    machine.ok("appctl start app");
    Some(machine)
}

/// Writes the file, and has systemd read it.
fn write(machine: &Boxed, listen: &str) {
    machine.write("/etc/appctl/app.toml", &file(listen));
    machine.ok("systemctl daemon-reload");
}

#[track_caller]
fn serves(machine: &Boxed, port: u16) {
    machine.ok(&format!("curl -sf --max-time 30 http://127.0.0.1:{port}/ && curl -sf --max-time 30 --unix-socket /run/fine.sock http://a/"));
}

fn listed(machine: &Boxed) -> Value {
    let apps: Value = serde_json::from_str(&machine.ok("appctl list --json")).unwrap();
    apps[0].clone()
}

/// A router that is killed, or restarted, while the file says something else, and after it said something else for a while.
#[test]
fn an_address_that_the_file_lost_is_served_on() {
    let Some(machine) = boot() else { return };
    let workers = ["app@1", "app@2"].map(|unit| machine.main_pid(unit));
    for now in ["['8081', '/run/fine.sock']", "['8080', '/run/fine.sock']", "[]", "['8080', '/run/fine.sock']"] {
        write(&machine, now);
        serves(&machine, 8080);
        let before = machine.main_pid("app.service").unwrap();
        machine.ok(&format!("kill -9 {before}"));
        machine.until("another router", || machine.main_pid("app.service").filter(|pid| *pid != before));
        serves(&machine, 8080);
    }
    assert_eq!(["app@1", "app@2"].map(|unit| machine.main_pid(unit)), workers);
    assert!(machine.ok("journalctl -u app").contains("it is served on; `appctl restart app` goes by the file"));
    // And not for ever.
    write(&machine, "['8081', '/run/fine.sock']");
    assert_eq!(
        (&listed(&machine)["listen"], &listed(&machine)["listen_wanted"]),
        (&serde_json::json!(["/run/fine.sock", "[::]:8080"]), &serde_json::json!(["8081", "/run/fine.sock"]),)
    );
    let said = machine.ok("appctl reload app 2>&1");
    assert!(said.contains("its addresses have changed in the file"), "{said}");
    machine.ok("appctl restart app");
    serves(&machine, 8081);
    assert!(!machine.shell("curl -sf http://127.0.0.1:8080/").status.success());
    assert_eq!(
        (&listed(&machine)["listen"], &listed(&machine)["listen_wanted"]),
        (&serde_json::json!(["8081", "/run/fine.sock"]), &Value::Null,)
    );
}

/// The trap of a newcomer: there and back again, and a restart of each kind.
#[test]
fn a_restart_after_there_and_back_again_serves() {
    let Some(machine) = boot() else { return };
    for restart in [
        "appctl restart app",
        "systemctl restart app.service",
        "systemctl kill -s KILL app.service; appctl restart app",
    ] {
        write(&machine, "['8081', '/run/fine.sock']");
        write(&machine, "['8080', '/run/fine.sock']");
        machine.ok(restart);
        serves(&machine, 8080);
    }
}
