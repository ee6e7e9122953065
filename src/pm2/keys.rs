//! The one table of PM2's keys: what each becomes here, or why it becomes nothing. The importer, its report, the flags of
//! `appctl start` and the migration guide read it.

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// These keys of `NAME.toml`.
    Becomes(&'static str),
    /// Nothing: what it is for is so without it.
    Needless,
    /// Nothing: there is no counterpart.
    Refused,
}

/// One key of an app.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As PM2's documentation writes it; camelCase is known as well.
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// Of `appctl start SCRIPT`; empty: there is none.
    pub flag: &'static str,
    /// A value as JSON.
    pub example: &'static str,
    pub fate: Fate,
    /// How it differs, or why there is nothing.
    pub note: &'static str,
}

const fn key(
    name: &'static str,
    aliases: &'static [&'static str],
    flag: &'static str,
    example: &'static str,
    fate: Fate,
    note: &'static str,
) -> Key {
    Key { name, aliases, flag, example, fate, note }
}

use Fate::{Becomes, Needless, Refused};

const JOURNAL: &str =
    "the journal has every line of every worker with its time: `appctl logs NAME`, `-o json` of journalctl";
/// Where the lines are that PM2 writes into files.
pub const LOG_FILE: &str = "the journal has it: `journalctl -u 'NAME@*'`, -f to follow, -p err for errors; for a file instead, write service.StandardOutput = \"append:/PATH\" into NAME.toml";
const APM: &str = "it is for PM2 Plus or its agent in the app, which are not there";

