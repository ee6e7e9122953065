//! How much memory the processes of a unit use.
//!
//! What counts is what cannot be had back by writing out or dropping files: a program that has read many files is not a
//! program that leaks. So it is neither `memory.current` (which has the page cache of every file that the unit was first to
//! read) nor the resident set of ps(1) (which has the program's own text, shared by all workers).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where a kernel's hierarchies of control groups are: unified, hybrid, legacy.
pub(super) const ROOTS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

/// Bytes used by all processes of `unit`, of which `pid` is one. `NotFound`: it has ended.
pub fn of_unit(pid: i32, unit: &str) -> io::Result<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(gone)?;
    let Some(group) = group_of(&groups, unit) else {
        return of_process(pid);
    };
    if let Ok(stat) = fs::read_to_string(format!("{}{group}/memory.stat", ROOTS[0])) {
        return Ok(charged(&stat));
    }
    // No memory controller here (a container, cgroup v1, or accounting is switched off).
    let mut members = Vec::new();
    for root in ROOTS {
        collect(&PathBuf::from(format!("{root}{group}")), &mut members);
        if !members.is_empty() {
            break;
        }
    }
    if members.is_empty() {
        return of_process(pid);
    }
    // One that ended just now uses nothing.
    Ok(members.iter().filter_map(|pid| of_process(*pid).ok()).sum())
}

/// The unit's control group, by the text of /proc/PID/cgroup: the process itself may be in one below it.
pub(super) fn group_of(groups: &str, unit: &str) -> Option<String> {
    let paths = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        matches!(controllers, "" | "name=systemd").then_some(path)
    });
    paths.into_iter().find_map(|path| {
        let at = path.find(&format!("/{unit}"))?;
        let end = at + 1 + unit.len();
        matches!(path.as_bytes().get(end), None | Some(b'/')).then(|| path[..end].to_owned())
    })
}

/// What the kernel charges to a control group and cannot reclaim, by its memory.stat: anonymous and shared memory, and what
/// the kernel itself holds for it (stacks, page tables, socket buffers). A key that a kernel does not have counts nothing.
fn charged(stat: &str) -> u64 {
    const KEYS: [&str; 7] = ["anon", "shmem", "kernel_stack", "pagetables", "percpu", "slab_unreclaimable", "sock"];
    let fields = stat.lines().filter_map(|line| line.split_once(' '));
    fields.filter(|(key, _)| KEYS.contains(key)).filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum()
}

/// All processes of a control group and of those below it.
fn collect(group: &Path, members: &mut Vec<i32>) {
    if let Ok(text) = fs::read_to_string(group.join("cgroup.procs")) {
        members.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    let below = fs::read_dir(group).into_iter().flatten().filter_map(Result::ok);
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect(&entry.path(), members);
    }
}

/// The same of one process, as near as anybody may know it (smaps(5) would need the right to trace it). What processes
/// share by fork counts for each.
fn of_process(pid: i32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(gone)?;
    Ok(resident(&status))
}

fn resident(status: &str) -> u64 {
    let fields = status.lines().filter_map(|line| line.split_once(':'));
    let kibibytes = fields.filter(|(key, _)| ["RssAnon", "RssShmem"].contains(key)).filter_map(|(_, value)| {
        let number = value.trim().strip_suffix("kB")?;
        number.trim().parse::<u64>().ok()
    });
    kibibytes.sum::<u64>().saturating_mul(1024)
}

/// ESRCH is how /proc says that a process ended while it was being read.
pub(super) fn gone(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_unit() {
        let unit = "shop@1.service";
        for (text, group) in [
            ("0::/shop.slice/shop@1.service\n", Some("/shop.slice/shop@1.service")),
            ("0::/shop.slice/shop@1.service/inner\n", Some("/shop.slice/shop@1.service")),
            ("9:memory:/x\n1:name=systemd:/shop.slice/shop@1.service\n0::/\n", Some("/shop.slice/shop@1.service")),
            ("0::/shop.slice/shop@1.service2\n", None),
            ("0::/user.slice\n", None),
            ("", None),
        ] {
            assert_eq!(group_of(text, unit).as_deref(), group, "{text}");
        }
    }

    #[test]
    fn page_cache_does_not_count() {
        let stat = "anon 1000\nfile 500000\nkernel 900\nkernel_stack 10\npagetables 20\npercpu 1\nsock 3\nshmem 200\n\
                    file_mapped 7000\nslab_reclaimable 600\nslab_unreclaimable 5\nslab 605\n";
        assert_eq!(charged(stat), 1239);
        assert_eq!(charged("anon x\nnothing"), 0);
    }

    #[test]
    fn a_process_by_its_status() {
        let status =
            "Name:\tnode\nVmRSS:\t   99999 kB\nRssAnon:\t     300 kB\nRssFile:\t   70000 kB\nRssShmem:\t       4 kB\n";
        assert_eq!(resident(status), 304 << 10);
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(of_process(own).unwrap() > 100 << 10);
        assert_eq!(of_process(i32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(of_unit(i32::MAX, "x.service").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
