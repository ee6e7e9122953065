//! The plain requests of a connection, for as long as it has no others: heads are read, checked and written anew, bodies pass
//! through as they are. Many times cheaper than what can do everything (hyper's two sides).
//!
//! From the first request on that [`crate::wire::plain`] does not take for one, the connection is hyper's; nothing of that
//! request has been used. One task: `feed` is the way to the worker, `pass` the way back.

mod buffer;
mod feed;
mod pass;

use super::body::Turn;
use super::client::Conn;
use super::exchange::TRIES;
use super::keys::Stay;
use super::limits::in_time;
use super::transport::Transport;
use super::upstream::{BUFFER, Line, Wish, reach};
use crate::router::access;
use crate::router::metrics::Again;
use crate::router::refuse::Refusal;
use crate::router::search::{Search, Way};
use crate::system::stream::Stream;
use crate::wire::engine;
use crate::wire::plain::{Client, Sight, look, room};
use crate::wire::strict::Place;
use buffer::{Buffer, SMALL, Writer};
use feed::{Fed, Reader, Stop, beside, feed, until_whole};
use hyper::body::Bytes;
use pass::{Cut, Pass};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// A head that comes in more pieces is somebody else's to read: each one is read from the start.
const PIECES: usize = 16;
/// How long a client may take to have the last words, and how much of what it still sends is read meanwhile, bytes.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 256 * 1024);

/// Serves the plain requests at the start of a connection. Says what was read of the first one that is none; `None`: the
/// connection has come to its end.
pub(super) async fn serve(conn: &Rc<Conn>, transport: &Transport) -> io::Result<Option<Bytes>> {
    let mut connection = Connection {
        conn: Rc::clone(conn),
        address: conn.peer.address.map(|address| address.to_canonical().to_string()),
        reader: Reader { stream: transport.clone(), buffer: Buffer::default() },
        writer: Writer::new(transport.clone()),
        came: Buffer::default(),
        ask: Vec::new(),
        out: Vec::new(),
    };
    connection.serve().await
}

struct Connection {
    conn: Rc<Conn>,
    /// The client's, as workers are told.
    address: Option<String>,
    reader: Reader,
    writer: Writer,
    /// From a worker.
    came: Buffer,
    /// The request as the worker gets it, as far as it has come.
    ask: Vec<u8>,
    /// What goes to the client.
    out: Vec<u8>,
}

/// A request.
struct Asked {
    stay: Stay,
    /// The answer may open a session.
    opens: bool,
    /// It is HEAD.
    head: bool,
    /// It may be asked twice.
    repeatable: bool,
    /// So many bytes of its body have not come.
    left: u64,
    /// The client ends the connection after it.
    closes: bool,
}

/// What the client's bytes are.
enum Next {
    Request(Asked, Turn),
    /// More are needed.
    More,
    /// No plain request.
    Other,
}

/// What becomes of the connection when a request is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    GoesOn,
    /// In order.
    Ends,
    /// In order, but the client may still be sending.
    Lingers,
    /// As it is.
    Breaks,
}

impl Connection {
    async fn serve(&mut self) -> io::Result<Option<Bytes>> {
        let mut pieces = 0;
        loop {
            let end = match self.next() {
                Next::Request(asked, turn) => {
                    pieces = 0;
                    self.exchange(asked, turn).await
                }
                Next::Other => return Ok(Some(self.left_to_others())),
                Next::More => {
                    pieces += 1;
                    if pieces > PIECES {
                        return Ok(Some(self.left_to_others()));
                    }
                    match self.more(pieces == 1).await? {
                        0 if self.reader.buffer.is_empty() => End::Ends,
                        // What does not come to its end.
                        0 => return Ok(Some(self.left_to_others())),
                        _ => End::GoesOn,
                    }
                }
            };
            match end {
                End::GoesOn => {}
                End::Ends if self.reader.buffer.is_empty() => return self.writer.end(&self.conn).await.map(|()| None),
                End::Ends | End::Lingers => return self.linger().await.map(|()| None),
                End::Breaks => return Ok(None),
            }
        }
    }

