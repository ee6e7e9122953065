//! The generator over miniature roots: `generator/NN-name/` is a root, its `expected/` what must come of it:
//! `units/*` as written, `links`, `messages` for the log, and `check`, the output of `appctl check`.
//! `BLESS=1` writes `expected/` anew; then read the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use appctl::cli::check;
use appctl::config::Scope;
use appctl::generator::{generate, places::Places};

/// The machine that the expected trees are for.
const PROCESSORS: u32 = 4;

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generator");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// A case with a home is a user's.
fn scope_of(case: &Path) -> Scope {
    if case.join("home").exists() { Scope::User } else { Scope::System }
}

fn places_of(case: &Path) -> Places {
    let environment = |name: &str| match name {
        "APPCTL_ROOT" => Some(case.into()),
        "HOME" => Some("/home".into()),
        _ => None,
    };
    Places::new(scope_of(case), environment).unwrap()
}

/// A copy, because the generator remembers what was good below its root.
fn copy_of(case: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let status = Command::new("cp").arg("-a").arg(case.join(".")).arg(copy.path()).status();
    assert!(status.unwrap().success());
    copy
}

/// Runs the generator and `check`: relative path → content.
fn outcome(case: &Path) -> BTreeMap<String, String> {
    let case = copy_of(case);
    let places = places_of(case.path());
    let out = tempfile::tempdir().unwrap();
    let outcome = generate(&places, PROCESSORS, out.path());
    assert!(outcome.written);
    let mut tree = BTreeMap::new();
    let mut links = String::new();
    collect(out.path(), out.path(), &mut tree, &mut links);
    let messages =
        outcome.messages.iter().map(|it| format!("{} {}\n", if it.severe { "error" } else { "warning" }, it.text));
    tree.insert("messages".to_owned(), messages.collect());
    tree.insert("links".to_owned(), links);
    let check = check::report(&[], places.scope, Some(&places), Some(252));
    tree.insert("check".to_owned(), format!("{}exit code {}\n", check.out, check.code));
    tree
}

