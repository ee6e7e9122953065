//! `appctl import`: PM2's ecosystem files, or the apps of a running PM2, as files of ours; and a word about every key.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::apps;
use super::evaluate::evaluate;
use super::exit::{DONE, FAILED, Failure};
use super::names::{Asked, is_root};
use super::new_app;
use super::print::{Colour, Printer};
use super::script::{Here, closed_to_others};
use super::{stamp, statics};
use crate::config::Scope;
use crate::pm2::Circumstances;
use crate::pm2::app::{self, Became, Imported, Told};
use crate::pm2::dump;
use crate::pm2::form::{self, Ecosystem, Kind, USUAL};

/// Longest file that is read, bytes.
const FILE_MAX: u64 = 4 << 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// PM2's ecosystem file: .config.js, .config.cjs, .config.mjs, .json, .yaml, package.json, or - for JSON on standard
    /// input [default: ecosystem.config.js and its like]
    #[arg(value_name = "FILE")]
    pub(super) file: Option<String>,
    /// Take over the apps of your running PM2, as `pm2 save` wrote them
    #[arg(long, conflicts_with_all = ["file", "env"])]
    pub(super) from_pm2: bool,
    #[command(flatten)]
    pub(super) choice: Choice,
    /// Print the files and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Overwrite files that were changed since, or that are not of an import
    #[arg(short, long)]
    pub(super) force: bool,
}

/// Which apps of a file, and how.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Choice {
    /// Only these apps of the file
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// The profile that is to be active: env_NAME of the file
    #[arg(long, value_name = "NAME")]
    pub(super) env: Option<String>,
    /// Where clients connect, if it is one app; default: what the file and the script say of their port
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Vec<String>,
}

/// PM2's keys for the account that an app runs as.
const ACCOUNT: [&str; 2] = ["uid", "user"];

/// An app that was read from a file of PM2's.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Of its own file.
    pub(super) text: String,
    pub(super) imported: Imported,
}

/// The apps of a file of PM2's, and what its keys beside the apps became. Writes nothing.
pub(super) fn read(
    file: &str,
    choice: &Choice,
    scope: Scope,
    printer: &Printer,
) -> Result<(Vec<Entry>, Vec<Told>), Failure> {
    let (ecosystem, source) = open(file, printer)?;
    let read = convert(&ecosystem, source.as_deref(), file, choice, scope)?;
    Ok((read, ecosystem.told))
}

/// Whether a word in an app's place is a file of PM2's.
pub(super) fn is_file(word: &str) -> bool {
    word == "-" || (form::kind(word).is_some() && Path::new(word).is_file())
}

/// What the apps of a file are called here.
pub(super) fn names(file: &str, choice: &Choice) -> Result<Vec<String>, Failure> {
    let (ecosystem, _) = open(file, &Printer::new(false, true))?;
    let (chosen, statics) = chosen(&ecosystem, file, &choice.only)?;
    let profile = choice.env.as_deref();
    let names = chosen.into_iter().filter_map(|entry| Some(app::name(entry, &pm2_name(entry)?, profile)));
    Ok(names.chain(statics.into_iter().map(statics::name)).collect())
}

type Entries<'e> = Vec<&'e serde_json::Map<String, Value>>;

/// The apps and the directories that `--only` leaves.
fn chosen<'e>(ecosystem: &'e Ecosystem, file: &str, only: &[String]) -> Result<(Entries<'e>, Entries<'e>), Failure> {
    let all = ecosystem.apps.iter().filter_map(pm2_name).chain(ecosystem.statics.iter().map(statics::name));
    let all: Vec<String> = all.collect();
    let only: Vec<&str> = only.iter().flat_map(|names| names.split([',', ' '])).filter(|it| !it.is_empty()).collect();
    if let Some(unknown) = only.iter().find(|name| !all.iter().any(|known| known == *name)) {
        return Err(Failure::failed(format!("{file} has no app {unknown}; it has {}", all.join(", "))));
    }
    let meant = |entry: &_| only.is_empty() || pm2_name(entry).is_some_and(|name| only.contains(&name.as_str()));
    let statics = ecosystem.statics.iter();
    let statics = statics.filter(|entry| only.is_empty() || only.contains(&statics::name(entry).as_str()));
    Ok((ecosystem.apps.iter().filter(|entry| meant(entry)).collect(), statics.collect()))
}

