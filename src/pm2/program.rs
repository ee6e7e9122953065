//! What an entry runs: script, interpreter and arguments as one command with whole paths.

use std::path::{Component, Path, PathBuf};

use super::Machine;
use super::values::split;

/// What the router has to know of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It takes Node's channel (Node, Bun, Deno).
    Channel,
    Other,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) exec: Vec<String>,
    pub(super) kind: Kind,
    /// The file whose owner the workers run as, and that is looked into.
    pub(super) script: PathBuf,
    /// What was done that the entry does not say.
    pub(super) notes: Vec<String>,
}

/// What the entry says.
pub(super) struct Wanted<'a> {
    pub(super) script: &'a str,
    pub(super) interpreter: Option<&'a str>,
    pub(super) node_args: Vec<String>,
    pub(super) args: Vec<String>,
    pub(super) directory: &'a Path,
    /// By flags: then what is no known script is run as it is.
    pub(super) typed: bool,
}

/// Programs for scripts, by their ending.
fn by_ending(script: &Path, typed: bool) -> Option<&'static str> {
    Some(match script.extension()?.to_str()? {
        "js" | "mjs" | "cjs" => "node",
        "mts" if !typed => "node",
        "ts" | "mts" | "tsx" => "bun",
        "py" => "python3",
        "rb" => "ruby",
        "php" => "php",
        "sh" => "bash",
        "pl" => "perl",
        "coffee" if !typed => "coffee",
        "ls" if !typed => "lsc",
        _ => return None,
    })
}

/// Those that run a line of a package.json.
const LAUNCHERS: [&str; 5] = ["npm", "npx", "yarn", "pnpm", "pnpx"];

/// Whether a word is one of them.
pub fn is_launcher(word: &str) -> bool {
    LAUNCHERS.contains(&word)
}

/// Without `.` and `..`, as Node's path.resolve() does it.
pub(super) fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                tidy.pop();
            }
            Component::CurDir => {}
            other => tidy.push(other),
        }
    }
    tidy
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{}: its path is not UTF-8", path.display()))
}

/// `Err`: what is wrong and what to do.
pub(super) fn program(wanted: &Wanted<'_>, machine: &dyn Machine) -> Result<Program, String> {
    if wanted.script.contains(' ') && !wanted.typed {
        return line(wanted.script, wanted.directory, machine);
    }
    let beside = tidy(&wanted.directory.join(wanted.script));
    let script = if wanted.typed || machine.is_file(&beside) {
        beside
    } else if let Some(found) = (!wanted.script.contains('/')).then(|| machine.find(wanted.script)).flatten() {
        found
    } else {
        return Err(format!("script: there is no {}, and no such program", beside.display()));
    };
    if let Some(program) = file_name(&script).filter(|name| !wanted.typed && LAUNCHERS.contains(name)) {
        return launched(program, &wanted.args, wanted.directory, machine);
    }
    let mut notes = Vec::new();
    let runner = match wanted.interpreter {
        Some("none") => None,
        Some(given) => Some(interpreter(given, machine, &mut notes)?),
        None => by_itself(&script, wanted.typed, machine).map(|name| search(name, machine)).transpose()?,
    };
    let mut exec = Vec::new();
    if let Some(runner) = &runner {
        exec.push(text(runner)?);
        exec.extend(wanted.node_args.iter().cloned());
    }
    exec.push(text(&script)?);
    exec.extend(wanted.args.iter().cloned());
    let kind = kind(runner.as_deref().unwrap_or(&script), machine);
    Ok(Program { exec, kind, script, notes })
}

/// The program for a script that names none.
fn by_itself(script: &Path, typed: bool, machine: &dyn Machine) -> Option<&'static str> {
    match by_ending(script, typed) {
        // As PM2: Node itself runs TypeScript by now.
        Some("bun") if !typed && machine.find("bun").is_none() => Some("node"),
        Some(known) => Some(known),
        None if typed => None,
        // PM2 runs everything else by Node, but for programs. A script that names its own interpreter has one.
        None => {
            let head = machine.read(script)?;
            let own = head.starts_with(b"#!") || head.contains(&0) || head.starts_with(b"\x7fELF");
            (!own).then_some("node")
        }
    }
}

