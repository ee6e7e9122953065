//! The router's memory outside of the router: systemd's descriptor store (sd_notify(3) FDSTORE=1).
//!
//! | name | what |
//! | --- | --- |
//! | `cID` | the channel of worker ID |
//! | `wID` | its [`Buffers`](crate::system::shared::Buffers) |
//! | `kNUMBER` | a client that waited when a router ended in peace |
//! | `sGENERATION` | the log of [`record`](super::record) |
//! | `tNUMBER` | what TLS is served with: certificates and keys |
//!
//! Nothing is stored where there is no systemd; then a worker's life ends with the router's, as with any parent.

use super::record::{Picture, Record, line};
use super::table::WorkerId;
use crate::system::notify;
use crate::system::shared::Log;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A log is written anew when it is this much longer than when it was new.
const GROWTH: usize = 4;
/// …and at least so long, bytes.
const SHORT: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Memory {
    log: RefCell<Option<Log>>,
    generation: Cell<u64>,
    /// Length of the log when it was new, bytes.
    fresh: Cell<usize>,
}

/// What the process before us left.
#[derive(Debug, Default)]
pub struct Legacy {
    pub(crate) picture: Picture,
    pub(crate) channels: HashMap<WorkerId, OwnedFd>,
    pub(crate) buffers: HashMap<WorkerId, OwnedFd>,
    /// Connections that waited, and their names.
    pub(crate) clients: Vec<(String, OwnedFd)>,
    /// Names of the logs: to be forgotten once there is a new one.
    pub(crate) logs: Vec<String>,
    /// What TLS was served with; a number, and the contents of the files.
    pub(crate) certificates: Option<(u64, OwnedFd)>,
}

impl Legacy {
    /// Sorts what systemd passed. Logs that are not understood are dropped, with all that only they could explain.
    pub fn sort(stored: Vec<(String, OwnedFd)>) -> Self {
        let mut legacy = Self::default();
        for (name, descriptor) in stored {
            let (kind, number) = name.split_at_checked(1).unwrap_or_default();
            let id = number.parse::<WorkerId>();
            match (kind, id) {
                ("c", Ok(id)) => drop(legacy.channels.insert(id, descriptor)),
                ("w", Ok(id)) => drop(legacy.buffers.insert(id, descriptor)),
                ("t", Ok(id)) => legacy.keep_newer(u64::from(id), descriptor),
                ("k", _) => legacy.clients.push((name, descriptor)),
                ("s", _) => {
                    let picture = Log::read(&descriptor).ok().and_then(|text| Picture::read(&text));
                    match picture {
                        Some(picture) if picture.generation >= legacy.picture.generation => legacy.picture = picture,
                        Some(_) => {}
                        None => tracing::warn!(name, "a log of the router before cannot be read"),
                    }
                    legacy.logs.push(name);
                }
                _ => {
                    tracing::warn!(name, "systemd passed a descriptor with a name that is not known here");
                    notify::forget(&name);
                }
            }
        }
        legacy
    }
}

impl Legacy {
    /// Of two sets of certificates the older one was to be forgotten.
    fn keep_newer(&mut self, number: u64, descriptor: OwnedFd) {
        let older = match self.certificates.take() {
            Some(kept) if kept.0 > number => {
                self.certificates = Some(kept);
                number
            }
            kept => {
                self.certificates = Some((number, descriptor));
                kept.map_or(0, |kept| kept.0)
            }
        };
        if older > 0 {
            notify::forget(&format!("t{older}"));
        }
    }
}

impl Memory {
    /// Begins a log with this picture and gives it to systemd. Without this nothing is kept.
    pub(crate) fn begin(&self, picture: &Picture) {
        let before = self.log.borrow().is_some().then(|| log_name(self.generation.get()));
        let text = picture.log();
        let made =
            Log::create(&text).and_then(|log| notify::store(&log_name(picture.generation), log.file()).map(|()| log));
        match made {
            Ok(log) => {
                *self.log.borrow_mut() = Some(log);
                self.generation.set(picture.generation);
                self.fresh.set(text.len());
                before.iter().for_each(|name| notify::forget(name));
            }
            Err(error) => self.fail(&error),
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.log.borrow().is_some()
    }

    /// A number that no router before this one had.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    pub(crate) fn set_generation(&self, generation: u64) {
        self.generation.set(generation);
    }

    /// For the next [`Self::begin`].
    pub(crate) fn next_generation(&self) -> u64 {
        self.generation.get() + 1
    }

    /// Writes one record down. `true`: the log has grown long; [`Self::begin`] a new one.
    pub(crate) fn note(&self, record: &Record) -> bool {
        let mut log = self.log.borrow_mut();
        let (Some(open), Some(line)) = (log.as_mut(), line(record)) else {
            return false;
        };
        match open.append(&line) {
            Ok(length) => length > SHORT.max(self.fresh.get() * GROWTH),
            Err(error) => {
                drop(log);
                self.fail(&error);
                false
            }
        }
    }

    /// Gives a worker's channel and buffers to systemd.
    pub(crate) fn keep(&self, id: WorkerId, channel: BorrowedFd<'_>, buffers: BorrowedFd<'_>) {
        if self.is_kept()
            && let Err(error) =
                notify::store(&format!("w{id}"), buffers).and_then(|()| notify::store(&format!("c{id}"), channel))
        {
            tracing::error!(%error, "cannot store a worker's channel: it will not survive this router");
        }
    }

    pub(crate) fn drop_worker(&self, id: WorkerId) {
        if self.is_kept() {
            forget_worker(id);
        }
    }

    fn fail(&self, error: &std::io::Error) {
        *self.log.borrow_mut() = None;
        tracing::error!(%error, "cannot write the router's memory: sessions will not survive this router");
    }
}

/// Lets systemd close what it keeps of a worker.
pub(crate) fn forget_worker(id: WorkerId) {
    notify::forget(&format!("c{id}"));
    notify::forget(&format!("w{id}"));
}

fn log_name(generation: u64) -> String {
    format!("s{generation}")
}
