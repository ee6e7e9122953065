//! `appctl start NAME… | FILE.toml | SCRIPT`: returns when the app serves.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;

use super::apps::{self, Loaded};
use super::exit::{DONE, FAILED, Failure};
use super::ids;
use super::import::{self, Choice, Installed};
use super::manage::{Manager, addresses, count};
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::run;
use super::script::{self, Flags};
use super::selector;
use super::started;
use super::whereabouts;
use crate::config::{Runtime, Scope};
use crate::pm2::{self, Draft, draft::DEFAULT_LISTEN};
use crate::system::bus::Verb;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps, `all`, NAME@SLOT, ids, a TOML file, or a script or program
    #[arg(required = true, value_name = "NAME|FILE|SCRIPT")]
    pub(super) targets: Vec<String>,
    #[command(flatten)]
    pub(super) script: Flags,
    /// Only print the files and the calls to systemd that it would take
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl Arguments {
    /// The same as `appctl run`, for --no-daemon.
    pub(super) fn into_run(self) -> Result<run::Arguments, Failure> {
        match <[String; 1]>::try_from(self.targets) {
            Ok([target]) => Ok(run::Arguments { target, metrics: None, script: self.script }),
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
    let mut code = DONE;
    for target in &arguments.targets {
        let started = start_one(target, flags, asked, printer).await;
        code = code.max(started.or_else(|failure| failure.of_one(printer))?);
    }
    Ok(code)
}

async fn start_one(word: &str, flags: &Flags, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
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
        for (scope, target) in names::targets(&[word.to_owned()], asked).await? {
            let started = start_known(scope, &target, flags, printer).await;
            code = code.max(started.or_else(|failure| failure.of_one(printer))?);
        }
        return Ok(code);
    }
    if pm2::form::kind(word).is_some() || word == "-" {
        return start_ecosystem(word, flags, asked, printer).await;
    }
    let new = if word.ends_with(".toml") { from_file(word, flags, asked)? } else { from_script(word, flags, asked)? };
    start_new(new, flags.force, printer).await
}

/// Writes an app's file, and starts it.
pub(super) async fn start_new((scope, name, path, text): New, force: bool, printer: &Printer) -> Result<u8, Failure> {
    let manager = Manager::connect(scope).await?;
    let first = !path.exists();
    let changed = install(scope, &name, &path, &text, force, printer)?;
    start_written(&manager, &name, changed, first, printer).await
}

/// Starts an app whose file was just written, or restarts it when it runs with another. `first`: there was no file before.
async fn start_written(
    manager: &Manager,
    name: &str,
    changed: bool,
    first: bool,
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
        return super::restart::run(&[name.to_owned()], Asked(Some(scope)), printer).await;
    }
    linger(scope, printer);
    let outcome = bring_up(manager, &loaded, true, printer).await?;
    let path = apps::path(scope, name)?;
    if first && outcome == Up::Never {
        super::delete::remove(manager, name, &path).await?;
        printer.detail(&format!("nothing was started; {} is removed again", path.display()));
    } else if first && outcome == Up::Failed {
        let user = super::manage::user_flag(scope);
        printer.detail(&format!("{} stays; `appctl{user} delete {name}` removes the app and its file", path.display()));
    }
    Ok(outcome.code())
}

/// The apps of a file of PM2's.
async fn start_ecosystem(word: &str, flags: &Flags, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
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
        let started = start_written(&manager, &app.name, changed, first, printer).await;
        code = code.max(started.or_else(|failure| failure.of_one(printer))?);
    }
    Ok(code)
}

/// What came of bringing an app up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Up {
    Serves,
    /// Something of it was started, and something did not come up.
    Failed,
    /// Its sockets could not be opened: no program of its was started.
    Never,
}

impl Up {
    pub(super) fn code(self) -> u8 {
        if self == Self::Serves { DONE } else { FAILED }
    }
}

/// Scope, name, where the file goes, and what it says.
pub(super) type New = (Scope, String, PathBuf, String);

pub(super) fn from_file(word: &str, flags: &Flags, asked: Asked) -> Result<New, Failure> {
    let text =
        std::fs::read_to_string(word).map_err(|error| Failure::failed(format!("cannot read {word}: {error}")))?;
    if let Some(flag) = flags.of_a_script().filter(|flag| *flag != "--name") {
        return Err(Failure::Usage(format!("{flag} is for a script; write it into {word}")));
    }
    let stem = Path::new(word).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = flags.name.clone().unwrap_or(stem);
    crate::config::value::check_name(&name)
        .map_err(|wrong| Failure::Usage(format!("{}; choose another by --name", wrong.reason)))?;
    let scope = asked.for_new_app();
    let text = match &flags.env {
        Some(profile) => with_profile(&text, profile, word)?,
        None => text,
    };
    Ok((scope, name.clone(), apps::path(scope, &name)?, text))
}

