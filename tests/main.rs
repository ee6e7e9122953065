//! Everything that needs no booted systemd.
