//! What Engine.IO puts into a request (engine.io protocol v4, and v3 with allowEIO3).

use std::borrow::Cow;

/// The `sid` of a request target's query as it stands there; `None` when absent or empty.
///
/// As the server reads it (engine.io 6.6: `Object.fromEntries(new URL(…).searchParams)`): names may be percent-encoded,
/// of several the last counts, a fragment is no part of it. Engine.IO's own ids need no decoding; for an app that makes
/// its ids itself (`generateId`) see [`decode`].
pub fn session(target: &str) -> Option<&str> {
    let target = target.split_once('#').map_or(target, |(target, _fragment)| target);
    let (_path, query) = target.split_once('?')?;
    query
        .split('&')
        .filter_map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (decode(name) == "sid").then_some(value)
        })
        .next_back()
        .filter(|value| !value.is_empty())
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
        }

        #[test]
        fn a_sid_is_found_among_others(before in "([a-r]=[a-z%]*&){0,3}", sid in "[A-Za-z0-9_-]{1,30}", after in "(&[t-z]=[a-z%]*){0,3}") {
            let target = format!("/socket.io/?{before}sid={sid}{after}");
            prop_assert_eq!(session(&target), Some(&*sid));
        }
    }
}