/// In the order of PM2's own documentation: what runs, how many, its environment, its ends, its files.
pub const KEYS: &[Key] = &[
    key(
        "script",
        &["exec", "cmd", "command"],
        "",
        "\"app.js\"",
        Becomes("exec"),
        "written as a whole path; a line of shell is run by bash -c, `npm start` as what package.json says of it",
    ),
    key("name", &[], "--name", "\"shop\"", Becomes("NAME.toml"), "letters, digits, `_`, `.`, `-`: others become `-`"),
    key("cwd", &[], "--cwd", "\"/srv/file\"", Becomes("directory"), ""),
    key("args", &[], "--", "\"--port 1\"", Becomes("exec"), "a string is split as PM2 splits it"),
    key(
        "exec_interpreter",
        &["interpreter"],
        "--interpreter",
        "\"node\"",
        Becomes("exec"),
        "written as a whole path; node@VERSION is looked for among nvm's, and not installed",
    ),
    key(
        "node_args",
        &["interpreter_args", "interpreterArgs"],
        "--node-args",
        "\"--trace-warnings\"",
        Becomes("exec"),
        "",
    ),
    key(
        "source_map_support",
        &[],
        "--source-map-support",
        "true",
        Becomes("exec"),
        "--enable-source-maps of Node; PM2 switches it on unasked",
    ),
    key(
        "disable_source_map_support",
        &[],
        "",
        "true",
        Needless,
        "source maps are off unless source_map_support asks for them",
    ),
    key(
        "exec_mode",
        &[],
        "",
        "\"cluster\"",
        Needless,
        "a Node program is always a worker of a cluster, be it the only one",
    ),
    key("instances", &[], "--instances", "2", Becomes("workers"), ""),
    key("instance_var", &[], "", "\"MY_INDEX\"", Becomes("index_variable"), ""),
    key(
        "increment_var",
        &[],
        "",
        "\"COUNT\"",
        Becomes("increment_variable"),
        "with PORT, all the ports are in `listen`, and each leads to its worker",
    ),
    key("port", &[], "", "3000", Becomes("environment.PORT"), "and `listen`"),
    key(
        "env",
        &[],
        "",
        "{\"A\": 1}",
        Becomes("environment"),
        "objects as JSON. Of your shell's variables only NODE_ENV is taken over: a unit has an environment of its own",
    ),
    key("env_*", &[], "--env", "{\"A\": 1}", Becomes("profile"), "--env NAME is active_profile"),
    key("filter_env", &["filterEnv"], "", "true", Needless, "no variable of your shell gets into a unit"),
    key(
        "namespace",
        &[],
        "",
        "\"shops\"",
        Refused,
        "apps have no groups: name them, or select by /regular expression/",
    ),
    key("name_prefix", &[], "", "\"dev\"", Needless, "PM2 reads it from programs that drive it, not from a file"),
    key("append_env_to_name", &[], "", "true", Becomes("NAME.toml"), "with --env"),
    key(
        "uid",
        &["user"],
        "--uid",
        "\"root\"",
        Becomes("user"),
        "without it: the script's owner, or for root's scripts a user of the app's own",
    ),
    key("gid", &[], "--gid", "\"root\"", Becomes("group"), ""),
    key("autostart", &[], "", "false", Becomes("start"), "start = \"manual\""),
    key("autorestart", &[], "--no-autorestart", "false", Becomes("restart.policy"), ""),
    key("stop_exit_codes", &[], "--stop-exit-codes", "[0, 3]", Becomes("restart.stop_exit_codes"), ""),
    key("restart_delay", &[], "--restart-delay", "4000", Becomes("restart.delay"), ""),
    key(
        "exp_backoff_restart_delay",
        &[],
        "--exp-backoff-restart-delay",
        "100",
        Becomes("restart.backoff"),
        "it begins anew with `appctl restart`, not after 30 s",
    ),
    key(
        "max_restarts",
        &[],
        "--max-restarts",
        "10",
        Becomes("restart.limit"),
        "without it workers are started again for ever; PM2 gives up after 16 quick ends",
    ),
    key(
        "min_uptime",
        &[],
        "--min-uptime",
        "\"5s\"",
        Becomes("restart.interval"),
        "so many lives of that length fit into the interval",
    ),
    key(
        "max_memory_restart",
        &[],
        "--max-memory-restart",
        "\"300M\"",
        Becomes("limits.memory_reload"),
        "all the worker's processes count, every 10 s; the new worker comes first",
    ),
    key(
        "cron_restart",
        &["cron"],
        "--cron-restart",
        "\"0 4 * * *\"",
        Becomes("schedule.restart"),
        "schedule.reload would do it without a gap",
    ),
    key(
        "watch",
        &[],
        "--watch",
        "true",
        Becomes("watch"),
        "a change reloads, without a gap, and only if the new code stands; PM2 restarts",
    ),
    key(
        "ignore_watch",
        &[],
        "--ignore-watch",
        "[\"uploads\"]",
        Becomes("ignore"),
        "patterns as in .gitignore; hidden files and node_modules never count",
    ),
    key("watch_delay", &[], "", "1000", Needless, "changes are taken together until 300 ms have been quiet"),
    key(
        "watch_options",
        &[],
        "",
        "{\"followSymlinks\": false}",
        Needless,
        "the kernel tells of changes (inotify); links below what is watched are not followed",
    ),
    key("wait_ready", &[], "--wait-ready", "true", Becomes("ready.on"), "process.send('ready')"),
    key(
        "listen_timeout",
        &[],
        "--listen-timeout",
        "90000",
        Becomes("ready.timeout"),
        "PM2 goes on when it is over, here the worker has failed: so less than the 60 s that are the default are not taken over from a file",
    ),
    key(
        "kill_timeout",
        &[],
        "--kill-timeout",
        "3000",
        Becomes("stop.timeout"),
        "without it 10 s; PM2's 1.6 s cut off what takes longer",
    ),
    key("kill_retry_time", &[], "", "100", Needless, "nobody polls: the kernel tells the end of a process"),
    key(
        "shutdown_with_message",
        &[],
        "--shutdown-with-message",
        "true",
        Becomes("stop.message"),
        "PM2's `shutdown`; a worker that stays gets the signal then",
    ),
    key(
        "treekill",
        &[],
        "",
        "false",
        Refused,
        "systemd ends every process of a worker: the main one by the signal, what is left after it at once",
    ),
    key("out_file", &["out", "output", "out_log"], "", "\"out.log\"", Needless, LOG_FILE),
    key("error_file", &["error", "err", "err_file", "err_log"], "", "\"err.log\"", Needless, LOG_FILE),
    key("log_file", &["log"], "", "\"all.log\"", Needless, LOG_FILE),
    key("disable_logs", &[], "--disable-logs", "true", Becomes("service.StandardOutput"), ""),
    key("merge_logs", &["combine_logs"], "", "true", Needless, "`appctl logs NAME` shows all workers, NAME@SLOT one"),
    key("log_date_format", &[], "", "\"HH:mm\"", Needless, JOURNAL),
    key("log_type", &[], "", "\"json\"", Needless, JOURNAL),
    key("time", &[], "--time", "true", Needless, JOURNAL),
    key(
        "pid_file",
        &["pid"],
        "",
        "\"app.pid\"",
        Needless,
        "systemd knows its processes: `systemctl show -p MainPID NAME@1`",
    ),
    key("vizion", &[], "", "true", Needless, "no version control is looked at"),
    key(
        "post_update",
        &[],
        "",
        "[\"npm install\"]",
        Refused,
        "code is brought by your own means; then `appctl reload NAME`",
    ),
    key("force", &[], "--force", "true", Needless, "two apps have two names; --force overwrites a file"),
    key("pmx", &[], "", "false", Needless, "nothing is injected; `node -r @pm2/io` in `exec` gives its figures"),
    key("automation", &[], "", "false", Needless, "nothing is injected into an app"),
    key("io", &[], "", "{\"apm\": true}", Refused, APM),
    key("trace", &[], "", "true", Refused, APM),
    key("disable_trace", &[], "", "true", Needless, "nothing is traced"),
    key("v8", &[], "", "true", Refused, APM),
    key("event_loop_inspector", &[], "", "true", Refused, APM),
    key("deep_monitoring", &[], "", "true", Refused, APM),
    key("execute_command", &[], "", "true", Needless, "an old way to ask for fork mode"),
    key("install_url", &[], "", "\"x\"", Needless, "of PM2's modules"),
    key("username", &[], "", "\"me\"", Needless, "PM2 fills it in itself"),
    key("windowsHide", &["windows_hide"], "", "true", Needless, "of Windows"),
    key("write", &[], "", "true", Needless, "the file is always written"),
];

