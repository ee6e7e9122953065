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
use super::selector;
use super::shown;
use crate::config::Scope;
use crate::rollout::ledger::State;
use crate::router::control::Status;
use crate::system::clock;

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
    #[serde(skip)]
    ended: Vec<errors::Ended>,
    /// What systemd knows of the router's unit: `loaded`, `not-found`, `masked`.
    #[serde(skip)]
    loaded: String,
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
    let targets = selector::wanted(&arguments.names, asked).await?;
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
        errors: errors::last(&manager, &app).await,
        ended: errors::ended(&manager, name),
        loaded: manager.properties(&names.router).await?.text("LoadState").unwrap_or_default().to_owned(),
        app,
        sockets,
        companions,
    })
}

fn show(full: &InFull, scope: Scope, printer: &Printer) {
    let (now, width) = (SystemTime::now(), printer.width);
    printer.data(&head(full, now, printer));
    printer.data("");
    printer.table(&list::table(std::slice::from_ref(&full.app)));
    let block = |text: &str| {
        if !text.is_empty() {
            printer.data(text);
        }
    };
    if let Some(error) = &full.app.error {
        block(&format!("\n{error}\n`appctl check {}` tells it all.", full.app.name));
    }
    if full.app.listen_wanted.is_some() {
        printer.note(&full.app.listens_elsewhere());
    }
    if full.app.on_hold
        && let Ok(hold) = on_hold(scope, &full.app.name)
    {
        block(&format!("\n{hold}."));
    }
    block(&errors::ends_block(&full.app, &full.ended, now, width));
    block(&errors::block(&full.app.name, &full.errors, now, width));
    if let Some(shown) = shown::block(&full.app, |table| table.render(width, printer.colours())) {
        block(&format!("\n{shown}"));
    }
    block(&sockets(full, width));
    if list::is_mute(&full.app) {
        printer.note(&format!("\n{}", print::wrap(list::MUTE, 0, width)));
    }
    if !full.running {
        let (name, user) = (&full.app.name, user_flag(scope));
        block(&match full.loaded.as_str() {
            "not-found" if full.app.error.is_none() => format!(
                "\nsystemd has not read {} yet: `systemctl{user} daemon-reload` has it do so, `appctl{user} start {name}` too.",
                full.app.file
            ),
            "masked" => {
                format!("\n{name}.service is masked: `systemctl{user} unmask {name}.service` allows it to start.")
            }
            _ => {
                format!("\nsystemctl{user} status {name}, journalctl{user} -u {name} and appctl logs {name} tell more.")
            }
        });
    }
}

/// The last block: what only those look for who mend the set-up.
fn sockets(full: &InFull, width: Option<usize>) -> String {
    if full.sockets.is_empty() {
        return String::new();
    }
    let line = |socket: &SocketNow| {
        let text = format!("{} {} on {}", socket.unit, socket.state, socket.listen.join(", "));
        format!("\n  {}", print::wrap(&text, 4, width))
    };
    format!("\nSockets:{}", full.sockets.iter().map(line).collect::<String>())
}

/// What the file says of how the workers run.
fn facts(app: &AppNow) -> Vec<(&'static str, String)> {
    let Some(file) = &app.app else { return Vec::new() };
    let mut facts = vec![("program", file.exec.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))];
    let mut fact = |title, text: String| facts.push((title, text));
    if let Some(directory) = &file.directory {
        fact("in", directory.display().to_string());
    }
    match (&file.user, &file.group) {
        (Some(user), Some(group)) => fact("user", format!("{user}, group {group}")),
        (Some(user), None) => fact("user", user.clone()),
        (None, _) if file.scope == Scope::System => fact("user", "one of its own (DynamicUser)".to_owned()),
        (None, _) => {}
    }
    let mut runtime = file.runtime.to_string();
    if let Some(profile) = &file.profile {
        runtime.push_str(&format!(", profile {profile}"));
    }
    if let Some(mode) = file.environment.get("NODE_ENV") {
        runtime.push_str(&format!(", NODE_ENV={mode}"));
    }
    fact("runtime", runtime);
    let limits = &file.limits;
    let limits = [
        ("memory", limits.memory.clone()),
        ("replaced at", limits.memory_reload.map(print::size)),
        ("CPU", limits.cpu.clone()),
        ("tasks", limits.tasks.clone()),
        ("files", limits.files.clone()),
    ];
    let limits = limits.into_iter().filter_map(|(what, value)| Some(format!("{what} {}", value?)));
    let limits = limits.collect::<Vec<_>>().join(", ");
    if !limits.is_empty() {
        fact("limits", limits);
    }
    facts
}

