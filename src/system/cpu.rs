//! How much of the processors the processes of a unit have used.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::memory::{ROOTS, gone, group_of};

/// What the kernel says in one tick of /proc, which is so since ever for programs (sysconf(3), `_SC_CLK_TCK`).
const TICK: Duration = Duration::from_millis(10);
/// Longer than any of the files that are read.
const LONGEST: usize = 4096;

/// The processors' time that a unit's processes have used, read again and again from one file that stays open.
#[derive(Debug)]
pub struct Clock {
    file: File,
    /// It is of a control group, with all its processes; else of one process alone.
    of_group: bool,
}

impl Clock {
    /// Of all processes of `unit`, of which `pid` is one; of that one alone, where units have no control group that
    /// counts. `NotFound`: it has ended.
    pub fn of_unit(pid: i32, unit: &str) -> io::Result<Self> {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(gone)?;
        let group = group_of(&groups, unit);
        let stat = group.and_then(|group| {
            let files = ROOTS.iter().map(|root| format!("{root}{group}/cpu.stat"));
            files.into_iter().find_map(|path| File::open(path).ok())
        });
        if let Some(file) = stat {
            let clock = Self { file, of_group: true };
            // Under cgroup v1 it has other fields.
            if clock.read().is_ok() {
                return Ok(clock);
            }
        }
        Ok(Self { file: File::open(format!("/proc/{pid}/stat")).map_err(gone)?, of_group: false })
    }

    pub fn read(&self) -> io::Result<Duration> {
        let mut buffer = [0; LONGEST];
        let length = self.file.read_at(&mut buffer, 0).map_err(gone)?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        let used = if self.of_group { of_group(&text) } else { of_process(&text) };
        used.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// By the text of cpu.stat.
fn of_group(stat: &str) -> Option<Duration> {
    let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    micros.trim().parse().ok().map(Duration::from_micros)
}

/// By the text of /proc/PID/stat: `utime` and `stime`. The name may hold blanks and brackets.
fn of_process(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    TICK.checked_mul(user.checked_add(system)?)
}

/// When a process began, as time since the boot.
pub fn began(pid: u32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(gone)?;
    let ticks = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)?.parse::<u64>().ok());
    let millis = ticks.and_then(|ticks| ticks.checked_mul(10)).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Duration::from_millis(millis))
}

/// Time since the boot, as [`began`] counts it.
pub fn since_boot() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds = text.split(' ').next().and_then(|seconds| seconds.parse::<f64>().ok());
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_by_their_texts() {
        assert_eq!(of_group("usage_usec 1500000\nuser_usec 1000000\n"), Some(Duration::from_millis(1500)));
        assert_eq!(of_group("nr_periods 0\n"), None);
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 12345 1 2";
        assert_eq!(of_process(stat), Some(Duration::from_secs(2)));
        assert_eq!(of_process("7 (x"), None);
    }

    #[test]
    fn the_own_clock_runs() {
        let own = std::process::id();
        let clock = Clock::of_unit(i32::try_from(own).unwrap(), "there-is-no.service").unwrap();
        let before = clock.read().unwrap();
        let mut sum = 0_u64;
        while clock.read().unwrap() < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(began(own).unwrap() <= since_boot().unwrap());
        assert_eq!(Clock::of_unit(i32::MAX, "x").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
