//! What ends the help of each command: how it is used.

/// A command, and lines that use it with what they do.
pub(super) const ALL: &[(&str, &[(&str, &str)])] = &[
    (
        "start",
        &[
            ("appctl start worker.js -i max --name app", "a script, a worker for each processor"),
            ("appctl start app", "an app that has a file"),
            ("appctl start ./app.toml", "installs that file, and starts it"),
            ("appctl start ecosystem.config.js --env production", "the apps of a file of PM2's"),
            ("appctl start server.py --runtime port -i 4 -- --verbose", "another language, with an argument"),
        ],
    ),
    (
        "stop",
        &[
            ("appctl stop app", "all of it, until the next boot"),
            ("appctl stop app@2", "one worker"),
            ("appctl stop '/^api-/'", "every app whose name begins so"),
        ],
    ),
    (
        "restart",
        &[
            ("appctl restart app", "with its file as it is now"),
            ("appctl restart all", "every app"),
            ("appctl restart ecosystem.config.js --only a,b", "imports it again"),
        ],
    ),
    (
        "reload",
        &[
            ("appctl reload app", "new code, without a gap"),
            ("appctl reload --abort app", "stops the reload that is under way"),
            ("appctl reload --certificates app", "for certbot's --deploy-hook"),
        ],
    ),
    (
        "startOrRestart",
        &[("appctl startOrRestart ./app.toml", "takes the file as it is now, whether the app runs or not")],
    ),
    (
        "startOrReload",
        &[
            ("appctl startOrReload ./app.toml", "for deployments: the first time and every other time"),
            ("appctl startOrReload ecosystem.config.js", "the same with a file of PM2's, which is imported again"),
        ],
    ),
    (
        "import",
        &[
            ("appctl import --dry-run ecosystem.config.js", "what each key becomes, and the files"),
            ("appctl import ecosystem.config.js --only shop,api --env production", "writes the files of two apps"),
            ("appctl import --from-pm2", "the apps of a PM2 that runs, after pm2 save"),
        ],
    ),
    (
        "ecosystem",
        &[
            ("appctl ecosystem", "ecosystem.config.js and app.toml, with comments"),
            ("appctl init simple", "the same, short"),
        ],
    ),
    (
        "delete",
        &[
            ("appctl delete app", "stops it and removes /etc/appctl/app.toml"),
            ("appctl delete --keep-file app", "leaves the file"),
        ],
    ),
    (
        "list",
        &[
            ("appctl list", "everything"),
            ("appctl list --sort memory:desc", "the greatest first"),
            ("appctl list app --json", "for programs"),
        ],
    ),
    ("status", &[("appctl status app", "addresses, workers, last ends, last errors")]),
    (
        "logs",
        &[
            ("appctl logs app -f", "goes on with new lines"),
            ("appctl logs app@2 -n 100 --err", "errors of one worker"),
            ("appctl logs '/api/' --since '10 min ago' --highlight timeout", "several apps"),
            ("appctl logs all --format", "timestamp=… app=app id=0 … message=…"),
            ("appctl logs app --json", "the journal's fields, a line for each entry"),
        ],
    ),
    ("monit", &[("appctl monit", "all apps"), ("appctl monit app", "one app and its workers")]),
    (
        "dashboard",
        &[("appctl dashboard", "prints an address for one visit"), ("appctl dashboard app --port 9000", "one app")],
    ),
    ("metrics", &[("appctl metrics app", "what a Prometheus would read")]),
    (
        "scale",
        &[
            ("appctl scale app 4", "four workers"),
            ("appctl scale app +2", "two more"),
            ("appctl scale app max", "one for each processor"),
        ],
    ),
    ("jlist", &[("appctl jlist | jq '.[] | select(.pm2_env.status != \"online\") | .name'", "what is down")]),
    ("prettylist", &[("appctl prettylist", "the same, to be read")]),
    ("pid", &[("appctl pid app", "one line for each worker"), ("appctl pid app@1", "of one")]),
    ("id", &[("appctl id app", "as in list: 0, 1, …"), ("appctl id app@2", "of one worker")]),
    (
        "env",
        &[
            ("appctl env app", "of its first worker"),
            ("appctl env app@2 --show-secrets", "passwords and keys as they are"),
        ],
    ),
    (
        "sendSignal",
        &[("appctl sendSignal SIGUSR2 app", "to all its workers"), ("appctl sendSignal HUP app@1", "to one")],
    ),
    (
        "trigger",
        &[
            ("appctl trigger app refresh", "io.action('refresh', …) in all its workers"),
            ("appctl trigger app@2 log-level debug --timeout 5s", "in one, with a parameter"),
            ("appctl trigger app km:heapdump --json", "an action of @pm2/io itself"),
        ],
    ),
    ("reset", &[("appctl reset app", "its restarts are 0")]),
    ("ping", &[("appctl ping", "systemd, and every router")]),
    ("report", &[("appctl report > report.txt", "look through it, and add it to your report")]),
    ("check", &[("appctl check", "all files"), ("appctl check ./app.toml", "one that is not installed yet")]),
    ("cat", &[("appctl cat app", "what systemd gets")]),
    (
        "serve",
        &[
            ("appctl serve ./public 8080", "the files of a directory, as the app site-8080"),
            ("appctl serve ./dist 3000 --spa --name front", "an application of one page"),
            ("appctl serve . 9000 --basic-auth-username me --basic-auth-password secret", "with a password"),
        ],
    ),
    (
        "run",
        &[
            ("appctl run worker.js -i 4 --listen 127.0.0.1:8080", "until Ctrl-C"),
            ("appctl run app.toml", "an app's file"),
        ],
    ),
    ("help", &[("appctl help start", "one command"), ("appctl help appctl.toml", "the keys of an app's file")]),
    (
        "completion",
        &[
            ("appctl completion bash > /etc/bash_completion.d/appctl", "for everybody"),
            ("source <(appctl completion zsh)", "in ~/.zshrc"),
            ("appctl completion fish > ~/.config/fish/completions/appctl.fish", "for you"),
        ],
    ),
];

/// The lines of one command, one below the other; what they do stands behind them where there is room.
pub(super) fn of(command: &str) -> Option<String> {
    /// Columns of a terminal.
    const WIDE: usize = 100;
    let lines = ALL.iter().find(|(known, _)| *known == command)?.1;
    let longest = lines.iter().map(|(line, _)| line.len()).max()?;
    let lines = lines.iter().map(|(line, what)| match longest + what.len() + 6 {
        ..WIDE => format!("  {line:longest$}  # {what}"),
        _ => format!("  # {what}\n  {line}"),
    });
    Some(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_is_shown_has_examples_that_it_takes() {
        let line = super::super::line();
        let shown = line.get_subcommands().filter(|command| !command.is_hide_set());
        let names: Vec<&str> = shown.map(clap::Command::get_name).collect();
        assert_eq!(ALL.iter().map(|(name, _)| *name).filter(|name| !names.contains(name)).collect::<Vec<_>>(), [""; 0]);
        for name in names {
            let (_, examples) =
                ALL.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} has none"));
            for (example, _) in *examples {
                let bare = example.strip_prefix("source <(").and_then(|it| it.strip_suffix(')')).unwrap_or(example);
                let bare = bare.split([';', '|', '>']).next().unwrap_or(bare);
                let words = shlex::split(bare).unwrap();
                let parsed = super::super::line().try_get_matches_from(&words);
                let parsed = parsed.unwrap_or_else(|error| panic!("{example}: {error}"));
                assert_eq!(parsed.subcommand_name(), Some(name), "{example}");
            }
        }
    }
}
