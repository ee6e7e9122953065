//! The router's part in a rolling reload, beside its table's: it stays while one is under way.

use super::Router;
use super::table::WorkerId;

impl Router {
    /// Takes a slot's worker out of rotation, also for the routers after this one.
    pub(super) fn drain(&self, slot: &str) -> Option<WorkerId> {
        let id = self.table.borrow_mut().drain(slot)?;
        self.remember(id);
        self.leave_worker(id);
        Some(id)
    }

    pub(super) fn set_wanted(&self, workers: u32) {
        self.table.borrow_mut().set_wanted(workers);
        self.wanted.set(workers);
    }

    pub(super) fn begin_rollout(&self, workers: u32) {
        self.table.borrow_mut().begin_rollout();
        self.set_wanted(workers);
        self.rolling.send_replace(true);
    }

    pub(super) fn end_rollout(&self) {
        self.table.borrow_mut().end_rollout();
        self.rolling.send_replace(false);
    }

    /// Resolves when no reload is under way, or when it is known to be cut short and the workers have stopped.
    ///
    /// systemd does not run `ExecStop=` of a unit that it stops in the middle of a reload, but signals the router at once.
    /// The reload stops the workers then (`appctl rollout`), and they need the router to drain.
    pub(super) async fn until_no_rollout(&self) {
        let mut rolling = self.rolling.subscribe();
        tokio::select! {
            _ = rolling.wait_for(|rolling| !rolling) => {}
            () = self.stopping.cancelled() => {}
        }
    }
}
