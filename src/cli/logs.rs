//! `appctl logs`: journalctl, asked for the right lines.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};

use clap::{Args, ValueEnum};

use super::exit::{DONE, FAILED, Failure};
use super::keyed::{self, Ids};
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::selector;
use super::{apps, ids};
use crate::config::Scope;
use crate::system::journal::{self, Levels, Match, Of, Output, Query};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// NAME, NAME@SLOT, an id, `all` or /regex/; none means all
    targets: Vec<String>,
    /// Go on with new lines as they come, those of workers that start later too
    #[arg(short, long)]
    follow: bool,
    /// How many lines of the past [default: 15; with --since all]
    #[arg(short = 'n', long)]
    lines: Option<u32>,
    /// Lines since then: `10 min ago`, `today`, `2026-11-21 12:00`, `now`; as journalctl takes it
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only lines of priority err and worse (a program sets it by a `<3>` before its line)
    #[arg(long, visible_alias = "error")]
    err: bool,
    /// Only the other lines
    #[arg(long, conflicts_with = "err")]
    out: bool,
    /// The text alone, without time and unit
    #[arg(long)]
    raw: bool,
    /// Lines of key=value, as PM2 writes them: timestamp (UTC), app, id, unit, type (out, error), message
    #[arg(long, conflicts_with_all = ["raw", "timestamp", "highlight", "json"])]
    format: bool,
    /// How the time is written; without a word: iso
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "iso", conflicts_with = "raw")]
    timestamp: Option<Timestamp>,
    /// Make this word stand out, on a terminal
    #[arg(long, value_name = "WORD", conflicts_with = "raw")]
    highlight: Option<String>,
    /// Do not follow (the default; for PM2's sake)
    #[arg(long, hide = true, conflicts_with = "follow")]
    nostream: bool,
}

/// `--timestamp`, as journalctl has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Timestamp {
    /// Nov 21 12:00:00
    Short,
    /// 2026-11-21T12:00:00+0100
    Iso,
    /// Nov 21 12:00:00.123456
    Precise,
    /// Sat 2026-11-21 12:00:00 CET
    Full,
    /// Seconds since 1970
    Unix,
}

/// Without `--lines` and `--since`.
const LINES: u32 = 15;
/// Longer lines are painted piece by piece, so that none has to be held as a whole.
const LONGEST: u64 = 64 << 10;
/// Longer entries of the journal than this, as JSON, are left out of `--format`; a line of a program has 48 KiB at the most.
const ENTRY_LONGEST: u64 = 4 << 20;

/// A reload uses slots above the number of workers, and so may `scale`.
const SPARE_SLOTS: u32 = 8;

/// Becomes journalctl, or on a terminal paints what it says.
pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let words = if arguments.targets.is_empty() { vec!["all".to_owned()] } else { arguments.targets.clone() };
    let all_scopes = asked.for_all();
    if !journal::is_readable() {
        printer.warning(
            "no journal can be read: journald keeps one for each user only on disk (Storage=persistent in \
             /etc/systemd/journald.conf); else who may read is in the group systemd-journal",
        );
    }
    let targets = if arguments.targets.is_empty() {
        let mut targets = Vec::new();
        for scope in &all_scopes {
            targets.extend(apps::names(*scope)?.into_iter().map(|name| (*scope, Target::App(name))));
        }
        targets
    } else {
        if let Some(form) = arguments.targets.iter().find(|word| arguments.timestamp.is_some() && is_form(word)) {
            return Err(Failure::Usage(format!(
                "--timestamp takes no form such as {form}: write --timestamp=short, iso, precise, full or unix"
            )));
        }
        selector::targets(&words, asked).await?
    };
    ids::tell(&arguments.targets, &targets, asked, printer);
    let Some((scope, _)) = targets.last() else {
        return Err(Failure::UnknownApp("there are no apps yet: `appctl start SCRIPT` makes one".into()));
    };
    let scope = *scope;
    let (here, elsewhere): (Vec<_>, Vec<_>) = targets.into_iter().partition(|(of, _)| *of == scope);
    if !elsewhere.is_empty() {
        printer.note("showing your own apps; add --system for the system's");
    }
    let mut query = Query {
        manager: apps::manager(scope),
        matches: here.iter().map(|(_, target)| matches(scope, target)).collect(),
        lines: arguments.lines.or(if arguments.since.is_some() { None } else { Some(LINES) }),
        since: arguments.since.clone(),
        from: None,
        follow: arguments.follow,
        levels: match (arguments.err, arguments.out) {
            (true, _) => Levels::Errors,
            (_, true) => Levels::Others,
            _ => Levels::All,
        },
        output: match (printer.json, arguments.raw, arguments.timestamp) {
            (true, ..) => Output::Json,
            (_, true, _) => Output::Raw,
            (.., Some(Timestamp::Iso)) => Output::Iso,
            (.., Some(Timestamp::Precise)) => Output::Precise,
            (.., Some(Timestamp::Full)) => Output::Full,
            (.., Some(Timestamp::Unix)) => Output::Unix,
            _ => Output::Short,
        },
    };
    query.begin_with_the_newest().map_err(|error| Failure::failed(format!("cannot read the journal: {error}")))?;
    if arguments.err && !arguments.follow {
        hint(&query, printer);
    }
    if arguments.format {
        let wanted = selector::wanted(&arguments.targets, asked).await?;
        let ids = Ids::of(&ids::look(&wanted, asked).await?);
        let query = Query { output: Output::Fields(keyed::FIELDS), ..query };
        return passed_on(&query, |entry| ids.line(entry).map_or_else(String::new, |line| line + "\n"), ENTRY_LONGEST)
            .map_err(|error| Failure::failed(format!("cannot read the journal: {error}")));
    }
    if printer.colours() && !printer.json && !arguments.raw {
        let mut palette = Palette::default();
        let highlight = arguments.highlight.as_deref();
        return passed_on(&query, |line| palette.paint(line, highlight), LONGEST)
            .map_err(|error| Failure::failed(format!("cannot read the journal: {error}")));
    }
    let error = query.exec();
    Err(Failure::failed(format!("cannot run journalctl: {error}")))
}

