//! Requests that need nothing but to be passed on (pure): of HTTP/1.1, in origin form, without a body or with one of a stated
//! length, and with no field that would change what the connection is.
//!
//! What is read here is read strictly: whatever is not surely such a request is somebody else's to judge, of whom
//! [`super::strict`] is the first. So nothing is refused here.

use super::cookie::Seal;
use super::forward::told_https;
use super::sticky::Fields;
use super::strict::{digits, is_host};
use httparse::{Header, Status};
use memchr::memchr_iter;
use std::mem::MaybeUninit;

/// The most fields of a head.
pub const MOST_FIELDS: usize = 100;

/// Where the fields of a head are put.
pub type Room<'b> = [MaybeUninit<Header<'b>>; MOST_FIELDS];

/// Nothing is in it.
pub const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; MOST_FIELDS]
}

/// What the bytes of a client are.
#[derive(Debug)]
pub enum Sight<'r, 'b> {
    /// It may become one.
    Partial,
    /// Not surely one.
    Other,
    Plain(Request<'r, 'b>),
}

/// The head of a plain request.
#[derive(Debug)]
pub struct Request<'r, 'b> {
    /// Bytes up to and including the empty line.
    pub length: usize,
    pub method: &'b str,
    pub target: &'b str,
    /// How long its body is.
    pub body: u64,
    /// The client ends the connection after it.
    pub closes: bool,
    host: &'b [u8],
    fields: &'r [Header<'b>],
}

/// Who has sent it.
#[derive(Debug, Clone, Copy)]
pub struct Client<'c> {
    /// `None`: a Unix socket.
    pub address: Option<&'c str>,
    pub trusted: bool,
    /// It came by TLS.
    pub https: bool,
}

/// Looks at what has come so far.
pub fn look<'r, 'b>(bytes: &'b [u8], room: &'r mut Room<'b>) -> Sight<'r, 'b> {
    read(bytes, room).unwrap_or(Sight::Other)
}

fn read<'r, 'b>(bytes: &'b [u8], room: &'r mut Room<'b>) -> Option<Sight<'r, 'b>> {
    // No empty line before it, which other parsers read differently.
    match bytes.first() {
        None => return Some(Sight::Partial),
        Some(first) if !first.is_ascii_uppercase() => return None,
        Some(_) => {}
    }
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, room).ok()? {
        Status::Complete(length) => length,
        Status::Partial => return Some(Sight::Partial),
    };
    let (method, target, version) = (request.method?, request.path?, request.version?);
    let fields: &'r [Header<'b>] = request.headers;
    // The parser takes no other CR than one before LF: as many of both are the ends of all lines.
    let head = &bytes[..length];
    let lines = fields.len() + 2;
    if memchr_iter(b'\n', head).count() != lines || memchr_iter(b'\r', head).count() != lines {
        return None;
    }
    if version != 1 || method == "CONNECT" || !is_origin(target) {
        return None;
    }
    let (mut length_told, mut host, mut closes) = (None, None, false);
    for Header { name, value } in fields {
        match Name::of(name) {
            Name::Host if host.is_some() || !value.iter().all(|byte| is_host(*byte)) => return None,
            Name::Host => host = Some(*value),
            Name::ContentLength if length_told.is_some() => return None,
            Name::ContentLength => length_told = Some(digits(value)?),
            Name::Connection => {
                for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if token.eq_ignore_ascii_case(b"close") {
                        closes = true;
                    } else if !token.is_empty() && !token.eq_ignore_ascii_case(b"keep-alive") {
                        return None;
                    }
                }
            }
            Name::Unusual => return None,
            _ => {}
        }
    }
    let body = length_told.unwrap_or(0);
    Some(Sight::Plain(Request { length, method, target, body, closes, host: host?, fields }))
}

/// What a request's field is about, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Other,
    Host,
    ContentLength,
    Connection,
    /// Of the connection alone, and without a meaning here.
    Hop,
    /// One with which a request is not plain.
    Unusual,
    /// Says something of the client.
    Client,
    /// And of how it came.
    Scheme,
    Via,
    Cookie,
}

