//! Which worker uses too much memory, and is to be replaced now (pure).
//!
//! A worker that uses too much as soon as it has started would be replaced again and again. So one has to be of some age,
//! and where its heir does not do better, that one has to be older still.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many looks old a worker has to be, at least.
const YOUNG: u32 = 6;
/// How often that age is doubled at the most: from a minute to about an hour.
const DOUBLINGS: u32 = 6;

/// A worker that serves, and what it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub slot: String,
    pub index: u32,
    pub pid: i32,
    pub bytes: u64,
}

/// What to do about a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Replace(Seen),
    /// It uses too much, and so did it, or the one before it, very soon. Said once.
    Early {
        seen: Seen,
        /// How old it has to be.
        age: Duration,
    },
}

/// The workers of one app, by their indices: a slot is another after each replacement.
#[derive(Debug)]
pub struct Excess {
    limit: u64,
    least: Duration,
    /// Never forgotten: one that crashes is not there for a while.
    known: BTreeMap<u32, Known>,
}

#[derive(Debug)]
struct Known {
    pid: i32,
    /// When it was seen first.
    since: Duration,
    /// How old it has to be.
    age: Duration,
    /// After tries that failed.
    not_before: Duration,
    failures: u32,
    told: bool,
}

impl Excess {
    /// `every`: how long it is from look to look.
    pub fn new(limit: u64, every: Duration) -> Self {
        Self { limit, least: every.saturating_mul(YOUNG), known: BTreeMap::new() }
    }

    /// Whether it uses too much.
    pub fn is_above(&self, bytes: u64) -> bool {
        bytes > self.limit
    }

    /// What is to be done. At most one worker is to be replaced: the one that uses most. `now`: since some instant.
    pub fn look(&mut self, now: Duration, workers: &[Seen]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut worst: Option<&Seen> = None;
        for worker in workers {
            let least = self.least;
            let known = self.known.entry(worker.index).or_insert(Known {
                pid: worker.pid,
                since: now,
                age: least,
                not_before: Duration::ZERO,
                failures: 0,
                told: false,
            });
            if known.pid != worker.pid {
                (known.pid, known.since) = (worker.pid, now);
                (known.not_before, known.failures) = (Duration::ZERO, 0);
            }
            let age = now.saturating_sub(known.since);
            if worker.bytes <= self.limit {
                // It has done well for so long that what comes is another story.
                if age >= known.age.saturating_mul(2) {
                    (known.age, known.told) = (least, false);
                }
                continue;
            }
            if age >= known.age && now >= known.not_before {
                worst = worst.filter(|worst| worst.bytes >= worker.bytes).or(Some(worker));
            } else if !known.told && age < known.age {
                known.told = true;
                findings.push(Finding::Early { seen: worker.clone(), age: known.age });
            }
        }
        findings.extend(worst.cloned().map(Finding::Replace));
        findings
    }

    /// The worker of this index was replaced.
    pub fn replaced(&mut self, now: Duration, index: u32) {
        let longest = self.longest();
        let Some(known) = self.known.get_mut(&index) else { return };
        let soon = now.saturating_sub(known.since) < known.age.saturating_mul(2);
        known.age = if soon { known.age.saturating_mul(2).min(longest) } else { self.least };
    }

    /// It was not, since the new one did not stand. Says how long it is until the next try.
    pub fn failed(&mut self, now: Duration, index: u32) -> Duration {
        let longest = self.longest();
        let Some(known) = self.known.get_mut(&index) else { return self.least };
        let pause = self.least.saturating_mul(1 << known.failures.min(DOUBLINGS)).min(longest);
        known.failures = known.failures.saturating_add(1);
        known.not_before = now.saturating_add(pause);
        pause
    }

