//! The access log (`router.access_log`): a line for each request that is routed here, each connection that is handed over,
//! and each that is refused.

use super::Router;
use super::proxy::Peer;
use super::refuse::Refusal;
use super::table::WorkerId;
use crate::config::sticky::Kind;
use crate::system::sink::Sink;
use crate::system::stream;
use crate::wire::access::{Entry, Outcome};
use crate::wire::sticky::Fields;
use hyper::StatusCode;
use hyper::header::{HeaderName, USER_AGENT};
use nix::sys::socket::{MsgFlags, recv};
use std::cell::OnceCell;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::time::Instant;

/// What of a request line is looked at, bytes.
const LINE: usize = 4096;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where the lines go; nowhere until it is opened. Beside it, the parameters of targets whose values are keys of sessions.
#[derive(Debug, Default)]
pub(super) struct Log(OnceCell<(Sink, Vec<String>)>);

/// A line that is being collected, and since when.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) entry: Entry,
    since: Instant,
}

impl Log {
    pub(super) fn is_on(&self) -> bool {
        self.0.get().is_some()
    }
}

impl Router {
    /// Begins to write it, where the settings say so.
    pub(super) fn open_access_log(&self) {
        if !self.settings.access_log {
            return;
        }
        match Sink::open() {
            // Once a router.
            Ok(sink) => {
                let kinds = self.settings.sticky.kinds().iter();
                let keys = kinds.filter_map(|kind| match kind {
                    Kind::Query(name) => Some(name.clone()),
                    _ => None,
                });
                drop(self.access.0.set((sink, keys.collect())));
            }
            Err(error) => tracing::error!(APP = self.app, %error, "cannot write the access log: {error}"),
        }
    }

    pub(super) fn log(&self, entry: &Entry) {
        let Some((sink, keys)) = self.access.0.get() else { return };
        let mut fields = entry.fields(keys);
        fields.push(("APP", self.app.clone()));
        if sink.write(&self.app, &entry.line(keys), &fields).is_err() {
            self.metrics.log_lost.count();
        }
    }

    /// A worker has taken a connection.
    pub(super) fn log_handed(&self, asked: Option<&Pending>, id: WorkerId) {
        if let Some(asked) = asked {
            let worker = self.slot_of(id);
            self.log(&Entry {
                worker,
                outcome: Outcome::HandedOver,
                duration: asked.since.elapsed(),
                ..asked.entry.clone()
            });
        }
    }

    /// The router refuses a connection, of which nothing was read.
    pub(super) fn log_refused(&self, client: &OwnedFd, refusal: Refusal) {
        if self.access.is_on() {
            let outcome = Outcome::Status(refusal.code().as_u16());
            self.log(&Entry { outcome, reason: Some(refusal.reason()), ..sight(client).entry });
        }
    }

    /// The router ends a connection that is routed request by request, because of what it sent.
    pub(super) fn log_ended(&self, peer: Peer, refusal: Refusal) {
        if self.access.is_on() {
            let client = peer.address.map(|address| address.to_canonical().to_string()).unwrap_or_default();
            let outcome = Outcome::Status(refusal.code().as_u16());
            self.log(&Entry { client, outcome, reason: Some(refusal.reason()), ..Entry::default() });
        }
    }

    pub(super) fn slot_of(&self, id: WorkerId) -> Option<String> {
        self.table.borrow().worker(id).map(|worker| worker.slot.clone())
    }
}

/// What the first line of a connection says, without taking it from the worker.
pub(super) fn sight(client: &OwnedFd) -> Pending {
    let mut buffer = [0; LINE];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let count = recv(client.as_raw_fd(), &mut buffer, flags).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..count]);
    let line = text.trim_start_matches(['\r', '\n']).split(['\r', '\n']).next().unwrap_or_default();
    let mut words = line.splitn(3, ' ').map(str::to_owned);
    // Of what is no request (TLS, another protocol) nothing is told.
    let request = (words.next(), words.next(), words.next());
    let (method, target, version) = match request {
        (Some(method), Some(target), Some(version)) if version.starts_with("HTTP/") => (method, target, version),
        _ => Default::default(),
    };
    let client = stream::peer(client).map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
    Pending { entry: Entry { client, method, target, version, ..Entry::default() }, since: Instant::now() }
}

/// What is known of a request that is routed here, before it is served. `request`: its method, target and version.
pub(super) fn begin(request: [&str; 3], fields: &impl Fields, peer: Peer) -> Box<Pending> {
    let text = |name: &HeaderName| fields.all(name.as_str()).last().map(|it| String::from_utf8_lossy(it).into_owned());
    // The last one is the trusted proxy's own word of whom it serves.
    let told = text(&X_FORWARDED_FOR).filter(|_| peer.trusted);
    let told = told.as_deref().and_then(|list| list.rsplit(',').next()).map(|last| last.trim().to_owned());
    let client = told.or_else(|| peer.address.map(|address| address.to_canonical().to_string()));
    let [method, target, version] = request.map(str::to_owned);
    let user_agent = text(&USER_AGENT);
    let entry = Entry { client: client.unwrap_or_default(), method, target, version, user_agent, ..Entry::default() };
    Box::new(Pending { entry, since: Instant::now() })
}

/// Who has answered: from the exchange to the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct By(pub(super) WorkerId);

impl Pending {
    /// The answer has begun.
    pub(super) fn answered(&mut self, status: StatusCode, worker: Option<String>, reason: Option<&'static str>) {
        self.entry =
            Entry { outcome: Outcome::Status(status.as_u16()), worker, reason, ..std::mem::take(&mut self.entry) };
    }

    /// The request is over.
    pub(super) fn end(mut self, router: &Router) {
        self.entry.duration = self.since.elapsed();
        router.log(&self.entry);
    }
}
