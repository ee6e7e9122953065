//! `appctl scale NAME N|+N|-N|max`: changes `workers` in the app's file, and starts or stops the workers that this means.

use std::io;
use std::time::SystemTime;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::apps;
use super::exit::{DONE, FAILED, Failure};
use super::manage::{Manager, count};
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::rollout::{lock, unlockable};
use super::up::{self, Tell};
use crate::config::Workers;
use crate::config::check::WORKERS_MAX;
use crate::generator::held;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    pub(super) name: String,
    /// A number, +N, -N, `max` (one a processor) or `max-N`
    #[arg(allow_hyphen_values = true)]
    pub(super) number: String,
    /// Only print the files and the calls to systemd that it would take
    #[arg(long)]
    pub(super) dry_run: bool,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let scope = asked.for_app(&arguments.name);
    let Target::App(name) = Target::read(&arguments.name) else {
        return Err(Failure::Usage(format!("{} is a worker; name the app", arguments.name)));
    };
    let loaded = apps::load(scope, &name, printer)?;
    let said = loaded.text.clone();
    // A file that is on hold stays so: what runs instead gets the same number.
    let running = loaded.in_force(scope)?;
    let before = running.workers();
    let wanted = resolve(&arguments.number, before).map_err(Failure::Usage)?;
    let change = |text: &str| {
        edited(text, wanted)
            .map_err(|error| Failure::failed(format!("cannot change {}: {error}", running.path.display())))
    };
    let (says, text) = (change(&said)?, change(&running.text)?);
    let places = apps::places(scope)?;
    let on_hold = held::is_held(&places, &name);
    // Its mistakes have been told above.
    let app = crate::config::parse(&name, &running.path, &text, scope).app.ok_or(Failure::Told(FAILED))?;
    let after = apps::Loaded { app, path: running.path.clone(), text };
    let manager = Manager::connect(scope).await?;
    let names = names::units(scope, &name);
    if manager.properties(&names.router).await?.text("ActiveState") == Some("reloading") {
        printer.error(&format!(
            "a reload of {name} is under way: wait for its end, or stop it by `appctl reload --abort {name}`"
        ));
        return Ok(FAILED);
    }
    let waits = || printer.note(&format!("a worker of {name} is being replaced; waiting for that to end"));
    let _lock = match lock(&name, scope, &CancellationToken::new(), waits).await {
        Ok(lock) => lock,
        // By polkit's leave others than root may manage units; a lock that anybody may take would be anybody's to keep.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => return Err(unlockable(&name, &error)),
    };
    if says != said {
        let proven = held::proven(&places, &name);
        if let Some(proven) = &proven {
            held::change(&places, &name, on_hold.then_some(&says), &change(proven)?).map_err(|error| {
                Failure::failed(format!("cannot keep what runs, for a later reload that fails: {error}"))
            })?;
        }
        apps::write(&after.path, &says).inspect_err(|_| {
            // Both or none. What was there before fits.
            if let Some(proven) = &proven {
                let _ = held::change(&places, &name, on_hold.then_some(&said), proven);
            }
        })?;
    }
    manager.refresh(&names, says != said).await?;
    let (from, to) = (before as usize, after.workers() as usize);
    if from == to {
        printer.note(&format!("{name} has {} already, by {}", count(to), after.path.display()));
    } else {
        printer.note(&format!("{name}: {} instead of {from}, in {}", count(to), after.path.display()));
    }

    let running = manager.router_runs(&names).await?;
    if !running {
        printer.note(&format!("{name} does not run; `appctl start {name}` starts it"));
        return Ok(DONE);
    }
    if let Some(control) = manager.control(&name) {
        // For its status only; and not everybody may.
        let _ = control.set_wanted(after.workers()).await;
    }
    let began = SystemTime::now();
    let surplus = manager.surplus(&name, after.workers()).await?;
    let unfinished = manager
        .run(&surplus, async |_, unit| printer.note(&format!("{} stopped", unit.trim_end_matches(".service"))))
        .await?;
    if !unfinished.is_empty() {
        manager.explain(&unfinished, began, printer).await;
        return Ok(FAILED);
    }
    Ok(up::bring_up(&manager, &after, Tell::New, printer).await?.code())
}

