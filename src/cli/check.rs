//! `appctl check [NAME…]`: every mistake of the files, with its place and remedy.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{certificates, machine, secrets};
use crate::config::value::write_span;
use crate::config::{Level, Listen, Problem, Report, Scope, Workers, nearest};
use crate::generator::apps::{self, AppFile};
use crate::generator::places::Places;
use crate::system::version;

/// Checks the named apps, or all; a name with a `/` or with `.toml` at its end is the path of a file. Prints the report to
/// stdout. Gives the exit code: 0 all right, 1 mistakes, 4 no such app.
pub fn run(names: &[String], scope: Scope) -> u8 {
    print(&report(names, scope, Places::from_environment(scope).as_ref(), version::of_systemd()))
}

/// What a command says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub out: String,
    pub err: String,
    pub code: u8,
}

/// Writes it, and gives the exit code; a reader that went away is no mistake.
pub(super) fn print(output: &Output) -> u8 {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(output.out.as_bytes()).and_then(|()| out.flush());
    let _ = std::io::stderr().write_all(output.err.as_bytes());
    output.code
}

pub(super) fn homeless() -> Output {
    let err = "error: neither XDG_CONFIG_HOME nor HOME is set: where would a user's files be?\n".to_owned();
    Output { err, code: 1, ..Output::default() }
}

/// What [`run`] prints. `systemd`: the version that is here.
pub fn report(names: &[String], scope: Scope, places: Option<&Places>, systemd: Option<u32>) -> Output {
    let Some(places) = places else { return homeless() };
    let loaded = apps::load(places);
    let mut text = String::new();
    let mut code = 0;
    if let Some(failure) = &loaded.failure {
        text.push_str(&format!("error: {failure}\n"));
        code = 1;
    }
    if names.is_empty() {
        if loaded.files.is_empty() && code == 0 {
            text.push_str(&format!("no apps: there is no file {}\n", places.file("NAME").display()));
        }
        for file in &loaded.files {
            code = code.max(show(file, places, systemd, &mut text));
        }
    }
    for name in names {
        if name.contains('/') || name.ends_with(".toml") {
            let path = Path::new(name);
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let mut file = apps::read(&stem, PathBuf::from(name), path, scope);
            apps::judge_beside(&mut file, &loaded.files);
            code = code.max(show(&file, places, systemd, &mut text));
            continue;
        }
        match loaded.files.iter().find(|file| file.name == *name) {
            Some(file) => code = code.max(show(file, places, systemd, &mut text)),
            None => {
                text.push_str(&no_such_app(name, &loaded.files, places));
                code = code.max(4);
            }
        }
    }
    Output { out: text, code, ..Output::default() }
}

/// The message of exit code 4.
pub(super) fn no_such_app(name: &str, files: &[AppFile], places: &Places) -> String {
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let hint = match nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "there are no apps yet".to_owned(),
        None => format!("the apps are {}", names.join(", ")),
    };
    format!("error: no app `{name}`: there is no {}\n  = help: {hint}\n", places.file(name).display())
}

/// Shows one file's problems, or that it has none; 1 when it does not pass.
fn show(file: &AppFile, places: &Places, systemd: Option<u32>, text: &mut String) -> u8 {
    text.push_str(&problems(file, true));
    if let Some(problem) = too_old(file, systemd) {
        text.push_str(&format!("{}\n", problem.render(file.source.display(), &file.text, true)));
    }
    let Report { app, problems } = &file.report;
    let mut beside = app.as_ref().map(|app| certificates::problems(app, places, &file.text)).unwrap_or_default();
    beside.extend(app.iter().flat_map(|app| secrets::problems(app, places, &file.text)));
    // Below another root is another machine.
    if let Some(app) = app.as_ref().filter(|_| places.root == Path::new("/")) {
        beside.extend(machine::missing(app, &file.text));
    }
    for problem in &beside {
        text.push_str(&format!("{}\n", problem.render(file.source.display(), &file.text, true)));
    }
    let errors = problems.iter().chain(&beside).filter(|problem| problem.level != Level::Warning).count();
    match (app, errors) {
        (Some(app), 0) => {
            let workers = match app.workers {
                Workers::Count(1) => "1 worker".to_owned(),
                Workers::Count(count) => format!("{count} workers"),
                Workers::MaxMinus(0) => "a worker for each processor".to_owned(),
                Workers::MaxMinus(less) => format!("a worker for each processor less {less}"),
            };
            let listen: Vec<String> = app.listen.iter().map(Listen::to_string).collect();
            let listen = if listen.is_empty() { "no address".to_owned() } else { listen.join(", ") };
            text.push_str(&format!("{}: ok ({workers}, {listen})\n", file.name));
            0
        }
        (_, 1) => {
            text.push_str(&format!("{}: 1 error\n", file.name));
            1
        }
        (_, count) => {
            text.push_str(&format!("{}: {count} errors\n", file.name));
            1
        }
    }
}

