//! Reading the journal, by `journalctl` as a child: the one stable interface to it that needs no C library.

use std::io::{self, BufRead};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use super::bus::Manager;
use super::ended::MARK;

/// Which lines: the apps' own, and what systemd says about their units.
#[derive(Debug, Clone)]
pub struct Query {
    pub manager: Manager,
    /// Any of them is enough.
    pub matches: Vec<Match>,
    /// At most this many lines of the past.
    pub lines: Option<u32>,
    pub follow: bool,
    /// Only lines since then, as systemd.time(7) writes it.
    pub since: Option<String>,
    /// The entry to begin with, by its cursor; then `lines` and `since` say nothing.
    pub from: Option<String>,
    pub levels: Levels,
    pub output: Output,
}

/// The lines of one app, or of one of its workers.
///
/// Fields, and no glob of units: journalctl expands a glob once, so that units which start later would not show in what
/// it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub of: Of,
    /// Units of which the manager's own lines (started, exited with status …) are wanted.
    pub units: Vec<String>,
}

/// Whose own lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// All units' of an app: they carry the field `APP` (`LogExtraFields=`).
    App(String),
    /// One worker's: it carries the field `SLOT` as well.
    Worker { app: String, slot: String },
    /// One unit's, by its name.
    Unit(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    All,
    /// Priority *err* and worse.
    Errors,
    /// The others.
    Others,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Time, identifier, text; the time in one form or the other.
    Short,
    Iso,
    Precise,
    Full,
    Unix,
    /// The text alone.
    Raw,
    /// One JSON object a line.
    Json,
    /// The same, with these fields alone; commas between them.
    Fields(&'static str),
}

/// The field that journald itself puts to what a unit's processes write (systemd.journal-fields(7)).
fn own_field(manager: Manager) -> &'static str {
    match manager {
        Manager::System => "_SYSTEMD_UNIT",
        Manager::User => "_SYSTEMD_USER_UNIT",
    }
}

/// The slice of a user's own app, in which all of it runs.
pub fn user_slice(app: &str) -> String {
    format!("app-{}.slice", app.replace('-', "\\x2d"))
}