pub(super) fn from_script(word: &str, flags: &Flags, asked: Asked) -> Result<New, Failure> {
    let scope = asked.for_new_app();
    // For those who want to know what one app would become.
    if pm2::form::kind(word).is_some() {
        return Err(Failure::Usage(format!(
            "{word} is a file of PM2's: `appctl import --dry-run {word}` tells what becomes of its apps"
        )));
    }
    let place = script::look(word, scope)?;
    if place.is_none() && word.contains(char::is_whitespace) {
        let draft = script::of_line(flags, word, scope)?;
        check_account(&draft)?;
        check_access(&draft, scope, word)?;
        return Ok((scope, draft.name.clone(), apps::path(scope, &draft.name)?, draft.toml()));
    }
    let Some(place) = place else {
        if word.contains('/') || Path::new(word).extension().is_some() {
            return Err(Failure::failed(format!("there is no file {word}")));
        }
        return Err(apps::unknown(asked.for_app(word), word));
    };
    if flags.env.is_some() {
        return Err(Failure::Usage("--env chooses a profile of a TOML file; a script has none".into()));
    }
    let mut draft = script::describe(flags, &place, script::find_program)?;
    if flags.listen.is_empty() && draft.listen == [DEFAULT_LISTEN] {
        draft.listen = whereabouts::listen(scope, &draft.name, &place.script)?;
    }
    check_account(&draft)?;
    check_access(&draft, scope, &place.script.display().to_string())?;
    let path = apps::path(scope, &draft.name)?;
    Ok((scope, draft.name.clone(), path, draft.toml()))
}

/// Whether a user of its own can run it.
fn check_access(draft: &Draft, scope: Scope, script: &str) -> Result<(), Failure> {
    if scope == Scope::System && draft.user.is_none() {
        let closed = draft
            .exec
            .iter()
            .filter(|word| word.starts_with('/'))
            .find_map(|path| script::closed_to_others(Path::new(path)))
            .or_else(|| script::closed_to_others(&draft.directory));
        if let Some(closed) = closed {
            return Err(Failure::failed(format!(
                "{script} belongs to root, so its workers would run as a user of their own, who cannot run it: {closed}\n\
                 Move the app to a place such as /srv; or give it to a user (chown), whom its workers then run as; or \
                 add --uid USER (--uid root, if it must be)."
            )));
        }
    }
    Ok(())
}

fn check_account(draft: &Draft) -> Result<(), Failure> {
    use nix::unistd::{Group, User};
    if let Some(user) = &draft.user
        && user.parse::<u32>().is_err()
        && matches!(User::from_name(user), Ok(None))
    {
        return Err(Failure::failed(format!(
            "there is no user {user}\nAdd it (useradd --system {user}), or name another by --uid."
        )));
    }
    if let Some(group) = &draft.group
        && group.parse::<u32>().is_err()
        && matches!(Group::from_name(group), Ok(None))
    {
        return Err(Failure::failed(format!("there is no group {group}")));
    }
    Ok(())
}

/// Whether a file says something else by now; one that is there is only replaced by `force`.
pub(super) fn is_news(name: &str, path: &Path, text: &str, force: bool) -> Result<bool, Failure> {
    match std::fs::read_to_string(path) {
        Ok(there) if there == text => Ok(false),
        Ok(_) if !force => Err(Failure::failed(format!(
            "{} is there already, and says something else\n\
             `appctl start {name}` starts it as it is; --force overwrites it; --name OTHER makes another app.",
            path.display()
        ))),
        _ => Ok(true),
    }
}

