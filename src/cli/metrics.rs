//! `appctl metrics NAME`: what the router counts, as Prometheus reads it.

use super::exit::{DONE, Failure, NOT_RUNNING};
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::print::Printer;
use crate::router::client::ControlError;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    name: String,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let targets = names::targets(std::slice::from_ref(&arguments.name), asked)?;
    let [(scope, Target::App(name))] = &targets[..] else {
        return Err(Failure::Usage(format!("{} is not one app; name one", arguments.name)));
    };
    let manager = Manager::connect(*scope).await?;
    // Whoever asks a router that does not run would start it.
    if !manager.router_runs(&names::units(*scope, name)).await? {
        printer.note(&format!("{name} does not run; `appctl start {name}` starts it"));
        return Ok(NOT_RUNNING);
    }
    let Some(control) = manager.control(name) else {
        return Err(Failure::failed("XDG_RUNTIME_DIR is not set: there is no user manager".to_owned()));
    };
    let page = control.metrics().await.map_err(|error: ControlError| Failure::failed(error.to_string()))?;
    printer.data(page.trim_end());
    Ok(DONE)
}
