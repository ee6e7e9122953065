//! Whatever is written into an app's file, or into one of PM2's, it stays the value of its key: no line of a unit, no word of
//! a command and no specifier of systemd's comes of it. The keys are those of the tables, so that new ones are tried, too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use appctl::config::{App, Scope, parse};
use appctl::generator::{generate, places::Places};
use appctl::pm2::{Circumstances, app};
use appctl::pm2::{Machine, keys};
use appctl::unit::UnitFile;
use appctl::unit::plan::plan;
use serde_json::{Map, Value, json};

use crate::readme;

/// What must never become a line, a word or a specifier of its own: `%H` and `$PWNED` are looked for.
const PAYLOADS: [&str; 22] = [
    "x\n[Service]\nExecStartPre=+/bin/touch /pwned",
    "x\r\nExecStartPre=+/bin/touch /pwned\r\n",
    "x\\\nUser=root",
    "x\\",
    "\\",
    "%H",
    "x%H%%H",
    "/x/%H",
    "$PWNED ${PWNED}",
    "$(touch /pwned)`touch /pwned`",
    "\" ; /bin/touch /pwned ; \"",
    "' ; /bin/touch /pwned ; '",
    ";",
    "x ; +/bin/touch /pwned",
    "+/bin/touch",
    "-",
    "--",
    "../../../etc/passwd",
    "x\u{85}ExecStartPre=/bin/touch",
    "x\u{2028}y",
    "x\0y",
    "a=b:c@d!e|f",
];

/// As TOML writes a string.
fn toml(text: &str) -> String {
    serde_json::to_string(text).unwrap().replace('\u{7f}', "\\u007f")
}

/// Places of `mark` in `text` that systemd would read as what it looks like: an even number of `escape` before it.
fn bare(text: &str, mark: &str, escape: char) -> bool {
    text.match_indices(mark).any(|(at, _)| text[..at].chars().rev().take_while(|c| *c == escape).count() % 2 == 0)
}

/// A command line without what is quoted in it.
fn outside_quotes(value: &str) -> String {
    let (mut plain, mut quoted) = (String::new(), false);
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => drop(chars.next()),
            _ if !quoted => plain.push(c),
            _ => {}
        }
    }
    assert!(!quoted, "a quote is not closed: {value}");
    plain
}

/// All keys that templates have.
fn known_keys() -> BTreeSet<String> {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let lines = std::fs::read_dir(units).unwrap().map(|it| std::fs::read_to_string(it.unwrap().path()).unwrap());
    let lines: Vec<String> = lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let keys = lines.iter().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let keys: BTreeSet<String> = keys.map(|(key, _)| key.to_owned()).collect();
    keys.into_iter().chain(["LoadCredential", "SetCredential", "PrivateTmp", "KeepAlive"].map(str::to_owned)).collect()
}

/// Looks at all units of an app. `passed`: some keys are the operator's own words to systemd, specifiers and all.
#[track_caller]
fn judge(app: &App, known: &BTreeSet<String>, passed: bool, what: &str) {
    for (name, unit) in plan(app, 2).units {
        let text = unit.to_string();
        assert_eq!(UnitFile::parse(&text).as_ref(), Ok(&unit), "{what}: {name}\n{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{what}: {name}\n{text}");
        for line in text.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with('[') {
                assert!(
                    ["[Unit]", "[Service]", "[Socket]", "[Timer]", "[Slice]"].contains(&line),
                    "{what}: {name}: {line}"
                );
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{what}: {name}: {line}"));
            assert!(known.contains(key), "{what}: {name}: {line}");
            assert!(!value.ends_with('\\'), "{what}: {name}: {line}");
            let told = ["Description", "SourcePath"].contains(&key);
            assert!(told || passed || !bare(value, "%H", '%'), "{what}: {name}: {line}");
            if key.starts_with("Exec") {
                assert!(!bare(value, "$PWNED", '$') && !bare(value, "${PWNED", '$'), "{what}: {name}: {line}");
                assert!(!outside_quotes(value).contains(" ; "), "{what}: a second command in {name}: {line}",);
                assert!(value.trim_start_matches(['-', '+']).starts_with("/usr/bin/appctl "), "{what}: {name}: {line}");
            }
            assert!(!["User", "Group"].contains(&key) || !value.contains([' ', '%', '/']), "{what}: {name}: {line}");
        }
    }
}

/// Values of many a shape, made of an example and of something hostile.
fn values(example: &str, payload: &str) -> Vec<String> {
    let plain = example.trim_matches('"');
    let inner = if example.starts_with('"') { plain } else { "x" };
    vec![
        toml(payload),
        toml(&format!("{inner}{payload}")),
        toml(&format!("{inner} {payload}")),
        format!("[{}]", toml(payload)),
        format!("[{}, {}]", toml(inner), toml(payload)),
        format!("{{ address = {0}, tls = {{ cert = {0}, key = {0} }} }}", toml(&format!("/x{payload}"))),
    ]
}