/// A word of a command line as one would type it.
fn quoted(word: &str) -> String {
    let plain = |it: char| it.is_alphanumeric() || "-_./=:,@%+".contains(it);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", print::plain(word).replace('\'', "'\\''"))
}

/// What stands above the table.
fn head(full: &InFull, now: SystemTime, printer: &Printer) -> String {
    /// Where the values begin.
    const INDENT: usize = 11;
    let app = &full.app;
    let mut text = print::wrap(&first_line(full, now, printer), 2, printer.width);
    let mut fact = |title: &str, value: &str| {
        text.push_str(&format!("\n{title:>9}: {}", print::wrap(value, INDENT, printer.width)));
    };
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if let Some(reload) = &app.reload {
        match reload.state {
            State::Running if app.router.state == "reloading" => {
                fact("reload", &format!("under way, {} of {} replaced", reload.replaced.len(), reload.workers));
            }
            State::Failed => {
                let ago = since_1970.saturating_sub(Duration::from_secs(reload.ended.unwrap_or(since_1970.as_secs())));
                let value = format!(
                    "{} {} ago: {}; {}",
                    printer.paint("the last one failed", Colour::Red),
                    print::span(ago),
                    reload.reason.as_deref().unwrap_or_default(),
                    reload.left_behind(&app.name)
                );
                fact("reload", &value);
            }
            _ => {}
        }
    }
    if let Some(seconds) = app.router.uptime_seconds.filter(|_| full.running) {
        let up = Duration::from_secs(seconds);
        fact("since", &format!("{}, {}", clock::local(now.checked_sub(up).unwrap_or(now)), print::span(up)));
    }
    for (title, value) in facts(app) {
        fact(title, &value);
    }
    if !app.listen.is_empty() {
        fact("addresses", &app.listen.join(", "));
    }
    if let Some(status) = &full.status {
        let mut told = format!(
            "{}, {} handed over",
            print::many(status.sessions as u64, "session"),
            print::many(status.connections, "connection")
        );
        told.push_str(&format!(", {} waiting, {} refused", status.waiting, status.refused));
        if status.proxied > 0 {
            told.push_str(&format!(", {} routed one by one", print::many(status.proxied, "request")));
        }
        if !list::is_idle(app) {
            fact("traffic", &told);
        }
    }
    let held = if app.on_hold { format!(", {}", printer.paint("on hold", Colour::Yellow)) } else { String::new() };
    fact("file", &format!("{}{held}", app.file));
    for served in full.status.iter().flat_map(|status| &status.certificates) {
        let left = u64::try_from(served.not_after).unwrap_or(0).checked_sub(since_1970.as_secs());
        let life = match left {
            Some(left) => format!("expires in {}", print::span(Duration::from_secs(left))),
            None => printer.paint("expired", Colour::Red),
        };
        fact("tls", &format!("{} with {}, {life}", served.address, served.cert.display()));
    }
    for CompanionNow { unit, state, next } in &full.companions {
        match next.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)) {
            Some(at) => {
                let left = print::span(at.duration_since(now).unwrap_or_default());
                fact("next", &format!("{unit} at {}, in {left}", clock::local(at)));
            }
            None => fact("beside", &format!("{unit} {state}")),
        }
    }
    text
}

/// Ends of each worker in a minute from which on it is not said to serve.
const FAILS_AGAIN: usize = 3;

