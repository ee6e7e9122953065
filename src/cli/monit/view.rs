//! The monitor's screen: a table, four graphs, a log, keys.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Block, BorderType, Borders, Cell, Clear, Paragraph, Row as TableRow, Sparkline, Table, TableState,
};

use super::model::{Dialog, History, Model, Row};
use crate::cli::print::{self, Colour};

const KEYS: &str = "↑↓ choose   r reload   R restart   s scale   ? help   q quit";
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
    model.page = usize::from(table.height.saturating_sub(1));
    draw_table(frame, model, paint, table);
    if let Some(row) = model.chosen() {
        draw_graphs(frame, row, model.history(row), paint, graphs);
    }
    let (log, shown) = beside(log, model.chosen());
    draw_log(frame, model, paint, log);
    if let (Some(row), Some(shown)) = (model.chosen(), shown) {
        draw_shown(frame, row, paint, shown);
    }
    frame.render_widget(Paragraph::new(Line::styled(KEYS, paint.dim())), foot);
    if let Some(dialog) = &model.dialog {
        draw_dialog(frame, dialog, paint);
    }
}

/// Title, table, graphs, log, keys. A small terminal loses the graphs first, then the log.
fn parts(area: Rect, rows: usize) -> [Rect; 5] {
    let rest = area.height.saturating_sub(2);
    let wanted = u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(1).max(2);
    let graphs = if rest >= 16 { GRAPHS_HEIGHT } else { 0 };
    let log_least = if rest >= 12 { 5 } else { 0 };
    let table = wanted.min((rest - graphs.min(rest)).saturating_sub(log_least).max(2).min(rest)).min(match graphs {
        0 => rest,
        // The log is not to be squeezed by forty workers.
        _ => (rest - graphs).div_ceil(2).max(6),
    });
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
    let workers: usize = model.apps.iter().map(|app| app.workers.len()).sum();
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let sessions: u64 = model.apps.iter().filter_map(|app| app.router.sessions).sum();
    let mut spans = vec![
        Span::styled("appctl monit", paint.of(Colour::Bold)),
        Span::raw(format!(
            "  {}, {}, {}",
            plural(model.apps.len(), "app"),
            plural(workers, "worker"),
            plural(usize::try_from(sessions).unwrap_or(usize::MAX), "session")
        )),
    ];
    let used: usize = spans.iter().map(Span::width).sum();
    let room = usize::from(width).saturating_sub(used + 2);
    if let Some(problem) = &model.stale {
        spans.push(Span::styled(format!("  {}", print::shorten(problem, room)), paint.of(Colour::Red)));
    } else if let Some(message) = &model.message {
        spans.push(Span::styled(format!("  {}", print::shorten(message, room)), paint.of(Colour::Yellow)));
    }
    Line::from(spans)
}

