//! What is wrong with a file: problems with their places, and how they are shown.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use super::App;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The file cannot be used.
    Error,
    /// A key that means nothing: `appctl check` fails, a boot does not.
    UnknownKey,
    /// It works, but hardly as meant.
    Warning,
}

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 when the problem is the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters are meant, at least 1; ends with the line.
    pub width: usize,
    pub level: Level,
    /// What is wrong.
    pub message: String,
    /// What to do about it; empty when there is nothing to add.
    pub remedy: String,
}

impl Problem {
    /// A problem of the file as a whole.
    pub fn whole(level: Level, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { line: 0, column: 0, width: 1, level, message: message.into(), remedy: remedy.into() }
    }

    /// `/etc/appctl/app.toml:3:1: message (remedy)`: one line for a log or a unit's description.
    pub fn short(&self, path: impl fmt::Display) -> String {
        let place = if self.line == 0 { String::new() } else { format!(":{}:{}", self.line, self.column) };
        let remedy = if self.remedy.is_empty() { String::new() } else { format!("; {}", self.remedy) };
        format!("{path}{place}: {}{remedy}", self.message)
    }

    /// The problem with the line that it is in, as compilers show it. `text`: the whole file. `strict`: an unknown key is
    /// called an error.
    pub fn render(&self, path: impl fmt::Display, text: &str, strict: bool) -> String {
        let level = match self.level {
            Level::Error => "error",
            Level::UnknownKey if strict => "error",
            Level::UnknownKey | Level::Warning => "warning",
        };
        let mut shown = format!("{level}: {}\n", self.message);
        match text.lines().nth(self.line.wrapping_sub(1)) {
            Some(source) => {
                let margin = " ".repeat(self.line.to_string().len());
                // Tabs stay in the marker's indent, so that it stands under its text however wide a tab is.
                let indent: String =
                    source.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                let source: String =
                    source.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
                let marker = "^".repeat(self.width.max(1));
                shown.push_str(&format!("{margin}--> {path}:{}:{}\n", self.line, self.column));
                shown.push_str(&format!("{margin} |\n{} | {source}\n{margin} | {indent}{marker}\n", self.line));
                if !self.remedy.is_empty() {
                    shown.push_str(&format!("{margin} = help: {}\n", self.remedy));
                }
            }
            None => {
                shown.push_str(&format!(" --> {path}\n"));
                if !self.remedy.is_empty() {
                    shown.push_str(&format!("  = help: {}\n", self.remedy));
                }
            }
        }
        shown
    }
}

/// What came of reading a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// `None` when there is an error.
    pub app: Option<App>,
    /// By place.
    pub problems: Vec<Problem>,
}

impl Report {
    /// A report of one problem with no app.
    pub fn failed(problem: Problem) -> Self {
        Self { app: None, problems: vec![problem] }
    }

    /// The first problem that makes the file unusable.
    pub fn error(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.level == Level::Error)
    }

    /// Adds a problem found by looking at other files; an error takes the app away.
    pub fn add(&mut self, problem: Problem) {
        if problem.level == Level::Error {
            self.app = None;
        }
        self.problems.push(problem);
    }

    /// Whether `appctl check` is content: warnings alone do not count.
    pub fn passes(&self) -> bool {
        self.problems.iter().all(|problem| problem.level == Level::Warning)
    }
}

/// The most problems that are told of one file. Each costs a walk through the text, and systemd waits for the generator.
const PROBLEMS_MAX: usize = 100;

