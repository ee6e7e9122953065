//! ExecStart= of a worker: opens the channel and becomes the program, so that the unit's main process is the program.
//! [`outside`] does it for programs that speak no channel.

use super::environment::{CHANNEL, Identity, node_encoding, numbered, variables};
use super::{Worker, WorkerError, guard, outside};
use crate::config::{Numbering, Runtime};
use crate::system::process::place_at;
use crate::wire::Encoding;
use crate::wire::hello::{Answer, Hello};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Becomes `program`. Comes back only when it cannot.
pub fn exec(
    worker: &Worker,
    runtime: Runtime,
    numbering: &Numbering,
    program: &[OsString],
) -> Result<Infallible, WorkerError> {
    let Some((executable, arguments)) = program.split_first() else {
        return Err(WorkerError::Program("no program is given".into()));
    };
    if let Some(problem) = unfit(executable).filter(|_| runtime.has_channel()) {
        return Err(WorkerError::Program(problem));
    }
    if !runtime.has_channel() {
        return outside::exec(worker, runtime, numbering, (executable, arguments));
    }
    let encoding = preferred(runtime, executable);
    let hello = Hello::Attach { slot: worker.slot.clone(), encoding: encoding.into(), reach: None };
    let (stream, answer) = loop {
        let mut stream = worker.call(&hello)?;
        match worker.answer(&mut stream) {
            Ok(answer) => break (stream, answer),
            // This router has ended; systemd starts the next one on the same socket.
            Err(error) if error.is_end() => {}
            Err(error) => return Err(error),
        }
    };
    let Answer::Attached { id, index, workers, encoding } = answer else {
        return Err(worker.silent(std::io::Error::other("its answer is to another question")));
    };
    let identity = Identity { app: &worker.app, slot: &worker.slot, id, index, workers, encoding: encoding.into() };
    if let Err(error) = guard::start(worker) {
        // It is served all the same; it only cannot be aborted.
        eprintln!("<4>cannot start the guard of this worker: {error}");
    }
    place_at(OwnedFd::from(stream), CHANNEL)
        .map_err(|error| WorkerError::Program(format!("cannot put the channel on descriptor {CHANNEL}: {error}")))?;
    let mut command = Command::new(executable);
    command.args(arguments);
    apply(&mut command, variables(&identity), numbering, index);
    let error = command.exec();
    Err(cannot_run(executable, &error))
}

/// Why a program did not start, and what to do.
pub(super) fn cannot_run(executable: &OsStr, error: &std::io::Error) -> WorkerError {
    let name = executable.display();
    let remedy = match error.kind() {
        std::io::ErrorKind::NotFound if name.to_string().contains('/') => "is it installed there?",
        std::io::ErrorKind::NotFound => {
            "install it, or write its whole path into `exec`: PATH is not that of your shell"
        }
        std::io::ErrorKind::PermissionDenied => {
            "make it executable (chmod +x) by the app's user, or name its interpreter in `exec`"
        }
        _ => return WorkerError::Program(format!("cannot run {name}: {error}")),
    };
    WorkerError::Program(format!("cannot run {name}: {error}; {remedy}"))
}

/// Gives a program what a worker finds in its environment.
pub(super) fn apply(
    command: &mut Command,
    variables: impl IntoIterator<Item = (&'static str, String)>,
    numbering: &Numbering,
    index: u32,
) {
    let own = |name: &str| std::env::var(name).ok();
    if numbering.index.is_some() {
        command.env_remove("NODE_APP_INSTANCE");
    }
    command.envs(numbered(variables, numbering, index, own));
    if let Ok(directory) = std::env::current_dir() {
        command.env("pm_cwd", directory);
    }
}

/// The encoding that the program's runtime speaks best.
pub fn preferred(runtime: Runtime, executable: &OsStr) -> Encoding {
    match runtime {
        Runtime::Bun => Encoding::Bun,
        Runtime::Deno | Runtime::Socket | Runtime::Port | Runtime::None => Encoding::Json,
        Runtime::Node => {
            // Anything but node itself is a launcher that will find node by PATH.
            let node = if is_named(executable, &["node", "nodejs"]) { executable } else { OsStr::new("node") };
            let version = Command::new(node).arg("--version").output();
            let version = version.ok().and_then(|output| node_encoding(&String::from_utf8_lossy(&output.stdout)));
            version.unwrap_or_else(|| {
                eprintln!("<4>cannot tell the version of {}: using JSON, which loses binary packets", node.display());
                Encoding::Json
            })
        }
    }
}

/// A launcher that is a Node process itself takes the channel for its own, and the app is no worker.
fn unfit(executable: &OsStr) -> Option<String> {
    is_named(executable, &["npm", "npx", "yarn", "pnpm", "pnpx", "corepack"]).then(|| {
        format!(
            "{} is a Node process itself and would keep the app's channel to itself: \
             write the program that it starts, such as exec = [\"node\", \"server.js\"]",
            executable.display()
        )
    })
}

fn is_named(executable: &OsStr, names: &[&str]) -> bool {
    Path::new(executable).file_name().is_some_and(|file| names.iter().any(|name| file == *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_that_eat_the_channel_are_named() {
        assert!(unfit(OsStr::new("/usr/bin/npm")).is_some_and(|text| text.contains("exec = ")));
        assert_eq!(unfit(OsStr::new("/opt/npm/bin/node")), None);
    }
}
