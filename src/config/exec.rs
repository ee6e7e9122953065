//! `exec`: the command, taken literally, and the runtime that it is guessed to be.

use super::Runtime;
use super::environment::is_variable;
use super::file::{Item, Text};
use super::report::Problems;
use super::value::Wrong;

/// Scripts that need a program to run them, and that program.
const SCRIPTS: [(&str, &str); 8] = [
    (".js", "node"),
    (".mjs", "node"),
    (".cjs", "node"),
    (".ts", "bun"),
    (".mts", "bun"),
    (".py", "python3"),
    (".rb", "ruby"),
    (".php", "php"),
];

fn script_runner(word: &str) -> Option<&'static str> {
    SCRIPTS.iter().find(|(ending, _)| word.ends_with(ending)).map(|(_, runner)| *runner)
}

/// `rooted`: relative paths have a directory to start from.
pub(super) fn read_exec(item: Option<Item<'_>>, rooted: bool, problems: &mut Problems) -> Option<Vec<String>> {
    let Some(item) = item else {
        problems
            .missing("exec is missing: what is to be run?", "add a line such as exec = \"node worker.js\" at the top");
        return None;
    };
    let words = if item.is_text() {
        let text = item.text(problems)?;
        let words = shlex::split(&text.text)
            .ok_or_else(|| {
                Wrong::new("a quote is not closed", "close it, or write an array: exec = [\"node\", \"worker.js\"]")
            })
            .and_then(|words| no_shell(&text.text, words));
        let words = item.check(problems, words)?;
        words.into_iter().map(|word| Text { text: word, span: item.span.clone() }).collect()
    } else {
        item.words(problems)?
    };
    for word in &words {
        if word.text.contains('\0') {
            problems.error(word.span.clone(), "exec: an argument contains a NUL character", "remove it");
            return None;
        }
    }
    let Some(program) = words.first().filter(|word| !word.text.trim().is_empty()) else {
        problems.error(item.span, "exec is empty: what is to be run?", "write a command such as \"node worker.js\"");
        return None;
    };
    let whole = words.iter().map(|word| word.text.clone()).collect::<Vec<String>>();
    if let (false, Some(runner)) = (program.text.contains('/'), script_runner(&program.text)) {
        problems.error(
            program.span.clone(),
            format!("`{}` is a script, not a program", program.text),
            format!("write exec = \"{runner} {}\"", whole.join(" ")),
        );
    } else if ["npm", "npx", "yarn", "pnpm"].contains(&file_name(&program.text)) {
        problems.error(
            program.span.clone(),
            format!("`{}` runs the app as its child, but it is itself what the router would talk to", program.text),
            "write what it runs (see \"scripts\" in package.json), such as exec = \"node worker.js\"",
        );
    } else if program.text.contains('/') && !program.text.starts_with('/') && !rooted {
        problems.error(
            program.span.clone(),
            format!("`{}` is relative, and no directory is given", program.text),
            "write the whole path, or add directory = \"/srv/app\"",
        );
    } else if let Some(script) = words.iter().skip(1).find(|word| !word.text.starts_with(['/', '-']))
        && !rooted
        && script_runner(&script.text).is_some()
    {
        problems.warn(
            script.span.clone(),
            format!("`{}` is relative, and no directory is given: units look for it in /", script.text),
            "add directory = \"/srv/app\", or write the whole path",
        );
    }
    Some(whole)
}

/// Refuses what only a shell could do with the words of a string.
fn no_shell(text: &str, words: Vec<String>) -> Result<Vec<String>, Wrong> {
    let operators = ["&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"];
    let found = words.iter().find(|word| operators.contains(&word.as_str()));
    match found {
        Some(operator) => Err(Wrong::new(
            format!("no shell reads this, `{operator}` would be an argument of the program"),
            format!("if a shell is wanted, write exec = [\"/bin/sh\", \"-c\", {:?}]", text),
        )),
        None => match words.first() {
            Some(first) if first.split_once('=').is_some_and(|(key, _)| is_variable(key)) => {
                let (key, value) = first.split_once('=').unwrap_or_default();
                Err(Wrong::new(
                    format!("no shell reads this, `{first}` would be the program"),
                    format!("put the variable under [environment]: {key} = \"{value}\""),
                ))
            }
            _ => Ok(words),
        },
    }
}

fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

pub(super) fn guess_runtime(exec: &[String]) -> Runtime {
    match program(exec) {
        Some("bun" | "bunx") => Runtime::Bun,
        Some("deno") => Runtime::Deno,
        _ => Runtime::Node,
    }
}

fn program(exec: &[String]) -> Option<&str> {
    exec.iter().map(|word| file_name(word)).find(|word| *word != "env" && !word.starts_with('-'))
}

/// Programs, with or without a version behind their names, that certainly do not speak Node's channel.
const OTHERS: [&str; 17] = [
    "python",
    "uvicorn",
    "gunicorn",
    "hypercorn",
    "daphne",
    "granian",
    "ruby",
    "puma",
    "falcon",
    "bundle",
    "php",
    "perl",
    "java",
    "dotnet",
    "go",
    "elixir",
    "beam.smp",
];

/// Nobody can tell from such a program where it listens.
pub(super) fn speaks_no_channel(exec: &[String]) -> Option<&str> {
    let program = program(exec)?;
    let plain = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    OTHERS.contains(&plain).then_some(program)
}
