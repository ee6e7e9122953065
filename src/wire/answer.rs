//! The head of a worker's answer, read strictly and made ready for the client (pure). RFC 9112 §4, §6.3.

use super::plain::{Room, line};
use super::sticky::Fields;
use super::strict::digits;
use httparse::{Header, Status};

/// What the bytes of a worker are.
#[derive(Debug)]
pub enum Sight<'r, 'b> {
    Partial,
    /// Not what can be passed on.
    Bad(&'static str),
    Head(Answer<'r, 'b>),
}

#[derive(Debug)]
pub struct Answer<'r, 'b> {
    /// Bytes up to and including the empty line.
    pub length: usize,
    pub status: u16,
    reason: &'b str,
    pub body: Body,
    /// The worker ends the connection after it, or its end cannot be trusted.
    pub closes: bool,
    /// How long it says that it keeps an idle connection, seconds.
    pub kept_for: Option<u64>,
    /// Its body is as the app has written it.
    pub identity: bool,
    /// Those that go on.
    fields: &'r [Header<'b>],
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
    /// With the connection.
    End,
}

/// Looks at what has come so far. `to_head`: it answers HEAD.
pub fn look<'r, 'b>(bytes: &'b [u8], to_head: bool, room: &'r mut Room<'b>) -> Sight<'r, 'b> {
    let mut answer = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut answer, bytes, room);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Sight::Partial,
        Err(_) => return Sight::Bad("no HTTP/1 answer"),
    };
    let (Some(version), Some(status)) = (answer.version, answer.code) else { return Sight::Bad("no HTTP/1 answer") };
    let head = Answer {
        length,
        status,
        reason: answer.reason.unwrap_or_default(),
        body: Body::End,
        closes: version == 0,
        kept_for: None,
        identity: true,
        fields: &[],
    };
    match head.with(answer.headers, version, to_head) {
        Ok(head) => Sight::Head(head),
        Err(reason) => Sight::Bad(reason),
    }
}

fn is(name: &str, wanted: &str) -> bool {
    name.eq_ignore_ascii_case(wanted)
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// What an answer's field is about, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Other,
    Connection,
    ContentLength,
    TransferEncoding,
    KeepAlive,
    ContentEncoding,
    Hop,
}

impl Name {
    fn of(name: &str) -> Self {
        match name.len() {
            2 if is(name, "te") => Self::Hop,
            7 if is(name, "upgrade") => Self::Hop,
            10 if is(name, "connection") => Self::Connection,
            10 if is(name, "keep-alive") => Self::KeepAlive,
            14 if is(name, "content-length") => Self::ContentLength,
            16 if is(name, "content-encoding") => Self::ContentEncoding,
            16 if is(name, "proxy-connection") => Self::Hop,
            17 if is(name, "transfer-encoding") => Self::TransferEncoding,
            _ => Self::Other,
        }
    }
}

impl<'r, 'b> Answer<'r, 'b> {
    fn with(mut self, fields: &'r mut [Header<'b>], version: u8, to_head: bool) -> Result<Self, &'static str> {
        let (mut length, mut chunked, mut kept) = (None, false, 0);
        // Other fields that are the connection's own; mostly there are none.
        let mut named: Vec<&'b [u8]> = Vec::new();
        for at in 0..fields.len() {
            let Header { name, value } = fields[at];
            match Name::of(name) {
                Name::Connection => {
                    for token in tokens(value) {
                        if token.eq_ignore_ascii_case(b"close") {
                            self.closes = true;
                        } else if !token.eq_ignore_ascii_case(b"keep-alive") {
                            named.push(token);
                        }
                    }
                    continue;
                }
                Name::KeepAlive => {
                    let timeout = tokens(value).find_map(|token| token.strip_prefix(b"timeout="));
                    self.kept_for = self.kept_for.or_else(|| digits(timeout?));
                    continue;
                }
                Name::Hop => continue,
                Name::TransferEncoding => {
                    if chunked || version == 0 || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                        return Err("a Transfer-Encoding other than chunked");
                    }
                    chunked = true;
                    continue;
                }
                Name::ContentLength => {
                    if length.is_some() {
                        return Err("more than one Content-Length");
                    }
                    length = Some(digits(value).ok_or("a bad Content-Length")?);
                    // (RFC 9110 §8.6)
                    if self.status < 200 || self.status == 204 {
                        continue;
                    }
                }
                Name::ContentEncoding => self.identity &= value.eq_ignore_ascii_case(b"identity"),
                Name::Other => {}
            }
            fields[kept] = fields[at];
            kept += 1;
        }
        if chunked && length.is_some() {
            return Err("both Content-Length and Transfer-Encoding");
        }
        self.body = match self.status {
            ..100 => return Err("a bad status"),
            101 => return Err("another protocol that nobody asked for"),
            100..200 => Body::None,
            204 | 304 => Body::None,
            _ if to_head => Body::None,
            _ if chunked => Body::Chunked,
            _ => length.map_or(Body::End, Body::Length),
        };
        // Who states a body where none may be might send one.
        self.closes |= self.body == Body::End
            || (self.body == Body::None && chunked)
            || (self.status == 204 && length.is_some_and(|length| length > 0));
        if !named.is_empty() {
            kept = retain(&mut fields[..kept], |field| !named.iter().any(|name| is_named(name, field.name)));
        }
        self.fields = &fields[..kept];
        Ok(self)
    }

    /// Appends the head as the client gets it, without its end. `closes`: the connection to the client ends with it.
    pub fn write(&self, out: &mut Vec<u8>, closes: bool) {
        out.reserve(self.length + 64);
        out.extend_from_slice(b"HTTP/1.1 ");
        let status = [100, 10, 1].map(|place| b'0' + (self.status / place % 10) as u8);
        out.extend_from_slice(&status);
        out.push(b' ');
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        self.fields.iter().for_each(|field| line(out, field.name, field.value));
        if matches!(self.body, Body::Chunked | Body::End) {
            line(out, "transfer-encoding", b"chunked");
        }
        if closes {
            line(out, "connection", b"close");
        }
    }
}

