//! One worker's channel: frames out in order, each whole; frames in; and which handover each acknowledgement is for.

use crate::system::scm::{self, Sent};
use crate::system::shared::{Buffers, write_note};
use crate::system::sock::{set_nonblocking, watch};
use crate::wire::Encoding;
use crate::wire::channel::{Cutter, Frame, FrameError};
use crate::wire::cluster::{ToWorker, encode};
use crate::wire::message::{self, Message, MessageError};
use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use super::addresses::Held;
use super::memory::Memory;
use super::table::WorkerId;

/// Frames up to this length go out by one call when there is room for all of it, bytes.
const AT_ONCE: usize = 32 * 1024;
/// The key of a server that no worker has.
const BARRIER: &str = "appctl:barrier";
/// Node's own limit of descriptors in flight (unix(7) ETOOMANYREFS) has no event; this is how often it is tried again.
const TOO_MANY_IN_FLIGHT_PAUSE: Duration = Duration::from_millis(10);

/// No server has this key.
const PROBE_KEY: &str = "probe";

/// A client's connection on its way to a worker.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: Rc<OwnedFd>,
    /// It is in a worker's channel: another process must not serve it as well.
    pub(crate) sent: Cell<bool>,
    /// Its place among the connections of its address.
    pub(crate) held: RefCell<Option<Rc<Held>>>,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket: Rc::new(socket), sent: Cell::new(false), held: RefCell::default() }
    }
}

/// What a worker made of a connection. A closed `oneshot` means that the channel ended first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has the connection.
    Taken,
    /// It did not read a byte of it.
    Refused,
}

/// How a connection is presented to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manner {
    /// To `setupWorker()` of @socket.io/sticky.
    Sticky,
    /// To the cluster server with this key.
    Server(String),
}

/// What the next NODE_HANDLE_ACK or _NACK is the answer to: they come in the order of the NODE_HANDLE frames.
#[derive(Debug)]
enum Awaited {
    Probe(oneshot::Sender<()>),
    /// A probe with a descriptor of its own.
    Dummy(oneshot::Sender<()>),
    Sticky(oneshot::Sender<Outcome>),
    /// The acknowledgement is followed by a reply to this `seq`.
    Server(u64, oneshot::Sender<Outcome>),
}

#[derive(Debug)]
enum Parcel {
    Plain(Bytes),
    Probe(Bytes, oneshot::Sender<()>),
    Connection(Bytes, Rc<Client>, Awaited),
    /// A connection that the worker is going to refuse.
    Barrier(Bytes, OwnedFd),
}

impl Parcel {
    fn frame(&self) -> &Bytes {
        match self {
            Self::Plain(frame) | Self::Probe(frame, _) | Self::Connection(frame, ..) | Self::Barrier(frame, _) => frame,
        }
    }
}

/// What will come back from the worker once it has seen all that the process before us had sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Barrier {
    /// The refusal of the connection with this `seq`.
    Reply(u64),
    /// NODE_HANDLE_NACK, the answer to a bare probe.
    Nack,
}

#[derive(Debug, Default)]
struct Outbox {
    queue: VecDeque<Parcel>,
    /// Of the whole queue.
    bytes: usize,
    /// The first parcel is in the channel but for its last byte and its descriptor.
    last_missing: bool,
    /// The first parcel is in [`Buffers`], on its way.
    begun: bool,
    awaited: VecDeque<Awaited>,
    /// Probes among them. A descriptor right behind a probe could reach Node in one read with it, and Node would give it to
    /// the probe: connections wait until the probe is answered.
    probes: usize,
    /// The last frame that went in had no descriptor.
    plain_last: bool,
    replies: HashMap<u64, oneshot::Sender<Outcome>>,
    seq: u64,
}

