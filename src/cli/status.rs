//! `appctl status NAME`: one app in full.

use clap::Args;
use serde::Serialize;

use super::apps;
use super::exit::{DONE, Failure, NOT_RUNNING};
use super::list::{self, AppNow};
use super::manage::{Manager, count, user_flag};
use super::names::{self, Asked};
use super::print::{Colour, Printer};
use crate::config::Scope;
use crate::router::control::Status;
use crate::system::journal::{Match, Output, Query};

/// Lines of priority err that are shown.
const ERRORS: u32 = 5;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps; none: as `appctl list`
    names: Vec<String>,
}

/// `--json`.
#[derive(Debug, Serialize)]
struct InFull {
    #[serde(flatten)]
    app: AppNow,
    running: bool,
    sockets: Vec<SocketNow>,
    /// The router's own words.
    status: Option<Status>,
    errors: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SocketNow {
    unit: String,
    state: String,
    listen: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    if arguments.names.is_empty() {
        return list::run(&list::Arguments::default(), asked, printer).await;
    }
    let mut code = DONE;
    let mut all = Vec::new();
    let mut targets: Vec<_> = names::targets(&arguments.names, asked)?
        .into_iter()
        .map(|(scope, target)| (scope, target.app().to_owned()))
        .collect();
    targets.dedup();
    for target in targets {
        let app = look(&target).await?;
        if !app.running {
            code = NOT_RUNNING;
        }
        if !printer.json {
            if !all.is_empty() {
                printer.data("");
            }
            show(&app, target.0, printer);
        }
        all.push(app);
    }
    if printer.json {
        printer.json(&all);
    }
    Ok(code)
}

async fn look(target: &(Scope, String)) -> Result<InFull, Failure> {
    let (scope, name) = target;
    let mut found = list::look(std::slice::from_ref(target)).await?;
    let Some(app) = found.pop() else {
        return Err(apps::unknown(*scope, name));
    };
    let manager = Manager::connect(*scope).await?;
    let names = names::units(*scope, name);
    let mut sockets = Vec::new();
    for unit in names::sockets(&names) {
        let properties = manager.properties(unit).await?;
        if properties.text("LoadState") == Some("loaded") {
            sockets.push(SocketNow {
                unit: unit.to_owned(),
                state: properties.text("SubState").unwrap_or("unknown").to_owned(),
                listen: properties.listen(),
            });
        }
    }
    let errors = Query {
        manager: apps::manager(*scope),
        matches: vec![Match { app: name.clone(), slot: None, units: Vec::new() }],
        lines: Some(ERRORS),
        follow: false,
        errors: true,
        output: Output::Short,
    };
    Ok(InFull {
        running: ["running", "reloading"].contains(&app.router.state.as_str()),
        status: manager.router_status(name).await,
        // Whoever may not read the journal sees none.
        errors: errors.read().unwrap_or_default(),
        app,
        sockets,
    })
}

fn show(full: &InFull, scope: Scope, printer: &Printer) {
    printer.data(&head(full, printer));
    printer.data("");
    printer.table(&list::table(std::slice::from_ref(&full.app)));
    if let Some(error) = &full.app.error {
        printer.data(&format!("\n{error}\n`appctl check {}` tells it all.", full.app.name));
    }
    if !full.errors.is_empty() {
        printer.data("\nLast errors:");
        for line in &full.errors {
            printer.data(&format!("  {line}"));
        }
    }
    if !full.running {
        printer.data(&format!(
            "\nsystemctl{0} status {1}, journalctl{0} -u {1} and appctl logs {1} tell more.",
            user_flag(scope),
            full.app.name
        ));
    }
}

/// What stands above the table.
fn head(full: &InFull, printer: &Printer) -> String {
    let app = &full.app;
    let ready = app.workers.iter().filter(|worker| ["ready", "running"].contains(&worker.state.as_str())).count();
    // A broken file tells no number: then the router's.
    let wanted = match (&app.error, &full.status) {
        (Some(_), Some(status)) => status.workers_wanted,
        _ => app.workers_wanted,
    };
    let (dot, state) = match (full.running, ready as u32 >= wanted) {
        (true, true) => (printer.paint("●", Colour::Green), "serves"),
        (true, false) if ready == 0 => (printer.paint("●", Colour::Red), "cannot serve"),
        (true, false) => (printer.paint("●", Colour::Yellow), "serves"),
        (false, _) if app.error.is_some() => (printer.paint("×", Colour::Red), "its file has errors"),
        (false, _)
            if full
                .sockets
                .iter()
                .any(|socket| socket.state == "listening" && socket.unit == format!("{}.socket", app.name)) =>
        {
            (printer.paint("○", Colour::Dim), "starts on the first connection")
        }
        (false, _) => (printer.paint("○", Colour::Dim), app.router.state.as_str()),
    };
    let mut text = format!("{dot} {}: {state}", printer.paint(&app.name, Colour::Bold));
    if full.running {
        text.push_str(&format!(", {ready} of {} ready", count(wanted as usize)));
    }
    if let Some(status) = &full.status {
        text.push_str(&format!(
            ", {} sessions, {} connections handed over, {} waiting, {} refused",
            status.sessions, status.connections, status.waiting, status.refused
        ));
        if status.proxied > 0 {
            text.push_str(&format!(", {} requests routed one by one", status.proxied));
        }
    }
    text.push_str(&format!("\n    file: {}", app.file));
    for socket in &full.sockets {
        text.push_str(&format!("\n  socket: {} {} on {}", socket.unit, socket.state, socket.listen.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_above_the_table() {
        let full = InFull {
            app: list::tests::shop(),
            running: true,
            sockets: vec![SocketNow {
                unit: "shop.socket".into(),
                state: "running".into(),
                listen: vec!["[::]:8080".into()],
            }],
            status: None,
            errors: Vec::new(),
        };
        assert_eq!(
            head(&full, &Printer::new(false, false)),
            "● shop: serves, 1 of 2 workers ready\n    file: /etc/appctl/shop.toml\n  socket: shop.socket running on [::]:8080"
        );
        let stopped = InFull {
            running: false,
            sockets: vec![SocketNow {
                unit: "shop.socket".into(),
                state: "listening".into(),
                listen: vec!["[::]:8080".into()],
            }],
            ..full
        };
        assert!(head(&stopped, &Printer::new(false, false)).starts_with("○ shop: starts on the first connection\n"));
    }
}
