//! What PM2's files and flags mean here (pure): [`form`] reads an ecosystem file, [`keys`] is the one table of its keys,
//! [`app`] makes an app's file of one entry and tells what became of each key, [`dump`] reads what a running PM2 saved,
//! [`guide`] is the migration guide.
//!
//! Facts about PM2 are of 7.0.4.

pub mod app;
pub mod draft;
pub mod dump;
pub mod form;
pub mod guide;
pub mod keys;
mod program;
pub mod sample;
mod serves;
pub mod values;
pub mod verbs;

pub use draft::Draft;
pub use program::is_launcher;
pub use serves::port_named_in;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::Scope;

/// What is known beside the entry.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    pub scope: Scope,
    /// The caller's working directory, absolute: relative paths begin here, as PM2's do.
    pub directory: &'a Path,
    /// The file's own directory: where a script is looked for that is not there.
    pub beside: Option<&'a Path>,
    /// `--env`
    pub profile: Option<&'a str>,
    /// `deploy` of the file.
    pub deploy: Option<&'a Value>,
    /// Addresses that were asked for.
    pub listen: &'a [String],
    pub runtime: Option<&'a str>,
    /// The entry was typed as flags, by somebody who knows whose command it is.
    pub typed: bool,
}

/// What is asked of the machine, and of its caller's shell.
pub trait Machine {
    /// Where a program is, by the caller's PATH.
    fn find(&self, program: &str) -> Option<PathBuf>;
    fn is_file(&self, path: &Path) -> bool;
    /// The beginning of a file, as much as is worth looking at.
    fn read(&self, path: &Path) -> Option<Vec<u8>>;
    /// A file's owner by name; `None`: root, or nobody with a name.
    fn owner(&self, path: &Path) -> Option<String>;
    /// A variable of the caller's shell.
    fn variable(&self, name: &str) -> Option<String>;
    fn processors(&self) -> u32;
}
