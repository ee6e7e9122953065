//! What a frame from a worker means to us.

use super::adapter::Envelope;
use super::channel::Frame;
use super::cluster::FromWorker;

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
    /// Anything else that an app may send to its parent.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a message: {0}")]
pub struct MessageError(pub String);

/// Reads the fields of interest, skipping all else without decoding it.
pub fn read(_frame: &Frame) -> Result<Message, MessageError> {
    todo!()
}
