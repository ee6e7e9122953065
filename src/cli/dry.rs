//! `--dry-run`: what a command would write, remove and ask systemd for, and nothing of it done.

use std::path::PathBuf;

use serde::Serialize;

use super::apps::{self, Loaded};
use super::exit::{DONE, FAILED, Failure, NOT_RUNNING, USAGE};
use super::import::{self, Choice, Entry};
use super::manage::Manager;
use super::names::{self, Asked, Target};
use super::new_app::{self, New};
use super::of_file::OfFile;
use super::print::Printer;
use super::start_or::Act;
use super::{
    delete, ids, reset, restart as restarting, scale as scaling, script, selector, signal, stamp, start as starting,
    started, stop, trigger, up,
};
use crate::config::Scope;
use crate::system::bus::Verb;

/// One thing that would be done.
#[derive(Debug, Serialize)]
#[serde(tag = "step", rename_all = "lowercase")]
enum Step {
    Write {
        path: PathBuf,
        text: String,
    },
    Remove {
        path: PathBuf,
    },
    /// A method of org.freedesktop.systemd1.Manager.
    Call {
        method: &'static str,
        unit: Option<String>,
    },
    /// What follows from a call by itself.
    Follows {
        what: String,
    },
}

impl Step {
    fn unit(verb: Verb, unit: String) -> Self {
        let method = match verb {
            Verb::Start => "StartUnit",
            Verb::Stop => "StopUnit",
            Verb::Restart => "RestartUnit",
            Verb::Reload => "ReloadUnit",
        };
        Self::Call { method, unit: Some(unit) }
    }

    /// `systemctl daemon-reload`.
    fn daemon_reload() -> Self {
        Self::Call { method: "Reload", unit: None }
    }

    fn line(&self) -> String {
        match self {
            Self::Write { path, text } => {
                let text: String = text.lines().map(|line| format!("\n  | {line}")).collect();
                format!("would write {}{text}", path.display())
            }
            Self::Remove { path } => format!("would remove {}", path.display()),
            Self::Call { method, unit: Some(unit) } => format!("would call {method}({unit})"),
            Self::Call { method, unit: None } => format!("would call {method}()"),
            Self::Follows { what } => format!("  {what}"),
        }
    }
}

fn tell(steps: &[Step], printer: &Printer) -> u8 {
    if printer.json {
        printer.json(&steps);
    } else if steps.is_empty() {
        printer.note("nothing would be done");
    } else {
        steps.iter().for_each(|step| printer.data(&step.line()));
    }
    DONE
}

/// Those jobs that would change something.
async fn of_those_that_are(
    up: bool,
    manager: &Manager,
    jobs: impl IntoIterator<Item = (Verb, String)>,
) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    for (verb, unit) in jobs {
        let properties = manager.properties(&unit).await?;
        let is_up = !matches!(properties.text("ActiveState"), Some("inactive" | "failed") | None);
        if is_up == up {
            steps.push(Step::unit(verb, unit));
        }
    }
    Ok(steps)
}

pub(super) async fn stop(arguments: &stop::Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let (words, code) = arguments.of.spelled_out(&arguments.targets, asked, printer)?;
    let mut steps = Vec::new();
    for (scope, target) in selector::targets(&words, asked).await? {
        steps.extend(stopping(&Manager::connect(scope).await?, &target).await?);
    }
    Ok(code.max(tell(&steps, printer)))
}

