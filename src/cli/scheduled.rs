//! `appctl scheduled reload|restart NAME`, what `NAME-reload.service` and `NAME-restart.service` run when their timer has
//! elapsed. Its words go to the journal.

use std::time::{Duration, SystemTime};

use clap::ValueEnum;

use super::exit::{DONE, FAILED, Failure};
use super::manage::{Manager, user_flag};
use super::names::{self, Asked};
use super::print::Printer;
use super::restart;
use crate::config::Scope;
use crate::rollout::STEP;
use crate::system::bus::{Properties, Verb};

/// How late a timer may come. systemd is late by as much when it has not had the processor.
const LATE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Act {
    Reload,
    Restart,
}

pub(super) async fn run(act: Act, name: &str, scope: Scope, printer: &Printer) -> Result<u8, Failure> {
    let manager = Manager::connect(scope).await?;
    let names = names::units(scope, name);
    let (word, timer) = match act {
        Act::Reload => ("reload", &names.reload_timer),
        Act::Restart => ("restart", &names.restart_timer),
    };
    if !Elapsed::of(&manager.properties(timer).await?).is_none_or(|elapsed| elapsed.is_due(SystemTime::now())) {
        printer.note(&format!("{word} of {name} is not due: its time was before the timer was started, or long ago"));
        return Ok(DONE);
    }
    let router = manager.properties(&names.router).await?;
    if !["active", "reloading", "activating"].contains(&router.text("ActiveState").unwrap_or_default()) {
        printer.note(&format!("scheduled {word}: {name} does not run, so there is nothing to {word}"));
        return Ok(DONE);
    }
    printer.note(&format!("scheduled {word} of {name}"));
    if act == Act::Restart {
        return restart::run(&[name.to_owned()], Asked(Some(scope)), printer).await;
    }
    let unfinished = manager.run(&[(Verb::Reload, names.router.clone())], async |_, _| {}).await?;
    let Some(job) = unfinished.first() else {
        return Ok(DONE);
    };
    let hint = format!("journalctl{} MESSAGE_ID={STEP} APP={name}", user_flag(scope));
    printer.error(&format!("{name} not reloaded ({}): {hint} tells why", job.result));
    Ok(FAILED)
}

/// A timer that has just elapsed, and whose service runs therefore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Elapsed {
    /// When it should elapse, as all times here in microseconds since 1970.
    at: u64,
    /// Since when it waits.
    since: u64,
}

impl Elapsed {
    /// `None`: the service was started by somebody else.
    fn of(timer: &Properties) -> Option<Self> {
        // Until its service has ended, the timer keeps the time that it elapsed at.
        let running = timer.text("SubState") == Some("running");
        let at = timer.calendar().filter(|_| running)?;
        Some(Self { at, since: timer.u64("ActiveEnterTimestamp").unwrap_or(0) })
    }

    /// A timer that is started again, or whose times are changed, counts from when it was first started (systemd 252) or
    /// elapsed last, and so elapses at once for a time that is long past.
    fn is_due(self, now: SystemTime) -> bool {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(self.at);
        self.at >= self.since && now.duration_since(at).is_ok_and(|late| late <= LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_is_not_due() {
        let now = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let elapsed = |at: u64, since: u64| Elapsed { at: at * 1_000_000, since: since * 1_000_000 };
        assert!(elapsed(1000, 10).is_due(now(1000)));
        assert!(elapsed(1000, 10).is_due(now(1059)));
        assert!(!elapsed(1000, 1010).is_due(now(1010)), "the timer was started after that");
        assert!(!elapsed(1000, 10).is_due(now(4600)), "a time that was put into the past by a change");
    }
}
