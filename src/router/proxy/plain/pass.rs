//! What goes from a worker to a client: an answer, from its head to the end of its body.

use super::buffer::{Buffer, Writer};
use super::{Asked, BUFFER};
use crate::router::proxy::body::{Flight, Turn, look};
use crate::router::proxy::client::Conn;
use crate::router::proxy::exchange::KEEP_ALIVE_MARGIN;
use crate::router::proxy::upstream::Upstream;
use crate::system::stream::Stream;
use crate::wire::answer::{self, Answer, Body, Sight};
use crate::wire::plain::room;
use crate::wire::strict::Chunks;
use hyper::StatusCode;
use std::rc::Rc;
use std::time::Duration;
use std::{fmt, io};

/// What has this length together is sent as one; longer pieces of a body go out as they are.
const TOGETHER: usize = 16 * 1024;

/// The way of one answer.
pub(super) struct Pass<'a> {
    pub(super) conn: &'a Rc<Conn>,
    /// What has come from the worker.
    pub(super) came: &'a mut Buffer,
    pub(super) writer: &'a mut Writer,
    /// What goes to the client next.
    pub(super) out: &'a mut Vec<u8>,
    pub(super) turn: &'a mut Turn,
    pub(super) flight: &'a mut Flight,
    /// What has come of an answer that may open a session.
    pub(super) prefix: Option<Vec<u8>>,
}

/// Why an answer does not reach the client.
#[derive(Debug)]
pub(super) enum Cut {
    /// The worker has ended the connection before the head was whole, or never taken it.
    None(io::Error),
    /// It is none.
    Bad(&'static str),
    /// The client is gone.
    Client(io::Error),
    /// The worker breaks off.
    Worker(&'static str),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None(error) => write!(f, "the worker: {error}"),
            Self::Client(error) => write!(f, "the client: {error}"),
            Self::Bad(reason) | Self::Worker(reason) => write!(f, "the worker's answer: {reason}"),
        }
    }
}

/// What is known when the head has gone through.
#[derive(Debug)]
pub(super) struct Begun {
    rest: Rest,
    /// The worker keeps the connection.
    pub(super) kept: bool,
    /// The client's ends after it.
    pub(super) closes: bool,
}

#[derive(Debug)]
enum Rest {
    None,
    Length(u64),
    Chunked(Chunks),
    End,
}

