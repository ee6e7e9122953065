//! The V8 ValueSerializer encoding (v8/src/objects/value-serializer.cc) with Node's host objects
//! (lib/internal/child_process/serialization.js), versions 13 to 16.
//!
//! [`Writer`] writes what we send. The reader, [`value`] and [`members`], looks for members of an object and skips all
//! else: every leaf tells its length with its first bytes, and a container is closed by a tag that begins no value, so a
//! list of open containers is all that skipping needs. [`json`] reads a whole value.

mod reader;
mod tree;
mod writer;

pub use reader::length;
pub(super) use reader::{Span, members, value};
pub(super) use tree::json;
pub use writer::Writer;

/// Begins every payload, before its version.
const VERSION_TAG: u8 = 0xFF;
/// What we write, and what Node 18 to 26 writes.
const WRITTEN: u8 = 15;
/// Oldest and newest that we read.
const READ: std::ops::RangeInclusive<u64> = 13..=16;

const PADDING: u8 = 0x00;
const OBJECT: u8 = b'o';
const OBJECT_END: u8 = b'{';
const DENSE_ARRAY: u8 = b'A';
const DENSE_ARRAY_END: u8 = b'$';
const LATIN1: u8 = b'"';
const UTF16: u8 = b'c';
const UTF8: u8 = b'S';
const INT32: u8 = b'I';
const UINT32: u8 = b'U';
const DOUBLE: u8 = b'N';
const UNDEFINED: u8 = b'_';
const NULL: u8 = b'0';
const TRUE: u8 = b'T';
const FALSE: u8 = b'F';
