//! What has been read and not been used.

use crate::router::proxy::client::Conn;
use crate::router::proxy::transport::Transport;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Heads are mostly shorter; what is kept of a buffer where nothing is under way.
pub(super) const SMALL: usize = 4 * 1024;
/// For bodies.
const LARGE: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// It grows when more comes than it takes.
    grows: bool,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { bytes: vec![0; SMALL], start: 0, end: 0, grows: false }
    }
}

impl Buffer {
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// So much is to come. (It may never: only what comes makes the buffer larger.)
    pub(super) fn expect(&mut self, count: u64) {
        self.grows = count > self.bytes.len() as u64;
    }

    /// Nothing is in it, and nothing much will come.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() && self.bytes.len() > SMALL {
            *self = Self::default();
        }
    }

    /// Reads once; says how much has come, 0 at the end.
    pub(super) fn poll_fill(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.end == self.bytes.len() {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                self.bytes.resize(self.bytes.len() * 2, 0);
            }
        }
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.end += count;
        if self.grows && self.end == self.bytes.len() && self.bytes.len() < LARGE {
            self.bytes.resize(LARGE, 0);
        }
        Poll::Ready(Ok(count))
    }

    pub(super) async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(stream, cx)).await
    }
}

/// The client's side, for what is sent to it.
#[derive(Debug)]
pub(super) struct Writer {
    stream: Transport,
    /// Some of what is being sent has gone out, and not all.
    amid: bool,
}

impl Writer {
    pub(super) fn new(stream: Transport) -> Self {
        Self { stream, amid: false }
    }

    /// What was sent last was given up in the middle.
    pub(super) fn is_amid(&self) -> bool {
        self.amid
    }

    /// Sends all of it; the connection knows meanwhile whether the client leaves no room.
    pub(super) async fn send(&mut self, conn: &Conn, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        let mut stalled = false;
        poll_fn(|cx| {
            let done = self.poll_send(cx, bytes, &mut sent);
            if done.is_pending() || stalled {
                stalled = done.is_pending();
                conn.gate.stall(stalled);
            }
            done
        })
        .await
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8], sent: &mut usize) -> Poll<io::Result<()>> {
        while *sent < bytes.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *sent += count,
            }
            self.amid = *sent < bytes.len();
        }
        // Inside of TLS what is written may not have gone out.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Nothing more will be sent.
    pub(super) async fn end(&mut self, conn: &Conn) -> io::Result<()> {
        poll_fn(|cx| {
            let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
            conn.gate.stall(ended.is_pending());
            ended
        })
        .await
    }
}
