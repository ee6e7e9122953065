//! One client's connection, from accept to the worker that takes it.

use super::link::{Client, Outcome};
use super::metrics::{Again, Closing};
use super::peek::{self, Sight};
use super::refuse::{Refusal, refuse};
use super::search::{Search, Way, way};
use super::table::WorkerId;
use super::{Router, access, addresses, outside, proxy};
use crate::config::router::Protocol;
use crate::system::activation::Address;
use crate::system::stream;
use crate::wire::head::Head;
use crate::wire::sticky::Key;
use futures_util::FutureExt;
use std::cell::Cell;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::sync::oneshot;

/// What the connection is about.
struct Request {
    session: Option<Key>,
    tls: bool,
    head: Option<Head>,
}

/// Where a connection went.
enum Fate {
    /// To a worker; or it is gone.
    Settled,
    /// It is to be routed request by request.
    Shared(proxy::Peer),
    /// It is to be joined with this connection to a worker.
    Joined(WorkerId, OwnedFd),
}

/// Begins to serve one connection, to its end or handover. `client` is non-blocking; `address` is where it was accepted.
pub(crate) fn enter(router: &Rc<Router>, client: OwnedFd, address: Rc<Address>) {
    let router = Rc::clone(router);
    router.metrics.accepted.count();
    let client = Client::new(client);
    let door = router.doors.at(&address).cloned();
    if let Err(crowd) = addresses::enter(&router, &client) {
        // Inside of TLS nobody would understand what we say.
        let crowd = if door.as_ref().is_some_and(|door| door.has_tls()) { addresses::Crowd::Twice } else { crowd };
        return addresses::turn_away(&router, client, crowd);
    }
    if let Some(door) = door {
        return proxy::enter(&router, client, address, door);
    }
    let client = Rc::new(client);
    let number = router.arrivals.get() + 1;
    router.arrivals.set(number);
    router.clients.borrow_mut().insert(number, Rc::clone(&client));
    let mut serving = Box::pin(async move {
        let served = try_serve(&router, &client, &address).await;
        router.clients.borrow_mut().remove(&number);
        match served {
            Ok(Fate::Settled) => {}
            Ok(Fate::Shared(peer)) => Box::pin(proxy::serve(router, client, address, peer)).await,
            Ok(Fate::Joined(id, worker)) => Box::pin(proxy::pass(&router, id, client, worker)).await,
            Err(refusal) => {
                router.count_refusal(refusal);
                router.log_refused(&client.socket, refusal);
                tracing::debug!(%address, reason = refusal.reason(), "refused a connection");
                refuse(Rc::clone(&client.socket), refusal).await;
            }
        }
    });
    // Mostly the head is there and a worker is free: handed over before the next one is accepted, this connection is with
    // its worker should the router be killed now.
    if serving.as_mut().now_or_never().is_none() {
        tokio::task::spawn_local(serving);
    }
}

async fn try_serve(router: &Rc<Router>, client: &Rc<Client>, address: &Address) -> Result<Fate, Refusal> {
    let _place = Place::take(router)?;
    let request = match router.settings.protocol {
        Protocol::Tcp => Request { session: router.key_unseen(peer_of(&client.socket)), tls: false, head: None },
        Protocol::Http => match read_request(router, &client.socket).await? {
            Some(request) => request,
            None => return Ok(Fate::Settled),
        },
    };
    if let Some(peer) =
        request.head.and_then(|head| proxy::is_for(router, &client.socket, &head, request.session.as_ref()))
    {
        return Ok(Fate::Shared(peer));
    }
    let mut search = Search::new(router, request.session, address);
    let asked = router.access.is_on().then(|| access::sight(&client.socket));
    loop {
        let id = search.choose(router).await?;
        let manner = match way(router, id, address, request.tls) {
            Some(Way::Hand(manner)) => manner,
            Some(Way::Connect) if router.settings.protocol == Protocol::Http => {
                return Ok(Fate::Shared(proxy::peer_of(router, &client.socket)));
            }
            Some(Way::Connect) => {
                router.table.borrow_mut().asked(id, true, router.now());
                if let Some(worker) = outside::connect_to(router, id).await {
                    return Ok(Fate::Joined(id, worker));
                }
                router.table.borrow_mut().not_asked(id, true);
                search.tried.push(id);
                continue;
            }
            None => return Err(Refusal::Malformed("TLS is not spoken on this port")),
        };
        let Some(link) = router.link(id) else {
            search.tried.push(id);
            continue;
        };
        let new = search.session.is_none();
        let begun = router.now();
        let first = router.table.borrow_mut().handing(id, new, begun);
        let outcome = link.hand(Rc::clone(client), &manner);
        if first {
            router.remember(id);
        }
        let outcome = outcome.await;
        router.table.borrow_mut().handed(id, outcome == Ok(Outcome::Taken));
        router.count_handover(id, outcome.as_ref().ok().map(|it| *it == Outcome::Taken), begun);
        match outcome {
            Ok(Outcome::Taken) => {
                router.log_handed(asked.as_ref(), id);
                router.handed.set(router.handed.get() + 1);
                router.drained.notify_waiters();
                return Ok(Fate::Settled);
            }
            Ok(Outcome::Refused) => {
                router.metrics.again(Again::Refused);
                client.sent.set(false);
                search.tried.push(id);
            }
            // The channel ended. What the worker has read from the socket is lost with it; unread, another can serve it.
            Err(_) if peek::unread(&client.socket) || matches!(router.settings.protocol, Protocol::Tcp) => {
                router.metrics.again(Again::Gone);
                client.sent.set(false);
                search.tried.push(id);
            }
            Err(_) => return Ok(Fate::Settled),
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
        sight = peek::sight(client, router.settings.head_limit, &router.stick.wanted, &begun) => sight,
        () = tokio::time::sleep(router.settings.head_timeout) => {
            return if begun.get() { Err(Refusal::HeadTimeout) } else { Ok(router.closes(Closing::Silent)) };
        }
        // Others wait who have something to say.
        _ = evicted => {
            return if begun.get() { Err(Refusal::HeadTimeout) } else { Ok(router.closes(Closing::Evicted)) };
        }
    };
    drop(silent);
    match sight {
        Ok(Sight::Head(head)) => {
            let session = router.key_of(&head.target, &head, peer_of(client));
            Ok(Some(Request { session, tls: false, head: Some(head) }))
        }
        Ok(Sight::Tls) => Ok(Some(Request { session: router.key_unseen(peer_of(client)), tls: true, head: None })),
        Ok(Sight::Bad(reason)) => Err(Refusal::Malformed(reason)),
        Ok(Sight::TooLong) => Err(Refusal::HeadTooLong),
        Ok(Sight::Ended(true)) => Err(Refusal::Malformed("the request head ends in the middle")),
        // The connection is gone; there is nobody to tell.
        Ok(Sight::Ended(false)) | Err(_) => Ok(None),
    }
}

/// Who is at the other end, where anybody asks.
fn peer_of(client: &OwnedFd) -> impl Fn() -> Option<IpAddr> {
    move || stream::peer(client).map(|address| address.ip())
}

/// A place among the connections that wait; given back when dropped.
pub(super) struct Place(Rc<Router>);

impl Place {
    pub(super) fn take(router: &Rc<Router>) -> Result<Self, Refusal> {
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
pub(super) struct Silent(Rc<Router>, u64);

impl Silent {
    pub(super) fn enter(router: &Rc<Router>, evict: oneshot::Sender<()>) -> Self {
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
