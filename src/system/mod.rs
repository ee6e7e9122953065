//! The kernel and systemd: the only room with unsafe code.

pub mod bus;
pub mod journal;
