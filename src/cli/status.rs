//! `appctl status NAME`: one app in full.

use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;

use super::apps;
use super::conclude::on_hold;
use super::errors;
use super::exit::{DONE, Failure, NOT_RUNNING};
use super::ids;
use super::list::{self, AppNow};
use super::manage::{Manager, count, user_flag};
use super::names::{self, Asked};
use super::print::{self, Colour, Printer};
use super::shown;
use crate::config::Scope;
use crate::rollout::ledger::State;
use crate::router::control::Status;

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
    companions: Vec<CompanionNow>,
    /// The router's own words.
    status: Option<Status>,
    errors: Vec<errors::Told>,
}

#[derive(Debug, Serialize)]
struct SocketNow {
    unit: String,
    state: String,
    listen: Vec<String>,
}

/// A unit beside the router.
#[derive(Debug, Serialize)]
struct CompanionNow {
    unit: String,
    state: String,
    /// When a timer will elapse, in seconds since 1970.
    next: Option<u64>,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    if arguments.names.is_empty() {
        return list::run(&list::Arguments::default(), asked, printer).await;
    }
    let mut code = DONE;
    let mut all = Vec::new();
    let targets = list::wanted(&arguments.names, asked).await?;
    let mut found = ids::look(&targets, asked).await?;
    for target in targets {
        let at = found.iter().position(|app| app.is_of(target.0) && app.name == target.1);
        let app = at.map(|at| found.swap_remove(at)).ok_or_else(|| apps::unknown(target.0, &target.1))?;
        let app = in_full(app, target.0).await?;
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

async fn in_full(app: AppNow, scope: Scope) -> Result<InFull, Failure> {
    let manager = Manager::connect(scope).await?;
    let name = &app.name;
    let names = names::units(scope, name);
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
    let mut companions = Vec::new();
    for unit in names.companions() {
        let properties = manager.properties(unit).await?;
        if properties.text("LoadState") == Some("loaded") {
            let next = properties.u64("NextElapseUSecRealtime").filter(|at| *at != 0);
            companions.push(CompanionNow {
                unit: unit.to_owned(),
                state: properties.text("SubState").unwrap_or("unknown").to_owned(),
                next: next.map(|microseconds| microseconds / 1_000_000),
            });
        }
    }
    Ok(InFull {
        running: ["running", "reloading"].contains(&app.router.state.as_str()),
        status: manager.router_status(name).await,
        errors: errors::last(&manager, name).await,
        app,
        sockets,
        companions,
    })
}

fn show(full: &InFull, scope: Scope, printer: &Printer) {
    printer.data(&head(full, SystemTime::now(), printer));
    printer.data("");
    printer.table(&list::table(std::slice::from_ref(&full.app)));
    if let Some(error) = &full.app.error {
        printer.data(&format!("\n{error}\n`appctl check {}` tells it all.", full.app.name));
    }
    if full.app.listen_wanted.is_some() {
        printer.note(&full.app.listens_elsewhere());
    }
    if full.app.on_hold
        && let Ok(hold) = on_hold(scope, &full.app.name)
    {
        printer.data(&format!("\n{hold}."));
    }
    if let Some(shown) = shown::block(&full.app, |table| table.render(printer.width, printer.colours())) {
        printer.data(&format!("\n{shown}"));
    }
    let ends = ends(&full.app, SystemTime::now());
    if !ends.is_empty() {
        printer.data("\nLast ends:");
        ends.iter().for_each(|line| printer.data(&format!("  {line}")));
    }
    if !full.errors.is_empty() {
        printer.data(&errors::block(&full.errors, SystemTime::now()));
    }
    if !full.running {
        printer.data(&format!(
            "\nsystemctl{0} status {1}, journalctl{0} -u {1} and appctl logs {1} tell more.",
            user_flag(scope),
            full.app.name
        ));
    }
}

/// How workers ended that nobody had told to, a line each.
fn ends(app: &AppNow, now: SystemTime) -> Vec<String> {
    let ends = app.workers.iter().filter_map(|worker| {
        let end = worker.last_end.as_ref().filter(|end| end.failed || !end.ordered)?;
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end.at))?;
        let ago = print::span(now.duration_since(at).unwrap_or_default());
        let slot = worker.slot.as_deref().unwrap_or_default();
        Some(format!("worker {slot}: {}, {ago} ago ({})", end.reason, humantime::format_rfc3339_seconds(at)))
    });
    ends.collect()
}

