//! The time of day as the people of this machine write it.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::time::SystemTime;

/// `2026-11-21 16:03:12`, in the zone of `TZ` or of the machine.
pub fn local(at: SystemTime) -> String {
    let told = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(told.as_secs()).unwrap_or(libc::time_t::MAX);
    let mut parts = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: it reads one number and fills in `parts`, which is all ours; it says by null that it did not.
    let parts = unsafe {
        if libc::localtime_r(&raw const seconds, parts.as_mut_ptr()).is_null() {
            return humantime::format_rfc3339_seconds(at).to_string();
        }
        parts.assume_init()
    };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        i64::from(parts.tm_year) + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec
    )
}
