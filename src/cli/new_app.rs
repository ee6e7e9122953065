//! The file of a new app: what it says by the TOML file or the script that `start` was given, whether that may take the place of
//! what is there, and writing it.

use std::path::{Path, PathBuf};

use super::apps;
use super::exit::{FAILED, Failure};
use super::machine;
use super::manage::count;
use super::names::Asked;
use super::print::Printer;
use super::script::{self, Flags};
use super::stamp;
use super::whereabouts;
use crate::config::{Runtime, Scope};
use crate::pm2::{self, Draft, draft::DEFAULT_LISTEN};

/// Scope, name, where the file goes, and what it says.
pub(super) type New = (Scope, String, PathBuf, String);

pub(super) fn from_file(word: &str, flags: &Flags, asked: Asked) -> Result<New, Failure> {
    let text =
        std::fs::read_to_string(word).map_err(|error| Failure::failed(format!("cannot read {word}: {error}")))?;
    super::owners::refuse(Path::new(word), asked.for_new_app())?;
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
    let is_line = place.is_none() && word.contains(char::is_whitespace);
    if is_line || (pm2::is_launcher(word) && !Path::new(word).exists()) {
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
    if let Some(user) = draft.user.as_ref().filter(|user| machine::lacks_user(user)) {
        return Err(Failure::failed(format!(
            "there is no user {user}\nAdd it (useradd --system {user}), or name another by --uid."
        )));
    }
    if let Some(group) = draft.group.as_ref().filter(|group| machine::lacks_group(group)) {
        return Err(Failure::failed(format!("there is no group {group}")));
    }
    Ok(())
}

/// Whether a file says something else by now; one that is there is only replaced by `force`.
pub(super) fn is_news(name: &str, path: &Path, text: &str, force: bool) -> Result<bool, Failure> {
    match crate::generator::apps::text(path) {
        Ok(there) if there == text => Ok(false),
        Ok(there) if !force => Err(Failure::failed(format!(
            "{} is there already, and says something else:\n{}\n\
             `appctl start {name}` starts it as it is; --force overwrites it; --name OTHER makes another app.",
            path.display(),
            stamp::difference(&there, text)
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
    let before = crate::generator::apps::text(path).ok();
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
pub(super) fn with_profile(text: &str, profile: &str, word: &str) -> Result<String, Failure> {
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
