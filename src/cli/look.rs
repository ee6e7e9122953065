//! Apps as they are now: what systemd, the kernel and the routers say of them.
//!
//! Nothing here waits for time to pass, and systemd is asked for as little as will do: what a worker that runs uses is in
//! the kernel's files, what it is doing is the router's to say.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde::Serialize;

use super::apps;
use super::exit::Failure;
use super::manage::{Manager, slot_order};
use super::names;
use super::print::Colour;
use crate::config::{App, Scope};
use crate::rollout::generation::{self, Generations};
use crate::rollout::ledger::{self, Progress, State};
use crate::rollout::plan::spare;
use crate::router::client::{End, Status, WorkerStatus};
use crate::system::bus::{Listed, Properties};
use crate::system::ended::How;
use crate::system::running::Builds;
use crate::system::stamp::Stamp;
use crate::system::{cpu, memory, place};
use crate::wire::axm::{Action, Metric};

/// One app, as it is now.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AppNow {
    pub(super) name: String,
    pub(super) scope: &'static str,
    pub(super) file: String,
    /// What is wrong with the file; then it has no units.
    pub(super) error: Option<String>,
    /// Where its router takes connections; while that does not run, where it will.
    pub(super) listen: Vec<String>,
    /// What the file says, where that is something else: it holds from the next restart on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listen_wanted: Option<Vec<String>>,
    pub(super) workers_wanted: u32,
    /// Its last reload failed, and what is started gets what the file said before.
    pub(super) on_hold: bool,
    /// The reload under way, or the last one since the app was started.
    pub(super) reload: Option<Progress>,
    pub(super) router: UnitNow,
    pub(super) workers: Vec<UnitNow>,
    /// The version of its router, where that is another build than the installed one.
    pub(super) outdated: Option<String>,
    /// What the file says.
    #[serde(skip)]
    pub(super) app: Option<App>,
}

impl AppNow {
    pub(super) fn is_of(&self, scope: Scope) -> bool {
        (self.scope == "user") == (scope == Scope::User)
    }

    /// That the addresses of the file are not (yet) those of the router.
    pub(super) fn listens_elsewhere(&self) -> String {
        let list =
            |addresses: &[String]| if addresses.is_empty() { "nowhere".to_owned() } else { addresses.join(", ") };
        let (now, then) = (list(&self.listen), list(self.listen_wanted.as_deref().unwrap_or_default()));
        let Self { name, .. } = self;
        format!("{name} serves at {now}; what its file says, {then}, holds from `appctl restart {name}` on")
    }
}

/// A router or a worker, as it is now.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct UnitNow {
    pub(super) unit: String,
    /// `None`: the router.
    pub(super) slot: Option<String>,
    /// Its number in the whole list, where ids are told ([`super::ids`]).
    pub(super) id: Option<u32>,
    /// `NODE_APP_INSTANCE`, by the router's word.
    pub(super) index: Option<u32>,
    pub(super) pid: Option<u32>,
    pub(super) state: String,
    #[serde(skip)]
    pub(super) colour: Colour,
    /// By systemd itself, since the unit was last started by hand.
    pub(super) restarts: Option<u32>,
    /// Of the worker before, or of this one that is down.
    pub(super) last_end: Option<End>,
    pub(super) uptime_seconds: Option<u64>,
    /// Of the last seconds, by the router's word; 100: one processor.
    pub(super) cpu_percent: Option<f64>,
    /// What its processes use and the kernel cannot take back, as for `limits.memory_reload`.
    pub(super) memory_bytes: Option<u64>,
    /// How long its event loop takes to answer, by its acknowledgements of the last minute.
    pub(super) lag_ms: Option<f64>,
    pub(super) sessions: Option<u64>,
    /// While a reload runs, and after one that failed half-way: `old` or `new`.
    pub(super) code: Option<&'static str>,
    /// What its app shows of itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) metrics: Vec<Metric>,
    /// How many more there are.
    #[serde(skip)]
    pub(super) metrics_left_out: usize,
    /// What its app lets others call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) actions: Vec<Action>,
    /// Which code it runs, counted from the app's first start since the boot.
    pub(super) generation: Option<u64>,
}

