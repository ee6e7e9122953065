//! `appctl list`: every app, its router and its workers.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;

use super::apps;
use super::exit::{DONE, Failure};
use super::manage::{Manager, slot_order};
use super::names::{self, Asked};
use super::print::{self, Cell, Colour, Printer, Table};
use crate::config::Scope;
use crate::rollout::ledger::{self, Progress};
use crate::rollout::plan::spare;
use crate::router::client::{End, Status};
use crate::system::bus::Properties;
use crate::system::ended::How;
use crate::system::place;

/// Between the two looks at the CPU clock that make a percentage.
const CPU_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Default, Args)]
pub(super) struct Arguments {
    /// Names of apps; none means all
    names: Vec<String>,
}

/// One app, as it is now.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AppNow {
    pub(super) name: String,
    pub(super) scope: &'static str,
    pub(super) file: String,
    /// What is wrong with the file; then it has no units.
    pub(super) error: Option<String>,
    pub(super) listen: Vec<String>,
    pub(super) workers_wanted: u32,
    /// Its last reload failed, and what is started gets what the file said before.
    pub(super) on_hold: bool,
    /// The reload under way, or the last one since the app was started.
    pub(super) reload: Option<Progress>,
    pub(super) router: UnitNow,
    pub(super) workers: Vec<UnitNow>,
}

/// A router or a worker, as it is now.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct UnitNow {
    pub(super) unit: String,
    /// `None`: the router.
    pub(super) slot: Option<String>,
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
    /// 100: one processor.
    pub(super) cpu_percent: Option<f64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) sessions: Option<u64>,
    #[serde(skip)]
    pub(super) cpu_nanoseconds: Option<u64>,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let wanted: Vec<(Scope, String)> = if arguments.names.is_empty() {
        let mut all = Vec::new();
        for scope in asked.for_all() {
            all.extend(apps::names(scope)?.into_iter().map(|name| (scope, name)));
        }
        all
    } else {
        let targets = names::targets(&arguments.names, asked)?;
        targets.into_iter().map(|(scope, target)| (scope, target.app().to_owned())).collect()
    };
    let apps = look(&wanted).await?;
    if printer.json {
        printer.json(&apps);
    } else if apps.is_empty() {
        printer.note("There are no apps yet: `appctl start SCRIPT` makes one.");
    } else {
        printer.table(&table(&apps));
        for app in apps.iter().filter(|app| app.on_hold) {
            printer.note(&format!("{} is on hold: appctl status {} tells why", app.file, app.name));
        }
    }
    Ok(DONE)
}

/// Asks systemd and the routers about apps; takes a fifth of a second when any of them runs.
pub(super) async fn look(wanted: &[(Scope, String)]) -> Result<Vec<AppNow>, Failure> {
    let mut apps = Vec::new();
    for scope in [Scope::System, Scope::User] {
        let here: Vec<&String> = wanted.iter().filter(|(of, _)| *of == scope).map(|(_, name)| name).collect();
        if here.is_empty() {
            continue;
        }
        let manager = Manager::connect(scope).await?;
        let mut found = Vec::new();
        for name in here {
            found.push(look_at(&manager, name).await?);
        }
        measure(&manager, &mut found).await;
        apps.extend(found);
    }
    Ok(apps)
}

