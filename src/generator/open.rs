//! Secrets that everybody may read: files of variables by their modes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::places::Places;
use crate::config::App;

/// A file that says too much to too many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// As the app's file names it, without a leading `-`.
    pub file: String,
    pub mode: u32,
}

impl Open {
    /// What is wrong.
    pub fn reason(&self) -> String {
        format!("every user of this machine may read {} (mode {:04o})", self.file, self.mode)
    }

    /// What to do.
    pub fn remedy(&self) -> String {
        let file = shlex::try_quote(&self.file).unwrap_or_default();
        format!("run: chmod o= {file}   (systemd reads it for the app)")
    }
}

/// Which of an app's `environment_files` every user may read. Where they cannot be reached by others, nobody may.
pub fn files(app: &App, places: &Places) -> Vec<Open> {
    let files = app.environment_files.iter().map(|file| file.strip_prefix('-').unwrap_or(file));
    files.filter_map(|file| Some(Open { file: file.to_owned(), mode: open(&places.under(Path::new(file)))? })).collect()
}

/// The mode of a file that others may read.
fn open(path: &Path) -> Option<u32> {
    // A file is what a link leads to.
    let real = std::fs::canonicalize(path).ok()?;
    let metadata = std::fs::metadata(&real).ok()?;
    let mode = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o7777).ok();
    let reached = real.ancestors().skip(1).all(|directory| mode(directory).is_some_and(|mode| mode & 0o001 != 0));
    let mode = metadata.permissions().mode() & 0o7777;
    (metadata.is_file() && reached && mode & 0o004 != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Scope};

    #[test]
    fn a_file_is_as_open_as_the_way_to_it() {
        let root = tempfile::tempdir().unwrap();
        let set = |path: &str, mode| {
            std::fs::set_permissions(root.path().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        std::fs::create_dir_all(root.path().join("etc/inner")).unwrap();
        std::fs::write(root.path().join("etc/inner/my env"), "A=1").unwrap();
        std::os::unix::fs::symlink("inner/my env", root.path().join("etc/link")).unwrap();
        let path = root.path().to_owned();
        let places = Places::new(Scope::System, |name| (name == "APPCTL_ROOT").then(|| path.clone().into())).unwrap();
        let text = "exec = '/x'\nenvironment_files = ['-/etc/inner/my env', '/etc/link', '-/etc/none', '/etc/inner']";
        let app = config::parse("app", Path::new("app.toml"), text, Scope::System).app.unwrap();
        for (directory, file, open) in [(0o755, 0o644, 2), (0o755, 0o640, 0), (0o755, 0o604, 2), (0o750, 0o644, 0)] {
            // The temporary directory itself is closed.
            std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            set("etc/inner", directory);
            set("etc/inner/my env", file);
            assert_eq!(files(&app, &places).len(), open, "{directory:o} {file:o}");
        }
        set("etc/inner", 0o755);
        set("etc/inner/my env", 0o644);
        let found = &files(&app, &places)[0];
        assert_eq!(found.remedy(), "run: chmod o= '/etc/inner/my env'   (systemd reads it for the app)");
        assert!(found.reason().ends_with("/etc/inner/my env (mode 0644)"), "{}", found.reason());
    }
}
