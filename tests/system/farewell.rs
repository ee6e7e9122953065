//! How a worker is told to stop: `stop.message` (PM2's `shutdown`), and what follows when it does not listen.

use crate::boxed::{Boxed, Options};

const APP: &str = "
process.on('SIGTERM', () => { console.log('signalled'); process.exit(0); });
process.on('message', (text) => {
  console.log('told', text);
  if (process.env.NODE_APP_INSTANCE === '0') setTimeout(() => { console.log('finished'); process.exit(0); }, 300);
});
require('http').createServer((q, r) => r.end('served')).listen(3000);
";

fn boot(more: &str) -> Option<Boxed> {
    let file =
        format!("exec = [\"node\", \"/srv/app.js\"]\nworkers = 2\nlisten = [\"3000\"]\ndrain = 0\n[stop]\n{more}");
    let machine = Options::default().file("/etc/appctl/app.toml", &file).file("/srv/app.js", APP).boot()?;
    machine.start_app("app", 2);
    machine.ok("curl -sf http://127.0.0.1:3000/");
    Some(machine)
}

#[test]
fn a_worker_that_heeds_the_message_gets_no_signal_and_another_does() {
    let Some(machine) = boot("message = \"shutdown\"\ntimeout = \"2s\"") else { return };
    machine.ok("systemctl stop app.service");
    for (slot, said) in [(1, ["told shutdown", "finished"]), (2, ["told shutdown", "signalled"])] {
        let journal = machine.journal(&format!("-u app@{slot}.service _TRANSPORT=stdout"));
        assert_eq!(journal.lines().collect::<Vec<_>>(), said, "slot {slot}");
        assert_eq!(machine.property(&format!("app@{slot}.service"), "Result"), "success");
    }
}

/// Reload and stop of one worker go the same way; a router that is gone means a signal at once.
#[test]
fn every_way_to_stop_a_worker_says_it() {
    let Some(machine) = boot("message = \"shutdown\"\ntimeout = \"2s\"") else { return };
    machine.ok("systemctl stop app@1.service");
    assert!(machine.journal("-u app@1.service").contains("finished"));
    machine.ok("systemctl start app@1.service");
    machine.ok("appctl reload app");
    let told = machine.journal("APP=app _TRANSPORT=stdout").matches("told shutdown").count();
    assert_eq!(told, 3, "the one that was stopped, and the two that were replaced");
}