/// Collects problems while a file is walked; turns byte ranges into lines and columns.
pub(super) struct Problems<'t> {
    text: &'t str,
    found: Vec<(usize, Problem)>,
    /// Lines that are no TOML: what else seems wrong there is a consequence.
    garbled: BTreeSet<usize>,
    /// How many were not kept, and whether one of them was an error.
    dropped: usize,
    dropped_error: bool,
    /// From here on nothing can be believed, because an array or a table is not closed.
    end: usize,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, found: Vec::new(), garbled: BTreeSet::new(), dropped: 0, dropped_error: false, end: usize::MAX }
    }

    pub(super) fn push(
        &mut self,
        level: Level,
        span: Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.found.len() >= PROBLEMS_MAX {
            self.dropped += 1;
            self.dropped_error |= level == Level::Error;
            return;
        }
        let start = floor(self.text, span.start);
        let end = floor(self.text, span.end).max(start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find(['\n', '\r']).map_or(self.text.len(), |at| start + at);
        let line = self.text[..start].matches('\n').count() + 1;
        if self.garbled.contains(&line) || start > self.end {
            return;
        }
        let problem = Problem {
            line,
            column: self.text[line_start..start].chars().count() + 1,
            width: self.text[start..end.min(line_end).max(start)].chars().count().max(1),
            level,
            message: message.into(),
            remedy: remedy.into(),
        };
        self.found.push((start, problem));
    }

    pub(super) fn error(&mut self, span: Range<usize>, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(Level::Error, span, message, remedy);
    }

    /// A mistake in the notation; call this first, and in the file's order. One a line is told.
    pub(super) fn syntax(&mut self, span: Range<usize>, message: &str) {
        if self.found.len() >= PROBLEMS_MAX {
            self.dropped += 1;
            self.dropped_error = true;
            return;
        }
        let start = floor(self.text, span.start);
        let unclosed = message.contains("array") || message.contains("inline table");
        let (message, remedy) = match message {
            _ if unclosed => (message, "look for a bracket that is not closed, here or above"),
            "string values must be quoted, expected literal string" => {
                ("text must be quoted", "write it in double quotes")
            }
            _ if message.contains("string") => (message, "look for a quote that is not closed"),
            "duplicate key" => ("this key was there before", "remove one of the two"),
            _ => (message, ""),
        };
        self.error(span, message.to_owned(), remedy);
        if unclosed {
            self.end = self.end.min(start);
        }
        self.garbled.insert(self.text[..start].matches('\n').count() + 1);
    }

    /// Something that should be in the file; not told when that may be for the file's notation.
    pub(super) fn missing(&mut self, message: &str, remedy: &str) {
        if self.garbled.is_empty() {
            self.found.push((0, Problem::whole(Level::Error, message, remedy)));
        }
    }

    pub(super) fn warn(&mut self, span: Range<usize>, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(Level::Warning, span, message, remedy);
    }

    pub(super) fn has_error(&self) -> bool {
        self.dropped_error || self.found.iter().any(|(_, problem)| problem.level == Level::Error)
    }

    /// Whether more would be counted only.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= PROBLEMS_MAX
    }

    /// By place.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(at, _)| *at);
        let mut problems: Vec<Problem> = self.found.into_iter().map(|(_, problem)| problem).collect();
        if self.dropped > 0 {
            let level = if self.dropped_error { Level::Error } else { Level::UnknownKey };
            problems.push(Problem::whole(level, format!("and {} more", self.dropped), "mend these first"));
        }
        problems
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line() {
        let text = "a = 1\n\tgrüße = 2\n";
        let mut problems = Problems::new(text);
        problems.push(Level::UnknownKey, 7..14, "unknown key `grüße`", "remove it");
        let problems = problems.finish();
        assert_eq!((problems[0].line, problems[0].column, problems[0].width), (2, 2, 5));
        let shown = problems[0].render("x.toml", text, true);
        let expected =
            "error: unknown key `grüße`\n --> x.toml:2:2\n  |\n2 | \tgrüße = 2\n  | \t^^^^^\n  = help: remove it\n";
        assert_eq!(shown, expected);
        assert!(problems[0].render("x.toml", text, false).starts_with("warning: "));
        assert_eq!(problems[0].short("x.toml"), "x.toml:2:2: unknown key `grüße`; remove it");
    }

    #[test]
    fn a_problem_of_the_whole_file_shows_no_line() {
        let problem = Problem::whole(Level::Error, "cannot be read", "");
        assert_eq!(problem.render("x.toml", "text", false), "error: cannot be read\n --> x.toml\n");
    }

    #[test]
    fn places_outside_the_text_are_harmless() {
        let mut problems = Problems::new("ä");
        problems.error(1..99, "", "");
        assert_eq!(problems.finish().len(), 1);
    }
}