/// What stands above the table.
fn head(full: &InFull, now: SystemTime, printer: &Printer) -> String {
    let app = &full.app;
    let ready = app.workers.iter().filter(|worker| ["ready", "running"].contains(&worker.state.as_str())).count();
    // A broken file tells no number: then the router's.
    let wanted = match (&app.error, &full.status) {
        (Some(_), Some(status)) => status.workers_wanted,
        _ => app.workers_wanted,
    };
    let reload = app.reload.as_ref();
    let reloading = reload.filter(|it| it.state == State::Running && app.router.state == "reloading");
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
    if let Some(reload) = reloading {
        text.push_str(&format!("\n  reload: under way, {} of {} replaced", reload.replaced.len(), reload.workers));
    }
    if let Some(reload) = reload.filter(|it| it.state == State::Failed) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ago = since.saturating_sub(Duration::from_secs(reload.ended.unwrap_or(since.as_secs())));
        text.push_str(&format!(
            "\n  reload: {} {} ago: {}; {}",
            printer.paint("the last one failed", Colour::Red),
            print::span(ago),
            reload.reason.as_deref().unwrap_or_default(),
            reload.left_behind(&app.name)
        ));
    }
    text.push_str(&format!("\n    file: {}", app.file));
    if app.on_hold {
        text.push_str(&format!(", {}", printer.paint("on hold", Colour::Yellow)));
    }
    for socket in &full.sockets {
        text.push_str(&format!("\n  socket: {} {} on {}", socket.unit, socket.state, socket.listen.join(", ")));
    }
    for served in full.status.iter().flat_map(|status| &status.certificates) {
        let (address, cert) = (&served.address, served.cert.display());
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let left = u64::try_from(served.not_after).unwrap_or(0).checked_sub(since.as_secs());
        let life = match left {
            Some(left) => format!("expires in {}", print::span(Duration::from_secs(left))),
            None => printer.paint("expired", Colour::Red),
        };
        text.push_str(&format!("\n     tls: {address} with {cert}, {life}"));
    }
    for CompanionNow { unit, state, next } in &full.companions {
        text.push_str(&match next.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)) {
            Some(at) => {
                let left = print::span(at.duration_since(now).unwrap_or_default());
                format!("\n    next: {unit} at {}, in {left}", humantime::format_rfc3339_seconds(at))
            }
            None => format!("\n  beside: {unit} {state}"),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::ledger::Progress;

    #[test]
    fn ends_are_told_with_their_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(200);
        let told = ends(&list::tests::shop(), now);
        assert_eq!(told[0], "worker 1: out of memory, 3m ago (1970-01-01T00:00:09Z)");
        assert_eq!(told.len(), 2);
    }

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
            companions: vec![
                CompanionNow { unit: "shop-watch.service".into(), state: "running".into(), next: None },
                CompanionNow { unit: "shop-reload.timer".into(), state: "waiting".into(), next: Some(90_000) },
            ],
            status: None,
            errors: Vec::new(),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(80_000);
        assert_eq!(
            head(&full, now, &Printer::new(false, false)),
            "● shop: serves, 1 of 2 workers ready\n    file: /etc/appctl/shop.toml\n  socket: shop.socket running on [::]:8080\n  \
             beside: shop-watch.service running\n    next: shop-reload.timer at 1970-01-02T01:00:00Z, in 2h 46m"
        );
        let failed = Progress {
            state: State::Failed,
            ended: Some(1000),
            replaced: vec!["3".into()],
            left: vec!["2".into()],
            reason: Some("shop@1 did not become ready".into()),
            ..Progress::default()
        };
        let app = AppNow { reload: Some(failed), on_hold: true, ..list::tests::shop() };
        let full = InFull { app, ..full };
        assert_eq!(
            head(&full, SystemTime::UNIX_EPOCH + Duration::from_secs(1300), &Printer::new(false, false))
                .lines()
                .skip(1)
                .take(2)
                .collect::<Vec<_>>(),
            [
                "  reload: the last one failed 5m ago: shop@1 did not become ready; new and staying: shop@3; old and \
                 serving on: shop@2",
                "    file: /etc/appctl/shop.toml, on hold"
            ]
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
        assert!(
            head(&stopped, now, &Printer::new(false, false)).starts_with("○ shop: starts on the first connection\n")
        );
    }
}
