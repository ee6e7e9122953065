//! How often an app's workers were restarted or reloaded because somebody wanted it. systemd counts what it does by itself,
//! and begins anew with each of these; PM2's `restart_time` is both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Scope;
use crate::rollout::ledger;
use crate::system::place;

/// Until `appctl reset`, the app's end or the next boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// Of all workers.
    app: i64,
    /// Of one more than of the others, by its index.
    workers: BTreeMap<u32, i64>,
}

impl Counted {
    /// Of the worker of an index.
    pub(super) fn of(&self, index: u32) -> u32 {
        let own = self.workers.get(&index).copied().unwrap_or_default();
        u32::try_from((self.app + own).max(0)).unwrap_or(u32::MAX)
    }

    fn add(&mut self, index: Option<u32>) {
        match index {
            Some(index) => *self.workers.entry(index).or_default() += 1,
            None => self.app += 1,
        }
    }

    fn reset(&mut self, index: Option<u32>) {
        match index {
            Some(index) => drop(self.workers.insert(index, -self.app)),
            None => *self = Self::default(),
        }
    }
}

/// What cannot be read counts nothing.
pub(super) fn read(scope: Scope, app: &str) -> Counted {
    let path = place::counted(scope == Scope::User, app);
    let bytes = path.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// One more restart or reload; of the worker of that index alone, or of all.
pub(super) fn add(scope: Scope, app: &str, index: Option<u32>) {
    change(scope, app, |counted| counted.add(index));
}

/// From 0 again.
pub(super) fn reset(scope: Scope, app: &str, index: Option<u32>) {
    change(scope, app, |counted| counted.reset(index));
}

fn change(scope: Scope, app: &str, change: impl FnOnce(&mut Counted)) {
    let Some(path) = place::counted(scope == Scope::User, app) else { return };
    let mut counted = read(scope, app);
    change(&mut counted);
    // Whoever may restart units by polkit, but not write there, restarts all the same; it is a number to look at.
    let _ = serde_json::to_vec(&counted).map(|text| ledger::publish(&path, &text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_its_own_count_beside_the_apps() {
        let mut counted = Counted::default();
        counted.add(None);
        counted.add(Some(2));
        counted.add(None);
        assert_eq!((counted.of(0), counted.of(2)), (2, 3));
        counted.reset(Some(2));
        counted.add(None);
        assert_eq!((counted.of(0), counted.of(2)), (3, 1));
        counted.reset(None);
        assert_eq!((counted.of(0), counted.of(2)), (0, 0));
        let text = serde_json::to_vec(&counted).unwrap();
        assert_eq!(serde_json::from_slice::<Counted>(&text).unwrap(), counted);
    }
}
