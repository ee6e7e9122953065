//! `appctl rollout --conclude NAME`, the router's second `ExecReload=`: what follows from the end of a reload.
//!
//! It is a command of its own because systemd runs it whatever the reload's process has died of (SIGKILL, want of memory):
//! then it takes the worker on trial away, so that nothing is left half done. It also puts a file on hold that was reloaded
//! in vain, and its exit code is the reload's. When the router itself has died, systemd's next router comes first, and
//! `appctl started` does the same then.

use tokio::signal::unix::{SignalKind, signal};

use super::apps;
use super::exit::{DONE, FAILED, Failure};
use super::names;
use super::print::Printer;
use super::stopping;
use crate::config::Scope;
use crate::generator::held;
use crate::rollout::ledger::{self, Ledger, Progress, State};
use crate::rollout::{CONTROL_TIMEOUT, STEP};
use crate::router::client::Control;
use crate::system::bus::{BusError, Systemd, Verb};
use crate::system::{jobs, log, place, process};
use crate::unit::plan::Names;

pub(super) async fn run(name: &str, scope: Scope, printer: &Printer) -> Result<u8, Failure> {
    log::init(name);
    let progress = place::reload(scope == Scope::User, name).as_deref().and_then(ledger::read);
    if progress.as_ref().is_some_and(|progress| progress.state == State::Stopped) {
        // The reload's process has seen to the workers as well.
        return Ok(DONE);
    }
    let mut term = signal(SignalKind::terminate()).map_err(|error| Failure::failed(error.to_string()))?;
    let systemd = Systemd::connect(apps::manager(scope)).await.map_err(|error| Failure::of_bus(error, scope))?;
    let names = names::units(scope, name);
    let concluding = async {
        if is_being_stopped(&systemd, &names).await {
            return Ok::<_, Failure>(None);
        }
        let Some(progress) = progress.filter(|progress| !progress.concluded) else {
            tracing::error!(
                APP = name,
                MESSAGE_ID = STEP,
                ROLLOUT = "failed",
                "{name} not reloaded: its process was killed when it had just begun; nothing changed"
            );
            return Ok(Some(FAILED));
        };
        let router = systemd.properties(&names.router).await.map_err(|error| Failure::of_bus(error, scope))?;
        let router = router.u32("MainPID").unwrap_or(0);
        if router == 0 {
            // Its next one is waiting for this command's end.
            return Ok(Some(FAILED));
        }
        tokio::select! {
            state = finish(&systemd, &names, (scope, name), progress, true) => {
                Ok(Some(if state? == State::Done { DONE } else { FAILED }))
            }
            // The same.
            () = process::ended(router) => Ok(Some(FAILED)),
        }
    };
    let code = tokio::select! {
        code = concluding => code?,
        _ = term.recv() => if is_being_stopped(&systemd, &names).await { None } else { Some(FAILED) },
    };
    match code {
        Some(code) => Ok(code),
        // systemd runs no ExecStop= of a unit that it stops in the middle of a reload.
        None => stopping::run(name, scope, printer).await,
    }
}

async fn is_being_stopped(systemd: &Systemd, names: &Names) -> bool {
    let job = systemd.job_type(&names.router).await.ok().flatten();
    job.is_some_and(|job| !["reload", "start", "verify-active"].contains(&job.as_str()))
}

