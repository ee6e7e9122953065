//! Secrets of an app that are none: what `check` tells of, and what `start`, `restart` and `reload` refuse.

use super::exit::Failure;
use crate::config::{App, Level, Problem};
use crate::generator::open;
use crate::generator::places::Places;

/// Files of variables that everybody may read, with the lines of `text` that name them.
pub(super) fn problems(app: &App, places: &Places, text: &str) -> Vec<Problem> {
    let found = open::files(app, places).into_iter();
    let told = found.map(|it| {
        let problem = Problem::whole(Level::Error, format!("environment_files: {}", it.reason()), it.remedy());
        super::machine::at(text, "environment_files", &it.file, problem)
    });
    told.collect()
}

/// An app is not started with such a file, nor one that runs given it. (At boot it is: a machine that comes up without its
/// apps is the greater harm, and the log says so.)
pub(super) fn refuse(app: &App) -> Result<(), Failure> {
    let Some(places) = Places::from_environment(app.scope) else { return Ok(()) };
    let lines: Vec<String> =
        open::files(app, &places).iter().map(|it| format!("{}\n{}", it.reason(), it.remedy())).collect();
    if lines.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("{} keeps secrets where they are none: {}", app.name, lines.join("\n"))))
}
