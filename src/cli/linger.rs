//! A user's own apps end with the last session, unless systemd-logind lets the user linger (loginctl(1)).

use std::path::Path;
use std::process::{Command, Stdio};

use super::exit::Failure;
use super::names::is_root;
use super::print::Printer;
use crate::config::Scope;

/// Where systemd-logind keeps who lingers.
const LINGERING: &str = "/var/lib/systemd/linger";

/// Says so, where it is so.
pub(super) fn tell(scope: Scope, printer: &Printer) {
    if scope == Scope::User && !is_on() {
        printer.note(
            "It ends when you log out; `appctl start --linger` or `loginctl enable-linger` lets it run on, and start at boot.",
        );
    }
}

/// `appctl start --linger`
pub(super) fn enable(scope: Scope, printer: &Printer) -> Result<(), Failure> {
    if scope == Scope::System {
        return Err(Failure::Usage(
            "--linger is for your own apps (--user): the system's run on and start at boot by themselves".into(),
        ));
    }
    if is_on() {
        return Ok(());
    }
    let output = Command::new("loginctl").arg("enable-linger").stdin(Stdio::null()).output();
    let output = output.map_err(|error| Failure::failed(format!("cannot run loginctl: {error}")))?;
    if !output.status.success() {
        return Err(Failure::failed(format!(
            "lingering is not switched on: {}\nAsk for `sudo loginctl enable-linger {}`.",
            String::from_utf8_lossy(&output.stderr).trim(),
            own_name().unwrap_or_else(|| "YOU".to_owned())
        )));
    }
    printer.note("Your own apps run on when you log out, and start at boot; `loginctl disable-linger` ends that.");
    Ok(())
}

/// Whether this user lingers. One without a name, or root, is not asked about.
fn is_on() -> bool {
    is_root() || own_name().is_none_or(|name| Path::new(LINGERING).join(name).exists())
}

fn own_name() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name)
}
