//! `appctl started NAME`, the router's `ExecStartPost=`: a start of the router starts the workers that are missing.
//!
//! Not a dependency of the unit, because the slots that are in use change with every reload: systemd would start the
//! free one too, and all that a crash loop has stopped, whenever the router is started again.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::apps;
use super::conclude;
use super::exit::{DONE, Failure};
use super::names;
use super::print::Printer;
use crate::config::Scope;
use crate::generator::held;
use crate::rollout::plan::spare;
use crate::rollout::{generation, ledger};
use crate::system::bus::{BusError, Systemd, Verb};
use crate::system::{jobs, log, place, process};
use crate::unit::plan::Names;

/// For the workers that a reload has left, which the router lets drain meanwhile.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// To ask systemd and to queue the starts.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) async fn run(name: &str, workers: u32, scope: Scope, printer: &Printer) -> Result<u8, Failure> {
    let names = names::units(scope, name);
    if let Err(error) = open_slots(scope, name) {
        printer.warning(&format!("the router will not reach workers by their sockets: {error}"));
    }
    let starting = async {
        let systemd = Systemd::connect(apps::manager(scope)).await?;
        // Started again by systemd itself, after a crash: the workers are no concern of that.
        if systemd.properties(&names.router).await?.u32("NRestarts").is_some_and(|restarts| restarts > 0) {
            return Ok(Some(systemd));
        }
        begin_anew(scope, name, printer);
        start(&systemd, &names, workers).await?;
        Ok(None)
    };
    let problem = match tokio::time::timeout(ASK_TIMEOUT, starting).await {
        Ok(Ok(None)) => return Ok(DONE),
        Ok(Ok(Some(systemd))) => {
            tokio::select! {
                () = after_a_crash(&systemd, &names, (scope, name), printer) => {}
                // systemd starts its next one when this command has ended, and that does it.
                () = router_ended() => {}
            }
            return Ok(DONE);
        }
        Ok(Err(error)) => BusError::to_string(&error),
        Err(_) => "systemd did not answer in time".to_owned(),
    };
    printer.warning(&format!("{problem}; starting all workers by systemctl"));
    let mut systemctl = Command::new("systemctl");
    if scope == Scope::User {
        systemctl.arg("--user");
    }
    // Root's systemctl needs no bus.
    let started = systemctl.args(["--no-block", "start"]).args((1..=workers).map(|slot| names.slot(slot))).status();
    if !started.is_ok_and(|status| status.success()) {
        printer.error(&format!("the workers are not started: run appctl start {name}"));
    }
    Ok(DONE)
}

/// Makes the directory of the workers' sockets the router's own: nobody else may enter it. The router's user is known
/// from now on only, if it is a dynamic one; in the user's scope it is the same as everywhere.
fn open_slots(scope: Scope, name: &str) -> std::io::Result<()> {
    let Some(directory) = place::slots(scope == Scope::User, name).filter(|_| scope == Scope::System) else {
        return Ok(());
    };
    let main = std::env::var("MAINPID").map_err(std::io::Error::other)?;
    let router = std::fs::metadata(Path::new("/proc").join(main))?;
    match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::os::unix::fs::chown(&directory, Some(router.uid()), None)
}

/// Resolves when the router whose `ExecStartPost=` this is has ended.
async fn router_ended() {
    match std::env::var("MAINPID").ok().and_then(|pid| pid.parse().ok()) {
        Some(router) => process::ended(router).await,
        None => std::future::pending().await,
    }
}

/// A reload that ended with the router has left something to do.
async fn after_a_crash(systemd: &Systemd, names: &Names, app: (Scope, &str), printer: &Printer) {
    let progress = place::reload(app.0 == Scope::User, app.1).as_deref().and_then(ledger::read);
    let Some(progress) = progress.filter(|progress| !progress.concluded) else { return };
    log::init(app.1);
    let stops: Vec<_> =
        progress.trial.iter().chain(&progress.retiring).map(|slot| (Verb::Stop, names.slot(slot))).collect();
    if let Err(failure) = conclude::finish(systemd, names, app, progress, false).await {
        printer.warning(&format!("what the last reload left is not cleared away: {failure}"));
    }
    // One that takes its time to stop is not waited for any longer; it may be listed as failed then.
    let stopped = tokio::time::timeout(STOP_TIMEOUT, jobs::run(systemd, &stops, async |_, _| {})).await;
    for (_, unit) in stops.iter().filter(|_| stopped.is_ok()) {
        let _ = systemd.reset_failed(unit).await;
    }
}

/// All workers are started alike: no reload says anything of them any more, and a later one may come back to this.
fn begin_anew(scope: Scope, name: &str, printer: &Printer) {
    let Ok(places) = apps::places(scope) else { return };
    if let Err(error) = held::prove_started(&places, name) {
        printer.warning(&format!("cannot keep what is started, for a later reload that fails: {error}"));
    }
    let user = scope == Scope::User;
    if let (Some(path), Some(reload)) = (place::generation(user, name), place::reload(user, name))
        && let Err(error) = generation::start(&path, &reload)
    {
        printer.warning(&format!("cannot count this start: {error}"));
    }
    if let Some(path) = place::reload(user, name).filter(|_| !held::is_held(&places, name)) {
        // Mostly there is none.
        let _ = std::fs::remove_file(path);
    }
}

async fn start(systemd: &Systemd, names: &Names, workers: u32) -> Result<(), BusError> {
    for unit in missing(systemd, names, workers).await? {
        // Not waited for: the workers need a router that is up.
        systemd.enqueue(Verb::Start, &unit).await?;
    }
    Ok(())
}

/// The units to start so that there are `workers` of them.
pub(super) async fn missing(systemd: &Systemd, names: &Names, workers: u32) -> Result<Vec<String>, BusError> {
    let listed = systemd.list(&[names.slot("*")]).await?;
    let running =
        listed.iter().filter(|unit| unit.has_job || !["inactive", "failed"].contains(&unit.active_state.as_str()));
    let mut taken: BTreeSet<String> = running.filter_map(|unit| names::slot(&unit.name)).map(str::to_owned).collect();
    let mut units = Vec::new();
    while (taken.len() as u64) < u64::from(workers) {
        let slot = spare(&taken);
        taken.insert(slot.to_string());
        units.push(names.slot(slot));
    }
    Ok(units)
}
