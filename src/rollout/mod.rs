//! The rolling reload: a new worker first, then the old one drains and goes; one after the other.
//!
//! [`plan`] says who replaces whom (pure), [`Rollout`] does it through systemd and the router. It runs as the router's
//! `ExecReload=`, so it lives as long as systemd's reload job; SIGTERM (`--abort`, a stop of the app, the router's death)
//! reaches it as `stop`.

pub mod companions;
pub mod excess;
pub mod generation;
pub mod ledger;
pub mod lock;
mod one;
pub mod plan;

use crate::config::App;
use crate::router::certificates::{BadCertificate, read_all};
use crate::router::client::{Control, ControlError};
use crate::system::bus::{BusError, Manager, Systemd, Verb};
use crate::system::jobs::{self, Unfinished};
use crate::system::journal::{self, Last};
use crate::system::process::{self, ended};
use crate::unit::plan::Names;
use ledger::{Ledger, State};
use plan::{Move, Old};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// `MESSAGE_ID=` of every line about a reload: `journalctl MESSAGE_ID=…`.
pub const STEP: &str = "5f0e6a1d0c8b4e0a9d6b0f6a4a3f7c21";
/// For one word with the router about a reload.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// For one question to the router, which may be restarting.
const ROUTER_PATIENCE: Duration = Duration::from_secs(10);
const ROUTER_PAUSE: Duration = Duration::from_millis(100);
/// Lines of a failed worker that are told.
const LAST_LINES: u32 = 15;

