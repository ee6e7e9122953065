//! The header that a proxy of TCP connections puts before a client's first byte: the PROXY protocol, versions 1 and 2
//! (HAProxy's doc/proxy-protocol.txt; section numbers are of that text).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// §2.2: what version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, and the length of the rest.
const FIXED: usize = 16;
/// §2.1: the longest line of version 1, with its end.
const LINE: usize = 107;
/// The shortest line of version 1: `PROXY UNKNOWN`, with its end.
const SHORTEST: usize = 15;
/// The longest header of version 2 that is taken, bytes. Addresses have 216 at most; what follows them are extensions,
/// which mean nothing here but one.
const LONGEST: usize = 4096;
/// §2.2.6: the extension that tells of the client's TLS, and its bit that says there was any.
const TLV_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub client: Client,
    /// The client came to the proxy by TLS.
    pub tls: bool,
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The proxy's own (a health check), or one of which it knows no address: what the socket says counts.
    Unknown,
    Internet(SocketAddr),
    /// At a Unix socket of the proxy.
    Unix,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// At least so many bytes more belong to the header; nothing behind it is among them.
    Need(usize),
    /// The bytes are a header, and no more.
    Complete(Header),
    /// They are none, and cannot become one.
    Bad(&'static str),
}

/// Looks at all that has come so far, which is no more than what was asked for. Begin with no bytes.
pub fn parse(bytes: &[u8]) -> Parsed {
    if bytes.starts_with(SIGNATURE) {
        return binary(bytes);
    }
    // An end of line cannot be among the first bytes of version 1.
    if SIGNATURE.starts_with(bytes) && !bytes.is_empty() {
        return Parsed::Need(FIXED - bytes.len());
    }
    line(bytes)
}

/// Version 1 (§2.1).
fn line(bytes: &[u8]) -> Parsed {
    const NONE: Parsed = Parsed::Bad("it does not begin with a header of the PROXY protocol");
    let start = &b"PROXY "[..bytes.len().min(6)];
    if !bytes.starts_with(start) {
        return NONE;
    }
    let Some(text) = bytes.strip_suffix(b"\r\n") else {
        return if bytes.contains(&b'\n') || bytes.len() >= LINE {
            Parsed::Bad("a bad line of the PROXY protocol")
        } else if bytes.len() < SHORTEST {
            Parsed::Need(SHORTEST - bytes.len())
        } else {
            Parsed::Need(if bytes.ends_with(b"\r") { 1 } else { 2 })
        };
    };
    match std::str::from_utf8(text).ok().and_then(client_of_line) {
        Some(client) => Parsed::Complete(Header { client, tls: false }),
        None => Parsed::Bad("a bad line of the PROXY protocol"),
    }
}

fn client_of_line(text: &str) -> Option<Client> {
    let mut words = text.split(' ');
    if words.next() != Some("PROXY") {
        return None;
    }
    let family = words.next()?;
    if family == "UNKNOWN" {
        // "The receiver must ignore anything presented before the CRLF is found."
        return Some(Client::Unknown);
    }
    let mut addresses = [None, None];
    for address in &mut addresses {
        let word = words.next()?;
        *address = Some(match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok()?.into(),
            "TCP6" => word.parse::<Ipv6Addr>().ok()?.into(),
            _ => return None,
        });
    }
    let mut port = || words.next().filter(|word| word.bytes().all(|it| it.is_ascii_digit()))?.parse::<u16>().ok();
    let (from, _to) = (port()?, port()?);
    let client = addresses[0].map(|address| Client::Internet(SocketAddr::new(address, from)));
    client.filter(|_| words.next().is_none())
}

