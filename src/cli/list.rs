//! `appctl list`: every app, its router and its workers.

use std::cmp::Ordering;
use std::time::Duration;

use clap::Args;

use super::exit::{DONE, Failure};
pub(super) use super::look::{AppNow, UnitNow};
use super::manage::slot_order;
use super::names::Asked;
use super::print::{self, Cell, Colour, Printer, Table};
use super::selector;
use super::{ids, upgrade_check};

#[derive(Debug, Default, Args)]
pub(super) struct Arguments {
    /// Names of apps, `all` or /regex/; none means all
    names: Vec<String>,
    /// By what the rows are sorted: id, name, slot, pid, state, restarts, uptime, cpu, memory, lag or sessions; `:desc`: the
    /// greatest first
    #[arg(long, value_name = "FIELD[:asc|:desc]")]
    sort: Option<Sort>,
    /// One line for each fact instead of a table
    #[arg(short, long)]
    mini: bool,
}

/// `--sort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sort {
    by: Field,
    descending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Name,
    Slot,
    Pid,
    State,
    Restarts,
    Uptime,
    Cpu,
    Memory,
    Lag,
    Sessions,
}

impl std::str::FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, order) = text.split_once(':').unwrap_or((text, "asc"));
        let by = match field {
            "id" | "pm_id" => Field::Id,
            "name" => Field::Name,
            "slot" => Field::Slot,
            "pid" => Field::Pid,
            "state" | "status" => Field::State,
            "restarts" | "restart" => Field::Restarts,
            "uptime" => Field::Uptime,
            "cpu" => Field::Cpu,
            "memory" | "mem" => Field::Memory,
            "lag" => Field::Lag,
            "sessions" => Field::Sessions,
            _ => {
                return Err(format!(
                    "there is no field {field}; write id, name, slot, pid, state, restarts, uptime, cpu, memory, lag or \
                     sessions"
                ));
            }
        };
        match order {
            "asc" => Ok(Self { by, descending: false }),
            "desc" => Ok(Self { by, descending: true }),
            _ => Err(format!("write {field}:asc or {field}:desc")),
        }
    }
}

impl Sort {
    /// What is not known comes last, whichever way.
    fn compare(self, one: &Line<'_>, other: &Line<'_>) -> Ordering {
        let (a, b) = (one.unit, other.unit);
        match self.by {
            Field::Id => self.order(a.id, b.id),
            Field::Name => self.order(Some(&one.name), Some(&other.name)),
            Field::Slot => self.order(a.slot.as_deref().map(slot_order), b.slot.as_deref().map(slot_order)),
            Field::Pid => self.order(a.pid, b.pid),
            Field::State => self.order(Some(&a.state), Some(&b.state)),
            Field::Restarts => self.order(a.restarts, b.restarts),
            Field::Uptime => self.order(a.uptime_seconds, b.uptime_seconds),
            Field::Cpu => self.order(a.cpu_percent.map(f64::to_bits), b.cpu_percent.map(f64::to_bits)),
            Field::Memory => self.order(a.memory_bytes, b.memory_bytes),
            Field::Lag => self.order(a.lag_ms.map(f64::to_bits), b.lag_ms.map(f64::to_bits)),
            Field::Sessions => self.order(a.sessions, b.sessions),
        }
    }

    fn order<T: Ord>(self, one: Option<T>, other: Option<T>) -> Ordering {
        match (one, other) {
            (Some(one), Some(other)) if self.descending => other.cmp(&one),
            (Some(one), Some(other)) => one.cmp(&other),
            (one, other) => other.is_some().cmp(&one.is_some()),
        }
    }
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let apps = ids::look(&selector::wanted(&arguments.names, asked).await?, asked).await?;
    if printer.json {
        printer.json(&apps);
    } else if apps.is_empty() {
        printer.note("There are no apps yet: `appctl start SCRIPT` makes one.");
    } else if arguments.mini {
        printer.data(&mini(&lines(&apps, arguments.sort)));
    } else {
        printer.table(&table_of(&lines(&apps, arguments.sort)));
        for note in upgrade_check::notes(&apps) {
            printer.note(&note);
        }
        if apps.iter().any(is_mute) {
            printer.note(&print::wrap(MUTE, 0, printer.width));
        }
        for app in apps.iter().filter(|app| app.listen_wanted.is_some()) {
            printer.note(&app.listens_elsewhere());
        }
        for app in apps.iter().filter(|app| app.on_hold) {
            printer.note(&format!("{} is on hold: appctl status {} tells why", app.file, app.name));
        }
    }
    Ok(DONE)
}

