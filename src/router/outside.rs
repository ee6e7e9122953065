//! Workers that speak no channel: the router connects to them as a proxy does, and the kernel tells their end.
//!
//! Nothing of the router's is open in such a worker: a program may close what it likes, and fork.

use super::Router;
use super::record::Record;
use super::table::{Phase, Place, Sign, WorkerId};
use crate::config::router::{Protocol, ReadyOn};
use crate::system::stream::Stream;
use crate::system::{listening, process};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

/// On this machine; longer only when the worker's queue is full.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Between two questions whether a worker is ready.
const ASK_PAUSE: Duration = Duration::from_millis(50);
/// The same while somebody else has the worker's port.
const STRANGER_PAUSE: Duration = Duration::from_secs(1);
/// After so long it is told why a worker does not become ready.
const SILENCE: Duration = Duration::from_secs(5);
/// For one answer to that.
const ASK_TIME: Duration = Duration::from_secs(10);
/// The longest beginning of an answer that is looked at, and what is read of the rest out of politeness, bytes.
const LINE_LIMIT: usize = 1024;
const REST_LIMIT: u64 = 64 * 1024;
const REST_TIME: Duration = Duration::from_millis(500);
/// Of `health.timeout`: how often a worker is asked.
const HEALTH_PARTS: u32 = 4;

impl Router {
    /// Lets a worker in that takes connections at `place`. Says its number.
    pub fn attach_outside(&self, slot: &str, pid: i32, place: Place) -> WorkerId {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
        let id = {
            let mut table = self.table.borrow_mut();
            let worker = table.attach(slot, pid, now);
            worker.place = Some(place);
            worker.id
        };
        // Kept before it is answered: a worker that knows its number survives this router.
        self.remember(id);
        self.changed.notify_waiters();
        id
    }

    /// A worker comes anew: what is known of it under its old number goes, without a word, since it has not ended.
    pub(super) fn forget_outside(&self, id: WorkerId) {
        self.leave_worker(id);
        if self.table.borrow_mut().detach(id).is_some() {
            self.note(&Record::Gone { id });
        }
    }

    /// Looks after an attached worker until its process ends.
    pub fn serve_outside(self: &Rc<Self>, id: WorkerId) {
        let Some((pid, place)) = self.table.borrow().worker(id).and_then(|it| Some((it.pid, it.place.clone()?))) else {
            return;
        };
        let router = Rc::clone(self);
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = process::ended(u32::try_from(pid).unwrap_or(0)) => {}
                () = router.look_after(id, &place) => {}
            }
            router.depart(id, None);
        });
    }

    /// A worker has told whoever manages it that it is ready.
    pub fn notified(&self, id: WorkerId) {
        self.sign(id, Sign::Notified);
    }

    /// Where a worker is reached, unless that is its channel.
    pub(super) fn place_of(&self, id: WorkerId) -> Option<Place> {
        self.table.borrow().worker(id)?.place.clone()
    }

    /// Whether any worker is reached otherwise than by a channel: then all connections pass through the router.
    pub(super) fn has_outsiders(&self) -> bool {
        self.table.borrow().workers().any(|worker| worker.place.is_some())
    }

    /// Asks whether it is ready, then whether it still answers.
    async fn look_after(&self, id: WorkerId, place: &Place) {
        if self.settings.ready_on != ReadyOn::Notify {
            // That it runs is all that can be known of one that takes no connections.
            if *place != Place::Nowhere {
                self.ask_ready(id, place).await;
            }
            self.sign(id, Sign::Answer);
        }
        if !self.settings.ready_http.is_empty() {
            self.ask_health(id, place).await;
        }
        std::future::pending::<()>().await;
    }

    async fn ask_ready(&self, id: WorkerId, place: &Place) {
        let path = self.settings.ready_http.as_str();
        let any = path.is_empty();
        let mut told = None;
        let mut complain_at = Some(Instant::now() + SILENCE);
        // A connection to a Unix socket of systemd's proves nothing: that it is read does.
        let target = match (place, any, self.settings.protocol) {
            (Place::Port(_), true, _) | (_, true, Protocol::Tcp) => None,
            _ => Some(if any { "/" } else { path }),
        };
        loop {
            let asked = async {
                match target {
                    None => connect(place).await.map(|_| 200),
                    Some(target) => status(place, target).await,
                }
            };
            let answer =
                tokio::time::timeout(ASK_TIME, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let healthy = answer.as_ref().is_ok_and(|code| any || (200..400).contains(code));
            let reason = match &answer {
                Ok(_) if healthy => match self.stranger_at(id, place) {
                    None => return,
                    Some(stranger) => stranger,
                },
                Ok(code) => format!("GET {path} got {code} at {}; ready.http waits for 200 to 399", name(place)),
                Err(error) => missing(place, target, error),
            };
            let slot = self.unready(id, &reason);
            // A program may take its time until it listens.
            let tell = answer.is_ok() || complain_at.take_if(|at| *at < Instant::now()).is_some();
            if let Some(slot) = slot.filter(|_| tell && told.as_ref() != Some(&reason)) {
                if healthy {
                    tracing::warn!(APP = self.app, WORKER = slot, "worker {slot} is not ready: {reason}");
                } else {
                    tracing::info!(APP = self.app, WORKER = slot, "worker {slot} is not ready yet: {reason}");
                }
                told = Some(reason);
            }
            tokio::time::sleep(if healthy { STRANGER_PAUSE } else { ASK_PAUSE }).await;
        }
    }

    /// Notes why a worker is not ready, for whoever waits for it. Gives its slot.
    pub(super) fn unready(&self, id: WorkerId, reason: &str) -> Option<String> {
        let mut table = self.table.borrow_mut();
        let worker = table.worker_mut(id)?;
        let slot = worker.slot.clone();
        if worker.unready.as_deref() != Some(reason) {
            worker.unready = Some(reason.to_owned());
            drop(table);
            self.changed.notify_waiters();
        }
        Some(slot)
    }

    /// Who else has the port that a worker was given: another program may have taken it first.
    fn stranger_at(&self, id: WorkerId, place: &Place) -> Option<String> {
        let Place::Port(port) = place else { return None };
        let (slot, pid) = self.table.borrow().worker(id).map(|it| (it.slot.clone(), it.pid))?;
        match listening::stranger(*port, pid) {
            Ok(user) => {
                user.map(|user| format!("user {user} listens on port {port}, which was given to worker {slot}"))
            }
            Err(error) => {
                tracing::debug!(APP = self.app, %error, "cannot tell who listens on port {port}");
                None
            }
        }
    }

    /// Any answer in time is a sign of life; what it says is for those who decide on readiness.
    async fn ask_health(&self, id: WorkerId, place: &Place) {
        let (path, timeout) = (self.settings.ready_http.as_str(), self.settings.health_timeout);
        let mut alive = Instant::now();
        loop {
            tokio::time::sleep(timeout / HEALTH_PARTS).await;
            // One that is on its way out may close its socket before it has finished.
            if self.table.borrow().worker(id).is_none_or(|worker| worker.phase != Phase::Ready) {
                alive = Instant::now();
                continue;
            }
            let limit = (alive + timeout).max(Instant::now() + timeout / HEALTH_PARTS);
            if let Ok(Ok(_)) = tokio::time::timeout_at(limit, status(place, path)).await {
                alive = Instant::now();
            } else if alive.elapsed() >= timeout {
                self.abort(id, alive.elapsed());
                return;
            }
        }
    }
}

