//! A channel's buffers in memory that outlives the process (memfd_create(2) in systemd's descriptor store).
//!
//! A process can be killed at any instruction. What it has read from a channel and not handled yet must not be lost, or
//! the next process would begin in the middle of a frame; and a frame that is half written must be finished before
//! anything else. So bytes are read straight into shared memory and half-written frames stand there. How many bytes a call
//! moved is written into shared memory by the kernel itself: recvmmsg(2) and sendmmsg(2) store `msg_len` before they
//! return, and a process is not killed inside a call that does not sleep. The counters here are brought up to date from
//! that after the call, or by the next process.

#![allow(unsafe_code)]

use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: u64 = u64::from_be_bytes(*b"appctl01");
const PAGE: usize = 4096;
/// Distance of the three areas in the (sparse) file, bytes: the longest frame that fits.
pub const AREA: usize = 1 << 30;
/// Of an area's mapping at first, bytes.
const SMALL: usize = 256 * 1024;
/// Bytes asked of the kernel at a time, as libuv does.
const READ_SIZE: usize = 64 * 1024;
/// Descriptors that one call may bring: SCM_MAX_FD of the kernel.
const MAX_DESCRIPTORS: usize = 253;

/// Bytes from `consumed` to `filled` have been read and not handled.
#[repr(C)]
struct Cursor {
    consumed: AtomicU64,
    filled: AtomicU64,
}

#[repr(C)]
struct Header {
    magic: AtomicU64,
    /// Which of the two inbound areas is in use.
    active: AtomicU64,
    inbound: [Cursor; 2],
    /// Where in the active area the read under way puts its bytes.
    reading_at: AtomicU64,
    /// The frame in the outbound area: its length (0: none) and how much of it is in the channel.
    length: AtomicU64,
    sent: AtomicU64,
    /// Where in the frame the write under way begins.
    sending_at: AtomicU64,
    receive: libc::mmsghdr,
    send: libc::mmsghdr,
}

/// The buffers of one channel.
#[derive(Debug)]
pub struct Buffers {
    file: OwnedFd,
    header: Mapping,
    inbound: [Mapping; 2],
    outbound: Mapping,
}

impl Buffers {
    pub fn create() -> io::Result<Self> {
        let file = memory(c"appctl-channel")?;
        // Sparse: pages come when they are written.
        nix::unistd::ftruncate(&file, (PAGE + 3 * AREA) as libc::off_t)?;
        let buffers = Self::map(file)?;
        buffers.head().magic.store(MAGIC, Ordering::SeqCst);
        Ok(buffers)
    }

