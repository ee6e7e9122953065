//! What the operator wrote (pure): the checked model of one `NAME.toml`.
//!
//! `file` is the file as typed, [`check`] turns it into the [`App`] of this module or into a [`Report`] of all mistakes;
//! [`value`] are the notations of systemd (sizes, spans, addresses) and [`router`] the settings that travel to the
//! router's command line.

pub mod check;
mod environment;
mod exec;
mod file;
pub mod networks;
mod pass;
pub mod report;
pub mod router;
mod stop;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use check::parse;
pub use file::nearest;
pub use report::{Level, Problem, Report};
pub use router::RouterSettings;
pub use stop::Stop;
pub use value::Listen;

/// Which manager runs the app: the system's, or the calling user's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    System,
    User,
}

/// One app as its file describes it, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// The file's name without `.toml`; also the stem of all its units.
    pub name: String,
    /// The file itself, for `SourcePath=`.
    pub source: PathBuf,
    pub scope: Scope,
    /// Program and arguments, never empty, taken literally (no shell, no variable expansion).
    pub exec: Vec<String>,
    /// Absolute.
    pub directory: Option<PathBuf>,
    /// `None`: a DynamicUser named like the app (system scope).
    pub user: Option<String>,
    pub group: Option<String>,
    pub workers: Workers,
    /// `ListenStream=` values, normalised.
    pub listen: Vec<Listen>,
    /// The profile whose variables are in force, `active_profile`.
    pub profile: Option<String>,
    /// All profiles of the file, by name.
    pub profiles: Vec<String>,
    /// Base table with the active profile merged on top.
    pub environment: BTreeMap<String, String>,
    /// `EnvironmentFile=` values, a leading `-` kept.
    pub environment_files: Vec<String>,
    pub runtime: Runtime,
    pub start: Start,
    pub stop: Stop,
    /// How long a worker that is being stopped may finish what is in flight before it is told to stop.
    pub drain: Duration,
    pub restart: Restart,
    pub reload: Reload,
    pub limits: Limits,
    /// How long a worker may take until it is ready (`TimeoutStartSec=` of the worker).
    pub ready_timeout: Duration,
    pub router: RouterSettings,
    /// `[service]` pass-through: keys of `[Service]` of the worker, in file order, one entry a line.
    pub service: Vec<(String, String)>,
    /// `[socket]` pass-through: keys of `[Socket]` of the public socket.
    pub socket: Vec<(String, String)>,
}

/// `workers = 4 | "max" | "max-1"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    Count(u32),
    /// All processors less this many, at least one.
    MaxMinus(u32),
}

impl Workers {
    /// The number of workers on a machine of `processors`.
    pub fn resolve(self, processors: u32) -> u32 {
        match self {
            Self::Count(n) => n.max(1),
            Self::MaxMinus(less) => processors.saturating_sub(less).max(1),
        }
    }
}

/// What runs the program, which decides how the router talks to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Node,
    Bun,
    Deno,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Bun => "bun",
            Self::Deno => "deno",
        })
    }
}

/// When the app comes up by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Sockets and workers at boot.
    Boot,
    /// Sockets at boot, workers on the first connection.
    Demand,
    /// Only when asked.
    Manual,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// A value of systemd's `Restart=`.
    pub policy: String,
    pub delay: Duration,
    /// Starts allowed within `interval`; `None`: no limit.
    pub limit: Option<u32>,
    pub interval: Duration,
}

/// How `appctl reload` goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// Workers that are replaced at a time, at least one.
    pub surge: u32,
    /// How long a new worker has to live before the old one goes.
    pub settle: Duration,
}

/// Values are systemd's own notation, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// `MemoryMax=`
    pub memory: Option<String>,
    /// `CPUQuota=`
    pub cpu: Option<String>,
    /// `TasksMax=`
    pub tasks: Option<String>,
    /// `LimitNOFILE=`
    pub files: Option<String>,
}
