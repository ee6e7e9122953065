//! Everything that needs no booted systemd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod behind;
mod calendar;
mod channel;
mod cluster;
mod completion;
mod corpus;
mod foreground;
mod generator;
mod handover;
mod kept;
mod limits;
mod load;
mod man;
mod metrics;
mod migrating;
mod mixed;
mod patient;
mod plain;
mod proxy;
mod readme;
mod requests;
mod runtimes;
mod secure;
mod shown;
mod snippets;
mod starting;
mod sticky;
mod support;
mod terminated;
mod tls;
mod walls;
mod watch;
