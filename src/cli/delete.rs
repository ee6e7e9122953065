//! `appctl delete NAME… | all`: stops apps and removes their files.

use std::path::Path;
use std::time::SystemTime;

use clap::Args;

use super::apps;
use super::exit::{FAILED, Failure};
use super::files::{self, OfFile};
use super::import::WRITTEN_BY_IMPORT;
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::script::WRITTEN_BY_START;
use super::serve;
use crate::config::Scope;
use crate::system::bus::Verb;
use crate::system::place;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps, ids, `all`, /regex/, or a file that describes apps; all but names spare files that were not written by
    /// `appctl start` or an import
    #[arg(required = true)]
    pub(super) names: Vec<String>,
    #[command(flatten)]
    pub(super) of: OfFile,
    /// Stop, but leave the file where it is
    #[arg(long)]
    pub(super) keep_file: bool,
    /// Only print the files and the calls to systemd that it would take
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Removes what is known of an app until the next boot. What cannot be removed goes then.
fn forget(user: bool, name: &str) {
    // Not the lock: who waits for it has it open.
    for file in [
        place::reload(user, name),
        place::replacement(user, name),
        place::counted(user, name),
        place::generation(user, name),
    ]
    .into_iter()
    .flatten()
    {
        let _ = std::fs::remove_file(file);
    }
    // Its sockets are gone with their units.
    let house = place::control(user, name).as_deref().and_then(Path::parent).map(Path::to_owned);
    for directory in [place::slots(user, name), house].into_iter().flatten() {
        let _ = std::fs::remove_dir(directory);
    }
}

/// Whether `appctl` has written a file, as far as it can be read.
pub(super) fn is_ours(path: &Path) -> bool {
    std::fs::read_to_string(path)
        .map_or(true, |text| [WRITTEN_BY_START, WRITTEN_BY_IMPORT].iter().any(|ours| text.starts_with(ours)))
}

/// Leaves nothing of an app whose units have been stopped.
pub(super) async fn remove(manager: &Manager, name: &str, path: &Path) -> Result<(), Failure> {
    let names = names::units(manager.scope, name);
    // What held them all together; systemd keeps an empty slice.
    let _ = manager.systemd.enqueue(Verb::Stop, &names.slice).await;
    std::fs::remove_file(path).map_err(|error| Failure::of_write(&error, path))?;
    serve::forget_password(path);
    manager.refresh(&names, true).await?;
    manager.forget_failures(&names).await?;
    forget(manager.scope == Scope::User, name);
    Ok(())
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let (words, mut code) = files::spelled_out(&arguments.names, &arguments.of, asked, printer)?;
    for (scope, target) in names::targets(&words, asked).await? {
        let Target::App(name) = &target else {
            return Err(Failure::Usage(format!(
                "{target} is a worker, not an app; `appctl scale {} -1` takes one worker away",
                target.app()
            )));
        };
        let began = SystemTime::now();
        let manager = Manager::connect(scope).await?;
        let names = names::units(scope, name);
        manager.end_actions(&[name]).await?;
        let unfinished = manager.stop(&[name], printer).await?;
        if !unfinished.is_empty() {
            manager.explain(&unfinished, began, printer).await;
            code = code.max(FAILED);
        }
        let path = apps::path(scope, name)?;
        let by_hand = !arguments.names.contains(name) && !is_ours(&path);
        let kept = arguments.keep_file || by_hand;
        if kept {
            let _ = manager.systemd.enqueue(Verb::Stop, &names.slice).await;
            manager.forget_failures(&names).await?;
        } else {
            remove(&manager, name, &path).await?;
        }
        if by_hand && !arguments.keep_file {
            printer
                .note(&format!("{name} stopped; {} is not ours, delete it by `appctl delete {name}`", path.display()));
        } else if kept {
            printer.note(&format!("{name} stopped; {} is kept", path.display()));
        } else {
            printer.note(&format!("{name} deleted; {} removed", path.display()));
        }
    }
    Ok(code)
}
