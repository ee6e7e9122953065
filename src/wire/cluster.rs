//! Node's cluster messages (lib/internal/cluster/{child,primary,round_robin_handle}.js).

use super::adapter;
use super::channel::PREFIX;
use super::message::MessageError;
use super::value::{Object, Value};
use super::{Encoding, v8};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// NODE_CLUSTER messages that a worker sends.
#[derive(Debug, Clone, PartialEq)]
pub enum FromWorker {
    Online,
    QueryServer {
        seq: u64,
        query: Query,
    },
    Listening(Query),
    Close {
        key: String,
    },
    ExitedAfterDisconnect {
        seq: u64,
    },
    /// The answer to a message of ours that carried `seq`.
    Reply {
        ack: u64,
        accepted: Option<bool>,
    },
    /// An `act` that Node's own primary would ignore as well.
    Unknown,
}

/// What a worker wants to listen on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// As resolved by the worker; a path for [`AddressType::Path`].
    pub address: Option<String>,
    /// −1 for a path, `None` for a descriptor.
    pub port: Option<i64>,
    pub address_type: AddressType,
    /// A descriptor's number in the worker; `None` also for the −1 of dgram.
    pub fd: Option<i64>,
    /// How many servers of the same address:port:type:fd this worker had opened before.
    pub index: u64,
    /// Hex string of a TLS server's session ticket keys.
    pub ticket_keys: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AddressType {
    Tcp4,
    Tcp6,
    Path,
    /// `listen({fd})`
    Descriptor,
    Udp4,
    Udp6,
}

/// Frames that we send.
#[derive(Debug, Clone, PartialEq)]
pub enum ToWorker<'a> {
    /// NODE_HANDLE without a descriptor: every Node answers NODE_HANDLE_NACK from its event loop.
    ///
    /// **Send no descriptor before the answer came.** What Node reads in one go has one pending descriptor, and the
    /// first NODE_HANDLE frame in it takes it: a handover right behind a probe loses its socket to the probe, whose
    /// missing `msg` the app then gets as `undefined` with a socket (`tests/channel.rs` shows it). A probe behind a
    /// handover is safe.
    Probe,
    HandleAck,
    /// NODE_HANDLE net.Socket `{type:'sticky:connection', data:''}`; a descriptor goes with its last byte.
    StickyConnection,
    /// NODE_HANDLE net.Native NODE_CLUSTER newconn; a descriptor goes with its last byte.
    NewConnection {
        key: &'a str,
        seq: u64,
    },
    /// Round-robin style reply to queryServer.
    QueryReply {
        ack: u64,
        seq: u64,
        key: &'a str,
        /// `Err`: a negative errno.
        outcome: Result<Sockname<'a>, i32>,
        /// Must be echoed to a TLS server.
        ticket_keys: Option<&'a str>,
    },
    /// `{cmd, ack, seq}`
    Acknowledge {
        ack: u64,
        seq: u64,
    },
    /// `{cmd, act:'disconnect', seq}`
    Disconnect {
        seq: u64,
    },
    /// A bare string such as PM2's `shutdown`.
    Text(&'a str),
    /// Calls an [action](super::axm): a bare string, or `{msg, action_name, opts, uuid}` where there is more to say.
    Call {
        action: &'a str,
        param: Option<&'a str>,
        /// What the parts of the answer bear, if it comes in parts.
        uuid: Option<&'a str>,
    },
    /// cluster-adapter 0.3.0: `{source, type:13, uid, nsp}`
    AdapterClose {
        uid: &'a str,
        nsp: &'a str,
    },
    /// cluster-adapter 0.2.2: `{source, type:3, data:id}`
    WorkerExit {
        id: u64,
    },
    /// cluster-adapter 0.2.2, the answer to a fetchSockets of `worker`:
    /// `{source, type:9, nsp, data:{requestId, workerId, sockets:[]}}`
    NoSockets {
        worker: u64,
        request: &'a str,
        nsp: &'a str,
    },
}

