//! systemd over D-Bus: the methods of org.freedesktop.systemd1(5) that appctl needs, and the jobs that they start.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;

use zbus::{Connection, OwnedObjectPath, OwnedVariant, connection, fdo, proxy};

/// A call that takes longer means that systemd is not going to answer. daemon-reload runs all generators, which may
/// take up to 90 s (systemd.generator(7)).
const CALL_TIMEOUT: Duration = Duration::from_secs(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which manager to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// PID 1.
    System,
    /// The calling user's own.
    User,
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No systemd here, or no way to reach it.
    #[error("cannot reach systemd: {0}")]
    Unreachable(String),
    /// systemd or polkit refused.
    #[error("not permitted: {0}")]
    Denied(String),
    #[error("no such unit: {0}")]
    NoSuchUnit(String),
    /// The unit's file does not load.
    #[error("{0}")]
    Refused(String),
    #[error("systemd did not answer in time")]
    TimedOut,
    #[error("systemd: {0}")]
    Other(String),
}

impl From<zbus::Error> for BusError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                let message = message.unwrap_or_else(|| name.to_string());
                match name.as_str().rsplit('.').next() {
                    Some("NoSuchUnit") => Self::NoSuchUnit(message),
                    Some("InteractiveAuthorizationRequired" | "AccessDenied" | "AuthFailed") => Self::Denied(message),
                    _ if name.as_str().starts_with("org.freedesktop.systemd1.") => Self::Refused(message),
                    _ => Self::Other(format!("{name}: {message}")),
                }
            }
            zbus::Error::FDO(error) => match *error {
                fdo::Error::AccessDenied(message)
                | fdo::Error::AuthFailed(message)
                | fdo::Error::InteractiveAuthorizationRequired(message) => Self::Denied(message),
                fdo::Error::NoReply(_) | fdo::Error::Timeout(_) | fdo::Error::TimedOut(_) => Self::TimedOut,
                fdo::Error::ServiceUnknown(message) | fdo::Error::Disconnected(message) => Self::Unreachable(message),
                fdo::Error::ZBus(inner) => Self::from(inner),
                other => Self::Other(other.to_string()),
            },
            zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut => Self::TimedOut,
            zbus::Error::InputOutput(error) => Self::Unreachable(error.to_string()),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<fdo::Error> for BusError {
    fn from(error: fdo::Error) -> Self {
        Self::from(zbus::Error::from(error))
    }
}

/// name, description, load state, active state, sub state, followed unit, path, job id, job type, job path.
type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait SystemdManager {
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, who: &str, signal: i32) -> zbus::Result<()>;
    fn cancel_job(&self, id: u32) -> zbus::Result<()>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<ListedUnit>>;
    fn reload(&self) -> zbus::Result<()>;
    fn subscribe(&self) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

#[proxy(interface = "org.freedesktop.DBus.Properties", default_service = "org.freedesktop.systemd1")]
trait SystemdProperties {
    fn get(&self, interface: &str, name: &str) -> zbus::Result<OwnedVariant>;
    fn get_all(&self, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>>;
}

/// What to do with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Start,
    Stop,
    Restart,
    Reload,
}

/// A job of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: u32,
    /// `start`, `stop`, `restart`, …
    pub kind: String,
    /// It does not run yet.
    pub waits: bool,
}

/// A finished job, as JobRemoved tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub job: OwnedObjectPath,
    pub unit: String,
    /// `done`, `canceled`, `timeout`, `failed`, `dependency`, `skipped`.
    pub result: String,
}

/// One row of ListUnitsByPatterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub load_state: String,
    pub active_state: String,
    pub sub_state: String,
    /// A job of it is waiting or running.
    pub has_job: bool,
    path: OwnedObjectPath,
}

/// A unit's properties by name, of the interfaces that were asked for.
#[derive(Debug, Default)]
pub struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|value| <&str>::try_from(value).ok())
    }

    /// `None` also for UINT64_MAX, which systemd uses for *not set*.
    pub fn u64(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(|value| u64::try_from(value).ok()).filter(|number| *number != u64::MAX)
    }

    pub fn u32(&self, name: &str) -> Option<u32> {
        self.0.get(name).and_then(|value| u32::try_from(value).ok())
    }

    pub fn i32(&self, name: &str) -> Option<i32> {
        self.0.get(name).and_then(|value| i32::try_from(value).ok())
    }

    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(|value| bool::try_from(value).ok()).unwrap_or(false)
    }

    /// The 128-bit id of the unit's latest run, in hex, as the journal writes it; `None` when it never ran.
    pub fn invocation(&self) -> Option<String> {
        let value = self.0.get("InvocationID")?.try_clone().ok()?;
        let bytes = Vec::<u8>::try_from(value).ok()?;
        (bytes.len() == 16).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// `ExecStart` of a service: the words of its first command line, as its process gets them.
    pub fn command(&self) -> Option<Vec<String>> {
        let value = self.0.get("ExecStart")?.try_clone().ok()?;
        let (_path, words, ..) = Vec::<ExecCommand>::try_from(value).ok()?.into_iter().next()?;
        Some(words.into_iter().map(|word| word.replace("$$", "$")).collect())
    }

    /// `TimersCalendar` of a timer: when the first of its times comes or, while what it started runs, came. Microseconds
    /// since 1970.
    pub fn calendar(&self) -> Option<u64> {
        let value = self.0.get("TimersCalendar")?.try_clone().ok()?;
        let times = Vec::<(String, String, u64)>::try_from(value).ok()?.into_iter().map(|(_base, _text, next)| next);
        times.filter(|next| ![0, u64::MAX].contains(next)).min()
    }

    /// `Listen` of a socket unit: the addresses.
    pub fn listen(&self) -> Vec<String> {
        let pairs = self.0.get("Listen").and_then(|value| value.try_clone().ok());
        let pairs = pairs.and_then(|value| Vec::<(String, String)>::try_from(value).ok()).unwrap_or_default();
        pairs.into_iter().map(|(_kind, address)| address).collect()
    }
}

