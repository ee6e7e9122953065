//! The log of one worker or router, as journald gets it.

use std::io;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::apps;
use super::list::{AppNow, UnitNow};
use crate::config::Scope;
use crate::system::journal::{Levels, Match, Of, Output, Query};

/// Lines of the past.
const LINES: u32 = 200;

/// journalctl, until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    journalctl: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    pub(super) fn of(app: &AppNow, unit: &UnitNow) -> io::Result<Self> {
        let scope = if app.scope == "user" { Scope::User } else { Scope::System };
        let of = match &unit.slot {
            Some(slot) => Of::Worker { app: app.name.clone(), slot: slot.clone() },
            // What the workers wrote has rows of its own.
            None => Of::Unit(unit.unit.clone()),
        };
        let query = Query {
            manager: apps::manager(scope),
            matches: vec![Match { of, units: vec![unit.unit.clone()] }],
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
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut journalctl = command.spawn()?;
        let stdout = journalctl.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        Ok(Self { journalctl, lines: BufReader::new(stdout).lines() })
    }

    /// The next line, or why there will be none. Nothing is lost when it is dropped.
    pub(super) async fn line(&mut self) -> Result<String, String> {
        match self.lines.next_line().await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => match self.journalctl.wait().await {
                Ok(status) => Err(format!("journalctl ended: {status}")),
                Err(error) => Err(format!("journalctl ended: {error}")),
            },
            Err(error) => Err(format!("cannot read journalctl: {error}")),
        }
    }
}

/// A line without what would move the cursor or change colours: ECMA-48's control sequences.
pub(super) fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                // Parameters, then one final byte.
                while rest.next().is_some_and(|it| !('\u{40}'..='\u{7e}').contains(&it)) {}
            }
            '\u{1b}' if rest.next_if_eq(&']').is_some() => {
                // Operating system commands: to BEL, or to the escape of ST.
                while rest.next_if(|it| !matches!(it, '\u{7}' | '\u{1b}')).is_some() {}
            }
            '\t' => plain.push_str("    "),
            _ if character.is_control() => {}
            _ => plain.push(character),
        }
    }
    plain
}