/// A file's content (`-`: JSON on standard input), and its whole path.
fn open(file: &str, printer: &Printer) -> Result<(Ecosystem, Option<PathBuf>), Failure> {
    let wrong = |wrong: String| Failure::failed(format!("{file}: {wrong}"));
    if file == "-" {
        let text = limited(std::io::stdin().lock(), "standard input")?;
        let read = form::parse(Kind::Json, &text).and_then(|value| form::ecosystem(Kind::Json, value));
        return Ok((read.map_err(|wrong| Failure::failed(format!("standard input: {wrong}")))?, None));
    }
    let path = std::path::absolute(file).map_err(|error| wrong(error.to_string()))?;
    let kind = form::kind(file).ok_or_else(|| {
        Failure::Usage(format!(
            "{file} is no file of PM2's: those end in .json, .yaml, .yml, .config.js, .config.cjs or .config.mjs"
        ))
    })?;
    let value = match kind {
        Kind::Script => evaluate(&path, printer)?,
        _ => {
            let opened =
                std::fs::File::open(&path).map_err(|error| Failure::failed(format!("cannot read {file}: {error}")))?;
            form::parse(kind, &limited(opened, file)?).map_err(wrong)?
        }
    };
    Ok((form::ecosystem(kind, value).map_err(wrong)?, Some(path)))
}

fn limited(reader: impl Read, name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    reader
        .take(FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("cannot read {name}: {error}")))?;
    if text.len() as u64 > FILE_MAX {
        return Err(Failure::failed(format!("{name} is longer than {} MiB", FILE_MAX >> 20)));
    }
    Ok(text)
}

/// What PM2 calls an app.
fn pm2_name(entry: &serde_json::Map<String, Value>) -> Option<String> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    text("name").or_else(|| {
        let script = ["script", "exec", "cmd", "command"].iter().find_map(|key| text(key))?;
        Some(Path::new(&script).file_stem()?.to_string_lossy().into_owned())
    })
}

fn convert(
    ecosystem: &Ecosystem,
    source: Option<&Path>,
    file: &str,
    choice: &Choice,
    scope: Scope,
) -> Result<Vec<Entry>, Failure> {
    let directory = std::env::current_dir()
        .map_err(|error| Failure::failed(format!("cannot tell the working directory: {error}")))?;
    let (chosen, statics) = chosen(ecosystem, file, &choice.only)?;
    if chosen.len() > 1 && !choice.listen.is_empty() {
        return Err(Failure::Usage(format!(
            "--listen is for one app, and these are {}: add --only NAME",
            chosen.len()
        )));
    }
    let circumstances = Circumstances {
        scope,
        directory: &directory,
        beside: source.and_then(Path::parent),
        profile: choice.env.as_deref(),
        deploy: ecosystem.deploy.as_ref(),
        listen: &choice.listen,
        runtime: None,
        typed: false,
    };
    let (mut read, mut problems) = (Vec::<Entry>::new(), Vec::new());
    let apps = chosen.into_iter().map(|entry| {
        let called = pm2_name(entry).unwrap_or_else(|| "an app without a name".to_owned());
        let named = ACCOUNT.iter().any(|key| entry.contains_key(*key));
        (called, named, app::read(entry, &circumstances, &Here))
    });
    let statics = statics.into_iter().map(|entry| {
        let imported = statics::read(entry, &directory, scope).map_err(|failure| vec![failure.to_string()]);
        (statics::name(entry), false, imported)
    });
    for (called, named, imported) in apps.chain(statics) {
        match imported {
            Ok(mut imported) => {
                let restrained =
                    source.map_or(Ok(()), |path| super::owners::restrain(&mut imported.draft, named, path, scope));
                problems.extend(restrained.err().map(|wrong| format!("{called}: {wrong}")));
                if read.iter().any(|other| other.name == imported.draft.name) {
                    problems.push(format!("{called}: there are two apps of that name; give one another `name`"));
                }
                let from = source.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
                read.push(Entry { name: imported.draft.name.clone(), text: written(&imported, &from), imported });
            }
            Err(wrong) => problems.extend(wrong.into_iter().map(|wrong| format!("{called}: {wrong}"))),
        }
    }
    if problems.is_empty() { Ok(read) } else { Err(Failure::failed(format!("{file}: {}", problems.join("\n")))) }
}

