//! `appctl delete NAME… | all`: stops apps and removes their files.

use std::path::Path;
use std::time::SystemTime;

use clap::Args;

use super::apps;
use super::exit::{FAILED, Failure};
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::of_file::OfFile;
use super::print::Printer;
use super::script::WRITTEN_BY_START;
use super::selector;
use super::served;
use super::stamp::{self, WRITTEN_BY_IMPORT};
use crate::config::Scope;
use crate::system::bus::Verb;
use crate::system::place;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps, ids, `all`, /regex/, or a file that describes apps; all but names spare files that neither `appctl
    /// start` nor an import wrote, and those that were changed since their import
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

/// Whether a file says what `appctl` wrote, as far as it can be told: what an import wrote carries a checksum. Only the
/// name of an app deletes another one.
pub(super) fn is_ours(path: &Path) -> bool {
    crate::generator::apps::text(path)
        .map_or(true, |text| text.starts_with(WRITTEN_BY_START) || stamp::is_untouched(&text))
}

/// With a user's last app goes what was made for them all; the system's directories are the package's.
fn sweep(path: &Path) {
    let Some(runtime) = place::runtime_directory(true).map(|runtime| runtime.join("appctl")) else { return };
    let Some(files) = path.parent() else { return };
    // Nothing goes that is not empty.
    if std::fs::remove_dir(files).is_err() {
        return;
    }
    let locks = std::fs::read_dir(runtime.join(".lock")).into_iter().flatten().flatten();
    for lock in locks {
        let _ = std::fs::remove_file(lock.path());
    }
    let parts = std::fs::read_dir(&runtime).into_iter().flatten().flatten().map(|part| part.path());
    for directory in parts.chain([runtime]).collect::<Vec<_>>() {
        let _ = std::fs::remove_dir(directory);
    }
}

/// Leaves nothing of an app whose units have been stopped.
pub(super) async fn remove(manager: &Manager, name: &str, path: &Path) -> Result<(), Failure> {
    let names = names::units(manager.scope, name);
    // What held them all together; systemd keeps an empty slice.
    let _ = manager.systemd.enqueue(Verb::Stop, &names.slice).await;
    std::fs::remove_file(path).map_err(|error| Failure::of_write(&error, path))?;
    served::forget_password(path);
    manager.refresh(&names, true).await?;
    manager.forget_failures(&names).await?;
    forget(manager.scope == Scope::User, name);
    if manager.scope == Scope::User {
        sweep(path);
    }
    Ok(())
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let (words, mut code) = arguments.of.spelled_out(&arguments.names, asked, printer)?;
    for (scope, target) in selector::targets(&words, asked).await? {
        let Target::App(name) = &target else {
            return Err(Failure::Usage(format!(
                "{target} is a worker, not an app; `appctl scale {} -1` takes one worker away",
                target.app()
            )));
        };
        let began = SystemTime::now();
        let path = apps::path(scope, name)?;
        let by_hand = !arguments.names.contains(name) && !is_ours(&path);
        let kept = arguments.keep_file || by_hand;
        if let (false, Some(directory)) = (kept, path.parent()) {
            // Whoever may stop an app may have no right to remove its file: then nothing is done.
            nix::unistd::access(directory, nix::unistd::AccessFlags::W_OK)
                .map_err(|errno| Failure::of_write(&errno.into(), &path))?;
        }
        let manager = Manager::connect(scope).await?;
        let names = names::units(scope, name);
        manager.end_actions(&[name]).await?;
        let unfinished = manager.stop(&[name], printer).await?;
        if !unfinished.is_empty() {
            manager.explain(&unfinished, began, printer).await;
            code = code.max(FAILED);
        }
        if kept {
            let _ = manager.systemd.enqueue(Verb::Stop, &names.slice).await;
            manager.forget_failures(&names).await?;
        } else {
            remove(&manager, name, &path).await?;
        }
        if by_hand && !arguments.keep_file {
            let edited = crate::generator::apps::text(&path).is_ok_and(|text| text.starts_with(WRITTEN_BY_IMPORT));
            let why = if edited { "was changed since its import" } else { "is not ours" };
            printer.note(&format!("{name} stopped; {} {why}, delete it by `appctl delete {name}`", path.display()));
        } else if kept {
            printer.note(&format!("{name} stopped; {} is kept", path.display()));
        } else {
            printer.note(&format!("{name} deleted; {} removed", path.display()));
        }
    }
    Ok(code)
}
