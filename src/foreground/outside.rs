//! Children without a channel: their port or their socket, and their word to a service manager, whose place this is.

use crate::config::Runtime;
use crate::router::table::Place;
use crate::system::place::unnamed;
use crate::worker::outside::free_port;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Command;
use tokio::net::UnixDatagram;

/// Longest message of sd_notify(3) that is read, bytes.
const MESSAGE_LIMIT: usize = 4096;

/// Where a child listens.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) place: Place,
    /// The child's own: what is in it when the child ends is reset.
    pub(super) listener: Option<UnixListener>,
    /// Keeps [`Self::place`] there.
    _path: Option<OwnedFd>,
}

impl Seat {
    pub(super) fn make(runtime: Runtime) -> io::Result<Self> {
        if runtime == Runtime::Socket {
            let (listener, handle) = unnamed(|path| UnixListener::bind(path))?;
            let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
            return Ok(Self { place: Place::Path(path.into()), listener: Some(listener), _path: Some(handle) });
        }
        let place = if runtime == Runtime::None { Place::Nowhere } else { Place::Port(free_port()?) };
        Ok(Self { place, listener: None, _path: None })
    }

    /// The command that becomes this program with its socket or port.
    pub(super) fn command(&self, program: &std::ffi::OsString, arguments: &[std::ffi::OsString]) -> Command {
        match &self.place {
            Place::Port(port) => {
                let mut command = Command::new(program);
                command.args(arguments).env("PORT", port.to_string());
                command
            }
            Place::Nowhere => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            // Only the child itself can say LISTEN_PID.
            Place::Path(_) => {
                let mut command = Command::new("/proc/self/exe");
                command.args(["worker", "activated", "--"]).arg(program).args(arguments);
                command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "worker");
                command
            }
        }
    }
}

/// Where a child says READY=1.
#[derive(Debug)]
pub(super) struct Ear {
    socket: UnixDatagram,
    /// For `NOTIFY_SOCKET`. Not every library knows abstract sockets, which would be simpler.
    pub(super) name: String,
    _path: OwnedFd,
}

impl Ear {
    pub(super) fn open() -> io::Result<Self> {
        let (socket, path) = unnamed(|path| UnixDatagram::bind(path))?;
        let name = format!("/proc/{}/fd/{}", std::process::id(), path.as_raw_fd());
        Ok(Self { socket, name, _path: path })
    }

    /// Resolves when the child has said it; reads on for as long as it lives, so that nothing it says blocks it.
    pub(super) async fn until_ready(&self) -> io::Result<()> {
        let mut message = vec![0; MESSAGE_LIMIT];
        loop {
            let length = self.socket.recv(&mut message).await?;
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok(());
            }
        }
    }
}
