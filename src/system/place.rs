//! Where an app's sockets are.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
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

// What is kept of an app until the next boot is called `NAME.KIND`: the generator drops what is of no app.

/// What is known of an app's latest reload.
pub fn reload(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl/.reload").join(format!("{app}.json")))
}

/// The number of an app's last start.
pub fn generation(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl/.generation").join(format!("{app}.json")))
}

/// Whoever moves an app's workers has this file locked.
pub fn lock(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl/.lock").join(format!("{app}.lock")))
}

/// What is known of the latest replacement of a single worker.
pub fn replacement(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl/.replacement").join(format!("{app}.json")))
}

/// How often an app was restarted or reloaded on purpose.
pub fn counted(user: bool, app: &str) -> Option<PathBuf> {
    Some(runtime_directory(user)?.join("appctl/.counted").join(format!("{app}.json")))
}

/// What `bind` makes at a path, and a handle on that: `/proc/self/fd/HANDLE` leads there for as long as it is open, from
/// other processes of the same user as `/proc/PID/fd/HANDLE`. Nothing of it stays in the file system.
pub fn unnamed<T>(bind: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<(T, OwnedFd)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("appctl-{}-{number}", std::process::id()));
    // Fails where somebody has put something there.
    DirBuilder::new().mode(0o700).create(&directory)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn what_is_kept_is_known_by_its_app() {
        for path in [reload, generation, lock, replacement] {
            let path = path(false, "a.b").unwrap();
            assert_eq!(path.file_stem().unwrap(), "a.b", "{}", path.display());
        }
    }

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
