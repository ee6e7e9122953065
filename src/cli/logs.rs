//! `appctl logs`: journalctl, asked for the right lines.

use clap::Args;

use super::apps;
use super::exit::Failure;
use super::names::{self, Asked, Target};
use super::print::Printer;
use crate::config::Scope;
use crate::system::journal::{Match, Output, Query};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// NAME, NAME@SLOT or `all`; none means all
    targets: Vec<String>,
    /// Go on with new lines as they come, those of workers that start later too
    #[arg(short, long)]
    follow: bool,
    /// How many lines of the past
    #[arg(short = 'n', long, default_value_t = 15)]
    lines: u32,
    /// Only lines of priority err and worse (a program sets it by a `<3>` before its line)
    #[arg(long, visible_alias = "error")]
    err: bool,
    /// The text alone, without time and unit
    #[arg(long)]
    raw: bool,
    /// Do not follow (the default; for PM2's sake)
    #[arg(long, hide = true, conflicts_with = "follow")]
    nostream: bool,
}

/// A reload uses slots above the number of workers, and so may `scale`.
const SPARE_SLOTS: u32 = 8;

/// Becomes journalctl.
pub(super) fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let words = if arguments.targets.is_empty() { vec!["all".to_owned()] } else { arguments.targets.clone() };
    let all_scopes = asked.for_all();
    let targets = if arguments.targets.is_empty() {
        let mut targets = Vec::new();
        for scope in &all_scopes {
            targets.extend(apps::names(*scope)?.into_iter().map(|name| (*scope, Target::App(name))));
        }
        targets
    } else {
        names::targets(&words, asked)?
    };
    let Some((scope, _)) = targets.last() else {
        return Err(Failure::UnknownApp("there are no apps yet: `appctl start SCRIPT` makes one".into()));
    };
    let scope = *scope;
    let (here, elsewhere): (Vec<_>, Vec<_>) = targets.into_iter().partition(|(of, _)| *of == scope);
    if !elsewhere.is_empty() {
        printer.note("showing your own apps; add --system for the system's");
    }
    let query = Query {
        manager: apps::manager(scope),
        matches: here.iter().map(|(_, target)| matches(scope, target)).collect(),
        lines: Some(arguments.lines),
        follow: arguments.follow,
        errors: arguments.err,
        output: match (printer.json, arguments.raw) {
            (true, _) => Output::Json,
            (_, true) => Output::Raw,
            _ => Output::Short,
        },
    };
    let error = query.exec();
    Err(Failure::failed(format!("cannot run journalctl: {error}")))
}

/// The lines of one target.
fn matches(scope: Scope, target: &Target) -> Match {
    let names = names::units(scope, target.app());
    match target {
        Target::Worker { app, slot } => {
            Match { app: app.clone(), slot: Some(slot.clone()), units: vec![names.slot(slot)] }
        }
        Target::App(app) => {
            let workers = apps::read(scope, app).map_or(1, |loaded| loaded.workers());
            let slots = (1..=workers + SPARE_SLOTS).map(|slot| names.slot(slot));
            let units = [names.router.clone()].into_iter().chain(slots).collect();
            Match { app: app.clone(), slot: None, units }
        }
    }
}
