//! Which header fields go from one connection to the next, and what they say of the client (RFC 9110 §7.6, RFC 7239).

use super::sticky::Fields;
use super::strict::switches;
use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use std::net::IpAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED: &str = "x-forwarded-";
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Takes away what is meant for this connection alone. `switching`: the message asks for, or agrees to, another protocol;
/// it keeps its Upgrade.
///
/// RFC 9110 §7.6.1: "Intermediaries MUST parse a received Connection header field before a message is forwarded and, for
/// each connection-option in this field, remove any header or trailer field(s) from the message with the same name as
/// the connection-option, and then remove the Connection header field itself (or replace it with the intermediary's own
/// control options for the forwarded message)." And, whether or not Connection names them: Proxy-Connection, Keep-Alive,
/// TE, Transfer-Encoding, Upgrade. Of TE `trailers` stays, with its connection-option (§10.1.4).
///
/// A sender must not name a field that is meant for everybody (§7.6.1). Where one does so with Host, Content-Length or
/// what proxies say of the client, that is an attempt to take them away from the worker, and they stay.
pub fn strip(headers: &mut HeaderMap, switching: bool) {
    // One pass instead of six look-ups: mostly there are one or two of them, or none.
    let mut found = [false; 6];
    headers.keys().filter_map(|name| place_of(name.as_str())).for_each(|place| found[place] = true);
    if !found.contains(&true) {
        return;
    }
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter(|token| !OWN.iter().any(|own| token.eq_ignore_ascii_case(own.as_str().as_bytes())))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH && !speaks_of_client(name))
        .collect();
    let upgrade = headers.get(UPGRADE).filter(|value| switching && switches(value.as_bytes())).cloned();
    let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case(b"trailers"));
    for name in named {
        headers.remove(name);
    }
    for (name, _) in OWN.iter().zip(found).filter(|(_, found)| *found) {
        headers.remove(name);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    } else if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("TE"));
    }
}

/// Fields of one connection alone, whether `Connection` names them or not.
static OWN: [HeaderName; 6] = [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];

/// A name's place in [`OWN`].
fn place_of(name: &str) -> Option<usize> {
    match name {
        "connection" => Some(0),
        "keep-alive" => Some(1),
        "proxy-connection" => Some(2),
        "te" => Some(3),
        "transfer-encoding" => Some(4),
        "upgrade" => Some(5),
        _ => None,
    }
}

/// Whether the message asks for, or agrees to, another protocol that may pass here: both fields say so.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| switches(value.as_bytes()))
        && tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether the sender ends the connection after this message (RFC 9112 §9.6).
pub fn says_close(headers: &HeaderMap) -> bool {
    tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"close"))
}

/// What the worker is told of the client. `peer`: who is at the other end; `None` at a Unix socket. `https`: it came by TLS.
///
/// A trusted proxy's word stands as it is, so that a worker reads the same here as on a connection that was handed over:
/// a hop more would turn `trust proxy = 1` to the proxy's own address. Only where there is no word, the peer is the client.
/// What a stranger says of itself goes.
pub fn tell_client(headers: &mut HeaderMap, peer: Option<IpAddr>, trusted: bool, https: bool) {
    if !trusted {
        let forged: Vec<HeaderName> = headers.keys().filter(|name| speaks_of_client(name)).cloned().collect();
        for name in forged {
            headers.remove(name);
        }
    } else if headers.keys().any(speaks_of_client) {
        // Who says nothing of that is answered for by the connection itself.
        if https && !headers.contains_key(X_FORWARDED_PROTO) && !headers.contains_key(FORWARDED) {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        }
        return;
    }
    let address = peer.and_then(|peer| HeaderValue::try_from(peer.to_canonical().to_string()).ok());
    if let Some(address) = address {
        headers.insert(X_FORWARDED_FOR, address);
    }
    // Behind a proxy that says no more than Via, nobody knows how the client came to it.
    if trusted && headers.contains_key(VIA) {
        return;
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if https { "https" } else { "http" }));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// Whether the client came by https, by what [`tell_client`] has let stand.
pub fn told_https(fields: &impl Fields) -> bool {
    if let Some(told) = fields.all(X_FORWARDED_PROTO.as_str()).flat_map(elements).next() {
        return told.eq_ignore_ascii_case(b"https");
    }
    let first = fields.all(FORWARDED.as_str()).flat_map(elements).next().unwrap_or_default();
    let mut pairs = first.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    pairs.any(|pair| [&b"proto=https"[..], b"proto=\"https\""].iter().any(|it| pair.eq_ignore_ascii_case(it)))
}