impl Outbox {
    /// The first parcel is in the channel, whole.
    fn first_is_out(&mut self) {
        let Some(parcel) = self.queue.pop_front() else {
            return;
        };
        self.bytes -= parcel.frame().len();
        self.plain_last = matches!(parcel, Parcel::Plain(_) | Parcel::Probe(..));
        match parcel {
            Parcel::Probe(_, answer) => {
                self.probes += 1;
                self.awaited.push_back(Awaited::Probe(answer));
            }
            Parcel::Connection(_, client, awaited) => {
                client.sent.set(true);
                self.awaited.push_back(awaited);
            }
            Parcel::Plain(_) | Parcel::Barrier(..) => {}
        }
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: WorkerId,
    pub(crate) encoding: Encoding,
    stream: AsyncFd<OwnedFd>,
    /// The kernel's buffer for what we send, bytes.
    size: usize,
    outbox: RefCell<Outbox>,
    buffers: RefCell<Buffers>,
    cutter: RefCell<Cutter>,
    /// Length of the frame that is being handled, unless it is consumed.
    handling: Cell<usize>,
    /// The barrier's number while it has not come back: what is acknowledged until then was sent by the process before us.
    barrier: Cell<Option<Barrier>>,
    passed: Notify,
    /// Something has come since [`Self::take_life`] was asked last.
    life: Cell<bool>,
    more: Notify,
    closed: Cell<bool>,
    queue_limit: usize,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the channel failed: {0}")]
    Io(#[from] io::Error),
    #[error("the worker broke the channel's rules: {0}")]
    Frame(#[from] FrameError),
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pumped {
    Some,
    Nothing,
    End,
}

impl Link {
    /// `stream`: the router's end of a connected AF_UNIX stream socket. Messages are numbered from `first_seq`. Needs a tokio
    /// runtime.
    pub(crate) fn new(
        id: WorkerId,
        cutter: Cutter,
        stream: OwnedFd,
        buffers: Buffers,
        first_seq: u64,
        queue_limit: usize,
    ) -> io::Result<Self> {
        // A larger buffer lets more handovers wait in the kernel; what the system allows is enough.
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::SndBuf, &(4 * 1024 * 1024))?;
        set_nonblocking(&stream)?;
        let size = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::SndBuf)?;
        Ok(Self {
            id,
            encoding: cutter.encoding,
            stream: watch(stream, Interest::READABLE | Interest::WRITABLE)?,
            size,
            outbox: RefCell::new(Outbox { seq: first_seq, ..Outbox::default() }),
            buffers: RefCell::new(buffers),
            cutter: RefCell::new(cutter),
            handling: Cell::new(0),
            barrier: Cell::new(None),
            passed: Notify::new(),
            life: Cell::new(false),
            more: Notify::new(),
            closed: Cell::new(false),
            queue_limit,
        })
    }

    /// Goes on where another process stopped. What it had handed over is still going to be acknowledged: a connection for
    /// a server that does not exist (for Bun a bare probe) marks the place from which on acknowledgements are ours. Nothing that is acknowledged
    /// is sent before that has come back.
    pub(crate) fn resume(&self) -> io::Result<()> {
        // Whatever it had sent last.
        self.outbox.borrow_mut().plain_last = true;
        if self.encoding == Encoding::Bun {
            self.barrier.set(Some(Barrier::Nack));
            self.push(Parcel::Plain(encode(self.encoding, &ToWorker::Probe)));
        } else {
            let (ours, _) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let seq = self.next_seq();
            self.barrier.set(Some(Barrier::Reply(seq)));
            let frame = encode(self.encoding, &ToWorker::NewConnection { key: BARRIER, seq });
            self.push(Parcel::Barrier(frame, ours.into()));
        }
        // Half a frame may be waiting in the buffers, with nothing queued behind it.
        self.more.notify_one();
        Ok(())
    }

    fn pass_barrier(&self) {
        self.barrier.set(None);
        self.passed.notify_waiters();
        self.more.notify_one();
    }

    /// Resolves when a connection for this worker would go into the channel rather than wait here, or the channel is closed.
    pub(crate) async fn until_passed(&self) {
        loop {
            let passed = self.passed.notified();
            tokio::pin!(passed);
            passed.as_mut().enable();
            if self.barrier.get().is_none() || self.closed.get() {
                return;
            }
            passed.await;
        }
    }

    /// Lets the channel and its buffers outlive this process.
    pub(crate) fn keep(&self, memory: &Memory) {
        memory.keep(self.id, self.stream.get_ref().as_fd(), self.buffers.borrow().file());
    }

    /// Writes down what every release can read of the worker.
    pub(crate) fn jot(&self, note: &[u8]) -> io::Result<()> {
        write_note(self.buffers.borrow().file(), note)
    }

    /// Queues one of our own messages.
    pub(crate) fn send(&self, message: &ToWorker<'_>) {
        self.push(Parcel::Plain(encode(self.encoding, message)));
    }

    /// What is queued for the worker, bytes.
    pub(crate) fn queued(&self) -> usize {
        self.outbox.borrow().bytes
    }

    /// Queues a frame that is in this link's encoding already. `false`: the worker does not keep up; its queue is full.
    #[must_use]
    pub(crate) fn forward(&self, frame: Bytes) -> bool {
        if self.outbox.borrow().bytes + frame.len() > self.queue_limit {
            return false;
        }
        self.push(Parcel::Plain(frame));
        true
    }

    /// A message's number, unique on this link.
    pub(crate) fn next_seq(&self) -> u64 {
        let mut outbox = self.outbox.borrow_mut();
        outbox.seq += 1;
        outbox.seq
    }

    /// Asks for a sign of the worker's event loop.
    pub(crate) fn probe(&self) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        // A connection for a server that nobody has: every Node acknowledges and drops it, and so does Deno, which leaves
        // a NODE_HANDLE without descriptor unanswered. Bun has no such servers, and answers the other kind.
        let dummy = match self.encoding {
            Encoding::Bun => None,
            Encoding::Json | Encoding::Advanced => UnixStream::pair().ok(),
        };
        self.push(match dummy {
            Some((theirs, _)) if theirs.set_nonblocking(true).is_ok() => {
                let frame = ToWorker::NewConnection { key: PROBE_KEY, seq: self.next_seq() };
                let frame = encode(self.encoding, &frame);
                Parcel::Connection(frame, Rc::new(Client::new(theirs.into())), Awaited::Dummy(answer))
            }
            _ => Parcel::Probe(encode(self.encoding, &ToWorker::Probe), answer),
        });
        answered
    }

    /// Puts what is queued where the next process finds it. Connections are not: whoever wants them handed over keeps them.
    pub(crate) fn leave(&self) -> io::Result<()> {
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        let outbox = self.outbox.borrow();
        let mut buffers = self.buffers.borrow_mut();
        // The first one may be in the buffers already.
        for parcel in outbox.queue.iter().skip(usize::from(outbox.begun)) {
            if let Parcel::Plain(frame) = parcel {
                buffers.append(frame)?;
            }
        }
        Ok(())
    }

    /// Whether anything has come from the worker since the last time that this was asked: then its event loop turns.
    pub(crate) fn take_life(&self) -> bool {
        self.life.take()
    }

    /// Hands a client's connection over. The caller keeps its own reference until the outcome is known.
    pub(crate) fn hand(&self, client: Rc<Client>, manner: &Manner) -> oneshot::Receiver<Outcome> {
        let (outcome, known) = oneshot::channel();
        let (frame, awaited) = match manner {
            Manner::Sticky => (encode(self.encoding, &ToWorker::StickyConnection), Awaited::Sticky(outcome)),
            Manner::Server(key) => {
                let seq = self.next_seq();
                (encode(self.encoding, &ToWorker::NewConnection { key, seq }), Awaited::Server(seq, outcome))
            }
        };
        self.push(Parcel::Connection(frame, client, awaited));
        known
    }

    /// Ends the channel: a cluster worker exits as soon as it notices.
    pub(crate) fn close(&self) {
        if !self.closed.replace(true) {
            // The peer may be gone already; there is nothing to do about it then.
            let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Both);
            let mut outbox = self.outbox.borrow_mut();
            *outbox = Outbox { seq: outbox.seq, ..Outbox::default() };
            self.passed.notify_waiters();
            self.more.notify_one();
        }
    }

