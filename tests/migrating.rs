//! From PM2: the guide is what the importer does, and no key of PM2's is missing.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use appctl::cli::counterparts;
use appctl::pm2::keys::{KEYS, find};
use appctl::pm2::{guide, verbs::VERBS};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The files of `tests/apps/pm2`, which stand for all there is.
const FILES: [(&str, &str); 10] = [
    ("shop/ecosystem.config.js", "production"),
    ("api/pm2.config.cjs", ""),
    ("chat/chat.config.mjs", ""),
    ("jobs/ecosystem.json", ""),
    ("board/processes.yaml", "staging"),
    ("legacy/processes.json", ""),
    ("esm/ecosystem.config.js", ""),
    ("package.json", ""),
    ("agent/ecosystem.config.js", ""),
    ("users/ecosystem.config.cjs", "production"),
];

#[test]
fn the_guide_is_up_to_date() {
    let path = Path::new(ROOT).join("packaging/MIGRATING.md");
    let others = counterparts::ALL.iter().map(|other| (other.verbs, other.answer.text()));
    let text = guide::text(others);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "packaging/MIGRATING.md is out of date: BLESS=1 cargo test --test integration migrating");
}

#[test]
fn the_guide_counts_pm2s_scripts() {
    let table = include_str!("system/pm2_suite.txt");
    let lines: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).collect();
    let pass = lines.iter().filter(|line| line.ends_with(" passes")).count();
    let left = lines.iter().filter(|line| line.contains(" left: ")).count();
    assert_eq!(guide::SCRIPTS, (pass, lines.len() - left));
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (pass, all) = guide::SCRIPTS;
    assert!(readme.contains(&format!("{pass} of the {all} end-to-end scripts of PM2")), "README.md counts otherwise");
}

#[test]
fn the_guides_commands_exist() {
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_appctl")).args(arguments).arg("--help").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let all = help(&[]);
    for command in VERBS.iter().filter_map(|verb| verb.ours.strip_prefix("appctl ")) {
        let mut words = command.split(' ');
        let verb = words.next().unwrap();
        assert!(
            all.lines().any(|line| line.trim_start().starts_with(&format!("{verb} "))),
            "there is no appctl {verb}"
        );
        let text = help(&[verb]);
        for flag in words.filter(|word| word.starts_with('-')) {
            assert!(text.split([' ', ',', '[', '\n']).any(|word| word == flag), "appctl {verb} has no {flag}");
        }
    }
}

#[test]
fn every_flag_of_the_table_is_one_of_start() {
    let output = Command::new(env!("CARGO_BIN_EXE_appctl")).args(["start", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for key in KEYS.iter().filter(|key| !key.flag.is_empty() && key.flag != "--") {
        assert!(help.split([' ', ',', '[', '\n']).any(|word| word == key.flag), "{}: no {}", key.name, key.flag);
    }
}

/// PM2's own list of keys, where PM2 is installed.
#[test]
fn no_key_of_pm2s_schema_is_missing() {
    let path = Path::new(ROOT).join("tests/apps/pm2/node_modules/pm2/lib/API/schema.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: PM2 is missing in tests/apps/pm2/node_modules; get it with tests/run");
        return;
    };
    let schema: Value = serde_json::from_str(&text).unwrap();
    let mut missing = Vec::new();
    for (key, about) in schema.as_object().unwrap() {
        let name = if key.starts_with('^') { "env_production" } else { key };
        let aliases: Vec<&str> = match &about["alias"] {
            Value::Array(aliases) => aliases.iter().filter_map(Value::as_str).collect(),
            Value::String(alias) => vec![alias],
            _ => Vec::new(),
        };
        let entry = find(name);
        missing.extend(entry.is_none().then(|| name.to_owned()));
        for alias in aliases {
            if find(alias).map(|key| key.name) != entry.map(|key| key.name) {
                missing.push(format!("{alias} ({name})"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_files_use_every_key_and_none_is_dropped() {
    let apps = Path::new(ROOT).join("tests/apps/pm2");
    let home = tempfile::tempdir().unwrap();
    let mut used = BTreeSet::new();
    for (file, profile) in FILES {
        let mut command = Command::new(env!("CARGO_BIN_EXE_appctl"));
        command.args(["import", "--dry-run", "--json", "--system", file]).current_dir(&apps);
        command.env("XDG_CONFIG_HOME", home.path());
        if !profile.is_empty() {
            command.args(["--env", profile]);
        }
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("there is no node") {
            return println!("skipped: there is no node");
        }
        assert!(output.status.success(), "{file}: {error}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for key in report.as_array().unwrap().iter().flat_map(|app| app["keys"].as_array().unwrap()) {
            let name = key["key"].as_str().unwrap();
            match find(name) {
                Some(known) => {
                    used.insert(known.name);
                }
                None => assert_eq!((name, key["fate"].as_str()), ("colour", Some("unknown")), "{file}"),
            }
            assert!(!key["text"].as_str().unwrap().is_empty(), "{file}: {name} is told of without a word");
        }
    }
    let all: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
    let unused: Vec<_> = all.difference(&used).collect();
    assert!(unused.is_empty(), "no file has {unused:?}");
}
