//! Calling an app's action, and waiting for what it answers.
//!
//! A reply says of which action it is, not of which call: so there is one call at a time of an action in a worker, and the
//! others wait for its end. (A reply that comes after its call was given up is nobody's, unless the next call is there.)

use super::super::Router;
use super::super::table::{Phase, WorkerId};
use crate::wire::axm::{self, Kind, Part};
use crate::wire::channel::Frame;
use crate::wire::cluster::{ToWorker, encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Parts of one answer that are kept, and the frames' bytes.
const PARTS: usize = 1000;
const PARTS_BYTES: usize = 1 << 20;

/// A call that was sent and is not over.
#[derive(Debug)]
pub(super) struct Call {
    action: String,
    /// It is a scoped action's, whose parts bear this.
    uuid: Option<String>,
    parts: Vec<Value>,
    bytes: usize,
    answer: oneshot::Sender<Outcome>,
}

/// What is asked of the control API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wanted {
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// Of one worker; none: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// For the answer.
    pub timeout_ms: u64,
}

/// What one worker made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Called {
    pub slot: String,
    pub index: u32,
    pub pid: i32,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Actions that it has.
    pub actions: BTreeSet<String>,
    /// It may have others: it told them once, to a router of another release.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Answered {
        answer: Value,
        /// What came before, of a scoped action.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<Value>,
    },
    /// A scoped action has ended with an error, or the call or its answer could not pass.
    Failed { error: Value },
    /// No answer in time.
    TimedOut,
    /// The worker ended before it had answered.
    Ended,
    /// It has no such action.
    Unknown,
    /// It has no channel to be called over.
    NoChannel,
}

impl Router {
    /// Calls an action in each worker that is meant, all at once.
    pub(in crate::router) async fn call_action(self: &Rc<Self>, wanted: &Wanted) -> Vec<Called> {
        let deadline = Instant::now() + Duration::from_millis(wanted.timeout_ms.min(24 * 3600 * 1000));
        let meant: Vec<_> = {
            let table = self.table.borrow();
            let is_meant = |it: &&super::super::table::Worker| match &wanted.slot {
                Some(slot) => it.slot == *slot,
                // What is on its way out is left in peace.
                None => it.phase != Phase::Draining,
            };
            table.workers().filter(is_meant).map(|it| (it.id, it.slot.clone(), it.index, it.pid)).collect()
        };
        let calls = meant.into_iter().map(async |(id, slot, index, pid)| {
            let actions = self.actions_of(id).into_iter().map(|action| action.name).collect();
            let outcome = self.call_one(id, wanted, deadline).await;
            Called { slot, index, pid, outcome, actions, missed: self.told.is_missed(id) }
        });
        futures_util::future::join_all(calls).await
    }

    async fn call_one(&self, id: WorkerId, wanted: &Wanted, deadline: Instant) -> Outcome {
        let answered = loop {
            let over = self.told.over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            match self.send_call(id, wanted) {
                Ok(Some(answered)) => break answered,
                Ok(None) => {}
                Err(outcome) => return outcome,
            }
            // Another's call of it is under way.
            if timeout_at(deadline, over).await.is_err() {
                return Outcome::TimedOut;
            }
        };
        match timeout_at(deadline, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::Ended,
            Err(_) => {
                // Its end of the answer is closed now: the next call may go.
                self.told.over.notify_waiters();
                Outcome::TimedOut
            }
        }
    }

    /// `None`: not yet.
    fn send_call(&self, id: WorkerId, wanted: &Wanted) -> Result<Option<oneshot::Receiver<Outcome>>, Outcome> {
        let Some(link) = self.link(id) else {
            let outside = self.table.borrow().worker(id).is_some_and(|worker| worker.place.is_some());
            return Err(if outside { Outcome::NoChannel } else { Outcome::Ended });
        };
        let mut workers = self.told.workers.borrow_mut();
        let worker = workers.get_mut(&id).ok_or(Outcome::Unknown)?;
        let action = worker.actions.get(&wanted.action).ok_or(Outcome::Unknown)?;
        // Those that nobody waits for any more.
        worker.calls.retain(|call| !call.answer.is_closed());
        let number = self.told.calls.get();
        let uuid = action.is_scoped().then(|| format!("appctl-{}-{number}", self.memory.generation()));
        if uuid.is_none() && worker.calls.iter().any(|call| call.action == wanted.action) {
            return Ok(None);
        }
        self.told.calls.set(number + 1);
        let call = ToWorker::Call { action: &wanted.action, param: wanted.param.as_deref(), uuid: uuid.as_deref() };
        if !link.forward(encode(link.encoding, &call)) {
            let error = Value::from("the worker does not read its channel: the queue is full");
            return Err(Outcome::Failed { error });
        }
        let (answer, answered) = oneshot::channel();
        worker.calls.push(Call { action: wanted.action.clone(), uuid, parts: Vec::new(), bytes: 0, answer });
        Ok(Some(answered))
    }

    /// A worker's answer, or a part of it, is read only if somebody waits for one.
    pub(super) fn answered(&self, id: WorkerId, kind: Kind, frame: &Frame) {
        let mut workers = self.told.workers.borrow_mut();
        let Some(worker) = workers.get_mut(&id).filter(|worker| !worker.calls.is_empty()) else { return };
        let scoped = matches!(kind, Kind::Scoped(_));
        let read = axm::answer(frame);
        let at = worker.calls.iter().position(|call| match &read {
            Ok(answer) if scoped => call.uuid.is_some() && call.uuid == answer.uuid,
            Ok(answer) => call.uuid.is_none() && call.action == answer.action,
            // Whose it is cannot be told; of one that is alone it can.
            Err(_) => call.uuid.is_some() == scoped,
        });
        let Some(at) = at else { return };
        let outcome = match (kind, read) {
            (_, Err(error)) => Outcome::Failed { error: format!("its answer cannot be read: {}", error.0).into() },
            (Kind::Scoped(Part::Stream), Ok(part)) => {
                let call = &mut worker.calls[at];
                call.bytes += frame.bytes.len();
                if call.parts.len() < PARTS && call.bytes <= PARTS_BYTES {
                    call.parts.push(part.value);
                }
                return;
            }
            (Kind::Scoped(Part::Error), Ok(answer)) => Outcome::Failed { error: answer.value },
            (_, Ok(answer)) => {
                Outcome::Answered { answer: answer.value, parts: std::mem::take(&mut worker.calls[at].parts) }
            }
        };
        // Who has asked may have gone.
        let _ = worker.calls.remove(at).answer.send(outcome);
        drop(workers);
        self.told.over.notify_waiters();
    }
}
