//! What is written where: data on standard output, progress and errors on standard error; tables and human units.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use unicode_width::UnicodeWidthStr;

/// Decides what is printed and how. Commands print through it alone.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    pub json: bool,
    pub quiet: bool,
    /// Standard output is a terminal of this many columns.
    pub width: Option<usize>,
    colour_out: bool,
    colour_err: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colour {
    #[default]
    Plain,
    Green,
    Yellow,
    Red,
    Dim,
    Bold,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Red => "\x1b[31m",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
        }
    }
}

impl Printer {
    pub fn new(json: bool, quiet: bool) -> Self {
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let width = io::stdout().is_terminal().then(|| {
            terminal_size::terminal_size().map_or(80, |(terminal_size::Width(columns), _)| usize::from(columns))
        });
        Self {
            json,
            quiet,
            width,
            colour_out: allowed && width.is_some(),
            colour_err: allowed && io::stderr().is_terminal(),
        }
    }

    pub fn without_colours(self) -> Self {
        Self { colour_out: false, colour_err: false, ..self }
    }

    /// Data: standard output. A reader that went away is a normal end.
    pub fn data(&self, text: &str) {
        let mut out = io::stdout().lock();
        if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
            std::process::exit(i32::from(error.kind() != io::ErrorKind::BrokenPipe));
        }
    }

    /// A value as JSON: standard output, one document.
    pub fn json(&self, value: &impl serde::Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.data(&text),
            Err(error) => self.error(&error.to_string()),
        }
    }

    /// How it goes: standard error, unless --quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            to_stderr(text);
        }
    }

    /// Something that the operator should know, though it went on.
    pub fn warning(&self, text: &str) {
        to_stderr(&format!("{}: {text}", self.paint_err("warning", Colour::Yellow)));
    }

    /// Why it did not work.
    pub fn error(&self, text: &str) {
        to_stderr(&format!("{}: {text}", self.paint_err("error", Colour::Red)));
    }

    /// Text that goes with an error: always on standard error.
    pub fn detail(&self, text: &str) {
        to_stderr(text);
    }

    /// Whether standard output is a terminal that may be painted on.
    pub fn colours(&self) -> bool {
        self.colour_out
    }

    pub fn paint(&self, text: &str, colour: Colour) -> String {
        paint(text, colour, self.colour_out)
    }

    pub fn paint_err(&self, text: &str, colour: Colour) -> String {
        paint(text, colour, self.colour_err)
    }

    pub fn table(&self, table: &Table) {
        self.data(&table.render(self.width, self.colour_out));
    }
}

fn paint(text: &str, colour: Colour, allowed: bool) -> String {
    if allowed && colour != Colour::Plain { format!("{}{text}\x1b[0m", colour.code()) } else { text.to_owned() }
}

/// Nobody is left to tell when standard error is gone.
fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Columns of a left-aligned cell that a narrow terminal spares for as long as there is something else to leave out.
const LEGIBLE: usize = 20;
/// The same, where little else is left.
const SCANT: usize = 10;

/// One cell: its text, and a colour for terminals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub colour: Colour,
}

impl Cell {
    pub fn coloured(text: impl Into<String>, colour: Colour) -> Self {
        Self { text: text.into(), colour }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), colour: Colour::Plain }
    }
}

/// Rows in columns, two blanks between them.
#[derive(Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// Titles of the columns that a narrow terminal goes without, the first of them first.
    dispensable: &'static [&'static str],
    /// Those that only a very narrow one goes without.
    at_last: &'static [&'static str],
    /// How wide columns are at the least, so that they stay where they are while values change.
    steady: &'static [(&'static str, usize)],
}

#[derive(Debug)]
struct Column {
    title: &'static str,
    right: bool,
}