/// Asks systemd and the routers about apps.
pub(super) async fn look(wanted: &[(Scope, String)]) -> Result<Vec<AppNow>, Failure> {
    let mut apps = Vec::new();
    for scope in [Scope::System, Scope::User] {
        let here: Vec<&str> = wanted.iter().filter(|(of, _)| *of == scope).map(|(_, name)| name.as_str()).collect();
        if here.is_empty() {
            continue;
        }
        let (manager, files) = tokio::join!(Manager::connect(scope), async { apps::read_several(scope, &here) });
        let (manager, files) = (manager?, files?);
        let units: Vec<_> = here.iter().map(|name| names::units(scope, name)).collect();
        let patterns: Vec<String> = units.iter().flat_map(|units| [units.router.clone(), units.slot("*")]).collect();
        let listed = manager.systemd.list(&patterns).await.map_err(|error| manager.failure(error))?;
        let listed: HashMap<&str, &Listed> = listed.iter().map(|unit| (unit.name.as_str(), unit)).collect();
        let installed = Builds::default().installed(Path::new(crate::unit::plan::program()));
        let looks = here.iter().zip(files).map(|(name, file)| look_at(&manager, name, file, &listed, &installed));
        for app in join_all(looks).await {
            apps.push(app?);
        }
    }
    Ok(apps)
}

async fn look_at(
    manager: &Manager,
    name: &str,
    file: Result<apps::Loaded, String>,
    listed: &HashMap<&str, &Listed>,
    installed: &Stamp,
) -> Result<AppNow, Failure> {
    let names = names::units(manager.scope, name);
    let path = apps::path(manager.scope, name)?;
    let (loaded, error) = match file {
        Ok(loaded) => (Some(loaded), None),
        Err(problem) => (None, Some(problem)),
    };
    let router = listed.get(names.router.as_str()).copied();
    // Whoever asks a router that does not run would start it.
    let runs = router.is_some_and(|unit| !["inactive", "failed"].contains(&unit.active_state.as_str()));
    let status = if runs { manager.router_status(name).await } else { None };
    // A file with mistakes does not say, and one on hold does not count; what runs goes on as it was.
    let on_hold = apps::is_held(manager.scope, name);
    let now = status.as_ref().map_or(0, |status| status.workers_wanted);
    let workers_wanted = loaded.as_ref().filter(|_| !on_hold || status.is_none()).map_or(now, apps::Loaded::workers);
    let prefix = format!("{name}@");
    let there = listed.values().filter(|unit| unit.name.starts_with(&prefix) && unit.active_state != "inactive");
    let mut slots: Vec<String> = there.filter_map(|unit| names::slot(&unit.name).map(str::to_owned)).collect();
    // Those that are missing would start in the lowest slots.
    let mut taken: BTreeSet<String> = slots.iter().cloned().collect();
    while (taken.len() as u64) < u64::from(workers_wanted) {
        let slot = spare(&taken).to_string();
        taken.insert(slot.clone());
        slots.push(slot);
    }
    slots.sort_by_cached_key(|slot| slot_order(slot));
    let reload = place::reload(manager.scope == Scope::User, name).as_deref().and_then(ledger::read);
    let started = place::generation(manager.scope == Scope::User, name).as_deref().and_then(generation::started);
    let generations = Generations::of(started, reload.as_ref());
    let workers = slots.iter().map(async |slot| {
        let unit = names.slot(slot);
        let listed = listed.get(unit.as_str()).copied();
        let worker = worker(manager, &unit, listed, status.as_ref(), slot).await?;
        let code = reload.as_ref().and_then(|reload| code(reload, slot)).filter(|_| worker.pid.is_some());
        let generation = generations.at(slot).filter(|_| worker.pid.is_some());
        Ok(UnitNow { slot: Some(slot.clone()), code, generation, ..worker })
    });
    let (listen, listen_wanted) = listening(loaded.as_ref().map(|it| &it.app), status.as_ref());
    let (router, workers) =
        tokio::join!(router_now(manager, &names.router, router, status.as_ref()), join_all(workers));
    Ok(AppNow {
        name: name.to_owned(),
        scope: if manager.scope == Scope::User { "user" } else { "system" },
        file: path.display().to_string(),
        error,
        listen,
        listen_wanted,
        workers_wanted,
        on_hold,
        reload,
        router: router?,
        workers: workers.into_iter().collect::<Result<_, Failure>>()?,
        outdated: status.filter(|status| status.build != installed.build).map(|status| status.version),
        app: loaded.map(|loaded| loaded.app),
    })
}

