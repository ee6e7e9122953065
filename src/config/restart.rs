//! `[restart]`: whether a worker that ended is started again, how soon, and how often.

use std::time::Duration;

use super::file::{Item, Table};
use super::report::Problems;
use super::value::{self, Wrong};

/// The values of `Restart=`, systemd.service(5).
const POLICIES: [&str; 7] = ["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"];

/// By how much the pause grows from one restart to the next, as PM2's `exp_backoff_restart_delay` does.
pub const GROWTH: f64 = 1.5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// A value of systemd's `Restart=`.
    pub policy: String,
    pub delay: Duration,
    /// The pause grows from `delay` up to this; `None`: it stays.
    pub backoff: Option<Duration>,
    /// Starts allowed within `interval`; `None`: no limit.
    pub limit: Option<u32>,
    pub interval: Duration,
    /// Exit statuses after which a worker stays down and has not failed.
    pub stop_exit_codes: Vec<u8>,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: "always".to_owned(),
            delay: Duration::from_millis(100),
            backoff: None,
            limit: None,
            interval: Duration::from_secs(60),
            stop_exit_codes: Vec::new(),
        }
    }
}

impl Restart {
    /// `RestartSteps=`: in so many steps the pause reaches `backoff`. `None`: it does not grow.
    pub fn steps(&self) -> Option<u32> {
        let ratio = self.backoff?.as_secs_f64() / self.delay.as_secs_f64();
        let steps = ratio.ln() / GROWTH.ln();
        (steps.is_finite() && steps > 0.0).then(|| (steps.round() as u32).max(1))
    }

    /// How long so many pauses take together, at most [`Duration::MAX`].
    pub fn pauses(&self, restarts: u32) -> Duration {
        // After these all are alike.
        let growing = self.steps().map_or(0, |steps| steps.min(restarts));
        let alike = self.pause(growing.saturating_add(1)).saturating_mul(restarts - growing);
        (1..=growing).fold(alike, |sum, number| sum.saturating_add(self.pause(number)))
    }

    /// The pause before restart `number`, the first being 1, as systemd counts it: geometric from `delay` to `backoff`
    /// (systemd.service(5), `RestartSteps=`).
    pub fn pause(&self, number: u32) -> Duration {
        let (Some(most), Some(steps)) = (self.backoff, self.steps()) else {
            return self.delay;
        };
        if number > steps {
            return most;
        }
        let ratio = most.as_secs_f64() / self.delay.as_secs_f64();
        self.delay.mul_f64(ratio.powf(f64::from(number.saturating_sub(1)) / f64::from(steps))).min(most)
    }
}

pub(super) fn read_restart(top: &mut Table<'_>, problems: &mut Problems) -> Restart {
    let mut table = top.take_table("restart", problems);
    let policy = table.take("policy").and_then(|item| {
        let text = item.scalar(["no", "always"], problems)?;
        let known = POLICIES.contains(&text.text.as_str());
        let wrong = || {
            Wrong::new(
                format!("`{}` is not one of the choices", text.text),
                format!("write {}", value::one_of(&POLICIES)),
            )
        };
        item.check(problems, known.then(|| text.text.clone()).ok_or_else(wrong))
    });
    let default = Restart::default();
    let delay = table.take("delay").and_then(|item| item.read(problems, value::read_span)).unwrap_or(default.delay);
    let backoff = table.take("backoff").and_then(|item| read_backoff(&item, delay, problems));
    let stop_exit_codes = table.take("stop_exit_codes").map(|item| read_codes(&item, problems)).unwrap_or_default();
    let limit_item = table.take("limit");
    let limit = limit_item.as_ref().and_then(|item| item.integer::<u32>(problems, "from 1"));
    if let (Some(0), Some(item)) = (limit, &limit_item) {
        problems.error(
            item.span.clone(),
            "restart.limit: 0 would forbid the first start",
            "write policy = \"no\" to never restart",
        );
    }
    let interval_item = table.take("interval");
    let interval = interval_item.as_ref().and_then(|item| item.read(problems, value::positive_span));
    match (limit, &interval_item) {
        (None, Some(item)) if limit_item.is_none() => problems.warn(
            item.span.clone(),
            "restart.interval has no effect without restart.limit",
            "add limit = 16: so many starts within the interval, then the worker stays down",
        ),
        _ => {}
    }
    let interval = interval.unwrap_or(default.interval);
    table.finish(problems);
    let policy = policy.unwrap_or(default.policy);
    let restart = Restart { policy, delay, backoff, limit, interval, stop_exit_codes };
    if let (Some(limit), Some(item)) = (limit, &limit_item)
        && restart.pauses(limit) >= interval
    {
        let grows = restart.backoff.map_or(String::new(), |most| format!(" that grows to {}", value::write_span(most)));
        problems.warn(
            item.span.clone(),
            format!(
                "restart.limit is never reached: {limit} starts take longer than the interval ({}) with a delay of {}{grows}",
                value::write_span(interval),
                value::write_span(delay)
            ),
            "lengthen interval",
        );
    }
    restart
}