impl Table {
    /// A title that begins with `>` is of a column aligned to the right.
    pub fn new(titles: &[&'static str]) -> Self {
        let columns = titles.iter().map(|title| match title.strip_prefix('>') {
            Some(title) => Column { title, right: true },
            None => Column { title, right: false },
        });
        Self { columns: columns.collect(), rows: Vec::new(), dispensable: &[], at_last: &[], steady: &[] }
    }

    /// Where the terminal is too narrow, these columns are left out, one after the other, until the rest is legible;
    /// then those of `at_last`, until it can be read at all.
    pub fn giving_up(self, dispensable: &'static [&'static str], at_last: &'static [&'static str]) -> Self {
        Self { dispensable, at_last, ..self }
    }

    /// Columns that are at least so wide.
    pub fn steady(self, steady: &'static [(&'static str, usize)]) -> Self {
        Self { steady, ..self }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// `width`: columns of the terminal; wider tables lose the columns that they can do without, then the end of their
    /// longest left-aligned cells.
    pub fn render(&self, width: Option<usize>, colour: bool) -> String {
        let lines = self.laid_out(width).into_iter().map(|row| {
            let mut line = String::new();
            for Laid { before, cell, after } in row {
                line.extend(std::iter::repeat_n(' ', before));
                line.push_str(&paint(&cell.text, cell.colour, colour));
                line.extend(std::iter::repeat_n(' ', after));
            }
            line.truncate(line.trim_end().len());
            line
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The titles and the rows as they are to be written, each cell with the blanks around it.
    pub fn laid_out(&self, width: Option<usize>) -> Vec<Vec<Laid>> {
        let (widths, shown) = self.fit(width);
        let titles = self.columns.iter().map(|column| Cell::coloured(column.title, Colour::Bold)).collect();
        std::iter::once(&titles).chain(&self.rows).map(|row| self.line(row, &widths, &shown)).collect()
    }

    /// How wide each column is, and which are shown.
    fn fit(&self, width: Option<usize>) -> (Vec<usize>, Vec<bool>) {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.width());
                let steady =
                    self.steady.iter().find(|(title, _)| *title == column.title).map_or(0, |(_, least)| *least);
                cells.max().unwrap_or(0).max(column.title.len()).max(steady)
            })
            .collect();
        let mut shown = vec![true; widths.len()];
        let Some(width) = width else { return (widths, shown) };
        let excess = |widths: &[usize], shown: &[bool]| {
            let those = widths.iter().zip(shown).filter(|(_, shown)| **shown);
            (those.map(|(width, _)| width + 2).sum::<usize>()).saturating_sub(2).saturating_sub(width)
        };
        for (those, least) in [(self.dispensable, LEGIBLE), (self.at_last, SCANT)] {
            // As much as a long state may lose and still be understood.
            let spared = |widths: &[usize], shown: &[bool]| {
                let long = (0..widths.len()).filter(|at| shown[*at] && !self.columns[*at].right);
                long.map(|at| widths[at].saturating_sub(least)).sum::<usize>()
            };
            for title in those {
                if excess(&widths, &shown) <= spared(&widths, &shown) {
                    break;
                }
                let column = self.columns.iter().position(|it| it.title == *title);
                column.into_iter().for_each(|at| shown[at] = false);
            }
        }
        for _ in 0..excess(&widths, &shown) {
            let long = (0..widths.len()).filter(|at| shown[*at] && !self.columns[*at].right);
            let longest = long.max_by_key(|at| widths[*at]);
            let Some(at) = longest.filter(|at| widths[*at] > 2) else { break };
            widths[at] -= 1;
        }
        (widths, shown)
    }

    fn line(&self, row: &[Cell], widths: &[usize], shown: &[bool]) -> Vec<Laid> {
        let cells = row.iter().enumerate().filter(|(at, _)| shown[*at]).enumerate();
        let laid = cells.map(|(nth, (at, cell))| {
            let text = shorten(&cell.text, widths[at]);
            let padding = widths[at].saturating_sub(text.width());
            let gap = if nth > 0 { 2 } else { 0 };
            let (before, after) = if self.columns[at].right { (gap + padding, 0) } else { (gap, padding) };
            Laid { before, cell: Cell { text, colour: cell.colour }, after }
        });
        laid.collect()
    }
}

/// A cell in its place: blanks, text, blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laid {
    pub before: usize,
    pub cell: Cell,
    pub after: usize,
}

/// `1 session`, `2 sessions`.
pub(super) fn many(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// At most `width` columns wide; what was cut ends in an ellipsis.
pub(super) fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for character in text.chars() {
        if short.width() + unicode_width::UnicodeWidthChar::width(character).unwrap_or(0) + 1 > width {
            break;
        }
        short.push(character);
    }
    short.push('…');
    short
}

/// A line without what would move the cursor or change colours: ECMA-48's control sequences.
pub(super) fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                // Parameters, then one final byte.
                while rest.next().is_some_and(|it| !('\u{40}'..='\u{7e}').contains(&it)) {}
            }
            '\u{1b}' if rest.next_if_eq(&']').is_some() => {
                // Operating system commands: to BEL, or to the escape of ST.
                while rest.next_if(|it| !matches!(it, '\u{7}' | '\u{1b}')).is_some() {}
            }
            '\t' => plain.push_str("    "),
            _ if character.is_control() => {}
            _ => plain.push(character),
        }
    }
    plain
}

