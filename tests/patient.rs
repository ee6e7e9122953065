//! Reads that a signal does not end.

use std::io::{self, ErrorKind, Read};

/// Like `read`. On a socket with a timeout that one fails with EINTR when the process was stopped and goes on, even without
/// any signal handler: signal(7).
pub(crate) fn read(mut from: impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
