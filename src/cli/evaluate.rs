//! `ecosystem.config.js`: evaluated once, by the machine's own Node, in a child with limits.
//!
//! Whoever may write such a file would run as whoever reads it. So for root it runs as the file's owner, and a file of
//! root's that others may write is refused.

use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid, User};
use serde_json::Value;

use super::exit::Failure;
use super::print::Printer;
use crate::system::process::{pidfd, readable_within};

/// How long it may take. PM2's own limit is a second, for JSON alone.
const LIMIT: Duration = Duration::from_secs(10);
/// For the end of what it printed, once it has ended.
const REST: Duration = Duration::from_secs(2);
/// The most that it may print, on either stream, bytes.
const OUTPUT_MAX: u64 = 1 << 20;
/// Of what it printed on standard error, lines that are shown.
const LINES: usize = 20;

/// Prints what the file exports behind a mark, whatever else it prints. `process.argv`: path, mark.
const EVALUATE: &str = r#"
"use strict";
const need = require;
// Of -e alone, and global: a module would take them for its own.
for (const name of ["module", "exports", "require", "__filename", "__dirname"]) delete globalThis[name];
const [, path, mark] = process.argv;
const { Console } = need("console");
globalThis.console = new Console(process.stderr, process.stderr);
const Module = need("module");
async function load() {
  const url = need("url").pathToFileURL(path).href;
  if (path.endsWith(".mjs")) return import(url);
  try {
    return need(path);
  } catch (error) {
    const module = ["ERR_REQUIRE_ESM", "ERR_REQUIRE_ASYNC_MODULE"].includes(error && error.code);
    const old = /(module|require|exports|__dirname|__filename) is not defined in ES module scope/;
    if (!module && !old.test(error && error.message)) throw error;
    if (module) {
      try {
        return await import(url);
      } catch (error) {
        if (!old.test(error && error.message)) throw error;
      }
    }
    // CommonJS in a package of "type": "module".
    const script = new Module(path, null);
    script.filename = path;
    script.paths = Module._nodeModulePaths(need("path").dirname(path));
    script._compile(need("fs").readFileSync(path, "utf8"), path);
    return script.exports;
  }
}
load().then(async (loaded) => {
  let value = loaded && loaded.default !== undefined && (loaded.__esModule || loaded[Symbol.toStringTag] === "Module")
    ? loaded.default : loaded;
  if (typeof value === "function") throw new Error("it exports a function; PM2 does not call it either: export an object");
  value = await value;
  const lost = [];
  const text = JSON.stringify(value, function (key, value) {
    if (typeof value === "function" || typeof value === "symbol" || value instanceof RegExp) { lost.push(key); return undefined; }
    return typeof value === "bigint" ? value.toString() : value;
  });
  if (text === undefined) throw new Error("it exports nothing: write module.exports = { apps: [ … ] }");
  process.stdout.write("\n" + mark + JSON.stringify({ value: JSON.parse(text), lost }) + "\n", () => process.exit(0));
}).catch((error) => {
  process.stderr.write((error && error.stack || String(error)) + "\n", () => process.exit(1));
});
"#;

/// What a file exports. What has no counterpart in JSON is told and left out.
pub(super) fn evaluate(path: &Path, printer: &Printer) -> Result<Value, Failure> {
    let metadata =
        std::fs::metadata(path).map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))?;
    let node = super::script::find_program("node").ok_or_else(|| {
        Failure::failed(format!(
            "{} is a program for Node, and there is no node in your PATH\n\
             Install Node.js; or write the apps as JSON or YAML.",
            path.display()
        ))
    })?;
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| Failure::failed(format!("no random numbers: {error}")))?;
    let mark: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = Command::new(&node);
    command.args(["-e", EVALUATE, "--"]).arg(path).arg(&mark).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(directory) = path.parent().filter(|_| std::env::current_dir().is_err()) {
        command.current_dir(directory);
    }
    become_owner(&mut command, path, metadata.uid(), metadata.gid())?;
    let child = command.spawn().map_err(|error| Failure::failed(format!("cannot run {}: {error}", node.display())))?;
    let said = hear(child).map_err(|error| Failure::failed(format!("cannot evaluate {}: {error}", path.display())))?;
    // Node's own frames, and ours, are nobody's mistake.
    let is_foreign = |line: &str| {
        let line = line.trim_start();
        line.starts_with("at ") && ["node:", "[eval]", "<anonymous>"].iter().any(|part| line.contains(part))
            || line.starts_with("Node.js v")
    };
    let lines = said.error.lines().filter(|line| !is_foreign(line) && !line.trim().is_empty());
    let shown: Vec<&str> = lines.take(LINES).collect();
    if said.late {
        return Err(Failure::failed(format!(
            "{} was still running after {} s, and was ended: it must only export its apps\n{}",
            path.display(),
            LIMIT.as_secs(),
            shown.join("\n")
        )));
    }
    let answer = said.output.lines().rev().find_map(|line| line.strip_prefix(&mark));
    let Some(answer) = answer.filter(|_| said.success) else {
        let why = if said.error.trim().is_empty() { "it ended without a word".to_owned() } else { shown.join("\n") };
        return Err(Failure::failed(format!("{} cannot be evaluated by {}:\n{why}", path.display(), node.display())));
    };
    for line in shown {
        printer.note(&format!("  | {line}"));
    }
    let mut answer: Value = serde_json::from_str(answer).map_err(|error| {
        Failure::failed(format!("{}: what it exports is too long, or no JSON: {error}", path.display()))
    })?;
    for key in answer["lost"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        printer.note(&format!(
            "{key}: a function or regular expression, which PM2 loses on the way to its daemon; left out"
        ));
    }
    Ok(answer["value"].take())
}

