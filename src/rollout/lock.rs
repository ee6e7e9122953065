//! One move of an app's workers at a time: a reload, the replacement of one worker and a change of their number exclude
//! each other. The lock of a process that ends, however it does, is free.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Between two tries. (Waiting in the kernel could not be given up.)
const PAUSE: Duration = Duration::from_millis(100);

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is open, and that is all")] Flock<File>);

impl Lock {
    /// Waits until nobody else has it. `waits` is called once, when there is somebody. May be dropped at any time.
    pub async fn take(path: &Path, waits: impl FnOnce()) -> io::Result<Self> {
        let mut file = open(path)?;
        let mut waits = Some(waits);
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self(lock)),
                Err((same, Errno::EAGAIN | Errno::EINTR)) => file = same,
                Err((_, error)) => return Err(error.into()),
            }
            if let Some(waits) = waits.take() {
                waits();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// For its owner alone: whoever may open it could keep it.
fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn one_after_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/app");
        let first = Lock::take(&path, || panic!("nobody has it")).await.unwrap();
        let waited = Cell::new(0);
        let second = Lock::take(&path, || waited.set(waited.get() + 1));
        tokio::pin!(second);
        assert!(tokio::time::timeout(PAUSE * 3, &mut second).await.is_err());
        assert_eq!(waited.get(), 1);
        drop(first);
        second.await.unwrap();
    }
}
