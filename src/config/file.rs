//! The file as typed: tables and values with their places, taken key by key; what nobody took is an unknown key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use toml::de::{DeTable, DeValue};

use super::report::{Level, Problems};
use super::value::Wrong;

/// A table that is being read.
pub(super) struct Table<'d> {
    /// `stop` for `[stop]`; empty for the top.
    path: String,
    /// In the file's order.
    entries: Vec<Entry<'d>>,
    /// What was asked for: the candidates for "did you mean".
    asked: Vec<&'static str>,
}

struct Entry<'d> {
    key: &'d str,
    key_span: Range<usize>,
    item: Item<'d>,
}

/// A value and its place.
#[derive(Clone)]
pub(super) struct Item<'d> {
    /// `stop.timeout`
    pub(super) path: String,
    pub(super) span: Range<usize>,
    value: &'d DeValue<'d>,
}

/// A text with its place.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

impl<'d> Table<'d> {
    pub(super) fn new(path: &str, table: &'d DeTable<'d>) -> Self {
        let mut entries: Vec<Entry<'d>> = table
            .iter()
            .map(|(key, value)| {
                let name: &'d str = key.get_ref();
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                Entry {
                    key: name,
                    key_span: key.span(),
                    item: Item { path, span: value.span(), value: value.get_ref() },
                }
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        Self { path: path.to_owned(), entries, asked: Vec::new() }
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<Item<'d>> {
        self.asked.push(key);
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at).item)
    }

    /// A sub-table; an empty one when it is missing, so that its keys are known.
    pub(super) fn take_table(&mut self, key: &'static str, problems: &mut Problems) -> Self {
        self.take(key).and_then(|item| item.table(problems)).unwrap_or_else(|| {
            let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
            Self { path, entries: Vec::new(), asked: Vec::new() }
        })
    }

    /// Adds the places of the values that are left, with those of tables below them, by their whole keys.
    pub(super) fn places(&self, depth: usize, places: &mut BTreeMap<String, Range<usize>>) {
        for Entry { item, .. } in &self.entries {
            places.insert(item.path.clone(), item.span.clone());
            if let DeValue::Table(table) = item.value
                && depth > 1
            {
                Table::new(&item.path, table).places(depth - 1, places);
            }
        }
    }

    /// All that is left: keys whose names are the operator's own.
    pub(super) fn take_rest(&mut self) -> Vec<(Text, Item<'d>)> {
        self.entries
            .drain(..)
            .map(|entry| (Text { text: entry.key.to_owned(), span: entry.key_span }, entry.item))
            .collect()
    }

    /// Tells about the keys that nobody took.
    pub(super) fn finish(self, problems: &mut Problems) {
        for entry in &self.entries {
            if problems.is_full() {
                problems.push(Level::UnknownKey, 0..0, "", "");
                continue;
            }
            let place = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
            let remedy = explain(&self.path, entry.key)
                .or_else(|| nearest(entry.key, &self.asked).map(|key| format!("did you mean `{key}`?")))
                .unwrap_or_else(|| {
                    let mut known = self.asked.clone();
                    known.sort_unstable();
                    format!("the keys here are {}", known.join(", "))
                });
            problems.push(
                Level::UnknownKey,
                entry.key_span.clone(),
                format!("unknown key `{}`{place}", entry.key),
                remedy,
            );
        }
    }
}

impl<'d> Item<'d> {
    pub(super) fn table(&self, problems: &mut Problems) -> Option<Table<'d>> {
        match self.value {
            DeValue::Table(table) => Some(Table::new(&self.path, table)),
            _ => {
                self.unfit(
                    problems,
                    "a table",
                    &format!("write [{}] on a line of its own, and the keys below it", self.path),
                );
                None
            }
        }
    }

    /// Text alone.
    pub(super) fn text(&self, problems: &mut Problems) -> Option<Text> {
        match self.value {
            DeValue::String(text) => Some(self.with(text.to_string())),
            other => {
                let quoted = plain(other).map(|text| format!("write \"{text}\""));
                self.unfit(problems, "a string", quoted.as_deref().unwrap_or("write it in quotes"));
                None
            }
        }
    }

    /// Text, or a number as if it had been written in quotes.
    pub(super) fn text_or_number(&self, problems: &mut Problems) -> Option<Text> {
        match self.value {
            DeValue::String(_) => self.text(problems),
            DeValue::Integer(_) | DeValue::Float(_) => plain(self.value).map(|text| self.with(text)),
            _ => {
                let remedy = self.single().map_or("write it in quotes".to_owned(), |one| match one {
                    Some(one) => format!("write one value: \"{one}\""),
                    None => "write one value, in quotes".to_owned(),
                });
                self.unfit(problems, "a string or a number", &remedy);
                None
            }
        }
    }

    /// Text, number or truth value; truth values as `truths` says (false, true).
    pub(super) fn scalar(&self, truths: [&str; 2], problems: &mut Problems) -> Option<Text> {
        match self.value {
            DeValue::Boolean(truth) => Some(self.with(truths[usize::from(*truth)].to_owned())),
            _ => self.text_or_number(problems),
        }
    }

    pub(super) fn truth(&self) -> Option<bool> {
        self.value.as_bool()
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    pub(super) fn is_text_of(&self, choices: &[&str]) -> bool {
        self.value.as_str().is_some_and(|text| choices.contains(&text))
    }

    /// The elements of what must be an array or a string.
    pub(super) fn words(&self, problems: &mut Problems) -> Option<Vec<Text>> {
        if !self.value.is_str() && !self.value.is_array() {
            self.unfit(problems, "a string or an array of strings", "");
            return None;
        }
        let words: Vec<Option<Text>> = self.elements().iter().map(|it| it.text_or_number(problems)).collect();
        words.into_iter().collect()
    }

    /// An array's elements; a value that is no array is its only element.
    pub(super) fn elements(&self) -> Vec<Self> {
        match self.value {
            DeValue::Array(array) => {
                array.iter().map(|it| Self { path: self.path.clone(), span: it.span(), value: it.get_ref() }).collect()
            }
            _ => vec![self.clone()],
        }
    }

    /// Reads text (or a number) by `read`; what is wrong becomes a problem here.
    pub(super) fn read<T>(&self, problems: &mut Problems, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let text = self.text_or_number(problems)?;
        self.check(problems, read(&text.text))
    }

    /// A whole number.
    pub(super) fn integer<T: FromStr>(&self, problems: &mut Problems, range: &str) -> Option<T> {
        let value = plain(self.value).and_then(|text| text.trim().parse().ok());
        if value.is_none() {
            self.unfit(problems, &format!("a whole number {range}"), "");
        }
        value
    }

    /// The value, or a problem at this place.
    pub(super) fn check<T>(&self, problems: &mut Problems, result: Result<T, Wrong>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(wrong) => {
                problems.error(self.span.clone(), format!("{}: {}", self.path, wrong.reason), wrong.remedy);
                None
            }
        }
    }

    /// Of a list or a table in a single value's place: what was probably meant.
    fn single(&self) -> Option<Option<String>> {
        match self.value {
            DeValue::Array(array) => Some(array.iter().next().and_then(|first| plain(first.get_ref()))),
            DeValue::Table(table) => Some(table.iter().next().and_then(|(_, value)| plain(value.get_ref()))),
            _ => None,
        }
    }

    fn unfit(&self, problems: &mut Problems, wanted: &str, remedy: &str) {
        let kind = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "a truth value",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        problems.error(self.span.clone(), format!("{} must be {wanted}, not {kind}", self.path), remedy);
    }

    fn with(&self, text: String) -> Text {
        Text { text, span: self.span.clone() }
    }
}

