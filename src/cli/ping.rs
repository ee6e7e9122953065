//! `appctl ping`: whether systemd and the routers answer.

use std::time::Instant;

use serde::Serialize;

use super::exit::{DONE, FAILED, Failure};
use super::manage::Manager;
use super::names::{self, Asked};
use super::print::Printer;
use super::{apps, list};
use crate::router::client::ControlError;
use crate::system::version;

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

pub(super) async fn run(asked: Asked, printer: &Printer) -> Result<u8, Failure> {
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
        for (_, name) in list::every(Asked(Some(scope)))? {
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
            "runs, and answers root alone: sudo appctl ping".to_owned()
        }
        error => error.to_string(),
    }
}

fn since(began: Instant) -> Option<f64> {
    Some((began.elapsed().as_secs_f64() * 10_000.0).round() / 10.0)
}
