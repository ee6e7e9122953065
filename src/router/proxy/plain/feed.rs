//! What goes from a client to a worker: a request, its body, and after that the client's silence.

use super::buffer::Buffer;
use crate::router::proxy::client::Conn;
use crate::router::proxy::limits::Pace;
use crate::router::proxy::transport::Transport;
use crate::system::stream::Stream;
use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use tokio::io::AsyncWrite;

/// What the client sends, and what has been read of it.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) stream: Transport,
    pub(super) buffer: Buffer,
}

impl Reader {
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.fill(&mut self.stream).await
    }

    /// Resolves when the client is gone. One that has sent the next request already is there.
    pub(super) async fn until_gone(&mut self) {
        if !self.buffer.is_empty() || self.fill().await.is_ok_and(|count| count > 0) {
            pending::<()>().await;
        }
    }
}

/// How far a request has got.
#[derive(Debug, Default)]
pub(super) struct Fed {
    /// Any byte of it has gone out.
    pub(super) begun: Cell<bool>,
    /// All have.
    pub(super) whole: Cell<bool>,
    /// None will any more.
    pub(super) over: Cell<bool>,
}

/// Why there is no more to feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The client is gone.
    Client,
    /// It takes too long with its body.
    Late,
    /// The worker takes no more; its answer may be there.
    Worker,
}

/// Gives a worker the request, whose beginning is `ask`, and `left` bytes of body that are to come; then waits until the
/// client is gone.
pub(super) async fn feed(
    conn: &Rc<Conn>,
    reader: &mut Reader,
    mut worker: Stream,
    ask: &[u8],
    mut left: u64,
    fed: &Fed,
) -> Stop {
    if give(&mut worker, ask, fed).await.is_err() {
        return Stop::Worker;
    }
    if left > 0 {
        reader.buffer.expect(left);
        let mut pace = Pace::new(conn);
        while left > 0 {
            if reader.buffer.is_empty() {
                let came = poll_fn(|cx| match reader.buffer.poll_fill(&mut reader.stream, cx) {
                    Poll::Pending => pace.poll_late(cx).map(|_| Err(Stop::Late)),
                    Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Ok(())),
                    Poll::Ready(_) => Poll::Ready(Err(Stop::Client)),
                });
                if let Err(stop) = came.await {
                    return stop;
                }
                pace.moved();
            }
            let unread = reader.buffer.unread();
            let piece = &unread[..usize::try_from(left).map_or(unread.len(), |left| left.min(unread.len()))];
            let count = piece.len();
            if give(&mut worker, piece, fed).await.is_err() {
                return Stop::Worker;
            }
            reader.buffer.consume(count);
            left -= count as u64;
        }
    }
    fed.whole.set(true);
    reader.until_gone().await;
    Stop::Client
}

async fn give(worker: &mut Stream, bytes: &[u8], fed: &Fed) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let sent = poll_fn(|cx| Pin::new(&mut *worker).poll_write(cx, rest)).await?;
        fed.begun.set(true);
        rest = &rest[sent..];
    }
    Ok(())
}

/// Does something while the worker is fed, until that is done or must be given up.
pub(super) async fn beside<T>(
    mut feed: Pin<&mut impl Future<Output = Stop>>,
    fed: &Fed,
    other: impl Future<Output = T>,
) -> Result<T, Stop> {
    let mut other = pin!(other);
    poll_fn(|cx| {
        if !fed.over.get()
            && let Poll::Ready(stop) = feed.as_mut().poll(cx)
        {
            fed.over.set(true);
            if stop != Stop::Worker {
                return Poll::Ready(Err(stop));
            }
        }
        other.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// Resolves when the worker has all of the request.
pub(super) async fn until_whole(mut feed: Pin<&mut impl Future<Output = Stop>>, fed: &Fed) -> Result<(), Stop> {
    if fed.whole.get() {
        return Ok(());
    }
    if fed.over.get() {
        return Err(Stop::Worker);
    }
    poll_fn(|cx| {
        let stop = feed.as_mut().poll(cx);
        if fed.whole.get() { Poll::Ready(Ok(())) } else { stop.map(Err) }
    })
    .await
}
