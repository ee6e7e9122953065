//! Talking back to systemd (sd_notify(3)).

use sd_notify::NotifyState;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Tells systemd that the service is up. Does nothing when it was not started by systemd.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The service begins to shut down.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The service lives.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// Half of `WatchdogSec=`: how often [`watchdog`] is due. `None`: systemd does not watch.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// Gives a descriptor to systemd to keep while the service is down (`FileDescriptorStoreMax=`). It comes back, under this
/// name, with the sockets.
pub fn store(name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[descriptor])
}

/// Lets systemd close what it keeps under this name.
pub fn forget(name: &str) {
    send(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}
