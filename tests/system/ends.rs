//! How workers end, what is told of it, and what comes after: issue 3, "restart policy" and "reason shown".

use crate::boxed::{Boxed, Options};
use serde_json::Value;

/// Ends as its client says.
const APP: &str = "
    const http = require('http');
    http.createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url, 'http://host');
      if (pathname === '/exit') {
        console.error(`Error: the disk is full (${process.pid})`);
        process.exit(Number(searchParams.get('code')));
      }
      response.end(`${process.pid}\\n`);
    }).listen(3000, () => process.send('ready'));";

fn options(workers: u32, more: &str) -> Options {
    let file = format!("exec = [\"node\", \"/srv/app.js\"]\nworkers = {workers}\nlisten = [\"3000\"]\n{more}\n");
    Options::default().file("/etc/appctl/app.toml", &file).file("/srv/app.js", APP)
}

fn boot(workers: u32, more: &str) -> Option<Boxed> {
    let machine = options(workers, more).boot()?;
    machine.start_app("app", workers);
    Some(machine)
}

/// Lets the only worker exit, and gives its pid.
fn exit(machine: &Boxed, code: u32) -> u32 {
    let pid = machine.main_pid("app@1.service").unwrap();
    machine.shell(&format!("curl -s -m 10 'http://127.0.0.1:3000/exit?code={code}'"));
    machine.until("it has ended", || (machine.main_pid("app@1.service") != Some(pid)).then_some(()));
    pid
}

fn until_restarted(machine: &Boxed, times: u32) {
    let unit = "app@1.service";
    let restarted = || machine.property(unit, "NRestarts") == times.to_string() && machine.is_active(unit);
    machine.until("it is up again", || restarted().then_some(()));
}

fn status(machine: &Boxed) -> Value {
    let status = machine.ok("curl -s --unix-socket /run/appctl/app/control http://router/v1/status");
    serde_json::from_str(&status).unwrap()
}

/// Worker 1 by `appctl list --json`.
fn worker(machine: &Boxed) -> Value {
    let list: Value = serde_json::from_str(&machine.ok("appctl list --json app")).unwrap();
    list[0]["workers"][0].clone()
}

/// The line of worker 1 in `appctl list`.
fn row(machine: &Boxed) -> String {
    let list = machine.ok("appctl list app");
    list.lines().find(|line| line.contains("app   1 ")).unwrap_or_else(|| panic!("{list}")).to_owned()
}

