//! Keys that no worker registers, and whose the router itself remembers: values of header fields and parameters, and
//! addresses.
//!
//! What a worker's answer said is worth more than what a client made up: each has its own places, and only the oldest of
//! its own sort makes way.

use super::{Choice, Phase, Table, Worker, WorkerId};
use crate::config::router::Balance;
use crate::wire::sticky::{Kept, Key};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Keys that are remembered, of each source.
const LIMIT: usize = 100_000;
/// Keys in use that are passed over when a place is needed.
const PASSED: usize = 16;

/// Who said that a key belongs to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A client came with it, and the worker was chosen.
    Request,
    /// The worker's answer carried it.
    Answer,
}

#[derive(Debug)]
struct Entry {
    worker: WorkerId,
    source: Source,
    heard: Duration,
    /// Its place in the order.
    stamp: u64,
    /// Requests with it whose answers are not over.
    in_use: usize,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<Kept, Entry>,
    /// Those of requests and those of answers, the one that was heard of last at the end.
    order: [BTreeMap<u64, Kept>; 2],
    last_stamp: u64,
}

/// What became of a key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// It was not known like this.
    pub news: bool,
    /// It took the place of this one.
    pub dropped: Option<Kept>,
}

impl Keys {
    fn hear(&mut self, key: &Kept, now: Duration) {
        if let Some(entry) = self.known.get_mut(key) {
            self.last_stamp += 1;
            let order = &mut self.order[entry.source as usize];
            let key = order.remove(&entry.stamp).unwrap_or_else(|| key.clone());
            order.insert(self.last_stamp, key);
            (entry.stamp, entry.heard) = (self.last_stamp, now);
        }
    }

    fn insert(&mut self, key: &Kept, worker: WorkerId, source: Source, now: Duration) {
        let in_use = self.remove(key).map_or(0, |entry| entry.in_use);
        self.last_stamp += 1;
        self.order[source as usize].insert(self.last_stamp, key.clone());
        let entry = Entry { worker, source, heard: now, stamp: self.last_stamp, in_use };
        self.known.insert(key.clone(), entry);
    }

    fn remove(&mut self, key: &Kept) -> Option<Entry> {
        let entry = self.known.remove(key)?;
        self.order[entry.source as usize].remove(&entry.stamp);
        Some(entry)
    }

    /// The oldest of a source that nobody uses.
    fn oldest(&self, source: Source) -> Option<Kept> {
        let order = &self.order[source as usize];
        let idle = |key: &&Kept| self.known.get(*key).is_none_or(|entry| entry.in_use == 0);
        order.values().take(PASSED).find(idle).or_else(|| order.values().next()).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn drop_worker(&mut self, worker: WorkerId) {
        let order = &mut self.order;
        self.known.retain(|_, entry| {
            let stays = entry.worker != worker;
            if !stays {
                order[entry.source as usize].remove(&entry.stamp);
            }
            stays
        });
    }
}

impl Table {
    /// As [`Table::choose`], by any sort of key.
    pub fn choose_by(
        &mut self,
        key: Option<&Key>,
        tried: &[WorkerId],
        suits: impl Fn(&Worker) -> bool,
        balance: Balance,
        now: Duration,
        random: u64,
    ) -> Choice {
        let owner = match key {
            None => None,
            Some(Key::Session(session)) => return self.choose(Some(session), tried, suits, balance, now, random),
            Some(Key::Kept(key)) => {
                self.keys.hear(key, now);
                self.keys.known.get(key).map(|entry| entry.worker)
            }
            Some(Key::Worker(id)) => Some(*id),
        };
        match owner {
            // Unlike a session's, another worker can serve it.
            Some(id) if self.keeps(id) && !tried.contains(&id) => Choice::Worker(id),
            _ => self.choose_any(tried, suits, balance, now, random),
        }
    }

    /// Whether this worker still takes what is its own.
    pub fn keeps(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| match worker.phase {
            Phase::Starting => false,
            Phase::Ready => true,
            // One that has closed its servers on the way out would not even refuse.
            Phase::Draining => worker.sticky || !worker.servers.is_empty() || worker.place.is_some(),
        })
    }

