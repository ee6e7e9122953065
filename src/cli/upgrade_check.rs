//! `appctl upgrade-check [NAME…]`: which routers, and what else of appctl runs beside them, are another build than the one
//! that is installed.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::exit::{DONE, FAILED, Failure};
use super::look::AppNow;
use super::manage::{Manager, user_flag};
use super::names::{self, Asked};
use super::print::Printer;
use super::selector;
use crate::config::Scope;
use crate::system::running::{Builds, guard_in};
use crate::system::stamp::Stamp;
use crate::unit::plan;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps, `all` or /regex/; none means all
    pub(super) names: Vec<String>,
}

/// A process of appctl's own.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Process {
    pub(super) app: String,
    pub(super) scope: &'static str,
    pub(super) unit: String,
    /// `router`, `watch`, `memory`, or `guard`: what stays beside a worker.
    pub(super) part: &'static str,
    pub(super) pid: u32,
    pub(super) version: Option<String>,
    pub(super) build: Option<String>,
    /// It is not what is installed. `None`: that cannot be told without the right to look at it.
    pub(super) outdated: Option<bool>,
}

/// `--json`.
#[derive(Debug, Serialize)]
struct Told {
    installed: Installed,
    processes: Vec<Process>,
}

#[derive(Debug, Serialize)]
struct Installed {
    program: &'static str,
    version: String,
    build: String,
}

pub(super) async fn run(words: &[String], asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let mut builds = Builds::default();
    let installed = builds.installed(Path::new(plan::program()));
    let mut processes = Vec::new();
    let wanted = selector::wanted(words, asked).await?;
    for scope in [Scope::System, Scope::User] {
        let here: Vec<&String> = wanted.iter().filter(|(of, _)| *of == scope).map(|(_, name)| name).collect();
        if here.is_empty() {
            continue;
        }
        let manager = Manager::connect(scope).await?;
        for name in here {
            processes.extend(of_app(&manager, name, &mut builds, &installed).await?);
        }
    }
    let outdated = processes.iter().any(|process| process.outdated == Some(true));
    if printer.json {
        let Stamp { version, build, .. } = installed;
        printer.json(&Told { installed: Installed { program: plan::program(), version, build }, processes });
    } else {
        tell(&processes, &installed, printer);
        if asked.0 != Some(Scope::User) && words.is_empty() {
            tell_users(printer);
        }
    }
    Ok(if outdated { FAILED } else { DONE })
}

/// What runs of an app.
pub(super) async fn of_app(
    manager: &Manager,
    name: &str,
    builds: &mut Builds,
    installed: &Stamp,
) -> Result<Vec<Process>, Failure> {
    let names = names::units(manager.scope, name);
    let scope = if manager.scope == Scope::User { "user" } else { "system" };
    let process = |unit: &str, part, pid, stamp: Option<(Option<String>, String)>| Process {
        app: name.to_owned(),
        scope,
        unit: unit.to_owned(),
        part,
        pid,
        outdated: stamp.as_ref().map(|(_, build)| *build != installed.build),
        version: stamp.as_ref().and_then(|(version, _)| version.clone()),
        build: stamp.map(|(_, build)| build).filter(|build| !build.is_empty()),
    };
    // One from before there were stamps is some other build.
    let mut look = |pid| {
        let stamp = builds.of_process(pid).ok()?;
        Some(stamp.map_or((None, String::new()), |stamp| (Some(stamp.version), stamp.build)))
    };
    let mut processes = Vec::new();
    for (unit, part) in [(&names.router, "router"), (&names.watch, "watch"), (&names.memory, "memory")] {
        let properties = manager.properties(unit).await?;
        let Some(pid) = properties.u32("MainPID").filter(|pid| *pid != 0) else { continue };
        let mut stamp = look(pid);
        if stamp.is_none() && part == "router" {
            let status = manager.router_status(name).await;
            stamp = status.map(|status| (Some(status.version), status.build));
        }
        processes.push(process(unit, part, pid, stamp));
    }
    for (unit, _) in manager.workers(&names).await? {
        let properties = manager.properties(&unit).await?;
        let group = properties.text("ControlGroup").filter(|group| !group.is_empty());
        if let Some(guard) = group.and_then(guard_in) {
            processes.push(process(&unit, "guard", guard, look(guard)));
        }
    }
    Ok(processes)
}

