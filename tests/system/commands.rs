//! The commands, as an operator types them: issue 2, "The commands".

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::boxed::{Boxed, Options};

/// Answers with its index.
const WORKER: &str = "\
console.log('worker ' + process.env.NODE_APP_INSTANCE + ' starts')
require('http').createServer((_, answer) => answer.end(process.env.NODE_APP_INSTANCE)).listen(3000)
";
const BROKEN: &str = "console.log('loading')\nthrow new Error('no database here')\n";

pub(crate) fn boot() -> Option<Boxed> {
    Options::default().file("/srv/own/worker.js", WORKER).file("/srv/own/broken.js", BROKEN).boot()
}

/// Exit code, standard output, standard error of `appctl` in `/srv/own`.
pub(crate) fn appctl(machine: &Boxed, arguments: &str) -> (i32, String, String) {
    let output = machine.shell(&format!("cd /srv/own && appctl {arguments}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// As [`appctl`], for what must succeed.
#[track_caller]
pub(crate) fn done(machine: &Boxed, arguments: &str) -> String {
    let (code, out, err) = appctl(machine, arguments);
    assert_eq!(code, 0, "appctl {arguments}\n{out}{err}");
    out
}

#[track_caller]
pub(crate) fn list(machine: &Boxed, name: &str) -> Value {
    let apps: Value = serde_json::from_str(&done(machine, "list --json")).unwrap();
    apps.as_array().unwrap().iter().find(|app| app["name"] == name).expect("the app is listed").clone()
}

fn answers(machine: &Boxed, port: u16) -> bool {
    machine.shell(&format!("curl -sf --max-time 10 127.0.0.1:{port}")).status.success()
}

/// Nothing listens: the connection is refused, not left waiting.
pub(crate) fn refused(machine: &Boxed, port: u16) -> bool {
    machine.shell(&format!("curl -s --max-time 10 127.0.0.1:{port}")).status.code() == Some(7)
}

#[test]
fn start_of_a_script_returns_when_it_serves() {
    let Some(machine) = boot() else { return };
    let (code, _, err) = appctl(&machine, "start worker.js -i 2 --name shop -- --an-argument");
    assert_eq!(code, 0, "{err}");
    assert!(answers(&machine, 8080), "at once, without waiting");
    for said in ["wrote /etc/appctl/shop.toml", "shop@1 ready", "shop@2 ready", "http://localhost:8080"] {
        assert!(err.contains(said), "{said}: {err}");
    }
    let shop = list(&machine, "shop");
    let mut indices = Vec::new();
    for slot in 0..2 {
        let worker = &shop["workers"][slot];
        assert!(worker["state"] == "ready" && worker["pid"].is_u64(), "{shop}");
        indices.extend(worker["index"].as_u64());
    }
    indices.sort_unstable();
    assert_eq!(indices, [0, 1], "{shop}");
    assert!(machine.ok("cat /etc/appctl/shop.toml").contains("\"--an-argument\""));

    let (code, _, err) = appctl(&machine, "start worker.js -i 2 --name shop -- --an-argument");
    assert!(code == 0 && err.contains("already"), "the same again: {err}");
    let (code, _, err) = appctl(&machine, "start worker.js -i 3 --name shop");
    assert!(code == 1 && err.contains("--force"), "something else by that name: {err}");
    assert_eq!(list(&machine, "shop")["workers"].as_array().unwrap().len(), 2);
    done(&machine, "start worker.js -i 3 --name shop --force");
    assert_eq!(list(&machine, "shop")["workers"].as_array().unwrap().len(), 3);

    done(&machine, "delete shop");
    assert!(refused(&machine, 8080));
    assert_eq!(machine.ok("ls /etc/appctl"), "");
    assert_eq!(machine.ok("systemctl list-units --all --no-legend 'shop*'"), "");
}

#[test]
fn start_of_a_file_installs_it() {
    let Some(machine) = boot() else { return };
    machine.write(
        "/srv/own/chat.toml",
        "exec = 'node worker.js'\ndirectory = '/srv/own'\nlisten = 8085\n[profile.test.environment]\nA = 'b'\n",
    );
    done(&machine, "start chat.toml --env test");
    assert!(answers(&machine, 8085));
    assert!(machine.ok("cat /etc/appctl/chat.toml").contains("active_profile = \"test\""));
    assert!(machine.property("chat@1.service", "Environment").contains("A=b"));
    machine.write("/srv/own/wrong.toml", "exec = 7\nworkrs = 2\n");
    let (code, _, err) = appctl(&machine, "start wrong.toml");
    assert!(code == 1 && err.contains("exec must be") && err.contains("workers"), "{err}");
    assert!(!machine.path("/etc/appctl/wrong.toml").exists());
    let (code, _, err) = appctl(&machine, "start worker.js --name dbus");
    assert!(code == 1 && err.contains("dbus.service"), "a name of another's unit: {err}");
    assert!(!machine.path("/etc/appctl/dbus.toml").exists());
}

#[test]
fn a_start_that_fails_says_why() {
    let Some(machine) = boot() else { return };
    let (code, _, err) = appctl(&machine, "start broken.js -i 2");
    assert_eq!(code, 1, "{err}");
    for said in ["broken@1.service", "broken@2.service", "status 1", "no database here"] {
        assert!(err.contains(said), "{said}: {err}");
    }
    assert!(err.contains("/etc/appctl/broken.toml stays; `appctl delete broken` removes"), "{err}");
    done(&machine, "stop broken");
    for unit in ["broken.service", "broken.socket", "broken@1.service", "broken@2.service"] {
        assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
    }

    machine.ok("systemd-run -q --unit=squatter /usr/local/bin/node -e 'require(\"net\").createServer().listen(8080)'");
    machine.until("the port is taken", || (!refused(&machine, 8080)).then_some(()));
    let (code, _, err) = appctl(&machine, "start worker.js --listen 8080");
    assert!(code == 1 && err.contains("worker.socket") && err.contains("Address already in use"), "{err}");
    assert!(err.contains("worker.toml is removed again"), "{err}");
    assert_eq!(machine.ok("ls /etc/appctl"), "broken.toml");
    assert_eq!(machine.ok("systemctl list-units --all --no-legend 'worker*'"), "");
    // An app that was there before keeps its file, and what failed is to be seen until it is stopped.
    machine.write("/etc/appctl/worker.toml", "exec = 'node worker.js'\ndirectory = '/srv/own'\nlisten = 8080\n");
    assert_eq!(appctl(&machine, "start worker").0, 1);
    let failed = || machine.ok("systemctl list-units --all --no-legend --plain --state=active,failed 'worker*.socket'");
    assert!(failed().lines().count() == 1 && failed().contains("failed"), "{}", failed());
    // Of a clash with another app one is told once.
    machine.write("/srv/own/zoo.toml", "exec = 'node worker.js'\ndirectory = '/srv/own'\nlisten = 8080\n");
    let (_, _, err) = appctl(&machine, "start zoo.toml");
    assert_eq!(err.matches("listens on 8080 too").count(), 1, "{err}");
    done(&machine, "stop worker");
    assert_eq!(failed(), "");
}

#[test]
fn a_stopped_app_stays_stopped() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js -i 2 --name shop");
    for stop in ["systemctl stop shop.service", "appctl stop shop", "appctl stop all"] {
        done(&machine, "start shop");
        assert!(answers(&machine, 8080));
        machine.ok(stop);
        assert!(refused(&machine, 8080), "{stop}");
        for unit in ["shop.service", "shop@1.service", "shop@2.service"] {
            assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit} after {stop}");
        }
        for unit in ["shop.socket", "shop-channel.socket", "shop-control.socket"] {
            // Their jobs wait for the router's, and may end a moment after it.
            machine.until(unit, || (!machine.is_active(unit)).then_some(()));
        }
        assert_eq!(machine.ok("systemctl list-jobs --no-legend"), "", "{stop}");
    }
    assert_eq!(appctl(&machine, "status shop").0, 3);
    done(&machine, "stop shop");

    done(&machine, "start shop");
    machine.ok("rm /etc/appctl/shop.toml && systemctl daemon-reload");
    done(&machine, "stop shop");
    assert!(refused(&machine, 8080), "an app whose file is gone can still be stopped");
    assert_eq!(appctl(&machine, "stop shop").0, 4);
}

#[test]
fn a_broken_file_holds_up_no_other_app() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js --name shop");
    done(&machine, "stop shop");
    machine.write("/etc/appctl/broken.toml", "exec = 7\n");
    for verb in ["start", "restart"] {
        let (code, _, err) = appctl(&machine, &format!("{verb} all"));
        assert!(code == 1 && err.contains("broken.toml:1:8"), "{verb}: {err}");
        assert!(answers(&machine, 8080), "{verb}");
    }
    assert!(list(&machine, "broken")["error"].as_str().unwrap().contains("exec must be"));
    let (code, out, _) = appctl(&machine, "status broken");
    assert!(code == 3 && out.contains("exec must be"), "{out}");
}

