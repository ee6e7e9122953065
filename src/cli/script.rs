//! A script with PM2's flags, turned into an app's file.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use super::exit::Failure;
use super::pm2flags::WithoutEffect;
use crate::config::{Scope, Workers};
use crate::pm2::Circumstances;
use crate::pm2::{self, Draft, Machine};

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
    /// How the router reaches the workers: node, bun, deno, socket (LISTEN_FDS), port (PORT), none (not at all); default: by the program
    #[arg(long, value_name = "RUNTIME", value_parser = ["node", "bun", "deno", "socket", "port", "none"])]
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
    /// The profile that is to be active: `[profile.NAME.environment]` of a TOML file, `env_NAME` of PM2's
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Only these apps of a file of PM2's
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Pause before a worker is started again, milliseconds
    #[arg(long, value_name = "MS")]
    pub restart_delay: Option<u64>,
    /// Replace a worker that uses more memory: 300M, 1G
    #[arg(long, value_name = "SIZE")]
    pub max_memory_restart: Option<String>,
    /// Restart the app by the clock: a line of cron, or a time as systemd writes it; 0 or `off`: not
    #[arg(short, long, visible_alias = "cron", value_name = "TIME")]
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
    /// Write the file, with start = "manual", and start nothing: neither now nor at boot
    #[arg(long)]
    pub no_autostart: bool,
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
    /// Map errors to the sources of compiled code: --enable-source-maps of Node
    #[arg(long)]
    pub source_map_support: bool,
    /// Drop what the workers write
    #[arg(long)]
    pub disable_logs: bool,
    #[command(flatten)]
    pub without_effect: WithoutEffect,
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
            (self.no_autostart, "--no-autostart"),
            (self.no_autorestart, "--no-autorestart"),
            (!self.stop_exit_codes.is_empty(), "--stop-exit-codes"),
            (self.max_restarts.is_some(), "--max-restarts"),
            (self.min_uptime.is_some(), "--min-uptime"),
            (self.kill_timeout.is_some(), "--kill-timeout"),
            (self.wait_ready, "--wait-ready"),
            (self.listen_timeout.is_some(), "--listen-timeout"),
            (self.source_map_support, "--source-map-support"),
            (self.disable_logs, "--disable-logs"),
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

/// `--instances` as PM2 reads it.
pub fn instances(typed: &str) -> Result<Workers, Failure> {
    pm2::app::instances(&typed.into()).map_err(|wanted| Failure::Usage(format!("--instances {typed}: write {wanted}")))
}

impl Flags {
    /// The same as an entry of PM2's files: what the keys mean there they mean here.
    fn entry(&self, script: &str) -> Map<String, Value> {
        let words = |words: &[String]| words.iter().map(|word| Value::from(word.as_str())).collect::<Vec<_>>();
        let node_args = self.node_args.iter().flat_map(|line| line.split_whitespace()).map(Value::from);
        let cwd = self.cwd.as_ref().map(|path| path.to_string_lossy().into_owned());
        let watch = match self.watch.as_slice() {
            [] => Value::Null,
            paths if paths.iter().any(String::is_empty) => true.into(),
            paths => words(paths).into(),
        };
        let yes = |given: bool| if given { Value::from(true) } else { Value::Null };
        let entry = [
            ("script", script.into()),
            ("name", self.name.clone().into()),
            ("cwd", cwd.into()),
            ("args", words(&self.arguments).into()),
            ("exec_interpreter", self.interpreter.clone().into()),
            ("node_args", node_args.collect::<Vec<_>>().into()),
            ("source_map_support", yes(self.source_map_support)),
            ("disable_logs", yes(self.disable_logs)),
            ("instances", self.instances.clone().into()),
            ("uid", self.uid.clone().into()),
            ("gid", self.gid.clone().into()),
            ("autorestart", if self.no_autorestart { false.into() } else { Value::Null }),
            ("autostart", if self.no_autostart { false.into() } else { Value::Null }),
            ("stop_exit_codes", self.stop_exit_codes.clone().into()),
            ("restart_delay", self.restart_delay.into()),
            ("exp_backoff_restart_delay", self.exp_backoff_restart_delay.into()),
            ("max_restarts", self.max_restarts.into()),
            ("min_uptime", self.min_uptime.into()),
            ("max_memory_restart", self.max_memory_restart.clone().into()),
            ("cron_restart", self.cron_restart.clone().into()),
            ("watch", watch),
            ("ignore_watch", words(&self.ignore_watch).into()),
            ("wait_ready", yes(self.wait_ready)),
            ("listen_timeout", self.listen_timeout.into()),
            ("kill_timeout", self.kill_timeout.into()),
            ("shutdown_with_message", yes(self.shutdown_with_message)),
        ];
        entry.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// A script that is known, for [`describe`].
struct Known<'a, F> {
    place: &'a Place,
    find: F,
}

impl<F: Fn(&str) -> Option<PathBuf>> Machine for Known<'_, F> {
    fn find(&self, program: &str) -> Option<PathBuf> {
        (self.find)(program)
    }

