//! What is watched: directories with all below them, or single files, and the way that leads there.
//!
//! inotify(7) watches directories, not paths. So each directory of a tree is watched, but those that are ignored (a
//! `node_modules` has thousands), and each directory on the way to it for the next step alone: a tree that vanishes and
//! comes back, or a link on the way that leads elsewhere now, is found again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::filter::Filter;
use crate::system::sock;

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error(
        "the kernel lets this user watch {limit} directories, which are not enough for {}: ignore those that hold no code \
         (ignore = [\"uploads/\"]), or allow more: sysctl fs.inotify.max_user_watches=524288", list(.paths)
    )]
    TooMany { limit: String, paths: Vec<PathBuf> },
    #[error("this user has too many watchers already: sysctl fs.inotify.max_user_instances=1024 allows more")]
    Instances,
    #[error("a pattern of ignore cannot be read: {0}")]
    Pattern(#[from] ignore::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The most links on the way to one path, as the kernel has it (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Files and directories that are watched.
#[derive(Debug)]
pub struct Tree {
    roots: Vec<PathBuf>,
    filter: Filter,
    inotify: Inotify,
    readable: AsyncFd<OwnedFd>,
    directories: HashMap<WatchDescriptor, Directory>,
    /// Those of the roots that are not there.
    missing: BTreeSet<PathBuf>,
    /// The file that was changed last of those that were there at the beginning, and when.
    newest: Option<(SystemTime, PathBuf)>,
}

/// A directory that is watched.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Where it is below its root, if all that is in it matters.
    below: Option<PathBuf>,
    /// What in it leads to a root, or is one.
    steps: BTreeSet<OsString>,
}

fn mask() -> AddWatchFlags {
    use AddWatchFlags as Flags;
    let changes = Flags::IN_CREATE | Flags::IN_CLOSE_WRITE | Flags::IN_DELETE | Flags::IN_MOVE;
    changes | Flags::IN_DELETE_SELF | Flags::IN_MOVE_SELF | Flags::IN_ONLYDIR
}

fn open() -> Result<(Inotify, AsyncFd<OwnedFd>), WatchError> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|errno| match errno {
        Errno::EMFILE => WatchError::Instances,
        other => WatchError::Io(other.into()),
    })?;
    let readable = sock::watch(inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
    Ok((inotify, readable))
}

impl Tree {
    /// Begins to watch absolute paths, be they there or not. Needs a tokio runtime.
    pub fn new(roots: Vec<PathBuf>, ignore: &[String]) -> Result<Self, WatchError> {
        let (inotify, readable) = open()?;
        let filter = Filter::new(ignore)?;
        let (directories, missing) = (HashMap::new(), BTreeSet::new());
        let mut tree = Self { roots, filter, inotify, readable, directories, missing, newest: None };
        tree.find()?;
        Ok(tree)
    }

    /// The file that was changed last when this was made, and when.
    pub fn newest(&self) -> Option<(SystemTime, &Path)> {
        self.newest.as_ref().map(|(time, path)| (*time, path.as_path()))
    }

    /// How many directories are watched.
    pub fn size(&self) -> usize {
        self.directories.len()
    }

