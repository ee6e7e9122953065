//! What the operator sees.

pub mod cat;
pub mod check;

use std::process::ExitCode;

pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
