//! Bringing an app up: its sockets, its router and its workers, until all are ready.

use std::time::SystemTime;

use super::apps::Loaded;
use super::exit::{DONE, FAILED, Failure};
use super::manage::{self, Manager, addresses, count};
use super::print::Printer;
use super::{certificates, machine, names, secrets, started};
use crate::config::{Listen, Scope};
use crate::system::bus::Verb;
use crate::unit::plan::Names;

/// What came of bringing an app up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Up {
    Serves,
    /// And it did before: nothing was started.
    Already,
    /// Something of it was started, and something did not come up.
    Failed,
    /// Its sockets could not be opened: no program of its was started.
    Never,
}

impl Up {
    pub(super) fn code(self) -> u8 {
        if matches!(self, Self::Serves | Self::Already) { DONE } else { FAILED }
    }
}

/// Which workers get a line of their own when they are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// Those that were not; and if all were, that.
    Already,
    /// Those that were not.
    New,
    /// Every one.
    All,
}

/// A job for each of several units.
type Jobs = Vec<(Verb, String)>;

/// What [`bring_up`] starts: the sockets, then router and workers. `runs`: the router does, and is not stopped before.
pub(super) async fn to_start(manager: &Manager, loaded: &Loaded, runs: bool) -> Result<(Jobs, Jobs), Failure> {
    let names = names::units(manager.scope, &loaded.app.name);
    // A socket cannot be added to a router that runs; and who starts that one, starts what it needs.
    let added = runs
        && !loaded.app.listen.is_empty()
        && manager.properties(&names.public).await?.text("ActiveState") != Some("active");
    let sockets = names::sockets(&names)
        .into_iter()
        .filter(|socket| *socket != names.public || (!loaded.app.listen.is_empty() && !added))
        .filter(|socket| *socket != names.metrics || (loaded.app.router.metrics.is_some() && !runs))
        .map(|socket| (Verb::Start, socket.to_owned()))
        .collect();
    let mut services = if added { Vec::new() } else { vec![(Verb::Start, names.router.clone())] };
    let standing = manager.standing(&names).await?;
    let missing = started::missing(&manager.systemd, &names, loaded.workers()).await;
    let missing = missing.map_err(|error| manager.failure(error))?;
    services.extend(standing.into_iter().chain(missing).map(|unit| (Verb::Start, unit)));
    Ok((sockets, services))
}

/// systemd would only say that a socket failed.
pub(super) fn check_accounts(loaded: &Loaded) -> Result<(), Failure> {
    let file = loaded.path.display();
    if let Some(user) = loaded.app.user.as_ref().filter(|user| machine::lacks_user(user)) {
        return Err(Failure::failed(format!(
            "there is no user {user}, whom {file} names\nAdd it (useradd --system {user}), or change `user` there."
        )));
    }
    if let Some(group) = loaded.app.group.as_ref().filter(|group| machine::lacks_group(group)) {
        return Err(Failure::failed(format!(
            "there is no group {group}, which {file} names\nAdd it (groupadd --system {group}), or change `group` there."
        )));
    }
    Ok(())
}

/// systemd would stop it and not start it again.
pub(super) async fn refuse_masked(manager: &Manager, names: &Names) -> Result<(), Failure> {
    if manager.properties(&names.router).await?.text("LoadState") != Some("masked") {
        return Ok(());
    }
    let user = manage::user_flag(manager.scope);
    Err(Failure::failed(format!(
        "{0} is masked: somebody has seen to it that it does not start\nsystemctl{user} unmask {0} allows it again.",
        names.router
    )))
}