/// What the router's journal says of a worker's end: the messages, each with its lines.
fn told(machine: &Boxed) -> Vec<String> {
    let text = machine.ok(
        "journalctl --sync; journalctl -q --no-pager -o json -u app.service MESSAGE_ID=8d5d1c8b1f0c4a51a2d34f0d9bd1c7a6",
    );
    let messages = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["MESSAGE"].clone());
    messages.map(|message| message.as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_line_tells_how_a_worker_ended_and_what_it_said_last() {
    let Some(machine) = boot(1, "") else { return };
    let first = exit(&machine, 7);
    until_restarted(&machine, 1);
    let second = machine.main_pid("app@1.service").unwrap();
    machine.ok(&format!("kill -SEGV {second}"));
    until_restarted(&machine, 2);
    let third = machine.main_pid("app@1.service").unwrap();
    let ends = told(&machine);
    assert_eq!(ends.len(), 2, "{ends:#?}");
    assert_eq!(
        ends[0],
        format!(
            "worker 1 (pid {first}) ended: exit status 7; systemd starts it again in 100ms\n  \
             | Error: the disk is full ({first})"
        )
    );
    assert!(ends[1].starts_with(&format!("worker 1 (pid {second}) ended: killed by SIGSEGV")), "{ends:#?}");

    // All of its life, in order, and each thing once.
    let journal = machine.journal("-u app.service");
    let mut rest = journal.as_str();
    for event in [
        format!("worker 1 (pid {first}) starts"),
        format!("worker 1 (pid {first}) is ready"),
        format!("worker 1 (pid {first}) ended"),
        format!("worker 1 (pid {second}) starts"),
        format!("worker 1 (pid {second}) is ready"),
        format!("worker 1 (pid {second}) ended"),
        format!("worker 1 (pid {third}) is ready"),
    ] {
        assert_eq!(journal.matches(&event).count(), 1, "{event}\n{journal}");
        rest = rest.split_once(&event).unwrap_or_else(|| panic!("{event} in its place\n{journal}")).1;
    }

    // A stop is a stop.
    machine.ok("systemctl stop app@1.service");
    assert_eq!(told(&machine)[2..], [format!("worker 1 (pid {third}) stopped")]);
    assert!(row(&machine).contains(" stopped  "), "{}", row(&machine));
    assert_eq!(worker(&machine)["last_end"]["failed"], false);
}

#[test]
fn the_reason_is_shown_and_outlives_the_router() {
    let Some(machine) = boot(1, "") else { return };
    assert_eq!(worker(&machine)["last_end"], Value::Null);
    exit(&machine, 7);
    until_restarted(&machine, 1);
    let shown = |machine: &Boxed| {
        assert!(row(machine).contains("  1 (exit status 7)  "), "{}", row(machine));
        let worker = worker(machine);
        assert_eq!(
            (&worker["last_end"]["reason"], &worker["last_end"]["failed"]),
            (&"exit status 7".into(), &true.into())
        );
        let end = &status(machine)["ends"][0];
        assert_eq!(
            (&end["slot"], &end["reason"], &end["failed"]),
            (&"1".into(), &"exit status 7".into(), &true.into())
        );
        let now: u64 = machine.ok("date +%s").parse().unwrap();
        assert!((now - 600..=now).contains(&end["at"].as_u64().unwrap()), "{end}");
        let status = machine.ok("appctl status app");
        assert!(status.contains("worker 1: exit status 7, ") && status.contains(" ago ("), "{status}");
    };
    shown(&machine);
    let router = machine.main_pid("app.service").unwrap();
    machine.ok(&format!("kill -KILL {router}"));
    machine.until("another router is up", || {
        (machine.is_active("app.service") && machine.main_pid("app.service") != Some(router)).then_some(())
    });
    shown(&machine);
    // Nothing of this belongs to a reload's new worker.
    machine.ok("appctl reload app");
    assert!(!machine.ok("appctl list app").contains("exit status"), "{}", machine.ok("appctl list app"));
}

#[test]
fn a_worker_that_is_never_ready_is_called_so() {
    let Some(machine) = options(1, "[ready]\non = \"message\"\ntimeout = \"2s\"\n[restart]\nlimit = 2").boot() else {
        return;
    };
    machine.write("/srv/app.js", "console.log('I wait'); setInterval(() => {}, 1000);");
    let start = machine.shell("appctl start app");
    let error = String::from_utf8_lossy(&start.stderr);
    assert_eq!(start.status.code(), Some(1), "{error}");
    assert!(error.contains("app@1.service did not start: not ready in time"), "{error}");
    machine.until("it has failed for good", || {
        (machine.property("app@1.service", "ActiveState") == "failed").then_some(())
    });
    assert!(row(&machine).contains("failed (not ready in time; failed too often)"), "{}", row(&machine));
    assert_eq!(worker(&machine)["last_end"]["reason"], "not ready in time");
    let ends = told(&machine);
    assert!(ends[0].contains(" ended: not ready in time; systemd starts it again in 100ms\n  | I wait"), "{ends:#?}");
    machine.until("the router says that it stays down", || {
        told(&machine).iter().any(|line| line.starts_with("worker 1 has not come back: ")).then_some(())
    });
    // With a release that works, and no waiting.
    machine.write("/srv/app.js", APP);
    machine.ok("appctl restart app");
    assert!(machine.is_active("app@1.service"));
    assert!(row(&machine).contains(" ready "), "{}", row(&machine));
}

#[test]
fn listed_exit_codes_stop_a_worker() {
    let Some(machine) = boot(1, "[restart]\nstop_exit_codes = [0, 3]") else { return };
    for code in [3, 0] {
        let pid = exit(&machine, code);
        machine.until("it is down", || (machine.property("app@1.service", "ActiveState") == "inactive").then_some(()));
        let reason = format!("exit status {code}");
        assert!(row(&machine).contains(&format!("stopped ({reason})")), "{}", row(&machine));
        assert_eq!(worker(&machine)["last_end"]["reason"], reason);
        let last = told(&machine).pop().unwrap();
        assert_eq!(last, format!("worker 1 (pid {pid}) ended: {reason}; it stays down"));
        machine.ok("appctl start app");
    }
    exit(&machine, 4);
    until_restarted(&machine, 1);
}

#[test]
fn the_pause_grows_with_each_restart() {
    let Some(machine) = boot(1, "[restart]\ndelay = \"100ms\"\nbackoff = \"5s\"") else { return };
    let version: u32 = machine.ok("systemctl --version | head -1 | cut -d' ' -f2").parse().unwrap();
    let check = machine.ok("appctl check app");
    assert_eq!(check.contains("restart.backoff has no effect"), version < 254, "{check}");
    assert!(check.contains("app: ok"), "{check}");
    machine.write("/srv/app.js", "process.exit(7)");
    exit(&machine, 7);
    let restarts = || machine.property("app@1.service", "NRestarts").parse::<u32>().unwrap();
    machine.until("it was restarted five times", || (restarts() >= 5).then_some(()));
    let pause = if version < 254 { "100ms" } else { "up to 5s" };
    assert!(told(&machine)[0].contains(&format!("systemd starts it again in {pause}")), "{:#?}", told(&machine));
    if version < 254 {
        return;
    }
    assert_eq!(machine.property("app@1.service", "RestartSteps"), "10");
    assert_eq!(machine.property("app@1.service", "RestartMaxDelayUSec"), "5s");
    // systemd counts as we say: the fifth process begins so long after the fourth has ended.
    let journal = machine.ok("journalctl --sync; journalctl -q --no-pager -o json -u app.service");
    let times: Vec<(u64, bool)> = journal
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| {
            let message = line["MESSAGE"].as_str()?;
            let (starts, ended) = (message.ends_with(" starts"), message.contains(" ended: "));
            (starts || ended).then(|| (line["__REALTIME_TIMESTAMP"].as_str().unwrap().parse().unwrap(), starts))
        })
        .collect();
    let waits: Vec<u64> =
        times.windows(2).filter(|pair| !pair[0].1 && pair[1].1).map(|pair| (pair[1].0 - pair[0].0) / 1000).collect();
    for (wait, least) in waits.iter().zip([100, 147, 218, 323, 478]) {
        assert!(*wait >= least, "{waits:?}");
    }
}