/// Moves those that `keep` to the front; says how many.
fn retain(fields: &mut [Header<'_>], keep: impl Fn(&Header<'_>) -> bool) -> usize {
    let mut kept = 0;
    for at in 0..fields.len() {
        if keep(&fields[at]) {
            fields[kept] = fields[at];
            kept += 1;
        }
    }
    kept
}

/// As in [`super::forward::strip`]: what is meant for everybody stays.
fn is_named(token: &[u8], name: &str) -> bool {
    let told = name.get(..12).is_some_and(|start| is(start, "x-forwarded-"));
    let stays = told || ["host", "content-length", "forwarded", "x-real-ip"].iter().any(|it| is(name, it));
    !stays && token.eq_ignore_ascii_case(name.as_bytes())
}

impl Fields for Answer<'_, '_> {
    fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
        self.fields.iter().filter(move |field| is(field.name, name)).map(|field| field.value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::forward;
    use super::super::plain::room;
    use super::*;
    use hyper::HeaderMap;
    use hyper::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn answer(status: &str, fields: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{fields}\r\n")
    }

    /// Its body, whether the worker closes, and what is written.
    fn read(text: &str, to_head: bool) -> Result<(Body, bool, String), &'static str> {
        let mut room = room();
        match look(text.as_bytes(), to_head, &mut room) {
            Sight::Partial => Err("partial"),
            Sight::Bad(reason) => Err(reason),
            Sight::Head(head) => {
                assert_eq!(head.length, text.len());
                let mut out = Vec::new();
                head.write(&mut out, false);
                Ok((head.body, head.closes, String::from_utf8(out).unwrap()))
            }
        }
    }

    #[test]
    fn where_a_body_ends() {
        for (status, fields, to_head, want) in [
            ("200 OK", "Content-Length: 5\r\n", false, (Body::Length(5), false)),
            ("200 OK", "Content-Length: 5\r\n", true, (Body::None, false)),
            ("200 OK", "Transfer-Encoding: Chunked\r\n", false, (Body::Chunked, false)),
            ("200 OK", "", false, (Body::End, true)),
            ("200 OK", "", true, (Body::None, false)),
            ("204 No Content", "", false, (Body::None, false)),
            ("304 Not Modified", "Content-Length: 5\r\n", false, (Body::None, false)),
            ("103 Early Hints", "", false, (Body::None, false)),
            ("200 OK", "Content-Length: 5\r\nConnection: x, Close\r\n", false, (Body::Length(5), true)),
            // It may send what it states, whether it may or not.
            ("204 No Content", "Content-Length: 5\r\n", false, (Body::None, true)),
            ("304 Not Modified", "Transfer-Encoding: chunked\r\n", false, (Body::None, true)),
            ("200 OK", "Transfer-Encoding: chunked\r\n", true, (Body::None, true)),
        ] {
            let (body, closes, _) = read(&answer(status, fields), to_head).unwrap();
            assert_eq!((body, closes), want, "{status} {fields}");
        }
        let old = answer("200 OK", "Content-Length: 5\r\n").replace("1.1", "1.0");
        assert!(matches!(read(&old, false), Ok((Body::Length(5), true, _))));
    }

