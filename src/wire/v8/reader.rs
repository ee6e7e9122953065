//! Skipping through a value.

use super::{
    DOUBLE, FALSE, INT32, LATIN1, NULL, OBJECT, OBJECT_END, PADDING, READ, TRUE, UINT32, UNDEFINED, UTF8, UTF16,
    VERSION_TAG,
};
use crate::wire::message::MessageError;
use crate::wire::value::{Object, Text, Value};

/// Deepest nesting. V8's own serializer recurses and gives up earlier; it costs us a byte a level.
const DEPTH: usize = 1 << 16;

const ERROR: u8 = b'r';
const ERROR_END: u8 = b'.';
const ARRAY_BUFFER_VIEW: u8 = b'V';
/// An obsolete count of objects before a value.
const COUNT: u8 = b'?';
const HOST_OBJECT: u8 = b'\\';
/// Node's kinds of host objects: the bytes of a Buffer, typed array or DataView, and a native object's properties.
const HOST_VIEW: u64 = 0;
const HOST_PROPERTIES: u64 = 1;
/// Views carry flags from this version on.
const VIEW_FLAGS: u64 = 14;

/// A value's bytes, from its tag on, and the version that they are to be read with.
#[derive(Debug, Clone, Copy)]
pub(in crate::wire) struct Span<'a> {
    bytes: &'a [u8],
    version: u64,
}

/// How many bytes the header and the value at the front of `payload` take.
pub fn length(payload: &[u8]) -> Result<usize, MessageError> {
    let mut reader = Reader::new(payload)?;
    reader.skip()?;
    Ok(reader.at)
}

/// What stands in a payload (header and value). A plain object is not looked into: its errors come with [`members`].
/// Bytes after the value are ignored, as Node does.
pub(in crate::wire) fn value(payload: &[u8]) -> Result<Value<'_>, MessageError> {
    let mut reader = Reader::new(payload)?;
    reader.padding();
    if reader.peek() == Some(OBJECT) {
        let bytes = payload.get(reader.at..).unwrap_or_default();
        return Ok(Value::Object(Object::V8(Span { bytes, version: reader.version })));
    }
    reader.value()
}

pub(in crate::wire) fn members<'a, const N: usize>(
    span: Span<'a>,
    names: &[&str; N],
) -> Result<[Value<'a>; N], MessageError> {
    let mut found = [Value::Missing; N];
    let mut reader = Reader { input: span.bytes, at: 0, version: span.version };
    if reader.tag()? != OBJECT {
        return Err(reader.wrong("no object"));
    }
    let mut count = 0u64;
    loop {
        reader.padding();
        if reader.peek() == Some(OBJECT_END) {
            reader.at += 1;
            return if reader.varint()? == count { Ok(found) } else { Err(reader.wrong("a wrong count of members")) };
        }
        let place = match reader.value()? {
            Value::Text(name) => names.iter().position(|wanted| name.is(wanted)),
            Value::Number(_) => None,
            _ => return Err(reader.wrong("a member's name that is none")),
        };
        match place.and_then(|place| found.get_mut(place)) {
            Some(wanted) => *wanted = reader.value()?,
            None => reader.skip()?,
        }
        count += 1;
    }
}

pub(super) struct Reader<'a> {
    input: &'a [u8],
    pub(super) at: usize,
    version: u64,
}

impl<'a> Reader<'a> {
    /// Past the header.
    pub(super) fn new(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader { input: payload, at: 0, version: 0 };
        if reader.byte()? != VERSION_TAG {
            return Err(MessageError("no V8 header".to_owned()));
        }
        reader.version = reader.varint()?;
        if !READ.contains(&reader.version) {
            return Err(MessageError(format!("V8 format version {}", reader.version)));
        }
        Ok(reader)
    }

    pub(super) fn wrong(&self, what: &str) -> MessageError {
        MessageError(format!("{what} before byte {} of V8 data", self.at))
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    pub(super) fn byte(&mut self) -> Result<u8, MessageError> {
        let byte = self.peek().ok_or_else(|| self.wrong("an end"))?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn padding(&mut self) {
        while self.peek() == Some(PADDING) {
            self.at += 1;
        }
    }

    pub(super) fn tag(&mut self) -> Result<u8, MessageError> {
        self.padding();
        self.byte()
    }

    pub(super) fn varint(&mut self) -> Result<u64, MessageError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.wrong("a number too long"))
    }