/// The file's text, with a first line by which it is known whether anybody has changed it.
fn written(imported: &Imported, from: &str) -> String {
    let mut draft = imported.draft.clone();
    draft.head = imported
        .told
        .iter()
        .filter_map(|told| match &told.became {
            Became::Refused(why) | Became::Unknown(why) => Some(format!("PM2's {} = {}: {why}", told.key, told.value)),
            _ => None,
        })
        .collect();
    let name = &draft.name;
    let text = format!("# Change it as you like, then: appctl reload {name}\n{}", draft.toml());
    stamp::stamped(from, &text)
}

pub(super) fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let scope = asked.for_new_app();
    let (read, beside) = if arguments.from_pm2 {
        (from_pm2(&arguments.choice, scope, printer)?, Vec::new())
    } else {
        read(&usual(arguments.file.as_deref())?, &arguments.choice, scope, printer)?
    };
    if printer.json {
        printer.json(&report(scope, &read)?);
    }
    for told in &beside {
        printer.note(&line(told, printer));
    }
    let mut code = DONE;
    for app in &read {
        if !printer.json {
            printer.data(&story(scope, app, printer)?);
        }
        check_place(scope, app, printer);
        if arguments.dry_run {
            // Mistakes are told as they would be.
            apps::check(scope, &app.name, &apps::path(scope, &app.name)?, &app.text, printer)?;
            if !printer.json {
                printer.data(&app.text);
            }
            continue;
        }
        let installed = install(scope, app, arguments.force, printer).map(|_| DONE);
        code = code.max(installed.or_else(|failure| failure.of_one(printer))?);
    }
    if code == DONE && !arguments.dry_run {
        let names: Vec<&str> = read.iter().map(|app| app.name.as_str()).collect();
        let flag = super::manage::user_flag(scope);
        if arguments.from_pm2 {
            printer.note(&format!(
                "Now `pm2 kill` ends PM2 and its apps, and `appctl{flag} start {}` starts them here; then `pm2 unstartup` \
                 takes PM2 out of the boot.",
                names.join(" ")
            ));
        } else {
            printer.note(&format!("`appctl{flag} start {}` starts what was imported", names.join(" ")));
        }
    }
    Ok(code)
}

/// The file that is meant where none is named.
pub(super) fn usual(file: Option<&str>) -> Result<String, Failure> {
    match file {
        Some(file) => Ok(file.to_owned()),
        None => USUAL.into_iter().find(|name| Path::new(name).is_file()).map(str::to_owned).ok_or_else(|| {
            Failure::failed(
                "there is no ecosystem.config.js here, nor its like: name the file, or write one by `appctl ecosystem`",
            )
        }),
    }
}

/// Writes an app's file; says whether it is another than before. One that nobody has changed since its import is
/// replaced.
pub(super) fn install(scope: Scope, app: &Entry, force: bool, printer: &Printer) -> Result<bool, Failure> {
    let path = apps::path(scope, &app.name)?;
    let there = crate::generator::apps::text(&path).unwrap_or_default();
    let (text, told) = to_write(&there, app);
    let force = force || stamp::is_untouched(&there);
    let changed = new_app::install(scope, &app.name, &path, &text, force, printer)?;
    if let Some(told) = told {
        printer.note(&format!("{}: {told}", app.name));
    }
    let (before, after) = (stamp::profile(&there), stamp::profile(&text));
    if changed && !there.is_empty() && before != after {
        let named = |profile: Option<&str>| profile.map_or_else(|| "none".to_owned(), |name| format!("\"{name}\""));
        let (before, after) = (named(before), named(after));
        printer.warning(&format!("{}: its profile is {after} now, and was {before}: --env says which it is", app.name));
    }
    Ok(changed)
}

