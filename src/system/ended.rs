//! How a service's main process ended, in words (pure): the one place that makes them.
//!
//! systemd tells it in two ways: to `ExecStopPost=` as `$SERVICE_RESULT`, `$EXIT_CODE`, `$EXIT_STATUS` (systemd.exec(5)),
//! to everybody as the properties `Result`, `ExecMainCode`, `ExecMainStatus`.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::bus::Properties;

/// Begins the line that `appctl worker ended` leaves in the journal of a worker: what comes before it is the worker's own.
pub const MARK: &str = "appctl: ended: ";

/// Statuses that systemd itself gives to a process that it cannot start (systemd.exec(5), "Process Exit Codes").
const NOT_STARTED: [(i32, &str); 16] = [
    (200, "CHDIR"),
    (203, "EXEC"),
    (205, "LIMITS"),
    (206, "OOM_ADJUST"),
    (209, "STDIN"),
    (214, "SETSCHEDULER"),
    (216, "GROUP"),
    (217, "USER"),
    (218, "CAPABILITIES"),
    (219, "CGROUP"),
    (225, "NETWORK"),
    (226, "NAMESPACE"),
    (228, "SECCOMP"),
    (232, "ADDRESS_FAMILIES"),
    (238, "STATE_DIRECTORY"),
    (243, "CREDENTIALS"),
];

/// One end of a main process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct How {
    /// `success`, `exit-code`, `oom-kill`, …
    pub result: String,
    pub exit: Option<Exit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    Status(i32),
    Signal {
        /// Without `SIG`.
        name: String,
        dumped: bool,
    },
}

impl How {
    /// From the variables of `ExecStopPost=`.
    pub fn told(result: &str, code: &str, status: &str) -> Self {
        let exit = match code {
            "exited" => status.parse().ok().map(Exit::Status),
            "killed" | "dumped" => Some(Exit::Signal { name: status.to_owned(), dumped: code == "dumped" }),
            _ => None,
        };
        Self { result: result.to_owned(), exit }
    }

    /// From the properties of a unit, which tell of the latest run; and whether it had become ready, where that is known.
    pub fn of_unit(properties: &Properties) -> (Self, Option<bool>) {
        let status = properties.i32("ExecMainStatus").unwrap_or_default();
        // CLD_EXITED, CLD_KILLED and CLD_DUMPED of sigaction(2); 0: it has not ended.
        let exit = match properties.i32("ExecMainCode") {
            Some(1) => Some(Exit::Status(status)),
            Some(code @ (2 | 3)) => Some(Exit::Signal { name: signal_name(status), dumped: code == 3 }),
            _ => None,
        };
        let result = properties.text("Result").unwrap_or_default().to_owned();
        let began = properties.u64("ExecMainStartTimestampMonotonic").filter(|at| *at > 0);
        let ready = properties.u64("ActiveEnterTimestampMonotonic").zip(began).map(|(active, began)| active >= began);
        (Self { result, exit }, ready)
    }

    /// Of a child of our own.
    pub fn of_child(status: ExitStatus) -> Self {
        match status.signal() {
            Some(signal) => {
                let (name, dumped) = (signal_name(signal), status.core_dumped());
                let result = if dumped { "core-dump" } else { "signal" };
                Self { result: result.to_owned(), exit: Some(Exit::Signal { name, dumped }) }
            }
            None => {
                let result = if status.success() { "success" } else { "exit-code" };
                Self { result: result.to_owned(), exit: status.code().map(Exit::Status) }
            }
        }
    }

    /// Whether systemd calls it a failure.
    pub fn failed(&self) -> bool {
        !["", "success", "exec-condition"].contains(&self.result.as_str())
    }

    /// Whether systemd starts the service again with this `Restart=` (systemd.service(5)).
    pub fn restarts(&self, policy: &str) -> bool {
        let result = self.result.as_str();
        match policy {
            "no" => false,
            "on-success" => !self.failed(),
            "on-failure" => self.failed(),
            "on-abnormal" => self.failed() && result != "exit-code",
            "on-watchdog" => result == "watchdog",
            "on-abort" => ["signal", "core-dump"].contains(&result),
            _ => true,
        }
    }

    /// Why, in a few words. `ready`: whether it had become ready, where that is known.
    pub fn reason(&self, ready: Option<bool>) -> String {
        match self.result.as_str() {
            // The process itself was killed by SIGKILL then, or is a child that was.
            "oom-kill" => "out of memory".to_owned(),
            "timeout" => match ready {
                Some(false) => "not ready in time".to_owned(),
                Some(true) => "did not stop in time".to_owned(),
                None => "took too long".to_owned(),
            },
            "watchdog" => "hung".to_owned(),
            "resources" => "systemd could not set it up".to_owned(),
            "start-limit-hit" => match &self.exit {
                Some(Exit::Status(0)) | None => "failed too often".to_owned(),
                Some(exit) => format!("{}; failed too often", exit.words()),
            },
            result => match &self.exit {
                Some(exit @ Exit::Status(0)) if self.failed() => format!("{} before it was ready", exit.words()),
                Some(exit) => exit.words(),
                None if self.failed() => result.to_owned(),
                None => "ended".to_owned(),
            },
        }
    }
}

