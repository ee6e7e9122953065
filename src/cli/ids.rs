//! The ids of workers, by which PM2's users know them: numbers from 0 over the whole list, apps in its order, the workers
//! of each by their indices. An id is the place of a worker in the list, so it moves when an app before it comes or goes.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::apps;
use super::exit::Failure;
use super::look::{self, AppNow, UnitNow};
use super::names::{self, Asked, Target};
use super::print::Printer;
use crate::config::Scope;

/// Whether a word can only be an id: it is a number, and no app has it for its name.
pub(super) fn is_id(word: &str, asked: Asked) -> bool {
    read(word).is_some() && !apps::exists(asked.for_app(word), word)
}

fn read(word: &str) -> Option<u32> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}

/// As [`look::look`], with ids. They are counted over apps that are not wanted, too.
pub(super) async fn look(wanted: &[(Scope, String)], asked: Asked) -> Result<Vec<AppNow>, Failure> {
    let scopes = asked.for_all();
    // Those of the scopes after it do not count for an app.
    let last = scopes.iter().rposition(|scope| wanted.iter().any(|(of, _)| of == scope));
    let mut all = Vec::new();
    for scope in scopes.into_iter().take(last.map_or(0, |last| last + 1)) {
        all.extend(apps::names(scope)?.into_iter().map(|name| (scope, name)));
    }
    let mut apps = look::look(&all).await?;
    number(&mut apps);
    let found = wanted.iter().filter_map(|(scope, name)| {
        let at = apps.iter().position(|app| app.is_of(*scope) && app.name == *name)?;
        Some(apps.swap_remove(at))
    });
    Ok(found.collect())
}

/// The worker that has an id now. The only one of an app stands for the app, as with PM2, where there is nothing else of
/// it to stop or to delete.
pub(super) async fn find(word: &str, asked: Asked) -> Result<(Scope, Target), Failure> {
    let wanted = asked.every()?;
    let apps = look(&wanted, asked).await?;
    let id = read(word);
    let workers = apps.iter().flat_map(|app| app.workers.iter().map(move |worker| (app, worker)));
    let found = workers.clone().find(|(_, worker)| worker.id == id && id.is_some());
    let Some((app, worker)) = found else {
        let hint = match workers.filter_map(|(_, worker)| worker.id).max() {
            Some(last) => format!("Ids run from 0 to {last} now, `appctl list` shows whose they are."),
            None => "There are no apps yet: `appctl start SCRIPT` makes one.".to_owned(),
        };
        return Err(Failure::UnknownApp(format!("no worker has the id {word}\n{hint}")));
    };
    let scope = if app.is_of(Scope::User) { Scope::User } else { Scope::System };
    Ok((scope, meant(app, worker)))
}

fn meant(app: &AppNow, worker: &UnitNow) -> Target {
    let many = app.workers.iter().filter(|worker| worker.id.is_some()).count();
    match names::slot(&worker.unit) {
        Some(slot) if many > 1 || app.workers_wanted > 1 => {
            Target::Worker { app: app.name.clone(), slot: slot.to_owned() }
        }
        _ => Target::App(app.name.clone()),
    }
}

/// Gives the workers of the whole list their ids. One that a new worker has replaced and that still ends has none.
fn number(apps: &mut [AppNow]) {
    let mut next = 0;
    for app in apps {
        let indices = indices(&app.workers);
        let mut order: Vec<usize> = (0..app.workers.len()).collect();
        order.sort_by_key(|at| (indices[*at], seniority(&app.workers[*at])));
        let mut last = None;
        for at in order {
            if last.replace(indices[at]) != Some(indices[at]) {
                app.workers[at].id = Some(next);
                next += 1;
            }
        }
    }
}

/// Of two workers with one index, the one that stays comes first.
fn seniority(worker: &UnitNow) -> (bool, bool, Reverse<bool>, Option<u64>) {
    let leaves = ["draining", "stopping"].contains(&worker.state.as_str());
    (worker.code == Some("old"), leaves, Reverse(worker.pid.is_some()), worker.uptime_seconds)
}

