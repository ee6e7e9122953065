//! Connections that begin with something else than a request: a header of the PROXY protocol, a TLS handshake, or both.

use super::Peer;
use super::client::{serve_over, socket_of};
use super::transport::Transport;
use crate::router::Router;
use crate::router::addresses::{self, Crowd, Held};
use crate::router::doors::Door;
use crate::router::handover::{Place, Silent};
use crate::router::link::Client as Incomer;
use crate::router::metrics::Closing;
use crate::router::refuse::{Refusal, refuse};
use crate::system::activation::Address;
use crate::system::stream::{Stream, peer};
use crate::wire::proxy_protocol::{self, Client, Header, Parsed};
use std::cell::Cell;
use std::error::Error;
use std::io;
use std::rc::Rc;
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// First byte of a TLS connection (RFC 8446 §5.1): a handshake's record.
const TLS_HANDSHAKE: u8 = 0x16;
/// What nginx says, since people look for it.
const PLAIN: Refusal = Refusal::Malformed("The plain HTTP request was sent to HTTPS port: use https");
const STRANGER: Refusal = Refusal::Malformed("this address is for trusted proxies only");

/// Begins to serve one connection to such an address.
pub(in crate::router) fn enter(router: &Rc<Router>, client: Incomer, address: Rc<Address>, door: Rc<Door>) {
    let router = Rc::clone(router);
    tokio::task::spawn_local(async move {
        if let Err(error) = serve(&router, client, address, &door).await {
            tracing::debug!(APP = router.app, %error, "a connection ended before its first request");
        }
    });
}

/// Why there is nothing to serve.
enum Ended {
    /// The client is told in the clear.
    Refused(Refusal),
    /// There is nobody to tell, or no way to.
    Gone(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// A connection whose first request may come.
struct Entered {
    transport: Transport,
    peer: Peer,
    /// Its place among the connections of the address that a proxy has named.
    held: Option<Rc<Held>>,
}

async fn serve(router: &Rc<Router>, client: Incomer, address: Rc<Address>, door: &Door) -> io::Result<()> {
    let held = client.held.take();
    let stream = Stream::new(socket_of(Rc::new(client))?)?;
    match begin(router, &stream, door).await {
        Ok(entered) => {
            drop(stream);
            router.sweep();
            serve_over(router, entered.transport, address, entered.peer, held.or(entered.held)).await
        }
        Err(Ended::Gone(error)) => Err(error),
        Err(Ended::Refused(refusal)) => {
            router.count_refusal(refusal);
            tracing::debug!(APP = router.app, %address, reason = refusal.reason(), "refused a connection");
            if let Some(socket) = stream.into_socket() {
                // Whom a proxy has named was logged by that name.
                if refusal != Refusal::AddressLimit {
                    router.log_refused(&socket, refusal);
                }
                refuse(Rc::new(socket), refusal).await;
            }
            Ok(())
        }
    }
}

/// What comes before the first request, within the time of a head; until then the connection is one of those that wait.
async fn begin(router: &Rc<Router>, stream: &Stream, door: &Door) -> Result<Entered, Ended> {
    let _place = Place::take(router).map_err(|full| tell(router, door, full))?;
    let (evict, evicted) = oneshot::channel();
    let _silent = Silent::enter(router, evict);
    let begun = Cell::new(false);
    let late = |silent: Closing| match (begun.get(), door.has_tls()) {
        (false, _) => gone(router, silent, "it said nothing"),
        (true, false) => Ended::Refused(Refusal::HeadTimeout),
        // Inside of a handshake no word of ours would be understood.
        (true, true) => failed(router, "its handshake took too long"),
    };
    tokio::select! {
        entered = greet(router, stream, door, &begun) => entered,
        () = tokio::time::sleep(router.settings.head_timeout) => Err(late(Closing::Silent)),
        // Others wait who have something to say.
        _ = evicted => Err(late(Closing::Evicted)),
    }
}

async fn greet(router: &Rc<Router>, stream: &Stream, door: &Door, begun: &Cell<bool>) -> Result<Entered, Ended> {
    let trusted_proxies = &router.settings.trusted_proxies;
    let mut address = peer(stream).map(|address| address.ip());
    let mut trusted = trusted_proxies.contain(address);
    let mut https = door.has_tls();
    let mut held = None;
    if door.options.proxy_protocol {
        if !trusted {
            return Err(tell(router, door, STRANGER));
        }
        let header = read_header(stream, begun).await?;
        let Header { client, tls } = header.map_err(|reason| tell(router, door, Refusal::Malformed(reason)))?;
        https |= tls;
        match client {
            Client::Unknown => {}
            Client::Internet(from) => {
                address = Some(from.ip());
                trusted = trusted_proxies.contain(address);
                let (place, room) = addresses::take(router, || address);
                held = place;
                match room {
                    Ok(()) => {}
                    Err(Crowd::Full) => {
                        router.log_ended(Peer { address, trusted, https }, Refusal::AddressLimit);
                        return Err(tell(router, door, Refusal::AddressLimit));
                    }
                    Err(Crowd::Twice) => return Err(gone(router, Closing::Crowd, "a crowd")),
                }
            }
            // At the proxy; that is not one of this machine's.
            Client::Unix => (address, trusted) = (None, false),
        }
    }
    let peer = Peer { address, trusted, https };
    if !door.has_tls() {
        return Ok(Entered { transport: Transport::Plain(stream.clone()), peer, held });
    }
    match stream.first().await? {
        None => return Err(gone(router, Closing::Silent, "it said nothing")),
        Some(TLS_HANDSHAKE) => {}
        Some(_) => return Err(Ended::Refused(PLAIN)),
    }
    begun.set(true);
    let Some(config) = door.tls() else {
        return Err(failed(router, "there is no certificate"));
    };
    match TlsAcceptor::from(config).accept(stream.clone()).await {
        Ok(stream) => Ok(Entered { transport: Transport::tls(stream), peer, held }),
        Err(error) => Err(failed(router, error)),
    }
}

/// Reads the header, and nothing behind it. The inner error: why it is none.
async fn read_header(stream: &Stream, begun: &Cell<bool>) -> io::Result<Result<Header, &'static str>> {
    let mut stream = stream.clone();
    // Grows by what has come, and the parser bounds what is asked for.
    let mut bytes = Vec::new();
    loop {
        match proxy_protocol::parse(&bytes) {
            Parsed::Complete(header) => return Ok(Ok(header)),
            Parsed::Bad(reason) => return Ok(Err(reason)),
            Parsed::Need(count) => {
                let wanted = count as u64;
                if (&mut stream).take(wanted).read_buf(&mut bytes).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                begun.set(true);
            }
        }
    }
}

fn gone(router: &Router, why: Closing, reason: &'static str) -> Ended {
    router.metrics.closed(why);
    Ended::Gone(io::Error::other(reason))
}

fn failed(router: &Router, error: impl Into<Box<dyn Error + Send + Sync>>) -> Ended {
    let failed = &router.doors.failed;
    failed.set(failed.get() + 1);
    router.metrics.closed(Closing::Handshake);
    Ended::Gone(io::Error::other(error))
}

/// A refusal that is told, where the client would understand it: not where it expects TLS.
fn tell(router: &Router, door: &Door, refusal: Refusal) -> Ended {
    if !door.has_tls() {
        return Ended::Refused(refusal);
    }
    router.count_refusal(refusal);
    Ended::Gone(io::Error::other(refusal.reason()))
}
