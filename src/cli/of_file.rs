//! The flags that say which apps of a file are meant, and how.

use std::path::Path;

use clap::Args;

use super::exit::{DONE, Failure};
use super::import::{self, Choice};
use super::names::Asked;
use super::pm2flags::Habits;
use super::print::Printer;
use super::{apps, selector};

/// Which apps of a file of PM2's.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct OfFile {
    /// Of a file of PM2's: only these apps
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// The profile that is to be active: env_NAME of a file of PM2's, `[profile.NAME.environment]` of a TOML file
    #[arg(long, value_name = "NAME")]
    pub(super) env: Option<String>,
    /// `--force`, where there is one.
    #[arg(skip)]
    pub(super) force: bool,
}

/// How `restart` and `reload` take apps of files.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Anew {
    #[command(flatten)]
    pub(super) of: OfFile,
    /// Nothing: the environment is what the app's file says, and is always taken as it is now (for PM2's sake)
    #[arg(short = 'a', long)]
    pub(super) update_env: bool,
    /// Of a file of PM2's: overwrite the files of apps that were changed since their import
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    pub(super) habits: Habits,
}

impl Anew {
    pub(super) fn of(&self) -> OfFile {
        OfFile { force: self.force, ..self.of.clone() }
    }
}

impl OfFile {
    pub(super) fn choice(&self) -> Choice {
        Choice { only: self.only.clone(), env: self.env.clone(), listen: Vec::new() }
    }

    /// Refuses flags that have nothing to say something about.
    pub(super) fn check(&self, words: &[String]) -> Result<(), Failure> {
        let none = |is_file: fn(&str) -> bool| !words.iter().any(|word| is_file(word));
        match words.first() {
            Some(word)
                if self.env.is_some() && none(|word| import::is_file(word) || selector::of_file(word).is_some()) =>
            {
                Err(Failure::Usage(format!("--env is for a file; set active_profile in the file of {word}")))
            }
            _ if !self.only.is_empty() && none(import::is_file) => {
                Err(Failure::Usage("--only is for a file of PM2's; name the apps themselves".into()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a word is a file that is to be taken as it is now. An app's own file is.
    pub(super) fn is_news(&self, word: &str, asked: Asked) -> bool {
        let is_another = || {
            let (path, name) = (Path::new(word), selector::of_file(word)?.pop()?);
            let installed = apps::path(asked.for_app(&name), &name).ok()?;
            Some(self.env.is_some() || path.canonicalize().ok()? != installed.canonicalize().unwrap_or(installed))
        };
        import::is_file(word) || is_another() == Some(true)
    }

    /// Words, with the apps of files of PM2's in the files' place. An app that is not there does not hold up the others: it
    /// is told of, and the code is what that comes to.
    pub(super) fn spelled_out(
        &self,
        words: &[String],
        asked: Asked,
        printer: &Printer,
    ) -> Result<(Vec<String>, u8), Failure> {
        self.check(words)?;
        let (mut spelled, mut code) = (Vec::new(), DONE);
        for word in words {
            if !import::is_file(word) {
                spelled.push(word.clone());
                continue;
            }
            for name in import::names(word, &self.choice())? {
                let scope = asked.for_app(&name);
                if apps::exists(scope, &name) {
                    spelled.push(name);
                } else {
                    code = code.max(apps::unknown(scope, &name).of_one(printer)?);
                }
            }
        }
        Ok((spelled, code))
    }
}
