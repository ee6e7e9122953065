//! What the table learns where the router sees requests and answers itself: who has how many of them, and sessions that
//! no worker registers.

use super::{Table, WorkerId};
use std::time::Duration;

/// A session that was seen in an answer. Its end is not: when nothing is heard of it for long enough, it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Learnt {
    heard: Duration,
    lifetime: Duration,
}

impl Table {
    /// A request is on its way to a worker, over a connection that this has already. `new`: it names no session.
    pub fn asked(&mut self, id: WorkerId, new: bool, now: Duration) {
        self.turns += 1;
        if let Some(worker) = self.workers.get_mut(&id)
            && new
        {
            worker.turn = self.turns;
            worker.expected.push_back(now);
        }
    }

    /// It did not get there after all; `new` as in [`Self::asked`].
    pub fn not_asked(&mut self, id: WorkerId, new: bool) {
        if let Some(worker) = self.workers.get_mut(&id)
            && new
        {
            worker.expected.pop_back();
        }
    }

    /// A request is going to a worker. `new`: it names no session, so that its worker need not be patient with it.
    pub fn begin(&mut self, id: WorkerId, new: bool, now: Duration) {
        self.turns += u64::from(new);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.in_flight += 1;
            if new {
                worker.turn = self.turns;
                worker.unanswered.push_back(now);
            }
        }
    }

    /// The answer to one without a session begins `now`; `None`: it never will. `began`: when the worker was given it.
    pub fn answered(&mut self, id: WorkerId, began: Duration, now: Option<Duration>) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.heard = worker.heard.max(now.unwrap_or_default());
            if let Ok(at) = worker.unanswered.binary_search(&began) {
                worker.unanswered.remove(at);
            }
        }
    }

    /// Its answer is over. `expecting`: it named no session and has opened none, so none is to be expected of it any more.
    pub fn end(&mut self, id: WorkerId, expecting: bool) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.in_flight = worker.in_flight.saturating_sub(1);
            if expecting {
                worker.expected.pop_front();
            }
        }
    }

    /// A connection to a worker has switched protocols: it counts as what was expected of it.
    pub fn enter_tunnel(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.tunnels += 1;
            worker.expected.pop_front();
        }
    }

    /// It has ended.
    pub fn leave_tunnel(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.tunnels = worker.tunnels.saturating_sub(1);
        }
    }

    /// A worker's answer opened a session; says whether that is news. A session that somebody has stays where it is: an
    /// app that repeats what clients say must not move the sessions of others.
    pub fn learn(&mut self, id: WorkerId, session: &str, lifetime: Duration, now: Duration) -> bool {
        if self.sessions.contains_key(session) || !self.workers.contains_key(&id) {
            return false;
        }
        self.learnt.insert(session.into(), Learnt { heard: now, lifetime });
        self.own(id, session);
        true
    }

    /// A request named this session.
    pub fn hear(&mut self, session: &str, now: Duration) {
        if let Some(learnt) = self.learnt.get_mut(session) {
            learnt.heard = now;
        }
    }

    /// Drops the learnt sessions of which nothing was heard for too long; says which.
    pub fn forget_silent(&mut self, now: Duration) -> Vec<(WorkerId, String)> {
        let over = |learnt: &Learnt| now.saturating_sub(learnt.heard) > learnt.lifetime;
        let over: Vec<_> = self.learnt.iter().filter(|(_, it)| over(it)).map(|(sid, _)| sid.clone()).collect();
        let mut gone = Vec::new();
        for session in over {
            if let Some(id) = self.sessions.get(&session).copied() {
                self.close(id, &session);
                gone.push((id, session.into()));
            }
        }
        gone
    }

    /// The learnt sessions: whose, which, and how long it may be silent.
    pub fn learnt(&self) -> impl Iterator<Item = (WorkerId, &str, Duration)> {
        self.learnt.iter().filter_map(|(sid, it)| Some((*self.sessions.get(sid)?, &**sid, it.lifetime)))
    }

    /// Whether no worker has registered this session, though one has it.
    pub fn is_learnt(&self, session: &str) -> bool {
        self.learnt.contains_key(session)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::router::{Balance, ReadyOn};
    use crate::router::table::{Choice, STUCK, Sign, Table};
    use std::time::Duration;

    const NOW: Duration = Duration::from_secs(100);
    const MINUTE: Duration = Duration::from_secs(60);

    fn table() -> Table {
        let mut table = Table::default();
        for slot in ["1", "2"] {
            let id = table.attach(slot, 1000, 0).id;
            assert!(table.sign(id, Sign::Listening, ReadyOn::Auto));
        }
        table
    }

    fn choose(table: &mut Table, session: Option<&str>) -> Choice {
        table.choose(session, &[], |_| true, Balance::LeastLoaded, NOW, 0)
    }

    #[test]
    fn a_learnt_session_is_routed_until_nothing_is_heard_of_it() {
        let mut table = table();
        assert!(table.learn(2, "abc", MINUTE, NOW) && !table.learn(2, "abc", MINUTE, NOW));
        assert_eq!(choose(&mut table, Some("abc")), Choice::Worker(2));
        assert!(!table.worker(2).unwrap().sticky, "nothing was said of setupWorker()");
        assert_eq!(table.forget_silent(NOW + MINUTE), []);
        table.hear("abc", NOW + MINUTE);
        assert_eq!(table.forget_silent(NOW + 2 * MINUTE), []);
        assert_eq!(table.learnt().collect::<Vec<_>>(), [(2, "abc", MINUTE)]);
        let late = NOW + 2 * MINUTE + Duration::from_millis(1);
        assert_eq!(table.forget_silent(late), [(2, "abc".to_owned())]);
        assert_eq!(choose(&mut table, Some("abc")), choose(&mut table, None), "anybody may say that it is over");
        assert_eq!((table.sessions(), table.worker(2).unwrap().sessions.len()), (0, 0));
    }

    #[test]
    fn what_a_worker_registers_is_its_own() {
        let mut table = table();
        assert!(table.learn(1, "abc", MINUTE, NOW));
        table.open(1, "abc");
        assert!(!table.is_learnt("abc") && table.worker(1).unwrap().sticky);
        assert_eq!(table.forget_silent(NOW + 9 * MINUTE), []);
        // Nobody moves it by repeating it.
        assert!(!table.learn(2, "abc", MINUTE, NOW));
        assert_eq!(choose(&mut table, Some("abc")), Choice::Worker(1));
        assert!(!table.learn(9, "other", MINUTE, NOW), "there is no such worker");
    }

    #[test]
    fn a_dead_worker_takes_what_was_learnt_with_it() {
        let mut table = table();
        assert!(table.learn(2, "abc", MINUTE, NOW));
        table.detach(2);
        assert_eq!(table.learnt().count(), 0);
        assert_eq!(choose(&mut table, Some("abc")), Choice::Worker(1), "it will say that it does not know it");
    }

    #[test]
    fn the_unanswered_count() {
        let mut table = table();
        let before = NOW - 2 * STUCK;
        table.begin(1, true, before);
        for _ in 0..5 {
            assert_eq!(choose(&mut table, None), Choice::Worker(2));
            table.asked(2, true, NOW);
        }
        table.answered(1, before, None);
        assert_eq!(choose(&mut table, None), Choice::Worker(1), "it was given fewer");
        table.begin(1, false, before);
        assert_eq!(choose(&mut table, None), Choice::Worker(1), "a long poll is no load");
        table.begin(1, true, NOW);
        assert_eq!(choose(&mut table, None), Choice::Worker(1), "nor is what may be answered any moment");
        table.begin(1, true, before);
        table.answered(1, before, Some(NOW));
        assert_eq!(choose(&mut table, None), Choice::Worker(1), "it has answered somebody");
        table.answered(1, NOW, None);
        table.end(1, true);
        table.end(1, true);
        assert_eq!(table.worker(1).unwrap().in_flight, 2);
        table.end(1, true);
        table.end(1, false);
        table.end(1, false);
        assert_eq!(table.worker(1).unwrap().in_flight, 0);
    }

    #[test]
    fn what_is_no_session_does_not_count_as_one() {
        let mut table = table();
        let load = |table: &mut Table, id| table.worker_mut(id).unwrap().load(NOW).sessions;
        for _ in 0..3 {
            table.asked(1, true, NOW);
            table.begin(1, true, NOW);
        }
        assert_eq!(load(&mut table, 1), 3);
        // A plain answer, a session, a connection that switches protocols.
        table.end(1, true);
        table.learn(1, "abc", MINUTE, NOW);
        table.end(1, false);
        table.enter_tunnel(1);
        table.end(1, false);
        assert_eq!(load(&mut table, 1), 2);
        table.leave_tunnel(1);
        table.leave_tunnel(1);
        assert_eq!(load(&mut table, 1), 1);
        table.asked(2, true, NOW);
        table.not_asked(2, true);
        table.not_asked(2, false);
        assert_eq!(load(&mut table, 2), 0);
    }
}
