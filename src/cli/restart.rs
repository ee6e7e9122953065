//! `appctl restart NAME… | NAME@SLOT… | all`: stops and starts; what the file says now holds from then on.

use std::time::SystemTime;

use super::apps;
use super::exit::{DONE, FAILED, Failure};
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::start;
use crate::system::bus::Verb;

pub(super) async fn run(words: &[String], asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let mut code = DONE;
    for (scope, target) in names::targets(words, asked)? {
        let began = SystemTime::now();
        let loaded = apps::load(scope, target.app(), printer)?;
        let names = names::units(scope, target.app());
        let manager = Manager::connect(scope).await?;
        manager.refresh(&names, false).await?;
        let slot = match target {
            Target::Worker { slot, .. } => Some(slot),
            Target::App(_) => None,
        };
        if let Some(slot) = slot {
            let wanted = [(Verb::Restart, names.slot(slot))];
            let unfinished = manager
                .run(&wanted, async |_, unit| printer.note(&format!("{} restarted", unit.trim_end_matches(".service"))))
                .await?;
            if !unfinished.is_empty() {
                manager.explain(&unfinished, began, printer).await;
                code = FAILED;
            }
            continue;
        }
        // The hook would start them again, since they run.
        let surplus = manager.surplus(&names, loaded.workers()).await?;
        let mut unfinished = manager
            .run(&surplus, async |_, unit| printer.note(&format!("{} stopped", unit.trim_end_matches(".service"))))
            .await?;
        // The router's own hook stops the workers and starts them again; it is not called when the router is down.
        let running = manager.properties(&names.router).await?.text("ActiveState") == Some("active");
        let wanted: Vec<_> = if running {
            vec![(Verb::Restart, names.router.clone())]
        } else {
            let workers = manager.workers(&names).await?;
            let workers = workers.into_iter().filter(|(_, state)| state != "inactive");
            workers.map(|(unit, _)| (Verb::Stop, unit)).collect()
        };
        if running {
            printer.note(&format!("{}: stopping the workers", target_name(&loaded)));
        }
        unfinished.extend(manager.run(&wanted, async |_, _| {}).await?);
        if unfinished.is_empty() {
            code = code.max(start::bring_up(&manager, &loaded, false, printer).await?);
        } else {
            manager.explain(&unfinished, began, printer).await;
            code = FAILED;
        }
    }
    Ok(code)
}

fn target_name(loaded: &apps::Loaded) -> &str {
    &loaded.app.name
}