/// path, words, whether failure is ignored, start and end (real time, monotonic), pid, code, status.
type ExecCommand = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// A connection to one manager. Needs a running tokio runtime.
#[derive(Debug)]
pub struct Systemd {
    manager: SystemdManagerProxy<'static>,
    connection: Connection,
}

impl Systemd {
    /// By the system bus, or by the user's. (systemd's private sockets, which need no bus, are of no use: on them it signs
    /// its messages with a well-known name, which zbus refuses, as the specification says.)
    pub async fn connect(which: Manager) -> Result<Self, BusError> {
        let connecting = async {
            let builder = match which {
                Manager::System => connection::Builder::system(),
                Manager::User if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some() => {
                    connection::Builder::session()
                }
                Manager::User => {
                    let Some(directory) = super::place::runtime_directory(true).filter(|path| path.is_absolute())
                    else {
                        return Err(BusError::Unreachable("XDG_RUNTIME_DIR is not set".into()));
                    };
                    connection::Builder::address(format!("unix:path={}", directory.join("bus").display()).as_str())
                }
            };
            Ok(builder.method_timeout(CALL_TIMEOUT).build().await?)
        };
        let connection = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(BusError::Unreachable(bare(&error))),
            Err(_) => return Err(BusError::Unreachable("no answer".into())),
        };
        let manager =
            SystemdManagerProxy::builder(&connection).cache_properties(proxy::CacheProperties::No).build().await?;
        Ok(Self { manager, connection })
    }

    /// Jobs that end from now on.
    pub async fn watch_jobs(&self) -> Result<Jobs<'_>, BusError> {
        let mut signals = self.manager.receive_job_removed().await?;
        match self.manager.subscribe().await.map_err(BusError::from) {
            // This connection has watched before.
            Ok(()) | Err(BusError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        let (sender, finished) = mpsc::unbounded_channel();
        // zbus stops reading the connection, answers included, while one of its streams is full.
        let pump = tokio::spawn(async move {
            while let Some(signal) = signals.next().await {
                let Ok(arguments) = signal.args() else { continue };
                let ended = Finished {
                    job: arguments.job.clone(),
                    unit: arguments.unit.clone(),
                    result: arguments.result.clone(),
                };
                if sender.send(ended).is_err() {
                    break;
                }
            }
        });
        Ok(Jobs { systemd: self, finished, pump })
    }

    /// Queues a job in mode *replace* and returns its path, without waiting for it.
    pub async fn enqueue(&self, verb: Verb, unit: &str) -> Result<OwnedObjectPath, BusError> {
        Ok(match verb {
            Verb::Start => self.manager.start_unit(unit, "replace").await?,
            Verb::Stop => self.manager.stop_unit(unit, "replace").await?,
            Verb::Restart => self.manager.restart_unit(unit, "replace").await?,
            Verb::Reload => self.manager.reload_unit(unit, "replace").await?,
        })
    }

    /// `systemctl daemon-reload`: returns when all generators have run and all units are loaded again.
    pub async fn daemon_reload(&self) -> Result<(), BusError> {
        Ok(self.manager.reload().await?)
    }

    /// A signal to the main process of a unit, and to no other.
    pub async fn signal_main(&self, unit: &str, signal: i32) -> Result<(), BusError> {
        Ok(self.manager.kill_unit(unit, "main", signal).await?)
    }

    /// A signal to the command that a unit runs beside its main process, such as `ExecReload=`.
    pub async fn signal_control(&self, unit: &str, signal: i32) -> Result<(), BusError> {
        Ok(self.manager.kill_unit(unit, "control", signal).await?)
    }

    pub async fn reset_failed(&self, unit: &str) -> Result<(), BusError> {
        Ok(self.manager.reset_failed_unit(unit).await?)
    }

    /// The loaded units that match any of the globs.
    pub async fn list(&self, patterns: &[String]) -> Result<Vec<Listed>, BusError> {
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let rows = self.manager.list_units_by_patterns(&[], &patterns).await?;
        Ok(rows
            .into_iter()
            .map(|(name, _, load_state, active_state, sub_state, _, path, job, ..)| Listed {
                name,
                load_state,
                active_state,
                sub_state,
                has_job: job != 0,
                path,
            })
            .collect())
    }

    /// Whether a unit is going down because somebody wants it down. One that ended by itself goes down too, for as long as
    /// its `ExecStopPost=` takes, and comes back.
    pub async fn is_leaving(&self, unit: &Listed) -> bool {
        unit.active_state == "deactivating"
            && unit.has_job
            && matches!(self.job_type(&unit.name).await, Ok(Some(job)) if job == "stop")
    }

    /// All properties of a unit, loading it if it is not: those of every unit, and those of its type.
    pub async fn properties(&self, unit: &str) -> Result<Properties, BusError> {
        let path = self.manager.load_unit(unit).await?;
        let proxy = self.properties_proxy(path).await?;
        let mut all = proxy.get_all("org.freedesktop.systemd1.Unit").await?;
        let interface = match unit.rsplit('.').next() {
            Some("service") => "org.freedesktop.systemd1.Service",
            Some("socket") => "org.freedesktop.systemd1.Socket",
            Some("timer") => "org.freedesktop.systemd1.Timer",
            _ => return Ok(Properties(all)),
        };
        all.extend(proxy.get_all(interface).await?);
        Ok(Properties(all))
    }

    /// The same of a service that is loaded.
    pub async fn properties_of(&self, unit: &Listed) -> Result<Properties, BusError> {
        let proxy = self.properties_proxy(unit.path.clone()).await?;
        let (all, own) = tokio::try_join!(
            proxy.get_all("org.freedesktop.systemd1.Unit"),
            proxy.get_all("org.freedesktop.systemd1.Service")
        )?;
        Ok(Properties(all.into_iter().chain(own).collect()))
    }

    /// How often systemd has started a loaded service again.
    pub async fn restarts(&self, unit: &Listed) -> Result<u32, BusError> {
        let proxy = self.properties_proxy(unit.path.clone()).await?;
        let value = proxy.get("org.freedesktop.systemd1.Service", "NRestarts").await?;
        u32::try_from(value).map_err(|error| BusError::Other(error.to_string()))
    }

    /// The type (`start`, `stop`, `restart`, …) of the job that a loaded unit has now.
    pub async fn job_type(&self, unit: &str) -> Result<Option<String>, BusError> {
        Ok(self.job(unit).await?.map(|job| job.kind))
    }

    /// The job that a loaded unit has now.
    pub async fn job(&self, unit: &str) -> Result<Option<Job>, BusError> {
        let path = self.manager.get_unit(unit).await?;
        let value = self.properties_proxy(path).await?.get("org.freedesktop.systemd1.Unit", "Job").await?;
        let (id, job) =
            <(u32, OwnedObjectPath)>::try_from(value).map_err(|error| BusError::Other(error.to_string()))?;
        if id == 0 {
            return Ok(None);
        }
        let proxy = self.properties_proxy(job).await?;
        let text = async |name| {
            let value = proxy.get("org.freedesktop.systemd1.Job", name).await?;
            String::try_from(value).map_err(|error| BusError::Other(error.to_string()))
        };
        Ok(Some(Job { id, kind: text("JobType").await?, waits: text("State").await? == "waiting" }))
    }

    /// Takes a job away; what its unit is doing is not ended by that.
    pub async fn cancel(&self, job: &Job) -> Result<(), BusError> {
        Ok(self.manager.cancel_job(job.id).await?)
    }

    async fn properties_proxy(&self, path: OwnedObjectPath) -> Result<SystemdPropertiesProxy<'static>, BusError> {
        Ok(SystemdPropertiesProxy::builder(&self.connection)
            .path(path)
            .cache_properties(proxy::CacheProperties::No)
            .build()
            .await?)
    }
}

/// The jobs that end while this is alive; made before jobs are queued, so that none ends unseen.
#[derive(Debug)]
pub struct Jobs<'a> {
    systemd: &'a Systemd,
    finished: mpsc::UnboundedReceiver<Finished>,
    pump: tokio::task::JoinHandle<()>,
}

impl Jobs<'_> {
    pub fn systemd(&self) -> &Systemd {
        self.systemd
    }

    /// The next job of the manager, ours or another's, that ended. `None`: the connection is gone.
    pub async fn next(&mut self) -> Option<Finished> {
        self.finished.recv().await
    }
}

impl Drop for Jobs<'_> {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// The reason alone, without what [`BusError::Unreachable`] would say a second time.
fn bare(error: &BusError) -> String {
    match error {
        BusError::Unreachable(reason) | BusError::Other(reason) => reason.clone(),
        other => other.to_string(),
    }
}
