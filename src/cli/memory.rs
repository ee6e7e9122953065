//! `appctl memory NAME`, what `NAME-memory.service` runs: looks now and then how much memory each worker uses, and replaces
//! one that uses more than `limits.memory_reload`. Its words go to the journal.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::apps;
use super::conclude;
use super::exit::{DONE, Failure};
use super::names;
use super::rollout::{lock, unlockable, until_told};
use crate::config::{Scope, value};
use crate::rollout::excess::{Excess, Finding, Seen};
use crate::rollout::ledger::{self, Ledger, Progress, State};
use crate::rollout::{CONTROL_TIMEOUT, Rollout, RolloutError};
use crate::router::client::Control;
use crate::system::bus::Systemd;
use crate::system::{log, memory, place};
use crate::unit::plan::Names;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What a worker may use
    #[arg(long, value_parser = size)]
    limit: u64,
    /// How long it is from look to look
    #[arg(long, value_parser = super::inside::span, default_value = "10s")]
    every: Duration,
    name: String,
}

fn size(text: &str) -> Result<u64, String> {
    value::read_size(text).map_err(|wrong| wrong.reason)
}

pub(super) async fn run(arguments: &Arguments, scope: Scope) -> Result<u8, Failure> {
    log::init(&arguments.name);
    let stop = until_told()?;
    let socket = place::control(scope == Scope::User, &arguments.name)
        .ok_or_else(|| Failure::failed("XDG_RUNTIME_DIR is not set: where is the router?"))?;
    let keeper = Keeper {
        app: &arguments.name,
        scope,
        names: names::units(scope, &arguments.name),
        limit: arguments.limit,
        control: Control::new(socket, CONTROL_TIMEOUT),
        stop,
    };
    keeper.clear_away().await?;
    let (began, mut excess) = (Instant::now(), Excess::new(arguments.limit, arguments.every));
    loop {
        tokio::select! {
            () = tokio::time::sleep(arguments.every) => {}
            () = keeper.stop.cancelled() => return Ok(DONE),
        }
        let workers = tokio::select! {
            workers = keeper.look() => workers,
            () = keeper.stop.cancelled() => return Ok(DONE),
        };
        for finding in excess.look(began.elapsed(), &workers) {
            match finding {
                Finding::Early { seen, age } => keeper.tell_early(&seen, age),
                Finding::Replace(seen) => match keeper.replace(&seen, &excess).await {
                    Ok(true) => excess.replaced(began.elapsed(), seen.index),
                    Ok(false) => {}
                    Err(reason) if keeper.stop.is_cancelled() => {
                        tracing::info!(APP = keeper.app, "worker {} is not replaced: {reason}", seen.slot);
                    }
                    Err(reason) => {
                        let pause = value::write_span(excess.failed(began.elapsed(), seen.index));
                        let slot = &seen.slot;
                        tracing::error!(
                            APP = keeper.app,
                            "worker {slot} is not replaced, and serves on: {reason}; the next try is in {pause}"
                        );
                    }
                },
            }
        }
    }
}

/// Who looks after the memory of one app.
struct Keeper<'a> {
    app: &'a str,
    scope: Scope,
    names: Names,
    limit: u64,
    control: Control,
    stop: CancellationToken,
}