impl Query {
    /// The arguments of journalctl(1). Groups of matches are joined by `+`: any of them is enough.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = vec!["--no-pager".into(), "--quiet".into()];
        if self.manager == Manager::User {
            arguments.push("--user".into());
        }
        match &self.from {
            Some(cursor) => arguments.extend([format!("--cursor={cursor}"), "--no-tail".into()]),
            None => {
                arguments.extend(self.lines.map(|lines| format!("--lines={lines}")));
                arguments.extend(self.since.iter().map(|since| format!("--since={since}")));
            }
        }
        if self.follow {
            arguments.push("--follow".into());
        }
        match self.levels {
            Levels::All => {}
            Levels::Errors => arguments.push("--priority=err".into()),
            Levels::Others => arguments.push("--priority=warning..debug".into()),
        }
        let form = match self.output {
            Output::Short => "short",
            Output::Iso => "short-iso",
            Output::Precise => "short-precise",
            Output::Full => "short-full",
            Output::Unix => "short-unix",
            Output::Raw => "cat",
            Output::Json | Output::Fields(_) => "json",
        };
        arguments.push(format!("--output={form}"));
        match self.output {
            Output::Raw => {}
            // Else it leaves out what is longer than 4 KiB.
            Output::Json => arguments.push("--all".into()),
            Output::Fields(fields) => arguments.extend(["--all".into(), format!("--output-fields={fields}")]),
            _ => arguments.push("--no-hostname".into()),
        }
        // PID 1 writes UNIT=, a user's manager USER_UNIT= (systemd.journal-fields(7)).
        let field = match self.manager {
            Manager::System => "UNIT",
            Manager::User => "USER_UNIT",
        };
        // Matches of one field are alternatives, those of different fields have to hold together, `+` is an or.
        for (at, wanted) in self.matches.iter().enumerate() {
            if at > 0 {
                arguments.push("+".into());
            }
            match (&wanted.of, self.manager) {
                // journald knows LogExtraFields= of the system's units only.
                (Of::App(app), Manager::User) => arguments.push(format!("_SYSTEMD_USER_SLICE={}", user_slice(app))),
                (Of::Worker { app, slot }, Manager::User) => {
                    arguments.push(format!("_SYSTEMD_USER_UNIT={app}@{slot}.service"));
                }
                (Of::App(app), Manager::System) => arguments.push(format!("APP={app}")),
                (Of::Worker { app, slot }, Manager::System) => {
                    arguments.extend([format!("APP={app}"), format!("SLOT={slot}")]);
                }
                (Of::Unit(unit), _) => arguments.push(format!("{}={unit}", own_field(self.manager))),
            }
            if wanted.units.is_empty() {
                continue;
            }
            arguments.push("+".into());
            if self.manager == Manager::System {
                arguments.push("_PID=1".into());
            }
            arguments.extend(wanted.units.iter().map(|unit| format!("{field}={unit}")));
        }
        arguments
    }

    /// With a time *and* a number: journalctl before systemd 254 would give the oldest lines since then; this makes it the
    /// newest.
    pub fn begin_with_the_newest(&mut self) -> io::Result<()> {
        let (Some(since), Some(lines @ 1..)) = (&self.since, self.lines) else { return Ok(()) };
        let mut arguments =
            Self { follow: false, lines: None, since: None, output: Output::Json, ..self.clone() }.arguments();
        arguments.retain(|argument| argument != "--all");
        let (first, rest): (Vec<String>, Vec<String>) = arguments.into_iter().partition(|it| it.starts_with("--"));
        let more = ["--reverse".to_owned(), "--output-fields=PRIORITY".to_owned(), format!("--since={since}")];
        let mut journalctl = Command::new("journalctl");
        journalctl.args(first.iter().chain(&more).chain(&rest)).stdin(Stdio::null()).stderr(Stdio::null());
        let mut journalctl = journalctl.stdout(Stdio::piped()).spawn()?;
        let newest = journalctl.stdout.take().map(io::BufReader::new);
        let cursor = newest.and_then(|newest| {
            let lines = newest.lines().map_while(Result::ok).take(lines as usize);
            let entry: serde_json::Value = serde_json::from_str(&lines.last()?).ok()?;
            Some(entry["__CURSOR"].as_str()?.to_owned())
        });
        // It may have much more to say.
        let _ = journalctl.kill();
        journalctl.wait()?;
        self.from = cursor;
        Ok(())
    }

    /// Becomes journalctl; returns only when that is impossible.
    pub fn exec(&self) -> io::Error {
        use std::os::unix::process::CommandExt;
        self.shown().exec()
    }

    /// Starts journalctl, whose standard output is a pipe. Text has colours in it: errors are red.
    pub fn spawn(&self) -> io::Result<std::process::Child> {
        let colours = if matches!(self.output, Output::Json | Output::Fields(_)) { "0" } else { "1" };
        self.shown().env("SYSTEMD_COLORS", colours).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
    }

    fn shown(&self) -> Command {
        let mut arguments = self.arguments();
        if !matches!(self.output, Output::Raw | Output::Json | Output::Fields(_)) {
            // "No entries", and whether that is for want of rights.
            arguments.retain(|argument| argument != "--quiet");
        }
        let mut command = Command::new("journalctl");
        command.args(arguments);
        command
    }

    /// The lines at hand, oldest first.
    pub fn read(&self) -> io::Result<Vec<String>> {
        run(&self.arguments())
    }
}

/// Whether this user may read any of the journal: journald keeps one for each user only on disk.
pub fn is_readable() -> bool {
    let machines = ["/var/log/journal", "/run/log/journal"].into_iter().filter_map(|root| std::fs::read_dir(root).ok());
    let files = machines.flatten().flatten().filter_map(|machine| std::fs::read_dir(machine.path()).ok());
    let mut journals = files.flatten().flatten().map(|file| file.path());
    journals.any(|path| path.extension().is_some_and(|it| it == "journal") && std::fs::File::open(path).is_ok())
}

/// The last lines of a unit, for somebody who asks why it failed.
#[derive(Debug, Clone)]
pub struct Last<'a> {
    pub manager: Manager,
    pub unit: &'a str,
    pub since: SystemTime,
    pub lines: u32,
}

impl Last<'_> {
    /// What its processes wrote: those of one run where it wrote any, else all since then.
    ///
    /// `invocation`: the unit's `InvocationID` in hex. It is already another's when systemd has started the unit again.
    pub fn of_its_own(&self, invocation: Option<String>) -> io::Result<Vec<String>> {
        if let Some(invocation) = invocation {
            let found = self.read(&[format!("_SYSTEMD_INVOCATION_ID={invocation}")])?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        self.read(&[self.since(), format!("{}={}", own_field(self.manager), self.unit)])
    }

    /// What the manager says about it, warnings and worse.
    pub fn of_the_manager(&self) -> io::Result<Vec<String>> {
        let warnings = "--priority=warning".to_owned();
        match self.manager {
            Manager::System => self.read(&[self.since(), warnings, "_PID=1".into(), format!("UNIT={}", self.unit)]),
            Manager::User => self.read(&[self.since(), warnings, format!("USER_UNIT={}", self.unit)]),
        }
    }

    fn since(&self) -> String {
        let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("--since=@{}.{:06}", since.as_secs(), since.subsec_micros())
    }

    fn read(&self, matches: &[String]) -> io::Result<Vec<String>> {
        let mut arguments: Vec<String> =
            vec!["--no-pager".into(), "--quiet".into(), "--output=cat".into(), format!("--lines={}", self.lines + 1)];
        if self.manager == Manager::User {
            arguments.push("--user".into());
        }
        arguments.extend_from_slice(matches);
        let mut lines = run(&arguments)?;
        lines.retain(|line| !line.starts_with(MARK));
        Ok(lines.split_off(lines.len().saturating_sub(self.lines as usize)))
    }
}

