//! The two dialects of @socket.io/cluster-adapter.

/// Which release's numbers a message uses; one never reaches workers of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Up to 0.2.2: no `uid`.
    WorkerId,
    /// From 0.3.0: `uid` per node and namespace.
    Uid,
}

/// The fields by which a packet is routed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub dialect: Dialect,
    /// `type`
    pub kind: u32,
    pub uid: Option<String>,
    pub nsp: Option<String>,
    pub requester_uid: Option<String>,
    /// 0.2.2: `data.workerId`
    pub worker_id: Option<u64>,
}
