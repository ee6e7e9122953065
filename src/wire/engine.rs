//! What Engine.IO puts into a request (engine.io protocol v4, and v3 with allowEIO3).

use serde::Deserialize;
use std::borrow::Cow;
use std::time::Duration;

/// The `sid` of a request target's query as it stands there; `None` when absent or empty.
///
/// As the server reads it (engine.io 6.6: `Object.fromEntries(new URL(…).searchParams)`): names may be percent-encoded,
/// of several the last counts, a fragment is no part of it. Engine.IO's own ids need no decoding; for an app that makes
/// its ids itself (`generateId`) see [`decode`].
pub fn session(target: &str) -> Option<&str> {
    parameter(target, "sid")
}

/// The same for any parameter: the value as it stands there.
pub fn parameter<'t>(target: &'t str, wanted: &str) -> Option<&'t str> {
    let target = target.split_once('#').map_or(target, |(target, _fragment)| target);
    let (_path, query) = target.split_once('?')?;
    query
        .split('&')
        .filter_map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (decode(name) == wanted).then_some(value)
        })
        .next_back()
        .filter(|value| !value.is_empty())
}

/// Whether a request with this target asks for a new session over long-polling.
pub fn opens_session(target: &str) -> bool {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut parameters = query.split(['&', '#']);
    parameters.any(|parameter| parameter == "transport=polling") && session(target).is_none()
}

/// What the server says to a new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub sid: String,
    /// Of which nothing is heard for so long, it is over.
    pub lifetime: Duration,
}

/// The beginning of an answer to a request for a new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// More of it is needed.
    Partial,
    Opened(Opened),
    /// It is something else.
    No,
}

/// The longest answer to a request for a new session that is looked at, bytes.
pub const OPENING_LIMIT: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Handshake {
    sid: String,
    ping_interval: Option<u64>,
    ping_timeout: Option<u64>,
}

/// Reads the open packet: `0{"sid":…}`, in version 3 with its length before it, `97:0{"sid":…}`; for old browsers as a
/// script, `___eio[0]("0{\"sid\":…}");`.
pub fn opening(body: &[u8]) -> Opening {
    let length = body.len().min(JSONP.len());
    if length > 0 && body[..length] == JSONP[..length] {
        return script(&body[length..]);
    }
    payload(body)
}

/// What a script for JSONP polling begins with (engine.io, transports/polling-jsonp).
const JSONP: &[u8] = b"___eio[";

/// The rest of it: the number of the callback, and the payload as a string.
fn script(rest: &[u8]) -> Opening {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match &rest[digits..] {
        [] | [b']'] => Opening::Partial,
        [b']', b'(', text @ ..] => match serde_json::Deserializer::from_slice(text).into_iter::<String>().next() {
            Some(Ok(text)) => match payload(text.as_bytes()) {
                Opening::Partial => Opening::No,
                whole => whole,
            },
            None => Opening::Partial,
            Some(Err(error)) if error.is_eof() => Opening::Partial,
            Some(Err(_)) => Opening::No,
        },
        _ => Opening::No,
    }
}

fn payload(body: &[u8]) -> Opening {
    let digits = body.iter().take(8).take_while(|byte| byte.is_ascii_digit()).count();
    let packet = match body.get(digits) {
        None => return Opening::Partial,
        Some(b':') => &body[digits + 1..],
        Some(_) => body,
    };
    match packet {
        [] | [b'0'] => Opening::Partial,
        [b'0', json @ ..] if json[0] == b'{' => {
            match serde_json::Deserializer::from_slice(json).into_iter::<Handshake>().next() {
                Some(Ok(handshake)) if !handshake.sid.is_empty() => Opening::Opened(handshake.into()),
                Some(Err(error)) if error.is_eof() && body.len() < OPENING_LIMIT => Opening::Partial,
                _ => Opening::No,
            }
        }
        _ => Opening::No,
    }
}

impl From<Handshake> for Opened {
    fn from(handshake: Handshake) -> Self {
        // Engine.IO's own defaults; a day is longer than anybody waits.
        let milliseconds =
            |value: Option<u64>, default: u64| Duration::from_millis(value.unwrap_or(default).min(86_400_000));
        let silence = milliseconds(handshake.ping_interval, 25_000) + milliseconds(handshake.ping_timeout, 20_000);
        Self { sid: handshake.sid, lifetime: silence + Duration::from_secs(15) }
    }
}

