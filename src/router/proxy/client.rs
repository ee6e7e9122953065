//! One client's connection, request after request.

use super::chosen::Chosen;
use super::exchange::answer;
use super::gate::{Gate, Guarded};
use super::limits::Limits;
use super::plain;
use super::seldom::Seldom;
use super::transport::Transport;
use super::upstream::BUFFER;
use super::{Peer, Proxy};
use crate::router::Router;
use crate::router::addresses::Held;
use crate::router::link::Client;
use crate::router::metrics::Closing;
use crate::router::refuse::Refusal;
use crate::system::activation::Address;
use crate::system::stream::{Glance, Stream};
use crate::wire::strict::Place;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::time::Instant;

/// When a client that says nothing is asked whether it is there, how often after that, and how many times in vain: one
/// whose machine or network is gone would hold a tunnel for ever.
pub(super) const KEEP_ALIVE: (u32, u32, u32) = (60, 15, 4);

/// What a connection's requests share.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) router: Rc<Router>,
    /// Where it was accepted.
    pub(super) address: Rc<Address>,
    pub(super) peer: Peer,
    pub(super) gate: Gate,
    pub(super) stream: Glance,
    /// Requests that were read, and whose answers are not over.
    pub(super) in_flight: Cell<usize>,
    pub(super) idle_since: Cell<Instant>,
    evict: Notify,
    pub(super) limits: Limits,
    pub(super) chosen: Chosen,
    /// Its place among the connections of its address, which a tunnel keeps.
    pub(super) held: Option<Rc<Held>>,
    /// What was wrong with its requests is counted.
    told: Cell<bool>,
    /// It is to end after what it has in flight.
    pub(super) ending: Cell<bool>,
}

/// Why a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// After what it has in flight.
    Soon,
    /// The client takes too long with a head.
    HeadTimeout,
}

/// Serves a client's connection to its end. Nothing has been read from it.
pub(in crate::router) async fn serve(router: Rc<Router>, client: Rc<Client>, address: Rc<Address>, peer: Peer) {
    router.sweep();
    let served = async {
        let held = client.held.take();
        let stream = Stream::new(socket_of(client)?)?;
        serve_over(&router, Transport::Plain(stream), address, peer, held).await
    };
    if let Err(error) = served.await {
        tracing::debug!(APP = router.app, %error, "cannot serve a connection");
    }
}

/// The same where something came before the first request. `held`: its place among those of its address.
pub(super) async fn serve_over(
    router: &Rc<Router>,
    transport: Transport,
    address: Rc<Address>,
    peer: Peer,
    held: Option<Rc<Held>>,
) -> io::Result<()> {
    transport.raw().keep_alive(KEEP_ALIVE)?;
    let conn = Rc::new(Conn {
        router: Rc::clone(router),
        address,
        peer,
        gate: Gate::default(),
        stream: transport.raw().glance(),
        in_flight: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
        evict: Notify::new(),
        limits: Limits::default(),
        chosen: Chosen::default(),
        held,
        told: Cell::new(false),
        ending: Cell::new(false),
    });
    let _entry = Entry::enter(router, &conn);
    let mut over = Seldom::new(conn.until_over());
    let mut stalled = Seldom::new(conn.until_stalled());
    let mut plain = Box::pin(plain::serve(&conn, &transport));
    let read = loop {
        tokio::select! {
            biased;
            served = plain.as_mut() => match served {
                Ok(Some(read)) => break Some(read),
                Ok(None) => return Ok(()),
                Err(error) => {
                    tracing::debug!(APP = router.app, %error, "a connection ended early");
                    return Ok(());
                }
            },
            end = &mut over, if !conn.ending.get() => match end {
                End::Soon => conn.ending.set(true),
                End::HeadTimeout => break None,
            },
            // Also when it is to end: it cannot before all has gone out.
            () = &mut stalled => {
                router.metrics.closed(Closing::SlowReader);
                // What the kernel has for it goes as well.
                return transport.raw().reset_on_close();
            }
        }
    };
    drop(plain);
    let Some(read) = read else {
        head_timeout(&conn, transport).await;
        return Ok(());
    };
    conn.gate.begin(&read);
    let guarded = Guarded::new(transport.clone(), conn.gate.clone());
    let serving = Rc::clone(&conn);
    let service = service_fn(move |request| answer(Rc::clone(&serving), request));
    let mut connection = Box::pin(
        http1::Builder::new()
            .preserve_header_case(true)
            .auto_date_header(false)
            .max_buf_size(BUFFER.max(router.settings.head_limit * 2))
            // More than 100 fields, hyper's own limit and that of most proxies, would cost every request 32 KB on the heap.
            .max_header_size(router.settings.head_limit)
            .serve_connection(TokioIo::new(guarded), service)
            .with_upgrades(),
    );
    if conn.ending.get() {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                conn.count_wrong(result.as_ref().err());
                if let Err(error) = result {
                    tracing::debug!(APP = router.app, %error, wrong = conn.gate.wrong(), "a connection ended early");
                }
                return Ok(());
            }
            end = &mut over, if !conn.ending.get() => match end {
                End::Soon => {
                    conn.ending.set(true);
                    connection.as_mut().graceful_shutdown();
                }
                End::HeadTimeout => break,
            },
            // Also when it is to end: it cannot before all has gone out.
            () = &mut stalled => {
                router.metrics.closed(Closing::SlowReader);
                // What the kernel has for it goes as well.
                return transport.raw().reset_on_close();
            }
        }
    }
    drop(connection);
    head_timeout(&conn, transport).await;
    Ok(())
}

