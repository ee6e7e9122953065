//! Plain objects, strings and numbers as V8 writes them.

use super::{
    DENSE_ARRAY, DENSE_ARRAY_END, DOUBLE, FALSE, INT32, LATIN1, NULL, OBJECT, OBJECT_END, TRUE, UNDEFINED, UTF16,
    VERSION_TAG, WRITTEN,
};

/// One value after a header. The caller keeps the order: name, value, name, value, end.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Appends to `out`, beginning with the header.
    pub fn new(mut out: Vec<u8>) -> Self {
        out.extend_from_slice(&[VERSION_TAG, WRITTEN]);
        Self { out }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub fn object(&mut self) {
        self.out.push(OBJECT);
    }

    /// `members`: how many were written since the matching [`Self::object`]. Readers check it.
    pub fn end(&mut self, members: usize) {
        self.out.push(OBJECT_END);
        self.varint(members as u64);
    }

    /// An array without elements.
    pub fn empty_list(&mut self) {
        self.out.extend_from_slice(&[DENSE_ARRAY, 0, DENSE_ARRAY_END, 0, 0]);
    }

    /// A string or a member's name.
    pub fn text(&mut self, text: &str) {
        // Of UTF-8, only U+0000 to U+00FF fit one byte a character.
        if text.chars().all(|character| u32::from(character) <= 0xFF) {
            self.out.push(LATIN1);
            self.varint(text.chars().count() as u64);
            self.out.extend(text.chars().filter_map(|character| u8::try_from(u32::from(character)).ok()));
        } else {
            // V8 aligns these to two bytes with a padding byte; no reader needs it.
            self.out.push(UTF16);
            self.varint(text.encode_utf16().count() as u64 * 2);
            self.out.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        }
    }

    /// As V8 does: an int32, or else a double.
    #[allow(clippy::cast_precision_loss)]
    pub fn integer(&mut self, number: i64) {
        if let Ok(number) = i32::try_from(number) {
            self.out.push(INT32);
            self.varint(u64::from((number.cast_unsigned() << 1) ^ (number >> 31).cast_unsigned()));
        } else {
            self.double(number as f64);
        }
    }

    pub fn double(&mut self, number: f64) {
        self.out.push(DOUBLE);
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    pub fn boolean(&mut self, boolean: bool) {
        self.out.push(if boolean { TRUE } else { FALSE });
    }

    pub fn null(&mut self) {
        self.out.push(NULL);
    }

    pub fn undefined(&mut self) {
        self.out.push(UNDEFINED);
    }

    #[allow(clippy::cast_possible_truncation)]
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }
}
