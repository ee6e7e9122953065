//! `appctl reload NAME… | all`: new workers in the place of the old ones, one after the other, without a gap.
//!
//! The reload runs under systemd, as `systemctl reload NAME` would have it; this command queues it and watches. Its lines
//! come from the journal, so that Ctrl-C ends the watching and not the reload.

use std::process::Stdio;
use std::time::{Duration, SystemTime};

use clap::Args;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::apps;
use super::certificates;
use super::conclude::on_hold;
use super::exit::{DONE, FAILED, Failure, NOT_RUNNING};
use super::manage::{Manager, user_flag};
use super::names::{self, Asked, Target};
use super::of_file::Anew;
use super::print::Printer;
use super::restart::listens_elsewhere;
use super::selector;
use crate::config::Scope;
use crate::rollout::STEP;
use crate::system::bus::{self, BusError, Verb};

/// Interrupted by Ctrl-C.
const INTERRUPTED: u8 = 130;
/// For the journal's last lines, when the job has ended.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Between two looks at a reload that is being stopped.
const ABORT_PAUSE: Duration = Duration::from_millis(50);
/// After the line that ends a reload, for that of another one.
const AFTER_END: Duration = Duration::from_millis(150);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps, `all`, /regex/, or a file that describes apps, which is read again
    #[arg(required = true)]
    pub(super) names: Vec<String>,
    #[command(flatten)]
    pub(super) anew: Anew,
    /// Stop the reload that is under way, and those that wait: what is replaced stays, the old workers that are left
    /// stay too
    #[arg(long)]
    abort: bool,
    /// Read the certificates of TLS addresses again, and nothing else (a reload does that too)
    #[arg(long, conflicts_with = "abort")]
    certificates: bool,
    /// Only print the calls to systemd that it would take
    #[arg(long, conflicts_with_all = ["abort", "certificates"])]
    pub(super) dry_run: bool,
}

impl Arguments {
    /// A plain reload.
    pub(super) fn of(names: Vec<String>) -> Self {
        Self { names, anew: Anew::default(), abort: false, certificates: false, dry_run: false }
    }

    pub(super) fn is_plain(&self) -> bool {
        !self.abort && !self.certificates
    }
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let mut apps = Vec::new();
    for (scope, target) in selector::targets(&arguments.names, asked).await? {
        match target {
            Target::App(name) => apps.push((scope, name)),
            Target::Worker { app, slot } => {
                return Err(Failure::Usage(format!(
                    "a reload is of a whole app; `appctl restart {app}@{slot}` stops and starts one worker"
                )));
            }
        }
    }
    if arguments.abort {
        let mut code = DONE;
        for (scope, name) in apps {
            code = code.max(abort(scope, &name, printer).await?);
        }
        return Ok(code);
    }
    if arguments.certificates {
        let mut code = DONE;
        for (scope, name) in apps {
            code = code.max(certificates::renew(scope, &name, printer).await.or_else(|it| it.of_one(printer))?);
        }
        return Ok(code);
    }
    let several = apps.len() > 1;
    let all = apps.iter().map(|(scope, name)| one(*scope, name, several, printer));
    let all = futures_util::future::join_all(all);
    tokio::select! {
        codes = all => {
            let mut code = DONE;
            for one in codes {
                code = code.max(one?);
            }
            Ok(code)
        }
        _ = tokio::signal::ctrl_c() => {
            let names = arguments.names.join(" ");
            printer.note(&format!("the reload goes on; `appctl reload --abort {names}` stops it where it stands"));
            Ok(INTERRUPTED)
        }
    }
}

/// Reloads one app and tells how it goes.
async fn one(scope: Scope, name: &str, several: bool, printer: &Printer) -> Result<u8, Failure> {
    // A file with mistakes is told here, with its lines; the reload itself would only refuse it.
    let loaded = match apps::load(scope, name, printer) {
        Ok(loaded) => loaded,
        Err(Failure::Told(code)) => {
            printer.error(&format!("{name} not reloaded: its file has mistakes; nothing changed"));
            return Ok(code);
        }
        Err(failure) => return Err(failure),
    };
    super::secrets::refuse(&loaded.app)?;
    let manager = Manager::connect(scope).await?;
    let names = names::units(scope, name);
    let state = manager.properties(&names.router).await?;
    if !["active", "reloading", "activating"].contains(&state.text("ActiveState").unwrap_or_default()) {
        printer.error(&format!("{name} is not running: appctl{} start {name}", user_flag(scope)));
        return Ok(NOT_RUNNING);
    }
    if state.text("ActiveState") == Some("reloading") {
        printer.note(&format!("{name}: another reload is under way, this one comes after it"));
    }
    let mut watch = Watch::begin(apps::manager(scope), name);
    let wanted = [(Verb::Reload, names.router.clone())];
    let job = manager.run(&wanted, async |_, _| {});
    tokio::pin!(job);
    let unfinished = loop {
        tokio::select! {
            ended = &mut job => break ended?,
            line = watch.next() => watch.show(line, several, printer),
        }
    };
    let result = unfinished.first().map(|job| job.result.as_str());
    if matches!(result, None | Some("failed")) {
        watch.last_words(several, printer).await;
    }
    match result {
        // A restart takes the job of the reload that it cuts short for its own.
        None if watch.failed => {}
        None => {
            if listens_elsewhere(&manager, &loaded).await {
                printer.warning(&format!(
                    "{name}: its addresses have changed in the file; the new ones hold from `appctl restart {name}` on"
                ));
            }
            return Ok(DONE);
        }
        // Its lines have said why.
        Some("failed") if watch.ended => {}
        Some("failed") => {
            let hint = format!("journalctl{} MESSAGE_ID={STEP} APP={name}", user_flag(scope));
            printer.error(&format!("{name} not reloaded; {hint} may tell why"));
        }
        Some("canceled") => printer.error(&format!("{name} not reloaded: another command cancelled it")),
        Some(other) => printer.error(&format!("{name} not reloaded: {other}")),
    }
    if apps::is_held(scope, name) {
        printer.warning(&on_hold(scope, name)?);
    }
    Ok(FAILED)
}

