//! The first process of a container: passes signals on to the one process that does the work, and takes leave of orphans.
//!
//! The kernel gives PID 1 no signal that it has not asked for, and every process whose parent has gone. A process of its own
//! for that, as nobody else can tell the orphans from children that somebody waits for.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Whether this is the first process, with nobody who would do that for it.
pub fn is_needed() -> bool {
    std::process::id() == 1
}

/// Runs this program again with the same arguments, as a child, until that ends; its exit code, or 128 and the number of the
/// signal that ended it.
pub fn run() -> io::Result<u8> {
    let all = SigSet::all();
    let mut before = SigSet::empty();
    // Not lost, should one come before there is anybody to pass it to.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before))?;
    let mut command = Command::new("/proc/self/exe");
    let mut arguments = std::env::args_os();
    command.arg0(arguments.next().unwrap_or_else(|| "appctl".into())).args(arguments);
    // SAFETY: sigprocmask(2) is async-signal-safe, as all between fork and exec must be.
    unsafe {
        command.pre_exec(move || Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?));
    }
    let child = Pid::from_raw(i32::try_from(command.spawn()?.id()).map_err(io::Error::other)?);
    loop {
        if let Some((signal, from_the_terminal)) = next(&all)? {
            match signal {
                Signal::SIGCHLD => {
                    if let Some(code) = reap(child)? {
                        return Ok(code);
                    }
                }
                // Nothing is stopped here, and what a terminal says it has said to the child as well.
                Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU => {}
                _ if from_the_terminal => {}
                // It may have ended just now.
                signal => drop(kill(child, signal)),
            }
        }
    }
}

/// Waits for a signal. `None`: one of those without a name.
fn next(set: &SigSet) -> io::Result<Option<(Signal, bool)>> {
    loop {
        // SAFETY: an all-zero siginfo_t is valid; both live until the call returns.
        let (number, code) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            (libc::sigwaitinfo(set.as_ref(), &raw mut info), info.si_code)
        };
        match Errno::result(number) {
            Ok(number) => return Ok(Signal::try_from(number).ok().map(|signal| (signal, code == libc::SI_KERNEL))),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes leave of all that have ended. The exit code, when the child is among them.
fn reap(child: Pid) -> io::Result<Option<u8>> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => code = Some(u8::try_from(status).unwrap_or(1)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                code = Some(u8::try_from(128 + signal as i32).unwrap_or(1));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(code),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
