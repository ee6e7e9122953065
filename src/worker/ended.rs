//! ExecStopPost= of a worker: tells the router how it ended, whichever way, before systemd starts it again.
//!
//! It runs as the worker's own user, like all that its unit calls: root would inherit what a file of variables says, which
//! may belong to that user. So it knows what its command line and systemd's variables say; dynamic users cannot ask more
//! where the bus does not know them.

use super::{Worker, WorkerError};
use crate::system::ended::{Exit, How, MARK};
use crate::wire::hello::{Ended, Hello, Next};
use std::time::{Duration, Instant};

/// A router that is down or hangs must not hold up the next start of the worker.
const PATIENCE: Duration = Duration::from_secs(2);
/// SIGALRM ends this process whatever it waits for, seconds.
const LAST_RESORT: u32 = 3;

/// What the unit says about a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `Restart=`
    pub restart: String,
    /// `RestartPreventExitStatus=`
    pub stop_exit_codes: Vec<u8>,
    /// How long the pause is, in words.
    pub pause: String,
}

impl Policy {
    fn next(&self, how: &How) -> Next {
        let stays = match &how.exit {
            Some(Exit::Status(status)) => self.stop_exit_codes.iter().any(|code| i32::from(*code) == *status),
            _ => false,
        };
        if stays || !how.restarts(&self.restart) { Next::Nothing } else { Next::Restart(self.pause.clone()) }
    }
}

/// Tells the router; when that is not to be had, the worker's journal has it.
pub fn ended(worker: &Worker, policy: &Policy) -> Result<(), WorkerError> {
    nix::unistd::alarm::set(LAST_RESORT);
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (result, code, status) = (variable("SERVICE_RESULT"), variable("EXIT_CODE"), variable("EXIT_STATUS"));
    let how = How::told(&result, &code, &status);
    if how.failed() {
        // The router takes what is before this line for the worker's last words.
        eprintln!("<6>{MARK}{}", how.reason(None));
    }
    let invocation = std::env::var("INVOCATION_ID").ok();
    let end = Ended { result, code, status, invocation, next: Some(policy.next(&how)), ..Ended::default() };
    let until = Instant::now() + PATIENCE;
    let hello = Hello::Ended { slot: worker.slot.clone(), end };
    loop {
        let mut stream = worker.call(&hello)?;
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).map_err(|error| worker.silent(error))?;
        match worker.answer(&mut stream) {
            // This router has ended; the next one is on the same socket.
            Err(error) if error.is_end() && Instant::now() < until => {}
            answer => return answer.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next() {
        let policy =
            |restart: &str| Policy { restart: restart.into(), stop_exit_codes: vec![3], pause: "up to 15s".into() };
        for (result, code, status, restart, again) in [
            ("exit-code", "exited", "7", "always", true),
            ("success", "exited", "3", "always", false),
            ("success", "exited", "0", "always", true),
            ("success", "exited", "0", "on-failure", false),
            ("exit-code", "exited", "1", "no", false),
            ("signal", "killed", "KILL", "on-failure", true),
        ] {
            let next = policy(restart).next(&How::told(result, code, status));
            let wanted = if again { Next::Restart("up to 15s".into()) } else { Next::Nothing };
            assert_eq!(next, wanted, "{result} {code} {status} {restart}");
        }
    }
}
