//! How the latest reload of an app stands, or ended: written down at every step, so that others can tell it and can finish
//! what a reload that was killed left behind.

use std::cell::{Cell, Ref, RefCell};
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::generation::Generations;

/// Workers are named by their slots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub state: State,
    /// Seconds since 1970.
    pub began: u64,
    pub ended: Option<u64>,
    /// How many workers the router was to have before.
    pub wanted_before: Option<u32>,
    /// How many workers there are to replace.
    pub workers: usize,
    /// New ones that have taken over.
    pub replaced: Vec<String>,
    /// Old ones that are not replaced.
    pub left: Vec<String>,
    /// New ones that have yet to show that they work.
    pub trial: Vec<String>,
    /// Old ones whose heirs have taken over.
    pub retiring: Vec<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// What follows from its end is done.
    pub concluded: bool,
    /// The number of what it brings; 0: nobody counted ([`super::generation`]).
    #[serde(default)]
    pub generation: u64,
    /// What ran when it began.
    #[serde(default)]
    pub before: Generations,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Running,
    Done,
    Failed,
    /// Cut short by a stop or a restart of the app.
    Stopped,
}

impl Progress {
    /// A reload that begins now.
    pub fn begin() -> Self {
        Self { began: now(), ..Self::default() }
    }

    /// It is over.
    pub fn end(&mut self, state: State, reason: Option<String>) {
        (self.state, self.ended, self.reason) = (state, Some(now()), reason);
    }

    /// Which of the app's workers are new and which old, after a reload that did not come to its end.
    pub fn left_behind(&self, app: &str) -> String {
        if self.replaced.is_empty() {
            return "nothing changed, the old workers serve on".to_owned();
        }
        let workers = |slots: &[String]| {
            let units: Vec<String> = slots.iter().map(|slot| format!("{app}@{slot}")).collect();
            units.join(", ")
        };
        let new = format!("new and staying: {}", workers(&self.replaced));
        match self.left.as_slice() {
            [] => format!("{new}; no old ones are left"),
            left => format!("{new}; old and serving on: {}", workers(left)),
        }
    }
}

/// The progress of one reload, and the file that always says the same.
#[derive(Debug, Default)]
pub struct Ledger {
    path: Option<PathBuf>,
    progress: RefCell<Progress>,
    /// It was told that it cannot be written.
    told: Cell<bool>,
}

impl Ledger {
    /// `path`: where it is written; `None`: nowhere.
    pub fn new(path: Option<PathBuf>, progress: Progress) -> Self {
        let ledger = Self { path, progress: RefCell::new(progress), told: Cell::new(false) };
        ledger.update(|_| {});
        ledger
    }

    pub fn now(&self) -> Ref<'_, Progress> {
        self.progress.borrow()
    }

    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.borrow_mut());
        let Some(path) = &self.path else { return };
        if let Err(error) = write(path, &self.progress.borrow())
            && !self.told.replace(true)
        {
            // The reload itself does not need it.
            tracing::warn!(%error, "cannot write down how the reload goes, in {}: {error}", path.display());
        }
    }
}

/// What the latest reload came to; `None`: there was none since the app's start, or it cannot be read.
pub fn read(path: &Path) -> Option<Progress> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write(path: &Path, progress: &Progress) -> io::Result<()> {
    publish(path, &serde_json::to_vec(progress)?)
}

/// Writes a file that everybody may read, whatever the unit's `UMask=`, and that is whole at every instant.
pub fn publish(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
        std::fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    }
    let temporary = path.with_file_name(format!(".{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
    let written = file
        .set_permissions(Permissions::from_mode(0o644))
        .and_then(|()| file.write_all(text))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // The disk is full, perhaps: half a file is of no use to anybody.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_the_ledger_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/app.json");
        let ledger = Ledger::new(Some(path.clone()), Progress::begin());
        assert_eq!(read(&path).unwrap(), *ledger.now());
        ledger.update(|progress| progress.trial.push("3".into()));
        ledger.update(|progress| progress.end(State::Failed, Some("no".into())));
        assert_eq!(read(&path).unwrap(), *ledger.now());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_left_behind() {
        let slots = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let left = |new, old| Progress { replaced: slots(new), left: slots(old), ..Progress::default() };
        assert_eq!(left("", "1 2").left_behind("app"), "nothing changed, the old workers serve on");
        assert_eq!(
            left("5 1", "2 3").left_behind("app"),
            "new and staying: app@5, app@1; old and serving on: app@2, app@3"
        );
        assert_eq!(left("5", "").left_behind("app"), "new and staying: app@5; no old ones are left");
    }
}