    /// From now on this key belongs to this worker. What another worker said in an answer stays, as long as that one is
    /// there: an app that repeats what clients say must not move the keys of others.
    pub fn bind(&mut self, key: &Kept, id: WorkerId, source: Source, now: Duration) -> Binding {
        let mut binding = Binding::default();
        let before = self.keys.known.get(key).map(|entry| (entry.worker, entry.source));
        let firm = |source| source == Source::Answer;
        match before {
            _ if !self.workers.contains_key(&id) => return binding,
            Some((worker, known)) if worker == id && (firm(known) || !firm(source)) => {
                self.keys.hear(key, now);
                return binding;
            }
            Some((worker, known)) if worker != id && firm(source) && firm(known) && self.keeps(worker) => {
                return binding;
            }
            _ => {}
        }
        if let Some(other) = before.and_then(|(worker, _)| self.workers.get_mut(&worker)) {
            other.keys = other.keys.saturating_sub(1);
        }
        self.turns += 1;
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.keys += 1;
            match source {
                Source::Request => worker.turn = self.turns,
                Source::Answer => drop(worker.expected.pop_front()),
            }
        }
        self.keys.insert(key, id, source, now);
        binding.news = true;
        if self.keys.order[source as usize].len() > LIMIT {
            binding.dropped = self.keys.oldest(source);
            if let Some(oldest) = &binding.dropped {
                self.unbind(oldest);
            }
        }
        binding
    }

    /// A key is over; says whether there was one. `only`: if it is of this source.
    pub fn unbind_if(&mut self, key: &Kept, only: Source) -> bool {
        self.keys.known.get(key).is_some_and(|entry| entry.source == only) && self.unbind(key)
    }

    pub fn unbind(&mut self, key: &Kept) -> bool {
        let Some(entry) = self.keys.remove(key) else { return false };
        if let Some(worker) = self.workers.get_mut(&entry.worker) {
            worker.keys = worker.keys.saturating_sub(1);
        }
        true
    }

    /// A request with this key is on its way: until [`Self::release`] it is not forgotten.
    pub fn hold(&mut self, key: &Kept) {
        if let Some(entry) = self.keys.known.get_mut(key) {
            entry.in_use += 1;
        }
    }

    /// Its answer is over.
    pub fn release(&mut self, key: &Kept, now: Duration) {
        if let Some(entry) = self.keys.known.get_mut(key) {
            entry.in_use = entry.in_use.saturating_sub(1);
            self.keys.hear(key, now);
        }
    }

    /// Drops the keys of which nothing was heard for too long; says which.
    pub fn forget_idle(&mut self, lifetime: Duration, now: Duration) -> Vec<Kept> {
        let mut over = Vec::new();
        for source in [Source::Request, Source::Answer] {
            while let Some(key) = self.keys.order[source as usize].values().next().cloned() {
                match self.keys.known.get(&key) {
                    Some(entry) if now.saturating_sub(entry.heard) <= lifetime => break,
                    // It counts from the end of its last answer.
                    Some(entry) if entry.in_use > 0 => self.keys.hear(&key, now),
                    _ => {
                        self.unbind(&key);
                        over.push(key);
                    }
                }
            }
        }
        over
    }

    /// All keys: whose, which, and who said so; the one that was heard of last at the end.
    pub fn keys(&self) -> impl Iterator<Item = (WorkerId, &Kept, Source)> {
        let all = self.keys.order.iter().flat_map(|order| order.values());
        all.filter_map(|key| self.keys.known.get(key).map(|entry| (entry.worker, key, entry.source)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::router::ReadyOn;
    use crate::router::table::Sign;
    use proptest::prelude::*;

    const NOW: Duration = Duration::from_secs(100);
    const HOUR: Duration = Duration::from_secs(3600);

    fn table(workers: u32) -> Table {
        let mut table = Table::default();
        for slot in 1..=workers {
            let id = table.attach(&slot.to_string(), 1000, 0).id;
            assert!(table.sign(id, Sign::Listening, ReadyOn::Auto));
        }
        table
    }

    fn key(text: &str) -> Kept {
        Kept::from_text(text)
    }

    fn go(table: &mut Table, text: &str, tried: &[WorkerId], now: Duration) -> WorkerId {
        let kept = key(text);
        let chosen = table.choose_by(Some(&Key::Kept(kept.clone())), tried, |_| false, Balance::LeastLoaded, now, 0);
        let Choice::Worker(id) = chosen else { panic!("nobody") };
        table.bind(&kept, id, Source::Request, now);
        id
    }

    #[test]
    fn a_new_key_stays_where_it_was_sent_first() {
        let mut table = table(3);
        let first: Vec<_> = (0..9).map(|n| go(&mut table, &n.to_string(), &[], NOW)).collect();
        for id in 1..=3 {
            assert_eq!(table.worker(id).unwrap().keys, 3, "{first:?}");
        }
        let again: Vec<_> = (0..9).map(|n| go(&mut table, &n.to_string(), &[], NOW)).collect();
        assert_eq!(first, again);
        // A worker that comes moves nobody, one that goes only its own.
        let id = table.attach("4", 1, 0).id;
        table.sign(id, Sign::Listening, ReadyOn::Auto);
        table.detach(2);
        let moved: Vec<_> = (0..9).map(|n| go(&mut table, &n.to_string(), &[], NOW)).collect();
        for (before, after) in first.iter().zip(&moved) {
            assert!(before == after || *before == 2, "{first:?} {moved:?}");
        }
        assert_eq!((table.sessions(), table.keys().count()), (9, 9));
    }

    #[test]
    fn round_robin_goes_round() {
        let mut table = table(3);
        let mut all: Vec<_> = (0..6)
            .map(|n| {
                let kept = key(&n.to_string());
                let by = Key::Kept(kept.clone());
                let Choice::Worker(id) = table.choose_by(Some(&by), &[], |_| false, Balance::RoundRobin, NOW, 0) else {
                    panic!("nobody")
                };
                table.bind(&kept, id, Source::Request, NOW);
                id
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all, [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn one_that_refuses_loses_the_key() {
        let mut table = table(2);
        let id = go(&mut table, "k", &[], NOW);
        let other = go(&mut table, "k", &[id], NOW);
        assert_ne!(id, other);
        assert_eq!(go(&mut table, "k", &[], NOW), other);
        assert_eq!((table.worker(id).unwrap().keys, table.worker(other).unwrap().keys), (0, 1));
    }

    #[test]
    fn one_that_leaves_keeps_its_own_while_it_can_serve_them() {
        let mut table = table(2);
        let id = go(&mut table, "k", &[], NOW);
        table.online(id);
        table.worker_mut(id).unwrap().sticky = true;
        table.drain(&id.to_string());
        assert_eq!(go(&mut table, "k", &[], NOW), id);
        table.worker_mut(id).unwrap().sticky = false;
        let other = go(&mut table, "k", &[], NOW);
        assert_ne!(other, id, "it has no server any more");
        let by = |table: &mut Table, id| {
            table.choose_by(Some(&Key::Worker(id)), &[], |_| false, Balance::LeastLoaded, NOW, 0)
        };
        assert_eq!(by(&mut table, other), Choice::Worker(other));
        assert_eq!(by(&mut table, id), Choice::Worker(other));
        assert_eq!(by(&mut table, 99), Choice::Worker(other));
    }

    #[test]
    fn an_answer_is_worth_more_than_a_request() {
        let mut table = table(2);
        let bind = |table: &mut Table, id, source| table.bind(&key("k"), id, source, NOW).news;
        assert!(bind(&mut table, 1, Source::Request) && bind(&mut table, 2, Source::Answer));
        assert!(!bind(&mut table, 1, Source::Answer) && !bind(&mut table, 2, Source::Request));
        assert_eq!(go(&mut table, "k", &[], NOW), 2);
        assert!(!bind(&mut table, 9, Source::Answer), "there is no such worker");
        assert!(!table.unbind_if(&key("k"), Source::Request) && table.unbind_if(&key("k"), Source::Answer));
        assert_eq!((table.sessions(), table.worker(1).unwrap().keys, table.worker(2).unwrap().keys), (0, 0, 0));
    }

    #[test]
    fn idle_keys_are_forgotten() {
        let mut table = table(1);
        go(&mut table, "old", &[], NOW);
        go(&mut table, "used", &[], NOW);
        table.hold(&key("used"));
        go(&mut table, "new", &[], NOW + HOUR);
        assert_eq!(table.forget_idle(HOUR, NOW + HOUR), []);
        let late = NOW + HOUR + Duration::from_secs(1);
        assert_eq!(table.forget_idle(HOUR, late), [key("old")]);
        table.release(&key("used"), late);
        assert_eq!(table.forget_idle(HOUR, late + HOUR), [key("new")]);
        assert_eq!(table.forget_idle(HOUR, late + HOUR * 2), [key("used")]);
        assert_eq!((table.sessions(), table.worker(1).unwrap().keys), (0, 0));
    }

    #[test]
    fn clients_cannot_push_out_what_a_worker_said() {
        let mut table = table(1);
        table.bind(&key("said"), 1, Source::Answer, NOW);
        go(&mut table, "used", &[], NOW);
        table.hold(&key("used"));
        let mut dropped = Vec::new();
        for n in 0..=LIMIT {
            dropped.extend(table.bind(&key(&n.to_string()), 1, Source::Request, NOW).dropped);
        }
        assert_eq!(dropped, [key("0"), key("1")], "the oldest that nobody uses");
        assert_eq!((table.sessions(), table.worker(1).unwrap().keys), (LIMIT + 1, LIMIT + 1));
    }

    proptest! {
        /// Whatever happens, the counts are those of the keys.
        #[test]
        fn the_counts_add_up(steps in prop::collection::vec((0..7_u8, 1..5_u32, 0..6_u8), 0..60)) {
            let mut table = table(4);
            for (at, (step, id, name)) in steps.into_iter().enumerate() {
                let (now, key) = (NOW + Duration::from_secs(at as u64), key(&name.to_string()));
                match step {
                    0 | 1 => drop(table.bind(&key, id, Source::Request, now)),
                    2 => drop(table.bind(&key, id, Source::Answer, now)),
                    3 => drop(table.unbind(&key)),
                    4 => table.hold(&key),
                    5 => table.release(&key, now),
                    _ if name == 0 => drop(table.detach(id)),
                    _ => drop(table.forget_idle(Duration::from_secs(9), now)),
                }
                for worker in table.workers() {
                    prop_assert_eq!(worker.keys, table.keys().filter(|(owner, ..)| *owner == worker.id).count());
                }
                prop_assert_eq!(table.keys().count(), table.sessions());
            }
        }
    }
}