fn draw_table(frame: &mut Frame<'_>, model: &mut Model, paint: Paint, area: Rect) {
    let rows = model.rows();
    if rows.is_empty() {
        let text = "There are no apps yet: `appctl start SCRIPT` makes one.";
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let body = rows.iter().map(|row| {
        let unit = row.unit;
        let slot = match (&unit.slot, &row.app.error) {
            (Some(slot), _) => Cell::from(slot.clone()),
            (None, _) => Cell::from(Span::styled("router", paint.dim())),
        };
        let state = match (&unit.slot, &row.app.error) {
            (None, Some(_)) if unit.pid.is_none() => Span::styled("file has errors".to_owned(), paint.of(Colour::Red)),
            _ => Span::styled(unit.state.clone(), paint.of(unit.colour)),
        };
        let after = unit.failure_before().map(|end| Span::styled(format!("  after: {}", end.reason), paint.dim()));
        let state = Line::from_iter([Some(state), after].into_iter().flatten());
        TableRow::new([
            Cell::from(row.app.name.clone()),
            slot,
            Cell::from(state),
            right(or_dash(unit.restarts.map(|it| it.to_string()))),
            right(or_dash(unit.uptime_seconds.map(|seconds| print::span(Duration::from_secs(seconds))))),
            right(or_dash(unit.cpu_percent.map(|percent| format!("{percent:.1}%")))),
            right(or_dash(unit.memory_bytes.map(print::size))),
            right(or_dash(unit.lag_ms.map(|lag| format!("{lag:.1} ms")))),
            right(or_dash(unit.sessions.map(|it| it.to_string()))),
        ])
    });
    let name =
        rows.iter().map(|row| row.app.name.len()).max().unwrap_or(4).clamp(4, (usize::from(area.width) / 4).max(4));
    let widths = [
        Constraint::Length(u16::try_from(name).unwrap_or(20)),
        Constraint::Length(6),
        Constraint::Fill(1),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
    ];
    let titles = ["NAME", "SLOT", "STATE", ">RESTARTS", ">UPTIME", ">CPU", ">MEMORY", ">LAG", ">SESSIONS"];
    let head = titles.map(|title| match title.strip_prefix('>') {
        Some(title) => right(title.to_owned()),
        None => Cell::from(title),
    });
    let table = Table::new(body, widths)
        .header(TableRow::new(head).style(paint.of(Colour::Bold)))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(model.place()).with_offset(model.offset);
    frame.render_stateful_widget(table, area, &mut state);
    model.offset = state.offset();
}

fn draw_graphs(frame: &mut Frame<'_>, row: Row<'_>, history: Option<&History>, paint: Paint, area: Rect) {
    if area.height == 0 {
        return;
    }
    let unit = row.unit;
    let empty = VecDeque::new();
    let graphs = [
        ("CPU", unit.cpu_percent.map(|percent| format!("{percent:.1}%")), history.map(|it| &it.cpu), Color::Green),
        ("Memory", unit.memory_bytes.map(print::size), history.map(|it| &it.memory), Color::Blue),
        ("Lag", unit.lag_ms.map(|lag| format!("{lag:.1} ms")), history.map(|it| &it.lag), Color::Yellow),
        ("Sessions", unit.sessions.map(|it| it.to_string()), history.map(|it| &it.sessions), Color::Magenta),
    ];
    let places = Layout::horizontal([Constraint::Fill(1); 4]).split(area);
    for ((title, now, values, colour), place) in graphs.into_iter().zip(places.iter()) {
        let values = values.unwrap_or(&empty);
        let block = Block::new().borders(Borders::ALL).border_type(BorderType::Plain).border_style(paint.dim());
        let inside = usize::from(block.inner(*place).width);
        // The newest at the right edge.
        let shown: Vec<u64> = values.iter().copied().skip(values.len().saturating_sub(inside)).collect();
        let lead = vec![0; inside.saturating_sub(shown.len())];
        let most = shown.iter().copied().max().unwrap_or(0);
        let block = block.title(format!(" {title} {} ", now.unwrap_or_else(|| "-".to_owned())));
        let data: Vec<u64> = lead.into_iter().chain(shown).collect();
        frame.render_widget(
            Sparkline::default().block(block).data(data).max(most.max(1)).style(paint.fore(colour)),
            *place,
        );
    }
}

fn draw_log(frame: &mut Frame<'_>, model: &Model, paint: Paint, area: Rect) {
    if area.height == 0 {
        return;
    }
    let name =
        model.chosen().map_or_else(String::new, |row| format!(" {} ", row.unit.unit.trim_end_matches(".service")));
    let block = Block::new().borders(Borders::TOP).border_style(paint.dim()).title(format!(" log{name}"));
    let room = usize::from(block.inner(area).height);
    let lines: Vec<Line<'_>> =
        model.log.iter().skip(model.log.len().saturating_sub(room)).map(|line| Line::raw(line.as_str())).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
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
            model.wrote(&format!("Nov 21 12:00:{:02} shop@1[101]: line {line}", line % 60));
        }
        model
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
                    model.wrote("Nov 21 12:00:00 shop@30[130]: of this one");
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