/// What a number as typed means for an app that has `now` workers.
pub(super) fn resolve(typed: &str, now: u32) -> Result<Workers, String> {
    let wrong = || format!("`{typed}` is no number of workers: write 4, +1, -1, max or max-1");
    let changed = |number: i64| match u32::try_from(number) {
        Ok(number @ 1..=WORKERS_MAX) => Ok(Workers::Count(number)),
        Ok(0) | Err(_) if number < 1 => {
            Err(format!("an app keeps one worker at least, this would leave {number}; `appctl stop` stops it"))
        }
        _ => Err(format!("{number} workers are too many, {WORKERS_MAX} are allowed")),
    };
    if typed == "max" {
        return Ok(Workers::MaxMinus(0));
    }
    if let Some(less) = typed.strip_prefix("max-") {
        return less.parse().map(Workers::MaxMinus).map_err(|_| wrong());
    }
    if let Some(more) = typed.strip_prefix('+') {
        return changed(i64::from(now) + more.parse::<u32>().map(i64::from).map_err(|_| wrong())?);
    }
    if let Some(less) = typed.strip_prefix('-') {
        return changed(i64::from(now) - less.parse::<u32>().map(i64::from).map_err(|_| wrong())?);
    }
    changed(typed.parse::<u32>().map(i64::from).map_err(|_| wrong())?)
}

/// The file with another number of workers, and every comment where it was.
pub(super) fn edited(text: &str, workers: Workers) -> Result<String, toml_edit::TomlError> {
    let mut document: toml_edit::DocumentMut = text.parse()?;
    let mut value = match workers {
        Workers::Count(number) => toml_edit::Value::from(i64::from(number)),
        Workers::MaxMinus(0) => toml_edit::Value::from("max"),
        Workers::MaxMinus(less) => toml_edit::Value::from(format!("max-{less}")),
    };
    match document.get_mut("workers").and_then(toml_edit::Item::as_value_mut) {
        Some(old) => {
            let same = match workers {
                Workers::Count(number) => old.as_integer() == Some(i64::from(number)),
                Workers::MaxMinus(_) => old.as_str() == value.as_str(),
            };
            if same {
                return Ok(text.to_owned());
            }
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            document.insert("workers", toml_edit::Item::Value(value));
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_typed() {
        for (typed, wanted) in [
            ("7", Workers::Count(7)),
            ("+2", Workers::Count(6)),
            ("-3", Workers::Count(1)),
            ("max", Workers::MaxMinus(0)),
            ("max-1", Workers::MaxMinus(1)),
        ] {
            assert_eq!(resolve(typed, 4), Ok(wanted), "{typed}");
        }
        for typed in ["0", "-4", "-9", "+1000", "501", "x", "", "+", "--1", "max-", "1.5"] {
            assert!(resolve(typed, 4).is_err(), "{typed}");
        }
    }

    #[test]
    fn comments_stay() {
        let text = "# my app\nexec = 'node a.js' # run\nworkers = 4   # enough\n\n[environment]\nA = 'b'\n";
        assert_eq!(
            edited(text, Workers::Count(6)).unwrap(),
            "# my app\nexec = 'node a.js' # run\nworkers = 6   # enough\n\n[environment]\nA = 'b'\n"
        );
        assert_eq!(edited(text, Workers::Count(4)).unwrap(), text);
        assert!(edited(text, Workers::MaxMinus(1)).unwrap().contains("workers = \"max-1\"   # enough\n"));
    }

    #[test]
    fn a_missing_key_goes_before_the_tables() {
        let text = "exec = 'node a.js'\n\n[environment]\nA = 'b'\n";
        let edited = edited(text, Workers::Count(2)).unwrap();
        assert_eq!(edited, "exec = 'node a.js'\nworkers = 2\n\n[environment]\nA = 'b'\n");
    }
}
