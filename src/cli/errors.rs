//! The last errors of an app and the last ends of its workers, for `appctl status`: when each was, what was said, and
//! whether what it was about has been started anew since.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;

use super::apps;
use super::list::AppNow;
use super::manage::Manager;
use super::names;
use super::print::{self, plain};
use crate::rollout::ledger::State;
use crate::router::ends::END;
use crate::system::clock;
use crate::system::ended::last_words;
use crate::system::journal::{Levels, Match, Of, Output, Query, of_a_kind};

/// Lines of priority err that are looked at, and events that are made of them.
const LINES: u32 = 100;
const EVENTS: usize = 3;
/// Lines of one event that are shown, and of one that is over.
const SHOWN: usize = 6;
const SHOWN_OF_OLD: usize = 3;
/// Between two lines of one event, microseconds: a stack trace comes at once.
const PAUSE: u64 = 1_000_000;
/// Ends that are looked at.
const ENDS: u32 = 100;

/// What one unit said at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    /// Seconds since 1970.
    pub(super) at: u64,
    /// The unit that it is about.
    pub(super) unit: String,
    /// Lines.
    pub(super) message: String,
    /// That unit has been started since, or all workers have been replaced.
    pub(super) over: bool,
}

/// Oldest first. Whoever may not read the journal sees none.
pub(super) async fn last(manager: &Manager, app: &AppNow) -> Vec<Told> {
    let query = Query {
        manager: apps::manager(manager.scope),
        matches: vec![Match { of: Of::App(app.name.clone()), units: Vec::new() }],
        lines: Some(LINES),
        follow: false,
        since: None,
        from: None,
        levels: Levels::Errors,
        output: Output::Json,
    };
    let names = names::units(manager.scope, &app.name);
    let lines = query.read().unwrap_or_default();
    let lines = lines.iter().filter_map(|line| {
        let (at, slot, message) = read(&serde_json::from_str(line).ok()?)?;
        Some((at, slot.map_or_else(|| names.router.clone(), |slot| names.slot(slot)), message))
    });
    let mut events = events(lines);
    events.drain(..events.len().saturating_sub(EVENTS));
    let reloaded = app.reload.as_ref().filter(|reload| reload.state == State::Done).and_then(|reload| reload.ended);
    let mut begun: HashMap<String, u64> = HashMap::new();
    let mut errors = Vec::new();
    for Event { from, unit, lines, .. } in events {
        if !begun.contains_key(&unit) {
            let properties = manager.properties(&unit).await.unwrap_or_default();
            begun.insert(unit.clone(), properties.u64("InactiveExitTimestamp").unwrap_or(0));
        }
        let at = from / 1_000_000;
        let over = begun.get(&unit).is_some_and(|begun| *begun > from) || reloaded.is_some_and(|ended| ended > at);
        errors.push(Told { at, unit, message: lines.join("\n"), over });
    }
    errors
}

/// Lines of one unit that follow each other.
struct Event {
    from: u64,
    to: u64,
    unit: String,
    lines: Vec<String>,
}

/// `lines`: microseconds, unit, text; oldest first.
fn events(lines: impl Iterator<Item = (u64, String, String)>) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for (at, unit, message) in lines {
        // Another one's lines may come between.
        let same = events.iter_mut().rev().take(8).find(|event| event.unit == unit);
        match same {
            Some(event) if at.saturating_sub(event.to) <= PAUSE => {
                event.to = at;
                event.lines.push(message);
            }
            _ => events.push(Event { from: at, to: at, unit, lines: vec![message] }),
        }
    }
    events
}

/// A worker's end, as the router told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    slot: String,
    /// Seconds since 1970.
    at: u64,
    /// Nobody had told it to, and systemd starts it again.
    again: bool,
    /// What it had written last.
    words: Vec<String>,
}

/// Oldest first. Whoever may not read the journal sees none.
pub(super) fn ended(manager: &Manager, name: &str) -> Vec<Ended> {
    let lines = of_a_kind(apps::manager(manager.scope), name, END, ENDS).unwrap_or_default();
    lines.iter().filter_map(|line| read_end(&serde_json::from_str(line).ok()?)).collect()
}

