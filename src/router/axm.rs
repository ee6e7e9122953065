//! What the workers' apps show of themselves: metrics, actions, exceptions ([`crate::wire::axm`] has the words).
//!
//! A worker that tells too much costs itself alone: frames are read only while they are small and few, names and values
//! have their limits, and what is over is left out, with one line in the journal. Metrics come again each second, so that
//! a router which has just started knows them soon; actions are told once in a worker's life, and are in the
//! [`record`](super::record).

mod call;

pub use call::{Called, Outcome, Wanted};

use super::Router;
use super::link::Link;
use super::record::{Picture, Record};
use super::table::WorkerId;
use crate::wire::axm::{self, Action, Kind, Metric};
use crate::wire::channel::Frame;
use call::Call;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::Notify;

/// Metrics of one worker that are kept, and the bytes of them.
const METRICS: usize = 256;
const METRICS_BYTES: usize = 32 << 10;
/// One that was not told for so long is there no more.
const METRIC_LIFETIME: Duration = Duration::from_secs(60);
/// Actions of one worker that are kept.
const ACTIONS: usize = 128;
/// Messages of one worker that are read in a row, and each second from then on.
const MESSAGES: Bucket = Bucket { most: 512, each_second: 20 };
/// Exceptions of one worker that are written into the journal.
const EXCEPTIONS: Bucket = Bucket { most: 10, each_second: 1 };

/// What the workers have told.
#[derive(Debug, Default)]
pub(super) struct Told {
    workers: RefCell<BTreeMap<WorkerId, Worker>>,
    /// Those that told their actions to a router which did not write them down: one of another release.
    missed: RefCell<BTreeSet<WorkerId>>,
    /// Some call is over.
    over: Notify,
    calls: Cell<u64>,
}

impl Told {
    /// Whether a worker may have actions that nobody knows of any more.
    pub(super) fn is_missed(&self, id: WorkerId) -> bool {
        self.missed.borrow().contains(&id)
    }
}

#[derive(Debug)]
struct Worker {
    /// And when each was told.
    metrics: BTreeMap<String, (Metric, Duration)>,
    /// Of the last message: how many were not kept.
    left_out: usize,
    actions: BTreeMap<String, Action>,
    messages: Level,
    exceptions: Level,
    /// It was said that something is left out.
    warned: bool,
    calls: Vec<Call>,
}

impl Worker {
    fn new(now: Duration) -> Self {
        Self {
            metrics: BTreeMap::new(),
            left_out: 0,
            actions: BTreeMap::new(),
            messages: Level { left: MESSAGES.most, at: now },
            exceptions: Level { left: EXCEPTIONS.most, at: now },
            warned: false,
            calls: Vec::new(),
        }
    }

    /// Adds up, as PM2 does: several packages in one worker send messages of their own.
    fn take(&mut self, told: axm::Metrics, now: Duration) {
        self.metrics.retain(|_, (_, at)| now.saturating_sub(*at) < METRIC_LIFETIME);
        self.left_out = told.wrong;
        let mut bytes: usize = self.metrics.values().map(|(metric, _)| metric.size()).sum();
        for metric in told.metrics {
            let before = self.metrics.get(&metric.name).map_or(0, |(metric, _)| metric.size());
            let after = bytes - before + metric.size();
            if after > METRICS_BYTES || (before == 0 && self.metrics.len() >= METRICS) {
                self.left_out += 1;
            } else {
                bytes = after;
                self.metrics.insert(metric.name.clone(), (metric, now));
            }
        }
    }
}

/// How much of something there may be.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    most: u32,
    each_second: u32,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    left: u32,
    at: Duration,
}