#[test]
fn a_worker_that_does_not_stop_is_called_so() {
    let Some(machine) = boot(1, "drain = 0\n[stop]\ntimeout = 0") else { return };
    machine.write("/srv/app.js", &format!("process.on('SIGTERM', () => console.log('not now'));{APP}"));
    machine.ok("appctl restart app");
    let pid = machine.main_pid("app@1.service").unwrap();
    machine.ok("systemctl stop app@1.service");
    let last = told(&machine).pop().unwrap();
    assert!(last.starts_with(&format!("worker 1 (pid {pid}) stopped, not in order: did not stop in time")), "{last}");
    assert!(row(&machine).contains("failed (did not stop in time)"), "{}", row(&machine));
}

/// Its lines go elsewhere: nothing waits for them.
#[test]
fn a_worker_without_a_journal_has_a_reason_all_the_same() {
    let Some(machine) = boot(1, "[service]\nStandardOutput = 'null'\nStandardError = 'null'") else { return };
    let pid = exit(&machine, 7);
    until_restarted(&machine, 1);
    let line = format!("worker 1 (pid {pid}) ended: exit status 7; systemd starts it again in 100ms");
    assert_eq!(told(&machine), [line]);
}

#[test]
fn a_users_own_workers_have_reasons_too() {
    let Some(machine) = Options::default().file("/srv/app.js", APP).boot() else { return };
    if !machine.shell("systemctl start user@0.service").status.success() {
        crate::boxed::skipped("user@0.service does not start in the box; install libpam-systemd and dbus-user-session");
        return;
    }
    let file = "exec = [\"node\", \"/srv/app.js\"]\nlisten = [\"3000\"]\n";
    machine.write("/root/.config/appctl/app.toml", file);
    let user = |line: &str| machine.ok(&format!("export XDG_RUNTIME_DIR=/run/user/0; {line}"));
    user("appctl --user start app");
    machine.shell("curl -s -m 10 'http://127.0.0.1:3000/exit?code=7'");
    machine.until("it is up again", || {
        let list = user("appctl --user list app");
        (list.contains("  1 (exit status 7)  ") && list.contains(" ready ")).then_some(())
    });
    let journal = machine.ok("journalctl --sync; journalctl -q --no-pager -o cat _SYSTEMD_USER_UNIT=app.service");
    assert!(
        journal.contains(" ended: exit status 7; systemd starts it again in 100ms\n  | Error: the disk is full"),
        "{journal}"
    );
}

