//! A worker that prints more than anybody reads, from a path that is hard to write down.

use crate::boxed::{Boxed, Options};

const MEGABYTES: usize = 100;
/// Says where and how it was started; prints 100 MB, in lines or as one, when it is asked to.
const SCRIPT: &str = "
    const print = (part, count, then) => {
      const go = () => {
        while (count-- > 0) if (!process.stdout.write(part)) return process.stdout.once('drain', go);
        then();
      };
      go();
    };
    require('http').createServer((question, answer) => {
      const then = () => answer.end('printed');
      if (question.url === '/lines') print('x'.repeat(999) + '\\n', 100_000, then);
      else if (question.url === '/line') print('y'.repeat(1 << 20), 100, then);
      else answer.end(JSON.stringify([process.cwd(), process.argv.slice(1), process.env.NODE_APP_INSTANCE]));
    }).listen(8080)\n";

fn boot() -> Option<Boxed> {
    let machine = Options::default().file("/srv/my app 100%/the \"worker\" $HOME.js", SCRIPT).boot()?;
    let line = "cd '/srv/my app 100%' && appctl start 'the \"worker\" $HOME.js' -i 2 --listen 8080 -- 'a b' '%i' '$X' \"it's\"";
    let output = machine.shell(line);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("the--worker---HOME serves on"), "{told}");
    Some(machine)
}

fn ask(machine: &Boxed, path: &str) -> String {
    machine.ok(&format!("curl -sf --max-time 300 http://127.0.0.1:8080{path}"))
}

#[test]
fn a_path_may_have_blanks_and_signs() {
    let Some(machine) = boot() else { return };
    let expected = r#"["/srv/my app 100%",["/srv/my app 100%/the \"worker\" $HOME.js","a b","%i","$X","it's"],"#;
    assert!(ask(&machine, "/").starts_with(expected), "{}", ask(&machine, "/"));
    machine.ok("appctl reload the--worker---HOME");
    assert!(ask(&machine, "/").starts_with(expected), "{}", ask(&machine, "/"));
    // The same script is the same app.
    let again = machine.shell("cd '/srv/my app 100%' && appctl restart 'the \"worker\" $HOME.js'");
    assert!(again.status.success(), "{again:?}");
    assert_eq!(machine.ok("ls /etc/appctl"), "the--worker---HOME.toml");
}

#[test]
fn a_hundred_megabytes_of_output_are_in_nobodys_way() {
    let Some(machine) = boot() else { return };
    let pids = || ["", "@1", "@2"].map(|slot| machine.main_pid(&format!("the--worker---HOME{slot}.service")));
    let before = pids();
    for path in ["/lines", "/line"] {
        assert_eq!(ask(&machine, path), "printed");
        // While journald still reads.
        assert!(ask(&machine, "/").contains("my app"));
        let last = machine.ok("appctl logs the--worker---HOME --lines 3 --raw | cut -c1-10 | tail -1");
        assert!(["xxxxxxxxxx", "yyyyyyyyyy"].contains(&last.as_str()), "{last}");
    }
    assert_eq!(pids(), before);
    let router = machine.ok("sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$(systemctl show -P MainPID the--worker---HOME.service)/status");
    let most: usize = router.parse().unwrap();
    assert!(most < MEGABYTES * 1024, "what workers print does not pass through the router, and it has {most} kB");
    assert!(!machine.journal("-t systemd-journald").contains("Suppressed"), "lines were dropped");
}
