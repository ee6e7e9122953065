//! A whole value as JSON would have it: for what is small and shown to people.
//!
//! What JSON has no word for becomes the nearest thing: a Map the list of its pairs, a Set a list, bytes a text that says
//! how many they are, an error its name, message and stack.

use super::reader::Reader;
use super::{
    DENSE_ARRAY, DENSE_ARRAY_END, DOUBLE, FALSE, INT32, LATIN1, NULL, OBJECT, OBJECT_END, TRUE, UINT32, UNDEFINED,
    UTF8, UTF16,
};
use crate::wire::message::MessageError;
use crate::wire::value::Text;
use serde_json::{Map, Number, Value, json};

/// Deepest nesting, as serde_json's.
const DEPTH: usize = 127;
/// What one value may grow to, bytes: whatever is referred to several times is written as often.
const MOST: usize = 8 << 20;
/// What a value counts beside its characters.
const VALUE: usize = 32;
/// In the place of something that is within itself.
const CIRCULAR: &str = "[Circular]";

/// Reads a payload (header and value).
pub(in crate::wire) fn json(payload: &[u8]) -> Result<Value, MessageError> {
    let mut tree = Tree { reader: Reader::new(payload)?, objects: Vec::new(), open: Vec::new(), size: 0, again: false };
    tree.value().map(Option::unwrap_or_default)
}

struct Tree<'a> {
    reader: Reader<'a>,
    /// Where each begins, by the number that references name it by.
    objects: Vec<usize>,
    /// Where those begin that are being read.
    open: Vec<usize>,
    size: usize,
    /// What is read has its numbers already.
    again: bool,
}