    fn longest(&self) -> Duration {
        self.least.saturating_mul(1 << DOUBLINGS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: u64 = 300;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(index: u32, pid: i32, bytes: u64) -> Seen {
        Seen { slot: (index + 1).to_string(), index, pid, bytes }
    }

    fn excess() -> Excess {
        Excess::new(LIMIT, at(10))
    }

    #[test]
    fn the_worst_one_of_some_age_is_replaced() {
        let mut excess = excess();
        assert_eq!(excess.look(at(0), &[seen(0, 10, 100), seen(1, 11, 100)]), []);
        assert_eq!(excess.look(at(60), &[seen(0, 10, 300), seen(1, 11, 100)]), [], "no more than the limit");
        let workers = [seen(0, 10, 301), seen(1, 11, 400)];
        assert_eq!(excess.look(at(70), &workers), [Finding::Replace(seen(1, 11, 400))]);
        excess.replaced(at(70), 1);
        let workers = [seen(0, 10, 301), seen(1, 12, 100)];
        assert_eq!(excess.look(at(80), &workers), [Finding::Replace(seen(0, 10, 301))]);
    }

    #[test]
    fn one_that_starts_too_large_is_told_once_and_replaced_ever_more_rarely() {
        let mut excess = excess();
        let (mut pid, mut replaced, mut told) = (10, Vec::new(), 0);
        for now in (0..20_000).step_by(10).map(at) {
            for finding in excess.look(now, &[seen(0, pid, 400)]) {
                match finding {
                    Finding::Replace(_) => {
                        excess.replaced(now, 0);
                        pid += 1;
                        replaced.push(now.as_secs());
                    }
                    Finding::Early { age, .. } => {
                        assert_eq!(age, at(60));
                        told += 1;
                    }
                }
            }
        }
        assert_eq!(told, 1);
        // Each is seen ten seconds after it came.
        assert_eq!(replaced, [60, 190, 440, 930, 1900, 3830, 7680, 11530, 15380, 19230]);
    }

    #[test]
    fn a_slow_leak_is_replaced_whenever_it_has_grown() {
        let mut excess = excess();
        let (mut pid, mut since, mut replaced) = (10, 0, 0);
        for now in (0..100_000).step_by(10) {
            // A byte in five seconds: at the limit after 1500.
            let findings = excess.look(at(now), &[seen(0, pid, (now - since) / 5)]);
            assert!(!findings.iter().any(|finding| matches!(finding, Finding::Early { .. })));
            if !findings.is_empty() {
                excess.replaced(at(now), 0);
                (pid, since, replaced) = (pid + 1, now, replaced + 1);
            }
        }
        assert_eq!(replaced, 66);
    }

    #[test]
    fn after_a_failure_the_next_try_is_later() {
        let mut excess = excess();
        let worker = [seen(0, 10, 400)];
        let replace = [Finding::Replace(worker[0].clone())];
        excess.look(at(0), &worker);
        assert_eq!(excess.look(at(60), &worker), replace);
        let mut now = 60;
        for pause in [60, 120, 240, 480, 960, 1920, 3840, 3840] {
            assert_eq!(excess.failed(at(now), 0), at(pause));
            assert_eq!(excess.look(at(now + pause - 1), &worker), []);
            now += pause;
            assert_eq!(excess.look(at(now), &worker), replace);
        }
        // Another process, another story.
        let worker = [seen(0, 11, 400)];
        assert_eq!(excess.look(at(now), &worker).len(), 0, "it was told before");
        assert_eq!(excess.look(at(now + 60), &worker), [Finding::Replace(worker[0].clone())]);
        assert_eq!(excess.failed(at(now + 60), 0), at(60));
    }

    proptest! {
        #[test]
        fn never_more_than_one_and_only_above_the_limit(
            looks in prop::collection::vec((0..100_u64, prop::collection::vec((0..4_u32, 0..5_i32, 0..600_u64), 0..5)), 0..50),
        ) {
            let (mut excess, mut now) = (excess(), 0);
            for (passed, workers) in looks {
                now += passed;
                let workers: Vec<Seen> = workers.iter().map(|(index, pid, bytes)| seen(*index, *pid, *bytes)).collect();
                let findings = excess.look(at(now), &workers);
                let replaced = findings.iter().filter(|finding| matches!(finding, Finding::Replace(_))).count();
                prop_assert!(replaced <= 1);
                for finding in findings {
                    let (Finding::Replace(seen) | Finding::Early { seen, .. }) = finding;
                    prop_assert!(seen.bytes > LIMIT);
                    excess.replaced(at(now), seen.index);
                }
            }
        }
    }
}
