//! PM2's commands that are no commands here: what is already so, or what to do instead.
//!
//! [`ALL`] is what a migration guide tells, too: a row is true of every app, names no app, and is one sentence or two.

use super::exit::{DONE, Failure, USAGE};
use super::print::Printer;

/// What there is instead of one of PM2's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counterpart {
    /// The command and its aliases, as PM2 has them.
    pub verbs: &'static [&'static str],
    pub answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is so without the command, which ends with 0.
    AlreadySo(&'static str),
    /// Nothing does that here, and the command ends with 2: what to do instead, or why not.
    Instead(&'static str),
}

impl Answer {
    pub fn text(self) -> &'static str {
        match self {
            Self::AlreadySo(text) | Self::Instead(text) => text,
        }
    }
}

const fn so(verbs: &'static [&'static str], text: &'static str) -> Counterpart {
    Counterpart { verbs, answer: Answer::AlreadySo(text) }
}

const fn instead(verbs: &'static [&'static str], text: &'static str) -> Counterpart {
    Counterpart { verbs, answer: Answer::Instead(text) }
}

/// Every command of PM2 that is not one of ours, in the order of its manual.
pub const ALL: &[Counterpart] = &[
    so(
        &["save", "dump"],
        "Nothing to save: the files of the apps are what is kept, and systemd starts them at boot (`start` in the file \
         says whether).",
    ),
    so(
        &["resurrect"],
        "Nothing to bring back: systemd starts the apps at boot by itself. `appctl start all` starts those that somebody \
         has stopped.",
    ),
    so(
        &["startup"],
        "Nothing to set up: every app comes up at boot by itself, unless its file says `start = \"manual\"`. (Your own \
         apps, --user, need `loginctl enable-linger` for it.)",
    ),
    instead(
        &["unstartup"],
        "Each app's file says whether it comes up at boot: write `start = \"manual\"` there, then `systemctl daemon-reload`.",
    ),
    instead(&["cleardump"], "There is no saved list to empty: `appctl delete NAME` removes an app for good."),
    so(
        &["update", "updatePM2", "deepUpdate"],
        "Nothing to update: no daemon holds the apps. A new appctl is in use from the next command on, and in each app's \
         router from its next start on; workers go on.",
    ),
    instead(
        &["kill"],
        "There is no daemon to kill: `appctl stop all` stops all apps, which systemd starts again at the next boot.",
    ),
    instead(
        &["flush"],
        "Lines are in systemd's journal, which drops the oldest by itself (SystemMaxUse= of journald.conf(5)); \
         `journalctl --vacuum-time=2d` drops them now, those of all units. `appctl logs NAME --since now -f` shows only \
         what is new.",
    ),
    so(&["reloadLogs"], "Nothing to open again: workers write to systemd's journal, and to no files."),
    so(
        &["logrotate"],
        "Nothing to rotate: systemd's journal rotates by itself, and keeps as much as SystemMaxUse= of journald.conf(5) \
         says.",
    ),
    instead(
        &["deploy"],
        "appctl copies no releases to other machines: let your CI, rsync or ssh do that, then `appctl reload NAME`, which \
         changes nothing if the release does not work.",
    ),
    instead(
        &["pull", "forward", "backward"],
        "appctl does not touch your repository: `git pull` or `git checkout` in the app's directory, then `appctl reload \
         NAME`.",
    ),
    instead(
        &["send", "attach"],
        "A worker's standard input is /dev/null under systemd: call the app by `appctl trigger NAME ACTION PARAM` (@pm2/io), and \
         see what it writes by `appctl logs NAME -f`. One worker that reads lines can have a FIFO (mkfifo) which its user may \
         read and write: `exec = [\"sh\", \"-c\", \"exec node worker.js <>/run/NAME.in\"]`, then `echo LINE > /run/NAME.in`.",
    ),
    instead(
        &["inspect"],
        "Start the inspector by a signal, `appctl sendSignal SIGUSR1 NAME@SLOT`, and connect to 127.0.0.1:9229; or put \
         --inspect into the app's `exec`.",
    ),
    instead(
        &["profile:cpu", "profile:mem"],
        "There is no daemon to profile; of a worker, `node --cpu-prof` or `--heap-prof` in the app's `exec` writes a \
         profile when it ends.",
    ),
    instead(
        &["slist", "sysinfos"],
        "The machine's own figures are not appctl's: use `systemd-cgtop`, top(1) or a node exporter.",
    ),
    instead(
        &["set", "get", "unset", "multiset", "conf", "config"],
        "appctl has no settings of its own: what an app needs is in its file, appctl.toml(5).",
    ),
    instead(
        &["install", "uninstall", "module:install", "module:update", "module:uninstall", "module:generate"],
        "There are no modules: logs are rotated by the journal, metrics are in `appctl metrics`, and other programs are \
         units of their own.",
    ),
    instead(&["package", "module:package", "publish", "module:publish"], "There are no modules to package or publish."),
    instead(&["create"], "appctl makes no sample programs: `appctl start SCRIPT` takes the one that you have."),
    instead(
        &["link", "unlink", "monitor", "unmonitor", "open", "plus", "register", "login", "logout"],
        "PM2 Plus is a service of PM2's makers. Here `appctl metrics` speaks Prometheus, and the journal has the rest.",
    ),
    instead(
        &["install-otel", "uninstall-otel", "autoinstall"],
        "appctl installs nothing into your app: add OpenTelemetry to it, with `node --import` in `exec`.",
    ),
    instead(&["examples"], "`appctl COMMAND --help` ends with examples of each command."),
];

/// What there is instead of a command, if it is one of PM2's.
pub fn of(verb: &str) -> Option<&'static Counterpart> {
    ALL.iter().find(|counterpart| counterpart.verbs.contains(&verb))
}

/// Answers a word that is no command. `commands`: those that there are, with their aliases.
pub(super) fn answer(verb: &str, commands: &[String], printer: &Printer) -> Result<u8, Failure> {
    match of(verb).map(|counterpart| counterpart.answer) {
        Some(Answer::AlreadySo(text)) => {
            printer.note(text);
            return Ok(DONE);
        }
        Some(Answer::Instead(text)) => return Err(Failure::Usage(format!("no command {verb} here: {text}"))),
        None => {}
    }
    let known = ALL.iter().flat_map(|counterpart| counterpart.verbs).map(|&verb| verb.to_owned());
    let all: Vec<String> = commands.iter().cloned().chain(known).collect();
    let hint = match super::apps::nearest(verb, &all) {
        Some(near) => format!("Did you mean `appctl {near}`?"),
        None => "`appctl --help` lists the commands.".to_owned(),
    };
    printer.error(&format!("there is no command {verb}\n{hint}"));
    Err(Failure::Told(USAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_is_there_once_and_says_something() {
        let mut verbs: Vec<&str> = ALL.iter().flat_map(|counterpart| counterpart.verbs.iter().copied()).collect();
        let many = verbs.len();
        verbs.sort_unstable();
        verbs.dedup();
        assert_eq!(verbs.len(), many);
        for counterpart in ALL {
            let text = counterpart.answer.text();
            assert!(text.len() > 30 && text.ends_with(['.', ')']) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn codes() {
        let printer = Printer::new(false, true);
        assert_eq!(answer("save", &[], &printer).unwrap(), DONE);
        assert_eq!(answer("deploy", &[], &printer).unwrap_err().code(), USAGE);
        assert_eq!(answer("strat", &["start".into()], &printer).unwrap_err().code(), USAGE);
    }
}
