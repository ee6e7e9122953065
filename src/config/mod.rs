//! What the operator wrote (pure): the checked model of one `NAME.toml`.
//!
//! `file` is the file as typed, [`check`] turns it into the [`App`] of this module or into a [`Report`] of all mistakes;
//! [`value`] are the notations of systemd (sizes, spans, addresses) and [`router`] the settings that travel to the
//! router's command line.

pub mod calendar;
pub mod check;
mod cron;
mod effect;
mod environment;
mod exec;
mod file;
mod limits;
pub mod listen;
pub mod networks;
mod pass;
pub mod report;
pub mod restart;
pub mod router;
mod runtime;
pub mod sandbox;
mod schedule;
pub mod sticky;
mod stop;
pub mod value;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use check::parse;
pub use file::nearest;
pub use report::{Level, Problem, Report};
pub use restart::Restart;
pub use router::RouterSettings;
pub use sandbox::Sandbox;
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
    /// Secrets: their names, and the files that systemd gives to the workers by them.
    pub credentials: BTreeMap<String, PathBuf>,
    pub sandbox: Sandbox,
    /// What a worker's own variables are called.
    pub numbering: Numbering,
    pub runtime: Runtime,
    pub start: Start,
    pub stop: Stop,
    /// How long a worker that is being stopped may finish what is in flight before it is told to stop.
    pub drain: Duration,
    pub restart: Restart,
    pub reload: Reload,
    pub limits: Limits,
    pub schedule: Schedule,
    pub watch: Option<Watch>,
    /// How long a worker may take until it is ready (`TimeoutStartSec=` of the worker).
    pub ready_timeout: Duration,
    pub router: RouterSettings,
    /// `[service]` pass-through: keys of `[Service]` of the worker, in file order, one entry a line.
    pub service: Vec<(String, String)>,
    /// `[socket]` pass-through: keys of `[Socket]` of the public socket.
    pub socket: Vec<(String, String)>,
}

impl App {
    /// All that its sockets are bound to, those of its own directory apart.
    pub fn addresses(&self) -> impl Iterator<Item = &Listen> {
        self.listen.iter().chain(&self.router.metrics)
    }
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

/// Variables by which a worker knows which one it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbering {
    /// Its index, 0…N−1; `None`: `NODE_APP_INSTANCE`.
    pub index: Option<String>,
    /// One that has its own value plus the index.
    pub increment: Option<String>,
}

/// What runs the program, which decides how the router talks to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Node,
    Bun,
    Deno,
    /// Anything that takes a listening socket from systemd (`LISTEN_FDS`).
    Socket,
    /// Anything that listens on the port that `PORT` says.
    Port,
    /// Anything that takes no connections of the router's.
    None,
}

impl Runtime {
    pub const ALL: [Self; 6] = [Self::Node, Self::Bun, Self::Deno, Self::Socket, Self::Port, Self::None];

    /// Whether it speaks Node's channel. Without one the router connects to the worker, as a proxy does, or not at all.
    pub fn has_channel(self) -> bool {
        !matches!(self, Self::Socket | Self::Port | Self::None)
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Bun => "bun",
            Self::Deno => "deno",
            Self::Socket => "socket",
            Self::Port => "port",
            Self::None => "none",
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

/// How `appctl reload` goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// Workers that are replaced at a time, at least one.
    pub surge: u32,
    /// How long a new worker has to live before the old one goes.
    pub settle: Duration,
}

/// When the app is reloaded or restarted by itself: values of `OnCalendar=`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    pub reload: Vec<String>,
    pub restart: Vec<String>,
}

impl Schedule {
    pub fn is_empty(&self) -> bool {
        self.reload.is_empty() && self.restart.is_empty()
    }
}

/// Files whose change reloads the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Absolute, at least one; a directory means all below it.
    pub paths: Vec<PathBuf>,
    /// Patterns as in gitignore(5).
    pub ignore: Vec<String>,
}

/// Values are systemd's own notation, checked, where they are for systemd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// `MemoryMax=`
    pub memory: Option<String>,
    /// Bytes: a worker that uses more is replaced.
    pub memory_reload: Option<u64>,
    /// `CPUQuota=`
    pub cpu: Option<String>,
    /// `TasksMax=`
    pub tasks: Option<String>,
    /// `LimitNOFILE=`
    pub files: Option<String>,
}
