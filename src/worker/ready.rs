//! ExecStartPost= of a worker: ends when the router counts the worker as ready, so that `systemctl start APP@SLOT` means it.

use super::{Worker, WorkerError};
use crate::system::process::{either_readable, pidfd, readable_within};
use crate::wire::hello::Hello;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Between the end of the main process by a signal and the same signal's arrival here.
const SIGNAL_LAG: Duration = Duration::from_millis(100);

/// Between the end of a process' channel and its own.
const GOING: Duration = Duration::from_secs(1);

/// Waits. `pid`: the worker's main process (`$MAINPID`); `notified`: it has told systemd that it is ready.
pub fn ready(worker: &Worker, pid: i32, notified: bool) -> Result<(), WorkerError> {
    let main = match pidfd(pid) {
        Ok(main) => Some(main),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(WorkerError::Ended),
        // A kernel without pidfd: the router's word has to do.
        Err(_) => None,
    };
    loop {
        let mut stream = worker.call(&Hello::Ready { slot: worker.slot.clone(), pid, notified })?;
        let answered = either_readable(&stream, main.as_ref().map(AsFd::as_fd)).map_err(|e| worker.silent(e))?;
        if !answered {
            // systemd signals both processes of a worker that is being stopped; ours may be about to come.
            std::thread::sleep(SIGNAL_LAG);
            return Err(WorkerError::Ended);
        }
        match worker.answer(&mut stream) {
            Ok(_) => return Ok(()),
            // The router went away; the next one is asked, for as long as the worker lives and systemd allows.
            Err(error) if error.is_end() => {}
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