fn read_backoff(item: &Item<'_>, delay: Duration, problems: &mut Problems) -> Option<Duration> {
    let most = item.read(problems, value::read_span)?;
    let result = if delay.is_zero() {
        Err(Wrong::new("a pause of 0 cannot grow", "write delay = \"100ms\" too, the pause to begin with"))
    } else if most == Duration::MAX {
        Err(Wrong::new("systemd knows no pause without an end", "write the longest pause, such as \"15s\""))
    } else if most <= delay {
        Err(Wrong::new(
            format!("the pause cannot grow from {} to {}", value::write_span(delay), value::write_span(most)),
            "write the longest pause, such as \"15s\", and in delay the shortest",
        ))
    } else {
        Ok(most)
    };
    item.check(problems, result)
}

fn read_codes(item: &Item<'_>, problems: &mut Problems) -> Vec<u8> {
    let read = |text: &str| {
        let wrong = || Wrong::new(format!("`{text}` is no exit status"), "write numbers from 0 to 255, such as [0, 3]");
        text.parse::<u8>().map_err(|_| wrong())
    };
    let mut codes: Vec<u8> = item.elements().iter().filter_map(|it| it.read(problems, read)).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restart(delay: u64, backoff: u64) -> Restart {
        Restart {
            delay: Duration::from_millis(delay),
            backoff: Some(Duration::from_millis(backoff)),
            ..Restart::default()
        }
    }

    #[test]
    fn the_pause_grows_by_half_and_stops_at_the_maximum() {
        let growing = restart(100, 15_000);
        assert_eq!(growing.steps(), Some(12));
        let pauses: Vec<u128> = (1..=14).map(|number| growing.pause(number).as_millis()).collect();
        assert_eq!((pauses[0], pauses[12], pauses[13]), (100, 15_000, 15_000));
        for pair in pauses[..13].windows(2) {
            let growth = pair[1] as f64 / pair[0] as f64;
            assert!((1.4..1.6).contains(&growth), "{pauses:?}");
        }
        assert_eq!(restart(100, 101).steps(), Some(1));
        assert_eq!(Restart { backoff: None, ..restart(100, 1) }.pause(99), Duration::from_millis(100));
    }

    #[test]
    fn pauses_add_up() {
        let second = Duration::from_secs(1);
        let constant = Restart { backoff: None, ..restart(1000, 1) };
        assert_eq!(constant.pauses(16), second * 16);
        assert_eq!(constant.pauses(0), Duration::ZERO);
        let growing: Duration = (1..=16).map(|number| restart(100, 15_000).pause(number)).sum();
        assert_eq!(restart(100, 15_000).pauses(16), growing);
        assert_eq!(Restart { backoff: None, ..restart(0, 1) }.pauses(u32::MAX), Duration::ZERO);
        assert_eq!(Restart { delay: Duration::MAX, ..Restart::default() }.pauses(9), Duration::MAX);
    }
}
