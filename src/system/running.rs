//! Which builds of appctl run.

use super::memory::ROOTS;
use super::process::command_line;
use super::stamp::{Inode, Stamp};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// The builds of processes, each file read once.
#[derive(Debug, Default)]
pub struct Builds {
    known: HashMap<Inode, Option<Stamp>>,
}

impl Builds {
    /// Of the program at a path. `None`: it is there, and is none of those that can be told.
    pub fn of_file(&mut self, path: &Path) -> io::Result<Option<Stamp>> {
        let inode = Inode::of(path)?;
        if let Some(known) = self.known.get(&inode) {
            return Ok(known.clone());
        }
        let stamp = Stamp::of_file(path)?;
        self.known.insert(inode, stamp.clone());
        Ok(stamp)
    }

    /// Of the program that is installed at a path; of this one, where there is none.
    pub fn installed(&mut self, program: &Path) -> Stamp {
        let own = Inode::of(Path::new("/proc/self/exe"));
        if own.is_ok_and(|own| Inode::of(program).is_ok_and(|it| it == own)) {
            return Stamp::own().clone();
        }
        self.of_file(program).ok().flatten().unwrap_or_else(|| Stamp::own().clone())
    }

    /// Of the program that a process runs, even when its file has been replaced. An error: it has ended, or is somebody else's.
    pub fn of_process(&mut self, pid: u32) -> io::Result<Option<Stamp>> {
        self.of_file(&PathBuf::from(format!("/proc/{pid}/exe")))
    }
}

/// The process of ours that stays beside a worker, in its unit's control group (`ControlGroup=`). `None`: there is none, or
/// it is hidden.
pub fn guard_in(group: &str) -> Option<u32> {
    let lists = ROOTS.iter().map(|root| format!("{root}{group}/cgroup.procs"));
    let list = lists.into_iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    let is_guard = |pid: &u32| {
        let words = command_line(*pid).unwrap_or_default();
        words.windows(2).any(|pair| pair == ["worker", "guard"])
    };
    list.lines().filter_map(|line| line.parse().ok()).find(is_guard)
}