/// Passes lines on as they come, each in its new form. Holds one line at a time, and of that no more than `longest`.
fn passed_on(query: &Query, mut form: impl FnMut(&str) -> String, longest: u64) -> io::Result<u8> {
    let mut journalctl = query.spawn()?;
    let mut lines = BufReader::new(journalctl.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut line = Vec::new();
    let passed = loop {
        line.clear();
        match (&mut lines).take(longest).read_until(b'\n', &mut line) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
        let text = form(&String::from_utf8_lossy(&line));
        let mut written = out.write_all(text.as_bytes());
        // What comes now is to be seen now.
        if lines.buffer().is_empty() {
            written = written.and_then(|()| out.flush());
        }
        if let Err(error) = written {
            break Err(error);
        }
    };
    let passed = passed.and_then(|()| out.flush());
    // It may still follow, with nobody to read it.
    let _ = journalctl.kill();
    let ended = journalctl.wait()?;
    match passed {
        Ok(()) => Ok(u8::try_from(ended.code().unwrap_or(0)).unwrap_or(FAILED)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(DONE),
        Err(error) => Err(error),
    }
}

/// What PM2 takes for the form of a time.
fn is_form(word: &str) -> bool {
    word.contains(':') || ["YY", "HH", "DD"].iter().any(|part| word.contains(part))
}

/// Who writes in which colour, in the order of their first lines.
#[derive(Debug, Default)]
struct Palette(HashMap<String, usize>);

impl Palette {
    const COLOURS: [&str; 10] = ["36", "32", "33", "35", "34", "96", "92", "93", "95", "94"];

    /// A line of journalctl's short forms, `TIME shop@1[4711]: text`.
    fn paint(&mut self, line: &str, highlight: Option<&str>) -> String {
        let painted = self.of_its_writer(line).unwrap_or_else(|| line.to_owned());
        match highlight.filter(|word| !word.is_empty()) {
            // Reversed, and not in a colour: the line may have one.
            Some(word) => painted.replace(word, &format!("\x1b[7m{word}\x1b[27m")),
            None => painted,
        }
    }

    fn of_its_writer(&mut self, line: &str) -> Option<String> {
        if line.starts_with(' ') || line.starts_with("-- ") {
            return None;
        }
        let (head, text) = line.split_once(": ")?;
        let (time, writer) = head.rsplit_once(' ')?;
        let name = writer.split('[').next().unwrap_or(writer);
        let next = self.0.len();
        let at = *self.0.entry(name.to_owned()).or_insert(next);
        let colour = Self::COLOURS[at % Self::COLOURS.len()];
        Some(format!("\x1b[2m{time}\x1b[0m \x1b[{colour}m{writer}\x1b[0m: {text}"))
    }
}

/// Whoever looks for what a program has written to standard error finds it among all lines: the journal has both streams of a
/// unit as one.
fn hint(query: &Query, printer: &Printer) {
    let one = Query { lines: Some(1), since: query.since.clone(), from: None, output: Output::Raw, ..query.clone() };
    if one.read().is_ok_and(|lines| lines.is_empty()) {
        printer.note(
            "--err: no line of priority err, or worse. Standard output and error of a program are one stream of the journal: what \
             it wrote to either (console.error, the trace of a crash) is in `appctl logs` without --err; a `<3>` before a line \
             makes it an error.",
        );
    }
}

/// The lines of one target.
pub(super) fn matches(scope: Scope, target: &Target) -> Match {
    let names = names::units(scope, target.app());
    match target {
        Target::Worker { app, slot } => {
            Match { of: Of::Worker { app: app.clone(), slot: slot.clone() }, units: vec![names.slot(slot)] }
        }
        Target::App(app) => {
            let workers = apps::read(scope, app).map_or(1, |loaded| loaded.workers());
            let slots = (1..=workers + SPARE_SLOTS).map(|slot| names.slot(slot));
            let units = [names.router.clone()].into_iter().chain(slots).collect();
            Match { of: Of::App(app.clone()), units }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_writer_has_a_colour() {
        let mut palette = Palette::default();
        let one = palette.paint("Nov 21 12:00:00 shop@1[7]: a: b\n", None);
        assert_eq!(one, "\x1b[2mNov 21 12:00:00\x1b[0m \x1b[36mshop@1[7]\x1b[0m: a: b\n");
        let other = palette.paint("2026-11-21T12:00:00+0000 shop@2[8]: x\n", None);
        assert!(other.contains("\x1b[32mshop@2[8]\x1b[0m: x"), "{other}");
        assert!(palette.paint("Nov 21 12:00:00 shop@1[9]: again\n", None).contains("\x1b[36mshop@1[9]"));
        for plain in ["-- Boot 7 --\n", "      a second line: of it\n", "\n"] {
            assert_eq!(palette.paint(plain, None), plain);
        }
    }

    #[test]
    fn a_word_stands_out() {
        let text = Palette::default().paint("Nov 21 12:00:00 shop@1[7]: a timeout of 1 s\n", Some("timeout"));
        assert!(text.ends_with(": a \x1b[7mtimeout\x1b[27m of 1 s\n"), "{text}");
    }
}
