//! How many connections of each client's address this process holds (`router.address_limit`).
//!
//! A connection counts from accept until it is a worker's: one that was handed over is seen no more. Peers at Unix
//! sockets and trusted proxies speak for many, and have no limit.

use super::Router;
use super::link::Client;
use super::metrics::Closing;
use super::refuse::{Refusal, refuse};
use crate::system::stream;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Without a limit nothing is counted.
pub(crate) const NO_LIMIT: usize = usize::MAX;

#[derive(Debug, Default)]
pub(crate) struct Addresses(RefCell<HashMap<IpAddr, usize>>);

/// One connection's place among those of its address; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held(Rc<Router>, IpAddr);

/// An address has as many connections as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowd {
    /// It is told.
    Full,
    /// It has twice as many, with those that are being told: there is no end of it.
    Twice,
}

/// A connection of a client comes in.
pub(super) fn enter(router: &Rc<Router>, client: &Client) -> Result<(), Crowd> {
    let (held, room) = take(router, || stream::peer(&client.socket).map(|peer| peer.ip()));
    *client.held.borrow_mut() = held;
    room
}

/// The same for a client whom a proxy has named. The place counts also where there is no room.
pub(super) fn take(
    router: &Rc<Router>,
    peer: impl FnOnce() -> Option<IpAddr>,
) -> (Option<Rc<Held>>, Result<(), Crowd>) {
    let limit = router.settings.address_limit;
    if limit == NO_LIMIT {
        return (None, Ok(()));
    }
    match peer() {
        Some(peer) if !router.settings.trusted_proxies.contain(Some(peer)) => {
            let (held, count) = Held::take(router, peer);
            let room = match count.checked_sub(limit) {
                None | Some(0) => Ok(()),
                Some(over) if over <= limit => Err(Crowd::Full),
                Some(_) => Err(Crowd::Twice),
            };
            (Some(Rc::new(held)), room)
        }
        _ => (None, Ok(())),
    }
}

/// Refuses a connection of an address that has too many.
pub(super) fn turn_away(router: &Rc<Router>, client: Client, crowd: Crowd) {
    if crowd == Crowd::Twice {
        router.metrics.closed(Closing::Crowd);
        return;
    }
    router.count_refusal(Refusal::AddressLimit);
    router.log_refused(&client.socket, Refusal::AddressLimit);
    let socket: Rc<OwnedFd> = Rc::clone(&client.socket);
    tokio::task::spawn_local(async move {
        refuse(socket, Refusal::AddressLimit).await;
        // Counts until then.
        drop(client);
    });
}

impl Held {
    fn take(router: &Rc<Router>, peer: IpAddr) -> (Self, usize) {
        let key = key(peer);
        let mut counts = router.addresses.0.borrow_mut();
        let count = counts.entry(key).or_insert(0);
        *count += 1;
        (Self(Rc::clone(router), key), *count)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.0.addresses.0.borrow_mut();
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

/// Who has one address of IPv6 has the other 2^64 of its network as well.
fn key(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(four) => IpAddr::V4(four),
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_one_address() {
        let key = |text: &str| key(text.parse().unwrap()).to_string();
        assert_eq!((key("192.0.2.1"), key("::ffff:192.0.2.1")), ("192.0.2.1".into(), "192.0.2.1".into()));
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_ne!(key("2001:db8:1:3::1"), key("2001:db8:1:2::1"));
    }
}
