//! README.md says nothing that is not so: its keys, defaults, files and commands are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use appctl::config::{App, Level, Report, Scope, parse};

const README: &str = include_str!("../README.md");

fn read(text: &str) -> Report {
    parse("app", Path::new("/etc/appctl/app.toml"), text, Scope::System)
}

/// The app, and no word of complaint.
#[track_caller]
fn sound(text: &str) -> App {
    let report = read(text);
    assert!(report.problems.is_empty(), "{text}\n{:#?}", report.problems);
    report.app.expect("a file without problems is an app")
}

/// A row of the reference: key, example and default as TOML values.
struct Row {
    key: String,
    example: String,
    default: Option<String>,
}

/// The value between a cell's backquotes.
fn value(cell: &str) -> Option<String> {
    cell.trim().strip_prefix('`')?.strip_suffix('`').map(str::to_owned)
}

fn reference() -> Vec<Row> {
    let rows: Vec<Row> = README
        .lines()
        .skip_while(|line| !line.starts_with("| Key | Example | Default |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').splitn(4, '|').collect();
            let key = value(cells[0]).unwrap_or_else(|| panic!("no key in {line}"));
            let example = value(cells[1]).unwrap_or_else(|| panic!("no example in {line}"));
            Row { key, example, default: value(cells[2]) }
        })
        .collect();
    assert!(rows.len() > 30, "the reference was not found");
    rows
}

/// Each key of the reference and its example.
pub(crate) fn examples() -> Vec<(String, String)> {
    reference().into_iter().map(|row| (row.key, row.example)).collect()
}

/// A whole file without a key, and the same with it: `stop.timeout = value`, and what it needs to make sense.
pub(crate) fn files(key: &str, value: &str) -> (String, String) {
    let needs: &[(&str, &str, &str)] = match key {
        "start" => &[("", "listen", "[\"8080\"]")],
        "active_profile" => &[("profile.production.environment", "A", "1")],
        "profile.NAME.environment.NAME" => {
            &[("", "active_profile", "\"NAME\""), ("profile.NAME.environment", "A", "1")]
        }
        "restart.interval" => &[("restart", "limit", "3")],
        "ignore" => &[("", "watch", "true")],
        "ready.http" => &[("", "runtime", "\"port\"")],
        "router.cookie" => &[("", "sticky", "\"cookie\"")],
        "router.key_timeout" => &[("", "sticky", "\"address\"")],
        _ => &[],
    };
    // The reference's KEY stands for a key of systemd.
    let key = key.replace("service.KEY", "service.PrivateTmp").replace("socket.KEY", "socket.KeepAlive");
    let (table, name) = key.rsplit_once('.').unwrap_or(("", &key));
    let base = [("", "exec", "[\"node\", \"worker.js\"]"), ("", "directory", "\"/srv\"")];
    let without: Vec<_> =
        base.iter().chain(needs).copied().filter(|entry| (entry.0, entry.1) != (table, name)).collect();
    let with = [without.as_slice(), &[(table, name, value)]].concat();
    (written(&without), written(&with))
}

/// Entries (table, key, value) as a file.
fn written(entries: &[(&str, &str, &str)]) -> String {
    let mut tables: BTreeMap<&str, String> = BTreeMap::new();
    for (table, name, value) in entries {
        *tables.entry(table).or_default() += &format!("{name} = {value}\n");
    }
    let heads = tables
        .iter()
        .map(|(table, lines)| if table.is_empty() { lines.clone() } else { format!("[{table}]\n{lines}") });
    heads.collect()
}

#[test]
fn every_key_of_the_reference_is_accepted_and_means_something() {
    for Row { key, example, .. } in reference() {
        let (without, with) = files(&key, &example);
        let app = sound(&with);
        // Node is what would have been guessed.
        if key != "runtime" {
            assert_ne!(Some(app), read(&without).app, "{key} = {example} changes nothing");
        }
    }
}

#[test]
fn every_default_of_the_reference_is_the_default() {
    let mut tried = 0;
    for Row { key, default, .. } in reference() {
        let Some(default) = default else { continue };
        let (without, with) = files(&key, &default);
        let (without, with) = (read(&without).app, read(&with).app);
        assert!(with.is_some(), "{key} = {default}");
        assert_eq!(with, without, "{key}: the default is not {default}");
        tried += 1;
    }
    assert!(tried > 15, "{tried} defaults");
}

