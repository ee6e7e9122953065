//! The app that `appctl serve` makes of a directory of files, and the password that it asks for.

use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::exit::Failure;
use super::script;
use crate::config::{Scope, Workers};
use crate::pm2::Draft;
use crate::unit::plan::program;

/// What the worker finds its password in: `user:password`.
pub(super) const PASSWORD: &str = "APPCTL_SITE_AUTH";

/// Without `--name`.
pub(super) fn usual_name(port: &str) -> String {
    format!("site-{}", port.rsplit([':', '/']).next().unwrap_or(port).trim_end_matches(".sock"))
}

/// The app that serves a directory. `user`: who was asked for.
pub(super) fn draft(
    name: &str,
    directory: PathBuf,
    port: String,
    spa: bool,
    workers: Workers,
    user: Option<String>,
    scope: Scope,
) -> Result<Draft, Failure> {
    let owner = std::fs::metadata(&directory).ok().map(|metadata| metadata.uid()).filter(|uid| *uid != 0);
    let owner = owner.and_then(|uid| nix::unistd::User::from_uid(uid.into()).ok().flatten()).map(|user| user.name);
    let user = user.or(owner).filter(|_| scope == Scope::System);
    if scope == Scope::System
        && user.is_none()
        && let Some(closed) = script::closed_to_others(&directory)
    {
        return Err(Failure::failed(format!(
            "the workers would run as a user of their own, who cannot read {}: {closed}\n\
             Move it to a place such as /srv; or give it to a user (chown), whom they then run as; or add --uid USER.",
            directory.display()
        )));
    }
    let mut exec = vec![program().to_owned(), "site".to_owned()];
    exec.extend(spa.then(|| "--spa".to_owned()));
    exec.push(directory.to_string_lossy().into_owned());
    Ok(Draft {
        head: script::head(name),
        name: name.to_owned(),
        exec,
        directory,
        user,
        group: None,
        workers,
        runtime: Some("socket".to_owned()),
        listen: vec![port],
        watch: Vec::new(),
        ignore: Vec::new(),
        at_boot: true,
        index_variable: None,
        increment_variable: None,
        environment: Vec::new(),
        active_profile: None,
        profiles: Vec::new(),
        tables: Vec::new(),
    })
}

/// As it was typed, links and all: a release is often one.
pub(super) fn absolute(typed: &Path) -> Result<PathBuf, Failure> {
    let directory = std::path::absolute(typed).unwrap_or_else(|_| typed.to_owned());
    match std::fs::metadata(&directory) {
        Ok(metadata) if metadata.is_dir() => Ok(directory.components().collect()),
        Ok(_) => Err(Failure::failed(format!("{} is no directory: name the one that it is in", typed.display()))),
        Err(error) => Err(Failure::failed(format!(
            "there is no directory {} ({error})\nName the one that has the files: `appctl serve ./public 8080`.",
            typed.display()
        ))),
    }
}

/// Beside the app's file, for nobody but root, or the user whose app it is: systemd reads it.
pub(super) fn secret(app: &Path) -> PathBuf {
    app.with_extension("auth")
}

/// Removes the password of an app whose file is gone.
pub(super) fn forget_password(app: &Path) {
    let file = secret(app);
    if std::fs::read_to_string(&file).is_ok_and(|text| text.starts_with(PASSWORD)) {
        // Of no use any more, and to nobody but root.
        let _ = std::fs::remove_file(file);
    }
}

/// Says whether it is another than before.
pub(super) fn write_secret(path: &Path, secret: &str) -> Result<bool, Failure> {
    use std::io::Write;
    if secret.chars().any(char::is_control) {
        return Err(Failure::Usage("a password has no control characters (RFC 7617)".into()));
    }
    let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('`', "\\`");
    let line = format!("{PASSWORD}=\"{quoted}\"\n");
    let failed = |error: std::io::Error| Failure::of_write(&error, path);
    if std::fs::read_to_string(path).is_ok_and(|there| there == line) {
        return Ok(false);
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    // A file that was there may be open to others.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(line.as_bytes()).map_err(failed)?;
    Ok(true)
}