/// What the file asks for and this machine's systemd cannot do.
fn too_old(file: &AppFile, systemd: Option<u32>) -> Option<Problem> {
    /// The first with `RestartSteps=` and `RestartMaxDelaySec=`.
    const GROWING_PAUSE: u32 = 254;
    let version = systemd.filter(|version| *version < GROWING_PAUSE)?;
    let restart = &file.report.app.as_ref()?.restart;
    restart.backoff?;
    Some(Problem::whole(
        Level::Warning,
        format!("restart.backoff has no effect with systemd {version}: pauses grow from systemd {GROWING_PAUSE} on"),
        format!("the pause stays {}; to space restarts out, lengthen restart.delay", write_span(restart.delay)),
    ))
}

/// All problems of a file, shown with their lines. `strict`: unknown keys are errors.
pub fn problems(file: &AppFile, strict: bool) -> String {
    let shown = file.report.problems.iter().map(|problem| problem.render(file.source.display(), &file.text, strict));
    shown.map(|problem| problem + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        let config = root.path().join("etc/appctl");
        std::fs::create_dir_all(&config).unwrap();
        for (name, text) in files {
            std::fs::write(config.join(name), text).unwrap();
        }
        let path = root.path().to_owned();
        let places = Places::new(Scope::System, |name| (name == "APPCTL_ROOT").then(|| path.clone().into())).unwrap();
        (root, places)
    }

    fn check(names: &[&str], places: &Places) -> Output {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        report(&names, Scope::System, Some(places), Some(257))
    }

    #[test]
    fn good_files_pass() {
        let (_root, places) = root(&[("a.toml", "exec = 'node /x.js'\nlisten = 80\nworkers = 'max-1'")]);
        let output = check(&[], &places);
        assert_eq!((output.out.as_str(), output.code), ("a: ok (a worker for each processor less 1, 80)\n", 0));
    }

    #[test]
    fn all_mistakes_come_at_once_with_their_lines() {
        let (_root, places) =
            root(&[("a.toml", "exec = 'node /x.js'\nwokers = 2\nlisten = 'localhost:80'\n"), ("b.toml", "exec = 'b'")]);
        let expected = "error: unknown key `wokers`\n --> /etc/appctl/a.toml:2:1\n  |\n2 | wokers = 2\n  | ^^^^^^\n  = help: did you mean `workers`?\n\n\
            error: listen: `localhost` is a name; systemd listens on addresses\n --> /etc/appctl/a.toml:3:10\n  |\n3 | listen = 'localhost:80'\n  |          ^^^^^^^^^^^^^^\n  = help: write \"127.0.0.1:80\", \"[::1]:80\", or both in an array\n\n\
            a: 2 errors\nb: ok (1 worker, no address)\n";
        let output = check(&[], &places);
        assert_eq!((output.out.as_str(), output.code), (expected, 1));
        assert_eq!(check(&["b"], &places).code, 0);
    }

    #[test]
    fn no_such_app_is_4() {
        let (_root, places) = root(&[("web.toml", "exec = 'a'")]);
        let Output { out: text, code, .. } = check(&["wbe"], &places);
        assert_eq!(code, 4);
        assert!(text.contains("/etc/appctl/wbe.toml") && text.contains("did you mean `web`?"), "{text}");
        assert_eq!(report(&[], Scope::User, None, None).code, 1);
    }

    #[test]
    fn a_systemd_that_is_too_old_is_named() {
        let (_root, places) = root(&[("a.toml", "exec = 'a'\n[restart]\nbackoff = '15s'")]);
        for (version, told) in [(Some(252), true), (Some(254), false), (None, false)] {
            let output = report(&[], Scope::System, Some(&places), version);
            assert_eq!(output.out.contains("restart.backoff has no effect with systemd 252"), told, "{}", output.out);
            assert_eq!(output.code, 0);
        }
    }

    #[test]
    fn a_clash_of_addresses_is_told_from_both_sides() {
        let metrics = "exec = 'a'\nlisten = 81\n[router]\nmetrics = '127.0.0.1:80'";
        let (root, places) = root(&[("a.toml", "exec = 'a'\nlisten = 80"), ("b.toml", metrics)]);
        for (name, other) in [("a", "b"), ("b", "a")] {
            let Output { out: text, code, .. } = check(&[name], &places);
            assert!(code == 0 && text.contains(&format!("warning: the app `{other}` listens on ")), "{name}: {text}");
            assert_eq!(text.matches("warning").count(), 1, "{text}");
        }
        // One that is not installed yet; and one that is, by its path.
        let new = root.path().join("new.toml");
        std::fs::write(&new, "exec = 'a'\nlisten = 81").unwrap();
        let text = check(&[new.to_str().unwrap()], &places).out;
        assert!(text.contains("the app `b` listens on 81 too"), "{text}");
        let alone = root.path().join("a.toml");
        std::fs::write(&alone, "exec = 'a'\nlisten = 8080").unwrap();
        assert!(!check(&[alone.to_str().unwrap()], &places).out.contains("warning"));
    }

    #[test]
    fn a_path_is_a_file() {
        let (root, places) = root(&[("a.toml", "exec = ''")]);
        let path = root.path().join("etc/appctl/a.toml");
        let Output { out: text, code, .. } = check(&[path.to_str().unwrap()], &places);
        assert!(code == 1 && text.contains("exec is empty"), "{text}");
    }
}