    /// Takes over what another process left.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        let size = nix::sys::stat::fstat(&file)?.st_size;
        if usize::try_from(size).ok() != Some(PAGE + 3 * AREA) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a channel's buffers"));
        }
        let mut buffers = Self::map(file)?;
        if buffers.head().magic.load(Ordering::SeqCst) != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a channel's buffers"));
        }
        buffers.settle_read();
        buffers.settle_write();
        if buffers.consumed() == buffers.filled() {
            // Also mends a reset that was cut short.
            buffers.consume(0);
        }
        let filled = buffers.filled();
        let active = buffers.active();
        buffers.inbound[active].grow(&buffers.file, filled)?;
        let length = buffers.load(&buffers.head().length);
        buffers.outbound.grow(&buffers.file, length)?;
        Ok(buffers)
    }

    fn map(file: OwnedFd) -> io::Result<Self> {
        let area = |number: usize| Mapping::new(&file, PAGE + number * AREA, SMALL);
        let (inbound, outbound) = ([area(0)?, area(1)?], area(2)?);
        Ok(Self { header: Mapping::new(&file, 0, PAGE)?, inbound, outbound, file })
    }

    /// For systemd to keep.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn head(&self) -> &Header {
        // SAFETY: the mapping is a page, zeroed or written by this code, and lives as long as self. Every field is atomic
        // or, as the two mmsghdr, only touched through raw pointers.
        unsafe { &*self.header.start.cast::<Header>() }
    }

    fn load(&self, counter: &AtomicU64) -> usize {
        usize::try_from(counter.load(Ordering::SeqCst)).unwrap_or(0)
    }

    fn active(&self) -> usize {
        usize::from(self.head().active.load(Ordering::SeqCst) == 1)
    }

    fn filled(&self) -> usize {
        self.load(&self.head().inbound[self.active()].filled)
    }

    fn consumed(&self) -> usize {
        // A reset that was cut short leaves the two the wrong way round: empty.
        self.load(&self.head().inbound[self.active()].consumed).min(self.filled())
    }

    /// What has been read and not consumed.
    pub fn inbound(&self) -> &[u8] {
        let (from, to) = (self.consumed(), self.filled());
        &self.inbound[self.active()].bytes()[from..to]
    }

    /// The first `count` bytes of [`Self::inbound`] are dealt with.
    pub fn consume(&mut self, count: usize) {
        let cursor = &self.head().inbound[self.active()];
        let consumed = self.consumed() + count;
        if consumed < self.filled() {
            cursor.consumed.store(consumed as u64, Ordering::SeqCst);
            return;
        }
        // In this order: in between it still reads as empty.
        let large = self.filled() > SMALL;
        cursor.filled.store(0, Ordering::SeqCst);
        cursor.consumed.store(0, Ordering::SeqCst);
        if large {
            let active = self.active();
            self.inbound[active].release(&self.file);
        }
    }

    /// Reads once, without waiting; descriptors that come along are appended. `Ok(0)`: end of stream.
    pub fn receive(&mut self, channel: BorrowedFd<'_>, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
        self.make_room()?;
        let active = self.active();
        let at = self.filled();
        let mut control = [0_u64; (unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * 4) as u32) } as usize).div_ceil(8)];
        let room = &mut self.inbound[active].bytes_mut()[at..at + READ_SIZE];
        let mut slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        let header = self.header.start.cast::<Header>();
        // SAFETY: the header page is ours alone; the slice and the control buffer live until the call is over, and nobody
        // looks at the pointers to them afterwards but the control buffer's reader below.
        let received = unsafe {
            let message = &raw mut (*header).receive;
            message.write_volatile(std::mem::zeroed());
            (*header).reading_at.store(at as u64, Ordering::SeqCst);
            (*message).msg_hdr.msg_iov = &raw mut slice;
            (*message).msg_hdr.msg_iovlen = 1;
            (*message).msg_hdr.msg_control = control.as_mut_ptr().cast();
            (*message).msg_hdr.msg_controllen = size_of_val(&control) as _;
            let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
            libc::recvmmsg(channel.as_raw_fd(), message, 1, flags as _, std::ptr::null_mut())
        };
        Errno::result(received)?;
        // SAFETY: the kernel has filled the control buffer as far as msg_controllen says.
        unsafe { take_descriptors(&raw const (*header).receive.msg_hdr, descriptors) };
        Ok(self.settle_read())
    }

    /// Brings `filled` up to date with what the kernel has put there; says how much that was.
    fn settle_read(&mut self) -> usize {
        let header = self.header.start.cast::<Header>();
        // SAFETY: a plain number in our page.
        let count = unsafe { (&raw const (*header).receive.msg_len).read_volatile() } as usize;
        if count > 0 {
            let filled = self.load(&self.head().reading_at) + count;
            self.head().inbound[self.active()].filled.store(filled as u64, Ordering::SeqCst);
            // SAFETY: as above. Only now: until here another process would do the same again, with the same result.
            unsafe { (&raw mut (*header).receive.msg_len).write_volatile(0) };
        }
        count
    }

    /// Makes sure that a read has its room: by moving what is left to the other area, or by mapping more.
    fn make_room(&mut self) -> io::Result<()> {
        let (active, consumed, filled) = (self.active(), self.consumed(), self.filled());
        if filled + READ_SIZE <= self.inbound[active].length {
            return Ok(());
        }
        if consumed == 0 {
            return self.inbound[active].grow(&self.file, (filled + READ_SIZE).max(2 * filled));
        }
        let (other, left) = (1 - active, filled - consumed);
        self.inbound[other].grow(&self.file, left + READ_SIZE)?;
        let [first, second] = &mut self.inbound;
        let (from, to) = if active == 0 { (first, second) } else { (second, first) };
        to.bytes_mut()[..left].copy_from_slice(&from.bytes()[consumed..filled]);
        let cursor = &self.head().inbound[other];
        cursor.consumed.store(0, Ordering::SeqCst);
        cursor.filled.store(left as u64, Ordering::SeqCst);
        // One store moves over.
        self.head().active.store(other as u64, Ordering::SeqCst);
        if filled > SMALL {
            self.inbound[active].release(&self.file);
        }
        Ok(())
    }

    /// How much of a frame begun with [`Self::begin`] is still to be sent.
    pub fn unsent(&self) -> usize {
        self.load(&self.head().length).saturating_sub(self.load(&self.head().sent))
    }

    /// Puts down a frame that may go out in several pieces. Nothing else may be unsent.
    pub fn begin(&mut self, frame: &[u8]) -> io::Result<()> {
        self.outbound.grow(&self.file, frame.len())?;
        self.outbound.bytes_mut()[..frame.len()].copy_from_slice(frame);
        self.head().sent.store(0, Ordering::SeqCst);
        // From here on it will be sent, by whomever.
        self.head().length.store(frame.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    /// Puts a frame down behind what is unsent, for the next process to send.
    pub fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.unsent() == 0 {
            return self.begin(frame);
        }
        let length = self.load(&self.head().length);
        self.outbound.grow(&self.file, length + frame.len())?;
        self.outbound.bytes_mut()[length..length + frame.len()].copy_from_slice(frame);
        self.head().length.store((length + frame.len()) as u64, Ordering::SeqCst);
        Ok(())
    }

    /// Sends some of what is unsent. `WouldBlock`: nothing fits now.
    pub fn send(&mut self, channel: BorrowedFd<'_>) -> io::Result<()> {
        let (sent, length) = (self.load(&self.head().sent), self.load(&self.head().length));
        if sent >= length {
            return Ok(());
        }
        let rest = &self.outbound.bytes()[sent..length];
        let mut slice = libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() };
        let header = self.header.start.cast::<Header>();
        // SAFETY: as in receive().
        let done = unsafe {
            let message = &raw mut (*header).send;
            message.write_volatile(std::mem::zeroed());
            (*header).sending_at.store(sent as u64, Ordering::SeqCst);
            (*message).msg_hdr.msg_iov = &raw mut slice;
            (*message).msg_hdr.msg_iovlen = 1;
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            libc::sendmmsg(channel.as_raw_fd(), message, 1, flags as _)
        };
        Errno::result(done)?;
        self.settle_write();
        Ok(())
    }

    fn settle_write(&mut self) {
        let header = self.header.start.cast::<Header>();
        // SAFETY: a plain number in our page.
        let count = unsafe { (&raw const (*header).send.msg_len).read_volatile() } as usize;
        if count > 0 {
            let sent = self.load(&self.head().sending_at) + count;
            self.head().sent.store(sent as u64, Ordering::SeqCst);
            // SAFETY: as above.
            unsafe { (&raw mut (*header).send.msg_len).write_volatile(0) };
        }
        let length = self.load(&self.head().length);
        if length > 0 && self.unsent() == 0 {
            self.head().length.store(0, Ordering::SeqCst);
            if length > SMALL {
                self.outbound.release(&self.file);
            }
        }
    }
}

