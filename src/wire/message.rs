//! What a frame from a worker means to us.

use super::adapter::{self, Envelope};
use super::axm;
use super::channel::{Frame, PREFIX};
use super::cluster::{self, FromWorker};
use super::value::{Object, Value};
use super::{Encoding, json, v8};

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// NODE_HANDLE: the worker sent us a handle; it waits for our NODE_HANDLE_ACK.
    Handle,
    /// NODE_HANDLE_ACK
    Ack,
    /// NODE_HANDLE_NACK
    Nack,
    /// NODE_CLUSTER
    Cluster(FromWorker),
    /// `{type:'sticky:connection', data: sid}`
    SessionOpened(String),
    /// `{type:'sticky:disconnection', data: sid}`
    SessionClosed(String),
    /// `source:'_sio_adapter'`
    Adapter(Envelope),
    /// The string `ready` (PM2's `wait_ready`).
    Ready,
    /// What packages such as @pm2/io say; [`axm`] reads the rest of it.
    Axm(axm::Kind),
    /// Anything else that an app may send to its parent, and internal messages that Node's primary ignores.
    Other,
}

/// A frame that is not in its channel's encoding. No worker's `process.send` can make one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a message: {0}")]
pub struct MessageError(pub String);

/// Bun puts this before its NODE_CLUSTER messages.
const BUN_INTERNAL: u8 = 0x02;
/// A `cmd` that is longer than this and begins with it makes a message Node's own
/// (lib/internal/child_process.js, `isInternal`).
const INTERNAL: &str = "NODE_";

/// Reads the fields of interest, skipping all else without decoding it.
pub fn read(frame: &Frame) -> Result<Message, MessageError> {
    let value = match frame.encoding {
        Encoding::Json => json::value(&frame.bytes)?,
        Encoding::Bun => json::value(frame.bytes.strip_prefix(&[BUN_INTERNAL]).unwrap_or(&frame.bytes))?,
        Encoding::Advanced => v8::value(frame.bytes.get(PREFIX..).unwrap_or_default())?,
    };
    match value {
        Value::Object(object) => of_object(object),
        Value::Text(text) if text.is("ready") => Ok(Message::Ready),
        _ => Ok(Message::Other),
    }
}

fn of_object(object: Object<'_>) -> Result<Message, MessageError> {
    // All that any kind of message needs, so that a big one is looked through once.
    let [cmd, kind, data, source, uid, nsp, requester] =
        object.members(&["cmd", "type", "data", "source", "uid", "nsp", "requesterUid"])?;
    if let Some(cmd) = cmd.text()
        && cmd.len() > INTERNAL.len()
        && cmd.starts_with(INTERNAL)
    {
        return Ok(match &*cmd {
            "NODE_CLUSTER" => Message::Cluster(cluster::from_worker(object)?),
            "NODE_HANDLE" => Message::Handle,
            "NODE_HANDLE_ACK" => Message::Ack,
            "NODE_HANDLE_NACK" => Message::Nack,
            _ => Message::Other,
        });
    }
    let read = if source.is(adapter::SOURCE) {
        adapter::envelope(kind, data, uid, nsp, requester)?.map(Message::Adapter)
    } else if kind.is("sticky:connection") {
        data.string().map(Message::SessionOpened)
    } else if kind.is("sticky:disconnection") {
        data.string().map(Message::SessionClosed)
    } else {
        axm::kind(kind).map(Message::Axm)
    };
    Ok(read.unwrap_or(Message::Other))
}

#[cfg(test)]
mod tests {
    use super::super::adapter::Dialect;
    use super::super::cluster::{AddressType, Query, Sockname, ToWorker, encode};
    use super::*;
    use proptest::prelude::*;

    fn line(text: impl AsRef<[u8]>) -> Result<Message, MessageError> {
        let bytes = [text.as_ref(), b"\n"].concat();
        read(&Frame { encoding: Encoding::Json, bytes: bytes.into() })
    }