/// A scalar as its file has it, without quotes; numbers in decimal.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(date) => Some(date.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The candidate that `key` was probably meant to be: at most a third of the letters differ.
pub fn nearest<'c>(key: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let key = key.to_lowercase().replace('-', "_");
    let distance = |candidate: &str| strsim::damerau_levenshtein(&key, &candidate.to_lowercase().replace('-', "_"));
    let allowed = (key.chars().count() / 3).max(1);
    let scored = candidates.iter().map(|candidate| (distance(candidate), *candidate));
    scored.filter(|(score, _)| *score <= allowed).min_by_key(|(score, _)| *score).map(|(_, candidate)| candidate)
}

/// What people write who know PM2's ecosystem files, or this project's plans.
fn explain(table: &str, key: &str) -> Option<String> {
    if !table.is_empty() {
        return None;
    }
    if let Some(profile) = key.strip_prefix("env_") {
        return Some(format!("write its variables in [profile.{profile}.environment]"));
    }
    let remedy = match key {
        "name" => "an app is called as its file is: NAME.toml",
        "script" | "args" | "interpreter" | "interpreter_args" | "node_args" | "command" | "cmd" => {
            "write the whole command: exec = \"node worker.js\""
        }
        "instances" => "write workers = 4 or workers = \"max\"",
        "exec_mode" => "remove it: every app is a cluster",
        "cwd" | "working_directory" => "write directory = \"/srv/app\"",
        "env" => "write the variables in [environment]",
        "env_file" => "write environment_files = [\"/etc/app.env\"]",
        "port" | "ports" => "write listen = [\"8080\"]",
        "uid" => "write user = \"app\"",
        "gid" => "write group = \"app\"",
        "kill_timeout" => "write timeout = \"10s\" in [stop]",
        "shutdown_with_message" => "write message = \"shutdown\" in [stop]",
        "wait_ready" => "write on = \"message\" in [ready]",
        "listen_timeout" => "write timeout = \"10s\" in [ready]",
        "exp_backoff_restart_delay" => "write delay = \"100ms\" and backoff = \"15s\" in [restart]",
        "stop_exit_codes" => "write stop_exit_codes = [0] in [restart]",
        "restart_delay" => "write delay = \"1s\" in [restart]",
        "instance_var" => "write index_variable = \"MY_INDEX\"",
        "increment_var" => "write increment_variable = \"PORT\"",
        "autorestart" => "write policy = \"no\" in [restart]",
        "max_restarts" => "write limit = 16 in [restart]",
        "min_uptime" => "write interval = \"1min\" in [restart]",
        "cron_restart" | "cron" => "write restart = \"0 4 * * *\" in [schedule], or reload = \"0 4 * * *\" for no gap",
        "ignore_watch" => "write ignore = [\"uploads/\"]",
        "watch_delay" | "watch_options" => "remove it: changes are taken together until 300 ms have been quiet",
        "max_memory_restart" => "write memory_reload = \"300M\" in [limits]: the new worker comes first",
        "merge_logs" | "log_file" | "out_file" | "error_file" | "log_date_format" => {
            "remove it: the logs are in the journal"
        }
        "backoff" => "write backoff = \"15s\" in [restart]",
        "sticky" => "this version has nothing of that kind: remove it",
        _ => return None,
    };
    Some(remedy.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_find_their_keys() {
        let keys = ["workers", "exec", "listen", "environment", "environment_files", "start", "stop"];
        for (typed, meant) in [
            ("worker", Some("workers")),
            ("wrokers", Some("workers")),
            ("Exec", Some("exec")),
            ("enviroment", Some("environment")),
            ("environment-files", Some("environment_files")),
            ("listeners", Some("listen")),
            ("colour", None),
        ] {
            assert_eq!(nearest(typed, &keys), meant, "{typed}");
        }
    }
}
