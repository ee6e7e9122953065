//! `appctl help [COMMAND]`, and the manual pages that it shows: appctl(1), appctl-COMMAND(1), appctl.toml(5).

use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};

use clap::Args;
use clap_mangen::Man;

use super::exit::{DONE, Failure, USAGE};
use super::print::Printer;
use super::{apps, counterparts, examples};

/// The keys of an app's file, generated from the README.
const TOML: &str = include_str!("../../packaging/man/appctl.toml.5");
const FILE: &str = "appctl.toml";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A command, or `appctl.toml` for the keys of an app's file
    command: Option<String>,
}

/// A page as its file is called, and its text in roff.
pub type Page = (String, String);

/// All pages that are made of the command line: appctl(1), and one for each command.
pub fn pages() -> io::Result<Vec<Page>> {
    let line = super::line();
    let commands = line.get_subcommands().filter(|command| !command.is_hide_set());
    let names: Vec<String> = commands.map(|command| command.get_name().to_owned()).collect();
    let mut pages = vec![("appctl.1".to_owned(), roff(None)?)];
    for name in names {
        pages.push((format!("appctl-{name}.1"), roff(Some(&name))?));
    }
    Ok(pages)
}

/// One page: of a command, or of all.
fn roff(command: Option<&str>) -> io::Result<String> {
    let mut line = super::line().term_width(100);
    line.build();
    let examples = command.and_then(examples::of);
    let of_one = command.and_then(|name| line.find_subcommand(name).cloned());
    let shown = match (of_one, command) {
        (Some(one), Some(name)) => one
            .display_name(format!("appctl-{name}"))
            .bin_name(format!("appctl {name}"))
            .version(env!("CARGO_PKG_VERSION"))
            .after_help(None),
        _ => line.after_help(None),
    };
    let man = Man::new(shown).title(command.map_or_else(|| "appctl".to_owned(), |name| format!("appctl-{name}")));
    // The date of a build would make every build another page.
    let man = man.date("").source(format!("appctl {}", env!("CARGO_PKG_VERSION"))).manual("appctl");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.is_none() {
        text.extend_from_slice(OVERVIEW.as_bytes());
        man.render_subcommands_section(&mut text)?;
    }
    man.render_options_section(&mut text)?;
    if let Some(examples) = examples {
        text.extend_from_slice(format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", escaped(&examples)).as_bytes());
    }
    if command.is_none() {
        text.extend_from_slice(pm2().as_bytes());
    }
    text.extend_from_slice(EXIT.as_bytes());
    text.extend_from_slice(b".SH \"SEE ALSO\"\n");
    let others = if command.is_none() { "appctl\\-start(1), " } else { "appctl(1), " };
    text.extend_from_slice(
        format!("{others}appctl.toml(5), systemctl(1), journalctl(1), systemd.service(5)\n").as_bytes(),
    );
    Ok(String::from_utf8_lossy(&text).into_owned())
}

const OVERVIEW: &str = r#".PP
NAME is an app, which one file describes, appctl.toml(5); NAME@SLOT is one of its workers, a systemd unit of that name. Where
several may be named, \fBall\fR is every app, \fB/regex/\fR (or \fB/regex/i\fR) every one whose name it matches, and a path that ends
in .toml the app of that file.
.PP
Without \-\-user and \-\-system, root's apps are the system's, in /etc/appctl; another user's are his own, in ~/.config/appctl, where
he has one of that name, else the system's.
"#;

const EXIT: &str = r#".SH "EXIT STATUS"
.TP
0
done
.TP
1
failed
.TP
2
the command line makes no sense, or what PM2 has and is not here
.TP
3
not running
.TP
4
no such app, or no right to manage units
"#;

/// PM2's commands that are none of ours.
fn pm2() -> String {
    let mut text = ".SH \"COMMANDS OF PM2\"\n".to_owned();
    for counterpart in counterparts::ALL {
        let verbs = counterpart.verbs.join(", ");
        text.push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", escaped(&verbs), escaped(counterpart.answer.text())));
    }
    text
}

/// Text that roff takes for nothing else.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<u8, Failure> {
    let command = match arguments.command.as_deref() {
        Some(FILE | "toml" | "NAME.toml") => return Ok(show(TOML, || plain(TOML), printer)),
        Some(name) => Some(canonical(name, printer)?),
        None => None,
    };
    let page = roff(command.as_deref()).map_err(|error| Failure::failed(error.to_string()))?;
    let text = || {
        let mut line = super::line();
        line.build();
        let one = command.as_ref().and_then(|name| line.find_subcommand_mut(name).cloned());
        one.unwrap_or(line).render_long_help().to_string()
    };
    Ok(show(&page, text, printer))
}

/// A command's own name, of an alias; or what there is instead.
fn canonical(word: &str, printer: &Printer) -> Result<String, Failure> {
    let line = super::line();
    if let Some(command) = line.find_subcommand(word).filter(|command| !command.is_hide_set()) {
        return Ok(command.get_name().to_owned());
    }
    if let Some(counterpart) = counterparts::of(word) {
        printer.note(counterpart.answer.text());
        return Err(Failure::Told(DONE));
    }
    let hint = match apps::nearest(word, &super::commands()) {
        Some(near) => format!("Did you mean `appctl help {near}`?"),
        None => "`appctl --help` lists the commands.".to_owned(),
    };
    printer.error(&format!("there is no command {word}\n{hint}"));
    Err(Failure::Told(USAGE))
}

/// On a terminal by man(1), elsewhere or without it as text.
fn show(page: &str, text: impl FnOnce() -> String, printer: &Printer) -> u8 {
    if io::stdout().is_terminal() && by_man(page).is_ok_and(|shown| shown) {
        return DONE;
    }
    printer.data(text().trim_end());
    DONE
}

fn by_man(page: &str) -> io::Result<bool> {
    let mut man =
        Command::new("man").args(["--local-file", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let written = man.stdin.take().map_or(Ok(()), |mut input| input.write_all(page.as_bytes()));
    // The reader may have left before the end.
    Ok(man.wait()?.success() || written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

/// A page of ours without a formatter: what the requests mean for the form is lost, the words are not.
fn plain(page: &str) -> String {
    let mut text = String::new();
    for line in page.lines() {
        let words = |request: &str| line.strip_prefix(request).map(|rest| bare(rest.trim().trim_matches('"')));
        if let Some(title) = words(".SH ").or_else(|| words(".SS ")) {
            text.push_str(&format!("\n{title}\n"));
        } else if line == ".TP" || line == ".PP" {
            text.push('\n');
        } else if !line.starts_with('.') {
            text.push_str(&format!("  {}\n", bare(line)));
        }
    }
    text.trim_start().to_owned()
}

fn bare(line: &str) -> String {
    line.replace("\\fB", "")
        .replace("\\fI", "")
        .replace("\\fR", "")
        .replace("\\-", "-")
        .replace("\\&", "")
        .replace("\\e", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_begins_like_a_request() {
        assert_eq!(escaped(".x\n'y\na\\b --c"), "\\&.x\n\\&'y\na\\eb \\-\\-c");
        assert_eq!(bare(&escaped("a\\b --c")), "a\\b --c");
    }

    #[test]
    fn a_page_without_a_formatter() {
        assert_eq!(plain(".TH x 5\n.SH NAME\na \\- b\n.TP\n\\fBk\\fR\nwhat\n"), "NAME\n  a - b\n\n  k\n  what\n");
    }
}
