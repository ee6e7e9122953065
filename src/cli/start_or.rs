//! `appctl startOrRestart`, `startOrReload`, `startOrGracefulReload`: what is there is restarted or reloaded, what is not
//! is started.

use std::path::Path;

use clap::Args;

use super::exit::{DONE, Failure};
use super::import::{self, Installed};
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::new_app;
use super::of_file::OfFile;
use super::pm2flags::Habits;
use super::print::Printer;
use super::script::Flags;
use super::{apps, ids, reload, restart, selector, start};
use crate::config::Scope;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// NAME, a TOML file, an ecosystem file of PM2's, `all` or /regex/
    #[arg(required = true, value_name = "NAME|FILE")]
    pub(super) targets: Vec<String>,
    #[command(flatten)]
    of: OfFile,
    /// Of a file of PM2's: overwrite the files of apps that were changed since their import
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    pub(super) habits: Habits,
    /// Only print the files and the calls to systemd that it would take
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl Arguments {
    pub(super) fn of(&self) -> OfFile {
        OfFile { force: self.force, ..self.of.clone() }
    }
}

/// What is done to an app that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Restart,
    Reload,
}

pub(super) async fn run(
    act: Act,
    words: &[String],
    of: &OfFile,
    asked: Asked,
    printer: &Printer,
) -> Result<u8, Failure> {
    of.check(words)?;
    let mut code = DONE;
    for word in words {
        let done = one(act, word, of, asked, printer).await;
        code = code.max(done.or_else(|failure| failure.of_one(printer))?);
    }
    Ok(code)
}

async fn one(act: Act, word: &str, of: &OfFile, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    if import::is_file(word) {
        return of_ecosystem(act, word, of, asked, printer).await;
    }
    let flags = Flags { env: of.env.clone(), ..Flags::default() };
    let words = [word.to_owned()];
    let start = start::Arguments {
        targets: words.to_vec(),
        script: flags.clone(),
        linger: false,
        no_block: false,
        dry_run: false,
    };
    if Path::new(word).extension().is_some_and(|ending| ending == "toml") && Path::new(word).is_file() {
        let (scope, name, path, text) = new_app::from_file(word, &flags, asked)?;
        if !apps::exists(scope, &name) {
            return start::run(&start, asked, printer).await;
        }
        // What the file says now is what is meant.
        new_app::install(scope, &name, &path, &text, true, printer)?;
        return act_on(act, scope, &Target::App(name), printer).await;
    }
    let there = selector::is_of_several(word) || ids::is_id(word, asked) || {
        let target = Target::read(word);
        apps::exists(asked.for_app(target.app()), target.app())
    };
    if !there {
        return start::run(&start, asked, printer).await;
    }
    let mut code = DONE;
    for (scope, target) in selector::targets(&words, asked).await? {
        let done = act_on(act, scope, &target, printer).await;
        code = code.max(done.or_else(|failure| failure.of_one(printer))?);
    }
    Ok(code)
}

/// The apps of a file of PM2's, as it is now.
async fn of_ecosystem(act: Act, word: &str, of: &OfFile, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let scope = asked.for_new_app();
    let mut code = DONE;
    for Installed { app, first, .. } in import::apps(word, &of.choice(), scope, of.force, printer)? {
        if first && !app.imported.draft.at_boot {
            printer.note(&format!("{0} is not started (autostart: false): `appctl start {0}` does it", app.name));
            continue;
        }
        let done = act_on(act, scope, &Target::App(app.name), printer).await;
        code = code.max(done.or_else(|failure| failure.of_one(printer))?);
    }
    Ok(code)
}

async fn act_on(act: Act, scope: Scope, target: &Target, printer: &Printer) -> Result<u8, Failure> {
    let words = [target.to_string()];
    let asked = Asked(Some(scope));
    let manager = Manager::connect(scope).await?;
    if !manager.router_runs(&names::units(scope, target.app())).await? {
        let start = start::Arguments {
            targets: words.to_vec(),
            script: Flags::default(),
            linger: false,
            no_block: false,
            dry_run: false,
        };
        return start::run(&start, asked, printer).await;
    }
    match act {
        Act::Restart => restart::run(&words, asked, printer).await,
        Act::Reload => reload::run(&reload::Arguments::of(words.to_vec()), asked, printer).await,
    }
}
