//! Files below one directory, and no others: neither `..` nor a symbolic link nor a rename in the wrong moment leads out.
//! (The kernel could do it, by openat2(2); in many containers it may not.)

use std::ffi::OsString;
use std::fs::Metadata;
use std::io::{self, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File};

/// As many as the kernel follows.
const LINKS: usize = 40;

/// A directory that is open: what is put in its place later is not served before the next start.
#[derive(Debug, Clone)]
pub(super) struct Beneath(Arc<OwnedFd>);

impl Beneath {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let opened = std::fs::File::open(directory)?;
        if !opened.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self(Arc::new(opened.into())))
    }

    /// Follows a path as the kernel would if this directory were all there is: part by part, each opened for itself and
    /// looked at before it is gone through. `..` goes back to where it came from, whatever has been renamed meanwhile.
    fn find(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let nothing = || io::Error::from(io::ErrorKind::NotFound);
        let mut ahead = parts(path).ok_or_else(nothing)?;
        let mut behind: Vec<(OwnedFd, OsString)> = Vec::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                behind.pop().ok_or_else(nothing)?;
                continue;
            }
            let here = behind.last().map_or_else(|| self.0.as_fd(), |(directory, _)| directory.as_fd());
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let found = std::fs::File::from(openat(here, part.as_os_str(), flags, Mode::empty())?);
            if found.metadata()?.is_symlink() {
                links += 1;
                let target = readlinkat(here, part.as_os_str())?;
                let further = parts(Path::new(&target)).filter(|_| links <= LINKS).ok_or_else(nothing)?;
                ahead.extend(further);
                continue;
            }
            behind.push((found.into(), part));
        }
        let last = behind.pop().map_or_else(|| OsString::from("."), |(_, name)| name);
        let here = behind.last().map_or_else(|| self.0.as_fd(), |(directory, _)| directory.as_fd());
        // If it has become a link by now, it is none of the files here.
        let found = openat(here, last.as_os_str(), flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        found.map_err(|error| if error == Errno::ELOOP { nothing() } else { error.into() })
    }

    fn file(&self, path: &Path) -> io::Result<std::fs::File> {
        // Not waiting for the other end of a pipe.
        let file = std::fs::File::from(self.find(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let kind = file.metadata()?.file_type();
        if kind.is_file() || kind.is_dir() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// What a path goes through, the last part first; `None`: it begins somewhere else.
fn parts(path: &Path) -> Option<Vec<OsString>> {
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => Some(Some(name.to_owned())),
        Component::ParentDir => Some(Some(OsString::from(".."))),
        Component::CurDir => Some(None),
        Component::RootDir | Component::Prefix(_) => None,
    };
    let parts: Vec<Option<OsString>> = path.components().map(part).collect::<Option<_>>()?;
    Some(parts.into_iter().flatten().rev().collect())
}

impl Backend for Beneath {
    type File = Open;
    type Metadata = Metadata;
    type OpenFuture = Pin<Box<dyn Future<Output = io::Result<Open>> + Send>>;
    type MetadataFuture = Pin<Box<dyn Future<Output = io::Result<Metadata>> + Send>>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let beneath = self.clone();
        Box::pin(async move {
            let file = blocking(move || beneath.file(&path)).await?;
            Ok(Open(tokio::fs::File::from_std(file)))
        })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let beneath = self.clone();
        Box::pin(blocking(move || std::fs::File::from(beneath.find(&path, OFlag::O_PATH)?).metadata()))
    }
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct Open(tokio::fs::File);

impl File for Open {
    type Metadata = Metadata;
    type MetadataFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Metadata>> + Send + 'a>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(self.0.metadata())
    }
}

impl AsyncRead for Open {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncSeek for Open {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_outside_is_found() {
        let root = tempfile::tempdir().unwrap();
        let site = root.path().join("site");
        std::fs::create_dir_all(site.join("sub")).unwrap();
        std::fs::write(root.path().join("secret"), "no").unwrap();
        std::fs::write(site.join("sub/page"), "yes").unwrap();
        symlink("../secret", site.join("out")).unwrap();
        symlink("/etc/passwd", site.join("absolute")).unwrap();
        symlink("../../secret", site.join("sub/out")).unwrap();
        symlink("..", site.join("up")).unwrap();
        symlink("loop", site.join("loop")).unwrap();
        symlink("sub/page", site.join("within")).unwrap();
        nix::unistd::mkfifo(&site.join("pipe"), Mode::S_IRWXU).unwrap();
        let beneath = Beneath::open(&site).unwrap();
        for path in [
            "../secret",
            "out",
            "absolute",
            "sub/out",
            "up/secret",
            "loop",
            "/etc/passwd",
            "none",
            "pipe",
            "sub/page/x",
        ] {
            assert!(beneath.file(Path::new(path)).is_err(), "{path}");
        }
        for path in ["sub/page", "./sub/page", "within", "sub/../within", "sub/./page"] {
            assert_eq!(io::read_to_string(beneath.file(Path::new(path)).unwrap()).unwrap(), "yes", "{path}");
        }
        assert!(Beneath::open(&site.join("within")).is_err());
    }
}
