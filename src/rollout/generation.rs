//! Which workers run which code, as a number: 1 is what ran when the app was first started since the boot, and every start,
//! restart and reload of it that brings new workers counts one more.
//!
//! Nothing is counted while the app runs. The number of the last start is a file of its own; a reload's number, and which
//! workers are older, is in its [`Progress`], which is written anyway.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ledger::{self, Progress, State};

/// What runs beside what a reload brings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generations {
    /// Of all workers that are not among the others; 0: not known.
    pub most: u64,
    /// By their slots.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, u64>,
}

impl Generations {
    /// By the number of the last start, and the reload since then.
    pub fn of(started: Option<u64>, reload: Option<&Progress>) -> Self {
        let started = Self { most: started.unwrap_or(0), others: BTreeMap::new() };
        // One before the last start says nothing any more.
        let Some(reload) = reload.filter(|reload| reload.generation > started.most) else { return started };
        if reload.state == State::Done {
            return Self { most: reload.generation, others: BTreeMap::new() };
        }
        let mut now = reload.before.clone();
        now.others.extend(reload.replaced.iter().chain(&reload.trial).map(|slot| (slot.clone(), reload.generation)));
        now
    }

    /// Of a worker; `None`: not known.
    pub fn at(&self, slot: &str) -> Option<u64> {
        Some(self.others.get(slot).copied().unwrap_or(self.most)).filter(|generation| *generation > 0)
    }

    /// The number of what comes next.
    pub fn next(&self) -> u64 {
        self.others.values().copied().max().unwrap_or(0).max(self.most) + 1
    }
}

/// The number of an app's last start; `None`: it was not started since the boot.
pub fn started(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Counts a start of all workers. `reload`: where the last reload before it is written down.
pub fn start(path: &Path, reload: &Path) -> io::Result<()> {
    let next = Generations::of(started(path), ledger::read(reload).as_ref()).next();
    ledger::publish(path, format!("{next}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn of(now: &Generations, all: &str) -> Vec<Option<u64>> {
        slots(all).iter().map(|slot| now.at(slot)).collect()
    }

    #[test]
    fn a_reload_counts_one_more() {
        let first = Generations::of(Some(1), None);
        assert_eq!((of(&first, "1 2"), first.next()), (vec![Some(1), Some(1)], 2));
        let mut reload = Progress { generation: first.next(), before: first, ..Progress::default() };
        reload.trial = slots("3");
        assert_eq!(of(&Generations::of(Some(1), Some(&reload)), "1 2 3"), [Some(1), Some(1), Some(2)]);
        reload.trial.clear();
        reload.replaced = slots("3 1");
        assert_eq!(of(&Generations::of(Some(1), Some(&reload)), "2 3 1"), [Some(1), Some(2), Some(2)]);
        reload.state = State::Done;
        let done = Generations::of(Some(1), Some(&reload));
        assert_eq!((of(&done, "1 2 3"), done.next()), (vec![Some(2); 3], 3));
    }

    #[test]
    fn one_that_failed_counts_if_anything_of_it_is_left() {
        let before = Generations::of(Some(4), None);
        let mut failed =
            Progress { generation: before.next(), before: before.clone(), state: State::Failed, ..Progress::default() };
        assert_eq!(Generations::of(Some(4), Some(&failed)), before);
        failed.replaced = slots("3");
        let mixed = Generations::of(Some(4), Some(&failed));
        assert_eq!((of(&mixed, "1 3"), mixed.next()), (vec![Some(4), Some(5)], 6));
        // Started by systemd itself, while its file is on hold: then what the reload left is over.
        let again = Generations::of(Some(6), Some(&failed));
        assert_eq!((of(&again, "1 3"), again.next()), (vec![Some(6); 2], 7));
        // The next one begins with three releases, if it fails as well.
        let failed = Progress { generation: 6, before: mixed, replaced: slots("4"), ..failed };
        assert_eq!(of(&Generations::of(Some(4), Some(&failed)), "1 3 4"), [Some(4), Some(5), Some(6)]);
    }

    #[test]
    fn what_an_older_release_has_written_tells_nothing() {
        let unknown = Generations::of(None, Some(&Progress::default()));
        assert_eq!((unknown.at("1"), unknown.next()), (None, 1));
    }

    #[test]
    fn every_start_counts() {
        let directory = tempfile::tempdir().unwrap();
        let (path, reload) = (directory.path().join("a/app"), directory.path().join("app.json"));
        start(&path, &reload).unwrap();
        assert_eq!(started(&path), Some(1));
        let progress = Progress { generation: 2, state: State::Done, ..Progress::default() };
        std::fs::write(&reload, serde_json::to_vec(&progress).unwrap()).unwrap();
        start(&path, &reload).unwrap();
        std::fs::remove_file(&reload).unwrap();
        assert_eq!(started(&path), Some(3));
        start(&path, &reload).unwrap();
        assert_eq!(started(&path), Some(4));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
