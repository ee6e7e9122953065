//! How workers ended: one line for each in the journal, and the last end of every slot for whoever asks.
//!
//! A worker's channel closes first; then `appctl worker ended` (or the foreground, of its children) says how it ended.
//! When nobody says so, the worker has closed its channel and lives, or systemd could not run that command.

use super::Router;
use super::record::{End, Record};
use super::table::Worker;
use crate::system::bus::Manager;
use crate::system::ended::{How, MARK, last_words};
use crate::system::{journal, process};
use crate::wire::hello::{Ended, Next, UP_TO};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// `MESSAGE_ID=` of every line about a worker's end: `journalctl MESSAGE_ID=…`.
pub const END: &str = "8d5d1c8b1f0c4a51a2d34f0d9bd1c7a6";
/// Between the end of a channel and the word about the worker.
const WORD_PATIENCE: Duration = Duration::from_secs(5);
/// For the worker's last words to be in the journal; its restart waits for that.
const LINES_PATIENCE: Duration = Duration::from_millis(1500);
const LINES_PAUSE: Duration = Duration::from_millis(50);
/// Lines that are repeated, and of how many they are chosen.
const LINES: usize = 10;
const LINES_READ: u32 = 60;
/// On top of the pause that systemd makes: a worker that has not come back by then does not come back.
const RETURN_PATIENCE: Duration = Duration::from_secs(15);
/// Slots whose last end is kept.
const SLOTS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Ends {
    last: RefCell<BTreeMap<String, End>>,
    /// Workers whose channel is closed and of whose end nobody has told, by process.
    silent: RefCell<HashMap<i32, Silent>>,
    /// Workers of whose end is told and whose channel is still open.
    told: RefCell<HashSet<i32>>,
    /// Workers that were aborted because they hung: process, seconds.
    hung: RefCell<HashMap<i32, u64>>,
    /// Where workers' lines are; `None`: not in a journal.
    journal: Cell<Option<Manager>>,
}

#[derive(Debug)]
struct Silent {
    slot: String,
    ready: bool,
    ordered: bool,
}

impl Router {
    /// Workers write to this manager's journal: the last lines of one that fails are repeated.
    pub fn set_journal(&self, manager: Manager) {
        self.ends.journal.set(Some(manager));
    }

    /// The last end of every slot that had one.
    pub(super) fn last_ends(&self) -> BTreeMap<String, End> {
        self.ends.last.borrow().clone()
    }

    /// What the router before us knew.
    pub(super) fn restore_ends(&self, known: BTreeMap<String, End>) {
        *self.ends.last.borrow_mut() = known;
    }

    /// A worker is being aborted because it hangs.
    pub(super) fn note_hung(&self, pid: i32, silent: Duration) {
        self.ends.hung.borrow_mut().insert(pid, silent.as_secs().max(1));
    }