/// A connection to that worker. `None`: it does not take one.
pub(super) async fn connect_to(router: &Router, id: WorkerId) -> Option<OwnedFd> {
    let place = router.place_of(id)?;
    match connect(&place).await {
        Ok(worker) => Some(worker),
        Err(error) => {
            tracing::debug!(APP = router.app, id, %error, "a worker does not take a connection");
            None
        }
    }
}

/// A connection to a worker.
async fn connect(place: &Place) -> io::Result<OwnedFd> {
    let connecting = async {
        Ok(match place {
            Place::Path(path) => UnixStream::connect(path).await?.into_std()?.into(),
            Place::Port(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?.into_std()?.into(),
            Place::Nowhere => return Err(io::ErrorKind::Unsupported.into()),
        })
    };
    tokio::time::timeout(CONNECT_TIME, connecting).await?
}

/// A place as one would name it to whoever wrote the program.
fn name(place: &Place) -> String {
    match place {
        Place::Port(port) => format!("127.0.0.1:{port}"),
        Place::Path(_) => "its socket".to_owned(),
        Place::Nowhere => "no place".to_owned(),
    }
}

/// What a worker has not done that gives no answer. `target`: what it was asked for, unless only to take a connection.
fn missing(place: &Place, target: Option<&str>, error: &io::Error) -> String {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof};
    let at = name(place);
    let what = target.map_or_else(|| format!("no connection to {at}"), |it| format!("no answer to GET {it} at {at}"));
    match (place, error.kind()) {
        (Place::Port(_), ConnectionRefused) => {
            format!("nothing listens on {at}; the program must listen on the port that its variable PORT names")
        }
        (Place::Path(_), TimedOut | ConnectionReset | UnexpectedEof) => {
            format!("{what}; the program must take connections from its descriptor 3 (LISTEN_FDS)")
        }
        _ => format!("{what}: {error}"),
    }
}

/// Asks a worker; says the status of its answer.
async fn status(place: &Place, path: &str) -> io::Result<u16> {
    let mut stream = Stream::new(connect(place).await?)?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: appctl\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut text = Vec::new();
    while !text.contains(&b'\n') {
        if text.len() > LINE_LIMIT || stream.read_buf(&mut text).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what it answers is not HTTP"));
        }
    }
    // A program that cannot finish its answer may complain of it.
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(REST_TIME, stream.take(REST_LIMIT).read_to_end(&mut rest)).await;
    let code = text.strip_prefix(b"HTTP/1.").and_then(|rest| std::str::from_utf8(rest.get(2..5)?).ok()?.parse().ok());
    code.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what it answers is not HTTP/1"))
}
