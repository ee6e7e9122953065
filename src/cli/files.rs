//! Files in the place of names: `restart` and `reload` of the apps that a file of PM2's, or one of ours, describes. As with
//! PM2, both take the file as it is now.

use super::exit::{DONE, Failure};
use super::names::Asked;
use super::of_file::Anew;
use super::print::Printer;
use super::start_or::{self, Act};
use super::{reload, restart};

/// `appctl restart` and `appctl reload`.
pub(super) async fn act(
    act: Act,
    words: &[String],
    anew: &Anew,
    asked: Asked,
    printer: &Printer,
) -> Result<u8, Failure> {
    let of = anew.of();
    of.check(words)?;
    anew.habits.tell(printer);
    if anew.update_env {
        printer.note(
            "--update-env: the environment is what the app's file says; every restart and reload takes it as it is now",
        );
    }
    let (files, names): (Vec<String>, Vec<String>) = words.iter().cloned().partition(|word| of.is_news(word, asked));
    let mut code = if files.is_empty() { DONE } else { start_or::run(act, &files, &of, asked, printer).await? };
    if !names.is_empty() {
        code = code.max(match act {
            Act::Restart => restart::run(&names, asked, printer).await?,
            Act::Reload => reload::run(&reload::Arguments::of(names), asked, printer).await?,
        });
    }
    Ok(code)
}
