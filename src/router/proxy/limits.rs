//! What a client and a worker may take their time with: a body that does not come, an answer that is not read, an answer
//! that is not given.

use super::client::Conn;
use crate::config::router::FOREVER;
use crate::router::Router;
use crate::router::metrics::Closing;
use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// What is known of the request that a connection is in. (There is one at a time.)
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// The next piece of its body is the client's to send.
    due: Cell<bool>,
    /// When a piece came last.
    moved: Cell<Option<Instant>>,
    /// None came in time.
    late: Cell<bool>,
}

impl Limits {
    pub(super) fn begin(&self) {
        self.due.set(false);
        self.moved.set(None);
        self.late.set(false);
    }

    /// Nothing of the body came for too long.
    pub(super) fn is_late(&self) -> bool {
        self.late.get()
    }

    /// An answer breaks off.
    pub(super) fn broken(&self, router: &Router) {
        if self.late.take() {
            router.metrics.closed(Closing::SlowBody);
        }
    }
}

/// Watches that a body goes on while it is asked for.
#[derive(Debug)]
pub(super) struct Pace {
    conn: Rc<Conn>,
    /// Made when it is needed first: mostly a body is there at once.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(super) fn new(conn: &Rc<Conn>) -> Self {
        Self { conn: Rc::clone(conn), timer: None }
    }

    /// A piece has come.
    pub(super) fn moved(&mut self) {
        if self.conn.limits.due.take() {
            self.conn.limits.moved.set(Some(Instant::now()));
        }
    }

    /// None has. Ready when that lasts too long.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.conn.router.settings.body_timeout;
        if limit >= FOREVER {
            return Poll::Pending;
        }
        let first = !self.conn.limits.due.replace(true);
        let deadline = Instant::now() + limit;
        match &mut self.timer {
            Some(timer) if first => timer.as_mut().reset(deadline),
            Some(_) => {}
            none => *none = Some(Box::pin(sleep_until(deadline))),
        }
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
        }
        self.conn.limits.late.set(true);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

/// Waits for a worker's answer, for as long as the settings allow. What the client takes for its body does not count.
pub(super) async fn in_time<T>(conn: &Conn, answer: impl Future<Output = T>) -> Option<T> {
    let limit = conn.router.settings.answer_timeout;
    if limit >= FOREVER {
        return Some(answer.await);
    }
    let mut answer = pin!(answer);
    let begun = Instant::now();
    loop {
        let now = Instant::now();
        let since = if conn.limits.due.get() { now } else { conn.limits.moved.get().unwrap_or(begun) };
        if now >= since + limit {
            return None;
        }
        tokio::select! {
            answer = &mut answer => return Some(answer),
            () = sleep_until(since + limit) => {}
        }
    }
}

impl Conn {
    /// Resolves when the client has taken nothing of what waits for it for too long. A trusted proxy may: nginx takes
    /// nothing while its client takes what it has put into a file, and knows itself when that one stops.
    pub(super) async fn until_stalled(&self) {
        let limit = self.router.settings.send_timeout;
        if limit >= FOREVER || self.peer.trusted {
            return std::future::pending().await;
        }
        // What the kernel still has for it, since when that is so.
        let mut waits: Option<(usize, Instant)> = None;
        loop {
            tokio::time::sleep((limit / 4).max(Duration::from_millis(1))).await;
            let stalled = self.gate.is_stalled().then(|| self.stream.upgrade().and_then(|stream| stream.unsent().ok()));
            let Some(unsent) = stalled.flatten() else {
                waits = None;
                continue;
            };
            match waits {
                Some((before, since)) if before == unsent => {
                    if since.elapsed() >= limit {
                        return;
                    }
                }
                _ => waits = Some((unsent, Instant::now())),
            }
        }
    }
}
