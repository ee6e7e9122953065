//! An app's certificates, seen by the operator: what is wrong with them, and new ones into the running router.

use super::apps;
use super::exit::{DONE, FAILED, Failure, NOT_RUNNING};
use super::manage::user_flag;
use super::print::Printer;
use crate::config::{App, Level, Problem, Scope};
use crate::generator::places::Places;
use crate::rollout::CONTROL_TIMEOUT;
use crate::router::certificates::{ALL_MAX, Material, read_all};
use crate::router::client::{Control, ControlError, Status};
use crate::system::place;
use std::io::ErrorKind;
use std::time::SystemTime;

const TOO_MUCH: &str = "all its certificates and keys are larger than 1 MiB together, and systemd gives a unit no more";

/// What is wrong with the files, with the lines of `text` that name them.
pub(super) fn problems(app: &App, places: &Places, text: &str) -> Vec<Problem> {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(i64::MAX));
    let mut total = 0;
    let of = |files| match Material::read_under(files, |path| places.under(path)).and_then(|material| {
        total += material.length();
        material.check()
    }) {
        Ok(certificate) => {
            let warning = certificate.warning(now)?;
            Some((files.cert.clone(), Problem::whole(Level::Warning, warning, "get a new one from your authority")))
        }
        Err(error) => {
            let level = if error.denied { Level::Warning } else { Level::Error };
            let message = format!("{}: {}", error.file.display(), error.reason);
            Some((error.file, Problem::whole(level, message, error.remedy)))
        }
    };
    let found: Vec<_> = app.router.listen.certificates().filter_map(of).collect();
    let too_much = (app.scope == Scope::System && total > ALL_MAX)
        .then(|| Problem::whole(Level::Error, TOO_MUCH, "give the app fewer certificates, or shorter chains"));
    found
        .into_iter()
        .map(|(file, mut problem)| {
            let file = file.display().to_string();
            let place = text.lines().enumerate().find_map(|(number, line)| Some((number, line, line.find(&file)?)));
            if let Some((number, line, at)) = place {
                problem.line = number + 1;
                problem.column = line[..at].chars().count() + 1;
                problem.width = file.chars().count();
            }
            problem
        })
        .chain(too_much)
        .collect()
}

/// What keeps systemd from starting an app's router at all: files that it cannot give to it. (One that is missing, or no
/// certificate, closes its own address alone.)
fn obstacles(app: &App) -> Vec<String> {
    if app.scope == Scope::User {
        // Its router reads them itself.
        return Vec::new();
    }
    let mut total = 0;
    let mut found = Vec::new();
    for files in app.router.listen.certificates() {
        for file in [&files.cert, &files.key] {
            let in_the_way = match std::fs::metadata(file) {
                Ok(metadata) if metadata.is_file() => {
                    total += metadata.len();
                    metadata.len() > ALL_MAX
                }
                Ok(metadata) => !metadata.is_dir(),
                // Whoever is not root cannot tell.
                Err(error) => ![ErrorKind::NotFound, ErrorKind::PermissionDenied].contains(&error.kind()),
            };
            if in_the_way {
                found.extend(Material::read(files).err().map(|error| error.to_string()));
                break;
            }
        }
    }
    if found.is_empty() && total > ALL_MAX {
        found.push(TOO_MUCH.to_owned());
    }
    found
}

/// Prints them; says whether there are any.
pub(super) fn are_in_the_way(app: &App, printer: &Printer) -> bool {
    let obstacles = obstacles(app);
    for obstacle in &obstacles {
        printer.error(&format!("the router of {} cannot be started: {obstacle}", app.name));
    }
    !obstacles.is_empty()
}

/// What is amiss with what a running router serves. `unserved`: what to say of a certificate of the file that it does not.
pub(super) fn remarks(app: &App, status: &Status, unserved: &str) -> Vec<String> {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(i64::MAX));
    let mut remarks = Vec::new();
    for options in &app.router.listen.0 {
        let address = options.address.to_string();
        for files in &options.tls {
            let cert = files.cert.display();
            match status.certificates.iter().find(|served| served.address == address && served.cert == files.cert) {
                None => remarks.push(format!("{address}: {cert} is not served: {unserved}")),
                Some(served) if served.not_after < now => {
                    remarks.push(format!("{address}: {cert} has expired: clients refuse it"));
                }
                Some(_) => {}
            }
        }
    }
    remarks
}

/// `appctl reload --certificates NAME`: new connections get the certificates that the files hold now; nothing else.
pub(super) async fn renew(scope: Scope, name: &str, printer: &Printer) -> Result<u8, Failure> {
    let app = apps::load(scope, name, printer)?.app;
    if app.router.listen.certificates().next().is_none() {
        return Err(Failure::Usage(format!("{name} has no certificates: no entry of listen has tls")));
    }
    let socket = place::control(scope == Scope::User, name)
        .ok_or_else(|| Failure::failed("XDG_RUNTIME_DIR is not set: where is the router?"))?;
    let control = Control::new(socket, CONTROL_TIMEOUT);
    let outcome = match read_all(&app.router.listen) {
        Ok(all) => control.renew_certificates(&all).await,
        Err(error) if error.denied => return Err(Failure::Denied(error.to_string())),
        Err(error) => Err(ControlError::Refused(error.to_string())),
    };
    match outcome {
        Ok(()) => {
            printer.note(&format!("{name}: new connections get the certificates as they are now"));
            let elsewhere =
                format!("listen has changed, which holds from appctl{} restart {name} on", user_flag(scope));
            let status = control.status().await.ok();
            for remark in status.iter().flat_map(|status| remarks(&app, status, &elsewhere)) {
                printer.warning(&remark);
            }
            Ok(DONE)
        }
        Err(ControlError::Unreachable(error)) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Failure::Denied(format!("no right to ask the router of {name}\nUse sudo.")))
        }
        Err(ControlError::Unreachable(error)) if error.kind() == ErrorKind::NotFound => {
            printer.error(&format!("{name} is not running: appctl{} start {name}", user_flag(scope)));
            Ok(NOT_RUNNING)
        }
        Err(error) => {
            printer.error(&format!("{error}; what was served before is served on"));
            Ok(FAILED)
        }
    }
}