/// `server.address()` in the worker; `None` for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockname<'a> {
    Internet { address: &'a str, six: bool, port: u16 },
    Path,
}

/// Reads `{cmd:'NODE_CLUSTER', …}`.
pub(super) fn from_worker(message: Object<'_>) -> Result<FromWorker, MessageError> {
    let [act, seq, ack, accepted, key] = message.members(&["act", "seq", "ack", "accepted", "key"])?;
    if let Some(ack) = ack.unsigned() {
        return Ok(FromWorker::Reply { ack, accepted: accepted.boolean() });
    }
    let read = match (act.text().as_deref(), seq.unsigned()) {
        (Some("online"), _) => Some(FromWorker::Online),
        (Some("queryServer"), Some(seq)) => query(message)?.map(|query| FromWorker::QueryServer { seq, query }),
        (Some("listening"), _) => query(message)?.map(FromWorker::Listening),
        (Some("close"), _) => key.string().map(|key| FromWorker::Close { key }),
        (Some("exitedAfterDisconnect"), Some(seq)) => Some(FromWorker::ExitedAfterDisconnect { seq }),
        _ => None,
    };
    Ok(read.unwrap_or(FromWorker::Unknown))
}

/// `None` for an address of no known type.
fn query(message: Object<'_>) -> Result<Option<Query>, MessageError> {
    let [address, port, address_type, fd, index, data] =
        message.members(&["address", "port", "addressType", "fd", "index", "data"])?;
    let fd = fd.integer().filter(|fd| *fd >= 0);
    let address_type = match (address_type, address_type.integer()) {
        (_, Some(4)) => AddressType::Tcp4,
        (_, Some(6)) => AddressType::Tcp6,
        (_, Some(-1)) => AddressType::Path,
        (Value::Text(text), _) if text.is("udp4") => AddressType::Udp4,
        (Value::Text(text), _) if text.is("udp6") => AddressType::Udp6,
        (none, _) if none.is_none() && fd.is_some() => AddressType::Descriptor,
        _ => return Ok(None),
    };
    let ticket_keys = match data {
        Value::Object(data) => {
            let [ticket_keys] = data.members(&["ticketKeys"])?;
            ticket_keys.string()
        }
        _ => None,
    };
    Ok(Some(Query {
        address: address.string(),
        port: port.integer(),
        address_type,
        fd,
        index: index.unsigned().unwrap_or_default(),
        ticket_keys,
    }))
}

/// Bun wants this before NODE_CLUSTER messages, and only before these.
const BUN_INTERNAL: u8 = 0x02;

/// One whole frame.
pub fn encode(encoding: Encoding, message: &ToWorker<'_>) -> Bytes {
    let tree = tree(message);
    let mut out = Vec::with_capacity(128);
    match encoding {
        Encoding::Advanced => {
            out.extend_from_slice(&[0; PREFIX]);
            let mut writer = v8::Writer::new(out);
            tree.write_v8(&mut writer);
            out = writer.into_bytes();
            // Ours are a few hundred bytes, strings given by workers included: no frame that came in is over 4 GiB.
            let length = u32::try_from(out.len() - PREFIX).unwrap_or(u32::MAX);
            if let Some(prefix) = out.first_chunk_mut::<PREFIX>() {
                *prefix = length.to_be_bytes();
            }
        }
        Encoding::Json | Encoding::Bun => {
            let internal = matches!(
                message,
                ToWorker::QueryReply { .. } | ToWorker::Acknowledge { .. } | ToWorker::Disconnect { .. }
            );
            if encoding == Encoding::Bun && internal {
                out.push(BUN_INTERNAL);
            }
            tree.write_json(&mut out);
            out.push(b'\n');
        }
    }
    out.into()
}

