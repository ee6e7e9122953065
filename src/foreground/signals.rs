//! The signals that end the foreground.

use std::io;
use tokio::signal::unix::{self, SignalKind, signal};

/// Those that ask for the end: Ctrl-C, a service manager, a container's, a terminal that was closed.
pub(super) struct Signals([unix::Signal; 4]);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::quit())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    pub(super) async fn next(&mut self) {
        let [int, term, quit, hangup] = &mut self.0;
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = quit.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
