//! A script with PM2's flags, turned into an app's file.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::exit::Failure;
use crate::config::{Restart, Scope, Workers, value};

/// How a file begins that `appctl start` wrote.
pub const WRITTEN_BY_START: &str = "# Written by `appctl start`.";

/// PM2's flags, where they mean the same here, and ours.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// Number of workers: N, `max` or 0 (one a processor), -N (that many less)
    #[arg(short, long, value_name = "N", allow_hyphen_values = true)]
    pub instances: Option<String>,
    /// The app's name; default: the script's name without its ending
    #[arg(short, long)]
    pub name: Option<String>,
    /// Where clients connect: a port, ADDRESS:PORT or /a/socket; may be repeated [default: 8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,
    /// Working directory of the workers; default: this one
    #[arg(long, value_name = "DIRECTORY")]
    pub cwd: Option<PathBuf>,
    /// The program that runs the script, `none` for the script itself; default: by its ending
    #[arg(long, value_name = "PROGRAM")]
    pub interpreter: Option<String>,
    /// How the router reaches the workers: node, bun, deno, socket (LISTEN_FDS) or port (PORT); default: by the program
    #[arg(long, value_name = "RUNTIME", value_parser = ["node", "bun", "deno", "socket", "port"])]
    pub runtime: Option<String>,
    /// Arguments of the interpreter, before the script
    #[arg(long, visible_alias = "interpreter-args", value_name = "ARGS", allow_hyphen_values = true)]
    pub node_args: Vec<String>,
    /// The user that the workers run as; default: the script's owner, or for root's scripts one of their own
    #[arg(long, value_name = "USER")]
    pub uid: Option<String>,
    /// The group that the workers run as
    #[arg(long, value_name = "GROUP")]
    pub gid: Option<String>,
    /// The profile of a TOML file, `[profile.NAME.environment]`, that is to be active
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Pause before a worker is started again, milliseconds
    #[arg(long, value_name = "MS")]
    pub restart_delay: Option<u64>,
    /// Replace a worker that uses more memory: 300M, 1G
    #[arg(long, value_name = "SIZE")]
    pub max_memory_restart: Option<String>,
    /// Restart the app by the clock: a line of cron, or a time as systemd writes it; 0 or `off`: not
    #[arg(long, visible_alias = "cron", value_name = "TIME")]
    pub cron_restart: Option<String>,
    /// Reload the app when its files change: those in the working directory, or PATH; may be repeated
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub watch: Vec<String>,
    /// What --watch does not care for, as in .gitignore; may be repeated (node_modules and hidden files it never does)
    #[arg(long, value_name = "PATTERN", requires = "watch")]
    pub ignore_watch: Vec<String>,
    /// Let the pause grow with each restart, from this up to 15 s, milliseconds
    #[arg(long, value_name = "MS", conflicts_with = "restart_delay", value_parser = clap::value_parser!(u64).range(1..15_000))]
    pub exp_backoff_restart_delay: Option<u64>,
    /// Do not start workers again that ended
    #[arg(long)]
    pub no_autorestart: bool,
    /// Workers that exit with one of these statuses stay down, such as 0,3
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    pub stop_exit_codes: Vec<u8>,
    /// A worker that ends so often in a row, each time before --min-uptime, stays down [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_restarts: Option<u32>,
    /// Worker that stands so long counts as good, milliseconds [default: 1000; with it, --max-restarts is 16]
    #[arg(long, value_name = "MS")]
    pub min_uptime: Option<u64>,
    /// From the signal to stop until a worker is killed, milliseconds [default: 10000]
    #[arg(short, long, value_name = "MS")]
    pub kill_timeout: Option<u64>,
    /// A worker is ready when it says so: process.send('ready')
    #[arg(long)]
    pub wait_ready: bool,
    /// How long a worker may take until it is ready, milliseconds [default: 60000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    pub listen_timeout: Option<u64>,
    /// Tell workers to stop by the message `shutdown`, before any signal
    #[arg(long)]
    pub shutdown_with_message: bool,
    /// Print the time with each line (the journal always has it)
    #[arg(long)]
    pub time: bool,
    /// Stay in the foreground, without systemd: `appctl run`
    #[arg(long)]
    pub no_daemon: bool,
    /// Overwrite a file of that name that says something else
    #[arg(short, long)]
    pub force: bool,
    /// Arguments of the script
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

