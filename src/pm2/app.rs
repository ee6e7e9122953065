//! One app as PM2's files and flags describe it, turned into the file that means the same; key by key.

mod ends;
mod environment;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::draft::{DEFAULT_LISTEN, Draft, Variables, quote, workers};
use super::keys::{Fate, KEYS, Key, find};
use super::program::{Kind, Program, Wanted, program, tidy};
use super::serves::serves;
use super::values::{self, Unfit, show};
use super::{Circumstances, Machine};
use crate::config::{Scope, Workers, nearest, value};

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Became {
    /// These lines of the file.
    Lines(String),
    /// Nothing, and why.
    Needless(String),
    /// Nothing, though it meant something: why.
    Refused(String),
    /// PM2 has no such key.
    Unknown(String),
}

/// A line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// As the file has it.
    pub key: String,
    pub value: String,
    pub became: Became,
}

/// An app's file, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub draft: Draft,
    /// Every key of the entry, in the table's order, the unknown ones last.
    pub told: Vec<Told>,
    /// What the entry does not say.
    pub notes: Vec<String>,
}

/// What a report shows of variables, whose values may be secrets.
const NAMES_ALONE: &str = "{…}";

/// Reads one entry. `Err`: all that is wrong with it.
pub fn read(
    entry: &Map<String, Value>,
    place: &Circumstances<'_>,
    machine: &dyn Machine,
) -> Result<Imported, Vec<String>> {
    let mut reader = Reader { entry, place, machine, told: Vec::new(), notes: Vec::new(), problems: Vec::new() };
    match reader.draft() {
        Some(draft) if reader.problems.is_empty() => {
            reader.tell_the_rest(&draft.name);
            Ok(Imported { draft, told: reader.told, notes: reader.notes })
        }
        _ => Err(reader.problems),
    }
}

/// PM2's number of instances.
pub fn instances(value: &Value) -> Result<Workers, Unfit> {
    const WANTED: &str = "a number, max, 0 (as max) or -1 (all less one)";
    let text = values::text(value).map_err(|_| WANTED)?;
    match text.as_str() {
        "max" | "0" => Ok(Workers::MaxMinus(0)),
        text => match text.strip_prefix("max-").or_else(|| text.strip_prefix('-')) {
            Some(less) => less.parse().map(Workers::MaxMinus).map_err(|_| WANTED),
            None => text.parse().map(Workers::Count).map_err(|_| WANTED),
        },
    }
}

/// A name that a unit can have.
pub fn fitting(name: &str) -> String {
    let kept: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }).collect();
    let mut kept = kept.trim_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(64).collect::<String>();
    if value::check_name(&kept).is_err() {
        kept = format!("app-{}", kept.replace('.', "-")).chars().take(64).collect();
    }
    kept
}

/// What an app is called here that its entry calls `name`.
pub fn name(entry: &Map<String, Value>, name: &str, profile: Option<&str>) -> String {
    let mut spellings = find("append_env_to_name").into_iter().flat_map(Key::spellings);
    let with_profile = spellings.any(|key| entry.get(&key).is_some_and(|value| values::truth(value) == Ok(true)));
    match profile.filter(|_| with_profile) {
        Some(profile) => fitting(&format!("{name}-{profile}")),
        None => fitting(name),
    }
}

