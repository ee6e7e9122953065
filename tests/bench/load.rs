//! The load: so many clients at a time, each with its next operation as soon as the one before is done, for a while.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::client::{Connection, Polling, Way, WebSocket, request};
use crate::peers::Peer;
use crate::proc;
use crate::shapes::Load;

/// No operation takes so long, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is still under way when the measured time is over has so long.
const END: Duration = Duration::from_secs(5);
const TEXT: &str = "The quick brown fox jumps over the lazy dog, 0123456789.";

/// What came of one load on one peer.
#[derive(Default, Serialize, Clone)]
pub(crate) struct Outcome {
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    pub(crate) errors: u64,
    /// Kinds of errors, and how often.
    pub(crate) messages: BTreeMap<String, u64>,
    /// CPU seconds in the measured time.
    pub(crate) cpu: Cpu,
    /// Of the middle processes, at its end, in bytes.
    pub(crate) memory: u64,
    /// How much of the processors' time went to what has nothing to do with this benchmark.
    pub(crate) foreign: f64,
}

/// Who used how much.
#[derive(Default, Serialize, Clone, Copy)]
pub(crate) struct Cpu {
    /// What is between clients and workers.
    pub(crate) middle: f64,
    pub(crate) workers: f64,
    pub(crate) clients: f64,
}

impl Cpu {
    fn now(peer: &Peer) -> Self {
        let (middle, all) = (proc::cpu(&peer.middle()), proc::cpu(&proc::tree(&peer.roots())));
        Self { middle, workers: all - middle, clients: proc::cpu(&[std::process::id() as i32]) }
    }

    fn since(self, before: Self) -> Self {
        Self {
            middle: self.middle - before.middle,
            workers: self.workers - before.workers,
            clients: self.clients - before.clients,
        }
    }

    pub(crate) fn all(&self) -> f64 {
        self.middle + self.workers + self.clients
    }
}

impl Outcome {
    /// Of a load that could not even begin: an error, and no figure.
    pub(crate) fn nothing(error: &anyhow::Error) -> Self {
        Self { errors: 1, messages: BTreeMap::from([(format!("{error:#}"), 1)]), ..Self::default() }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// For 10,000 operations, of what `cpu` seconds went to all.
    pub(crate) fn of_many(&self, cpu: f64) -> f64 {
        cpu / self.operations as f64 * 10_000.0
    }
}

/// For how long.
#[derive(Clone, Copy)]
pub(crate) struct Time {
    pub(crate) warm: Duration,
    pub(crate) measured: Duration,
}

impl Time {
    /// The turn before the first round is shorter.
    pub(crate) fn of(self, round: u32) -> Self {
        if round == 0 { Self { measured: self.measured / 2, ..self } } else { self }
    }
}

/// What all lanes of a load share.
#[derive(Default)]
struct Tally {
    operations: Cell<u64>,
    ready: Cell<usize>,
    stop: Cell<bool>,
    errors: RefCell<BTreeMap<String, u64>>,
}

impl Tally {
    fn done(&self) {
        self.operations.set(self.operations.get() + 1);
    }