#[test]
fn no_value_of_any_key_leaves_its_place() {
    let known = known_keys();
    let (mut taken, mut refused, mut seen) = (0, 0, BTreeSet::new());
    for (key, example) in readme::examples() {
        let passed = key.starts_with("service.") || key.starts_with("socket.");
        for payload in PAYLOADS {
            for value in values(&example, payload) {
                let (_, text) = readme::files(&key, &value);
                match parse("app", Path::new("/etc/appctl/app.toml"), &text, Scope::System).app {
                    Some(app) => {
                        judge(&app, &known, passed, &format!("{key} = {value}"));
                        taken += 1;
                        seen.insert(key.clone());
                    }
                    None => refused += 1,
                }
            }
        }
    }
    assert!(taken > 300 && refused > 3000 && seen.len() > 8, "{taken} taken, {refused} refused: {seen:?}");
}

#[test]
fn no_key_of_the_operators_own_leaves_its_place() {
    let known = known_keys();
    for payload in PAYLOADS {
        for (table, value) in [
            ("environment", "'1'"),
            ("credentials", "'/x'"),
            ("service", "'1'"),
            ("socket", "'1'"),
            ("profile", "{ environment = { A = '1' } }"),
        ] {
            for key in [payload.to_owned(), format!("A{payload}"), format!("A={payload}")] {
                let active =
                    if table == "profile" { format!("active_profile = {}\n", toml(&key)) } else { String::new() };
                let text = format!("exec = 'node x'\n{active}[{table}]\n{} = {value}\n", toml(&key));
                if let Some(app) = parse("app", Path::new("/a.toml"), &text, Scope::System).app {
                    judge(&app, &known, false, &format!("[{table}] {key:?}"));
                }
            }
        }
    }
}

/// A machine on which all there is is the script.
struct Bare;

impl Machine for Bare {
    fn find(&self, program: &str) -> Option<PathBuf> {
        Some(Path::new("/usr/bin").join(program))
    }

    fn is_file(&self, path: &Path) -> bool {
        path == Path::new("/srv/app.js")
    }

    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        self.is_file(path).then(|| b"require('http').createServer().listen(3000)".to_vec())
    }

    fn owner(&self, _: &Path) -> Option<String> {
        Some("deploy".to_owned())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn processors(&self) -> u32 {
        4
    }
}

/// Each of PM2's keys, and by that each flag of `appctl start SCRIPT`.
#[test]
fn no_value_of_pm2s_leaves_its_place() {
    let known = known_keys();
    let listen = Vec::new();
    let (mut taken, mut refused) = (0, 0);
    for key in keys::KEYS {
        let example = serde_json::from_str::<Value>(key.example).unwrap_or_default();
        for payload in PAYLOADS {
            let joined = format!("{}{payload}", example.as_str().unwrap_or("x"));
            let shapes = [json!(joined), json!([payload, joined]), json!({ payload: payload, "A": payload })];
            for (value, typed) in shapes.into_iter().zip([true, false, false]) {
                let what = format!("{}: {value}", key.name);
                let mut entry = Map::from_iter(
                    [("name", "app"), ("script", "/srv/app.js")].map(|(key, value)| (key.to_owned(), json!(value))),
                );
                entry.insert(key.name.to_owned(), value);
                let circumstances = Circumstances {
                    scope: Scope::System,
                    directory: Path::new("/srv"),
                    beside: Some(Path::new("/srv")),
                    profile: None,
                    deploy: None,
                    listen: &listen,
                    runtime: None,
                    typed,
                };
                // What is no sound file is told, and written by nobody.
                let app = app::read(&entry, &circumstances, &Bare).ok().and_then(|imported| {
                    let text = imported.draft.toml();
                    parse(&imported.draft.name, Path::new("/etc/appctl/app.toml"), &text, Scope::System).app
                });
                let Some(app) = app else {
                    refused += 1;
                    continue;
                };
                judge(&app, &known, false, &what);
                assert!(app.service.is_empty() && app.socket.is_empty(), "{what}");
                assert!(key.name == "uid" || app.user.as_deref() == Some("deploy"), "{what}: {:?}", app.user);
                taken += 1;
            }
        }
    }
    assert!(taken > 500 && refused > 100, "{taken} taken, {refused} refused");
}