/// What the file of an app is to say that says `there` now, and what there is to tell of that.
pub(super) fn to_write(there: &str, app: &Entry) -> (String, Option<String>) {
    if stamp::is_untouched(there) { stamp::renewed(there, &app.text) } else { (app.text.clone(), None) }
}

/// Whether a file is of an import, and nobody has changed it since.
pub(super) fn may_be_replaced(path: &Path) -> bool {
    crate::generator::apps::text(path).is_ok_and(|text| stamp::is_untouched(&text))
}

/// Warns of what will not work.
fn check_place(scope: Scope, app: &Entry, printer: &Printer) {
    let draft = &app.imported.draft;
    if let Some(user) = draft.user.as_ref().filter(|_| scope == Scope::System)
        && super::machine::lacks_user(user)
    {
        printer.warning(&format!(
            "{}: there is no user {user}: add it (useradd --system {user}) before the start",
            app.name
        ));
    }
    if scope == Scope::System && draft.user.is_none() {
        let files = draft.exec.iter().filter(|word| word.starts_with('/')).map(Path::new);
        if let Some(closed) = files.chain([draft.directory.as_path()]).find_map(closed_to_others) {
            printer.warning(&format!(
                "{}: its workers run as a user of their own, who cannot run it: {closed}\n\
                 Move the app to a place such as /srv, or give it to a user (chown) or write `user`.",
                app.name
            ));
        }
    }
    let secret = |name: &str| {
        let name = name.to_ascii_uppercase();
        ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "PRIVATE_KEY"].iter().any(|word| name.contains(word))
    };
    let profiles = draft.profiles.iter().flat_map(|(_, values)| values);
    let names: Vec<&str> =
        draft.environment.iter().chain(profiles).map(|(name, _)| name.as_str()).filter(|name| secret(name)).collect();
    if !names.is_empty() {
        printer.warning(&format!(
            "{}: {} looks like a secret, and everybody may read the file: put it into a file of its own, mode 0600, and name that in environment_files",
            app.name,
            names.join(", ")
        ));
    }
}

/// The apps that a PM2 has saved.
fn from_pm2(choice: &Choice, scope: Scope, printer: &Printer) -> Result<Vec<Entry>, Failure> {
    let home = std::env::var_os("PM2_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pm2")));
    let home = home.ok_or_else(|| Failure::failed("neither PM2_HOME nor HOME is set: where is PM2's directory?"))?;
    let path = home.join("dump.pm2");
    let sudo = std::env::var("SUDO_USER").ok().filter(|_| is_root());
    let opened = std::fs::File::open(&path).map_err(|error| {
        let whose = sudo
            .map_or(String::new(), |user| format!("; if it is the PM2 of {user}: PM2_HOME=~{user}/.pm2, after sudo"));
        Failure::failed(format!("cannot read {}: {error}\n`pm2 save` writes it{whose}.", path.display()))
    })?;
    let text = limited(opened, &path.display().to_string())?;
    let wrong = |wrong: String| Failure::failed(format!("{}: {wrong}", path.display()));
    let dump: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let saved = dump::apps(&dump, &Here).map_err(wrong)?;
    for app in saved.iter().filter(|app| !app.left_out.is_empty()) {
        let name = pm2_name(&app.entry).unwrap_or_default();
        printer.note(&format!("{name}: variables of a shell are left out: {}", app.left_out.join(", ")));
    }
    let ecosystem = Ecosystem { apps: saved.into_iter().map(|app| app.entry).collect(), ..Ecosystem::default() };
    if ecosystem.apps.is_empty() {
        return Err(wrong("it has no apps".to_owned()));
    }
    let file = path.display().to_string();
    convert(&ecosystem, Some(&path), &file, choice, scope)
}

