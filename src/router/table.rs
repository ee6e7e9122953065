//! Workers and sessions (pure): who is there, who has which session, who gets the next one.

mod keys;
mod proxied;
mod rollout;

pub use keys::Source;
pub use rollout::Rank;

use super::balance::{self, Load};
use super::record::WorkerRecord;
use super::tally::Tally;
use crate::config::router::{Balance, ReadyOn};
use crate::wire::cluster::Query;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

pub use crate::relay::WorkerId;

/// How long a connection without a session counts as one that is about to get it.
const EXPECTATION: Duration = Duration::from_secs(10);
/// A handover that is not acknowledged after so long: the worker's event loop does not turn.
const STUCK: Duration = Duration::from_millis(100);
/// Sessions that are over and are remembered, so that their clients get their 400 at once.
const GONE_LIMIT: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Starting,
    Ready,
    /// Keeps its sessions, gets no new one.
    Draining,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// A cluster server of a worker: what it believes to listen on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    pub key: String,
    pub query: Query,
}

/// Where a worker without a channel takes connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    Path(PathBuf),
    /// Of 127.0.0.1.
    Port(u16),
    /// It takes no connections.
    Nowhere,
}

#[derive(Debug)]
pub struct Worker {
    pub id: WorkerId,
    pub slot: String,
    pub index: u32,
    pub pid: i32,
    pub phase: Phase,
    /// Seconds since 1970.
    pub since: u64,
    pub servers: Vec<Server>,
    pub sessions: HashSet<Box<str>>,
    /// How many other keys are its own.
    pub keys: usize,
    /// Handed over and not acknowledged.
    pub pending: usize,
    /// Handed over in all.
    pub handed: u64,
    /// Requests that the router itself has passed on, and whose answers are not over.
    pub in_flight: usize,
    /// When those of them began that name no session, and whose answers have not begun; oldest first.
    unanswered: VecDeque<Duration>,
    /// When an answer of its began last.
    heard: Duration,
    pub rank: Rank,
    /// When it was given a connection last.
    pub touched: Option<Duration>,
    /// When connections without a session were handed over that have not registered one yet.
    expected: VecDeque<Duration>,
    /// When what is pending was handed over, oldest first.
    unacknowledged: VecDeque<Duration>,
    turn: u64,
    pub(super) online: bool,
    /// It has a broadcast adapter or has registered sessions: what none of its servers is for goes to its `setupWorker()`.
    pub sticky: bool,
    /// It has bound a port by itself, and takes no connections for that from us.
    pub alone: bool,
    /// It has been ready once.
    pub stood: bool,
    /// It has given another sign than silence.
    pub spoke: bool,
    /// It is being stopped.
    pub ordered: bool,
    /// Where the router connects to it; `None`: it has a channel.
    pub place: Option<Place>,
    /// Why it is not ready yet, where that is known.
    pub unready: Option<String>,
    /// Connections that have switched protocols and pass through the router.
    pub tunnels: usize,
    /// Its slot's.
    pub tally: Rc<Tally>,
}

impl Worker {
    /// How long it takes to acknowledge: as lately, or as long as the oldest handover has waited by now.
    pub fn lag(&self, now: Duration) -> Option<Duration> {
        let waits = self.unacknowledged.front().map(|at| now.saturating_sub(*at));
        self.tally.lag.get(now).max(waits)
    }

    fn load(&mut self, now: Duration) -> Load {
        while self.expected.front().is_some_and(|at| now.saturating_sub(*at) > EXPECTATION) {
            self.expected.pop_front();
        }
        let waits = self.unacknowledged.front().map_or(Duration::ZERO, |at| now.saturating_sub(*at));
        // By powers of two: on a busy machine everybody is late, and one that is blocked far more so.
        let stuck = (waits.as_millis() / STUCK.as_millis()).checked_ilog2().map_or(0, |power| power + 1);
        let sessions = self.sessions.len() + self.keys + self.expected.len() + self.tunnels;
        // One that answers others is not blocked, and a request counts as the session that it may become.
        let silent = self.unanswered.front().map_or(Duration::ZERO, |at| now.saturating_sub(self.heard.max(*at)));
        let late = if silent > STUCK { self.unanswered.len() } else { 0 };
        Load { stuck, pending: self.pending + late, sessions, turn: self.turn }
    }
}

