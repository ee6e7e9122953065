//! Small socket calls that std has no name for.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockFlag, accept4};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Accepts one connection, non-blocking and close-on-exec (accept(2)).
pub fn accept(listener: &impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    // SAFETY: the kernel has just made this descriptor for us.
    accept4(listener.as_fd().as_raw_fd(), flags).map(|raw| unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sets O_NONBLOCK, which all descriptors of the same open socket share.
pub fn set_nonblocking(socket: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