    fn wrong(&self, error: &anyhow::Error) {
        let mut text: String = format!("{error:#}").chars().take(160).collect();
        // One kind of error is one line, whichever session or process it names.
        if let Some(at) = text.find(r#""sid":""#) {
            text.truncate(at);
        }
        *self.errors.borrow_mut().entry(text).or_default() += 1;
    }
}

/// Each client has an address, as in the world: some proxies choose by it. 250 of them.
fn way(peer: &Peer, number: usize) -> Way {
    Way { from: Ipv4Addr::new(127, 0, 1, 1 + (number % 250) as u8), to: peer.targets[number % peer.targets.len()] }
}

/// Waits until all workers serve, by as many sessions or requests as it takes.
pub(crate) async fn ready(peer: &mut Peer, plain: bool, workers: usize) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(60);
    let mut why = String::new();
    while Instant::now() < limit {
        peer.check()?;
        if peer.is_starting() {
            why = "it has not started".to_owned();
            sleep(Duration::from_millis(50)).await;
            continue;
        }
        match seen(peer, plain, workers).await {
            Ok(seen) if seen.len() == workers => return Ok(()),
            Ok(seen) => why = format!("{} of {workers} workers serve", seen.len()),
            Err(error) => why = format!("{error:#}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
    bail!("not ready within a minute: {why}")
}

/// The processes that serve a handful of clients.
async fn seen(peer: &Peer, plain: bool, workers: usize) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    let mut held = Vec::new();
    for number in 0..workers * 10 {
        let way = way(peer, number);
        let pid = if plain {
            let mut connection = way.connect().await?;
            connection.send(&request("/", None, false, None)).await?;
            let answer = timeout(PATIENCE, connection.response()).await??.body;
            answer.trim_start_matches("hello from ").trim().parse().with_context(|| format!("{answer:?}"))?
        } else {
            let mut socket = timeout(PATIENCE, WebSocket::session(way)).await??;
            let pid = timeout(PATIENCE, socket.who()).await??;
            held.push(socket);
            pid
        };
        pids.insert(pid);
        if pids.len() == workers {
            break;
        }
    }
    for socket in held {
        timeout(PATIENCE, socket.close()).await??;
    }
    Ok(pids)
}

/// Puts the load on the peer and says what came of it.
pub(crate) async fn run(load: Load, peer: &Peer, everybody: &[i32], time: Time, workers: usize) -> Result<Outcome> {
    let tally = Rc::new(Tally::default());
    let mut lanes = JoinSet::new();
    let expected = load.lanes();
    if load == Load::Broadcast {
        broadcast(peer, &tally, &mut lanes, expected, workers).await?;
    } else {
        for number in 0..expected {
            let lane = Lane { load, way: way(peer, number), connection: None, socket: None, session: None };
            lanes.spawn_local(lane.run(Rc::clone(&tally)));
        }
    }
    let limit = Instant::now() + PATIENCE;
    while tally.ready.get() < expected && Instant::now() < limit {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(time.warm).await;
    let before = (Instant::now(), tally.operations.get(), Cpu::now(peer), foreign(everybody));
    sleep(time.measured).await;
    let middle = peer.middle();
    let mut outcome = Outcome {
        operations: tally.operations.get() - before.1,
        seconds: before.0.elapsed().as_secs_f64(),
        cpu: Cpu::now(peer).since(before.2),
        memory: proc::memory(&middle),
        ..Outcome::default()
    };
    let (ours, work, all) = foreign(everybody);
    let (ours_before, work_before, all_before) = before.3;
    outcome.foreign = (((work - work_before) - (ours - ours_before)) / (all - all_before).max(0.01)).max(0.0);
    tally.stop.set(true);
    let ended = async { while lanes.join_next().await.is_some() {} };
    if timeout(END, ended).await.is_err() {
        for _ in 0..lanes.len() {
            tally.wrong(&anyhow::anyhow!("no answer within {} s of the end", END.as_secs()));
        }
        lanes.shutdown().await;
    }
    outcome.messages = tally.errors.take();
    outcome.errors = outcome.messages.values().sum();
    Ok(outcome)
}

/// (CPU seconds of the benchmark and all that it started, seconds that the machine worked, seconds in all)
fn foreign(roots: &[i32]) -> (f64, f64, f64) {
    let (work, all) = proc::machine();
    (proc::cpu(&proc::tree(roots)), work, all)
}

/// One client.
struct Lane {
    load: Load,
    way: Way,
    connection: Option<Connection>,
    socket: Option<WebSocket>,
    session: Option<Polling>,
}

impl Lane {
    async fn run(mut self, tally: Rc<Tally>) {
        if let Err(error) = self.prepare().await {
            tally.wrong(&error);
        }
        tally.ready.set(tally.ready.get() + 1);
        while !tally.stop.get() {
            let done = timeout(PATIENCE, self.operate()).await;
            match done.unwrap_or_else(|_| bail!("no answer within {} s", PATIENCE.as_secs())) {
                Ok(()) => tally.done(),
                Err(error) => {
                    tally.wrong(&error);
                    (self.connection, self.socket, self.session) = (None, None, None);
                    // A peer that is gone is not asked a million times.
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
        if let Err(error) = timeout(PATIENCE, self.leave()).await.unwrap_or_else(|_| bail!("it does not close")) {
            tally.wrong(&error);
        }
    }

    /// What stands before the measurement begins.
    async fn prepare(&mut self) -> Result<()> {
        match self.load {
            Load::Echo => {
                self.socket = Some(timeout(PATIENCE, WebSocket::session(self.way)).await??);
            }
            Load::Polling { keep } => {
                self.session = Some(timeout(PATIENCE, Polling::open(self.way, keep)).await??);
            }
            _ => {}
        }
        Ok(())
    }

    async fn operate(&mut self) -> Result<()> {
        match self.load {
            Load::Connects => {
                let socket = WebSocket::open(self.way).await?;
                timeout(END, socket.close()).await.unwrap_or_else(|_| bail!("it does not close"))
            }
            Load::Sessions => Polling::open(self.way, false).await?.close().await,
            Load::Echo => {
                if self.socket.is_none() {
                    self.socket = Some(WebSocket::session(self.way).await?);
                }
                let Some(socket) = &mut self.socket else { bail!("no socket") };
                socket.echo(TEXT).await
            }
            Load::Polling { keep } => {
                if self.session.is_none() {
                    self.session = Some(Polling::open(self.way, keep).await?);
                }
                let Some(session) = &mut self.session else { bail!("no session") };
                session.echo(TEXT).await
            }
            Load::Http { keep } => {
                let mut connection = match self.connection.take() {
                    Some(connection) => connection,
                    None => self.way.connect().await?,
                };
                connection.send(&request("/", None, keep, None)).await?;
                let response = connection.response().await?;
                ensure!(response.status == 200, "status {}", response.status);
                ensure!(response.body.starts_with("hello from "), "a wrong answer: {:?}", response.body);
                if keep && !response.close {
                    self.connection = Some(connection);
                }
                Ok(())
            }
            Load::Broadcast | Load::Idle => bail!("not a load of lanes"),
        }
    }

    async fn leave(&mut self) -> Result<()> {
        if let Some(socket) = self.socket.take() {
            socket.close().await.context("close")?;
        }
        if let Some(session) = self.session.take() {
            session.close().await?;
        }
        Ok(())
    }
}

/// Clients that all send to all: each has four broadcasts under way, and one is done when every client has it.
async fn broadcast(
    peer: &Peer,
    tally: &Rc<Tally>,
    lanes: &mut JoinSet<()>,
    clients: usize,
    workers: usize,
) -> Result<()> {
    const UNDER_WAY: usize = 4;
    let mut sockets = Vec::new();
    let mut pids = BTreeSet::new();
    for number in 0..clients {
        let mut socket = timeout(PATIENCE, WebSocket::session(way(peer, number))).await??;
        pids.insert(timeout(PATIENCE, socket.who()).await??);
        sockets.push(socket);
    }
    ensure!(pids.len() == workers, "all clients came to {} of {workers} workers", pids.len());
    // How many have not got it yet.
    let missing: Rc<RefCell<HashMap<u64, usize>>> = Rc::default();
    let next = Rc::new(Cell::new(0));
    let (senders, commands): (Vec<_>, Vec<_>) = (0..clients).map(|_| mpsc::unbounded_channel::<u64>()).unzip();
    let senders = Rc::new(senders);
    let begin = move |missing: &RefCell<HashMap<u64, usize>>, sender: usize, senders: &[mpsc::UnboundedSender<u64>]| {
        // Its sender can be read from its number.
        let number = next.get() * clients as u64 + sender as u64;
        next.set(next.get() + 1);
        missing.borrow_mut().insert(number, clients);
        let _ = senders[sender].send(number);
    };
    for sender in 0..clients {
        for _ in 0..UNDER_WAY {
            begin(&missing, sender, &senders);
        }
    }
    for (mut socket, mut commands) in sockets.into_iter().zip(commands) {
        let (tally, missing, senders, begin) =
            (Rc::clone(tally), Rc::clone(&missing), Rc::clone(&senders), begin.clone());
        lanes.spawn_local(async move {
            tally.ready.set(tally.ready.get() + 1);
            let failed = loop {
                if tally.stop.get() {
                    break None;
                }
                tokio::select! {
                    text = timeout(PATIENCE, socket.receive()) => {
                        let got = text.unwrap_or_else(|_| bail!("no broadcast came for {} s", PATIENCE.as_secs()));
                        let number = got.and_then(|text| {
                            let rest = text.strip_prefix(r#"42["all","#).and_then(|rest| rest.split_once(','));
                            match rest {
                                Some((number, rest)) if rest.len() == TEXT.len() + 3 => Ok(number.parse()?),
                                _ => bail!("a wrong broadcast: {text:?}"),
                            }
                        });
                        let number: u64 = match number {
                            Ok(number) => number,
                            Err(error) => break Some(error),
                        };
                        let mut waiting = missing.borrow_mut();
                        let Some(left) = waiting.get_mut(&number) else {
                            break Some(anyhow::anyhow!("a broadcast came twice"));
                        };
                        *left -= 1;
                        if *left == 0 {
                            waiting.remove(&number);
                            drop(waiting);
                            tally.done();
                            begin(&missing, (number % clients as u64) as usize, &senders);
                        }
                    }
                    Some(number) = commands.recv() => {
                        if let Err(error) = socket.send(&format!(r#"42["all",{number},"{TEXT}"]"#)).await {
                            break Some(error);
                        }
                    }
                }
            };
            if let Some(error) = failed {
                tally.wrong(&error);
            }
        });
    }
    Ok(())
}

/// Opens so many sessions, lets them stand, and looks at the middle's memory: before, and with them.
pub(crate) async fn idle(peer: &Peer, everybody: &[i32], count: usize) -> Result<(u64, Outcome)> {
    let before = proc::memory(&peer.middle());
    let width = Rc::new(Semaphore::new(Load::Idle.lanes()));
    let tally = Rc::new(Tally::default());
    let (start, cpu, (ours, work, all)) = (Instant::now(), Cpu::now(peer), foreign(everybody));
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let (width, tally, way) = (Rc::clone(&width), Rc::clone(&tally), way(peer, number));
            spawn_local(async move {
                let _permit = width.acquire().await;
                match timeout(PATIENCE, WebSocket::session(way)).await {
                    Ok(Ok(socket)) => {
                        tally.done();
                        Some(socket)
                    }
                    Ok(Err(error)) => {
                        tally.wrong(&error);
                        None
                    }
                    Err(_) => {
                        tally.wrong(&anyhow::anyhow!("no session within {} s", PATIENCE.as_secs()));
                        None
                    }
                }
            })
        })
        .collect();
    let mut held = Vec::new();
    for task in tasks {
        held.extend(task.await?);
    }
    let seconds = start.elapsed().as_secs_f64();
    sleep(Duration::from_secs(1)).await;
    let middle = peer.middle();
    let (ours_after, work_after, all_after) = foreign(everybody);
    let mut outcome = Outcome {
        operations: tally.operations.get(),
        seconds,
        cpu: Cpu::now(peer).since(cpu),
        memory: proc::memory(&middle),
        foreign: (((work_after - work) - (ours_after - ours)) / (all_after - all).max(0.01)).max(0.0),
        ..Outcome::default()
    };
    // They must still stand.
    for socket in &mut held {
        if let Err(error) = timeout(PATIENCE, socket.echo(TEXT)).await.unwrap_or_else(|_| bail!("no echo")) {
            tally.wrong(&error);
        }
    }
    outcome.messages = tally.errors.take();
    outcome.errors = outcome.messages.values().sum();
    Ok((before, outcome))
}
