//! PM2's commands, and what one types here.

/// A command of PM2's.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    /// Without `pm2`.
    pub theirs: &'static str,
    pub ours: &'static str,
    pub note: &'static str,
}

const fn verb(theirs: &'static str, ours: &'static str, note: &'static str) -> Verb {
    Verb { theirs, ours, note }
}

/// Those that have a counterpart; `cli::counterparts` has the others.
pub const VERBS: &[Verb] = &[
    verb(
        "start app.js -i max --name shop",
        "appctl start app.js -i max --name shop",
        "clients connect at `--listen`, 8080 without it; if another app has that, at the port that the script names, or nowhere. PM2's flags without a meaning here (`-o`, `--merge-logs`, `--no-vizion` and so on) are taken, and told of",
    ),
    verb(
        "start ecosystem.config.js --only a,b --env production",
        "appctl start ecosystem.config.js --only a,b --env production",
        "restarts apps whose entry has changed; the others are left alone",
    ),
    verb(
        "start x.py, start \"python3 x.py\"",
        "appctl start x.py",
        "it has its ports to itself, as with PM2; `--runtime port --listen 8080`: the router has the port",
    ),
    verb("start NAME", "appctl start NAME", "one that runs is left alone; PM2 restarts it"),
    verb(
        "startOrReload file",
        "appctl startOrReload ecosystem.config.js",
        "for a deployment: imports it again, and reloads without a gap",
    ),
    verb(
        "restart ecosystem.config.js --only a",
        "appctl restart ecosystem.config.js --only a",
        "imports it again, as `reload` does; `stop` and `delete` take files too",
    ),
    verb("startOrRestart file", "appctl startOrRestart ecosystem.config.js", ""),
    verb("restart NAME", "appctl restart NAME", "with its file as it is now; `--update-env` is known and says so"),
    verb("reload NAME", "appctl reload NAME", "new workers first; a broken release changes nothing, and is exit 1"),
    verb("stop NAME", "appctl stop NAME", "timers and watching stop with it"),
    verb("delete NAME", "appctl delete NAME", "or its script, as with stop, restart and reload: `delete app.js`"),
    verb("scale NAME +2", "appctl scale NAME +2", "`-1` works too"),
    verb("list", "appctl list", "also `systemctl list-units 'NAME*'`"),
    verb("jlist, prettylist", "appctl jlist", "`prettylist` too; `appctl list --json` is the documented form"),
    verb("describe NAME", "appctl status NAME", "the units themselves: `appctl cat NAME`"),
    verb(
        "restart 0, logs 2, stop 3 4",
        "appctl restart 0",
        "ids are places in `appctl list` and move with the apps; scripts use names",
    ),
    verb("env ID", "appctl env ID", "or NAME, NAME@SLOT"),
    verb("pid NAME", "appctl pid NAME", "`id` too"),
    verb("monit, imonit", "appctl monit", ""),
    verb("dashboard, dash", "appctl dashboard", "a page for a browser, not another screen for the terminal"),
    verb("logs NAME --lines 100", "appctl logs NAME -f -n 100", "or journalctl -u 'NAME*' -f"),
    verb("sendSignal SIGUSR2 NAME", "appctl sendSignal SIGUSR2 NAME", ""),
    verb(
        "trigger NAME ACTION PARAM",
        "appctl trigger NAME ACTION PARAM",
        "ends with the last answer or after `--timeout`; 1 if a worker fails; scoped actions work too",
    ),
    verb("reset NAME", "appctl reset NAME", ""),
    verb("ping", "appctl ping", ""),
    verb("report", "appctl report", ""),
    verb("ecosystem, init simple", "appctl ecosystem", "`init` is known as well"),
    verb(
        "pm2-runtime app.js",
        "appctl run app.js",
        "in the foreground, without systemd; also `appctl run ecosystem.config.js --only NAME`",
    ),
];