/// The indices of workers: by the router's word, or the ones that those which do not run would get.
pub(super) fn indices(workers: &[UnitNow]) -> Vec<u32> {
    let taken: BTreeSet<u32> = workers.iter().filter_map(|worker| worker.index).collect();
    let mut free = (0..).filter(|index| !taken.contains(index));
    workers.iter().map(|worker| worker.index.or_else(|| free.next()).unwrap_or(u32::MAX)).collect()
}

/// Says which worker each number was, where nothing else that is printed does.
pub(super) fn tell(words: &[String], targets: &[(Scope, Target)], asked: Asked, printer: &Printer) {
    // Two words may be one target; then it is not told.
    if words.len() != targets.len() {
        return;
    }
    for (word, (_, target)) in words.iter().zip(targets).filter(|(word, _)| is_id(word, asked)) {
        printer.note(&format!("id {word} is {target}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::shop;
    use super::*;

    fn worker(slot: &str, index: Option<u32>, state: &str) -> UnitNow {
        UnitNow {
            unit: format!("x@{slot}.service"),
            slot: Some(slot.to_owned()),
            index,
            pid: index.map(|_| 7),
            state: state.to_owned(),
            ..UnitNow::default()
        }
    }

    fn ids(apps: &mut [AppNow]) -> Vec<(String, Option<u32>)> {
        number(apps);
        let workers = apps.iter().flat_map(|app| &app.workers);
        workers.map(|worker| (worker.slot.clone().unwrap_or_default(), worker.id)).collect()
    }

    fn of(slots: &[(&str, Option<u32>)]) -> Vec<(String, Option<u32>)> {
        slots.iter().map(|(slot, id)| ((*slot).to_owned(), *id)).collect()
    }

    #[test]
    fn workers_are_counted_over_all_apps_by_their_indices() {
        let one = AppNow {
            workers: vec![worker("1", Some(1), "ready"), worker("2", None, "stopped"), worker("3", Some(0), "ready")],
            ..shop()
        };
        let other = AppNow { workers: vec![worker("1", Some(0), "ready")], ..shop() };
        let ids = ids(&mut [one, AppNow { workers: Vec::new(), ..shop() }, other]);
        assert_eq!(ids, of(&[("1", Some(1)), ("2", Some(2)), ("3", Some(0)), ("1", Some(3))]));
    }

    #[test]
    fn whoever_is_being_replaced_has_no_id() {
        let draining = [worker("1", Some(0), "draining"), worker("2", Some(1), "ready"), worker("3", Some(0), "ready")];
        let app = AppNow { workers: draining.to_vec(), ..shop() };
        assert_eq!(ids(&mut [app]), of(&[("1", None), ("2", Some(1)), ("3", Some(0))]));
        // On trial, beside the one that serves: PM2 gives the new one the id at once as well.
        let old = UnitNow { code: Some("old"), ..worker("1", Some(0), "ready") };
        let app = AppNow { workers: vec![old, worker("2", Some(0), "on trial")], ..shop() };
        assert_eq!(ids(&mut [app]), of(&[("1", None), ("2", Some(0))]));
    }

    #[test]
    fn the_only_worker_stands_for_its_app() {
        let mut alone = AppNow { workers: vec![worker("4", Some(0), "ready")], workers_wanted: 1, ..shop() };
        number(std::slice::from_mut(&mut alone));
        assert_eq!(meant(&alone, &alone.workers[0]), Target::App("shop".into()));
        alone.workers_wanted = 2;
        assert_eq!(meant(&alone, &alone.workers[0]), Target::Worker { app: "shop".into(), slot: "4".into() });
    }

    #[test]
    fn numbers_as_typed() {
        assert_eq!((read("0"), read("12"), read("4294967295")), (Some(0), Some(12), Some(u32::MAX)));
        for no in ["", "-1", "+1", "1.0", "a1", "1@2", "4294967296"] {
            assert_eq!(read(no), None, "{no:?}");
        }
    }
}
