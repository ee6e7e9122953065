//! Everything that needs no booted systemd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod channel;
mod corpus;
mod foreground;
mod generator;
mod handover;
mod readme;
mod requests;
mod support;
mod walls;
