//! What a client sends on one connection, held against the letter of RFC 9112 before any parser sees it.
//!
//! Request smuggling lives on what two parsers read differently. So whatever the standard forbids or leaves open about
//! where a request ends is refused here, byte by byte, even where the parsers behind would bear it.

use memchr::{memchr, memchr_iter};

/// The longest line of a chunk's size with its extensions, and all trailer fields of one request together, bytes.
const CHUNK_LINE: usize = 4096;
/// Empty lines before a request (RFC 9112 §2.2: at least one is to be borne).
const BLANK_LINES: usize = 4;

/// Follows the framing of one connection's requests.
#[derive(Debug, Default)]
pub struct Guard {
    state: State,
    /// Of the head that is being read.
    head: Vec<u8>,
    /// Where its last line begins.
    line: usize,
    blank: usize,
    /// The request asks to switch protocols.
    switching: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// So many bytes of a body are to come.
    Body(u64),
    /// The line with a chunk's size: its value, and how many bytes of the line have come.
    Size(u64, usize),
    /// The rest of that line.
    Extension(u64, usize),
    SizeEnd(u64),
    Data(u64),
    DataEnd(u8),
    /// Trailer fields: bytes in all, and in this line.
    Trailer(usize, usize),
    TrailerEnd(usize, usize),
    /// A whole request; what follows may be another protocol.
    Undecided,
    /// It is: nothing is looked at any more.
    Other,
    Bad,
}

/// Where in the stream of requests a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing of the next request has come.
    Between,
    Head,
    Body,
    Undecided,
    /// It speaks another protocol.
    Other,
    Bad,
}

/// What becomes of bytes that have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    All,
    /// So many are a whole request that asks to switch protocols; the others wait for [`Guard::decide`].
    Until(usize),
    /// The byte with this index makes it unacceptable.
    Bad(usize, &'static str),
}

impl Guard {
    pub fn place(&self) -> Place {
        match self.state {
            State::Head if self.head.is_empty() && self.blank == 0 => Place::Between,
            State::Head => Place::Head,
            State::Undecided => Place::Undecided,
            State::Other => Place::Other,
            State::Bad => Place::Bad,
            _ => Place::Body,
        }
    }

    /// Looks at the next bytes. After [`Verdict::Bad`] there are none.
    pub fn pass(&mut self, bytes: &[u8]) -> Verdict {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                State::Undecided => return Verdict::Until(at),
                State::Other => return Verdict::All,
                State::Bad => return Verdict::Bad(at, "it follows what is not HTTP"),
                State::Head => match self.line(rest) {
                    Ok(taken) => at += taken,
                    Err((index, reason)) => return self.bad(at + index, reason),
                },
                State::Body(left) | State::Data(left) => {
                    let taken = left.min(rest.len() as u64);
                    at += taken as usize;
                    let left = left - taken;
                    self.state = match self.state {
                        State::Body(_) if left == 0 => self.ended(),
                        State::Body(_) => State::Body(left),
                        _ if left == 0 => State::DataEnd(b'\r'),
                        _ => State::Data(left),
                    };
                }
                framing => match step(framing, rest[0]) {
                    Ok(State::Head) => {
                        self.state = self.ended();
                        at += 1;
                    }
                    Ok(next) => {
                        self.state = next;
                        at += 1;
                    }
                    Err(reason) => return self.bad(at, reason),
                },
            }
        }
        Verdict::All
    }

    /// The request that asked to switch protocols was answered: `switched` as it wished, or as any other.
    pub fn decide(&mut self, switched: bool) {
        match (self.state, switched) {
            (State::Bad, _) => {}
            (_, true) => self.state = State::Other,
            (State::Undecided, false) => self.state = State::Head,
            // Answered before all of its body was there.
            (_, false) => self.switching = false,
        }
    }

    fn bad(&mut self, at: usize, reason: &'static str) -> Verdict {
        self.state = State::Bad;
        Verdict::Bad(at, reason)
    }

    /// The request is whole.
    fn ended(&mut self) -> State {
        if std::mem::take(&mut self.switching) { State::Undecided } else { State::Head }
    }

    /// A piece of the head, to the end of a line or of the bytes; says how long it is.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, (usize, &'static str)> {
        let Some(end) = memchr(b'\n', bytes) else {
            self.head.extend_from_slice(bytes);
            return Ok(bytes.len());
        };
        self.head.extend_from_slice(&bytes[..=end]);
        let line = &self.head[self.line..];
        if !line.ends_with(b"\r\n") {
            return Err((end, "a line ends without CR"));
        }
        if line.len() > 2 {
            if self.line > 0 && matches!(line[0], b' ' | b'\t') {
                return Err((end, "a folded header line"));
            }
            self.line = self.head.len();
            return Ok(end + 1);
        }
        if self.line == 0 {
            self.head.clear();
            self.blank += 1;
            return if self.blank > BLANK_LINES { Err((end, "no request")) } else { Ok(end + 1) };
        }
        let framing = judge(&self.head).map_err(|reason| (end, reason))?;
        self.head.clear();
        (self.line, self.blank) = (0, 0);
        self.switching = framing.switching;
        self.state = match framing.body {
            Body::Chunked => State::Size(0, 0),
            Body::Length(0) => self.ended(),
            Body::Length(length) => State::Body(length),
        };
        Ok(end + 1)
    }
}

