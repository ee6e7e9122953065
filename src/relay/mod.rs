//! The broadcast relay: who gets a worker's packet.

pub mod hub;
mod requests;
