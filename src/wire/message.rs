//! What a frame from a worker means to us.

use super::adapter::{self, Envelope};
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
        None
    };
    Ok(read.unwrap_or(Message::Other))
}