/// Where the router listens, as the file has it where it has it; and the file's addresses, where they are others.
fn listening(app: Option<&App>, status: Option<&Status>) -> (Vec<String>, Option<Vec<String>>) {
    let wanted = app.map(|app| &app.listen[..]).unwrap_or_default();
    let all = || wanted.iter().map(ToString::to_string).collect::<Vec<_>>();
    let Some(status) = status else {
        return (all(), None);
    };
    let bound = &status.listening;
    let same = bound.len() == wanted.len() && wanted.iter().all(|listen| bound.iter().any(|it| listen.is_at(it)));
    let named =
        |bound: &String| wanted.iter().find(|it| it.is_at(bound)).map_or_else(|| bound.clone(), ToString::to_string);
    let mut listen: Vec<_> = if same { all() } else { bound.iter().map(named).collect() };
    if !same {
        // The kept ones have no order.
        listen.sort();
    }
    (listen, (app.is_some() && !same).then(all))
}

/// Which code a worker runs, where an app's workers do not run the same.
fn code(reload: &Progress, slot: &str) -> Option<&'static str> {
    let has = |slots: &[String]| slots.iter().any(|it| it == slot);
    match reload.state {
        State::Done | State::Stopped => None,
        // Nothing is mixed.
        State::Failed if reload.replaced.is_empty() => None,
        _ if has(&reload.left) || has(&reload.retiring) => Some("old"),
        _ if has(&reload.replaced) || has(&reload.trial) => Some("new"),
        _ => None,
    }
}

async fn router_now(
    manager: &Manager,
    unit: &str,
    listed: Option<&Listed>,
    status: Option<&Status>,
) -> Result<UnitNow, Failure> {
    let mut now = match (listed, status) {
        (Some(listed), Some(status)) if is_plain(listed) => {
            plain(manager, listed, status.pid, state("active", "running", None)).await?
        }
        _ => {
            let properties = properties(manager, listed).await?;
            let mut now = unit_now(unit, &properties, None);
            if now.state == "failed" {
                let (how, ready) = How::of_unit(&properties);
                now.state = format!("failed ({})", how.reason(ready));
            }
            now
        }
    };
    now.cpu_percent = status.and_then(|status| percent(status.cpu_permille));
    // WebSockets of workers without a channel are no sessions that the router knows by name.
    now.sessions = status.map(|status| status.sessions.max(status.tunnels) as u64);
    Ok(now)
}

async fn worker(
    manager: &Manager,
    unit: &str,
    listed: Option<&Listed>,
    status: Option<&Status>,
    slot: &str,
) -> Result<UnitNow, Failure> {
    let known = status.and_then(|status| status.workers.iter().find(|worker| worker.slot == slot));
    let told = status.and_then(|status| status.ends.iter().find(|end| end.slot == slot)).map(|told| told.end.clone());
    let pid = known.and_then(|known| u32::try_from(known.pid).ok()).filter(|pid| *pid > 0);
    if let (Some(listed), Some(known), Some(pid)) = (listed.filter(|listed| is_plain(listed)), known, pid) {
        let mut worker = plain(manager, listed, pid, state("active", "running", says(Some(known)))).await?;
        worker.last_end = told;
        worker.by_the_router(known);
        return Ok(worker);
    }
    Ok(worker_now(unit, &properties(manager, listed).await?, known, told))
}