#[test]
fn a_restart_of_the_router_restarts_the_workers() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js -i 2 --name shop");
    let pids = || ["shop.service", "shop@1.service", "shop@2.service"].map(|unit| machine.main_pid(unit));
    for restart in ["systemctl restart shop.service", "appctl restart shop"] {
        let before = pids();
        machine.ok(restart);
        assert!(answers(&machine, 8080), "the first connection waits: {restart}");
        machine.until("both workers", || {
            (1..=2).all(|slot| machine.is_active(&format!("shop@{slot}.service"))).then_some(())
        });
        let after = pids();
        assert!(before.iter().zip(&after).all(|(before, after)| after.is_some() && before != after), "{restart}");
        assert_eq!(machine.property("shop@1.service", "NRestarts"), "0", "not by a crash: {restart}");
    }
    let before = pids();
    done(&machine, "restart shop@2");
    let after = pids();
    assert!(before[0] == after[0] && before[1] == after[1] && before[2] != after[2], "{before:?} {after:?}");
}

#[test]
fn a_restart_while_the_router_comes_back_restarts_it_too() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js -i 2 --name shop");
    // Time for the restart to meet a router that is on its way.
    machine.write("/etc/systemd/system/shop.service.d/slow.conf", "[Service]\nExecStartPre=/bin/sleep 2\n");
    machine.ok("systemctl daemon-reload");
    let worker = machine.main_pid("shop@1.service");
    machine.ok("systemctl kill --kill-whom=main -s KILL shop.service");
    machine.until("the next router is on its way", || {
        (machine.property("shop.service", "ActiveState") == "activating").then_some(())
    });
    done(&machine, "restart shop");
    assert_eq!(
        machine.journal("-u shop.service").matches("routing ").count(),
        3,
        "at first, after the death, after the restart"
    );
    assert_ne!(machine.main_pid("shop@1.service"), worker);
    assert!(answers(&machine, 8080));
}

