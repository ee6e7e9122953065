//! Where an app's sockets are.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// `/run` for the system, `$XDG_RUNTIME_DIR` for a user's own manager (`%t` of systemd.unit(5)). `None`: it is not set.
pub fn runtime_directory(user: bool) -> Option<PathBuf> {
    if !user {
        return Some(PathBuf::from("/run"));
    }
    std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()).map(PathBuf::from)
}

/// Where workers meet their router: `APP-channel.socket`.
pub fn channel(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl").join(app).join("channel"))
}

/// The directory of the sockets where the router connects to workers, named by their slots.
pub fn slots(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl").join(app).join("slots"))
}

/// Where the operator asks the router: `APP-control.socket`.
pub fn control(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl").join(app).join("control"))
}

/// What is known of an app's latest reload.
pub fn reload(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl/.reload").join(format!("{app}.json")))
}

/// Whoever moves an app's workers has this file locked.
pub fn lock(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl/.lock").join(app))
}

/// What is known of the latest replacement of a single worker.
pub fn replacement(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl/.replacement").join(format!("{app}.json")))
}

/// What `bind` makes at a path, and a handle on that: `/proc/self/fd/HANDLE` leads there for as long as it is open, from
/// other processes of the same user as `/proc/PID/fd/HANDLE`. Nothing of it stays in the file system.
pub fn unnamed<T>(bind: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<(T, OwnedFd)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("appctl-{}-{number}", std::process::id());
    // Fails where somebody has put something there. A container may have a root that is read-only, and no /tmp.
    let make = |parent: &Path| {
        let directory = parent.join(&name);
        DirBuilder::new().mode(0o700).create(&directory).map(|()| directory)
    };
    let directory = make(&std::env::temp_dir()).or_else(|error| {
        let others = ["/dev/shm", "/run"].into_iter();
        others.filter_map(|parent| make(Path::new(parent)).ok()).next().ok_or(error)
    })?;
    let path = directory.join("socket");
    let made = bind(&path).and_then(|socket| {
        let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path)?;
        Ok((socket, OwnedFd::from(handle)))
    });
    // What cannot be removed is empty and harmless.
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_dir(&directory);
    made
}

/// Before the name of each [`foreground`] socket: the user's number and the app's name follow.
const FOREGROUND: &str = "appctl/run/";

/// Where `appctl run` is asked how it is: an abstract socket, so that it needs no place in any file system. Others of this
/// machine's users can connect there: whoever takes connections has to look at the peer.
pub fn foreground(app: &str) -> io::Result<UnixListener> {
    let name = format!("{FOREGROUND}{}/{app}", nix::unistd::geteuid());
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// The names and addresses of all that `appctl run` serves here, of this user or, for root, of all.
pub fn in_the_foreground() -> io::Result<Vec<(String, PathBuf)>> {
    let own = nix::unistd::geteuid();
    let table = std::fs::read_to_string("/proc/net/unix")?;
    let named = table.lines().filter_map(|line| {
        let name = line.split_once(&format!(" @{FOREGROUND}"))?.1;
        let (user, app) = name.split_once('/')?;
        (own.is_root() || user == own.to_string()).then_some(())?;
        Some((app.to_owned(), PathBuf::from(format!("\0{FOREGROUND}{name}"))))
    });
    // Each connection has a line of its own.
    let named: std::collections::BTreeSet<_> = named.collect();
    Ok(named.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn an_unnamed_socket_is_reached_by_its_handle_alone() {
        let (listener, handle) = unnamed(|path| UnixListener::bind(path)).unwrap();
        let name = listener.local_addr().unwrap().as_pathname().unwrap().to_owned();
        assert!(!name.exists() && !name.parent().unwrap().exists());
        let path = format!("/proc/{}/fd/{}", std::process::id(), handle.as_raw_fd());
        let _client = UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        drop(handle);
        assert!(UnixStream::connect(&path).is_err());
    }
}
