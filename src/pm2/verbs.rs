//! PM2's commands, and what one types here.

/// A command of PM2's.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    pub theirs: &'static str,
    /// Empty: nothing.
    pub ours: &'static str,
    pub note: &'static str,
}

const fn verb(theirs: &'static str, ours: &'static str, note: &'static str) -> Verb {
    Verb { theirs, ours, note }
}

pub const VERBS: &[Verb] = &[
    verb(
        "pm2 start app.js -i max --name shop",
        "appctl start app.js -i max --name shop",
        "clients connect at `--listen`, 8080 without it",
    ),
    verb(
        "pm2 start ecosystem.config.js --only a,b --env production",
        "appctl start ecosystem.config.js --only a,b --env production",
        "",
    ),
    verb("pm2 start \"python3 x.py\"", "appctl start x.py --runtime none", "`--runtime port` if it listens on PORT"),
    verb("pm2 start NAME", "appctl start NAME", "one that runs is left alone; PM2 restarts it"),
    verb(
        "pm2 start file, as a deployment does",
        "appctl start ecosystem.config.js",
        "restarts apps whose file has changed; `appctl reload NAME` brings new code without a gap",
    ),
    verb("pm2 restart NAME", "appctl restart NAME", "with its file as it is now: there is no --update-env"),
    verb("pm2 reload NAME", "appctl reload NAME", "new workers first; a broken release changes nothing, and is exit 1"),
    verb("pm2 stop NAME", "appctl stop NAME", "timers and watching stop with it"),
    verb("pm2 delete NAME", "appctl delete NAME", ""),
    verb("pm2 scale NAME +2", "appctl scale NAME +2", "`-1` works too"),
    verb("pm2 list", "appctl list", "also `systemctl list-units 'NAME*'`"),
    verb("pm2 jlist", "appctl list --json", ""),
    verb("pm2 describe NAME", "appctl status NAME", "the units themselves: `appctl cat NAME`"),
    verb("pm2 env ID", "systemctl show -p Environment NAME@1", ""),
    verb("pm2 pid NAME", "systemctl show --value -p MainPID NAME@1", ""),
    verb("pm2 monit", "systemd-cgtop", "and `appctl list`"),
    verb("pm2 logs NAME --lines 100", "appctl logs NAME -f -n 100", "or journalctl -u 'NAME*' -f"),
    verb("pm2 flush", "journalctl --vacuum-time=2d", "the journal keeps itself within its limits, journald.conf(5)"),
    verb("pm2 reloadLogs, logrotate", "", "there are no log files"),
    verb("pm2 save, resurrect, startup", "", "the files are what is started at boot"),
    verb("pm2 unstartup", "", "`start = \"manual\"` in the file, for one app"),
    verb("pm2 sendSignal SIGUSR2 NAME", "systemctl kill --kill-whom=main -s SIGUSR2 'NAME@*'", ""),
    verb("pm2 reset NAME", "systemctl reset-failed 'NAME@*'", ""),
    verb("pm2 update, kill", "", "there is no daemon: a new appctl is used from the next command on"),
    verb("pm2 ecosystem, init simple", "appctl ecosystem", "`init` is known as well"),
    verb("pm2-runtime app.js", "appctl run app.js", "in the foreground, without systemd"),
    verb("pm2 deploy, pull, forward, backward", "", "bring code by your own means, then `appctl reload NAME`"),
    verb(
        "pm2 link, plus, monitor, install, module",
        "",
        "PM2's services and modules; numbers for Prometheus: `appctl metrics NAME`",
    ),
];