#[test]
fn a_restart_serves_the_addresses_that_the_file_says_now() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js -i 1 --name shop");
    assert!(answers(&machine, 8080));
    // Whoever has reloaded the manager meanwhile: the socket itself is as it was.
    machine.ok("sed -i 's/8080/8090/' /etc/appctl/shop.toml && systemctl daemon-reload");
    done(&machine, "restart shop");
    assert!(answers(&machine, 8090) && refused(&machine, 8080));
    let router = machine.main_pid("shop.service");
    let socket = machine.property("shop.socket", "ActiveEnterTimestampMonotonic");
    done(&machine, "restart shop");
    assert_ne!(machine.main_pid("shop.service"), router);
    assert_eq!(machine.property("shop.socket", "ActiveEnterTimestampMonotonic"), socket, "the port stayed open");
}

#[test]
fn scale_changes_the_file_and_the_workers() {
    let Some(machine) = boot() else { return };
    machine.write(
        "/etc/appctl/shop.toml",
        "# the shop\nexec = 'node worker.js'\ndirectory = '/srv/own'\nworkers = 2   # enough\nlisten = 8080\n",
    );
    done(&machine, "start shop");
    let router = machine.main_pid("shop.service");
    let active = || (1..=9).filter(|slot| machine.is_active(&format!("shop@{slot}.service"))).collect::<Vec<_>>();
    for (number, slots) in [("+2", vec![1, 2, 3, 4]), ("-3", vec![1]), ("3", vec![1, 2, 3])] {
        done(&machine, &format!("scale shop {number}"));
        assert_eq!(active(), slots, "scale shop {number}");
    }
    assert_eq!(machine.main_pid("shop.service"), router, "the router is left alone");
    let file = machine.ok("cat /etc/appctl/shop.toml");
    assert!(file.contains("# the shop\n") && file.contains("workers = 3   # enough\n"), "{file}");
    assert_eq!(appctl(&machine, "scale shop -3").0, 2, "no app without a worker");
    assert_eq!(active(), [1, 2, 3]);
    machine.ok("sed -i 's/^workers = 3/workers = 2/' /etc/appctl/shop.toml");
    done(&machine, "restart shop");
    assert_eq!(active(), [1, 2], "a restart does what the file says now");
}

