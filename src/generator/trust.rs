//! Whose word a file is: an app's file names the account that its commands run as, so nobody but root may write it, nor put
//! another one in its place.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::places::Places;
use crate::config::{Level, Problem, Scope};

/// Everybody may write it.
const OPEN: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Looks at a file, wherever links lead to it, and at the directories on the way to it.
pub(super) fn check(places: &Places, path: &Path) -> Result<(), Problem> {
    // What cannot be read is told as such.
    let Ok(real) = std::fs::canonicalize(path) else { return Ok(()) };
    let root = std::fs::canonicalize(&places.root).unwrap_or_else(|_| PathBuf::from("/"));
    let mut trusted = vec![0];
    if places.scope == Scope::User || root != Path::new("/") {
        trusted.push(nix::unistd::geteuid().as_raw());
    }
    if root != Path::new("/") {
        // A trial, which says nothing about this machine.
        trusted.extend(std::fs::metadata(&root).map(|metadata| metadata.uid()));
    }
    // In a home, the way there is nobody's business.
    let above = if places.scope == Scope::User { 1 } else { usize::MAX };
    let inside = |part: &&Path| part.starts_with(&root);
    // The file itself, the way there, and the link's own way as well: who may rename that one puts another one there.
    let file = real.ancestors().take_while(inside).take(above).enumerate();
    let link = path.ancestors().enumerate().skip(1).take_while(|(_, part)| inside(part)).take(above - 1);
    for (depth, part) in file.chain(link) {
        let Ok(metadata) = std::fs::metadata(part) else { continue };
        let shown = Path::new("/").join(part.strip_prefix(&root).unwrap_or(part));
        let (shown, mode) = (shown.display(), metadata.mode());
        if !trusted.contains(&metadata.uid()) {
            let owner = places.user(metadata.uid()).unwrap_or_else(|| format!("user {}", metadata.uid()));
            return Err(Problem::whole(
                Level::Error,
                format!("{shown} is {owner}'s, who could run anything as anybody by it"),
                format!(
                    "chown root {shown}; or put a copy of the file that is root's into {}",
                    places.config.display()
                ),
            ));
        }
        // In a directory with the sticky bit nobody replaces another's file.
        if mode & OPEN != 0 && (depth == 0 || mode & STICKY == 0) {
            return Err(Problem::whole(
                Level::Error,
                format!("everybody may write {shown}, and so run anything as anybody"),
                format!("chmod o-w {shown}"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn nobody_else_may_write_it_or_put_another_there() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("etc/appctl")).unwrap();
        std::fs::create_dir_all(at("home/bob")).unwrap();
        std::fs::write(at("etc/appctl/a.toml"), "").unwrap();
        std::fs::write(at("home/bob/b.toml"), "").unwrap();
        symlink("../../home/bob/b.toml", at("etc/appctl/b.toml")).unwrap();
        let path = root.path().to_owned();
        let places = Places::new(Scope::System, |name| (name == "APPCTL_ROOT").then(|| path.clone().into())).unwrap();
        let told = |name: &str| check(&places, &at("etc/appctl").join(name)).err().map(|problem| problem.message);
        let is_told = |name: &str, words: &str| told(name).is_some_and(|told| told.contains(words));
        assert_eq!((told("a.toml"), told("b.toml"), told("none.toml")), (None, None, None));
        for (path, name, open) in
            [("etc/appctl/a.toml", "a.toml", 0o646), ("etc/appctl", "a.toml", 0o757), ("home/bob", "b.toml", 0o777)]
        {
            let before = std::fs::metadata(at(path)).unwrap().permissions().mode();
            set(&at(path), open);
            assert!(is_told(name, &format!("everybody may write /{path},")), "{path}: {:?}", told(name));
            set(&at(path), before);
        }
        set(&at("home/bob"), 0o1777);
        assert_eq!(told("b.toml"), None, "only its owner may replace it there");
        set(&at("home/bob"), 0o755);
        if nix::unistd::geteuid().is_root() {
            chown(at("home/bob"), Some(65_533), None).unwrap();
            assert!(is_told("b.toml", "/home/bob is user 65533's"), "{:?}", told("b.toml"));
            assert_eq!(told("a.toml"), None);
            chown(at("etc/appctl/a.toml"), Some(65_533), None).unwrap();
            assert!(is_told("a.toml", "/etc/appctl/a.toml is user 65533's"), "{:?}", told("a.toml"));
        }
    }
}