/// What `appctl list` says of routers that are not the installed build.
pub(super) fn notes(apps: &[AppNow]) -> Vec<String> {
    let mut notes = Vec::new();
    for (scope, flag) in [("system", ""), ("user", " --user")] {
        let outdated = apps.iter().filter(|app| app.scope == scope && app.outdated.is_some());
        let names: Vec<&str> = outdated.map(|app| app.name.as_str()).collect();
        if !names.is_empty() {
            let sudo = if scope == "system" && !names::is_root() { "sudo " } else { "" };
            notes.push(format!(
                "{}: the router is another build than the installed one: `{sudo}appctl{flag} upgrade` starts that; workers and \
                 connections stay.",
                names.join(", ")
            ));
        }
    }
    notes
}

/// Users whose managers run apps of their own, which root cannot upgrade for them.
pub(super) fn users_with_apps() -> Vec<String> {
    if !names::is_root() {
        return Vec::new();
    }
    let users = std::fs::read_dir("/run/user").into_iter().flatten().flatten();
    let with_apps = users.filter(|user| {
        let apps = std::fs::read_dir(user.path().join("appctl")).into_iter().flatten().flatten();
        apps.into_iter().any(|app| app.path().join("control").exists())
    });
    let name = |number: String| {
        let user = number.parse().ok().and_then(|id| nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(id)).ok());
        user.flatten().map_or(number, |user| user.name)
    };
    with_apps.map(|user| name(user.file_name().to_string_lossy().into_owned())).collect()
}

/// Tells root whom it cannot help.
pub(super) fn tell_users(printer: &Printer) {
    let users = users_with_apps();
    if !users.is_empty() {
        printer.note(&format!(
            "Apps of their own have: {}. Each of them says `appctl --user upgrade`; `appctl list` tells them when.",
            users.join(", ")
        ));
    }
}

fn tell(processes: &[Process], installed: &Stamp, printer: &Printer) {
    let Stamp { version, build, .. } = installed;
    printer.data(&format!("installed: {version} (build {build})"));
    let mut unknown = false;
    for process in processes {
        let what = match process.part {
            "router" => format!("{}: the router", process.app),
            "guard" => format!("{}: what stays beside the worker", process.unit.trim_end_matches(".service")),
            _ => format!("{}: {}", process.app, process.unit),
        };
        match process.outdated {
            Some(false) => {}
            Some(true) => {
                let runs = match (&process.version, &process.build) {
                    (Some(version), Some(build)) if *version == installed.version => {
                        format!("another build of {version} ({build})")
                    }
                    (Some(version), _) => version.clone(),
                    _ => "an older build".to_owned(),
                };
                printer.data(&format!("{what} (pid {}) runs {runs}", process.pid));
            }
            None => unknown = true,
        }
    }
    let outdated: Vec<_> = processes.iter().filter(|process| process.outdated == Some(true)).collect();
    for (scope, flag) in [("system", user_flag(Scope::System)), ("user", user_flag(Scope::User))] {
        let sudo = if scope == "system" && !names::is_root() { "sudo " } else { "" };
        let here = || outdated.iter().filter(|process| process.scope == scope);
        if here().any(|process| process.part != "guard") {
            printer.note(&format!(
                "`{sudo}appctl{flag} upgrade` starts the installed build in their place; workers, sessions and connections stay."
            ));
        } else if here().next().is_some() {
            // It follows its router by itself, if it is not from before it could.
            let apps: BTreeSet<&str> = here().map(|process| process.app.as_str()).collect();
            let apps: Vec<&str> = apps.into_iter().collect();
            printer.note(&format!(
                "It ends with its worker, whom it serves until then; `{sudo}appctl{flag} reload {}` replaces them.",
                apps.join(" ")
            ));
        }
    }
    if outdated.is_empty() && !unknown {
        printer.data(if processes.is_empty() { "nothing of it runs" } else { "all that runs is that build" });
    }
    if unknown {
        printer.note("Not all that runs could be looked at: that needs root's rights.");
    }
}
