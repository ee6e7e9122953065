//! The files of the apps: where they are, which there are, reading and writing them.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::exit::{FAILED, Failure};
use super::print::Printer;
use crate::config::check::WORKERS_MAX;
use crate::config::{App, Scope};
use crate::generator::{self, apps::AppFile, good, held, places::Places};
use crate::system::bus::Manager;

/// Which manager runs the apps of a scope.
pub fn manager(scope: Scope) -> Manager {
    match scope {
        Scope::System => Manager::System,
        Scope::User => Manager::User,
    }
}

pub fn places(scope: Scope) -> Result<Places, Failure> {
    Places::from_environment(scope)
        .ok_or_else(|| Failure::failed("neither XDG_CONFIG_HOME nor HOME is set: where are your files?"))
}

/// The file of an app, whether it is there or not.
pub fn path(scope: Scope, name: &str) -> Result<PathBuf, Failure> {
    let places = places(scope)?;
    Ok(places.under(&places.file(name)))
}

/// The apps that have a file, sorted. A directory that is not there has none.
pub fn names(scope: Scope) -> Result<Vec<String>, Failure> {
    let places = places(scope)?;
    let directory = places.under(&places.config);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::failed(format!("cannot read {}: {error}", directory.display()))),
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".toml").map(str::to_owned))
        .filter(|name| !name.is_empty() && !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}

/// Whether an app of that name has a file in a scope.
pub fn exists(scope: Scope, name: &str) -> bool {
    path(scope, name).is_ok_and(|path| path.is_file())
}

/// An app and the file that it was read from.
#[derive(Debug)]
pub struct Loaded {
    pub app: App,
    pub path: PathBuf,
    pub text: String,
}

impl Loaded {
    /// How many workers the file means on this machine.
    pub fn workers(&self) -> u32 {
        self.app.workers.resolve(generator::processors()).min(WORKERS_MAX)
    }

    /// What runs instead, while the file is on hold.
    pub fn in_force(self, scope: Scope) -> Result<Self, Failure> {
        let places = places(scope)?;
        if !held::is_held(&places, &self.app.name) {
            return Ok(self);
        }
        let Some(text) = held::proven(&places, &self.app.name) else { return Ok(self) };
        match crate::config::parse(&self.app.name, &self.path, &text, scope).app {
            Some(app) => Ok(Self { app, text, ..self }),
            None => Ok(self),
        }
    }
}

/// Reads an app's file; its mistakes are printed.
pub fn load(scope: Scope, name: &str, printer: &Printer) -> Result<Loaded, Failure> {
    let places = places(scope)?;
    let source = places.file(name);
    let path = places.under(&source);
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Err(unknown(scope, name));
    }
    let file = judged(&places, name).ok_or_else(|| unknown(scope, name))?;
    for problem in &file.report.problems {
        printer.detail(problem.render(path.display(), &file.text, false).trim_end());
    }
    let app = file.report.app.ok_or(Failure::Told(FAILED))?;
    Ok(Loaded { app, path, text: file.text })
}

/// A file, judged beside all others and the system's own units, as the generator does.
fn judged(places: &Places, name: &str) -> Option<AppFile> {
    generator::apps::load(places).files.into_iter().find(|file| file.name == name)
}

/// As [`load`], without a word: the first mistake is the error.
pub fn read(scope: Scope, name: &str) -> Result<Loaded, String> {
    let places = places(scope).map_err(|failure| failure.to_string())?;
    let source = places.file(name);
    let path = places.under(&source);
    let file = judged(&places, name).ok_or_else(|| format!("{} is not there", path.display()))?;
    loaded(file, path)
}

/// As [`read`] for each of several apps, which takes no longer than for one.
pub fn read_several(scope: Scope, names: &[&str]) -> Result<Vec<Result<Loaded, String>>, Failure> {
    let places = places(scope)?;
    let mut files = generator::apps::load(&places).files;
    let read = |name: &&str| {
        let path = places.under(&places.file(name));
        let at = files.iter().position(|file| file.name == **name);
        let file = at.map(|at| files.swap_remove(at)).ok_or_else(|| format!("{} is not there", path.display()))?;
        loaded(file, path)
    };
    Ok(names.iter().map(read).collect())
}

fn loaded(file: AppFile, path: PathBuf) -> Result<Loaded, String> {
    let error = file.report.error().map(|problem| problem.short(path.display())).unwrap_or_default();
    let app = file.report.app.ok_or(error)?;
    Ok(Loaded { app, path, text: file.text })
}

/// What an app's units were made from last: its file, or the text before where that is on hold or has mistakes.
pub fn in_force(scope: Scope, name: &str) -> Result<App, String> {
    let wrong = match read(scope, name) {
        Ok(loaded) => return loaded.in_force(scope).map(|loaded| loaded.app).map_err(|failure| failure.to_string()),
        Err(wrong) => wrong,
    };
    let places = places(scope).map_err(|failure| failure.to_string())?;
    let text = good::text(&places, name).ok_or(wrong)?;
    let report = crate::config::parse(name, &places.file(name), &text, scope);
    report.app.ok_or_else(|| format!("{name} has no file without mistakes"))
}

