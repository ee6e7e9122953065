//! The promises that name systemd, on a real one: each test boots its own throw-away system.
//!
//! `APPCTL_TEST_TREE=PATH` boots another distribution's tree instead of this machine's own root; `APPCTL_TEST_OLDER=PROGRAM` is
//! what the tests of `older` upgrade from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod address;
mod boxed;
mod commands;
mod dashboard;
mod death;
mod ecosystem;
mod ends;
mod farewell;
mod full;
mod generations;
mod harness;
mod heads;
mod hostile;
mod hung;
mod interrupted;
mod languages;
mod life;
mod limits;
mod listing;
// The other tests need more of it.
#[allow(dead_code)]
#[path = "../secure.rs"]
mod made;
mod managed;
mod memory;
mod messages;
mod metrics;
mod monit;
mod moved;
mod newcomers;
mod older;
mod packages;
#[path = "../patient.rs"]
mod patient;
mod plain;
mod pm2_suite;
mod proxied;
mod reload;
mod rights;
mod runtimes;
mod sandbox;
mod secure;
mod serve;
mod sessions;
mod shown;
mod sticky;
mod strangers;
mod survival;
mod talkative;
mod timers;
mod uml;
mod units;
mod upgrade;
mod verbs;
mod watch;
mod words;