/// Root evaluates nothing that somebody else could have written: it becomes the file's owner first.
fn become_owner(command: &mut Command, path: &Path, uid: u32, gid: u32) -> Result<(), Failure> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    if uid == 0 {
        let writable = [Some(path), path.parent()].into_iter().flatten().find(|path| {
            // In a directory with the sticky bit nobody replaces another's file.
            std::fs::metadata(path).is_ok_and(|it| {
                let mode = it.permissions().mode();
                mode & 0o002 != 0 && !(it.is_dir() && mode & 0o1000 != 0)
            })
        });
        return match writable {
            Some(open) => Err(Failure::failed(format!(
                "{} would be run as root, and everybody may write {}\n\
                 Take that right away (chmod o-w), or give the file to the app's user (chown), as whom it is run then.",
                path.display(),
                open.display()
            ))),
            None => Ok(()),
        };
    }
    let user = User::from_uid(uid.into()).ok().flatten();
    command.uid(uid).gid(user.as_ref().map_or(gid, |user| user.gid.as_raw()));
    // Root's own variables are none of his business.
    command.env_clear();
    for name in ["PATH", "LANG", "LC_ALL", "TZ", "NODE_ENV"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(user) = user {
        command.env("HOME", &user.dir).env("USER", &user.name).env("LOGNAME", &user.name);
    }
    Ok(())
}

struct Said {
    output: String,
    error: String,
    success: bool,
    late: bool,
}

/// Waits for the child, at most [`LIMIT`]; then all that it started is killed.
fn hear(mut child: Child) -> io::Result<Said> {
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    let read = |stream: Option<Box<dyn Read + Send>>| {
        let (give, take) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let result = stream.map(|stream| stream.take(OUTPUT_MAX).read_to_end(&mut bytes)).unwrap_or(Ok(0));
            // Nobody hears it who has given up.
            let _ = give.send(result.map(|_| String::from_utf8_lossy(&bytes).into_owned()));
        });
        take
    };
    let output = read(child.stdout.take().map(|it| Box::new(it) as _));
    let error = read(child.stderr.take().map(|it| Box::new(it) as _));
    // It is our child, and stays there until it is waited for.
    let late = match pidfd(group.as_raw()).and_then(|pidfd| readable_within(&pidfd, LIMIT)) {
        Ok(ended) => !ended,
        Err(error) => {
            let _ = killpg(group, Signal::SIGKILL);
            let _ = child.wait();
            return Err(error);
        }
    };
    // With whatever it left behind, which holds the pipes open.
    let _ = killpg(group, Signal::SIGKILL);
    let status = child.wait()?;
    let heard = |take: mpsc::Receiver<io::Result<String>>| {
        take.recv_timeout(REST)
            .unwrap_or_else(|_| Err(io::Error::other("a process that it has started holds its output open")))
    };
    Ok(Said { output: heard(output)?, error: heard(error)?, success: status.success(), late })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `None`: there is no Node here.
    fn of(name: &str, text: &str, beside: &[(&str, &str)]) -> Option<Result<Value, String>> {
        if super::super::script::find_program("node").is_none() {
            println!("skipped: there is no node");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        // Under root it is nobody else's.
        for (name, text) in [(name, text)].iter().chain(beside) {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let printer = Printer::new(false, true);
        Some(evaluate(&directory.path().join(name), &printer).map_err(|failure| failure.to_string()))
    }

    #[test]
    fn every_way_to_export() {
        const MODULE: (&str, &str) = ("package.json", r#"{"type": "module"}"#);
        let apps = json!({"apps": [{"script": "a.js"}]});
        let (old, new) =
            ("module.exports = { apps: [{ script: 'a.js' }] }", "export default { apps: [{ script: 'a.js' }] }");
        for (name, text, beside) in [
            ("a.config.js", old, &[][..]),
            ("a.config.cjs", old, &[MODULE]),
            ("a.config.js", old, &[MODULE]),
            ("a.config.js", new, &[MODULE]),
            ("a.config.mjs", new, &[]),
            ("a.config.mjs", "export const apps = [{ script: 'a.js' }]", &[]),
            (
                "a.config.js",
                "console.log('{}'); process.stdout.write('x'); module.exports = Promise.resolve({ apps: [{ script: require('./b').b }] })",
                &[("b.js", "exports.b = 'a.js'")],
            ),
            (
                "a.config.js",
                "module.exports = { apps: [{ script: 'a.js', f() {}, r: /x/ }] }; setInterval(() => {}, 1000)",
                &[],
            ),
        ] {
            let Some(value) = of(name, text, beside) else { return };
            assert_eq!(value, Ok(apps.clone()), "{name}: {text}");
        }
    }

    #[test]
    fn what_goes_wrong_is_told() {
        for (text, said) in [
            ("throw new Error('no database')", "no database"),
            ("module.exports = {", "SyntaxError"),
            ("module.exports = require('not-there')", "not-there"),
            ("module.exports = () => ({})", "a function"),
            ("module.exports = undefined", "nothing"),
            ("process.exit(0)", "without a word"),
        ] {
            let Some(value) = of("a.config.js", text, &[]) else { return };
            let error = value.unwrap_err();
            assert!(error.contains(said) && error.contains("a.config.js"), "{text}: {error}");
            assert!(!error.contains("node:internal"), "{error}");
        }
    }
}