fn speaks_of_client(name: &HeaderName) -> bool {
    *name == FORWARDED || *name == X_REAL_IP || name.as_str().starts_with(X_FORWARDED)
}

/// The elements of a list field, over all its lines (RFC 9110 §5.6.1).
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers.get_all(name).into_iter().flat_map(|value| elements(value.as_bytes()))
}

fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(lines: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        map
    }

    fn stripped(lines: &[&str], switching: bool) -> HeaderMap {
        let mut headers = map(lines);
        strip(&mut headers, switching);
        headers
    }

    #[test]
    fn every_name_has_its_place() {
        for (place, name) in OWN.iter().enumerate() {
            assert_eq!(place_of(name.as_str()), Some(place));
        }
        assert_eq!(place_of("host"), None);
    }

    #[test]
    fn hop_by_hop() {
        for (before, after) in [
            (&["host: a", "cookie: b", "cookie: c"][..], &["host: a", "cookie: b", "cookie: c"][..]),
            (&["connection: close", "a: b"], &["a: b"]),
            (
                &[
                    "connection: keep-alive, X-One , x-two",
                    "connection: X-Three",
                    "x-one: 1",
                    "x-two: 2",
                    "x-three: 3",
                    "x: 4",
                ],
                &["x: 4"],
            ),
            (
                &["keep-alive: timeout=5", "proxy-connection: keep-alive", "transfer-encoding: chunked", "trailer: x"],
                &["trailer: x"],
            ),
            (&["te: gzip", "a: b"], &["a: b"]),
            (&["te: gzip, trailers", "connection: te"], &["te: trailers", "connection: TE"]),
            (&["upgrade: websocket", "connection: upgrade"], &[]),
            (
                &[
                    "connection: Host, content-length, X-Forwarded-For, forwarded, x-real-ip",
                    "host: a",
                    "content-length: 1",
                    "x-forwarded-for: 1",
                    "forwarded: for=1",
                    "x-real-ip: 1",
                ],
                &["host: a", "content-length: 1", "x-forwarded-for: 1", "forwarded: for=1", "x-real-ip: 1"],
            ),
            (&["connection: , ,bad name,\t", "a: b"], &["a: b"]),
        ] {
            assert_eq!(stripped(before, false), map(after), "{before:?}");
        }
    }

    #[test]
    fn upgrades() {
        for (before, after) in [
            (
                &["upgrade: websocket", "connection: keep-alive, Upgrade"][..],
                &["upgrade: websocket", "connection: Upgrade"][..],
            ),
            (&["upgrade: h2c", "connection: upgrade, http2-settings", "http2-settings: x"], &[]),
            (
                &["upgrade: WebSocket", "connection: upgrade", "te: trailers"],
                &["upgrade: WebSocket", "connection: Upgrade"],
            ),
        ] {
            assert_eq!(stripped(before, true), map(after), "{before:?}");
        }
        assert!(wants_upgrade(&map(&["connection: keep-alive, UPGRADE", "upgrade: websocket"])));
        for no in [&["upgrade: websocket"][..], &["connection: upgrade"], &["connection: upgrade", "upgrade: h2c"]] {
            assert!(!wants_upgrade(&map(no)), "{no:?}");
        }
        assert!(
            says_close(&map(&["connection: x", "connection: Close"])) && !says_close(&map(&["connection: closed"]))
        );
    }

    #[test]
    fn what_is_said_of_the_client() {
        let peer = "203.0.113.9";
        let alone = ["host: a", "x-forwarded-for: 203.0.113.9", "x-forwarded-proto: http", "x-forwarded-host: a"];
        for (before, trusted, after) in [
            // A proxy's word stands.
            (&["host: a", "x-forwarded-for: 1.1.1.1"][..], true, &["host: a", "x-forwarded-for: 1.1.1.1"][..]),
            (
                &["x-forwarded-for: 1.1.1.1, 2.2.2.2", "x-forwarded-proto: https"],
                true,
                &["x-forwarded-for: 1.1.1.1, 2.2.2.2", "x-forwarded-proto: https"],
            ),
            (&["forwarded: for=1.1.1.1"], true, &["forwarded: for=1.1.1.1"]),
            (&["x-real-ip: 1.1.1.1"], true, &["x-real-ip: 1.1.1.1"]),
            // It says nothing: it is the client.
            (&["host: a"], true, &alone),
            (&["host: a", "via: 1.1 b"], true, &["host: a", "via: 1.1 b", "x-forwarded-for: 203.0.113.9"]),
            // A stranger's word is nobody's.
            (&["host: a"], false, &alone),
            (
                &[
                    "host: a",
                    "x-forwarded-for: 1.1.1.1",
                    "forwarded: for=1.1.1.1",
                    "x-real-ip: 1.1.1.1",
                    "x-forwarded-port: 1",
                    "x-forwarded-proto: https",
                    "x-forwarded-host: b",
                ],
                false,
                &alone,
            ),
        ] {
            let mut headers = map(before);
            tell_client(&mut headers, peer.parse().ok(), trusted, false);
            assert_eq!(headers, map(after), "{before:?} {trusted}");
        }
        let mut headers = map(&["x-forwarded-for: 1.1.1.1"]);
        tell_client(&mut headers, "::ffff:203.0.113.9".parse().ok(), false, true);
        assert_eq!(
            (&headers["x-forwarded-for"], &headers["x-forwarded-proto"]),
            (&"203.0.113.9".parse().unwrap(), &"https".parse().unwrap())
        );
        tell_client(&mut headers, None, false, false);
        assert!(!headers.contains_key("x-forwarded-for"));
    }

    #[test]
    fn how_the_client_came() {
        for (lines, want) in [
            (&["x-forwarded-proto: https"][..], true),
            (&["x-forwarded-proto: HTTPS, http"], true),
            (&["x-forwarded-proto: http, https"], false),
            (&["forwarded: for=1.1.1.1;Proto=https, for=2.2.2.2;proto=http"], true),
            (&["forwarded: proto=\"https\""], true),
            (&["forwarded: for=1.1.1.1, proto=https"], false),
            (&["x-forwarded-proto: http", "forwarded: proto=https"], false),
            (&[], false),
        ] {
            assert_eq!(told_https(&map(lines)), want, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_of_a_stranger_is_left(lines in prop::collection::vec(("(forwarded|x-forwarded-[a-z]{1,5}|x-real-ip|X-Forwarded-For|a)", "[a-z0-9,=]{0,9}"), 0..9)) {
            let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let mut headers = map(&lines);
            tell_client(&mut headers, None, false, false);
            headers.remove("a");
            prop_assert_eq!(headers, map(&["x-forwarded-proto: http"]));
        }

        #[test]
        fn stripping_twice_is_stripping_once(
            lines in prop::collection::vec(("(connection|te|upgrade|keep-alive|a|b)", "(a|b|te|upgrade|trailers|websocket|close|,| ){0,4}"), 0..9),
        ) {
            let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let once = stripped(&lines, false);
            let mut twice = once.clone();
            strip(&mut twice, false);
            prop_assert_eq!(twice, once);
        }
    }
}
