//! An HTTP/1 request head, as far as routing needs it (RFC 9112 §2, §3).

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peeked {
    /// The head is not complete yet; so far nothing is wrong with it.
    Partial,
    /// A whole head.
    Complete(Head),
    /// A TLS ClientHello record (RFC 8446 §5.1).
    Tls,
    /// Not HTTP/1: answer 400.
    Bad(&'static str),
}

/// Of a whole request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes up to and including the empty line.
    pub length: usize,
    /// The request target as sent.
    pub target: String,
    /// `Upgrade: websocket`
    pub websocket: bool,
    /// Carries a field that speaks of the client (Forwarded, X-Forwarded-…, X-Real-IP) or Via: comes from a proxy, or from
    /// somebody who would like to be taken for one.
    pub forwarded: bool,
    /// Those that were asked for, names in lower case.
    pub fields: Vec<(String, Vec<u8>)>,
}

/// First byte of a TLS record that holds a handshake, then the major version.
const TLS_HANDSHAKE: &[u8] = &[0x16, 0x03];
/// RFC 9113 §3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2";
/// Longer than any method of the IANA registry (UPDATEREDIRECTREF).
const LONGEST_METHOD: usize = 32;
/// Fields for which there is room on the stack, and Node's own limit (`server.maxHeadersCount`).
const USUAL_FIELDS: usize = 64;
const MOST_FIELDS: usize = 2000;

/// Looks at what has come so far. The caller bounds `bytes`.
///
/// What can no longer become a head is `Bad` as soon as that shows. Empty lines before the request line are let pass
/// (RFC 9112 §2.2). The worker's own parser is the judge of all else. Of what Node 20 to 24 serve, this refuses only what
/// RFC 9112 does not allow: two spaces in a request line, and the versions 0.9 and 2.0.
pub fn peek(bytes: &[u8]) -> Peeked {
    peek_for(bytes, &[])
}

/// The same, and keeps the header fields with these names (in lower case).
pub fn peek_for(bytes: &[u8], wanted: &[String]) -> Peeked {
    if TLS_HANDSHAKE.starts_with(bytes) {
        return if bytes == TLS_HANDSHAKE { Peeked::Tls } else { Peeked::Partial };
    }
    if bytes.starts_with(TLS_HANDSHAKE) {
        return Peeked::Tls;
    }
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let text = &bytes[start..];
    if text.starts_with(HTTP2_PREFACE) {
        return Peeked::Bad("HTTP/2 without TLS is not spoken here");
    }
    if text.iter().take(LONGEST_METHOD + 1).take_while(|byte| **byte != b' ').count() > LONGEST_METHOD {
        return Peeked::Bad("no HTTP method");
    }
    let mut few = [httparse::EMPTY_HEADER; USUAL_FIELDS];
    match parse(text, start, wanted, &mut few) {
        Some(peeked) => peeked,
        None => parse(text, start, wanted, &mut vec![httparse::EMPTY_HEADER; MOST_FIELDS])
            .unwrap_or(Peeked::Bad("too many header fields")),
    }
}

/// `None` when `fields` are too few. `start`: bytes before `text`.
fn parse<'a>(text: &'a [u8], start: usize, wanted: &[String], fields: &mut [httparse::Header<'a>]) -> Option<Peeked> {
    let mut request = httparse::Request::new(fields);
    let length = match request.parse(text) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Some(Peeked::Partial),
        Err(httparse::Error::TooManyHeaders) => return None,
        Err(error) => return Some(Peeked::Bad(reason(error, text))),
    };
    let fields = || request.headers.iter();
    let forwarded = |field: &httparse::Header<'_>| {
        const PREFIX: &str = "x-forwarded-";
        field.name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
            || ["forwarded", "x-real-ip", "via"].iter().any(|name| field.name.eq_ignore_ascii_case(name))
    };
    let websocket = |field: &httparse::Header<'_>| {
        field.name.eq_ignore_ascii_case("upgrade")
            && field.value.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    };
    let is_wanted = |field: &&httparse::Header<'_>| wanted.iter().any(|name| field.name.eq_ignore_ascii_case(name));
    let keep = |field: &httparse::Header<'_>| (field.name.to_ascii_lowercase(), field.value.to_vec());
    Some(Peeked::Complete(Head {
        length: start + length,
        target: request.path.unwrap_or_default().to_owned(),
        websocket: fields().any(websocket),
        forwarded: fields().any(forwarded),
        fields: if wanted.is_empty() { Vec::new() } else { fields().filter(is_wanted).map(keep).collect() },
    }))
}

