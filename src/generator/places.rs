//! Where the operator's files and the units of others are. Everything is below one root, which tests move.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::Scope;

/// The directories of one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    pub scope: Scope,
    /// `/`, or what `APPCTL_ROOT` says.
    pub root: PathBuf,
    /// Where `NAME.toml` is, without the root.
    pub config: PathBuf,
    /// What is known of the apps until the next boot, without the root; `None`: a user without a runtime directory.
    pub kept: Option<PathBuf>,
    /// Where units of others may be, without the root, systemd.unit(5).
    pub units: Vec<PathBuf>,
}

impl Places {
    /// `None`: a user without a home.
    pub fn from_environment(scope: Scope) -> Option<Self> {
        Self::new(scope, |name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// As [`Places::from_environment`], with the environment as an argument.
    pub fn new(scope: Scope, environment: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let path = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let root = path("APPCTL_ROOT").unwrap_or(PathBuf::from("/"));
        let common = |kind: &str| {
            ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd", "/lib/systemd"]
                .map(|directory| Path::new(directory).join(kind))
        };
        match scope {
            Scope::System => Some(Self {
                scope,
                root,
                config: PathBuf::from("/etc/appctl"),
                kept: Some(PathBuf::from("/run/appctl")),
                units: common("system").to_vec(),
            }),
            Scope::User => {
                let home = path("HOME");
                let below =
                    |variable, relative| path(variable).or_else(|| home.as_ref().map(|home| home.join(relative)));
                let config = below("XDG_CONFIG_HOME", ".config")?;
                let mut units = vec![config.join("systemd/user")];
                units.extend(path("XDG_RUNTIME_DIR").map(|directory| directory.join("systemd/user")));
                units.extend(below("XDG_DATA_HOME", ".local/share").map(|directory| directory.join("systemd/user")));
                units.extend(common("user"));
                let kept = path("XDG_RUNTIME_DIR").map(|directory| directory.join("appctl"));
                Some(Self { scope, root, config: config.join("appctl"), kept, units })
            }
        }
    }

    /// An absolute path as it is below the root.
    pub fn under(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether the machine itself has such a group. Not asked of anybody over the network: systemd waits for the generator.
    pub fn has_group(&self, name: &str) -> bool {
        has_line(&self.under(Path::new("/etc/group")), name)
    }

    /// Whether the machine itself has such an account.
    pub fn has_user(&self, name: &str) -> bool {
        has_line(&self.under(Path::new("/etc/passwd")), name)
    }

    /// What the machine itself calls a user.
    pub fn user(&self, uid: u32) -> Option<String> {
        let text = std::fs::read_to_string(self.under(Path::new("/etc/passwd"))).ok()?;
        let line = text.lines().find(|line| line.split(':').nth(2) == Some(uid.to_string().as_str()))?;
        line.split(':').next().map(str::to_owned)
    }

    /// The file of an app, without the root.
    pub fn file(&self, name: &str) -> PathBuf {
        self.config.join(format!("{name}.toml"))
    }
}

/// Whether a file such as passwd(5) has a line of that name.
fn has_line(path: &Path, name: &str) -> bool {
    let text = std::fs::read(path).unwrap_or_default();
    text.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b':').next() == Some(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(scope: Scope, variables: &[(&str, &str)]) -> Option<Places> {
        Places::new(scope, |name| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_system_scope_asks_for_nothing_but_the_root() {
        let system = places(Scope::System, &[("HOME", "/root"), ("APPCTL_ROOT", "/t")]).unwrap();
        assert_eq!(system.under(&system.file("app")), Path::new("/t/etc/appctl/app.toml"));
    }

    #[test]
    fn a_user_has_own_directories() {
        let user = places(Scope::User, &[("HOME", "/home/u"), ("XDG_RUNTIME_DIR", "/run/user/1")]).unwrap();
        assert_eq!(user.file("app"), Path::new("/home/u/.config/appctl/app.toml"));
        assert!(user.units.contains(&PathBuf::from("/home/u/.config/systemd/user")));
        assert!(user.units.contains(&PathBuf::from("/run/user/1/systemd/user")));
        let moved = places(Scope::User, &[("XDG_CONFIG_HOME", "/c")]).unwrap();
        assert_eq!(moved.file("app"), Path::new("/c/appctl/app.toml"));
        assert_eq!(places(Scope::User, &[("HOME", "relative")]), None);
    }
}