    fn left_to_others(&self) -> Bytes {
        Bytes::copy_from_slice(self.reader.buffer.unread())
    }

    /// Reads on; 0 at the end, and between requests also when the connection is to end. `first`: of this request.
    async fn more(&mut self, first: bool) -> io::Result<usize> {
        let Self { conn, reader, came, ask, out, .. } = self;
        let idle = reader.buffer.is_empty();
        if idle {
            reader.buffer.shrink();
            came.shrink();
            for made in [ask, out] {
                made.clear();
                made.shrink_to(SMALL);
            }
        }
        conn.gate.plain(if idle { Place::Between } else { Place::Head }, first);
        poll_fn(|cx| match idle && conn.ending.get() {
            true => Poll::Ready(Ok(0)),
            false => reader.buffer.poll_fill(&mut reader.stream, cx),
        })
        .await
    }

    /// Looks at what the client has sent, and makes of a request what its worker gets.
    fn next(&mut self) -> Next {
        let Self { conn, reader, ask, .. } = self;
        let mut room = room();
        let request = match look(reader.buffer.unread(), &mut room) {
            Sight::Partial if reader.buffer.unread().len() <= conn.router.settings.head_limit => return Next::More,
            Sight::Plain(request) if request.length <= conn.router.settings.head_limit => request,
            _ => return Next::Other,
        };
        let mut turn = Turn::begin(conn);
        if conn.router.access.is_on() {
            turn.entry = Some(access::begin([request.method, request.target, "HTTP/1.1"], &request, conn.peer));
        }
        let mut stay = Stay::read(conn, request.method, request.target, &request);
        let seal = conn.router.stick.seal();
        let client = Client { address: self.address.as_deref(), trusted: conn.peer.trusted, https: conn.peer.https };
        if seal.is_some() {
            stay.came(request.came_by_https(&client));
        }
        ask.clear();
        request.write(ask, &client, seal.as_deref());
        let mut asked = Asked {
            stay,
            opens: request.method == "GET" && engine::opens_session(request.target),
            head: request.method == "HEAD",
            repeatable: request.is_repeatable(),
            left: request.body,
            closes: request.closes,
        };
        let length = request.length;
        reader.buffer.consume(length);
        if asked.left > 0 {
            let unread = reader.buffer.unread();
            let count = usize::try_from(asked.left).map_or(unread.len(), |left| left.min(unread.len()));
            ask.extend_from_slice(&unread[..count]);
            reader.buffer.consume(count);
            asked.left -= count as u64;
        }
        Next::Request(asked, turn)
    }

    async fn exchange(&mut self, asked: Asked, turn: Turn) -> End {
        match self.answer(&asked, turn).await {
            Ok(end) => end,
            Err((refusal, turn)) => self.refuse(refusal, turn, asked.head).await,
        }
    }