/// The apps of a file of PM2's, read as it is now. `act`: of those that run, whatever the file says.
async fn of_ecosystem(
    act: Option<Act>,
    word: &str,
    choice: &Choice,
    force: bool,
    asked: Asked,
    printer: &Printer,
) -> Result<Vec<Step>, Failure> {
    let scope = asked.for_new_app();
    let manager = Manager::connect(scope).await?;
    let mut steps = Vec::new();
    for entry in import::read(word, choice, scope, printer)?.0 {
        let path = apps::path(scope, &entry.name)?;
        let there = crate::generator::apps::text(&path).unwrap_or_default();
        let (text, _) = import::to_write(&there, &entry);
        let Entry { name, imported, .. } = entry;
        let app = apps::check(scope, &name, &path, &text, printer)?;
        let first = !path.exists();
        let news = new_app::is_news(&name, &path, &text, force || import::may_be_replaced(&path))?;
        let loaded = Loaded { app, path: path.clone(), text: text.clone() };
        if news {
            steps.push(Step::Write { path, text });
            steps.push(Step::daemon_reload());
        }
        if !imported.draft.at_boot && (first || act.is_none()) {
            continue;
        }
        let running = manager.router_runs(&names::units(scope, &name)).await?;
        steps.extend(match act {
            Some(Act::Reload) if running => reloading(&manager, &loaded).await?,
            Some(Act::Restart) if running => restarting_one(&manager, &loaded).await?,
            None if running && news => restarting_one(&manager, &loaded).await?,
            _ => rising(&manager, &loaded).await?,
        });
    }
    Ok(steps)
}

async fn stopping(manager: &Manager, target: &Target) -> Result<Vec<Step>, Failure> {
    let names = names::units(manager.scope, target.app());
    let jobs = match target {
        Target::Worker { slot, .. } => vec![(Verb::Stop, names.slot(slot))],
        Target::App(app) => {
            let actions = names.actions().map(|action| (Verb::Stop, action.to_owned()));
            actions.into_iter().chain(manager.to_stop(app).await?).collect()
        }
    };
    of_those_that_are(true, manager, jobs).await
}

/// Everything of an app that does not run yet.
async fn rising(manager: &Manager, loaded: &Loaded) -> Result<Vec<Step>, Failure> {
    let runs = manager.router_runs(&names::units(manager.scope, &loaded.app.name)).await?;
    let (sockets, services) = up::to_start(manager, loaded, runs).await?;
    of_those_that_are(false, manager, sockets.into_iter().chain(services)).await
}

pub(super) async fn start(arguments: &starting::Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let flags = &arguments.script;
    let mut steps = Vec::new();
    for word in &arguments.targets {
        let target = Target::read(word);
        let there = !word.contains('/') && apps::exists(asked.for_app(target.app()), target.app());
        let is_id = ids::is_id(word, asked) && !std::path::Path::new(word).exists();
        if there || is_id || selector::is_of_several(word) {
            for (scope, target) in selector::targets(std::slice::from_ref(word), asked).await? {
                steps.extend(starting_known(scope, &target, flags, printer).await?);
            }
            continue;
        }
        if import::is_file(word) {
            let choice = Choice { only: flags.only.clone(), env: flags.env.clone(), listen: flags.listen.clone() };
            steps.extend(of_ecosystem(None, word, &choice, flags.force, asked, printer).await?);
            continue;
        }
        let new = if word.ends_with(".toml") { new_app::from_file } else { new_app::from_script };
        let new = new(word, flags, asked)?;
        let there = crate::generator::apps::text(&new.2).unwrap_or_default();
        let scaled = word.ends_with(".toml") && stamp::differ_in_workers_alone(&there, &new.3);
        steps.extend(of_new(new, flags.force || scaled, printer).await?);
    }
    Ok(tell(&steps, printer))
}

/// A file that is written, and its app started.
async fn of_new((scope, name, path, text): New, force: bool, printer: &Printer) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    let app = apps::check(scope, &name, &path, &text, printer)?;
    let manager = Manager::connect(scope).await?;
    let news = new_app::is_news(&name, &path, &text, force)?;
    let loaded = Loaded { app, path: path.clone(), text: text.clone() };
    if news {
        steps.push(Step::Write { path, text });
        steps.push(Step::daemon_reload());
    }
    let running = manager.router_runs(&names::units(scope, &name)).await?;
    steps.extend(if news && running {
        restarting_one(&manager, &loaded).await?
    } else {
        rising(&manager, &loaded).await?
    });
    Ok(steps)
}

/// `secret`: a file that is written beside the app's, whose text is not for everybody.
pub(super) async fn serve(new: New, secret: Option<PathBuf>, force: bool, printer: &Printer) -> Result<u8, Failure> {
    let secret = secret.map(|path| Step::Write { path, text: "(the password)".to_owned() });
    let mut steps: Vec<Step> = secret.into_iter().collect();
    steps.extend(of_new(new, force, printer).await?);
    Ok(tell(&steps, printer))
}

