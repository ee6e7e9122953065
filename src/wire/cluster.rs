//! Node's cluster messages (lib/internal/cluster/{child,primary,round_robin_handle}.js).

use super::Encoding;
use bytes::Bytes;

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
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// As resolved by the worker; a path for [`AddressType::Path`].
    pub address: Option<String>,
    /// −1 for a path, `None` for a descriptor.
    pub port: Option<i64>,
    pub address_type: AddressType,
    pub fd: Option<i64>,
    /// How many servers of the same address:port:type:fd this worker had opened before.
    pub index: u64,
    /// Hex string of a TLS server's session ticket keys.
    pub ticket_keys: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// cluster-adapter 0.3.0: `{source, type:13, uid, nsp}`
    AdapterClose {
        uid: &'a str,
        nsp: &'a str,
    },
    /// cluster-adapter 0.2.2: `{source, type:3, data:id}`
    WorkerExit {
        id: u64,
    },
}

/// `server.address()` in the worker; `None` for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sockname<'a> {
    Internet { address: &'a str, six: bool, port: u16 },
    Path,
}

/// One whole frame.
pub fn encode(_encoding: Encoding, _message: &ToWorker<'_>) -> Bytes {
    todo!()
}
