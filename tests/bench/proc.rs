//! What the kernel says of processes: who descends from whom, CPU time, memory.

use std::collections::BTreeSet;
use std::fs;

/// All processes that descend from `roots`, and these.
pub(crate) fn tree(roots: &[i32]) -> Vec<i32> {
    let parents = parents();
    let mut found: BTreeSet<i32> = roots.iter().copied().collect();
    loop {
        let before = found.len();
        found.extend(
            parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

/// (process, its parent) of all.
fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name stands in parentheses and may contain anything.
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

/// CPU seconds of all threads that these processes have now, to the nanosecond; processes that are gone count as nothing.
pub(crate) fn cpu(pids: &[i32]) -> f64 {
    let thread = |path: std::path::PathBuf| -> Option<f64> {
        fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    let nanoseconds: f64 = pids
        .iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flatten()
        .filter_map(|entry| thread(entry.ok()?.path()))
        .sum();
    nanoseconds / 1e9
}

/// Resident memory in bytes: of one process all its pages; of several, pages that they share are counted once (the sum of
/// their proportional sets).
pub(crate) fn memory(pids: &[i32]) -> u64 {
    let key = if pids.len() == 1 { "Rss:" } else { "Pss:" };
    let kilobytes: u64 = pids
        .iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .filter_map(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        })
        .sum();
    kilobytes * 1024
}

/// Of all processors together since boot: (seconds at work, seconds at all). Time that the hypervisor took is at work.
pub(crate) fn machine() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> =
        text.lines().next().unwrap_or("").split_whitespace().skip(1).take(8).filter_map(|it| it.parse().ok()).collect();
    let all: f64 = ticks.iter().sum();
    // Idle, and waiting for a disk.
    let rest: f64 = ticks.iter().skip(3).take(2).sum();
    ((all - rest) / 100.0, all / 100.0)
}

/// The processors' name and number.
pub(crate) fn processors() -> (String, usize) {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (name.trim_start_matches([' ', '\t', ':']).to_owned(), count)
}