    /// Has it answered by a worker.
    async fn answer(&mut self, asked: &Asked, mut turn: Turn) -> Result<End, (Refusal, Turn)> {
        let Self { conn, reader, writer, came, ask, out, .. } = self;
        let router = &conn.router;
        let mut search = Search::new(router, asked.stay.key.clone(), &conn.address);
        let mut wish = if asked.repeatable { Wish::Hopeful } else { Wish::Sure };
        for _ in 0..TRIES {
            let reached = tokio::select! {
                biased;
                reached = reach::<Stream>(conn, &mut search, wish) => reached,
                () = reader.until_gone() => return Ok(End::Breaks),
            };
            let (mut upstream, mut flight) = match reached {
                Ok(reached) => reached,
                Err(refusal) => return Err((refusal, turn)),
            };
            came.clear();
            let fed = Fed::default();
            let mut worker = upstream.line.clone();
            let mut feed = pin!(feed(conn, reader, worker.clone(), ask, asked.left, &fed));
            let mut pass = Pass { conn, came, writer, out, turn: &mut turn, flight: &mut flight, prefix: None };
            let head = in_time(conn, beside(feed.as_mut(), &fed, pass.head(asked, &mut upstream))).await;
            let mut begun = match head {
                Some(Ok(Ok(begun))) => begun,
                None => return Err((Refusal::AnswerTimeout, turn)),
                Some(Err(Stop::Late)) => return Err((Refusal::BodyTimeout, turn)),
                Some(Ok(Err(Cut::None(error)))) => {
                    tracing::debug!(APP = router.app, %error, "a worker ended a connection without an answer");
                    // Once more, over a connection that nobody has used: what was not sent at all, and what does no harm.
                    if fed.begun.get() && !(asked.repeatable && wish != Wish::Fresh) {
                        return Err((Refusal::Broken, turn));
                    }
                    wish = Wish::Fresh;
                    search.again();
                    router.metrics.again(Again::Broken);
                    // Its socket may take a connection also when it has just died: systemd holds that.
                    if upstream.way == Way::Connect {
                        search.tried.push(upstream.id);
                    }
                    continue;
                }
                Some(Ok(Err(bad @ Cut::Bad(_)))) => {
                    tracing::debug!(APP = router.app, id = upstream.id, reason = %bad, "an answer cannot be passed on");
                    return Err((Refusal::Broken, turn));
                }
                Some(Err(_) | Ok(Err(_))) => return Ok(End::Breaks),
            };
            match beside(feed.as_mut(), &fed, pass.body(&mut begun, &mut worker)).await {
                Ok(Ok(())) => {}
                Ok(Err(cut)) => {
                    tracing::debug!(APP = router.app, id = upstream.id, reason = %cut, "an answer breaks off");
                    return Ok(End::Breaks);
                }
                Err(stop) => {
                    tracing::debug!(APP = router.app, id = upstream.id, ?stop, "an answer breaks off");
                    conn.limits.broken(router);
                    return Ok(End::Breaks);
                }
            }
            // What follows an answer is nobody's.
            let kept = begun.kept && came.is_empty();
            drop((flight, turn));
            if !fed.whole.get() {
                // Answered before all of its body was there.
                conn.gate.plain(Place::Body, true);
                if until_whole(feed.as_mut(), &fed).await.is_err() {
                    return Ok(End::Lingers);
                }
            }
            if kept {
                Stream::give_back(router, upstream);
            }
            return Ok(if begun.closes { End::Ends } else { End::GoesOn });
        }
        Err((Refusal::Broken, turn))
    }

    /// An answer of the router's own; the connection ends with it.
    async fn refuse(&mut self, refusal: Refusal, mut turn: Turn, head: bool) -> End {
        let Self { conn, writer, .. } = self;
        turn.answered = true;
        conn.chosen.refused(&conn.router, refusal);
        conn.router.count_refusal(refusal);
        tracing::debug!(address = %conn.address, reason = refusal.reason(), "refused a request");
        let response = refusal.response();
        let body = response.find("\r\n\r\n").map_or(response.len(), |end| end + 4);
        let response = if head { &response[..body] } else { &response };
        if let Some(entry) = &mut turn.entry {
            entry.answered(refusal.code(), conn.chosen.slot(&conn.router), Some(refusal.reason()));
            entry.entry.bytes = (response.len() - body) as u64;
        }
        if writer.is_amid() {
            // It would get into an interim answer.
            return End::Breaks;
        }
        match writer.send(conn, response.as_bytes()).await {
            Ok(()) => End::Lingers,
            Err(_gone) => End::Breaks,
        }
    }

    /// Ends in order where the client may still be sending: closing with unread bytes would reset the connection, and the
    /// reset can overtake the answer.
    async fn linger(&mut self) -> io::Result<()> {
        let Self { conn, reader, writer, .. } = self;
        conn.gate.plain(Place::Body, true);
        writer.end(conn).await?;
        let drained = async {
            let mut total = 0;
            while total < LINGER.1 {
                reader.buffer.clear();
                match reader.fill().await {
                    Ok(count) if count > 0 => total += count,
                    _ => return,
                }
            }
        };
        // Past the time the client has had its chance.
        let _ = tokio::time::timeout(LINGER.0, drained).await;
        Ok(())
    }
}
