//! `[schedule]`: when the app is reloaded or restarted by itself.

use super::Schedule;
use super::calendar;
use super::file::{Item, Table};
use super::report::Problems;

pub(super) fn read_schedule(top: &mut Table<'_>, problems: &mut Problems) -> Schedule {
    let mut table = top.take_table("schedule", problems);
    let reload = table.take("reload").map(|item| read_calendars(&item, problems)).unwrap_or_default();
    let restart = table.take("restart").map(|item| read_calendars(&item, problems)).unwrap_or_default();
    table.finish(problems);
    Schedule { reload, restart }
}

fn read_calendars(item: &Item<'_>, problems: &mut Problems) -> Vec<String> {
    let elements = item.elements();
    elements.iter().filter_map(|element| element.read(problems, calendar::read)).flatten().collect()
}
