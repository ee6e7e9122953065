//! Everything that needs no booted systemd.

mod walls;
