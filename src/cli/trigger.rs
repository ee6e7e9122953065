//! `appctl trigger TARGET ACTION [PARAM]`: calls what an app has registered with `io.action()`, in each of its workers.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::apps::nearest;
use super::exit::{DONE, FAILED, Failure, NOT_RUNNING};
use super::manage::{Manager, user_flag};
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::selector;
use crate::config::Scope;
use crate::config::value::{positive_span, write_span};
use crate::router::client::{Called, ControlError, Outcome, Wanted};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// NAME (all its workers), NAME@SLOT, an id, `all` or /regex/
    pub(super) target: String,
    /// Its name, as the app has registered it; `appctl status NAME` lists those that there are
    pub(super) action: String,
    /// A text that the action gets, if it takes one
    param: Option<String>,
    /// How long a worker may take to answer
    #[arg(long, value_parser = read, default_value = "30s", value_name = "TIME")]
    timeout: Duration,
    /// Only print what it would ask for
    #[arg(long)]
    pub(super) dry_run: bool,
}

fn read(text: &str) -> Result<Duration, String> {
    positive_span(text).map_err(|wrong| wrong.to_string())
}

/// `--json`: one worker's answer.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    app: &'a str,
    scope: &'static str,
    #[serde(flatten)]
    called: &'a Called,
}

/// What came of it in one app.
struct AppCalled {
    scope: Scope,
    name: String,
    slot: Option<String>,
    called: Vec<Called>,
}

impl AppCalled {
    /// No worker has such an action.
    fn is_unknown(&self) -> bool {
        self.called.iter().all(|called| matches!(called.outcome, Outcome::Unknown | Outcome::NoChannel))
    }
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let targets = selector::targets(std::slice::from_ref(&arguments.target), asked).await?;
    let several = targets.len() > 1;
    let mut code = DONE;
    let mut all = Vec::new();
    for (scope, target) in &targets {
        match call(*scope, target, arguments).await {
            Ok(Some(called)) => all.push(called),
            // Of several, those that do not run are not meant.
            Ok(None) if several => {}
            Ok(None) => {
                let name = target.app();
                printer.error(&format!("{name} does not run\n`appctl{} start {name}` starts it.", user_flag(*scope)));
                code = code.max(NOT_RUNNING);
            }
            Err(failure) => code = code.max(failure.of_one(printer)?),
        }
    }
    // Of several, those with the action are meant.
    if several && all.iter().any(|app| !app.is_unknown()) {
        all.retain(|app| !app.is_unknown());
    } else if several && all.is_empty() && code == DONE {
        printer.error("none of these apps runs");
        code = NOT_RUNNING;
    }
    if printer.json {
        let scope = |scope| if scope == Scope::User { "user" } else { "system" };
        let answers = all.iter().flat_map(|app| {
            app.called.iter().map(move |called| Answer { app: &app.name, scope: scope(app.scope), called })
        });
        printer.json(&answers.collect::<Vec<_>>());
    }
    for app in &all {
        code = code.max(show(app, arguments, printer));
    }
    Ok(code)
}

