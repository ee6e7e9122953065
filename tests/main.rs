//! Everything that needs no booted systemd.

mod handover;
mod requests;
mod support;
mod walls;