#[test]
fn names_and_rights_that_are_missing_are_exit_4() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js --name shop");
    let (code, _, err) = appctl(&machine, "stop shpo");
    assert!(code == 4 && err.contains("Did you mean shop?"), "{err}");
    for command in ["stop shop", "restart shop", "delete shop", "scale shop 2", "start --system worker.js"] {
        let output = machine.shell(&format!("cd /srv/own && runuser -u nobody -- appctl {command}"));
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{command}: {err}");
        assert!(err.contains("no right") && err.contains("sudo"), "{command}: {err}");
        assert_eq!(err.matches("error:").count(), 1, "{command}: {err}");
    }
    assert!(answers(&machine, 8080));
    let listed = machine.ok("runuser -u nobody -- appctl list");
    assert!(listed.contains("shop") && listed.contains("running"), "everybody may look: {listed}");
}

#[test]
fn logs_follow_workers_that_start_later() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js --name shop");
    let mut follower =
        machine.command("appctl").args(["logs", "shop", "-f", "--raw"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // It follows once it has shown what there was.
    assert!(lines.by_ref().any(|line| line.unwrap() == "worker 0 starts"));
    done(&machine, "scale shop 2");
    assert!(lines.by_ref().any(|line| line.unwrap() == "worker 1 starts"), "journalctl ended");
    drop(lines);
    follower.kill().unwrap();
    follower.wait().unwrap();
    let of_one = done(&machine, "logs shop@2 --raw");
    assert!(of_one.contains("worker 1 starts") && !of_one.contains("worker 0 starts"), "{of_one}");
}

#[test]
fn a_users_own_apps() {
    let Some(machine) = boot() else { return };
    machine.ok("useradd --create-home alice && cp /srv/own/worker.js /home/alice && chown alice /home/alice/worker.js");
    machine.ok("systemctl start user@$(id -u alice).service");
    let alice = |line: &str| {
        let line = format!(
            "cd /home/alice && runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/$(id -u alice) bash -c '{line}'"
        );
        machine.ok(&line)
    };
    alice("appctl start worker.js -i 2 --listen 8090");
    assert!(answers(&machine, 8090));
    alice("test -e .config/appctl/worker.toml && appctl restart worker && appctl status worker");
    assert!(answers(&machine, 8090));
    alice("systemctl --user stop worker.service");
    assert!(refused(&machine, 8090));
    alice("appctl start worker && appctl delete worker && test ! -e .config/appctl/worker.toml");
    assert!(refused(&machine, 8090));
}

#[test]
fn a_machine_with_running_apps_shuts_down_at_once() {
    let Some(machine) = boot() else { return };
    done(&machine, "start worker.js -i 2 --name shop");
    let began = std::time::Instant::now();
    machine.shell("systemctl poweroff");
    machine.until("the box is off", || (!machine.path("/etc").exists()).then_some(()));
    // The workers may drain for 2 s.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[test]
fn a_restart_forgets_a_worker_that_was_given_up_in_another_slot() {
    let app = "if (require('fs').existsSync('/run/bad')) process.exit(7);
               require('http').createServer((q, r) => r.end('served')).listen(3000);";
    let file = "exec = [\"node\", \"/srv/app.js\"]\nlisten = [\"3000\"]\n[restart]\nlimit = 2\n[reload]\nsettle = 0\n";
    let boxed = Options::default().file("/srv/app.js", app).file("/etc/appctl/app.toml", file).boot();
    let Some(machine) = boxed else { return };
    machine.start_app("app", 1);
    machine.ok("appctl reload app");
    machine.ok("touch /run/bad && systemctl kill -s KILL --kill-who=main app@2.service");
    machine.until("it is given up", || (machine.property("app@2.service", "ActiveState") == "failed").then_some(()));
    machine.ok("rm /run/bad && appctl restart app && curl -sf http://127.0.0.1:3000/");
    let list = machine.ok("appctl list");
    assert!(list.contains("ready") && !list.contains("failed"), "{list}");
    assert_eq!(machine.ok("systemctl list-units --state=failed --no-legend 'app*'"), "");
    machine.ok("appctl delete app");
    assert!(!machine.path("/run/appctl/app").exists());
}
