//! `appctl rollout NAME`, the router's `ExecReload=`: the rolling reload itself. Its words go to the journal.
//!
//! What follows from its end is the second `ExecReload=`'s, [`super::conclude`], which comes whatever this one dies of.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::apps;
use super::conclude;
use super::counted;
use super::exit::{DONE, FAILED, Failure};
use super::names;
use super::print::Printer;
use super::stopping;
use crate::config::Scope;
use crate::generator::held;
use crate::rollout::generation::{self, Generations};
use crate::rollout::ledger::{self, Ledger, Progress, State};
use crate::rollout::lock::Lock;
use crate::rollout::{CONTROL_TIMEOUT, Rollout, RolloutError, STEP};
use crate::router::client::Control;
use crate::system::bus::Systemd;
use crate::system::{log, place};

/// Cancelled by SIGTERM. Needs a tokio runtime.
pub(super) fn until_told() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let mut term = signal(SignalKind::terminate()).map_err(|error| Failure::failed(error.to_string()))?;
    let told = stop.clone();
    tokio::spawn(async move {
        term.recv().await;
        told.cancel();
    });
    Ok(stop)
}

pub(super) async fn run(name: &str, scope: Scope, printer: &Printer) -> Result<u8, Failure> {
    log::init(name);
    let user = scope == Scope::User;
    let written = place::reload(user, name);
    // What a reload before this one left behind, if nobody has seen to it, is left behind by this one as well.
    let last = written.as_deref().and_then(ledger::read);
    let generations =
        Generations::of(place::generation(user, name).as_deref().and_then(generation::started), last.as_ref());
    let before = last.filter(|before| !before.concluded).unwrap_or_default();
    let progress = Progress { generation: generations.next(), before: generations, ..Progress::begin() };
    let ledger = Ledger::new(written, Progress { trial: before.trial, retiring: before.retiring, ..progress });
    let loaded = match apps::read(scope, name) {
        Ok(loaded) => loaded,
        Err(problem) => {
            ledger.update(|progress| progress.end(State::Failed, Some(problem.clone())));
            tracing::error!(
                APP = name,
                MESSAGE_ID = STEP,
                ROLLOUT = "failed",
                "{name} not reloaded: {problem}; nothing changed (`appctl check {name}` tells it all)"
            );
            return Ok(FAILED);
        }
    };
    let stop = until_told()?;
    let socket = place::control(user, name)
        .ok_or_else(|| Failure::failed("XDG_RUNTIME_DIR is not set: where is the router?"))?;
    let manager = apps::manager(scope);
    let systemd = Systemd::connect(manager).await.map_err(|error| Failure::of_bus(error, scope))?;
    let names = names::units(scope, name);
    // systemd's word to ExecReload=: by now the router may have ended.
    let router = std::env::var("MAINPID").ok().and_then(|pid| pid.parse().ok()).unwrap_or(0);
    let waits = || {
        tracing::info!(
            APP = name,
            MESSAGE_ID = STEP,
            ROLLOUT = "step",
            "{name}: a worker is being replaced, the reload comes after that"
        );
    };
    // None when it is told to stop, which it finds soon enough.
    let lock = lock(name, scope, &stop, waits).await.map_err(|error| unlockable(name, &error))?;
    conclude::clean(&systemd, &names, name, &ledger, true).await.map_err(|error| Failure::of_bus(error, scope))?;
    let places = apps::places(scope)?;
    if apps::lift(scope, name)? {
        systemd.daemon_reload().await.map_err(|error| Failure::of_bus(error, scope))?;
    }
    let mut rollout = Rollout::new(
        (&systemd, manager),
        Control::new(socket, CONTROL_TIMEOUT),
        names,
        (&loaded.app, loaded.workers()),
        (router, stop),
    );
    rollout.ledger = ledger;
    let outcome = rollout.run().await;
    drop(lock);
    match outcome {
        Ok(()) => {
            counted::add(scope, name, None);
            if let Err(error) = held::prove(&places, name, &loaded.text) {
                tracing::warn!(APP = name, %error, "cannot keep what was reloaded, for a later reload that fails: {error}");
            }
            Ok(DONE)
        }
        Err(RolloutError::Stopped) => {
            // systemd runs no ExecStop= of a unit that it stops in the middle of a reload.
            stopping::run(name, scope, printer).await
        }
        Err(_) => Ok(FAILED),
    }
}

/// The right to move an app's workers. `None`: told to stop while it waited.
pub(super) async fn lock(
    name: &str,
    scope: Scope,
    stop: &CancellationToken,
    waits: impl FnOnce(),
) -> io::Result<Option<Lock>> {
    let path = place::lock(scope == Scope::User, name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "XDG_RUNTIME_DIR is not set"))?;
    tokio::select! {
        lock = Lock::take(&path, waits) => lock.map(Some),
        () = stop.cancelled() => Ok(None),
    }
}

/// What to say when there is no getting it.
pub(super) fn unlockable(name: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("the workers of {name} cannot be reserved for this command: {error}"))
}
