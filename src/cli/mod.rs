//! What the operator sees: the command line, one file a command.
//!
//! Commands get what they need as arguments, print through [`print::Printer`] alone, and end with a code of [`exit`]. What
//! several of them need stands beside them: what words mean (`selector`), an app's file (`apps`, `new_app`), its units
//! (`names`, `manage`, `up`), how it is now (`look`). None of it uses a command in turn: no file of this room is in a circle.

pub mod apps;
pub mod cat;
mod certificates;
pub mod check;
mod complete;
mod conclude;
mod counted;
pub mod counterparts;
mod dashboard;
mod delete;
mod dry;
mod ecosystem;
mod env;
mod errors;
mod evaluate;
mod examples;
pub mod exit;
mod files;
mod follow;
mod ids;
mod import;
mod inside;
mod keyed;
mod linger;
mod list;
mod logs;
mod look;
mod machine;
pub mod man;
mod manage;
mod manages;
mod memory;
mod metrics;
mod monit;
pub mod names;
mod new_app;
mod of_file;
mod owners;
mod ping;
pub mod pm2flags;
pub mod pm2list;
pub mod print;
mod reload;
mod report;
mod reset;
mod restart;
mod rollout;
mod run;
mod scale;
mod scheduled;
pub mod script;
mod secrets;
mod selector;
mod serve;
mod served;
mod shown;
mod signal;
mod stamp;
mod start;
mod start_or;
mod started;
mod statics;
mod status;
mod stop;
mod stopping;
mod trigger;
mod up;
mod upgrade;
mod upgrade_check;
mod watch;
mod whereabouts;

use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Scope;
use crate::system::stamp::Stamp;
use exit::Failure;
use names::Asked;
use print::Printer;

/// Runs clustered Socket.IO, WebSocket and HTTP apps as ordinary systemd units.
#[derive(Debug, Parser)]
#[command(name = "appctl", version = Stamp::own().version.as_str(), disable_help_subcommand = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not running, 4 no such app or no right to manage units."
)]
struct CommandLine {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, Args)]
struct Globals {
    /// The apps of your own user manager (~/.config/appctl)
    #[arg(long, global = true, conflicts_with = "system", help_heading = "Everywhere")]
    user: bool,
    /// The system's apps (/etc/appctl); the default for root
    #[arg(long, global = true, help_heading = "Everywhere")]
    system: bool,
    /// Print data as JSON
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
    /// No progress, only data and errors
    #[arg(
        short,
        long,
        global = true,
        visible_alias = "silent",
        visible_short_alias = 's',
        help_heading = "Everywhere"
    )]
    quiet: bool,
    /// No colours; NO_COLOR=1 is the same
    #[arg(long, global = true, help_heading = "Everywhere")]
    no_color: bool,
}

impl Globals {
    fn asked(self) -> Asked {
        Asked(match (self.user, self.system) {
            (true, _) => Some(Scope::User),
            (_, true) => Some(Scope::System),
            _ => None,
        })
    }

    /// For commands about files alone.
    fn scope_of_all(self) -> Scope {
        let scopes = self.asked().for_all().into_iter();
        let there = |scope: &Scope| apps::names(*scope).is_ok_and(|it| !it.is_empty());
        scopes.rev().find(there).unwrap_or(self.scope())
    }

