//! `appctl ecosystem`: a commented sample, in PM2's form and in ours.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use clap::Args;

use super::exit::{DONE, Failure};
use super::print::Printer;
use crate::pm2::draft::quote;
use crate::pm2::sample;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// `simple`: only what there must be
    #[arg(value_name = "KIND", value_parser = ["simple"])]
    kind: Option<String>,
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<u8, Failure> {
    let (theirs, ours) = match arguments.kind {
        Some(_) => (sample::SIMPLE, sample::SIMPLE_TOML),
        None => (sample::ECOSYSTEM, sample::TOML),
    };
    let directory = std::env::current_dir()
        .map_err(|error| Failure::failed(format!("cannot tell the working directory: {error}")))?;
    let files = [
        ("ecosystem.config.js", theirs.to_owned()),
        ("app.toml", ours.replace("DIRECTORY", &quote(&directory.to_string_lossy()))),
    ];
    if let Some((there, _)) = files.iter().find(|(name, _)| Path::new(name).exists()) {
        return Err(Failure::failed(format!("{there} is there already, and stays as it is: nothing was written")));
    }
    for (name, text) in &files {
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(name)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| Failure::of_write(&error, &directory.join(name)))?;
    }
    printer.note("wrote ecosystem.config.js, and app.toml, which says the same");
    printer.note("`appctl start ecosystem.config.js` or `appctl start ./app.toml` starts it");
    Ok(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Scope, parse};

    #[test]
    fn the_samples_are_sound() {
        for text in [sample::TOML, sample::SIMPLE_TOML] {
            let whole = text.replace("DIRECTORY", "\"/srv/app\"");
            // With all that is commented out, too.
            let all = whole.lines().map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") || rest.starts_with('[') => rest,
                _ => line,
            });
            for text in [whole.clone(), all.map(|line| format!("{line}\n")).collect()] {
                let report = parse("app", Path::new("app.toml"), &text, Scope::System);
                assert_eq!(report.problems, [], "{text}");
            }
        }
    }
}