/// A row.
struct Line<'a> {
    name: String,
    app: &'a AppNow,
    unit: &'a UnitNow,
    /// Of an app that has no units.
    broken: bool,
}

fn lines(apps: &[AppNow], sort: Option<Sort>) -> Vec<Line<'_>> {
    let mixed = apps.iter().any(|app| app.scope != apps[0].scope);
    let mut lines = Vec::new();
    for app in apps {
        let name = if mixed && app.scope == "user" { format!("{} (user)", app.name) } else { app.name.clone() };
        let line = |unit, broken| Line { name: name.clone(), app, unit, broken };
        if app.error.is_some() {
            lines.push(line(&app.router, true));
        }
        if (app.error.is_none() || app.router.pid.is_some()) && !is_idle(app) {
            lines.push(line(&app.router, false));
        }
        lines.extend(in_order(app).into_iter().map(|worker| line(worker, false)));
    }
    if let Some(sort) = sort {
        lines.sort_by(|one, other| sort.compare(one, other));
    }
    lines
}

/// Said once below the table.
pub(super) const MUTE: &str = "Ready or not, sessions, lag and CPU: only the routers know, and they tell root and the group appctl alone (sudo appctl list).";

/// Whether the router runs and does not answer: mostly it may not be asked.
pub(super) fn is_mute(app: &AppNow) -> bool {
    app.router.state == "running" && app.router.sessions.is_none() && !nix::unistd::geteuid().is_root()
}

/// Whether the router has nothing to do that anybody would look at: the app has no address.
pub(super) fn is_idle(app: &AppNow) -> bool {
    app.app.is_some()
        && app.listen.is_empty()
        && app.listen_wanted.is_none()
        && ["running", "reloading", "stopped"].contains(&app.router.state.as_str())
}

/// The workers by their indices, which are what stays in a reload; one that is being replaced stands below the new one.
pub(super) fn in_order(app: &AppNow) -> Vec<&UnitNow> {
    let mut workers: Vec<&UnitNow> = app.workers.iter().collect();
    let heir = |worker: &UnitNow| app.workers.iter().find(|it| it.id.is_some() && it.index == worker.index);
    workers.sort_by_key(|worker| {
        let known = worker.index.and_then(|_| heir(worker)).and_then(|heir| heir.id);
        (worker.id.or(known).unwrap_or(u32::MAX), worker.id.is_none())
    });
    workers
}

/// The table of `appctl list`, and the lower part of `appctl status`.
pub(super) fn table(apps: &[AppNow]) -> Table {
    table_of(&lines(apps, None))
}

const COLUMNS: [&str; 14] = [
    ">ID",
    "NAME",
    "SLOT",
    ">INDEX",
    ">PID",
    "STATE",
    ">GEN",
    "RESTARTS",
    ">UPTIME",
    ">CPU",
    ">MEMORY",
    ">LAG",
    ">SESSIONS",
    "LISTEN",
];

/// What a very narrow terminal goes without.
const AT_LAST: [&str; 4] = ["RESTARTS", "MEMORY", "CPU", "SLOT"];

fn empty_table() -> Table {
    Table::new(&COLUMNS).giving_up(&["LISTEN", "INDEX", "GEN", "LAG", "PID", "UPTIME", "ID", "SESSIONS"], &AT_LAST)
}

fn table_of(lines: &[Line<'_>]) -> Table {
    let mut table = empty_table();
    lines.iter().for_each(|line| table.row(row(line)));
    table
}

/// The table of a monitor, whose columns stay where they are while values change. Its rows are those of `rows`.
pub(super) fn steady_table<'a>(rows: impl Iterator<Item = (&'a AppNow, &'a UnitNow)>) -> Table {
    const STEADY: [(&str, usize); 6] =
        [("STATE", 10), ("UPTIME", 7), ("CPU", 6), ("MEMORY", 7), ("LAG", 6), ("PID", 7)];
    let mut table = empty_table().steady(&STEADY);
    for (app, unit) in rows {
        let broken = app.error.is_some() && unit.slot.is_none() && unit.pid.is_none();
        table.row(row(&Line { name: app.name.clone(), app, unit, broken }));
    }
    table
}