/// What the parser itself names as the keys of a table.
fn known_keys(table: &str) -> BTreeSet<String> {
    let text = if table.is_empty() {
        written(&[("", "exec", "\"node worker.js\""), ("", "zzzz", "1")])
    } else {
        written(&[("", "exec", "\"node worker.js\""), (table, "zzzz", "1")])
    };
    let report = read(&text);
    let unknown = report.problems.iter().find(|problem| problem.level == Level::UnknownKey);
    let remedy = &unknown.unwrap_or_else(|| panic!("[{table}] took zzzz: {:?}", report.problems)).remedy;
    let names = remedy.strip_prefix("the keys here are ").unwrap_or_else(|| panic!("{remedy}"));
    names.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_reference_has_every_key() {
    let mut here: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Row { key, .. } in reference() {
        let (table, name) = key.split_once('.').map_or(("", key.as_str()), |(table, name)| (table, name));
        here.entry(table.to_owned()).or_default().insert(name.to_owned());
        if !table.is_empty() {
            here.entry(String::new()).or_default().insert(table.to_owned());
        }
    }
    // The names in these are the operator's, or systemd's.
    for free in ["credentials", "environment", "profile", "service", "socket"] {
        assert!(here.remove(free).is_some(), "{free}");
    }
    for (table, keys) in here {
        assert_eq!(keys, known_keys(&table), "[{table}]");
    }
}

/// The contents of code blocks in a language.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{language}") {
            let block =
                lines.by_ref().take_while(|line| *line != "```").fold(String::new(), |all, line| all + line + "\n");
            blocks.push(block);
        }
    }
    blocks
}

#[test]
fn every_file_in_it_is_sound() {
    let files = blocks("toml");
    assert!(files.len() >= 2, "the files were not found");
    for file in files {
        sound(&file);
    }
}

/// What a shell would be given: indented lines, lines of `sh` blocks, and what stands between backquotes.
fn commands() -> BTreeSet<String> {
    let shell = blocks("sh").concat();
    let indented = README.lines().filter_map(|line| line.strip_prefix("    "));
    let prose: Vec<&str> =
        README.lines().filter(|line| !line.starts_with("```") && !line.starts_with("    ")).collect();
    let quoted: Vec<String> =
        prose.join("\n").split('`').skip(1).step_by(2).map(|words| words.replace('\n', " ")).collect();
    let all = shell.lines().chain(indented).chain(quoted.iter().map(String::as_str));
    all.map(|line| line.split('#').next().unwrap_or(line).trim())
        .map(|line| line.strip_prefix("sudo ").unwrap_or(line))
        .filter_map(|line| line.strip_prefix("appctl "))
        .filter(|line| !line.starts_with("COMMAND") && !line.starts_with("list, "))
        .map(str::to_owned)
        .collect()
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_appctl")).args(arguments).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The command and flags that a help text offers.
pub(crate) fn offers(help: &str, word: &str) -> bool {
    help.split(|c: char| c.is_whitespace() || ",[]:".contains(c)).any(|offered| offered == word)
}

#[test]
fn every_command_in_it_exists() {
    let all = help(&[]);
    let verbs: BTreeSet<&str> = all
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let mut used = BTreeSet::new();
    for command in commands() {
        let mut words = command.split_whitespace().filter(|word| !["--user", "--json"].contains(word));
        let verb = words.next().unwrap_or_default();
        assert!(verbs.contains(verb), "there is no `appctl {command}`: {verbs:?}");
        let text = help(&[verb]);
        for flag in
            words.take_while(|word| *word != "--").filter(|word| word.starts_with('-') && !word.starts_with("-1"))
        {
            assert!(offers(&text, flag), "`appctl {command}`: there is no {flag}\n{text}");
        }
        used.insert(verb.to_owned());
    }
    let told: BTreeSet<String> = verbs.iter().map(|&verb| verb.to_owned()).collect();
    assert_eq!(used, told, "commands that the README does not tell of");
    // PM2's flags, listed in one cell.
    let start = help(&["start"]);
    let row = README.lines().find(|line| line.contains("PM2's flags:")).expect("PM2's flags");
    for flag in row
        .split("PM2's flags:")
        .nth(1)
        .unwrap_or_default()
        .split('`')
        .filter(|word| word.starts_with('-') && !word.starts_with("-- "))
    {
        assert!(offers(&start, flag), "there is no {flag}");
    }
}

#[test]
fn every_file_it_names_is_there() {
    for link in README.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if link.starts_with("http") {
            continue;
        }
        if let Some(place) = link.strip_prefix('#') {
            let found = README
                .lines()
                .filter(|line| line.starts_with('#'))
                .any(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-") == place);
            assert!(found, "there is no section {link}");
            continue;
        }
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists(), "{link} is missing");
    }
    for script in ["tests/run", "packaging/demo"] {
        assert!(README.contains(script) && Path::new(env!("CARGO_MANIFEST_DIR")).join(script).exists(), "{script}");
    }
}
