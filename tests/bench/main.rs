//! Compares appctl with what stands between clients and workers elsewhere. Started by `tests/bench/run`, which says how
//! each peer is set up.

mod client;
mod load;
mod peers;
mod proc;
mod report;
mod shapes;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use load::{Outcome, Time};
use peers::{Kind, Peer, Plan};
use report::{Report, Row};
use shapes::{Load, SHAPES, Shape};

/// Compares appctl with its peers, under several shapes of load, in turns.
#[derive(Parser)]
#[command(name = "tests/bench/run", bin_name = "tests/bench/run", after_help = after_help())]
struct Options {
    /// Only these shapes of load
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(SHAPES.iter().map(|shape| shape.name)), value_name = "SHAPE")]
    shapes: Vec<String>,
    /// Short rounds: whether it works at all, not how fast
    #[arg(long)]
    quick: bool,
    /// Only these peers; appctl itself is always there
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.name())))]
    peers: Vec<String>,
    /// How often each peer has its turn, after one that is not counted (5; 2 with --quick)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// How long a turn is measured (2; 0.3 with --quick)
    #[arg(long)]
    seconds: Option<f64>,
    /// Workers of each peer
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Give up, with exit status 2, where other programs use the machine before it begins
    #[arg(long)]
    only_when_quiet: bool,
    /// `cargo bench` says so
    #[arg(long, hide = true)]
    bench: bool,
}

fn after_help() -> String {
    let peers: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    format!("Shapes of load:\n{}\nPeers: {}", report::shapes(), peers.join(", "))
}

impl Options {
    fn time(&self) -> Time {
        let seconds = self.seconds.unwrap_or(if self.quick { 0.3 } else { 2.0 }).clamp(0.1, 600.0);
        Time { warm: Duration::from_secs_f64(seconds / 5.0), measured: Duration::from_secs_f64(seconds) }
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }

    fn wants(&self, kind: Kind) -> bool {
        self.peers.is_empty() || kind.is_ours() || self.peers.iter().any(|name| name == kind.name())
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    let all = async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        // What is given up here ends all processes that it has started.
        tokio::select! {
            sound = bench(&options) => sound.map(ExitCode::from),
            _ = interrupt.recv() => Ok(ExitCode::from(130)),
            _ = terminate.recv() => Ok(ExitCode::from(143)),
            _ = hangup.recv() => Ok(ExitCode::from(129)),
        }
    };
    match tokio::task::LocalSet::new().block_on(&runtime, all) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where logs and results go: the build directory.
fn output() -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no build directory")?;
    let directory = target.join("bench");
    std::fs::create_dir_all(directory.join("logs"))?;
    Ok(directory)
}

/// All shapes. Gives the exit code: 1 if anything of ours was wrong.
async fn bench(options: &Options) -> Result<u8> {
    let directory = output()?;
    more_files()?;
    let started = Instant::now();
    let about = about(options);
    println!("{}", about["machine"].as_str().unwrap_or(""));
    println!(
        "{} workers each; {} rounds of {} s, in turns",
        options.workers,
        options.rounds(),
        options.time().measured.as_secs_f64()
    );
    let busy_before = foreign_before().await;
    let busy = busy_before > report::QUIET;
    println!(
        "Before it began, other programs took {:.1} % of the processors' time{}",
        busy_before * 100.0,
        if busy { ": THE MACHINE IS BUSY, ratios by speed will be off" } else { "" }
    );
    if busy && options.only_when_quiet {
        return Ok(2);
    }
    let mut report = Report { results: Vec::new(), busy_before };
    for shape in &SHAPES {
        if options.shapes.is_empty() || options.shapes.iter().any(|name| name == shape.name) {
            let rows = measure(shape, options, &directory.join("logs")).await?;
            Report::print(shape, &rows)?;
            report.results.push((shape, rows));
        }
    }
    report.finish(&about, &directory.join("latest.json"))?;
    println!("Took {} s.", started.elapsed().as_secs());
    Ok(u8::from(!report.ours_is_sound()))
}