fn read_end(line: &Value) -> Option<Ended> {
    let (at, slot, message) = read(line)?;
    let quoted = message.lines().filter_map(|line| line.strip_prefix("  | ")).map(plain);
    // Without a reason it says that one has not come back.
    line["REASON"].as_str()?;
    let again = message.lines().next().is_some_and(|first| first.contains("starts it again in "));
    Some(Ended { slot: slot?, at: at / 1_000_000, again, words: quoted.collect() })
}

/// How many workers have been started again in the last minute because they ended.
pub(super) fn in_the_last_minute(ended: &[Ended], now: SystemTime) -> usize {
    let since = seconds(now).saturating_sub(60);
    ended.iter().filter(|end| end.again && end.at >= since).count()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A block of `appctl status`: how workers ended that nobody had told to, and what they wrote last. Empty when there were
/// none. `width`: of the terminal.
pub(super) fn ends_block(app: &AppNow, ended: &[Ended], now: SystemTime, width: Option<usize>) -> String {
    /// Between the router's word and the journal's.
    const LAG: u64 = 10;
    const MOST: usize = 8;
    let workers = app.workers.iter();
    let mut ends: Vec<_> = workers
        .filter_map(|worker| {
            let end = worker.last_end.as_ref().filter(|end| end.failed || !end.ordered)?;
            Some((worker.slot.as_deref().unwrap_or_default(), end))
        })
        .collect();
    if ends.is_empty() {
        return String::new();
    }
    // The last one first; of equal ones in the order of the list.
    ends.sort_by_key(|(_, end)| std::cmp::Reverse(end.at));
    let mut text = "\nLast ends:".to_owned();
    let mut quoted: Vec<&[String]> = Vec::new();
    for (slot, end) in ends.iter().take(MOST) {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end.at)).unwrap_or(now);
        let ago = print::span(now.duration_since(at).unwrap_or_default());
        let line = format!("worker {slot}: {}, {ago} ago ({})", end.reason, clock::local(at));
        text.push_str(&format!("\n  {}", print::wrap(&line, 4, width)));
        let told = ended.iter().rev().find(|it| it.slot == *slot && it.at.abs_diff(end.at) <= LAG);
        let words = told.map(|it| it.words.as_slice()).unwrap_or_default();
        // Forty workers fail for one reason.
        if !words.is_empty() && !quoted.contains(&words) {
            quoted.push(words);
            for word in words {
                text.push_str(&format!("\n    | {}", print::wrap(word, 6, width)));
            }
        }
    }
    if ends.len() > MOST {
        text.push_str(&format!("\n  and of {} more workers", ends.len() - MOST));
    }
    text
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

/// A block of `appctl status`; empty when there were none. `width`: of the terminal.
pub(super) fn block(name: &str, errors: &[Told], now: SystemTime, width: Option<usize>) -> String {
    if errors.is_empty() {
        return String::new();
    }
    let all_over = errors.iter().all(|error| error.over);
    let mut text = format!("\nLast errors{}:", if all_over { ", all before the present run" } else { "" });
    let mut left_out = false;
    for Told { at, unit, message, over } in errors {
        let when = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(*at)).unwrap_or(now);
        let ago = print::span(now.duration_since(when).unwrap_or_default());
        let unit = unit.trim_end_matches(".service");
        let over_told = if *over && !all_over { ", before its present run" } else { "" };
        let line = format!("{unit}, {ago} ago ({}){over_told}:", clock::local(when));
        text.push_str(&format!("\n  {}", print::wrap(&line, 4, width)));
        let lines: Vec<String> = message.lines().map(plain).collect();
        let most = if *over { SHOWN_OF_OLD } else { SHOWN };
        let words = what_matters(&lines, most);
        left_out |= words.len() < lines.iter().filter(|line| !line.trim().is_empty()).count();
        for word in words {
            text.push_str(&format!("\n    {}", print::wrap(&word, 6, width)));
        }
    }
    if left_out {
        text.push_str(&format!("\n  All of it: appctl logs {name} --err"));
    }
    text
}