    /// NODE_HANDLE_ACK (`taken`) or NODE_HANDLE_NACK came. `false`: nobody had asked for it.
    pub(crate) fn acknowledged(&self, taken: bool) -> bool {
        if let Some(barrier) = self.barrier.get() {
            if barrier == Barrier::Nack && !taken {
                self.pass_barrier();
            }
            return true;
        }
        let mut outbox = self.outbox.borrow_mut();
        let outcome = if taken { Outcome::Taken } else { Outcome::Refused };
        // Receivers may have given up; then the outcome is nobody's business.
        match outbox.awaited.pop_front() {
            None => return false,
            Some(Awaited::Probe(answer)) => {
                outbox.probes -= 1;
                self.more.notify_one();
                let _ = answer.send(());
            }
            Some(Awaited::Dummy(answer)) => {
                let _ = answer.send(());
            }
            Some(Awaited::Server(seq, answer)) if taken => {
                outbox.replies.insert(seq, answer);
            }
            Some(Awaited::Sticky(answer) | Awaited::Server(_, answer)) => {
                let _ = answer.send(outcome);
            }
        }
        true
    }

    /// The reply to a message of ours that carried `seq`.
    pub(crate) fn replied(&self, seq: u64, accepted: bool) {
        if self.barrier.get() == Some(Barrier::Reply(seq)) {
            return self.pass_barrier();
        }
        if let Some(answer) = self.outbox.borrow_mut().replies.remove(&seq) {
            let _ = answer.send(if accepted { Outcome::Taken } else { Outcome::Refused });
        }
    }

