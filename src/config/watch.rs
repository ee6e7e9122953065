//! `watch` and `ignore`: files whose change reloads the app.

use std::path::{Path, PathBuf};

use ignore::gitignore::GitignoreBuilder;

use super::Watch;
use super::file::{Item, Table};
use super::report::Problems;
use super::value::{Wrong, one_line};

/// `directory`: the app's, which relative paths begin at.
pub(super) fn read_watch(top: &mut Table<'_>, directory: Option<&Path>, problems: &mut Problems) -> Option<Watch> {
    let watch = top.take("watch");
    let ignore_item = top.take("ignore");
    let paths = watch.as_ref().map(|item| read_paths(item, directory, problems)).unwrap_or_default();
    let ignore = ignore_item.as_ref().map(|item| read_patterns(item, &paths, problems)).unwrap_or_default();
    if let (None, Some(item)) = (&watch, &ignore_item) {
        problems.warn(item.span.clone(), "ignore has no effect without watch", "add watch = true");
    }
    (!paths.is_empty()).then_some(Watch { paths, ignore })
}

/// Absolute paths; none for `false`.
fn read_paths(item: &Item<'_>, directory: Option<&Path>, problems: &mut Problems) -> Vec<PathBuf> {
    let homeless = || {
        Wrong::new(
            "there is no directory that it could begin at",
            "add directory = \"/srv/app\", or write whole paths: watch = [\"/srv/app\"]",
        )
    };
    if let Some(truth) = item.truth() {
        let whole = truth.then(|| directory.map(Path::to_owned).ok_or_else(homeless));
        return whole.and_then(|whole| item.check(problems, whole)).into_iter().collect();
    }
    let read = |text: &str| {
        one_line(text)?;
        match (text, directory) {
            ("", _) => Err(Wrong::new("the path is empty", "write watch = true for the app's directory")),
            (text, _) if text.starts_with('/') => Ok(PathBuf::from(text)),
            (text, Some(directory)) => Ok(directory.join(text)),
            (_, None) => Err(homeless()),
        }
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for element in item.elements() {
        let path = element.text(problems).and_then(|text| element.check(problems, read(&text.text)));
        paths.extend(path.filter(|path| !paths.contains(path)));
    }
    paths
}

fn read_patterns(item: &Item<'_>, paths: &[PathBuf], problems: &mut Problems) -> Vec<String> {
    let read = |text: &str| {
        one_line(text)?;
        if let Some(rest) = paths.iter().find_map(|path| Path::new(text).strip_prefix(path).ok()) {
            return Err(Wrong::new(
                format!("`{text}`: patterns begin at what is watched"),
                format!("write \"/{}\"", rest.display()),
            ));
        }
        GitignoreBuilder::new("").add_line(None, text).map(|_| text.to_owned()).map_err(|error| {
            let reason = error.to_string();
            Wrong::new(reason, "write patterns as in .gitignore, such as \"*.log\", \"uploads/\" or \"/data/*.json\"")
        })
    };
    let elements = item.elements();
    elements.iter().filter_map(|it| it.text(problems).and_then(|text| it.check(problems, read(&text.text)))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{App, Scope, parse};
    use super::*;

    fn read(text: &str) -> (Option<App>, Vec<String>) {
        let report = parse("app", Path::new("/etc/appctl/app.toml"), &format!("exec = '/x'\n{text}"), Scope::System);
        (report.app, report.problems.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn paths_begin_at_the_directory() {
        for (text, paths) in [
            ("watch = true", &["/srv/app"][..]),
            ("watch = false", &[]),
            ("watch = 'src'", &["/srv/app/src"]),
            ("watch = ['src', '/etc/app.json', 'src']", &["/srv/app/src", "/etc/app.json"]),
            ("watch = []", &[]),
        ] {
            let app = read(&format!("directory = '/srv/app'\n{text}")).0.unwrap();
            let found = app.watch.map(|watch| watch.paths).unwrap_or_default();
            assert!(found.iter().map(PathBuf::as_path).eq(paths.iter().map(Path::new)), "{text}: {found:?}");
        }
        assert_eq!(read("watch = '/srv/x'").0.unwrap().watch.unwrap().paths, [Path::new("/srv/x")]);
    }

    #[test]
    fn mistakes_are_told() {
        for (text, message) in [
            ("watch = true", "watch: there is no directory that it could begin at"),
            ("watch = 'src'", "watch: there is no directory that it could begin at"),
            ("watch = 5", "watch must be a string, not a number"),
            ("watch = ''", "watch: the path is empty"),
            ("ignore = '*.log'", "ignore has no effect without watch"),
            ("watch = '/srv'\nignore = '[z-a]'", "ignore: error parsing glob '[z-a]': invalid range; 'z' > 'a'"),
            ("watch = '/srv'\nignore = '/srv/log'", "ignore: `/srv/log`: patterns begin at what is watched"),
        ] {
            assert_eq!(read(text).1, [message], "{text}");
        }
    }
}
