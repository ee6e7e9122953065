//! `appctl rollout NAME`, the router's `ExecReload=`: the rolling reload itself. Its words go to the journal.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::apps;
use super::exit::{DONE, FAILED, Failure};
use super::names;
use super::print::Printer;
use super::stopping;
use crate::config::Scope;
use crate::rollout::{Rollout, RolloutError, STEP};
use crate::router::client::Control;
use crate::system::bus::Systemd;
use crate::system::{log, place};

const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(name: &str, scope: Scope, printer: &Printer) -> Result<u8, Failure> {
    log::init(name);
    let loaded = match apps::read(scope, name) {
        Ok(loaded) => loaded,
        Err(problem) => {
            tracing::error!(
                APP = name,
                MESSAGE_ID = STEP,
                ROLLOUT = "failed",
                "{name} not reloaded: {problem}; nothing changed (`appctl check {name}` tells it all)"
            );
            return Ok(FAILED);
        }
    };
    let stop = CancellationToken::new();
    let mut term = signal(SignalKind::terminate()).map_err(|error| Failure::failed(error.to_string()))?;
    let told = stop.clone();
    tokio::spawn(async move {
        term.recv().await;
        told.cancel();
    });
    let socket = place::control(scope == Scope::User, name)
        .ok_or_else(|| Failure::failed("XDG_RUNTIME_DIR is not set: where is the router?"))?;
    let manager = apps::manager(scope);
    let systemd = Systemd::connect(manager).await.map_err(|error| Failure::of_bus(error, scope))?;
    // systemd's word to ExecReload=: by now the router may have ended.
    let router = std::env::var("MAINPID").ok().and_then(|pid| pid.parse().ok()).unwrap_or(0);
    let rollout = Rollout::new(
        (&systemd, manager),
        Control::new(socket, CONTROL_TIMEOUT),
        names::units(scope, name),
        (&loaded.app, loaded.workers()),
        (router, stop),
    );
    match rollout.run().await {
        Ok(()) => Ok(DONE),
        Err(RolloutError::Stopped) => {
            // systemd runs no ExecStop= of a unit that it stops in the middle of a reload.
            stopping::run(name, scope, printer).await
        }
        Err(_) => Ok(FAILED),
    }
}
