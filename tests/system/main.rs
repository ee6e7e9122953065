//! The promises that name systemd, on a real one: each test boots its own throw-away system.
//!
//! `APPCTL_TEST_TREE=PATH` boots another distribution's tree instead of this machine's own root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod address;
mod boxed;
mod commands;
mod dashboard;
mod death;
mod ecosystem;
mod ends;
mod farewell;
mod generations;
mod harness;
mod heads;
mod hung;
mod interrupted;
mod languages;
mod limits;
mod listing;
// The other tests need more of it.
#[allow(dead_code)]
#[path = "../secure.rs"]
mod made;
mod memory;
mod messages;
mod metrics;
mod monit;
mod moved;
mod newcomers;
#[path = "../patient.rs"]
mod patient;
mod plain;
mod pm2_suite;
mod proxied;
mod reload;
mod runtimes;
mod secure;
mod serve;
mod sessions;
mod shown;
mod sticky;
mod strangers;
mod survival;
mod timers;
mod uml;
mod units;
mod verbs;
mod watch;