pub(super) async fn look_at(manager: &Manager, name: &str) -> Result<AppNow, Failure> {
    let names = names::units(manager.scope, name);
    let file = apps::path(manager.scope, name)?;
    let (loaded, error) = match apps::read(manager.scope, name) {
        Ok(loaded) => (Some(loaded), None),
        Err(problem) => (None, Some(problem)),
    };
    let status = manager.router_status(name).await;
    // A file with mistakes does not say, and one on hold does not count; what runs goes on as it was.
    let on_hold = apps::is_held(manager.scope, name);
    let now = status.as_ref().map_or(0, |status| status.workers_wanted);
    let workers_wanted = loaded.as_ref().filter(|_| !on_hold || status.is_none()).map_or(now, apps::Loaded::workers);
    let workers = manager.workers(&names).await?.into_iter().filter(|(_, state)| state != "inactive");
    let mut slots: Vec<String> = workers.filter_map(|(unit, _)| names::slot(&unit).map(str::to_owned)).collect();
    // Those that are missing would start in the lowest slots.
    let mut taken: BTreeSet<String> = slots.iter().cloned().collect();
    while (taken.len() as u64) < u64::from(workers_wanted) {
        let slot = spare(&taken).to_string();
        taken.insert(slot.clone());
        slots.push(slot);
    }
    slots.sort_by_cached_key(|slot| slot_order(slot));
    let now = SystemTime::now();
    let properties = manager.properties(&names.router).await?;
    let mut router = unit_now(&names.router, &properties, None, now);
    if router.state == "failed" {
        let (how, ready) = How::of_unit(&properties);
        router.state = format!("failed ({})", how.reason(ready));
    }
    // WebSockets of workers without a channel are no sessions that the router knows by name.
    router.sessions = status.as_ref().map(|status| status.sessions.max(status.tunnels) as u64);
    let mut workers = Vec::new();
    for slot in &slots {
        let unit = names.slot(slot);
        let properties = manager.properties(&unit).await?;
        workers
            .push(UnitNow { slot: Some(slot.clone()), ..worker_now(&unit, &properties, status.as_ref(), slot, now) });
    }
    Ok(AppNow {
        name: name.to_owned(),
        scope: if manager.scope == Scope::User { "user" } else { "system" },
        file: file.display().to_string(),
        error,
        listen: loaded.map_or_else(Vec::new, |it| it.app.listen.iter().map(ToString::to_string).collect()),
        workers_wanted,
        on_hold,
        reload: place::reload(manager.scope == Scope::User, name).as_deref().and_then(ledger::read),
        router,
        workers,
    })
}

