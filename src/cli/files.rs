//! Files in the place of names: `restart`, `reload`, `stop` and `delete` of the apps that a file of PM2's, or one of ours,
//! describes. As with PM2, a restart or reload takes the file as it is now.

use std::path::Path;

use clap::Args;

use super::exit::{DONE, Failure};
use super::import::Choice;
use super::names::Asked;
use super::print::Printer;
use super::start_or::{self, Act};
use super::{apps, import, reload, restart, selector};

/// Which apps of a file of PM2's.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct OfFile {
    /// Of a file of PM2's: only these apps
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// The profile that is to be active: env_NAME of a file of PM2's, `[profile.NAME.environment]` of a TOML file
    #[arg(long, value_name = "NAME")]
    pub(super) env: Option<String>,
}

/// How `restart` and `reload` take apps of files.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Anew {
    #[command(flatten)]
    pub(super) of: OfFile,
    /// Nothing: the environment is what the app's file says, and is always taken as it is now (for PM2's sake)
    #[arg(short = 'a', long)]
    update_env: bool,
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
    fn is_news(&self, word: &str, asked: Asked) -> bool {
        let is_another = || {
            let (path, name) = (Path::new(word), selector::of_file(word)?.pop()?);
            let installed = apps::path(asked.for_app(&name), &name).ok()?;
            Some(self.env.is_some() || path.canonicalize().ok()? != installed.canonicalize().unwrap_or(installed))
        };
        import::is_file(word) || is_another() == Some(true)
    }
}

/// `appctl restart` and `appctl reload`.
pub(super) async fn act(
    act: Act,
    words: &[String],
    anew: &Anew,
    asked: Asked,
    printer: &Printer,
) -> Result<u8, Failure> {
    anew.of.check(words)?;
    if anew.update_env {
        printer.note(
            "--update-env: the environment is what the app's file says; every restart and reload takes it as it is now",
        );
    }
    let (files, names): (Vec<String>, Vec<String>) =
        words.iter().cloned().partition(|word| anew.of.is_news(word, asked));
    let mut code = if files.is_empty() { DONE } else { start_or::run(act, &files, &anew.of, asked, printer).await? };
    if !names.is_empty() {
        code = code.max(match act {
            Act::Restart => restart::run(&names, asked, printer).await?,
            Act::Reload => reload::run(&reload::Arguments::of(names), asked, printer).await?,
        });
    }
    Ok(code)
}

/// Words, with the apps of files of PM2's in the files' place. An app that is not there does not hold up the others: it
/// is told of, and the code is what that comes to.
pub(super) fn spelled_out(
    words: &[String],
    of: &OfFile,
    asked: Asked,
    printer: &Printer,
) -> Result<(Vec<String>, u8), Failure> {
    of.check(words)?;
    let (mut spelled, mut code) = (Vec::new(), DONE);
    for word in words {
        if !import::is_file(word) {
            spelled.push(word.clone());
            continue;
        }
        for name in import::names(word, of)? {
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
