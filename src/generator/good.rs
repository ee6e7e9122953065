//! The last text of each file that was good. A file that gets a mistake must not take the units of running workers away,
//! when anybody has systemd read all units again (a package's installation does): they are made from this text then.
//!
//! It is kept until the next boot; at a boot nothing runs, and a file with mistakes is told as such.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use super::apps::AppFile;
use super::held;
use super::places::Places;
use super::trust;
use crate::config::{self, App};

/// Below [`Places::kept`].
const GOOD: &str = ".good";

/// Keeps the texts of good files and drops what is kept of files that are gone. A failure is of no consequence now.
pub fn remember(places: &Places, files: &[AppFile]) {
    let Some(kept) = places.kept.as_deref().map(|kept| places.under(kept)) else { return };
    let there = |name: &str| files.iter().any(|file| file.name == name);
    // What begins with a dot is no app's directory of sockets.
    let ours = std::fs::read_dir(kept).into_iter().flatten().filter_map(Result::ok);
    for directory in ours.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".")) {
        for entry in std::fs::read_dir(directory.path()).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                // Being written.
                continue;
            }
            if !name.to_str().and_then(|name| name.rsplit_once('.')).is_some_and(|(stem, _)| there(stem)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
    for file in files.iter().filter(|file| file.report.app.is_some()) {
        if text(places, &file.name).as_deref() != Some(&file.text) {
            let _ = keep(places, GOOD, &file.name, &file.text);
        }
        held::forget(places, file);
    }
}

/// What a file was when it was good last. Only for mistakes of its own: one that is in the way of other apps stays refused.
pub fn recall(places: &Places, file: &AppFile) -> Option<App> {
    if file.report.app.is_some() || file.refused {
        return None;
    }
    config::parse(&file.name, &file.source, &text(places, &file.name)?, places.scope).app
}

/// The last good text of an app's file.
pub fn text(places: &Places, name: &str) -> Option<String> {
    recorded(places, GOOD, name)
}

/// A text of an app that was kept. One that somebody else could have put there is none.
pub(super) fn recorded(places: &Places, kind: &str, name: &str) -> Option<String> {
    let path = places.under(places.kept.as_deref()?).join(kind).join(format!("{name}.toml"));
    trust::check(places, &path).ok()?;
    std::fs::read_to_string(path).ok()
}

/// Keeps a text of an app in a directory of that kind. For root's (the user's) eyes alone: the file itself may be so.
pub(super) fn keep(places: &Places, kind: &str, name: &str, text: &str) -> io::Result<()> {
    let Some(kept) = places.kept.as_deref() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "XDG_RUNTIME_DIR is not set"));
    };
    let directory = places.under(kept).join(kind);
    let temporary = directory.join(format!(".{}", std::process::id()));
    let written = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&directory)
        .and_then(|()| std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, directory.join(format!("{name}.toml"))));
    written.map_err(|error| {
        // The disk is full, perhaps: half a file is of no use to anybody.
        let _ = std::fs::remove_file(&temporary);
        io::Error::new(error.kind(), format!("in {}: {error}", directory.display()))
    })
}
