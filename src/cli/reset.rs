//! `appctl reset SELECTOR…`: counts restarts from 0 again; a worker that systemd had given up is no longer failed.

use clap::Args;

use super::counted;
use super::exit::{DONE, Failure};
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::selector;
use crate::system::bus::BusError;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// NAME, NAME@SLOT, an id, `all` or /regex/
    #[arg(required = true)]
    pub(super) targets: Vec<String>,
    /// Only print what it would do
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Whose failures and restarts are forgotten.
pub(super) async fn units(manager: &Manager, target: &Target) -> Result<Vec<String>, Failure> {
    let names = names::units(manager.scope, target.app());
    Ok(match target {
        Target::App(_) => {
            let workers = manager.workers(&names).await?.into_iter().map(|(unit, _)| unit);
            workers.chain([names.router.clone()]).collect()
        }
        Target::Worker { slot, .. } => vec![names.slot(slot)],
    })
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    for (scope, target) in selector::targets(&arguments.targets, asked).await? {
        let manager = Manager::connect(scope).await?;
        for unit in units(&manager, &target).await? {
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
