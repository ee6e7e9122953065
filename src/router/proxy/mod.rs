//! Connections that are routed request by request: behind a reverse proxy the requests of one connection are different
//! clients', and each goes to the worker of its own session.
//!
//! `client` serves one such connection: `plain` its requests for as long as they need nothing but to be passed on, and hyper
//! from the first one on that does. `exchange` is one request in hyper's hands, `keys` where a request belongs and `body` what
//! flows with it; `upstream` makes and keeps the connections to the workers, `limits` says who is too slow, `gate` watches what the
//! client sends, `tunnel` joins connections that have switched to another protocol. `door` is what comes before the first
//! request at addresses with TLS or the PROXY protocol, whose connections all pass here, and `transport` what their bytes
//! go through.

mod body;
mod chosen;
mod client;
mod door;
mod exchange;
mod gate;
mod keys;
mod limits;
mod plain;
mod seldom;
mod transport;
mod tunnel;
mod upstream;

pub(super) use client::serve;
pub(super) use door::enter;
pub(super) use tunnel::pass;

use super::Router;
use super::record::Record;
use super::table::WorkerId;
use crate::config::router::Shared;
use crate::system::stream::{self, Stream};
use crate::wire::engine::Opened;
use crate::wire::head::Head;
use crate::wire::sticky::Key;
use client::Conn;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long requests in flight may take to end when the router stops, and connections that have switched protocols
/// after that.
const STOP_TIMES: [Duration; 2] = [Duration::from_secs(2), Duration::from_millis(500)];
/// How often idle connections and silent sessions are looked at.
const SWEEP: Duration = Duration::from_secs(2);

/// What the router has for these connections.
#[derive(Default)]
pub(super) struct Proxy {
    /// hyper's connections to workers, and those of plain requests.
    pool: upstream::Pool<upstream::Sender>,
    plain: upstream::Pool<Stream>,
    bell: upstream::Bell,
    pairs: upstream::Pairs,
    /// Requests since the router started.
    requests: Cell<u64>,
    in_flight: Cell<usize>,
    /// Connections that have switched protocols and pass through here.
    tunnels: Cell<usize>,
    /// By the order of their arrival.
    connections: RefCell<BTreeMap<u64, Rc<Conn>>>,
    arrivals: Cell<u64>,
    sweeping: Cell<bool>,
    /// Nothing new is begun.
    closing: CancellationToken,
    /// All that is left ends.
    cut: CancellationToken,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// `None`: a Unix socket.
    pub(super) address: Option<IpAddr>,
    pub(super) trusted: bool,
    /// It came by TLS.
    https: bool,
}

/// Who is at the other end.
pub(super) fn peer_of(router: &Router, client: &OwnedFd) -> Peer {
    let address = stream::peer(client).map(|address| address.ip());
    Peer { address, trusted: router.settings.trusted_proxies.contain(address), https: false }
}

/// Whether a connection that begins with this head is routed request by request; then who it is.
///
/// A reverse proxy uses a connection for nothing else once it has switched protocols, so one that begins with that is
/// handed over; but not with what a stranger says of itself. Where workers have no channel nothing is handed over. `key`:
/// what the head says of where it belongs.
pub(super) fn is_for(router: &Router, client: &OwnedFd, head: &Head, key: Option<&Key>) -> Option<Peer> {
    if router.has_outsiders() {
        return Some(peer_of(router, client));
    }
    let shared = &router.settings.shared;
    let keyed = router.reads_requests(head, key);
    if *shared == Shared::Never || (*shared == Shared::Auto && !head.forwarded && !keyed) {
        return None;
    }
    let peer = peer_of(router, client);
    let wanted = match shared {
        Shared::Always => !head.websocket || (head.forwarded && !peer.trusted),
        _ => !head.websocket && peer.trusted,
    };
    (wanted || keyed).then_some(peer)
}

impl Router {
    /// Requests that have been routed one by one since the router started.
    pub(super) fn proxied(&self) -> u64 {
        self.proxy.requests.get()
    }

    /// Clients' connections that are routed request by request now.
    pub(super) fn proxy_connections(&self) -> usize {
        self.proxy.connections.borrow().len()
    }

    /// Connections that have switched protocols and pass through this process.
    pub(super) fn tunnels(&self) -> usize {
        self.proxy.tunnels.get()
    }

    /// A worker is on its way out, or gone: its idle connections are closed, so that it need not wait for us.
    pub(super) fn leave_worker(&self, id: WorkerId) {
        self.proxy.pool.forget(id);
        self.proxy.plain.forget(id);
    }

    /// Ends what is routed request by request: what is in flight gets a moment, nothing new is begun.
    pub(super) async fn close_proxy(&self) {
        let proxy = &self.proxy;
        proxy.closing.cancel();
        let in_flight = self.until(|| proxy.in_flight.get() == 0 && proxy.connections.borrow().is_empty());
        if tokio::time::timeout(STOP_TIMES[0], in_flight).await.is_err() {
            tracing::warn!(APP = self.app, requests = proxy.in_flight.get(), "stopping with requests in flight");
        }
        proxy.cut.cancel();
        // Whoever has not ended by then is cut off by the exit.
        let _ = tokio::time::timeout(STOP_TIMES[1], self.until(|| proxy.tunnels.get() == 0)).await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if holds() {
                return;
            }
            drained.await;
        }
    }

    /// A worker's answer has opened this session.
    fn learn(&self, id: WorkerId, opened: &Opened) {
        let Opened { sid, lifetime } = opened;
        if self.table.borrow_mut().learn(id, sid, *lifetime, self.now()) {
            self.note(&Record::Learnt { id, sid: sid.clone(), lifetime: lifetime.as_secs() });
            self.changed.notify_waiters();
        }
    }

    /// Begins to look after idle connections and silent sessions, once.
    pub(super) fn sweep(self: &Rc<Self>) {
        if self.proxy.sweeping.replace(true) {
            return;
        }
        let router = Rc::clone(self);
        tokio::task::spawn_local(async move {
            loop {
                let swept = tokio::time::Instant::now();
                while tokio::time::timeout_at(swept + SWEEP, router.proxy.bell.rings()).await.is_ok() {
                    router.proxy.plain.sweep(&router.proxy.bell);
                }
                router.proxy.pool.sweep(&router.proxy.bell);
                router.proxy.plain.sweep(&router.proxy.bell);
                router.forget_idle_keys();
                let over = router.table.borrow_mut().forget_silent(router.now());
                if !over.is_empty() {
                    over.into_iter().for_each(|(id, sid)| router.note(&Record::Close { id, sid }));
                    router.drained.notify_waiters();
                }
            }
        });
    }
}
