//! Files in, units out: `appctl-generator`, called by systemd as systemd.generator(7) says, at boot and at every
//! daemon-reload. systemd waits for it: no threads, children, network or D-Bus.
//!
//! [`places`] is where things are, [`apps`] reads and judges the files, this module writes what `unit::plan` says.
//! One bad file yields a stub unit that tells why, or goes on with its last [`good`] text, and never stops another app;
//! one whose reload failed goes on with what ran before ([`held`]).

pub mod apps;
pub mod good;
pub mod held;
mod kept;
pub mod open;
pub mod places;
mod trust;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{Level, Scope};
use crate::unit::plan::{self, GROUP, Plan};
use apps::AppFile;
use places::Places;

/// `arguments`: the three output directories (the first alone is used, systemd.generator(7): "normal").
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let directories: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let ([out] | [out, _, _]) = directories.as_slice() else {
        log(&Message {
            severe: true,
            text: "call me with the three directories that systemd.generator(7) names; `appctl cat` shows the units"
                .to_owned(),
        });
        return ExitCode::FAILURE;
    };
    let Some(places) = Places::from_environment(scope_of_call(out)) else {
        log(&Message { severe: true, text: "neither XDG_CONFIG_HOME nor HOME is set".to_owned() });
        return ExitCode::FAILURE;
    };
    let outcome = generate(&places, processors(), out);
    outcome.messages.iter().for_each(log);
    if outcome.written { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The manager says which it is (since systemd 251); else the output directory tells.
fn scope_of_call(out: &Path) -> Scope {
    match std::env::var("SYSTEMD_SCOPE").as_deref() {
        Ok("user") => Scope::User,
        Ok("system") => Scope::System,
        _ if out.starts_with("/run/user") => Scope::User,
        _ => Scope::System,
    }
}

/// What `workers = "max"` means here: the processors that this process may use.
pub fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether all that should be written was.
    pub written: bool,
    pub messages: Vec<Message>,
}

/// One line for the kernel's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// An error, not a warning.
    pub severe: bool,
    pub text: String,
}

/// Reads all files and writes all units into `out`.
pub fn generate(places: &Places, processors: u32, out: &Path) -> Outcome {
    let mut outcome = Outcome { written: true, messages: Vec::new() };
    let loaded = apps::load(places);
    outcome.messages.extend(loaded.failure.map(|text| Message { severe: true, text }));
    good::remember(places, &loaded.files);
    loaded.files.iter().for_each(|file| held::forget(places, file));
    for file in &loaded.files {
        for problem in &file.report.problems {
            let text = problem.short(file.source.display());
            outcome.messages.push(Message { severe: problem.level == Level::Error, text });
        }
        for open in file.report.app.iter().flat_map(|app| open::files(app, places)) {
            let text = format!("{}: {}; {}", file.source.display(), open.reason(), open.remedy());
            outcome.messages.push(Message { severe: false, text });
        }
        let Some(plan) = plan_of(file, places, processors) else { continue };
        if let Err(error) = write(&plan, out) {
            outcome.written = false;
            outcome
                .messages
                .push(Message { severe: true, text: format!("cannot write the units of {}: {error}", file.name) });
        }
    }
    outcome
}

/// The units of a file: the app's, or those of what it said before, or the stub's, or none where even a stub would hide
/// another unit.
pub fn plan_of(file: &AppFile, places: &Places, processors: u32) -> Option<Plan> {
    let mut plan = plan_without_group(file, places, processors)?;
    if places.scope == Scope::System && places.has_group(GROUP) {
        plan.admit();
    }
    Some(plan)
}

fn plan_without_group(file: &AppFile, places: &Places, processors: u32) -> Option<Plan> {
    if let Some(app) = held::instead(places, file) {
        return Some(plan::held(&app, processors));
    }
    if let Some(app) = good::recall(places, file) {
        return Some(plan::stale(&app, processors));
    }
    match &file.report.app {
        Some(app) => Some(plan::plan(app, processors)),
        None if file.may_have_stub => {
            let error = file.report.error().map(|problem| problem.short(file.source.display())).unwrap_or_default();
            Some(plan::stub(&file.name, &file.source, places.scope, &error))
        }
        None => None,
    }
}

fn write(plan: &Plan, out: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(out)?;
    for (name, unit) in &plan.units {
        std::fs::write(out.join(name), unit.to_string())?;
    }
    for (path, target) in &plan.links {
        let path = out.join(path);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => std::os::unix::fs::symlink(target, &path)?,
        }
    }
    Ok(())
}

/// A line of /dev/kmsg holds 1024 bytes with its header.
const KMSG_MAX: usize = 900;

/// Into the kernel's log, because the journal may not be there yet; else to stderr.
fn log(message: &Message) {
    let text: String = message.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = text.len().min(KMSG_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let priority = if message.severe { 3 } else { 4 };
    let line = format!("<{priority}>appctl-generator[{}]: {}\n", std::process::id(), &text[..end]);
    // With another root this is a trial, which the machine's log need not know.
    let trial = std::env::var_os("APPCTL_ROOT").is_some();
    let kmsg = std::fs::OpenOptions::new().write(true).open(if trial { "/dev/stderr" } else { "/dev/kmsg" });
    if kmsg.and_then(|mut kmsg| kmsg.write_all(line.as_bytes())).is_err() {
        // Nobody is left to tell when this fails too.
        let _ = writeln!(std::io::stderr(), "appctl-generator: {text}");
    }
}