/// Version 2 (§2.2).
fn binary(bytes: &[u8]) -> Parsed {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Parsed::Need(FIXED - bytes.len());
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if fixed[12] >> 4 != 2 {
        return Parsed::Bad("a version of the PROXY protocol that is not known here");
    }
    if FIXED + length > LONGEST {
        return Parsed::Bad("a header of the PROXY protocol that is too long");
    }
    if rest.len() < length {
        return Parsed::Need(length - rest.len());
    }
    match fixed[12] & 0xF {
        // LOCAL: whatever else it says counts for nothing.
        0 => return Parsed::Complete(Header { client: Client::Unknown, tls: false }),
        1 => {}
        _ => return Parsed::Bad("a command of the PROXY protocol that is not known here"),
    }
    let addresses = match fixed[13] >> 4 {
        0 => Some((Client::Unknown, 0)),
        1 => rest.first_chunk::<12>().map(|it| {
            let port = u16::from_be_bytes([it[8], it[9]]);
            (Client::Internet(SocketAddr::from(([it[0], it[1], it[2], it[3]], port))), 12)
        }),
        2 => rest.first_chunk::<36>().map(|it| {
            let mut address = [0; 16];
            address.copy_from_slice(&it[..16]);
            (Client::Internet(SocketAddr::from((address, u16::from_be_bytes([it[32], it[33]])))), 36)
        }),
        3 => (rest.len() >= 216).then_some((Client::Unix, 216)),
        _ => return Parsed::Bad("an address family of the PROXY protocol that is not known here"),
    };
    let Some((client, length)) = addresses else {
        return Parsed::Bad("a header of the PROXY protocol without room for its addresses");
    };
    Parsed::Complete(Header { client, tls: tells_of_tls(&rest[length..]) })
}