pub(super) async fn reset(words: &[String], asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let mut steps = Vec::new();
    for (scope, target) in selector::targets(words, asked).await? {
        let units = reset::units(&Manager::connect(scope).await?, &target).await?;
        steps.extend(units.into_iter().map(|unit| Step::Call { method: "ResetFailedUnit", unit: Some(unit) }));
    }
    Ok(tell(&steps, printer))
}

pub(super) async fn signal(arguments: &signal::Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let mut steps = Vec::new();
    let mut code = DONE;
    for (scope, target) in selector::targets(&arguments.targets, asked).await? {
        let units = signal::units(&Manager::connect(scope).await?, &target).await?;
        if units.is_empty() {
            printer.error(&format!("{} does not run", target.app()));
            code = NOT_RUNNING;
        }
        for unit in units {
            let what = format!("its main process gets {}", arguments.signal);
            steps.extend([Step::Call { method: "KillUnit", unit: Some(unit) }, Step::Follows { what }]);
        }
    }
    Ok(code.max(tell(&steps, printer)))
}

pub(super) async fn trigger(arguments: &trigger::Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let targets = selector::targets(std::slice::from_ref(&arguments.target), asked).await?;
    let step = |target: &Target| {
        let workers = match target {
            Target::App(_) => "every worker of it that runs".to_owned(),
            Target::Worker { slot, .. } => format!("worker {slot}"),
        };
        let (app, action) = (target.app(), &arguments.action);
        Step::Follows { what: format!("would ask the router of {app} to call the action {action} in {workers}") }
    };
    Ok(tell(&targets.iter().map(|(_, target)| step(target)).collect::<Vec<_>>(), printer))
}

async fn starting_known(
    scope: Scope,
    target: &Target,
    flags: &script::Flags,
    printer: &Printer,
) -> Result<Vec<Step>, Failure> {
    if let Some(flag) = flags.of_a_script() {
        return Err(Failure::Usage(format!("{} is an app already: {flag} has no meaning here", target.app())));
    }
    let loaded = apps::load(scope, target.app(), printer)?;
    let manager = Manager::connect(scope).await?;
    if let Target::Worker { slot, .. } = target {
        let unit = names::units(scope, target.app()).slot(slot);
        return of_those_that_are(false, &manager, [(Verb::Start, unit)]).await;
    }
    rising(&manager, &loaded.in_force(scope)?).await
}

pub(super) async fn restart(words: &[String], of: &OfFile, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    of.check(words)?;
    let (files, words): (Vec<String>, Vec<String>) = words.iter().cloned().partition(|word| import::is_file(word));
    let mut steps = Vec::new();
    for word in files {
        steps.extend(of_ecosystem(Some(Act::Restart), &word, &of.choice(), of.force, asked, printer).await?);
    }
    for (scope, target) in selector::targets(&words, asked).await? {
        let loaded = apps::load(scope, target.app(), printer)?;
        let manager = Manager::connect(scope).await?;
        if let Target::Worker { app, slot } = &target {
            steps.push(Step::unit(Verb::Restart, names::units(scope, app).slot(slot)));
            continue;
        }
        steps.extend(restarting_one(&manager, &loaded).await?);
    }
    Ok(tell(&steps, printer))
}

async fn restarting_one(manager: &Manager, loaded: &Loaded) -> Result<Vec<Step>, Failure> {
    let name = &loaded.app.name;
    let names = names::units(manager.scope, name);
    if !manager.router_runs(&names).await? {
        return rising(manager, loaded).await;
    }
    let surplus = manager.surplus(name, loaded.workers()).await?;
    let mut steps: Vec<Step> = surplus.into_iter().map(|(verb, unit)| Step::unit(verb, unit)).collect();
    if restarting::listens_elsewhere(manager, loaded).await {
        // A socket keeps its addresses until it is stopped.
        let stops = stopping(manager, &Target::App(name.clone())).await?;
        let (sockets, services) = up::to_start(manager, loaded, false).await?;
        let starts = sockets.into_iter().chain(services).map(|(verb, unit)| Step::unit(verb, unit));
        return Ok(stops.into_iter().chain(starts).collect());
    }
    steps.push(Step::unit(Verb::Restart, names.router.clone()));
    steps.push(Step::Follows { what: format!("it stops the workers of {name}, and starts {}", loaded.workers()) });
    Ok(steps)
}

