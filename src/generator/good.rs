//! The last text of each file that was good. A file that gets a mistake must not take the units of running workers away,
//! when anybody has systemd read all units again (a package's installation does): they are made from this text then.
//!
//! It is kept until the next boot; at a boot nothing runs, and a file with mistakes is told as such.

use super::apps::AppFile;
use super::kept::{keep, recorded};
use super::places::Places;
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