/// A router that hangs or is down does not hold up a worker's restart.
#[test]
fn a_deaf_router_delays_no_restart() {
    // systemd itself would not end the command that tells the router.
    let Some(machine) = boot(1, "[stop]\ntimeout = \"2min\"") else { return };
    let (router, pid) = (machine.main_pid("app.service").unwrap(), machine.main_pid("app@1.service").unwrap());
    machine.ok(&format!("kill -STOP {router}; kill -KILL {pid}"));
    machine.until("systemd starts it again", || (machine.property("app@1.service", "NRestarts") == "1").then_some(()));
    assert_eq!(machine.main_pid("app.service"), Some(router), "the watchdog was not faster");
    machine.ok(&format!("kill -CONT {router}"));
    machine.until("it is up", || machine.is_active("app@1.service").then_some(()));
    let journal = machine.journal("-u app@1.service");
    assert!(journal.contains("appctl: ended: killed by SIGKILL"), "{journal}");
    machine.until("the router says what it knows", || {
        let line = format!("worker 1 (pid {pid}) has ended, and nobody told how");
        machine.journal("-u app.service").contains(&line).then_some(())
    });
}

/// An error is told with its age, and as over once its worker has been started again.
#[test]
fn errors_that_are_over_are_told_as_such() {
    let Some(machine) = boot(1, "[restart]\npolicy = \"no\"") else { return };
    machine.shell("curl -s -m 10 'http://127.0.0.1:3000/exit?code=7'");
    let status = |wanted: &str| {
        machine.until(wanted, || {
            let status = String::from_utf8(machine.shell("appctl status app").stdout).unwrap();
            status.contains(wanted).then_some(status)
        })
    };
    let text = status("ended: exit status 7; it stays down");
    assert!(text.contains("\nLast errors:\n  app@1, ") && text.contains("s ago (20"), "{text}");
    machine.ok("appctl start app@1");
    let text = status("Last errors, all before the present run:");
    assert!(text.contains("  app@1, ") && text.contains("ended: exit status 7; it stays down"), "{text}");
    let json: Value = serde_json::from_str(&machine.ok("appctl status app --json")).unwrap();
    let error = &json[0]["errors"][0];
    assert!(error["over"] == true && error["unit"] == "app@1.service" && error["at"].is_u64(), "{error}");
}
