//! What an app's file names and this machine does not have: users, directories, programs. It may come later, or be another
//! machine's, so all of it is warnings.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User};

use crate::config::{App, Level, Problem, Scope};

/// Where systemd looks for programs, and a worker's `PATH` if the file sets none (systemd.exec(5)).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is run by an interpreter, by its ending.
const SCRIPTS: [&str; 7] = ["js", "mjs", "cjs", "ts", "mts", "py", "rb"];

/// Whether this machine has no user of that name. An id need have none.
pub(super) fn lacks_user(name: &str) -> bool {
    name.parse::<u32>().is_err() && matches!(User::from_name(name), Ok(None))
}

/// The same of a group.
pub(super) fn lacks_group(name: &str) -> bool {
    name.parse::<u32>().is_err() && matches!(Group::from_name(name), Ok(None))
}

/// What is missing, with the lines of `text` that name it.
pub(super) fn missing(app: &App, text: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut warn = |key: &str, name: &str, message: String, remedy: &str| {
        found.push(at(text, key, name, Problem::whole(Level::Warning, format!("{key}: {message}"), remedy)));
    };
    if let Some(user) = app.user.as_ref().filter(|user| lacks_user(user)) {
        warn(
            "user",
            user,
            format!("this machine has no user {user}"),
            "make it before the app starts, or mend the name",
        );
    }
    if let Some(group) = app.group.as_ref().filter(|group| lacks_group(group)) {
        warn(
            "group",
            group,
            format!("this machine has no group {group}"),
            "make it before the app starts, or mend the name",
        );
    }
    const LATER: &str = "put it there before the app starts, or mend the path";
    let directory = app.directory.as_deref();
    if let Some(directory) = directory {
        match std::fs::metadata(directory) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                let name = directory.display().to_string();
                warn("directory", &name, format!("{name} is not a directory"), "write the directory that it is in");
            }
            Err(error) if is_missing(&error) => {
                let name = directory.display().to_string();
                warn("directory", &name, format!("{name} is not there"), LATER);
                // What is below it is not there either.
                return found;
            }
            Err(_) => {}
        }
    }
    for file in app.environment_files.iter().filter(|file| !file.starts_with('-')) {
        if !is_there(Path::new(file)) {
            warn(
                "environment_files",
                file,
                format!("{file} is not there"),
                "put it there, or write \"-\" before it where it may be missing",
            );
        }
    }
    for (name, path) in &app.credentials {
        let shown = path.display().to_string();
        match std::fs::metadata(path) {
            Err(error) if is_missing(&error) => {
                warn(
                    "credentials",
                    &shown,
                    format!("{name}: {shown} is not there, and no worker starts without it"),
                    LATER,
                );
            }
            Ok(metadata) if metadata.is_dir() => {
                warn("credentials", &shown, format!("{name}: {shown} is a directory"), "write the path of a file");
            }
            Ok(metadata) if metadata.permissions().mode() & 0o004 != 0 => warn(
                "credentials",
                &shown,
                format!("{name}: everybody may read {shown}"),
                "if it is a secret, take that right away (chmod 600): systemd gives it to the workers by itself",
            ),
            _ => {}
        }
    }
    let Some((program, arguments)) = app.exec.split_first() else { return found };
    let whole = |word: &str| directory.map_or_else(|| PathBuf::from(word), |directory| directory.join(word));
    if program.contains('/') {
        if !is_there(&whole(program)) {
            warn("exec", program, format!("{program} is not there"), LATER);
        }
    } else if app.scope == Scope::System && app.environment_files.is_empty() {
        // Of a user's own manager, and of files of variables, nobody here knows the PATH.
        let path = app.environment.get("PATH").map_or(PATH, String::as_str);
        if !std::env::split_paths(path).any(|directory| is_program(&directory.join(program))) {
            warn(
                "exec",
                program,
                format!("there is no program {program} in {path}"),
                "install it, or write its whole path: what a shell finds (nvm's Node, say) a unit does not",
            );
        }
    }
    let is_script = |word: &&String| {
        let ending = Path::new(word).extension().and_then(|it| it.to_str()).unwrap_or_default();
        !word.starts_with('-') && SCRIPTS.contains(&ending)
    };
    // The first alone: the others are its arguments.
    let script = arguments.iter().find(is_script).filter(|word| word.starts_with('/') || directory.is_some());
    if let Some(script) = script.filter(|script| !is_there(&whole(script))) {
        warn("exec", script, format!("{} is not there", whole(script).display()), LATER);
    }
    found
}

/// Whoever may not look cannot tell.
fn is_there(path: &Path) -> bool {
    !std::fs::metadata(path).is_err_and(|error| is_missing(&error))
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// A problem with its place: where `name` stands behind the key, if that is to be found.
pub(super) fn at(text: &str, key: &str, name: &str, mut problem: Problem) -> Problem {
    let mut lines =
        text.lines().enumerate().skip_while(|(_, line)| !line.trim_start_matches([' ', '\t', '[']).starts_with(key));
    if let Some((number, line, at)) = lines.find_map(|(number, line)| Some((number, line, line.find(name)?))) {
        problem.line = number + 1;
        problem.column = line[..at].chars().count() + 1;
        problem.width = name.chars().count();
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(usize, String)> {
        let report = crate::config::parse("app", Path::new("/etc/appctl/app.toml"), text, Scope::System);
        let app = report.app.unwrap_or_else(|| panic!("{text}: {:#?}", report.problems));
        missing(&app, text).into_iter().map(|problem| (problem.line, problem.message)).collect()
    }

    #[test]
    fn what_is_not_here() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().display();
        std::fs::write(directory.path().join("app.js"), "").unwrap();
        let fine = format!("directory = '{here}'\nuser = 'root'\ngroup = '0'\n");
        for (text, line, words) in [
            ("exec = '/bin/sh'\nuser = 'no-such-user'".to_owned(), 2, "this machine has no user no-such-user"),
            ("exec = '/bin/sh'\ngroup = 'no-such-group'".to_owned(), 2, "no group no-such-group"),
            ("exec = '/bin/sh x.js'\ndirectory = '/no/such'".to_owned(), 2, "directory: /no/such is not there"),
            ("exec = '/bin/sh'\ndirectory = '/bin/sh'".to_owned(), 2, "is not a directory"),
            ("exec = '/bin/sh'\nenvironment_files = ['-/no/1', '/no/2']".to_owned(), 2, "/no/2 is not there"),
            ("exec = '/no/node /x'".to_owned(), 1, "exec: /no/node is not there"),
            ("exec = 'no-such-program /x'".to_owned(), 1, "no program no-such-program in /usr/local/sbin:"),
            ("exec = 'sh'\n[environment]\nPATH = '/no'".to_owned(), 1, "no program sh in /no"),
            (format!("{fine}exec = ['/bin/sh', '--x=1.js', 'none.js', 'other.js']"), 4, "none.js is not there"),
        ] {
            let found = told(&text);
            assert!(found.len() == 1 && found[0].0 == line && found[0].1.contains(words), "{text}: {found:?}");
        }
        for exec in ["['/bin/sh', 'app.js', 'none.js']", "['sh', './app.js']", "['sh', '-c', 'x']"] {
            assert_eq!(told(&format!("{fine}exec = {exec}")), [], "{exec}");
        }
    }
}
