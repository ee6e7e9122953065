//! `sandbox` and `credentials`: what is kept from the workers, and what is given to them alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::file::Table;
use super::report::Problems;
use super::value::{self, Wrong};

/// How much of systemd's sandbox a worker gets; `units/worker.sandbox` and `units/worker-strict.sandbox` are the texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Only what the app asked for by its directory is writable, and nothing of other users can be seen.
    Strict,
    /// What practically no web app notices.
    #[default]
    Default,
    /// What systemd gives by itself.
    Off,
}

pub(super) fn read_sandbox(top: &mut Table<'_>, problems: &mut Problems) -> Sandbox {
    let item = top.take("sandbox");
    let read = item.and_then(|item| {
        item.read(problems, |text| match text {
            "strict" => Ok(Sandbox::Strict),
            "default" => Ok(Sandbox::Default),
            "off" => Ok(Sandbox::Off),
            _ => Err(Wrong::new(
                format!("`{text}` is not one of the choices"),
                "write \"strict\", \"default\" or \"off\"; single switches are changed under [service]",
            )),
        })
    });
    read.unwrap_or_default()
}

/// The longest name of a file.
const NAME_MAX: usize = 255;

/// `credentials.NAME = "/path"`.
pub(super) fn read_credentials(top: &mut Table<'_>, problems: &mut Problems) -> BTreeMap<String, PathBuf> {
    let mut credentials = BTreeMap::new();
    for (name, item) in top.take_table("credentials", problems).take_rest() {
        let shaped = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if name.text.is_empty()
            || name.text.starts_with('.')
            || !name.text.bytes().all(shaped)
            || name.text.len() > NAME_MAX
        {
            problems.error(
                name.span,
                format!("`{}` cannot be the name of a credential", name.text.escape_debug()),
                "it is the name of a file: use ASCII letters, digits, `_`, `.` and `-`, no `.` first",
            );
            continue;
        }
        let path = item.text(problems).and_then(|text| item.check(problems, read_path(&text.text)));
        credentials.extend(path.map(|path| (name.text, path)));
    }
    credentials
}

fn read_path(text: &str) -> Result<PathBuf, Wrong> {
    value::one_line(text)?;
    if !text.starts_with('/') {
        return Err(Wrong::new(
            format!("`{text}` is not an absolute path"),
            format!("write the whole path, such as \"/etc/credentials/{}\"", text.trim_start_matches("./")),
        ));
    }
    if text.contains(|c: char| c.is_whitespace() || "\"'\\".contains(c)) {
        return Err(Wrong::new(
            "systemd takes no blank, quote or backslash in the path of a credential: newer versions start no worker then",
            "move the file, or make a link to it without them",
        ));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(Wrong::new("systemd takes no `..` in the path of a credential", "write the path without it"));
    }
    Ok(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::super::{Report, Scope, parse};
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Report {
        parse("app", Path::new("/etc/appctl/app.toml"), &format!("exec = '/x'\n{text}"), Scope::System)
    }

    #[test]
    fn choices() {
        for (text, sandbox) in [
            ("", Sandbox::Default),
            ("sandbox = 'default'", Sandbox::Default),
            ("sandbox = 'strict'", Sandbox::Strict),
            ("sandbox = 'off'", Sandbox::Off),
        ] {
            assert_eq!(read(text).app.unwrap().sandbox, sandbox, "{text}");
        }
        for text in ["sandbox = 'none'", "sandbox = true", "sandbox = ''"] {
            assert!(read(text).error().unwrap().message.starts_with("sandbox"), "{text}");
        }
    }

    #[test]
    fn credentials_are_files_with_names() {
        let app = read("[credentials]\n'api.key' = '/etc/app/key-100%'\nb = '/b'").app.unwrap();
        let expected = [("api.key".to_owned(), "/etc/app/key-100%".into()), ("b".to_owned(), "/b".into())];
        assert_eq!(app.credentials, BTreeMap::from(expected));
        for (line, told) in [
            ("a = 'x'", "not an absolute path"),
            ("a = '/with blank'", "no blank"),
            ("a = '/a\\b'", "no blank, quote or backslash"),
            ("a = '/x/../y'", "no `..`"),
            ("a = \"/x\\ny\"", "control character"),
            ("a = 5", "must be a string"),
            ("'../a' = '/x'", "cannot be the name"),
            ("'a:b' = '/x'", "cannot be the name"),
            ("'' = '/x'", "cannot be the name"),
            ("\"a\\nb\" = '/x'", "`a\\nb` cannot be the name"),
        ] {
            let report = read(&format!("[credentials]\n{line}"));
            assert!(report.error().is_some_and(|error| error.message.contains(told)), "{line}: {:?}", report.problems);
        }
    }
}
