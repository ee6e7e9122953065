//! Where an app's sockets are.

use std::path::PathBuf;

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