/// Where the note is in the first page, behind the header, bytes.
const NOTE: usize = 1024;
const _: () = assert!(size_of::<Header>() <= NOTE);

/// Writes a short text into the first page of [`Buffers`], or of [`blank`] memory: what every release that may come can read
/// of a worker. One that is too long is left out.
pub fn write_note(file: BorrowedFd<'_>, text: &[u8]) -> io::Result<()> {
    let text = if text.len() <= PAGE - NOTE - size_of::<u64>() { text } else { &[] };
    let mut note = (text.len() as u64).to_le_bytes().to_vec();
    note.extend_from_slice(text);
    // In one call: it is there or it is not.
    let written = nix::sys::uio::pwrite(file, &note, NOTE as libc::off_t)?;
    if written == note.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// What [`write_note`] wrote. `None`: nothing.
pub fn read_note(file: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    let mut page = vec![0; PAGE - NOTE];
    let filled = nix::sys::uio::pread(file, &mut page, NOTE as libc::off_t)?;
    let Some((length, rest)) = page[..filled].split_first_chunk::<{ size_of::<u64>() }>() else { return Ok(None) };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    Ok(rest.get(..length).filter(|text| !text.is_empty()).map(<[u8]>::to_vec))
}

/// Memory for a note alone.
pub fn blank() -> io::Result<OwnedFd> {
    memory(c"appctl-worker")
}

/// A text that only grows, in memory that outlives the process.
#[derive(Debug)]
pub struct Log {
    file: File,
    length: usize,
}

impl Log {
    pub fn create(text: &[u8]) -> io::Result<Self> {
        let mut log = Self { file: File::from(memory(c"appctl-log")?), length: 0 };
        log.append(text)?;
        Ok(log)
    }

    /// The text that another process left.
    pub fn read(file: &OwnedFd) -> io::Result<Vec<u8>> {
        let file = File::from(file.try_clone()?);
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut text = vec![0; length];
        file.read_exact_at(&mut text, 0)?;
        Ok(text)
    }

    /// Adds to the end; says how long the text is now, bytes.
    pub fn append(&mut self, text: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(text, self.length as u64)?;
        self.length += text.len();
        Ok(self.length)
    }

    /// For systemd to keep.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// An empty file without a place on any disk.
fn memory(name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    // SAFETY: a name and flags; the kernel makes a new descriptor.
    let raw = Errno::result(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// # Safety
/// `message` is a header that recvmsg(2) or recvmmsg(2) has just filled, with its control buffer still there.
unsafe fn take_descriptors(message: *const libc::msghdr, descriptors: &mut Vec<OwnedFd>) {
    // SAFETY: the CMSG functions walk within msg_controllen; the kernel has made the descriptors for us.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(message);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_SOCKET && (*control).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(control).cast::<libc::c_int>();
                let bytes = (*control).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for number in 0..bytes / size_of::<libc::c_int>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(number).read_unaligned()));
                }
            }
            control = libc::CMSG_NXTHDR(message, control);
        }
    }
}

