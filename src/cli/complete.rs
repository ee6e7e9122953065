//! `appctl completion SHELL`: what makes a shell complete appctl's commands, flags and the names of apps. The shell asks
//! this program by [`VARIABLE`].

use std::ffi::OsStr;

use clap::{Args, Command, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::Shells;

use super::apps;
use super::exit::{DONE, Failure};
use super::names::is_root;
use super::print::Printer;
use crate::config::Scope;

/// Set by the shell when it asks.
const VARIABLE: &str = "APPCTL_COMPLETE";
/// What the arguments that name apps are called.
const TARGETS: [&str; 4] = ["names", "name", "targets", "target"];

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Answers a shell that asks, and ends; does nothing when none does.
pub(super) fn answer() {
    CompleteEnv::with_factory(super::line).var(VARIABLE).complete();
}

/// The names of apps wherever a command takes them.
pub(super) fn with_names(mut line: Command) -> Command {
    let commands: Vec<String> = line.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in commands {
        line = line.mut_subcommand(&name, |command| {
            let takes: Vec<String> = command.get_positionals().map(|argument| argument.get_id().to_string()).collect();
            let files =
                ["start", "restart", "reload", "stop", "delete", "startOrRestart", "startOrReload", "run", "check"]
                    .contains(&name.as_str());
            // All of them, because each that is changed becomes the last.
            takes.into_iter().fold(command, |command, id| {
                let named = TARGETS.contains(&id.as_str());
                command.mut_arg(id, |argument| {
                    if named { argument.add(ArgValueCompleter::new(Names { files })) } else { argument }
                })
            })
        });
    }
    line
}

/// Apps, their workers once an `@` is there, and `all`.
struct Names {
    /// Or a file.
    files: bool,
}

impl ValueCompleter for Names {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let typed = current.to_string_lossy();
        let scopes = if is_root() { &[Scope::System][..] } else { &[Scope::System, Scope::User] };
        let mut words = Vec::new();
        for scope in scopes {
            for name in apps::names(*scope).unwrap_or_default() {
                if typed.contains('@') {
                    let workers = apps::read(*scope, &name).map_or(0, |loaded| loaded.workers());
                    words.extend((1..=workers).map(|slot| format!("{name}@{slot}")));
                } else {
                    words.push(name);
                }
            }
        }
        words.push("all".to_owned());
        let fitting = words.into_iter().filter(|word| word.starts_with(&*typed));
        let mut candidates: Vec<CompletionCandidate> = fitting.map(CompletionCandidate::new).collect();
        if self.files {
            candidates.extend(PathCompleter::any().complete(current));
        }
        candidates
    }
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<u8, Failure> {
    let name = match arguments.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).ok_or_else(|| Failure::failed(format!("no completions for {name}")))?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "appctl", "appctl", "appctl", &mut script)
        .map_err(|error| Failure::failed(error.to_string()))?;
    printer.data(String::from_utf8_lossy(&script).trim_end());
    Ok(DONE)
}
