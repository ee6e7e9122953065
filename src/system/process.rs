//! Other processes: waiting for one that is not our child, becoming another program.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// What this process uses.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub processor: std::time::Duration,
    /// Bytes.
    pub resident: u64,
    /// How many are open.
    pub descriptors: u64,
}

/// Asks the kernel what this process uses (proc_pid_status(5), getrusage(2)).
pub fn usage() -> io::Result<Usage> {
    use nix::sys::resource::{UsageWho, getrusage};
    let times = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = [times.user_time(), times.system_time()].map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    let processor = std::time::Duration::from_micros(u64::try_from(micros.iter().sum::<i64>()).unwrap_or(0));
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    let resident = 1024 * resident.unwrap_or(0);
    // Since Linux 6.2 the directory's size is the number; before, it is 0.
    let descriptors = match std::fs::metadata("/proc/self/fd")?.len() {
        // Its own among them.
        0 => (std::fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1),
        count => count,
    };
    Ok(Usage { processor, resident, descriptors })
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
    Ok(either_readable_within(first, second, None)?.unwrap_or(true))
}

/// The same, at most `within`. `None`: neither has.
pub fn either_readable_within(
    first: &impl AsFd,
    second: Option<BorrowedFd<'_>>,
    within: Option<std::time::Duration>,
) -> io::Result<Option<bool>> {
    let mut waiting = vec![PollFd::new(first.as_fd(), PollFlags::POLLIN)];
    waiting.extend(second.map(|second| PollFd::new(second, PollFlags::POLLIN)));
    let timeout = within.map_or(PollTimeout::NONE, |within| PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX));
    loop {
        match poll(&mut waiting, timeout) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(waiting[0].any().unwrap_or(true))),
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

/// Waits until it can be written to, at most `within`; says whether it can. A pipe then takes PIPE_BUF bytes at once.
pub fn writable_within(descriptor: &impl AsFd, within: std::time::Duration) -> io::Result<bool> {
    let mut waiting = [PollFd::new(descriptor.as_fd(), PollFlags::POLLOUT)];
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

/// This thread has asked for its place behind those that are at work, and its children are not to have it.
static TAKES_TURNS: AtomicBool = AtomicBool::new(false);

/// Lets this thread take its turn when it wakes, rather than interrupt whoever is at work (sched(7), SCHED_BATCH; systemd's
/// `CPUSchedulingPolicy=batch`). A policy that somebody has chosen stays.
pub fn take_turns() -> io::Result<()> {
    // SAFETY: the call takes a number; 0 is this thread.
    let policy = Errno::result(unsafe { libc::sched_getscheduler(0) })?;
    if policy == libc::SCHED_OTHER {
        set_policy(libc::SCHED_BATCH)?;
        TAKES_TURNS.store(true, Ordering::Relaxed);
    }
    Ok(())
}

fn set_policy(policy: libc::c_int) -> io::Result<()> {
    // SAFETY: an all-zero sched_param is valid, and of these policies the only one; it lives until the call returns.
    // Async-signal-safe: it is one system call.
    let set = unsafe { libc::sched_setscheduler(0, policy, &std::mem::zeroed()) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts a child into a process group of its own, so that Ctrl-C at our terminal does not reach it. It is scheduled as we
/// were before [`take_turns`], and killed when the thread that spawns it ends.
pub fn leash(command: &mut std::process::Command) {
    let takes_turns = TAKES_TURNS.load(Ordering::Relaxed);
    let leash = move || {
        if takes_turns {
            set_policy(libc::SCHED_OTHER)?;
        }
        // SAFETY: prctl(2) is async-signal-safe, as all between fork and exec must be. A worker that nobody routes to any
        // more must not outlive us.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
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
