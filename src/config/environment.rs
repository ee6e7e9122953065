//! `[environment]`, the profiles and the environment files.

use std::collections::BTreeMap;
use std::path::Path;

use super::Numbering;
use super::file::{Item, Table, nearest};
use super::report::Problems;
use super::value::{self, Wrong};

pub(super) fn read_environment_files(
    item: &Item<'_>,
    directory: Option<&Path>,
    problems: &mut Problems,
) -> Vec<String> {
    let mut files = Vec::new();
    for element in item.elements() {
        let Some(text) = element.text(problems) else { continue };
        let path = text.text.strip_prefix('-').unwrap_or(&text.text);
        let result = value::one_line(&text.text).and_then(|()| {
            if path.starts_with('/') {
                return Ok(text.text.clone());
            }
            let directory = directory.unwrap_or(Path::new("/srv/app"));
            Err(Wrong::new(
                format!("`{path}` is not an absolute path"),
                format!("write the whole path, such as \"{}\"", directory.join(path).display()),
            ))
        });
        files.extend(element.check(problems, result));
    }
    files
}

pub(super) type Environment = BTreeMap<String, String>;

/// `[environment]`, `active_profile` and `[profile.NAME.environment]`: the variables in force, the profile, all profiles.
pub(super) fn read_environment(
    top: &mut Table<'_>,
    problems: &mut Problems,
) -> (Environment, Option<String>, Vec<String>) {
    let mut environment = top.take("environment").map(|item| read_variables(&item, problems)).unwrap_or_default();
    let active = top.take("active_profile").and_then(|item| item.text(problems));
    let mut profiles = Vec::new();
    let mut found = None;
    for (name, item) in top.take_table("profile", problems).take_rest() {
        profiles.push(name.text.clone());
        let Some(mut table) = item.table(problems) else { continue };
        let variables = table.take("environment").map(|item| read_variables(&item, problems)).unwrap_or_default();
        table.finish(problems);
        if active.as_ref().is_some_and(|active| active.text == name.text) {
            found = Some(variables);
        }
    }
    profiles.sort_unstable();
    match (&active, found) {
        (Some(_), Some(variables)) => environment.extend(variables),
        (Some(active), None) => {
            let candidates: Vec<&str> = profiles.iter().map(String::as_str).collect();
            let remedy = match nearest(&active.text, &candidates) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("add [profile.{}.environment]", active.text),
            };
            problems.error(
                active.span.clone(),
                format!("active_profile: there is no profile `{}`", active.text),
                remedy,
            );
        }
        (None, _) => {}
    }
    (environment, active.map(|active| active.text), profiles)
}

/// Variables by which Node finds its channel: the worker's start sets them.
const OWN_VARIABLES: [&str; 3] = ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID"];

/// Whether a variable may be called so.
pub(super) fn is_variable(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `index_variable` and `increment_variable`.
pub(super) fn read_numbering(top: &mut Table<'_>, problems: &mut Problems) -> Numbering {
    let mut name = |key| {
        let item = top.take(key)?;
        item.read(problems, |text| {
            if is_variable(text) && !OWN_VARIABLES.contains(&text) {
                return Ok(text.to_owned());
            }
            Err(Wrong::new(
                format!("`{text}` cannot be the name of a variable"),
                "write a name of ASCII letters, digits and `_`, a letter first, that is not one of Node's channel",
            ))
        })
    };
    let index = name("index_variable").filter(|name| name != "NODE_APP_INSTANCE");
    Numbering { index, increment: name("increment_variable") }
}

fn read_variables(item: &Item<'_>, problems: &mut Problems) -> Environment {
    let mut variables = Environment::new();
    let Some(mut table) = item.table(problems) else { return variables };
    for (key, item) in table.take_rest() {
        if !is_variable(&key.text) {
            problems.error(
                key.span,
                format!("`{}` cannot be the name of a variable", key.text),
                "use ASCII letters, digits and `_`, a letter first",
            );
            continue;
        }
        if OWN_VARIABLES.contains(&key.text.as_str()) {
            problems.error(key.span, format!("{} is set by appctl for each worker", key.text), "remove it");
            continue;
        }
        let Some(text) = item.scalar(["false", "true"], problems) else { continue };
        if let Some(bad) = text.text.chars().find(|c| c.is_control() && !"\t\n".contains(*c)) {
            problems.error(
                item.span.clone(),
                format!(
                    "{}: it contains the control character U+{:04X}, which systemd refuses",
                    item.path,
                    u32::from(bad)
                ),
                "remove the character",
            );
            continue;
        }
        variables.insert(key.text, text.text);
    }
    variables
}
