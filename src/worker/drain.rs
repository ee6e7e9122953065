//! ExecStop= of a worker: takes it out of rotation and lets it finish, before systemd tells it to stop.

use super::{Worker, WorkerError};
use crate::wire::hello::Hello;
use std::time::{Duration, Instant};

/// On top of the drain time, for a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// Waits until the worker has nothing in flight, at most `within`.
pub fn drain(worker: &Worker, within: Duration) -> Result<(), WorkerError> {
    let began = Instant::now();
    loop {
        let left = within.saturating_sub(began.elapsed());
        let milliseconds = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let mut stream = worker.call(&Hello::Drain { slot: worker.slot.clone(), within: milliseconds })?;
        stream.set_read_timeout(Some(left.saturating_add(SLACK))).map_err(|error| worker.silent(error))?;
        match worker.answer(&mut stream) {
            Ok(_) => return Ok(()),
            // The router went away; the next one knows what this worker has.
            Err(error) if error.is_end() && began.elapsed() < within => {}
            Err(error) => return Err(error),
        }
    }
}
