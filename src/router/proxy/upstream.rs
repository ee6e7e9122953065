//! Connections to workers: made here, handed over like a client's, kept for as long as the worker keeps them. To workers
//! without a channel they are made by connecting.
//!
//! The former are real TCP over loopback, not Unix sockets: to the app the router is a reverse proxy at 127.0.0.1, which is
//! what `trust proxy = loopback` and the like expect. At a Unix socket there is no address at all.

use super::Proxy;
use super::body::{Flight, Upload};
use super::client::Conn;
use crate::router::Router;
use crate::router::handover::Place;
use crate::router::link::{Client, Manner, Outcome};
use crate::router::metrics::Again;
use crate::router::outside;
use crate::router::refuse::Refusal;
use crate::router::search::{Search, Way, way};
use crate::router::table::{Phase, WorkerId};
use crate::system::sock::{accept, begin_connect, set_nonblocking, watch};
use crate::system::stream::{Glance, Stream, peer};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Idle connections that are kept for one worker.
const KEPT: usize = 128;
/// How long, unless the worker names a shorter time. Node closes after 5 s.
const KEPT_FOR: Duration = Duration::from_secs(4);
/// The same for a worker that is not Node: gunicorn closes after 2 s, others later.
const KEPT_FOR_CONNECTED: Duration = Duration::from_secs(1);
/// What hyper may hold of one connection, either way, bytes.
pub(super) const BUFFER: usize = 128 * 1024;
/// From connect to accept, on this machine.
const PAIR_TIME: Duration = Duration::from_secs(5);

/// A connection to a worker, free for one request.
#[derive(Debug)]
pub(super) struct Upstream<L> {
    pub(super) id: WorkerId,
    pub(super) line: L,
    pub(super) way: Way,
    /// How long the worker lets it be idle.
    pub(super) kept_for: Duration,
    /// Since when it is idle.
    since: Instant,
}

/// What requests go over: hyper's hands or ours.
pub(super) trait Line: Sized + 'static {
    async fn over(stream: Stream, id: WorkerId) -> io::Result<Self>;
    /// Whether a request may go over it. `surely`: the kernel is asked, too; else what it has told must do, and `waker` is
    /// woken when that changes.
    fn is_quiet(&self, surely: bool, waker: &Waker) -> bool;
    fn pool(proxy: &Proxy) -> &Pool<Self>;
    /// A request is over: its connection is kept for the next one, once the worker has all of it.
    fn give_back(router: &Rc<Router>, upstream: Upstream<Self>);
}

/// hyper's.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) requests: SendRequest<Upload>,
    glance: Glance,
}

impl Line for Sender {
    async fn over(stream: Stream, id: WorkerId) -> io::Result<Self> {
        let glance = stream.glance();
        let handshake = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let (requests, connection) = handshake;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(id, %error, "a connection to a worker ended early");
            }
        });
        Ok(Self { requests, glance })
    }

    fn is_quiet(&self, _surely: bool, _waker: &Waker) -> bool {
        self.requests.is_ready() && self.glance.is_quiet()
    }

    fn pool(proxy: &Proxy) -> &Pool<Self> {
        &proxy.pool
    }

    fn give_back(router: &Rc<Router>, mut upstream: Upstream<Self>) {
        if upstream.line.requests.is_ready() {
            return keep(router, upstream);
        }
        let router = Rc::clone(router);
        tokio::task::spawn_local(async move {
            if upstream.line.requests.ready().await.is_ok() {
                keep(&router, upstream);
            }
        });
    }
}

/// Ours.
impl Line for Stream {
    async fn over(stream: Stream, _id: WorkerId) -> io::Result<Self> {
        Ok(stream)
    }

    fn is_quiet(&self, surely: bool, waker: &Waker) -> bool {
        self.seems_quiet(&mut Context::from_waker(waker)) && (!surely || self.glance().is_quiet())
    }

    fn pool(proxy: &Proxy) -> &Pool<Self> {
        &proxy.plain
    }

    fn give_back(router: &Rc<Router>, upstream: Upstream<Self>) {
        keep(router, upstream);
    }
}

impl<L: Line> Upstream<L> {
    fn is_usable(&self, surely: bool, waker: &Waker) -> bool {
        self.since.elapsed() < self.kept_for && self.line.is_quiet(surely, waker)
    }
}

