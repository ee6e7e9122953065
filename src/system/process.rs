//! Other processes: waiting for one that is not our child, becoming another program.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;

/// A handle on a process that becomes readable when it ends (pidfd_open(2), Linux 5.3). `NotFound`: there is none.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers and makes a new descriptor.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let raw = Errno::result(raw).map_err(|errno| match errno {
        Errno::ESRCH => io::Error::from(io::ErrorKind::NotFound),
        other => other.into(),
    })?;
    let raw = i32::try_from(raw).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The words that a process was started with. `None`: it is gone, or hidden.
pub fn command_line(pid: u32) -> Option<Vec<String>> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.strip_suffix(&[0])?.split(|byte| *byte == 0);
    Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// Resolves when a process has ended; never on a kernel that cannot tell (before Linux 5.3). 0: there was none.
/// Needs a tokio runtime.
pub async fn ended(pid: u32) {
    if pid == 0 {
        return;
    }
    let pidfd = match i32::try_from(pid).map(pidfd) {
        Ok(Ok(pidfd)) => super::sock::watch(pidfd, tokio::io::Interest::READABLE).ok(),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return,
        _ => None,
    };
    match pidfd {
        Some(pidfd) => drop(pidfd.readable().await.map(|mut guard| guard.retain_ready())),
        None => std::future::pending().await,
    }
}

/// Waits until one of two descriptors has something to read; says which, the first one first.
pub fn either_readable(first: &impl AsFd, second: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    let mut waiting = vec![PollFd::new(first.as_fd(), PollFlags::POLLIN)];
    waiting.extend(second.map(|second| PollFd::new(second, PollFlags::POLLIN)));
    loop {
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) => return Ok(waiting[0].any().unwrap_or(true)),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until there is something to read, at most `within`; says whether there is.
pub fn readable_within(descriptor: &impl AsFd, within: std::time::Duration) -> io::Result<bool> {
    let mut waiting = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    Ok(poll(&mut waiting, timeout)? > 0)
}

/// Makes `descriptor` the descriptor `number`, open across exec; what was there is closed.
pub fn place_at(descriptor: OwnedFd, number: i32) -> io::Result<()> {
    if descriptor.as_raw_fd() == number {
        // dup2(2) of a descriptor onto itself would leave close-on-exec set.
        nix::fcntl::fcntl(&descriptor, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
        let _ = descriptor.into_raw_fd();
        return Ok(());
    }
    // SAFETY: both are plain numbers to the kernel; the caller says that nothing of ours uses `number`.
    Errno::result(unsafe { libc::dup2(descriptor.as_raw_fd(), number) })?;
    Ok(())
}

/// Puts a child into a process group of its own, so that Ctrl-C at our terminal does not reach it. It is killed when the
/// thread that spawns it ends.
pub fn leash(command: &mut std::process::Command) {
    // SAFETY: prctl(2) is async-signal-safe, as all between fork and exec must be. A worker that nobody routes to any more
    // must not outlive us.
    let leash = || match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(leash) };
    command.process_group(0);
}

/// Lets a child find `descriptor` as its descriptor `number`, open across exec. The descriptor must stay open until the
/// child is spawned.
pub fn pass_at(command: &mut std::process::Command, descriptor: BorrowedFd<'_>, number: i32) {
    let source = descriptor.as_raw_fd();
    let place = move || {
        // SAFETY: dup2(2) and fcntl(2) are async-signal-safe, as all between fork and exec must be.
        let placed = unsafe {
            if source == number { libc::fcntl(number, libc::F_SETFD, 0) } else { libc::dup2(source, number) }
        };
        if placed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(place) };
}
