//! What units call: `router`, `worker exec`, `worker ready`, `worker drain`, `worker ended`. No operator types these.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Subcommand};

use super::apps;
use super::exit::{DONE, FAILED, Failure};
use super::print::Printer;
use crate::config::router::ArgumentError;
use crate::config::{Numbering, RouterSettings, Runtime, Scope, value};
use crate::system::stamp::Stamp;
use crate::system::version;
use crate::wire::hello::UP_TO;
use crate::worker::{self, ended::Policy};

#[derive(Debug, Args)]
pub(super) struct Router {
    /// `--KEY=VALUE…`, then the app's name
    #[arg(required = true, allow_hyphen_values = true)]
    pub(super) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct WorkerName {
    pub(super) name: String,
    pub(super) slot: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum Worker {
    /// Open the channel and become the program
    Exec {
        #[arg(long, value_parser = runtime, default_value = "node")]
        runtime: Runtime,
        /// What `NODE_APP_INSTANCE` is called
        #[arg(long)]
        index_variable: Option<String>,
        /// A variable to which the index is added
        #[arg(long)]
        increment_variable: Option<String>,
        #[command(flatten)]
        worker: WorkerName,
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    /// Become the program, which gets descriptor 3 by LISTEN_FDS
    Activated {
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    /// Wait until the router counts the worker as ready
    Ready {
        /// It has told systemd that it is ready
        #[arg(long)]
        notified: bool,
        /// When to say why it is not ready yet
        #[arg(long, value_parser = span)]
        explain_after: Option<Duration>,
        #[command(flatten)]
        worker: WorkerName,
    },
    /// Stay beside the worker, to abort it when the router says that it hangs
    Guard {
        /// Start the guard and end
        #[arg(long)]
        detach: bool,
        #[arg(long)]
        pid: i32,
        #[command(flatten)]
        worker: WorkerName,
    },
    /// Tell the router how the worker ended
    Ended {
        /// `Restart=` of the unit
        #[arg(long)]
        restart: String,
        /// `RestartPreventExitStatus=`
        #[arg(long, value_delimiter = ',')]
        stop_exit_codes: Vec<u8>,
        /// Shortest pause before a restart
        #[arg(long, value_parser = span)]
        delay: Duration,
        /// Longest, when it grows
        #[arg(long, value_parser = span)]
        backoff: Option<Duration>,
        #[command(flatten)]
        worker: WorkerName,
    },
    /// Take the worker out of rotation and wait until it is idle
    Drain {
        #[arg(long, value_parser = span, default_value = "2s")]
        timeout: Duration,
        /// What to tell it then, over its channel
        #[arg(long, requires = "patience")]
        message: Option<String>,
        /// How long it may take to end by that message
        #[arg(long, value_parser = span)]
        patience: Option<Duration>,
        #[command(flatten)]
        worker: WorkerName,
    },
}

fn runtime(text: &str) -> Result<Runtime, String> {
    Runtime::ALL
        .into_iter()
        .find(|runtime| runtime.to_string() == text)
        .ok_or_else(|| format!("`{text}` is no runtime"))
}

pub(super) fn span(text: &str) -> Result<Duration, String> {
    value::read_span(text).map_err(|wrong| wrong.reason)
}

pub(super) fn router(arguments: &Router, scope: Scope) -> Result<ExitCode, Failure> {
    let Some((name, settings)) = arguments.words.split_last() else {
        return Err(Failure::Usage("router: no name is given".into()));
    };
    let settings = known_settings(settings)?;
    Ok(crate::router::main(name, settings, apps::manager(scope)))
}

/// A unit may be from another release than this program, for as long as systemd has not read it again.
fn known_settings(words: &[String]) -> Result<RouterSettings, Failure> {
    let mut words = words.to_vec();
    loop {
        match RouterSettings::from_args(&words) {
            Err(ArgumentError::Unknown(flag)) => {
                tell_left_out(&format!("--{flag}"));
                words.retain(|word| !word.starts_with(&format!("--{flag}=")));
            }
            settings => return settings.map_err(|error| Failure::Usage(error.to_string())),
        }
    }
}

fn tell_left_out(flag: &str) {
    eprintln!(
        "<4>{flag} is not known to appctl {}: it is left out; run systemctl daemon-reload, then appctl upgrade",
        Stamp::own().version
    );
}

/// Commands of units, whose flags are words of their own: `--KEY=VALUE` or `--KEY`. (The router reads its own.)
const OF_UNITS: [&str; 7] = ["worker", "started", "stopping", "watch", "scheduled", "memory", "rollout"];

/// The same for all other commands that units call: takes the flag that is not known out of the line. `false`: the line is
/// wrong in another way, or somebody has typed it.
pub(super) fn leave_out(line: &mut Vec<OsString>, error: &clap::Error) -> bool {
    let ours = line.iter().skip(1).find(|word| !word.as_encoded_bytes().starts_with(b"-"));
    if error.kind() != ErrorKind::UnknownArgument || !ours.is_some_and(|word| OF_UNITS.iter().any(|it| word == it)) {
        return false;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return false };
    let flag = flag.split('=').next().unwrap_or(flag);
    let is_it = |word: &OsString| {
        let rest = word.as_encoded_bytes().strip_prefix(flag.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
    };
    let place = line.iter().take_while(|word| *word != "--").position(is_it).filter(|_| flag.starts_with("--"));
    place.map(|at| line.remove(at)).is_some_and(|_| {
        tell_left_out(flag);
        true
    })
}

pub(super) fn worker(arguments: &Worker, user: bool, printer: &Printer) -> u8 {
    let named = |worker: &WorkerName| worker::Worker { app: worker.name.clone(), slot: worker.slot.clone(), user };
    let done = match arguments {
        Worker::Exec { runtime, index_variable, increment_variable, worker, program } => {
            let numbering = Numbering { index: index_variable.clone(), increment: increment_variable.clone() };
            worker::exec::exec(&named(worker), *runtime, &numbering, program).map(|never| match never {})
        }
        Worker::Activated { program } => worker::outside::activated(program).map(|never| match never {}),
        Worker::Ready { notified, explain_after, worker } => {
            let pid = std::env::var("MAINPID").ok().and_then(|pid| pid.parse().ok());
            match pid {
                Some(pid) => worker::ready::ready(&named(worker), pid, *notified, *explain_after),
                None => {
                    printer.error("MAINPID is not set: this is ExecStartPost= of a worker's unit");
                    return FAILED;
                }
            }
        }
        Worker::Guard { detach: true, pid, worker } => {
            let detached = worker::guard::detach(&named(worker), *pid);
            detached.map_err(|error| worker::WorkerError::Program(error.to_string()))
        }
        Worker::Guard { detach: false, pid, worker } => worker::guard::guard(&named(worker), *pid),
        Worker::Ended { restart, stop_exit_codes, delay, backoff, worker } => {
            let pause = match backoff {
                // Older ones make the same pause each time.
                Some(most) if version::of_systemd().is_none_or(|version| version >= 254) => {
                    format!("{UP_TO}{}", value::write_span(*most))
                }
                _ => value::write_span(*delay),
            };
            let policy = Policy { restart: restart.clone(), stop_exit_codes: stop_exit_codes.clone(), pause };
            worker::ended::ended(&named(worker), &policy)
        }
        Worker::Drain { timeout, message, patience, worker } => {
            // None: it has ended by itself.
            let Some(pid) = std::env::var("MAINPID").ok().and_then(|pid| pid.parse().ok()) else { return DONE };
            let message = message.as_deref().zip(*patience);
            // The worker is going to be stopped whatever the router says: that must not make the stop a failure.
            if let Err(error) = worker::drain::drain(&named(worker), pid, *timeout, message) {
                printer.warning(&format!("not drained: {error}"));
            }
            return DONE;
        }
    };
    match done {
        Ok(()) => DONE,
        // That is told by `worker ended`.
        Err(worker::WorkerError::Ended) => FAILED,
        Err(error) => {
            printer.error(&error.to_string());
            FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    /// The line as it is read at last; or what is wrong with it.
    fn read(text: &str) -> Result<Vec<String>, String> {
        let mut words: Vec<OsString> = text.split(' ').map(OsString::from).collect();
        loop {
            match super::super::CommandLine::try_parse_from(&words) {
                Ok(_) => return Ok(words.into_iter().map(|word| word.into_string().unwrap()).collect()),
                Err(error) if leave_out(&mut words, &error) => {}
                Err(error) => return Err(error.kind().to_string()),
            }
        }
    }

    #[test]
    fn a_unit_of_a_later_release_is_understood() {
        for (unit, left) in [
            (
                "appctl worker ready --kindly --explain-after=5s --more=a=b app 1",
                "appctl worker ready --explain-after=5s app 1",
            ),
            (
                "appctl --user worker drain --timeout=2s --gently=yes app 1",
                "appctl --user worker drain --timeout=2s app 1",
            ),
            (
                "appctl worker exec --runtime=node --cage=iron app 1 -- node --cage=iron x.js",
                "appctl worker exec --runtime=node app 1 -- node --cage=iron x.js",
            ),
            (
                "appctl worker ended --restart=always --delay=1s --story=long app 1",
                "appctl worker ended --restart=always --delay=1s app 1",
            ),
            ("appctl stopping --softly app", "appctl stopping app"),
            ("appctl rollout --conclude --wave=2 app", "appctl rollout --conclude app"),
        ] {
            assert_eq!(read(unit).map(|words| words.join(" ")), Ok(left.to_owned()));
        }
    }

    /// Those of a user's manager, as `appctl --user cat` of earlier commits wrote them (tests/older.rs).
    #[test]
    fn units_of_earlier_releases_are_understood() {
        for (commit, units) in [
            ("a2772af", include_str!("../../tests/fixtures/older/a2772af/exec.txt")),
            ("bacb4e2", include_str!("../../tests/fixtures/older/bacb4e2/exec.txt")),
            ("a41227a", include_str!("../../tests/fixtures/older/a41227a/exec.txt")),
        ] {
            assert_eq!(units.lines().count(), 31, "{commit}");
            for unit in units.lines() {
                let words = shlex::split(unit).unwrap();
                let line = super::super::CommandLine::try_parse_from(&words);
                let line = line.unwrap_or_else(|error| panic!("{commit}: {unit}: {error}"));
                if let super::super::Command::Router(Router { words }) = line.command {
                    RouterSettings::from_args(&words[..words.len() - 1]).unwrap();
                }
            }
        }
    }

    #[test]
    fn what_somebody_types_is_read_to_the_letter() {
        for line in
            ["appctl reload --gently app", "appctl --gently worker ready app 1 2", "appctl worker ready app 1 2"]
        {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
