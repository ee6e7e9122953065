//! How a command ends: systemctl's exit codes, and the message that goes with each.

use crate::config::Scope;
use crate::system::bus::BusError;

/// It was done.
pub const DONE: u8 = 0;
/// It failed.
pub const FAILED: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 2;
/// The app is not running.
pub const NOT_RUNNING: u8 = 3;
/// There is no such app, or no right to manage units.
pub const UNKNOWN: u8 = 4;

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    #[error("{0}")]
    Usage(String),
    /// The message tells what to write instead, when something is near.
    #[error("{0}")]
    UnknownApp(String),
    #[error("{0}")]
    Denied(String),
    /// All has been said.
    #[error("")]
    Told(u8),
}

impl Failure {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(anyhow::Error::msg(message.into()))
    }

    pub fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => FAILED,
            Self::Usage(_) => USAGE,
            Self::UnknownApp(_) | Self::Denied(_) => UNKNOWN,
            Self::Told(code) => *code,
        }
    }

    /// Tells about one of several things to do; the others go on, unless they would fail alike.
    pub fn of_one(self, printer: &super::print::Printer) -> Result<u8, Self> {
        if let Self::Denied(_) = self {
            return Err(self);
        }
        if !matches!(self, Self::Told(_)) {
            printer.error(&self.to_string());
        }
        Ok(self.code())
    }

    /// What to say when systemd refuses or cannot be reached.
    pub fn of_bus(error: BusError, scope: Scope) -> Self {
        match (error, scope) {
            (BusError::Denied(reason), _) => Self::Denied(format!(
                "no right to manage the system's units ({})\n\
                 Use sudo; or become a member of the group appctl (usermod -aG appctl NAME, and log in again); or run the \
                 app as your own with --user.",
                reason.trim_end_matches('.')
            )),
            (BusError::Unreachable(reason), Scope::System) if std::path::Path::new("/run/systemd/system").exists() => {
                Self::failed(format!("systemd runs, but cannot be reached by D-Bus ({reason})\nInstall or start dbus."))
            }
            (BusError::Unreachable(reason), Scope::System) => Self::failed(format!(
                "cannot reach systemd ({reason})\n\
                 Does systemd run this machine? Without it, `appctl run SCRIPT` serves in the foreground."
            )),
            (BusError::Unreachable(reason), Scope::User) => Self::failed(format!(
                "cannot reach your systemd user manager ({reason})\n\
                 Log in by a session of systemd (ssh, a console, `machinectl shell`), or keep the manager running with \
                 `loginctl enable-linger`; on Debian and its relatives it needs the package dbus-user-session. Without systemd, `appctl run SCRIPT` serves in the foreground."
            )),
            (other, _) => Self::failed(other.to_string()),
        }
    }

    /// What to say when a file of an app cannot be written.
    pub fn of_write(error: &std::io::Error, path: &std::path::Path) -> Self {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match error.kind() {
            PermissionDenied => Self::Denied(format!(
                "no right to write {}\nUse sudo, or run the app as your own with --user.",
                path.display()
            )),
            ReadOnlyFilesystem => Self::Denied(format!("{} is on a read-only file system", path.display())),
            _ => Self::failed(format!("cannot write {}: {error}", path.display())),
        }
    }
}
