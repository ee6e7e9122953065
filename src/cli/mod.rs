//! What the operator sees.

use std::process::ExitCode;

pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