    #[test]
    fn what_cannot_be_passed_on() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: -5\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "A: b\r\n c\r\n",
            "A: b\rc\r\n",
            "A: b\0\r\n",
            "A b: c\r\n",
        ] {
            assert!(read(&answer("200 OK", fields), false).is_err(), "{fields:?}");
        }
        for text in [
            answer("101 Switching Protocols", "Upgrade: x\r\nConnection: upgrade\r\n"),
            answer("099 Low", ""),
            answer("2000 OK", ""),
            "SSH-2.0\r\n\r\n".to_owned(),
            answer("200 OK", "Transfer-Encoding: chunked\r\n").replace("1.1", "1.0"),
            answer("200 OK", "").replace("1.1", "2.0"),
        ] {
            assert!(matches!(read(&text, false), Err(reason) if reason != "partial"), "{text:?}");
        }
        let text = answer("200 OK", "A: b\r\n");
        for end in 0..text.len() {
            assert!(matches!(look(&text.as_bytes()[..end], false, &mut room()), Sight::Partial));
        }
    }

    #[test]
    fn what_the_client_gets() {
        let text = answer(
            "299 Fine By Me",
            "X-MiXed: a\r\nSet-Cookie: one\r\nConnection: X-Gone, keep-alive\r\nKeep-Alive: timeout=5\r\nX-Gone: 1\r\n\
             b:2\r\nset-cookie: two\r\nTransfer-Encoding: chunked\r\nUpgrade: h2c\r\n",
        );
        let want = "HTTP/1.1 299 Fine By Me\r\nX-MiXed: a\r\nSet-Cookie: one\r\nb: 2\r\nset-cookie: two\r\n\
                    transfer-encoding: chunked\r\n";
        assert_eq!(read(&text, false).unwrap().2, want);
        let mut room = room();
        let Sight::Head(head) = look(text.as_bytes(), false, &mut room) else { panic!() };
        assert_eq!((head.kept_for, head.identity), (Some(5), true));
        assert_eq!(head.all("set-cookie").collect::<Vec<_>>(), [&b"one"[..], b"two"]);
        assert_eq!(head.all("x-gone").count(), 0);
        let mut out = Vec::new();
        head.write(&mut out, true);
        assert!(out.ends_with(b"connection: close\r\n"));
        // What has no body has no length either.
        assert_eq!(
            read(&answer("204 No", "Content-Length: 0\r\nA: b\r\n"), false).unwrap().2,
            "HTTP/1.1 204 No\r\nA: b\r\n"
        );
        assert!(read(&answer("304 No", "Content-Length: 7\r\n"), false).unwrap().2.contains("Content-Length: 7\r\n"));
        let coded = answer("200 OK", "content-encoding: gzip\r\n");
        let Sight::Head(head) = look(coded.as_bytes(), false, &mut room) else { panic!() };
        assert!(!head.identity);
    }

    proptest! {
        /// The same fields go on as of an answer that hyper has read.
        #[test]
        fn it_is_written_as_others_are(
            fields in prop::collection::vec((
                "(A|b|Connection|keep-alive|Proxy-Connection|TE|upgrade|host|Trailer|x-forwarded-for|Forwarded|X-Real-IP)",
                "(a|B|close|keep-alive|host|te|gzip|forwarded|x-forwarded-for|,| ){0,5}",
            ), 0..7),
        ) {
            let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let map = |text: &str| {
                let mut map = HeaderMap::new();
                for line in text.split("\r\n").skip(1).take_while(|line| !line.is_empty()) {
                    let (name, value) = line.split_once(':').unwrap();
                    map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.trim()).unwrap());
                }
                map
            };
            let text = answer("200 OK", &format!("Content-Length: 3\r\n{lines}"));
            let mut headers = map(&text);
            let closes = forward::says_close(&headers);
            forward::strip(&mut headers, false);
            let (body, closed, written) = read(&text, false).unwrap();
            prop_assert_eq!((body, closed), (Body::Length(3), closes));
            prop_assert_eq!(map(&written), headers);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), good in any::<bool>()) {
            let mut bytes = bytes;
            if good {
                bytes.splice(0..0, *b"HTTP/1.1 200 OK\r\n");
            }
            look(&bytes, false, &mut room());
        }
    }
}