/// The client takes too long with a head. This is the last clone of its connection.
async fn head_timeout(conn: &Conn, transport: Transport) {
    conn.router.count_refusal(Refusal::HeadTimeout);
    // Where something of an answer has not gone out yet, this would get into it.
    if !conn.gate.is_settled() {
        return;
    }
    conn.router.log_ended(conn.peer, Refusal::HeadTimeout);
    transport.refuse(Refusal::HeadTimeout).await;
}

/// The socket, and that alone.
pub(super) fn socket_of(client: Rc<Client>) -> io::Result<OwnedFd> {
    match Rc::try_unwrap(client).map(|client| Rc::try_unwrap(client.socket)) {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(shared)) => shared.try_clone(),
        Err(client) => client.socket.try_clone(),
    }
}

impl Conn {
    /// Resolves when the connection is to end: it is idle or in a head for too long, its place is needed, or the router
    /// stops.
    async fn until_over(&self) -> End {
        tokio::select! {
            end = self.until_late() => {
                if end == End::Soon {
                    self.router.metrics.closed(Closing::Idle);
                }
                end
            }
            () = self.evict.notified() => {
                self.router.metrics.closed(Closing::Evicted);
                End::Soon
            }
            () = self.router.proxy.closing.cancelled() => End::Soon,
        }
    }

    async fn until_late(&self) -> End {
        let settings = &self.router.settings;
        loop {
            let now = Instant::now();
            let (place, since) = self.gate.place();
            // A request in flight sets no timer: it is looked after again in a while.
            let (deadline, end) = match place {
                Place::Between if self.in_flight.get() == 0 => {
                    (self.idle_since.get() + settings.keepalive_timeout, Some(End::Soon))
                }
                Place::Head if self.in_flight.get() == 0 => (since + settings.head_timeout, Some(End::HeadTimeout)),
                _ => (now + settings.head_timeout.min(settings.keepalive_timeout), None),
            };
            match end {
                Some(end) if deadline <= now => return end,
                // A head may begin meanwhile, and has less time.
                _ => tokio::time::sleep_until(deadline.min(now + settings.head_timeout)).await,
            }
        }
    }

    /// It has ended: where a request of it was no good, that is counted, once. (It may have been answered before that
    /// showed.)
    fn count_wrong(&self, error: Option<&hyper::Error>) {
        let refusal = match (self.gate.wrong(), error) {
            (Some(reason), _) => Refusal::Malformed(reason),
            (None, Some(error)) if error.is_parse_too_large() => Refusal::HeadTooLong,
            (None, Some(error)) if error.is_parse() => Refusal::Malformed(reason(error)),
            _ => return,
        };
        if self.told.replace(true) {
            return;
        }
        self.router.count_refusal(refusal);
        self.router.log_ended(self.peer, refusal);
    }

    /// The same where it is the request's own answer that tells.
    pub(super) fn is_told(&self, refusal: Refusal) -> bool {
        let wrong = self.gate.wrong().is_some_and(|reason| refusal == Refusal::Malformed(reason));
        wrong && self.told.replace(true)
    }

    fn is_idle(&self) -> bool {
        self.in_flight.get() == 0 && self.gate.place().0 == Place::Between
    }
}

/// What the parser stopped at, by its own words.
fn reason(error: &hyper::Error) -> &'static str {
    let words = error.to_string();
    let about = |word: &str| words.contains(word);
    if about("header") {
        "a bad header field"
    } else if about("version") {
        "no HTTP/1 version"
    } else {
        "no request"
    }
}

/// A connection's place among the others.
struct Entry(Rc<Router>, u64);

impl Entry {
    /// Where there are more than may wait, the one that has been idle the longest makes way.
    fn enter(router: &Rc<Router>, conn: &Rc<Conn>) -> Self {
        let Proxy { connections, arrivals, .. } = &router.proxy;
        let number = arrivals.get();
        arrivals.set(number + 1);
        if connections.borrow().len() >= router.settings.waiting_limit {
            let connections = connections.borrow();
            let idle = connections.values().filter(|conn| conn.is_idle());
            if let Some(oldest) = idle.min_by_key(|conn| conn.idle_since.get()) {
                oldest.evict.notify_one();
            }
        }
        connections.borrow_mut().insert(number, Rc::clone(conn));
        Self(Rc::clone(router), number)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.proxy.connections.borrow_mut().remove(&self.1);
        self.0.drained.notify_waiters();
    }
}

/// Kept short: what is behind it is the router's.
impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Router({})", self.app)
    }
}