/// Follows one chunked body that is passed on as it is, but for its trailer fields.
#[derive(Debug)]
pub struct Chunks(State);

/// What of the bytes that have come belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// So many are its own; the first `forward` of them go on.
    pub taken: usize,
    pub forward: usize,
    /// All of it has come; what goes on lacks the last empty line.
    pub over: bool,
}

impl Default for Chunks {
    fn default() -> Self {
        Self(State::Size(0, 0))
    }
}

impl Chunks {
    /// Looks at the next bytes; `data` gets what is in the chunks.
    pub fn pass(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<Passed, &'static str> {
        let (mut at, mut forward) = (0, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            if let State::Data(left) = self.0 {
                let taken = left.min(rest.len() as u64);
                data(&rest[..taken as usize]);
                at += taken as usize;
                self.0 = if taken == left { State::DataEnd(b'\r') } else { State::Data(left - taken) };
                forward = at;
                continue;
            }
            let goes_on = !matches!(self.0, State::Trailer(..) | State::TrailerEnd(..));
            self.0 = step(self.0, rest[0])?;
            at += 1;
            if goes_on {
                forward = at;
            }
            if self.0 == State::Head {
                return Ok(Passed { taken: at, forward, over: true });
            }
        }
        Ok(Passed { taken: at, forward, over: false })
    }
}

/// One byte of what frames a chunked body (RFC 9112 §7.1). `Head`: it is over.
fn step(state: State, byte: u8) -> Result<State, &'static str> {
    const SIZE: &str = "a bad chunk size";
    const END: &str = "a chunk does not end where it should";
    Ok(match (state, byte) {
        (State::Size(size, digits), _) if byte.is_ascii_hexdigit() => {
            // 15 digits are more than anybody sends, and no number that overflows.
            if digits >= 15 {
                return Err(SIZE);
            }
            State::Size(size << 4 | u64::from(char::from(byte).to_digit(16).unwrap_or(0)), digits + 1)
        }
        (State::Size(_, 0), _) => return Err(SIZE),
        (State::Size(size, _), b'\r') => State::SizeEnd(size),
        (State::Size(size, digits), b';') => State::Extension(size, digits),
        (State::Size(..), _) => return Err(SIZE),
        (State::Extension(size, _), b'\r') => State::SizeEnd(size),
        (State::Extension(..), b'\n' | 0) => return Err("a bad chunk extension"),
        (State::Extension(_, length), _) if length > CHUNK_LINE => return Err("a chunk extension is too long"),
        (State::Extension(size, length), _) => State::Extension(size, length + 1),
        (State::SizeEnd(0), b'\n') => State::Trailer(0, 0),
        (State::SizeEnd(size), b'\n') => State::Data(size),
        (State::DataEnd(b'\r'), b'\r') => State::DataEnd(b'\n'),
        (State::DataEnd(b'\n'), b'\n') => State::Size(0, 0),
        (State::SizeEnd(_) | State::DataEnd(_), _) => return Err(END),
        (State::Trailer(total, line), b'\r') => State::TrailerEnd(total, line),
        (State::Trailer(..), b'\n' | 0) => return Err("a bad trailer field"),
        (State::Trailer(0, 0) | State::Trailer(_, 0), b' ' | b'\t') => return Err("a folded trailer field"),
        (State::Trailer(total, _), _) if total > CHUNK_LINE => return Err("the trailer fields are too long"),
        (State::Trailer(total, line), _) => State::Trailer(total + 1, line + 1),
        (State::TrailerEnd(_, 0), b'\n') => State::Head,
        (State::TrailerEnd(total, _), b'\n') => State::Trailer(total, 0),
        (State::TrailerEnd(..), _) => return Err("a bad trailer field"),
        (state, _) => state,
    })
}