impl Pass<'_> {
    /// Reads the head; interim answers go through (RFC 9110 §15.2).
    pub(super) async fn head(&mut self, asked: &Asked, upstream: &mut Upstream<Stream>) -> Result<Begun, Cut> {
        self.out.clear();
        loop {
            if let Some(begun) = self.begin(asked, upstream)? {
                return Ok(begun);
            }
            if !self.out.is_empty() {
                self.writer.send(self.conn, self.out).await.map_err(Cut::Client)?;
                self.out.clear();
                continue;
            }
            if self.came.unread().len() > BUFFER {
                return Err(Cut::Bad("its head is too long"));
            }
            match self.came.fill(&mut upstream.line).await {
                Ok(0) => return Err(Cut::None(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(Cut::None(error)),
            }
        }
    }

    /// Makes of the head that has come what the client gets. `None`: it is not whole, or that of an interim answer.
    fn begin(&mut self, asked: &Asked, upstream: &mut Upstream<Stream>) -> Result<Option<Begun>, Cut> {
        if self.came.is_empty() {
            return Ok(None);
        }
        let mut room = room();
        let head = match answer::look(self.came.unread(), asked.head, &mut room) {
            Sight::Partial => return Ok(None),
            Sight::Bad(reason) => return Err(Cut::Bad(reason)),
            Sight::Head(head) => head,
        };
        let length = head.length;
        if head.status < 200 {
            // 100 is nobody's: nothing was held back.
            if head.status != 100 {
                head.write(self.out, false);
                self.out.extend_from_slice(b"\r\n");
            }
            self.came.consume(length);
            return if self.out.is_empty() { self.begin(asked, upstream) } else { Ok(None) };
        }
        let router = &self.conn.router;
        self.flight.answered();
        self.turn.answered = true;
        router.count_answer(upstream.id, head.status);
        if let Some(seconds) = head.kept_for {
            upstream.kept_for = upstream.kept_for.min(Duration::from_secs(seconds).saturating_sub(KEEP_ALIVE_MARGIN));
        }
        let status = StatusCode::from_u16(head.status).map_err(|_| Cut::Bad("a bad status"))?;
        if let Some(entry) = &mut self.turn.entry {
            entry.answered(status, router.slot_of(upstream.id), None);
        }
        let closes = asked.closes || self.conn.ending.get();
        head.write(self.out, closes);
        if let Some(gift) = asked.stay.learn(router, upstream.id, status, &head) {
            self.out.extend_from_slice(format!("set-cookie: {}\r\n", gift.cookie).as_bytes());
            if gift.private {
                self.out.extend_from_slice(b"cache-control: private\r\n");
            }
        }
        self.out.extend_from_slice(b"\r\n");
        self.prefix = (asked.opens && head.identity && head.status == 200).then(Vec::new);
        let begun = Begun { rest: Rest::of(&head), kept: !head.closes, closes };
        self.came.consume(length);
        Ok(Some(begun))
    }

    /// Passes the rest on. When that is over nothing of it is left here.
    pub(super) async fn body(&mut self, begun: &mut Begun, worker: &mut Stream) -> Result<(), Cut> {
        loop {
            let direct = self.take(&mut begun.rest)?;
            let over = matches!(begun.rest, Rest::None);
            if over || direct > 0 || self.out.len() >= TOGETHER || self.came.is_empty() {
                self.flush(direct).await?;
            }
            if over {
                return Ok(());
            }
            match self.came.fill(worker).await {
                Ok(count) if count > 0 => {}
                Ok(_) if matches!(begun.rest, Rest::End) => {
                    self.out.extend_from_slice(b"0\r\n\r\n");
                    begun.rest = Rest::None;
                    return self.flush(0).await;
                }
                _ => return Err(Cut::Worker("it ends in the middle")),
            }
        }
    }

    async fn flush(&mut self, direct: usize) -> Result<(), Cut> {
        if !self.out.is_empty() {
            self.writer.send(self.conn, self.out).await.map_err(Cut::Client)?;
            self.out.clear();
        }
        if direct > 0 {
            let piece = &self.came.unread()[..direct];
            self.writer.send(self.conn, piece).await.map_err(Cut::Client)?;
            self.came.consume(direct);
        }
        Ok(())
    }

    /// Takes what has come of the body. So many bytes are left where they are, to be sent from there.
    fn take(&mut self, rest: &mut Rest) -> Result<usize, Cut> {
        let unread = self.came.unread();
        let (out, turn, flight, prefix) = (&mut *self.out, &mut *self.turn, &mut *self.flight, &mut self.prefix);
        let mut see = |data: &[u8]| {
            look(prefix, flight, data);
            if let Some(entry) = &mut turn.entry {
                entry.entry.bytes += data.len() as u64;
            }
        };
        let (forward, taken, over) = match rest {
            Rest::None => (0, 0, true),
            Rest::Length(left) => {
                let count = usize::try_from(*left).map_or(unread.len(), |left| left.min(unread.len()));
                see(&unread[..count]);
                *left -= count as u64;
                (count, count, *left == 0)
            }
            Rest::Chunked(chunks) => {
                let passed = chunks.pass(unread, see).map_err(Cut::Worker)?;
                (passed.forward, passed.taken, passed.over)
            }
            Rest::End => {
                see(unread);
                if !unread.is_empty() {
                    out.extend_from_slice(format!("{:x}\r\n", unread.len()).as_bytes());
                    out.extend_from_slice(unread);
                    out.extend_from_slice(b"\r\n");
                }
                (0, unread.len(), false)
            }
        };
        let ends = over && matches!(rest, Rest::Chunked(_));
        let direct = if !ends && forward == taken && out.len() + forward > TOGETHER { forward } else { 0 };
        if direct == 0 {
            out.extend_from_slice(&unread[..forward]);
            if ends {
                // Without its trailer fields: nobody has asked for any.
                out.extend_from_slice(b"\r\n");
            }
            self.came.consume(taken);
        }
        if over {
            *rest = Rest::None;
        } else if let Rest::Length(left) = rest {
            self.came.expect(*left);
        } else if out.len() + direct >= 4096 {
            self.came.expect(u64::MAX);
        }
        Ok(direct)
    }
}

impl Rest {
    fn of(head: &Answer<'_, '_>) -> Self {
        match head.body {
            Body::None | Body::Length(0) => Self::None,
            Body::Length(length) => Self::Length(length),
            Body::Chunked => Self::Chunked(Chunks::default()),
            Body::End => Self::End,
        }
    }
}
