//! `appctl restart NAME… | NAME@SLOT… | all`: stops and starts; what the file says now holds from then on.

use std::net::Ipv6Addr;
use std::time::SystemTime;

use clap::Args;

use super::apps::{self, Loaded};
use super::counted;
use super::exit::{DONE, FAILED, Failure, NOT_RUNNING};
use super::manage::{self, Manager, count};
use super::names::{self, Asked, Target};
use super::of_file::Anew;
use super::print::Printer;
use super::selector;
use super::up::{self, Tell};
use crate::config::{Listen, Scope};
use crate::system::bus::Verb;
use crate::system::{holder, listening};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// NAME, NAME@SLOT, an id, `all`, /regex/, or a file that describes apps, which is read again
    #[arg(required = true)]
    pub(super) targets: Vec<String>,
    #[command(flatten)]
    pub(super) anew: Anew,
    /// Only print the files and the calls to systemd that it would take
    #[arg(long)]
    pub(super) dry_run: bool,
}

pub(super) async fn run(words: &[String], asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let mut code = DONE;
    for (scope, target) in selector::targets(words, asked).await? {
        let restarted = restart(scope, &target, printer).await;
        code = code.max(restarted.or_else(|failure| failure.of_one(printer))?);
    }
    Ok(code)
}

/// Whether the router serves other addresses than the file says.
pub(super) async fn listens_elsewhere(manager: &Manager, loaded: &Loaded) -> bool {
    let Some(status) = manager.router_status(&loaded.app.name).await else {
        return false;
    };
    let at = |bound: &Option<String>| match (&loaded.app.router.metrics, bound) {
        (Some(wanted), Some(bound)) => wanted.is_at(bound),
        (None, None) => true,
        _ => false,
    };
    if !at(&status.metrics) {
        return true;
    }
    up::are_others(&loaded.app.listen, &status.listening)
}

/// Those of the file's addresses that another program has: an app that runs is not stopped for them. What its own
/// sockets are in the way of is not known before they are closed.
async fn taken(manager: &Manager, loaded: &Loaded) -> Vec<Listen> {
    // Then others may have the same port.
    let shared = ["ReusePort", "BindIPv6Only", "BindToDevice"];
    let shared = loaded.app.socket.iter().any(|(key, _)| shared.contains(&key.as_str()));
    let Some(status) = manager.router_status(&loaded.app.name).await.filter(|_| !shared) else {
        return Vec::new();
    };
    let bound: Vec<Listen> =
        status.listening.iter().chain(&status.metrics).filter_map(|bound| Listen::read(bound).ok()).collect();
    let new = loaded.app.addresses().filter(|listen| !bound.iter().any(|bound| bound.overlaps(listen)));
    let taken = |listen: &Listen| match listen {
        Listen::Port(port) => listening::is_taken((Ipv6Addr::UNSPECIFIED, *port).into()),
        Listen::Address(address) => listening::is_taken(*address),
        // systemd takes the place of a socket that is there.
        Listen::Path(_) => false,
    };
    // A worker that has opened it itself is stopped before.
    let names = names::units(manager.scope, &loaded.app.name);
    let own = |unit: &str| unit == names.router || names::slot(unit).is_some_and(|slot| names.slot(slot) == unit);
    let by_own = |listen: &Listen| {
        let holders = port(listen).map(holder::of_port).unwrap_or_default();
        holders.iter().any(|holder| holder.unit.as_deref().is_some_and(own))
    };
    new.filter(|listen| taken(listen) && !by_own(listen)).cloned().collect()
}

fn port(listen: &Listen) -> Option<u16> {
    match listen {
        Listen::Port(port) => Some(*port),
        Listen::Address(address) => Some(address.port()),
        Listen::Path(_) => None,
    }
}

/// What has to be so before anything of an app that runs is stopped. `false`: it is told what is not.
async fn may_stop(manager: &Manager, loaded: &Loaded, printer: &Printer) -> Result<bool, Failure> {
    let name = &loaded.app.name;
    let names = names::units(manager.scope, name);
    let as_it_is = || printer.detail(&format!("{name} is not restarted; it is left as it is"));
    up::refuse_masked(manager, &names).await?;
    if super::certificates::are_in_the_way(&loaded.app, printer) {
        as_it_is();
        return Ok(false);
    }
    super::secrets::refuse(&loaded.app)?;
    // A stopped router is not asked: that would start it.
    let taken = if manager.router_runs(&names).await? { taken(manager, loaded).await } else { Vec::new() };
    for listen in &taken {
        printer.error(&format!("{listen}, where {name} is to serve, is taken"));
        port(listen).and_then(manage::holders).iter().for_each(|told| printer.detail(told));
    }
    if !taken.is_empty() {
        as_it_is();
    }
    Ok(taken.is_empty())
}

