//! Sockets from systemd, by name (sd_listen_fds_with_names(3)).
//!
//! `sd-notify` knows the names, `listenfd` checks what each descriptor is and turns it into a listener.

#![allow(unsafe_code)]

use super::notify;
use listenfd::ListenFd;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

/// SD_LISTEN_FDS_START
const FIRST: i32 = 3;

/// A listening stream socket of either family.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Where it listens, as text: `[::]:8080` or a path.
    pub fn address(&self) -> Address {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(Address::Unnamed, Address::Internet),
            Self::Unix(listener) => listener
                .local_addr()
                .ok()
                .and_then(|address| address.as_pathname().map(PathBuf::from))
                .map_or(Address::Unnamed, Address::Path),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Internet(SocketAddr),
    Path(PathBuf),
    Unnamed,
}

impl Address {
    /// The local address of a connection.
    pub fn of(connection: &OwnedFd) -> Self {
        let Ok(connection) = connection.try_clone() else {
            return Self::Unnamed;
        };
        let tcp = TcpStream::from(connection);
        if let Ok(address) = tcp.local_addr() {
            return Self::Internet(address);
        }
        let unix = UnixStream::from(OwnedFd::from(tcp));
        unix.local_addr().ok().and_then(|it| it.as_pathname().map(PathBuf::from)).map_or(Self::Unnamed, Self::Path)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(f),
            Self::Path(path) => path.display().fmt(f),
            Self::Unnamed => f.write_str("an unnamed socket"),
        }
    }
}

/// What a service's own copies of its listening sockets are called in systemd's store: this, then the socket's name. At
/// `daemon-reload` systemd closes its copy of a socket whose address is no longer in its unit, be it for a moment only; the
/// unit goes on as active, and the service's next process would get nothing.
const KEPT: &str = "kept-";

/// What systemd passed to the router.
#[derive(Debug, Default)]
pub struct Sockets {
    /// `FileDescriptorName=public`
    pub public: Vec<Listener>,
    /// `FileDescriptorName=channel`
    pub channel: Option<UnixListener>,
    /// `FileDescriptorName=control`
    pub control: Option<UnixListener>,
    /// `FileDescriptorName=metrics`
    pub metrics: Option<Listener>,
    /// What the service had given to systemd to keep, by its names; but for listening sockets.
    pub stored: Vec<(String, OwnedFd)>,
    /// Where those listening sockets listen that only the service's own store still had.
    pub kept: Vec<Address>,
}

impl Sockets {
    /// Gives all listening sockets to systemd to keep. Those that it has already it does not keep twice.
    pub fn keep(&self) -> io::Result<()> {
        let all = self.public.iter().map(|it| ("public", it.as_fd()));
        let all = all.chain(self.channel.iter().map(|it| ("channel", it.as_fd())));
        let all = all.chain(self.control.iter().map(|it| ("control", it.as_fd())));
        let mut all = all.chain(self.metrics.iter().map(|it| ("metrics", it.as_fd())));
        all.try_for_each(|(name, socket)| notify::store(&format!("{KEPT}{name}"), socket))
    }

    /// One that the service had kept: it counts where systemd itself has none for that address.
    fn take_back(&mut self, name: &str, listener: Listener) {
        let address = listener.address();
        match (name, listener) {
            ("public", listener) if self.public.iter().all(|it| it.address() != address) => self.public.push(listener),
            ("metrics", listener) if self.metrics.is_none() => self.metrics = Some(listener),
            ("channel", Listener::Unix(unix)) if self.channel.is_none() => self.channel = Some(unix),
            ("control", Listener::Unix(unix)) if self.control.is_none() => self.control = Some(unix),
            _ => return,
        }
        self.kept.push(address);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    #[error("cannot read the descriptors that systemd passed: {0}")]
    Environment(io::Error),
    #[error("descriptor {index} from systemd, named {name:?}: {source}")]
    Descriptor { index: usize, name: String, source: io::Error },
}

/// How many sockets systemd passed to this process (sd_listen_fds(3)), which stay where they are.
pub fn passed() -> i32 {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let ours = number("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
    if ours { number("LISTEN_FDS").unwrap_or(0).clamp(0, 1024) } else { 0 }
}

/// Whether the first so many passed sockets stay open in what this process executes, its children included.
pub fn pass_on(sockets: i32, open: bool) -> io::Result<()> {
    let flags = if open { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    for number in FIRST..FIRST + sockets {
        // SAFETY: systemd has put an open descriptor at each of these, and nothing here closes them.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(socket, FcntlArg::F_SETFD(flags))?;
    }
    Ok(())
}

fn listener(passed: &mut ListenFd, index: usize) -> io::Result<Option<Listener>> {
    match passed.take_unix_listener(index) {
        Ok(unix) => Ok(unix.map(Listener::Unix)),
        Err(_) => Ok(passed.take_tcp_listener(index)?.map(Listener::Tcp)),
    }
}

/// Takes all sockets that systemd passed. Call it once, early: it owns the descriptors from then on.
pub fn take() -> Result<Sockets, ActivationError> {
    let names: Vec<String> =
        sd_notify::listen_fds_with_names().map_err(ActivationError::Environment)?.map(|(_, name)| name).collect();
    let mut passed = if names.is_empty() { ListenFd::empty() } else { ListenFd::from_env() };
    let mut sockets = Sockets::default();
    let mut kept = Vec::new();
    for (index, name) in names.iter().cloned().enumerate() {
        let failed = |source| ActivationError::Descriptor { index, name: names[index].clone(), source };
        match name.as_str() {
            "public" => sockets.public.extend(listener(&mut passed, index).map_err(failed)?),
            "metrics" => sockets.metrics = listener(&mut passed, index).map_err(failed)?,
            "channel" => sockets.channel = passed.take_unix_listener(index).map_err(failed)?,
            "control" => sockets.control = passed.take_unix_listener(index).map_err(failed)?,
            _ if name.starts_with(KEPT) => {
                kept.extend(listener(&mut passed, index).map_err(failed)?.map(|it| (name, it)));
            }
            _ => {
                if let Ok(Some(descriptor)) = passed.take_raw_fd(index) {
                    // SAFETY: systemd passed this descriptor to us alone, and `passed` has just given it up.
                    sockets.stored.push((name, unsafe { OwnedFd::from_raw_fd(descriptor) }));
                }
            }
        }
    }
    for (name, listener) in kept {
        sockets.take_back(&name[KEPT.len()..], listener);
    }
    Ok(sockets)
}