fn row(line: &Line<'_>) -> Vec<Cell> {
    let Line { name, app, unit, .. } = line;
    if line.broken {
        let state = Cell::coloured("file has errors", Colour::Red);
        let mut row: Vec<Cell> = vec!["-".into(), name.clone().into(), "-".into(), "-".into(), "-".into(), state];
        row.resize_with(COLUMNS.len(), || "-".into());
        return row;
    }
    let or_dash = |text: Option<String>| Cell::from(text.unwrap_or_else(|| "-".to_owned()));
    let slot = match &unit.slot {
        Some(slot) => Cell::from(slot.clone()),
        None => Cell::coloured("router", Colour::Dim),
    };
    let state = match unit.code {
        Some(code) => format!("{} ({code} code)", unit.state),
        None => unit.state.clone(),
    };
    let listen = if unit.slot.is_none() && !app.listen.is_empty() { app.listen.join(" ") } else { "-".to_owned() };
    vec![
        or_dash(unit.id.map(|id| id.to_string())),
        name.clone().into(),
        slot,
        or_dash(unit.index.map(|index| index.to_string())),
        or_dash(unit.pid.map(|pid| pid.to_string())),
        Cell::coloured(state, unit.colour),
        or_dash(unit.generation.map(|generation| generation.to_string())),
        or_dash(restarts(unit)),
        or_dash(uptime(unit)),
        or_dash(unit.cpu_percent.map(|percent| format!("{percent:.1}%"))),
        or_dash(unit.memory_bytes.map(print::size)),
        or_dash(unit.lag_ms.map(lag)),
        or_dash(unit.sessions.map(|sessions| sessions.to_string())),
        listen.into(),
    ]
}

/// How often, and why the last time.
fn restarts(unit: &UnitNow) -> Option<String> {
    unit.restarts.map(|restarts| match unit.failure_before() {
        Some(end) => format!("{restarts} ({})", end.reason),
        None => restarts.to_string(),
    })
}

fn uptime(unit: &UnitNow) -> Option<String> {
    unit.uptime_seconds.map(|seconds| print::span(Duration::from_secs(seconds)))
}

fn lag(milliseconds: f64) -> String {
    match milliseconds {
        ..10.0 => format!("{milliseconds:.1}ms"),
        ..1000.0 => format!("{milliseconds:.0}ms"),
        _ => format!("{:.1}s", milliseconds / 1000.0),
    }
}

