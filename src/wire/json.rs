//! The JSON encoding: members of an object without decoding the others.
//!
//! What is not asked for goes through serde_json's `ignore_value`, which keeps open brackets in a list of its own: depth
//! costs a byte a level, never stack.

use super::message::MessageError;
use super::value::{Object, Text, Value};
use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// What stands in a line. An object is not looked into: its errors come with [`members`].
pub(super) fn value(line: &[u8]) -> Result<Value<'_>, MessageError> {
    let start = line.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(line.len());
    let line = &line[start..];
    match line.first() {
        Some(b'{') => Ok(Value::Object(Object::Json(line))),
        Some(b'"') => Ok(of_raw(serde_json::from_slice(line)?)),
        _ => {
            serde_json::from_slice::<IgnoredAny>(line)?;
            Ok(Value::Other)
        }
    }
}

/// A whole line.
pub(super) fn whole(line: &[u8]) -> Result<serde_json::Value, MessageError> {
    Ok(serde_json::from_slice(line)?)
}

pub(super) fn members<'a, const N: usize>(text: &'a [u8], names: &[&str; N]) -> Result<[Value<'a>; N], MessageError> {
    let mut reader = Deserializer::from_slice(text);
    let found = reader.deserialize_map(Members { names })?;
    reader.end()?;
    Ok(found)
}

/// The characters of a string that still has its quotes.
pub(super) fn unquote(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(quoted).ok().map(Cow::Owned)
}

impl From<serde_json::Error> for MessageError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

fn of_raw(raw: &RawValue) -> Value<'_> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => Value::Text(Text::Json(text)),
        Some(b'{') => Value::Object(Object::Json(text.as_bytes())),
        Some(b'n') => Value::Null,
        Some(b't') => Value::Boolean(true),
        Some(b'f') => Value::Boolean(false),
        Some(b'-' | b'0'..=b'9') => text.parse().map_or(Value::Other, Value::Number),
        _ => Value::Other,
    }
}

struct Members<'n, const N: usize> {
    names: &'n [&'n str; N],
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Value<'de>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [Value::Missing; N];
        while let Some(place) = map.next_key_seed(Name { names: self.names })? {
            match place.and_then(|place| found.get_mut(place)) {
                Some(value) => *value = of_raw(map.next_value::<&RawValue>()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads a member's name and gives its place among the wanted ones. As bytes: JSON.stringify writes half surrogate
/// pairs as escapes, which are no `str`.
struct Name<'n> {
    names: &'n [&'n str],
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(self.names.iter().position(|name| name.as_bytes() == bytes))
    }
}
