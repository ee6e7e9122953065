//! Which build of appctl a program is. It stands in the program's file as one line of text, so that it can be read of a
//! program that is not run, and of a process whose file is no longer there.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::LazyLock;

/// Begins the line. (Not as one piece: this must not be taken for the line itself.)
const MARK: (&str, &str) = ("appctl-stamp:", " version=");

/// The line. Tests write another release into a copy of the program.
///
/// `wire`: what a worker's unit and the router say to each other (`wire::hello`); `record`: what a router leaves to the next
/// one (`router::record`). A number is raised when one side can no longer understand the other; what is only added, and may be
/// left out, changes none.
static LINE: &str = concat!(
    "appctl-stamp:",
    " version=",
    env!("CARGO_PKG_VERSION"),
    " build=",
    env!("APPCTL_BUILD"),
    " wire=1 record=1 ."
);

/// One build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub version: String,
    /// The same for the same sources, whoever built them.
    pub build: String,
    pub wire: u32,
    pub record: u32,
}

/// Bytes read at a time.
const PIECE: usize = 1 << 20;
/// No line is longer, bytes.
const LONGEST: usize = 512;

impl Stamp {
    /// Of this program.
    pub fn own() -> &'static Self {
        static OWN: LazyLock<Stamp> = LazyLock::new(|| {
            // Read when it runs, not when it is compiled.
            let line = black_box(LINE);
            Stamp::read(line.as_bytes()).unwrap_or_else(|| Stamp {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                build: String::new(),
                wire: 0,
                record: 0,
            })
        });
        &OWN
    }

    /// Of a program's file. `None`: it has none, so it is no appctl, or one from before there were stamps.
    pub fn of_file(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let mut piece = Vec::with_capacity(PIECE + LONGEST);
        loop {
            let kept = piece.len();
            (&mut file).take(PIECE as u64).read_to_end(&mut piece)?;
            if piece.len() == kept {
                return Ok(None);
            }
            if let Some(stamp) = Self::find(&piece) {
                return Ok(Some(stamp));
            }
            let over = piece.len().saturating_sub(LONGEST);
            piece.drain(..over);
        }
    }

    fn find(bytes: &[u8]) -> Option<Self> {
        memchr::memmem::find_iter(bytes, MARK.0).find_map(|at| Self::read(&bytes[at..]))
    }

    /// Reads the line at the beginning of these bytes.
    fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MARK.0.as_bytes())?;
        rest.starts_with(MARK.1.as_bytes()).then_some(())?;
        let line = &rest[..rest.len().min(LONGEST)];
        let line = std::str::from_utf8(&line[..memchr::memmem::find(line, b" .")?]).ok()?;
        let word = |name: &str| {
            line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).filter(|word| !word.is_empty())
        };
        Some(Self {
            version: word("version")?.to_owned(),
            build: word("build")?.to_owned(),
            wire: word("wire")?.parse().ok()?,
            record: word("record")?.parse().ok()?,
        })
    }

    /// What tells one build from another for those who read: the version, and the build where that is the same.
    pub fn told_from(&self, other: &Self) -> String {
        if self.version == other.version {
            format!("{} (build {})", self.version, self.build)
        } else {
            self.version.clone()
        }
    }
}

/// A program's file: two processes with the same run the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::metadata(path)?;
        Ok(Self { device: found.dev(), number: found.ino() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_has_one_and_its_file_says_the_same() {
        let own = Stamp::own();
        assert_eq!((own.version.as_str(), own.wire, own.record), (env!("CARGO_PKG_VERSION"), 1, 1));
        assert_eq!(own.build, env!("APPCTL_BUILD"));
        assert_eq!(Stamp::of_file(Path::new("/proc/self/exe")).unwrap().as_ref(), Some(own));
        assert_eq!(Stamp::of_file(Path::new("/bin/sh")).unwrap(), None);
    }

    #[test]
    fn it_is_found_wherever_it_stands() {
        // Not in one piece: this program's file has another.
        let line = format!("{}{}0.2.0 build=abc wire=1 record=7 more=1 .", MARK.0, MARK.1);
        for before in [0, PIECE - 20, PIECE - 1, PIECE, 2 * PIECE + 3] {
            let mut bytes = vec![b'.'; before];
            // A word that is no line.
            bytes.splice(0..0, *b"appctl-stamp:");
            bytes.extend_from_slice(line.as_bytes());
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            let stamp = Stamp::of_file(file.path()).unwrap().unwrap();
            assert_eq!((stamp.version.as_str(), stamp.build.as_str(), stamp.record), ("0.2.0", "abc", 7), "{before}");
        }
    }
}
