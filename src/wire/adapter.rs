//! The two dialects of @socket.io/cluster-adapter.

use super::message::MessageError;
use super::value::Value;

/// The `source` of every message of an adapter.
pub(super) const SOURCE: &str = "_sio_adapter";
/// 0.2.2's FETCH_SOCKETS, its response, SERVER_SIDE_EMIT and its response: the kinds whose data may hold a `workerId`.
const WITH_WORKER_ID: std::ops::RangeInclusive<u32> = 8..=11;

/// Which release's numbers a message uses; one never reaches workers of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
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
    /// 0.2.2: `data.requestId` of a request that is to be answered, and of its answers
    pub request_id: Option<String>,
}

/// `None` for what no adapter sends.
pub(super) fn envelope(
    kind: Value<'_>,
    data: Value<'_>,
    uid: Value<'_>,
    nsp: Value<'_>,
    requester_uid: Value<'_>,
) -> Result<Option<Envelope>, MessageError> {
    let Some(kind) = kind.unsigned().and_then(|kind| u32::try_from(kind).ok()) else { return Ok(None) };
    let dialect = match uid {
        Value::Missing => Dialect::WorkerId,
        Value::Text(_) => Dialect::Uid,
        _ => return Ok(None),
    };
    let (worker_id, request_id) = match data {
        Value::Object(data) if dialect == Dialect::WorkerId && WITH_WORKER_ID.contains(&kind) => {
            let [worker_id, request_id] = data.members(&["workerId", "requestId"])?;
            (worker_id.unsigned(), request_id.string())
        }
        _ => (None, None),
    };
    Ok(Some(Envelope {
        dialect,
        kind,
        uid: uid.string(),
        nsp: nsp.string(),
        requester_uid: requester_uid.string(),
        worker_id,
        request_id,
    }))
}
