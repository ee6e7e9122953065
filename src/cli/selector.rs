//! What the words mean that name apps and workers: a name, an id, and what stands for several: `all`, `/regex/`, a file that
//! describes them.

use std::path::Path;

use regex::RegexBuilder;

use super::exit::Failure;
use super::import::{self, Choice};
use super::names::{Asked, Target, is_root};
use super::{apps, ids, whereabouts};
use crate::config::Scope;

const NONE_YET: &str = "There are no apps yet: `appctl start SCRIPT` makes one.";

/// What the arguments mean, in their order and once each; `all` is every app, `/regex/` every one whose name it matches,
/// a file the apps that it describes, a number the worker of that id. Names without a file are refused.
pub(super) async fn targets(words: &[String], asked: Asked) -> Result<Vec<(Scope, Target)>, Failure> {
    let mut targets = Vec::new();
    for word in words {
        if let Some(names) = read(word, asked)? {
            targets.extend(names.into_iter().map(|(scope, name)| (scope, Target::App(name))));
            continue;
        }
        if ids::is_id(word, asked) {
            targets.push(ids::find(word, asked).await?);
            continue;
        }
        let target = Target::read(word);
        let scope = asked.for_app(target.app());
        if !apps::exists(scope, target.app()) {
            return Err(apps::unknown(scope, target.app()));
        }
        targets.push((scope, target));
    }
    let mut seen = Vec::new();
    targets.retain(|target| {
        !seen.contains(target) && {
            seen.push(target.clone());
            true
        }
    });
    Ok(targets)
}

/// The apps that are asked for, all of them if none is named.
pub(super) async fn wanted(words: &[String], asked: Asked) -> Result<Vec<(Scope, String)>, Failure> {
    if words.is_empty() {
        return asked.every();
    }
    let mut wanted = Vec::new();
    for (scope, target) in targets(words, asked).await? {
        let app = (scope, target.app().to_owned());
        if !wanted.contains(&app) {
            wanted.push(app);
        }
    }
    Ok(wanted)
}

