//! `appctl run`: serves in the foreground, without systemd.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::apps;
use super::exit::Failure;
use super::import::{self, Choice};
use super::print::Printer;
use super::script::{self, Flags};
use crate::config::{App, Listen, Scope};
use crate::foreground::{self, Lines};
use crate::generator::processors;
use crate::system::init;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A script, a program, a TOML file, a file of PM2's or the name of an app
    pub(super) target: String,
    /// Serve metrics for Prometheus at an address, such as 127.0.0.1:19100
    #[arg(long, value_name = "ADDRESS", value_parser = |text: &str| Listen::read(text).map_err(|wrong| wrong.reason))]
    pub(super) metrics: Option<Listen>,
    /// Print the workers' lines as they are, without index and name (--json prints each as an object)
    #[arg(long)]
    pub(super) raw: bool,
    #[command(flatten)]
    pub(super) script: Flags,
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<ExitCode, Failure> {
    // The first process of a container is not this one's business.
    if init::is_needed() {
        let code = init::run().map_err(|error| Failure::failed(format!("cannot run as the first process: {error}")))?;
        return Ok(ExitCode::from(code));
    }
    let mut app = app(arguments, printer)?;
    if arguments.metrics.is_some() {
        app.router.metrics.clone_from(&arguments.metrics);
    }
    if app.watch.is_some() || !app.schedule.is_empty() {
        printer.warning("no watch and no [schedule] in the foreground: units of systemd's do that");
    }
    if app.limits.memory_reload.is_some() {
        printer.warning("limits.memory_reload has no effect without systemd: no worker is replaced");
    }
    let mut options =
        foreground::Options::of(&app, processors()).map_err(|error| Failure::failed(error.to_string()))?;
    options.time = arguments.script.time;
    options.lines = match (printer.json, arguments.raw) {
        (true, _) => Lines::Json,
        (_, true) => Lines::Raw,
        _ => Lines::Named,
    };
    foreground::main(options).map_err(|error| Failure::failed(error.to_string()))
}

/// What is to be served: by way of a file's text, so that all that a file may say holds here too.
fn app(arguments: &Arguments, printer: &Printer) -> Result<App, Failure> {
    let target = &arguments.target;
    let flags = &arguments.script;
    if target.ends_with(".toml") {
        let path = Path::new(target);
        let text =
            std::fs::read_to_string(path).map_err(|error| Failure::failed(format!("cannot read {target}: {error}")))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut app = apps::check(Scope::System, flags.name.as_deref().unwrap_or(&stem), path, &text, printer)?;
        if let Some(typed) = &flags.instances {
            app.workers = script::instances(typed)?;
        }
        return Ok(app);
    }
    if import::is_file(target) {
        let choice = Choice { only: flags.only.clone(), env: flags.env.clone(), listen: flags.listen.clone() };
        let (mut apps, _) = import::read(target, &choice, Scope::User, printer)?;
        let names: Vec<String> = apps.iter().map(|app| app.name.clone()).collect();
        let (Some(app), true) = (apps.pop(), apps.is_empty()) else {
            return Err(Failure::Usage(format!(
                "in the foreground there is one app, say --only NAME: {}",
                names.join(", ")
            )));
        };
        import::warn(&app, printer);
        return apps::check(Scope::User, &app.name, Path::new(target), &app.text, printer);
    }
    let known = [Scope::User, Scope::System].into_iter().find(|scope| apps::exists(*scope, target));
    if let Some(scope) = known.filter(|_| !target.contains('/')) {
        return Ok(apps::load(scope, target, printer)?.app);
    }
    let Some(place) = script::look(target, Scope::User)? else {
        return Err(Failure::failed(format!("there is no script, program or app {target}")));
    };
    let flags = Flags { uid: None, gid: None, ..flags.clone() };
    let draft = script::describe(&flags, &place, script::find_program)?;
    apps::check(Scope::User, &draft.name, Path::new("appctl run"), &draft.toml(), printer)
}