/// PM2's `list -m`: a block of lines for each router and worker.
fn mini(lines: &[Line<'_>]) -> String {
    let block = |line: &Line<'_>| {
        let Line { name, app, unit, broken } = line;
        let title = unit.slot.as_ref().map_or_else(|| format!("{name} (router)"), |slot| format!("{name}@{slot}"));
        let mut text = format!("+--- {title}");
        let mut fact = |what: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!("\n{what}: {value}"));
            }
        };
        fact("state", Some(if *broken { "file has errors".to_owned() } else { unit.state.clone() }));
        fact("code", unit.code.map(str::to_owned));
        fact("generation", unit.generation.map(|generation| generation.to_string()));
        fact("pid", unit.pid.map(|pid| pid.to_string()));
        fact("id", unit.id.map(|id| id.to_string()));
        fact("restarts", restarts(unit));
        fact("uptime", uptime(unit));
        fact("cpu", unit.cpu_percent.map(|percent| format!("{percent:.1}%")));
        fact("memory", unit.memory_bytes.map(print::size));
        fact("lag", unit.lag_ms.map(lag));
        fact("sessions", unit.sessions.map(|sessions| sessions.to_string()));
        fact("listen", (unit.slot.is_none() && !app.listen.is_empty()).then(|| app.listen.join(" ")));
        text
    };
    lines.iter().map(block).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Scope;
    use crate::router::client::End;

    /// Two workers, one of them failed, of an app whose router cannot count memory.
    pub(in crate::cli) fn shop() -> AppNow {
        AppNow {
            name: "shop".into(),
            scope: "system",
            file: "/etc/appctl/shop.toml".into(),
            error: None,
            listen: vec!["8080".into()],
            outdated: None,
            listen_wanted: None,
            workers_wanted: 2,
            on_hold: false,
            reload: None,
            app: None,
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
                    id: Some(3),
                    index: Some(0),
                    pid: Some(101),
                    state: "ready".into(),
                    generation: Some(2),
                    restarts: Some(2),
                    last_end: Some(End { reason: "out of memory".into(), at: 9, failed: true, ordered: false }),
                    uptime_seconds: Some(65),
                    cpu_percent: Some(103.0),
                    memory_bytes: Some(50 << 20),
                    lag_ms: Some(1.5),
                    sessions: Some(12),
                    ..UnitNow::default()
                },
                UnitNow {
                    unit: "shop@2.service".into(),
                    slot: Some("2".into()),
                    id: Some(4),
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
ID  NAME  SLOT    INDEX  PID  STATE                   GEN  RESTARTS           UPTIME     CPU  MEMORY    LAG  SESSIONS  LISTEN
 -  shop  router      -  100  running                   -  0                  2h 10m    0.4%       -      -        12  8080
 3  shop  1           0  101  ready                     2  2 (out of memory)      1m  103.0%   50.0M  1.5ms        12  -
 4  shop  2           -    -  failed (exit status 7)    -  1                       -       -       -      -         -  -"
        );
    }

    #[test]
    fn eighty_columns_have_what_matters_most() {
        let text = table(&[shop()]).render(Some(80), false);
        assert_eq!(
            text,
            "\
NAME  SLOT    STATE                  RESTARTS              CPU  MEMORY  SESSIONS
shop  router  running                0                    0.4%       -        12
shop  1       ready                  2 (out of memory)  103.0%   50.0M        12
shop  2       failed (exit status …  1                       -       -         -"
        );
        assert_eq!(table(&[shop()]).render(Some(200), false), table(&[shop()]).render(None, false));
        for width in 20..120 {
            let text = table(&[shop()]).render(Some(width), false);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
        }
    }

    #[test]
    fn a_file_with_errors_is_a_row() {
        let broken =
            AppNow { error: Some("exec is missing".into()), workers: Vec::new(), router: UnitNow::default(), ..shop() };
        let text = table(&[broken]).render(None, false);
        assert!(text.contains("\n -  shop  -         -    -  file has errors    -  -"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn rows_are_sorted() {
        let shop = [shop()];
        let order = |sort: &str| {
            let lines = lines(&shop, Some(sort.parse().unwrap()));
            let slots = lines.iter().map(|line| line.unit.slot.clone().unwrap_or_else(|| "router".into()));
            slots.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order("cpu"), "router 1 2");
        assert_eq!(order("cpu:desc"), "1 router 2");
        assert_eq!(order("restarts:desc"), "1 2 router");
        assert_eq!(order("slot"), "1 2 router");
        assert_eq!(order("id:desc"), "2 1 router");
        assert_eq!(order("slot:desc"), "2 1 router");
        assert_eq!(order("uptime:asc"), "1 router 2");
        assert!("memory:up".parse::<Sort>().unwrap_err().contains("memory:desc"));
        assert!("size".parse::<Sort>().unwrap_err().contains("sessions"));
    }

    #[test]
    fn workers_stand_in_the_order_of_their_indices() {
        let worker = |slot: &str, id: Option<u32>, index| UnitNow {
            unit: format!("shop@{slot}.service"),
            slot: Some(slot.into()),
            id,
            index: Some(index),
            ..UnitNow::default()
        };
        let workers =
            vec![worker("1", None, 0), worker("2", Some(1), 1), worker("3", Some(0), 0), worker("4", Some(2), 2)];
        let app = AppNow { workers, ..shop() };
        let slots = |app: &AppNow| in_order(app).iter().map(|it| it.slot.clone().unwrap()).collect::<String>();
        assert_eq!(slots(&app), "3124");
        // As it was, where nothing is known.
        let unknown = ["1", "2", "3"].map(|slot| UnitNow { slot: Some(slot.into()), ..UnitNow::default() });
        assert_eq!(slots(&AppNow { workers: unknown.into(), ..shop() }), "123");
    }

    #[test]
    fn a_router_with_nothing_to_do_is_no_row() {
        let report = crate::config::parse(
            "shop",
            std::path::Path::new("/etc/appctl/shop.toml"),
            "exec = [\"node\", \"/srv/a.js\"]\nruntime = \"none\"",
            Scope::System,
        );
        let mut app = AppNow { listen: Vec::new(), app: report.app, ..shop() };
        assert!(is_idle(&app) && !table(&[app.clone()]).render(None, false).contains("router"));
        app.router.state = "failed (exit status 1)".into();
        assert!(table(&[app.clone()]).render(None, false).contains("router"));
        // Its addresses are still to be taken.
        app.router.state = "running".into();
        app.listen_wanted = Some(vec!["8080".into()]);
        assert!(!is_idle(&app));
    }

    #[test]
    fn a_worker_of_a_reload_that_failed_tells_its_code() {
        let mut app = shop();
        app.workers[0].code = Some("old");
        assert!(table(&[app]).render(None, false).contains("ready (old code)"));
    }

    #[test]
    fn facts_line_by_line() {
        let text = mini(&lines(&[shop()], None));
        assert!(text.starts_with("+--- shop (router)\nstate: running\npid: 100\n"), "{text}");
        assert!(text.contains("+--- shop@1\nstate: ready\ngeneration: 2\npid: 101\nid: 3\n"), "{text}");
    }
}
