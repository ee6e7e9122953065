//! Who may say that it is a worker: only a process in the worker's own unit.

use crate::boxed::Options;
use crate::sessions::chat;

/// Says a line on the channel socket and prints the answer.
fn says(line: &str) -> String {
    format!(
        "timeout 20 node -e '
           const socket = require(\"net\").connect(\"/run/appctl/app/channel\", () => socket.write({line:?} + \"\\n\"));
           socket.on(\"data\", (data) => process.stdout.write(data)).on(\"error\", (error) => console.log(error.code));'"
    )
}

#[test]
fn a_stranger_on_the_channel_socket_is_refused_and_logged() {
    let Some(machine) = Options::default().file("/etc/appctl/app.toml", &chat("8080", 2, "new")).boot() else { return };
    machine.start_app("app", 2);
    let before = [1, 2].map(|slot| machine.main_pid(&format!("app@{slot}.service")));
    let attach = r#"{"verb":"attach","slot":"1","encoding":"json"}"#;
    let drain = r#"{"verb":"drain","slot":"1","within":1000}"#;
    // Root is no worker either, and a unit with a worker's name is one only in the app's slice.
    for run in ["", "systemd-run -q --pipe --uid=nobody ", "systemd-run -q --pipe --unit=app-1 --slice=app.slice "] {
        for hello in [attach, drain] {
            let answer = machine.ok(&format!("{run}{}", says(hello)));
            assert!(answer.contains("refused") && answer.contains("app@1.service"), "{run}{hello}: {answer}");
        }
    }
    assert!(machine.ok(&says("hello")).contains("refused"));
    let journal = machine.journal("-u app.service");
    assert_eq!(journal.matches("refused a process on the channel socket").count(), 7, "{journal}");
    assert_eq!([1, 2].map(|slot| machine.main_pid(&format!("app@{slot}.service"))), before);
    let status = machine.ok("appctl --json list");
    assert_eq!(status.matches("\"ready\"").count(), 2, "nobody was drained: {status}");
}
