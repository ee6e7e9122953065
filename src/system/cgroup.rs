//! What a control group has used, read from its own files: Documentation/admin-guide/cgroup-v2.rst of Linux.
//!
//! Hundreds of these cost less than one question to systemd, and ask nothing of PID 1.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";

/// A group of the unified hierarchy.
#[derive(Debug, Clone)]
pub struct Group(PathBuf);

impl Group {
    /// The one that a process is in; `None` when it is gone, or this machine has no unified hierarchy.
    pub fn of_process(pid: u32) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        below(Path::new(ROOT), path).map(Self)
    }

    /// CPU time of all its processes, those that have ended too.
    pub fn cpu(&self) -> Option<Duration> {
        usage(&fs::read_to_string(self.0.join("cpu.stat")).ok()?)
    }

    /// Bytes; `None` without the memory controller.
    pub fn memory(&self) -> Option<u64> {
        fs::read_to_string(self.0.join("memory.current")).ok()?.trim().parse().ok()
    }
}

/// Who entered a container without its cgroup namespace (nsenter does, by default) reads paths of the host, of which only
/// the last part is to be seen.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let mut rest = path;
    loop {
        let directory = root.join(rest);
        if !rest.is_empty() && directory.join("cpu.stat").exists() {
            return Some(directory);
        }
        rest = rest.split_once('/')?.1;
    }
}

/// `usage_usec` of `cpu.stat`.
fn usage(stat: &str) -> Option<Duration> {
    let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    micros.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_group() {
        assert_eq!(usage("usage_usec 1234567\nuser_usec 1\n"), Some(Duration::from_micros(1_234_567)));
        assert_eq!(usage("user_usec 1\n"), None);
        assert!(Group::of_process(u32::MAX).is_none());
    }

    #[test]
    fn a_path_of_the_host_s() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("app.slice/app@1.service");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cpu.stat"), "").unwrap();
        for path in ["app.slice/app@1.service", "machine.slice/payload/app.slice/app@1.service"] {
            assert_eq!(below(root.path(), path), Some(group.clone()), "{path}");
        }
        assert_eq!(below(root.path(), "app.slice/other.service"), None);
        assert_eq!(below(root.path(), ""), None);
    }
}
