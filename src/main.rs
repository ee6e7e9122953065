//! Who was called; call it; exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(running) = std::env::current_exe().ok().as_deref().and_then(std::path::Path::to_str) {
        appctl::unit::plan::run_by(running);
    }
    let mut arguments = std::env::args_os();
    let called_as = arguments.next().unwrap_or_default();
    let called_as = std::path::Path::new(&called_as).file_name().unwrap_or_default().to_owned();
    if called_as == "appctl-generator" || called_as == "appctl-user-generator" {
        return appctl::generator::main(arguments);
    }
    appctl::cli::main()
}
