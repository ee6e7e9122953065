//! The V8 ValueSerializer encoding.
