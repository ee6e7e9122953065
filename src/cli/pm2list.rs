//! `appctl jlist`, `appctl prettylist`, `appctl id` and `appctl pid`: the workers in the shape that scripts know from PM2.
//!
//! A `pm_id` is the worker's number in the list ([`ids`]). A new worker that takes over an index takes over the id; the one
//! that it replaces is `_old_ID` until it is gone, as with PM2. No environment is in it: what an app is told may be secret,
//! `appctl env` shows it to those who may see it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Map, Value, json};

use super::counted::{self, Counted};
use super::exit::{DONE, Failure, NOT_RUNNING};
use super::ids;
use super::look::{AppNow, UnitNow};
use super::names::{Asked, Target};
use super::print::Printer;
use super::selector;
use crate::config::{App, Runtime, Scope};

/// Flags of Node's whose value is the next word.
const WITH_VALUE: [&str; 9] =
    ["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file", "-m"];
/// Programs that run a script.
const INTERPRETERS: [&str; 9] = ["node", "bun", "deno", "python", "python3", "ruby", "php", "perl", "bash"];

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps, `all` or /regex/; none means all
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Targets {
    /// NAME, NAME@SLOT, an id, `all` or /regex/; none means all
    targets: Vec<String>,
}

/// The processes as PM2 lists them. `now`: since 1970.
pub(super) fn shape(apps: &[AppNow], counted: impl Fn(&AppNow) -> Counted, now: Duration) -> Vec<Value> {
    let mut list = Vec::new();
    for app in apps {
        let counted = counted(app);
        let mut workers: Vec<_> = app.workers.iter().zip(ids::indices(&app.workers)).collect();
        // By their ids; who is being replaced after his heir.
        workers.sort_by_key(|(worker, index)| (*index, worker.id.is_none()));
        for (worker, index) in workers {
            list.push(process(app, worker, (index, counted.of(index)), now));
        }
    }
    list
}

/// The id of a worker, or of the one that replaces it.
fn pm_id(app: &AppNow, worker: &UnitNow) -> Value {
    let heir = || app.workers.iter().filter(|other| other.index == worker.index).find_map(|other| other.id);
    worker.id.map_or_else(|| heir().map_or(Value::Null, |id| json!(format!("_old_{id}"))), |id| json!(id))
}

fn process(app: &AppNow, worker: &UnitNow, (index, on_purpose): (u32, u32), now: Duration) -> Value {
    let id = pm_id(app, worker);
    let began = worker.uptime_seconds.map(|uptime| now.saturating_sub(Duration::from_secs(uptime)).as_millis() as u64);
    let mut env = Map::new();
    let mut set = |key: &str, value: Value| env.insert(key.to_owned(), value);
    set("name", json!(app.name));
    set("namespace", json!("default"));
    set("pm_id", json!(id));
    set("status", json!(status(&worker.state, worker.pid)));
    set("restart_time", json!(worker.restarts.unwrap_or_default().saturating_add(on_purpose)));
    set("unstable_restarts", json!(0));
    set("pm_uptime", json!(began));
    set("created_at", json!(began));
    set("instances", json!(app.workers_wanted));
    let variable = app.app.as_ref().and_then(|app| app.numbering.index.as_deref()).unwrap_or("NODE_APP_INSTANCE");
    set(variable, json!(index));
    if let Some(settings) = &app.app {
        described(settings, &mut set);
    }
    for (key, value) in super::shown::axm(worker) {
        set(key, value);
    }
    set("unit", json!(worker.unit));
    set("slot", json!(worker.slot));
    set("scope", json!(app.scope));
    json!({
        "pid": worker.pid.unwrap_or_default(),
        "name": app.name,
        "pm2_env": env,
        "pm_id": id,
        "monit": {
            "memory": worker.memory_bytes.unwrap_or_default(),
            "cpu": worker.cpu_percent.unwrap_or_default(),
        },
    })
}