    /// For those that systemd calls.
    fn scope(self) -> Scope {
        if self.user { Scope::User } else { Scope::System }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start apps: known ones, a TOML file, or a script with PM2's flags
    Start(start::Arguments),
    /// Stop apps or single workers (NAME@SLOT or its id)
    Stop(stop::Arguments),
    /// Stop and start apps or single workers (NAME@SLOT or its id)
    Restart(restart::Arguments),
    /// Replace all workers by new ones, one after the other, without a gap; a broken release changes nothing
    #[command(alias = "gracefulReload")]
    Reload(reload::Arguments),
    /// Stop apps and remove their files
    #[command(visible_alias = "del")]
    Delete(delete::Arguments),
    /// Restart what runs, start what does not
    #[command(name = "startOrRestart")]
    StartOrRestart(start_or::Arguments),
    /// Reload what runs, start what does not
    #[command(name = "startOrReload", visible_alias = "startOrGracefulReload")]
    StartOrReload(start_or::Arguments),
    /// All apps and their workers; cpu is of the last seconds, 100% is one processor
    #[command(visible_aliases = ["ls", "l", "ps"])]
    List(list::Arguments),
    /// One app in full: addresses, units, workers, last errors; without a name: list
    #[command(visible_aliases = ["describe", "show", "info"], alias = "desc")]
    Status(status::Arguments),
    /// Apps and workers on the whole terminal: graphs, logs, and keys to reload, restart and scale
    #[command(alias = "imonit")]
    Monit(monit::Arguments),
    /// The same as monit as a page for a browser, read-only, on this machine alone
    #[command(visible_alias = "dash")]
    Dashboard(dashboard::Arguments),
    /// What apps wrote, from the journal
    Logs(logs::Arguments),
    /// What apps' routers count, in Prometheus' text format (or --json); without a name: all that run
    Metrics(metrics::Arguments),
    /// Turn PM2's ecosystem file, or the apps of a running PM2, into files of appctl, and tell what became of each key
    Import(import::Arguments),
    /// Write a commented sample, in PM2's form and in appctl's
    #[command(visible_alias = "init")]
    Ecosystem(ecosystem::Arguments),
    /// Change an app's number of workers, in its file and at once
    Scale(scale::Arguments),
    /// The workers as PM2's jlist has them: one line of JSON
    Jlist(pm2list::Arguments),
    /// The same as Node's util.inspect writes it
    Prettylist(pm2list::Arguments),
    /// The process ids of workers
    Pid(pm2list::Targets),
    /// The ids of workers, as in list and jlist
    Id(pm2list::Targets),
    /// The environment of a worker, secrets masked
    Env(env::Arguments),
    /// Send a signal to the main processes of workers
    #[command(name = "sendSignal")]
    SendSignal(signal::Arguments),
    /// Call an action that apps have registered (@pm2/io), in each worker, and print the answers
    Trigger(trigger::Arguments),
    /// Count restarts from 0 again
    Reset(reset::Arguments),
    /// Whether systemd and the routers answer
    Ping(ping::Arguments),
    /// What a report of a mistake needs: versions, units, last errors; no secrets
    Report,
    /// The installed build in the place of every router that is another one; workers and connections stay
    Upgrade(upgrade::Arguments),
    /// Whether any router is another build than the one that is installed; exits with 1 then
    UpgradeCheck(upgrade_check::Arguments),
    /// Tell all mistakes of the apps' files
    Check(Names),
    /// Print the units of apps
    Cat(Names),
    /// Serve a directory of files as an app
    #[command(visible_alias = "expose")]
    Serve(serve::Arguments),
    /// Serve a script in the foreground, without systemd
    Run(run::Arguments),
    /// The manual page of a command
    Help(man::Arguments),
    /// What makes a shell complete commands, flags and names of apps
    Completion(complete::Arguments),
    /// What is no command of ours
    #[command(external_subcommand)]
    Other(Vec<String>),
    /// ExecStart= of the router
    #[command(hide = true)]
    Router(inside::Router),
    /// What the unit of a worker calls
    #[command(hide = true, subcommand)]
    Worker(inside::Worker),
    /// What the units of `appctl serve` run
    #[command(hide = true)]
    Site(serve::Worker),
    /// ExecStop= of the router: what its stop or restart means for the workers
    #[command(hide = true)]
    Stopping { name: String },
    /// ExecStartPost= of the router: starts the workers that are missing
    #[command(hide = true)]
    Started {
        #[arg(long)]
        workers: u32,
        name: String,
    },
    /// What the unit beside the router runs that watches files
    #[command(hide = true)]
    Watch(watch::Arguments),
    /// What a timer of an app starts
    #[command(hide = true)]
    Scheduled { act: scheduled::Act, name: String },
    /// Whether a unit is an app's: asked by polkit
    #[command(hide = true)]
    Manages { verb: String, unit: String },
    /// Replaces workers that use too much memory
    #[command(hide = true)]
    Memory(memory::Arguments),
    /// ExecReload= of the router: the rolling reload
    #[command(hide = true)]
    Rollout {
        /// What follows from its end
        #[arg(long)]
        conclude: bool,
        name: String,
    },
}

#[derive(Debug, Args)]
struct Names {
    /// Names of apps, `all`, /regex/, ids or files; none means all
    names: Vec<String>,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    complete::answer();
    let mut words: Vec<_> = std::env::args_os().collect();
    let read = loop {
        let matches = line().try_get_matches_from(&words);
        match matches.and_then(|matches| CommandLine::from_arg_matches(&matches)) {
            Err(error) if inside::leave_out(&mut words, &error) => {}
            read => break read,
        }
    };
    let line = match read {
        Ok(line) => line,
        Err(mut error) => {
            // The rest of the line is hardly a script's, where no command takes one.
            if error.kind() == ErrorKind::UnknownArgument && !takes_words_of_a_script() {
                error.remove(ContextKind::Suggested);
            }
            // Help and version are an answer; the reader may have gone away.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    let printer = Printer::new(line.globals.json, line.globals.quiet);
    let printer = if line.globals.no_color { printer.without_colours() } else { printer };
    match dispatch(line, &printer) {
        Ok(code) => code,
        Err(failure) => {
            if !matches!(failure, Failure::Told(_)) {
                printer.error(&failure.to_string());
            }
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(line: CommandLine, printer: &Printer) -> Result<ExitCode, Failure> {
    let globals = line.globals;
    let asked = globals.asked();
    let command = match line.command {
        Command::Start(arguments) => Command::Start(arguments.completed()?),
        command => command,
    };
    let code = match command {
        Command::Start(arguments) if arguments.script.no_daemon => {
            return run::run(&arguments.into_run()?, printer);
        }
        Command::Start(arguments) if arguments.dry_run => block_on(dry::start(&arguments, asked, printer))?,
        Command::Stop(arguments) if arguments.dry_run => block_on(dry::stop(&arguments, asked, printer))?,
        Command::Restart(arguments) if arguments.dry_run => {
            block_on(dry::restart(&arguments.targets, &arguments.anew.of(), asked, printer))?
        }
        Command::Reload(arguments) if arguments.dry_run => {
            block_on(dry::reload(&arguments.names, &arguments.anew.of(), asked, printer))?
        }
        Command::StartOrRestart(arguments) if arguments.dry_run => {
            block_on(dry::restart(&arguments.targets, &arguments.of(), asked, printer))?
        }
        Command::StartOrReload(arguments) if arguments.dry_run => {
            block_on(dry::reload(&arguments.targets, &arguments.of(), asked, printer))?
        }
        Command::Delete(arguments) if arguments.dry_run => block_on(dry::delete(&arguments, asked, printer))?,
        Command::Scale(arguments) if arguments.dry_run => block_on(dry::scale(&arguments, asked, printer))?,
        Command::SendSignal(arguments) if arguments.dry_run => block_on(dry::signal(&arguments, asked, printer))?,
        Command::Reset(arguments) if arguments.dry_run => block_on(dry::reset(&arguments.targets, asked, printer))?,
        Command::Trigger(arguments) if arguments.dry_run => block_on(dry::trigger(&arguments, asked, printer))?,
        Command::Start(arguments) => block_on(start::run(&arguments, asked, printer))?,
        Command::Stop(targets) => block_on(stop::run(&targets, asked, printer))?,
        Command::Restart(restart::Arguments { targets, anew, .. }) => {
            block_on(files::act(start_or::Act::Restart, &targets, &anew, asked, printer))?
        }
        Command::Reload(arguments) if arguments.is_plain() => {
            block_on(files::act(start_or::Act::Reload, &arguments.names, &arguments.anew, asked, printer))?
        }
        Command::Reload(arguments) => block_on(reload::run(&arguments, asked, printer))?,
        Command::Delete(arguments) => block_on(delete::run(&arguments, asked, printer))?,
        Command::List(arguments) => block_on(list::run(&arguments, asked, printer))?,
        Command::Status(arguments) => block_on(status::run(&arguments, asked, printer))?,
        Command::Logs(arguments) => block_on(logs::run(&arguments, asked, printer))?,
        Command::Dashboard(arguments) => block_on(dashboard::run(&arguments, asked, printer))?,
        Command::Monit(arguments) => block_on(monit::run(&arguments, asked, printer))?,
        Command::Metrics(arguments) => block_on(metrics::run(&arguments, asked, printer))?,
        Command::Import(arguments) => import::run(&arguments, asked, printer)?,
        Command::Ecosystem(arguments) => ecosystem::run(&arguments, printer)?,
        Command::Scale(arguments) => block_on(scale::run(&arguments, asked, printer))?,
        Command::StartOrRestart(arguments) => {
            arguments.habits.tell(printer);
            block_on(start_or::run(start_or::Act::Restart, &arguments.targets, &arguments.of(), asked, printer))?
        }
        Command::StartOrReload(arguments) => {
            arguments.habits.tell(printer);
            block_on(start_or::run(start_or::Act::Reload, &arguments.targets, &arguments.of(), asked, printer))?
        }
        Command::Jlist(arguments) => block_on(pm2list::jlist(&arguments, asked, printer))?,
        Command::Prettylist(arguments) => block_on(pm2list::prettylist(&arguments, asked, printer))?,
        Command::Pid(arguments) => block_on(pm2list::pid(&arguments, asked, printer))?,
        Command::Id(arguments) => block_on(pm2list::id(&arguments, asked, printer))?,
        Command::Env(arguments) => block_on(env::run(&arguments, asked, printer))?,
        Command::SendSignal(arguments) => block_on(signal::run(&arguments, asked, printer))?,
        Command::Trigger(arguments) => block_on(trigger::run(&arguments, asked, printer))?,
        Command::Reset(arguments) => block_on(reset::run(&arguments, asked, printer))?,
        Command::Ping(arguments) => block_on(ping::run(&arguments, asked, printer))?,
        Command::Report => block_on(report::run(asked, printer))?,
        Command::Upgrade(arguments) => block_on(upgrade::run(&arguments, asked, printer))?,
        Command::UpgradeCheck(arguments) => block_on(upgrade_check::run(&arguments.names, asked, printer))?,
        Command::Help(arguments) => man::run(&arguments, printer)?,
        Command::Completion(arguments) => complete::run(&arguments, printer)?,
        Command::Other(words) => counterparts::answer(words.first().map_or("", String::as_str), &commands(), printer)?,
        Command::Check(names) => block_on(of_files(&names.names, true, globals, check::run))?,
        Command::Cat(names) => block_on(of_files(&names.names, false, globals, cat::run))?,
        Command::Serve(arguments) => block_on(serve::run(&arguments, asked, printer))?,
        Command::Site(arguments) => block_on(serve::worker(&arguments))?,
        Command::Run(arguments) => return run::run(&arguments, printer),
        Command::Router(arguments) => return inside::router(&arguments, globals.scope()),
        Command::Worker(arguments) => inside::worker(&arguments, globals.user, printer),
        Command::Started { workers, name } => block_on(started::run(&name, workers, globals.scope(), printer))?,
        Command::Memory(arguments) => block_on(memory::run(&arguments, globals.scope()))?,
        Command::Watch(arguments) => block_on(watch::run(&arguments, globals.scope()))?,
        Command::Manages { verb, unit } => manages::run(&verb, &unit),
        Command::Scheduled { act, name } => block_on(scheduled::run(act, &name, globals.scope(), printer))?,
        Command::Rollout { name, conclude: true } => block_on(conclude::run(&name, globals.scope(), printer))?,
        Command::Rollout { name, conclude: false } => block_on(rollout::run(&name, globals.scope(), printer))?,
        Command::Stopping { name } => block_on(stopping::run(&name, globals.scope(), printer))?,
    };
    Ok(ExitCode::from(code))
}

/// Whether the command is one that starts a script, whose own flags come behind a `--`.
fn takes_words_of_a_script() -> bool {
    std::env::args().skip(1).find(|word| !word.starts_with('-')).is_some_and(|word| word == "start" || word == "run")
}

/// `check` and `cat`: scope by scope.
async fn of_files(
    words: &[String],
    paths: bool,
    globals: Globals,
    run: fn(&[String], Scope) -> u8,
) -> Result<u8, Failure> {
    if words.is_empty() {
        return Ok(run(&[], globals.scope_of_all()));
    }
    let found = selector::of_files(words, paths, globals.asked()).await?;
    // `all`, and there are none.
    Ok(found.iter().map(|(scope, names)| run(names, *scope)).max().unwrap_or_else(|| run(&[], globals.scope_of_all())))
}

/// The whole command line: with examples, and with the names of apps for a shell that completes.
fn line() -> clap::Command {
    let mut line = complete::with_names(CommandLine::command());
    for (name, _) in examples::ALL {
        if let Some(examples) = examples::of(name) {
            line = line.mut_subcommand(name, |command| command.after_help(format!("Examples:\n{examples}")));
        }
    }
    line
}

/// The commands that an operator may type, and their aliases.
fn commands() -> Vec<String> {
    let line = line();
    let shown = line.get_subcommands().filter(|command| !command.is_hide_set());
    shown
        .flat_map(|command| std::iter::once(command.get_name()).chain(command.get_all_aliases()))
        .map(str::to_owned)
        .collect()
}

/// Runs a command that waits for others, on this one thread.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(error.to_string()))?;
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        line().debug_assert();
    }

    #[test]
    fn what_is_a_command_needs_no_counterpart() {
        let all = commands();
        let both = counterparts::ALL.iter().flat_map(|it| it.verbs).filter(|verb| all.iter().any(|it| it == *verb));
        assert_eq!(both.collect::<Vec<_>>(), [] as [&&str; 0]);
    }

    fn parse(line: &str) -> CommandLine {
        CommandLine::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn pm2_habits() {
        let Command::Start(start) = parse("appctl start worker.js -i max --name chat -- --port 1 -x").command else {
            panic!()
        };
        assert_eq!(start.script.instances.as_deref(), Some("max"));
        assert_eq!(start.script.name.as_deref(), Some("chat"));
        assert_eq!(start.script.arguments, ["--port", "1", "-x"]);
        let Command::Start(start) = parse("appctl start --watch a.js --cron-restart=0 --ignore-watch *.x").command
        else {
            panic!()
        };
        assert_eq!((start.targets, start.script.watch), (vec!["a.js".into()], vec![String::new()]));
        assert_eq!(start.script.ignore_watch, ["*.x"]);
        let Command::Start(start) = parse("appctl start a b -i -1").command else { panic!() };
        assert_eq!((start.targets, start.script.instances.as_deref()), (vec!["a".into(), "b".into()], Some("-1")));
    }

    #[test]
    fn scale_by_less() {
        for (typed, number) in [("-2", "-2"), ("+2", "+2"), ("max", "max"), ("7", "7")] {
            let Command::Scale(scale) = parse(&format!("appctl scale shop {typed}")).command else { panic!() };
            assert_eq!(scale.number, number);
        }
    }

    #[test]
    fn what_units_call() {
        let line = parse("appctl --user worker exec --runtime=bun shop 2 -- bun run -- --x");
        assert!(line.globals.user);
        let Command::Worker(inside::Worker::Exec { runtime, worker, program, .. }) = line.command else { panic!() };
        assert_eq!((runtime, worker.name.as_str(), worker.slot.as_str()), (crate::config::Runtime::Bun, "shop", "2"));
        assert_eq!(program, ["bun", "run", "--", "--x"]);

        let Command::Router(router) = parse("appctl router --workers=3 --balance=random shop").command else {
            panic!()
        };
        assert_eq!(router.words, ["--workers=3", "--balance=random", "shop"]);
        let Command::Worker(inside::Worker::Drain { timeout, worker, .. }) =
            parse("appctl worker drain --timeout=2s shop 1").command
        else {
            panic!()
        };
        assert_eq!((timeout, worker.slot.as_str()), (std::time::Duration::from_secs(2), "1"));
    }
}
