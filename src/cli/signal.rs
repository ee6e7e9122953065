//! `appctl sendSignal SIGNAL SELECTOR…`: a signal to the main process of workers, by systemd.

use std::str::FromStr;

use clap::Args;
use nix::sys::signal::Signal;

use super::exit::{DONE, FAILED, Failure, NOT_RUNNING};
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::selector;
use crate::system::bus::BusError;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A name, with or without SIG, or a number
    #[arg(value_parser = read)]
    pub(super) signal: Signal,
    /// NAME (all its workers), NAME@SLOT, an id, `all` or /regex/
    #[arg(required = true)]
    pub(super) targets: Vec<String>,
    /// Only print what it would do
    #[arg(long)]
    pub(super) dry_run: bool,
}

fn read(text: &str) -> Result<Signal, String> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| format!("there is no signal {number}; write SIGUSR2, SIGHUP, …"));
    }
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    Signal::from_str(&name).map_err(|_| format!("there is no signal {text}; write SIGUSR2, SIGHUP, …"))
}

/// Whose main processes get it.
pub(super) async fn units(manager: &Manager, target: &Target) -> Result<Vec<String>, Failure> {
    let names = names::units(manager.scope, target.app());
    Ok(match target {
        Target::App(_) => manager.standing(&names).await?,
        Target::Worker { slot, .. } => vec![names.slot(slot)],
    })
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let mut code = DONE;
    let signal = arguments.signal;
    for (scope, target) in selector::targets(&arguments.targets, asked).await? {
        let manager = Manager::connect(scope).await?;
        let units = units(&manager, &target).await?;
        if units.is_empty() {
            printer.error(&format!("{} does not run: there is nobody to get {signal}", target.app()));
            code = code.max(NOT_RUNNING);
        }
        for unit in units {
            let worker = unit.trim_end_matches(".service");
            match manager.systemd.signal_main(&unit, signal as i32).await {
                Ok(()) => printer.note(&format!("{signal} to {worker}")),
                Err(error @ (BusError::Denied(_) | BusError::Unreachable(_))) => return Err(manager.failure(error)),
                // Between two lives, or not loaded.
                Err(BusError::NoSuchUnit(_) | BusError::Refused(_)) => {
                    printer.error(&format!("{worker} does not run"));
                    code = code.max(NOT_RUNNING);
                }
                Err(error) => {
                    printer.error(&format!("{worker} does not get {signal}: {error}"));
                    code = code.max(FAILED);
                }
            }
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_as_typed() {
        for text in ["SIGUSR2", "usr2", "USR2", "12"] {
            assert_eq!(read(text), Ok(Signal::SIGUSR2), "{text}");
        }
        for text in ["", "SIGUSR3", "0", "99", "-1"] {
            assert!(read(text).unwrap_err().contains("no signal"), "{text}");
        }
    }
}
