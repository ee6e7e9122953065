//! `NAME-watch.service`: reloads the app when its files change.
//!
//! [`tree`] sees the changes, [`filter`] knows which of them matter, [`debounce`] makes reloads of them, and the loop here
//! asks systemd for these. A reload that fails changes nothing (that is what a rolling reload is for), and is told.

pub mod debounce;
pub mod filter;
pub mod tree;

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::system::bus::{Manager, Systemd, Verb};
use crate::system::{jobs, notify};
use debounce::{Burst, Debounce};
use tree::{Tree, WatchError};

/// What is to be watched, and who is to be reloaded then.
#[derive(Debug, Clone)]
pub struct Watch {
    pub app: String,
    pub manager: Manager,
    /// `NAME.service`
    pub router: String,
    /// `NAME@*.service`
    pub workers: String,
    /// Absolute.
    pub paths: Vec<PathBuf>,
    /// Patterns as in gitignore(5).
    pub ignore: Vec<String>,
}

impl Watch {
    /// Watches until it can no more.
    pub async fn run(&self) -> Result<Infallible, WatchError> {
        let name = &self.app;
        let mut tree = Tree::new(self.paths.clone(), &self.ignore)?;
        let shown = self.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        tracing::info!(APP = name, "watching {shown}");
        notify::ready(&format!("watching {} directories", tree.size()));
        let mut debounce = Debounce::default();
        if let Some(path) = self.missed(&tree).await {
            tracing::info!(APP = name, "{} is newer than the workers", path.display());
            debounce.changed(&path, Instant::now());
        }
        let mut reload = None;
        loop {
            let due = debounce.due().map(tokio::time::Instant::from_std);
            tokio::select! {
                changes = tree.changes() => {
                    for path in changes? {
                        tracing::debug!(APP = name, "{} changed", path.display());
                        debounce.changed(&path, Instant::now());
                    }
                }
                () = at(due) => {
                    if let Some(burst) = debounce.begin() {
                        self.tell(&burst);
                        reload = Some(Box::pin(self.reload()));
                    }
                }
                () = ended(reload.as_mut()) => {
                    reload = None;
                    debounce.ended(Instant::now());
                    notify::status(&format!("watching {} directories", tree.size()));
                }
            }
        }
    }

    /// A file that was changed while nobody watched, since the router's death ends the watcher too: one that is newer than
    /// a worker.
    async fn missed(&self, tree: &Tree) -> Option<PathBuf> {
        let (changed, path) = tree.newest()?;
        let systemd = Systemd::connect(self.manager).await.ok()?;
        for worker in systemd.list(std::slice::from_ref(&self.workers)).await.ok()? {
            let started = systemd.properties(&worker.name).await.ok()?.u64("ExecMainStartTimestamp").unwrap_or(0);
            let started = SystemTime::UNIX_EPOCH + Duration::from_micros(started);
            if worker.active_state == "active" && started < changed {
                return Some(path.to_owned());
            }
        }
        None
    }

    fn tell(&self, burst: &Burst) {
        let name = &self.app;
        let others = if burst.others == 0 { String::new() } else { format!(" and {} more", burst.others) };
        let path = burst.path.display();
        tracing::info!(APP = name, "{path}{others} changed: reloading");
        if burst.circular {
            tracing::warn!(
                APP = name,
                "{path} changes during each reload: if the app writes it, add it to ignore in {name}.toml"
            );
        }
    }

    /// As `systemctl reload` does it.
    async fn reload(&self) {
        let name = &self.app;
        match self.try_reload().await {
            Ok(()) => tracing::info!(APP = name, "{name} reloaded"),
            Err(reason) => tracing::error!(APP = name, "{name} not reloaded: {reason}; watching on"),
        }
    }

    async fn try_reload(&self) -> Result<(), String> {
        // A connection for each: the bus may have been restarted meanwhile.
        let systemd = Systemd::connect(self.manager).await.map_err(|error| error.to_string())?;
        let router = systemd.properties(&self.router).await.map_err(|error| error.to_string())?;
        if !["active", "reloading", "activating"].contains(&router.text("ActiveState").unwrap_or_default()) {
            return Err("it does not run".to_owned());
        }
        let job = [(Verb::Reload, self.router.clone())];
        let unfinished = jobs::run(&systemd, &job, async |_, _| {}).await.map_err(|error| error.to_string())?;
        match unfinished.first() {
            None => Ok(()),
            Some(job) if job.result == "failed" => Err(format!("`journalctl -u {}` tells why", self.app)),
            Some(job) => Err(job.reason.clone()),
        }
    }
}

/// Never, for no time.
async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Never, for no reload.
async fn ended(reload: Option<&mut std::pin::Pin<Box<impl Future<Output = ()>>>>) {
    match reload {
        Some(reload) => reload.await,
        None => std::future::pending().await,
    }
}