/// What the app's file says, in PM2's words.
fn described(app: &App, set: &mut impl FnMut(&str, Value) -> Option<Value>) {
    let milliseconds = |span: Duration| json!(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let directory = app.directory.as_deref();
    let Parts { interpreter, interpreter_args, script, args } = parts(&app.exec);
    let path = directory.map_or_else(|| Path::new(&script).to_owned(), |directory| directory.join(&script));
    let clustered = !matches!(app.runtime, Runtime::Socket | Runtime::Port | Runtime::None);
    set("exec_mode", json!(if clustered { "cluster_mode" } else { "fork_mode" }));
    set("pm_exec_path", json!(path));
    set("pm_cwd", json!(directory));
    set("exec_interpreter", json!(interpreter));
    set("node_args", json!(interpreter_args));
    set("args", json!(args));
    set("username", json!(app.user.as_ref().unwrap_or(&app.name)));
    set("autorestart", json!(app.restart.policy != "no"));
    set("autostart", json!(app.start != crate::config::Start::Manual));
    set("watch", json!(app.watch.is_some()));
    set("kill_timeout", milliseconds(app.stop.timeout));
    set("listen_timeout", milliseconds(app.ready_timeout));
    set("restart_delay", milliseconds(app.restart.delay));
    set("max_restarts", json!(app.restart.limit));
    set("max_memory_restart", json!(app.limits.memory_reload));
    set("vizion", json!(false));
}

struct Parts {
    interpreter: String,
    interpreter_args: Vec<String>,
    script: String,
    args: Vec<String>,
}

/// A command, taken apart: `node --flag worker.js argument`.
fn parts(exec: &[String]) -> Parts {
    let (program, words) = exec.split_first().map_or(("", exec), |(first, rest)| (first.as_str(), rest));
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let bare =
        |at: &usize| !words[*at].starts_with('-') && (*at == 0 || !WITH_VALUE.contains(&words[*at - 1].as_str()));
    let script = (0..words.len()).find(bare).filter(|_| INTERPRETERS.contains(&name.as_ref()));
    match script {
        Some(at) => Parts {
            interpreter: program.to_owned(),
            interpreter_args: words[..at].to_vec(),
            script: words[at].clone(),
            args: words[at + 1..].to_vec(),
        },
        None => Parts {
            interpreter: "none".to_owned(),
            interpreter_args: Vec::new(),
            script: program.to_owned(),
            args: words.to_vec(),
        },
    }
}

/// PM2's word for a state.
fn status(state: &str, pid: Option<u32>) -> &'static str {
    match state.split(' ').next().unwrap_or_default() {
        "ready" | "running" | "on" => "online",
        "starting" => "launching",
        "draining" | "stopping" => "stopping",
        "restarting" => "waiting restart",
        "failed" => "errored",
        _ if pid.is_some() => "online",
        _ => "stopped",
    }
}

async fn looked_at(words: &[String], asked: Asked) -> Result<Vec<Value>, Failure> {
    let apps = ids::look(&selector::wanted(words, asked).await?, asked).await?;
    let counted =
        |app: &AppNow| counted::read(if app.is_of(Scope::User) { Scope::User } else { Scope::System }, &app.name);
    Ok(shape(&apps, counted, SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()))
}

/// `appctl jlist`: one line of JSON, and nothing else.
pub(super) async fn jlist(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    printer.data(&Value::Array(looked_at(&arguments.names, asked).await?).to_string());
    Ok(DONE)
}

/// `appctl prettylist`: the same as Node's `util.inspect` writes it.
pub(super) async fn prettylist(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    printer.data(&inspect(&Value::Array(looked_at(&arguments.names, asked).await?), 0));
    Ok(DONE)
}

/// The units that words mean, of the apps that they are of; all workers of an app that is meant as a whole.
async fn workers(words: &[String], asked: Asked, printer: &Printer) -> Result<Vec<UnitNow>, Failure> {
    let targets = if words.is_empty() { Vec::new() } else { selector::targets(words, asked).await? };
    ids::tell(words, &targets, asked, printer);
    let meant = |app: &AppNow, worker: &UnitNow| {
        targets.is_empty()
            || targets.iter().filter(|(scope, target)| app.is_of(*scope) && target.app() == app.name).any(
                |(_, target)| match target {
                    Target::App(_) => true,
                    Target::Worker { slot, .. } => worker.slot.as_ref() == Some(slot),
                },
            )
    };
    let apps = ids::look(&selector::wanted(words, asked).await?, asked).await?;
    let workers = apps.iter().flat_map(|app| app.workers.iter().filter(|worker| meant(app, worker)));
    Ok(workers.cloned().collect())
}

/// `appctl pid [NAME]`: the process ids of the workers, a line each; nothing of one that does not run, and 3 if none does.
pub(super) async fn pid(arguments: &Targets, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let found = workers(&arguments.targets, asked, printer).await?;
    let pids: Vec<u32> = found.iter().filter_map(|worker| worker.pid).collect();
    if printer.json {
        printer.json(&pids);
    } else {
        pids.iter().for_each(|pid| printer.data(&pid.to_string()));
    }
    if pids.is_empty() && !found.is_empty() {
        return Ok(NOT_RUNNING);
    }
    Ok(DONE)
}

/// `appctl id NAME`: the workers' ids, as PM2 prints them.
pub(super) async fn id(arguments: &Targets, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let found = workers(&arguments.targets, asked, printer).await?;
    let ids: Vec<u32> = found.iter().filter_map(|worker| worker.id).collect();
    if printer.json {
        printer.json(&ids);
    } else {
        printer.data(&inspect(&json!(ids), 0));
    }
    Ok(DONE)
}

