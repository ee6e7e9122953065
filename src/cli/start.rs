//! `appctl start NAME… | FILE.toml | SCRIPT`: returns when the app serves.

use std::path::Path;
use std::time::SystemTime;

use clap::Args;

use super::apps::{self, Loaded};
use super::exit::{DONE, FAILED, Failure};
use super::ids;
use super::import::{self, Choice, Installed};
use super::linger;
use super::manage::{self, Manager};
use super::names::{self, Asked, Target};
use super::new_app::{self, New};
use super::print::Printer;
use super::run;
use super::script::Flags;
use super::selector;
use super::stamp;
use super::up::{self, Tell, Up, check_accounts, ready, to_start};
use super::whereabouts;
use crate::config::Scope;
use crate::generator::held;
use crate::pm2;
use crate::system::bus::Verb;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps, `all`, NAME@SLOT, ids, a TOML file, or a script or program
    /// [default: ecosystem.config.js and its like, if one is here]
    #[arg(value_name = "NAME|FILE|SCRIPT")]
    pub(super) targets: Vec<String>,
    #[command(flatten)]
    pub(super) script: Flags,
    /// Let your own apps run on when you log out, and start at boot: loginctl enable-linger
    #[arg(long)]
    pub(super) linger: bool,
    /// Do not wait until it serves: only ask systemd to start it
    #[arg(long)]
    pub(super) no_block: bool,
    /// Only print the files and the calls to systemd that it would take
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl Arguments {
    /// Without a word the file of PM2's that is here is meant, as with PM2.
    pub(super) fn completed(mut self) -> Result<Self, Failure> {
        if self.targets.is_empty() {
            let usual = import::usual(None).map_err(|_| {
                Failure::Usage(
                    "what is to be started? There is no ecosystem.config.js here, nor its like: name an app, a file or a \
                     script"
                        .into(),
                )
            })?;
            self.targets.push(usual);
        }
        Ok(self)
    }

    /// The same as `appctl run`, for --no-daemon.
    pub(super) fn into_run(self) -> Result<run::Arguments, Failure> {
        match <[String; 1]>::try_from(self.targets) {
            Ok([target]) => Ok(run::Arguments { target, metrics: None, raw: false, script: self.script }),
            Err(_) => Err(Failure::Usage("--no-daemon serves one app".into())),
        }
    }
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let flags = &arguments.script;
    let of_one = [(flags.name.is_some(), "--name"), (!flags.listen.is_empty(), "--listen")];
    let of_one = of_one.into_iter().find_map(|(given, flag)| given.then_some(flag));
    if let (Some(flag), [_, second, ..]) = (of_one, arguments.targets.as_slice()) {
        return Err(Failure::Usage(format!("{flag} is for one script, but there is {second} as well")));
    }
    if flags.time {
        printer.note("--time: the journal has the time of every line");
    }
    for told in flags.without_effect.told() {
        printer.note(&told);
    }
    if arguments.linger {
        linger::enable(asked.for_new_app(), printer)?;
    }
    let mut code = DONE;
    for target in &arguments.targets {
        let started = start_one(target, flags, arguments.no_block, asked, printer).await;
        code = code.max(started.or_else(|failure| failure.of_one(printer))?);
    }
    Ok(code)
}

async fn start_one(word: &str, flags: &Flags, no_block: bool, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let target = Target::read(word);
    let known = selector::is_of_several(word)
        || (ids::is_id(word, asked) && !Path::new(word).exists())
        || (!word.contains('/') && apps::exists(asked.for_app(target.app()), target.app()));
    if known {
        if let Some(flag) = flags.of_a_script() {
            return Err(Failure::Usage(format!(
                "{word} is an app already, its file says how it runs: {flag} has no meaning here\n\
                 Edit {}; or use --name for another app, or write ./{word} for a script of that name.",
                apps::path(asked.for_app(word), word)?.display()
            )));
        }
        let mut code = DONE;
        for (scope, target) in selector::targets(&[word.to_owned()], asked).await? {
            let started = start_known(scope, &target, flags, no_block, printer).await;
            code = code.max(started.or_else(|failure| failure.of_one(printer))?);
        }
        return Ok(code);
    }
    if pm2::form::kind(word).is_some() || word == "-" {
        return start_ecosystem(word, flags, no_block, asked, printer).await;
    }
    if word.ends_with(".toml") {
        let new = new_app::from_file(word, flags, asked)?;
        let there = crate::generator::apps::text(&new.2).unwrap_or_default();
        let scaled = stamp::differ_in_workers_alone(&there, &new.3);
        if scaled && !flags.force {
            printer.note(&format!("{}: the number of workers is that of {word} again", new.1));
        }
        return start_new(new, flags.force || scaled, no_block, printer).await;
    }
    let new = new_app::from_script(word, flags, asked)?;
    let remark = whereabouts::remark(Path::new(word), &flags.listen, &new.3);
    if flags.no_autostart {
        let (scope, name, path, text) = new;
        new_app::install(scope, &name, &path, &text, flags.force, printer)?;
        Manager::connect(scope).await?.refresh(&names::units(scope, &name), true).await?;
        printer.note(&format!("{name} is not started (--no-autostart): `appctl start {name}` does it"));
        return Ok(DONE);
    }
    let code = start_new(new, flags.force, no_block, printer).await?;
    if let Some(remark) = remark.filter(|_| code == DONE) {
        printer.note(&remark);
    }
    Ok(code)
}

