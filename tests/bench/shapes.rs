//! What is measured, between whom, and what is wanted.

use crate::peers::Kind::{self, Appctl, Haproxy, Nginx, Nobody, Official, OldSticky, Pm2, Redis, Routed};

/// A shape of load.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) load: Load,
    /// The first one is ours: the others are compared with it.
    pub(crate) peers: &'static [Kind],
    pub(crate) targets: &'static [Target],
}

/// How its clients behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Load {
    Connects,
    Echo,
    Polling { keep: bool },
    Sessions,
    Http { keep: bool },
    Broadcast,
    Idle,
}

impl Load {
    /// Plain HTTP needs no Socket.IO in the worker.
    pub(crate) fn is_plain(self) -> bool {
        matches!(self, Self::Http { .. })
    }

    /// Clients at a time.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Connects | Self::Sessions | Self::Polling { .. } | Self::Http { .. } => 32,
            Self::Echo => 64,
            Self::Broadcast => 8,
            Self::Idle => 50,
        }
    }
}

pub(crate) enum Target {
    /// Our operations per second ÷ the peer's.
    Speed(Kind, f64),
    /// Our operations per CPU second of the middle process ÷ the peer's.
    Thrift(Kind, f64),
    /// Our middle process, at the most; bytes.
    Memory(u64),
    /// Ours.
    NoErrors,
}

pub(crate) const SHAPES: [Shape; 10] = [
    Shape {
        name: "ws-connect",
        what: "WebSockets opened (upgrade, Engine.IO's open packet) and closed in order; 32 at a time",
        load: Load::Connects,
        peers: &[Appctl, Nobody, Nginx, Haproxy, Official, Pm2],
        targets: &[Target::Speed(Nginx, 1.1)],
    },
    Shape {
        name: "ws-echo",
        what: "events with acknowledgement on 64 standing WebSockets",
        load: Load::Echo,
        peers: &[Appctl, Nobody, Nginx, Haproxy, Official, Pm2],
        targets: &[Target::Speed(Nobody, 0.97), Target::Speed(Nginx, 1.15)],
    },
    Shape {
        name: "polling",
        what: "events with acknowledgement over long-polling (POST, GET), each request on a connection of its own; 32 sessions",
        load: Load::Polling { keep: false },
        peers: &[Appctl, Routed, Nobody, Nginx, Haproxy, Official, Pm2],
        targets: &[],
    },
    Shape {
        name: "polling-keepalive",
        what: "the same on connections that are kept, where the other side lets us; 32 sessions",
        load: Load::Polling { keep: true },
        peers: &[Appctl, OldSticky, Routed, Nobody, Nginx, Haproxy, Official, Pm2],
        targets: &[],
    },
    Shape {
        name: "session",
        what: "sessions opened over long-polling and closed (GET, POST, GET, POST, a connection each); 32 at a time",
        load: Load::Sessions,
        peers: &[Appctl, Routed, Nobody, Nginx, Haproxy, Official, Pm2],
        targets: &[Target::Speed(Official, 1.3), Target::NoErrors],
    },
    Shape {
        name: "http",
        what: "plain GETs, each on a connection of its own; 32 at a time",
        load: Load::Http { keep: false },
        peers: &[Appctl, Routed, Nobody, Nginx, Haproxy, Official, Pm2],
        targets: &[],
    },
    Shape {
        name: "http-keepalive",
        what: "plain GETs on 32 kept connections",
        load: Load::Http { keep: true },
        peers: &[Appctl, Nobody, Nginx, Haproxy, Official, Pm2],
        targets: &[Target::Speed(Haproxy, 1.15)],
    },
    Shape {
        name: "http-routed",
        what: "the same, but appctl routes request by request (router.shared = \"always\")",
        load: Load::Http { keep: true },
        peers: &[Routed, Nobody, Nginx, Haproxy],
        targets: &[Target::Speed(Nginx, 1.0)],
    },
    Shape {
        name: "broadcast",
        what: "io.emit() to 8 WebSockets, spread over the workers; 32 under way, each done when all have it",
        load: Load::Broadcast,
        peers: &[Appctl, Official, Pm2, Redis],
        targets: &[Target::Thrift(Pm2, 2.0)],
    },
    Shape {
        name: "idle",
        what: "idle WebSockets (5,000; 500 with --quick)",
        load: Load::Idle,
        peers: &[Appctl, Nginx, Haproxy, Official, Pm2],
        targets: &[Target::Memory(15_000_000)],
    },
];
