//! The log of one worker or of a whole app, as journald gets it, for those who look at it live.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::list::{AppNow, UnitNow};
use super::names::Target;
use super::print::plain;
use super::{apps, logs};
use crate::config::Scope;
use crate::system::journal::{Levels, Output, Query};

/// Lines of the past.
const LINES: u32 = 200;

/// journalctl, until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    journalctl: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    pub(super) text: String,
    /// Of priority err or worse.
    pub(super) error: bool,
}

impl Entry {
    /// Something of our own that went wrong.
    pub(super) fn problem(text: impl Into<String>) -> Self {
        Self { text: text.into(), error: true }
    }

    /// A line of journalctl that was told to use colours. `None`: one that says nothing.
    fn read(line: &str) -> Option<Self> {
        // journalctl's own red, before what an error says. (Before other lines it stands, too, around nothing.)
        let error = line.find('\u{1b}').is_some_and(|at| line[at..].starts_with("\u{1b}[0;1;31m"));
        let text = plain(line);
        (!is_routine(&text)).then_some(Self { text, error })
    }
}

/// What systemd says of each start and stop that goes well: the router tells it, too, in one line.
fn is_routine(line: &str) -> bool {
    let Some((head, text)) = line.split_once("]: ") else { return false };
    let by_systemd = head.split(' ').any(|word| word.starts_with("systemd["));
    let began = ["Starting ", "Started ", "Stopping ", "Stopped ", "Closed ", "Listening on "];
    let ended = [": Deactivated successfully.", ": Scheduled restart job"];
    let used = text.contains(": Consumed ") && text.contains(" CPU time");
    by_systemd && (began.iter().any(|it| text.starts_with(it)) || ended.iter().any(|it| text.contains(it)) || used)
}

impl Follower {
    /// A worker's own log; of a router, the whole app's.
    pub(super) fn of(app: &AppNow, unit: &UnitNow) -> io::Result<Self> {
        let scope = if app.scope == "user" { Scope::User } else { Scope::System };
        let target = match &unit.slot {
            Some(slot) => Target::Worker { app: app.name.clone(), slot: slot.clone() },
            None => Target::App(app.name.clone()),
        };
        let query = Query {
            manager: apps::manager(scope),
            matches: vec![logs::matches(scope, &target)],
            lines: Some(LINES),
            follow: true,
            since: None,
            from: None,
            levels: Levels::All,
            output: Output::Short,
        };
        let mut command = Command::new("journalctl");
        command
            .args(query.arguments())
            .env("SYSTEMD_COLORS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut journalctl = command.spawn()?;
        let stdout = journalctl.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        Ok(Self { journalctl, lines: BufReader::new(stdout).lines() })
    }

    /// The next line, or why there will be none. Nothing is lost when it is dropped.
    pub(super) async fn line(&mut self) -> Result<Entry, Entry> {
        loop {
            match self.lines.next_line().await {
                Ok(Some(line)) => {
                    if let Some(entry) = Entry::read(&line) {
                        return Ok(entry);
                    }
                }
                Ok(None) => return Err(Entry::problem(self.why_it_ended().await)),
                Err(error) => return Err(Entry::problem(format!("cannot read journalctl: {error}"))),
            }
        }
    }

    async fn why_it_ended(&mut self) -> String {
        let mut said = String::new();
        if let Some(stderr) = self.journalctl.stderr.as_mut() {
            // What it could not read is told by its status.
            let _ = stderr.take(4096).read_to_string(&mut said).await;
        }
        if !may_read_the_journal() {
            return "The journal is for root and members of the group systemd-journal: \
                    `sudo usermod -aG systemd-journal $USER`, then log in again."
                .to_owned();
        }
        let status = match self.journalctl.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        match said.trim() {
            "" => format!("journalctl ended: {status}"),
            said => format!("journalctl ended: {status}: {}", plain(said)),
        }
    }
}

/// Root, and members of the groups that the system's journal is given to (systemd-journald.service(8), "Access control").
fn may_read_the_journal() -> bool {
    use nix::unistd::{AccessFlags, access};
    let entries = |place: PathBuf| std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    let machines = ["/var/log/journal", "/run/log/journal"].into_iter().flat_map(|place| entries(place.into()));
    let files = machines.map(|machine| machine.join("system.journal")).filter(|file| file.exists());
    let mut readable = files.map(|file| access(&file, AccessFlags::R_OK).is_ok()).peekable();
    readable.peek().is_none() || readable.any(|it| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_well_is_told_once() {
        let line = |text: &str| Entry::read(&format!("Nov 21 12:00:00 {text}"));
        for routine in [
            "systemd[1]: Starting shop@1.service - shop: worker 1...",
            "systemd[1]: Started shop@1.service - shop: worker 1.",
            "systemd[812]: shop@1.service: Deactivated successfully.",
            "systemd[1]: shop@1.service: Consumed 1.5s CPU time.",
        ] {
            assert_eq!(line(routine), None, "{routine}");
        }
        for told in ["shop[7]: Started well", "systemd[1]: shop@1.service: Failed with result 'exit-code'."] {
            assert!(line(told).is_some_and(|entry| !entry.error), "{told}");
        }
        let bold = line("shop[7]: \u{1b}[0;1;39m\u{1b}[0;1;31m\u{1b}[0;1;39mworker 1 is ready\u{1b}[0m").unwrap();
        assert!(!bold.error && bold.text.ends_with("shop[7]: worker 1 is ready"), "{bold:?}");
        let red = line("shop[7]: \u{1b}[0;1;31mworker 1 ended\u{1b}[0m").unwrap();
        assert!(red.error && red.text.ends_with("shop[7]: worker 1 ended"), "{red:?}");
    }
}
