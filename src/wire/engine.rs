//! What Engine.IO puts into a request (engine.io protocol v4, and v3 with allowEIO3).

/// The `sid` of a request target's query, percent-decoding not needed for Engine.IO ids; `None` when absent or empty.
pub fn session(_target: &str) -> Option<&str> {
    todo!()
}