/// Whether an app's file is on hold, since its reload failed.
pub fn is_held(scope: Scope, name: &str) -> bool {
    places(scope).is_ok_and(|places| held::is_held(&places, name))
}

/// From now on the file of an app counts as it is. Says whether it was on hold: then systemd has to read it again.
pub fn lift(scope: Scope, name: &str) -> Result<bool, Failure> {
    match held::lift(&places(scope)?, name) {
        // Whoever may not see it may hardly manage the units either, and systemd says that better.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        lifted => lifted.map_err(|error| Failure::failed(format!("cannot end the hold of {name}'s file: {error}"))),
    }
}

/// What a text that is not yet a file means; its mistakes are printed.
pub fn check(scope: Scope, name: &str, path: &Path, text: &str, printer: &Printer) -> Result<App, Failure> {
    let report = crate::config::parse(name, path, text, scope);
    for problem in &report.problems {
        printer.detail(problem.render(path.display(), text, false).trim_end());
    }
    report.app.ok_or(Failure::Told(FAILED))
}

/// The message for a name that no file has.
pub fn unknown(scope: Scope, name: &str) -> Failure {
    let file = path(scope, name).map(|path| path.display().to_string()).unwrap_or_default();
    let other = match scope {
        Scope::System => Scope::User,
        Scope::User => Scope::System,
    };
    let hint = if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("\nAn id is one worker's, and this is about a whole app: `appctl list` shows which one's {name} is.")
    } else if exists(other, name) {
        let flag = if other == Scope::User { "--user" } else { "--system" };
        format!("\nIt is an app of the other scope: add {flag}.")
    } else if let Some(apps) = of_namespace(scope, name) {
        format!("\n{name} was a namespace of PM2's, and apps have no groups here: name them, {}", apps.join(" "))
    } else {
        let names = names(scope).unwrap_or_default();
        match nearest(name, &names) {
            Some(near) => format!("\nDid you mean {near}?"),
            None if names.is_empty() => "\nThere are no apps yet: `appctl start SCRIPT` makes one.".to_owned(),
            None => format!("\nThere are: {}", names.join(", ")),
        }
    };
    Failure::UnknownApp(format!("no app {name}: there is no {file}{hint}"))
}

/// The apps that were imported from a namespace of PM2's, as the heads of their files say.
fn of_namespace(scope: Scope, namespace: &str) -> Option<Vec<String>> {
    let head = format!("# PM2's namespace = {}: ", serde_json::Value::from(namespace));
    let is_of = |name: &String| {
        let text = path(scope, name).ok().and_then(|path| generator::apps::text(&path).ok()).unwrap_or_default();
        text.lines().take_while(|line| line.starts_with('#')).any(|line| line.starts_with(&head))
    };
    let apps: Vec<String> = names(scope).unwrap_or_default().into_iter().filter(is_of).collect();
    (!apps.is_empty()).then_some(apps)
}

/// The one that was probably meant: much alike, or one slip of the finger away.
pub fn nearest<'n>(name: &str, names: &'n [String]) -> Option<&'n str> {
    let name = name.to_lowercase();
    names
        .iter()
        .map(|candidate| {
            let lower = candidate.to_lowercase();
            let slip = strsim::osa_distance(&name, &lower) == 1;
            (if slip { 1.0 } else { strsim::jaro_winkler(&name, &lower) }, candidate.as_str())
        })
        .filter(|(score, _)| *score > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// Writes a file that is whole at every instant: a new one beside it, then a rename. Mode 0644, directories 0755.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    write_whole(path, text).map_err(|error| Failure::of_write(&error, path))
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    // A link is kept, and its target written.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".{}.{}", file.to_string_lossy(), std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o7777);
            fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_name_with_a_slip_of_the_finger() {
        let names = ["shop".to_owned(), "chat-server".to_owned()];
        assert_eq!(nearest("shpo", &names), Some("shop"));
        assert_eq!(nearest("Chat_server", &names), Some("chat-server"));
        assert_eq!(nearest("wbe", &["web".to_owned()]), Some("web"));
        assert_eq!(nearest("mail", &names), None);
    }

    #[test]
    fn a_written_file_is_readable_by_all_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("appctl/shop.toml");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_mode_that_the_operator_chose_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.toml");
        write(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, "two").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn no_right_to_write_is_exit_4() {
        let denied = Failure::of_write(&io::ErrorKind::PermissionDenied.into(), Path::new("/etc/appctl/shop.toml"));
        assert_eq!(denied.code(), 4);
        assert!(denied.to_string().contains("sudo"));
    }
}