    fn advanced(payload: &[u8]) -> Result<Message, MessageError> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        read(&Frame { encoding: Encoding::Advanced, bytes: [&length, payload].concat().into() })
    }

    #[test]
    fn what_nodes_own_messages_mean() {
        for (text, want) in [
            (r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"cmd":"x"}}"#, Message::Handle),
            (r#"{"cmd":"NODE_HANDLE_ACK"}"#, Message::Ack),
            (r#" { "type" : 1 , "cmd" : "NODE\u005fHANDLE_NACK" } "#, Message::Nack),
            (r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#, Message::Cluster(FromWorker::Online)),
            (
                r#"{"cmd":"NODE_CLUSTER","act":"close","key":"k","seq":3}"#,
                Message::Cluster(FromWorker::Close { key: "k".into() }),
            ),
            (
                r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":3}"#,
                Message::Cluster(FromWorker::ExitedAfterDisconnect { seq: 3 }),
            ),
            (
                r#"{"cmd":"NODE_CLUSTER","ack":7,"accepted":false,"seq":4}"#,
                Message::Cluster(FromWorker::Reply { ack: 7, accepted: Some(false) }),
            ),
            (r#"{"cmd":"NODE_CLUSTER","ack":7}"#, Message::Cluster(FromWorker::Reply { ack: 7, accepted: None })),
            (r#"{"cmd":"NODE_CLUSTER","act":"suicide"}"#, Message::Cluster(FromWorker::Unknown)),
            (r#"{"cmd":"NODE_CLUSTER","act":{},"seq":-1,"ack":1.5}"#, Message::Cluster(FromWorker::Unknown)),
            (r#"{"cmd":"NODE_CLUSTER","act":"close","key":5}"#, Message::Cluster(FromWorker::Unknown)),
            (r#"{"cmd":"NODE_"}"#, Message::Other),
            (r#"{"cmd":"NODE_SOMETHING"}"#, Message::Other),
            (r#"{"cmd":"NODE_X","type":"sticky:connection","data":"s"}"#, Message::Other),
            (r#"{"cmd":"node_handle","type":"sticky:connection","data":"s"}"#, Message::SessionOpened("s".into())),
        ] {
            assert_eq!(line(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn any_message_of_an_app_is_legal() {
        for text in [
            r#"{"type":5}"#,
            r#"{"cmd":{}}"#,
            r#"{"cmd":["NODE_HANDLE"]}"#,
            "[]",
            r#"["ready"]"#,
            r#""redy""#,
            "1",
            "-1.5e999",
            "null",
            "true",
            "{}",
            r#"{"source":["_sio_adapter"],"type":{"a":[]},"uid":null}"#,
            r#""\ud800""#,
            r#"{"\ud800":1}"#,
            r#"{"cmd":"\ud800","type":"\udfff"}"#,
            r#"{"type":"sticky:connection"}"#,
            r#"{"type":"sticky:connection","data":5}"#,
            r#"{"type":"sticky:connection","data":"\ud800"}"#,
            r#"{"source":"_sio_adapter"}"#,
            r#"{"source":"_sio_adapter","type":-1}"#,
            r#"{"source":"_sio_adapter","type":1e300}"#,
            r#"{"source":"_sio_adapter","type":3,"uid":5}"#,
            r#"{"":{"cmd":"NODE_HANDLE"}}"#,
            r#"{"cmd":"NODE_HANDLE","cmd":1}"#,
        ] {
            assert_eq!(line(text), Ok(Message::Other), "{text}");
        }
        assert_eq!(line(r#""ready""#), Ok(Message::Ready));
        assert_eq!(line(r#" "r\u0065ady" "#), Ok(Message::Ready));
    }

    #[test]
    fn of_equal_names_the_last_counts() {
        let text = r#"{"type":"x","data":"a","type":"sticky:connection","data":"b"}"#;
        assert_eq!(line(text), Ok(Message::SessionOpened("b".into())));
    }

    #[test]
    fn adapters() {
        let text = r#"{"type":8,"data":{"requestId":"r","workerId":3},"source":"_sio_adapter","nsp":"/"}"#;
        let old = Envelope {
            dialect: Dialect::WorkerId,
            kind: 8,
            uid: None,
            nsp: Some("/".into()),
            requester_uid: None,
            worker_id: Some(3),
            request_id: Some("r".into()),
        };
        assert_eq!(line(text), Ok(Message::Adapter(old)));
        let text =
            r#"{"type":8,"data":{"workerId":3},"uid":"u","nsp":"/a","source":"_sio_adapter","requesterUid":"v"}"#;
        let new = Envelope {
            dialect: Dialect::Uid,
            kind: 8,
            uid: Some("u".into()),
            nsp: Some("/a".into()),
            requester_uid: Some("v".into()),
            worker_id: None,
            request_id: None,
        };
        assert_eq!(line(text), Ok(Message::Adapter(new)));
    }

    #[test]
    fn queries() {
        let query =
            |members: &str| match line(format!(r#"{{"cmd":"NODE_CLUSTER","act":"queryServer","seq":1,{members}}}"#)) {
                Ok(Message::Cluster(FromWorker::QueryServer { seq: 1, query })) => Some(query),
                Ok(Message::Cluster(FromWorker::Unknown)) => None,
                other => panic!("{other:?}"),
            };
        let plain = Query {
            address: None,
            port: Some(80),
            address_type: AddressType::Tcp4,
            fd: None,
            index: 0,
            ticket_keys: None,
        };
        let text = r#""index":0,"data":null,"address":null,"port":80,"addressType":4,"backlog":false"#;
        assert_eq!(query(text), Some(plain.clone()));
        let text = r#""index":2,"data":{"a":1,"ticketKeys":"ab"},"address":"::1","port":80,"addressType":6,"flags":1"#;
        let tls = Query { address: Some("::1".into()), address_type: AddressType::Tcp6, index: 2, ..plain.clone() };
        assert_eq!(query(text), Some(Query { ticket_keys: Some("ab".into()), ..tls }));
        let path =
            Query { address: Some("/a".into()), port: Some(-1), address_type: AddressType::Path, ..plain.clone() };
        assert_eq!(query(r#""address":"/a","port":-1,"addressType":-1,"readableAll":false"#), Some(path));
        let udp = Query { address: Some("::".into()), address_type: AddressType::Udp6, ..plain.clone() };
        assert_eq!(query(r#""address":"::","port":80,"addressType":"udp6","fd":-1,"flags":0"#), Some(udp));
        let fd = Query { port: None, address_type: AddressType::Descriptor, fd: Some(5), ..plain };
        assert_eq!(query(r#""address":null,"port":null,"addressType":null,"fd":5"#), Some(fd));
        for text in [r#""addressType":5"#, r#""addressType":"udp5""#, r#""fd":-1"#, r#""a":1"#] {
            assert_eq!(query(text), None, "{text}");
        }
    }

    #[test]
    fn malformed_frames_are_errors() {
        for text in
            [&b""[..], b"{", b"nul", b"{}x", b"{\"a\"}", b"[1,]", b"\"a", b"{\"a\":1,}", b"\x02{}", b"\"ready\"1"]
        {
            assert!(line(text).is_err(), "{}", text.escape_ascii());
        }
        for payload in [
            &b""[..],
            b"I\x02",
            b"\xFF\x0F",
            b"\xFF\x0C_",
            b"\xFF\x11_",
            b"\xFF\x0Fo",
            b"\xFF\x0Fo{\x01",
            b"\xFF\x0Fo\"\x01a{\x00",
            b"\xFF\x0Fo\"\x05a",
            b"\xFF\x0FoT_{\x01",
            b"\xFF\x0Fc\x01a",
            b"\xFF\x0F{\x00",
            b"\xFF\x0FA\x00:\x00",
            b"\xFF\x0F-",
            b"\xFF\x0FB\xFF\xFF\xFF\xFF\x0F",
            b"\xFF\x0FI\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01",
            b"\xFF\x0F\\\x02",
            b"\xFF\x0Frx",
            b"\xFF\x0Fq",
        ] {
            assert!(advanced(payload).is_err(), "{}", payload.escape_ascii());
        }
        for bytes in [&b""[..], b"\0\0\0", b"\0\0\0\0"] {
            let frame = Frame { encoding: Encoding::Advanced, bytes: bytes.to_vec().into() };
            assert!(read(&frame).is_err());
        }
    }

    #[test]
    fn values_that_only_v8_writes() {
        for payload in [
            &b"\xFF\x0F_"[..],
            b"\xFF\x0F\"\x05redyy",
            b"\xFF\x0D\0\0_ trailing",
            b"\xFF\x10o\"\x01a?\x00I\x02{\x01",
            b"\xFF\x0FA\x03-I\x02-\"\x03cmd\"\x0BNODE_HANDLE$\x01\x03",
            b"\xFF\x0F\\\x00\x0A\x03hey",
            b"\xFF\x0F\\\x01o{\x00",
            b"\xFF\x0FB\x02ab\0V\x42\x00\x02\x00",
            b"\xFF\x0DB\x02abV\x42\x00\x02",
            b"\xFF\x0F~\x02\x10ab",
            b"\xFF\x0FrTm\"\x01as\"\x01bc\\\x01o{\x00.",
            b"\xFF\x0Frm\"\x01ac?\x00r.s\0c\x02ab.",
            b"\xFF\x0FR\"\x01a\x01",
            b"\xFF\x0F;\"\x01aI\x02:\x02",
            b"\xFF\x0F'\"\x01a^\x00,\x02",
            b"\xFF\x0Fa\x05I\x06T@\x01\x05",
            b"\xFF\x0Fs\"\x01a",
            b"\xFF\x0FZ\x10\x01\0\0\0\0\0\0\0",
        ] {
            assert_eq!(advanced(payload), Ok(Message::Other), "{}", payload.escape_ascii());
        }
        assert_eq!(advanced(b"\xFF\x0F\"\x05ready"), Ok(Message::Ready));
        assert_eq!(advanced(b"\xFF\x0F\0c\x0Ar\0e\0a\0d\0y\0"), Ok(Message::Ready));
        assert_eq!(advanced(b"\xFF\x0FoS\x03cmd\0c\x16N\0O\0D\0E\0_\0H\0A\0N\0D\0L\0E\0{\x01"), Ok(Message::Handle));
    }

    #[test]
    fn depth_takes_no_stack() {
        let deep = 1_000_000;
        assert_eq!(line("[".repeat(deep) + &"]".repeat(deep)), Ok(Message::Other));
        let deeper = r#"{"data":"#.repeat(deep) + "1" + &"}".repeat(deep);
        assert_eq!(line(deeper), Ok(Message::Other));
        let nested = |depth: usize| {
            let mut payload = b"\xFF\x0Fo\"\x04data".to_vec();
            payload.extend(b"'".repeat(depth));
            payload.extend(b",\x01".repeat(depth));
            payload.extend_from_slice(b"{\x01");
            advanced(&payload)
        };
        assert_eq!(nested(10_000), Ok(Message::Other));
        assert!(nested(100_000).unwrap_err().0.contains("deep"));
    }

    #[test]
    fn fields_may_follow_a_big_payload() {
        let text = format!(r#"{{"data":"{}","type":"x","cmd":"NODE_HANDLE_ACK"}}"#, "x".repeat(1 << 20));
        assert_eq!(line(text), Ok(Message::Ack));
        let mut payload = b"\xFF\x0Fo\"\x04data\\\x00\x0A\x80\x80\x40".to_vec();
        payload.resize(payload.len() + (1 << 20), 0);
        payload.extend_from_slice(b"\"\x03cmd\"\x0FNODE_HANDLE_ACK{\x02");
        assert_eq!(advanced(&payload), Ok(Message::Ack));
    }

    /// What `message` means if a worker had sent it.
    fn echoed(encoding: Encoding, message: &ToWorker<'_>) -> Message {
        let mut decoder = super::super::channel::Decoder::new(encoding, 1 << 20);
        decoder.buffer().extend_from_slice(&encode(encoding, message));
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(decoder.pending(), b"");
        read(&frame).unwrap()
    }

    const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::Advanced, Encoding::Bun];

    #[test]
    fn what_we_write_reads_back() {
        for encoding in ENCODINGS {
            let echoed = |message| echoed(encoding, &message);
            assert_eq!(echoed(ToWorker::Probe), Message::Handle);
            assert_eq!(echoed(ToWorker::HandleAck), Message::Ack);
            assert_eq!(echoed(ToWorker::StickyConnection), Message::Handle);
            assert_eq!(echoed(ToWorker::NewConnection { key: "k", seq: 1 }), Message::Handle);
            let reply = |ack| Message::Cluster(FromWorker::Reply { ack, accepted: None });
            assert_eq!(echoed(ToWorker::Acknowledge { ack: 1 << 40, seq: 1 }), reply(1 << 40));
            let query =
                ToWorker::QueryReply { ack: 3, seq: 1, key: "k", outcome: Err(-98), ticket_keys: Some("é€") };
            assert_eq!(echoed(query), reply(3));
            assert_eq!(echoed(ToWorker::Disconnect { seq: 1 }), Message::Cluster(FromWorker::Unknown));
            assert_eq!(echoed(ToWorker::Text("ready")), Message::Ready);
            let Message::Adapter(close) = echoed(ToWorker::AdapterClose { uid: "u", nsp: "/" }) else { panic!() };
            assert_eq!(
                (close.dialect, close.kind, close.uid.as_deref(), close.nsp.as_deref()),
                (Dialect::Uid, 13, Some("u"), Some("/"))
            );
            let Message::Adapter(exit) = echoed(ToWorker::WorkerExit { id: 5 }) else { panic!() };
            assert_eq!((exit.dialect, exit.kind), (Dialect::WorkerId, 3));
            let Message::Adapter(none) = echoed(ToWorker::NoSockets { worker: 3, request: "r", nsp: "/" }) else {
                panic!()
            };
            assert_eq!((none.dialect, none.kind, none.worker_id), (Dialect::WorkerId, 9, Some(3)));
            assert_eq!((none.request_id.as_deref(), none.nsp.as_deref()), (Some("r"), Some("/")));
        }
    }

    #[test]
    fn frames_as_they_stand() {
        let json = |message| String::from_utf8(encode(Encoding::Json, &message).to_vec()).unwrap();
        let sockname = Sockname::Internet { address: "0.0.0.0", six: false, port: 80 };
        assert_eq!(
            json(ToWorker::QueryReply { ack: 3, seq: 1, key: "k\"", outcome: Ok(sockname), ticket_keys: Some("ab") }),
            "{\"cmd\":\"NODE_CLUSTER\",\"ack\":3,\"errno\":null,\"key\":\"k\\\"\",\"data\":{\"ticketKeys\":\"ab\"},\
             \"sockname\":{\"address\":\"0.0.0.0\",\"family\":\"IPv4\",\"port\":80},\"seq\":1}\n"
        );
        assert_eq!(
            json(ToWorker::QueryReply { ack: 3, seq: 1, key: "k", outcome: Ok(Sockname::Path), ticket_keys: None }),
            "{\"cmd\":\"NODE_CLUSTER\",\"ack\":3,\"errno\":null,\"key\":\"k\",\"data\":null,\"seq\":1}\n"
        );
        assert_eq!(
            json(ToWorker::StickyConnection),
            "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{\"type\":\"sticky:connection\",\"data\":\"\"}}\n"
        );
        assert_eq!(
            json(ToWorker::NewConnection { key: "k", seq: 9 }),
            "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\
             \"msg\":{\"cmd\":\"NODE_CLUSTER\",\"act\":\"newconn\",\"key\":\"k\",\"seq\":9}}\n"
        );
        assert_eq!(&encode(Encoding::Bun, &ToWorker::Disconnect { seq: 0 })[..2], b"\x02{");
        assert_eq!(&encode(Encoding::Bun, &ToWorker::Probe)[..1], b"{");
        assert_eq!(&encode(Encoding::Bun, &ToWorker::HandleAck)[..1], b"{");
        assert_eq!(
            &*encode(Encoding::Advanced, &ToWorker::Acknowledge { ack: 1, seq: 1 << 31 }),
            b"\0\0\0\x2D\xFF\x0Fo\"\x03cmd\"\x0CNODE_CLUSTER\"\x03ackI\x02\"\x03seqN\0\0\0\0\0\0\xE0\x41{\x03"
        );
        assert_eq!(&*encode(Encoding::Advanced, &ToWorker::Text("é")), b"\0\0\0\x05\xFF\x0F\"\x01\xE9");
        assert_eq!(&*encode(Encoding::Advanced, &ToWorker::Text("€")), b"\0\0\0\x06\xFF\x0Fc\x02\xAC\x20");
    }

    proptest! {
        #[test]
        fn strings_read_back(uid in "\\PC*", nsp in "[\\x00-\\u{FF}]*", place in 0usize..3) {
            let Message::Adapter(read) = echoed(ENCODINGS[place], &ToWorker::AdapterClose { uid: &uid, nsp: &nsp }) else { panic!() };
            prop_assert_eq!((read.uid, read.nsp), (Some(uid), Some(nsp)));
        }

        #[test]
        fn numbers_read_back(ack in 0u64..1 << 53, place in 0usize..3) {
            let read = echoed(ENCODINGS[place], &ToWorker::Acknowledge { ack, seq: 0 });
            prop_assert_eq!(read, Message::Cluster(FromWorker::Reply { ack, accepted: None }));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = line(&bytes);
            let _ = advanced(&[b"\xFF\x0F", &*bytes].concat());
            let _ = advanced(&[b"\xFF\x0Fo\"\x04data", &*bytes].concat());
        }

        #[test]
        fn garbage_of_tags_never_panics(
            bytes in prop::collection::vec(prop::sample::select(&b"o{;:',A$a@-_0TFINZ\"cS^DxynzsRB~V\\rmsc.?\0\x01\x02"[..]), 0..60),
        ) {
            let _ = advanced(&[b"\xFF\x0F", &*bytes].concat());
        }

        #[test]
        fn json_is_accepted_as_serde_does(text in "[\\[\\]{}\",:\\\\u0-9eE+. -]{0,12}|\\{\"[a\\\\]{0,3}\":[0-9\\[\\]]{0,4}\\}") {
            let well_formed = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(line(&text).is_ok(), well_formed);
        }
    }
}
