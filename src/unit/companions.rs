//! The small units beside the router: what reloads or restarts the app, or replaces a worker, by itself.
//!
//! A companion is pulled in by the router's `Wants=` and stops with it (`PartOf=`). There is no ordering between the two:
//! a companion must be able to start in the middle of a reload. A crash of the router restarts it, so it keeps nothing
//! that must outlive that.

use super::plan::{Names, command, template, unit, workers_stop};
use super::{UnitFile, specifiers};
use crate::config::value::{write_size, write_span};
use crate::config::{App, Scope, Watch};

const MEMORY: &str = include_str!("../../units/memory.service");
const MEMORY_SANDBOX: &str = include_str!("../../units/memory.sandbox");
const TIMER: &str = include_str!("../../units/schedule.timer");
const WATCH: &str = include_str!("../../units/watch.service");
const WATCH_SANDBOX: &str = include_str!("../../units/watch.sandbox");
const SERVICE: &str = include_str!("../../units/schedule.service");
const SERVICE_SANDBOX: &str = include_str!("../../units/schedule.sandbox");

/// The units of an app's companions, each with what it triggers, by name.
pub fn companions(app: &App, names: &Names) -> Vec<(String, UnitFile)> {
    let mut units = Vec::new();
    for (calendars, verb, timer, service) in [
        (&app.schedule.reload, "reload", &names.reload_timer, &names.reload_service),
        (&app.schedule.restart, "restart", &names.restart_timer, &names.restart_service),
    ] {
        if !calendars.is_empty() {
            units.push((timer.clone(), schedule(app, names, calendars, (verb, service))));
            units.push((service.clone(), scheduled(app, names, verb)));
        }
    }
    if let Some(limit) = app.limits.memory_reload {
        units.push((names.memory.clone(), memory(app, names, limit)));
    }
    if let Some(wanted) = &app.watch {
        units.push((names.watch.clone(), watch(app, names, wanted)));
    }
    units
}

/// Those of some units that the router is to pull in: all but what others trigger.
pub fn wanted<'n>(names: &'n Names, units: &[(String, UnitFile)]) -> Vec<&'n str> {
    names.companions().into_iter().filter(|name| units.iter().any(|(unit, _)| unit == name)).collect()
}

/// A template with what all companions say.
fn companion(template: &str, app: &App, names: &Names, description: &str) -> UnitFile {
    let mut unit = unit(template, app, &format!("{}: {description}", app.name));
    unit.set("Unit", "PartOf", &names.router);
    unit
}

fn schedule(app: &App, names: &Names, calendars: &[String], (verb, service): (&str, &str)) -> UnitFile {
    let mut unit = companion(TIMER, app, names, &format!("when to {verb} it"));
    unit.fill("Timer", "OnCalendar", calendars.iter().map(|it| specifiers(it)));
    unit.set("Timer", "Unit", service);
    unit
}

fn scheduled(app: &App, names: &Names, verb: &str) -> UnitFile {
    let mut unit = unit(SERVICE, app, &format!("{}: scheduled {verb}", app.name));
    unit.set("Service", "ExecStart", command(app.scope, &["scheduled", verb, &app.name]));
    unit.set("Service", "Slice", specifiers(&names.slice));
    unit.set("Service", "SyslogIdentifier", &app.name);
    unit.set("Service", "LogExtraFields", format!("APP={}", app.name));
    if app.scope == Scope::System {
        unit.extend(template(SERVICE_SANDBOX));
    }
    unit
}

fn memory(app: &App, names: &Names, limit: u64) -> UnitFile {
    let mut unit = companion(MEMORY, app, names, "what replaces a worker that uses too much memory");
    let limit = format!("--limit={}", write_size(limit));
    unit.set("Service", "ExecStart", command(app.scope, &["memory", &limit, &app.name]));
    unit.set("Service", "TimeoutStopSec", write_span(workers_stop(app)));
    unit.set("Service", "Slice", specifiers(&names.slice));
    unit.set("Service", "SyslogIdentifier", &app.name);
    let mut fields = format!("APP={}", app.name);
    if app.scope == Scope::System {
        // Its lines are about the app: `journalctl -u NAME` has them, too, since root says so.
        fields.push_str(&format!(" OBJECT_SYSTEMD_UNIT={}", names.router));
        unit.extend(template(MEMORY_SANDBOX));
    }
    unit.set("Service", "LogExtraFields", fields);
    unit
}

fn watch(app: &App, names: &Names, wanted: &Watch) -> UnitFile {
    let mut unit = companion(WATCH, app, names, "reloads it when its files change");
    let paths = wanted.paths.iter().map(|path| format!("--path={}", path.display()));
    let flags: Vec<String> = paths.chain(wanted.ignore.iter().map(|pattern| format!("--ignore={pattern}"))).collect();
    let mut words = vec!["watch"];
    words.extend(flags.iter().map(String::as_str));
    words.push(&app.name);
    unit.set("Service", "ExecStart", command(app.scope, &words));
    unit.set("Service", "Slice", specifiers(&names.slice));
    unit.set("Service", "SyslogIdentifier", &app.name);
    unit.set("Service", "LogExtraFields", format!("APP={}", app.name));
    if app.scope == Scope::System {
        unit.extend(template(WATCH_SANDBOX));
    }
    unit
}
