//! How a worker comes in: a process connects to the channel socket, says which slot it is, and proves it.
//!
//! The proof is the kernel's word: SO_PEERCRED tells the process, its control group tells its unit. A process outside of
//! the unit `APP@SLOT.service` in the app's slice is a stranger whatever it says.

use super::Router;
use super::table::{Phase, Place, WorkerId};
use crate::config::router::Serialization;
use crate::system::peer::{self, Peer};
use crate::system::stamp::Stamp;
use crate::wire::Encoding;
use crate::wire::hello::{self, Answer, Hello, LINE_LIMIT, LineError, Reach, Release};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// From connecting to the end of the hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Processes that may be saying hello at a time.
const MOST_AT_A_TIME: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub(super) enum MeetError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no hello within {} s", HELLO_TIMEOUT.as_secs())]
    Slow,
    #[error("the hello is not one: {0}")]
    Hello(String),
    #[error("the hello cannot be read: {0}{remedy}", remedy = remedy(.0))]
    Line(#[from] LineError),
    #[error("pid {pid} (uid {uid}) is in control group {found}, not in {wanted}")]
    Stranger { pid: i32, uid: u32, found: String, wanted: String },
}

/// Accepts until the router stops letting workers in.
pub(super) async fn accept_workers(router: &Rc<Router>, socket: UnixListener) {
    let places = Arc::new(tokio::sync::Semaphore::new(MOST_AT_A_TIME));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match socket.accept().await {
            Ok((stream, _)) => {
                let router = Rc::clone(router);
                tokio::task::spawn_local(async move {
                    meet(&router, stream, place).await;
                });
            }
            Err(error) => {
                tracing::error!(APP = router.app, %error, "cannot accept workers now");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn meet(router: &Rc<Router>, mut stream: UnixStream, place: OwnedSemaphorePermit) {
    let hello = introduce(router, &mut stream).await;
    // Who has proved to be one of ours may stay as long as it likes.
    drop(place);
    let error = match hello {
        Ok(Hello::Attach { .. }) if router.stopping.is_cancelled() => {
            // Kept until this router ends: then the worker turns to the next one.
            let _kept = stream;
            return std::future::pending().await;
        }
        Ok(Hello::Attach { slot, reach: Some(reach), .. }) => {
            let attached = attach_outside(router, &stream, &slot, reach);
            answer(&mut stream, &attached.unwrap_or_else(|error| Answer::Refused { reason: error.to_string() })).await
        }
        Ok(Hello::Attach { slot, encoding, reach: None }) => {
            match attach(router, stream, &slot, router.agreed(encoding.into())) {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(APP = router.app, WORKER = slot, %error, "cannot let worker {slot} in");
                    return;
                }
            }
        }
        Ok(Hello::Guard { slot }) => return router.keep_guard(&slot, stream).await,
        Ok(Hello::Ready { slot, pid, notified, explain }) => {
            let id = router.table.borrow().workers().find(|it| it.slot == slot && it.pid == pid).map(|it| it.id);
            if let Some(id) = id.filter(|_| notified) {
                router.notified(id);
            }
            let listener = explain.then_some(&mut stream);
            let outcome = ready(router, &slot, pid, listener).await;
            answer(&mut stream, &outcome).await
        }
        Ok(Hello::Drain { slot, within, message }) => {
            if let Some(id) = router.drain(&slot) {
                tracing::info!(APP = router.app, WORKER = slot, "worker {slot} is draining");
                drain(router, id, Duration::from_millis(within)).await;
                if let Some(message) = message {
                    router.tell(id, &message);
                }
            }
            answer(&mut stream, &Answer::Done).await
        }
        Ok(Hello::Ended { slot, end }) => {
            router.worker_ended(&slot, &end).await;
            answer(&mut stream, &Answer::Done).await
        }
        Err(error) => {
            tracing::warn!(APP = router.app, %error, "refused a process on the channel socket: {error}");
            answer(&mut stream, &Answer::Refused { reason: error.to_string() }).await
        }
    };
    if let Err(error) = error {
        tracing::debug!(APP = router.app, %error, "a process did not wait for its answer");
    }
}

/// Reads the hello and checks who says it.
async fn introduce(router: &Router, stream: &mut UnixStream) -> Result<Hello, MeetError> {
    let peer = peer::credentials(stream)?;
    let hello = tokio::time::timeout(HELLO_TIMEOUT, read_hello(stream)).await.map_err(|_| MeetError::Slow)??;
    check(router, peer, hello.slot())?;
    Ok(hello)
}

async fn read_hello(stream: &mut UnixStream) -> Result<Hello, MeetError> {
    let mut text = Vec::new();
    // Nothing follows a hello until it is answered, so reading ahead takes nothing from the channel.
    while !text.ends_with(b"\n") {
        if text.len() >= LINE_LIMIT {
            return Err(MeetError::Hello("too long".into()));
        }
        let mut piece = [0; 512];
        match stream.read(&mut piece).await? {
            0 => return Err(MeetError::Hello("it ends in the middle".into())),
            count => text.extend_from_slice(&piece[..count]),
        }
    }
    Ok(hello::read(&text, &release())?)
}

fn check(router: &Router, peer: Peer, slot: &str) -> Result<(), MeetError> {
    match stray(router, peer.pid, slot)? {
        Some((found, wanted)) => Err(MeetError::Stranger { pid: peer.pid, uid: peer.uid, found, wanted }),
        None => Ok(()),
    }
}

/// `None`: the process is in the unit of that slot's worker. Else the control group that it is in, and that one's.
pub(super) fn stray(router: &Router, pid: i32, slot: &str) -> Result<Option<(String, String)>, MeetError> {
    let own = peer::control_group(i32::try_from(std::process::id()).unwrap_or(0))?;
    let wanted = peer::worker_group(&own, &router.app, slot)
        .filter(|_| !slot.contains('/'))
        .ok_or_else(|| MeetError::Hello("the router itself is in no unit, or that is no slot".into()))?;
    let found = peer::control_group(pid)?;
    Ok((found != wanted).then_some((found, wanted)))
}

impl Router {
    /// The operator's choice, where the runtime has both.
    pub fn agreed(&self, preferred: Encoding) -> Encoding {
        match (preferred, self.settings.serialization) {
            (Encoding::Bun, _) | (_, None) => preferred,
            (_, Some(Serialization::Json)) => Encoding::Json,
            (_, Some(Serialization::Advanced)) => Encoding::Advanced,
        }
    }
}

fn attach(router: &Rc<Router>, stream: UnixStream, slot: &str, encoding: Encoding) -> io::Result<()> {
    let pid = peer::credentials(&stream)?.pid;
    let workers = router.wanted.get();
    let answer = |id, index| line(&Answer::Attached { id, index, workers, encoding: encoding.into() });
    let id = router.attach(OwnedFd::from(stream.into_std()?), slot, pid, encoding, answer)?;
    tracing::info!(APP = router.app, WORKER = slot, pid, "worker {slot} (pid {pid}) starts");
    router.serve_worker(id);
    Ok(())
}

/// The router connects to this worker. Its stream says nothing more.
fn attach_outside(router: &Rc<Router>, stream: &UnixStream, slot: &str, reach: Reach) -> io::Result<Answer> {
    let pid = peer::credentials(stream)?.pid;
    let place = match reach {
        Reach::Port(port) => Place::Port(port),
        Reach::Nowhere => Place::Nowhere,
        Reach::Socket => {
            let channel = stream.local_addr()?;
            let house = channel.as_pathname().and_then(Path::parent);
            let house = house.ok_or_else(|| io::Error::other("the channel socket has no path"))?;
            Place::Path(house.join("slots").join(slot))
        }
    };
    let taken = |port| router.table.borrow().workers().any(|it| it.pid != pid && it.place == Some(Place::Port(port)));
    if let Reach::Port(port) = reach
        && taken(port)
    {
        return Ok(Answer::Again);
    }
    // One that the router before us let in, and did not live to tell.
    let twin = router.table.borrow().workers().find(|it| it.pid == pid && it.place.is_some()).map(|it| it.id);
    if let Some(twin) = twin {
        router.forget_outside(twin);
    }
    let id = router.attach_outside(slot, pid, place);
    router.serve_outside(id);
    tracing::info!(APP = router.app, WORKER = slot, pid, "worker {slot} (pid {pid}) starts");
    let index = router.index_of(id).unwrap_or(0);
    Ok(Answer::Attached { id, index, workers: router.wanted.get(), encoding: Encoding::Json.into() })
}

/// Answers when the slot's worker is ready, or is gone. `listener` hears meanwhile why it is not.
async fn ready(router: &Router, slot: &str, pid: i32, mut listener: Option<&mut UnixStream>) -> Answer {
    let mut seen = false;
    let mut told = None;
    loop {
        let changed = router.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let (phase, why) = {
            let table = router.table.borrow();
            let worker = table.workers().find(|w| w.slot == slot && w.pid == pid);
            (worker.map(|w| w.phase), worker.and_then(|w| w.unready.clone()))
        };
        if let (Some(Phase::Starting), Some(stream), Some(reason)) = (phase, &mut listener, why)
            && told.as_ref() != Some(&reason)
        {
            // One that has gone away asks no more.
            let _ = answer(stream, &Answer::NotYet { reason: reason.clone() }).await;
            told = Some(reason);
            continue;
        }
        match phase {
            Some(Phase::Starting) => seen = true,
            Some(Phase::Ready | Phase::Draining) => return Answer::Done,
            None if seen => return Answer::Refused { reason: "the worker left before it was ready".into() },
            None => {}
        }
        changed.await;
    }
}

/// Waits until a worker has acknowledged and ended what it has, or is gone, or the time is up.
///
/// A connection without a session cannot be seen any more once it is handed over. So a worker that was given one just
/// now gets the time to answer it, `within` from then.
async fn drain(router: &Router, id: WorkerId, within: Duration) {
    let deadline = Instant::now() + within;
    let touched = router.table.borrow().worker(id).and_then(|worker| worker.touched);
    let quiet_at = touched.map_or(Duration::ZERO, |touched| touched.saturating_add(within));
    loop {
        let drained = router.drained.notified();
        tokio::pin!(drained);
        drained.as_mut().enable();
        let busy = router
            .table
            .borrow()
            .worker(id)
            .map(|w| w.pending > 0 || w.in_flight > 0 || w.tunnels > 0 || !w.sessions.is_empty());
        let Some(busy) = busy else { return };
        let quiet_in = quiet_at.saturating_sub(router.now());
        if !busy && quiet_in.is_zero() {
            return;
        }
        let until = if busy { deadline } else { deadline.min(Instant::now() + quiet_in) };
        // The channel's end is told by `drained` as well.
        if tokio::time::timeout_at(until, drained).await.is_err() && (busy || until == deadline) {
            return;
        }
    }
}

async fn answer(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    stream.write_all(&line(answer)?).await
}

/// What this side says it is.
fn release() -> Release {
    let Stamp { version, wire, .. } = Stamp::own();
    Release { version: version.clone(), wire: *wire }
}

/// A line of ours.
pub(super) fn line(answer: &Answer) -> Result<Vec<u8>, serde_json::Error> {
    hello::line(answer, &release())
}

fn remedy(error: &LineError) -> &'static str {
    match error {
        LineError::Foreign { .. } => "; `appctl upgrade` starts the installed build of the router",
        LineError::Broken(_) => "",
    }
}