/// A sign of life that may make a worker ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// The string `ready`.
    Word,
    Listening,
    /// The first message of a broadcast adapter.
    Adapter,
    /// Nothing came for the grace time after `online`, and the event loop turns.
    Silence,
    /// It took a connection of the router's, and answered as it should.
    Answer,
    /// It told systemd.
    Notified,
}

/// Where a connection may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Worker(WorkerId),
    /// It names a session that no worker has registered yet.
    UnknownSession,
    /// No worker is ready.
    Nobody,
}

#[derive(Debug, Default)]
pub struct Table {
    workers: BTreeMap<WorkerId, Worker>,
    sessions: HashMap<Box<str>, WorkerId>,
    /// Those of them that no worker has registered.
    learnt: HashMap<Box<str>, proxied::Learnt>,
    keys: keys::Keys,
    /// Sessions that are over, or whose workers are gone, oldest first.
    gone: VecDeque<Box<str>>,
    gone_lookup: HashSet<Box<str>>,
    indices: HashMap<String, u32>,
    last_id: WorkerId,
    turns: u64,
    /// How many workers there should be; 0: nobody said.
    wanted: u32,
    /// Slot → index, for workers that replace others.
    promised: HashMap<String, u32>,
    /// By slot.
    tallies: BTreeMap<String, Rc<Tally>>,
}

impl Table {
    /// A worker's channel is open. `now` in seconds since 1970.
    pub fn attach(&mut self, slot: &str, pid: i32, now: u64) -> &mut Worker {
        self.last_id += 1;
        let id = self.last_id;
        let index = self.index_for(slot);
        self.insert(id, slot, index, pid, now)
    }

    fn insert(&mut self, id: WorkerId, slot: &str, index: u32, pid: i32, since: u64) -> &mut Worker {
        self.indices.insert(slot.to_owned(), index);
        let worker = Worker {
            id,
            slot: slot.to_owned(),
            index,
            pid,
            phase: Phase::Starting,
            since,
            servers: Vec::new(),
            sessions: HashSet::new(),
            keys: 0,
            pending: 0,
            handed: 0,
            in_flight: 0,
            unanswered: VecDeque::new(),
            heard: Duration::ZERO,
            rank: if self.promised.contains_key(slot) { Rank::Trial } else { Rank::Old },
            touched: None,
            expected: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            turn: 0,
            online: false,
            sticky: false,
            alone: false,
            stood: false,
            spoke: false,
            ordered: false,
            place: None,
            unready: None,
            tunnels: 0,
            tally: Rc::clone(self.tallies.entry(slot.to_owned()).or_default()),
        };
        worker.tally.attached.count();
        self.workers.entry(id).or_insert(worker)
    }

    /// What was promised, else the slot's index of last time, else slot number less one, else the lowest that is free.
    fn index_for(&self, slot: &str) -> u32 {
        if let Some(index) = self.promised.get(slot) {
            return *index;
        }
        let taken: HashSet<u32> = self.workers.values().map(|worker| worker.index).collect();
        let usual = self.indices.get(slot).copied().or_else(|| slot.parse::<u32>().ok()?.checked_sub(1));
        if let Some(index) = usual.filter(|index| !taken.contains(index) && (self.wanted == 0 || *index < self.wanted))
        {
            return index;
        }
        (0..).find(|index| !taken.contains(index)).unwrap_or(0)
    }