impl Flags {
    /// Flags that only make sense for something new.
    pub fn of_a_script(&self) -> Option<&'static str> {
        [
            (self.instances.is_some(), "--instances"),
            (self.name.is_some(), "--name"),
            (!self.listen.is_empty(), "--listen"),
            (self.cwd.is_some(), "--cwd"),
            (self.interpreter.is_some(), "--interpreter"),
            (self.runtime.is_some(), "--runtime"),
            (!self.node_args.is_empty(), "--node-args"),
            (self.uid.is_some(), "--uid"),
            (self.gid.is_some(), "--gid"),
            (self.restart_delay.is_some(), "--restart-delay"),
            (self.max_memory_restart.is_some(), "--max-memory-restart"),
            (self.cron_restart.is_some(), "--cron-restart"),
            (!self.watch.is_empty(), "--watch"),
            (self.shutdown_with_message, "--shutdown-with-message"),
            (self.exp_backoff_restart_delay.is_some(), "--exp-backoff-restart-delay"),
            (self.no_autorestart, "--no-autorestart"),
            (!self.stop_exit_codes.is_empty(), "--stop-exit-codes"),
            (self.max_restarts.is_some(), "--max-restarts"),
            (self.min_uptime.is_some(), "--min-uptime"),
            (self.kill_timeout.is_some(), "--kill-timeout"),
            (self.wait_ready, "--wait-ready"),
            (self.listen_timeout.is_some(), "--listen-timeout"),
            (!self.arguments.is_empty(), "arguments after --"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }
}

/// What the machine says about a script and its caller; everything that [`describe`] may not ask for itself.
#[derive(Debug, Clone)]
pub struct Place {
    pub scope: Scope,
    /// Absolute.
    pub script: PathBuf,
    /// The caller's, absolute.
    pub directory: PathBuf,
    /// The script's owner by name; `None`: root, or nobody with a name.
    pub owner: Option<String>,
}

/// One app's file before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub name: String,
    pub exec: Vec<String>,
    pub directory: PathBuf,
    pub user: Option<String>,
    pub group: Option<String>,
    pub workers: Workers,
    pub runtime: Option<String>,
    pub listen: Vec<String>,
    /// An empty one is the directory itself.
    pub watch: Vec<String>,
    pub ignore: Vec<String>,
    /// Lines of tables such as `[restart]`.
    pub tables: Vec<(&'static str, Vec<String>)>,
}

/// `--instances` as PM2 reads it.
pub fn instances(typed: &str) -> Result<Workers, Failure> {
    let wrong = || Failure::Usage(format!("--instances {typed}: write a number, max, 0 (as max) or -1 (all less one)"));
    match typed {
        "max" | "0" => Ok(Workers::MaxMinus(0)),
        _ => match typed.strip_prefix("max-").or_else(|| typed.strip_prefix('-')) {
            Some(less) => less.parse().map(Workers::MaxMinus).map_err(|_| wrong()),
            None => typed.parse().map(Workers::Count).map_err(|_| wrong()),
        },
    }
}

/// The program for a script, by its ending.
fn interpreter(script: &Path) -> Option<&'static str> {
    Some(match script.extension()?.to_str()? {
        "js" | "mjs" | "cjs" => "node",
        "ts" | "mts" | "tsx" => "bun",
        "py" => "python3",
        "rb" => "ruby",
        "php" => "php",
        "sh" => "bash",
        "pl" => "perl",
        _ => return None,
    })
}

