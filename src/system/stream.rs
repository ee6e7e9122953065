//! A connected stream socket of either family, as tokio's AsyncRead and AsyncWrite.

#![allow(unsafe_code)]

use super::sock::watch;
use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, Shutdown, SockaddrStorage, getpeername, recv, sendmsg, setsockopt, shutdown, sockopt,
};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// Pieces of so many bytes together are sent as one.
const SHORT: usize = 1024;

/// Its clones are the same socket, which closes with the last of them.
#[derive(Debug, Clone)]
pub struct Stream(Arc<AsyncFd<OwnedFd>>);

/// Looks at a [`Stream`] without keeping it open.
#[derive(Debug, Clone)]
pub struct Glance(Weak<AsyncFd<OwnedFd>>);

impl Stream {
    /// `socket` is non-blocking. Needs a tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        // Not for Unix sockets; they do not wait anyway.
        let _ = setsockopt(&socket, sockopt::TcpNoDelay, &true);
        Ok(Self(Arc::new(watch(socket, Interest::READABLE | Interest::WRITABLE)?)))
    }

    /// The socket, if this is its last clone.
    pub fn into_socket(self) -> Option<OwnedFd> {
        Arc::try_unwrap(self.0).ok().map(AsyncFd::into_inner)
    }

    /// Whether the socket is open and its peer has neither said anything nor left, as far as the kernel has told already:
    /// cheaper than [`Glance::is_quiet`]. Who waits for that to change is woken then, and nobody else who waited.
    pub fn seems_quiet(&self, cx: &mut Context<'_>) -> bool {
        // A task that has had its turn is told nothing by tokio.
        if !tokio::task::coop::has_budget_remaining() {
            return self.glance().is_quiet();
        }
        loop {
            match self.0.poll_read_ready(cx) {
                Poll::Pending => return true,
                Poll::Ready(Ok(mut guard)) if self.glance().is_quiet() => guard.clear_ready(),
                Poll::Ready(_) => return false,
            }
        }
    }

    pub fn glance(&self) -> Glance {
        Glance(Arc::downgrade(&self.0))
    }

    /// The next byte, which stays where it is. `None`: there is none any more.
    pub async fn first(&self) -> io::Result<Option<u8>> {
        loop {
            let mut guard = self.0.readable().await?;
            let mut byte = [0];
            match recv(self.0.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
                Ok(count) => return Ok((count > 0).then_some(byte[0])),
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What was sent and the other end has not acknowledged (at a Unix socket: not read), bytes.
    pub fn unsent(&self) -> io::Result<usize> {
        let mut count: libc::c_int = 0;
        // SAFETY: the call writes one int, which lives until it returns.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// When it closes, what was sent and not acknowledged is thrown away.
    pub fn reset_on_close(&self) -> io::Result<()> {
        setsockopt(self.0.get_ref(), sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        Ok(())
    }

    /// Asks a silent peer whether it is there: after so many seconds, then so often, and so many times in vain (tcp(7)).
    /// Nothing at a Unix socket, where that is known.
    pub fn keep_alive(&self, (idle, interval, probes): (u32, u32, u32)) -> io::Result<()> {
        let socket = self.0.get_ref();
        setsockopt(socket, sockopt::KeepAlive, &true)?;
        let set = setsockopt(socket, sockopt::TcpKeepIdle, &idle)
            .and_then(|()| setsockopt(socket, sockopt::TcpKeepInterval, &interval))
            .and_then(|()| setsockopt(socket, sockopt::TcpKeepCount, &probes));
        match set {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOPROTOOPT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The kernel takes one short piece in half the time of two.
    fn send(&self, pieces: &[IoSlice<'_>], length: usize) -> nix::Result<usize> {
        match pieces {
            [whole] => nix::sys::socket::send(self.0.as_raw_fd(), whole, MsgFlags::MSG_NOSIGNAL),
            _ if length <= SHORT => {
                let mut short = [0; SHORT];
                let mut at = 0;
                for piece in pieces {
                    short[at..at + piece.len()].copy_from_slice(piece);
                    at += piece.len();
                }
                nix::sys::socket::send(self.0.as_raw_fd(), &short[..length], MsgFlags::MSG_NOSIGNAL)
            }
            _ => sendmsg::<()>(self.0.as_raw_fd(), pieces, &[], MsgFlags::MSG_NOSIGNAL, None),
        }
    }

    fn poll_send(&self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            let length: usize = pieces.iter().map(|piece| piece.len()).sum();
            match self.send(pieces, length) {
                Ok(sent) => {
                    // The buffer is full: the kernel will say when there is room again.
                    if sent < length {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

impl Glance {
    /// The stream, if it is still open.
    pub fn upgrade(&self) -> Option<Stream> {
        self.0.upgrade().map(Stream)
    }

    /// Whether the socket is open and its peer has neither said anything nor left.
    pub fn is_quiet(&self) -> bool {
        let Some(stream) = self.0.upgrade() else { return false };
        let mut byte = [0];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(stream.as_raw_fd(), &mut byte, flags) == Err(Errno::EAGAIN)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            // SAFETY: recv(2) writes at most `room` bytes there, and never reads or uninitializes any.
            let received = unsafe {
                let place = buffer.unfilled_mut().as_mut_ptr();
                libc::recv(self.0.as_raw_fd(), place.cast(), room, 0)
            };
            match Errno::result(received) {
                Ok(count) => {
                    let count = usize::try_from(count).unwrap_or(0);
                    // Less than there was room for: that was all, and the next byte is a new event. (The end is one, too.)
                    if 0 < count && count < room {
                        guard.clear_ready();
                    }
                    // SAFETY: the kernel has written so many.
                    unsafe { buffer.assume_init(count) };
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // IOV_MAX.
        self.poll_send(cx, &pieces[..pieces.len().min(1024)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match shutdown(self.0.as_raw_fd(), Shutdown::Write) {
            // It is gone already.
            Ok(()) | Err(Errno::ENOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}

/// The address at the other end of a connection.
pub fn peer(socket: &impl AsFd) -> Option<SocketAddr> {
    let name = getpeername::<SockaddrStorage>(socket.as_fd().as_raw_fd()).ok()?;
    match (name.as_sockaddr_in(), name.as_sockaddr_in6()) {
        (Some(four), _) => Some(SocketAddr::from((four.ip(), four.port()))),
        (_, Some(six)) => Some(SocketAddr::from((IpAddr::from(six.ip()), six.port()))),
        _ => None,
    }
}