    /// Puts back a worker that another process attached.
    pub fn restore(&mut self, known: &WorkerRecord) {
        self.last_id = self.last_id.max(known.id);
        let worker = self.insert(known.id, &known.slot, known.index, known.pid, known.since);
        worker.phase = known.phase;
        worker.online = known.online;
        worker.sticky = known.sticky;
        worker.alone = known.alone;
        worker.stood = known.stood || known.phase != Phase::Starting;
        // Releases that did not write it down wrote what can only be by a word.
        let listens = known.phase == Phase::Ready && !known.servers.is_empty();
        worker.spoke = known.spoke || known.sticky || listens;
        worker.ordered = known.ordered;
        worker.place.clone_from(&known.place);
        worker.handed = known.handed;
        worker.servers.clone_from(&known.servers);
        // By the other process, perhaps just before it ended: this one's clock begins here.
        worker.touched = known.touched.then_some(Duration::ZERO);
    }

    /// No worker gets a number up to this one any more.
    pub fn skip_to(&mut self, last: WorkerId) {
        self.last_id = self.last_id.max(last);
    }

    pub fn last_id(&self) -> WorkerId {
        self.last_id
    }

    /// A worker's channel is closed: it is dead or as good as dead.
    pub fn detach(&mut self, id: WorkerId) -> Option<Worker> {
        let mut worker = self.workers.remove(&id)?;
        for session in std::mem::take(&mut worker.sessions) {
            self.sessions.remove(&session);
            self.learnt.remove(&session);
            self.remember_gone(session);
        }
        self.keys.drop_worker(id);
        Some(worker)
    }

    fn remember_gone(&mut self, session: Box<str>) {
        if self.gone_lookup.insert(session.clone()) {
            self.gone.push_back(session);
        }
        while self.gone.len() > GONE_LIMIT {
            if let Some(oldest) = self.gone.pop_front() {
                self.gone_lookup.remove(&oldest);
            }
        }
    }

