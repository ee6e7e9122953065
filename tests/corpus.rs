//! Frames that real Node workers sent (`fixtures/frames/record.py`), and what Node itself says that they mean.

use appctl::wire::Encoding;
use appctl::wire::adapter::Dialect;
use appctl::wire::channel::{Decoder, Frame};
use appctl::wire::cluster::{AddressType, FromWorker, Query};
use appctl::wire::message::{self, Message};
use appctl::wire::v8;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// What the workers of one Node version wrote in one encoding.
pub(crate) struct Recording {
    pub(crate) major: u32,
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Vec<u8>,
    /// A frame each: its length and meaning.
    pub(crate) expected: Vec<Value>,
}

pub(crate) const MAJORS: [u32; 4] = [18, 20, 22, 24];

pub(crate) fn recording(major: u32, encoding: Encoding) -> Recording {
    let name = if encoding == Encoding::Advanced { "advanced" } else { "json" };
    let file = |suffix| {
        let name = format!("tests/fixtures/frames/node{major}-{name}.{suffix}");
        std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
    };
    let lines = String::from_utf8(file("jsonl")).unwrap();
    let expected = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Recording { major, encoding, bytes: file("bin"), expected }
}

fn recordings() -> impl Iterator<Item = Recording> {
    MAJORS.into_iter().flat_map(|major| [Encoding::Json, Encoding::Advanced].map(|encoding| recording(major, encoding)))
}

impl Recording {
    /// Its frames, when it arrives in pieces of `step` bytes.
    pub(crate) fn frames(&self, step: usize) -> Vec<Frame> {
        let mut decoder = Decoder::new(self.encoding, 1 << 20);
        let mut frames = Vec::new();
        for piece in self.bytes.chunks(step) {
            decoder.buffer().extend_from_slice(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(decoder.pending(), b"");
        frames
    }
}

/// A message in the words of `fixtures/frames/expect.js`.
fn described(message: &Message) -> Value {
    let described = match message {
        Message::Handle => json!({"is": "handle"}),
        Message::Ack => json!({"is": "ack"}),
        Message::Nack => json!({"is": "nack"}),
        Message::SessionOpened(sid) => json!({"is": "opened", "sid": sid}),
        Message::SessionClosed(sid) => json!({"is": "closed", "sid": sid}),
        Message::Ready => json!({"is": "ready"}),
        Message::Axm(_) => json!({"is": "axm"}),
        Message::Other => json!({"is": "other"}),
        Message::Adapter(envelope) => json!({
            "is": "adapter", "type": envelope.kind, "uid": envelope.uid, "nsp": envelope.nsp,
            "dialect": if envelope.dialect == Dialect::Uid { "uid" } else { "workerId" },
            "requester": envelope.requester_uid, "worker": envelope.worker_id,
        }),
        Message::Cluster(FromWorker::Online) => json!({"is": "online"}),
        Message::Cluster(FromWorker::QueryServer { seq, query }) => {
            let mut described = queried("queryServer", query);
            described["seq"] = json!(seq);
            described
        }
        Message::Cluster(FromWorker::Listening(query)) => queried("listening", query),
        Message::Cluster(FromWorker::Close { key }) => json!({"is": "close", "key": key}),
        Message::Cluster(FromWorker::ExitedAfterDisconnect { seq }) => {
            json!({"is": "exitedAfterDisconnect", "seq": seq})
        }
        Message::Cluster(FromWorker::Reply { ack, accepted }) => {
            json!({"is": "reply", "ack": ack, "accepted": accepted})
        }
        Message::Cluster(FromWorker::Unknown) => json!({"is": "unknown"}),
    };
    without_nulls(described)
}

fn queried(is: &str, query: &Query) -> Value {
    let kind = match query.address_type {
        AddressType::Tcp4 => "tcp4",
        AddressType::Tcp6 => "tcp6",
        AddressType::Path => "path",
        AddressType::Descriptor => "fd",
        AddressType::Udp4 => "udp4",
        AddressType::Udp6 => "udp6",
    };
    json!({
        "is": is, "address": query.address, "port": query.port, "type": kind, "fd": query.fd, "index": query.index,
        "keys": query.ticket_keys,
    })
}

fn without_nulls(value: Value) -> Value {
    let Value::Object(members) = value else { return value };
    members.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
}

#[test]
fn every_recorded_frame_means_what_node_says() {
    for recording in recordings() {
        let frames = recording.frames(usize::MAX);
        assert_eq!(frames.len(), recording.expected.len());
        for (place, (frame, expected)) in frames.iter().zip(&recording.expected).enumerate() {
            let mut described = described(&message::read(frame).unwrap());
            described["length"] = frame.bytes.len().into();
            let text = frame.bytes.slice(..frame.bytes.len().min(300)).escape_ascii().to_string();
            let (major, encoding) = (recording.major, recording.encoding);
            assert_eq!(&described, expected, "Node {major} {encoding:?}, frame {place}: {text}");
        }
    }
}

#[test]
fn recordings_hold_every_kind_of_message() {
    for recording in recordings() {
        for is in [
            "online",
            "queryServer",
            "listening",
            "close",
            "exitedAfterDisconnect",
            "reply",
            "handle",
            "ack",
            "nack",
            "opened",
            "closed",
            "adapter",
            "ready",
            "other",
        ] {
            assert!(recording.expected.iter().any(|expected| expected["is"] == is), "{is}");
        }
        for dialect in ["uid", "workerId"] {
            let kinds: std::collections::BTreeSet<_> = recording
                .expected
                .iter()
                .filter(|expected| expected["dialect"] == dialect)
                .filter_map(|expected| expected["type"].as_u64())
                .collect();
            assert!(kinds.is_superset(&(4..=13).collect()), "{dialect}: {kinds:?}");
        }
    }
}

#[test]
fn recordings_split_alike() {
    for recording in recordings() {
        let whole = recording.frames(usize::MAX);
        for step in [1, 2, 7, 4096, 65536] {
            assert_eq!(recording.frames(step), whole, "{step}");
        }
    }
}

#[test]
fn skipping_ends_where_v8_ended_and_nowhere_before() {
    for major in MAJORS {
        for frame in recording(major, Encoding::Advanced).frames(usize::MAX) {
            let payload = &frame.bytes[4..];
            assert_eq!(v8::length(payload), Ok(payload.len()), "{}", payload.escape_ascii());
            if payload.len() < 2000 {
                for end in 0..payload.len() {
                    assert!(v8::length(&payload[..end]).is_err(), "{}", payload[..end].escape_ascii());
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn damaged_frames_never_panic(
        place in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        advanced in any::<bool>(),
    ) {
        let encoding = if advanced { Encoding::Advanced } else { Encoding::Json };
        let frames: Vec<Frame> = recording(20, encoding).frames(usize::MAX);
        let mut bytes = place.get(&frames).bytes.to_vec();
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        let _ = message::read(&Frame { encoding, bytes: bytes.into() });
    }
}
