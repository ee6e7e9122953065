//! `appctl restart NAME… | NAME@SLOT… | all`: stops and starts; what the file says now holds from then on.

use std::time::SystemTime;

use super::apps;
use super::exit::{DONE, FAILED, Failure};
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::start;
use crate::config::Scope;
use crate::system::bus::Verb;

pub(super) async fn run(words: &[String], asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let mut code = DONE;
    for (scope, target) in names::targets(words, asked)? {
        let restarted = restart(scope, &target, printer).await;
        code = code.max(restarted.or_else(|failure| failure.of_one(printer))?);
    }
    Ok(code)
}

async fn restart(scope: Scope, target: &Target, printer: &Printer) -> Result<u8, Failure> {
    let began = SystemTime::now();
    // A file with mistakes leaves the app running as it is.
    let loaded = apps::load(scope, target.app(), printer)?;
    let names = names::units(scope, target.app());
    let manager = Manager::connect(scope).await?;
    manager.refresh(&names, false).await?;
    if let Target::Worker { slot, .. } = target {
        let wanted = [(Verb::Restart, names.slot(slot))];
        let unfinished = manager
            .run(&wanted, async |_, unit| printer.note(&format!("{} restarted", unit.trim_end_matches(".service"))))
            .await?;
        manager.explain(&unfinished, began, printer).await;
        return Ok(if unfinished.is_empty() { DONE } else { FAILED });
    }
    // The hook would start them again, since they run.
    let surplus = manager.surplus(&names, loaded.workers()).await?;
    let mut unfinished = manager
        .run(&surplus, async |_, unit| printer.note(&format!("{} stopped", unit.trim_end_matches(".service"))))
        .await?;
    // The router's own hook stops the workers and starts them again; it is not called when the router is down.
    let running = manager.properties(&names.router).await?.text("ActiveState") == Some("active");
    let wanted: Vec<_> = if running {
        printer.note(&format!("{}: stopping the workers", loaded.app.name));
        vec![(Verb::Restart, names.router.clone())]
    } else {
        let workers = manager.workers(&names).await?;
        workers.into_iter().filter(|(_, state)| state != "inactive").map(|(unit, _)| (Verb::Stop, unit)).collect()
    };
    unfinished.extend(manager.run(&wanted, async |_, _| {}).await?);
    if !unfinished.is_empty() {
        manager.explain(&unfinished, began, printer).await;
        return Ok(FAILED);
    }
    start::bring_up(&manager, &loaded, false, printer).await
}
