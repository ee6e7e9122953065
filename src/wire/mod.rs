//! Bytes and their meaning (pure, sans-IO).
//!
//! [`channel`] cuts a byte stream into frames, [`json`] and [`v8`] read and write the two encodings of a frame,
//! [`message`] says what a worker's frame means, [`cluster`], [`adapter`] and [`axm`] are the vocabularies, [`head`] is an HTTP
//! request head, [`engine`] what Engine.IO puts into it, [`sticky`] and [`cookie`] what says which worker a request belongs
//! to, [`strict`] holds a connection's requests against the standard, [`plain`] are those that need nothing but to be passed on and
//! [`answer`] what comes back, [`forward`] says which header fields go on,
//! [`proxy_protocol`] is what a TCP proxy puts before a connection, [`certificate`] what a certificate says of itself, and
//! [`hello`] how a worker and the router meet.

pub mod access;
pub mod adapter;
pub mod answer;
pub mod axm;
pub mod certificate;
pub mod channel;
pub mod cluster;
pub mod cookie;
pub mod engine;
pub mod forward;
pub mod head;
pub mod hello;
pub mod json;
pub mod message;
pub mod plain;
pub mod proxy_protocol;
pub mod shape;
pub mod sticky;
pub mod strict;
pub mod v8;
mod value;

/// How frames are written on one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One JSON text and a newline.
    Json,
    /// Big-endian length and V8 ValueSerializer data.
    Advanced,
    /// As [`Encoding::Json`], with a byte 02 before NODE_CLUSTER messages (Bun).
    Bun,
}
