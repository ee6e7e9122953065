//! `appctl watch NAME`, what `NAME-watch.service` runs: reloads the app when its files change.

use std::path::PathBuf;

use clap::Args;

use super::apps;
use super::exit::{FAILED, Failure};
use super::names;
use crate::config::Scope;
use crate::system::log;
use crate::watch::Watch;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to watch, an absolute path; may be repeated
    #[arg(long = "path", required = true)]
    paths: Vec<PathBuf>,
    /// What does not matter, as in .gitignore; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    ignore: Vec<String>,
    name: String,
}

pub(super) async fn run(arguments: &Arguments, scope: Scope) -> Result<u8, Failure> {
    let name = &arguments.name;
    log::init(name);
    let names = names::units(scope, name);
    let watch = Watch {
        app: name.clone(),
        manager: apps::manager(scope),
        workers: names.slot("*"),
        router: names.router,
        paths: arguments.paths.clone(),
        ignore: arguments.ignore.clone(),
    };
    let Err(error) = watch.run().await;
    tracing::error!(APP = name, "{name} is not reloaded by itself any more: {error}");
    Ok(FAILED)
}
