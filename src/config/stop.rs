//! `[stop]`: how a worker is told to stop.

use std::time::Duration;

use super::file::Table;
use super::report::Problems;
use super::value::{self, Wrong};

/// Longest `stop.message`, bytes: it travels in one line to the router, 4096 bytes at most, in which a byte may take two.
const MESSAGE_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// A signal's name with `SIG`.
    pub signal: String,
    pub timeout: Duration,
    /// Sent over the worker's channel before any signal; it has [`Self::timeout`] to end by it.
    pub message: Option<String>,
}

pub(super) fn read_stop(top: &mut Table<'_>, problems: &mut Problems) -> Stop {
    let mut table = top.take_table("stop", problems);
    let signal = table.take("signal").and_then(|item| item.read(problems, value::read_signal));
    let timeout = table.take("timeout").and_then(|item| item.read(problems, value::read_span));
    let message = table.take("message").and_then(|item| {
        let text = item.text(problems)?.text;
        item.check(problems, read_message(text))
    });
    table.finish(problems);
    Stop {
        signal: signal.unwrap_or("SIGTERM".to_owned()),
        timeout: timeout.unwrap_or(Duration::from_secs(10)),
        message,
    }
}

fn read_message(text: String) -> Result<String, Wrong> {
    value::one_line(&text)?;
    let remedy = "write the text that the program waits for, such as \"shutdown\"";
    match text.len() {
        0 => Err(Wrong::new("it is empty", remedy)),
        1..=MESSAGE_MAX => Ok(text),
        length => Err(Wrong::new(format!("it has {length} bytes, at most {MESSAGE_MAX} are possible"), remedy)),
    }
}