/// Keys beside the apps.
pub const TOP: &[Key] = &[
    key("apps", &[], "", "[]", Becomes("NAME.toml"), "one file an app"),
    key("pm2", &[], "", "[]", Becomes("NAME.toml"), "the same, in package.json"),
    key(
        "deploy",
        &[],
        "",
        "{}",
        Refused,
        "code is brought by your own means (git, rsync, a package); then `appctl reload NAME`. Its `env` is merged as PM2 does",
    ),
    key(
        "static",
        &[],
        "",
        "[]",
        Becomes("NAME.toml"),
        "an app that runs `appctl serve`, called site-PORT if it has no name; path, port, spa and name are taken over",
    ),
];

/// The entry of a key as somebody wrote it: its name, an alias, or either in camelCase.
pub fn find(written: &str) -> Option<&'static Key> {
    let profile = written.strip_prefix("env_").is_some_and(|profile| !profile.is_empty());
    let written = if profile { "env_*" } else { written };
    KEYS.iter().find(|key| key.spellings().any(|known| known == written))
}

impl Key {
    /// All that PM2 takes for it; the first that a file has counts.
    pub fn spellings(&self) -> impl Iterator<Item = String> + use<> {
        let names = std::iter::once(self.name).chain(self.aliases.iter().copied());
        let mut all: Vec<String> = names.map(str::to_owned).collect();
        for camel in all.clone().iter().map(|name| camel(name)) {
            if !all.contains(&camel) {
                all.push(camel);
            }
        }
        all.into_iter()
    }
}

/// `max_memory_restart` → `maxMemoryRestart`; a part of one letter stays as it is, as PM2 has it.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        match (part.len() > 1, letters.next()) {
            (true, Some(first)) => {
                text.extend(first.to_uppercase());
                text.push_str(letters.as_str());
            }
            _ => text.push_str(part),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_spelling_leads_to_its_key() {
        for (written, name) in [
            ("interpreter", "exec_interpreter"),
            ("interpreterArgs", "node_args"),
            ("maxMemoryRestart", "max_memory_restart"),
            ("env_production", "env_*"),
            ("windowsHide", "windowsHide"),
            ("errFile", "error_file"),
            ("v8", "v8"),
        ] {
            assert_eq!(find(written).map(|key| key.name), Some(name), "{written}");
        }
        for unknown in ["scrpt", "env_", "apps"] {
            assert!(find(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn no_spelling_is_there_twice() {
        let mut seen = BTreeSet::new();
        for spelling in KEYS.iter().flat_map(Key::spellings) {
            assert!(seen.insert(spelling.clone()), "{spelling}");
        }
    }
}
