//! The router's settings, as they travel from `NAME.toml` through `ExecStart=` to the router.

use std::time::Duration;

/// What `[router]`, `[ready]` and `[health]` say, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterSettings {
    /// Number of workers that the app should have, for STATUS=.
    pub workers: u32,
    pub balance: Balance,
    /// `tcp`: hand over at once, without looking at what the client sends.
    pub protocol: Protocol,
    /// Longest request head, bytes.
    pub head_limit: usize,
    /// From accept to the end of the request head.
    pub head_timeout: Duration,
    /// Connections that may wait at a time: for their head, or for a worker.
    pub waiting_limit: usize,
    /// How long a connection waits for a worker while the app starts.
    pub wait_timeout: Duration,
    /// How long a request with an unknown session waits for the worker's registration.
    pub session_wait: Duration,
    /// Bytes that may be queued for one worker before it counts as sick.
    pub queue_limit: usize,
    /// Longest frame accepted from a worker, bytes.
    pub frame_limit: usize,
    pub ready_on: ReadyOn,
    /// With [`ReadyOn::Auto`]: how long after `online` silence counts as readiness.
    pub ready_grace: Duration,
    /// Force a serialization; `None`: by the runtime's version.
    pub serialization: Option<Serialization>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    LeastLoaded,
    RoundRobin,
    Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Tcp,
}

/// What makes a worker ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyOn {
    /// `listening`, the first adapter message, `ready`, or silence after `online`: whichever comes first.
    Auto,
    /// `process.send('ready')` only (PM2's `wait_ready`).
    Message,
    /// `listening` only.
    Listening,
}

/// Of Node's IPC channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serialization {
    Json,
    Advanced,
}

impl Default for RouterSettings {
    fn default() -> Self {
        Self {
            workers: 1,
            balance: Balance::LeastLoaded,
            protocol: Protocol::Http,
            head_limit: 16 * 1024,
            head_timeout: Duration::from_secs(30),
            waiting_limit: 4096,
            wait_timeout: Duration::from_secs(30),
            session_wait: Duration::from_secs(1),
            queue_limit: 64 * 1024 * 1024,
            frame_limit: 128 * 1024 * 1024,
            ready_on: ReadyOn::Auto,
            ready_grace: Duration::from_secs(3),
            serialization: None,
        }
    }
}
