//! ExecStart= of a worker without a channel: tells the router where it will be reached, and becomes the program.

use super::environment::{Identity, without_channel};
use super::exec::{apply, cannot_run};
use super::{Worker, WorkerError, guard};
use crate::config::{Numbering, Runtime};
use crate::system::activation;
use crate::wire::Encoding;
use crate::wire::hello::{Answer, Hello, Reach, WireEncoding};
use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Ports that other workers may have taken between our choice and theirs.
const TRIES: usize = 20;

/// Becomes the program. Comes back only when it cannot.
pub(super) fn exec(
    worker: &Worker,
    runtime: Runtime,
    numbering: &Numbering,
    (executable, arguments): (&OsString, &[OsString]),
) -> Result<Infallible, WorkerError> {
    let sockets = if runtime == Runtime::Socket { passed(worker)? } else { 0 };
    // Not for the guard.
    activation::pass_on(sockets, false).map_err(|error| descriptors(&error))?;
    let (answer, reach) = attach(worker, runtime)?;
    let Answer::Attached { id, index, workers, .. } = answer else {
        return Err(worker.silent(io::Error::other("its answer is to another question")));
    };
    let identity = Identity { app: &worker.app, slot: &worker.slot, id, index, workers, encoding: Encoding::Json };
    if let Err(error) = guard::start(worker) {
        // It is served all the same; it only cannot be aborted.
        eprintln!("<4>cannot start the guard of this worker: {error}");
    }
    let mut command = Command::new(executable);
    command.args(arguments);
    apply(&mut command, without_channel(&identity), numbering, index);
    if let Reach::Port(port) = reach {
        command.env("PORT", port.to_string());
    }
    activation::pass_on(sockets, true).map_err(|error| descriptors(&error))?;
    let error = command.exec();
    Err(cannot_run(executable, &error))
}

/// How many sockets systemd passed.
fn passed(worker: &Worker) -> Result<i32, WorkerError> {
    match activation::passed() {
        0 => Err(WorkerError::Program(format!(
            "there is no socket for the program: {0}@{1}.service gets it from {0}@{1}.socket",
            worker.app, worker.slot
        ))),
        sockets => Ok(sockets),
    }
}

fn descriptors(error: &io::Error) -> WorkerError {
    WorkerError::Program(format!("cannot pass the sockets on: {error}"))
}

fn attach(worker: &Worker, runtime: Runtime) -> Result<(Answer, Reach), WorkerError> {
    for _ in 0..TRIES {
        let reach = match runtime {
            Runtime::Port => Reach::Port(
                free_port().map_err(|error| WorkerError::Program(format!("there is no free port: {error}")))?,
            ),
            Runtime::None => Reach::Nowhere,
            _ => Reach::Socket,
        };
        let hello = Hello::Attach { slot: worker.slot.clone(), encoding: WireEncoding::Json, reach: Some(reach) };
        let answer = loop {
            let mut stream = worker.call(&hello)?;
            match worker.answer(&mut stream) {
                Ok(answer) => break answer,
                // This router has ended; systemd starts the next one on the same socket.
                Err(error) if error.is_end() => {}
                Err(error) => return Err(error),
            }
        };
        if answer != Answer::Again {
            return Ok((answer, reach));
        }
    }
    Err(WorkerError::Program("no port is free for long enough".into()))
}

/// Becomes the program, with its own number as LISTEN_PID (sd_listen_fds(3)). For children of the foreground; systemd does
/// it by itself.
pub fn activated(program: &[OsString]) -> Result<Infallible, WorkerError> {
    let Some((executable, arguments)) = program.split_first() else {
        return Err(WorkerError::Program("no program is given".into()));
    };
    let error = Command::new(executable).args(arguments).env("LISTEN_PID", std::process::id().to_string()).exec();
    Err(cannot_run(executable, &error))
}

/// A port that nobody has, on any address; the program is the next to take it.
pub fn free_port() -> io::Result<u16> {
    let any = |address: SocketAddr| TcpListener::bind(address)?.local_addr();
    let chosen = any((Ipv6Addr::UNSPECIFIED, 0).into()).or_else(|_| any((Ipv4Addr::UNSPECIFIED, 0).into()))?;
    Ok(chosen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_can_be_taken() {
        let port = free_port().unwrap();
        assert_eq!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap().local_addr().unwrap().port(), port);
    }
}
