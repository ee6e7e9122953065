//! The client's side of a connection that is hyper's: what comes in passes the [`Guard`], and what must go out between two
//! answers of hyper's finds its place.
//!
//! A request that breaks the rules ends in a NUL, which no parser takes for HTTP: the answer is hyper's 400, in its turn.

use super::transport::Transport;
use crate::wire::strict::{Guard, Place, Verdict};
use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The longest informational answers that wait for a client, bytes.
const EXTRA_LIMIT: usize = 16 * 1024;

/// The socket as hyper sees it.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: Transport,
    gate: Gate,
}

/// What the rest of the router knows of it and says to it. (hyper wants what it hands back after an upgrade to be Send.)
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    guard: Guard,
    /// While plain requests are served, whose bytes do not pass here: where the connection is.
    plain: Option<Place>,
    wrong: Option<&'static str>,
    /// When the first byte of the request that is being read came.
    since: Instant,
    /// What came behind a request that may switch protocols.
    held: BytesMut,
    reader: Option<Waker>,
    /// hyper has nothing in its hands: what it has written has gone out.
    settled: bool,
    /// The client leaves no room for what must go out.
    stalled: bool,
    /// Goes out before anything else.
    extra: BytesMut,
    /// Who writes.
    writer: Option<Waker>,
}

impl Guarded {
    pub(super) fn new(stream: Transport, gate: Gate) -> Self {
        Self { stream, gate }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            guard: Guard::default(),
            plain: Some(Place::Between),
            wrong: None,
            since: Instant::now(),
            held: BytesMut::new(),
            reader: None,
            settled: true,
            stalled: false,
            extra: BytesMut::new(),
            writer: None,
        })))
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // One thread; and nothing in here is left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the client is in its requests, and since when.
    pub(super) fn place(&self) -> (Place, Instant) {
        let inner = self.lock();
        (inner.plain.unwrap_or(inner.guard.place()), inner.since)
    }

    /// Where it is now, while plain requests are served. `anew`: not for the same request as before.
    pub(super) fn plain(&self, place: Place, anew: bool) {
        let mut inner = self.lock();
        if inner.plain.replace(place) != Some(place) || anew {
            inner.since = Instant::now();
        }
    }

    /// From here on all bytes pass here, those first that have been read and belong to no request yet.
    pub(super) fn begin(&self, read: &[u8]) {
        let mut inner = self.lock();
        inner.plain = None;
        inner.held = BytesMut::from(read);
    }

    /// Whether the client leaves no room for what must go out.
    pub(super) fn stall(&self, stalled: bool) {
        self.lock().stalled = stalled;
    }

    /// What was wrong with what the client sent.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        self.lock().wrong
    }

    /// All that hyper has written has gone out.
    pub(super) fn is_settled(&self) -> bool {
        let inner = self.lock();
        inner.settled && inner.extra.is_empty()
    }

    /// Something waits for the client to read what was sent before.
    pub(super) fn is_stalled(&self) -> bool {
        self.lock().stalled
    }

    /// A request that asked to switch protocols was answered.
    pub(super) fn decide(&self, switched: bool) {
        let mut inner = self.lock();
        inner.guard.decide(switched);
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
    }

    /// An informational answer on its way to the client. It is left out where it would get between the parts of another
    /// answer, or where the client reads too slowly.
    pub(super) fn inform(&self, text: &[u8]) {
        let mut inner = self.lock();
        if !inner.settled || inner.extra.len() + text.len() > EXTRA_LIMIT {
            return;
        }
        inner.extra.extend_from_slice(text);
        if let Some(writer) = inner.writer.take() {
            writer.wake();
        }
    }
}

impl Inner {
    /// Looks at what has come, from `start` on.
    fn look(&mut self, buffer: &mut ReadBuf<'_>, start: usize) {
        let bytes = &buffer.filled()[start..];
        if bytes.is_empty() {
            return;
        }
        if self.guard.place() == Place::Between {
            self.since = Instant::now();
        }
        match self.guard.pass(bytes) {
            Verdict::All => {}
            Verdict::Until(count) => {
                let mut held = BytesMut::from(&bytes[count..]);
                held.extend_from_slice(&self.held);
                self.held = held;
                buffer.set_filled(start + count);
            }
            Verdict::Bad(index, reason) => {
                self.wrong = Some(reason);
                buffer.filled_mut()[start + index] = 0;
                buffer.set_filled(start + index + 1);
            }
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buffer.filled().len();
        let mut inner = this.gate.lock();
        if inner.wrong.is_some() {
            return Poll::Ready(Ok(()));
        }
        if inner.guard.place() == Place::Undecided {
            inner.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if inner.held.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        } else {
            let count = inner.held.len().min(buffer.remaining());
            let bytes = inner.held.split_to(count);
            buffer.put_slice(&bytes);
        }
        inner.look(buffer, start);
        Poll::Ready(Ok(()))
    }
}

impl Guarded {
    fn poll_extra(&mut self, cx: &mut Context<'_>, settled: bool) -> Poll<io::Result<()>> {
        let mut inner = self.gate.lock();
        inner.settled = settled;
        if !inner.writer.as_ref().is_some_and(|writer| writer.will_wake(cx.waker())) {
            inner.writer = Some(cx.waker().clone());
        }
        while !inner.extra.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &inner.extra))?;
            inner.extra.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_extra(cx, false))?;
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.gate.lock().stalled = written.is_pending();
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_extra(cx, false))?;
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.gate.lock().stalled = written.is_pending();
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper asks for this when it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_extra(cx, true))?;
        // Inside of TLS what is written may not have gone out.
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.gate.lock().stalled = flushed.is_pending();
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_extra(cx, true))?;
        let ended = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.gate.lock().stalled = ended.is_pending();
        ended
    }
}