fn worker_now(unit: &str, properties: &Properties, status: Option<&Status>, slot: &str, now: SystemTime) -> UnitNow {
    let known = status.and_then(|status| status.workers.iter().find(|worker| worker.slot == slot));
    let says = known.map(|known| if known.trial && known.state == "ready" { ON_TRIAL } else { known.state.as_str() });
    let mut worker = unit_now(unit, properties, says, now);
    if let Some(known) = known.filter(|_| worker.pid.is_some()) {
        worker.index = Some(known.index);
        worker.sessions = Some(known.sessions.max(known.tunnels) as u64);
    }
    let told = status.and_then(|status| status.ends.iter().find(|end| end.slot == slot)).map(|told| told.end.clone());
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

fn unit_now(unit: &str, properties: &Properties, router_says: Option<&str>, now: SystemTime) -> UnitNow {
    let text = |name| properties.text(name).unwrap_or_default();
    let (state, colour) = state(text("ActiveState"), text("SubState"), router_says);
    let pid = properties.u32("MainPID").filter(|pid| *pid != 0);
    let started = properties.u64("ExecMainStartTimestamp").filter(|_| pid.is_some());
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnitNow {
        unit: unit.to_owned(),
        pid,
        state,
        colour,
        restarts: properties.u32("NRestarts"),
        uptime_seconds: started.map(|started| now.saturating_sub(Duration::from_micros(started)).as_secs()),
        memory_bytes: properties.u64("MemoryCurrent").filter(|_| pid.is_some()),
        cpu_nanoseconds: properties.u64("CPUUsageNSec").filter(|_| pid.is_some()),
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

/// Looks at the CPU clocks again, a little later.
async fn measure(manager: &Manager, apps: &mut [AppNow]) {
    let mut running: Vec<&mut UnitNow> = apps
        .iter_mut()
        .flat_map(|app| app.workers.iter_mut().chain([&mut app.router]))
        .filter(|unit| unit.cpu_nanoseconds.is_some())
        .collect();
    if running.is_empty() {
        return;
    }
    // All clocks are read once more for their start, so that the interval is the same for the first and the last.
    for unit in &mut running {
        unit.cpu_nanoseconds = manager.systemd.cpu_usage(&unit.unit).await.ok().flatten();
    }
    let began = tokio::time::Instant::now();
    tokio::time::sleep(CPU_INTERVAL).await;
    for unit in running {
        let now = manager.systemd.cpu_usage(&unit.unit).await.ok().flatten();
        if let (Some(before), Some(now)) = (unit.cpu_nanoseconds, now) {
            let spent = now.saturating_sub(before) as f64 / began.elapsed().as_nanos() as f64 * 100.0;
            unit.cpu_percent = Some((spent * 10.0).round() / 10.0);
        }
    }
}

/// The table of `appctl list`, and the lower part of `appctl status`.
pub(super) fn table(apps: &[AppNow]) -> Table {
    let mixed = apps.iter().any(|app| app.scope != apps[0].scope);
    let mut table =
        Table::new(&["NAME", "SLOT", ">INDEX", ">PID", "STATE", "RESTARTS", ">UPTIME", ">CPU", ">MEMORY", ">SESSIONS"]);
    for app in apps {
        let name = if mixed && app.scope == "user" { format!("{} (user)", app.name) } else { app.name.clone() };
        if app.error.is_some() {
            let state = Cell::coloured("file has errors", Colour::Red);
            let mut row: Vec<Cell> = vec![name.clone().into(), "-".into(), "-".into(), "-".into(), state];
            row.resize_with(10, || "-".into());
            table.row(row);
        }
        if app.error.is_none() || app.router.pid.is_some() {
            table.row(row(&name, &app.router));
        }
        for worker in &app.workers {
            table.row(row(&name, worker));
        }
    }
    table
}

fn row(name: &str, unit: &UnitNow) -> Vec<Cell> {
    let or_dash = |text: Option<String>| Cell::from(text.unwrap_or_else(|| "-".to_owned()));
    let slot = match &unit.slot {
        Some(slot) => Cell::from(slot.clone()),
        None => Cell::coloured("router", Colour::Dim),
    };
    vec![
        name.into(),
        slot,
        or_dash(unit.index.map(|index| index.to_string())),
        or_dash(unit.pid.map(|pid| pid.to_string())),
        Cell::coloured(unit.state.clone(), unit.colour),
        or_dash(unit.restarts.map(|restarts| match &unit.last_end {
            // A state of failure has the reason.
            Some(end) if restarts > 0 && end.failed && !unit.state.starts_with("failed") => {
                format!("{restarts} ({})", end.reason)
            }
            _ => restarts.to_string(),
        })),
        or_dash(unit.uptime_seconds.map(|seconds| print::span(Duration::from_secs(seconds)))),
        or_dash(unit.cpu_percent.map(|percent| format!("{percent:.1}%"))),
        or_dash(unit.memory_bytes.map(print::size)),
        or_dash(unit.sessions.map(|sessions| sessions.to_string())),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two workers, one of them failed, of an app whose router cannot count memory.
    pub(in crate::cli) fn shop() -> AppNow {
        AppNow {
            name: "shop".into(),
            scope: "system",
            file: "/etc/appctl/shop.toml".into(),
            error: None,
            listen: vec!["8080".into()],
            workers_wanted: 2,
            on_hold: false,
            reload: None,
            router: UnitNow {
                unit: "shop.service".into(),
                pid: Some(100),
                state: "running".into(),
                restarts: Some(0),
                uptime_seconds: Some(7810),
                cpu_percent: Some(0.4),
                sessions: Some(12),
                ..UnitNow::default()
            },
            workers: vec![
                UnitNow {
                    unit: "shop@1.service".into(),
                    slot: Some("1".into()),
                    index: Some(0),
                    pid: Some(101),
                    state: "ready".into(),
                    restarts: Some(2),
                    last_end: Some(End { reason: "out of memory".into(), at: 9, failed: true, ordered: false }),
                    uptime_seconds: Some(65),
                    cpu_percent: Some(103.0),
                    memory_bytes: Some(50 << 20),
                    sessions: Some(12),
                    ..UnitNow::default()
                },
                UnitNow {
                    unit: "shop@2.service".into(),
                    slot: Some("2".into()),
                    state: "failed (exit status 7)".into(),
                    restarts: Some(1),
                    last_end: Some(End { reason: "exit status 7".into(), at: 9, failed: true, ordered: false }),
                    ..UnitNow::default()
                },
            ],
        }
    }

    #[test]
    fn the_table() {
        assert_eq!(
            table(&[shop()]).render(None, false),
            "\
NAME  SLOT    INDEX  PID  STATE                   RESTARTS           UPTIME     CPU  MEMORY  SESSIONS
shop  router      -  100  running                 0                  2h 10m    0.4%       -        12
shop  1           0  101  ready                   2 (out of memory)      1m  103.0%   50.0M        12
shop  2           -    -  failed (exit status 7)  1                       -       -       -         -"
        );
    }

    #[test]
    fn a_file_with_errors_is_a_row() {
        let broken =
            AppNow { error: Some("exec is missing".into()), workers: Vec::new(), router: UnitNow::default(), ..shop() };
        let text = table(&[broken]).render(None, false);
        assert!(
            text.ends_with("shop  -         -    -  file has errors  -              -    -       -         -"),
            "{text}"
        );
    }

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
