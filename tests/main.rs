//! Everything that needs no booted systemd.

mod generator;
mod walls;
