//! Frames of Node's IPC channel (lib/internal/child_process/serialization.js).

use super::Encoding;
use bytes::{Bytes, BytesMut};

/// One whole frame exactly as it stands on the wire: prefix or newline included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub encoding: Encoding,
    pub bytes: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// `length` is what is certain so far: a line is given up at the first byte that is too much.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong { length: usize, limit: usize },
}

/// Bytes before the payload of an [`Encoding::Advanced`] frame: its length, big-endian, not counting themselves.
pub const PREFIX: usize = 4;

/// Finds where the frame at the front of a buffer ends.
#[derive(Debug, Clone)]
pub struct Cutter {
    pub encoding: Encoding,
    /// Longest frame, bytes.
    pub limit: usize,
    /// How much of the front is known to hold no end of a line.
    scanned: usize,
}

impl Cutter {
    pub fn new(encoding: Encoding, limit: usize) -> Self {
        Self { encoding, limit, scanned: 0 }
    }

    /// Length of the frame at the front of `buffer`, prefix or newline included; `None` when more bytes are needed.
    ///
    /// Between two calls the buffer may only grow; a frame that was found is taken away before the next call.
    pub fn length(&mut self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        let length = match self.encoding {
            Encoding::Json | Encoding::Bun => self.line(buffer)?,
            Encoding::Advanced => self.prefixed(buffer)?,
        };
        if length.is_some() {
            self.scanned = 0;
        }
        Ok(length)
    }

    /// Length of the line at the front, newline included.
    fn line(&mut self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        let within = buffer.len().min(self.limit);
        let from = self.scanned.min(within);
        if let Some(offset) = memchr::memchr(b'\n', &buffer[from..within]) {
            return Ok(Some(from + offset + 1));
        }
        self.scanned = within;
        if buffer.len() > self.limit {
            return Err(FrameError::TooLong { length: self.limit.saturating_add(1), limit: self.limit });
        }
        Ok(None)
    }

    fn prefixed(&self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX).saturating_add(PREFIX);
        if length > self.limit {
            return Err(FrameError::TooLong { length, limit: self.limit });
        }
        Ok((buffer.len() >= length).then_some(length))
    }
}

/// Cuts a stream into frames. Any split of the input gives the same frames.
#[derive(Debug)]
pub struct Decoder {
    cutter: Cutter,
    buffer: BytesMut,
}

impl Decoder {
    /// `limit`: longest frame, bytes.
    pub fn new(encoding: Encoding, limit: usize) -> Self {
        Self { cutter: Cutter::new(encoding, limit), buffer: BytesMut::new() }
    }

    pub fn encoding(&self) -> Encoding {
        self.cutter.encoding
    }

    /// Where the caller appends what it read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Bytes that came and belong to no whole frame yet (and to whole frames not taken yet).
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// The next whole frame, or `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(length) = self.cutter.length(&self.buffer)? else { return Ok(None) };
        Ok(Some(Frame { encoding: self.cutter.encoding, bytes: self.buffer.split_to(length).freeze() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All frames of `input` fed in pieces that end at `cuts`, and the error if there was one.
    fn frames(encoding: Encoding, limit: usize, input: &[u8], cuts: &[usize]) -> (Vec<Bytes>, Option<FrameError>) {
        let mut decoder = Decoder::new(encoding, limit);
        let mut got = Vec::new();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        cuts.push(input.len());
        cuts.sort_unstable();
        let mut from = 0;
        for to in cuts {
            decoder.buffer().extend_from_slice(&input[from..to]);
            from = to;
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => got.push(frame.bytes),
                    Ok(None) => break,
                    Err(error) => return (got, Some(error)),
                }
            }
        }
        (got, None)
    }

    #[test]
    fn lines() {
        let (got, error) = frames(Encoding::Json, 100, b"{}\n\"a\"\n\n12", &[]);
        assert_eq!(got, [&b"{}\n"[..], b"\"a\"\n", b"\n"]);
        assert_eq!(error, None);
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        assert_eq!(frames(Encoding::Json, 3, b"12\n345", &[]).0, [&b"12\n"[..]]);
        let (got, error) = frames(Encoding::Bun, 3, b"12\n345\n", &[]);
        assert_eq!(got, [&b"12\n"[..]]);
        assert_eq!(error, Some(FrameError::TooLong { length: 4, limit: 3 }));
    }

    #[test]
    fn prefixed_frames_and_their_limit() {
        let (got, error) = frames(Encoding::Advanced, 7, b"\0\0\0\x01a\0\0\0\0\0\0\0\x03abc\0\0\0\x04abcd", &[]);
        assert_eq!(got, [&b"\0\0\0\x01a"[..], b"\0\0\0\0", b"\0\0\0\x03abc"]);
        assert_eq!(error, Some(FrameError::TooLong { length: 8, limit: 7 }));
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut decoder = Decoder::new(Encoding::Advanced, usize::MAX);
        decoder.buffer().extend_from_slice(&[0xFF; 8]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.buffer().capacity() < 1024);
    }

    #[test]
    fn a_frame_is_not_copied() {
        let mut decoder = Decoder::new(Encoding::Json, 100);
        decoder.buffer().extend_from_slice(b"[1]\n[2]\n");
        let place = decoder.pending().as_ptr();
        assert_eq!(decoder.next_frame().unwrap().unwrap().bytes.as_ptr(), place);
    }

    fn encoding() -> impl Strategy<Value = Encoding> {
        prop_oneof![Just(Encoding::Json), Just(Encoding::Advanced), Just(Encoding::Bun)]
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            encoding in encoding(),
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let mut input = Vec::new();
            let mut want = Vec::new();
            for mut payload in payloads {
                let mut frame = Vec::new();
                if encoding == Encoding::Advanced {
                    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
                    frame.append(&mut payload);
                } else {
                    payload.retain(|byte| *byte != b'\n');
                    frame.append(&mut payload);
                    frame.push(b'\n');
                }
                input.extend_from_slice(&frame);
                want.push(frame);
            }
            let (got, error) = frames(encoding, 1000, &input, &cuts);
            prop_assert_eq!(got, want);
            prop_assert_eq!(error, None);
        }

        #[test]
        fn garbage_splits_alike_and_stays_within_the_limit(
            encoding in encoding(),
            input in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(b'\n'), any::<u8>()], 0..200),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
            limit in 0usize..64,
        ) {
            let whole = frames(encoding, limit, &input, &[]);
            prop_assert!(whole.0.iter().all(|frame| frame.len() <= limit));
            let joined: Vec<u8> = whole.0.concat();
            prop_assert!(input.starts_with(&joined));
            prop_assert_eq!(frames(encoding, limit, &input, &cuts), whole);
        }
    }
}