/// Writes the file of a new app; says whether it is another than before. Its mistakes are printed, and then it is not
/// written.
pub(super) fn install(
    scope: Scope,
    name: &str,
    path: &Path,
    text: &str,
    force: bool,
    printer: &Printer,
) -> Result<bool, Failure> {
    if crate::config::parse(name, path, text, scope).app.is_none() {
        apps::check(scope, name, path, text, printer)?;
    }
    if !is_news(name, path, text, force)? {
        return Ok(false);
    }
    let before = std::fs::read_to_string(path).ok();
    apps::write(path, text)?;
    // Whether it can live beside the other apps and units can be told only now.
    let app = match apps::read(scope, name) {
        Ok(loaded) => loaded.app,
        Err(_) => {
            let told = apps::load(scope, name, printer).map(drop);
            match before {
                Some(before) => apps::write(path, &before)?,
                None => std::fs::remove_file(path).map_err(|error| Failure::of_write(&error, path))?,
            }
            return Err(told.err().unwrap_or(Failure::Told(FAILED)));
        }
    };
    let workers = app.workers.resolve(crate::generator::processors());
    let listen: Vec<String> = app.listen.iter().map(ToString::to_string).collect();
    let listen = match (app.runtime, listen.as_slice()) {
        (Runtime::None, _) => ", which no router connects to".to_owned(),
        (_, []) => " without an address (if it serves, write its port into `listen`)".to_owned(),
        (_, listen) => format!(" on {}", listen.join(", ")),
    };
    let user = match (scope, &app.user) {
        (Scope::User, _) => String::new(),
        (Scope::System, Some(user)) => format!(", as {user}"),
        (Scope::System, None) => ", as a user of its own".to_owned(),
    };
    printer.note(&format!("wrote {}: {}{listen}{user}", path.display(), count(workers as usize)));
    Ok(true)
}

/// The text of a file with another active profile.
fn with_profile(text: &str, profile: &str, word: &str) -> Result<String, Failure> {
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|error| Failure::failed(format!("{word}: {error}")))?;
    match document.get_mut("active_profile").and_then(toml_edit::Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = profile.into();
            *old.decor_mut() = decor;
        }
        None => {
            document.insert("active_profile", toml_edit::value(profile));
        }
    }
    Ok(document.to_string())
}

