//! The last text of each file that was good. A file that gets a mistake must not take the units of running workers away,
//! when anybody has systemd read all units again (a package's installation does): they are made from this text then.
//!
//! It is kept until the next boot; at a boot nothing runs, and a file with mistakes is told as such.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::apps::AppFile;
use super::places::Places;
use crate::config::{self, App};

/// Keeps the texts of good files and drops those of files that are gone. A failure is of no consequence now.
pub fn remember(places: &Places, files: &[AppFile]) {
    let Some(directory) = places.good.as_deref().map(|directory| places.under(directory)) else { return };
    let kept = |name: &str| files.iter().any(|file| file.name == name);
    for entry in std::fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        if !name.to_str().and_then(|name| name.strip_suffix(".toml")).is_some_and(kept) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    for file in files.iter().filter(|file| file.report.app.is_some()) {
        let path = path(&directory, file);
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&file.text) {
            let _ = write(&directory, &path, &file.text);
        }
    }
}

/// What a file was when it was good last. Only for mistakes of its own: one that is in the way of other apps stays refused.
pub fn recall(places: &Places, file: &AppFile) -> Option<App> {
    if file.report.app.is_some() || file.refused {
        return None;
    }
    let directory = places.under(places.good.as_deref()?);
    let text = std::fs::read_to_string(path(&directory, file)).ok()?;
    config::parse(&file.name, &file.source, &text, places.scope).app
}

fn path(directory: &Path, file: &AppFile) -> PathBuf {
    directory.join(format!("{}.toml", file.name))
}

/// For root's (the user's) eyes alone: the file itself may be so.
fn write(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let temporary = directory.join(format!(".{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&temporary, path)
}