impl Name {
    fn of(name: &str) -> Self {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        let or = |holds: bool, then: Self| if holds { then } else { Self::Other };
        match name.len() {
            2 => or(is("te"), Self::Unusual),
            3 => or(is("via"), Self::Via),
            4 => or(is("host"), Self::Host),
            6 if is("cookie") => Self::Cookie,
            6 => or(is("expect"), Self::Unusual),
            7 => or(is("upgrade") || is("trailer"), Self::Unusual),
            9 if is("x-real-ip") => Self::Client,
            9 => or(is("forwarded"), Self::Scheme),
            10 if is("connection") => Self::Connection,
            10 => or(is("keep-alive"), Self::Hop),
            14 if is("content-length") => Self::ContentLength,
            16 if is("proxy-connection") => Self::Hop,
            17 if is("transfer-encoding") => Self::Unusual,
            17 if is("x-forwarded-proto") => Self::Scheme,
            12.. => {
                let told = name.as_bytes().get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"));
                or(told, Self::Client)
            }
            _ => Self::Other,
        }
    }
}

/// Origin form, of bytes that no parser reads in a way of its own.
fn is_origin(target: &str) -> bool {
    target.starts_with('/')
        && target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !b"\"#<>\\^`{|}".contains(&byte))
}

impl Fields for Request<'_, '_> {
    fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

impl Request<'_, '_> {
    /// What may be asked twice, because it changes nothing or the same (RFC 9110 §9.2.2), and has no body that could be half
    /// sent.
    pub fn is_repeatable(&self) -> bool {
        self.body == 0 && ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&self.method)
    }

    /// Whether the client came by https, by what the worker is told.
    pub fn came_by_https(&self, client: &Client<'_>) -> bool {
        let is = |wanted: Name| self.fields.iter().any(|field| Name::of(field.name) == wanted);
        match client.trusted {
            true if is(Name::Scheme) => told_https(self),
            true if is(Name::Client) => client.https,
            true if is(Name::Via) => false,
            _ => client.https,
        }
    }

    /// Appends the head as the worker gets it: as [`super::forward`] makes it. `seal`: of the cookie that is taken out.
    pub fn write(&self, out: &mut Vec<u8>, client: &Client<'_>, seal: Option<&Seal>) {
        out.reserve(self.length + 128);
        for piece in [self.method, " ", self.target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(piece.as_bytes());
        }
        let (mut told, mut scheme, mut via) = (false, false, false);
        for Header { name, value } in self.fields {
            let kind = Name::of(name);
            match kind {
                Name::Connection | Name::Hop => continue,
                Name::Client | Name::Scheme if !client.trusted => continue,
                Name::Client | Name::Scheme => {
                    told = true;
                    scheme |= kind == Name::Scheme;
                }
                Name::Via => via = true,
                Name::Cookie => {
                    if let Some(left) = seal.and_then(|seal| seal.strip(value)) {
                        if !left.is_empty() {
                            line(out, name, &left);
                        }
                        continue;
                    }
                }
                _ => {}
            }
            line(out, name, value);
        }
        self.tell_client(out, client, (told, scheme, via));
        out.extend_from_slice(b"\r\n");
    }

    fn tell_client(&self, out: &mut Vec<u8>, client: &Client<'_>, (told, scheme, via): (bool, bool, bool)) {
        if told {
            if client.https && !scheme {
                line(out, "x-forwarded-proto", b"https");
            }
            return;
        }
        if let Some(address) = client.address {
            line(out, "x-forwarded-for", address.as_bytes());
        }
        if !(client.trusted && via) {
            line(out, "x-forwarded-proto", if client.https { b"https" } else { b"http" });
            line(out, "x-forwarded-host", self.host);
        }
    }
}