    /// Waits for changes: paths as they are told to people.
    pub async fn changes(&mut self) -> Result<Vec<PathBuf>, WatchError> {
        loop {
            let mut guard = self.readable.readable().await?;
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    guard.clear_ready();
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(io::Error::from(errno).into()),
            };
            drop(guard);
            let mut changes = Vec::new();
            let mut lost = false;
            for event in events {
                lost |= self.judge(&event, &mut changes)?;
            }
            if lost {
                self.again()?;
            }
            // Where nothing is, nothing can be reloaded; that it comes back is the change.
            if self.missing.len() < self.roots.len() && !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// What an event means. Gives whether the way to a root has changed.
    fn judge(&mut self, event: &InotifyEvent, changes: &mut Vec<PathBuf>) -> Result<bool, WatchError> {
        use AddWatchFlags as Flags;
        let is = |flags: AddWatchFlags| event.mask.intersects(flags);
        if is(Flags::IN_Q_OVERFLOW) {
            changes.push("(very many files)".into());
            return Ok(true);
        }
        if is(Flags::IN_IGNORED) {
            self.directories.remove(&event.wd);
            return Ok(false);
        }
        let Some(directory) = self.directories.get(&event.wd) else { return Ok(false) };
        let Some(name) = &event.name else {
            let is_root = directory.below.as_ref().is_some_and(|below| below.as_os_str().is_empty());
            return Ok(is(Flags::IN_UNMOUNT) || is_root || !directory.steps.is_empty());
        };
        if directory.steps.contains(name) {
            changes.push(directory.path.join(name));
            return Ok(!is(Flags::IN_CLOSE_WRITE));
        }
        let Some(below) = &directory.below else { return Ok(false) };
        let (path, below) = (directory.path.join(name), below.join(name));
        let is_directory = is(Flags::IN_ISDIR);
        if self.filter.ignores(&below, is_directory) {
            return Ok(false);
        }
        match is_directory {
            true if is(Flags::IN_CREATE | Flags::IN_MOVED_TO) => changes.extend(self.descend(path, below)?),
            true if is(Flags::IN_MOVED_FROM) => {
                self.leave(&path);
                changes.push(below);
            }
            // What was in it has been told of.
            true => {}
            // A new file is told of when it is written; links are whole at once.
            false if is(Flags::IN_CREATE) => {
                let whole = fs::symlink_metadata(&path).is_ok_and(|it| it.is_symlink() || it.nlink() > 1);
                changes.extend(whole.then_some(below));
            }
            false => changes.push(below),
        }
        Ok(false)
    }

    /// Finds all roots anew.
    fn again(&mut self) -> Result<(), WatchError> {
        // The old one's queue is of no interest any more.
        (self.inotify, self.readable) = open()?;
        self.directories.clear();
        self.find()
    }

    fn find(&mut self) -> Result<(), WatchError> {
        for root in self.roots.clone() {
            let found = self.walk(&root)?;
            match &found {
                Some(_) if self.missing.remove(&root) => tracing::info!("{} is there again", root.display()),
                None if self.missing.insert(root.clone()) => {
                    tracing::warn!("{} is not there: waiting for it", root.display());
                }
                _ => {}
            }
            match found {
                Some(directory) if directory.is_dir() => drop(self.descend(directory, PathBuf::new())?),
                Some(file) => self.remember(&file, &root),
                None => {}
            }
        }
        Ok(())
    }

    /// Goes to a path step by step, links included, and watches each step. `None`: it leads nowhere.
    fn walk(&mut self, root: &Path) -> Result<Option<PathBuf>, WatchError> {
        let mut at = PathBuf::from("/");
        let mut steps: VecDeque<OsString> = VecDeque::new();
        let mut links = 0;
        lead(&mut steps, root);
        while let Some(step) = steps.pop_front() {
            if step == ".." {
                at.pop();
                continue;
            }
            // First watched, then looked at: what changes meanwhile is not missed.
            self.watch(&at, |directory| directory.steps.extend([step.clone()]))?;
            let path = at.join(&step);
            let Ok(metadata) = fs::symlink_metadata(&path) else { return Ok(None) };
            if !metadata.is_symlink() {
                at = path;
                continue;
            }
            links += 1;
            let Some(target) = fs::read_link(&path).ok().filter(|_| links <= LINKS_MAX) else { return Ok(None) };
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            lead(&mut steps, &target);
        }
        Ok(Some(at))
    }

    /// Watches a directory and all below it that is not ignored. Gives a file that is there. Links are not followed.
    fn descend(&mut self, path: PathBuf, below: PathBuf) -> Result<Option<PathBuf>, WatchError> {
        let mut file = None;
        let mut waiting = vec![(path, below)];
        while let Some((path, below)) = waiting.pop() {
            if !self.watch(&path, |directory| directory.below = Some(below.clone()))? {
                continue;
            }
            let Ok(entries) = fs::read_dir(&path) else { continue };
            for entry in entries.filter_map(Result::ok) {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let (path, below) = (entry.path(), below.join(entry.file_name()));
                if self.filter.ignores(&below, is_directory) {
                    continue;
                }
                if is_directory {
                    waiting.push((path, below));
                } else {
                    self.remember(&path, &below);
                    file.get_or_insert(below);
                }
            }
        }
        Ok(file)
    }

    /// By the time of the last change of any kind, which no program can set back.
    fn remember(&mut self, path: &Path, shown: &Path) {
        let Ok(metadata) = fs::symlink_metadata(path) else { return };
        let since = u64::try_from(metadata.ctime()).ok().zip(u32::try_from(metadata.ctime_nsec()).ok());
        let Some(time) = since.map(|(seconds, rest)| SystemTime::UNIX_EPOCH + Duration::new(seconds, rest)) else {
            return;
        };
        if self.newest.as_ref().is_none_or(|(newest, _)| *newest < time) {
            self.newest = Some((time, shown.to_owned()));
        }
    }

    /// Watches one directory. Gives whether it can be watched.
    fn watch(&mut self, path: &Path, note: impl FnOnce(&mut Directory)) -> Result<bool, WatchError> {
        match self.inotify.add_watch(path, mask()) {
            Ok(descriptor) => {
                let new = || Directory { path: path.to_owned(), below: None, steps: BTreeSet::new() };
                note(self.directories.entry(descriptor).or_insert_with(new));
                Ok(true)
            }
            Err(Errno::ENOSPC) => {
                let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap_or_default();
                Err(WatchError::TooMany { limit: limit.trim().to_owned(), paths: self.roots.clone() })
            }
            // It is gone again, or closed to this user.
            Err(errno) => {
                tracing::debug!("{} cannot be watched: {errno}", path.display());
                Ok(false)
            }
        }
    }

    /// A directory was moved away: what is watched would follow it.
    fn leave(&mut self, path: &Path) {
        let gone: Vec<_> =
            self.directories.iter().filter(|(_, it)| it.path.starts_with(path)).map(|(wd, _)| *wd).collect();
        for descriptor in gone {
            self.directories.remove(&descriptor);
            let _ = self.inotify.rm_watch(descriptor);
        }
    }
}

/// Puts the steps of a path before others.
fn lead(steps: &mut VecDeque<OsString>, path: &Path) {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    });
    for name in names.collect::<Vec<_>>().into_iter().rev() {
        steps.push_front(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A directory, watched, and what to call on it.
    fn watching(ignore: &[&str], prepare: impl FnOnce(&Path), test: impl AsyncFnOnce(&Path, &mut Tree)) {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().canonicalize().unwrap();
        prepare(&here);
        let ignore: Vec<String> = ignore.iter().map(|it| (*it).to_owned()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut tree = Tree::new(vec![here.join("app")], &ignore).unwrap();
            test(&here, &mut tree).await;
        });
    }

    /// All that changed until the file `last` did.
    async fn until(tree: &mut Tree, last: &str) -> Vec<String> {
        let mut all = Vec::new();
        let waiting = async {
            while all.last().is_none_or(|it| it != last) {
                let changes = tree.changes().await.unwrap();
                all.extend(changes.into_iter().map(|path| path.display().to_string()));
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(ended.is_ok(), "{last} has not changed, but {all:?}");
        all.dedup();
        all
    }

    fn app(here: &Path) {
        fs::create_dir_all(here.join("app/lib")).unwrap();
        fs::create_dir_all(here.join("app/node_modules/x")).unwrap();
        fs::write(here.join("app/server.js"), "1").unwrap();
    }

    #[test]
    fn what_matters_is_told_and_nothing_else() {
        watching(&["uploads/", "/*.json"], app, async |here, tree| {
            // The way of seven steps and less, app and lib.
            let before = tree.size();
            fs::write(here.join("app/node_modules/x/a.js"), "").unwrap();
            fs::write(here.join("app/.env"), "").unwrap();
            fs::write(here.join("app/data.json"), "").unwrap();
            fs::write(here.join("beside.js"), "").unwrap();
            fs::create_dir(here.join("app/uploads")).unwrap();
            fs::write(here.join("app/uploads/a.js"), "").unwrap();
            fs::write(here.join("app/lib/data.json"), "").unwrap();
            fs::remove_file(here.join("app/lib/data.json")).unwrap();
            fs::write(here.join("app/server.js"), "2").unwrap();
            assert_eq!(until(tree, "server.js").await, ["lib/data.json", "server.js"]);
            assert_eq!(tree.newest().map(|(_, path)| path), Some(Path::new("server.js")));
            assert_eq!(tree.size(), before, "what is ignored is not watched");
        });
    }

    #[test]
    fn new_directories_are_watched_with_what_is_in_them() {
        watching(&[], app, async |here, tree| {
            fs::create_dir_all(here.join("app/a/b")).unwrap();
            fs::write(here.join("app/a/b/c.js"), "").unwrap();
            assert!(until(tree, "a/b/c.js").await.iter().all(|it| it == "a/b/c.js"));
            // Whole ones that are moved in, and out again.
            fs::create_dir(here.join("new")).unwrap();
            fs::write(here.join("new/d.js"), "").unwrap();
            fs::rename(here.join("new"), here.join("app/new")).unwrap();
            assert_eq!(until(tree, "new/d.js").await, ["new/d.js"]);
            fs::rename(here.join("app/new"), here.join("old")).unwrap();
            assert_eq!(until(tree, "new").await, ["new"]);
            fs::write(here.join("old/d.js"), "").unwrap();
            symlink("server.js", here.join("app/link.js")).unwrap();
            assert_eq!(until(tree, "link.js").await, ["link.js"]);
        });
    }

    #[test]
    fn a_directory_that_comes_back_is_watched_again() {
        watching(&[], app, async |here, tree| {
            let shown = here.join("app").display().to_string();
            fs::remove_dir_all(here.join("app")).unwrap();
            app(here);
            assert!(until(tree, &shown).await.contains(&shown));
            // All events of its making may not be in yet.
            fs::write(here.join("app/lib/last.js"), "").unwrap();
            until(tree, "lib/last.js").await;
            fs::rename(here.join("app"), here.join("old")).unwrap();
            fs::create_dir(here.join("other")).unwrap();
            fs::rename(here.join("other"), here.join("app")).unwrap();
            until(tree, &shown).await;
            fs::write(here.join("old/server.js"), "").unwrap();
            fs::write(here.join("app/server.js"), "").unwrap();
            assert_eq!(until(tree, "server.js").await.iter().filter(|it| *it == "server.js").count(), 1);
        });
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_followed() {
        let prepare = |here: &Path| {
            for release in ["1", "2"] {
                fs::create_dir_all(here.join("releases").join(release)).unwrap();
            }
            symlink("releases/1", here.join("stable")).unwrap();
            symlink(here.join("stable"), here.join("app")).unwrap();
        };
        watching(&[], prepare, async |here, tree| {
            fs::write(here.join("releases/2/a.js"), "").unwrap();
            fs::write(here.join("releases/1/a.js"), "").unwrap();
            assert_eq!(until(tree, "a.js").await, ["a.js"]);
            symlink("releases/2", here.join("next")).unwrap();
            fs::rename(here.join("next"), here.join("stable")).unwrap();
            until(tree, &here.join("stable").display().to_string()).await;
            fs::write(here.join("releases/1/b.js"), "").unwrap();
            fs::write(here.join("releases/2/c.js"), "").unwrap();
            assert_eq!(until(tree, "c.js").await, ["c.js"]);
        });
    }

    #[test]
    fn one_file_can_be_watched_before_it_is_there() {
        watching(
            &[],
            |_| {},
            async |here, tree| {
                let shown = here.join("app").display().to_string();
                fs::write(here.join("appendix"), "").unwrap();
                fs::write(here.join("app"), "1").unwrap();
                assert!(until(tree, &shown).await.iter().all(|it| *it == shown));
                fs::write(here.join("new"), "2").unwrap();
                fs::rename(here.join("new"), here.join("app")).unwrap();
                until(tree, &shown).await;
            },
        );
    }
}