/// The app that the flags mean. `find`: where a program is, by the caller's PATH.
pub fn describe(flags: &Flags, place: &Place, find: impl Fn(&str) -> Option<PathBuf>) -> Result<Draft, Failure> {
    let name = match &flags.name {
        Some(name) => name.clone(),
        None => place.script.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    value::check_name(&name).map_err(|wrong| Failure::Usage(format!("{}; choose another by --name", wrong.reason)))?;
    let script = text(&place.script)?;
    let runner = match flags.interpreter.as_deref() {
        Some("none") => None,
        Some(given) => Some(given),
        None => interpreter(&place.script),
    };
    let mut exec = Vec::new();
    if let Some(runner) = runner {
        let found = if runner.starts_with('/') { Some(PathBuf::from(runner)) } else { find(runner) };
        let found = found.ok_or_else(|| {
            Failure::failed(format!("{runner} is not in your PATH: install it, or name another by --interpreter"))
        })?;
        exec.push(text(&found)?);
        exec.extend(flags.node_args.iter().flat_map(|words| words.split_whitespace()).map(str::to_owned));
    }
    exec.push(script);
    exec.extend(flags.arguments.iter().cloned());

    if place.scope == Scope::User && (flags.uid.is_some() || flags.gid.is_some()) {
        return Err(Failure::Usage(
            "your own manager cannot run an app as somebody else: leave out --uid and --gid, or add --system".into(),
        ));
    }
    let user = match place.scope {
        Scope::User => None,
        Scope::System => flags.uid.clone().or_else(|| place.owner.clone()),
    };
    let directory = match &flags.cwd {
        Some(directory) => place.directory.join(directory),
        None => place.directory.clone(),
    };
    Ok(Draft {
        name,
        exec,
        directory,
        user,
        group: flags.gid.clone(),
        workers: instances(flags.instances.as_deref().unwrap_or("1"))?,
        runtime: flags.runtime.clone(),
        listen: if flags.listen.is_empty() { vec!["8080".to_owned()] } else { flags.listen.clone() },
        watch: flags.watch.clone(),
        ignore: flags.ignore_watch.clone(),
        tables: [
            ("restart", restart(flags)),
            ("limits", limits(flags)?),
            ("schedule", schedule(flags)),
            ("ready", ready(flags)),
            ("stop", stop(flags)),
        ]
        .into_iter()
        .filter(|(_, lines)| !lines.is_empty())
        .collect(),
    })
}

/// Where PM2's growing pause ends.
const LONGEST_PAUSE: &str = "15s";
/// PM2's, when only the other of the two is given.
const MAX_RESTARTS: u32 = 16;
const MIN_UPTIME: u64 = 1000;
/// systemd's timers may be late by that, milliseconds.
const LATE: u64 = 300;

fn restart(flags: &Flags) -> Vec<String> {
    let mut lines = Vec::new();
    if flags.no_autorestart {
        lines.push("policy = \"no\"".to_owned());
    }
    let delay = flags.restart_delay.or(flags.exp_backoff_restart_delay);
    lines.extend(delay.map(|delay| format!("delay = \"{delay}ms\"")));
    lines.extend(flags.exp_backoff_restart_delay.map(|_| format!("backoff = \"{LONGEST_PAUSE}\"")));
    if !flags.stop_exit_codes.is_empty() {
        lines.push(format!("stop_exit_codes = {:?}", flags.stop_exit_codes));
    }
    if flags.max_restarts.is_some() || flags.min_uptime.is_some() {
        let limit = flags.max_restarts.unwrap_or(MAX_RESTARTS);
        // So many lives that are too short, and the pauses after them, fit into the interval.
        let life = flags.min_uptime.unwrap_or(MIN_UPTIME).saturating_add(LATE);
        let pauses = Restart {
            delay: Duration::from_millis(delay.unwrap_or(100)),
            backoff: flags.exp_backoff_restart_delay.map(|_| Duration::from_secs(15)),
            ..Restart::default()
        };
        let interval = pauses.pauses(limit).as_millis().saturating_add(u128::from(life) * u128::from(limit));
        lines.push(format!("limit = {limit}"));
        lines.push(format!("interval = \"{}s\"", interval.div_ceil(1000)));
    }
    lines
}

fn ready(flags: &Flags) -> Vec<String> {
    let word = flags.wait_ready.then(|| "on = \"message\"".to_owned());
    word.into_iter().chain(flags.listen_timeout.map(|timeout| format!("timeout = \"{timeout}ms\""))).collect()
}

fn stop(flags: &Flags) -> Vec<String> {
    let message = flags.shutdown_with_message.then(|| "message = \"shutdown\"".to_owned());
    message.into_iter().chain(flags.kill_timeout.map(|timeout| format!("timeout = \"{timeout}ms\""))).collect()
}

fn limits(flags: &Flags) -> Result<Vec<String>, Failure> {
    let Some(typed) = &flags.max_memory_restart else { return Ok(Vec::new()) };
    let bytes = value::read_size(typed)
        .map_err(|wrong| Failure::Usage(format!("--max-memory-restart: {}: {}", wrong.reason, wrong.remedy)))?;
    Ok(vec![format!("memory_reload = \"{}\"", value::write_size(bytes))])
}

fn schedule(flags: &Flags) -> Vec<String> {
    let time = flags.cron_restart.iter().filter(|time| !["0", "off", "false"].contains(&time.as_str()));
    time.map(|time| format!("restart = {}", toml_edit::Value::from(time))).collect()
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::failed(format!("{}: its path is not UTF-8", path.display())))
}