/// A name or value of a query: percent-encoded bytes and `+` decoded (WHATWG URL, application/x-www-form-urlencoded).
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, ..]) => match (hexadecimal(*high), hexadecimal(*low)) {
                (Some(high), Some(low)) => {
                    rest = &after[2..];
                    high << 4 | low
                }
                _ => byte,
            },
            _ => byte,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sessions() {
        for (target, want) in [
            ("/socket.io/?EIO=4&transport=polling&t=x&sid=AbC_-9", Some("AbC_-9")),
            ("/?sid=a", Some("a")),
            ("http://host:80/socket.io/?EIO=4&sid=a", Some("a")),
            ("/?sid=a#sid=b", Some("a")),
            ("/?sid=a#?sid=b&sid=c", Some("a")),
            ("/#?sid=b", None),
            ("/?s%69d=a", Some("a")),
            ("/?SID=a", None),
            ("/?xsid=a&sidx=b", None),
            ("/?xsid=a&sid=b", Some("b")),
            ("/sid=a", None),
            ("/sid=a?", None),
            ("/?a=?sid=b", None),
            ("/?sid=a&sid=b", Some("b")),
            ("/?sid=a&sid=", None),
            ("/?sid=", None),
            ("/?sid", None),
            ("/?sid=a=b", Some("a=b")),
            ("/?&&sid=a&&", Some("a")),
            ("/?%=&sid%=1", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(session(target), want, "{target}");
        }
    }

    #[test]
    fn openings() {
        let open = r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
        let opened = |sid: &str, seconds| {
            Opening::Opened(Opened { sid: sid.to_owned(), lifetime: Duration::from_secs(seconds) })
        };
        assert_eq!(opening(open.as_bytes()), opened("lv_VI97HAXpY6yYWAAAC", 60));
        for end in 0..open.len() {
            assert_eq!(opening(&open.as_bytes()[..end]), Opening::Partial, "{end}");
        }
        assert_eq!(opening([open, "\x1e40"].concat().as_bytes()), opened("lv_VI97HAXpY6yYWAAAC", 60));
        let three = format!("{}:{open}2:40", open.len());
        assert_eq!(opening(three.as_bytes()), opened("lv_VI97HAXpY6yYWAAAC", 60));
        assert_eq!(opening(&three.as_bytes()[..50]), Opening::Partial);
        assert_eq!(opening(br#"0{"sid":"a b\u0041","pingInterval":1000,"pingTimeout":2000}"#), opened("a bA", 18));
        assert_eq!(opening(br#"0{"upgrades":[],"sid":"x"}"#), opened("x", 60));
        for no in [
            "hello",
            "1{",
            "0[1]",
            "0{}",
            "0{\"sid\":\"\"}",
            "0{\"sid\":1}",
            "0{x",
            "123456789:0{",
            "{\"sid\":\"x\"}",
            "00x",
        ] {
            assert_eq!(opening(no.as_bytes()), Opening::No, "{no}");
        }
        let endless = format!("0{{\"sid\":\"{}", "x".repeat(OPENING_LIMIT));
        assert_eq!(opening(endless.as_bytes()), Opening::No);
    }

    #[test]
    fn openings_in_scripts() {
        let opened = Opened { sid: "lv_VI97HAXpY6yYWAAAC".to_owned(), lifetime: Duration::from_secs(60) };
        let four = r#"0{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\":[\"websocket\"]}"#;
        let three = format!("{}:{four}2:40", four.replace('\\', "").len());
        for payload in [four, &three] {
            for head in ["___eio[0](", "___eio[](", "___eio[12345678901]("] {
                let script = format!("{head}\"{payload}\");");
                assert_eq!(opening(script.as_bytes()), Opening::Opened(opened.clone()), "{script}");
                for end in 0..script.len() - 2 {
                    assert_eq!(opening(&script.as_bytes()[..end]), Opening::Partial, "{}", &script[..end]);
                }
            }
        }
        for no in
            ["___eio[a](", "___eio[0]x", "___eio[0](1", "___eio[0](\"x\");", "___eio[0](\"0{\\\"sid\\\"\");", "___eix"]
        {
            assert_eq!(opening(no.as_bytes()), Opening::No, "{no}");
        }
    }

    #[test]
    fn who_asks_for_a_session() {
        for (target, want) in [
            ("/socket.io/?EIO=4&transport=polling&t=x", true),
            ("/socket.io/?transport=polling", true),
            ("/socket.io/?EIO=4&transport=polling&sid=a", false),
            ("/socket.io/?EIO=4&transport=websocket", false),
            ("/transport=polling", false),
            ("/", false),
        ] {
            assert_eq!(opens_session(target), want, "{target}");
        }
    }

    #[test]
    fn decoding() {
        for (text, want) in [
            ("abc", "abc"),
            ("a%62c", "abc"),
            ("a+b", "a b"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("%ff", "\u{FFFD}"),
        ] {
            assert_eq!(decode(text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(target in "\\PC*") {
            let _ = session(&target);
            let _ = decode(&target);
            let _ = opens_session(&target);
            let _ = opening(target.as_bytes());
        }

        #[test]
        fn a_sid_is_found_among_others(before in "([a-r]=[a-z%]*&){0,3}", sid in "[A-Za-z0-9_-]{1,30}", after in "(&[t-z]=[a-z%]*){0,3}") {
            let target = format!("/socket.io/?{before}sid={sid}{after}");
            prop_assert_eq!(session(&target), Some(&*sid));
        }
    }
}
