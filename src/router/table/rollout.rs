//! What a rolling reload asks of the table: newer workers get what is new, and a new one takes a given index.

use super::{Phase, Table, WorkerId};

impl Table {
    /// How many workers the app should have: their indices are below that where there is a choice.
    pub fn set_wanted(&mut self, workers: u32) {
        self.wanted = workers;
    }

    /// A reload begins: the workers that are attached by now are the old ones.
    pub fn begin_rollout(&mut self, wanted: u32) {
        self.end_rollout();
        self.wanted = wanted;
        self.generation = 1;
    }

    /// The worker that attaches in `slot` next gets this index, even while another has it.
    pub fn promise(&mut self, slot: &str, index: u32) {
        self.promised.insert(slot.to_owned(), index);
    }

    /// The reload is over, one way or the other: all workers are alike again.
    pub fn end_rollout(&mut self) {
        self.generation = 0;
        self.promised.clear();
        self.workers.values_mut().for_each(|worker| worker.generation = 0);
    }

    /// The newest generation of which a worker is ready that is not in `tried`.
    pub(super) fn newest(&self, tried: &[WorkerId]) -> u32 {
        let ready = self.workers.values().filter(|worker| worker.phase == Phase::Ready && !tried.contains(&worker.id));
        ready.map(|worker| worker.generation).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::router::{Balance, ReadyOn};
    use crate::router::table::{Choice, Sign, Table};
    use std::time::Duration;

    const NOW: Duration = Duration::from_secs(100);

    fn start(table: &mut Table, slot: &str) -> u32 {
        let id = table.attach(slot, 1000, 0).id;
        assert!(table.sign(id, Sign::Adapter, ReadyOn::Auto));
        id
    }

    fn choose(table: &mut Table, session: Option<&str>) -> Choice {
        table.choose(session, &[], Balance::LeastLoaded, NOW, 0)
    }

    #[test]
    fn new_sessions_go_to_new_workers_once_there_is_one() {
        let mut table = Table::default();
        let (one, two) = (start(&mut table, "1"), start(&mut table, "2"));
        table.open(one, "known");
        table.begin_rollout(2);
        assert_eq!(choose(&mut table, None), Choice::Worker(one.min(two)), "no new one yet");
        let starting = table.attach("3", 1, 0).id;
        assert_ne!(choose(&mut table, None), Choice::Worker(starting), "a starting one is none");
        assert!(table.sign(starting, Sign::Adapter, ReadyOn::Auto));
        for number in 0..9 {
            assert_eq!(choose(&mut table, None), Choice::Worker(starting));
            table.handing(starting, true, NOW);
            table.open(starting, &number.to_string());
        }
        assert_eq!(choose(&mut table, Some("known")), Choice::Worker(one));
        // It refuses, or it dies: back to the old ones.
        assert!(matches!(table.choose(None, &[starting], Balance::LeastLoaded, NOW, 0), Choice::Worker(id) if id != starting));
        table.detach(starting);
        assert!(matches!(choose(&mut table, None), Choice::Worker(id) if id == one || id == two));
    }

    #[test]
    fn after_the_end_all_are_alike() {
        let mut table = Table::default();
        let one = start(&mut table, "1");
        table.begin_rollout(2);
        let new = start(&mut table, "3");
        table.open(new, "abc");
        table.end_rollout();
        assert_eq!(choose(&mut table, None), Choice::Worker(one));
        assert_eq!(table.worker(start(&mut table, "4")).map(|worker| worker.generation), Some(0));
    }

    #[test]
    fn the_new_one_takes_the_index() {
        let mut table = Table::default();
        for slot in ["1", "2", "3"] {
            start(&mut table, slot);
        }
        table.begin_rollout(3);
        table.promise("4", 1);
        assert_eq!(table.attach("4", 1, 0).index, 1);
        table.end_rollout();
        let mut other = Table::default();
        other.set_wanted(3);
        let indices = ["2", "4", "3"].map(|slot| other.attach(slot, 1, 0).index);
        assert_eq!(indices, [1, 0, 2], "a slot above the number of workers gets what is free");
    }
}
