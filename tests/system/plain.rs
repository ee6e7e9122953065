//! Plain HTTP apps, activation and islands: issue 2, lines 2, 4 and 5.

use serde_json::Value;

use crate::boxed::{Boxed, Options};
use crate::sessions::chat;

/// How many requests had this answer.
fn count(result: &Value, answer: &str) -> u64 {
    result["answers"][answer].as_u64().unwrap_or(0)
}

fn restarts(machine: &Boxed, unit: &str) -> u64 {
    machine.property(unit, "NRestarts").parse().unwrap()
}

#[test]
fn an_app_that_exits_after_each_answer_is_served_by_all_workers() {
    let file = "exec = [\"node\", \"app.js\"]\ndirectory = \"/srv/apps/plain\"\nworkers = 3\nlisten = [\"3000\"]\n";
    let Some(machine) = Options::default().file("/etc/appctl/app.toml", file).boot() else { return };
    machine.ok("systemctl start app.service");
    let result = machine.drive("requests.js", &["http://127.0.0.1:3000/", "--count", "300", "--width", "2"]);
    let answered = count(&result, "200 Hello World");
    // The other connection of the worker that just exited.
    let died = count(&result, "ECONNRESET") + count(&result, "body: ECONNRESET");
    assert_eq!(answered + died, 300, "{result}");
    assert!(answered >= 150, "{result}");
    // A worker exits after an answer and for nothing else, so each restart is an answer of that worker.
    let shares = machine.until("each exited worker has been restarted", || {
        let shares = [1, 2, 3].map(|slot| restarts(&machine, &format!("app@{slot}.service")));
        (shares.iter().sum::<u64>() >= answered).then_some(shares)
    });
    assert!(shares.iter().all(|share| *share >= 10), "{shares:?} {result}");
    assert_eq!(restarts(&machine, "app.service"), 0);
}

#[test]
fn nothing_runs_until_the_first_connection() {
    let file = format!("start = \"demand\"\n{}", chat("8080", 2, "new"));
    let Some(machine) = Options::default().file("/etc/appctl/app.toml", &file).boot() else { return };
    assert!(machine.is_active("app.socket"));
    for unit in ["app.service", "app@1.service", "app@2.service"] {
        assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
    }
    // Nothing that is still to come of the boot would start them either.
    assert_eq!(machine.property("app.service", "WantedBy"), "");
    assert_eq!(machine.ok("ps -e -o args= | grep -c '[w]orker.js\\|[a]ppctl router' || true"), "0");

    let result = machine.drive("requests.js", &["http://127.0.0.1:8080/path?n=first", "--count", "1"]);
    assert_eq!(count(&result, "200 first\n"), 1, "{result}");
    assert!(machine.is_active("app.service"));
    machine.until("both workers are active", || {
        [1, 2].iter().all(|slot| machine.is_active(&format!("app@{slot}.service"))).then_some(())
    });
}

#[test]
fn two_apps_are_islands() {
    let boxed = Options::default()
        .file("/etc/appctl/one.toml", &chat("8081", 2, "new"))
        .file("/etc/appctl/two.toml", &chat("8082", 2, "new"))
        .file(
            "/etc/appctl/loop.toml",
            "exec = [\"node\", \"-e\", \"process.exit(1)\"]\nworkers = 2\nlisten = [\"8083\"]\n",
        )
        .boot();
    let Some(machine) = boxed else { return };
    machine.start_app("one", 2);
    machine.start_app("two", 2);

    // Both at once, with the same numbers in their packets: a packet that crossed over would be a duplicate, a session
    // that crossed over one too many.
    let drive = |port: u16| machine.drive("sessions.js", &[&format!("http://127.0.0.1:{port}"), "--each", "20"]);
    let results = std::thread::scope(|scope| {
        [8081, 8082].map(|port| scope.spawn(move || drive(port))).map(|thread| thread.join().unwrap())
    });
    for result in &results {
        crate::sessions::complete(result, 20, 2);
    }

    // A session of one is unknown to the other.
    let open = "curl -s 'http://127.0.0.1:8081/socket.io/?EIO=4&transport=polling' | sed 's/.*\"sid\":\"\\([^\"]*\\)\".*/\\1/'";
    let answer = machine.ok(&format!(
        "sid=$({open}); [ ${{#sid}} = 20 ] && curl -s \"http://127.0.0.1:8082/socket.io/?EIO=4&transport=polling&sid=$sid\""
    ));
    assert!(answer.contains("Session ID unknown"), "{answer}");

    // A crash loop next door.
    let _ = machine.shell("systemctl start --no-block loop.service");
    machine.until("the crash loop runs", || (restarts(&machine, "loop@1.service") >= 3).then_some(()));
    let result = machine.drive("requests.js", &["http://127.0.0.1:8081/path?n=1", "--count", "500", "--width", "4"]);
    assert_eq!(count(&result, "200 1\n"), 500, "{result}");
    assert!(result["slowest_seconds"].as_f64().is_some_and(|seconds| seconds < 5.0), "{result}");
    for unit in ["one.service", "two.service", "one@1.service", "one@2.service", "two@1.service", "two@2.service"] {
        assert!(machine.is_active(unit), "{unit}");
        assert_eq!(restarts(&machine, unit), 0, "{unit}");
    }
    // Its port stays open: connections wait there for a worker, they are not refused.
    assert!(machine.is_active("loop.socket"));
}
