//! The kernel and systemd: the only room with unsafe code.