/// Lines of priority *err* and worse that a unit wrote, or the manager about it; the last of them, oldest first.
pub fn errors_of(manager: Manager, unit: &str, lines: u32) -> io::Result<Vec<String>> {
    let mut arguments: Vec<String> =
        ["--no-pager", "--quiet", "--priority=err", "--output=short-iso", "--no-hostname"].map(str::to_owned).into();
    arguments.push(format!("--lines={lines}"));
    if manager == Manager::User {
        arguments.extend(["--user".to_owned(), format!("--user-unit={unit}")]);
    } else {
        arguments.push(format!("--unit={unit}"));
    }
    run(&arguments)
}

/// The last `lines` entries of an app with this `MESSAGE_ID=`, as JSON, oldest first.
pub fn of_a_kind(manager: Manager, app: &str, kind: &str, lines: u32) -> io::Result<Vec<String>> {
    let mut arguments: Vec<String> = ["--no-pager", "--quiet", "--output=json", "--all"].map(str::to_owned).into();
    arguments.push(format!("--lines={lines}"));
    if manager == Manager::User {
        arguments.push("--user".to_owned());
    }
    arguments.extend([format!("APP={app}"), format!("MESSAGE_ID={kind}")]);
    run(&arguments)
}

/// What one run of a unit wrote, its last `lines`, oldest first. `invocation`: the run's id in hex.
pub async fn of_a_run(manager: Manager, unit: &str, invocation: &str, lines: u32) -> io::Result<Vec<String>> {
    let mut journalctl = tokio::process::Command::new("journalctl");
    journalctl.args(["--no-pager", "--quiet", "--output=cat", &format!("--lines={lines}")]);
    // Without --user, which leaves out the system's files: a user's lines are there where users have none of their own.
    journalctl.args([format!("_SYSTEMD_INVOCATION_ID={invocation}"), format!("{}={unit}", own_field(manager))]);
    let output = journalctl.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Asks journald to write out what it has, so that the last words of a process are there to be read. For root alone.
pub fn sync() {
    if nix::unistd::geteuid().is_root() {
        // Without it the lines are there a moment later.
        let _ = run(&["--sync".into()]);
    }
}

fn run(arguments: &[String]) -> io::Result<Vec<String>> {
    let output = Command::new("journalctl").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> Query {
        Query {
            manager: Manager::System,
            matches: vec![
                Match { of: Of::App("shop".into()), units: vec!["shop.service".into(), "shop@1.service".into()] },
                Match { of: Of::Worker { app: "chat".into(), slot: "2".into() }, units: vec!["chat@2.service".into()] },
            ],
            lines: Some(15),
            follow: true,
            since: None,
            from: None,
            levels: Levels::All,
            output: Output::Short,
        }
    }

    #[test]
    fn an_app_and_what_pid_1_says_of_its_units() {
        assert_eq!(
            query().arguments().join(" "),
            "--no-pager --quiet --lines=15 --follow --output=short --no-hostname \
             APP=shop + _PID=1 UNIT=shop.service UNIT=shop@1.service + APP=chat SLOT=2 + _PID=1 UNIT=chat@2.service"
        );
    }

    #[test]
    fn one_unit_by_its_name() {
        let matches = vec![Match { of: Of::Unit("shop.service".into()), units: vec!["shop.service".into()] }];
        let of = |manager| Query { manager, matches: matches.clone(), ..query() }.arguments().join(" ");
        assert!(of(Manager::System).ends_with(" _SYSTEMD_UNIT=shop.service + _PID=1 UNIT=shop.service"));
        assert!(of(Manager::User).ends_with(" _SYSTEMD_USER_UNIT=shop.service + USER_UNIT=shop.service"));
    }

    #[test]
    fn a_users_manager_writes_other_fields() {
        let query =
            Query { manager: Manager::User, follow: false, levels: Levels::Errors, output: Output::Json, ..query() };
        assert_eq!(
            query.arguments().join(" "),
            "--no-pager --quiet --user --lines=15 --priority=err --output=json --all \
             _SYSTEMD_USER_SLICE=app-shop.slice + USER_UNIT=shop.service USER_UNIT=shop@1.service \
             + _SYSTEMD_USER_UNIT=chat@2.service + USER_UNIT=chat@2.service"
        );
    }
}