fn collect(top: &Path, directory: &Path, tree: &mut BTreeMap<String, String>, links: &mut String) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.strip_prefix(top).unwrap().to_str().unwrap();
        if path.is_symlink() {
            let target = std::fs::read_link(&path).unwrap();
            assert!(path.parent().unwrap().join(&target).exists(), "{name} leads nowhere");
            writeln!(links, "{name} -> {}", target.display()).unwrap();
        } else if path.is_dir() {
            collect(top, &path, tree, links);
        } else {
            tree.insert(format!("units/{name}"), std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn read_tree(top: &Path, directory: &Path, tree: &mut BTreeMap<String, String>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries.map(|it| it.unwrap().path()) {
        if path.is_dir() {
            read_tree(top, &path, tree);
        } else {
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            tree.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_root_yields_its_tree() {
    let mut differences = String::new();
    for case in cases() {
        let expected_at = case.join("expected");
        let found = outcome(&case);
        if std::env::var_os("BLESS").is_some() {
            let _ = std::fs::remove_dir_all(&expected_at);
            for (name, content) in &found {
                let path = expected_at.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            continue;
        }
        let mut expected = BTreeMap::new();
        read_tree(&expected_at, &expected_at, &mut expected);
        let names: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        for name in names {
            let (expected, found) = (expected.get(name), found.get(name));
            if expected != found {
                let show = |it: Option<&String>| it.cloned().unwrap_or("(no such file)\n".to_owned());
                let case = case.file_name().unwrap().to_string_lossy();
                writeln!(differences, "== {case}/{name}\n-- expected\n{}-- found\n{}", show(expected), show(found))
                    .unwrap();
            }
        }
    }
    assert!(differences.is_empty(), "BLESS=1 accepts this:\n{differences}");
}

/// A generator's answer must not depend on the order in which it runs, nor on what a former run left.
#[test]
fn a_second_run_changes_nothing() {
    for case in cases() {
        let case = copy_of(&case);
        let places = places_of(case.path());
        let out = tempfile::tempdir().unwrap();
        let first = generate(&places, PROCESSORS, out.path());
        let (mut once, mut twice) = (BTreeMap::new(), BTreeMap::new());
        read_tree(out.path(), out.path(), &mut once);
        assert_eq!(generate(&places, PROCESSORS, out.path()), first);
        read_tree(out.path(), out.path(), &mut twice);
        assert_eq!(once, twice);
    }
}

/// `systemd-analyze verify` with `directory` as the only place of generated units; output and whether it succeeded.
/// `None`: there is no systemd-analyze here.
fn verify(directory: &Path, scope: Scope, debug: bool) -> Option<(String, bool)> {
    let mut arguments = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".wants") {
            continue;
        }
        // The program need not be installed here.
        let path = directory.join(&name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("/usr/bin/appctl", "/bin/true")).unwrap();
        arguments.push(name.replace("@.", "@1."));
    }
    let (kind, flag) = if scope == Scope::User { ("user", "--user") } else { ("system", "--system") };
    let output = Command::new("systemd-analyze")
        .args([flag, "--man=no", "verify"])
        .args(arguments)
        .env("SYSTEMD_UNIT_PATH", format!("{}:/usr/lib/systemd/{kind}", directory.display()))
        .env("XDG_RUNTIME_DIR", directory)
        .env("SYSTEMD_LOG_LEVEL", if debug { "debug" } else { "info" })
        .current_dir(directory)
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: systemd-analyze is not here; install systemd");
        return None;
    };
    let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Some((if debug { texts[0].clone() } else { texts.concat() }, output.status.success()))
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    for case in cases() {
        let out = tempfile::tempdir().unwrap();
        generate(&places_of(copy_of(&case).path()), PROCESSORS, out.path());
        if std::fs::read_dir(out.path()).unwrap().next().is_none() {
            continue;
        }
        let Some((said, success)) = verify(out.path(), scope_of(&case), false) else { return };
        // Before systemd 254 pauses do not grow.
        let newer = |line: &&str| ["'RestartSteps'", "'RestartMaxDelaySec'"].iter().any(|key| line.contains(key));
        let said: Vec<&str> = said.lines().filter(|line| !newer(line)).collect();
        assert!(said.is_empty() && success, "{}:\n{said:#?}", case.display());
    }
}

/// What the operator wrote and what systemd understood are the same, whatever characters there are.
#[test]
fn systemd_reads_every_value_as_it_was_meant() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc/appctl")).unwrap();
    let toml = r##"
exec = ["/opt/a b/node", "100%", "$HOME ${HOME}", "a\"b\\c'd", ";", "", "tab\there", "größe", "#x", "%i", "-x"]
directory = "/srv/my %i app"
environment_files = ["-/etc/a %b.env"]
listen = ["/run/a %t b.sock"]
[environment]
EMPTY = ""
PERCENT = "%i %% $HOME"
QUOTES = "a \"b\" 'c' \\d"
LINES = "one\ntwo\tthree "
UMLAUT = "größe"
"##;
    std::fs::write(root.path().join("etc/appctl/a-b.toml"), toml).unwrap();
    let out = tempfile::tempdir().unwrap();
    generate(&places_of(root.path()), 1, out.path());
    let Some((dump, _)) = verify(out.path(), Scope::System, true) else { return };
    let unit = |name: &str| {
        let start = dump.find(&format!("-> Unit {name}:")).unwrap_or_else(|| panic!("no {name} in\n{dump}"));
        let end = dump[start + 1..].find("-> Unit ").map_or(dump.len(), |at| start + 1 + at);
        dump[start..end].to_owned()
    };
    let worker = unit("a-b@1.service");
    for told in [
        "Slice: a\\x2db.slice",
        "WorkingDirectory: /srv/my %i app\n",
        "EnvironmentFile: -/etc/a %b.env\n",
        "Environment: EMPTY=\n",
        "Environment: PERCENT=%i %% $HOME\n",
        "Environment: QUOTES=a \"b\" 'c' \\d\n",
        "Environment: LINES=one\ntwo\tthree \n",
        "Environment: UMLAUT=größe\n",
    ] {
        assert!(worker.contains(told), "{told:?} is not in\n{worker}");
    }
    // As the dump writes words; `$$` becomes `$` at exec only.
    let meant = r##"-- "/opt/a b/node" 100% "\$\$HOME \$\${HOME}" "a\"b\\c'd" ";" "" "tab\there" größe #x %i -x"##;
    let line = worker.lines().find(|line| line.contains("worker exec")).unwrap();
    assert!(line.ends_with(meant), "{line}");
    assert!(unit("a-b.socket").contains("/run/a %t b.sock"), "{}", unit("a-b.socket"));
}

/// What runs keeps its units while its file has mistakes.
#[test]
fn a_file_that_gets_a_mistake_keeps_its_units() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/appctl");
    std::fs::create_dir_all(&directory).unwrap();
    let run = || {
        let out = tempfile::tempdir().unwrap();
        generate(&places_of(root.path()), 1, out.path());
        let mut tree = BTreeMap::new();
        read_tree(out.path(), out.path(), &mut tree);
        tree
    };
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    write("a.toml", "exec = '/bin/one'\nworkers = 2\n");
    write("new.toml", "exec = 7\n");
    let before = run();
    assert!(before["a@.service"].contains("/bin/one") && !before.contains_key("new@.service"));
    for mistake in ["exec = '/bin/two'\nworkers = 'many'\n", "[[[", ""] {
        write("a.toml", mistake);
        let after = run();
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        let unit = &after["a@.service"];
        assert!(unit.contains("/bin/one") && unit.contains("its file has errors: appctl check a)"), "{unit}");
    }
    // Mended, deleted, and made again with a mistake: nothing of the old one comes back.
    write("a.toml", "exec = '/bin/three'\n");
    assert!(run()["a@.service"].contains("/bin/three"));
    std::fs::remove_file(directory.join("a.toml")).unwrap();
    assert!(!run().contains_key("a.service"));
    write("a.toml", "exec = 7\n");
    assert!(!run().contains_key("a@.service"));
    // A name that is in another's way stays refused.
    write("a-channel.toml", "exec = '/bin/one'\n");
    std::fs::remove_file(directory.join("a.toml")).unwrap();
    assert!(run().contains_key("a-channel@.service"));
    write("a.toml", "exec = '/bin/one'\n");
    assert!(!run().contains_key("a-channel@.service"));
}