/// The head of an event: its first line, and from the error itself on where that comes later; of a stack the top.
fn what_matters(lines: &[String], most: usize) -> Vec<String> {
    let words = last_words(lines, usize::MAX);
    // `Error: no database`, `TypeError [ERR_X]: …`, `ValueError: …`, `thread 'main' panicked at …`.
    let is_error = |line: &String| {
        let bare = line.trim_start().trim_start_matches("| ").trim_start();
        let class = bare.split([':', ' ']).next().unwrap_or_default();
        ["Error", "Exception"].iter().any(|it| class.ends_with(it)) && bare.contains(':')
            || bare.contains("panicked at")
    };
    let mut chosen = Vec::new();
    if let Some(at) = words.iter().position(is_error).filter(|at| at + 1 > most && most > 1) {
        chosen.push(words[0].clone());
        chosen.extend(words[at..].iter().take(most - 1).cloned());
    } else {
        chosen.extend(words.into_iter().take(most));
    }
    chosen
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

    fn lines_of(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_over_is_said_to_be() {
        let told = |at, over| Told { at, unit: "shop@1.service".into(), message: "no\nmore\n".into(), over };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let [one, other] = [10, 40].map(|at| clock::local(SystemTime::UNIX_EPOCH + Duration::from_secs(at)));
        assert_eq!(
            block("shop", &[told(10, true), told(40, false)], now, None),
            format!(
                "\nLast errors:\n  shop@1, 1m ago ({one}), before its present run:\n    no\n    more\n  \
                 shop@1, 1m ago ({other}):\n    no\n    more"
            )
        );
        assert!(
            block("shop", &[told(10, true)], now, None)
                .starts_with("\nLast errors, all before the present run:\n  shop@1, 1m ago")
        );
        assert_eq!(block("shop", &[], now, None), "");
    }

    #[test]
    fn lines_that_follow_each_other_are_one_event() {
        let line = |at, unit: &str, text: &str| (at, unit.to_owned(), text.to_owned());
        let lines = [
            line(0, "a", "Error: x"),
            line(10, "b", "other"),
            line(20, "a", "    at y"),
            line(5_000_000, "a", "later"),
        ];
        let found = events(lines.into_iter());
        let found: Vec<_> = found.iter().map(|event| (event.unit.as_str(), event.lines.join("|"))).collect();
        assert_eq!(found, [("a", "Error: x|    at y".into()), ("b", "other".into()), ("a", "later".into())]);
    }

    #[test]
    fn the_error_comes_before_its_stack() {
        let stack = "shop not reloaded: exit status 1\n/srv/app.js:1\nthrow new Error('oops')\n^\n\nError: oops broken \
                     release\n    at a\n    at b\n    at c\nNode.js v20";
        assert_eq!(
            what_matters(&lines_of(stack), 3),
            ["shop not reloaded: exit status 1", "Error: oops broken release", "    at a"]
        );
        let whole = what_matters(&lines_of(stack), 6);
        assert_eq!((whole.len(), whole[4].as_str()), (6, "Error: oops broken release"));
        assert_eq!(what_matters(&lines_of("one\ntwo"), 6), ["one", "two"]);
    }

    #[test]
    fn ends_are_told_with_their_time_and_words() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(200);
        let at = clock::local(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
        let line = serde_json::json!({"__REALTIME_TIMESTAMP": "9000001", "WORKER": "1", "REASON": "exit status 7",
            "PRIORITY": "4", "MESSAGE": "worker 1 (pid 7) ended: exit status 7; systemd starts it again in 1s\n  | Error: x\n  |     at y"});
        let ended = [read_end(&line).unwrap()];
        let told = ends_block(&super::super::list::tests::shop(), &ended, now, None);
        assert_eq!(
            told,
            format!(
                "\nLast ends:\n  worker 1: out of memory, 3m ago ({at})\n    | Error: x\n    |     at y\n  \
                 worker 2: exit status 7, 3m ago ({at})"
            )
        );
        assert_eq!(in_the_last_minute(&ended, now), 0);
        assert_eq!(in_the_last_minute(&ended, SystemTime::UNIX_EPOCH + Duration::from_secs(60)), 1);
        let back = serde_json::json!({"__REALTIME_TIMESTAMP": "9", "WORKER": "1", "PRIORITY": "3", "MESSAGE": "x"});
        assert_eq!(read_end(&back), None);
    }
}