/// Rings when a worker has ended an idle connection of ours: it may be waiting for us to end it, too.
#[derive(Debug)]
pub(super) struct Bell {
    rung: Arc<Rung>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Rung(Notify);

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

impl Default for Bell {
    fn default() -> Self {
        let rung = Arc::<Rung>::default();
        Self { waker: Waker::from(Arc::clone(&rung)), rung }
    }
}

impl Bell {
    pub(super) async fn rings(&self) {
        self.rung.0.notified().await;
    }
}

/// Idle connections to workers.
#[derive(Debug)]
pub(super) struct Pool<L>(RefCell<HashMap<WorkerId, Vec<Upstream<L>>>>);

impl<L> Default for Pool<L> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<L: Line> Pool<L> {
    /// The one that was used last.
    fn take(&self, id: WorkerId, way: &Way, surely: bool) -> Option<Upstream<L>> {
        let mut pool = self.0.borrow_mut();
        let kept = pool.get_mut(&id)?;
        while let Some(at) = kept.iter().rposition(|upstream| upstream.way == *way) {
            let upstream = kept.remove(at);
            if upstream.is_usable(surely, Waker::noop()) {
                return Some(upstream);
            }
        }
        None
    }

    pub(super) fn forget(&self, id: WorkerId) {
        let forgotten = self.0.borrow_mut().remove(&id);
        drop(forgotten);
    }

    /// Closes those that are of no use any more. `bell` rings for the others.
    pub(super) fn sweep(&self, bell: &Bell) {
        let mut pool = self.0.borrow_mut();
        pool.values_mut().for_each(|kept| kept.retain(|upstream| upstream.is_usable(false, &bell.waker)));
        pool.retain(|_, kept| !kept.is_empty());
    }
}

fn keep<L: Line>(router: &Router, mut upstream: Upstream<L>) {
    let ready = router.table.borrow().worker(upstream.id).is_some_and(|worker| worker.phase == Phase::Ready)
        && upstream.line.is_quiet(false, &router.proxy.bell.waker);
    let mut pool = L::pool(&router.proxy).0.borrow_mut();
    let kept = pool.entry(upstream.id).or_default();
    if ready && kept.len() < KEPT && !upstream.kept_for.is_zero() {
        upstream.since = Instant::now();
        kept.push(upstream);
    }
}

/// Which of a worker's connections a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// One that was used before and is not known to have ended: the request may be repeated.
    Hopeful,
    /// One that has not ended.
    Sure,
    /// Not one that was used before.
    Fresh,
}

/// A connection to the worker that the search finds. The request counts from the choice on: others are chosen for while a
/// connection is made.
pub(super) async fn reach<L: Line>(
    conn: &Rc<Conn>,
    search: &mut Search<'_>,
    wish: Wish,
) -> Result<(Upstream<L>, Flight), Refusal> {
    let router = &conn.router;
    let _place = Place::take(router)?;
    let new = search.session.is_none();
    loop {
        let id = search.choose(router).await?;
        let Some(way) = way(router, id, search.address, false) else {
            search.tried.push(id);
            continue;
        };
        let flight = Flight::begin(conn, id, search.session.as_ref());
        if wish != Wish::Fresh
            && let Some(upstream) = L::pool(&router.proxy).take(id, &way, wish == Wish::Sure)
        {
            router.table.borrow_mut().asked(id, new, router.now());
            return Ok((upstream, flight));
        }
        // Counted from here on, like what is handed over; an end of the flight takes it back.
        if way == Way::Connect {
            router.table.borrow_mut().asked(id, new, router.now());
        }
        match open(router, id, way, new).await {
            Ok(Some(upstream)) => return Ok((upstream, flight)),
            Ok(None) => {
                router.metrics.again(Again::Refused);
                search.tried.push(id);
            }
            Err(error) => {
                tracing::error!(APP = router.app, %error, "cannot connect to a worker: {error}");
                return Err(Refusal::NoWorker);
            }
        }
    }
}

/// A new connection. `None`: the worker did not take it. A caller that goes away leaves it to the next one.
async fn open<L: Line>(router: &Rc<Router>, id: WorkerId, way: Way, new: bool) -> io::Result<Option<Upstream<L>>> {
    let (answer, answered) = oneshot::channel();
    let router = Rc::clone(router);
    tokio::task::spawn_local(async move {
        let made = make(&router, id, way, new).await;
        if let Err(Ok(Some(unclaimed))) = answer.send(made) {
            L::give_back(&router, unclaimed);
        }
    });
    answered.await.unwrap_or(Ok(None))
}

