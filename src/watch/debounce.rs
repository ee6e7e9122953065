//! When changes become a reload (pure): many that come together are one, and those that come during a reload are one more
//! after it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So long nothing has changed when a reload begins.
pub const QUIET: Duration = Duration::from_millis(300);
/// So long after the first change it begins all the same.
pub const MOST: Duration = Duration::from_secs(5);
/// From this many reloads on that each brought the next about, they are spaced.
const STREAK: u32 = 3;
const SPACE_MAX: Duration = Duration::from_secs(60);

/// Changes that have not led to a reload yet.
#[derive(Debug, Default)]
pub struct Debounce {
    burst: Option<Burst>,
    reloading: bool,
    /// When the last reload ended.
    ended: Option<Instant>,
    /// How many reloads in a row came from changes that were made during the one before.
    streak: u32,
}

/// Changes that came together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burst {
    /// The first of them.
    pub path: PathBuf,
    /// How many other paths there were.
    pub others: usize,
    /// Reload follows upon reload: the app itself seems to write what is watched.
    pub circular: bool,
    seen: BTreeSet<PathBuf>,
    first: Instant,
    last: Instant,
}

/// More paths than this need not be told apart.
const SEEN_MAX: usize = 10_000;

impl Debounce {
    pub fn changed(&mut self, path: &Path, now: Instant) {
        let burst = self.burst.get_or_insert_with(|| Burst {
            path: path.to_owned(),
            others: 0,
            circular: false,
            seen: BTreeSet::new(),
            first: now,
            last: now,
        });
        burst.last = now;
        if burst.path != path && burst.seen.len() < SEEN_MAX && burst.seen.insert(path.to_owned()) {
            burst.others += 1;
        }
    }

    /// When the next reload is due. `None`: nothing has changed, or one is under way.
    pub fn due(&self) -> Option<Instant> {
        let burst = self.burst.as_ref().filter(|_| !self.reloading)?;
        let quiet = (burst.last + QUIET).min(burst.first + MOST);
        let space = match self.next_streak(burst).checked_sub(STREAK) {
            Some(more) => (Duration::from_secs(2) * 2u32.saturating_pow(more.min(10))).min(SPACE_MAX),
            None => Duration::ZERO,
        };
        Some(self.ended.map_or(quiet, |ended| quiet.max(ended + space)))
    }

    /// The reload begins: what led to it.
    pub fn begin(&mut self) -> Option<Burst> {
        let mut burst = self.burst.take()?;
        self.streak = self.next_streak(&burst);
        burst.circular = self.streak == STREAK;
        self.reloading = true;
        Some(burst)
    }

    pub fn ended(&mut self, now: Instant) {
        self.reloading = false;
        self.ended = Some(now);
    }

    fn next_streak(&self, burst: &Burst) -> u32 {
        if self.ended.is_some_and(|ended| burst.first <= ended) { self.streak + 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_is_one_reload() {
        let (mut debounce, start) = (Debounce::default(), Instant::now());
        assert_eq!(debounce.due(), None);
        for (at, path) in [(0, "a"), (100, "b"), (200, "a"), (250, "c")] {
            debounce.changed(Path::new(path), start + at * MS);
        }
        assert_eq!(debounce.due(), Some(start + 550 * MS));
        let burst = debounce.begin().unwrap();
        assert_eq!((burst.path.as_path(), burst.others), (Path::new("a"), 2));
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn changes_without_an_end_do_not_put_it_off_for_ever() {
        let (mut debounce, start) = (Debounce::default(), Instant::now());
        for at in 0..1000 {
            debounce.changed(Path::new("a"), start + at * 10 * MS);
        }
        assert_eq!(debounce.due(), Some(start + MOST));
    }

    #[test]
    fn changes_during_a_reload_are_one_more_after_it() {
        let (mut debounce, start) = (Debounce::default(), Instant::now());
        debounce.changed(Path::new("a"), start);
        debounce.begin().unwrap();
        debounce.changed(Path::new("a"), start + 100 * MS);
        debounce.changed(Path::new("b"), start + 200 * MS);
        assert_eq!(debounce.due(), None, "one at a time");
        debounce.ended(start + 2000 * MS);
        assert_eq!(debounce.due(), Some(start + 2000 * MS), "it was quiet long enough");
        assert_eq!(debounce.begin().unwrap().others, 1);
        debounce.ended(start + 3000 * MS);
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn an_app_that_writes_what_is_watched_does_not_reload_without_a_pause() {
        let (mut debounce, mut now) = (Debounce::default(), Instant::now());
        debounce.changed(Path::new("a"), now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let due = debounce.due().unwrap().max(now);
            pauses.push((due - now).as_secs());
            let circular = debounce.begin().unwrap().circular;
            assert_eq!(circular, pauses.len() == 4, "told once");
            debounce.changed(Path::new("a"), due + MS);
            now = due + 1000 * MS;
            debounce.ended(now);
        }
        assert_eq!(pauses, [0, 0, 0, 2, 4, 8, 16, 32, 60]);
        // A change of somebody else's ends it.
        debounce.begin();
        now += 100_000 * MS;
        debounce.ended(now);
        debounce.changed(Path::new("a"), now + MS);
        assert_eq!(debounce.due(), Some(now + MS + QUIET));
    }
}
