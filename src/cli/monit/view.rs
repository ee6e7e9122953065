//! The monitor's screen: a table, four graphs, a log, keys.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Borders, Clear, Paragraph, Sparkline};
use unicode_width::UnicodeWidthChar;

use super::model::{Dialog, History, Model, Row};
use crate::cli::follow::Entry;
use crate::cli::list;
use crate::cli::print::{self, Colour, Laid};

/// The widest that fits is shown.
const KEYS: [&str; 3] = [
    "↑↓ choose   r reload   R restart   s scale   ? help   q quit",
    "↑↓  r reload  s scale  ? help  q quit",
    "? help   q quit",
];
const HELP: [&str; 8] = [
    "↑ ↓ j k        choose a worker or a router",
    "PgUp PgDn      a page of them",
    "Home End g G   the first, the last",
    "r              reload the app: new workers, one after the other",
    "R              restart the worker, or the whole app",
    "s              scale the app to a number of workers",
    "q Esc          leave; the apps run on",
    "Any key closes this.",
];
const GRAPHS_HEIGHT: u16 = 6;
const SHOWN_WIDTH: u16 = 44;

/// Draws everything. `colour`: the terminal may be given colours.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, colour: bool) {
    let paint = Paint(colour);
    let [title, table, graphs, log, foot] = parts(frame.area(), model.rows().len());
    frame.render_widget(Paragraph::new(headline(model, paint, title.width)), title);
    draw_table(frame, model, paint, table);
    if let Some(row) = model.chosen() {
        draw_graphs(frame, row, model.history(row), paint, graphs);
    }
    let (log, shown) = beside(log, model.chosen());
    draw_log(frame, model, paint, log);
    if let (Some(row), Some(shown)) = (model.chosen(), shown) {
        draw_shown(frame, row, paint, shown);
    }
    let keys = KEYS.into_iter().find(|keys| Span::raw(*keys).width() <= usize::from(foot.width)).unwrap_or_default();
    frame.render_widget(Paragraph::new(Line::styled(keys, paint.dim())), foot);
    if let Some(dialog) = &model.dialog {
        draw_dialog(frame, dialog, paint);
    }
}

/// Title, table, graphs, log, keys. A small terminal loses the graphs first, then the log.
fn parts(area: Rect, rows: usize) -> [Rect; 5] {
    let rest = area.height.saturating_sub(2);
    let wanted = u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(1).max(2);
    let graphs = if rest >= 16 { GRAPHS_HEIGHT } else { 0 };
    let room = rest - graphs.min(rest);
    // The log is not to be squeezed by forty workers.
    let log = if rest >= 12 { (room / 3).max(5) } else { 0 };
    let table = wanted.min(room.saturating_sub(log)).max(2).min(rest);
    Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(table),
        Constraint::Length(graphs),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area)
}

/// Styles, or none.
#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn of(self, colour: Colour) -> Style {
        match colour {
            Colour::Plain => Style::new(),
            Colour::Bold => Style::new().add_modifier(Modifier::BOLD),
            Colour::Dim => self.dim(),
            Colour::Green => self.fore(Color::Green),
            Colour::Yellow => self.fore(Color::Yellow),
            Colour::Red => self.fore(Color::Red),
        }
    }

    fn fore(self, colour: Color) -> Style {
        if self.0 { Style::new().fg(colour) } else { Style::new() }
    }

    fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}

fn headline(model: &Model, paint: Paint, width: u16) -> Line<'static> {
    let width = usize::from(width);
    let workers: usize = model.apps.iter().map(|app| app.workers.len()).sum();
    let sessions: u64 = model.apps.iter().filter_map(|app| app.router.sessions).sum();
    let mut sum = print::many(model.apps.len() as u64, "app");
    for more in [print::many(workers as u64, "worker"), print::many(sessions, "session")] {
        if sum.len() + 2 + more.len() <= width {
            sum.push_str(&format!(", {more}"));
        }
    }
    let title = "appctl monit  ";
    let mut spans = Vec::new();
    if title.len() + sum.len() <= width {
        spans.push(Span::styled(title, paint.of(Colour::Bold)));
    }
    spans.push(Span::raw(sum));
    let told = match (&model.stale, &model.message) {
        (Some(problem), _) => Some((problem, Colour::Red)),
        (None, message) => message.as_ref().map(|message| (message, Colour::Yellow)),
    };
    if let Some((told, colour)) = told {
        let used: usize = spans.iter().map(Span::width).sum();
        if width < used + 2 + told.len().min(24) {
            // It is news; the numbers can be counted.
            spans.clear();
        } else {
            spans.push(Span::raw("  "));
        }
        let room = width.saturating_sub(spans.iter().map(Span::width).sum());
        spans.push(Span::styled(print::shorten(told, room), paint.of(colour)));
    }
    Line::from(spans)
}

