//! Which of a worker's cluster servers a connection is for (pure).

use super::table::Server;
use crate::system::activation::Address;
use crate::wire::cluster::{AddressType, Query};

/// Whether the worker believes to listen on just this address.
pub(crate) fn is_at(server: &Server, address: &Address) -> bool {
    match address {
        Address::Internet(address) => server.query.port == Some(i64::from(address.port())),
        Address::Path(path) => {
            server.query.address_type == AddressType::Path
                && server.query.address.as_deref().is_some_and(|wanted| path.as_os_str() == wanted)
        }
        Address::Unnamed => false,
    }
}

/// The server for a connection to `address`, one of `public`. `None`: the worker's `setupWorker()` is to have it.
///
/// An app may listen on a port of its own choice (systemd holds the public one), so that what no server is for goes to
/// one that is for no public address either, and without such a one to any: one server behind several addresses. A
/// `sticky` worker's servers for other public addresses are not meant, though.
pub(crate) fn pick<'a>(
    servers: &'a [Server],
    address: &Address,
    public: &[Address],
    tls: bool,
    sticky: bool,
) -> Option<&'a Server> {
    let speaks = |server: &&Server| server.query.ticket_keys.is_some() == tls;
    let is_free = |server: &&Server| !public.iter().any(|address| is_at(server, address));
    let free = || servers.iter().filter(is_free);
    servers
        .iter()
        .find(|server| is_at(server, address))
        .or_else(|| free().find(speaks).or_else(|| free().next()))
        .or_else(|| servers.iter().find(speaks).or(servers.first()).filter(|_| !sticky))
}

/// What was asked for, for people.
pub(crate) fn name(query: &Query) -> String {
    let host = query.address.as_deref();
    let port = query.port.unwrap_or(0);
    match query.address_type {
        AddressType::Path => host.unwrap_or("a path").to_owned(),
        AddressType::Descriptor => format!("descriptor {}", query.fd.unwrap_or(-1)),
        AddressType::Tcp4 => format!("TCP {}:{port}", host.unwrap_or("*")),
        AddressType::Tcp6 => format!("TCP [{}]:{port}", host.unwrap_or("::")),
        AddressType::Udp4 => format!("UDP {}:{port}", host.unwrap_or("0.0.0.0")),
        AddressType::Udp6 => format!("UDP [{}]:{port}", host.unwrap_or("::")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn server(port: i64, tls: bool) -> Server {
        let ticket_keys = tls.then(|| "00".to_owned());
        let query =
            Query { address: None, port: Some(port), address_type: AddressType::Tcp4, fd: None, index: 0, ticket_keys };
        Server { key: format!("{port}"), query }
    }

    fn at(port: u16) -> Address {
        Address::Internet(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn picked(servers: &[Server], port: u16, tls: bool, sticky: bool) -> Option<&str> {
        pick(servers, &at(port), &[at(80), at(443)], tls, sticky).map(|server| server.key.as_str())
    }

    #[test]
    fn the_address_decides_then_the_kind() {
        let both = [server(80, false), server(443, true)];
        assert_eq!(picked(&both, 80, false, false), Some("80"));
        assert_eq!(picked(&both, 443, true, true), Some("443"));
        // Plain HTTP to the TLS port: that server's error.
        assert_eq!(picked(&both, 443, false, false), Some("443"));
        let own = [server(3000, false), server(3443, true)];
        assert_eq!(picked(&own, 80, false, false), Some("3000"));
        assert_eq!(picked(&own, 443, true, false), Some("3443"));
        assert_eq!(picked(&[server(80, false), server(3000, false)], 443, false, false), Some("3000"));
    }

    #[test]
    fn one_server_behind_several_addresses() {
        assert_eq!(picked(&[server(80, false)], 443, false, false), Some("80"));
        assert_eq!(picked(&[server(3000, false)], 443, false, true), Some("3000"));
        assert_eq!(picked(&[], 80, false, false), None);
    }

    #[test]
    fn a_sticky_worker_with_a_server_for_another_address() {
        assert_eq!(picked(&[server(80, false)], 443, false, true), None);
        assert_eq!(picked(&[server(80, false)], 80, false, true), Some("80"));
    }
}
