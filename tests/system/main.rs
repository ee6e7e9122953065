//! The promises that name systemd, on a real one.
fn main() {}