impl Draft {
    /// The file, the same for the same app.
    pub fn toml(&self) -> String {
        let quote = |text: &str| toml_edit::Value::from(text).to_string();
        let array =
            |words: &[String]| format!("[{}]", words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(", "));
        let mut text = format!(
            "{WRITTEN_BY_START} Change it as you like, then: appctl restart {}\n\
             exec = {}\ndirectory = {}\n",
            self.name,
            array(&self.exec),
            quote(&self.directory.to_string_lossy())
        );
        for (key, value) in [("user", &self.user), ("group", &self.group), ("runtime", &self.runtime)] {
            if let Some(value) = value {
                text.push_str(&format!("{key} = {}\n", quote(value)));
            }
        }
        text.push_str(&match self.workers {
            Workers::Count(number) => format!("workers = {number}\n"),
            Workers::MaxMinus(0) => "workers = \"max\"\n".to_owned(),
            Workers::MaxMinus(less) => format!("workers = \"max-{less}\"\n"),
        });
        text.push_str(&format!("listen = {}\n", array(&self.listen)));
        match self.watch.as_slice() {
            [] => {}
            paths if paths.iter().any(String::is_empty) => text.push_str("watch = true\n"),
            paths => text.push_str(&format!("watch = {}\n", array(paths))),
        }
        if !self.ignore.is_empty() {
            text.push_str(&format!("ignore = {}\n", array(&self.ignore)));
        }
        for (table, lines) in &self.tables {
            text.push_str(&format!("\n[{table}]\n{}\n", lines.join("\n")));
        }
        text
    }
}

/// Asks the machine about a script. `None`: there is no such file or program.
pub fn look(script: &str, scope: Scope) -> Result<Option<Place>, Failure> {
    let directory = std::env::current_dir()
        .map_err(|error| Failure::failed(format!("cannot tell the working directory: {error}")))?;
    let given = directory.join(script);
    let found = if given.is_file() {
        given
    } else if !script.contains('/')
        && let Some(program) = find_program(script)
    {
        program
    } else {
        return Ok(None);
    };
    // `./a/../b.js` reads better as `/…/b.js`; links stay, since a release is often one.
    let script = std::path::absolute(&found).unwrap_or(found);
    let script: PathBuf = if script.components().any(|part| part == std::path::Component::ParentDir) {
        std::fs::canonicalize(&script).unwrap_or(script)
    } else {
        script.components().collect()
    };
    let owner = std::fs::metadata(&script).ok().map(|metadata| metadata.uid()).filter(|uid| *uid != 0);
    let owner = owner.and_then(|uid| nix::unistd::User::from_uid(uid.into()).ok().flatten());
    Ok(Some(Place { scope, script, directory, owner: owner.map(|user| user.name) }))
}

/// An executable of that name in the caller's PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| {
        path.is_absolute()
            && std::fs::metadata(path)
                .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