enum Body {
    Length(u64),
    Chunked,
}

struct Framing {
    body: Body,
    switching: bool,
}

/// What a whole head says of its body (RFC 9112 §6.3) and host (§3.2).
fn judge(head: &[u8]) -> Result<Framing, &'static str> {
    if memchr(0, head).is_some() {
        return Err("a NUL byte");
    }
    // Each line is known to end in CR LF.
    if memchr_iter(b'\r', head).count() != memchr_iter(b'\n', head).count() {
        return Err("a CR without LF");
    }
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let newest = lines.next().is_some_and(|line| line.ends_with(b" HTTP/1.1"));
    let (mut length, mut chunked, mut hosts) = (None, false, 0);
    let (mut upgrade, mut named) = (None, false);
    for line in lines.filter(|line| !line.is_empty()) {
        let Some(colon) = memchr(b':', line) else {
            return Err("a header line without a colon");
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.is_some() {
                return Err("more than one Content-Length");
            }
            length = Some(digits(value).ok_or("a bad Content-Length")?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // Chunked is the only coding that we know, and it is applied once at most.
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a Transfer-Encoding other than chunked");
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
            if hosts > 1 {
                return Err("more than one Host");
            }
            if value.iter().any(|byte| !is_host(*byte)) {
                return Err("a bad Host");
            }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            upgrade = upgrade.or(Some(value));
        } else if name.eq_ignore_ascii_case(b"connection") {
            named |= value.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
        }
    }
    let switching = newest && named && upgrade.is_some_and(switches);
    match (length, chunked) {
        (Some(_), true) => Err("both Content-Length and Transfer-Encoding"),
        (_, true) if !newest => Err("Transfer-Encoding in HTTP/1.0"),
        _ if newest && hosts == 0 => Err("no Host"),
        (_, true) => Ok(Framing { body: Body::Chunked, switching }),
        (length, false) => Ok(Framing { body: Body::Length(length.unwrap_or(0)), switching }),
    }
}

/// Whether an `Upgrade` field is one that a worker may follow. HTTP/2 is not: its frames would pass by unseen.
pub fn switches(value: &[u8]) -> bool {
    let tokens = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty());
    let http = |token: &[u8]| {
        token.eq_ignore_ascii_case(b"h2c") || token.len() >= 5 && token[..5].eq_ignore_ascii_case(b"http/")
    };
    tokens().next().is_some() && !tokens().any(http)
}

