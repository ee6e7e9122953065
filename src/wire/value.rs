//! One value of a message, in whichever encoding: what it is, and its bytes for whoever wants more.
//!
//! Nothing is decoded before somebody asks for it, so a message's payload costs one look at each of its bytes.

use super::message::MessageError;
use super::{json, v8};
use std::borrow::Cow;

/// A value as far as [`super::message`] needs to tell values apart.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Value<'a> {
    /// Not there, or JavaScript's `undefined`.
    #[default]
    Missing,
    Null,
    Boolean(bool),
    Number(f64),
    Text(Text<'a>),
    /// A plain object.
    Object(Object<'a>),
    /// An array, a Date, a Buffer, …
    Other,
}

/// A string not decoded yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Text<'a> {
    /// With its quotes, escapes as they stand.
    Json(&'a str),
    Latin1(&'a [u8]),
    Utf16(&'a [u8]),
    Utf8(&'a [u8]),
}

/// A plain object not looked into yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Object<'a> {
    /// From its brace on.
    Json(&'a [u8]),
    /// From its tag on.
    V8(v8::Span<'a>),
}

impl<'a> Object<'a> {
    /// The members called `names`, in that order; of members with the same name the last. Reads the object to its end.
    pub(super) fn members<const N: usize>(self, names: &[&str; N]) -> Result<[Value<'a>; N], MessageError> {
        match self {
            Self::Json(text) => json::members(text, names),
            Self::V8(span) => v8::members(span, names),
        }
    }
}

impl<'a> Text<'a> {
    /// `None` for what is no Unicode (JavaScript's strings may hold half a surrogate pair).
    pub(super) fn decode(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(quoted) => json::unquote(quoted),
            Self::Latin1(bytes) if bytes.is_ascii() => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Self::Latin1(bytes) => Some(Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect())),
            Self::Utf16(bytes) => {
                let units = bytes.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair));
                char::decode_utf16(units).collect::<Result<String, _>>().ok().map(Cow::Owned)
            }
            Self::Utf8(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        }
    }

    pub(super) fn is(self, word: &str) -> bool {
        // No encoding of a character is longer than JSON's six bytes: do not decode a long string to see it differs.
        let length = match self {
            Self::Json(text) => text.len(),
            Self::Latin1(bytes) | Self::Utf16(bytes) | Self::Utf8(bytes) => bytes.len(),
        };
        length <= 2 + 6 * word.len() && self.decode().is_some_and(|text| text == word)
    }
}

impl<'a> Value<'a> {
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        if let Self::Text(text) = self { text.decode() } else { None }
    }

    pub(super) fn string(self) -> Option<String> {
        self.text().map(Cow::into_owned)
    }

    pub(super) fn is(self, word: &str) -> bool {
        matches!(self, Self::Text(text) if text.is(word))
    }

    /// Of a number without a fraction that a double holds exactly (JavaScript's safe integers).
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn integer(self) -> Option<i64> {
        const SAFE: f64 = 9_007_199_254_740_991.0;
        match self {
            Self::Number(number) if number.abs() <= SAFE && number.fract() == 0.0 => Some(number as i64),
            _ => None,
        }
    }

    pub(super) fn unsigned(self) -> Option<u64> {
        self.integer().and_then(|number| u64::try_from(number).ok())
    }

    pub(super) fn boolean(self) -> Option<bool> {
        if let Self::Boolean(boolean) = self { Some(boolean) } else { None }
    }

    /// Neither a value nor `null`.
    pub(super) fn is_none(self) -> bool {
        matches!(self, Self::Missing | Self::Null)
    }
}