/// One key of the report.
fn line(told: &Told, printer: &Printer) -> String {
    let (sign, text, colour) = match &told.became {
        Became::Lines(lines) => ("→", lines.clone(), Colour::Plain),
        Became::Needless(why) => ("·", format!("not needed: {why}"), Colour::Dim),
        Became::Refused(why) => ("✗", format!("no counterpart: {why}"), Colour::Yellow),
        Became::Unknown(why) => ("?", why.clone(), Colour::Yellow),
    };
    format!("  {} = {} {sign} {}", told.key, told.value, printer.paint(&text, colour))
}

/// What became of one app, key by key.
fn story(scope: Scope, app: &Entry, printer: &Printer) -> Result<String, Failure> {
    let mut lines =
        vec![format!("{} → {}", printer.paint(&app.name, Colour::Bold), apps::path(scope, &app.name)?.display())];
    lines.extend(app.imported.told.iter().map(|told| line(told, printer)));
    lines.extend(app.imported.notes.iter().map(|note| format!("  {note}")));
    Ok(lines.join("\n"))
}

/// What could not be taken over, for those who did not ask for all of it.
pub(super) fn warn(app: &Entry, printer: &Printer) {
    for told in &app.imported.told {
        if matches!(told.became, Became::Refused(_) | Became::Unknown(_)) {
            printer.note(&format!("{}: {}", app.name, line(told, printer).trim_start()));
        }
    }
    app.imported.notes.iter().for_each(|note| remark(&app.name, note, printer));
}

/// Whether it is about a profile that is not there.
fn is_of_profile(note: &str) -> bool {
    note.starts_with("--env ")
}

fn remark(name: &str, note: &str, printer: &Printer) {
    let text = format!("{name}: {note}");
    if is_of_profile(note) { printer.warning(&text) } else { printer.note(&text) }
}

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    path: PathBuf,
    file: &'a str,
    keys: Vec<ReportKey<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct ReportKey<'a> {
    key: &'a str,
    value: &'a str,
    /// `becomes`, `needless`, `refused` or `unknown`.
    fate: &'static str,
    text: &'a str,
}

fn report(scope: Scope, read: &[Entry]) -> Result<Vec<Report<'_>>, Failure> {
    read.iter()
        .map(|app| {
            let keys = app.imported.told.iter().map(|told| {
                let (fate, text) = match &told.became {
                    Became::Lines(text) => ("becomes", text),
                    Became::Needless(text) => ("needless", text),
                    Became::Refused(text) => ("refused", text),
                    Became::Unknown(text) => ("unknown", text),
                };
                ReportKey { key: &told.key, value: &told.value, fate, text }
            });
            Ok(Report {
                name: &app.name,
                path: apps::path(scope, &app.name)?,
                file: &app.text,
                keys: keys.collect(),
                notes: &app.imported.notes,
            })
        })
        .collect()
}

/// An app whose file was written.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) app: Entry,
    /// It says something else than before.
    pub(super) changed: bool,
    /// There was none.
    pub(super) first: bool,
}

/// Reads a file and writes its apps' files.
pub(super) fn apps(
    file: &str,
    choice: &Choice,
    scope: Scope,
    force: bool,
    printer: &Printer,
) -> Result<Vec<Installed>, Failure> {
    let (read, beside) = read(file, choice, scope, printer)?;
    let mut installed = Vec::new();
    for app in read {
        let first = !apps::exists(scope, &app.name);
        let changed = install(scope, &app, force, printer)?;
        if changed {
            warn(&app, printer);
            check_place(scope, &app, printer);
        } else {
            // All has been told when it was written; but a profile that is not there is of this command.
            app.imported
                .notes
                .iter()
                .filter(|note| is_of_profile(note))
                .for_each(|note| remark(&app.name, note, printer));
            printer.note(&format!("{}: its file says the same as before", app.name));
        }
        installed.push(Installed { app, changed, first });
    }
    if installed.iter().any(|app| app.changed) {
        beside.iter().for_each(|told| printer.note(line(told, printer).trim_start()));
    }
    if installed.is_empty() { Err(Failure::Told(FAILED)) } else { Ok(installed) }
}