pub(super) fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::forward;
    use super::super::strict::{Guard, Place, Verdict};
    use super::*;
    use hyper::HeaderMap;
    use hyper::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    const STRANGER: Client<'_> = Client { address: Some("203.0.113.9"), trusted: false, https: false };
    const PROXY: Client<'_> = Client { trusted: true, ..STRANGER };

    fn get(fields: &str) -> String {
        format!("GET /x?y=%20 HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    }

    fn is_plain(text: &str) -> bool {
        matches!(look(text.as_bytes(), &mut room()), Sight::Plain(_))
    }

    fn written(text: &str, client: &Client<'_>, seal: Option<&Seal>) -> String {
        let mut room = room();
        let Sight::Plain(request) = look(text.as_bytes(), &mut room) else { panic!("{text:?} is not plain") };
        let mut out = Vec::new();
        request.write(&mut out, client, seal);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_plain() {
        for fields in [
            "",
            "A: b\r\na:c\r\nB:\t d \r\n",
            "Connection: keep-alive\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\n",
            "Connection: Close\r\nconnection: , keep-alive\r\n",
            "Content-Length: 0\r\n",
            "Cookie: a=b\r\nX: \u{e9}\r\n",
        ] {
            assert!(is_plain(&get(fields)), "{fields:?}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "X-Y"] {
            assert!(is_plain(&get("Content-Length: 5\r\n").replace("GET", method)), "{method}");
        }
        let mut room = room();
        let text = get("Content-Length: 123\r\nConnection: close\r\n") + "body";
        let Sight::Plain(request) = look(text.as_bytes(), &mut room) else { panic!() };
        assert_eq!((request.length, request.body, request.closes), (text.len() - 4, 123, true));
        assert_eq!((request.method, request.target, request.host), ("GET", "/x?y=%20", &b"a"[..]));
    }

    #[test]
    fn what_is_not() {
        for fields in [
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length:\r\n",
            "Content-Length : 1\r\n",
            "Host: b\r\n",
            "Connection: upgrade\r\n",
            "Connection: X-Forwarded-For\r\n",
            "Connection: close, TE\r\n",
            "Upgrade: websocket\r\n",
            "TE: trailers\r\n",
            "Trailer: X\r\n",
            "Expect: 100-continue\r\n",
            "A: b\r\n c\r\n",
            "A: b\nC: d\r\n",
            "A: b\rc\r\n",
            "A: b\0\r\n",
            "no colon\r\n",
            ": b\r\n",
        ] {
            assert!(!is_plain(&get(fields)), "{fields:?}");
        }
        for (one, other) in [
            ("GET", "CONNECT"),
            ("GET", "get"),
            ("GET", "\r\nGET"),
            ("GET", "G(T"),
            ("/x", "*"),
            ("/x", "http://a/x"),
            ("/x", "/x#y"),
            ("/x", "/\u{e9}"),
            ("/x", "/x\""),
            ("/x", " /x"),
            ("?", " "),
            ("HTTP/1.1", "HTTP/1.0"),
            ("HTTP/1.1", "HTTP/2.0"),
            ("HTTP/1.1", "HTTP/1.1 "),
            ("Host: a\r\n", ""),
            ("Host: a", "Host: a/b"),
            ("HTTP/1.1\r", "HTTP/1.1"),
            ("\r\n", "\n"),
        ] {
            let text = get("").replacen(one, other, if one == "\r\n" { 9 } else { 1 });
            assert!(!is_plain(&text), "{text:?}");
            assert!(matches!(look(text.as_bytes(), &mut room()), Sight::Other), "{text:?}");
        }
        let many = |count: usize| get(&"a:\r\n".repeat(count));
        assert!(is_plain(&many(99)) && !is_plain(&many(100)));
    }

    #[test]
    fn every_prefix_is_partial() {
        let text = get("Content-Length: 3\r\nA: b\r\n");
        for end in 0..text.len() {
            assert!(matches!(look(&text.as_bytes()[..end], &mut room()), Sight::Partial), "{end}");
        }
        assert!(is_plain(&(text + "\0\n")));
    }

    #[test]
    fn names_are_written_as_they_were_spelled() {
        let text = get("X-MiXed:  1\t\r\nset: a\r\nother: b\r\nSET: c\r\nConnection: keep-alive\r\nKeep-Alive: 9\r\n");
        assert_eq!(
            written(&text, &PROXY, None),
            "GET /x?y=%20 HTTP/1.1\r\nHost: a\r\nX-MiXed: 1\r\nset: a\r\nother: b\r\nSET: c\r\n\
             x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\n\r\n"
        );
    }

    #[test]
    fn our_own_cookie_does_not_go_on() {
        let seal = Seal::new("ours", &[1; 32]).unwrap();
        for (cookie, left) in
            [("a=b; ours=7.x; c=d", "Cookie: a=b; c=d\r\n"), ("ours=1", ""), ("a=ours", "Cookie: a=ours\r\n")]
        {
            let text = get(&format!("Cookie: {cookie}\r\nX-Forwarded-For: 1\r\n"));
            let head = format!("GET /x?y=%20 HTTP/1.1\r\nHost: a\r\n{left}X-Forwarded-For: 1\r\n\r\n");
            assert_eq!(written(&text, &PROXY, Some(&seal)), head);
        }
    }

    #[test]
    fn what_may_be_asked_twice() {
        for (text, want) in [
            (get(""), true),
            (get("").replace("GET", "POST"), false),
            (get("").replace("GET", "PATCH"), false),
            (get("").replace("GET", "DELETE"), true),
            (get("Content-Length: 0\r\n"), true),
            (get("Content-Length: 1\r\n"), false),
        ] {
            let mut room = room();
            let Sight::Plain(request) = look(text.as_bytes(), &mut room) else { panic!() };
            assert_eq!(request.is_repeatable(), want, "{text:?}");
        }
    }

    /// Of a head that hyper would have read.
    fn map(text: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in text.split("\r\n").skip(1).take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.trim()).unwrap());
        }
        map
    }

    const NAMES: &str = "(a|Connection|keep-alive|Proxy-Connection|content-length|Host|Forwarded|Via|Cookie|X-Real-IP|te|upgrade|\
                         Expect|Transfer-Encoding|x-forwarded-(by|for|proto|host|port|server|proxy-x)|X-Forwarded|X-Forwarded-)";
    const VALUES: &str =
        "(a|1|2|close|keep-alive|chunked|https|http|proto=https|for=1;proto=http|websocket|trailers| |,|:|\t){0,3}";

    proptest! {
        /// Whatever is taken here, the guard takes too, and both find its end in the same place.
        #[test]
        fn nothing_is_plain_that_the_guard_refuses(
            method in "(GET|POST|PUT|get|G T)",
            fields in prop::collection::vec((NAMES, VALUES, "(\r\n|\r\n|\r\n|\r\n|\r\n|\r\n|\r\n|\n|\r|\r\n )"), 0..6),
            start in "(|||||\r\n)",
        ) {
            let fields: String = fields.iter().map(|(name, value, end)| format!("{name}:{value}{end}")).collect();
            let text = format!("{start}{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let mut room = room();
            if let Sight::Plain(request) = look(text.as_bytes(), &mut room) {
                let (length, body) = (request.length, request.body);
                let mut guard = Guard::default();
                prop_assert_eq!(guard.pass(&text.as_bytes()[..length]), Verdict::All);
                prop_assert_eq!(guard.place(), if body == 0 { Place::Between } else { Place::Body });
                if body > 1 && body < 1000 {
                    guard.pass(&vec![b'x'; body as usize - 1]);
                    prop_assert_eq!(guard.place(), Place::Body);
                    guard.pass(b"x");
                    prop_assert_eq!(guard.place(), Place::Between);
                }
            }
        }

        /// A worker gets the same, whichever way the request takes.
        #[test]
        fn it_is_written_as_others_are(
            fields in prop::collection::vec((NAMES, VALUES), 0..7),
            trusted in any::<bool>(),
            https in any::<bool>(),
        ) {
            let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let text = get(&fields);
            let mut room = room();
            if let Sight::Plain(request) = look(text.as_bytes(), &mut room) {
                let client = Client { trusted, https, ..PROXY };
                let mut headers = map(&text);
                forward::strip(&mut headers, false);
                forward::tell_client(&mut headers, client.address.map(|it| it.parse().unwrap()), trusted, https);
                let head = written(&text, &client, None);
                prop_assert_eq!(request.came_by_https(&client), told_https(&headers), "{}", text);
                prop_assert_eq!(map(&head), headers);
            }
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), good in any::<bool>()) {
            let mut bytes = bytes;
            if good {
                bytes.splice(0..0, *b"GET / HTTP/1.1\r\nHost: a\r\n");
            }
            look(&bytes, &mut room());
        }
    }
}
