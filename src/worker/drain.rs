//! ExecStop= of a worker: takes it out of rotation and lets it finish, before it is told to stop: in the app's own words
//! where there are some (`stop.message`), then by systemd's signal.

use super::{Worker, WorkerError};
use crate::system::process::{pidfd, readable_within};
use crate::wire::hello::Hello;
use std::io;
use std::time::{Duration, Instant};

/// On top of the drain time, for a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// Waits until the worker with this main process has nothing in flight, at most `within`. With a message it is sent that
/// then, and may take so long to end.
pub fn drain(
    worker: &Worker,
    pid: i32,
    within: Duration,
    message: Option<(&str, Duration)>,
) -> Result<(), WorkerError> {
    let began = Instant::now();
    loop {
        let left = within.saturating_sub(began.elapsed());
        let milliseconds = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let text = message.map(|(text, _)| text.to_owned());
        let hello = Hello::Drain { slot: worker.slot.clone(), within: milliseconds, message: text };
        let mut stream = worker.call(&hello)?;
        stream.set_read_timeout(Some(left.saturating_add(SLACK))).map_err(|error| worker.silent(error))?;
        match worker.answer(&mut stream) {
            Ok(_) => break,
            // The router went away; the next one knows what this worker has.
            Err(error) if error.is_end() && began.elapsed() < within => {}
            Err(error) => return Err(error),
        }
    }
    let Some((_, patience)) = message else { return Ok(()) };
    let watched = match pidfd(pid) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        watched => watched.and_then(|pidfd| readable_within(&pidfd, patience)),
    };
    watched.map(|_| ()).map_err(|error| WorkerError::Program(format!("cannot watch process {pid}: {error}")))
}
