//! Small socket calls that std has no name for.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, accept4, connect, socket};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Accepts one connection, non-blocking and close-on-exec (accept(2)).
pub fn accept(listener: &impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    // SAFETY: the kernel has just made this descriptor for us.
    accept4(listener.as_fd().as_raw_fd(), flags).map(|raw| unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Begins a TCP connection, non-blocking and close-on-exec; gives its own address, too. Whether it comes about shows at
/// its other end.
pub fn begin_connect(to: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let ours = socket(family, SockType::Stream, flags, None)?;
    match connect(ours.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let ours = TcpStream::from(ours);
    let address = ours.local_addr()?;
    Ok((ours.into(), address))
}

/// Sets O_NONBLOCK, which all descriptors of the same open socket share.
pub fn set_nonblocking(socket: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Registers a socket of our own with tokio. Needs a runtime.
pub fn watch(socket: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and the same descriptor, for as long as it lives, and AsyncFd gives no way to replace it.
    unsafe { AsyncFd::register_with_interest(socket, interest) }.map_err(io::Error::from)
}

/// Registers a socket that others hold on to as well. Drop the result before the socket is given to another process: the
/// registration belongs to the open socket, not to our descriptor, and would outlive it.
pub fn watch_shared(socket: Rc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Shared>> {
    // SAFETY: as above; the Rc keeps the descriptor open.
    unsafe { AsyncFd::register_with_interest(Shared(socket), interest) }.map_err(io::Error::from)
}

/// A descriptor with several owners.
#[derive(Debug)]
pub struct Shared(Rc<OwnedFd>);

impl AsRawFd for Shared {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Lets accept(2) return connections only once the client has said something, or after about `within` (tcp(7)
/// TCP_DEFER_ACCEPT, systemd's DeferAcceptSec=).
pub fn defer_accept(listener: &impl AsFd, within: Duration) -> io::Result<()> {
    let seconds = libc::c_int::try_from(within.as_secs()).unwrap_or(libc::c_int::MAX);
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    let descriptor = listener.as_fd().as_raw_fd();
    // SAFETY: the option takes one int, which lives until the call returns.
    let set = unsafe {
        libc::setsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, (&raw const seconds).cast(), size)
    };
    Errno::result(set)?;
    Ok(())
}