/// Text that begins in column `indent` and goes on there on as many lines as it takes, broken between words.
pub(super) fn wrap(text: &str, indent: usize, width: Option<usize>) -> String {
    let Some(room) = width.map(|width| width.saturating_sub(indent).max(16)) else { return text.to_owned() };
    let mut wrapped = String::new();
    let mut used = 0;
    for (at, word) in text.split(' ').enumerate() {
        let wide = plain(word).width();
        if at > 0 && used > 0 && used + 1 + wide > room {
            wrapped.push('\n');
            wrapped.extend(std::iter::repeat_n(' ', indent));
            used = 0;
        } else if at > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += wide;
    }
    wrapped
}

/// `3s`, `5m`, `2h 10m`, `3d 4h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit} {small}{small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", 0, ""),
        3600..86400 => two(seconds / 3600, "h", seconds / 60 % 60, "m"),
        _ => two(seconds / 86400, "d", seconds / 3600 % 24, "h"),
    }
}

/// Bytes to base 1024, as systemd counts: `512B`, `1.5K`, `48.2M`.
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64;
    let mut unit = 'B';
    for next in ['K', 'M', 'G', 'T'] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", ">PID", "STATE"]);
        table.row(vec!["shop".into(), "7".into(), Cell::coloured("ready", Colour::Green)]);
        table.row(vec!["größe-of-a-long-name".into(), "12345".into(), "failed (exit-code)".into()]);
        table
    }

    #[test]
    fn a_table_in_a_pipe() {
        let expected = "\
NAME                    PID  STATE
shop                      7  ready
größe-of-a-long-name  12345  failed (exit-code)";
        assert_eq!(table().render(None, false), expected);
    }

    #[test]
    fn a_narrow_terminal_cuts_the_longest() {
        let rendered = table().render(Some(38), false);
        let expected = "\
NAME               PID  STATE
shop                 7  ready
größe-of-a-lo…   12345  failed (exit…";
        assert!(rendered.lines().all(|line| line.width() <= 38), "{rendered}");
        assert_eq!(rendered.replace("  ", " ").len() > 10, expected.len() > 10);
        assert!(rendered.contains('…'));
    }

    #[test]
    fn colour_does_not_move_columns() {
        let plain = table().render(None, false);
        let coloured = table().render(None, true);
        assert!(coloured.contains("\x1b[32mready\x1b[0m"));
        let stripped = coloured.replace("\x1b[32m", "").replace("\x1b[1m", "").replace("\x1b[0m", "");
        let trim = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(trim(&stripped), trim(&plain));
    }

    #[test]
    fn no_terminal_is_too_narrow() {
        let table = || {
            let mut table = Table::new(&["NAME", "SLOT", "STATE", "RESTARTS", ">CPU", ">MEMORY"])
                .giving_up(&["MEMORY"], &["RESTARTS", "CPU", "SLOT"]);
            let row = ["shop", "1", "failed (exit status 7)", "12 (out of memory)", "103.0%", "1023.9M"];
            table.row(row.map(Cell::from).into());
            table
        };
        for width in 8..100 {
            let text = table().render(Some(width), false);
            assert!(text.lines().all(|line| line.width() <= width), "{width}\n{text}");
            // A number is whole, or not there at all.
            assert_eq!(text.contains("MEMORY"), text.contains("1023.9M"), "{width}\n{text}");
            assert_eq!(text.contains("CPU"), text.contains("103.0%"), "{width}\n{text}");
        }
        assert!(table().render(Some(40), false).contains("failed (e"), "{}", table().render(Some(40), false));
        let steady = table().steady(&[("CPU", 9)]).render(None, false);
        assert!(steady.contains("     103.0%") && steady.contains("       CPU"), "{steady}");
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(
            plain("a \u{1b}[1;31mline\u{1b}[0m\tof\u{7} \u{1b}]0;title\u{7}colour\u{1b}["),
            "a line    of colour"
        );
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrap("one two three four", 4, Some(20)), "one two three\n    four");
        assert_eq!(wrap("one two", 4, None), "one two");
        assert_eq!(wrap("a\u{1b}[31mverylongwordofmorethan16\u{1b}[0m b", 2, Some(10)).lines().count(), 2);
        assert_eq!(wrap("    at x (y)", 6, Some(80)), "    at x (y)");
    }

    #[test]
    fn spans() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!([of(0), of(59), of(60), of(3599)], ["0s", "59s", "1m", "59m"]);
        assert_eq!([of(3600), of(7810), of(86400), of(100_000)], ["1h", "2h 10m", "1d", "1d 3h"]);
    }

    #[test]
    fn sizes() {
        assert_eq!(
            [size(0), size(1023), size(1536), size(50 << 20), size(3 << 40)],
            ["0B", "1023B", "1.5K", "50.0M", "3.0T"]
        );
    }
}