/// A given interpreter as a whole path.
fn interpreter(given: &str, machine: &dyn Machine, notes: &mut Vec<String>) -> Result<PathBuf, String> {
    if let Some((name, version)) = given.split_once('@')
        && name == "node"
    {
        let root = machine.variable("NVM_DIR").map(PathBuf::from);
        let root = root.or_else(|| machine.variable("HOME").map(|home| Path::new(&home).join(".nvm")));
        let found = root.map(|root| root.join(format!("versions/node/v{version}/bin/node")));
        return match found {
            Some(path) if machine.is_file(&path) => {
                notes.push(format!("{given} is {}", path.display()));
                Ok(path)
            }
            _ => Err(format!(
                "interpreter: {given} is not installed by nvm: `nvm install {version}`, or write the path of that node"
            )),
        };
    }
    if given.starts_with('/') {
        return Ok(PathBuf::from(given));
    }
    search(given, machine)
}

fn search(name: &str, machine: &dyn Machine) -> Result<PathBuf, String> {
    let found = machine.find(name).or_else(|| match name {
        "python" => machine.find("python3"),
        _ => None,
    });
    found.ok_or_else(|| format!("{name} is not in your PATH: install it, or name another by --interpreter"))
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn kind(program: &Path, machine: &dyn Machine) -> Kind {
    let speaks = |name: &str| name.ends_with("node") || name.ends_with("bun") || ["nodejs", "deno"].contains(&name);
    if file_name(program).is_some_and(speaks) {
        return Kind::Channel;
    }
    // `#!/usr/bin/env node`
    let head = machine.read(program).unwrap_or_default();
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let shebang = first.starts_with(b"#!").then(|| String::from_utf8_lossy(&first[2..]).into_owned());
    let named = |line: String| {
        line.split_whitespace().any(|word| Path::new(word).file_name().and_then(|it| it.to_str()).is_some_and(speaks))
    };
    if shebang.is_some_and(named) { Kind::Channel } else { Kind::Other }
}

/// What only a shell understands.
fn needs_shell(line: &str) -> bool {
    line.contains([
        '&', '|', ';', '<', '>', '$', '`', '*', '?', '~', '(', ')', '{', '}', '[', ']', '#', '!', '\\', '\n',
    ]) || line.split_whitespace().next().is_some_and(|first| first.contains('='))
}

/// A script with blanks in it, which is a line of shell to PM2.
fn line(line: &str, directory: &Path, machine: &dyn Machine) -> Result<Program, String> {
    let words = if needs_shell(line) { None } else { shlex::split(line).filter(|words| !words.is_empty()) };
    if let Some((program, arguments)) = words.as_deref().and_then(<[String]>::split_first) {
        if LAUNCHERS.contains(&program.as_str()) {
            return launched(program, arguments, directory, machine);
        }
        let found = match program.contains('/') {
            true => Some(tidy(&directory.join(program))).filter(|path| machine.is_file(path)),
            false => machine.find(program),
        };
        if let Some(found) = found {
            let script = script_of(&found, arguments, directory, machine);
            let exec = [&[text(&found)?], arguments].concat();
            let note = "run directly: it needs no shell".to_owned();
            let words = words.iter().flatten().map(String::as_str);
            let kind = if evaluates(words) { Kind::Other } else { kind(&found, machine) };
            return Ok(Program { exec, kind, script, notes: vec![note] });
        }
    }
    let shell = machine.find("bash").or_else(|| machine.find("sh"));
    let shell = shell.ok_or("script: there is neither bash nor sh to run it")?;
    // Node under a shell finds the channel that the shell leaves alone.
    let node = line
        .split(|c: char| c.is_whitespace() || "&|;()".contains(c))
        .any(|word| Path::new(word).file_name().is_some_and(|name| name == "node" || name == "bun" || name == "deno"));
    let kind = if node && !evaluates(line.split_whitespace()) { Kind::Channel } else { Kind::Other };
    Ok(Program { exec: vec![text(&shell)?, "-c".to_owned(), line.to_owned()], kind, script: shell, notes: Vec::new() })
}

/// `node -e CODE`: without a script Node leaves the channel alone, so it is nobody's worker.
fn evaluates<'w>(words: impl Iterator<Item = &'w str>) -> bool {
    let mut after_node = false;
    for word in words {
        if after_node && ["-e", "--eval", "-p", "-pe", "--print"].contains(&word) {
            return true;
        }
        after_node =
            matches!(file_name(Path::new(word)), Some("node" | "bun")) || (after_node && word.starts_with('-'));
    }
    false
}