async fn measure(shape: &'static Shape, options: &Options, logs: &Path) -> Result<Vec<Row>> {
    let kinds: Vec<Kind> = shape.peers.iter().copied().filter(|kind| options.wants(*kind)).collect();
    let mut rows: Vec<Row> = kinds.iter().map(|kind| Row::new(*kind)).collect();
    if shape.load == Load::Idle {
        // One after the other: so many connections are enough for one machine.
        for row in &mut rows {
            let mut peers = start(shape, options, std::slice::from_mut(row), logs).await;
            if let Some(Some(peer)) = peers.first_mut() {
                let count = if options.quick { 500 } else { 5000 };
                match load::idle(peer, &roots(peer), count).await {
                    Ok((before, outcome)) => {
                        row.memory_before = Some(before);
                        row.rounds.push(outcome);
                    }
                    Err(error) => row.missing = Some(format!("{error:#}")),
                }
            }
        }
        return Ok(rows);
    }
    let mut peers = start(shape, options, &mut rows, logs).await;
    let everybody: Vec<i32> = peers.iter().flatten().flat_map(roots).collect();
    // In the first turn Node compiles its code: only its errors count.
    for round in 0..=options.rounds() {
        for (row, place) in rows.iter_mut().zip(&mut peers) {
            let Some(peer) = place else { continue };
            let outcome =
                load::run(shape.load, peer, &everybody, options.time().of(round), options.workers.into()).await;
            let outcome = outcome.unwrap_or_else(|error| Outcome::nothing(&error));
            if round == 0 {
                row.cold = Some(outcome);
            } else {
                row.rounds.push(outcome);
            }
            if let Err(error) = peer.check() {
                row.missing = Some(format!("after {} rounds: {error:#}", row.rounds.len()));
                *place = None;
            }
        }
    }
    Ok(rows)
}

/// This process and those of a peer.
fn roots(peer: &Peer) -> Vec<i32> {
    let mut all = peer.roots();
    all.push(std::process::id() as i32);
    all
}

/// Starts the rows' peers and waits until all their workers serve. What cannot be started has its reason in its row.
async fn start(shape: &Shape, options: &Options, rows: &mut [Row], logs: &Path) -> Vec<Option<Peer>> {
    let mut peers = Vec::new();
    for row in rows.iter_mut() {
        let log = logs.join(format!("{}-{}.log", shape.name, row.kind.name()));
        let plan = Plan {
            plain: shape.load.is_plain(),
            broadcast: shape.load == Load::Broadcast,
            workers: options.workers.into(),
            log: &log,
        };
        peers.push(Peer::start(row.kind, &plan).map_err(|error| row.missing = Some(format!("{error:#}"))).ok());
    }
    for (row, place) in rows.iter_mut().zip(&mut peers) {
        if let Some(peer) = place
            && let Err(error) = load::ready(peer, shape.load.is_plain(), options.workers.into()).await
        {
            row.missing = Some(format!("{error:#}"));
            *place = None;
        }
    }
    peers
}

/// The part of the processors' time that others take while nothing of ours runs.
async fn foreign_before() -> f64 {
    let own = [std::process::id() as i32];
    let before = (proc::machine(), proc::cpu(&own));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = (proc::machine(), proc::cpu(&own));
    let (work, all) = (after.0.0 - before.0.0, after.0.1 - before.0.1);
    ((work - (after.1 - before.1)) / all.max(0.01)).max(0.0)
}

/// Thousands of connections need as many files, in the children too.
fn more_files() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const WANTED: u64 = 16_500;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(most >= WANTED, "only {most} open files are allowed here; {WANTED} are needed (ulimit -Hn)");
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(())
}

/// On what and with what.
fn about(options: &Options) -> serde_json::Value {
    let (name, count) = proc::processors();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let machine = format!("{count} × {name}, Linux {}", kernel.trim());
    let version = |command: Result<Command>, flag: &str| {
        let output = command.ok()?.arg(flag).output().ok()?;
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        Some(String::from_utf8_lossy(&text).lines().next()?.to_owned())
    };
    json!({
        "machine": machine,
        "workers": options.workers, "rounds": options.rounds(), "seconds": options.time().measured.as_secs_f64(),
        "quick": options.quick,
        "versions": {
            "appctl": env!("CARGO_PKG_VERSION"),
            "node": version(Ok(Command::new("node")), "--version"),
            "nginx": version(peers::tool("nginx"), "-v"),
            "haproxy": version(peers::tool("haproxy"), "-v"),
            "redis": version(peers::tool("redis"), "--version"),
        },
    })
}
