//! `appctl upgrade [NAME…]`: the installed build in the place of every router that is another one. What packages call after
//! they have replaced the program.
//!
//! The router is told to end, not its unit to restart: a restart would restart the workers. systemd starts it again, and
//! gives the next one the workers' channels, the sessions and whoever waits.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::apps;
use super::exit::{DONE, FAILED, Failure};
use super::manage::{Manager, user_flag};
use super::names::{self, Asked};
use super::print::Printer;
use super::selector;
use super::up;
use super::upgrade_check::{self, Process, of_app};
use crate::config::Scope;
use crate::system::bus::{BusError, Verb};
use crate::system::process;
use crate::system::running::Builds;
use crate::system::stamp::Stamp;
use crate::unit::plan;

/// A reload that is under way ends before its router does.
const END_TIMEOUT: Duration = Duration::from_secs(120);
/// From the end of a router to the first word of the next one.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// For what stays beside the workers to follow.
const GUARDS_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps, `all` or /regex/; none means all that run
    names: Vec<String>,
    /// Only tell what would be done: upgrade-check
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    if arguments.check {
        return upgrade_check::run(&arguments.names, asked, printer).await;
    }
    // For packages that are put into an image: nothing runs there.
    if !Path::new("/run/systemd/system").exists() {
        printer.note("systemd does not run here, so nothing of it is to be upgraded");
        return Ok(DONE);
    }
    // Without a name: what the caller may do.
    let asked = if arguments.names.is_empty() { Asked(Some(asked.for_new_app())) } else { asked };
    let wanted = selector::wanted(&arguments.names, asked).await?;
    let mut builds = Builds::default();
    let installed = builds.installed(Path::new(plan::program()));
    let mut code = DONE;
    for scope in [Scope::System, Scope::User] {
        let here: Vec<&String> = wanted.iter().filter(|(of, _)| *of == scope).map(|(_, name)| name).collect();
        if here.is_empty() {
            continue;
        }
        let manager = Manager::connect(scope).await?;
        let mut outdated = Vec::new();
        for name in here {
            let processes = of_app(&manager, name, &mut builds, &installed).await?;
            let router = processes.iter().any(|it| it.part == "router" && it.outdated == Some(true));
            // What may not be looked at is what its router is.
            let those: Vec<_> = processes.into_iter().filter(|it| it.outdated.unwrap_or(router)).collect();
            match those.is_empty() {
                true => printer.note(&format!("{name}: nothing to do")),
                false => outdated.push((name, those)),
            }
        }
        if !outdated.is_empty() {
            // Its units as this build writes them.
            manager.systemd.daemon_reload().await.map_err(|error| manager.failure(error))?;
        }
        for (name, processes) in outdated {
            let upgraded = one(&manager, name, &processes, &mut builds, &installed, printer).await;
            code = code.max(upgraded.or_else(|failure| failure.of_one(printer))?);
        }
    }
    if arguments.names.is_empty() && asked.0 == Some(Scope::System) {
        upgrade_check::tell_users(printer);
    }
    Ok(code)
}

/// Upgrades what runs of one app.
async fn one(
    manager: &Manager,
    name: &str,
    processes: &[Process],
    builds: &mut Builds,
    installed: &Stamp,
    printer: &Printer,
) -> Result<u8, Failure> {
    let user = user_flag(manager.scope);
    // Its router would not come back.
    if apps::read(manager.scope, name).is_err() {
        printer.error(&format!(
            "{name} is left as it is: its file has mistakes, so systemd has no unit to start its router by\n\
             `appctl{user} check {name}` tells them; then run `appctl{user} upgrade {name}`."
        ));
        return Ok(FAILED);
    }
    let names = names::units(manager.scope, name);
    up::refuse_masked(manager, &names).await?;
    let router = processes.iter().find(|process| process.part == "router");
    if let Some(router) = router {
        match manager.systemd.signal_main(&names.router, Signal::SIGTERM as i32).await {
            // It ended just now.
            Ok(()) | Err(BusError::NoSuchUnit(_) | BusError::Refused(_)) => {}
            Err(error) => return Err(manager.failure(error)),
        }
        if tokio::time::timeout(END_TIMEOUT, process::ended(router.pid)).await.is_err() {
            printer.error(&format!(
                "{name}: its router has not ended yet; it does when the reload that is under way is over, and the installed build follows\n\
                 `appctl{user} status {name}` tells how far that is."
            ));
            return Ok(FAILED);
        }
        let next = tokio::time::timeout(START_TIMEOUT, next_router(manager, name, router.pid)).await;
        let Ok(version) = next else {
            printer.error(&format!(
                "{name}: no router answers\nIts workers serve those who are connected. `journalctl -u {}` tells why.",
                names.router
            ));
            return Ok(FAILED);
        };
        let before = router.version.as_deref().unwrap_or("an older build");
        let change =
            if before == version { format!("another build of {version}") } else { format!("{before} → {version}") };
        printer.note(&format!("{name}: the router runs the installed build ({change}); its workers were not touched"));
    }
    let companions = processes.iter().filter(|process| ["watch", "memory"].contains(&process.part));
    let companions: Vec<_> = companions.map(|process| (Verb::Restart, process.unit.clone())).collect();
    let unfinished =
        manager.run(&companions, async |_, unit| printer.note(&format!("{name}: {unit} restarted"))).await?;
    for job in &unfinished {
        printer.error(&format!("{name}: {} did not restart: {}", job.unit, job.reason));
    }
    let patience = if router.is_some() { GUARDS_TIMEOUT } else { Duration::ZERO };
    let left = follow(manager, name, builds, installed, patience).await?;
    if !left.is_empty() {
        printer.note(&format!(
            "{name}: what stays beside {} is another build still: it ends with its worker, whom it serves until then; \
             `appctl{user} reload {name}` replaces them",
            left.join(", ")
        ));
    }
    Ok(if unfinished.is_empty() { DONE } else { FAILED })
}

/// Waits until another router than `before` answers; its version.
async fn next_router(manager: &Manager, name: &str, before: u32) -> String {
    loop {
        match manager.router_status(name).await {
            Some(status) if status.pid != before => return status.version,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What stays beside the workers becomes the installed build by itself, once its router has ended. From before it did so, it
/// stays what it is until the worker ends: beside which ones.
async fn follow(
    manager: &Manager,
    name: &str,
    builds: &mut Builds,
    installed: &Stamp,
    patience: Duration,
) -> Result<Vec<String>, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let processes = of_app(manager, name, builds, installed).await?;
        let left = processes.into_iter().filter(|process| process.part == "guard" && process.outdated == Some(true));
        let left: Vec<_> = left.map(|process| process.unit.trim_end_matches(".service").to_owned()).collect();
        if left.is_empty() || Instant::now() >= deadline {
            return Ok(left);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