/// Whether it serves.
fn first_line(full: &InFull, now: SystemTime, printer: &Printer) -> String {
    let app = &full.app;
    let ready = app.workers.iter().filter(|worker| ["ready", "running"].contains(&worker.state.as_str())).count();
    // A broken file tells no number: then the router's.
    let wanted = match (&app.error, &full.status) {
        (Some(_), Some(status)) => status.workers_wanted,
        _ => app.workers_wanted,
    };
    let is_public = |socket: &SocketNow| socket.state == "listening" && socket.unit == format!("{}.socket", app.name);
    // One without an address serves nobody.
    let (well, badly) = if list::is_idle(app) { ("runs", "does not run") } else { ("serves", "cannot serve") };
    let ended = errors::in_the_last_minute(&full.ended, now);
    let (dot, state) = match (full.running, ready as u32 >= wanted) {
        // Now and then it is ready, and not for long.
        (true, _) if ended >= FAILS_AGAIN * app.workers.len().max(1) => {
            (printer.paint("●", Colour::Red), "fails again and again")
        }
        (true, true) => (printer.paint("●", Colour::Green), well),
        (true, false) if ready == 0 => (printer.paint("●", Colour::Red), badly),
        (true, false) => (printer.paint("●", Colour::Yellow), well),
        (false, _) if app.error.is_some() => (printer.paint("×", Colour::Red), "its file has errors"),
        (false, _) if full.sockets.iter().any(is_public) => {
            (printer.paint("○", Colour::Dim), "starts on the first connection")
        }
        (false, _) => (printer.paint("○", Colour::Dim), app.router.state.as_str()),
    };
    let mut text = format!("{dot} {}: {state}", printer.paint(&app.name, Colour::Bold));
    if full.running {
        text.push_str(&format!(", {ready} of {} ready", count(wanted as usize)));
    }
    if ended > 0 {
        let times = print::many(ended as u64, "restart");
        text.push_str(&format!(", {}", printer.paint(&format!("{times} in the last minute"), Colour::Yellow)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::ledger::Progress;

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
            ended: Vec::new(),
            loaded: "loaded".to_owned(),
        };
        let at = |seconds| clock::local(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(80_000);
        assert_eq!(
            head(&full, now, &Printer::new(false, false)),
            format!(
                "● shop: serves, 1 of 2 workers ready\n    since: {}, 2h 10m\naddresses: 8080\n     file: /etc/appctl/shop.toml\n   \
                 beside: shop-watch.service running\n     next: shop-reload.timer at {}, in 2h 46m",
                at(72_190),
                at(90_000)
            )
        );
        assert_eq!(sockets(&full, None), "\nSockets:\n  shop.socket running on [::]:8080");
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
                .filter(|line| line.contains("reload: ") || line.contains("file: "))
                .collect::<Vec<_>>(),
            [
                "   reload: the last one failed 5m ago: shop@1 did not become ready; new and staying: shop@3; old and \
                 serving on: shop@2",
                "     file: /etc/appctl/shop.toml, on hold"
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

    #[test]
    fn how_the_workers_run() {
        let text = r#"
            exec = ["node", "a b.js"]
            directory = "/srv"
            user = "web"
            active_profile = "live"
            limits.memory = "512M"
            environment.NODE_ENV = "test"
            profile.live.environment.NODE_ENV = "production"
        "#;
        let report = crate::config::parse("shop", std::path::Path::new("/etc/appctl/shop.toml"), text, Scope::System);
        let file = report.app.unwrap_or_else(|| panic!("{:?}", report.problems));
        let facts = facts(&AppNow { app: Some(file), ..list::tests::shop() });
        let facts: Vec<_> = facts.iter().map(|(title, value)| (*title, value.as_str())).collect();
        assert_eq!(
            facts,
            [
                ("program", "node 'a b.js'"),
                ("in", "/srv"),
                ("user", "web"),
                ("runtime", "node, profile live, NODE_ENV=production"),
                ("limits", "memory 512M"),
            ]
        );
    }
}