impl Tree<'_> {
    /// The next value; `None`: undefined.
    fn value(&mut self) -> Result<Option<Value>, MessageError> {
        self.count(VALUE)?;
        self.reader.padding();
        let start = self.reader.at;
        let tag = self.reader.byte()?;
        let value = match tag {
            UNDEFINED => return Ok(None),
            NULL | b'-' => Value::Null,
            TRUE => Value::Bool(true),
            FALSE => Value::Bool(false),
            INT32 => {
                let zigzag = self.reader.int()?;
                ((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()).into()
            }
            UINT32 => self.reader.int()?.into(),
            DOUBLE => number(self.reader.double()?),
            b'Z' => self.bigint()?,
            LATIN1 | UTF16 | UTF8 => Value::String(self.characters(tag)?),
            // An obsolete count of objects.
            b'?' => {
                self.reader.varint()?;
                return self.value();
            }
            b'^' => return self.reference().map(Some),
            _ => {
                self.enter(start)?;
                let value = self.object(tag)?;
                self.open.pop();
                value
            }
        };
        Ok(Some(value))
    }

    /// What references can name; its tag was read.
    fn object(&mut self, tag: u8) -> Result<Value, MessageError> {
        Ok(match tag {
            b'y' => Value::Bool(true),
            b'x' => Value::Bool(false),
            b'n' => number(self.reader.double()?),
            b'z' => self.bigint()?,
            b's' => Value::String(self.string()?),
            b'D' => date(self.reader.double()?),
            b'R' => {
                let source = self.string()?;
                self.reader.varint()?;
                Value::String(format!("/{source}/"))
            }
            OBJECT => Value::Object(self.members(OBJECT_END, 1)?),
            b';' => {
                let mut pairs = Vec::new();
                while !self.closed(b':', 1)? {
                    let key = self.value()?.unwrap_or_default();
                    let value = self.value()?.unwrap_or_default();
                    pairs.push(Value::Array(vec![key, value]));
                }
                Value::Array(pairs)
            }
            b'\'' => {
                let mut values = Vec::new();
                while !self.closed(b',', 1)? {
                    values.push(self.value()?.unwrap_or_default());
                }
                Value::Array(values)
            }
            DENSE_ARRAY => {
                let length = self.reader.varint()?;
                let mut values = Vec::new();
                for _ in 0..length {
                    values.push(self.value()?.unwrap_or_default());
                }
                // Whatever else hangs on it, JSON does not write either.
                self.members(DENSE_ARRAY_END, 2)?;
                Value::Array(values)
            }
            b'a' => {
                self.reader.varint()?;
                Value::Object(self.members(b'@', 2)?)
            }
            b'B' => {
                let bytes = self.reader.sized()?.len();
                self.view()?;
                bytes_of(bytes)
            }
            b'~' => {
                let length = self.reader.varint()?;
                self.reader.varint()?;
                let bytes = self.reader.take(length)?.len();
                self.view()?;
                bytes_of(bytes)
            }
            b'\\' => match self.reader.varint()? {
                0 => {
                    self.reader.varint()?;
                    bytes_of(self.reader.sized()?.len())
                }
                1 => self.value()?.unwrap_or_default(),
                _ => return Err(self.reader.wrong("an unknown host object")),
            },
            b'r' => self.error()?,
            _ => return Err(self.reader.wrong("an unexpected tag")),
        })
    }

    /// Names and values up to the tag `end`, and the numbers behind it.
    fn members(&mut self, end: u8, numbers: usize) -> Result<Map<String, Value>, MessageError> {
        let mut members = Map::new();
        while !self.closed(end, numbers)? {
            let name = match self.value()? {
                Some(Value::String(name)) => name,
                Some(Value::Number(name)) => name.to_string(),
                _ => return Err(self.reader.wrong("a member's name that is none")),
            };
            if let Some(value) = self.value()? {
                members.insert(name, value);
            }
        }
        Ok(members)
    }

    fn closed(&mut self, end: u8, numbers: usize) -> Result<bool, MessageError> {
        self.reader.padding();
        if self.reader.peek() != Some(end) {
            return Ok(false);
        }
        self.reader.at += 1;
        for _ in 0..numbers {
            self.reader.varint()?;
        }
        Ok(true)
    }

    fn error(&mut self) -> Result<Value, MessageError> {
        let (mut name, mut fields) = ("Error", Map::new());
        loop {
            match self.reader.byte()? {
                b'E' => name = "EvalError",
                b'R' => name = "RangeError",
                b'F' => name = "ReferenceError",
                b'S' => name = "SyntaxError",
                b'T' => name = "TypeError",
                b'U' => name = "URIError",
                b'm' => drop(fields.insert("message".into(), self.string()?.into())),
                b's' => drop(fields.insert("stack".into(), self.string()?.into())),
                b'c' => {
                    let cause = self.value()?.unwrap_or_default();
                    fields.insert("cause".into(), cause);
                }
                b'.' => break,
                _ => return Err(self.reader.wrong("an unknown field of an error")),
            }
        }
        fields.insert("name".into(), name.into());
        Ok(Value::Object(fields))
    }

    /// Reads what is referred to once more.
    fn reference(&mut self) -> Result<Value, MessageError> {
        let id = self.reader.varint()?;
        let start = usize::try_from(id).ok().and_then(|id| self.objects.get(id).copied());
        let start = start.ok_or_else(|| self.reader.wrong("a reference to nothing"))?;
        if self.open.contains(&start) {
            return Ok(CIRCULAR.into());
        }
        let (at, again) = (self.reader.at, self.again);
        (self.reader.at, self.again) = (start, true);
        let value = self.value()?.unwrap_or_default();
        (self.reader.at, self.again) = (at, again);
        Ok(value)
    }

    fn enter(&mut self, start: usize) -> Result<(), MessageError> {
        if self.open.len() >= DEPTH {
            return Err(self.reader.wrong("nesting too deep"));
        }
        self.open.push(start);
        if !self.again {
            self.objects.push(start);
        }
        Ok(())
    }

    /// A view right behind its buffer is the value, and has a number of its own.
    fn view(&mut self) -> Result<(), MessageError> {
        let before = self.reader.at;
        self.reader.view()?;
        if self.reader.at != before && !self.again {
            self.objects.push(before);
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, MessageError> {
        let tag = self.reader.tag()?;
        self.characters(tag)
    }

    fn characters(&mut self, tag: u8) -> Result<String, MessageError> {
        let text = self.reader.characters(tag)?;
        let text = match (text.decode(), text) {
            (Some(text), _) => text.into_owned(),
            // Half a surrogate pair.
            (None, Text::Utf16(bytes)) => {
                let units: Vec<u16> = bytes.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
                String::from_utf16_lossy(&units)
            }
            (None, Text::Latin1(bytes) | Text::Utf8(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            (None, Text::Json(text)) => text.to_owned(),
        };
        self.count(text.len())?;
        Ok(text)
    }

    /// What is no number of JSON's is its digits in hexadecimal.
    fn bigint(&mut self) -> Result<Value, MessageError> {
        let bits = self.reader.varint()?;
        let digits = self.reader.take((bits >> 1) & 0x3FFF_FFFF)?;
        let sign = if bits & 1 == 1 { "-" } else { "" };
        let significant = digits.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let digits = &digits[..significant];
        if digits.len() <= 8 {
            let number = digits.iter().rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
            let number = i128::from(number) * if sign.is_empty() { 1 } else { -1 };
            return Ok(Number::from_i128(number).map_or_else(|| Value::String(number.to_string()), Value::Number));
        }
        self.count(digits.len() * 2)?;
        let hexadecimal: String = digits.iter().rev().map(|byte| format!("{byte:02x}")).collect();
        Ok(Value::String(format!("{sign}0x{hexadecimal}")))
    }

    fn count(&mut self, bytes: usize) -> Result<(), MessageError> {
        self.size += bytes;
        if self.size > MOST { Err(self.reader.wrong("too much")) } else { Ok(()) }
    }
}

/// Whole numbers without a fraction, as JSON.stringify writes them; what is none is null.
#[allow(clippy::cast_possible_truncation)]
fn number(number: f64) -> Value {
    const SAFE: f64 = 9_007_199_254_740_991.0;
    if number.fract() == 0.0 && number.abs() <= SAFE {
        return (number as i64).into();
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn bytes_of(length: usize) -> Value {
    json!(format!("[{length} bytes]"))
}

/// Milliseconds since 1970, as `toISOString` writes them.
#[allow(clippy::cast_possible_truncation)]
fn date(milliseconds: f64) -> Value {
    // Four digits of a year.
    if !(-62_167_219_200_000.0..253_402_300_800_000.0).contains(&milliseconds) {
        return Value::Null;
    }
    let milliseconds = milliseconds as i64;
    let (days, rest) = (milliseconds.div_euclid(86_400_000), milliseconds.rem_euclid(86_400_000));
    // Days since 1970 as a date: years begin in March, in eras of 400 years (Hinnant, chrono-compatible date algorithms).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_of_year = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_of_year + 2) / 5 + 1;
    let month = if month_of_year < 10 { month_of_year + 3 } else { month_of_year - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, millisecond) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    json!(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(payload: &[u8]) -> Value {
        json(&[b"\xFF\x0F", payload].concat()).unwrap()
    }

    #[test]
    fn values_as_json_has_them() {
        for (payload, wanted) in [
            (&b"o\"\x01aI\x02\"\x01bT\"\x01c0\"\x01d_{\x04"[..], json!({"a": 1, "b": true, "c": null})),
            (b"A\x03I\x01N\0\0\0\0\0\0\xF8\x3F-$\0\x03", json!([-1, 1.5, null])),
            (b"N\0\0\0\0\0\0\x18\x40", json!(6)),
            (b"N\0\0\0\0\0\0\xF0\x7F", json!(null)),
            (b"a\x05I\x02T@\x01\x05", json!({"1": true})),
            (b";\"\x01aI\x02:\x02", json!([["a", 1]])),
            (b"'I\x02I\x04,\x02", json!([1, 2])),
            (b"\\\x00\x0A\x03hey", json!("[3 bytes]")),
            (b"\\\x01o\"\x01aT{\x01", json!({"a": true})),
            (b"D\0\0\0\0\0\0\0\0", json!("1970-01-01T00:00:00.000Z")),
            (b"Z\x10\x05\0\0\0\0\0\0\0", json!(5)),
            (b"Z\x11\x05\0\0\0\0\0\0\0", json!(-5)),
            (b"Z\x20\x05\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0", json!("0x010000000000000005")),
            (b"rTm\"\x01as\"\x01b.", json!({"name": "TypeError", "message": "a", "stack": "b"})),
            (b"c\x02\x00\xD8", json!("\u{FFFD}")),
            (b"B\x02abV\x42\x00\x02\x00", json!("[2 bytes]")),
        ] {
            assert_eq!(read(payload), wanted, "{}", payload.escape_ascii());
        }
        assert_eq!(date(1_795_274_527_383.0), json!("2026-11-21T15:22:07.383Z"));
        assert_eq!(date(951_827_696_789.0), json!("2000-02-29T12:34:56.789Z"));
        assert_eq!(date(-1.0), json!("1969-12-31T23:59:59.999Z"));
        assert_eq!(date(f64::NAN), Value::Null);
    }

    #[test]
    fn what_is_there_twice_is_written_twice_and_a_circle_ends() {
        // {a: x, b: x} with x = [1]
        let twice = b"o\"\x01aA\x01I\x02$\0\x01\"\x01b^\x01{\x02";
        assert_eq!(read(twice), json!({"a": [1], "b": [1]}));
        // {a: itself}
        assert_eq!(read(b"o\"\x01a^\x00{\x01"), json!({"a": CIRCULAR}));
        assert!(json(b"\xFF\x0F^\x07").is_err());
    }

    #[test]
    fn neither_depth_nor_repetition_costs_much() {
        let nested = |depth: usize| [b"\xFF\x0F".to_vec(), b"'".repeat(depth), b",\x01".repeat(depth)].concat();
        assert!(json(&nested(100)).is_ok());
        assert!(json(&nested(1_000_000)).unwrap_err().0.contains("deep"));
        // Thirty arrays, each of which holds the one before twice.
        let mut bombs = b"\xFF\x0FA\x1EA\0$\0\0".to_vec();
        for before in 1..30u8 {
            bombs.extend_from_slice(&[b'A', 2, b'^', before, b'^', before, b'$', 0, 2]);
        }
        bombs.extend_from_slice(b"$\0\x1E");
        assert!(json(&bombs).unwrap_err().0.contains("too much"));
        assert!(json(b"\xFF\x0FA\xFF\xFF\xFF\xFF\x0F").is_err(), "a length that is only announced");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            bytes in prop::collection::vec(prop::sample::select(&b"o{;:',A$a@-_0TFINZ\"cS^DxynzsRB~V\\rmsc.?\0\x01\x02"[..]), 0..60),
        ) {
            let _ = json(&[b"\xFF\x0F", &*bytes].concat());
        }
    }
}
