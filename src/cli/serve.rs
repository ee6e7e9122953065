//! `appctl serve [PATH] [PORT]`: a directory of files as an app, and the worker of such an app.

use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::{DONE, Failure};
use super::names::Asked;
use super::new_app;
use super::print::Printer;
use super::script;
use super::served::{PASSWORD, absolute, draft, secret, usual_name, write_secret};
use super::{apps, restart, rollout, start};
use crate::config::value;
use crate::site;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The directory; default: this one
    path: Option<PathBuf>,
    /// Where clients connect: a port, ADDRESS:PORT or /a/socket [default: 8080]
    port: Option<String>,
    /// The same as PORT
    #[arg(long = "port", value_name = "PORT", conflicts_with = "port")]
    port_flag: Option<String>,
    /// The app's name; default: `site-` and the port
    #[arg(short, long)]
    name: Option<String>,
    /// Answer with index.html where there is no file: an application of one page
    #[arg(long)]
    spa: bool,
    /// Number of workers, as for start
    #[arg(short, long, value_name = "N", default_value = "1", allow_hyphen_values = true)]
    instances: String,
    /// Ask for a password: whose
    #[arg(long, value_name = "USER", requires = "basic_auth_password")]
    basic_auth_username: Option<String>,
    /// Ask for a password: this one
    #[arg(long, value_name = "PASSWORD", requires = "basic_auth_username")]
    basic_auth_password: Option<String>,
    /// The user that the workers run as; default: the directory's owner, or for root's one of their own
    #[arg(long, value_name = "USER")]
    uid: Option<String>,
    /// Overwrite a file of that name that says something else
    #[arg(short, long)]
    force: bool,
    /// Only print the files and the calls to systemd that it would take
    #[arg(long)]
    dry_run: bool,
}

/// The worker: `appctl site DIRECTORY`.
#[derive(Debug, Args)]
pub(super) struct Worker {
    #[arg(long)]
    spa: bool,
    directory: PathBuf,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let scope = asked.for_new_app();
    let typed = arguments.path.as_deref().unwrap_or(Path::new("."));
    let directory = absolute(typed)?;
    let port = arguments.port.as_deref().or(arguments.port_flag.as_deref()).unwrap_or("8080");
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => usual_name(port),
    };
    value::check_name(&name).map_err(|wrong| Failure::Usage(format!("{}; choose another by --name", wrong.reason)))?;
    let workers = script::instances(&arguments.instances)?;
    let draft = draft(&name, directory, port.to_owned(), arguments.spa, workers, arguments.uid.clone(), scope)?;
    let path = apps::path(scope, &name)?;
    let mut text = draft.toml();
    let (mut renewed, mut secret_file) = (false, None);
    if let (Some(user), Some(password)) = (&arguments.basic_auth_username, &arguments.basic_auth_password) {
        let file = secret(&path);
        if user.contains(':') {
            return Err(Failure::Usage("the name of a user has no colon (RFC 7617)".into()));
        }
        let line = format!("environment_files = [{}]\n", toml_edit::Value::from(file.to_string_lossy().as_ref()));
        text = text.replacen("\nlisten = ", &format!("\n{line}listen = "), 1);
        let news = new_app::is_news(&name, &path, &text, arguments.force)?;
        secret_file = Some(file.clone());
        renewed = !arguments.dry_run && write_secret(&file, &format!("{user}:{password}"))? && !news;
    }
    if arguments.dry_run {
        return super::dry::serve((scope, name, path, text), secret_file, arguments.force, printer).await;
    }
    let code = start::start_new((scope, name.clone(), path, text), arguments.force, false, printer).await?;
    if renewed && code == DONE {
        // The file says the same, and what it names says something else.
        printer.note(&format!("{name} has another password: restarting it"));
        return restart::run(&[name], Asked(Some(scope)), printer).await;
    }
    Ok(code)
}

/// Serves on the socket that systemd passed, until SIGTERM.
pub(super) async fn worker(arguments: &Worker) -> Result<u8, Failure> {
    let stop = rollout::until_told()?;
    let listener = listenfd::ListenFd::from_env().take_unix_listener(0).ok().flatten().ok_or_else(|| {
        Failure::failed("no socket was passed (LISTEN_FDS): this is what the units of `appctl serve` run")
    })?;
    let failed =
        |error: std::io::Error| Failure::failed(format!("cannot serve {}: {error}", arguments.directory.display()));
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
    let password = std::env::var(PASSWORD).ok();
    let options = site::Options { directory: arguments.directory.clone(), one_page: arguments.spa, password };
    site::serve(listener, &options, stop).await.map_err(failed)?;
    Ok(DONE)
}