/// Extensions (§2.2) that are cut short say nothing; they do not make the addresses wrong.
fn tells_of_tls(mut extensions: &[u8]) -> bool {
    while let Some((&[kind, high, low], rest)) = extensions.split_first_chunk::<3>() {
        let Some((value, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))) else {
            return false;
        };
        if kind == TLV_SSL {
            return value.first().is_some_and(|client| client & CLIENT_SSL != 0);
        }
        extensions = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn internet(address: &str) -> Client {
        Client::Internet(address.parse().unwrap())
    }

    /// As a reader does it: only what is asked for. Gives the verdict and how much was read.
    fn read(bytes: &[u8]) -> (Parsed, usize) {
        let mut taken = 0;
        loop {
            match parse(&bytes[..taken]) {
                Parsed::Need(count) if taken + count > bytes.len() => return (Parsed::Need(count), taken),
                Parsed::Need(count) => {
                    assert!(count > 0 && taken + count <= LONGEST);
                    taken += count;
                }
                parsed => return (parsed, taken),
            }
        }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[0x20 | command, family][..], &length, rest].concat()
    }

    /// 192.0.2.7:4660 to 192.0.2.1:443.
    const FOUR: &[u8] = &[192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x34, 1, 187];

    fn six() -> Vec<u8> {
        let [from, to] = ["2001:db8::7", "2001:db8::1"].map(|it| it.parse::<Ipv6Addr>().unwrap().octets());
        [&from[..], &to, &[0x12, 0x34, 1, 187]].concat()
    }

    #[test]
    fn lines() {
        for (text, client) in [
            ("PROXY TCP4 192.0.2.7 192.0.2.1 4660 443\r\n", internet("192.0.2.7:4660")),
            ("PROXY TCP6 2001:db8::7 ::1 4660 443\r\n", internet("[2001:db8::7]:4660")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", internet("255.255.255.255:65535")),
            ("PROXY UNKNOWN\r\n", Client::Unknown),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Client::Unknown),
        ] {
            let bytes = [text.as_bytes(), b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(read(&bytes), (Parsed::Complete(Header { client, tls: false }), text.len()), "{text}");
        }
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "PROXY  TCP4 192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.777 192.0.2.1 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n\r\n",
            "PROXYTCP4 192.0.2.7 192.0.2.1 1 2\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01\x3c\x03\x03abcdef",
        ] {
            assert!(matches!(read(text.as_bytes()).0, Parsed::Bad(_)), "{text:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE));
        assert!(
            matches!(read(long.as_bytes()), (Parsed::Bad(_), taken) if taken <= LINE + 1),
            "{:?}",
            read(long.as_bytes())
        );
    }

    #[test]
    fn binary_headers() {
        let unix = [0x2F; 216];
        let ssl = |client: u8| [FOUR, &[4, 0, 2, 0, 0, TLV_SSL, 0, 5, client, 0, 0, 0, 0]].concat();
        for (bytes, client, tls) in [
            (v2(1, 0x11, FOUR), internet("192.0.2.7:4660"), false),
            (v2(1, 0x12, FOUR), internet("192.0.2.7:4660"), false),
            (v2(1, 0x21, &six()), internet("[2001:db8::7]:4660"), false),
            (v2(1, 0x31, &unix), Client::Unix, false),
            (v2(1, 0x00, b""), Client::Unknown, false),
            (v2(1, 0x00, b"extensions"), Client::Unknown, false),
            (v2(0, 0x11, FOUR), Client::Unknown, false),
            (v2(0, 0x00, b""), Client::Unknown, false),
            (v2(1, 0x11, &ssl(1)), internet("192.0.2.7:4660"), true),
            (v2(1, 0x11, &ssl(7)), internet("192.0.2.7:4660"), true),
            (v2(1, 0x11, &ssl(2)), internet("192.0.2.7:4660"), false),
            // An extension that promises more than there is.
            (v2(1, 0x11, &[FOUR, &[TLV_SSL, 0xFF, 0xFF, 1]].concat()), internet("192.0.2.7:4660"), false),
        ] {
            let whole = [&bytes[..], b"\x16\x03\x01 what follows"].concat();
            let want = (Parsed::Complete(Header { client, tls }), bytes.len());
            assert_eq!(read(&whole), want, "{}", bytes.escape_ascii());
        }
        let mut version = v2(1, 0x11, FOUR);
        version[12] = 0x31;
        for bytes in [
            version,
            v2(2, 0x11, FOUR),
            v2(1, 0x41, FOUR),
            v2(1, 0x11, &FOUR[..11]),
            v2(1, 0x21, &six()[..35]),
            v2(1, 0x31, &unix[..215]),
            v2(1, 0x11, &[FOUR, &[0; LONGEST][..]].concat()),
        ] {
            assert!(matches!(read(&bytes).0, Parsed::Bad(_)), "{}", bytes.escape_ascii());
        }
        // The longest length is refused before anything of it is read.
        let mut long = v2(1, 0x11, &[]);
        long[14..].copy_from_slice(&[0xFF, 0xFF]);
        assert!(matches!(parse(&long), Parsed::Bad(_)));
    }

    fn headers() -> impl Strategy<Value = (Vec<u8>, Header)> {
        let line = (any::<[u8; 4]>(), any::<u16>(), any::<u16>()).prop_map(|(from, one, two)| {
            let client = SocketAddr::from((from, one));
            (
                format!("PROXY TCP4 {} 127.0.0.1 {one} {two}\r\n", client.ip()).into_bytes(),
                Header { client: Client::Internet(client), tls: false },
            )
        });
        let line6 = (any::<[u8; 16]>(), any::<u16>()).prop_map(|(from, port)| {
            let client = SocketAddr::from((from, port));
            (
                format!("PROXY TCP6 {} ::1 {port} 80\r\n", client.ip()).into_bytes(),
                Header { client: Client::Internet(client), tls: false },
            )
        });
        let extensions = prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..30)), 0..5);
        let binary = (any::<[u8; 36]>(), extensions).prop_map(|(addresses, extensions)| {
            let mut rest = addresses.to_vec();
            let mut tls = None;
            for (kind, value) in extensions {
                rest.extend([kind, 0, value.len() as u8]);
                rest.extend(&value);
                if kind == TLV_SSL && tls.is_none() {
                    tls = Some(value.first().is_some_and(|client| client & 1 == 1));
                }
            }
            let mut from = [0; 16];
            from.copy_from_slice(&addresses[..16]);
            let port = u16::from_be_bytes([addresses[32], addresses[33]]);
            let client = Client::Internet(SocketAddr::from((from, port)));
            (v2(1, 0x21, &rest), Header { client, tls: tls.unwrap_or(false) })
        });
        prop_oneof![line, line6, binary]
    }

    proptest! {
        #[test]
        fn a_header_is_read_and_nothing_behind_it((header, want) in headers(), behind in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = [&header[..], &behind].concat();
            prop_assert_eq!(read(&bytes), (Parsed::Complete(want), header.len()));
        }

        /// However little comes at a time.
        #[test]
        fn every_beginning_of_a_header_asks_for_more_of_it((header, want) in headers()) {
            for end in 0..header.len() {
                match parse(&header[..end]) {
                    Parsed::Need(count) => prop_assert!(end + count <= header.len(), "{} after {}", count, end),
                    other => prop_assert!(false, "{:?} after {}", other, end),
                }
            }
            prop_assert_eq!(parse(&header), Parsed::Complete(want));
        }

        #[test]
        fn garbage_is_told_and_never_read_for_long(bytes in prop::collection::vec(any::<u8>(), 0..200), signed in any::<bool>()) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            let _ = read(&bytes);
        }
    }
}
