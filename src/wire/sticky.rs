//! What of a request says which worker it belongs to.
//!
//! The same answer for a head that was only looked at and for a request that was read: [`Fields`] is either's header.

use super::cookie::Seal;
use super::engine::{decode, parameter, session};
use super::head::Head;
use hyper::HeaderMap;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Longer values are known by their hash: what clients choose must not fill the memory.
const LONGEST: usize = 128;

/// What a request says of where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// An Engine.IO session: its worker tells when it begins and ends.
    Session(String),
    /// The value of a header field or parameter, or an address: the router remembers whose it is.
    Kept(Kept),
    /// The router's cookie with this worker's number.
    Worker(u32),
}

/// A kind, its name and a value in one text; those of different kinds and names are different.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kept(Arc<str>);

/// Where a key is looked for.
#[derive(Debug, Clone)]
pub enum Kind {
    Engine,
    Cookie(Arc<Seal>),
    /// The field's name in lower case.
    Header(String),
    Query(String),
    Address,
}

/// A header.
pub trait Fields {
    /// The values of all fields of this name (in lower case), in their order.
    fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]>;
}

impl Fields for HeaderMap {
    fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
        self.get_all(name).into_iter().map(|value| value.as_bytes())
    }
}

impl Fields for Head {
    fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
        self.fields.iter().filter(move |(its, _)| **its == *name).map(|(_, value)| value.as_slice())
    }
}

/// The header fields that [`find`] reads for these kinds.
pub fn wanted(kinds: &[Kind]) -> Vec<String> {
    let mut names = Vec::new();
    for kind in kinds {
        match kind {
            Kind::Engine | Kind::Query(_) => {}
            Kind::Cookie(_) => names.push("cookie".to_owned()),
            Kind::Header(name) => names.push(name.clone()),
            Kind::Address => names.extend(["x-forwarded-for", "forwarded"].map(str::to_owned)),
        }
    }
    names
}

/// The first of these kinds that the request carries. `client`: its address, as [`client`] has it.
pub fn find(kinds: &[Kind], target: &str, fields: &impl Fields, client: impl Fn() -> Option<IpAddr>) -> Option<Key> {
    kinds.iter().find_map(|kind| match kind {
        Kind::Engine => session(target).map(|raw| Key::Session(decode(raw).into_owned())),
        Kind::Cookie(seal) => seal.find(fields.all("cookie")).map(Key::Worker),
        Kind::Header(name) => Kept::of_header(name, fields).map(Key::Kept),
        Kind::Query(name) => {
            let value = parameter(target, name)?;
            Some(Key::Kept(Kept::new('q', name, decode(value).as_bytes())))
        }
        Kind::Address => client().map(|address| Key::Kept(Kept::of_address(address))),
    })
}

impl Kept {
    fn new(kind: char, name: &str, value: &[u8]) -> Self {
        // No name has a space in it.
        let text = match std::str::from_utf8(value) {
            Ok(value) if value.len() <= LONGEST => format!("{kind}{name} {value}"),
            _ => {
                let hash = Sha256::digest(value);
                let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{}{name} {hash}", kind.to_ascii_uppercase())
            }
        };
        Self(text.into())
    }

    /// The key in a request's or an answer's header field. Several are one list, as the app will see it (RFC 9110 §5.3).
    pub fn of_header(name: &str, fields: &impl Fields) -> Option<Self> {
        let lines: Vec<&[u8]> = fields.all(name).map(<[u8]>::trim_ascii).collect();
        let value = lines.join(&b", "[..]);
        (!value.is_empty()).then(|| Self::new('h', name, &value))
    }

    /// A client's address; of IPv6 the first 64 bits, within which one client changes its own (RFC 8981).
    pub fn of_address(address: IpAddr) -> Self {
        let address = match address.to_canonical() {
            IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
            four => four,
        };
        Self::new('a', "", address.to_string().as_bytes())
    }

    /// Whether it is the value of this header field.
    pub fn is_of_header(&self, name: &str) -> bool {
        let rest = self.0.strip_prefix(['h', 'H']).and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(' '))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What [`Self::as_str`] gave.
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }
}

/// Who the client is: the peer, or whom a trusted peer speaks for. `peer`: `None` at a Unix socket.
///
/// Each proxy adds to the end whom it was asked by, so the last entry that is nobody's who is trusted is the client; what
/// is before it, the client may have made up.
pub fn client(fields: &impl Fields, peer: Option<IpAddr>, trusted: impl Fn(Option<IpAddr>) -> bool) -> Option<IpAddr> {
    if !trusted(peer) {
        return peer;
    }
    let mut told = entries(fields, "x-forwarded-for");
    if told.is_empty() {
        told = entries(fields, "forwarded");
    }
    let mut client = peer;
    for entry in told.iter().rev() {
        // What cannot be read hides what is before it.
        let Some(address) = address(entry) else { return client };
        client = Some(address);
        if !trusted(client) {
            return client;
        }
    }
    client
}

