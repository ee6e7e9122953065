//! `appctl stop NAME… | NAME@SLOT… | all`.

use std::time::SystemTime;

use clap::Args;

use super::apps;
use super::exit::{FAILED, Failure};
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::of_file::OfFile;
use super::print::Printer;
use super::selector;
use crate::config::Scope;
use crate::system::bus::Verb;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// NAME, NAME@SLOT, an id, `all`, /regex/, or a file that describes apps
    #[arg(required = true)]
    pub(super) targets: Vec<String>,
    #[command(flatten)]
    pub(super) of: OfFile,
    /// Only print the calls to systemd that it would take
    #[arg(long)]
    pub(super) dry_run: bool,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let (words, mut code) = arguments.of.spelled_out(&arguments.targets, asked, printer)?;
    let mut targets = Vec::new();
    for word in &words {
        match selector::targets(std::slice::from_ref(word), asked).await {
            Ok(found) => targets.extend(found),
            Err(failure @ Failure::UnknownApp(_)) => targets.push(orphan(word, asked).await.ok_or(failure)?),
            Err(failure) => return Err(failure),
        }
    }
    let began = SystemTime::now();
    for scope in [Scope::System, Scope::User] {
        let here: Vec<&Target> = targets.iter().filter(|(of, _)| *of == scope).map(|(_, target)| target).collect();
        if here.is_empty() {
            continue;
        }
        let manager = Manager::connect(scope).await?;
        let apps: Vec<&str> =
            here.iter().filter(|target| matches!(target, Target::App(_))).map(|target| target.app()).collect();
        manager.end_actions(&apps).await?;
        let mut unfinished = manager.stop(&apps, printer).await?;
        let workers: Vec<_> = here
            .iter()
            .filter_map(|target| match target {
                Target::Worker { app, slot } => Some((Verb::Stop, names::units(scope, app).slot(slot))),
                Target::App(_) => None,
            })
            .collect();
        unfinished.extend(
            manager
                .run(&workers, async |_, unit| printer.note(&format!("{} stopped", unit.trim_end_matches(".service"))))
                .await?,
        );
        if unfinished.is_empty() {
            // Whoever stops something knows that it has failed.
            for app in &apps {
                manager.forget_failures(&names::units(scope, app)).await?;
            }
            for (_, worker) in &workers {
                let _ = manager.systemd.reset_failed(worker).await;
            }
            for app in &apps {
                let comes_back = apps::read(scope, app).is_ok_and(|it| it.app.start != crate::config::Start::Manual);
                let until = if comes_back {
                    " (until the next boot; start = \"manual\" in its file keeps it down)"
                } else {
                    ""
                };
                printer.note(&format!("{app} stopped{until}"));
            }
        } else {
            manager.explain(&unfinished, began, printer).await;
            code = code.max(FAILED);
        }
    }
    Ok(code)
}

/// An app that runs though its file is gone.
async fn orphan(word: &str, asked: Asked) -> Option<(Scope, Target)> {
    let target = Target::read(word);
    for scope in asked.for_all() {
        let manager = Manager::connect(scope).await.ok()?;
        let names = names::units(scope, target.app());
        // No other package has a socket of that name.
        let channel = manager.properties(&names.channel).await.ok()?;
        if channel.text("ActiveState") == Some("active") {
            return Some((scope, target));
        }
    }
    None
}
