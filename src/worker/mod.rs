//! What runs inside a worker's unit, beside and before the program itself.
//!
//! [`exec`] is ExecStart= and becomes the program ([`outside`]: one without a channel), [`ready`] is ExecStartPost=, [`drain`] is ExecStop=, [`ended`]
//! is ExecStopPost=; [`guard`] runs beside the program.

pub mod drain;
pub mod ended;
pub mod environment;
pub mod exec;
pub mod guard;
pub mod outside;
pub mod ready;

use crate::system::place;
use crate::system::stamp::Stamp;
use crate::wire::hello::{Answer, Hello, LINE_LIMIT, LineError, Release, line, read};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Which worker of which app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    pub app: String,
    pub slot: String,
    /// Of a user's own manager.
    pub user: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("XDG_RUNTIME_DIR is not set, so there is no place for the channel socket")]
    NoRuntimeDirectory,
    #[error(
        "cannot connect to {path}: {source}; is {app}-channel.socket active? (systemctl start {app}-channel.socket)"
    )]
    Connect { app: String, path: PathBuf, source: io::Error },
    #[error("the router of {app} did not answer: {source}")]
    Silent { app: String, source: io::Error },
    #[error("the router of {app} refused: {reason}")]
    Refused { app: String, reason: String },
    #[error("the worker ended before it was ready")]
    Ended,
    #[error("{0}")]
    Program(String),
}

impl WorkerError {
    /// The router ended before it answered: another one may.
    fn is_end(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        matches!(self, Self::Silent { source, .. } if matches!(source.kind(), UnexpectedEof | ConnectionReset | BrokenPipe))
    }
}

impl Worker {
    /// Connects to the router and says hello. The answer is still to come.
    fn call(&self, hello: &Hello) -> Result<UnixStream, WorkerError> {
        let path = place::channel(self.user, &self.app).ok_or(WorkerError::NoRuntimeDirectory)?;
        let hello = line(hello, &release()).map_err(|error| self.silent(error.into()))?;
        loop {
            let mut stream = UnixStream::connect(&path).map_err(|source| WorkerError::Connect {
                app: self.app.clone(),
                path: path.clone(),
                source,
            })?;
            match stream.write_all(&hello).map_err(|error| self.silent(error)) {
                Ok(()) => return Ok(stream),
                // The router ended just now; the next one is on the same socket.
                Err(error) if error.is_end() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the answer, and not a byte of what follows it.
    fn answer(&self, stream: &mut UnixStream) -> Result<Answer, WorkerError> {
        let mut text = Vec::new();
        while text.last() != Some(&b'\n') {
            let mut byte = [0];
            stream.read_exact(&mut byte).map_err(|error| self.silent(error))?;
            text.extend_from_slice(&byte);
            if text.len() > LINE_LIMIT {
                return Err(self.silent(io::Error::other("its answer is too long")));
            }
        }
        match read(&text, &release()) {
            Ok(Answer::Refused { reason }) => Err(WorkerError::Refused { app: self.app.clone(), reason }),
            Ok(answer) => Ok(answer),
            Err(error @ LineError::Foreign { .. }) => Err(self.silent(io::Error::other(format!(
                "{error}; run `appctl{} upgrade {}`",
                if self.user { " --user" } else { "" },
                self.app
            )))),
            Err(error) => Err(self.silent(io::Error::other(error))),
        }
    }

    fn silent(&self, source: io::Error) -> WorkerError {
        // What SO_RCVTIMEO gives.
        let late = source.kind() == io::ErrorKind::WouldBlock;
        let source = if late { io::ErrorKind::TimedOut.into() } else { source };
        WorkerError::Silent { app: self.app.clone(), source }
    }
}

/// What this side of the channel socket says it is.
fn release() -> Release {
    let Stamp { version, wire, .. } = Stamp::own();
    Release { version: version.clone(), wire: *wire }
}