/// At most 19 of them: less than 2^64.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    let number = (1..=19).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    number.then(|| text.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// RFC 3986 §3.2.2, without the exotic.
pub(super) fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte) || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::shape;
    use proptest::prelude::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nGET / \n\n\r\n\0";
    const CHUNKED: &str = "POST /x HTTP/1.1\r\nhost: a:80\r\ntransfer-encoding: Chunked\r\n\r\n\
                           5\r\nab\ncd\r\n0A;a=\"b\"\r\n0123456789\r\n000\r\nA: b\r\nC:\r\n\r\n";
    const OLD: &str = "\r\n\r\nPOST /x HTTP/1.0\r\nContent-Length:  2 \r\n\r\nab";
    const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

    /// The whole text, however it is cut.
    fn verdict(text: &[u8]) -> Verdict {
        let whole = Guard::default().pass(text);
        for size in [1, 2, 3, 7, 50] {
            let mut guard = Guard::default();
            let mut at = 0;
            let mut found = Verdict::All;
            for piece in text.chunks(size) {
                found = match guard.pass(piece) {
                    Verdict::All => Verdict::All,
                    Verdict::Until(index) => Verdict::Until(at + index),
                    Verdict::Bad(index, reason) => Verdict::Bad(at + index, reason),
                };
                if found != Verdict::All {
                    break;
                }
                at += piece.len();
            }
            assert_eq!(found, whole, "pieces of {size}: {}", text.escape_ascii());
        }
        whole
    }

    #[test]
    fn requests_one_after_the_other() {
        let mut guard = Guard::default();
        for text in [GET, POST, CHUNKED, OLD, GET] {
            assert_eq!(guard.place(), Place::Between);
            assert_eq!(guard.pass(text.as_bytes()), Verdict::All, "{text:?}");
        }
        assert_eq!(guard.place(), Place::Between);
        assert_eq!(verdict([GET, POST, CHUNKED, OLD, GET].concat().as_bytes()), Verdict::All);
    }

    #[test]
    fn places() {
        let mut guard = Guard::default();
        for (text, place) in [
            ("G", Place::Head),
            ("ET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r", Place::Head),
            ("\n", Place::Body),
            ("a", Place::Body),
            ("b", Place::Between),
            ("\r\n", Place::Head),
            (CHUNKED, Place::Between),
            (UPGRADE, Place::Undecided),
        ] {
            assert_eq!(guard.pass(text.as_bytes()), Verdict::All);
            assert_eq!(guard.place(), place, "{text:?}");
        }
        guard.decide(false);
        assert_eq!(guard.place(), Place::Between);
        guard.pass(UPGRADE.as_bytes());
        guard.decide(true);
        assert_eq!((guard.place(), guard.pass(b"\0\n\xff")), (Place::Other, Verdict::All));
        assert!(matches!(Guard::default().pass(b"\n"), Verdict::Bad(0, _)));
    }

    #[test]
    fn what_follows_an_upgrade_waits() {
        let text = [UPGRADE, "\u{81}\u{5}hello"].concat();
        assert_eq!(verdict(text.as_bytes()), Verdict::Until(UPGRADE.len()));
        let with_body = UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(verdict([&with_body, "x"].concat().as_bytes()), Verdict::Until(with_body.len()));
        for other in ["h2c", "HTTP/2.0", "websocket, h2c", ""] {
            let text = [&UPGRADE.replace("websocket", other), GET].concat();
            assert_eq!(verdict(text.as_bytes()), Verdict::All, "{other}");
        }
        for (one, other) in [("HTTP/1.1", "HTTP/1.0"), ("Connection: Upgrade", "Connection: close")] {
            assert_eq!(verdict([&UPGRADE.replace(one, other), GET].concat().as_bytes()), Verdict::All);
        }
        let mut guard = Guard::default();
        guard.pass(&with_body.as_bytes()[..with_body.len() - 1]);
        guard.decide(false);
        assert_eq!((guard.pass(b"c"), guard.place()), (Verdict::All, Place::Between));
    }

    #[test]
    fn what_is_refused() {
        let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        let chunked = |body: &str| head("Transfer-Encoding: chunked") + body;
        let mut cases: Vec<(String, &str)> = Vec::new();
        for (fields, reason) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", "both"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1", "both"),
            ("Content-Length: 1\r\nContent-Length: 2", "more than one"),
            ("Content-Length: 1\r\nContent-Length: 1", "more than one"),
            ("Content-Length: 1, 1", "bad Content-Length"),
            ("Content-Length: +1", "bad Content-Length"),
            ("Content-Length: -1", "bad Content-Length"),
            ("Content-Length: 0x1", "bad Content-Length"),
            ("Content-Length: 1 2", "bad Content-Length"),
            ("Content-Length:", "bad Content-Length"),
            ("Content-Length: 18446744073709551616", "bad Content-Length"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "other than chunked"),
            ("Transfer-Encoding: identity", "other than chunked"),
            ("Transfer-Encoding: xchunked", "other than chunked"),
            ("Transfer-Encoding: gzip, chunked", "other than chunked"),
            ("Transfer-Encoding: chunked, identity", "other than chunked"),
            ("Transfer-Encoding: \u{b}chunked", "other than chunked"),
            ("Transfer-Encoding: \"chunked\"", "other than chunked"),
            ("Transfer-Encoding:", "other than chunked"),
            ("Host: a", "more than one Host"),
            ("A: b\r\n c", "folded"),
            ("A: b\r\n\tc", "folded"),
            ("A: b\nC: d", "without CR"),
            ("A: b\n", "without CR"),
            ("no colon", "without a colon"),
            ("A: b\0", "NUL"),
            ("A\0: b", "NUL"),
            ("A: b\rc", "CR without LF"),
            ("A: b\r", "CR without LF"),
        ] {
            cases.push((head(fields), reason));
        }
        for (body, reason) in [
            ("5\nhello\r\n", "chunk size"),
            ("\r\n", "chunk size"),
            ("0x5\r\nhello\r\n", "chunk size"),
            ("-5\r\n", "chunk size"),
            ("5 \r\n", "chunk size"),
            (" 5\r\n", "chunk size"),
            ("5\rhello", "should"),
            ("5\r\nhelloX", "should"),
            ("5\r\nhello\n", "should"),
            ("5\r\nhello\rX", "should"),
            ("ffffffffffffffff\r\n", "chunk size"),
            ("0000000000000000\r\n", "chunk size"),
            ("5;a\nb\r\n", "extension"),
            ("0\r\nA: b\n\r\n", "trailer"),
            ("0\r\nA: b\r\n c\r\n\r\n", "folded"),
            ("0\r\nA: b\r\r\n", "trailer"),
        ] {
            cases.push((chunked(body), reason));
        }
        for (text, reason) in [
            ("GET / HTTP/1.1\r\n\r\n", "no Host"),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "bad Host"),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "bad Host"),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "bad Host"),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", "without CR"),
            ("\n", "without CR"),
            ("\r\n\r\n\r\n\r\n\r\n", "no request"),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"),
        ] {
            cases.push((text.to_owned(), reason));
        }
        for (text, wanted) in cases {
            for before in ["", GET, CHUNKED] {
                let text = [before, &text].concat();
                let Verdict::Bad(index, reason) = verdict(text.as_bytes()) else { panic!("passed: {text:?}") };
                assert!(reason.contains(wanted), "{text:?}: {reason}");
                assert_ne!(shape::of(reason), shape::COUNT - 1, "{reason} is counted nowhere");
                assert!(index >= before.len(), "{text:?}");
            }
        }
        let long = chunked(&format!("5;{}\r\n", "x".repeat(5000)));
        assert!(matches!(verdict(long.as_bytes()), Verdict::Bad(..)));
        let long = chunked(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(2000)));
        assert!(matches!(verdict(long.as_bytes()), Verdict::Bad(..)));
    }

    type Outcome = Result<(Vec<u8>, Vec<u8>, Option<usize>), &'static str>;

    /// What goes on of a chunked body that comes in pieces of `size`, its data, and how much of the text is its own.
    fn passed(text: &[u8], size: usize) -> Outcome {
        let (mut chunks, mut forward, mut data) = (Chunks::default(), Vec::new(), Vec::new());
        for (number, piece) in text.chunks(size).enumerate() {
            let passed = chunks.pass(piece, |bytes| data.extend_from_slice(bytes))?;
            forward.extend_from_slice(&piece[..passed.forward]);
            if passed.over {
                return Ok((forward, data, Some(number * size + passed.taken)));
            }
            assert_eq!(passed.taken, piece.len());
        }
        Ok((forward, data, None))
    }

    #[test]
    fn chunked_bodies_that_are_passed_on() {
        let text = b"5\r\nab\ncd\r\n0A;a=\"b\"\r\n0123456789\r\n000\r\nSet-Cookie: b\r\nC:\r\n\r\nHTTP/1.1";
        for size in [1, 2, 3, 5, 8, 100] {
            let (forward, data, taken) = passed(text, size).unwrap();
            assert_eq!(forward, b"5\r\nab\ncd\r\n0A;a=\"b\"\r\n0123456789\r\n000\r\n", "pieces of {size}");
            assert_eq!((data.as_slice(), taken), (&b"ab\ncd0123456789"[..], Some(text.len() - 8)));
            for end in 0..text.len() - 8 {
                assert_eq!(passed(&text[..end], size).unwrap().2, None, "{end}");
            }
            for bad in
                [&b"x"[..], b"5\nab", b"1\r\nabc", b"1\r\na\n", b"0\r\nA: b\n\r\n", b"-1\r\n", b"1234567890123456\r\n"]
            {
                assert!(passed(bad, size).is_err(), "{}", bad.escape_ascii());
            }
        }
    }

    proptest! {
        #[test]
        fn never_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..9), good in any::<bool>()) {
            let mut guard = Guard::default();
            if good {
                guard.pass(CHUNKED.as_bytes());
            }
            for piece in pieces {
                guard.pass(&piece);
            }
        }

        #[test]
        fn bodies_of_any_bytes_pass(body in prop::collection::vec(any::<u8>(), 0..300), sizes in prop::collection::vec(1..40usize, 1..9)) {
            let mut text = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            text.extend_from_slice(&body);
            text.extend_from_slice(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut rest = &body[..];
            for size in sizes.iter().cycle() {
                let (chunk, after) = rest.split_at((*size).min(rest.len()));
                text.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
                if chunk.is_empty() {
                    break;
                }
                rest = after;
            }
            text.extend_from_slice(GET.as_bytes());
            prop_assert_eq!(verdict(&text), Verdict::All);
        }
    }
}