/// A message before it is written.
enum Tree<'a> {
    Null,
    Number(i64),
    Text(&'a str),
    Object(Vec<(&'static str, Self)>),
    EmptyList,
}

impl Tree<'_> {
    fn write_v8(&self, writer: &mut v8::Writer) {
        match self {
            Self::Null => writer.null(),
            Self::Number(number) => writer.integer(*number),
            Self::Text(text) => writer.text(text),
            Self::Object(members) => {
                writer.object();
                for (name, value) in members {
                    writer.text(name);
                    value.write_v8(writer);
                }
                writer.end(members.len());
            }
            Self::EmptyList => writer.empty_list(),
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::EmptyList => out.extend_from_slice(b"[]"),
            Self::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Text(text) => out.extend_from_slice(serde_json::Value::from(*text).to_string().as_bytes()),
            Self::Object(members) => {
                out.push(b'{');
                for (place, (name, value)) in members.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    Self::Text(name).write_json(out);
                    out.push(b':');
                    value.write_json(out);
                }
                out.push(b'}');
            }
        }
    }
}

fn tree<'a>(message: &ToWorker<'a>) -> Tree<'a> {
    use Tree::{EmptyList, Null, Number, Object, Text};
    const CLUSTER: (&str, Tree<'static>) = ("cmd", Text("NODE_CLUSTER"));
    const HANDLE: (&str, Tree<'static>) = ("cmd", Text("NODE_HANDLE"));
    const ADAPTER: (&str, Tree<'static>) = ("source", Text(adapter::SOURCE));
    let id = |number: u64| Number(i64::try_from(number).unwrap_or(i64::MAX));
    Object(match *message {
        ToWorker::Probe => vec![HANDLE, ("type", Text("net.Native"))],
        ToWorker::HandleAck => vec![("cmd", Text("NODE_HANDLE_ACK"))],
        ToWorker::StickyConnection => vec![
            HANDLE,
            ("type", Text("net.Socket")),
            ("msg", Object(vec![("type", Text("sticky:connection")), ("data", Text(""))])),
        ],
        ToWorker::NewConnection { key, seq } => vec![
            HANDLE,
            ("type", Text("net.Native")),
            ("msg", Object(vec![CLUSTER, ("act", Text("newconn")), ("key", Text(key)), ("seq", id(seq))])),
        ],
        ToWorker::QueryReply { ack, seq, key, outcome, ticket_keys } => {
            let mut members = vec![
                CLUSTER,
                ("ack", id(ack)),
                ("errno", outcome.err().map_or(Null, |errno| Number(errno.into()))),
                ("key", Text(key)),
                ("data", ticket_keys.map_or(Null, |keys| Object(vec![("ticketKeys", Text(keys))]))),
            ];
            if let Ok(Sockname::Internet { address, six, port }) = outcome {
                let family = Text(if six { "IPv6" } else { "IPv4" });
                let name = vec![("address", Text(address)), ("family", family), ("port", Number(port.into()))];
                members.push(("sockname", Object(name)));
            }
            members.push(("seq", id(seq)));
            members
        }
        ToWorker::Acknowledge { ack, seq } => vec![CLUSTER, ("ack", id(ack)), ("seq", id(seq))],
        ToWorker::Disconnect { seq } => vec![CLUSTER, ("act", Text("disconnect")), ("seq", id(seq))],
        ToWorker::Text(text) | ToWorker::Call { action: text, param: None, uuid: None } => return Text(text),
        ToWorker::Call { action, param, uuid } => {
            let mut members = vec![("msg", Text(action)), ("action_name", Text(action))];
            members.extend(param.map(|param| ("opts", Text(param))));
            members.extend(uuid.map(|uuid| ("uuid", Text(uuid))));
            members
        }
        ToWorker::AdapterClose { uid, nsp } => {
            vec![ADAPTER, ("type", Number(13)), ("uid", Text(uid)), ("nsp", Text(nsp))]
        }
        ToWorker::WorkerExit { id: worker } => vec![ADAPTER, ("type", Number(3)), ("data", id(worker))],
        ToWorker::NoSockets { worker, request, nsp } => {
            let data = vec![("requestId", Text(request)), ("workerId", id(worker)), ("sockets", EmptyList)];
            vec![ADAPTER, ("type", Number(9)), ("nsp", Text(nsp)), ("data", Object(data))]
        }
    })
}
