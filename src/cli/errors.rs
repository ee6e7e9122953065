//! The last errors of an app, for `appctl status`: when each was, and whether what it was about has been started anew since.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;

use super::apps;
use super::manage::Manager;
use super::names;
use super::print;
use crate::system::journal::{Levels, Match, Of, Output, Query};

/// Lines of priority err that are shown.
const ERRORS: u32 = 5;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    /// Seconds since 1970.
    pub(super) at: u64,
    /// The unit that it is about.
    pub(super) unit: String,
    pub(super) message: String,
    /// That unit has been started since.
    pub(super) over: bool,
}

/// Oldest first. Whoever may not read the journal sees none.
pub(super) async fn last(manager: &Manager, name: &str) -> Vec<Told> {
    let query = Query {
        manager: apps::manager(manager.scope),
        matches: vec![Match { of: Of::App(name.to_owned()), units: Vec::new() }],
        lines: Some(ERRORS),
        follow: false,
        since: None,
        from: None,
        levels: Levels::Errors,
        output: Output::Json,
    };
    let names = names::units(manager.scope, name);
    let mut begun: HashMap<String, u64> = HashMap::new();
    let mut errors = Vec::new();
    for line in query.read().unwrap_or_default() {
        let Some((microseconds, slot, message)) = serde_json::from_str(&line).ok().as_ref().and_then(read) else {
            continue;
        };
        let unit = slot.map_or_else(|| names.router.clone(), |slot| names.slot(slot));
        if !begun.contains_key(&unit) {
            let properties = manager.properties(&unit).await.unwrap_or_default();
            begun.insert(unit.clone(), properties.u64("InactiveExitTimestamp").unwrap_or(0));
        }
        let over = begun.get(&unit).is_some_and(|begun| *begun > microseconds);
        errors.push(Told { at: microseconds / 1_000_000, unit, message, over });
    }
    errors
}

/// When it was written, the slot of the worker that it is about, and what it says.
fn read(line: &Value) -> Option<(u64, Option<String>, String)> {
    let text = |field: &str| match &line[field] {
        Value::String(text) => Some(text.clone()),
        // What does not print comes as bytes.
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| byte.as_u64()?.try_into().ok()).collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => None,
    };
    let at = text("__REALTIME_TIMESTAMP")?.parse().ok()?;
    // The worker's own lines have the one field, the router's about it the other.
    let slot = text("SLOT").or_else(|| text("WORKER")).filter(|slot| !slot.is_empty());
    Some((at, slot, text("MESSAGE")?))
}

/// A block of `appctl status`; empty when there were none.
pub(super) fn block(errors: &[Told], now: SystemTime) -> String {
    if errors.is_empty() {
        return String::new();
    }
    let all_over = errors.iter().all(|error| error.over);
    let mut text = format!("\nLast errors{}:", if all_over { ", all before the present run" } else { "" });
    for Told { at, unit, message, over } in errors {
        let when = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(*at)).unwrap_or(now);
        let ago = print::span(now.duration_since(when).unwrap_or_default());
        let unit = unit.trim_end_matches(".service");
        let over = if *over && !all_over { ", before its present run" } else { "" };
        let when = humantime::format_rfc3339_seconds(when);
        let message = message.trim_end().replace('\n', "\n    ");
        text.push_str(&format!("\n  {unit}, {ago} ago ({when}){over}: {message}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_journal() {
        let line = |text: &str| read(&serde_json::from_str(text).unwrap());
        let own = r#"{"__REALTIME_TIMESTAMP":"7","SLOT":"2","MESSAGE":[104,105,255]}"#;
        assert_eq!(line(own), Some((7, Some("2".into()), "hi\u{fffd}".into())));
        let about = r#"{"__REALTIME_TIMESTAMP":"7","WORKER":"1","MESSAGE":"worker 1 hangs"}"#;
        assert_eq!(line(about), Some((7, Some("1".into()), "worker 1 hangs".into())));
        assert_eq!(line(r#"{"__REALTIME_TIMESTAMP":"7","MESSAGE":"x"}"#), Some((7, None, "x".into())));
        assert_eq!(line(r#"{"__REALTIME_TIMESTAMP":"7","MESSAGE":null}"#), None);
    }

    #[test]
    fn what_is_over_is_said_to_be() {
        let told = |at, over| Told { at, unit: "shop@1.service".into(), message: "no\nmore\n".into(), over };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(
            block(&[told(10, true), told(40, false)], now),
            "\nLast errors:\n  shop@1, 1m ago (1970-01-01T00:00:10Z), before its present run: no\n    more\n  \
             shop@1, 1m ago (1970-01-01T00:00:40Z): no\n    more"
        );
        assert!(
            block(&[told(10, true)], now).starts_with("\nLast errors, all before the present run:\n  shop@1, 1m ago")
        );
        assert_eq!(block(&[], now), "");
    }
}
