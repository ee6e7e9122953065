//! Files in, units out: `appctl-generator`, called by systemd as systemd.generator(7) says.

use std::ffi::OsString;
use std::process::ExitCode;

/// `arguments`: the three output directories.
pub fn main(_arguments: impl Iterator<Item = OsString>) -> ExitCode {
    ExitCode::FAILURE
}