/// A value as Node's `util.inspect` writes it: every member of an object in a line of its own, short arrays in one.
fn inspect(value: &Value, depth: usize) -> String {
    let pad = "  ".repeat(depth + 1);
    let end = "  ".repeat(depth);
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            let items: Vec<String> = items.iter().map(|item| inspect(item, depth)).collect();
            format!("[ {} ]", items.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| format!("{pad}{}", inspect(item, depth + 1))).collect();
            format!("[\n{}\n{end}]", items.join(",\n"))
        }
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| format!("{pad}{}: {}", name(key), inspect(value, depth + 1));
            format!("{{\n{}\n{end}}}", members.iter().map(member).collect::<Vec<_>>().join(",\n"))
        }
        other => other.to_string(),
    }
}

fn name(key: &str) -> String {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if plain && !key.starts_with(|c: char| c.is_ascii_digit()) { key.to_owned() } else { quoted(key) }
}

fn quoted(text: &str) -> String {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(mark);
    for character in text.chars() {
        match character {
            '\n' => quoted.push_str("\\n"),
            '\\' => quoted.push_str("\\\\"),
            it if it == mark => quoted.extend(['\\', it]),
            it => quoted.push(it),
        }
    }
    quoted.push(mark);
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::shop;
    use super::*;
    use crate::config::{Scope, parse};

    fn described_shop() -> AppNow {
        let text = "exec = 'node --import ./x.mjs worker.js --port 1'\ndirectory = '/srv/shop'\nuser = 'deploy'\nlisten = 80\n";
        let app = parse("shop", Path::new("/etc/appctl/shop.toml"), text, Scope::System).app;
        AppNow { app, ..shop() }
    }

    #[test]
    fn the_shape_of_jlist() {
        let list = shape(&[described_shop()], |_| Counted::default(), Duration::from_secs(1000));
        let (first, second) = (&list[0], &list[1]);
        assert_eq!((&first["pid"], &first["name"]), (&json!(101), &json!("shop")));
        assert_eq!(first["monit"], json!({ "memory": 50 << 20, "cpu": 103.0 }));
        let env = &first["pm2_env"];
        for (key, value) in [
            ("status", json!("online")),
            ("restart_time", json!(2)),
            ("pm_uptime", json!(935_000)),
            ("instances", json!(2)),
            ("exec_mode", json!("cluster_mode")),
            ("pm_exec_path", json!("/srv/shop/worker.js")),
            ("pm_cwd", json!("/srv/shop")),
            ("exec_interpreter", json!("node")),
            ("node_args", json!(["--import", "./x.mjs"])),
            ("args", json!(["--port", "1"])),
            ("username", json!("deploy")),
            ("NODE_APP_INSTANCE", json!(0)),
            ("unit", json!("shop@1.service")),
        ] {
            assert_eq!(env[key], value, "{key}");
        }
        assert_eq!(first["pm_id"], env["pm_id"]);
        assert_eq!((&second["pid"], &second["pm2_env"]["status"]), (&json!(0), &json!("errored")));
        assert_eq!(second["pm2_env"]["NODE_APP_INSTANCE"], 1, "the index that is free");
    }

    #[test]
    fn who_is_being_replaced_has_the_id_of_his_heir() {
        let mut app = described_shop();
        (app.workers[0].id, app.workers[1].id) = (Some(4), None);
        app.workers[1].index = app.workers[0].index;
        let list = shape(&[app], |_| Counted::default(), Duration::from_secs(1000));
        assert_eq!((&list[0]["pm_id"], &list[1]["pm_id"]), (&json!(4), &json!("_old_4")));
    }

    #[test]
    fn a_program_without_interpreter() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let binary = parts(&words("/srv/chat/serve --port 80"));
        assert_eq!((binary.interpreter.as_str(), binary.script.as_str()), ("none", "/srv/chat/serve"));
        let python = parts(&words("/usr/bin/python3 -u app.py x"));
        assert_eq!((python.script.as_str(), python.interpreter_args, python.args), ("app.py", words("-u"), words("x")));
    }

    #[test]
    fn as_node_would_inspect_it() {
        let value = json!([{ "name": "it's", "pid": 7, "list": [1, "a"], "none": null, "a-b": {} }]);
        assert_eq!(
            inspect(&value, 0),
            "[\n  {\n    'a-b': {},\n    list: [ 1, 'a' ],\n    name: \"it's\",\n    none: null,\n    pid: 7\n  }\n]"
        );
        assert_eq!(inspect(&json!([0, 1]), 0), "[ 0, 1 ]");
    }
}
