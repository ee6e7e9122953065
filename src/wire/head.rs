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
    /// Carries a Forwarded, X-Forwarded-For or Via field: comes from a proxy.
    pub forwarded: bool,
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
/// (RFC 9112 §2.2). The worker's own parser is the judge of all else.
pub fn peek(bytes: &[u8]) -> Peeked {
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
    match parse(text, start, &mut few) {
        Some(peeked) => peeked,
        None => parse(text, start, &mut vec![httparse::EMPTY_HEADER; MOST_FIELDS])
            .unwrap_or(Peeked::Bad("too many header fields")),
    }
}

/// `None` when `fields` are too few. `start`: bytes before `text`.
fn parse<'a>(text: &'a [u8], start: usize, fields: &mut [httparse::Header<'a>]) -> Option<Peeked> {
    let mut request = httparse::Request::new(fields);
    let length = match request.parse(text) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Some(Peeked::Partial),
        Err(httparse::Error::TooManyHeaders) => return None,
        Err(error) => return Some(Peeked::Bad(reason(error))),
    };
    let fields = || request.headers.iter();
    let forwarded = |field: &httparse::Header<'_>| {
        ["forwarded", "x-forwarded-for", "via"].iter().any(|name| field.name.eq_ignore_ascii_case(name))
    };
    let websocket = |field: &httparse::Header<'_>| {
        field.name.eq_ignore_ascii_case("upgrade")
            && field.value.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    };
    Some(Peeked::Complete(Head {
        length: start + length,
        target: request.path.unwrap_or_default().to_owned(),
        websocket: fields().any(websocket),
        forwarded: fields().any(forwarded),
    }))
}

fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a bad header name",
        httparse::Error::HeaderValue => "a bad header value",
        httparse::Error::NewLine => "a bad end of line",
        httparse::Error::Token => "a bad request line",
        httparse::Error::Version => "no HTTP/1 version",
        httparse::Error::TooManyHeaders => "too many header fields",
        httparse::Error::Status => "no request",
    }
}
