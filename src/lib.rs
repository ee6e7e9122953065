//! appctl: clustered Socket.IO, WebSocket and HTTP apps as ordinary systemd units.
//!
//! # Bird's-eye view
//!
//! An operator writes one file per app, `/etc/appctl/NAME.toml`. A systemd *generator* turns it into units: the public
//! socket, the router `NAME.service`, and one `NAME@SLOT.service` per worker. The router takes its sockets from systemd,
//! speaks Node's child-process IPC with every worker over a *channel*, hands each accepted connection to one worker as a
//! file descriptor, and relays the workers' broadcast packets among them. systemd owns processes, restarts and logs.
//!
//! # Floors
//!
//! A room may use the rooms below it, never one beside or above it (`tests/walls.rs` holds this):
//!
//! | floor | rooms |
//! | --- | --- |
//! | top | `cli` |
//! | loops | `foreground` and `rollout` → `router` → `relay`; `worker`; `watch`; `generator`; `site` |
//! | units | `unit` → `config`; `pm2` → `config` |
//! | foot | `config`, `wire` (pure), `system` (the kernel and systemd; the only unsafe code) |
//!
//! # Invariants
//!
//! * `config`, `unit`, `pm2`, `wire`, `relay::hub`, `router::table`, `router::balance`, `router::tally` and `watch::debounce` know no clock, socket, file or
//!   environment: time and bytes come in as arguments, decisions go out as values.
//! * No decoder allocates by a number that its peer chose, and none panics.
//! * A byte of a client's request is never consumed by the router: it peeks, and the worker reads. The exceptions are
//!   connections that a reverse proxy shares among its clients, and those to workers without a channel (`router::proxy`).

pub mod cli;
pub mod config;
pub mod foreground;
pub mod generator;
pub mod pm2;
pub mod relay;
pub mod rollout;
pub mod router;
pub mod site;
pub mod system;
pub mod unit;
pub mod watch;
pub mod wire;
pub mod worker;