/// Asks the router. `None`: it does not run.
async fn call(scope: Scope, target: &Target, arguments: &Arguments) -> Result<Option<AppCalled>, Failure> {
    let name = target.app();
    let manager = Manager::connect(scope).await?;
    if !manager.router_runs(&names::units(scope, name)).await? {
        return Ok(None);
    }
    let Some(control) = manager.control(name) else {
        return Err(Failure::failed("XDG_RUNTIME_DIR is not set: there is no user manager".to_owned()));
    };
    let slot = match target {
        Target::App(_) => None,
        Target::Worker { slot, .. } => Some(slot.clone()),
    };
    let wanted = Wanted {
        action: arguments.action.clone(),
        param: arguments.param.clone(),
        slot: slot.clone(),
        timeout_ms: u64::try_from(arguments.timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let called = control.call_action(&wanted).await.map_err(|error| match error {
        ControlError::Unreachable(error) if error.kind() == ErrorKind::PermissionDenied => Failure::Denied(format!(
            "no right to ask the router of {name}: its control socket is for root and the group appctl\nUse sudo."
        )),
        ControlError::Status(hyper::StatusCode::NOT_FOUND) => Failure::failed(format!(
            "the router of {name} is of an older release, which knows no actions\n`appctl{} upgrade {name}` starts the installed one.",
            user_flag(scope)
        )),
        ControlError::Status(hyper::StatusCode::BAD_REQUEST) => {
            Failure::Usage("the parameter is too long: 128 KiB are the most".to_owned())
        }
        ControlError::Answer(reason) => Failure::failed(format!(
            "{name}: the router ended before the answers were there ({reason})\nThe action may have run."
        )),
        error => Failure::failed(format!("{name}: {error}")),
    })?;
    Ok(Some(AppCalled { scope, name: name.to_owned(), slot, called }))
}

/// Tells what the workers of one app answered; with --json what went wrong alone.
fn show(app: &AppCalled, arguments: &Arguments, printer: &Printer) -> u8 {
    let name = &app.name;
    if app.called.is_empty() {
        printer.error(&match &app.slot {
            Some(slot) => format!("{name}@{slot} does not run\n`appctl list {name}` shows the workers that do."),
            None => format!("no worker of {name} runs\n`appctl status {name}` tells why."),
        });
        return NOT_RUNNING;
    }
    if app.is_unknown() {
        printer.error(&unknown(app, &arguments.action));
        return FAILED;
    }
    let mut code = DONE;
    for Called { slot, outcome, missed, .. } in &app.called {
        let worker = format!("{name}@{slot}");
        let wrong = match outcome {
            Outcome::Answered { answer, parts } => {
                if !printer.json {
                    parts.iter().for_each(|part| printer.data(&format!("{worker}: {}", line(part))));
                    printer.data(&format!("{worker}: {}", line(answer)));
                }
                if !has_failed(answer) {
                    continue;
                }
                "says that it has failed".to_owned()
            }
            Outcome::Failed { error } => format!("failed: {}", line(error)),
            Outcome::TimedOut => format!("has not answered within {}", write_span(arguments.timeout)),
            Outcome::Ended => format!("ended before it had answered; `appctl logs {worker}` tells more"),
            Outcome::Unknown if *missed => {
                format!(
                    "told its actions to a router of another release; `appctl{} restart {worker}` starts one that tells them anew",
                    user_flag(app.scope)
                )
            }
            Outcome::Unknown => format!("has no action {}", arguments.action),
            Outcome::NoChannel => "has no channel to be called over".to_owned(),
        };
        printer.error(&format!("{worker} {wrong}"));
        code = FAILED;
    }
    code
}

/// As @pm2/io's own actions say it.
fn has_failed(answer: &Value) -> bool {
    answer.get("success") == Some(&Value::Bool(false))
}

/// As JSON, in a line that does nothing to a terminal.
fn line(value: &Value) -> String {
    // JSON escapes those below U+0020.
    value.to_string().chars().map(|it| if it.is_control() { '\u{FFFD}' } else { it }).collect()
}

fn unknown(app: &AppCalled, action: &str) -> String {
    let AppCalled { name, called, .. } = app;
    if called.iter().all(|called| called.outcome == Outcome::NoChannel) {
        return format!(
            "{name} has no actions: its workers have no channel to be called over\n\
             Actions are for programs under Node's, Bun's or Deno's channel (`runtime` in its file)."
        );
    }
    let there: BTreeSet<String> = called.iter().flat_map(|called| called.actions.iter().cloned()).collect();
    let there: Vec<String> = there.into_iter().collect();
    if there.is_empty() && called.iter().any(|called| called.missed) {
        return format!(
            "which actions {name} has is not known: its workers told them once, to a router of another release\n\
             `appctl{} reload {name}` replaces them by workers that tell them anew.",
            user_flag(app.scope)
        );
    }
    if there.is_empty() {
        return format!(
            "{name} has no actions: its program has registered none\nWith @pm2/io: io.action('{action}', (reply) => reply({{ … }}))."
        );
    }
    let hint = match nearest(action, &there) {
        Some(near) => format!("Did you mean {near}?"),
        None => format!("There are: {}", there.join(", ")),
    };
    format!("{name} has no action {action}\n{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn called(outcome: Outcome, actions: &[&str]) -> Called {
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        Called { slot: "1".into(), index: 0, pid: 7, outcome, actions, missed: false }
    }

    fn app(called: Vec<Called>) -> AppCalled {
        AppCalled { scope: Scope::System, name: "shop".into(), slot: None, called }
    }

    #[test]
    fn an_action_that_is_not_there() {
        let of = |called| unknown(&app(called), "refesh");
        assert!(of(vec![called(Outcome::Unknown, &["refresh", "gc"])]).ends_with("Did you mean refresh?"));
        let all = of(vec![called(Outcome::Unknown, &["b"]), called(Outcome::Unknown, &["a"])]);
        assert_eq!(all, "shop has no action refesh\nThere are: a, b");
        assert!(of(vec![called(Outcome::Unknown, &[])]).contains("has registered none"));
        let missed = Called { missed: true, ..called(Outcome::Unknown, &[]) };
        let told = of(vec![called(Outcome::Unknown, &[]), missed]);
        assert!(
            told.starts_with("which actions shop has is not known") && told.contains("appctl reload shop"),
            "{told}"
        );
        assert!(of(vec![called(Outcome::NoChannel, &[])]).contains("no channel"));
    }

    #[test]
    fn codes() {
        let arguments = Arguments {
            target: "shop".into(),
            action: "a".into(),
            param: None,
            timeout: Duration::from_secs(1),
            dry_run: false,
        };
        let printer = Printer::new(false, true);
        let answered = |answer| Outcome::Answered { answer, parts: Vec::new() };
        for (outcome, code) in [
            (answered(json!({"success": true})), DONE),
            (answered(json!(null)), DONE),
            (answered(json!({"success": false})), FAILED),
            (Outcome::Failed { error: json!("no") }, FAILED),
            (Outcome::TimedOut, FAILED),
            (Outcome::Ended, FAILED),
        ] {
            let app = app(vec![called(outcome.clone(), &[])]);
            assert_eq!(show(&app, &arguments, &printer), code, "{outcome:?}");
        }
        // One of two that has it not.
        let mixed = app(vec![called(answered(json!(1)), &["a"]), called(Outcome::Unknown, &[])]);
        assert_eq!(show(&mixed, &arguments, &printer), FAILED);
        assert_eq!(show(&app(Vec::new()), &arguments, &printer), NOT_RUNNING);
    }

    #[test]
    fn an_answer_is_one_line() {
        assert_eq!(line(&json!({"a": "x\n\u{1b}[31m\u{9b}"})), "{\"a\":\"x\\n\\u001b[31m\u{FFFD}\"}");
    }
}