    fn push(&self, parcel: Parcel) {
        if self.closed.get() {
            return;
        }
        {
            let mut outbox = self.outbox.borrow_mut();
            outbox.bytes += parcel.frame().len();
            outbox.queue.push_back(parcel);
            if outbox.queue.len() > 1 {
                return;
            }
        }
        // Nothing was waiting, so the channel has room most of the time: no detour through the writer.
        if !matches!(self.flush(), Ok(())) {
            self.more.notify_one();
        }
    }

    /// Writes what fits. `WouldBlock`: something is left that waits for room.
    fn flush(&self) -> io::Result<()> {
        let channel = self.stream.get_ref().as_fd();
        let mut outbox = self.outbox.borrow_mut();
        let mut buffers = self.buffers.borrow_mut();
        loop {
            if buffers.unsent() > 0 {
                buffers.send(channel)?;
                continue;
            }
            if outbox.begun {
                outbox.begun = false;
                outbox.first_is_out();
                continue;
            }
            let Some(parcel) = outbox.queue.front() else {
                return Ok(());
            };
            let frame = parcel.frame().clone();
            match parcel {
                // The answer to the probe, or to the barrier, brings the writer back.
                Parcel::Connection(..) if outbox.probes > 0 => return Ok(()),
                Parcel::Connection(..) | Parcel::Probe(..) if self.barrier.get().is_some() => return Ok(()),
                // Deno loses a descriptor that comes in one read with the frame before it. The writer waits for the reader.
                Parcel::Connection(..) | Parcel::Barrier(..)
                    if outbox.plain_last
                        && !outbox.last_missing
                        && self.encoding == Encoding::Json
                        && !scm::is_read(channel)? =>
                {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Parcel::Connection(_, client, _) => {
                    let client = Rc::clone(client);
                    self.send_connection(&mut outbox, &frame, client.socket.as_fd())?;
                }
                Parcel::Barrier(_, end) => {
                    let end = end.try_clone()?;
                    self.send_connection(&mut outbox, &frame, end.as_fd())?;
                }
                Parcel::Plain(_) | Parcel::Probe(..)
                    if frame.len() <= AT_ONCE && scm::has_room(channel, self.size, frame.len())? =>
                {
                    let sent = scm::send(channel, &frame)?;
                    if sent < frame.len() {
                        buffers.begin(&frame[sent..])?;
                        outbox.begun = true;
                        continue;
                    }
                }
                Parcel::Plain(_) | Parcel::Probe(..) => {
                    buffers.begin(&frame)?;
                    outbox.begun = true;
                    continue;
                }
            }
            outbox.first_is_out();
        }
    }

    fn send_connection(&self, outbox: &mut Outbox, frame: &[u8], client: BorrowedFd<'_>) -> io::Result<()> {
        let channel = self.stream.get_ref().as_fd();
        if !outbox.last_missing && scm::send_with_descriptor(channel, self.size, frame, client)? == Sent::Whole {
            return Ok(());
        }
        outbox.last_missing = true;
        scm::send_last(channel, frame[frame.len() - 1], client)?;
        outbox.last_missing = false;
        Ok(())
    }

    /// Writes for as long as the channel is open.
    pub(crate) async fn write(&self) -> io::Result<()> {
        loop {
            self.more.notified().await;
            loop {
                if self.closed.get() {
                    return Ok(());
                }
                let mut guard = self.stream.writable().await?;
                match self.flush() {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                    Err(error) if error.raw_os_error() == Some(Errno::ETOOMANYREFS as i32) => {
                        tokio::time::sleep(TOO_MANY_IN_FLIGHT_PAUSE).await;
                    }
                    // The worker is gone; what it sent before is still to be read, and its end with it.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Waits until there is something to read, then reads once. `handle` gets every whole frame and what it means.
    pub(crate) async fn read(
        &self,
        handle: impl FnMut(&Frame, Result<Message, MessageError>),
    ) -> Result<Pumped, LinkError> {
        let mut guard = self.stream.readable().await?;
        let pumped = self.pump(handle)?;
        if pumped == Pumped::Nothing {
            guard.clear_ready();
        }
        Ok(pumped)
    }

    /// Reads once, without waiting.
    pub(crate) fn pump(&self, handle: impl FnMut(&Frame, Result<Message, MessageError>)) -> Result<Pumped, LinkError> {
        // Descriptors that a worker sends us are not wanted: closed here, acknowledged by whoever handles the frame.
        let mut descriptors = Vec::new();
        let received = self.buffers.borrow_mut().receive(self.stream.get_ref().as_fd(), &mut descriptors);
        match received {
            Ok(0) => return Ok(Pumped::End),
            Ok(_) => self.life.set(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Pumped::Nothing),
            // The worker died with frames of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Pumped::End),
            Err(error) => return Err(error.into()),
        }
        self.handle_whole(handle)?;
        Ok(Pumped::Some)
    }

    /// The frame that is being handled is dealt with. Called before what must not be done twice: should this process be
    /// killed right after this, then that is lost.
    pub(crate) fn consume(&self) {
        self.buffers.borrow_mut().consume(self.handling.take());
    }

    /// Deals with all whole frames that have been read.
    pub(crate) fn handle_whole(
        &self,
        mut handle: impl FnMut(&Frame, Result<Message, MessageError>),
    ) -> Result<(), FrameError> {
        loop {
            let frame = {
                let buffers = self.buffers.borrow();
                let Some(length) = self.cutter.borrow_mut().length(buffers.inbound())? else {
                    return Ok(());
                };
                let bytes = Bytes::copy_from_slice(&buffers.inbound()[..length]);
                Frame { encoding: self.encoding, bytes }
            };
            let message = message::read(&frame);
            // Should this process be killed meanwhile, the next one does the same again, which makes no difference; but for
            // what cannot be done twice, see consume().
            self.handling.set(frame.bytes.len());
            handle(&frame, message);
            self.consume();
        }
    }
}

#[cfg(test)]
mod tests;
