//! The floors of the house (`src/lib.rs`): a room uses the rooms below it and no other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Room → the rooms that it may use.
const FLOORS: [(&str, &[&str]); 14] = [
    ("config", &[]),
    ("wire", &[]),
    ("system", &[]),
    ("unit", &["config"]),
    ("pm2", &["config"]),
    ("relay", &["wire"]),
    ("worker", &["config", "wire", "system"]),
    ("router", &["config", "wire", "system", "relay"]),
    ("generator", &["config", "unit", "system"]),
    ("foreground", &["config", "wire", "system", "router", "worker"]),
    ("rollout", &["config", "unit", "system", "router"]),
    ("watch", &["system"]),
    ("site", &[]),
    (
        "cli",
        &[
            "config",
            "unit",
            "pm2",
            "wire",
            "system",
            "relay",
            "worker",
            "router",
            "generator",
            "foreground",
            "rollout",
            "watch",
            "site",
        ],
    ),
];

/// Files that know no clock, socket, file or environment.
const PURE: [&str; 13] = [
    "src/config/",
    "src/unit/",
    "src/pm2/",
    "src/wire/",
    "src/relay/hub.rs",
    "src/router/table",
    "src/router/balance.rs",
    "src/router/tally.rs",
    "src/router/metrics/text.rs",
    "src/rollout/plan.rs",
    "src/rollout/excess.rs",
    "src/watch/debounce.rs",
    "src/watch/filter.rs",
];
const IMPURE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "std::env",
    "std::process",
    "std::os::unix::net",
    "Instant::now",
    "SystemTime",
    "tokio::",
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// The code before the file's tests: those may use what they like.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn room(path: &Path) -> String {
    let below = path.strip_prefix("src").unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn no_arrow_points_up_or_sideways() {
    let floors: BTreeMap<_, _> = FLOORS.into_iter().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let room = room(&path);
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let allowed = floors.get(room.as_str()).unwrap_or_else(|| panic!("{room} is on no floor: add it to FLOORS"));
        for used in code(&text).split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if used != room && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: {room} uses {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_files_stay_pure() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let name = path.to_string_lossy();
        if PURE.iter().any(|pure| name.starts_with(pure)) {
            let found = IMPURE.iter().filter(|impure| code(&text).contains(**impure));
            wrong.extend(found.map(|impure| format!("{name}: {impure}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_one_room() {
    for (path, text) in sources() {
        assert!(
            room(&path) == "system" || !text.contains("allow(unsafe_code)"),
            "{} allows unsafe code outside src/system",
            path.display()
        );
    }
}

#[test]
fn files_are_one_story_long() {
    for (path, text) in sources() {
        let lines = code(&text).lines().count();
        assert!(lines <= 600, "{} has {lines} lines before its tests: split it", path.display());
    }
}

/// Verb → the files beside it in the room of commands that it uses.
fn commands() -> BTreeMap<String, Vec<String>> {
    let sources = sources();
    let beside = |path: &Path| path.parent() == Some(Path::new("src/cli")) && !path.ends_with("mod.rs");
    let files = sources.iter().filter(|(path, _)| beside(path));
    let stem = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let names: Vec<String> = files.clone().map(|(path, _)| stem(path)).collect();
    let used = |text: &str| {
        let mut used = Vec::new();
        let lines = code(text).lines().filter(|line| !line.trim_start().starts_with("//"));
        for place in lines.collect::<Vec<_>>().join("\n").split("super::").skip(1) {
            // `super::{a, b::C, d::{E, F}}`: what stands behind the outermost bracket or a comma inside it.
            let mut depth = 0;
            for part in place.split_inclusive(['{', '}', ',', ';']) {
                let name: String = part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if depth <= 1 && names.contains(&name) {
                    used.push(name);
                }
                depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
                if depth <= 0 {
                    break;
                }
            }
        }
        used
    };
    files.map(|(path, text)| (stem(path), used(text))).collect()
}

#[test]
fn commands_do_not_run_in_circles() {
    let mut left = commands();
    assert!(left.values().map(Vec::len).sum::<usize>() > 100, "what commands use was not found: {left:#?}");
    // Who uses nobody that is left, or is used by nobody, is in no circle.
    loop {
        let before = left.len();
        let here: Vec<String> = left.keys().cloned().collect();
        left.retain(|file, used| used.iter().any(|name| name != file && here.contains(name)));
        for file in here {
            if !left.iter().any(|(user, used)| *user != file && used.contains(&file)) {
                left.remove(&file);
            }
        }
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "in a circle, or between two of them: {left:#?}");
}
