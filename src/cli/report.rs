//! `appctl report`: what somebody needs who is to find a mistake in appctl or its set-up. No environment, no file of an
//! app and no line that a worker wrote is in it.

use std::process::{Command, Stdio};

use super::apps;
use super::env::without_password;
use super::exit::{DONE, Failure};
use super::look::{AppNow, UnitNow, look};
use super::manage::Manager;
use super::names::{self, Asked};
use super::print::{self, Printer};
use crate::config::Scope;
use crate::generator;
use crate::system::journal::errors_of;
use crate::system::stamp::Stamp;
use crate::unit::plan::{Names, program};

/// Lines of the router and of systemd about it, of priority err.
const ERRORS: u32 = 10;
/// What a router repeats of a worker's words begins so.
const QUOTED: &str = "  |";

pub(super) async fn run(asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let line = |text: &str| printer.data(text);
    line("--- appctl");
    line(&format!("version      {} (build {})", Stamp::own().version, Stamp::own().build));
    line(&format!(
        "program      {}",
        std::env::current_exe().map_or_else(|it| it.to_string(), |it| it.display().to_string())
    ));
    let missing = if std::path::Path::new(program()).exists() { "" } else { " (missing)" };
    line(&format!("units call   {}{missing}", program()));
    line(&format!("user         {}", if names::is_root() { "root" } else { "not root" }));
    line("--- machine");
    line(&format!("systemd      {}", first_line("systemctl", &["--version"])));
    line(&format!("kernel       {}", first_line("uname", &["-srm"])));
    line(&format!("system       {}", system_name()));
    line(&format!("processors   {}", generator::processors()));
    line(&format!("node         {}", first_line("node", &["--version"])));
    for scope in asked.for_all() {
        let title = if scope == Scope::User { "--- your own apps" } else { "--- the system's apps" };
        line(title);
        let manager = match Manager::connect(scope).await {
            Ok(manager) => manager,
            // That is what is to be reported.
            Err(failure) => {
                line(&failure.to_string());
                continue;
            }
        };
        line(&format!("state        {}", state(scope)));
        let wanted = Asked(Some(scope)).every()?;
        for app in look(&wanted).await? {
            about(&app, &manager, printer).await?;
        }
    }
    Ok(DONE)
}

async fn about(app: &AppNow, manager: &Manager, printer: &Printer) -> Result<(), Failure> {
    let names = names::units(manager.scope, &app.name);
    printer.data(&format!("--- app {}", app.name));
    printer.data(&format!("file         {}{}", app.file, if app.on_hold { " (on hold)" } else { "" }));
    if app.error.is_some() {
        printer.data(&format!("             has mistakes: appctl check {}", app.name));
    }
    printer.data(&format!("workers      {} wanted", app.workers_wanted));
    if let Some(settings) = &app.app {
        printer.data(&format!("runtime      {:?}", settings.runtime));
    }
    for unit in [&app.router].into_iter().chain(&app.workers) {
        printer.data(&format!("  {}", in_one_line(unit)));
    }
    for unit in names::sockets(&names).into_iter().chain(names.companions()) {
        let properties = manager.properties(unit).await?;
        if properties.text("LoadState") == Some("loaded") {
            let text = |name| properties.text(name).unwrap_or("unknown").to_owned();
            printer.data(&format!("  {unit}: {} ({})", text("ActiveState"), text("SubState")));
        }
    }
    let errors = errors(manager.scope, &names);
    if !errors.is_empty() {
        printer.data("last errors of the router, and of systemd about these units:");
        errors.iter().for_each(|line| printer.data(&format!("  {}", without_password(line))));
    }
    Ok(())
}

fn in_one_line(unit: &UnitNow) -> String {
    let mut text = format!("{}: {}", unit.unit, unit.state);
    if let Some(restarts) = unit.restarts.filter(|restarts| *restarts > 0) {
        text.push_str(&format!(", {}", print::many(restarts.into(), "restart")));
    }
    if let Some(end) = &unit.last_end {
        text.push_str(&format!(", last end: {}", end.reason));
    }
    if let Some(memory) = unit.memory_bytes {
        text.push_str(&format!(", {}", print::size(memory)));
    }
    if let Some(lag) = unit.lag_ms {
        text.push_str(&format!(", lag {lag} ms"));
    }
    text
}

/// Whoever may not read the journal sees none.
fn errors(scope: Scope, names: &Names) -> Vec<String> {
    let lines = errors_of(apps::manager(scope), &names.router, ERRORS * 4).unwrap_or_default();
    let own = lines.into_iter().filter(|line| !line.contains(QUOTED));
    let own: Vec<String> = own.collect();
    own[own.len().saturating_sub(ERRORS as usize)..].to_vec()
}

fn state(scope: Scope) -> String {
    let mut words = vec!["is-system-running"];
    if scope == Scope::User {
        words.insert(0, "--user");
    }
    first_line("systemctl", &words)
}

/// The first line that a program prints, or why there is none.
fn first_line(program: &str, words: &[&str]) -> String {
    match Command::new(program).args(words).stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned(),
        Err(error) => format!("none ({error})"),
    }
}

fn system_name() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "unknown".to_owned(), |name| name.trim_matches('"').to_owned())
}