async fn start_known(scope: Scope, target: &Target, flags: &Flags, printer: &Printer) -> Result<u8, Failure> {
    let mut loaded = apps::load(scope, target.app(), printer)?;
    let manager = Manager::connect(scope).await?;
    let names = names::units(scope, target.app());
    let mut changed = false;
    if let Some(profile) = &flags.env
        && loaded.app.profile.as_ref() != Some(profile)
    {
        let text = with_profile(&loaded.text, profile, &loaded.path.display().to_string())?;
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
    Ok(bring_up(&manager, &loaded, true, printer).await?.code())
}

/// systemd would only say that a socket failed.
fn check_accounts(loaded: &Loaded) -> Result<(), Failure> {
    use nix::unistd::{Group, User};
    let file = loaded.path.display();
    if let Some(user) = &loaded.app.user
        && user.parse::<u32>().is_err()
        && matches!(User::from_name(user), Ok(None))
    {
        return Err(Failure::failed(format!(
            "there is no user {user}, whom {file} names\nAdd it (useradd --system {user}), or change `user` there."
        )));
    }
    if let Some(group) = &loaded.app.group
        && group.parse::<u32>().is_err()
        && matches!(Group::from_name(group), Ok(None))
    {
        return Err(Failure::failed(format!(
            "there is no group {group}, which {file} names\nAdd it (groupadd --system {group}), or change `group` there."
        )));
    }
    Ok(())
}

/// A job for each of several units.
type Jobs = Vec<(Verb, String)>;

/// What [`bring_up`] starts: the sockets, then router and workers.
pub(super) async fn to_start(manager: &Manager, loaded: &Loaded) -> Result<(Jobs, Jobs), Failure> {
    let names = names::units(manager.scope, &loaded.app.name);
    let runs = manager.router_runs(&names).await?;
    let sockets = names::sockets(&names)
        .into_iter()
        .filter(|socket| *socket != names.public || !loaded.app.listen.is_empty())
        // A socket cannot be added to a router that runs.
        .filter(|socket| *socket != names.metrics || (loaded.app.router.metrics.is_some() && !runs))
        .map(|socket| (Verb::Start, socket.to_owned()))
        .collect();
    let mut services = vec![(Verb::Start, names.router.clone())];
    let standing = manager.standing(&names).await?;
    let missing = started::missing(&manager.systemd, &names, loaded.workers()).await;
    let missing = missing.map_err(|error| manager.failure(error))?;
    services.extend(standing.into_iter().chain(missing).map(|unit| (Verb::Start, unit)));
    Ok((sockets, services))
}

/// Starts sockets, router and workers, and waits until all are ready. `tell`: say so when all were already.
pub(super) async fn bring_up(manager: &Manager, loaded: &Loaded, tell: bool, printer: &Printer) -> Result<Up, Failure> {
    let began = SystemTime::now();
    check_accounts(loaded)?;
    let name = &loaded.app.name;
    let names = names::units(manager.scope, name);
    let router = manager.properties(&names.router).await?;
    if router.text("LoadState") != Some("loaded") {
        return Err(Failure::failed(format!(
            "systemd has no unit {} though {} is there\n\
             Is appctl-generator in systemd's {} directory? `appctl cat {name}` shows what it would write.",
            names.router,
            loaded.path.display(),
            if manager.scope == Scope::User { "user-generators" } else { "system-generators" }
        )));
    }
    let runs = manager.router_runs(&names).await?;
    if !runs && super::certificates::are_in_the_way(&loaded.app, printer) {
        return Ok(Up::Never);
    }
    let (sockets, services) = to_start(manager, loaded).await?;
    let mut already = true;
    let mut running = Vec::new();
    for (_, unit) in sockets.iter().chain(&services) {
        let properties = manager.properties(unit).await?;
        match properties.text("ActiveState") {
            Some("active") => running.push(unit.clone()),
            Some("failed") => {
                already = false;
                // Else a start limit that was hit would refuse the start.
                let _ = manager.systemd.reset_failed(unit).await;
            }
            _ => already = false,
        }
    }
    // The sockets first and alone: a port that is taken is told at once, and by itself.
    let unfinished = manager.run(&sockets, async |_, _| {}).await?;
    if !unfinished.is_empty() {
        manager.explain(&unfinished, began, printer).await;
        if runs {
            return Ok(Up::Failed);
        }
        // What was opened for nothing is closed again.
        let opened = sockets.into_iter().filter(|(_, socket)| !running.contains(socket));
        let opened: Vec<_> = opened.map(|(_, socket)| (Verb::Stop, socket)).collect();
        manager.run(&opened, async |_, _| {}).await?;
        return Ok(Up::Never);
    }
    let unfinished = manager
        .run(&services, async |_, unit| {
            if unit.contains('@') && !running.iter().any(|it| it == unit) {
                ready(manager, unit, printer).await;
            }
        })
        .await?;
    let failed = unfinished.iter().filter(|job| job.unit.contains('@')).count();
    let workers = loaded.workers() as usize;
    if !unfinished.is_empty() {
        manager.explain(&unfinished, began, printer).await;
        if failed == unfinished.len() && failed < workers {
            printer.detail(&format!("{name} serves with {} of {workers} workers", workers - failed));
        }
        if loaded.app.restart.policy != "no" {
            printer.detail(&format!(
                "systemd goes on trying; `appctl{} stop {name}` ends that",
                super::manage::user_flag(manager.scope)
            ));
        }
        return Ok(Up::Failed);
    }
    let served = addresses(loaded);
    let served = if served.is_empty() { String::new() } else { format!(" on {}", served.join(" and ")) };
    if already && tell {
        printer.note(&format!("{name} was running already, with {}{served}", count(workers)));
    } else {
        printer.note(&format!("{name} serves{served} with {}", count(workers)));
    }
    if loaded.app.router.listen.certificates().next().is_some()
        && let Some(status) = manager.router_status(name).await
    {
        let check = format!("appctl{} check {name} says why", super::manage::user_flag(manager.scope));
        for remark in super::certificates::remarks(&loaded.app, &status, &check) {
            printer.warning(&remark);
        }
    }
    Ok(Up::Serves)
}

/// One line for a worker that is up.
async fn ready(manager: &Manager, unit: &str, printer: &Printer) {
    let pid = manager.systemd.properties(unit).await.ok().and_then(|it| it.u32("MainPID")).filter(|pid| *pid != 0);
    let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    printer.note(&format!("{} ready{pid}", unit.trim_end_matches(".service")));
}

/// A user's apps end with the last session, unless.
fn linger(scope: Scope, printer: &Printer) {
    let Some(user) = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten() else { return };
    if scope == Scope::User && !Path::new("/var/lib/systemd/linger").join(&user.name).exists() {
        printer.note("It ends when you log out; `loginctl enable-linger` lets it run on, and start at boot.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_profile() {
        let text = "exec = 'node a.js'\nactive_profile = 'a' # now\n[profile.b.environment]\nX = '1'\n";
        assert!(with_profile(text, "b", "x").unwrap().contains("active_profile = \"b\" # now\n"));
        let text = "exec = 'node a.js'\n[profile.b.environment]\nX = '1'\n";
        let changed = with_profile(text, "b", "x").unwrap();
        assert!(changed.starts_with("exec = 'node a.js'\nactive_profile = \"b\"\n[profile"), "{changed}");
    }
}