    /// A worker's channel is closed. Needs a `LocalSet`.
    pub(super) fn parted(self: &Rc<Self>, worker: &Worker) {
        let (pid, slot) = (worker.pid, worker.slot.clone());
        // 0: there never was a process.
        if pid == 0 || self.ends.told.borrow_mut().remove(&pid) {
            return;
        }
        self.ends
            .silent
            .borrow_mut()
            .insert(pid, Silent { slot: slot.clone(), ready: worker.stood, ordered: worker.ordered });
        let router = Rc::clone(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(WORD_PATIENCE).await;
            if router.ends.silent.borrow_mut().remove(&pid).is_some() {
                let happened = match process::pidfd(pid) {
                    Ok(_) => "has closed its channel",
                    Err(_) => "has ended, and nobody told how",
                };
                tracing::warn!(APP = router.app, WORKER = slot, pid, "worker {slot} (pid {pid}) {happened}");
            }
        });
    }

    /// A worker has ended. Resolves when that is written down. Needs a `LocalSet`.
    pub async fn worker_ended(self: &Rc<Self>, slot: &str, end: &Ended) {
        let how = How::told(&end.result, &end.code, &end.status);
        let pid = end.pid.or_else(|| self.pid_of(slot));
        let on_trial = self.table.borrow().is_on_trial(slot);
        let known = pid.and_then(|pid| self.forget(pid));
        let hung = pid.and_then(|pid| self.ends.hung.borrow_mut().remove(&pid));
        let ready = known.as_ref().map(|known| known.ready);
        let reason = hung.map_or_else(|| how.reason(ready), |seconds| format!("hung for {seconds} s"));
        let drained = known.is_some_and(|known| known.ordered);
        // One that is not ready does not drain; and had it ended by itself, its start would have failed.
        let ordered = end.ordered.unwrap_or(drained || (ready == Some(false) && !how.failed()));
        let at = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
        self.keep_end(slot, End { reason: reason.clone(), at, failed: how.failed(), ordered });
        // A reload tells what its own new workers wrote.
        let lines = match (how.failed() && !on_trial, self.ends.journal.get()) {
            (true, Some(manager)) => self.last_lines(manager, slot, end).await,
            _ => Vec::new(),
        };
        self.tell(slot, pid, (&how, &reason, ordered), end.next.as_ref(), &lines);
        if let (false, false, Some(Next::Restart(pause))) = (ordered, on_trial, &end.next) {
            self.expect_back(slot, pause);
        }
    }

    /// What is known of a worker that has ended. Its channel may still be open.
    fn forget(&self, pid: i32) -> Option<Silent> {
        let silent = self.ends.silent.borrow_mut().remove(&pid);
        silent.or_else(|| {
            let table = self.table.borrow();
            let worker = table.workers().find(|worker| worker.pid == pid)?;
            self.ends.told.borrow_mut().insert(pid);
            Some(Silent { slot: worker.slot.clone(), ready: worker.stood, ordered: worker.ordered })
        })
    }

    /// The process that ended in a slot, as far as it can be told without systemd.
    fn pid_of(&self, slot: &str) -> Option<i32> {
        let silent = self.ends.silent.borrow().iter().find(|(_, silent)| silent.slot == slot).map(|(pid, _)| *pid);
        silent.or_else(|| self.table.borrow().in_slot(slot).map(|worker| worker.pid))
    }

    fn keep_end(&self, slot: &str, end: End) {
        {
            let mut last = self.ends.last.borrow_mut();
            if last.len() >= SLOTS && !last.contains_key(slot) {
                let oldest = last.iter().min_by_key(|(_, end)| end.at).map(|(slot, _)| slot.clone());
                oldest.map(|slot| last.remove(&slot));
            }
            last.insert(slot.to_owned(), end.clone());
        }
        self.note(&Record::Ended { slot: slot.to_owned(), end });
    }

    /// What it wrote last. Its own line about the end comes after that.
    async fn last_lines(&self, manager: Manager, slot: &str, end: &Ended) -> Vec<String> {
        let Some(invocation) = end.invocation.as_deref().filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        else {
            return Vec::new();
        };
        let unit = format!("{}@{slot}.service", self.app);
        let mut found = Vec::new();
        let read = async {
            loop {
                match journal::of_a_run(manager, &unit, invocation, LINES_READ).await {
                    Ok(lines) => found = lines,
                    Err(error) => {
                        tracing::warn!(APP = self.app, %error, "cannot read the last lines of worker {slot}");
                        return;
                    }
                }
                if let Some(at) = found.iter().rposition(|line| line.starts_with(MARK)) {
                    found.truncate(at);
                    return;
                }
                tokio::time::sleep(LINES_PAUSE).await;
            }
        };
        // Without the mark: what is there by now.
        let _ = tokio::time::timeout(LINES_PATIENCE, read).await;
        last_words(&found, LINES)
    }

    fn tell(
        &self,
        slot: &str,
        pid: Option<i32>,
        (how, reason, ordered): (&How, &str, bool),
        next: Option<&Next>,
        lines: &[String],
    ) {
        let who = pid.map_or_else(|| format!("worker {slot}"), |pid| format!("worker {slot} (pid {pid})"));
        let by = if self.ends.journal.get().is_some() { "systemd" } else { "appctl" };
        let mut text = match (ordered, how.failed(), next) {
            (true, false, _) => format!("{who} stopped"),
            (true, true, _) => format!("{who} stopped, not in order: {reason}"),
            (false, _, Some(Next::Restart(pause))) => {
                format!("{who} ended: {reason}; {by} starts it again in {pause}")
            }
            (false, _, Some(Next::Nothing)) => format!("{who} ended: {reason}; it stays down"),
            (false, _, None) => format!("{who} ended: {reason}"),
        };
        for line in lines {
            text.push_str("\n  | ");
            text.push_str(line);
        }
        let pid = pid.unwrap_or(0);
        match (ordered, how.failed(), next) {
            (true, false, _) | (false, false, Some(Next::Nothing)) => {
                tracing::info!(APP = self.app, MESSAGE_ID = END, WORKER = slot, pid, REASON = reason, "{text}");
            }
            (false, true, Some(Next::Nothing)) => {
                tracing::error!(APP = self.app, MESSAGE_ID = END, WORKER = slot, pid, REASON = reason, "{text}");
            }
            _ => tracing::warn!(APP = self.app, MESSAGE_ID = END, WORKER = slot, pid, REASON = reason, "{text}"),
        }
    }

    /// Says so when a worker that should be started again is not: systemd gives one up that fails too often.
    fn expect_back(self: &Rc<Self>, slot: &str, pause: &str) {
        let Ok(pause) = crate::config::value::read_span(pause.trim_start_matches(UP_TO)) else {
            return;
        };
        let (router, slot) = (Rc::clone(self), slot.to_owned());
        let last = self.ends.last.borrow().get(&slot).cloned();
        let before = self.table.borrow().in_slot(&slot).map(|worker| worker.id);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pause.saturating_add(RETURN_PATIENCE)).await;
            let here = router.table.borrow().in_slot(&slot).map(|worker| worker.id);
            // Another end since: then it has been back.
            let stays = router.ends.last.borrow().get(&slot) == last.as_ref();
            if stays && (here.is_none() || here == before) && !router.stopping.is_cancelled() {
                let app = &router.app;
                tracing::error!(
                    APP = app,
                    MESSAGE_ID = END,
                    WORKER = slot,
                    "worker {slot} has not come back: systemd has given it up, or somebody stopped it \
                     (systemctl status {app}@{slot} tells)"
                );
            }
        });
    }
}
