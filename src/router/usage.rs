//! How much of the processors the workers and the router itself use: the kernel's clocks, looked at now and then, so that
//! whoever asks gets an answer at once.

use super::Router;
use crate::system::cpu::Clock;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// Over less than this a figure says nothing.
const LEAST: Duration = Duration::from_secs(1);

/// Two looks at one process's clock: when, and what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    at: Duration,
    used: Duration,
}

#[derive(Debug)]
struct Seen {
    clock: Clock,
    /// The look before the last, and the last one.
    before: Option<Look>,
    last: Option<Look>,
}

/// By process id.
#[derive(Debug, Default)]
pub(super) struct Usage(RefCell<HashMap<i32, Seen>>);

/// Looks at the clocks for as long as the router runs.
pub(super) async fn watch(router: Rc<Router>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let processes = router.processes();
        let mut seen = router.usage.0.borrow_mut();
        seen.retain(|pid, _| processes.iter().any(|(known, _)| known == pid));
        for (pid, unit) in processes {
            let now = router.now();
            let entry = match seen.entry(pid) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                // One that ended just now is gone at the next look.
                std::collections::hash_map::Entry::Vacant(free) => match Clock::of_unit(pid, &unit) {
                    Ok(clock) => free.insert(Seen { clock, before: None, last: None }),
                    Err(_) => continue,
                },
            };
            if let Ok(used) = entry.clock.read() {
                entry.before = entry.last.replace(Look { at: now, used });
            }
        }
    }
}

impl Router {
    /// The main processes of the workers and the router's own, with their units.
    fn processes(&self) -> Vec<(i32, String)> {
        let table = self.table.borrow();
        let workers = table.workers().filter(|worker| worker.pid > 0);
        let own = i32::try_from(std::process::id()).ok().map(|pid| (pid, format!("{}.service", self.app)));
        workers.map(|worker| (worker.pid, self.worker_unit(&worker.slot))).chain(own).collect()
    }

    pub(super) fn worker_unit(&self, slot: &str) -> String {
        format!("{}@{slot}.service", self.app)
    }

    /// What a worker's processes have used of the processors since it began; `None`: not known yet, or it has ended.
    pub(super) fn processor_time(&self, pid: i32) -> Option<Duration> {
        self.usage.0.borrow().get(&pid)?.clock.read().ok()
    }

    /// What a process and its like have used of a processor lately, in thousandths; `None`: not known yet.
    pub(super) fn permille(&self, pid: i32) -> Option<u32> {
        let seen = self.usage.0.borrow();
        let seen = seen.get(&pid)?;
        let now = Look { at: self.now(), used: seen.clock.read().ok()? };
        share([seen.last, seen.before], now)
    }
}

/// Since the latest look that is long enough ago.
fn share(looks: [Option<Look>; 2], now: Look) -> Option<u32> {
    let since = looks.into_iter().flatten().find(|look| now.at.saturating_sub(look.at) >= LEAST)?;
    let (used, took) = (now.used.saturating_sub(since.used), now.at - since.at);
    u32::try_from(used.as_nanos().saturating_mul(1000) / took.as_nanos().max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_latest_look_that_is_long_enough_ago() {
        let look = |at, used| Look { at: Duration::from_millis(at), used: Duration::from_millis(used) };
        assert_eq!(share([Some(look(1000, 0)), None], look(3000, 500)), Some(250));
        assert_eq!(share([Some(look(2900, 400)), Some(look(1000, 0))], look(3000, 500)), Some(250));
        assert_eq!(share([Some(look(2900, 400)), None], look(3000, 500)), None);
        assert_eq!(share([None, None], look(3000, 500)), None);
        assert_eq!(share([Some(look(1000, 0)), None], look(2000, 4000)), Some(4000));
    }
}