/// Names of files are names of units: what could not be one makes none.
#[test]
fn no_name_of_a_file_leaves_the_directory() {
    use std::os::unix::ffi::OsStrExt;
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/appctl");
    std::fs::create_dir_all(&directory).unwrap();
    let long = "a".repeat(249);
    let names: [&[u8]; 21] = [
        b"a\nb",
        b"%n",
        b"a%ib",
        b"a b",
        b" a",
        b"-a",
        b"--user",
        b"..a",
        b"a@1",
        b"a@",
        b"$(id)",
        b"a\\x2fb",
        b"a\\",
        b"\"a\"",
        b"a;b",
        b"\xff\xfe",
        b"\xc3\xa4",
        b"a.service",
        b"a.socket",
        long.as_bytes(),
        b"init",
    ];
    for name in names {
        let file = directory.join(std::ffi::OsStr::from_bytes(&[name, b".toml"].concat()));
        std::fs::write(file, "exec = '/bin/true'\nlisten = 80\n").unwrap();
    }
    std::fs::write(directory.join("fine.toml"), "exec = '/bin/true'\n").unwrap();
    let out = tempfile::tempdir().unwrap();
    let place = root.path().to_owned();
    let places = Places::new(Scope::System, |name| (name == "APPCTL_ROOT").then(|| place.clone().into())).unwrap();
    let outcome = generate(&places, 2, out.path());
    // Hidden ones are editors' own.
    let told = names.iter().filter(|name| !name.starts_with(b".")).count();
    assert_eq!(outcome.messages.iter().filter(|message| message.severe).count(), told, "{:#?}", outcome.messages);
    let written: BTreeSet<String> =
        std::fs::read_dir(out.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let expected = ["fine-channel.socket", "fine-control.socket", "fine.service", "fine.slice", "fine@.service"];
    let directories = ["multi-user.target.wants"];
    assert!(
        written.iter().map(String::as_str).eq(expected.into_iter().chain(directories).collect::<BTreeSet<_>>()),
        "{written:?}"
    );
}

/// What is in the place of a file: told, and neither waited for nor believed.
#[test]
fn what_is_no_file_of_roots_is_no_app() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/appctl");
    std::fs::create_dir_all(&directory).unwrap();
    let at = |name: &str| directory.join(format!("{name}.toml"));
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("fifo.toml", at("to-fifo")).unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    symlink(".", at("to-directory")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("loop.toml", at("loop")).unwrap();
    symlink("/dev/zero", at("zero")).unwrap();
    symlink("/proc/self/mem", at("mem")).unwrap();
    std::fs::write(at("open"), "exec = '/bin/true'\nuser = 'root'\n").unwrap();
    std::fs::set_permissions(at("open"), std::fs::Permissions::from_mode(0o666)).unwrap();
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let place = root.path().to_owned();
    let places = Places::new(Scope::System, |name| (name == "APPCTL_ROOT").then(|| place.clone().into())).unwrap();
    let outcome = generate(&places, 2, out.path());
    for name in ["fifo", "to-fifo", "directory", "to-directory", "dangling", "loop", "zero", "mem", "open", "socket"] {
        let told =
            |message: &&appctl::generator::Message| message.severe && message.text.contains(&format!("/{name}.toml"));
        assert_eq!(outcome.messages.iter().filter(told).count(), 1, "{name}: {:#?}", outcome.messages);
        let stub = std::fs::read_to_string(out.path().join(format!("{name}.service"))).unwrap();
        assert!(stub.contains("ExecStart=/usr/bin/appctl check "), "{stub}");
        assert!(!out.path().join(format!("{name}@.service")).exists());
    }
}

/// An app never takes the place of what the machine has already, by a unit, an init script or an account.
#[test]
fn what_is_taken_stays_whose_it_is() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for unit in ["ssh.service", "getty@.service", "dbus.socket", "lock-watch.service", "cron-reload.timer", "x@.socket"]
    {
        write(&format!("usr/lib/systemd/system/{unit}"), "[Unit]\n");
    }
    write("etc/init.d/old", "#!/bin/sh\n");
    write("etc/passwd", "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n");
    for app in ["ssh", "getty", "dbus", "lock", "cron", "x", "old", "alice", "user", "system"] {
        write(&format!("etc/appctl/{app}.toml"), "exec = '/bin/true'\n");
    }
    write("etc/appctl/bob.toml", "exec = '/bin/true'\nuser = 'alice'\n");
    let out = tempfile::tempdir().unwrap();
    let place = root.path().to_owned();
    let places = Places::new(Scope::System, |name| (name == "APPCTL_ROOT").then(|| place.clone().into())).unwrap();
    let outcome = generate(&places, 2, out.path());
    assert_eq!(outcome.messages.len(), 10, "{:#?}", outcome.messages);
    let written: BTreeSet<String> =
        std::fs::read_dir(out.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert!(written.contains("bob@.service"));
    for app in ["ssh", "getty", "dbus", "lock", "cron", "x", "old", "user", "system"] {
        assert!(!written.iter().any(|unit| unit.starts_with(app)), "{app}: {written:?}");
    }
    assert!(!written.contains("alice@.service"), "{written:?}");
}