/// Starts sockets, router and workers, and waits until all are ready.
pub(super) async fn bring_up(manager: &Manager, loaded: &Loaded, tell: Tell, printer: &Printer) -> Result<Up, Failure> {
    let began = SystemTime::now();
    check_accounts(loaded)?;
    secrets::refuse(&loaded.app)?;
    let name = &loaded.app.name;
    let names = names::units(manager.scope, name);
    let router = manager.properties(&names.router).await?;
    refuse_masked(manager, &names).await?;
    if router.text("LoadState") != Some("loaded") {
        return Err(Failure::failed(format!(
            "systemd has no unit {} though {} is there\n\
             Is appctl-generator in systemd's {} directory? `appctl cat {name}` shows what it would write.",
            names.router,
            loaded.path.display(),
            if manager.scope == Scope::User { "user-generators" } else { "system-generators" }
        )));
    }
    let runs = manager.router_runs(&names).await?;
    if !runs && certificates::are_in_the_way(&loaded.app, printer) {
        return Ok(Up::Never);
    }
    let (sockets, services) = to_start(manager, loaded, runs).await?;
    let mut already = true;
    let mut running = Vec::new();
    for (_, unit) in sockets.iter().chain(&services) {
        let properties = manager.properties(unit).await?;
        match properties.text("ActiveState") {
            Some("active") => running.push(unit.clone()),
            Some("failed") => {
                already = false;
                // Else a start limit that was hit would refuse the start.
                let _ = manager.systemd.reset_failed(unit).await;
            }
            _ => already = false,
        }
    }
    // The sockets first and alone: a port that is taken is told at once, and by itself.
    let unfinished = manager.run(&sockets, async |_, _| {}).await?;
    if !unfinished.is_empty() {
        manager.explain(&unfinished, began, printer).await;
        if runs {
            return Ok(Up::Failed);
        }
        // What was opened for nothing is closed again.
        let opened = sockets.into_iter().filter(|(_, socket)| !running.contains(socket));
        let opened: Vec<_> = opened.map(|(_, socket)| (Verb::Stop, socket)).collect();
        manager.run(&opened, async |_, _| {}).await?;
        return Ok(Up::Never);
    }
    let unfinished = manager
        .run(&services, async |_, unit| {
            if unit.contains('@') && (tell == Tell::All || !running.iter().any(|it| it == unit)) {
                ready(manager, unit, printer).await;
            }
        })
        .await?;
    let failed = unfinished.iter().filter(|job| job.unit.contains('@')).count();
    let workers = loaded.workers() as usize;
    if !unfinished.is_empty() {
        manager.explain(&unfinished, began, printer).await;
        if failed == unfinished.len() && failed < workers {
            printer.detail(&format!("{name} serves with {} of {workers} workers", workers - failed));
        }
        if loaded.app.restart.policy != "no" {
            printer.detail(&format!(
                "systemd goes on trying; `appctl{} stop {name}` ends that",
                manage::user_flag(manager.scope)
            ));
        }
        return Ok(Up::Failed);
    }
    // Those that it was started with.
    let status = if runs { manager.router_status(name).await } else { None };
    let served = match status.map(|status| status.listening) {
        Some(bound) if are_others(&loaded.app.listen, &bound) => bound,
        _ => addresses(loaded),
    };
    let (does, served) = match served.as_slice() {
        // Nobody connects to it.
        [] => ("runs", String::new()),
        served => ("serves", format!(" on {}", served.join(" and "))),
    };
    if already && tell == Tell::Already {
        printer.note(&format!("{name} was running already, with {}{served}", count(workers)));
    } else {
        printer.note(&format!("{name} {does}{served} with {}", count(workers)));
    }
    if loaded.app.router.listen.certificates().next().is_some()
        && let Some(status) = manager.router_status(name).await
    {
        let check = format!("appctl{} check {name} says why", manage::user_flag(manager.scope));
        for remark in certificates::remarks(&loaded.app, &status, &check) {
            printer.warning(&remark);
        }
    }
    Ok(if already { Up::Already } else { Up::Serves })
}

/// Whether a router that is bound to these does not serve what is wanted.
pub(super) fn are_others(wanted: &[Listen], bound: &[String]) -> bool {
    bound.len() != wanted.len() || !wanted.iter().all(|listen| bound.iter().any(|bound| listen.is_at(bound)))
}

/// One line for a worker that is up.
pub(super) async fn ready(manager: &Manager, unit: &str, printer: &Printer) {
    let pid = manager.systemd.properties(unit).await.ok().and_then(|it| it.u32("MainPID")).filter(|pid| *pid != 0);
    let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    printer.note(&format!("{} ready{pid}", unit.trim_end_matches(".service")));
}