impl Level {
    fn take(&mut self, bucket: Bucket, now: Duration) -> bool {
        let grown = now.saturating_sub(self.at).as_millis().saturating_mul(bucket.each_second.into()) / 1000;
        if grown > 0 {
            self.left = self.left.saturating_add(u32::try_from(grown).unwrap_or(u32::MAX)).min(bucket.most);
            self.at = now;
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}

impl Router {
    pub(super) fn on_axm(&self, link: &Link, kind: Kind, frame: &Frame) {
        let (id, now) = (link.id, self.now());
        if let Kind::Reply | Kind::Scoped(_) = kind {
            return self.answered(id, kind, frame);
        }
        let mut workers = self.told.workers.borrow_mut();
        let worker = workers.entry(id).or_insert_with(|| Worker::new(now));
        if !worker.messages.take(MESSAGES, now) {
            return self.leave_out(id, worker, "it sends more of these messages than are read");
        }
        match kind {
            Kind::Monitor => match axm::metrics(frame) {
                Ok(metrics) => {
                    worker.take(metrics, now);
                    if worker.left_out > 0 {
                        let left_out = worker.left_out;
                        self.leave_out(id, worker, &format!("{left_out} of its metrics are too many or too long"));
                    }
                }
                Err(error) => self.leave_out(id, worker, &format!("its metrics: {error}")),
            },
            Kind::Action => match axm::action(frame) {
                Ok(Some(action)) if worker.actions.get(&action.name) == Some(&action) => {}
                Ok(Some(action)) if worker.actions.len() < ACTIONS || worker.actions.contains_key(&action.name) => {
                    worker.actions.insert(action.name.clone(), action.clone());
                    drop(workers);
                    self.note(&Record::Action { id, action });
                }
                Ok(Some(_)) => self.leave_out(id, worker, &format!("it has more than {ACTIONS} actions")),
                Ok(None) => self.leave_out(id, worker, "the name of an action is too long, or no line"),
                Err(error) => self.leave_out(id, worker, &format!("an action: {error}")),
            },
            Kind::Exception => {
                if !worker.exceptions.take(EXCEPTIONS, now) {
                    return;
                }
                drop(workers);
                // Not to be told twice.
                link.consume();
                match axm::exception(frame) {
                    Ok(exception) => self.tell_exception(id, &exception),
                    Err(error) => tracing::warn!(APP = self.app, id, %error, "an exception that a worker reported"),
                }
            }
            Kind::Reply | Kind::Scoped(_) => {}
        }
    }

    fn tell_exception(&self, id: WorkerId, exception: &axm::Exception) {
        let slot = self.slot_of(id).unwrap_or_default();
        let (summary, stack) = (&exception.summary, exception.stack.as_deref());
        let stack = stack.map(|stack| format!("\n{stack}")).unwrap_or_default();
        tracing::error!(APP = self.app, WORKER = slot, "worker {slot} reports an exception: {summary}{stack}");
    }

    /// Once for each worker.
    fn leave_out(&self, id: WorkerId, worker: &mut Worker, why: &str) {
        if !std::mem::replace(&mut worker.warned, true) {
            let slot = self.slot_of(id).unwrap_or_default();
            tracing::warn!(
                APP = self.app,
                WORKER = slot,
                "worker {slot}: not all that its app tells of itself is shown: {why}"
            );
        }
    }

    /// What a worker's app shows, in the order of the names.
    pub(super) fn metrics_of(&self, id: WorkerId) -> Vec<Metric> {
        let (workers, now) = (self.told.workers.borrow(), self.now());
        let metrics = workers.get(&id).into_iter().flat_map(|worker| worker.metrics.values());
        metrics.filter(|(_, at)| now.saturating_sub(*at) < METRIC_LIFETIME).map(|(metric, _)| metric.clone()).collect()
    }

    /// How many metrics of a worker are not shown.
    pub(super) fn metrics_left_out(&self, id: WorkerId) -> usize {
        self.told.workers.borrow().get(&id).map_or(0, |worker| worker.left_out)
    }

    pub(super) fn actions_of(&self, id: WorkerId) -> Vec<Action> {
        self.told.workers.borrow().get(&id).map_or_else(Vec::new, |worker| worker.actions.values().cloned().collect())
    }

    /// What the router before knew.
    pub(super) fn restore_actions(&self, known: &Picture) {
        let now = self.now();
        let missed = known.workers.values().filter(|it| !it.heard && it.place.is_none()).map(|it| it.id);
        self.told.missed.borrow_mut().extend(missed.filter(|id| !known.actions.contains_key(id)));
        for (id, actions) in known.actions.iter().filter(|(id, _)| self.table.borrow().worker(**id).is_some()) {
            let worker = Worker { actions: actions.clone(), ..Worker::new(now) };
            self.told.workers.borrow_mut().insert(*id, worker);
        }
    }

    /// For the record.
    pub(super) fn known_actions(&self) -> BTreeMap<WorkerId, BTreeMap<String, Action>> {
        let workers = self.told.workers.borrow();
        let known = workers.iter().filter(|(_, worker)| !worker.actions.is_empty());
        known.map(|(id, worker)| (*id, worker.actions.clone())).collect()
    }

    /// The worker is gone, and with it whatever it was asked.
    pub(super) fn forget_told(&self, id: WorkerId) {
        self.told.missed.borrow_mut().remove(&id);
        if self.told.workers.borrow_mut().remove(&id).is_some() {
            self.told.over.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, value: impl Into<serde_json::Value>) -> Metric {
        Metric { name: name.into(), value: value.into(), unit: None, kind: None, historic: None }
    }

    fn told(metrics: Vec<Metric>) -> axm::Metrics {
        axm::Metrics { metrics, wrong: 0 }
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn metrics_add_up_until_nobody_tells_them() {
        let mut worker = Worker::new(at(0));
        worker.take(told(vec![metric("a", 1), metric("b", 1)]), at(1));
        worker.take(told(vec![metric("b", 2)]), at(2));
        let values = |worker: &Worker| worker.metrics.values().map(|(metric, _)| metric.text()).collect::<Vec<_>>();
        assert_eq!(values(&worker), ["1", "2"]);
        worker.take(told(vec![metric("c", 3)]), at(61));
        assert_eq!(values(&worker), ["2", "3"]);
    }

    #[test]
    fn there_are_no_more_than_so_many() {
        let mut worker = Worker::new(at(0));
        worker.take(told((0..1000).map(|number| metric(&format!("m{number}"), number)).collect()), at(1));
        assert_eq!((worker.metrics.len(), worker.left_out), (METRICS, 1000 - METRICS));
        // Those that are there go on.
        worker.take(told(vec![metric("m0", 7), metric("new", 1)]), at(2));
        assert_eq!((worker.metrics["m0"].0.number(), worker.left_out), (Some(7.0), 1));
        let mut worker = Worker::new(at(0));
        worker.take(told((0..200).map(|number| metric(&format!("m{number}"), "x".repeat(250))).collect()), at(1));
        let bytes: usize = worker.metrics.values().map(|(metric, _)| metric.size()).sum();
        assert!(bytes <= METRICS_BYTES && worker.left_out > 50, "{bytes}");
    }

    #[test]
    fn a_bucket_is_filled_again() {
        let bucket = Bucket { most: 3, each_second: 2 };
        let mut level = Level { left: 3, at: at(0) };
        let mut takes = |now: Duration, many: usize| (0..many).filter(|_| level.take(bucket, now)).count();
        assert_eq!(takes(at(0), 5), 3);
        assert_eq!(takes(Duration::from_millis(400), 5), 0);
        assert_eq!(takes(at(1), 5), 2);
        assert_eq!(takes(at(100), 5), 3);
    }
}
