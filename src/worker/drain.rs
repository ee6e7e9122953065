//! ExecStop= of a worker: takes it out of rotation and lets it finish, before it is told to stop: in the app's own words
//! where there are some (`stop.message`), then by systemd's signal.

use super::{Worker, WorkerError};
use crate::system::process::{pidfd, readable_within};
use crate::wire::hello::Hello;
use std::io;
use std::time::Duration;

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
    let milliseconds = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let text = message.map(|(text, _)| text.to_owned());
    let mut stream = worker.call(&Hello::Drain { slot: worker.slot.clone(), within: milliseconds, message: text })?;
    stream.set_read_timeout(Some(within.saturating_add(SLACK))).map_err(|error| worker.silent(error))?;
    worker.answer(&mut stream)?;
    let Some((_, patience)) = message else { return Ok(()) };
    let watched = match pidfd(pid) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        watched => watched.and_then(|pidfd| readable_within(&pidfd, patience)),
    };
    watched.map(|_| ()).map_err(|error| WorkerError::Program(format!("cannot watch process {pid}: {error}")))
}
