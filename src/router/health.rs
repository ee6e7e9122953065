//! Workers that hang: an event loop that stands still reads nothing, answers nothing, and looks alive to systemd.
//!
//! Whatever comes from a worker proves that its loop turns. Only when nothing has come for a while it is probed, and only
//! when the probe stays unanswered for `health.timeout` it is aborted: by the guard in its own unit
//! (`appctl worker guard`), because the router has no right to.

use super::Router;
use super::meet::line;
use super::table::{Phase, WorkerId};
use crate::wire::hello::Answer;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Of `health.timeout`: how long a worker may be silent before it is probed.
const SILENCE: u32 = 4;
/// An aborted worker that is still there after this is given up.
const ABORT_TIME: Duration = Duration::from_secs(10);

/// What is known of one worker's event loop.
#[derive(Debug)]
struct Pulse {
    /// When it last proved life.
    at: Instant,
    probe: Option<oneshot::Receiver<()>>,
    aborted: Option<Instant>,
}

/// What ends a worker that hangs: gets its process id.
pub type Abort = Box<dyn Fn(i32)>;

/// Watches the workers for as long as the router runs.
pub(super) async fn watch(router: Rc<Router>) {
    let timeout = router.settings.health_timeout;
    let mut pulses: HashMap<WorkerId, Pulse> = HashMap::new();
    let mut tick =
        tokio::time::interval((timeout / SILENCE / 2).clamp(Duration::from_millis(50), Duration::from_secs(5)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // What came while this process itself had no time counts first.
        router.drain_channels();
        let now = Instant::now();
        let links: Vec<_> = router.links.borrow().values().cloned().collect();
        pulses.retain(|id, _| links.iter().any(|link| link.id == *id));
        for link in links {
            let pulse = pulses.entry(link.id).or_insert(Pulse { at: now, probe: None, aborted: None });
            // A start may block for as long as `ready.timeout` lets it.
            let starting = router.table.borrow().worker(link.id).is_none_or(|worker| worker.phase == Phase::Starting);
            let answered =
                pulse.probe.as_mut().is_some_and(|probe| probe.try_recv() != Err(oneshot::error::TryRecvError::Empty));
            if link.take_life() || answered || starting {
                (pulse.at, pulse.probe) = (now, pulse.probe.take().filter(|_| !answered));
            }
            let silent = now - pulse.at;
            match pulse.aborted {
                Some(at) if now - at > ABORT_TIME => {
                    tracing::error!(
                        APP = router.app,
                        id = link.id,
                        "a hung worker could not be aborted: closing its channel"
                    );
                    link.close();
                }
                Some(_) => {}
                None if silent >= timeout && pulse.probe.is_some() => {
                    pulse.aborted = Some(now);
                    router.abort(link.id, silent);
                }
                None if silent >= timeout / SILENCE && pulse.probe.is_none() => pulse.probe = Some(link.probe()),
                None => {}
            }
        }
    }
}

impl Router {
    /// Lets somebody end hung workers who may; without this their guards are asked.
    pub fn set_abort(&self, abort: Abort) {
        *self.abort.borrow_mut() = Some(abort);
    }

    pub(super) fn abort(&self, id: WorkerId, silent: Duration) {
        let table = self.table.borrow();
        let Some(worker) = table.worker(id) else {
            return;
        };
        let (slot, pid) = (&worker.slot, worker.pid);
        let why = match &worker.place {
            Some(_) => format!("no answer to GET {} for", self.settings.ready_http),
            None => "its event loop has stood still for".to_owned(),
        };
        tracing::error!(
            APP = self.app,
            WORKER = slot,
            pid,
            "worker {slot} (pid {pid}) hangs: {why} {:.1} s; aborting it",
            silent.as_secs_f64()
        );
        self.note_hung(pid, silent);
        match (self.abort.borrow().as_ref(), self.guards.borrow().get(slot)) {
            (Some(abort), _) => abort(pid),
            (None, Some(order)) => order.notify_one(),
            (None, None) => {
                tracing::error!(APP = self.app, WORKER = slot, "worker {slot} has no guard that could abort it");
            }
        }
    }

    /// Keeps a guard's connection until it goes or its worker is to be aborted.
    pub(super) async fn keep_guard(&self, slot: &str, mut stream: UnixStream) {
        let order = Rc::new(Notify::new());
        self.guards.borrow_mut().insert(slot.to_owned(), Rc::clone(&order));
        let mut nothing = [0];
        tokio::select! {
            // It says no more: an end.
            _ = stream.read(&mut nothing) => {}
            () = order.notified() => {
                let told = match line(&Answer::Abort) {
                    Ok(line) => stream.write_all(&line).await,
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = told {
                    tracing::error!(APP = self.app, WORKER = slot, %error, "cannot reach the guard of worker {slot}");
                }
            }
        }
        // The next worker's guard may have taken the place.
        self.guards.borrow_mut().retain(|_, kept| !Rc::ptr_eq(kept, &order));
    }
}