    fn is_file(&self, path: &Path) -> bool {
        path == self.place.script
    }

    fn read(&self, _: &Path) -> Option<Vec<u8>> {
        None
    }

    fn owner(&self, _: &Path) -> Option<String> {
        self.place.owner.clone()
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn processors(&self) -> u32 {
        1
    }
}

/// The app that the flags mean. `find`: where a program is, by the caller's PATH.
pub fn describe(flags: &Flags, place: &Place, find: impl Fn(&str) -> Option<PathBuf>) -> Result<Draft, Failure> {
    let script = text(&place.script)?;
    let circumstances = Circumstances {
        scope: place.scope,
        directory: &place.directory,
        beside: None,
        profile: None,
        deploy: None,
        listen: &flags.listen,
        runtime: flags.runtime.as_deref(),
        typed: true,
    };
    let read = pm2::app::read(&flags.entry(&script), &circumstances, &Known { place, find });
    let mut draft = read
        .map_err(|mut problems| match problems.len() {
            1 => {
                let problem = problems.remove(0);
                // The machine lacks something; the line itself is sound.
                if problem.contains("is not in your PATH") { Failure::failed(problem) } else { Failure::Usage(problem) }
            }
            _ => Failure::Usage(problems.join("\n")),
        })?
        .draft;
    draft.head = head(&draft.name);
    Ok(draft)
}

/// The app of a line of shell, as an entry of PM2's files would have it: `start "python3 worker.py"`.
pub(super) fn of_line(flags: &Flags, line: &str, scope: Scope) -> Result<Draft, Failure> {
    let directory = directory()?;
    let first = line.split_whitespace().next().unwrap_or_default();
    let is_plain = first.chars().all(|c| c.is_alphanumeric() || "_./-".contains(c));
    if is_plain
        && !["cd", "exec", "export", "source", "."].contains(&first)
        && find_program(first).is_none()
        && !directory.join(first).is_file()
    {
        return Err(Failure::failed(format!("there is no file {line}, and no program {first} for it to be a command")));
    }
    let circumstances = Circumstances {
        scope,
        directory: &directory,
        beside: None,
        profile: None,
        deploy: None,
        listen: &flags.listen,
        runtime: flags.runtime.as_deref(),
        typed: false,
    };
    let read = pm2::app::read(&flags.entry(line), &circumstances, &Here);
    let mut draft = read.map_err(|problems| Failure::failed(problems.join("\n")))?.draft;
    draft.head = head(&draft.name);
    Ok(draft)
}

/// The caller's.
fn directory() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::failed(format!("cannot tell the working directory: {error}")))
}

/// How the file of an app begins that was started without one.
pub(super) fn head(name: &str) -> Vec<String> {
    let mark = WRITTEN_BY_START.trim_start_matches("# ");
    vec![format!("{mark} Change it as you like, then: appctl restart {name}")]
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::failed(format!("{}: its path is not UTF-8", path.display())))
}

/// This machine, and the caller's shell.
pub(super) struct Here;

/// The most that is read of a file that is only looked into, bytes.
const LOOK: u64 = 1 << 20;

impl Machine for Here {
    fn find(&self, program: &str) -> Option<PathBuf> {
        find_program(program)
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path).ok()?.take(LOOK).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn owner(&self, path: &Path) -> Option<String> {
        owner(path)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn processors(&self) -> u32 {
        crate::generator::processors()
    }
}

/// A file's owner by name; `None`: root, or nobody with a name.
fn owner(path: &Path) -> Option<String> {
    let uid = std::fs::metadata(path).ok().map(|metadata| metadata.uid()).filter(|uid| *uid != 0)?;
    Some(nix::unistd::User::from_uid(uid.into()).ok().flatten()?.name)
}

/// Asks the machine about a script. `None`: there is no such file or program.
pub fn look(script: &str, scope: Scope) -> Result<Option<Place>, Failure> {
    let directory = directory()?;
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
    let owner = owner(&script);
    Ok(Some(Place { scope, script, directory, owner }))
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
        let place = Place { script: "/srv/_x y.js".into(), ..place() };
        assert_eq!(describe(&Flags::default(), &place, find).unwrap().name, "x-y", "nobody has chosen it");
        let unreadable = Place { script: "/srv/\u{447}\u{430}\u{442}.js".into(), ..place.clone() };
        assert!(describe(&Flags::default(), &unreadable, find).unwrap_err().to_string().contains("--name"));
        let flags = Flags { name: Some("_x".into()), ..Flags::default() };
        let failure = describe(&flags, &place, find).unwrap_err();
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