    pub fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    pub fn worker_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(&id)
    }

    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// The newest worker of a slot.
    pub fn in_slot(&self, slot: &str) -> Option<&Worker> {
        self.workers.values().rev().find(|worker| worker.slot == slot)
    }

    pub fn count(&self, phase: Phase) -> usize {
        self.workers.values().filter(|worker| worker.phase == phase).count()
    }

    /// What the workers of each slot have done.
    pub fn tallies(&self) -> impl Iterator<Item = (&str, &Tally)> {
        self.tallies.iter().map(|(slot, tally)| (slot.as_str(), &**tally))
    }

    /// Sessions and other keys.
    pub fn sessions(&self) -> usize {
        self.sessions.len() + self.keys.len()
    }

    /// `online` came.
    pub fn online(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.online = true;
        }
    }

    /// A sign that the worker may be ready; says whether it has become so just now.
    pub fn sign(&mut self, id: WorkerId, sign: Sign, rule: ReadyOn) -> bool {
        let less = sign == Sign::Silence && self.is_less_than_before(id);
        let Some(worker) = self.workers.get_mut(&id) else {
            return false;
        };
        worker.sticky |= sign == Sign::Adapter;
        worker.spoke |= sign != Sign::Silence;
        let counts = match rule {
            // One that has asked for a server will say `listening`; its silence means that it is not there yet.
            ReadyOn::Auto => {
                sign != Sign::Silence || (worker.online && worker.servers.is_empty() && !worker.alone && !less)
            }
            ReadyOn::Notify => sign == Sign::Notified,
            // The only word of a worker without a channel.
            _ if sign == Sign::Answer => true,
            ReadyOn::Message => sign == Sign::Word,
            ReadyOn::Listening => sign == Sign::Listening,
        };
        let becomes = counts && worker.phase == Phase::Starting;
        if becomes {
            (worker.phase, worker.stood) = (Phase::Ready, true);
        }
        becomes
    }

    /// Out of rotation; says whether the slot has a worker.
    pub fn drain(&mut self, slot: &str) -> Option<WorkerId> {
        let id = self.in_slot(slot)?.id;
        let worker = self.workers.get_mut(&id)?;
        (worker.phase, worker.ordered) = (Phase::Draining, true);
        Some(id)
    }

    /// A worker registered a session.
    pub fn open(&mut self, id: WorkerId, session: &str) {
        // From now on it is the worker that tells its end.
        self.learnt.remove(session);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.sticky = true;
            self.own(id, session);
        }
    }

    fn own(&mut self, id: WorkerId, session: &str) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.sessions.insert(session.into()) {
            worker.expected.pop_front();
        }
        if let Some(before) = self.sessions.insert(session.into(), id)
            && before != id
            && let Some(other) = self.workers.get_mut(&before)
        {
            other.sessions.remove(session);
        }
    }

    /// A worker ended a session.
    pub fn close(&mut self, id: WorkerId, session: &str) {
        self.learnt.remove(session);
        // Only one that was known: another's word may still be on its way.
        if self.sessions.get(session) == Some(&id) {
            self.sessions.remove(session);
            self.remember_gone(session.into());
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.sessions.remove(session);
        }
    }

    /// Where a connection goes. `session`: the one that it names; `tried`: workers that have refused this connection;
    /// `suits`: whether a worker has a server for just this address. Where some have, the others get nothing of it.
    pub fn choose(
        &mut self,
        session: Option<&str>,
        tried: &[WorkerId],
        suits: impl Fn(&Worker) -> bool,
        balance: Balance,
        now: Duration,
        random: u64,
    ) -> Choice {
        if let Some(session) = session {
            match self.sessions.get(session) {
                Some(id) if !tried.contains(id) => return Choice::Worker(*id),
                // Its worker lives and refused the connection: no other can serve it.
                Some(_) => return Choice::Nobody,
                // It is over, or its worker is gone: any will say that the session is unknown.
                None if self.gone_lookup.contains(session) => {}
                None => return Choice::UnknownSession,
            }
        }
        self.choose_any(tried, suits, balance, now, random)
    }

    /// A worker for a connection without a (known) session.
    fn choose_any(
        &mut self,
        tried: &[WorkerId],
        suits: impl Fn(&Worker) -> bool,
        balance: Balance,
        now: Duration,
        random: u64,
    ) -> Choice {
        let mut candidates = Vec::with_capacity(self.workers.len());
        let mut loads = Vec::with_capacity(self.workers.len());
        // One on trial is better than nobody.
        let free = |worker: &Worker| worker.phase == Phase::Ready && !tried.contains(&worker.id);
        let only_trials = !self.workers.values().any(|worker| free(worker) && worker.rank != Rank::Trial);
        let ready = |worker: &Worker| worker.phase == Phase::Ready && (only_trials || worker.rank != Rank::Trial);
        let some_suit = self.workers.values().any(|worker| ready(worker) && suits(worker));
        let may = |worker: &Worker| free(worker) && ready(worker) && (!some_suit || suits(worker));
        let best = self.workers.values().filter(|worker| may(worker)).map(|worker| worker.rank).max();
        for worker in self.workers.values_mut() {
            if may(worker) && Some(worker.rank) == best {
                candidates.push(worker.id);
                loads.push(worker.load(now));
            }
        }
        let chosen = balance::choose(balance, &loads, random).and_then(|position| candidates.get(position).copied());
        chosen.map_or(Choice::Nobody, Choice::Worker)
    }

    /// A connection is on its way to a worker. `new`: it names no session. Says whether it is that worker's first.
    pub fn handing(&mut self, id: WorkerId, new: bool, now: Duration) -> bool {
        self.turns += 1;
        let Some(worker) = self.workers.get_mut(&id) else {
            return false;
        };
        worker.pending += 1;
        worker.unacknowledged.push_back(now);
        if new {
            worker.turn = self.turns;
            worker.expected.push_back(now);
        }
        worker.touched.replace(now).is_none()
    }

    /// What became of it.
    pub fn handed(&mut self, id: WorkerId, taken: bool) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.pending = worker.pending.saturating_sub(1);
            // Acknowledgements come in the order of the handovers.
            worker.unacknowledged.pop_front();
            worker.handed += u64::from(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn table(workers: u32) -> Table {
        let mut table = Table::default();
        for slot in 1..=workers {
            let id = table.attach(&slot.to_string(), 1000, 0).id;
            table.online(id);
            assert!(table.sign(id, Sign::Adapter, ReadyOn::Auto));
        }
        table
    }

    fn choose(table: &mut Table, session: Option<&str>) -> Choice {
        table.choose(session, &[], |_| false, Balance::LeastLoaded, NOW, 0)
    }

    #[test]
    fn a_session_stays_with_its_worker() {
        let mut table = table(3);
        table.open(2, "abc");
        assert_eq!(choose(&mut table, Some("abc")), Choice::Worker(2));
        table.drain("2");
        assert_eq!(choose(&mut table, Some("abc")), Choice::Worker(2));
    }

    #[test]
    fn what_was_open_and_is_closed_is_answered_by_anyone_at_once() {
        let mut table = table(1);
        table.close(1, "late");
        assert_eq!(choose(&mut table, Some("late")), Choice::UnknownSession, "it may still be registered");
        table.open(1, "late");
        table.close(2, "late");
        assert_eq!(choose(&mut table, Some("late")), Choice::Worker(1));
        for _ in 0..3 {
            table.close(1, "late");
        }
        assert_eq!(choose(&mut table, Some("late")), Choice::Worker(1), "whoever it is: there is only this one");
        assert_eq!((table.sessions(), table.gone.len()), (0, 1));
        // An app that makes its ids itself may use one again.
        table.open(1, "late");
        table.drain("1");
        assert_eq!(choose(&mut table, Some("late")), Choice::Worker(1));
    }

    #[test]
    fn a_dead_workers_session_is_answered_by_anyone_at_once() {
        let mut table = table(2);
        table.open(2, "abc");
        assert!(table.detach(2).is_some());
        assert_eq!(choose(&mut table, Some("abc")), Choice::Worker(1));
        assert_eq!(table.sessions(), 0);
    }

    #[test]
    fn new_sessions_count_from_the_handover_on() {
        let mut table = table(2);
        for _ in 0..10 {
            let Choice::Worker(id) = choose(&mut table, None) else { panic!("nobody") };
            table.handing(id, true, NOW);
            table.handed(id, true);
        }
        let mut loads: Vec<_> = table.workers.values_mut().map(|worker| worker.load(NOW).sessions).collect();
        assert_eq!(loads, [5, 5]);
        // What never registers is forgotten.
        loads = table.workers.values_mut().map(|worker| worker.load(NOW + EXPECTATION * 2).sessions).collect();
        assert_eq!(loads, [0, 0]);
    }

    #[test]
    fn a_burst_avoids_the_worker_that_does_not_acknowledge() {
        let mut table = table(3);
        table.handing(2, true, NOW);
        for _ in 0..20 {
            let chosen = table.choose(None, &[], |_| false, Balance::LeastLoaded, NOW + STUCK * 2, 0);
            let Choice::Worker(id) = chosen else { panic!("nobody") };
            assert_ne!(id, 2);
            table.handing(id, true, NOW + STUCK * 2);
        }
        // All are late: the others not as late as this one.
        let chosen = table.choose(None, &[], |_| false, Balance::LeastLoaded, NOW + STUCK * 4, 0);
        assert_ne!(chosen, Choice::Worker(2));
    }

    #[test]
    fn a_starting_or_draining_worker_gets_nothing_new() {
        let mut table = table(1);
        table.attach("2", 1, 0);
        assert_eq!(choose(&mut table, None), Choice::Worker(1));
        table.drain("1");
        assert_eq!(choose(&mut table, None), Choice::Nobody);
    }

    #[test]
    fn one_that_refused_is_not_asked_again() {
        let mut table = table(2);
        table.open(1, "abc");
        let mut choose =
            |session, tried: &[WorkerId]| table.choose(session, tried, |_| false, Balance::LeastLoaded, NOW, 0);
        assert_eq!(choose(None, &[1]), Choice::Worker(2));
        assert_eq!(choose(None, &[1, 2]), Choice::Nobody);
        assert_eq!(choose(Some("abc"), &[1]), Choice::Nobody, "nobody else knows its session");
    }

    #[test]
    fn a_server_for_just_this_address_comes_before_all_others() {
        let mut table = table(3);
        let mut choose =
            |tried: &[WorkerId]| table.choose(None, tried, |worker| worker.id == 2, Balance::LeastLoaded, NOW, 0);
        assert_eq!(choose(&[]), Choice::Worker(2));
        assert_eq!(choose(&[2]), Choice::Nobody);
        table.drain("2");
        let chosen = table.choose(None, &[], |worker| worker.id == 2, Balance::LeastLoaded, NOW, 0);
        assert_eq!(chosen, Choice::Worker(1));
    }

    #[test]
    fn a_slot_keeps_its_index() {
        let mut table = Table::default();
        let first = table.attach("3", 1, 0).id;
        assert_eq!(table.attach("1", 1, 0).index, 0);
        table.detach(first);
        assert_eq!(table.attach("3", 1, 0).index, 2);
        assert_eq!(table.attach("blue", 1, 0).index, 1);
        assert_eq!(table.attach("2", 1, 0).index, 3);
    }

    #[test]
    fn silence_of_a_worker_with_a_server_says_nothing() {
        let mut table = Table::default();
        let id = table.attach("1", 1, 0).id;
        assert!(!table.sign(id, Sign::Silence, ReadyOn::Auto), "not even online");
        table.online(id);
        assert!(!table.sign(id, Sign::Listening, ReadyOn::Message));
        assert!(!table.sign(id, Sign::Word, ReadyOn::Listening));
        assert!(table.sign(id, Sign::Silence, ReadyOn::Auto));
        assert!(!table.sign(id, Sign::Word, ReadyOn::Auto), "ready once only");
    }

    #[test]
    fn silence_is_not_enough_on_trial_where_the_others_spoke() {
        for (sign, enough) in
            [(Sign::Listening, false), (Sign::Word, false), (Sign::Adapter, false), (Sign::Silence, true)]
        {
            let mut table = Table::default();
            let old = table.attach("1", 1, 0).id;
            table.online(old);
            assert!(table.sign(old, sign, ReadyOn::Auto));
            table.promise("2", 0);
            let new = table.attach("2", 1, 0).id;
            table.online(new);
            assert_eq!(table.sign(new, Sign::Silence, ReadyOn::Auto), enough, "{sign:?}");
            assert_ne!(table.is_less_than_before(new), enough);
            // Not on trial: one that comes back after a crash.
            let another = table.attach("3", 1, 0).id;
            table.online(another);
            assert!(table.sign(another, Sign::Silence, ReadyOn::Auto));
        }
    }

    /// Releases that did not write down who has spoken.
    #[test]
    fn who_spoke_to_an_older_router_is_known_by_what_it_did() {
        const SERVERS: &str = r#"[{"key":"null:8080:4:null:0","query":{"address":null,"port":8080,"address_type":"Tcp4","fd":null,
            "index":0,"ticket_keys":null}}]"#;
        for (sticky, servers, enough) in [("true", "[]", false), ("false", SERVERS, false), ("false", "[]", true)] {
            let record = format!(
                r#"{{"id":2,"slot":"1","index":0,"pid":7,"phase":"Ready","online":true,"sticky":{sticky},"alone":false,"stood":true,
                    "ordered":false,"since":9,"handed":0,"touched":true,"encoding":"advanced","servers":{servers}}}"#
            );
            let mut table = Table::default();
            table.restore(&serde_json::from_str(&record).unwrap());
            table.promise("2", 0);
            let new = table.attach("2", 1, 0).id;
            table.online(new);
            assert_eq!(table.sign(new, Sign::Silence, ReadyOn::Auto), enough, "{record}");
        }
    }
}
