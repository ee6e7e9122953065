//! One client's connection, from accept to the worker that takes it.

use super::Router;
use super::link::{Client, Manner, Outcome};
use super::peek::{self, Sight};
use super::refuse::{Refusal, refuse};
use super::server;
use super::table::{Choice, WorkerId};
use crate::config::router::Protocol;
use crate::system::activation::Address;
use crate::wire::engine;
use futures_util::FutureExt;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// While nobody is ready: how often it is asked again whether anybody may still come.
const HOPE_INTERVAL: Duration = Duration::from_millis(500);

/// Before a connection that every worker has refused is offered again: at first, and at most.
const REFUSED_PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// What the connection is about.
struct Request {
    session: Option<String>,
    tls: bool,
}

/// Begins to serve one connection, to its end or handover. `client` is non-blocking; `address` is where it was accepted.
pub(crate) fn enter(router: &Rc<Router>, client: OwnedFd, address: Rc<Address>) {
    let router = Rc::clone(router);
    let client = Rc::new(Client::new(client));
    let number = router.arrivals.get() + 1;
    router.arrivals.set(number);
    router.clients.borrow_mut().insert(number, Rc::clone(&client));
    let mut serving = Box::pin(async move {
        let served = try_serve(&router, &client, &address).await;
        router.clients.borrow_mut().remove(&number);
        if let Err(refusal) = served {
            router.count_refusal(refusal);
            tracing::debug!(%address, reason = refusal.reason(), "refused a connection");
            refuse(Rc::clone(&client.socket), refusal).await;
        }
    });
    // Mostly the head is there and a worker is free: handed over before the next one is accepted, this connection is with
    // its worker should the router be killed now.
    if serving.as_mut().now_or_never().is_none() {
        tokio::task::spawn_local(serving);
    }
}

async fn try_serve(router: &Rc<Router>, client: &Rc<Client>, address: &Address) -> Result<(), Refusal> {
    let _place = Place::take(router)?;
    let request = match router.settings.protocol {
        Protocol::Tcp => Request { session: None, tls: false },
        Protocol::Http => match read_request(router, &client.socket).await? {
            Some(request) => request,
            None => return Ok(()),
        },
    };
    let mut search = Search {
        session: request.session,
        address,
        tried: Vec::new(),
        pause: REFUSED_PAUSE[0],
        deadline: Instant::now() + router.settings.wait_timeout,
    };
    loop {
        let id = search.choose(router).await?;
        let Some(link) = router.link(id) else {
            search.tried.push(id);
            continue;
        };
        let Some(manner) = manner(router, id, address, request.tls) else {
            return Err(Refusal::Malformed("TLS is not spoken on this port"));
        };
        let new = search.session.is_none();
        let first = router.table.borrow_mut().handing(id, new, router.now());
        let outcome = link.hand(Rc::clone(client), &manner);
        if first {
            router.remember(id);
        }
        let outcome = outcome.await;
        router.table.borrow_mut().handed(id, outcome == Ok(Outcome::Taken));
        match outcome {
            Ok(Outcome::Taken) => {
                router.handed.set(router.handed.get() + 1);
                router.drained.notify_waiters();
                return Ok(());
            }
            Ok(Outcome::Refused) => {
                client.sent.set(false);
                search.tried.push(id);
            }
            // The channel ended. What the worker has read from the socket is lost with it; unread, another can serve it.
            Err(_) if peek::unread(&client.socket) || matches!(router.settings.protocol, Protocol::Tcp) => {
                client.sent.set(false);
                search.tried.push(id);
            }
            Err(_) => return Ok(()),
        }
        router.drained.notify_waiters();
    }
}