#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    #[error("{unit} {what}: {reason}")]
    Worker { unit: String, what: &'static str, reason: String, lines: Vec<String> },
    #[error("{0}")]
    Certificate(#[from] BadCertificate),
    #[error("the router cannot be asked: {0}")]
    Router(#[from] ControlError),
    #[error("{0}")]
    Systemd(#[from] BusError),
    #[error("it was told to stop")]
    Aborted,
    /// The app itself is being stopped or restarted: that is more than what an undo would do.
    #[error("the app is being stopped")]
    Stopped,
    #[error("the router ended meanwhile")]
    RouterDied,
}

/// One reload of one app.
pub struct Rollout<'a> {
    pub systemd: &'a Systemd,
    pub manager: Manager,
    pub control: Control,
    pub names: Names,
    pub app: &'a App,
    /// How many workers there shall be.
    pub workers: u32,
    pub stop: CancellationToken,
    /// Its process.
    router: u32,
    /// Who is on trial, who is replaced.
    pub ledger: Ledger,
}

/// A line about the reload for the journal and for whoever watches. `$phase`: `begin`, `step`, `failed`, `done`.
macro_rules! tell {
    ($level:ident, $app:expr, $phase:expr, $($text:tt)*) => {
        tracing::$level!(APP = $app, MESSAGE_ID = STEP, ROLLOUT = $phase, $($text)*)
    };
}

impl<'a> Rollout<'a> {
    pub fn new(
        (systemd, manager): (&'a Systemd, Manager),
        control: Control,
        names: Names,
        (app, workers): (&'a App, u32),
        (router, stop): (u32, CancellationToken),
    ) -> Self {
        let ledger = Ledger::default();
        Self { systemd, manager, control, names, app, workers, stop, router, ledger }
    }

    /// Replaces all workers, or tells why not and leaves those that are left.
    pub async fn run(&self) -> Result<(), RolloutError> {
        let began = Instant::now();
        let outcome = tokio::select! {
            outcome = self.replace_all() => outcome,
            () = self.stop.cancelled() => Err(self.why_stopped().await),
            // systemd starts no other router while this process is there.
            () = ended(self.router) => Err(RolloutError::RouterDied),
        };
        let name = &self.app.name;
        match outcome {
            Ok(()) => {
                self.end().await;
                self.ledger.update(|progress| progress.end(State::Done, None));
                let replaced = self.ledger.now().replaced.len();
                let seconds = began.elapsed().as_secs_f64();
                tell!(
                    info,
                    name,
                    "done",
                    "{name} reloaded: {replaced} new worker{} in {seconds:.1} s",
                    plural(replaced)
                );
                Ok(())
            }
            Err(error) => {
                if let RolloutError::Worker { lines, .. } = &error {
                    tell!(error, name, "step", "{error}");
                    for line in lines {
                        tell!(error, name, "step", "  | {line}");
                    }
                }
                self.undo(&error).await;
                let state = if matches!(error, RolloutError::Stopped) { State::Stopped } else { State::Failed };
                self.ledger.update(|progress| progress.end(state, Some(error.to_string())));
                let left = self.ledger.now().left_behind(name);
                match &error {
                    RolloutError::Worker { .. } => tell!(error, name, "failed", "{name} not reloaded: {left}"),
                    RolloutError::Stopped => tell!(warn, name, "failed", "{name} not reloaded: {error}"),
                    _ => tell!(error, name, "failed", "{name} not reloaded: {error}; {left}"),
                }
                Err(error)
            }
        }
    }

    async fn replace_all(&self) -> Result<(), RolloutError> {
        let (name, surge) = (&self.app.name, self.app.reload.surge.max(1) as usize);
        // At once, because a router that is told to stop stays only for a reload that it knows of.
        let wanted = self.ask(async || self.control.status().await).await?.workers_wanted;
        self.ledger.update(|progress| progress.wanted_before = Some(wanted));
        self.ask(async || self.control.begin_rollout(wanted).await).await?;
        self.renew_certificates().await?;
        self.refresh().await?;
        self.adapt_companions().await?;
        self.tell_settings();
        let (old, mut taken) = self.look().await?;
        let plan = plan::plan(&old, self.workers);
        let at_a_time = if surge == 1 { "one at a time".to_owned() } else { format!("{surge} at a time") };
        tell!(
            info,
            name,
            "begin",
            "{name}: {} worker{} to replace, {at_a_time}",
            plan.moves.len(),
            plural(plan.moves.len())
        );
        self.ask(async || self.control.begin_rollout(self.workers).await).await?;
        self.ledger.update(|progress| {
            progress.workers = plan.moves.len();
            progress.left = old.iter().map(|old| old.slot.clone()).collect();
        });
        for batch in plan.moves.chunks(surge) {
            self.replace(batch, &mut taken).await?;
        }
        for slot in &plan.surplus {
            self.ledger.update(|progress| {
                progress.left.retain(|left| left != slot);
                progress.retiring.push(slot.clone());
            });
            self.retire(vec![self.names.slot(slot)]).await?;
        }
        // What failed before has its heir now.
        for unit in self.systemd.list(&[self.names.slot("*")]).await? {
            if unit.active_state == "failed" {
                let _ = self.systemd.reset_failed(&unit.name).await;
            }
        }
        Ok(())
    }

    /// First of all, and whatever becomes of the workers: certificates run out. With one that cannot be served there is
    /// no reload.
    async fn renew_certificates(&self) -> Result<(), RolloutError> {
        let all = read_all(&self.app.router.listen)?;
        if !all.is_empty() {
            self.ask(async || self.control.renew_certificates(&all).await).await?;
            let name = &self.app.name;
            tell!(info, name, "step", "{name}: new connections get the certificates as they are now");
        }
        Ok(())
    }

    /// Lets systemd read the units again, where it has not.
    async fn refresh(&self) -> Result<(), RolloutError> {
        let router = self.systemd.properties(&self.names.router).await?;
        let worker = self.systemd.properties(&self.names.slot(1)).await?;
        if router.flag("NeedDaemonReload") || worker.flag("NeedDaemonReload") {
            self.systemd.daemon_reload().await?;
        }
        Ok(())
    }

    async fn adapt_companions(&self) -> Result<(), RolloutError> {
        let name = &self.app.name;
        for job in companions::adapt(self.systemd, &self.names, self.app).await? {
            tell!(warn, name, "step", "{} is not as the file says: {}", job.unit, job.reason);
        }
        Ok(())
    }

    /// `[router]` and `[ready]` are on the router's command line, and the router stays.
    fn tell_settings(&self) {
        let Some(line) = process::command_line(self.router) else { return };
        let flags = |word: &&str| word.starts_with("--") && !word.starts_with("--workers=") && *word != "--user";
        let running: BTreeSet<&str> = line.iter().map(String::as_str).filter(flags).collect();
        let wanted = self.app.router.to_args();
        let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).filter(flags).collect();
        if running != wanted {
            let name = &self.app.name;
            tell!(
                warn,
                name,
                "step",
                "listen, [router] or [ready] has changed: that holds from `appctl restart {name}` on"
            );
        }
    }

    /// The workers of now, and the slots that are taken.
    async fn look(&self) -> Result<(Vec<Old>, BTreeSet<String>), RolloutError> {
        let status = self.ask(async || self.control.status().await).await?;
        let (mut old, mut taken) = (Vec::new(), BTreeSet::new());
        for unit in self.systemd.list(&[self.names.slot("*")]).await? {
            let slot = unit.name.split_once('@').and_then(|(_, rest)| rest.strip_suffix(".service"));
            let Some(slot) = slot.map(str::to_owned) else { continue };
            match unit.active_state.as_str() {
                "inactive" | "failed" => continue,
                _ if self.systemd.is_leaving(&unit).await => {}
                _ => {
                    let serves =
                        status.workers.iter().rfind(|worker| worker.slot == slot && worker.state != "starting");
                    old.push(Old { slot: slot.clone(), index: serves.map(|worker| worker.index) });
                }
            }
            taken.insert(slot);
        }
        Ok((old, taken))
    }

    /// Some new workers; when all of them stand, the old ones of their indices go.
    async fn replace(&self, batch: &[Move], taken: &mut BTreeSet<String>) -> Result<(), RolloutError> {
        let name = &self.app.name;
        let since = SystemTime::now();
        let (mut units, mut slots) = (Vec::new(), Vec::new());
        for heir in batch {
            let slot = plan::spare(taken);
            taken.insert(slot.to_string());
            let unit = self.names.slot(slot);
            match &heir.old {
                Some(old) => tell!(info, name, "step", "{} starts, to replace {name}@{old}", short(&unit)),
                None => tell!(info, name, "step", "{} starts", short(&unit)),
            }
            self.ask(async || self.control.promise(slot, heir.index).await).await?;
            // A failed one of long ago may have hit its start limit.
            let _ = self.systemd.reset_failed(&unit).await;
            self.ledger.update(|progress| progress.trial.push(slot.to_string()));
            units.push(unit);
            slots.push(slot);
        }
        let starts: Vec<_> = units.iter().map(|unit| (Verb::Start, unit.clone())).collect();
        let failed = jobs::run(self.systemd, &starts, async |_, unit| {
            let pid = self.systemd.properties(unit).await.ok().and_then(|it| it.u32("MainPID")).unwrap_or(0);
            tell!(info, name, "step", "{} ready (pid {pid})", short(unit));
        })
        .await?;
        if let Some(first) = failed.into_iter().next() {
            return Err(self.failure("did not become ready", first, since));
        }
        self.settle(&units, since).await?;
        let old: Vec<&String> = batch.iter().filter_map(|heir| heir.old.as_ref()).collect();
        // From here on the new ones stay, whatever happens.
        self.ledger.update(|progress| {
            progress.left.retain(|left| !old.contains(&left));
            progress.retiring.extend(old.iter().copied().cloned());
            let trial = std::mem::take(&mut progress.trial);
            progress.replaced.extend(trial);
        });
        for slot in slots {
            self.ask(async || self.control.admit(slot).await).await?;
        }
        self.retire(old.iter().map(|slot| self.names.slot(slot)).collect()).await?;
        for slot in old {
            taken.remove(slot);
        }
        Ok(())
    }

    /// Waits whether any of the new workers dies after all. The router gives them nothing meanwhile.
    async fn settle(&self, units: &[String], since: SystemTime) -> Result<(), RolloutError> {
        let until = Instant::now() + self.app.reload.settle;
        let mut pids = Vec::new();
        for unit in units {
            let properties = self.systemd.properties(unit).await?;
            pids.push((unit, properties.u32("MainPID").unwrap_or(0)));
        }
        let deaths = pids.iter().map(|(_, pid)| Box::pin(ended(*pid)));
        let death = async {
            let mut deaths: Vec<_> = deaths.collect();
            std::future::poll_fn(|context| {
                let dead = deaths.iter_mut().position(|death| death.as_mut().poll(context).is_ready());
                dead.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
            })
            .await
        };
        let _ = tokio::time::timeout_at(until, death).await;
        for (unit, pid) in pids {
            let properties = self.systemd.properties(unit).await?;
            if properties.text("ActiveState") != Some("active") || properties.u32("MainPID") != Some(pid) {
                let failed = Unfinished::now(self.systemd, Verb::Start, unit).await;
                return Err(self.failure("ended when it had just become ready", failed, since));
            }
        }
        Ok(())
    }

    /// Stops old workers: each drains first, by its own `ExecStop=`.
    async fn retire(&self, units: Vec<String>) -> Result<(), RolloutError> {
        let name = &self.app.name;
        let stops: Vec<_> = units.into_iter().map(|unit| (Verb::Stop, unit)).collect();
        // One that does not stop is killed by systemd in the end; it is out of rotation already.
        let left = jobs::run(self.systemd, &stops, async |_, unit| {
            tell!(info, name, "step", "{} drained and stopped", short(unit));
        })
        .await?;
        for job in left {
            tell!(warn, name, "step", "{} did not stop in order: {}", short(&job.unit), job.result);
        }
        self.ledger.update(|progress| progress.retiring.clear());
        Ok(())
    }

    /// Why a new worker is none, with its last lines.
    fn failure(&self, what: &'static str, failed: Unfinished, since: SystemTime) -> RolloutError {
        journal::sync();
        let last = Last { manager: self.manager, unit: &failed.unit, since, lines: LAST_LINES };
        RolloutError::Worker {
            unit: short(&failed.unit).to_owned(),
            what,
            lines: last.of_its_own(failed.invocation).unwrap_or_default(),
            reason: failed.reason,
        }
    }

    /// What SIGTERM means: the unit's own job tells.
    async fn why_stopped(&self) -> RolloutError {
        match self.systemd.job_type(&self.names.router).await {
            Ok(Some(job)) if job == "reload" => RolloutError::Aborted,
            Ok(Some(_)) => RolloutError::Stopped,
            // The job went with another reload, which waited.
            Ok(None) if self.is_reloading().await => RolloutError::Aborted,
            Ok(None) => RolloutError::RouterDied,
            Err(error) => error.into(),
        }
    }

    async fn is_reloading(&self) -> bool {
        let router = self.systemd.properties(&self.names.router).await;
        router.is_ok_and(|router| router.text("ActiveState") == Some("reloading"))
    }

    /// Takes new workers on trial away, and makes the old ones equal again.
    async fn undo(&self, why: &RolloutError) {
        let (trial, outgoing): (Vec<String>, Vec<String>) = {
            let progress = self.ledger.now();
            let units = |slots: &[String]| slots.iter().map(|slot| self.names.slot(slot)).collect();
            (units(&progress.trial), units(&progress.retiring))
        };
        if matches!(why, RolloutError::RouterDied) {
            // systemd starts the next router when this process has ended, and the workers drain by its help.
            for unit in trial.iter().chain(&outgoing) {
                let _ = self.systemd.enqueue(Verb::Stop, unit).await;
            }
            return;
        }
        // The bus may have been what failed.
        let fresh = match why {
            RolloutError::Systemd(_) => Systemd::connect(self.manager).await.ok(),
            _ => None,
        };
        let systemd = fresh.as_ref().unwrap_or(self.systemd);
        let stops: Vec<_> = trial.iter().chain(&outgoing).map(|unit| (Verb::Stop, unit.clone())).collect();
        match jobs::run(systemd, &stops, async |_, _| {}).await {
            Ok(_) => self.ledger.update(|progress| {
                progress.trial.clear();
                progress.retiring.clear();
            }),
            Err(error) => tracing::error!(APP = self.app.name, %error, "cannot stop the new workers: {error}"),
        }
        for unit in trial {
            let _ = systemd.reset_failed(&unit).await;
            tell!(info, self.app.name, "step", "{} removed", short(&unit));
        }
        // The router stays until the other workers have drained too.
        if !matches!(why, RolloutError::Stopped) {
            self.end().await;
        }
    }

    async fn end(&self) {
        // A router that cannot be asked is a new one soon, which knows of no reload.
        if let Err(error) = self.ask(async || self.control.end_rollout().await).await {
            tracing::warn!(APP = self.app.name, %error, "cannot tell the router that the reload is over");
        }
    }

    /// Asks the router; when it is just being restarted, again.
    async fn ask<T>(&self, ask: impl AsyncFn() -> Result<T, ControlError>) -> Result<T, RolloutError> {
        let until = Instant::now() + ROUTER_PATIENCE;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error @ (ControlError::Status(_) | ControlError::Refused(_))) => return Err(error.into()),
                Err(error) if Instant::now() >= until => return Err(error.into()),
                Err(_) => tokio::time::sleep(ROUTER_PAUSE).await,
            }
        }
    }
}

/// `NAME@SLOT`
fn short(unit: &str) -> &str {
    unit.trim_end_matches(".service")
}
/// The end of a word of which there are so many.
fn plural(number: usize) -> &'static str {
    if number == 1 { "" } else { "s" }
}
