//! The classes of what is refused as no good request (400): few and fixed, for the counters of them.

/// Class → the reasons that belong to it. The last class is for what belongs to no other.
const SHAPES: [(&str, &[&str]); COUNT] = [
    ("length_and_chunked", &["both Content-Length and Transfer-Encoding"]),
    ("content_length", &["more than one Content-Length", "a bad Content-Length"]),
    ("transfer_encoding", &["a Transfer-Encoding other than chunked", "Transfer-Encoding in HTTP/1.0"]),
    (
        "chunk",
        &[
            "a bad chunk size",
            "a chunk does not end where it should",
            "a bad chunk extension",
            "a chunk extension is too long",
        ],
    ),
    ("folded_line", &["a folded header line", "a folded trailer field"]),
    ("line_end", &["a line ends without CR", "a CR without LF", "a bad end of line"]),
    ("nul", &["a NUL byte"]),
    ("host", &["more than one Host", "a bad Host", "no Host"]),
    (
        "field",
        &[
            "a header line without a colon",
            "a bad header field",
            "a bad header name",
            "a bad header value",
            "too many header fields",
            "a bad trailer field",
            "the trailer fields are too long",
        ],
    ),
    ("request_line", &["a bad request line", "no HTTP method", "no request"]),
    ("target", &["a bad request target", "CONNECT is not served here"]),
    ("version", &["no HTTP/1 version", "HTTP/2 without TLS is not spoken here"]),
    ("cut_off", &["the request head ends in the middle"]),
    ("tls", &["TLS is not spoken on this port", "The plain HTTP request was sent to HTTPS port: use https"]),
    (
        "proxy_protocol",
        &[
            "this address is for trusted proxies only",
            "it does not begin with a header of the PROXY protocol",
            "a bad line of the PROXY protocol",
            "a version of the PROXY protocol that is not known here",
            "a command of the PROXY protocol that is not known here",
            "an address family of the PROXY protocol that is not known here",
            "a header of the PROXY protocol that is too long",
            "a header of the PROXY protocol without room for its addresses",
        ],
    ),
    ("other", &[]),
];

/// How many classes there are.
pub const COUNT: usize = 16;

/// The class of a reason, as an index below [`COUNT`].
pub fn of(reason: &str) -> usize {
    SHAPES.iter().position(|(_, reasons)| reasons.contains(&reason)).unwrap_or(COUNT - 1)
}

/// The names of the classes, by their indices.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHAPES.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proxy_protocol::{self, Parsed};

    #[test]
    fn a_reason_is_in_one_class() {
        let all: Vec<&str> = SHAPES.iter().flat_map(|(_, reasons)| reasons.iter().copied()).collect();
        for (index, reason) in all.iter().enumerate() {
            assert!(!all[..index].contains(reason), "{reason}");
        }
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PROXY TCP5\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"] {
            let Parsed::Bad(reason) = proxy_protocol::parse(bytes) else { panic!("{}", bytes.escape_ascii()) };
            assert_eq!(names().nth(of(reason)), Some("proxy_protocol"), "{reason}");
        }
        assert_eq!(names().nth(of("a NUL byte")), Some("nul"));
        assert_eq!(names().nth(of("never heard of")), Some("other"));
    }
}
