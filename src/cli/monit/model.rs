//! What the monitor knows, what is chosen in it, and what a key does. Pure: facts and keys come in, wishes go out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::cli::follow::Entry;
use crate::cli::list::{AppNow, UnitNow, in_order, is_idle};

/// Looks back in a graph.
pub(super) const HISTORY: usize = 240;
/// Lines of a log that are kept.
const LOG_LINES: usize = 500;

/// A key, as far as the monitor knows any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    Char(char),
}

/// What is to be done outside of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    /// Another unit is chosen: its log is to be shown.
    Follow,
    /// `appctl` with these arguments.
    Command(Vec<String>),
}

/// A row of the table: an app's router, or one of its workers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) app: &'a AppNow,
    pub(super) unit: &'a UnitNow,
}

/// What a change is to be confirmed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dialog {
    /// Yes or no.
    Sure {
        question: String,
        command: Vec<String>,
    },
    /// A number of workers.
    Scale {
        app: String,
        arguments: Vec<String>,
        typed: String,
    },
    Help,
}

/// Values of one unit, the newest last.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Tenths of a percent of one processor.
    pub(super) cpu: VecDeque<u64>,
    /// Bytes.
    pub(super) memory: VecDeque<u64>,
    /// Microseconds.
    pub(super) lag: VecDeque<u64>,
    pub(super) sessions: VecDeque<u64>,
}

impl History {
    fn push(&mut self, unit: &UnitNow) {
        let tenths = unit.cpu_percent.map_or(0.0, |percent| percent * 10.0);
        for (values, value) in [
            (&mut self.cpu, tenths.max(0.0) as u64),
            (&mut self.memory, unit.memory_bytes.unwrap_or(0)),
            (&mut self.lag, unit.lag_ms.map_or(0.0, |lag| lag * 1000.0).max(0.0) as u64),
            (&mut self.sessions, unit.sessions.unwrap_or(0)),
        ] {
            if values.len() == HISTORY {
                values.pop_front();
            }
            values.push_back(value);
        }
    }
}