fn draw_table(frame: &mut Frame<'_>, model: &mut Model, paint: Paint, area: Rect) {
    let rows = model.rows();
    if rows.is_empty() {
        let text = "There are no apps yet: `appctl start SCRIPT` makes one.";
        frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    let count = rows.len();
    let table = list::steady_table(rows.iter().map(|row| (row.app, row.unit)));
    let laid = table.laid_out(Some(usize::from(area.width)));
    let place = model.place();
    let height = usize::from(area.height.saturating_sub(1));
    // The last line tells what is beyond, where there is room for that.
    let seen = if count > height && height > 1 { height - 1 } else { height };
    let mut offset = model.offset.min(count.saturating_sub(seen));
    if let Some(at) = place {
        offset = offset.min(at).max((at + 1).saturating_sub(seen));
    }
    let mut lines = Vec::with_capacity(height + 1);
    for (at, row) in laid.into_iter().enumerate() {
        let number = at.checked_sub(1);
        if number.is_some_and(|number| number < offset || number >= offset + seen) {
            continue;
        }
        let chosen = number.is_some() && number == place;
        lines.push(table_line(row, chosen, paint, usize::from(area.width)));
    }
    let (above, below) = (offset, count.saturating_sub(offset + seen));
    if seen < height {
        let told = [(above, "↑"), (below, "↓")].map(|(many, arrow)| format!("{arrow} {many} more"));
        let told: Vec<_> = told.into_iter().zip([above, below]).filter(|(_, many)| *many > 0).collect();
        let text = told.into_iter().map(|(text, _)| text).collect::<Vec<_>>().join("   ");
        lines.push(Line::styled(text, paint.dim()));
    }
    frame.render_widget(Paragraph::new(lines), area);
    model.offset = offset;
    model.page = seen;
}

/// The chosen one is reversed from edge to edge.
fn table_line(row: Vec<Laid>, chosen: bool, paint: Paint, width: usize) -> Line<'static> {
    let mut spans = Vec::new();
    for Laid { before, cell, after } in row {
        let style = if chosen { Style::new() } else { paint.of(cell.colour) };
        spans.push(Span::raw(" ".repeat(before)));
        spans.push(Span::styled(cell.text, style));
        spans.push(Span::raw(" ".repeat(after)));
    }
    let line = Line::from(spans);
    if !chosen {
        return line;
    }
    let mut line = line;
    line.push_span(Span::raw(" ".repeat(width.saturating_sub(line.width()))));
    line.style(Style::new().add_modifier(Modifier::REVERSED))
}

/// What a graph shows.
struct Graph<'a> {
    title: &'static str,
    now: Option<String>,
    values: Option<&'a VecDeque<u64>>,
    colour: Color,
    /// The least that its height stands for, in the values' unit: small values are to look small.
    least: u64,
    /// How its height is written.
    write: fn(u64) -> String,
}

/// The next of 1, 2, 5, 10, 20, … that is no less; so the scale changes seldom.
fn round_up(value: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for step in [1, 2, 5] {
            let round = power.saturating_mul(step);
            if round >= value {
                return round;
            }
        }
        power = power.saturating_mul(10);
    }
}

