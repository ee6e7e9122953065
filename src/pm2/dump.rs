//! What a running PM2 saved (`dump.pm2`): one entry an instance, configuration, state and environment in one. Folded into
//! entries as a file would have them.

use serde_json::{Map, Value};

use super::Machine;
use super::keys::find;

/// Variables of a login or of PM2 itself, which no app is configured by.
const OF_THE_SESSION: [&str; 30] = [
    "_",
    "COLORTERM",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "EDITOR",
    "HISTCONTROL",
    "HOME",
    "HOSTNAME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LESSCLOSE",
    "LESSOPEN",
    "LOGNAME",
    "LS_COLORS",
    "MAIL",
    "MOTD_SHOWN",
    "OLDPWD",
    "PAGER",
    "PATH",
    "PWD",
    "PYTHONUNBUFFERED",
    "SHELL",
    "SHLVL",
    "SYSTEMD_EXEC_PID",
    "TERM",
    "USER",
    "USERNAME",
    "WINDOWID",
    "XAUTHORITY",
    "unique_id",
];
const BEGINNINGS: [&str; 10] = ["PM2_", "SSH_", "SUDO_", "XDG_", "LC_", "npm_", "NVM_", "VSCODE_", "TERM_", "pm2_"];

/// What PM2 writes for everybody.
fn is_default(key: &str, value: &Value) -> bool {
    match key {
        "vizion" | "pmx" | "automation" | "treekill" | "windowsHide" | "autostart" | "autorestart" => value == true,
        "kill_retry_time" | "username" | "merge_logs" | "exec_mode" | "cwd" | "script" | "instances" | "env" => true,
        "namespace" => value == "default",
        "instance_var" => value == "NODE_APP_INSTANCE",
        "node_args" | "args" => value.as_array().is_some_and(Vec::is_empty),
        "watch" => value == false,
        _ => value.is_null(),
    }
}

/// An app, and the variables of its environment that were left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    pub entry: Map<String, Value>,
    pub left_out: Vec<String>,
}

/// The apps of a dump, in its order. `Err`: it is no dump.
pub fn apps(dump: &Value, machine: &dyn Machine) -> Result<Vec<Saved>, String> {
    let entries = dump.as_array().ok_or("it is not a list of processes")?;
    let mut apps: Vec<(Saved, u64)> = Vec::new();
    for entry in entries {
        let entry = entry.as_object().ok_or("it is not a list of processes")?;
        let name = entry.get("name").and_then(Value::as_str).ok_or("a process has no name")?;
        if entry.get("pmx_module").is_some_and(|it| *it == true) {
            continue;
        }
        match apps.iter_mut().find(|(saved, _)| saved.entry.get("name").is_some_and(|it| it == name)) {
            Some((_, instances)) => *instances += 1,
            None => apps.push((one(name, entry, machine), 1)),
        }
    }
    let folded = apps.into_iter().map(|(mut saved, instances)| {
        if instances > 1 {
            saved.entry.insert("instances".to_owned(), instances.into());
        }
        saved
    });
    Ok(folded.collect())
}

fn one(name: &str, process: &Map<String, Value>, machine: &dyn Machine) -> Saved {
    let mut entry: Map<String, Value> = process
        .iter()
        .filter(|(key, _)| find(key).is_some_and(|known| known.name == *key || known.name == "env_*"))
        .filter(|(key, value)| !is_default(key, value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (key, theirs) in [("script", "pm_exec_path"), ("cwd", "pm_cwd")] {
        if let Some(value) = process.get(theirs) {
            entry.insert(key.to_owned(), value.clone());
        }
    }
    unwrap_shell(&mut entry);
    let user = process.get("username").and_then(Value::as_str).filter(|user| *user != "root");
    if let (Some(user), None) = (user, entry.get("uid")) {
        entry.insert("uid".to_owned(), user.into());
    }
    if process.get("status").is_some_and(|status| status == "stopped") {
        entry.insert("autostart".to_owned(), false.into());
    }
    let mut left_out = Vec::new();
    let mut variables = Map::new();
    for (variable, value) in process.get("env").and_then(Value::as_object).into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let session = OF_THE_SESSION.contains(&variable.as_str())
            || BEGINNINGS.iter().any(|beginning| variable.starts_with(beginning));
        // PM2 leaves an empty one of the app's own name.
        if variable == name || value.is_object() {
            continue;
        }
        // What is in everybody's shell came from there.
        if session || (variable != "NODE_ENV" && machine.variable(variable).as_ref() == Some(&text)) {
            left_out.push(variable.clone());
        } else {
            variables.insert(variable.clone(), value.clone());
        }
    }
    if !variables.is_empty() {
        entry.insert("env".to_owned(), variables.into());
    }
    Saved { entry, left_out }
}

/// `bash -c LINE` was written as LINE.
fn unwrap_shell(entry: &mut Map<String, Value>) {
    let shell =
        entry.get("script").and_then(Value::as_str).is_some_and(|it| it.ends_with("/bash") || it.ends_with("/sh"));
    let line = entry.get("args").and_then(Value::as_array).and_then(|args| match args.as_slice() {
        [flag, Value::String(line)] if flag == "-c" && line.contains(' ') => Some(line.clone()),
        _ => None,
    });
    if let (true, Some(line)) = (shell, line) {
        entry.remove("args");
        entry.remove("exec_interpreter");
        entry.insert("script".to_owned(), line.into());
    }
}
