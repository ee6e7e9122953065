//! ExecStartPost= of a worker: ends when the router counts the worker as ready, so that `systemctl start APP@SLOT` means it.

use super::{Worker, WorkerError};
use crate::system::process::{either_readable_within, pidfd, readable_within};
use crate::wire::hello::{Answer, Hello};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Between the end of the main process by a signal and the same signal's arrival here.
const SIGNAL_LAG: Duration = Duration::from_millis(100);

/// Between the end of a process' channel and its own.
const GOING: Duration = Duration::from_secs(1);

/// Waits. `pid`: the worker's main process (`$MAINPID`); `notified`: it has told systemd that it is ready; `explain_after`:
/// when to say why it is not ready, in the worker's own journal, where whoever asks for its last lines finds it.
pub fn ready(worker: &Worker, pid: i32, notified: bool, explain_after: Option<Duration>) -> Result<(), WorkerError> {
    let main = match pidfd(pid) {
        Ok(main) => Some(main),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(WorkerError::Ended),
        // A kernel without pidfd: the router's word has to do.
        Err(_) => None,
    };
    let explain = explain_after.is_some();
    let mut explain_at = explain_after.map(|after| Instant::now() + after);
    let mut reason: Option<String> = None;
    let hello = Hello::Ready { slot: worker.slot.clone(), pid, notified, explain };
    let mut stream = worker.call(&hello)?;
    loop {
        // One that becomes ready soon needs no explanation.
        let within = reason.as_ref().and(explain_at).map(|at| at.saturating_duration_since(Instant::now()));
        let ended = main.as_ref().map(AsFd::as_fd);
        match either_readable_within(&stream, ended, within).map_err(|error| worker.silent(error))? {
            Some(true) => {}
            Some(false) => {
                // systemd signals both processes of a worker that is being stopped; ours may be about to come.
                std::thread::sleep(SIGNAL_LAG);
                return Err(WorkerError::Ended);
            }
            None => {
                explain_at = explain_after.map(|after| Instant::now() + after);
                if let Some(reason) = reason.take() {
                    eprintln!("<5>appctl: not ready yet: {reason}");
                }
                continue;
            }
        }
        match worker.answer(&mut stream) {
            Ok(Answer::NotYet { reason: now }) => reason = Some(now),
            Ok(_) => return Ok(()),
            // The router went away; the next one is asked, for as long as the worker lives and systemd allows.
            Err(error) if error.is_end() => stream = worker.call(&hello)?,
            // Its channel is closed first, then it is gone.
            Err(WorkerError::Refused { .. }) if main.as_ref().is_some_and(|main| has_ended(main, GOING)) => {
                return Err(WorkerError::Ended);
            }
            Err(error) => return Err(error),
        }
    }
}

fn has_ended(main: &OwnedFd, within: Duration) -> bool {
    readable_within(main, within).unwrap_or(false)
}