struct Reader<'a> {
    entry: &'a Map<String, Value>,
    place: &'a Circumstances<'a>,
    machine: &'a dyn Machine,
    told: Vec<Told>,
    notes: Vec<String>,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// A key as it was written, and its value.
    fn given(&self, name: &str) -> Option<(String, &Value)> {
        let key = find(name)?;
        key.spellings().find_map(|spelling| {
            let value = self.entry.get(&spelling).filter(|value| !value.is_null())?;
            Some((spelling, value))
        })
    }

    /// As the operator calls it.
    fn label(&self, name: &str) -> String {
        match find(name) {
            Some(key) if self.place.typed && !key.flag.is_empty() => key.flag.to_owned(),
            _ => self.given(name).map_or_else(|| name.to_owned(), |(written, _)| written),
        }
    }

    fn get<T>(&mut self, name: &str, read: fn(&Value) -> Result<T, Unfit>) -> Option<T> {
        let (_, value) = self.given(name)?;
        match read(value) {
            Ok(read) => Some(read),
            Err(wanted) => {
                let problem = format!("{}: write {wanted}, not {}", self.label(name), show(value));
                self.problems.push(problem);
                None
            }
        }
    }

    fn is(&mut self, name: &str) -> bool {
        self.get(name, values::truth).unwrap_or(false)
    }

    /// Tells what became of a key that is given.
    fn became(&mut self, name: &str, became: Became) {
        if let Some((key, value)) = self.given(name) {
            let value = if name == "env" { NAMES_ALONE.to_owned() } else { show(value) };
            self.told.push(Told { key, value, became });
        }
    }

    fn lines(&mut self, name: &str, lines: impl Into<String>) {
        self.became(name, Became::Lines(lines.into()));
    }

    fn draft(&mut self) -> Option<Draft> {
        let (program, directory) = self.program()?;
        let name = self.name(&program)?;
        let workers = self.get("instances", instances).unwrap_or(Workers::Count(1));
        self.lines("instances", format!("workers = {}", self::workers(workers)));
        let (user, group) = self.account(&program.script);
        let mut draft = Draft {
            head: Vec::new(),
            name,
            exec: program.exec,
            directory,
            user,
            group,
            workers,
            runtime: self.place.runtime.map(str::to_owned),
            at_boot: true,
            listen: Vec::new(),
            watch: Vec::new(),
            ignore: Vec::new(),
            index_variable: self.get("instance_var", values::text).filter(|name| name != "NODE_APP_INSTANCE"),
            increment_variable: self.get("increment_var", values::text),
            environment: Variables::new(),
            active_profile: None,
            profiles: Vec::new(),
            tables: Vec::new(),
        };
        for (key, lines) in [("instance_var", &draft.index_variable), ("increment_var", &draft.increment_variable)] {
            let Fate::Becomes(ours) = find(key)?.fate else { continue };
            if let Some(variable) = lines {
                self.lines(key, format!("{ours} = {}", quote(variable)));
            }
        }
        if self.get("autostart", values::truth) == Some(false) {
            draft.at_boot = false;
            self.lines("autostart", "start = \"manual\"");
        }
        self.watch(&mut draft);
        self.environment(&mut draft);
        self.serve(&mut draft, program.kind, &program.script);
        for (table, lines) in [
            ("restart", self.restart()),
            ("limits", self.limits()),
            ("schedule", self.schedule()),
            ("ready", self.ready()),
            ("stop", self.stop()),
            ("service", self.service()),
        ] {
            if !lines.is_empty() {
                draft.tables.push((table, lines));
            }
        }
        Some(draft)
    }

    fn program(&mut self) -> Option<(Program, PathBuf)> {
        let Some(script) = self.get("script", values::text) else {
            self.problems.push("script is missing: what is to be run?".to_owned());
            return None;
        };
        let cwd = self.get("cwd", values::text);
        let args = self.get("args", values::words).unwrap_or_default();
        let interpreter = self.get("exec_interpreter", values::text);
        let mut node_args = self.get("node_args", values::words).unwrap_or_default();
        if self.is("source_map_support") {
            node_args.push("--enable-source-maps".to_owned());
            self.lines("source_map_support", "exec: --enable-source-maps");
        }
        let directory = |base: &Path| tidy(&base.join(cwd.as_deref().unwrap_or_default()));
        let mut home = directory(self.place.directory);
        let found = |home: &Path| self.machine.is_file(&tidy(&home.join(&script)));
        let beside = self.place.beside.map(directory);
        if let Some(beside) = beside.filter(|beside| !found(&home) && found(beside)) {
            self.notes.push(format!(
                "{script} is not in {}, where PM2 would look, but beside the file: {}",
                home.display(),
                beside.display()
            ));
            home = beside;
        }
        let wanted = Wanted {
            script: &script,
            interpreter: interpreter.as_deref(),
            node_args,
            args,
            directory: &home,
            typed: self.place.typed,
        };
        let program = match program(&wanted, self.machine) {
            Ok(program) => program,
            Err(problem) => {
                self.problems.push(problem);
                return None;
            }
        };
        self.notes.extend(program.notes.iter().cloned());
        let exec = program.exec.iter().map(|word| quote(word)).collect::<Vec<_>>().join(", ");
        self.lines("script", format!("exec = [{exec}]"));
        self.lines("cwd", format!("directory = {}", quote(&home.to_string_lossy())));
        for part in ["args", "exec_interpreter", "node_args"] {
            self.lines(part, "exec");
        }
        Some((program, home))
    }

    fn name(&mut self, program: &Program) -> Option<String> {
        let given = self.get("name", values::text);
        let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if self.place.typed {
            // A name that nobody has chosen may be another.
            let stem = stem(&program.script);
            let is_readable = stem.contains(|c: char| c.is_ascii_alphanumeric());
            let Some(name) = given.or_else(|| (!is_readable).then(|| stem.clone())) else {
                return Some(fitting(&stem));
            };
            return match value::check_name(&name) {
                Ok(()) => Some(name),
                Err(wrong) => {
                    self.problems.push(format!("{}; choose another by --name", wrong.reason));
                    None
                }
            };
        }
        let mut name = match given {
            Some(name) => name,
            // PM2 takes the last part of what was written.
            None => stem(Path::new(&self.get("script", values::text)?)),
        };
        if self.is("append_env_to_name") {
            if let Some(profile) = self.place.profile {
                name = format!("{name}-{profile}");
            }
            self.lines("append_env_to_name", format!("{}.toml", fitting(&name)));
        }
        let fits = fitting(&name);
        if fits != name {
            self.notes.push(format!("`{name}` is called {fits}: a unit's name has letters, digits, `_`, `.` and `-`"));
        }
        self.lines("name", format!("{fits}.toml"));
        Some(fits)
    }

    fn account(&mut self, script: &Path) -> (Option<String>, Option<String>) {
        let (user, group) = (self.get("uid", values::text), self.get("gid", values::text));
        if self.place.scope == Scope::User {
            if (user.is_some() || group.is_some()) && self.place.typed {
                self.problems.push(
                    "your own manager cannot run an app as somebody else: leave out --uid and --gid, or add --system"
                        .to_owned(),
                );
            }
            let why = "your own manager runs your apps as you; --system, as root, would run it as somebody else";
            for key in ["uid", "gid"] {
                self.became(key, Became::Refused(why.to_owned()));
            }
            return (None, None);
        }
        if let Some(user) = &user {
            self.lines("uid", format!("user = {}", quote(user)));
        }
        if let Some(group) = &group {
            self.lines("gid", format!("group = {}", quote(group)));
        }
        (user.or_else(|| self.machine.owner(script)), group)
    }

    fn watch(&mut self, draft: &mut Draft) {
        let Some((_, watch)) = self.given("watch") else { return };
        let (watch, directory) = (watch.clone(), draft.directory.clone());
        draft.watch = match &watch {
            Value::Bool(true) => vec![String::new()],
            Value::Bool(false) => return,
            _ => self.get("watch", values::words).unwrap_or_default(),
        };
        let all = draft.watch.iter().any(String::is_empty);
        let paths = draft.watch.iter().map(|path| quote(path)).collect::<Vec<_>>().join(", ");
        self.lines("watch", if all { "watch = true".to_owned() } else { format!("watch = [{paths}]") });
        let Some(patterns) = self.get("ignore_watch", values::words) else { return };
        // Regular expressions are what people take from PM2's documentation.
        let (foreign, plain): (Vec<_>, Vec<_>) =
            patterns.into_iter().partition(|pattern| pattern.contains('\\') || pattern.starts_with("(?"));
        for pattern in &plain {
            let begun = Path::new(pattern).strip_prefix(&directory).map(|rest| format!("/{}", rest.display()));
            draft.ignore.push(begun.unwrap_or_else(|_| pattern.strip_prefix("./").unwrap_or(pattern).to_owned()));
        }
        let patterns = draft.ignore.iter().map(|pattern| quote(pattern)).collect::<Vec<_>>().join(", ");
        self.lines("ignore_watch", format!("ignore = [{patterns}]"));
        for pattern in foreign {
            self.notes.push(format!(
                "ignore_watch: {pattern} looks like a regular expression, and is left out: patterns are as in .gitignore"
            ));
        }
    }

    fn serve(&mut self, draft: &mut Draft, kind: Kind, script: &Path) {
        if !self.place.listen.is_empty() {
            draft.listen = self.place.listen.to_vec();
        } else if self.place.typed {
            let none = draft.runtime.as_deref() == Some("none") || (kind == Kind::Other && draft.runtime.is_none());
            if !none {
                draft.listen = vec![DEFAULT_LISTEN.to_owned()];
                return;
            }
        } else {
            match serves(draft, self.place, kind, script, self.machine) {
                Some(serves) => {
                    self.notes.push(format!("listen = {:?}, by {}", serves.listen, serves.why));
                    draft.listen = serves.listen;
                }
                None if kind == Kind::Channel => self.notes.push(
                    "listen = []: nothing says where it serves. If it does, write its port there, such as [\"3000\"]"
                        .to_owned(),
                ),
                None => {}
            }
        }
        let typed_with_address = self.place.typed && !draft.listen.is_empty();
        if kind == Kind::Other && draft.runtime.is_none() && !typed_with_address {
            let (runtime, why) = if draft.listen.is_empty() {
                ("none", "it takes no connections from a router: its ports are its own business, as in PM2's fork mode")
            } else {
                ("port", "each worker gets a port of its own in PORT, and the router what `listen` says")
            };
            self.notes.push(format!("runtime = \"{runtime}\": {why}"));
            draft.runtime = Some(runtime.to_owned());
            if runtime == "port" {
                draft.environment.retain(|(name, _)| name != "PORT");
                draft.profiles.iter_mut().for_each(|(_, values)| values.retain(|(name, _)| name != "PORT"));
            }
        }
    }

    /// Tells of all keys that nobody has told of.
    fn tell_the_rest(&mut self, app: &str) {
        let told = |reader: &Self, key: &str| reader.told.iter().any(|told| told.key == key);
        for (written, value) in self.entry {
            if told(self, written) {
                continue;
            }
            let became = match find(written) {
                Some(key) => self.without_effect(app, key, written, value),
                None => {
                    let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
                    Became::Unknown(match nearest(written, &names) {
                        Some(near) => format!("PM2 has no such key; did you mean {near}?"),
                        None => "PM2 has no such key, and passes over it".to_owned(),
                    })
                }
            };
            self.told.push(Told { key: written.clone(), value: show(value), became });
        }
        let order = |told: &Told| {
            let known = find(&told.key).and_then(|key| KEYS.iter().position(|it| it.name == key.name));
            (known.unwrap_or(KEYS.len()), told.key.clone())
        };
        self.told.sort_by_key(order);
    }

    /// A known key of which nothing was made.
    fn without_effect(&self, app: &str, key: &Key, written: &str, value: &Value) -> Became {
        let other = self.given(key.name).filter(|(spelling, _)| spelling != written && key.name != "env_*");
        match (key.fate, other) {
            (_, Some((counts, _))) => Became::Needless(format!("{counts} is there as well, and counts")),
            (Fate::Refused, _) if *value == Value::Bool(key.name == "treekill") => {
                Became::Needless("it is so without it".to_owned())
            }
            (Fate::Refused, _) => Became::Refused(key.note.replace("NAME", app)),
            (Fate::Needless, _) => Became::Needless(key.note.replace("NAME", app)),
            (Fate::Becomes(_), _) => Became::Needless("it is so without it".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pm2::keys::TOP;
    use serde_json::json;
    use std::collections::BTreeMap;

    /// A machine of files and programs.
    #[derive(Default)]
    struct Files(BTreeMap<&'static str, &'static str>);

    impl Machine for Files {
        fn find(&self, program: &str) -> Option<PathBuf> {
            let programs = ["node", "python3", "bash", "ruby", "node22"];
            let directory = self.0.get("node's directory").copied().filter(|_| program == "node");
            programs.contains(&program).then(|| Path::new(directory.unwrap_or("/usr/bin")).join(program))
        }

        fn is_file(&self, path: &Path) -> bool {
            self.read(path).is_some()
        }

        fn read(&self, path: &Path) -> Option<Vec<u8>> {
            Some(self.0.get(path.to_str()?)?.as_bytes().to_vec())
        }

        fn owner(&self, path: &Path) -> Option<String> {
            path.starts_with("/srv").then(|| "deploy".to_owned())
        }

        fn variable(&self, name: &str) -> Option<String> {
            (name == "HOME").then(|| "/root".to_owned())
        }

        fn processors(&self) -> u32 {
            4
        }
    }

    fn machine() -> Files {
        Files(BTreeMap::from([
            ("/srv/app/app.js", "require('http').createServer().listen(process.env.PORT || 3000)"),
            ("/srv/app/job.py", "#!/usr/bin/env python3"),
            ("/srv/app/job.js", "setInterval(() => {}, 1000)"),
            ("/srv/app/sticky.js", "setupWorker(io)"),
            ("/srv/app/binary", "\x7fELF"),
            ("/srv/app/plain", "console.log(1)"),
            ("/srv/app/cli", "#!/usr/bin/env node\n"),
            ("/srv/app/app.ts", ""),
            (
                "/srv/app/package.json",
                r#"{"scripts": {"start": "node app.js --prod", "dev": "next dev", "all": "a && b", "prestart": "tsc"}}"#,
            ),
            ("/srv/app/node_modules/.bin/next", "#!/usr/bin/env node\n"),
            ("/root/.nvm/versions/node/v18.1.0/bin/node", "\x7fELF"),
            ("/srv/file/app.js", ""),
        ]))
    }

    fn here() -> Circumstances<'static> {
        Circumstances {
            scope: Scope::System,
            directory: Path::new("/srv/app"),
            beside: Some(Path::new("/srv/file")),
            profile: None,
            deploy: None,
            listen: &[],
            runtime: None,
            typed: false,
        }
    }

    fn entry(value: &Value) -> Map<String, Value> {
        let mut entry = value.as_object().unwrap().clone();
        entry.entry("script").or_insert_with(|| "app.js".into());
        entry
    }

    fn import_at(value: &Value, place: &Circumstances<'_>) -> Result<Imported, Vec<String>> {
        read(&entry(value), place, &machine())
    }

    #[track_caller]
    fn import(value: &Value) -> Imported {
        let imported = import_at(value, &here()).unwrap_or_else(|problems| panic!("{value}: {problems:?}"));
        let text = imported.draft.toml();
        let report = crate::config::parse(&imported.draft.name, Path::new("x"), &text, Scope::System);
        assert_eq!(report.problems, [], "{value}\n{text}");
        imported
    }

    #[test]
    fn every_key_becomes_what_the_table_says() {
        for key in KEYS {
            let name = if key.name == "env_*" { "env_production" } else { key.name };
            let mut value = json!({ "name": "shop", "watch": true });
            value[name] = serde_json::from_str(key.example).unwrap_or_else(|error| panic!("{name}: {error}"));
            let place = Circumstances { profile: Some("production"), ..here() };
            let told = import_at(&value, &place).unwrap().told;
            let told =
                told.iter().find(|told| told.key == name).unwrap_or_else(|| panic!("{name} is dropped in silence"));
            match (key.fate, &told.became) {
                (Fate::Becomes(ours), Became::Lines(lines)) => {
                    let (table, last) = ours.rsplit_once('.').unwrap_or(("", ours));
                    let said = lines.contains(ours) || (lines.contains(table) && lines.contains(last));
                    assert!(said || ours == "NAME.toml" && lines.contains(".toml"), "{name}: {ours}, {lines}");
                }
                (Fate::Needless, Became::Needless(why)) | (Fate::Refused, Became::Refused(why)) => {
                    assert!(!why.is_empty(), "{name}");
                }
                (fate, became) => panic!("{name}: {fate:?}, {became:?}"),
            }
            // A key that becomes something changes the file.
            if matches!(key.fate, Fate::Becomes(_)) && !["script", "exec_interpreter", "watch"].contains(&name) {
                let without = import_at(&json!({ "watch": true }), &place).unwrap().draft;
                let mut with = value.clone();
                with.as_object_mut().unwrap().retain(|key, _| key != "name" || name == "name");
                assert_ne!(import_at(&with, &place).unwrap().draft, without, "{name}");
            }
        }
        assert!(TOP.iter().all(|key| !key.note.is_empty()));
    }

    #[test]
    fn a_whole_app() {
        let imported = import(&json!({
            "name": "shop", "script": "./app.js", "args": "--a 'b c'", "node_args": ["--trace-warnings"],
            "instances": "max", "exec_mode": "cluster", "port": 4000, "env": {"A": 1, "O": {"b": [true]}, "N": null},
            "env_production": {"A": 2}, "restart_delay": 4000, "max_restarts": 3, "kill_timeout": 3000,
            "wait_ready": true, "listen_timeout": 90_000, "max_memory_restart": "300M", "cron_restart": "0 4 * * *",
            "watch": ["src"], "ignore_watch": ["./tmp", "[\\/\\\\]\\./", "/srv/app/log"], "autorestart": true,
            "out_file": "/dev/null", "maxx_restarts": 1,
        }));
        assert_eq!(
            imported.draft.toml(),
            "exec = [\"/usr/bin/node\", \"--trace-warnings\", \"/srv/app/app.js\", \"--a\", \"b c\"]\n\
         directory = \"/srv/app\"\nuser = \"deploy\"\nworkers = \"max\"\nlisten = [\"4000\"]\nwatch = [\"src\"]\n\
         ignore = [\"tmp\", \"/log\"]\n\n\
         [environment]\nA = \"1\"\nO = '{\"b\":[true]}'\nPORT = \"4000\"\n\n\
         [profile.production.environment]\nA = \"2\"\n\n\
         [restart]\ndelay = \"4000ms\"\nlimit = 3\ninterval = \"16s\"\n\n[limits]\nmemory_reload = \"300M\"\n\n\
         [schedule]\nrestart = \"0 4 * * *\"\n\n[ready]\non = \"message\"\ntimeout = \"90000ms\"\n\n\
         [stop]\nsignal = \"SIGINT\"\ntimeout = \"3000ms\"\n\n[service]\nStandardOutput = \"null\"\n"
        );
        let became =
            |key: &str| imported.told.iter().find(|told| told.key == key).map(|told| told.became.clone()).unwrap();
        assert!(matches!(became("maxx_restarts"), Became::Unknown(near) if near.contains("max_restarts")));
        assert!(matches!(became("autorestart"), Became::Needless(_)));
        assert!(imported.notes.iter().any(|note| note.contains("regular expression")), "{:?}", imported.notes);
    }

    #[test]
    fn what_runs_it() {
        let exec = |value: &Value| {
            let draft = import(value).draft;
            (draft.exec.join(" "), draft.runtime.unwrap_or_default())
        };
        for (value, line, runtime) in [
            (json!({"script": "job.js"}), "/usr/bin/node /srv/app/job.js", ""),
            (json!({"script": "job.py"}), "/usr/bin/python3 /srv/app/job.py", "none"),
            (json!({"script": "job.py", "port": 5000}), "/usr/bin/python3 /srv/app/job.py", "port"),
            (json!({"script": "job.py", "interpreter": "python"}), "/usr/bin/python3 /srv/app/job.py", "none"),
            (json!({"script": "binary"}), "/srv/app/binary", "none"),
            (json!({"script": "plain"}), "/usr/bin/node /srv/app/plain", ""),
            (json!({"script": "cli"}), "/srv/app/cli", ""),
            (json!({"script": "app.ts"}), "/usr/bin/node /srv/app/app.ts", ""),
            (json!({"script": "ruby", "args": "x.rb", "interpreter": "none"}), "/usr/bin/ruby x.rb", "none"),
            (json!({"interpreter": "node22"}), "/usr/bin/node22 /srv/app/app.js", "none"),
            (json!({"interpreter": "node@18.1.0"}), "/root/.nvm/versions/node/v18.1.0/bin/node /srv/app/app.js", ""),
            (json!({"script": "node app.js --x 'y z'"}), "/usr/bin/node app.js --x y z", ""),
            (json!({"script": "A=1 node app.js"}), "/usr/bin/bash -c A=1 node app.js", ""),
            (json!({"script": "node -e 'work()'"}), "/usr/bin/bash -c node -e 'work()'", "none"),
            (json!({"script": "node --no-warnings -e 0"}), "/usr/bin/node --no-warnings -e 0", "none"),
            (json!({"script": "npm start", "name": "a"}), "/usr/bin/node app.js --prod", ""),
            (json!({"script": "npm run dev -- -p 1", "name": "a"}), "/srv/app/node_modules/.bin/next dev -p 1", ""),
        ] {
            assert_eq!(exec(&value), (line.to_owned(), runtime.to_owned()), "{value}");
        }
        for (value, said) in [
            (json!({"script": "gone.js"}), "there is no /srv/app/gone.js"),
            (json!({"script": "npm run all", "name": "a"}), "needs a shell"),
            (json!({"script": "npm test", "name": "a"}), "no script `test`"),
            (json!({"interpreter": "node@20"}), "nvm install 20"),
            (json!({"interpreter": "deno"}), "deno is not in your PATH"),
            (json!({"instances": "many"}), "instances: write a number"),
            (json!({"kill_timeout": {}}), "kill_timeout: write milliseconds"),
            (json!({"env": "A=1"}), "env: write an object"),
            (json!({"script": 7.5, "stop_exit_codes": [999]}), "script"),
        ] {
            let problems = import_at(&value, &here()).unwrap_err().join("\n");
            assert!(problems.contains(said), "{value}: {problems}");
        }
    }

    #[test]
    fn where_it_serves() {
        for (value, listen) in [
            (json!({"port": 1234}), &["1234"][..]),
            (json!({"env": {"PORT": "4000"}, "env_production": {"PORT": 4001}}), &["4001"]),
            (json!({"env": {"PORT": 4000}, "increment_var": "PORT", "instances": 3}), &["4000", "4001", "4002"]),
            (json!({"env": {"PORT": 4000}, "increment_var": "PORT", "instances": -2}), &["4000", "4001"]),
            (json!({}), &["3000"]),
            (json!({"script": "sticky.js"}), &["8080"]),
            (json!({"script": "job.js"}), &[]),
        ] {
            let place = Circumstances { profile: Some("production"), ..here() };
            assert_eq!(import_at(&value, &place).unwrap().draft.listen, listen, "{value}");
        }
        let asked = ["127.0.0.1:80".to_owned()];
        let place = Circumstances { listen: &asked, ..here() };
        assert_eq!(import_at(&json!({"port": 1}), &place).unwrap().draft.listen, asked);
    }

    #[test]
    fn names_and_places() {
        for (value, name) in [
            (json!({}), "app"),
            (json!({"name": "my shop"}), "my-shop"),
            (json!({"name": "@org/api"}), "org-api"),
            (json!({"name": "web.service"}), "app-web-service"),
            (json!({"name": "a", "append_env_to_name": true}), "a-production"),
        ] {
            let place = Circumstances { profile: Some("production"), ..here() };
            assert_eq!(import_at(&value, &place).unwrap().draft.name, name, "{value}");
        }
        // Where PM2 would look there is nothing.
        let place = Circumstances { directory: Path::new("/root"), ..here() };
        let draft = import_at(&json!({}), &place).unwrap().draft;
        assert_eq!((draft.exec[1].as_str(), draft.directory), ("/srv/file/app.js", "/srv/file".into()));
        let draft = import_at(&json!({"cwd": "../nowhere"}), &place).unwrap_err();
        assert!(draft[0].contains("app.js"), "{draft:?}");
    }

    #[test]
    fn profiles_and_deployments() {
        let deploy = json!({"production": {"env": {"A": "deploy", "B": "deploy"}}});
        let place = Circumstances { profile: Some("production"), deploy: Some(&deploy), ..here() };
        let draft = import_at(&json!({"env": {"A": 1}, "env_production": {"C": 2}}), &place).unwrap().draft;
        assert_eq!(["A", "B", "C"].map(|name| draft.variable(name).unwrap()), ["1", "deploy", "2"]);
        assert_eq!(draft.active_profile.as_deref(), Some("production"));
        let imported = import_at(&json!({"env": {"A-B": 1}}), &place).unwrap();
        assert_eq!(imported.draft.active_profile, None);
        assert!(imported.notes.iter().any(|note| note.contains("no env_production")), "{:?}", imported.notes);
        assert!(imported.notes.iter().any(|note| note.contains("`A-B`")), "{:?}", imported.notes);
    }

    #[test]
    fn a_node_that_units_would_not_find() {
        let mut machine = machine();
        machine.0.insert("node's directory", "/home/me/.nvm/versions/node/v20.1.0/bin");
        let path =
            |value: Value| read(&entry(&value), &here(), &machine).unwrap().draft.variable("PATH").map(str::to_owned);
        let found = path(json!({})).unwrap();
        assert!(found.starts_with("/home/me/.nvm/versions/node/v20.1.0/bin:/usr/local/sbin:"), "{found}");
        assert_eq!(path(json!({"env": {"PATH": "/bin"}})).unwrap(), "/bin");
        assert_eq!(import(&json!({})).draft.variable("PATH"), None);
    }

    #[test]
    fn the_report_keeps_secrets() {
        let value = json!({"env": {"DB_PASSWORD": "hunter2"}, "env_production": {"DB_PASSWORD": "hunter3"}});
        let told = format!("{:?}", import(&value).told);
        assert!(told.contains("DB_PASSWORD") && !told.contains("hunter"), "{told}");
    }

    #[test]
    fn a_users_own_app_is_nobody_elses() {
        let place = Circumstances { scope: Scope::User, ..here() };
        let imported = import_at(&json!({"uid": "root"}), &place).unwrap();
        assert_eq!(imported.draft.user, None);
        assert!(
            imported.told.iter().any(|told| matches!(&told.became, Became::Refused(why) if why.contains("--system")))
        );
    }

    #[test]
    fn what_pm2_saved() {
        let process = |index: u32| {
            json!({
                "name": "w", "pm_exec_path": "/srv/app/app.js", "pm_cwd": "/srv/app", "exec_interpreter": "node", "node_args": [],
                "exec_mode": "cluster_mode", "instance_var": "NODE_APP_INSTANCE", "pmx": true, "vizion": true, "username": "deploy",
                "NODE_APP_INSTANCE": index, "status": "online", "pm_uptime": 1, "kill_timeout": 2000, "restart_time": 3,
                "env": {"A": 2, "HOME": "/root", "PATH": "/bin", "SSH_TTY": "x", "w": "{}", "unique_id": "u", "PM2_USAGE": "CLI", "PORT": 4000},
                "A": 2, "PORT": 4000, "unique_id": "u",
            })
        };
        let shell = json!({"name": "s", "pm_exec_path": "/usr/bin/bash", "args": ["-c", "node job.js --x"], "pm_cwd": "/srv/app",
        "exec_interpreter": "none", "status": "stopped", "env": {}});
        let module = json!({"name": "pm2-logrotate", "pmx_module": true});
        let saved = crate::pm2::dump::apps(&json!([process(0), shell, process(1), module]), &machine()).unwrap();
        assert_eq!(saved.len(), 2);
        assert_eq!(saved[0].left_out, ["HOME", "PATH", "PM2_USAGE", "SSH_TTY", "unique_id"]);
        let imported = read(&saved[0].entry, &here(), &machine()).unwrap();
        assert_eq!(
            imported.draft.toml(),
            "exec = [\"/usr/bin/node\", \"/srv/app/app.js\"]\ndirectory = \"/srv/app\"\nuser = \"deploy\"\nworkers = 2\n\
         listen = [\"4000\"]\n\n[environment]\nA = \"2\"\nPORT = \"4000\"\n\n[stop]\nsignal = \"SIGINT\"\ntimeout = \"2000ms\"\n"
        );
        let told: Vec<&str> = imported.told.iter().map(|told| told.key.as_str()).collect();
        assert!(!told.iter().any(|key| ["status", "pm_uptime", "pmx", "unique_id"].contains(key)), "{told:?}");
        let draft = read(&saved[1].entry, &here(), &machine()).unwrap().draft;
        assert_eq!((draft.exec.join(" ").as_str(), draft.at_boot), ("/usr/bin/node job.js --x", false));
        assert!(crate::pm2::dump::apps(&json!({}), &machine()).is_err());
    }
}
