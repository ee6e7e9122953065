//! Bytes and descriptors over an AF_UNIX stream (unix(7), SCM_RIGHTS).
//!
//! All calls are non-blocking whatever the descriptor's own flags say, and none raises SIGPIPE.

#![allow(unsafe_code)]

use nix::sys::socket::{self, ControlMessage, MsgFlags, UnixAddr};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

const FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// What became of a frame that carries a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Whole,
    /// All but the last byte went in; [`send_last`] must follow before anything else.
    AllButLast,
}

/// Sends a part of `bytes`; says how many went in.
pub fn send(channel: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(socket::send(channel.as_raw_fd(), bytes, FLAGS)?)
}

/// Sends `frame` with `descriptor` on its last byte.
///
/// The kernel delivers a descriptor with the first byte of the message that it was attached to. On the last byte of a
/// frame no reader can mix it up with another frame's, however its reads fall. Both pieces go in by one sendmmsg(2), so
/// that a process killed at any moment has sent the whole frame or nothing of it. `WouldBlock`: no room for both; nothing
/// was sent. `size`: of the channel's buffer (SO_SNDBUF).
pub fn send_with_descriptor(
    channel: BorrowedFd<'_>,
    size: usize,
    frame: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<Sent> {
    let Some((last, most)) = frame.split_last() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty frame cannot carry a descriptor"));
    };
    if !has_room(channel, size, frame.len())? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    if most.is_empty() {
        return send_last(channel, *last, descriptor).map(|()| Sent::Whole);
    }
    let last = [*last];
    let mut slices = [
        libc::iovec { iov_base: most.as_ptr().cast_mut().cast(), iov_len: most.len() },
        libc::iovec { iov_base: last.as_ptr().cast_mut().cast(), iov_len: 1 },
    ];
    let mut control = ControlBuffer::new(descriptor);
    // SAFETY: an all-zero msghdr is a valid one: no address, no data, no control.
    let mut messages: [libc::mmsghdr; 2] = unsafe { std::mem::zeroed() };
    messages[0].msg_hdr.msg_iov = &raw mut slices[0];
    messages[0].msg_hdr.msg_iovlen = 1;
    messages[1].msg_hdr.msg_iov = &raw mut slices[1];
    messages[1].msg_hdr.msg_iovlen = 1;
    messages[1].msg_hdr.msg_control = control.0.as_mut_ptr().cast();
    messages[1].msg_hdr.msg_controllen = (control.0.len() * 8) as _;
    // SAFETY: both headers point to slices and a control buffer that live until the call returns; the kernel only reads.
    let sent = unsafe { libc::sendmmsg(channel.as_raw_fd(), messages.as_mut_ptr(), 2, FLAGS.bits() as _) };
    match sent {
        2 => Ok(Sent::Whole),
        1 if messages[0].msg_len as usize == most.len() => Ok(Sent::AllButLast),
        // A frame of a few hundred bytes is one buffer of the kernel, taken whole or not at all.
        1 => Err(io::Error::other("the kernel split a small frame")),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends the last byte of a frame, with its descriptor.
pub fn send_last(channel: BorrowedFd<'_>, last: u8, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    socket::sendmsg::<UnixAddr>(
        channel.as_raw_fd(),
        &[IoSlice::new(&[last])],
        &[ControlMessage::ScmRights(&descriptors)],
        FLAGS,
        None,
    )?;
    Ok(())
}

/// Appends what has come, at most `most` bytes, to `buffer` and to `descriptors`. `Ok(0)`: end of stream.
#[cfg(test)]
pub(crate) fn receive(
    channel: BorrowedFd<'_>,
    buffer: &mut bytes::BytesMut,
    most: usize,
    descriptors: &mut Vec<std::os::fd::OwnedFd>,
) -> io::Result<usize> {
    use std::os::fd::FromRawFd;
    let start = buffer.len();
    buffer.resize(start + most, 0);
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 253]);
    let mut slices = [io::IoSliceMut::new(&mut buffer[start..])];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = socket::recvmsg::<UnixAddr>(channel.as_raw_fd(), &mut slices, Some(&mut control), flags);
    let received = message.map(|message| {
        for control in message.cmsgs().into_iter().flatten() {
            if let socket::ControlMessageOwned::ScmRights(passed) = control {
                // SAFETY: the kernel has just made these descriptors for us.
                descriptors.extend(passed.into_iter().map(|raw| unsafe { std::os::fd::OwnedFd::from_raw_fd(raw) }));
            }
        }
        message.bytes
    });
    buffer.truncate(start + received.unwrap_or(0));
    Ok(received?)
}

/// Whether a frame of `length` bytes and its descriptor fit into the channel's buffer now, which has `size` bytes.
pub fn has_room(channel: BorrowedFd<'_>, size: usize, length: usize) -> io::Result<bool> {
    // Each piece costs its bytes rounded up and the kernel's bookkeeping; 4 KiB cover both pieces' overhead.
    const OVERHEAD: usize = 4096;
    Ok(unread(channel)? + 2 * length + OVERHEAD < size)
}

/// What the other side has not read yet, in bytes of kernel memory: several hundred for the smallest message.
fn unread(channel: BorrowedFd<'_>) -> io::Result<usize> {
    let mut queued: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (TIOCOUTQ) writes one int.
    if unsafe { libc::ioctl(channel.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(queued).unwrap_or(0))
}

/// Whether the other side has read everything. When it reads the rest, the channel becomes writable once more.
pub fn is_read(channel: BorrowedFd<'_>) -> io::Result<bool> {
    // The kernel wakes writers just before it gives back the last byte of a message.
    Ok(unread(channel)? < 256)
}

/// Room for one SCM_RIGHTS message with one descriptor, aligned as cmsg(3) wants it.
struct ControlBuffer([u64; Self::WORDS]);

impl ControlBuffer {
    // SAFETY: CMSG_SPACE only computes.
    const WORDS: usize = unsafe { libc::CMSG_SPACE(4) as usize }.div_ceil(8);

    fn new(descriptor: BorrowedFd<'_>) -> Self {
        let mut buffer = Self([0; Self::WORDS]);
        let header: *mut libc::cmsghdr = buffer.0.as_mut_ptr().cast();
        // SAFETY: the buffer has CMSG_SPACE(4) bytes, 8-byte aligned: a header and one descriptor fit.
        unsafe {
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(descriptor.as_raw_fd());
        }
        buffer
    }
}
