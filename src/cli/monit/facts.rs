//! What the monitor looks at, and how seldom: systemd is asked for all of a unit only where something has changed.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::cli::apps;
use crate::cli::exit::Failure;
use crate::cli::list::{self, AppNow, UnitNow};
use crate::cli::manage::Manager;
use crate::cli::names::{self, Asked, Target};
use crate::config::Scope;
use crate::router::client::Status;
use crate::system::cgroup::Group;
use crate::system::memory;

/// What changes without a trace in states and processes is seen after this time at the latest.
const WHOLE_LOOK: Duration = Duration::from_secs(30);
/// Between two sums of all processes' memory.
const MEMORY_INTERVAL: Duration = Duration::from_secs(10);

/// Looks again and again.
pub(super) struct Watcher {
    managers: Vec<Manager>,
    /// What was asked for; empty: all apps.
    words: Vec<String>,
    asked: Asked,
    known: HashMap<(&'static str, String), Known>,
    clocks: HashMap<u32, Clock>,
}

/// An app as it was at the last whole look, and what told of it.
struct Known {
    app: AppNow,
    signs: Signs,
    at: Instant,
}

/// What a process had used by the last look.
struct Clock {
    group: Group,
    at: Instant,
    cpu: Duration,
    /// Where the memory controller does not count: the sum of its processes', which costs some time.
    memory: Option<u64>,
    memory_at: Instant,
}

/// When one of these is another, the rest may be, too.
#[derive(PartialEq, Eq)]
struct Signs {
    /// Unit, active and sub state.
    units: Vec<(String, String, String)>,
    /// Of the router and of the workers, with what the router says of each: slot, pid, state, on trial.
    router: Option<(u32, u32)>,
    workers: Vec<(String, i32, String, bool)>,
    ends: Vec<(String, u64)>,
    file: Option<SystemTime>,
    held: bool,
}

impl Watcher {
    pub(super) async fn new(words: Vec<String>, asked: Asked) -> Result<Self, Failure> {
        let mut managers = Vec::new();
        for scope in asked.for_all() {
            match Manager::connect(scope).await {
                Ok(manager) => managers.push(manager),
                // A user without a manager of his own sees the system's.
                Err(_) if scope == Scope::User && asked.0.is_none() => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(Self { managers, words, asked, known: HashMap::new(), clocks: HashMap::new() })
    }

    /// All apps that were asked for, as they are now.
    pub(super) async fn look(&mut self) -> Result<Vec<AppNow>, Failure> {
        let mut wanted: Vec<(Scope, String)> = Vec::new();
        if self.words.is_empty() {
            for manager in &self.managers {
                wanted.extend(apps::names(manager.scope)?.into_iter().map(|name| (manager.scope, name)));
            }
        } else {
            let targets = names::targets(&self.words, self.asked)?.into_iter();
            for (scope, target) in targets.map(|(scope, target): (Scope, Target)| (scope, target.app().to_owned())) {
                if !wanted.contains(&(scope, target.clone())) {
                    wanted.push((scope, target));
                }
            }
        }
        let mut found = Vec::new();
        let mut known = HashMap::new();
        for (scope, name) in wanted {
            let Some(manager) = self.managers.iter().find(|manager| manager.scope == scope) else { continue };
            let status = manager.router_status(&name).await;
            let signs = signs(manager, &name, status.as_ref()).await?;
            let before = self.known.remove(&(scope_word(scope), name.clone()));
            let mut now = match before {
                Some(before) if before.signs == signs && before.at.elapsed() < WHOLE_LOOK => before,
                _ => Known { app: list::look_at(manager, &name).await?, signs, at: Instant::now() },
            };
            let mut shown = now.app.clone();
            let since = now.at.elapsed();
            for unit in shown.workers.iter_mut().chain([&mut shown.router]) {
                unit.uptime_seconds = unit.uptime_seconds.map(|seconds| seconds + since.as_secs());
            }
            if let Some(status) = &status {
                count_sessions(&mut shown, status);
            }
            found.push(shown);
            now.app.reload = None;
            known.insert((scope_word(scope), name), now);
        }
        self.known = known;
        self.measure(&mut found);
        Ok(found)
    }

    /// Processors and memory since the last look.
    fn measure(&mut self, apps: &mut [AppNow]) {
        let mut clocks = HashMap::new();
        for unit in apps.iter_mut().flat_map(|app| app.workers.iter_mut().chain([&mut app.router])) {
            let Some(pid) = unit.pid else { continue };
            let before = self.clocks.remove(&pid);
            let group = before.as_ref().map_or_else(|| Group::of_process(pid), |before| Some(before.group.clone()));
            let Some(group) = group else { continue };
            let Some(cpu) = group.cpu() else { continue };
            let now = Instant::now();
            if let Some(before) = &before {
                let passed = now.duration_since(before.at).as_secs_f64();
                let spent = cpu.saturating_sub(before.cpu).as_secs_f64();
                unit.cpu_percent = (passed > 0.0).then(|| spent / passed * 100.0);
            }
            let counted = group.memory();
            let recent = before.filter(|before| before.memory_at.elapsed() < MEMORY_INTERVAL);
            let (memory, memory_at) = match (counted, recent) {
                (Some(_), _) => (counted, now),
                (None, Some(recent)) => (recent.memory, recent.memory_at),
                (None, None) => {
                    let pid = i32::try_from(pid).unwrap_or_default();
                    (memory::of_unit(pid, &unit.unit).ok(), now)
                }
            };
            unit.memory_bytes = memory;
            clocks.insert(pid, Clock { group, at: now, cpu, memory, memory_at });
        }
        self.clocks = clocks;
    }
}

fn scope_word(scope: Scope) -> &'static str {
    if scope == Scope::User { "user" } else { "system" }
}

async fn signs(manager: &Manager, name: &str, status: Option<&Status>) -> Result<Signs, Failure> {
    let units = names::units(manager.scope, name);
    let listed = manager.systemd.list(&[units.slot("*"), units.router.clone()]).await;
    let mut units: Vec<_> = listed
        .map_err(|error| manager.failure(error))?
        .into_iter()
        .map(|unit| (unit.name, unit.active_state, unit.sub_state))
        .collect();
    units.sort();
    let workers = status.iter().flat_map(|status| &status.workers);
    Ok(Signs {
        units,
        router: status.map(|status| (status.pid, status.workers_wanted)),
        workers: workers.map(|it| (it.slot.clone(), it.pid, it.state.clone(), it.trial)).collect(),
        ends: status.iter().flat_map(|status| &status.ends).map(|it| (it.slot.clone(), it.end.at)).collect(),
        file: apps::path(manager.scope, name)?.metadata().and_then(|it| it.modified()).ok(),
        held: apps::is_held(manager.scope, name),
    })
}

fn count_sessions(app: &mut AppNow, status: &Status) {
    app.router.sessions = Some(status.sessions.max(status.tunnels) as u64);
    for known in &status.workers {
        let here = |unit: &&mut UnitNow| unit.slot.as_deref() == Some(&known.slot) && unit.pid.is_some();
        if let Some(unit) = app.workers.iter_mut().find(here) {
            unit.sessions = Some(known.sessions.max(known.tunnels) as u64);
        }
    }
}