/// Nothing is to be said of it but that it runs.
fn is_plain(unit: &Listed) -> bool {
    unit.active_state == "active" && unit.sub_state == "running"
}

/// All that systemd knows of a unit; nothing, of one that it has not loaded.
async fn properties(manager: &Manager, listed: Option<&Listed>) -> Result<Properties, Failure> {
    match listed {
        Some(listed) => manager.systemd.properties_of(listed).await.map_err(|error| manager.failure(error)),
        None => Ok(Properties::default()),
    }
}

/// A unit that runs, by the kernel's word: its main process is known.
async fn plain(
    manager: &Manager,
    listed: &Listed,
    pid: u32,
    (state, colour): (String, Colour),
) -> Result<UnitNow, Failure> {
    let restarts = manager.systemd.restarts(listed).await.map_err(|error| manager.failure(error))?;
    let uptime = cpu::since_boot().and_then(|now| Ok(now.saturating_sub(cpu::began(pid)?)));
    Ok(UnitNow {
        unit: listed.name.clone(),
        pid: Some(pid),
        state,
        colour,
        restarts: Some(restarts),
        uptime_seconds: uptime.ok().map(|uptime| uptime.as_secs()),
        memory_bytes: memory_of(pid, &listed.name),
        ..UnitNow::default()
    })
}

/// `None`: it ended just now, or may not be looked at.
fn memory_of(pid: u32, unit: &str) -> Option<u64> {
    memory::of_unit(i32::try_from(pid).ok()?, unit).ok()
}

fn percent(permille: Option<u32>) -> Option<f64> {
    permille.map(|permille| f64::from(permille) / 10.0)
}

/// A worker's state by the router's word.
fn says(known: Option<&WorkerStatus>) -> Option<&str> {
    known.map(|known| if known.trial && known.state == "ready" { ON_TRIAL } else { known.state.as_str() })
}

impl UnitNow {
    /// The failure after which systemd has started it again. A state of failure has the reason itself.
    pub(super) fn failure_before(&self) -> Option<&End> {
        let again = self.restarts.is_some_and(|restarts| restarts > 0) && !self.state.starts_with("failed");
        self.last_end.as_ref().filter(|end| end.failed && again)
    }

    /// What only the router knows.
    fn by_the_router(&mut self, known: &WorkerStatus) {
        self.index = Some(known.index);
        self.sessions = Some(known.sessions.max(known.tunnels) as u64);
        self.cpu_percent = percent(known.cpu_permille);
        self.metrics.clone_from(&known.app_metrics);
        self.metrics_left_out = known.app_metrics_left_out;
        self.actions.clone_from(&known.actions);
        self.lag_ms = known.lag_micros.map(|micros| (micros as f64 / 100.0).round() / 10.0);
    }
}

fn worker_now(unit: &str, properties: &Properties, known: Option<&WorkerStatus>, told: Option<End>) -> UnitNow {
    let mut worker = unit_now(unit, properties, says(known));
    if let Some(known) = known.filter(|_| worker.pid.is_some()) {
        worker.by_the_router(known);
    }
    worker.last_end = last_end(properties, told);
    match (&worker.last_end, worker.state.as_str()) {
        (Some(end), "failed") if is_given_up(properties, end) => {
            worker.state = format!("failed ({}; failed too often)", end.reason);
        }
        (Some(end), "failed") => worker.state = format!("failed ({})", end.reason),
        // By one of `restart.stop_exit_codes`, or with another policy than `always`.
        (Some(end), "stopped") if !end.ordered => worker.state = format!("stopped ({})", end.reason),
        _ => {}
    }
    worker
}

/// Whether it is down because it failed too often. (Its `Result` is often still that of the last try.)
fn is_given_up(properties: &Properties, end: &End) -> bool {
    let (how, _) = How::of_unit(properties);
    let limited = properties.u32("StartLimitBurst").is_some_and(|burst| burst > 0)
        && properties.u64("StartLimitIntervalUSec").is_some_and(|interval| interval > 0);
    let again = how.restarts(properties.text("Restart").unwrap_or_default());
    let tried = properties.u32("NRestarts").is_some_and(|restarts| restarts > 0);
    how.result == "start-limit-hit" || (limited && again && tried && !end.ordered)
}