/// Writes an app's file, and starts it.
pub(super) async fn start_new(
    (scope, name, path, text): New,
    force: bool,
    no_block: bool,
    printer: &Printer,
) -> Result<u8, Failure> {
    let manager = Manager::connect(scope).await?;
    let first = !path.exists();
    let changed = new_app::install(scope, &name, &path, &text, force, printer)?;
    start_written(&manager, &name, (changed, first, no_block), printer).await
}

/// Starts an app whose file was just written, or restarts it when it runs with another. `first`: there was no file before.
async fn start_written(
    manager: &Manager,
    name: &str,
    (changed, first, no_block): (bool, bool, bool),
    printer: &Printer,
) -> Result<u8, Failure> {
    let scope = manager.scope;
    let loaded = apps::load(scope, name, printer)?;
    let names = names::units(scope, name);
    let running = manager.router_runs(&names).await?;
    let lifted = !running && apps::lift(scope, name)?;
    manager.refresh(&names, changed || lifted).await?;
    if running && changed {
        printer.note(&format!("{name} runs, and its file is another now: restarting it"));
        let code = super::restart::run(&[name.to_owned()], Asked(Some(scope)), printer).await?;
        let runs = manager.router_runs(&names).await?;
        // It was refused, perhaps, and serves on as it is.
        let needs = Needs::of(manager, &loaded, runs && code != DONE).await;
        told(&loaded, scope, (true, Some(code == DONE)), needs, printer);
        return Ok(code);
    }
    linger::tell(scope, printer);
    let outcome = up(manager, &loaded, changed, no_block, printer).await?;
    let path = apps::path(scope, name)?;
    if first && outcome == Up::Never {
        super::delete::remove(manager, name, &path).await?;
        printer.detail(&format!("nothing was started; {} is removed again", path.display()));
    } else if first && outcome == Up::Failed {
        let user = manage::user_flag(scope);
        printer.detail(&format!("{} stays; `appctl{user} delete {name}` removes the app and its file", path.display()));
    }
    Ok(outcome.code())
}

/// The apps of a file of PM2's.
async fn start_ecosystem(
    word: &str,
    flags: &Flags,
    no_block: bool,
    asked: Asked,
    printer: &Printer,
) -> Result<u8, Failure> {
    if let Some(flag) = flags.of_a_script().filter(|flag| *flag != "--listen") {
        return Err(Failure::Usage(format!("{flag} is for a script; write it into {word}")));
    }
    let scope = asked.for_new_app();
    let choice = Choice { only: flags.only.clone(), env: flags.env.clone(), listen: flags.listen.clone() };
    let manager = Manager::connect(scope).await?;
    let mut code = DONE;
    for Installed { app, changed, first } in import::apps(word, &choice, scope, flags.force, printer)? {
        if !app.imported.draft.at_boot {
            printer.note(&format!("{0} is not started (autostart: false): `appctl start {0}` does it", app.name));
            continue;
        }
        let started = start_written(&manager, &app.name, (changed, first, no_block), printer).await;
        code = code.max(started.or_else(|failure| failure.of_one(printer))?);
    }
    Ok(code)
}

async fn start_known(
    scope: Scope,
    target: &Target,
    flags: &Flags,
    no_block: bool,
    printer: &Printer,
) -> Result<u8, Failure> {
    let mut loaded = apps::load(scope, target.app(), printer)?;
    let manager = Manager::connect(scope).await?;
    let names = names::units(scope, target.app());
    let mut changed = false;
    if let Some(profile) = &flags.env
        && loaded.app.profile.as_ref() != Some(profile)
    {
        let text = new_app::with_profile(&loaded.text, profile, &loaded.path.display().to_string())?;
        apps::check(scope, target.app(), &loaded.path, &text, printer)?;
        apps::write(&loaded.path, &text)?;
        loaded = apps::load(scope, target.app(), printer)?;
        printer.note(&format!("active_profile = \"{profile}\" in {}", loaded.path.display()));
        changed = true;
    }
    // What runs stays what it is.
    let lifted = !manager.router_runs(&names).await? && apps::lift(scope, target.app())?;
    manager.refresh(&names, changed || lifted).await?;
    let loaded = loaded.in_force(scope)?;
    if let Target::Worker { slot, .. } = target {
        let began = SystemTime::now();
        let wanted = [(Verb::Start, names.slot(slot))];
        let unfinished = manager.run(&wanted, async |_, unit| ready(&manager, unit, printer).await).await?;
        manager.explain(&unfinished, began, printer).await;
        return Ok(if unfinished.is_empty() { DONE } else { FAILED });
    }
    linger::tell(scope, printer);
    Ok(up(&manager, &loaded, changed, no_block, printer).await?.code())
}