impl Keeper<'_> {
    fn is_user(&self) -> bool {
        self.scope == Scope::User
    }

    /// The workers that serve, and what each uses. A router that cannot be asked is a new one soon.
    async fn look(&self) -> Vec<Seen> {
        let Ok(status) = self.control.status().await else { return Vec::new() };
        let serving = status.workers.into_iter().filter(|worker| worker.state == "ready" && !worker.trial);
        serving
            .filter_map(|worker| {
                let bytes = memory::of_unit(worker.pid, &self.names.slot(&worker.slot));
                match bytes {
                    Ok(bytes) => Some(Seen { slot: worker.slot, index: worker.index, pid: worker.pid, bytes }),
                    Err(error) => {
                        tracing::debug!(APP = self.app, %error, "worker {} cannot be measured", worker.slot);
                        None
                    }
                }
            })
            .collect()
    }

    /// What it uses, and that this is too much.
    fn tell(&self, seen: &Seen, more: &str) -> String {
        let (slot, limit) = (&seen.slot, value::write_size(self.limit));
        format!("worker {slot} uses {}, more than limits.memory_reload = {limit}{more}", mebibytes(seen.bytes))
    }

    fn tell_early(&self, seen: &Seen, age: Duration) {
        let age = value::write_span(age);
        let more = format!(
            ", so soon after its start: it is replaced when it has run for {age}, and its heir later still if that does \
             no better. Is the limit too low?"
        );
        tracing::warn!(APP = self.app, "{}", self.tell(seen, &more));
    }

    /// Replaces a worker; `false`: there is no need any more. The error is for people.
    async fn replace(&self, seen: &Seen, excess: &Excess) -> Result<bool, String> {
        let lock = lock(self.app, self.scope, &self.stop, || {}).await;
        let Some(_lock) = lock.map_err(|error| unlockable(self.app, &error).to_string())? else { return Ok(false) };
        // Others may have moved workers meanwhile.
        let now = self.look().await.into_iter().find(|now| (&now.slot, now.pid) == (&seen.slot, seen.pid));
        let Some(seen) = now.filter(|now| excess.is_above(now.bytes)) else { return Ok(false) };
        let app = apps::in_force(self.scope, self.app)?;
        let manager = apps::manager(self.scope);
        let systemd = Systemd::connect(manager).await.map_err(|error| error.to_string())?;
        let router = systemd.properties(&self.names.router).await.map_err(|error| error.to_string())?;
        // A reload goes first, and makes this superfluous.
        if router.text("ActiveState") != Some("active") {
            return Ok(false);
        }
        tracing::warn!(APP = self.app, "{}", self.tell(&seen, ": replacing it"));
        let status = self.control.status().await.map_err(|error| error.to_string())?;
        let mut rollout = Rollout::new(
            (&systemd, manager),
            self.control.clone(),
            self.names.clone(),
            (&app, status.workers_wanted),
            (router.u32("MainPID").unwrap_or(0), self.stop.clone()),
        );
        rollout.ledger = Ledger::new(place::replacement(self.is_user(), self.app), Progress::begin());
        let outcome = rollout.replace_one(&seen.slot).await;
        let state = if outcome.is_ok() { State::Done } else { State::Failed };
        rollout.ledger.update(|progress| {
            progress.end(state, None);
            progress.concluded = true;
        });
        outcome.map_err(|error| {
            if let RolloutError::Worker { lines, .. } = &error {
                for line in lines {
                    tracing::error!(APP = self.app, "  | {line}");
                }
            }
            error.to_string()
        })
    }

    /// A replacement whose process was killed: its new worker goes, or where that has taken over the old one does.
    async fn clear_away(&self) -> Result<(), Failure> {
        let written = place::replacement(self.is_user(), self.app);
        let unfinished = |path: &std::path::PathBuf| ledger::read(path).filter(|before| !before.concluded);
        if written.as_ref().and_then(unfinished).is_none() {
            return Ok(());
        }
        let lock = lock(self.app, self.scope, &self.stop, || {}).await;
        let Some(_lock) = lock.map_err(|error| unlockable(self.app, &error))? else { return Ok(()) };
        let Some(mut progress) = written.as_ref().and_then(unfinished) else { return Ok(()) };
        if !progress.replaced.is_empty() {
            let left = std::mem::take(&mut progress.left);
            progress.retiring.extend(left);
        }
        let bus = |error| Failure::of_bus(error, self.scope);
        let systemd = Systemd::connect(apps::manager(self.scope)).await.map_err(bus)?;
        let ledger = Ledger::new(written, progress);
        conclude::clean(&systemd, &self.names, self.app, &ledger, true).await.map_err(bus)?;
        if let Err(error) = self.control.end_rollout().await {
            tracing::warn!(APP = self.app, %error, "cannot tell the router that the replacement is over");
        }
        ledger.update(|progress| {
            progress.end(State::Failed, Some("its process was killed".to_owned()));
            progress.concluded = true;
        });
        Ok(())
    }
}

/// Rounded up, so that it is not the limit itself.
fn mebibytes(bytes: u64) -> String {
    format!("{}M", bytes.div_ceil(1 << 20))
}
