//! A small process beside each worker, in its unit and with its user: it can end a worker whose event loop stands still,
//! which the router has no right to do.
//!
//! It waits for the router's order or the worker's end. A router that ends is followed by the next one.

use super::{Worker, WorkerError};
use crate::system::process::{either_readable, pidfd};
use crate::system::stamp::Stamp;
use crate::wire::hello::{Answer, Hello};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// From SIGABRT, which leaves a trace, to SIGKILL.
const ABORT_TIME: Duration = Duration::from_secs(5);

/// Starts the guard of this process, which is about to become the program. It is nobody's child: the program would not
/// expect to have one.
pub fn start(worker: &Worker) -> io::Result<()> {
    let status =
        command(worker, i32::try_from(std::process::id()).map_err(io::Error::other)?).arg("--detach").status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended: {status}"))) }
}

/// Starts the guard and ends, so that it becomes a child of the service manager.
pub fn detach(worker: &Worker, pid: i32) -> io::Result<()> {
    command(worker, pid).spawn().map(|_| ())
}

fn command(worker: &Worker, pid: i32) -> Command {
    let mut guard = Command::new("/proc/self/exe");
    guard.arg0("appctl").stdin(Stdio::null()).stdout(Stdio::null());
    if worker.user {
        guard.arg("--user");
    }
    guard.args(["worker", "guard", "--pid", &pid.to_string(), &worker.app, &worker.slot]);
    guard
}

/// Becomes the program that has taken the place of this one's file, if one has: an upgrade ends the router, and this is the
/// other process that outlives it. Comes back when there is none, or it cannot be run.
fn renew() {
    let Ok(file) = std::fs::read_link("/proc/self/exe") else { return };
    // The kernel says so of a file that was removed or replaced.
    let Some(file) = file.to_str().and_then(|file| file.strip_suffix(" (deleted)")) else { return };
    if Stamp::of_file(Path::new(file)).is_ok_and(|stamp| stamp.is_some()) {
        let _ = Command::new(file).arg0("appctl").args(std::env::args_os().skip(1)).exec();
    }
}

/// Guards the worker whose main process is `pid`, until it ends.
pub fn guard(worker: &Worker, pid: i32) -> Result<(), WorkerError> {
    let main = match pidfd(pid) {
        Ok(main) => main,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(WorkerError::Program(format!("cannot watch process {pid}: {error}"))),
    };
    loop {
        let mut stream = worker.call(&Hello::Guard { slot: worker.slot.clone() })?;
        if !either_readable(&stream, Some(main.as_fd())).map_err(|error| worker.silent(error))? {
            return Ok(());
        }
        match worker.answer(&mut stream) {
            Ok(Answer::Abort) => break,
            Ok(_) => {}
            // The router went away; the next one is on the same socket.
            Err(error) if error.is_end() => renew(),
            Err(error) => return Err(error),
        }
    }
    // The worker may have ended by itself meanwhile; then there is nobody to tell.
    let _ = kill(Pid::from_raw(pid), Signal::SIGABRT);
    let ended = crate::system::process::readable_within(&main, ABORT_TIME).map_err(|error| worker.silent(error))?;
    if !ended {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    Ok(())
}