/// The last end by the router's word. By systemd's, of one that is down, where the router was not told of it.
fn last_end(properties: &Properties, told: Option<End>) -> Option<End> {
    /// Between the end of a process and the word about it.
    const LAG: u64 = 10;
    let down =
        ["failed", "auto-restart", "auto-restart-queued"].contains(&properties.text("SubState").unwrap_or_default());
    let (mut how, ready) = How::of_unit(properties);
    let at = properties.u64("ExecMainExitTimestamp").map_or(0, |micros| micros / 1_000_000);
    if !down || told.as_ref().is_some_and(|told| told.at.saturating_add(LAG) >= at && how.result != "resources") {
        return told;
    }
    if how.result == "start-limit-hit" {
        // The state says so.
        how.result = "exit-code".to_owned();
    }
    let failed = how.failed();
    (failed || how.exit.is_some()).then(|| End { reason: how.reason(ready), at, failed, ordered: false })
}

fn unit_now(unit: &str, properties: &Properties, router_says: Option<&str>) -> UnitNow {
    let text = |name| properties.text(name).unwrap_or_default();
    let (state, colour) = state(text("ActiveState"), text("SubState"), router_says);
    let pid = properties.u32("MainPID").filter(|pid| *pid != 0);
    let started = properties.u64("ExecMainStartTimestamp").filter(|_| pid.is_some());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnitNow {
        unit: unit.to_owned(),
        pid,
        state,
        colour,
        // One that is not loaded has none.
        restarts: Some(properties.u32("NRestarts").unwrap_or_default()),
        uptime_seconds: started.map(|started| now.saturating_sub(Duration::from_micros(started)).as_secs()),
        memory_bytes: pid.and_then(|pid| memory_of(pid, unit)),
        ..UnitNow::default()
    }
}

/// Of a new worker that is ready in a reload, and gets nothing before it has stood for a while.
const ON_TRIAL: &str = "on trial";

/// A unit's state in one word or two. `router_says`: `starting`, `ready`, `draining` or [`ON_TRIAL`], of a worker.
fn state(active: &str, sub: &str, router_says: Option<&str>) -> (String, Colour) {
    let (text, colour) = match (active, sub, router_says) {
        ("active", _, Some(ON_TRIAL)) => (ON_TRIAL, Colour::Yellow),
        ("active", _, Some("draining")) => ("draining", Colour::Yellow),
        ("active", _, Some("ready")) => ("ready", Colour::Green),
        ("active", _, Some(_)) => ("starting", Colour::Yellow),
        ("active", ..) => ("running", Colour::Green),
        ("reloading", ..) => ("reloading", Colour::Yellow),
        ("activating", "auto-restart" | "auto-restart-queued", _) => ("restarting", Colour::Red),
        ("activating", ..) => ("starting", Colour::Yellow),
        ("deactivating", ..) => ("stopping", Colour::Yellow),
        ("failed", ..) => ("failed", Colour::Red),
        _ => ("stopped", Colour::Dim),
    };
    (text.to_owned(), colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let of = |active, sub, says| state(active, sub, says).0;
        assert_eq!(of("active", "running", Some("ready")), "ready");
        assert_eq!(of("active", "running", Some("draining")), "draining");
        assert_eq!(of("active", "running", Some("on trial")), "on trial");
        assert_eq!(of("active", "running", None), "running");
        assert_eq!(of("activating", "auto-restart", None), "restarting");
        assert_eq!(of("activating", "start-post", Some("starting")), "starting");
        assert_eq!(of("deactivating", "stop", Some("draining")), "stopping");
        assert_eq!(of("failed", "failed", None), "failed");
        assert_eq!(of("inactive", "dead", None), "stopped");
    }
}
