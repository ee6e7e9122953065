//! The sticky router: accepts, looks at the head, chooses a worker, hands the connection over; and carries the workers'
//! messages to the relay.
//!
//! One thread, one runtime: [`table`] and [`balance`] decide, [`link`] is a worker's channel, `listening` its servers,
//! [`peek`] and [`handover`] a client's connection, `proxy` one that is routed request by request,
//! `sticky` what makes a client come back, [`record`]
//! and `memory` what survives this process, [`refuse`] what the router says itself, [`tally`] and `metrics` what it counts,
//! `access` its log, `addresses` who has how many connections, `doors` addresses with TLS or the PROXY protocol and
//! [`certificates`] what TLS is served with, [`meet`] how a worker comes in, `outside` one that has no channel, [`ends`] how
//! it ended, `usage` what they use of the processors, [`axm`] what their apps show of themselves, [`control`] what the
//! operator asks. [`Router`] ties them together; [`run`] is the loop, `service` its
//! place in systemd.

mod access;
mod addresses;
pub mod axm;
pub mod balance;
pub mod certificates;
pub mod client;
pub mod control;
mod doors;
pub mod ends;
mod handover;
pub mod health;
mod link;
mod listening;
mod meet;
mod memory;
mod metrics;
mod outside;
mod peek;
mod proxy;
pub mod record;
mod recover;
mod refuse;
mod rollout;
mod search;
mod serve;
mod server;
mod service;
mod sticky;
pub mod table;
pub mod tally;
mod usage;

use crate::config::router::RouterSettings;
use crate::relay::hub::{Hub, Notice};
use crate::system::activation::{Address, Listener};
use crate::system::shared::Buffers;
use crate::wire::Encoding;
use crate::wire::channel::{Cutter, Frame};
use crate::wire::cluster::{FromWorker, ToWorker};
use crate::wire::message::{Message, MessageError};
use crate::wire::sticky::Key;
use bytes::Bytes;
use link::{Client, Link, Pumped};
use memory::Memory;
use record::Record;
use refuse::Refusal;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use table::{Choice, Phase, Sign, Table, Worker, WorkerId};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use memory::Legacy;
pub use serve::{Listeners, run};
pub use service::main;

/// Reads from one worker's channel in a row, when a session is looked for: a worker that never stops talking must not
/// keep the others waiting.
const DRAIN_READS: usize = 16;
/// A worker that left so recently is probably being restarted.
const RESTART_HOPE: Duration = Duration::from_secs(10);
/// Why a silent worker of a reload is not ready.
const LESS: &str = "it runs, but it does not listen (nor say ready, nor have an adapter) as those before it did. If that is \
                    meant: appctl restart";

/// Everything that one app's router knows.
pub struct Router {
    pub app: String,
    pub settings: RouterSettings,
    table: RefCell<Table>,
    hub: RefCell<Hub>,
    links: RefCell<BTreeMap<WorkerId, Rc<Link>>>,
    memory: Memory,
    ends: ends::Ends,
    usage: usage::Usage,
    told: axm::Told,
    /// Ends hung workers; by slot, those in the workers' own units that can.
    abort: RefCell<Option<health::Abort>>,
    guards: RefCell<HashMap<String, Rc<Notify>>>,
    /// Session ticket keys of TLS servers, by address and port: a ticket of one worker is good at every other.
    ticket_keys: RefCell<HashMap<String, String>>,
    /// A worker or a session came or went.
    changed: Notify,
    /// A connection or a session ended, as far as the router is concerned.
    drained: Notify,
    waiting: Cell<usize>,
    proxy: proxy::Proxy,
    stick: sticky::Stick,
    doors: doors::Doors,
    metrics: metrics::Metrics,
    access: access::Log,
    addresses: addresses::Addresses,
    /// Connections that are being served, in the order of their arrival.
    clients: RefCell<BTreeMap<u64, Rc<Client>>>,
    silent: RefCell<BTreeMap<u64, oneshot::Sender<()>>>,
    arrivals: Cell<u64>,
    handed: Cell<u64>,
    refused: Cell<u64>,
    random: Cell<u64>,
    started: Instant,
    last_departure: Cell<Option<Instant>>,
    /// Where clients come in.
    public: Vec<Address>,
    /// The first public TCP port, for workers that listen on port 0.
    port: u16,
    /// How many workers there should be, by the latest word.
    wanted: Cell<u32>,
    /// A reload is under way.
    rolling: watch::Sender<bool>,
    /// No new worker is let in any more.
    stopping: CancellationToken,
}

