//! Looking at a request head without consuming it (recv(2) MSG_PEEK), so that the worker reads it from the start.
//!
//! A peek leaves the bytes where they are, so the socket stays readable and a naive loop spins. Here a peek that found
//! nothing new counts as "would block", and epoll's edge tells when more has come.

use crate::system::sock::watch_shared;
use crate::wire::head::{self, Head, Peeked};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use tokio::io::{Interest, Ready};

/// What a client's first bytes turned out to be.
#[derive(Debug)]
pub(crate) enum Sight {
    Head(Head),
    Tls,
    /// Not HTTP.
    Bad(&'static str),
    /// More than the limit without an end.
    TooLong,
    /// The client closed or shut down its side in the middle of a head; `true`: after some bytes.
    Ended(bool),
}

/// Waits for a whole head of at most `limit` bytes. The caller bounds the time. `wanted`: the header fields to keep.
///
/// `begun` is set once any byte has come. The socket must be non-blocking; it leaves epoll before this returns, because
/// a registration would outlive our own descriptor once the worker has the socket too.
pub(crate) async fn sight(
    client: &Rc<OwnedFd>,
    limit: usize,
    wanted: &[String],
    begun: &std::cell::Cell<bool>,
) -> io::Result<Sight> {
    let mut buffer = vec![0; limit.min(2048)];
    let mut seen = 0;
    // Mostly the head is there already (DeferAcceptSec=): no need to ask epoll.
    if let Some(sight) = look(client.as_raw_fd(), &mut buffer, (limit, wanted), &mut seen, false)? {
        return Ok(sight);
    }
    begun.set(seen > 0);
    let registered = watch_shared(Rc::clone(client), Interest::READABLE)?;
    loop {
        let mut guard = registered.readable().await?;
        let ended = guard.ready().is_read_closed();
        let before = seen;
        if let Some(sight) = look(client.as_raw_fd(), &mut buffer, (limit, wanted), &mut seen, ended)? {
            return Ok(sight);
        }
        begun.set(seen > 0);
        if seen == before {
            guard.clear_ready_matching(Ready::READABLE);
        }
    }
}

/// One peek. `None`: not decided yet.
fn look(
    client: i32,
    buffer: &mut Vec<u8>,
    (limit, wanted): (usize, &[String]),
    seen: &mut usize,
    ended: bool,
) -> io::Result<Option<Sight>> {
    loop {
        let count = match recv(client, buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Ok(Some(Sight::Ended(false))),
            Ok(count) => count,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if count == buffer.len() && count < limit {
            // There may be more than the buffer holds.
            let size = (buffer.len() * 4).min(limit);
            buffer.resize(size, 0);
            continue;
        }
        let news = count > *seen;
        *seen = count;
        if !news && !ended {
            return Ok(None);
        }
        return Ok(match head::peek_for(&buffer[..count], wanted) {
            Peeked::Complete(head) => Some(Sight::Head(head)),
            Peeked::Tls => Some(Sight::Tls),
            Peeked::Bad(reason) => Some(Sight::Bad(reason)),
            Peeked::Partial if count >= limit => Some(Sight::TooLong),
            Peeked::Partial if ended => Some(Sight::Ended(true)),
            Peeked::Partial => None,
        });
    }
}

/// Whether the client's unread bytes still begin where they did: nobody has read from the socket since.
pub(crate) fn unread(client: &OwnedFd) -> bool {
    let mut byte = [0];
    matches!(recv(client.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT), Ok(1))
}