/// Sees to what follows from a reload that is over, one way or the other. `wait`: until the workers that have to go are
/// gone.
pub(super) async fn finish(
    systemd: &Systemd,
    names: &Names,
    (scope, name): (Scope, &str),
    progress: Progress,
    wait: bool,
) -> Result<State, Failure> {
    let user = scope == Scope::User;
    let ledger = Ledger::new(place::reload(user, name), progress);
    clean(systemd, names, name, &ledger, wait).await.map_err(|error| Failure::of_bus(error, scope))?;
    let control = place::control(user, name).map(|socket| Control::new(socket, CONTROL_TIMEOUT));
    // Once more, for a router that has just come: what the one before did not read was left in the socket for it.
    if ledger.now().state != State::Done
        && let Some(control) = &control
        && let Err(error) = control.end_rollout().await
    {
        tracing::warn!(APP = name, %error, "cannot tell the router that the reload is over");
    }
    if ledger.now().state == State::Running {
        ledger.update(|progress| progress.end(State::Failed, Some("its process was killed".to_owned())));
        let left = ledger.now().left_behind(name);
        tracing::error!(
            APP = name,
            MESSAGE_ID = STEP,
            ROLLOUT = "failed",
            "{name} not reloaded: its process was killed; {left}"
        );
    }
    let state = ledger.now().state;
    if state == State::Failed {
        let wanted = ledger.now().wanted_before;
        if let (Some(control), Some(wanted)) = (&control, wanted)
            && let Err(error) = control.set_wanted(wanted).await
        {
            tracing::warn!(APP = name, %error, "cannot tell the router how many workers there are to be");
        }
        if old_ones_serve(control.as_ref(), &ledger).await {
            hold(systemd, scope, name).await?;
        }
    }
    ledger.update(|progress| progress.concluded = true);
    Ok(state)
}

/// Stops new workers that are still on trial, and old ones whose heirs have taken over.
pub(super) async fn clean(
    systemd: &Systemd,
    names: &Names,
    name: &str,
    ledger: &Ledger,
    wait: bool,
) -> Result<(), BusError> {
    let mut stops = Vec::new();
    {
        let progress = ledger.now();
        for slot in progress.trial.iter().chain(&progress.retiring) {
            stops.push((Verb::Stop, names.slot(slot)));
        }
    }
    if stops.is_empty() {
        return Ok(());
    }
    if wait {
        jobs::run(systemd, &stops, async |_, _| {}).await?;
    } else {
        for (verb, unit) in &stops {
            match systemd.enqueue(*verb, unit).await {
                Ok(_) | Err(BusError::NoSuchUnit(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    for (_, unit) in stops {
        // Only one that failed needs it.
        let _ = systemd.reset_failed(&unit).await;
        tracing::info!(
            APP = name,
            MESSAGE_ID = STEP,
            ROLLOUT = "step",
            "{} removed",
            unit.trim_end_matches(".service")
        );
    }
    ledger.update(|progress| {
        progress.trial.clear();
        progress.retiring.clear();
    });
    Ok(())
}

/// Whether the text before is worth going back to.
async fn old_ones_serve(control: Option<&Control>, ledger: &Ledger) -> bool {
    let Some(Ok(status)) = (match control {
        Some(control) => Some(control.status().await),
        None => None,
    }) else {
        return false;
    };
    let new = &ledger.now().replaced;
    status.workers.iter().any(|worker| worker.state == "ready" && !worker.trial && !new.contains(&worker.slot))
}

/// From now on what systemd starts of the app is what ran before.
async fn hold(systemd: &Systemd, scope: Scope, name: &str) -> Result<(), Failure> {
    let places = apps::places(scope)?;
    match held::hold(&places, name) {
        Ok(false) => return Ok(()),
        Ok(true) => {}
        Err(error) => {
            tracing::warn!(APP = name, %error, "cannot put the file on hold: a worker that dies is started with it: {error}");
            return Ok(());
        }
    }
    systemd.daemon_reload().await.map_err(|error| Failure::of_bus(error, scope))?;
    // Not "failed": whoever watches the reload says it himself.
    tracing::warn!(APP = name, MESSAGE_ID = STEP, ROLLOUT = "held", "{}", on_hold(scope, name)?);
    Ok(())
}

/// What a hold means, for people.
pub(super) fn on_hold(scope: Scope, name: &str) -> Result<String, Failure> {
    let file = apps::path(scope, name)?;
    let user = super::manage::user_flag(scope);
    Ok(format!(
        "{} is on hold: a worker that has to be started again gets what it said before. Mend it and `appctl{user} reload \
         {name}`; `appctl{user} restart {name}` starts it anyway",
        file.display()
    ))
}
