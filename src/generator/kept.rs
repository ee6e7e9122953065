//! Texts of apps' files that are kept until the next boot, a directory for each kind of them.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use super::places::Places;
use super::trust;

/// Where the text of an app is. `None`: nothing can be kept.
pub(super) fn path(places: &Places, kind: &str, name: &str) -> Option<PathBuf> {
    Some(places.under(places.kept.as_deref()?).join(kind).join(format!("{name}.toml")))
}

/// A text of an app that was kept. One that somebody else could have put there is none.
pub(super) fn recorded(places: &Places, kind: &str, name: &str) -> Option<String> {
    let path = path(places, kind, name)?;
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