    pub(super) fn take(&mut self, length: u64) -> Result<&'a [u8], MessageError> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let bytes =
            end.and_then(|end| self.input.get(self.at..end)).ok_or_else(|| self.wrong("a length past the end"))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    pub(super) fn sized(&mut self) -> Result<&'a [u8], MessageError> {
        let length = self.varint()?;
        self.take(length)
    }

    pub(super) fn double(&mut self) -> Result<f64, MessageError> {
        let bytes = self.take(8)?;
        Ok(bytes.first_chunk().map_or(f64::NAN, |bytes| f64::from_le_bytes(*bytes)))
    }

    /// Whole digits after a bit field of sign and length.
    fn bigint(&mut self) -> Result<(), MessageError> {
        let length = (self.varint()? >> 1) & 0x3FFF_FFFF;
        self.take(length).map(|_| ())
    }

    /// The rest of a string whose tag was read.
    pub(super) fn characters(&mut self, tag: u8) -> Result<Text<'a>, MessageError> {
        let bytes = self.sized()?;
        match tag {
            LATIN1 => Ok(Text::Latin1(bytes)),
            UTF8 => Ok(Text::Utf8(bytes)),
            UTF16 if bytes.len().is_multiple_of(2) => Ok(Text::Utf16(bytes)),
            UTF16 => Err(self.wrong("half a character")),
            _ => Err(self.wrong("no string")),
        }
    }

    fn string(&mut self) -> Result<Text<'a>, MessageError> {
        let tag = self.tag()?;
        if !matches!(tag, LATIN1 | UTF16 | UTF8) {
            return Err(self.wrong("no string"));
        }
        self.characters(tag)
    }

    /// The next value; objects and everything odd are skipped.
    fn value(&mut self) -> Result<Value<'a>, MessageError> {
        self.padding();
        let start = self.at;
        let scalar = match self.peek() {
            Some(tag @ (LATIN1 | UTF16 | UTF8)) => {
                self.at += 1;
                Value::Text(self.characters(tag)?)
            }
            Some(INT32) => {
                self.at += 1;
                let zigzag = self.int()?;
                Value::Number(f64::from((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()))
            }
            Some(UINT32) => {
                self.at += 1;
                Value::Number(f64::from(self.int()?))
            }
            Some(DOUBLE) => {
                self.at += 1;
                Value::Number(self.double()?)
            }
            Some(tag @ (UNDEFINED | NULL | TRUE | FALSE)) => {
                self.at += 1;
                match tag {
                    TRUE => Value::Boolean(true),
                    FALSE => Value::Boolean(false),
                    NULL => Value::Null,
                    _ => Value::Missing,
                }
            }
            tag => {
                self.skip()?;
                let bytes = self.input.get(start..self.at).unwrap_or_default();
                match tag {
                    Some(OBJECT) => Value::Object(Object::V8(Span { bytes, version: self.version })),
                    _ => Value::Other,
                }
            }
        };
        Ok(scalar)
    }

    /// 32 bits; V8 drops what is over.
    pub(super) fn int(&mut self) -> Result<u32, MessageError> {
        let number = self.varint()?;
        u32::try_from(number).map_err(|_| self.wrong("a number too long"))
    }

    /// Past the next value, with all that is in it.
    fn skip(&mut self) -> Result<(), MessageError> {
        let mut open: Vec<u8> = Vec::new();
        let mut begun = false;
        loop {
            if !begun && open.last() == Some(&ERROR) && !self.error_field(&mut open)? {
                if open.is_empty() {
                    return Ok(());
                }
                continue;
            }
            let tag = self.tag()?;
            begun = matches!(tag, HOST_OBJECT | COUNT);
            match tag {
                UNDEFINED | NULL | TRUE | FALSE | b'x' | b'y' => {}
                // A hole stands for an element, so only in a dense array.
                b'-' if open.last() == Some(&b'$') => {}
                INT32 | UINT32 => drop(self.varint()?),
                DOUBLE | b'D' | b'n' => drop(self.take(8)?),
                b'Z' | b'z' => self.bigint()?,
                LATIN1 | UTF16 | UTF8 => drop(self.characters(tag)?),
                b's' => drop(self.string()?),
                b'R' => {
                    self.string()?;
                    self.varint()?;
                }
                b'^' => {
                    self.varint()?;
                    self.view()?;
                }
                b'B' => {
                    self.sized()?;
                    self.view()?;
                }
                b'~' => {
                    let length = self.varint()?;
                    self.varint()?;
                    self.take(length)?;
                    self.view()?;
                }
                HOST_OBJECT => match self.varint()? {
                    HOST_VIEW => {
                        self.varint()?;
                        self.sized()?;
                        begun = false;
                    }
                    // The properties are a value, and stand for the whole.
                    HOST_PROPERTIES => continue,
                    _ => return Err(self.wrong("an unknown host object")),
                },
                COUNT => {
                    self.varint()?;
                    continue;
                }
                OBJECT => self.enter(&mut open, OBJECT_END)?,
                b';' => self.enter(&mut open, b':')?,
                b'\'' => self.enter(&mut open, b',')?,
                b'A' | b'a' => {
                    self.varint()?;
                    self.enter(&mut open, if tag == b'A' { b'$' } else { b'@' })?;
                }
                ERROR => self.enter(&mut open, ERROR)?,
                OBJECT_END | b':' | b',' | b'$' | b'@' if open.last() == Some(&tag) => {
                    open.pop();
                    self.varint()?;
                    if matches!(tag, b'$' | b'@') {
                        self.varint()?;
                    }
                }
                _ => return Err(self.wrong("an unexpected tag")),
            }
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    /// `open` holds, for every container, the tag that closes it (for an error its own).
    fn enter(&self, open: &mut Vec<u8>, end: u8) -> Result<(), MessageError> {
        if open.len() >= DEPTH {
            return Err(self.wrong("nesting too deep"));
        }
        open.push(end);
        Ok(())
    }

    /// Within an error, whose fields come in different orders from different versions: true when a value follows.
    fn error_field(&mut self, open: &mut Vec<u8>) -> Result<bool, MessageError> {
        match self.byte()? {
            b'E' | b'R' | b'F' | b'S' | b'T' | b'U' => Ok(false),
            b'm' | b's' => {
                self.string()?;
                Ok(false)
            }
            b'c' => Ok(true),
            ERROR_END => {
                open.pop();
                Ok(false)
            }
            _ => Err(self.wrong("an unknown field of an error")),
        }
    }

    /// A view may follow its buffer at once: what it sees of it.
    pub(super) fn view(&mut self) -> Result<(), MessageError> {
        let start = self.at;
        self.padding();
        if self.peek() != Some(ARRAY_BUFFER_VIEW) {
            self.at = start;
            return Ok(());
        }
        self.at += 1;
        for _ in 0..if self.version >= VIEW_FLAGS { 4 } else { 3 } {
            self.varint()?;
        }
        Ok(())
    }
}