/// Stops the reload under way, and those that wait for its end: systemd makes one job of them all.
async fn abort(scope: Scope, name: &str, printer: &Printer) -> Result<u8, Failure> {
    let manager = Manager::connect(scope).await?;
    let router = names::units(scope, name).router;
    let state = async || {
        let properties = manager.properties(&router).await?;
        Ok::<_, Failure>(properties.text("ActiveState").unwrap_or_default().to_owned())
    };
    let job = manager.systemd.job(&router).await;
    let waiting = match job {
        Ok(job) => job.filter(|job| job.waits && job.kind == "reload"),
        Err(BusError::NoSuchUnit(_)) => None,
        Err(error) => return Err(manager.failure(error)),
    };
    let under_way = state().await? == "reloading";
    if let Some(job) = &waiting {
        match manager.systemd.cancel(job).await {
            // It may have begun, or ended, in this instant.
            Ok(()) | Err(BusError::Refused(_)) => {}
            Err(error) => return Err(manager.failure(error)),
        }
    }
    if !under_way {
        // One that waits for the end of a start.
        if waiting.is_some() {
            printer.note(&format!("the reload of {name} that waited is cancelled; nothing changed"));
            return Ok(DONE);
        }
        printer.error(&format!("no reload of {name} is under way"));
        return Ok(FAILED);
    }
    match manager.systemd.signal_control(&router, Signal::SIGTERM as i32).await {
        Ok(()) => {}
        Err(error @ (BusError::Denied(_) | BusError::Unreachable(_))) => return Err(manager.failure(error)),
        Err(error) => {
            printer.error(&format!("the reload of {name} cannot be stopped: {error}"));
            return Ok(FAILED);
        }
    }
    while state().await? == "reloading" {
        tokio::time::sleep(ABORT_PAUSE).await;
    }
    let all = if waiting.is_some() { ", and the one that waited is cancelled" } else { "" };
    printer.note(&format!("the reload of {name} is stopped{all}; `appctl status {name}` shows where it stands"));
    if apps::is_held(scope, name) {
        printer.warning(&on_hold(scope, name)?);
    }
    Ok(DONE)
}

/// The journal's lines about reloads of one app, as they come.
struct Watch {
    /// `None`: there is no journal to read.
    journal: Option<(Child, Lines<BufReader<ChildStdout>>)>,
    /// Microseconds since 1970; older lines are of other reloads.
    since: u128,
    /// The latest line was the last one of a reload.
    ended: bool,
    /// That reload failed.
    failed: bool,
}

impl Watch {
    fn begin(manager: bus::Manager, name: &str) -> Self {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let mut command = Command::new("journalctl");
        // Not --user: a user's lines are in the system's journal where that is volatile (journald.conf(5), SplitMode=).
        let writer = match manager {
            bus::Manager::System => 0,
            bus::Manager::User => nix::unistd::geteuid().as_raw(),
        };
        command.args(["--quiet", "--no-pager", "--follow", "--lines=all", "--output=json"]);
        command.arg(format!("--since=@{}", since.as_secs()));
        command.args([format!("APP={name}"), format!("MESSAGE_ID={STEP}"), format!("_UID={writer}")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let journal = command.spawn().ok().and_then(|mut child| {
            let lines = BufReader::new(child.stdout.take()?).lines();
            Some((child, lines))
        });
        Self { journal, since: since.as_micros(), ended: false, failed: false }
    }

    /// The next line; never, when the journal cannot be read.
    async fn next(&mut self) -> Option<Value> {
        let Some((_, lines)) = &mut self.journal else {
            return std::future::pending().await;
        };
        match lines.next_line().await {
            Ok(Some(line)) => serde_json::from_str(&line).ok(),
            Ok(None) | Err(_) => {
                self.journal = None;
                None
            }
        }
    }

    fn show(&mut self, line: Option<Value>, several: bool, printer: &Printer) {
        let Some(line) = line else { return };
        let text = |field: &str| line[field].as_str().unwrap_or_default();
        if text("__REALTIME_TIMESTAMP").parse::<u128>().is_ok_and(|at| at < self.since) {
            return;
        }
        // Told at the end, of all reloads alike.
        if text("ROLLOUT") == "held" {
            return;
        }
        self.failed = text("ROLLOUT") == "failed";
        self.ended = self.failed || text("ROLLOUT") == "done";
        let message = text("MESSAGE");
        let message = if several && message.starts_with("  |") {
            format!("{}: {}", text("APP"), message.trim_start())
        } else {
            message.to_owned()
        };
        match text("PRIORITY").parse::<u8>() {
            Ok(..=3) if message.starts_with("  |") => printer.detail(&message),
            Ok(..=3) => printer.error(&message),
            Ok(4) => printer.warning(&message),
            _ => printer.note(&message),
        }
    }

    /// What is on its way when the job has ended.
    async fn last_words(&mut self, several: bool, printer: &Printer) {
        let until = tokio::time::Instant::now() + LAST_WORDS;
        while self.journal.is_some() {
            let patience = if self.ended { tokio::time::Instant::now() + AFTER_END } else { until };
            match tokio::time::timeout_at(patience.min(until), self.next()).await {
                Ok(line) => self.show(line, several, printer),
                Err(_) => return,
            }
        }
    }
}
