//! What runs inside a worker's unit.