impl Router {
    /// `public`: where clients come in. Needs a tokio runtime with a `LocalSet`.
    pub fn new(app: &str, settings: RouterSettings, public: &[Listener]) -> Rc<Self> {
        let public: Vec<_> = public.iter().map(Listener::address).collect();
        let port = public.iter().find_map(|address| match address {
            Address::Internet(address) => Some(address.port()),
            _ => None,
        });
        let seed = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |elapsed| u64::from(elapsed.subsec_nanos()) | 1);
        let wanted = settings.workers;
        let stick = sticky::Stick::new(app, &settings);
        let mut table = Table::default();
        table.set_wanted(wanted);
        let router = Self {
            app: app.to_owned(),
            doors: doors::Doors::new(&settings.listen),
            settings,
            table: RefCell::new(table),
            hub: RefCell::default(),
            links: RefCell::default(),
            memory: Memory::default(),
            ends: ends::Ends::default(),
            usage: usage::Usage::default(),
            told: axm::Told::default(),
            abort: RefCell::default(),
            guards: RefCell::default(),
            ticket_keys: RefCell::default(),
            changed: Notify::new(),
            drained: Notify::new(),
            waiting: Cell::new(0),
            proxy: proxy::Proxy::default(),
            stick,
            metrics: metrics::Metrics::default(),
            access: access::Log::default(),
            addresses: addresses::Addresses::default(),
            clients: RefCell::default(),
            silent: RefCell::default(),
            arrivals: Cell::new(0),
            handed: Cell::new(0),
            refused: Cell::new(0),
            random: Cell::new(seed),
            started: Instant::now(),
            last_departure: Cell::new(None),
            public,
            port: port.unwrap_or(0),
            wanted: Cell::new(wanted),
            rolling: watch::Sender::new(false),
            stopping: CancellationToken::new(),
        };
        router.open_access_log();
        Rc::new(router)
    }

    /// Lets a worker in: from now on `stream` is its channel. Says its number.
    ///
    /// `preface` makes, of the number and the index, the bytes that go into the channel before all else.
    pub fn attach(
        self: &Rc<Self>,
        stream: OwnedFd,
        slot: &str,
        pid: i32,
        encoding: Encoding,
        preface: impl FnOnce(WorkerId, u32) -> serde_json::Result<Vec<u8>>,
    ) -> io::Result<WorkerId> {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
        let (id, index) = {
            let mut table = self.table.borrow_mut();
            let worker = table.attach(slot, pid, now);
            (worker.id, worker.index)
        };
        let made = Buffers::create()
            .and_then(|buffers| self.make_link(id, encoding, stream, buffers))
            .and_then(|link| Ok((link, preface(id, index)?)));
        let (link, preface) = match made {
            Ok(made) => made,
            Err(error) => {
                self.table.borrow_mut().detach(id);
                return Err(error);
            }
        };
        self.links.borrow_mut().insert(id, Rc::clone(&link));
        self.hub.borrow_mut().join(id, encoding);
        // Kept before it is answered: a worker that knows its number survives this router.
        self.remember(id);
        link.keep(&self.memory);
        if !link.forward(preface.into()) {
            tracing::debug!(APP = self.app, "the queue limit is smaller than a hello");
        }
        self.changed.notify_waiters();
        Ok(id)
    }

    fn make_link(&self, id: WorkerId, encoding: Encoding, stream: OwnedFd, buffers: Buffers) -> io::Result<Rc<Link>> {
        let cutter = Cutter::new(encoding, self.settings.frame_limit);
        // No number is used twice on a channel, whichever router sent it; all are exact in a JavaScript number.
        let first_seq = (self.memory.generation() & 0xF_FFFF) << 32;
        Link::new(id, cutter, stream, buffers, first_seq, self.settings.queue_limit).map(Rc::new)
    }

    /// Which process a worker is, for those who attach it before it is started.
    pub fn set_pid(&self, id: WorkerId, pid: i32) {
        if let Some(worker) = self.table.borrow_mut().worker_mut(id) {
            worker.pid = pid;
        }
        self.remember(id);
    }

    /// `NODE_APP_INSTANCE` of an attached worker.
    pub fn index_of(&self, id: WorkerId) -> Option<u32> {
        self.table.borrow().worker(id).map(|worker| worker.index)
    }

    /// Sends a worker a text of the operator's, such as PM2's `shutdown`: its `message` event.
    pub fn tell(&self, id: WorkerId, text: &str) {
        if let Some(link) = self.link(id) {
            link.send(&ToWorker::Text(text));
        }
    }

    /// Resolves when the worker has become ready; never for one that leaves before.
    pub async fn until_ready(&self, id: WorkerId) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.table.borrow().worker(id).is_some_and(|worker| worker.phase != Phase::Starting) {
                return;
            }
            changed.await;
        }
    }

    /// Serves an attached worker's channel until it ends.
    pub fn serve_worker(self: &Rc<Self>, id: WorkerId) {
        let Some(link) = self.link(id) else {
            return;
        };
        let router = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let reason = tokio::select! {
                reason = router.read_channel(&link) => reason,
                written = link.write() => written.err().map(|error| error.to_string()),
            };
            router.detach(&link, reason);
        });
    }

    /// Reads to the end; says what was wrong, if anything.
    async fn read_channel(self: &Rc<Self>, link: &Rc<Link>) -> Option<String> {
        // The router before us may have read what it did not live to handle.
        if let Err(error) = link.handle_whole(|frame, message| self.on_frame(link, frame, message)) {
            return Some(error.to_string());
        }
        loop {
            match link.read(|frame, message| self.on_frame(link, frame, message)).await {
                Ok(Pumped::End) => return None,
                Ok(Pumped::Some | Pumped::Nothing) => {}
                Err(error) => return Some(error.to_string()),
            }
            tokio::task::yield_now().await;
        }
    }

    fn detach(self: &Rc<Self>, link: &Link, reason: Option<String>) {
        link.close();
        self.links.borrow_mut().remove(&link.id);
        self.memory.drop_worker(link.id);
        self.depart(link.id, reason);
    }

    /// A worker is gone, or as good as gone: `reason`.
    fn depart(self: &Rc<Self>, id: WorkerId, reason: Option<String>) {
        self.leave_worker(id);
        self.forget_told(id);
        let Some(worker) = self.table.borrow_mut().detach(id) else {
            return;
        };
        self.note(&Record::Gone { id });
        self.last_departure.set(Some(Instant::now()));
        self.announce_departure(id);
        let (slot, pid, phase) = (&worker.slot, worker.pid, worker.phase.as_str());
        match reason {
            Some(reason) => {
                tracing::error!(
                    APP = self.app,
                    WORKER = slot,
                    pid,
                    phase,
                    reason,
                    "worker {slot}: channel closed: {reason}"
                );
            }
            // How it ended is still to be told.
            None => self.parted(&worker),
        }
        self.changed.notify_waiters();
        self.drained.notify_waiters();
    }

    /// Tells the adapters of the others.
    fn announce_departure(&self, id: WorkerId) {
        for (id, notice) in self.hub.borrow_mut().leave(id) {
            if let Some(other) = self.link(id) {
                match notice {
                    Notice::Close { uid, nsp } => other.send(&ToWorker::AdapterClose { uid: &uid, nsp: &nsp }),
                    Notice::Exit { id } => other.send(&ToWorker::WorkerExit { id: u64::from(id) }),
                    Notice::NoSockets { request, nsp } => {
                        other.send(&ToWorker::NoSockets { worker: u64::from(other.id), request: &request, nsp: &nsp });
                    }
                }
            }
        }
    }

    fn on_frame(self: &Rc<Self>, link: &Rc<Link>, frame: &Frame, message: Result<Message, MessageError>) {
        let id = link.id;
        match message {
            Ok(Message::Handle) => link.send(&ToWorker::HandleAck),
            Ok(Message::Ack) => self.check_asked(link, link.acknowledged(true)),
            Ok(Message::Nack) => self.check_asked(link, link.acknowledged(false)),
            Ok(Message::Cluster(message)) => self.on_cluster(link, message),
            Ok(Message::SessionOpened(session)) => {
                self.table.borrow_mut().open(id, &session);
                self.note(&Record::Open { id, sid: session });
                self.changed.notify_waiters();
            }
            Ok(Message::SessionClosed(session)) => {
                self.table.borrow_mut().close(id, &session);
                self.note(&Record::Close { id, sid: session });
                self.drained.notify_waiters();
            }
            Ok(Message::Adapter(envelope)) => {
                let news = self.hub.borrow_mut().learn(id, &envelope);
                if let Some(news) = news {
                    self.note(&recover::node_record(id, &envelope, news));
                }
                self.count_packet(id, true, frame.bytes.len());
                // A packet that a killed router had read is lost rather than relayed twice; what it told is not.
                link.consume();
                let targets = self.hub.borrow().targets(id, &envelope);
                targets.into_iter().for_each(|target| self.forward(target, frame.bytes.clone()));
                self.sign(id, Sign::Adapter);
            }
            Ok(Message::Ready) => self.sign(id, Sign::Word),
            Ok(Message::Axm(kind)) => self.on_axm(link, kind, frame),
            Ok(Message::Other) => {}
            Err(error) => tracing::warn!(APP = self.app, id, %error, "a frame from a worker makes no sense"),
        }
    }

    fn check_asked(&self, link: &Link, asked: bool) {
        if !asked {
            tracing::warn!(APP = self.app, id = link.id, "a worker acknowledged a handle that nobody sent");
        }
    }

    fn forward(&self, target: WorkerId, frame: Bytes) {
        let Some(link) = self.link(target) else {
            return;
        };
        self.count_packet(target, false, frame.len());
        if !link.forward(frame) {
            let table = self.table.borrow();
            let slot = table.worker(target).map_or("?", |worker| worker.slot.as_str());
            tracing::error!(
                APP = self.app,
                WORKER = slot,
                limit = self.settings.queue_limit,
                "worker {slot} does not read its channel and its queue is full: giving it up"
            );
            link.close();
        }
    }

    fn sign(&self, id: WorkerId, sign: Sign) {
        let sticky = |table: &Table| table.worker(id).is_some_and(|worker| worker.sticky);
        let before = sticky(&self.table.borrow());
        let becomes = self.table.borrow_mut().sign(id, sign, self.settings.ready_on);
        if becomes || before != sticky(&self.table.borrow()) {
            self.remember(id);
        }
        if becomes {
            if let Some(worker) = self.table.borrow().worker(id) {
                let (slot, pid, index) = (&worker.slot, worker.pid, worker.index);
                tracing::info!(APP = self.app, WORKER = slot, pid, index, "worker {slot} (pid {pid}) is ready");
            }
            self.changed.notify_waiters();
        }
    }

    fn on_cluster(self: &Rc<Self>, link: &Rc<Link>, message: FromWorker) {
        let id = link.id;
        match message {
            FromWorker::Online => {
                self.table.borrow_mut().online(id);
                self.remember(id);
                self.await_silence(link);
            }
            FromWorker::QueryServer { seq, query } => self.on_query(link, seq, &query),
            FromWorker::Listening(query) if link.encoding == Encoding::Bun => self.on_own_server(id, &query),
            FromWorker::Listening(_) => self.sign(id, Sign::Listening),
            FromWorker::Close { key } => {
                if let Some(worker) = self.table.borrow_mut().worker_mut(id) {
                    worker.servers.retain(|server| server.key != key);
                    // An app that has closed its last server takes nothing more, unless it listens again.
                    if worker.servers.is_empty() && worker.phase == Phase::Ready {
                        worker.phase = Phase::Starting;
                    }
                }
                self.remember(id);
            }
            FromWorker::ExitedAfterDisconnect { seq } => {
                if let Some(worker) = self.table.borrow_mut().worker_mut(id) {
                    worker.phase = Phase::Draining;
                }
                self.remember(id);
                link.send(&ToWorker::Acknowledge { ack: seq, seq: link.next_seq() });
            }
            FromWorker::Reply { ack, accepted } => link.replied(ack, accepted.unwrap_or(true)),
            FromWorker::Unknown => {}
        }
    }

    /// A worker that asks for no server and has no adapter gives no sign of its own. Its event loop turning, and then
    /// nothing for a while, is what is left.
    fn await_silence(self: &Rc<Self>, link: &Rc<Link>) {
        let router = Rc::clone(self);
        let id = link.id;
        let answered = link.probe();
        tokio::task::spawn_local(async move {
            if answered.await.is_ok() {
                tokio::time::sleep(router.settings.ready_grace).await;
                router.sign(id, Sign::Silence);
                if router.table.borrow().is_less_than_before(id) {
                    router.unready(id, LESS);
                }
            }
        });
    }

    fn link(&self, id: WorkerId) -> Option<Rc<Link>> {
        self.links.borrow().get(&id).cloned()
    }

    /// Reads what the workers have sent and nobody has looked at yet.
    fn drain_channels(self: &Rc<Self>) {
        let links: Vec<_> = self.links.borrow().values().cloned().collect();
        for link in links {
            for _ in 0..DRAIN_READS {
                // An end or an error stays: the channel's own loop meets it again and deals with it.
                let Ok(Pumped::Some) = link.pump(|frame, message| self.on_frame(&link, frame, message)) else { break };
            }
        }
    }

    fn choose(&self, key: Option<&Key>, tried: &[WorkerId], address: &Address) -> Choice {
        // xorshift64 (Marsaglia 2003): even enough to spread connections.
        let mut random = self.random.get();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        self.random.set(random);
        let mut table = self.table.borrow_mut();
        let balance = self.settings.balance;
        let suits = |worker: &Worker| worker.servers.iter().any(|server| server::is_at(server, address));
        table.choose_by(key, tried, suits, balance, self.now(), random)
    }

    /// Whether one of these workers has not left.
    fn is_any_here(&self, workers: &[WorkerId]) -> bool {
        let table = self.table.borrow();
        workers.iter().any(|id| table.worker(*id).is_some())
    }

    /// Whether it makes sense to wait for a worker.
    fn somebody_may_come(&self) -> bool {
        self.started.elapsed() < self.settings.wait_timeout
            || self.table.borrow().count(Phase::Starting) > 0
            || self.last_departure.get().is_some_and(|at| at.elapsed() < RESTART_HOPE)
    }

    /// Drops the connection that has been silent the longest; says whether there was one.
    fn evict_silent(&self) -> bool {
        self.silent.borrow_mut().pop_first().is_some_and(|(_, evict)| evict.send(()).is_ok())
    }

    fn count_refusal(&self, refusal: Refusal) {
        self.refused.set(self.refused.get() + 1);
        self.metrics.refused(refusal);
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// One line for `systemctl status`.
    fn status_line(&self) -> String {
        let table = self.table.borrow();
        let (ready, wanted, sessions) =
            (table.count(Phase::Ready), self.wanted.get(), table.sessions().max(self.tunnels()));
        let sessions = match sessions {
            1 => "1 session".to_owned(),
            n => format!("{n} sessions"),
        };
        format!("{ready} of {wanted} workers ready, {sessions}")
    }
}