fn reason(error: httparse::Error, text: &[u8]) -> &'static str {
    // Of what the parser stops at, this is worth a name of its own.
    let end = text.windows(4).position(|four| four == b"\r\n\r\n").map_or(text.len(), |at| at + 4);
    let head = &text[..end];
    match error {
        _ if head.contains(&0) => "a NUL byte",
        httparse::Error::HeaderName | httparse::Error::HeaderValue
            if head.windows(2).any(|two| two == b"\n " || two == b"\n\t") =>
        {
            "a folded header line"
        }
        httparse::Error::HeaderName => "a bad header name",
        httparse::Error::HeaderValue => "a bad header value",
        httparse::Error::NewLine => "a bad end of line",
        httparse::Error::Token => "a bad request line",
        httparse::Error::Version => "no HTTP/1 version",
        httparse::Error::TooManyHeaders => "too many header fields",
        httparse::Error::Status => "no request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::shape;
    use proptest::prelude::*;

    const POLLING: &[u8] = b"GET /socket.io/?EIO=4&transport=polling&sid=abc HTTP/1.1\r\nHost: a\r\nVia: 1.1 b\r\n\r\n";
    const UPGRADE: &[u8] =
        b"\r\n\r\nGET /ws HTTP/1.1\nHost: a\nconnection: Upgrade\nupgrade: h2c, WebSocket\nX: \xC3\xA9\xFF\n\n";
    const POST: &[u8] = b"POST http://a/x HTTP/1.0\r\nContent-Length: 4\r\n\r\nGET ";

    fn head(bytes: &[u8]) -> Head {
        match peek(bytes) {
            Peeked::Complete(head) => head,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whole_heads() {
        assert_eq!(
            head(POLLING),
            Head {
                length: POLLING.len(),
                target: "/socket.io/?EIO=4&transport=polling&sid=abc".to_owned(),
                websocket: false,
                forwarded: true,
                fields: Vec::new(),
            }
        );
        let upgrade = head(UPGRADE);
        assert!(upgrade.websocket && !upgrade.forwarded && upgrade.length == UPGRADE.len());
        let post = head(POST);
        assert_eq!((post.length, &*post.target), (POST.len() - 4, "http://a/x"));
        for field in ["Forwarded: for=1", "x-forwarded-for: 1", "VIA: x", "X-Real-IP: 1", "X-FORWARDED-Proto: https"] {
            assert!(head(format!("GET / HTTP/1.1\r\n{field}\r\n\r\n").as_bytes()).forwarded, "{field}");
        }
        for field in
            ["Upgrade: websocketx", "X-Upgrade: websocket", "Forwarded-For: 1", "X-Forwarded: 1", "X-Real-IPs: 1"]
        {
            let head = head(format!("GET / HTTP/1.1\r\n{field}\r\n\r\n").as_bytes());
            assert!(!head.websocket && !head.forwarded, "{field}");
        }
    }

    #[test]
    fn every_prefix_of_a_head_is_partial() {
        for bytes in [POLLING, UPGRADE, POST] {
            let length = head(bytes).length;
            for end in 0..length {
                assert_eq!(peek(&bytes[..end]), Peeked::Partial, "{:?}", bytes[..end].escape_ascii().to_string());
            }
            for end in length..=bytes.len() {
                assert_eq!(head(&bytes[..end]), head(bytes));
            }
        }
    }

    #[test]
    fn tls_shows_in_two_bytes() {
        assert_eq!(peek(b"\x16"), Peeked::Partial);
        assert_eq!(peek(b"\x16\x03"), Peeked::Tls);
        assert_eq!(peek(b"\x16\x03\x01\x02\x00\x01"), Peeked::Tls);
        assert!(matches!(peek(b"\x16\x04"), Peeked::Bad(_)));
    }

    #[test]
    fn what_is_no_head_is_bad_at_once() {
        for bytes in [
            &b"\0"[..],
            b"\x80\x01",
            b"{\"a\"",
            b"GET\t",
            b" GET",
            b"SSH-2.0-x\r\n",
            b"PRI * HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM",
            b"GET / HTTP/3",
            b"GET / FTP",
            b"GET / HTTP/1.1\r\nno colon\r\n",
            b"GET / HTTP/1.1\r\na : b\r\n",
            b"GET / HTTP/1.1\r\na: b\0",
            b"GET / HTTP/1.1\r\na: b\r\n folded\r\n",
            b"GET / HTTP/1.1\r\na: b\rc",
            b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
        ] {
            let Peeked::Bad(reason) = peek(bytes) else { panic!("{}", bytes.escape_ascii()) };
            assert_ne!(shape::of(reason), shape::COUNT - 1, "{reason} is counted nowhere");
        }
    }

    #[test]
    fn some_mistakes_have_names() {
        for (field, reason) in
            [("a: b\0c", "a NUL byte"), ("a: b\r\n c: d", "a folded header line"), ("a : b", "a bad header name")]
        {
            assert_eq!(peek(format!("GET / HTTP/1.1\r\n{field}\r\n\r\n \0").as_bytes()), Peeked::Bad(reason));
        }
    }

    #[test]
    fn many_fields() {
        let of = |count: usize| format!("GET / HTTP/1.1\r\n{}Upgrade: websocket\r\n\r\n", "a:\r\n".repeat(count));
        for count in [63, 64, 150, 1999] {
            assert!(head(of(count).as_bytes()).websocket, "{count}");
        }
        assert_eq!(peek(of(2000).as_bytes()), Peeked::Bad("too many header fields"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            peek(&bytes);
        }

        #[test]
        fn more_bytes_do_not_revive_what_is_bad_nor_change_what_is_complete(
            bytes in prop::collection::vec(prop::sample::select(&b"GET / HTTP/1.1\r\n\r\n: aPRI*2\x16\x03\0\xFF"[..]), 0..60),
            good in any::<bool>(),
        ) {
            let mut bytes = bytes;
            if good {
                bytes.splice(0..0, *b"GET / HTTP/1.1\r\na");
            }
            let verdicts: Vec<_> = (0..=bytes.len()).map(|end| peek(&bytes[..end])).collect();
            for pair in verdicts.windows(2) {
                match &pair[0] {
                    Peeked::Partial => {}
                    Peeked::Bad(_) => prop_assert!(matches!(pair[1], Peeked::Bad(_)), "{pair:?}"),
                    settled => prop_assert_eq!(settled, &pair[1]),
                }
            }
        }

        #[test]
        fn a_made_head_is_read_back(
            blank in "(\r|\n|\r\n){0,3}",
            method in "[A-Z-]{1,17}",
            target in "/[!-~&&[^#]]{0,40}",
            fields in prop::collection::vec(("[A-Za-z][A-Za-z0-9-]{0,12}", "[ -~]{0,30}"), 0..12),
            websocket in any::<bool>(),
            body in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut text = format!("{blank}{method} {target} HTTP/1.1\r\n");
            for (name, value) in fields {
                text += &format!("Q{name}: {value}\r\n");
            }
            if websocket {
                text += "Upgrade:websocket\r\n";
            }
            text += "\r\n";
            let mut bytes = text.into_bytes();
            let length = bytes.len();
            for end in 0..length {
                prop_assert_eq!(peek(&bytes[..end]), Peeked::Partial);
            }
            bytes.extend(body);
            prop_assert_eq!(peek(&bytes), Peeked::Complete(Head { length, target, websocket, forwarded: false, fields: Vec::new() }));
        }
    }
}