/// Brings an app up, or only asks for it, and tells programs what came of it. `changed`: its file was.
async fn up(
    manager: &Manager,
    loaded: &Loaded,
    changed: bool,
    no_block: bool,
    printer: &Printer,
) -> Result<Up, Failure> {
    let (name, user) = (&loaded.app.name, manage::user_flag(manager.scope));
    let ran = manager.router_runs(&names::units(manager.scope, name)).await?;
    let (outcome, serves) = if no_block {
        (ask_for(manager, loaded, printer).await?, None)
    } else {
        let outcome = up::bring_up(manager, loaded, Tell::Already, printer).await?;
        (outcome, Some(outcome.code() == DONE))
    };
    let needs = Needs::of(manager, loaded, ran).await;
    if needs.restart {
        printer.note(&format!("its file has other addresses by now: `appctl{user} restart {name}` lets them hold"));
    } else if needs.reload {
        printer.note(&format!("its file says something else by now: `appctl{user} reload {name}` lets that hold"));
    }
    told(loaded, manager.scope, (changed || outcome != Up::Already, serves), needs, printer);
    Ok(outcome)
}

/// Asks systemd for what does not run, nor starts already, and does not wait for it.
async fn ask_for(manager: &Manager, loaded: &Loaded, printer: &Printer) -> Result<Up, Failure> {
    check_accounts(loaded)?;
    let runs = manager.router_runs(&names::units(manager.scope, &loaded.app.name)).await?;
    let (sockets, services) = to_start(manager, loaded, runs).await?;
    let mut already = true;
    for (verb, unit) in sockets.iter().chain(&services) {
        let properties = manager.properties(unit).await?;
        if !matches!(properties.text("ActiveState"), Some("active" | "activating" | "reloading")) {
            already = false;
            manager.systemd.enqueue(*verb, unit).await.map_err(|error| manager.failure(error))?;
        }
    }
    let (name, user) = (&loaded.app.name, manage::user_flag(manager.scope));
    let does = if already { "was started already" } else { "starts" };
    printer.note(&format!("{name} {does}; `appctl{user} status {name}` tells how far it is"));
    Ok(if already { Up::Already } else { Up::Serves })
}

/// What an app that ran before does not have of its file yet.
#[derive(Debug, Clone, Copy, Default)]
struct Needs {
    /// The file is another than the one that its workers were started with.
    reload: bool,
    /// Its addresses are others.
    restart: bool,
}

impl Needs {
    /// `ran`: its router did, so that not all of it was started with the file as it is now.
    async fn of(manager: &Manager, loaded: &Loaded, ran: bool) -> Self {
        if !ran {
            return Self::default();
        }
        Self {
            reload: is_newer(loaded, manager.scope),
            restart: super::restart::listens_elsewhere(manager, loaded).await,
        }
    }
}

/// Whether the file of an app that runs is another than the one that its workers were started with.
fn is_newer(loaded: &Loaded, scope: Scope) -> bool {
    let proven = apps::places(scope).ok().and_then(|places| held::proven(&places, &loaded.app.name));
    let file = crate::generator::apps::text(&loaded.path);
    proven.is_some_and(|proven| file.is_ok_and(|file| file != proven))
}

/// `--json`: an object for each app. `serves`: `None`, that was not waited for.
fn told(loaded: &Loaded, scope: Scope, (changed, serves): (bool, Option<bool>), needs: Needs, printer: &Printer) {
    if printer.json {
        let scope_name = if scope == Scope::User { "user" } else { "system" };
        let told = serde_json::json!({
            "name": loaded.app.name, "scope": scope_name, "changed": changed, "serves": serves,
            "reload_needed": needs.reload, "restart_needed": needs.restart,
        });
        printer.data(&told.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_profile() {
        let text = "exec = 'node a.js'\nactive_profile = 'a' # now\n[profile.b.environment]\nX = '1'\n";
        assert!(new_app::with_profile(text, "b", "x").unwrap().contains("active_profile = \"b\" # now\n"));
        let text = "exec = 'node a.js'\n[profile.b.environment]\nX = '1'\n";
        let changed = new_app::with_profile(text, "b", "x").unwrap();
        assert!(changed.starts_with("exec = 'node a.js'\nactive_profile = \"b\"\n[profile"), "{changed}");
    }
}
