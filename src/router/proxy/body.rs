//! What flows with a request and with its answer, and what is known when it has.

use super::client::Conn;
use super::limits::Pace;
use super::upstream::{Line, Sender, Upstream};
use crate::router::access::Pending;
use crate::router::sticky::Hold;
use crate::router::table::WorkerId;
use crate::wire::engine::{OPENING_LIMIT, Opening, opening};
use crate::wire::sticky::Key;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A request's body on its way to a worker.
#[derive(Debug, Default)]
pub(super) struct Upload {
    body: Option<Incoming>,
    /// With `Expect: 100-continue`: the client is not asked for its body before the worker wants it.
    wanted: Option<oneshot::Receiver<()>>,
    pace: Option<Pace>,
}

impl Upload {
    pub(super) fn new(conn: &Rc<Conn>, body: Incoming, wanted: Option<oneshot::Receiver<()>>) -> Self {
        let pace = (!body.is_end_stream()).then(|| Pace::new(conn));
        Self { body: Some(body), wanted, pace }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(wanted) = &mut self.wanted {
            if ready!(Pin::new(wanted).poll(cx)).is_err() {
                return Poll::Ready(Some(Err(io::Error::other("the worker answered without the body"))));
            }
            self.wanted = None;
        }
        let Self { body: Some(body), pace, .. } = &mut *self else { return Poll::Ready(None) };
        match (Pin::new(body).poll_frame(cx), pace) {
            (Poll::Pending, Some(pace)) => pace.poll_late(cx).map(|late| Some(Err(late))),
            (frame, pace) => {
                pace.iter_mut().for_each(Pace::moved);
                frame.map_err(io::Error::other)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// A request that a worker has; counted as long as this is there.
#[derive(Debug)]
pub(super) struct Flight {
    conn: Rc<Conn>,
    id: WorkerId,
    /// When it began, if it names no session and its answer has not begun.
    unanswered: Option<Duration>,
    /// It names no session, and none has come of it.
    expecting: bool,
    /// Its key is not forgotten meanwhile.
    pub(super) hold: Option<Hold>,
}

impl Flight {
    /// `key`: what it says of where it belongs.
    pub(super) fn begin(conn: &Rc<Conn>, id: WorkerId, key: Option<&Key>) -> Self {
        let (new, now) = (key.is_none(), conn.router.now());
        conn.router.table.borrow_mut().begin(id, new, now);
        conn.chosen.set(&conn.router, id);
        let hold = match key {
            Some(Key::Kept(key)) => Some(Hold::new(&conn.router, key)),
            _ => None,
        };
        Self { conn: Rc::clone(conn), id, unanswered: new.then_some(now), expecting: new, hold }
    }

    /// A session has come of it, or something else that is counted on its own.
    pub(super) fn opened(&mut self) {
        self.expecting = false;
    }

    pub(super) fn answered(&mut self) {
        if let Some(began) = self.unanswered.take() {
            let now = self.conn.router.now();
            self.conn.router.table.borrow_mut().answered(self.id, began, Some(now));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut table = self.conn.router.table.borrow_mut();
        if let Some(began) = self.unanswered.take() {
            table.answered(self.id, began, None);
        }
        table.end(self.id, self.expecting);
        drop(table);
        self.conn.router.drained.notify_waiters();
    }
}

/// One request of a client, from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct Turn {
    conn: Rc<Conn>,
    /// For the access log.
    pub(super) entry: Option<Box<Pending>>,
    /// Its answer has begun.
    pub(super) answered: bool,
}

impl Turn {
    pub(super) fn begin(conn: &Rc<Conn>) -> Self {
        let (requests, in_flight) = (&conn.router.proxy.requests, &conn.router.proxy.in_flight);
        requests.set(requests.get() + 1);
        in_flight.set(in_flight.get() + 1);
        conn.in_flight.set(conn.in_flight.get() + 1);
        conn.limits.begin();
        conn.chosen.clear();
        Self { conn: Rc::clone(conn), entry: None, answered: false }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Self { conn, entry, answered } = self;
        if !*answered {
            conn.chosen.left(&conn.router);
            entry.iter_mut().for_each(|entry| entry.entry.worker = conn.chosen.slot(&conn.router));
        }
        let in_flight = &conn.router.proxy.in_flight;
        in_flight.set(in_flight.get() - 1);
        conn.in_flight.set(conn.in_flight.get() - 1);
        conn.idle_since.set(Instant::now());
        conn.router.drained.notify_waiters();
        if let Some(entry) = entry.take() {
            entry.end(&conn.router);
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// The router's own, or none.
    Own(Option<Bytes>, Option<Turn>),
    Worker(Box<Running>),
}

/// A worker's answer that is being passed on.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) body: Incoming,
    /// Goes back when the answer is whole; `None`: the worker closes it.
    pub(super) upstream: Option<Upstream<Sender>>,
    /// What has come of an answer that may open a session.
    pub(super) prefix: Option<Vec<u8>>,
    pub(super) flight: Option<Flight>,
    /// Where the client waits to be asked for its body.
    pub(super) wanted: Option<Wanted>,
    pub(super) turn: Option<Turn>,
}

/// Asks the client for its body, once; a sender that is dropped says that nobody wants it. (hyper keeps a clone.)
pub(super) type Wanted = Arc<Mutex<Option<oneshot::Sender<()>>>>;

impl Running {
    /// All of it is here.
    fn finish(&mut self) {
        if let (Some(upstream), Some(flight)) = (self.upstream.take(), &self.flight) {
            Sender::give_back(&flight.conn.router, upstream);
        }
        self.flight = None;
        self.give_up_body();
    }

    /// Nobody wants the body any more; where it was not asked for, its connection to the worker ends.
    fn give_up_body(&mut self) {
        if let Some(wanted) = self.wanted.take() {
            drop(wanted.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    fn look(&mut self, data: &Bytes) {
        if let Some(flight) = &mut self.flight {
            look(&mut self.prefix, flight, data);
        }
    }
}

/// Looks at the next piece of an answer that may open a session; `prefix` is what has come of it.
pub(super) fn look(prefix: &mut Option<Vec<u8>>, flight: &mut Flight, data: &[u8]) {
    let Some(known) = prefix else { return };
    known.extend_from_slice(&data[..data.len().min(OPENING_LIMIT - known.len())]);
    match opening(known) {
        Opening::Partial if known.len() < OPENING_LIMIT => return,
        Opening::Partial | Opening::No => {}
        Opening::Opened(opened) => {
            flight.conn.router.learn(flight.id, &opened);
            flight.opened();
        }
    }
    *prefix = None;
}

impl Drop for Running {
    fn drop(&mut self) {
        self.give_up_body();
    }
}

impl Answer {
    /// A worker's. What has no body is over at once: nobody is going to ask for it.
    pub(super) fn worker(mut running: Running) -> Self {
        if running.body.is_end_stream() {
            running.finish();
        }
        Self::Worker(Box::new(running))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let running = match &mut *self {
            Self::Own(bytes, turn) => {
                let bytes = bytes.take();
                if let (Some(bytes), Some(Turn { entry: Some(pending), .. })) = (&bytes, turn) {
                    pending.entry.bytes = bytes.len() as u64;
                }
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Self::Worker(running) => running,
        };
        let frame = ready!(Pin::new(&mut running.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    running.look(data);
                    if let Some(Turn { entry: Some(pending), .. }) = &mut running.turn {
                        pending.entry.bytes += data.len() as u64;
                    }
                }
                if running.body.is_end_stream() {
                    running.finish();
                }
            }
            Some(Err(_)) => {
                running.upstream = None;
                if let Some(turn) = &running.turn {
                    turn.conn.limits.broken(&turn.conn.router);
                }
            }
            None => running.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes, _) => bytes.is_none(),
            Self::Worker(running) => running.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes, _) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Worker(running) => running.body.size_hint(),
        }
    }
}