/// A shared window onto a file.
#[derive(Debug)]
struct Mapping {
    start: *mut u8,
    offset: usize,
    length: usize,
}

impl Mapping {
    fn new(file: &OwnedFd, offset: usize, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let offset_in_file = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), offset_in_file)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), offset, length })
    }

    /// Maps at least `wanted` bytes.
    fn grow(&mut self, file: &OwnedFd, wanted: usize) -> io::Result<()> {
        if wanted <= self.length {
            return Ok(());
        }
        if wanted > AREA {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "a frame is too long for its buffer"));
        }
        *self = Self::new(file, self.offset, wanted.next_multiple_of(PAGE))?;
        Ok(())
    }

    /// Gives the memory behind it back; what was there reads as zeros. Shrinks the window.
    fn release(&mut self, file: &OwnedFd) {
        use nix::fcntl::{FallocateFlags, fallocate};
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (offset, length) = (self.offset as libc::off_t, self.length as libc::off_t);
        // Both only save memory.
        if fallocate(file, flags, offset, length).is_ok()
            && let Ok(small) = Self::new(file, self.offset, SMALL)
        {
            *self = small;
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as self lives, and no other process has it while this one lives.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, not used after this.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// As the next process would find it.
    fn reopened(buffers: &Buffers) -> Buffers {
        Buffers::open(buffers.file.try_clone().unwrap()).unwrap()
    }

    fn receive(buffers: &mut Buffers, channel: &UnixStream) -> io::Result<usize> {
        buffers.receive(channel.as_fd(), &mut Vec::new())
    }

    #[test]
    fn what_was_read_and_not_consumed_is_found_again() {
        let (mut worker, ours) = UnixStream::pair().unwrap();
        let mut buffers = Buffers::create().unwrap();
        worker.write_all(b"first second").unwrap();
        assert_eq!(receive(&mut buffers, &ours).unwrap(), 12);
        buffers.consume(6);
        assert_eq!(reopened(&buffers).inbound(), b"second");
        let mut next = reopened(&buffers);
        worker.write_all(b" third").unwrap();
        receive(&mut next, &ours).unwrap();
        assert_eq!(next.inbound(), b"second third");
        next.consume(12);
        assert_eq!(reopened(&next).inbound(), b"");
        assert_eq!(receive(&mut next, &ours).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(worker);
        assert_eq!(receive(&mut next, &ours).unwrap(), 0);
    }

    /// Killed after the kernel has read and before we have counted.
    #[test]
    fn the_kernels_own_count_is_believed() {
        let (mut worker, ours) = UnixStream::pair().unwrap();
        let mut buffers = Buffers::create().unwrap();
        worker.write_all(b"abc").unwrap();
        receive(&mut buffers, &ours).unwrap();
        worker.write_all(b"defg").unwrap();
        receive(&mut buffers, &ours).unwrap();
        let header = buffers.header.start.cast::<Header>();
        buffers.head().inbound[0].filled.store(3, Ordering::SeqCst);
        // SAFETY: a number in our page.
        unsafe { (*header).receive.msg_len = 4 };
        assert_eq!(reopened(&buffers).inbound(), b"abcdefg");
        assert_eq!(reopened(&buffers).inbound(), b"abcdefg", "counted once");
    }

    #[test]
    fn a_long_stream_passes_through_in_order() {
        let (mut worker, ours) = UnixStream::pair().unwrap();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 / 3) as u8).collect();
        let expected = sent.clone();
        let writer = std::thread::spawn(move || worker.write_all(&sent));
        let mut buffers = Buffers::create().unwrap();
        let (mut got, mut reads) = (Vec::new(), 0_usize);
        loop {
            match receive(&mut buffers, &ours) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    crate::system::process::either_readable(&ours, None).unwrap();
                    continue;
                }
                Err(error) => panic!("{error}"),
            }
            reads += 1;
            if reads.is_multiple_of(5) {
                buffers = reopened(&buffers);
            }
            // Leaves a part each time, at times a long one.
            let keep = if reads.is_multiple_of(7) { 700_000 } else { 100 };
            let take = buffers.inbound().len().saturating_sub(keep);
            got.extend_from_slice(&buffers.inbound()[..take]);
            buffers.consume(take);
        }
        got.extend_from_slice(buffers.inbound());
        writer.join().unwrap().unwrap();
        assert!(got == expected);
    }

    #[test]
    fn a_half_written_frame_is_finished_by_the_next() {
        let (mut worker, ours) = UnixStream::pair().unwrap();
        let frame: Vec<u8> = (0..2_000_000_u32).map(|n| (n * 5 / 3) as u8).collect();
        let mut buffers = Buffers::create().unwrap();
        buffers.begin(&frame).unwrap();
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            worker.read_to_end(&mut got).map(|_| got)
        });
        while buffers.unsent() > 0 {
            match buffers.send(ours.as_fd()) {
                Ok(()) => buffers = reopened(&buffers),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        drop(ours);
        assert!(reader.join().unwrap().unwrap() == frame);
        assert_eq!(reopened(&buffers).unsent(), 0);
    }

    #[test]
    fn what_is_put_down_behind_it_follows() {
        let (mut worker, ours) = UnixStream::pair().unwrap();
        let mut buffers = Buffers::create().unwrap();
        for frame in ["one", "two", "three"] {
            buffers.append(frame.as_bytes()).unwrap();
        }
        let mut next = reopened(&buffers);
        while next.unsent() > 0 {
            next.send(ours.as_fd()).unwrap();
        }
        drop(ours);
        let mut got = String::new();
        worker.read_to_string(&mut got).unwrap();
        assert_eq!(got, "onetwothree");
    }

    #[test]
    fn descriptors_come_along() {
        let (worker, ours) = UnixStream::pair().unwrap();
        let (passed, _other) = UnixStream::pair().unwrap();
        crate::system::scm::send_with_descriptor(worker.as_fd(), 100_000, b"frame", passed.as_fd()).unwrap();
        let mut buffers = Buffers::create().unwrap();
        let mut descriptors = Vec::new();
        while buffers.inbound().len() < 5 {
            buffers.receive(ours.as_fd(), &mut descriptors).unwrap();
        }
        assert_eq!((buffers.inbound(), descriptors.len()), (&b"frame"[..], 1));
    }

    #[test]
    fn a_note_is_kept_beside_the_buffers() {
        let (mut worker, ours) = UnixStream::pair().unwrap();
        let mut buffers = Buffers::create().unwrap();
        assert_eq!(read_note(buffers.file()).unwrap(), None);
        worker.write_all(b"frame").unwrap();
        receive(&mut buffers, &ours).unwrap();
        write_note(buffers.file(), b"a longer note").unwrap();
        write_note(buffers.file(), b"a note").unwrap();
        let next = reopened(&buffers);
        assert_eq!(next.inbound(), b"frame");
        assert_eq!(read_note(next.file()).unwrap().as_deref(), Some(&b"a note"[..]));
        write_note(next.file(), &[b'x'; PAGE]).unwrap();
        assert_eq!(read_note(next.file()).unwrap(), None, "too long");
        let blank = blank().unwrap();
        assert_eq!(read_note(blank.as_fd()).unwrap(), None);
        write_note(blank.as_fd(), b"another").unwrap();
        assert_eq!(read_note(blank.as_fd()).unwrap().as_deref(), Some(&b"another"[..]));
    }

    #[test]
    fn strange_files_are_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(Buffers::open(file.into()).is_err());
    }
}