/// The first argument that is a file, else the program.
fn script_of(program: &Path, arguments: &[String], directory: &Path, machine: &dyn Machine) -> PathBuf {
    let files = arguments.iter().map(|word| tidy(&directory.join(word)));
    files.into_iter().find(|path| machine.is_file(path)).unwrap_or_else(|| program.to_owned())
}

/// What `npm start` and its like run: they are Node programs themselves, and would take the channel for their own.
fn launched(launcher: &str, args: &[String], directory: &Path, machine: &dyn Machine) -> Result<Program, String> {
    let said = format!("{launcher} {}", args.join(" "));
    let refuse = |why: &str| {
        format!(
            "script: `{}` cannot be a worker, {why}: write what it runs, such as script: \"server.js\"",
            said.trim_end()
        )
    };
    let mut words = args.iter().map(String::as_str).filter(|word| *word != "--silent" && *word != "-s");
    let (run, rest): (&str, Vec<&str>) = match (launcher, words.next()) {
        ("npx" | "pnpx", Some(tool)) => {
            let rest: Vec<String> = words.map(str::to_owned).collect();
            return tool_of(tool, &rest, directory, machine)?
                .ok_or_else(|| refuse("and that tool is not in node_modules"));
        }
        (_, Some("run" | "run-script")) => (words.next().unwrap_or_default(), words.collect()),
        (_, Some(name)) => (name, words.collect()),
        (_, None) => ("", Vec::new()),
    };
    let rest: Vec<String> = rest.into_iter().skip_while(|word| *word == "--").map(str::to_owned).collect();
    let package = directory.join("package.json");
    let text_of = machine.read(&package).ok_or_else(|| refuse("and there is no package.json beside it"))?;
    let parsed: serde_json::Value =
        serde_json::from_slice(&text_of).map_err(|error| format!("{}: {error}", package.display()))?;
    let line = parsed["scripts"][run].as_str();
    let line = line.ok_or_else(|| refuse(&format!("and {} has no script `{run}`", package.display())))?;
    if needs_shell(line) {
        return Err(refuse(&format!("and package.json's `{line}` needs a shell")));
    }
    let mut words = split(line);
    words.extend(rest);
    let (tool, arguments) = words.split_first().ok_or_else(|| refuse("and its line in package.json is empty"))?;
    if LAUNCHERS.contains(&tool.as_str()) {
        return Err(refuse(&format!("and package.json's `{line}` calls another of its kind")));
    }
    let found = match tool_of(tool, arguments, directory, machine)? {
        Some(found) => Some(found),
        None => match machine.find(tool) {
            Some(path) => {
                let script = script_of(&path, arguments, directory, machine);
                let exec = [&[text(&path)?], arguments].concat();
                Some(Program { exec, kind: kind(&path, machine), script, notes: Vec::new() })
            }
            None => None,
        },
    };
    let mut program = found.ok_or_else(|| refuse(&format!("and there is no program {tool}")))?;
    program.notes.push(format!("`{}` is `{line}` in package.json", said.trim_end()));
    if ["pre", "post"].iter().any(|when| parsed["scripts"][format!("{when}{run}")].is_string()) {
        program.notes.push(format!("pre{run} and post{run} of package.json are not run: do it before the start"));
    }
    Ok(program)
}

/// A program of the package's own tools.
fn tool_of(
    tool: &str,
    arguments: &[String],
    directory: &Path,
    machine: &dyn Machine,
) -> Result<Option<Program>, String> {
    let path = directory.join("node_modules/.bin").join(tool);
    if tool.contains('/') || !machine.is_file(&path) {
        return Ok(None);
    }
    let script = script_of(&path, arguments, directory, machine);
    let exec = [&[text(&path)?], arguments].concat();
    Ok(Some(Program { exec, kind: kind(&path, machine), script, notes: Vec::new() }))
}
