//! Requests of 0.2.2 that wait for answers (pure): its adapter counts answers and cannot be told that one will not come.

use super::WorkerId;
use std::collections::{BTreeSet, VecDeque};

/// Requests that are remembered, of all workers together. The adapter gives each up after 5 s.
const LIMIT: usize = 1000;

/// A request that a worker will not answer any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Orphan {
    pub(super) from: WorkerId,
    pub(super) request: String,
    pub(super) nsp: String,
}

#[derive(Debug)]
struct Open {
    orphan: Orphan,
    waits_for: BTreeSet<WorkerId>,
}

/// Oldest first.
#[derive(Debug, Default)]
pub(super) struct Requests(VecDeque<Open>);

impl Requests {
    pub(super) fn ask(&mut self, from: WorkerId, request: &str, nsp: &str, of: impl IntoIterator<Item = WorkerId>) {
        let waits_for: BTreeSet<_> = of.into_iter().collect();
        if waits_for.is_empty() {
            return;
        }
        if self.0.len() >= LIMIT {
            self.0.pop_front();
        }
        let orphan = Orphan { from, request: request.to_owned(), nsp: nsp.to_owned() };
        self.0.push_back(Open { orphan, waits_for });
    }

    /// `by` has answered.
    pub(super) fn answer(&mut self, by: WorkerId, to: WorkerId, request: &str) {
        let open = self.0.iter_mut().find(|open| open.orphan.from == to && open.orphan.request == request);
        if let Some(open) = open {
            open.waits_for.remove(&by);
            self.0.retain(|open| !open.waits_for.is_empty());
        }
    }

    /// `worker` is gone: what it will not answer.
    pub(super) fn leave(&mut self, worker: WorkerId) -> Vec<Orphan> {
        self.0.retain(|open| open.orphan.from != worker);
        let waiting = self.0.iter_mut().filter(|open| open.waits_for.contains(&worker));
        let orphans = waiting.map(|open| {
            open.waits_for.remove(&worker);
            open.orphan.clone()
        });
        let orphans = orphans.collect();
        self.0.retain(|open| !open.waits_for.is_empty());
        orphans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphans(requests: &mut Requests, worker: WorkerId) -> Vec<(WorkerId, String)> {
        requests.leave(worker).into_iter().map(|orphan| (orphan.from, orphan.request)).collect()
    }

    #[test]
    fn only_what_is_open_is_an_orphan() {
        let mut requests = Requests::default();
        requests.ask(1, "a", "/", [2, 3]);
        requests.ask(1, "b", "/", [2, 3]);
        requests.ask(2, "c", "/", [1, 3]);
        requests.ask(3, "d", "/", []);
        requests.answer(3, 1, "a");
        requests.answer(3, 1, "unknown");
        assert_eq!(orphans(&mut requests, 3), [(1, "b".into()), (2, "c".into())]);
        assert_eq!(orphans(&mut requests, 3), []);
        // Nobody waits for the answer to what 1 asked.
        assert_eq!(orphans(&mut requests, 1), [(2, "c".into())]);
        assert!(requests.0.is_empty());
    }

    #[test]
    fn what_nobody_answers_is_forgotten_in_the_end() {
        let mut requests = Requests::default();
        (0..3 * LIMIT).for_each(|number| requests.ask(1, &number.to_string(), "/", [2]));
        assert_eq!(requests.0.len(), LIMIT);
    }
}
