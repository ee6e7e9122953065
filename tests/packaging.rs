//! What packages consist of: `packaging/install` and the files that it installs. (The packages themselves are tried in booted
//! trees: tests/system/packages.rs.)

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use appctl::config::{Level, Scope, parse};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What the journal has with a line of ours, beside the text.
const FIELDS: [&str; 4] = ["APP", "REASON", "ROLLOUT", "WORKER"];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() { files(&path, found) } else { found.push(path) }
    }
}

/// `journalctl -x` explains every message that has an id.
#[test]
fn the_catalog_has_every_message_id() {
    let mut sources = Vec::new();
    files(&Path::new(ROOT).join("src"), &mut sources);
    let (mut constants, mut used) = (BTreeMap::new(), BTreeSet::new());
    for source in sources {
        for line in std::fs::read_to_string(source).unwrap().lines() {
            if let Some((name, value)) = line
                .trim()
                .trim_start_matches("pub ")
                .strip_prefix("const ")
                .and_then(|it| it.split_once(": &str = \""))
                && let Some(id) = value.strip_suffix("\";")
                && id.len() == 32
                && id.bytes().all(|byte| byte.is_ascii_hexdigit())
            {
                constants.insert(name.to_owned(), id.to_owned());
            }
            let mut rest = line;
            while let Some((_, after)) = rest.split_once("MESSAGE_ID = ") {
                used.insert(after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned());
                rest = after;
            }
        }
    }
    assert_eq!(used, constants.keys().cloned().collect(), "used, and known here as constants");
    let catalog = read("packaging/systemd/appctl.catalog");
    let entries: BTreeMap<&str, &str> =
        catalog.split("\n-- ").skip(1).map(|entry| entry.split_once('\n').unwrap()).collect();
    assert_eq!(entries.keys().copied().collect::<BTreeSet<_>>(), constants.values().map(String::as_str).collect());
    for (id, entry) in entries {
        assert!(entry.starts_with("Subject: ") && entry.contains("\nDefined-By: appctl\n"), "{id}");
        for field in entry.split('@').skip(1).step_by(2) {
            assert!(FIELDS.contains(&field), "{id}: @{field}@");
        }
    }
}

#[test]
fn the_examples_are_right() {
    let mut examples = Vec::new();
    files(&Path::new(ROOT).join("packaging/examples"), &mut examples);
    assert!(examples.len() > 3);
    for example in examples {
        let name = example.file_stem().unwrap().to_str().unwrap().to_owned();
        let report = parse(&name, &example, &std::fs::read_to_string(&example).unwrap(), Scope::System);
        let problems: Vec<_> = report.problems.iter().filter(|problem| problem.level == Level::Error).collect();
        assert!(report.app.is_some() && problems.is_empty(), "{name}: {problems:#?}");
    }
}

/// What installs by `packaging/install` must have, below the prefix; what it lists itself could lack anything.
const INSTALLED: [&str; 27] = [
    "bin/appctl",
    "lib/appctl/managers",
    "lib/appctl/restart-routers",
    "lib/appctl/stop-apps",
    "lib/systemd/catalog/appctl.catalog",
    "lib/systemd/system-generators/appctl-generator",
    "lib/systemd/user-generators/appctl-generator",
    "lib/sysusers.d/appctl.conf",
    "lib/tmpfiles.d/appctl.conf",
    "share/bash-completion/completions/appctl",
    "share/doc/appctl/CHANGELOG.md.gz",
    "share/doc/appctl/LICENSE-APACHE",
    "share/doc/appctl/LICENSE-MIT",
    "share/doc/appctl/MIGRATING.md",
    "share/doc/appctl/OPERATING.md",
    "share/doc/appctl/README.md",
    "share/doc/appctl/examples/Caddyfile",
    "share/doc/appctl/examples/Containerfile",
    "share/doc/appctl/examples/alerts.yml",
    "share/doc/appctl/examples/grafana.json",
    "share/doc/appctl/examples/haproxy.cfg",
    "share/doc/appctl/examples/nginx.conf",
    "share/doc/appctl/examples/socketio.toml",
    "share/fish/vendor_completions.d/appctl.fish",
    "share/man/man1/appctl-start.1.gz",
    "share/man/man5/appctl.toml.5.gz",
    "share/zsh/site-functions/_appctl",
];

/// Below a root of its own: all that is listed and nothing else, and all of it goes again but the files of apps.
#[test]
fn install_and_uninstall() {
    let root = tempfile::tempdir().unwrap();
    for prefix in ["/usr", "/usr/local"] {
        let destination = root.path().join(prefix.trim_start_matches('/').replace('/', "-"));
        let run = |program: &str, more: &[&str]| {
            let mut command = Command::new(format!("{ROOT}/packaging/{program}"));
            command.args(["--binary", env!("CARGO_BIN_EXE_appctl")]).args(more);
            let output = command.env("DESTDIR", &destination).env("PREFIX", prefix).output().unwrap();
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let there = || {
            let mut found = Vec::new();
            files(&destination, &mut found);
            let inside = found.iter().map(|path| format!("/{}", path.strip_prefix(&destination).unwrap().display()));
            inside.collect::<BTreeSet<_>>()
        };
        run("install", &["--compress"]);
        let list = run("install", &["--list", "--compress"]);
        assert_eq!(there(), list.lines().filter(|line| !line.ends_with('/')).map(str::to_owned).collect());
        let rules = if prefix == "/usr" { "/usr/share" } else { "/etc" };
        let rule = format!("{rules}/polkit-1/rules.d/50-appctl.rules");
        let wanted = INSTALLED.iter().map(|path| format!("{prefix}/{path}")).chain([rule.clone()]);
        let missing: Vec<String> = wanted.filter(|path| !there().contains(path)).collect();
        assert!(missing.is_empty(), "{missing:#?}");
        let asks = std::fs::read_to_string(destination.join(&rule[1..])).unwrap();
        assert!(asks.contains(&format!("[\"{prefix}/bin/appctl\", \"manages\"")), "{asks}");
        for generator in ["system-generators", "user-generators"] {
            let generator = destination.join(format!(".{prefix}/lib/systemd/{generator}/appctl-generator"));
            let program = destination.canonicalize().unwrap().join(format!(".{prefix}/bin/appctl"));
            assert_eq!(generator.canonicalize().unwrap(), program);
        }
        std::fs::write(destination.join("etc/appctl/app.toml"), "exec = 'a'\n").unwrap();
        run("uninstall", &[]);
        assert_eq!(there(), ["/etc/appctl/app.toml".to_owned()].into());
    }
}
