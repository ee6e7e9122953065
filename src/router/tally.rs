//! Counters and histograms, and those of one worker's slot (pure).
//!
//! One thread counts, so that a cell is enough. What is counted lasts as long as the router; a worker that comes into a
//! slot goes on with the figures of the one before.

use std::cell::Cell;
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    pub fn count(&self) {
        self.add(1);
    }

    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// How many buckets a [`Histogram`] has, without the last, which is for all that is longer.
pub const BUCKETS: usize = 12;

/// The buckets' upper ends, microseconds: what a handover takes, and how long a session is waited for.
pub const BOUNDS: [u64; BUCKETS] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Each bucket's own, not what is below it.
    buckets: [Counter; BUCKETS + 1],
    micros: Counter,
}

impl Histogram {
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS);
        self.buckets[bucket].count();
        self.micros.add(micros);
    }

    /// How many took no longer than each of [`BOUNDS`], and how many there were.
    pub fn cumulated(&self) -> ([u64; BUCKETS], u64) {
        let mut total = 0;
        let below = std::array::from_fn(|bucket| {
            total += self.buckets[bucket].get();
            total
        });
        (below, total + self.buckets[BUCKETS].get())
    }

    /// All of it, in seconds.
    pub fn sum(&self) -> f64 {
        Duration::from_micros(self.micros.get()).as_secs_f64()
    }
}

/// How long something takes lately: each time counts for an eighth.
#[derive(Debug, Default)]
pub struct Lag(Cell<Option<(Duration, Duration)>>);

impl Lag {
    /// For so long the latest time says something of the present.
    const FRESH: Duration = Duration::from_secs(60);

    pub fn note(&self, took: Duration, now: Duration) {
        let lag = self.get(now).map_or(took, |lag| (lag * 7 + took) / 8);
        self.0.set(Some((lag, now)));
    }

    pub fn get(&self, now: Duration) -> Option<Duration> {
        self.0.get().filter(|(_, at)| now.saturating_sub(*at) <= Self::FRESH).map(|(lag, _)| lag)
    }
}

/// Answers by their status, 100 to 599.
#[derive(Debug)]
pub struct Codes(Box<[Counter]>);

impl Default for Codes {
    fn default() -> Self {
        Self((0..500).map(|_| Counter::default()).collect())
    }
}

impl Codes {
    pub fn count(&self, status: u16) {
        if let Some(counter) = usize::from(status).checked_sub(100).and_then(|index| self.0.get(index)) {
            counter.count();
        }
    }

    /// Those that there were.
    pub fn seen(&self) -> impl Iterator<Item = (u16, u64)> {
        (100..).zip(self.0.iter().map(Counter::get)).filter(|(_, count)| *count > 0)
    }
}

/// What one slot's workers have done.
#[derive(Debug, Default)]
pub struct Tally {
    pub attached: Counter,
    /// Connections that it took, and that it refused (NODE_HANDLE_NACK, or `accepted: false`).
    pub taken: Counter,
    pub refused: Counter,
    /// From the handover to its acknowledgement.
    pub ack: Histogram,
    /// The same lately.
    pub lag: Lag,
    /// Requests that were routed one by one.
    pub codes: Codes,
    /// Broadcast packets from it, and to it.
    pub frames: [Counter; 2],
    pub bytes: [Counter; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_cumulates() {
        let histogram = Histogram::default();
        for micros in [0, 500, 501, 10_000, 5_000_000, 5_000_001, 60_000_000] {
            histogram.note(Duration::from_micros(micros));
        }
        let (below, total) = histogram.cumulated();
        assert_eq!((below, total), ([2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5], 7));
        assert!((histogram.sum() - 70.011_002).abs() < 1e-9, "{}", histogram.sum());
    }

    #[test]
    fn a_lag_follows_what_comes_and_is_forgotten() {
        let (lag, at) = (Lag::default(), Duration::from_secs);
        assert_eq!(lag.get(at(1)), None);
        lag.note(Duration::from_millis(8), at(1));
        lag.note(Duration::from_millis(16), at(2));
        assert_eq!(lag.get(at(62)), Some(Duration::from_millis(9)));
        assert_eq!(lag.get(at(63)), None);
        lag.note(Duration::from_millis(1), at(63));
        assert_eq!(lag.get(at(63)), Some(Duration::from_millis(1)));
    }

    #[test]
    fn codes() {
        let codes = Codes::default();
        for status in [200, 200, 404, 599, 99, 600, 0] {
            codes.count(status);
        }
        assert_eq!(codes.seen().collect::<Vec<_>>(), [(200, 2), (404, 1), (599, 1)]);
    }
}