async fn restart(scope: Scope, target: &Target, printer: &Printer) -> Result<u8, Failure> {
    let began = SystemTime::now();
    // A file with mistakes leaves the app running as it is.
    let loaded = match apps::load(scope, target.app(), printer) {
        Err(failure @ Failure::Told(_)) => {
            printer.detail(&format!("{target} is not restarted; nothing has changed"));
            return Err(failure);
        }
        loaded => loaded?,
    };
    let names = names::units(scope, target.app());
    let manager = Manager::connect(scope).await?;
    if let Target::Worker { slot, .. } = target {
        let is_more = slot.parse::<u32>().is_ok_and(|slot| slot > loaded.workers());
        let known = manager.workers(&names).await?;
        let is_down = !known.iter().any(|(unit, state)| *unit == names.slot(slot) && state != "inactive");
        if is_more && is_down {
            printer.error(&format!(
                "{target} does not run, and {} has {}\n`appctl scale {} +1` adds one; `appctl start {target}` does until the \
                 next stop.",
                target.app(),
                count(loaded.workers() as usize),
                target.app()
            ));
            return Ok(NOT_RUNNING);
        }
    }
    // One worker alone stays with the others.
    let whole = matches!(target, Target::App(_));
    // Before a hold is lifted: else what is not restarted now is started with what failed, when it crashes.
    if whole && !may_stop(&manager, &loaded, printer).await? {
        return Ok(FAILED);
    }
    let lifted = whole && apps::lift(scope, target.app())?;
    manager.refresh(&names, lifted).await?;
    if let Target::Worker { slot, .. } = target {
        if manager.router_runs(&names).await?
            && let Some(index) = manager.index_of(target.app(), slot).await
        {
            counted::add(scope, target.app(), Some(index));
        }
        let wanted = [(Verb::Restart, names.slot(slot))];
        let unfinished = manager
            .run(&wanted, async |_, unit| printer.note(&format!("{} restarted", unit.trim_end_matches(".service"))))
            .await?;
        manager.explain(&unfinished, began, printer).await;
        return Ok(if unfinished.is_empty() { DONE } else { FAILED });
    }
    // The hook would start them again, since they run.
    let surplus = manager.surplus(&loaded.app.name, loaded.workers()).await?;
    let mut unfinished = manager
        .run(&surplus, async |_, unit| printer.note(&format!("{} stopped", unit.trim_end_matches(".service"))))
        .await?;
    // The router's own hook stops the workers and starts them again; it is not called when the router is down.
    let running = manager.router_runs(&names).await?;
    if running && listens_elsewhere(&manager, &loaded).await {
        // A socket keeps its addresses until it is stopped.
        printer.note(&format!("{}: its addresses have changed; stopping all of it", loaded.app.name));
        unfinished.extend(manager.stop(&[&loaded.app.name], printer).await?);
        counted::add(scope, &loaded.app.name, None);
    }
    let running = manager.router_runs(&names).await?;
    let wanted: Vec<_> = if running {
        // Whoever has no right to it hears that alone.
        if manager.systemd.reset_failed(&names.router).await.is_ok() {
            printer.note(&format!("{}: stopping the workers", loaded.app.name));
        }
        vec![(Verb::Restart, names.router.clone())]
    } else {
        let workers = manager.workers(&names).await?;
        workers.into_iter().filter(|(_, state)| state != "inactive").map(|(unit, _)| (Verb::Stop, unit)).collect()
    };
    unfinished.extend(manager.run(&wanted, async |_, _| {}).await?);
    if running && unfinished.iter().any(|job| job.unit == names.router) {
        // A socket whose unit was gone for a while (its app's file had mistakes when systemd read it) is active without
        // a descriptor, and no router can start with it.
        printer.note(&format!("{}: the router did not start; once more, with new sockets", loaded.app.name));
        unfinished = manager.stop(&[&loaded.app.name], printer).await?;
    }
    if !unfinished.is_empty() {
        manager.explain(&unfinished, began, printer).await;
        return Ok(FAILED);
    }
    // A worker that was given up, in a slot that nobody uses now.
    for (unit, _) in manager.workers(&names).await?.into_iter().filter(|(_, state)| state == "failed") {
        let _ = manager.systemd.reset_failed(&unit).await;
    }
    Ok(up::bring_up(&manager, &loaded, Tell::All, printer).await?.code())
}