async fn make<L: Line>(router: &Rc<Router>, id: WorkerId, way: Way, new: bool) -> io::Result<Option<Upstream<L>>> {
    let ours = match &way {
        Way::Hand(manner) => hand(router, id, manner, new).await?,
        Way::Connect => outside::connect_to(router, id).await,
    };
    let Some(ours) = ours else {
        return Ok(None);
    };
    let line = L::over(Stream::new(ours)?, id).await?;
    let kept_for = if way == Way::Connect { KEPT_FOR_CONNECTED } else { KEPT_FOR };
    Ok(Some(Upstream { id, line, way, kept_for, since: Instant::now() }))
}

/// A pair of sockets whose other end is handed to a worker. `None`: it did not take that.
async fn hand(router: &Rc<Router>, id: WorkerId, manner: &Manner, new: bool) -> io::Result<Option<OwnedFd>> {
    let (ours, theirs) = router.proxy.pairs.make().await?;
    let Some(link) = router.link(id) else {
        return Ok(None);
    };
    let begun = router.now();
    let first = router.table.borrow_mut().handing(id, new, begun);
    let outcome = link.hand(Rc::new(Client::new(theirs)), manner);
    if first {
        router.remember(id);
    }
    let outcome = outcome.await;
    router.table.borrow_mut().handed(id, outcome == Ok(Outcome::Taken));
    router.count_handover(id, outcome.as_ref().ok().map(|it| *it == Outcome::Taken), begun);
    router.drained.notify_waiters();
    Ok((outcome == Ok(Outcome::Taken)).then_some(ours))
}

/// Makes pairs of connected TCP sockets, by a listener that is nobody else's.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    listener: RefCell<Option<Rc<Listening>>>,
    /// Our ends whose other ends have not been accepted.
    expected: RefCell<HashSet<SocketAddr>>,
    /// Ends that were accepted by another one's turn.
    arrived: RefCell<HashMap<SocketAddr, OwnedFd>>,
    more: Notify,
}

#[derive(Debug)]
struct Listening {
    socket: AsyncFd<OwnedFd>,
    address: SocketAddr,
}

impl Pairs {
    fn listening(&self) -> io::Result<Rc<Listening>> {
        if let Some(listening) = &*self.listener.borrow() {
            return Ok(Rc::clone(listening));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let socket = OwnedFd::from(listener);
        set_nonblocking(&socket)?;
        // What is accepted has it from here; the worker's answers must not wait for our acknowledgements.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::TcpNoDelay, &true)?;
        let listening = Rc::new(Listening { socket: watch(socket, Interest::READABLE)?, address });
        *self.listener.borrow_mut() = Some(Rc::clone(&listening));
        Ok(listening)
    }

    /// Both ends, non-blocking. The second is the one that a worker is to have.
    async fn make(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let listening = self.listening()?;
        let (ours, address) = begin_connect(listening.address)?;
        let _expected = Expected::enter(self, address);
        let theirs = tokio::time::timeout(PAIR_TIME, self.accept(&listening, address)).await??;
        Ok((ours, theirs))
    }

    async fn accept(&self, listening: &Listening, address: SocketAddr) -> io::Result<OwnedFd> {
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            if let Some(theirs) = self.arrived.borrow_mut().remove(&address) {
                return Ok(theirs);
            }
            match accept(listening.socket.get_ref()) {
                Ok(end) => match peer(&end) {
                    Some(from) if from == address => return Ok(end),
                    Some(from) if self.expected.borrow().contains(&from) => {
                        self.arrived.borrow_mut().insert(from, end);
                        self.more.notify_waiters();
                    }
                    // A stranger on this machine.
                    _ => {}
                },
                Err(Errno::EAGAIN) => {
                    tokio::select! {
                        guard = listening.socket.readable() => guard?.clear_ready(),
                        () = more => {}
                    }
                }
                Err(Errno::ECONNABORTED | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

struct Expected<'a>(&'a Pairs, SocketAddr);

impl<'a> Expected<'a> {
    fn enter(pairs: &'a Pairs, address: SocketAddr) -> Self {
        pairs.expected.borrow_mut().insert(address);
        Self(pairs, address)
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.0.expected.borrow_mut().remove(&self.1);
        self.0.arrived.borrow_mut().remove(&self.1);
    }
}
