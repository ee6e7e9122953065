//! Lines that must never hold up who writes them: to the journal with their fields, or to standard error.
//!
//! Where there is no room now, a line is dropped.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::log::stderr_is_journal;
use super::process::writable_within;

/// systemd.journal-fields(7), "Journal Native Protocol".
const JOURNAL: &str = "/run/systemd/journal/socket";
/// What a pipe that is writable takes at once (pipe(7) PIPE_BUF).
const AT_ONCE: usize = 4096;
/// `LOG_INFO`
const PRIORITY: &str = "6";

/// Where lines go.
#[derive(Debug)]
pub enum Sink {
    Journal(UnixDatagram),
    Stderr,
}

impl Sink {
    /// The journal, where standard error goes there; else standard error.
    pub fn open() -> io::Result<Self> {
        if !stderr_is_journal() {
            return Ok(Self::Stderr);
        }
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self::Journal(socket))
    }

    /// Writes one line. `message` and the fields' values have no line breaks, the fields' names are the journal's
    /// (`A-Z0-9_`). An error: it was dropped.
    pub fn write(&self, identifier: &str, message: &str, fields: &[(&str, String)]) -> io::Result<()> {
        match self {
            Self::Journal(socket) => {
                let mut text = format!("MESSAGE={message}\nPRIORITY={PRIORITY}\nSYSLOG_IDENTIFIER={identifier}\n");
                for (name, value) in fields {
                    text.extend([name, "=", value, "\n"]);
                }
                // Not connected: a journal that was restarted is found again.
                socket.send_to(text.as_bytes(), JOURNAL).map(drop)
            }
            Self::Stderr => {
                let mut line = message.as_bytes()[..message.len().min(AT_ONCE - 1)].to_vec();
                line.push(b'\n');
                let stderr = io::stderr();
                if !writable_within(&stderr, Duration::ZERO)? {
                    return Err(ErrorKind::WouldBlock.into());
                }
                // Not through std's handle: that would write the rest, and wait.
                nix::unistd::write(&stderr, &line).map(drop).map_err(io::Error::from)
            }
        }
    }
}