pub(super) async fn reload(words: &[String], of: &OfFile, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    of.check(words)?;
    let (files, words): (Vec<String>, Vec<String>) = words.iter().cloned().partition(|word| import::is_file(word));
    let mut steps = Vec::new();
    let mut code = DONE;
    for word in files {
        steps.extend(of_ecosystem(Some(Act::Reload), &word, &of.choice(), of.force, asked, printer).await?);
    }
    for (scope, target) in selector::targets(&words, asked).await? {
        let Target::App(name) = &target else {
            printer.error("a reload is of a whole app");
            return Ok(USAGE);
        };
        let loaded = apps::load(scope, name, printer)?;
        let manager = Manager::connect(scope).await?;
        let names = names::units(scope, name);
        if !manager.router_runs(&names).await? {
            printer.error(&format!("{name} is not running"));
            code = FAILED;
            continue;
        }
        steps.extend(reloading(&manager, &loaded).await?);
    }
    tell(&steps, printer);
    Ok(code)
}

async fn reloading(manager: &Manager, loaded: &Loaded) -> Result<Vec<Step>, Failure> {
    let names = names::units(manager.scope, &loaded.app.name);
    let old = manager.standing(&names).await?;
    let what = format!(
        "it starts {} new workers in free slots, {} at a time, and drains and stops {}",
        loaded.workers(),
        loaded.app.reload.surge,
        old.join(", ")
    );
    Ok(vec![Step::unit(Verb::Reload, names.router.clone()), Step::Follows { what }])
}

pub(super) async fn delete(arguments: &delete::Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let mut steps = Vec::new();
    let (words, code) = arguments.of.spelled_out(&arguments.names, asked, printer)?;
    for (scope, target) in selector::targets(&words, asked).await? {
        let Target::App(name) = &target else {
            printer.error(&format!("{target} is a worker, not an app"));
            return Ok(USAGE);
        };
        let manager = Manager::connect(scope).await?;
        steps.extend(stopping(&manager, &target).await?);
        steps.extend(of_those_that_are(true, &manager, [(Verb::Stop, names::units(scope, name).slice)]).await?);
        let path = apps::path(scope, name)?;
        if !arguments.keep_file && (delete::is_ours(&path) || arguments.names.contains(name)) {
            steps.push(Step::Remove { path });
            steps.push(Step::daemon_reload());
        }
    }
    Ok(code.max(tell(&steps, printer)))
}

pub(super) async fn scale(arguments: &scaling::Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let Target::App(name) = Target::read(&arguments.name) else {
        return Err(Failure::Usage(format!("{} is a worker; name the app", arguments.name)));
    };
    let scope = asked.for_app(&name);
    let loaded = apps::load(scope, &name, printer)?;
    let (path, said) = (loaded.path.clone(), loaded.text.clone());
    let running = loaded.in_force(scope)?;
    let workers = scaling::resolve(&arguments.number, running.workers()).map_err(Failure::Usage)?;
    let text = scaling::edited(&said, workers)
        .map_err(|error| Failure::failed(format!("cannot change {}: {error}", path.display())))?;
    let mut steps = Vec::new();
    if text != said {
        steps.push(Step::Write { path, text });
        steps.push(Step::daemon_reload());
    }
    let manager = Manager::connect(scope).await?;
    let names = names::units(scope, &name);
    if manager.router_runs(&names).await? {
        let after = workers.resolve(crate::generator::processors());
        let surplus = manager.surplus(&name, after).await?;
        let missing = started::missing(&manager.systemd, &names, after).await;
        let missing = missing.map_err(|error| manager.failure(error))?.into_iter().map(|unit| (Verb::Start, unit));
        steps.extend(surplus.into_iter().chain(missing).map(|(verb, unit)| Step::unit(verb, unit)));
    }
    Ok(tell(&steps, printer))
}
