//! Frames of Node's IPC channel (lib/internal/child_process/serialization.js).

use super::Encoding;
use bytes::{Bytes, BytesMut};

/// One whole frame exactly as it stands on the wire: prefix or newline included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub encoding: Encoding,
    pub bytes: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong { length: usize, limit: usize },
}

/// Cuts a stream into frames. Any split of the input gives the same frames.
#[derive(Debug)]
pub struct Decoder {
    pub encoding: Encoding,
    pub limit: usize,
    buffer: BytesMut,
}

impl Decoder {
    /// `limit`: longest frame, bytes.
    pub fn new(encoding: Encoding, limit: usize) -> Self {
        Self { encoding, limit, buffer: BytesMut::new() }
    }

    /// Where the caller appends what it read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame, or `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        todo!()
    }
}