/// Everything that is on the screen.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) apps: Vec<AppNow>,
    /// Of the chosen one; systemd's name of it and the scope's.
    chosen: Option<(&'static str, String)>,
    history: BTreeMap<(&'static str, String), History>,
    pub(super) log: VecDeque<Entry>,
    pub(super) dialog: Option<Dialog>,
    /// How the last command goes, or went.
    pub(super) message: Option<String>,
    /// Why the last look failed: what is shown is from before.
    pub(super) stale: Option<String>,
    /// A command is under way.
    pub(super) busy: bool,
    /// Rows that the table has room for, by the last drawing.
    pub(super) page: usize,
    /// The first row that is seen, by the last drawing.
    pub(super) offset: usize,
}

impl Model {
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let of = |app| {
            // The row whose log is the whole app's; a worker that is alone says all that there is to say.
            let router = (!is_idle(app) || app.workers.len() != 1).then_some(Row { app, unit: &app.router });
            router.into_iter().chain(in_order(app).into_iter().map(move |unit| Row { app, unit }))
        };
        self.apps.iter().flat_map(of).collect()
    }

    /// The place of the chosen row.
    pub(super) fn place(&self) -> Option<usize> {
        let (scope, unit) = self.chosen.as_ref()?;
        self.rows().iter().position(|row| row.app.scope == *scope && row.unit.unit == *unit)
    }

    pub(super) fn chosen(&self) -> Option<Row<'_>> {
        self.place().map(|at| self.rows()[at])
    }

    pub(super) fn history(&self, row: Row<'_>) -> Option<&History> {
        self.history.get(&(row.app.scope, row.unit.unit.clone()))
    }

    /// New facts. Says whether the log that is shown is another's now.
    pub(super) fn take(&mut self, apps: Vec<AppNow>) -> Option<Wish> {
        let before = self.place();
        self.apps = apps;
        self.stale = None;
        let mut here = BTreeSet::new();
        let mut history = std::mem::take(&mut self.history);
        for row in self.rows() {
            let key = (row.app.scope, row.unit.unit.clone());
            history.entry(key.clone()).or_default().push(row.unit);
            here.insert(key);
        }
        history.retain(|key, _| here.contains(key));
        self.history = history;
        if self.place().is_some() {
            return None;
        }
        // A worker that a reload took away: whoever is in its place; at first the first.
        self.choose(before.unwrap_or(0))
    }

    /// More lines of the chosen one's log.
    pub(super) fn wrote(&mut self, entry: Entry) {
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(entry);
    }

    fn choose(&mut self, at: usize) -> Option<Wish> {
        let rows = self.rows();
        let chosen = rows.get(at.min(rows.len().saturating_sub(1))).map(|row| (row.app.scope, row.unit.unit.clone()));
        if chosen == self.chosen {
            return None;
        }
        self.chosen = chosen;
        self.log.clear();
        Some(Wish::Follow)
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: Key) -> Option<Wish> {
        if let Some(dialog) = self.dialog.take() {
            return self.answer(dialog, key);
        }
        let at = self.place().unwrap_or(0);
        let page = self.page.max(1);
        match key {
            Key::Char('q') | Key::Escape => return Some(Wish::Quit),
            Key::Up | Key::Char('k') => return self.choose(at.saturating_sub(1)),
            Key::Down | Key::Char('j') => return self.choose(at + 1),
            Key::PageUp => return self.choose(at.saturating_sub(page)),
            Key::PageDown => return self.choose(at + page),
            Key::Home | Key::Char('g') => return self.choose(0),
            Key::End | Key::Char('G') => return self.choose(usize::MAX),
            Key::Char('?' | 'h') => self.dialog = Some(Dialog::Help),
            Key::Char(verb @ ('r' | 'R' | 's')) => self.dialog = self.ask(verb),
            _ => {}
        }
        None
    }

    /// Asks before anything is changed.
    fn ask(&mut self, verb: char) -> Option<Dialog> {
        let row = self.chosen()?;
        let (app, arguments) = (row.app.name.clone(), vec![format!("--{}", row.app.scope)]);
        if self.busy {
            self.message = Some("the last command is still under way".to_owned());
            return None;
        }
        let command = |verb: &str, target: &str| [arguments.clone(), vec![verb.to_owned(), target.to_owned()]].concat();
        Some(match verb {
            'r' => Dialog::Sure {
                question: format!("Reload {app}: replace its workers, one after the other?"),
                command: command("reload", &app),
            },
            'R' => {
                let target = row.unit.slot.as_ref().map_or_else(|| app.clone(), |slot| format!("{app}@{slot}"));
                Dialog::Sure {
                    question: format!("Restart {target}? Its sessions are cut off."),
                    command: command("restart", &target),
                }
            }
            _ => Dialog::Scale { typed: String::new(), app, arguments },
        })
    }

    fn answer(&mut self, dialog: Dialog, key: Key) -> Option<Wish> {
        match (dialog, key) {
            (Dialog::Help, _) | (_, Key::Escape) | (Dialog::Sure { .. }, Key::Char('n' | 'N' | 'q')) => None,
            (Dialog::Sure { command, .. }, Key::Char('y' | 'Y') | Key::Enter) => Some(self.command(command)),
            (Dialog::Scale { app, mut arguments, typed }, Key::Enter) if typed.parse::<u32>().is_ok_and(|n| n > 0) => {
                arguments.extend(["scale".to_owned(), app, typed]);
                Some(self.command(arguments))
            }
            (Dialog::Scale { app, arguments, mut typed }, key) => {
                match key {
                    Key::Char(digit) if digit.is_ascii_digit() && typed.len() < 4 => typed.push(digit),
                    Key::Backspace => drop(typed.pop()),
                    _ => {}
                }
                self.dialog = Some(Dialog::Scale { app, arguments, typed });
                None
            }
            (dialog, _) => {
                self.dialog = Some(dialog);
                None
            }
        }
    }

    fn command(&mut self, arguments: Vec<String>) -> Wish {
        self.busy = true;
        self.message = Some(format!("appctl {} …", arguments.join(" ")));
        Wish::Command(arguments)
    }

    /// The command has ended; `last` is its last line.
    pub(super) fn ended(&mut self, last: String) {
        self.busy = false;
        self.message = Some(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::list::tests::shop;

    fn model() -> Model {
        let mut model = Model::default();
        assert_eq!(model.take(vec![shop()]), Some(Wish::Follow));
        model
    }

    fn chosen(model: &Model) -> String {
        model.chosen().unwrap().unit.unit.clone()
    }

    #[test]
    fn keys_move_the_choice_and_the_log_follows() {
        let mut model = model();
        model.wrote(Entry { text: "a line".into(), error: false });
        assert_eq!(chosen(&model), "shop.service");
        assert_eq!(model.key(Key::Up), None);
        assert_eq!(model.log.len(), 1);
        assert_eq!(model.key(Key::Down), Some(Wish::Follow));
        assert_eq!((chosen(&model).as_str(), model.log.len()), ("shop@1.service", 0));
        model.key(Key::End);
        assert_eq!(chosen(&model), "shop@2.service");
        assert_eq!(model.key(Key::PageDown), None);
        model.key(Key::Home);
        assert_eq!(chosen(&model), "shop.service");
    }

    #[test]
    fn the_choice_stays_with_its_unit() {
        let mut model = model();
        model.key(Key::End);
        let mut more = shop();
        more.workers.insert(0, UnitNow { unit: "shop@0.service".into(), ..UnitNow::default() });
        assert_eq!(model.take(vec![more]), None);
        assert_eq!(chosen(&model), "shop@2.service");
        // It is gone: its neighbour.
        let mut less = shop();
        less.workers.pop();
        assert_eq!(model.take(vec![less]), Some(Wish::Follow));
        assert_eq!(chosen(&model), "shop@1.service");
        assert_eq!(model.take(Vec::new()), Some(Wish::Follow));
        assert!(model.chosen().is_none());
        assert_eq!(model.key(Key::Char('r')), None);
        assert_eq!(model.dialog, None);
    }

    #[test]
    fn nothing_is_changed_without_a_yes() {
        let mut model = model();
        for no in [Key::Char('n'), Key::Escape] {
            assert_eq!(model.key(Key::Char('r')), None);
            assert!(matches!(model.dialog, Some(Dialog::Sure { .. })));
            assert_eq!(model.key(Key::Char('x')), None);
            assert!(model.dialog.is_some());
            assert_eq!(model.key(no), None);
            assert_eq!(model.dialog, None);
        }
        model.key(Key::Char('r'));
        let words = |text: &str| Some(Wish::Command(text.split(' ').map(str::to_owned).collect()));
        assert_eq!(model.key(Key::Char('y')), words("--system reload shop"));
        // One at a time.
        model.key(Key::Char('r'));
        assert_eq!(model.dialog, None);
        model.ended("shop reloaded".to_owned());
        model.key(Key::Down);
        model.key(Key::Char('R'));
        assert_eq!(model.key(Key::Enter), words("--system restart shop@1"));
    }

    #[test]
    fn a_number_of_workers() {
        let mut model = model();
        model.key(Key::Char('s'));
        assert_eq!(model.key(Key::Enter), None);
        for key in [Key::Char('1'), Key::Char('x'), Key::Char('7'), Key::Backspace, Key::Char('2')] {
            assert_eq!(model.key(key), None);
        }
        let wanted = ["--system", "scale", "shop", "12"].map(str::to_owned);
        assert_eq!(model.key(Key::Enter), Some(Wish::Command(wanted.to_vec())));
    }

    #[test]
    fn history_is_bounded_and_of_those_that_are_here() {
        let mut model = model();
        for _ in 0..HISTORY + 5 {
            model.take(vec![shop()]);
        }
        let row = model.rows()[1];
        let history = model.history(row).unwrap();
        assert_eq!((history.cpu.len(), history.cpu.back(), history.sessions.back()), (HISTORY, Some(&1030), Some(&12)));
        model.take(Vec::new());
        assert!(model.history.is_empty());
    }
}