impl Exit {
    fn words(&self) -> String {
        match self {
            Self::Status(status) => match NOT_STARTED.iter().find(|(known, _)| known == status) {
                Some((_, name)) => format!("exit status {status}/{name}"),
                None => format!("exit status {status}"),
            },
            Self::Signal { name, dumped: false } => format!("killed by SIG{name}"),
            Self::Signal { name, dumped: true } => format!("killed by SIG{name} (core dumped)"),
        }
    }
}

/// Without `SIG`; a real-time signal as systemd calls it.
fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().trim_start_matches("SIG").to_owned(),
        Err(_) if number >= 34 => format!("RTMIN+{}", number - 34),
        Err(_) => number.to_string(),
    }
}

/// Of what a worker wrote before it ended, oldest first, the `most` lines that tell the most: of a stack trace the top
/// alone, since it would push the error itself out.
pub fn last_words(lines: &[String], most: usize) -> Vec<String> {
    const FRAMES: usize = 2;
    const LONGEST: usize = 400;
    let mut words: Vec<String> = Vec::new();
    let mut frames = 0;
    for line in lines.iter().filter(|line| !line.trim().is_empty() && !line.starts_with(MARK)) {
        frames = if line.trim_start().starts_with("at ") { frames + 1 } else { 0 };
        match frames {
            0..=FRAMES if line.chars().count() > LONGEST => {
                words.push(line.chars().take(LONGEST).chain(['…']).collect());
            }
            0..=FRAMES => words.push(line.clone()),
            _ => {}
        }
    }
    words.split_off(words.len().saturating_sub(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_words() {
        for (result, code, status, ready, words) in [
            ("exit-code", "exited", "7", Some(true), "exit status 7"),
            ("success", "exited", "0", Some(true), "exit status 0"),
            ("exit-code", "exited", "0", Some(false), "exit status 0 before it was ready"),
            ("exit-code", "exited", "217", Some(false), "exit status 217/USER"),
            ("signal", "killed", "KILL", Some(true), "killed by SIGKILL"),
            ("core-dump", "dumped", "SEGV", Some(true), "killed by SIGSEGV (core dumped)"),
            ("oom-kill", "killed", "KILL", Some(true), "out of memory"),
            ("timeout", "killed", "KILL", Some(true), "did not stop in time"),
            ("timeout", "killed", "TERM", Some(false), "not ready in time"),
            ("watchdog", "dumped", "ABRT", Some(true), "hung"),
            ("start-limit-hit", "exited", "7", None, "exit status 7; failed too often"),
            ("start-limit-hit", "", "", None, "failed too often"),
            ("resources", "", "", None, "systemd could not set it up"),
            ("protocol", "", "", None, "protocol"),
            ("success", "killed", "TERM", Some(true), "killed by SIGTERM"),
            ("", "", "", None, "ended"),
        ] {
            let how = How::told(result, code, status);
            assert_eq!(how.reason(ready), words, "{result} {code} {status}");
            assert_eq!(how.failed(), !["success", ""].contains(&result), "{result}");
        }
    }

    #[test]
    fn policies_of_systemd() {
        let ends = [("success", "exited"), ("exit-code", "exited"), ("signal", "killed"), ("timeout", "killed")];
        for (policy, again) in [
            ("no", [false; 4]),
            ("always", [true; 4]),
            ("on-success", [true, false, false, false]),
            ("on-failure", [false, true, true, true]),
            ("on-abnormal", [false, false, true, true]),
            ("on-abort", [false, false, true, false]),
            ("on-watchdog", [false; 4]),
        ] {
            assert_eq!(ends.map(|(result, code)| How::told(result, code, "1").restarts(policy)), again, "{policy}");
        }
    }

    #[test]
    fn a_child_of_ours_ends_in_the_same_words() {
        for (raw, words) in [
            (7 << 8, "exit status 7"),
            (0, "exit status 0"),
            (9, "killed by SIGKILL"),
            (11 | 0x80, "killed by SIGSEGV (core dumped)"),
            (36, "killed by SIGRTMIN+2"),
        ] {
            let how = How::of_child(ExitStatus::from_raw(raw));
            assert_eq!((how.reason(Some(true)).as_str(), how.failed()), (words, raw != 0));
        }
    }

    #[test]
    fn the_error_is_not_pushed_out_by_its_stack() {
        let mut lines: Vec<String> =
            ["listening", "", "/srv/app.js:3", "throw new Error('x')", "^", "", "Error: x"].map(str::to_owned).to_vec();
        lines.extend((0..20).map(|line| format!("    at run (/srv/app.js:{line})")));
        lines.extend(["", "Node.js v20.20.2", "appctl: ended: exit status 1"].map(str::to_owned));
        let words = last_words(&lines, 6);
        assert_eq!(
            words,
            [
                "throw new Error('x')",
                "^",
                "Error: x",
                "    at run (/srv/app.js:0)",
                "    at run (/srv/app.js:1)",
                "Node.js v20.20.2"
            ]
        );
        assert_eq!(last_words(&["é".repeat(1000)], 6)[0].chars().count(), 401);
        assert!(last_words(&[], 6).is_empty());
    }
}