fn draw_graphs(frame: &mut Frame<'_>, row: Row<'_>, history: Option<&History>, paint: Paint, area: Rect) {
    const NARROWEST: u16 = 20;
    if area.height == 0 {
        return;
    }
    let unit = row.unit;
    let graphs = [
        Graph {
            title: "CPU",
            now: unit.cpu_percent.map(|percent| format!("{percent:.1}%")),
            values: history.map(|it| &it.cpu),
            colour: Color::Green,
            least: 100,
            write: |tenths| format!("{}%", tenths / 10),
        },
        Graph {
            title: "Memory",
            now: unit.memory_bytes.map(print::size),
            values: history.map(|it| &it.memory),
            colour: Color::Blue,
            least: 16 << 20,
            write: |bytes| print::size(bytes).replace(".0", ""),
        },
        Graph {
            title: "Lag",
            now: unit.lag_ms.map(|lag| format!("{lag:.1}ms")),
            values: history.map(|it| &it.lag),
            colour: Color::Yellow,
            least: 10_000,
            write: |micros| format!("{}ms", micros / 1000),
        },
        Graph {
            title: "Sessions",
            now: unit.sessions.map(|it| it.to_string()),
            values: history.map(|it| &it.sessions),
            colour: Color::Magenta,
            least: 10,
            write: |sessions| sessions.to_string(),
        },
    ];
    // As many as can be read.
    let many = usize::from(area.width / NARROWEST).clamp(1, graphs.len());
    let places = Layout::horizontal(vec![Constraint::Fill(1); many]).split(area);
    let empty = VecDeque::new();
    for (graph, place) in graphs.into_iter().zip(places.iter()) {
        let values = graph.values.unwrap_or(&empty);
        let block = Block::new().borders(Borders::ALL).border_type(BorderType::Plain).border_style(paint.dim());
        let inside = usize::from(block.inner(*place).width);
        // The newest at the right edge.
        let shown: Vec<u64> = values.iter().copied().skip(values.len().saturating_sub(inside)).collect();
        let lead = vec![0; inside.saturating_sub(shown.len())];
        let most = shown.iter().copied().max().unwrap_or(0).max(graph.least);
        // Memory is counted in powers of two.
        let most = if graph.title == "Memory" { most.next_power_of_two() } else { round_up(most) };
        let title = format!(" {} {} ", graph.title, graph.now.unwrap_or_else(|| "-".to_owned()));
        let scale = format!(" {} ", (graph.write)(most));
        let fits = Span::raw(&title).width() + Span::raw(&scale).width() < inside;
        let block = block.title(title);
        let block = if fits { block.title(Line::styled(scale, paint.dim()).right_aligned()) } else { block };
        let data: Vec<u64> = lead.into_iter().chain(shown).collect();
        frame.render_widget(
            Sparkline::default().block(block).data(data).max(most).style(paint.fore(graph.colour)),
            *place,
        );
    }
}

fn draw_log(frame: &mut Frame<'_>, model: &Model, paint: Paint, area: Rect) {
    if area.height == 0 {
        return;
    }
    let name = model.chosen().map_or_else(String::new, |row| match &row.unit.slot {
        Some(slot) => format!("{}@{slot} ", row.app.name),
        None => format!("{}, all of it ", row.app.name),
    });
    let block = Block::new().borders(Borders::TOP).border_style(paint.dim()).title(format!(" log {name}"));
    let inside = block.inner(area);
    let (room, width) = (usize::from(inside.height), usize::from(inside.width));
    let mut lines: VecDeque<Line<'_>> = VecDeque::new();
    for entry in model.log.iter().rev() {
        for piece in pieces(entry, width).into_iter().rev() {
            let style = if entry.error { paint.of(Colour::Red) } else { Style::new() };
            lines.push_front(Line::styled(piece, style));
        }
        if lines.len() >= room {
            break;
        }
    }
    lines.drain(..lines.len().saturating_sub(room));
    frame.render_widget(Paragraph::new(Vec::from(lines)).block(block), area);
}

/// A line as wide as the log: what does not fit goes on below, set in, for a few lines.
fn pieces(entry: &Entry, width: usize) -> Vec<String> {
    const MOST: usize = 4;
    const INDENT: &str = "    ";
    const NARROW: usize = 80;
    /// A word that is no longer goes to the next line as a whole.
    const WORD: usize = 16;
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for character in without_date(&entry.text, width < NARROW).chars() {
        let (wide, many) = (character.width().unwrap_or(0), pieces.len());
        if used + wide > width
            && width > WORD + INDENT.len()
            && let Some(last) = pieces.last_mut()
        {
            if many == MOST {
                last.pop();
                last.push('…');
                break;
            }
            let at = last.rfind(' ').filter(|at| character != ' ' && last.len() - at <= WORD);
            let word = at.map(|at| last.split_off(at)).unwrap_or_default();
            let next = format!("{INDENT}{}", word.trim_start());
            used = Span::raw(next.as_str()).width();
            pieces.push(next);
            if character == ' ' {
                continue;
            }
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(character);
        }
        used += wide;
    }
    pieces
}

