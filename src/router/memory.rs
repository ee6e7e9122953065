//! The router's memory outside of the router: systemd's descriptor store (sd_notify(3) FDSTORE=1).
//!
//! | name | what |
//! | --- | --- |
//! | `cID` | the channel of worker ID |
//! | `wID` | its [`Buffers`](crate::system::shared::Buffers), and its [`WorkerRecord`](super::record::WorkerRecord); of one without a channel, that alone |
//! | `kNUMBER` | a client that waited when a router ended in peace |
//! | `sGENERATION` | the log of [`record`](super::record) |
//! | `tNUMBER` | what TLS is served with: certificates and keys |
//!
//! Nothing is stored where there is no systemd; then a worker's life ends with the router's, as with any parent.

use super::record::{Picture, Record, WorkerRecord, line};
use super::table::WorkerId;
use crate::system::notify;
use crate::system::shared::{Log, blank, read_note, write_note};
use crate::system::stamp::Stamp;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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
    /// What is kept of workers without a channel.
    notes: RefCell<HashMap<WorkerId, OwnedFd>>,
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
    /// Sorts what systemd passed. When no log is understood, as may be after an upgrade, the workers are what is known.
    pub fn sort(stored: Vec<(String, OwnedFd)>) -> Self {
        let mut legacy = Self::default();
        let mut understood = false;
        for (name, descriptor) in stored {
            let (kind, number) = name.split_at_checked(1).unwrap_or_default();
            let id = number.parse::<WorkerId>();
            match (kind, id) {
                ("c", Ok(id)) => drop(legacy.channels.insert(id, descriptor)),
                ("w", Ok(id)) => drop(legacy.buffers.insert(id, descriptor)),
                ("t", Ok(id)) => legacy.keep_newer(u64::from(id), descriptor),
                ("k", _) => legacy.clients.push((name, descriptor)),
                ("s", _) => {
                    let log = Log::read(&descriptor).ok();
                    let picture = log.and_then(|text| Picture::read(&text, Stamp::own().record));
                    understood |= picture.is_some();
                    match picture {
                        Some(picture) if picture.generation >= legacy.picture.generation => legacy.picture = picture,
                        Some(_) => {}
                        None => tracing::warn!(
                            name,
                            "what the router before has written down cannot be read, it is of another release: the sessions that \
                             it knew are forgotten, its workers and their connections stay"
                        ),
                    }
                    legacy.logs.push(name);
                }
                _ => {
                    tracing::warn!(name, "systemd passed a descriptor with a name that is not known here");
                    notify::forget(&name);
                }
            }
        }
        if !understood {
            legacy.adopt();
        }
        legacy
    }

    /// Makes a picture of what is known without a log.
    fn adopt(&mut self) {
        let notes = self.buffers.values().filter_map(|file| read_note(file.as_fd()).ok().flatten());
        let workers = notes.filter_map(|note| serde_json::from_slice::<WorkerRecord>(&note).ok());
        // Their actions were in the log.
        let workers = workers.map(|worker| WorkerRecord { heard: false, ..worker });
        self.picture.workers = workers.map(|worker| (worker.id, worker)).collect();
        let numbers = self.channels.keys().chain(self.buffers.keys());
        self.picture.last = numbers.copied().max().unwrap_or_default();
        // No name of a log may be used again.
        let generations = self.logs.iter().filter_map(|name| name.strip_prefix('s')?.parse().ok());
        self.picture.generation = generations.max().unwrap_or_default();
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
        let text = picture.log(Stamp::own().record);
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

    /// Writes down a worker without a channel, by itself.
    pub(crate) fn jot(&self, id: WorkerId, note: &[u8]) -> io::Result<()> {
        let mut notes = self.notes.borrow_mut();
        if let Some(file) = notes.get(&id) {
            return write_note(file.as_fd(), note);
        }
        let file = blank()?;
        write_note(file.as_fd(), note)?;
        notify::store(&format!("w{id}"), file.as_fd())?;
        notes.insert(id, file);
        Ok(())
    }

    /// The note of the router before about a worker without a channel.
    pub(crate) fn keep_note(&self, id: WorkerId, file: OwnedFd) {
        self.notes.borrow_mut().insert(id, file);
    }

    pub(crate) fn drop_note(&self, id: WorkerId) {
        if self.notes.borrow_mut().remove(&id).is_some() {
            notify::forget(&format!("w{id}"));
        }
    }

    pub(crate) fn drop_worker(&self, id: WorkerId) {
        if self.is_kept() {
            forget_worker(id);
        }
    }

    fn fail(&self, error: &io::Error) {
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
