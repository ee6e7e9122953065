//! `appctl reset SELECTOR…`: counts restarts from 0 again; a worker that systemd had given up is no longer failed.

use clap::Args;

use super::counted;
use super::exit::{DONE, Failure};
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::print::Printer;
use crate::system::bus::BusError;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// NAME, NAME@SLOT, an id, `all` or /regex/
    #[arg(required = true)]
    targets: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    for (scope, target) in names::targets(&arguments.targets, asked).await? {
        let manager = Manager::connect(scope).await?;
        let names = names::units(scope, target.app());
        let units: Vec<String> = match &target {
            Target::App(_) => {
                let workers = manager.workers(&names).await?.into_iter().map(|(unit, _)| unit);
                workers.chain([names.router.clone()]).collect()
            }
            Target::Worker { slot, .. } => vec![names.slot(slot)],
        };
        for unit in units {
            match manager.systemd.reset_failed(&unit).await {
                // One that is not loaded counts nothing.
                Ok(()) | Err(BusError::NoSuchUnit(_)) => {}
                Err(error) => return Err(manager.failure(error)),
            }
        }
        let index = match &target {
            Target::Worker { app, slot } => manager.index_of(app, slot).await,
            Target::App(_) => None,
        };
        if index.is_some() || matches!(target, Target::App(_)) {
            counted::reset(scope, target.app(), index);
        }
        printer.note(&format!("{target}: restarts count from 0 again"));
    }
    Ok(DONE)
}