/// Looks at the head. `None`: the client went away without saying anything.
async fn read_request(router: &Rc<Router>, client: &Rc<OwnedFd>) -> Result<Option<Request>, Refusal> {
    let begun = Cell::new(false);
    let (evict, evicted) = oneshot::channel();
    let silent = Silent::enter(router, evict);
    let sight = tokio::select! {
        sight = peek::sight(client, router.settings.head_limit, &begun) => sight,
        () = tokio::time::sleep(router.settings.head_timeout) => {
            return if begun.get() { Err(Refusal::HeadTimeout) } else { Ok(None) };
        }
        // Others wait who have something to say.
        _ = evicted => return if begun.get() { Err(Refusal::HeadTimeout) } else { Ok(None) },
    };
    drop(silent);
    match sight {
        Ok(Sight::Head(head)) => {
            let session = engine::session(&head.target).map(|raw| engine::decode(raw).into_owned());
            Ok(Some(Request { session, tls: false }))
        }
        Ok(Sight::Tls) => Ok(Some(Request { session: None, tls: true })),
        Ok(Sight::Bad(reason)) => Err(Refusal::Malformed(reason)),
        Ok(Sight::TooLong) => Err(Refusal::HeadTooLong),
        Ok(Sight::Ended(true)) => Err(Refusal::Malformed("the request head ends in the middle")),
        // The connection is gone; there is nobody to tell.
        Ok(Sight::Ended(false)) | Err(_) => Ok(None),
    }
}

/// The search for a worker that takes one connection.
struct Search<'a> {
    session: Option<String>,
    address: &'a Address,
    /// Who has refused it.
    tried: Vec<WorkerId>,
    pause: Duration,
    deadline: Instant,
}

impl Search<'_> {
    /// Waits for a worker: for the session's registration, or for anybody to become ready.
    async fn choose(&mut self, router: &Rc<Router>) -> Result<WorkerId, Refusal> {
        let mut registration = self.session.as_ref().map(|_| Instant::now() + router.settings.session_wait);
        let mut looked = false;
        loop {
            let changed = router.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            // Past the registration's time any worker may answer, and it will say that it does not know the session.
            let known = self.session.as_deref().filter(|_| registration.is_some());
            let now = Instant::now();
            let mut again = false;
            let until = match router.choose(known, &self.tried, self.address) {
                Choice::Worker(id) => return Ok(id),
                Choice::UnknownSession if !looked => {
                    // The worker answers its client first and tells us then; its word may be waiting in the channel.
                    looked = true;
                    router.drain_channels();
                    continue;
                }
                Choice::UnknownSession => match registration {
                    Some(at) if now < at => at,
                    _ => {
                        registration = None;
                        continue;
                    }
                },
                Choice::Nobody if now >= self.deadline => return Err(Refusal::NoWorker),
                // All that are there have refused it: they have no descriptor or no place for it. That may pass.
                Choice::Nobody if router.is_any_here(&self.tried) => {
                    again = true;
                    now + self.pause
                }
                Choice::Nobody if !router.somebody_may_come() => return Err(Refusal::NoWorker),
                Choice::Nobody => now + HOPE_INTERVAL,
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until.min(self.deadline)) => if again {
                    self.tried.clear();
                    self.pause = (self.pause * 2).min(REFUSED_PAUSE[1]);
                },
            }
        }
    }
}

/// How this worker takes a connection to `address`; `None`: it cannot.
fn manner(router: &Router, id: WorkerId, address: &Address, tls: bool) -> Option<Manner> {
    let table = router.table.borrow();
    let worker = table.worker(id)?;
    match server::pick(&worker.servers, address, &router.public, tls, worker.sticky) {
        Some(server) if tls && server.query.ticket_keys.is_none() => None,
        Some(server) => Some(Manner::Server(server.key.clone())),
        None if tls => None,
        None => Some(Manner::Sticky),
    }
}

/// A place among the connections that wait; given back when dropped.
struct Place(Rc<Router>);

impl Place {
    fn take(router: &Rc<Router>) -> Result<Self, Refusal> {
        if router.waiting.get() >= router.settings.waiting_limit && !router.evict_silent() {
            return Err(Refusal::TooMany);
        }
        router.waiting.set(router.waiting.get() + 1);
        Ok(Self(Rc::clone(router)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
        self.0.drained.notify_waiters();
    }
}

/// A connection whose head has not come: the first to go when places are short.
struct Silent(Rc<Router>, u64);

impl Silent {
    fn enter(router: &Rc<Router>, evict: oneshot::Sender<()>) -> Self {
        let number = router.arrivals.get() + 1;
        router.arrivals.set(number);
        router.silent.borrow_mut().insert(number, evict);
        Self(Rc::clone(router), number)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.0.silent.borrow_mut().remove(&self.1);
    }
}
