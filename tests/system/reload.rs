//! Reloads: issue 3, lines 1, 2 and 8.

use crate::boxed::Options;
use crate::sessions::chat;

#[test]
fn a_reload_replaces_every_worker() {
    let boxed = Options::default().file("/etc/appctl/app.toml", &chat("8080", 2, "new")).boot();
    let Some(machine) = boxed else { return };
    machine.ok("systemctl start app.service");
    machine.until("two workers are active", || {
        (1..=2).all(|slot| machine.is_active(&format!("app@{slot}.service"))).then_some(())
    });
    let output = machine.shell("appctl reload app 2>&1; echo code $?; appctl list; systemctl show -p NRestarts,Result,ReloadResult app; journalctl --no-pager -o short-precise -u 'app*'");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    panic!("look");
}