/// The elements of a list of clients; of Forwarded (RFC 7239 §4) their `for`.
fn entries(fields: &impl Fields, name: &str) -> Vec<String> {
    let lines = fields.all(name).map(|line| String::from_utf8_lossy(line).into_owned());
    let all: Vec<String> = lines.flat_map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>()).collect();
    if name != "forwarded" {
        return all;
    }
    let parameter = |element: &String| {
        element.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    all.iter().map(|element| parameter(element).unwrap_or_default()).collect()
}

/// An address with or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|it| it.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::super::head::{Peeked, peek_for};
    use super::*;
    use hyper::Uri;
    use hyper::header::{HeaderName, HeaderValue};
    use hyper::http::uri::PathAndQuery;
    use proptest::prelude::*;

    fn seal() -> Arc<Seal> {
        Seal::new("c", &[1; 32]).unwrap().into()
    }

    fn kinds() -> Vec<Kind> {
        let header = |name: &str| Kind::Header(name.to_owned());
        let query = |name: &str| Kind::Query(name.to_owned());
        vec![Kind::Engine, header("mcp-session-id"), query("room"), header("x-b"), query("b"), Kind::Cookie(seal())]
    }

    /// As [`Kind::read`] of a request that begins a connection.
    fn peeked(kinds: &[Kind], bytes: &[u8], peer: &str) -> Option<Key> {
        let Peeked::Complete(head) = peek_for(bytes, &wanted(kinds)) else { panic!("{}", bytes.escape_ascii()) };
        let by = || client(&head, peer.parse().ok(), is_local);
        find(kinds, &head.target, &head, by)
    }

    /// The same as hyper reads it, and the router makes of it.
    fn parsed(kinds: &[Kind], bytes: &[u8], peer: &str) -> Option<Option<Key>> {
        let mut headers = [httparse::EMPTY_HEADER; 40];
        let mut request = httparse::Request::new(&mut headers);
        assert!(request.parse(bytes).unwrap().is_complete());
        let uri: Uri = request.path.unwrap().parse().ok()?;
        let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut map = HeaderMap::new();
        for field in request.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(field.value).ok()?);
        }
        let by = || client(&map, peer.parse().ok(), is_local);
        Some(find(kinds, target, &map, by))
    }

    fn is_local(address: Option<IpAddr>) -> bool {
        address.is_none_or(|address| address.is_loopback())
    }

    fn request(target: &str, fields: &[&str]) -> Vec<u8> {
        format!("GET {target} HTTP/1.1\r\nHost: a\r\n{}\r\n", fields.concat()).into_bytes()
    }

    fn kept(text: &str) -> Option<Key> {
        Some(Key::Kept(Kept::from_text(text)))
    }

    #[test]
    fn the_first_kind_that_is_there() {
        let cookie = format!("Cookie: x=1; c={}\r\n", seal().value(7));
        for (target, fields, want) in [
            ("/?sid=a&room=b", &["Mcp-Session-Id: x\r\n"][..], Some(Key::Session("a".to_owned()))),
            ("/?room=b", &["MCP-session-id:  x \r\n", &cookie], kept("hmcp-session-id x")),
            ("/?room=%41+b&b=c", &["Mcp-Session-Id: \r\n", "X-B: y\r\n"], kept("qroom A b")),
            ("/?room=1&room=2", &[], kept("qroom 2")),
            ("/?room=", &["X-B: y\r\n", "X-B: z\r\n"], kept("hx-b y, z")),
            ("/?ROOM=1&b", &[&cookie], Some(Key::Worker(7))),
            ("/", &["Cookie: c=7.00\r\n"], None),
            ("/#?room=1", &[], None),
        ] {
            let bytes = request(target, fields);
            assert_eq!(peeked(&kinds(), &bytes, "1.1.1.1"), want, "{target} {fields:?}");
            assert_eq!(parsed(&kinds(), &bytes, "1.1.1.1"), Some(want), "{target} {fields:?}");
        }
        assert_eq!(find(&[], "/?sid=a", &HeaderMap::new(), || None), None);
    }

    #[test]
    fn long_values_are_known_by_their_hash() {
        let long = "x".repeat(LONGEST + 1);
        let of = |value: &str| Kept::new('h', "a", value.as_bytes());
        assert!(of(&long).as_str().len() < 80 && of(&long) != of(&(long.clone() + "x")));
        // Nobody can write down what a hash would be.
        let hash = of(&long).as_str().split_once(' ').unwrap().1.to_owned();
        assert_ne!(of(&hash), of(&long));
        assert_ne!(Kept::new('h', "a", b"\xff"), Kept::new('h', "a", b"\xfe"));
    }

    #[test]
    fn clients() {
        for (peer, fields, want) in [
            ("203.0.113.9", &["X-Forwarded-For: 1.1.1.1\r\n"][..], "203.0.113.9"),
            ("127.0.0.1", &["X-Forwarded-For: 6.6.6.6, 1.1.1.1, 127.0.0.2\r\n"], "1.1.1.1"),
            ("127.0.0.1", &["X-Forwarded-For: 6.6.6.6\r\n", "X-Forwarded-For: 1.1.1.1:99\r\n"], "1.1.1.1"),
            ("unix", &["X-Forwarded-For: 1.1.1.1\r\n"], "1.1.1.1"),
            ("127.0.0.1", &["X-Forwarded-For: 127.0.0.3, 127.0.0.2\r\n"], "127.0.0.3"),
            ("127.0.0.1", &["X-Forwarded-For: 6.6.6.6, unknown\r\n"], "127.0.0.1"),
            ("127.0.0.1", &["Forwarded: for=6.6.6.6, For=\"[2001:db8::1]:80\";proto=http\r\n"], "2001:db8::1"),
            ("127.0.0.1", &["Forwarded: proto=http\r\n"], "127.0.0.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
        ] {
            let Peeked::Complete(head) = peek_for(&request("/", fields), &wanted(&[Kind::Address])) else { panic!() };
            let found = client(&head, peer.parse().ok(), is_local);
            assert_eq!(found, want.parse().ok(), "{peer} {fields:?}");
        }
        let of = |text: &str| Kept::of_address(text.parse().unwrap());
        assert_eq!(of("2001:db8:0:1::5"), of("2001:db8:0:1:9::"));
        assert_ne!(of("2001:db8:0:1::5"), of("2001:db8:0:2::5"));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
        assert_ne!(of("1.2.3.5"), of("1.2.3.4"));
    }

    proptest! {
        /// A connection that was handed over and a request that was routed reach the same worker.
        #[test]
        fn both_ways_find_the_same(
            target in "(http://h|)/[a-z/]{0,3}(\\?((sid|room|b|r%6fom|x)=[a-z%41+=?]{0,6}&){0,4})?(#[a-z?=&]{0,9})?",
            fields in prop::collection::vec("(Mcp-Session-Id|x-b|X-B|cookie|X-Forwarded-For|Forwarded|Via): ?[ -~\u{80}-\u{ff}\t]{0,12}", 0..6),
            peer in "(127\\.0\\.0\\.1|203\\.0\\.113\\.9|unix)",
            good in any::<bool>(),
            order in Just((0..7).collect::<Vec<usize>>()).prop_shuffle(), length in 0..8_usize,
        ) {
            let mut all = kinds();
            all.push(Kind::Address);
            let kinds: Vec<Kind> = order.iter().take(length).map(|at| all[*at].clone()).collect();
            let mut fields: Vec<String> = fields.iter().map(|field| format!("{field}\r\n")).collect();
            if good {
                fields.push(format!("Cookie: c={}\r\n", seal().value(3)));
            }
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let bytes = request(&target, &fields);
            if let Some(want) = parsed(&kinds, &bytes, &peer) {
                prop_assert_eq!(peeked(&kinds, &bytes, &peer), want);
            }
        }

        #[test]
        fn keys_of_different_kinds_are_different(one in "[a-z!:]{1,4}", other in "[a-z!:]{1,4}", value in "\\PC{0,9}", more in "\\PC{0,9}") {
            let all = [
                Kept::new('h', &one, value.as_bytes()),
                Kept::new('q', &one, value.as_bytes()),
                Kept::new('h', &other, more.as_bytes()),
                Kept::new('q', &other, more.as_bytes()),
                Kept::of_address([127, 0, 0, 1].into()),
            ];
            for (at, key) in all.iter().enumerate() {
                for (place, another) in all.iter().enumerate().skip(at + 1) {
                    prop_assert!(key != another || (at + 2 == place && one == other && value == more));
                }
            }
        }

        #[test]
        fn any_addresses_are_read(text in "\\PC{0,20}") {
            let _ = address(&text);
        }
    }
}
