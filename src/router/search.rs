//! The search for the worker that a connection or a request goes to.

use super::link::Manner;
use super::refuse::Refusal;
use super::table::{Choice, Source, WorkerId};
use super::{Router, server};
use crate::system::activation::Address;
use crate::wire::sticky::Key;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// While nobody is ready: how often it is asked again whether anybody may still come.
const HOPE_INTERVAL: Duration = Duration::from_millis(500);

/// Before a connection that every worker has refused is offered again: at first, and at most.
const REFUSED_PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// The search for a worker that takes one connection.
pub(super) struct Search<'a> {
    /// What it says of where it belongs.
    pub(super) session: Option<Key>,
    pub(super) address: &'a Address,
    /// Who has refused it.
    pub(super) tried: Vec<WorkerId>,
    /// How long an unknown session is waited for.
    session_wait: Duration,
    pause: Duration,
    /// When it is given up; `None`: it has not had to wait yet.
    deadline: Option<Instant>,
}

impl<'a> Search<'a> {
    /// `address` is where the connection was accepted.
    pub(super) fn new(router: &Router, session: Option<Key>, address: &'a Address) -> Self {
        let session_wait = router.settings.session_wait;
        Self { session, address, tried: Vec::new(), session_wait, pause: REFUSED_PAUSE[0], deadline: None }
    }

    /// Once more for the same request: a session that nobody has by now is over.
    pub(super) fn again(&mut self) {
        self.session_wait = Duration::ZERO;
    }

    /// Before anybody else comes with the same key.
    fn bind(&self, router: &Rc<Router>, id: WorkerId) {
        if let Some(Key::Kept(key)) = &self.session {
            router.bind(key, id, Source::Request);
        }
    }

    /// Waits for a worker: for the session's registration, or for anybody to become ready.
    pub(super) async fn choose(&mut self, router: &Rc<Router>) -> Result<WorkerId, Refusal> {
        let registered = matches!(self.session, Some(Key::Session(_)));
        // Mostly there is one, and nothing to wait for.
        if let Choice::Worker(id) = router.choose(self.session.as_ref(), &self.tried, self.address) {
            self.bind(router, id);
            return Ok(id);
        }
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + router.settings.wait_timeout);
        let mut registration = registered.then(|| Instant::now() + self.session_wait);
        let mut looked = false;
        let mut unknown = None;
        loop {
            let changed = router.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            // Past the registration's time any worker may answer, and it will say that it does not know the session.
            let known = self.session.as_ref().filter(|_| registration.is_some() || !registered);
            let now = Instant::now();
            let mut again = false;
            let until = match router.choose(known, &self.tried, self.address) {
                Choice::Worker(id) => {
                    if let Some(since) = unknown {
                        router.metrics.waited(now - since, known.is_some());
                    }
                    self.bind(router, id);
                    return Ok(id);
                }
                Choice::UnknownSession if !looked => {
                    unknown = Some(now);
                    // The worker answers its client first and tells us then; its word may be waiting in the channel.
                    looked = true;
                    router.drain_channels();
                    continue;
                }
                Choice::UnknownSession => match registration {
                    Some(at) if now < at => at,
                    _ => {
                        registration = None;
                        continue;
                    }
                },
                Choice::Nobody if now >= deadline => return Err(Refusal::NoWorker),
                // All that are there have refused it: they have no descriptor or no place for it. That may pass.
                Choice::Nobody if router.is_any_here(&self.tried) => {
                    again = true;
                    now + self.pause
                }
                Choice::Nobody if !router.somebody_may_come() => return Err(Refusal::NoWorker),
                Choice::Nobody => now + HOPE_INTERVAL,
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until.min(deadline)) => if again {
                    self.tried.clear();
                    self.pause = (self.pause * 2).min(REFUSED_PAUSE[1]);
                },
            }
        }
    }
}

/// How a connection gets to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// It is handed over.
    Hand(Manner),
    /// The worker has no channel: the router makes a connection to it.
    Connect,
}

/// How this worker takes a connection to `address`; `None`: it cannot.
pub(super) fn way(router: &Router, id: WorkerId, address: &Address, tls: bool) -> Option<Way> {
    let table = router.table.borrow();
    let worker = table.worker(id)?;
    if worker.place.is_some() {
        return (!tls).then_some(Way::Connect);
    }
    match server::pick(&worker.servers, address, &router.public, tls, worker.sticky) {
        Some(server) if tls && server.query.ticket_keys.is_none() => None,
        Some(server) => Some(Way::Hand(Manner::Server(server.key.clone()))),
        None if tls => None,
        None => Some(Way::Hand(Manner::Sticky)),
    }
}