/// `Nov 21 12:00:00 shop: text` without the day, where there is little room.
fn without_date(text: &str, narrow: bool) -> &str {
    let bytes = text.as_bytes();
    let dated = [(3, b' '), (6, b' '), (9, b':'), (12, b':')].iter().all(|(at, it)| bytes.get(*at) == Some(it));
    text.get(7..).filter(|_| narrow && dated).unwrap_or(text)
}

/// Where the log is, and beside it what the chosen one's app shows of itself, if there is room for both.
fn beside(area: Rect, row: Option<Row<'_>>) -> (Rect, Option<Rect>) {
    if area.width < 100 || area.height < 4 || row.is_none_or(|row| row.unit.metrics.is_empty()) {
        return (area, None);
    }
    let [log, shown] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(SHOWN_WIDTH)]).areas(area);
    (log, Some(shown))
}

fn draw_shown(frame: &mut Frame<'_>, row: Row<'_>, paint: Paint, area: Rect) {
    let block = Block::new().borders(Borders::TOP).border_style(paint.dim()).title(" metrics of its own ");
    let inside = block.inner(area);
    let (room, width) = (usize::from(inside.height), usize::from(inside.width));
    let mut metrics: Vec<_> = row.unit.metrics.iter().collect();
    metrics.sort_by_key(|metric| metric.is_internal());
    let fits = metrics.len() <= room;
    let shown = if fits { metrics.len() } else { room.saturating_sub(1) };
    let line = |metric: &&crate::wire::axm::Metric| {
        let value = print::shorten(&metric.text(), width / 2);
        let name = print::shorten(&metric.name, width.saturating_sub(2 + Span::raw(value.as_str()).width()));
        let gap = width.saturating_sub(1 + Span::raw(name.as_str()).width() + Span::raw(value.as_str()).width());
        Line::from(vec![Span::raw(" "), Span::styled(name, paint.dim()), Span::raw(" ".repeat(gap)), Span::raw(value)])
    };
    let mut lines: Vec<Line<'_>> = metrics.iter().take(shown).map(line).collect();
    if !fits {
        lines.push(Line::styled(format!(" … {} more: appctl status", metrics.len() - shown), paint.dim()));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_dialog(frame: &mut Frame<'_>, dialog: &Dialog, paint: Paint) {
    let (title, lines) = match dialog {
        Dialog::Sure { question, .. } => (" Sure? ", vec![question.clone(), String::new(), "y yes   n no".to_owned()]),
        Dialog::Scale { app, typed, .. } => (
            " Scale ",
            vec![
                format!("How many workers for {app}? {typed}▏"),
                String::new(),
                "Enter does it   Esc leaves it".to_owned(),
            ],
        ),
        Dialog::Help => (" Keys ", HELP.map(str::to_owned).to_vec()),
    };
    let area = frame.area();
    let wanted = lines.iter().map(|line| Line::raw(line.as_str()).width()).max().unwrap_or(0) + 4;
    let width = u16::try_from(wanted).unwrap_or(area.width).min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(area.height).min(area.height);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered()
        .title(title)
        .border_style(paint.of(Colour::Bold))
        .padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, place);
    frame.render_widget(
        Paragraph::new(lines.into_iter().map(Line::raw).collect::<Vec<_>>())
            .block(block)
            .wrap(ratatui::widgets::Wrap { trim: true }),
        place,
    );
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::list::tests::shop;
    use crate::cli::list::{AppNow, UnitNow};
    use crate::cli::monit::model::Key;

    /// An app with so many workers, looked at for a while.
    fn model(workers: usize) -> Model {
        let mut model = Model::default();
        for look in 0..30_u64 {
            let worker = |slot: usize| UnitNow {
                unit: format!("shop@{slot}.service"),
                slot: Some(slot.to_string()),
                id: u32::try_from(slot - 1).ok(),
                index: u32::try_from(slot - 1).ok(),
                state: "ready".into(),
                colour: Colour::Green,
                restarts: Some(0),
                uptime_seconds: Some(2 * look),
                cpu_percent: Some((look * slot as u64 % 50) as f64),
                memory_bytes: Some((40 << 20) + (look << 18)),
                lag_ms: Some(look as f64 / 4.0),
                sessions: Some(look * 3),
                pid: Some(100 + slot as u32),
                ..UnitNow::default()
            };
            model.take(vec![AppNow { workers: (1..=workers).map(worker).collect(), ..shop() }]);
        }
        for line in 1..=60 {
            wrote(&mut model, &format!("Nov 21 12:00:{:02} shop@1[101]: line {line}", line % 60));
        }
        model
    }

    fn wrote(model: &mut Model, text: &str) {
        model.wrote(Entry { text: text.into(), error: false });
    }

    fn screen(model: &mut Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, true)).unwrap();
        let buffer = terminal.backend().buffer();
        let rows = (0..height).map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>());
        rows.map(|row| row.trim_end().to_owned() + "\n").collect()
    }

    /// `BLESS=1` writes the screens anew.
    #[track_caller]
    fn assert_screen(name: &str, found: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/screens").join(format!("{name}.txt"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, found).unwrap();
        }
        let wanted = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, wanted, "{name}: BLESS=1 writes it anew; this one is\n{found}");
    }

    #[test]
    fn screens() {
        for (width, height) in [(80, 24), (200, 50)] {
            for workers in [0, 1, 40] {
                let mut model = if workers == 0 { Model::default() } else { model(workers) };
                if workers == 40 {
                    for _ in 0..30 {
                        model.key(Key::Down);
                    }
                    wrote(&mut model, "Nov 21 12:00:00 shop@30[130]: of this one");
                }
                assert_screen(&format!("monit-{width}x{height}-{workers}"), &screen(&mut model, width, height));
            }
        }
        let mut showing = model(3);
        let metric = |number: usize| crate::wire::axm::Metric {
            name: format!("A figure of the app's with a name, {number}"),
            value: (number * 1000).into(),
            unit: Some("users".into()),
            kind: number.is_multiple_of(2).then(|| "internal/v8".into()),
            historic: None,
        };
        for worker in &mut showing.apps[0].workers {
            worker.metrics = (0..worker.pid.unwrap_or_default() as usize / 3).map(metric).collect();
        }
        assert_screen("monit-200x50-router", &screen(&mut showing, 200, 50));
        showing.key(Key::Down);
        assert_screen("monit-200x50-metrics", &screen(&mut showing, 200, 50));
        assert_screen("monit-100x30-metrics", &screen(&mut showing, 100, 30));
        let mut model = model(3);
        model.key(Key::Char('r'));
        assert_screen("monit-80x24-reload", &screen(&mut model, 80, 24));
        model.key(Key::Escape);
        model.key(Key::Char('?'));
        assert_screen("monit-80x24-help", &screen(&mut model, 80, 24));
    }

    /// Whatever the terminal is wide, a name, a state and whole numbers are seen, or no numbers.
    #[test]
    fn narrow_screens() {
        let mut model = model(16);
        wrote(
            &mut model,
            "Nov 21 12:00:00 shop[100]: a line of the log that is wider than the terminal is, and goes on",
        );
        model.apps[0].workers[2].last_end =
            Some(crate::router::client::End { reason: "out of memory".into(), at: 9, failed: true, ordered: false });
        model.apps[0].workers[2].restarts = Some(3);
        for width in [30, 40, 60, 80, 120] {
            let text = screen(&mut model, width, 36);
            assert_screen(&format!("monit-{width}x36-16"), &text);
            assert!(text.contains("shop") && text.contains("ready") && text.contains("STATE"), "{text}");
        }
        let text = screen(&mut model, 60, 20);
        assert!(text.contains("↓ 12 more"), "{text}");
        model.key(Key::End);
        assert!(screen(&mut model, 60, 20).contains("↑ 12 more"));
    }

    #[test]
    fn scales_are_round() {
        assert_eq!([0, 1, 3, 7, 100, 101, 777].map(round_up), [1, 1, 5, 10, 100, 200, 1000]);
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (3, 2), (20, 5), (10, 13), (40, 17), (300, 3)] {
            let mut model = model(4);
            screen(&mut model, width, height);
            model.key(Key::Char('s'));
            screen(&mut model, width, height);
        }
    }

    #[test]
    fn without_colours_there_are_none() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &mut model(3), false)).unwrap();
        assert!(terminal.backend().buffer().content().iter().all(|cell| cell.fg == Color::Reset));
    }
}