/// The apps that a word stands for, if it is no plain name.
fn read(word: &str, asked: Asked) -> Result<Option<Vec<(Scope, String)>>, Failure> {
    if word == "all" && !apps::exists(asked.for_app(word), word) {
        let all = own(asked)?;
        // Nobody says `all` and means none: a deployment is told, as by PM2.
        return if all.is_empty() { Err(Failure::UnknownApp(NONE_YET.to_owned())) } else { Ok(Some(all)) };
    }
    if let Some((pattern, flags)) = pattern(word) {
        return matching(pattern, flags, asked).map(Some);
    }
    let names = if import::is_file(word) { Some(import::names(word, &Choice::default())?) } else { of_file(word) };
    let Some(names) = names else {
        let known = apps::exists(asked.for_app(word), word);
        let of_script = if known { Vec::new() } else { whereabouts::by_script(word, &asked.for_all())? };
        return Ok(Some(of_script).filter(|apps| !apps.is_empty()));
    };
    names
        .into_iter()
        .map(|name| {
            let scope = asked.for_app(&name);
            if apps::exists(scope, &name) { Ok((scope, name)) } else { Err(apps::unknown(scope, &name)) }
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Some)
}

/// Whether a word stands for apps that are there, and cannot be a script's.
pub(super) fn is_of_several(word: &str) -> bool {
    word == "all" || pattern(word).is_some_and(|_| !Path::new(word).exists())
}

/// For commands about files alone: names of apps by scope, each once. A path to a file of ours stays one where `paths` are
/// meant as such, and what is not there is left to the command to tell.
pub(super) async fn of_files(
    words: &[String],
    paths: bool,
    asked: Asked,
) -> Result<Vec<(Scope, Vec<String>)>, Failure> {
    let mut found: Vec<(Scope, Vec<String>)> = Vec::new();
    for word in words {
        let is_path = paths && of_file(word).is_some();
        let several =
            is_of_several(word) || import::is_file(word) || ids::is_id(word, asked) || of_file(word).is_some();
        let meant = if several && !is_path {
            let targets = targets(std::slice::from_ref(word), asked).await?;
            targets.into_iter().map(|(scope, target)| (scope, target.app().to_owned())).collect()
        } else {
            let target = Target::read(word);
            let scope = asked.for_app(target.app());
            // One of its workers means the app.
            let name = if apps::exists(scope, target.app()) { target.app() } else { word };
            vec![(scope, name.to_owned())]
        };
        for (scope, name) in meant {
            match found.iter_mut().find(|(of, _)| *of == scope) {
                Some((_, names)) if names.contains(&name) => {}
                Some((_, names)) => names.push(name),
                None => found.push((scope, vec![name])),
            }
        }
    }
    Ok(found)
}

/// Every app that the caller may mean to change.
fn own(asked: Asked) -> Result<Vec<(Scope, String)>, Failure> {
    let mut scopes = asked.for_all();
    if asked.0.is_none() && !is_root() {
        // What everybody may see is not what he means to change.
        scopes.retain(|scope| *scope == Scope::User);
    }
    let mut all = Vec::new();
    for scope in scopes {
        all.extend(apps::names(scope)?.into_iter().map(|name| (scope, name)));
    }
    Ok(all)
}

/// `/regex/`, and the letters after it that change what it means.
fn pattern(word: &str) -> Option<(&str, &str)> {
    let (pattern, flags) = word.strip_prefix('/')?.rsplit_once('/')?;
    let known = flags.chars().all(|flag| "gim".contains(flag));
    (!pattern.is_empty() && known).then_some((pattern, flags))
}

fn matching(pattern: &str, flags: &str, asked: Asked) -> Result<Vec<(Scope, String)>, Failure> {
    let regex = RegexBuilder::new(pattern)
        .case_insensitive(flags.contains('i'))
        .build()
        .map_err(|error| Failure::Usage(format!("/{pattern}/ is no regular expression: {}", last_line(&error))))?;
    let all = own(asked)?;
    let found: Vec<_> = all.iter().filter(|(_, name)| regex.is_match(name)).cloned().collect();
    if found.is_empty() {
        let names: Vec<&str> = all.iter().map(|(_, name)| name.as_str()).collect();
        let hint = match names.as_slice() {
            [] => NONE_YET.to_owned(),
            names => format!("There are: {}", names.join(", ")),
        };
        return Err(Failure::UnknownApp(format!("no app's name matches /{pattern}/\n{hint}")));
    }
    Ok(found)
}

/// The error itself, without the drawing of the place.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The names of the apps that a file describes, by what the file is called; `None`: it is no such file.
pub(super) fn of_file(word: &str) -> Option<Vec<String>> {
    let path = Path::new(word);
    let is_ours = path.extension().is_some_and(|ending| ending == "toml");
    if !is_ours || !path.is_file() {
        return None;
    }
    Some(vec![path.file_stem()?.to_str()?.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_expressions_between_slashes() {
        assert_eq!(pattern("/^api-/"), Some(("^api-", "")));
        assert_eq!(pattern("/Api|web/gi"), Some(("Api|web", "gi")));
        assert_eq!(pattern("/a/b/"), Some(("a/b", "")));
        for no in ["shop", "/", "//", "/srv/app.js", "/srv/x", "api/", "all"] {
            assert_eq!(pattern(no), None, "{no}");
        }
    }

    #[test]
    fn a_file_of_ours_stands_for_its_app() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.toml");
        std::fs::write(&path, "").unwrap();
        assert_eq!(of_file(path.to_str().unwrap()), Some(vec!["shop".to_owned()]));
        assert_eq!(of_file("shop.toml.bak"), None);
        assert_eq!(of_file("shop"), None);
    }

    #[test]
    fn what_is_no_regular_expression_is_a_usage_error() {
        let failure = matching("(", "", Asked(Some(Scope::System))).unwrap_err();
        assert_eq!(failure.code(), super::super::exit::USAGE);
        assert!(failure.to_string().contains("unclosed group"), "{failure}");
    }
}
