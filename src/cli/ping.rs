//! `appctl ping`: whether systemd and the routers answer.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::apps;
use super::exit::{DONE, FAILED, Failure, NOT_RUNNING};
use super::manage::Manager;
use super::names::{self, Asked};
use super::print::Printer;
use crate::router::client::{Control, ControlError, Status};
use crate::system::{place, version};

/// For an answer in the foreground.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `--json`.
#[derive(Debug, Serialize)]
struct Pong {
    /// `systemd`, or an app's router.
    who: String,
    answers: bool,
    milliseconds: Option<f64>,
    /// Why there is no answer, or what does not run.
    reason: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Whether what `appctl run` serves here has a worker that is ready: for the health check of a container
    #[arg(long)]
    run: bool,
}

/// What runs in the foreground.
async fn foreground(printer: &Printer) -> Result<u8, Failure> {
    let served = place::in_the_foreground().map_err(|error| Failure::failed(error.to_string()))?;
    let mut all = Vec::new();
    for (who, address) in served {
        let began = Instant::now();
        let status = Control::new(address, TIMEOUT).status().await;
        let ready = |status: &Status| status.workers.iter().filter(|worker| worker.state == "ready").count();
        let reason = match &status {
            Ok(status) if ready(status) == 0 => Some("no worker is ready".to_owned()),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        all.push(Pong {
            who,
            answers: reason.is_none(),
            milliseconds: since(began).filter(|_| status.is_ok()),
            reason,
        });
    }
    if all.is_empty() {
        printer.error("nothing is served in the foreground here, by this user");
        return Ok(NOT_RUNNING);
    }
    if printer.json {
        printer.json(&all);
    } else {
        for Pong { who, reason, milliseconds, .. } in &all {
            let took = milliseconds.map(|took| format!("pong ({took:.1} ms)"));
            printer.data(&format!("{who}: {}", reason.clone().or(took).unwrap_or_default()));
        }
    }
    Ok(if all.iter().all(|pong| pong.answers) { DONE } else { FAILED })
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    if arguments.run {
        return foreground(printer).await;
    }
    let mut all = Vec::new();
    for scope in asked.for_all() {
        // Those who have no manager of their own have no apps there.
        if asked.0.is_none() && asked.for_all().len() > 1 && apps::names(scope)?.is_empty() {
            continue;
        }
        let began = Instant::now();
        let manager = Manager::connect(scope).await?;
        manager.systemd.list(&["-.slice".to_owned()]).await.map_err(|error| manager.failure(error))?;
        let version = version::of_systemd().map(|version| format!(" {version}")).unwrap_or_default();
        all.push(Pong { who: format!("systemd{version}"), answers: true, milliseconds: since(began), reason: None });
        for (_, name) in Asked(Some(scope)).every()? {
            let router = manager.properties(&names::units(scope, &name).router).await?;
            if !matches!(router.text("ActiveState"), Some("active" | "reloading")) {
                let reason = Some("does not run".to_owned());
                all.push(Pong { who: name, answers: false, milliseconds: None, reason });
                continue;
            }
            let began = Instant::now();
            let answer = match manager.control(&name) {
                Some(control) => control.status().await.map(drop).map_err(|error| why(&error)),
                None => Err("XDG_RUNTIME_DIR is not set".to_owned()),
            };
            let milliseconds = answer.is_ok().then(|| since(began)).flatten();
            all.push(Pong { who: name, answers: answer.is_ok(), milliseconds, reason: answer.err() });
        }
    }
    let silent = all.iter().any(|pong| !pong.answers && pong.reason.as_deref() != Some("does not run"));
    if printer.json {
        printer.json(&all);
    } else {
        for Pong { who, milliseconds, reason, .. } in &all {
            match (milliseconds, reason) {
                (Some(took), _) => printer.data(&format!("{who}: pong ({took:.1} ms)")),
                (None, reason) => printer.data(&format!("{who}: {}", reason.as_deref().unwrap_or_default())),
            }
        }
    }
    Ok(if silent { FAILED } else { DONE })
}

/// Why a router does not answer, and what to do where that is known.
fn why(error: &ControlError) -> String {
    match error {
        ControlError::Unreachable(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            "runs, and answers root and the group appctl alone: sudo appctl ping".to_owned()
        }
        error => error.to_string(),
    }
}

fn since(began: Instant) -> Option<f64> {
    Some((began.elapsed().as_secs_f64() * 10_000.0).round() / 10.0)
}