/// Why a user of nobody else's could not run this: the path that is closed to him, and how.
///
/// A DynamicUser owns nothing, and sees a /tmp of its own (systemd.exec(5)).
pub fn closed_to_others(path: &Path) -> Option<String> {
    if path.starts_with("/tmp") || path.starts_with("/var/tmp") {
        return Some(format!("{} is in a temporary directory, of which a unit sees its own", path.display()));
    }
    closed_by_mode(path)
}

fn closed_by_mode(path: &Path) -> Option<String> {
    let real = std::fs::canonicalize(path).ok()?;
    for ancestor in real.ancestors().skip(1) {
        let mode = std::fs::metadata(ancestor).ok()?.permissions().mode() & 0o777;
        if mode & 0o001 == 0 {
            return Some(format!("others may not enter {} (mode {mode:04o})", ancestor.display()));
        }
    }
    let mode = std::fs::metadata(&real).ok()?.permissions().mode() & 0o777;
    (mode & 0o004 == 0).then(|| format!("others may not read {} (mode {mode:04o})", real.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn place() -> Place {
        Place {
            scope: Scope::System,
            script: "/srv/app/worker.js".into(),
            directory: "/srv/app".into(),
            owner: Some("deploy".into()),
        }
    }

    fn find(name: &str) -> Option<PathBuf> {
        (name == "node").then(|| "/usr/bin/node".into())
    }

    #[test]
    fn instances_as_pm2_reads_them() {
        for (typed, workers) in [
            ("3", Workers::Count(3)),
            ("max", Workers::MaxMinus(0)),
            ("0", Workers::MaxMinus(0)),
            ("-1", Workers::MaxMinus(1)),
        ] {
            assert_eq!(instances(typed).unwrap(), workers, "{typed}");
        }
        assert_eq!(instances("many").unwrap_err().code(), 2);
    }

    #[test]
    fn a_script_without_flags() {
        let draft = describe(&Flags::default(), &place(), find).unwrap();
        assert_eq!(
            draft.toml(),
            "# Written by `appctl start`. Change it as you like, then: appctl restart worker\n\
             exec = [\"/usr/bin/node\", \"/srv/app/worker.js\"]\n\
             directory = \"/srv/app\"\nuser = \"deploy\"\nworkers = 1\nlisten = [\"8080\"]\n"
        );
    }

    #[test]
    fn a_script_with_all_flags() {
        let flags = Flags {
            instances: Some("-1".into()),
            name: Some("chat".into()),
            listen: vec!["127.0.0.1:3000".into(), "/run/chat.sock".into()],
            cwd: Some("data".into()),
            node_args: vec!["--max-old-space-size=64 --trace-warnings".into()],
            uid: Some("www-data".into()),
            gid: Some("www-data".into()),
            restart_delay: Some(250),
            no_autorestart: true,
            max_memory_restart: Some("1024M".into()),
            cron_restart: Some("0 4 * * *".into()),
            watch: vec!["src".into()],
            ignore_watch: vec!["uploads/".into()],
            arguments: vec!["--say".into(), "a \"b\"".into()],
            ..Flags::default()
        };
        let text = describe(&flags, &place(), find).unwrap().toml();
        assert_eq!(
            text,
            "# Written by `appctl start`. Change it as you like, then: appctl restart chat\n\
             exec = [\"/usr/bin/node\", \"--max-old-space-size=64\", \"--trace-warnings\", \"/srv/app/worker.js\", \
             \"--say\", 'a \"b\"']\n\
             directory = \"/srv/app/data\"\nuser = \"www-data\"\ngroup = \"www-data\"\nworkers = \"max-1\"\n\
             listen = [\"127.0.0.1:3000\", \"/run/chat.sock\"]\nwatch = [\"src\"]\n\
             ignore = [\"uploads/\"]\n\n[restart]\npolicy = \"no\"\ndelay = \"250ms\"\n\n\
             [limits]\nmemory_reload = \"1G\"\n\n[schedule]\nrestart = \"0 4 * * *\"\n"
        );
        let report = crate::config::parse("chat", Path::new("/etc/appctl/chat.toml"), &text, Scope::System);
        assert_eq!(report.problems, [], "what start writes passes the check");
        let app = report.app.unwrap();
        assert_eq!((app.workers, app.restart.policy.as_str()), (Workers::MaxMinus(1), "no"));
        assert_eq!(app.exec.last().unwrap(), "a \"b\"");
        assert_eq!(app.limits.memory_reload, Some(1 << 30));
        let flags = Flags { max_memory_restart: Some("much".into()), ..Flags::default() };
        assert_eq!(describe(&flags, &place(), find).unwrap_err().code(), 2);
    }

    #[test]
    fn pm2s_words_about_ends() {
        let flags = Flags {
            name: Some("chat".into()),
            exp_backoff_restart_delay: Some(100),
            stop_exit_codes: vec![0, 3],
            max_restarts: Some(5),
            min_uptime: Some(2000),
            kill_timeout: Some(3000),
            shutdown_with_message: true,
            wait_ready: true,
            listen_timeout: Some(8000),
            ..Flags::default()
        };
        let text = describe(&flags, &place(), find).unwrap().toml();
        let tables = "[restart]\ndelay = \"100ms\"\nbackoff = \"15s\"\nstop_exit_codes = [0, 3]\nlimit = 5\n\
            interval = \"13s\"\n\n[ready]\non = \"message\"\ntimeout = \"8000ms\"\n\n[stop]\n\
             message = \"shutdown\"\ntimeout = \"3000ms\"\n";
        assert!(text.ends_with(tables), "{text}");
        let report = crate::config::parse("chat", Path::new("/etc/appctl/chat.toml"), &text, Scope::System);
        assert_eq!(report.problems, [], "what start writes passes the check");
        for flags in [
            Flags { max_restarts: Some(3), ..Flags::default() },
            Flags { min_uptime: Some(1), restart_delay: Some(5000), ..Flags::default() },
            Flags { max_restarts: Some(100), exp_backoff_restart_delay: Some(14_999), ..Flags::default() },
        ] {
            let text = describe(&flags, &place(), find).unwrap().toml();
            let report = crate::config::parse("chat", Path::new("/etc/appctl/chat.toml"), &text, Scope::System);
            assert_eq!(report.problems, [], "{text}");
        }
    }

    #[test]
    fn programs_and_interpreters() {
        let exec = |script: &str, interpreter: Option<&str>| {
            let flags =
                Flags { interpreter: interpreter.map(str::to_owned), name: Some("x".into()), ..Flags::default() };
            describe(&flags, &Place { script: script.into(), ..place() }, find).map(|draft| draft.exec.join(" "))
        };
        assert_eq!(exec("/srv/a.mjs", None).unwrap(), "/usr/bin/node /srv/a.mjs");
        assert_eq!(exec("/srv/a", None).unwrap(), "/srv/a");
        assert_eq!(exec("/srv/a.js", Some("none")).unwrap(), "/srv/a.js");
        assert_eq!(exec("/srv/a", Some("/opt/node")).unwrap(), "/opt/node /srv/a");
        assert_eq!(exec("/srv/a.py", None).unwrap_err().code(), 1);
    }

    #[test]
    fn a_users_app_runs_as_that_user() {
        let place = Place { scope: Scope::User, ..place() };
        assert_eq!(describe(&Flags::default(), &place, find).unwrap().user, None);
        let flags = Flags { uid: Some("root".into()), ..Flags::default() };
        assert_eq!(describe(&flags, &place, find).unwrap_err().code(), 2);
    }

    #[test]
    fn names_that_cannot_be() {
        let place = Place { script: "/srv/_x.js".into(), ..place() };
        let failure = describe(&Flags::default(), &place, find).unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("--name"), "{failure}");
    }

    #[test]
    fn a_closed_directory_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("a.js");
        fs::write(&script, "").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(closed_by_mode(&script).unwrap().contains("0700"));
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(closed_by_mode(&script).unwrap().contains("0640"));
        assert!(closed_to_others(Path::new("/tmp/a.js")).unwrap().contains("temporary"));
        assert_eq!(closed_to_others(Path::new("/bin/sh")), None);
    }
}
