//! The worker that was chosen for the request that a connection is in: whom the log and the counters name where there is no
//! answer of its own.

use crate::router::Router;
use crate::router::refuse::Refusal;
use crate::router::table::WorkerId;
use crate::router::tally::Tally;
use std::cell::RefCell;
use std::rc::Rc;

/// What a client's leaving before its answer counts as. nginx has it so.
const LEFT: u16 = 499;

/// By its slot's tally, which is there when the worker is no more.
#[derive(Debug, Default)]
pub(super) struct Chosen(RefCell<Option<Rc<Tally>>>);

impl Chosen {
    /// A request begins.
    pub(super) fn clear(&self) {
        self.0.take();
    }

    pub(super) fn set(&self, router: &Router, id: WorkerId) {
        *self.0.borrow_mut() = router.table.borrow().worker(id).map(|worker| Rc::clone(&worker.tally));
    }

    pub(super) fn slot(&self, router: &Router) -> Option<String> {
        let chosen = self.0.borrow();
        let table = router.table.borrow();
        let slot = table.tallies().find(|(_, tally)| chosen.as_deref().is_some_and(|it| std::ptr::eq(it, *tally)));
        slot.map(|(slot, _)| slot.to_owned())
    }

    /// The router answers in its place.
    pub(super) fn refused(&self, router: &Router, refusal: Refusal) {
        if refusal == Refusal::NoWorker {
            self.clear();
        }
        self.count(router, refusal.code().as_u16());
    }

    fn count(&self, router: &Router, status: u16) {
        match &*self.0.borrow() {
            Some(tally) => tally.codes.count(status),
            None => router.metrics.own.count(status),
        }
    }

    /// Nobody has answered: the client is gone.
    pub(super) fn left(&self, router: &Router) {
        self.count(router, LEFT);
    }
}
