//! The broadcast relay: who gets a worker's packet.

pub mod hub;
mod requests;

/// `cluster.worker.id` of a worker.
pub type WorkerId = u32;
