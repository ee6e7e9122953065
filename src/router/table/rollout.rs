//! What a rolling reload asks of the table: a new worker gets nothing until it has stood its trial, then all that is new;
//! and it takes a given index.

use super::{Phase, Table, WorkerId};

/// Who gets what names no session: the highest that is ready. Without a reload all are [`Rank::Old`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// New, and not yet in the place of an old one: it may turn out to be broken.
    Trial,
    Old,
    New,
}

impl Table {
    /// How many workers the app should have: their indices are below that where there is a choice.
    pub fn set_wanted(&mut self, workers: u32) {
        self.wanted = workers;
    }

    /// A reload begins: the workers that are attached by now are the old ones.
    pub fn begin_rollout(&mut self) {
        self.end_rollout();
    }

    /// The worker that attaches in `slot` next is on trial, and gets this index even while another has it.
    pub fn promise(&mut self, slot: &str, index: u32) {
        self.promised.insert(slot.to_owned(), index);
    }

    /// Whether the worker of that slot, here or still to come, is on trial.
    pub fn is_on_trial(&self, slot: &str) -> bool {
        self.promised.contains_key(slot)
    }

    /// Whether a worker on trial has been silent so far, where those before it listened, said `ready` or had an adapter: a
    /// release that hangs before it listens must not count as ready.
    pub fn is_less_than_before(&self, id: WorkerId) -> bool {
        let on_trial = self.worker(id).is_some_and(|worker| worker.rank == Rank::Trial && !worker.spoke);
        on_trial
            && self
                .workers
                .values()
                .any(|other| other.rank != Rank::Trial && other.phase == Phase::Ready && other.spoke)
    }

    /// The trial of that slot's worker is over.
    pub fn admit(&mut self, slot: &str) {
        self.promised.remove(slot);
        for worker in self.workers.values_mut().filter(|worker| worker.slot == slot && worker.rank == Rank::Trial) {
            worker.rank = Rank::New;
        }
    }

    /// The reload is over, one way or the other: all workers are alike again.
    pub fn end_rollout(&mut self) {
        self.promised.clear();
        self.workers.values_mut().for_each(|worker| worker.rank = Rank::Old);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::router::{Balance, ReadyOn};
    use crate::router::table::{Choice, Rank, Sign, Table};
    use std::time::Duration;

    const NOW: Duration = Duration::from_secs(100);

    fn start(table: &mut Table, slot: &str) -> u32 {
        let id = table.attach(slot, 1000, 0).id;
        assert!(table.sign(id, Sign::Adapter, ReadyOn::Auto));
        id
    }

    fn choose(table: &mut Table, session: Option<&str>) -> Choice {
        table.choose(session, &[], |_| true, Balance::LeastLoaded, NOW, 0)
    }

    #[test]
    fn new_sessions_go_to_new_workers_once_their_trial_is_over() {
        let mut table = Table::default();
        let (one, two) = (start(&mut table, "1"), start(&mut table, "2"));
        table.open(one, "known");
        table.open(two, "also");
        table.begin_rollout();
        table.promise("3", 0);
        let new = start(&mut table, "3");
        assert_eq!(choose(&mut table, None), Choice::Worker(one), "it is on trial, though it has the fewest sessions");
        table.admit("3");
        for number in 0..9 {
            assert_eq!(choose(&mut table, None), Choice::Worker(new));
            table.handing(new, true, NOW);
            table.open(new, &number.to_string());
        }
        assert_eq!(choose(&mut table, Some("known")), Choice::Worker(one));
        // It refuses, or it dies: back to the old ones.
        assert_eq!(table.choose(None, &[new], |_| true, Balance::LeastLoaded, NOW, 0), Choice::Worker(one));
        table.detach(new);
        assert_eq!(choose(&mut table, None), Choice::Worker(one));
    }

    #[test]
    fn one_on_trial_is_better_than_nobody() {
        let mut table = Table::default();
        table.begin_rollout();
        table.promise("1", 0);
        let only = start(&mut table, "1");
        assert_eq!(choose(&mut table, None), Choice::Worker(only));
    }

    #[test]
    fn after_the_end_all_are_alike() {
        let mut table = Table::default();
        let one = start(&mut table, "1");
        table.begin_rollout();
        table.promise("3", 0);
        let new = start(&mut table, "3");
        table.admit("3");
        table.open(new, "abc");
        table.end_rollout();
        assert_eq!(choose(&mut table, None), Choice::Worker(one));
        let last = start(&mut table, "4");
        assert_eq!(table.worker(last).map(|worker| worker.rank), Some(Rank::Old));
    }

    #[test]
    fn the_new_one_takes_the_index() {
        let mut table = Table::default();
        for slot in ["1", "2", "3"] {
            start(&mut table, slot);
        }
        table.begin_rollout();
        table.promise("4", 1);
        assert_eq!(table.attach("4", 1, 0).index, 1);
        table.end_rollout();
        let mut other = Table::default();
        other.set_wanted(3);
        let indices = ["2", "4", "3"].map(|slot| other.attach(slot, 1, 0).index);
        assert_eq!(indices, [1, 0, 2], "a slot above the number of workers gets what is free");
    }
}
