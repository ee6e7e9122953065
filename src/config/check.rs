//! From the file as typed to the checked [`App`]: every key, its default, and what is wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::file::{Item, Table, Text, nearest};
use super::report::{Level, Problem, Problems, Report};
use super::router::{self, FIELDS, RouterSettings};
use super::value::{self, Listen, Wrong};
use super::{App, Limits, Restart, Runtime, Scope, Start, Stop, Workers};

/// The most workers of one app: the router's descriptor store holds their channels (`FileDescriptorStoreMax=512`).
pub const WORKERS_MAX: u32 = 500;

/// The longest list of addresses.
const LISTEN_MAX: usize = 64;

/// Reads the file of the app `name`. Pure: `source` is only remembered.
pub fn parse(name: &str, source: &Path, text: &str, scope: Scope) -> Report {
    let mut problems = Problems::new(text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in syntax {
        let span = error.span().unwrap_or(0..0);
        let remedy = if error.message().contains("string") || error.message().contains("literal") {
            "write text in double quotes"
        } else {
            ""
        };
        problems.error(span, error.message().to_owned(), remedy);
    }
    let app = read_app(name, source, scope, Table::new("", document.get_ref()), &mut problems);
    let mut problems = problems.finish();
    if let Err(wrong) = value::check_name(name) {
        problems.insert(0, Problem::whole(Level::Error, wrong.reason, wrong.remedy));
    }
    let usable = problems.iter().all(|problem| problem.level != Level::Error);
    Report { app: app.filter(|_| usable), problems }
}

/// `None` when something that has no default is missing; other mistakes show only in `problems`.
fn read_app(name: &str, source: &Path, scope: Scope, mut top: Table<'_>, problems: &mut Problems) -> Option<App> {
    let directory = top.take("directory").and_then(|item| read_directory(&item, problems));
    let exec = read_exec(top.take("exec"), directory.is_some() || scope == Scope::User, problems);
    let user = top.take("user").and_then(|item| read_account(&item, scope, problems));
    let group = top.take("group").and_then(|item| read_account(&item, scope, problems));
    let workers = top.take("workers").and_then(|item| read_workers(&item, problems)).unwrap_or(Workers::Count(1));
    let listen = top.take("listen").map(|item| read_listen(&item, scope, problems)).unwrap_or_default();
    let runtime = top.take("runtime").and_then(|item| read_runtime(&item, problems));
    let start_item = top.take("start");
    let start = start_item.as_ref().and_then(|item| read_start(item, problems)).unwrap_or(Start::Boot);
    if let (Start::Demand, true, Some(item)) = (start, listen.is_empty(), &start_item) {
        problems.error(
            item.span.clone(),
            "start = \"demand\" needs an address: nothing could ask for the app",
            "add listen = [\"8080\"], or write start = \"boot\"",
        );
    }
    let environment_files =
        top.take("environment_files").map(|item| read_environment_files(&item, directory.as_deref(), problems));
    let (environment, profile, profiles) = read_environment(&mut top, problems);
    let drain = top.take("drain").and_then(|item| item.read(problems, value::read_span));
    let (settings, ready_timeout) = read_router(&mut top, problems);
    let stop = read_stop(&mut top, problems);
    let restart = read_restart(&mut top, problems);
    let limits = read_limits(&mut top, problems);
    let service = read_pass_through(&mut top, "service", service_key, problems);
    let socket = read_pass_through(&mut top, "socket", socket_key, problems);
    top.finish(problems);

    let exec = exec?;
    let runtime = runtime.unwrap_or_else(|| guess_runtime(&exec));
    Some(App {
        name: name.to_owned(),
        source: source.to_owned(),
        scope,
        exec,
        directory,
        user,
        group,
        workers,
        listen,
        profile,
        profiles,
        environment,
        environment_files: environment_files.unwrap_or_default(),
        runtime,
        start,
        stop,
        drain: drain.unwrap_or(Duration::from_secs(2)),
        restart,
        limits,
        ready_timeout,
        router: settings,
        service,
        socket,
    })
}

fn read_directory(item: &Item<'_>, problems: &mut Problems) -> Option<PathBuf> {
    let text = item.text(problems)?.text;
    let result = value::one_line(&text).and_then(|()| {
        if text.starts_with('/') {
            Ok(PathBuf::from(&text))
        } else if text.starts_with('~') {
            Err(Wrong::new(
                "`~` is the shell's; it means nothing here",
                "write the whole path, such as \"/home/me/app\"",
            ))
        } else {
            Err(Wrong::new(
                format!("`{text}` is not an absolute path"),
                format!("write the whole path, such as \"/srv/{text}\""),
            ))
        }
    });
    item.check(problems, result)
}

/// Scripts that need a program to run them, and that program.
const SCRIPTS: [(&str, &str); 8] = [
    (".js", "node"),
    (".mjs", "node"),
    (".cjs", "node"),
    (".ts", "bun"),
    (".mts", "bun"),
    (".py", "python3"),
    (".rb", "ruby"),
    (".php", "php"),
];

fn script_runner(word: &str) -> Option<&'static str> {
    SCRIPTS.iter().find(|(ending, _)| word.ends_with(ending)).map(|(_, runner)| *runner)
}

fn read_exec(item: Option<Item<'_>>, rooted: bool, problems: &mut Problems) -> Option<Vec<String>> {
    let Some(item) = item else {
        problems.error(
            0..0,
            "exec is missing: what is to be run?",
            "add a line such as exec = \"node worker.js\" at the top",
        );
        return None;
    };
    let words = if item.is_text() {
        let text = item.text(problems)?;
        let words = shlex::split(&text.text)
            .ok_or_else(|| {
                Wrong::new("a quote is not closed", "close it, or write an array: exec = [\"node\", \"worker.js\"]")
            })
            .and_then(|words| no_shell(&text.text, words));
        let words = item.check(problems, words)?;
        words.into_iter().map(|word| Text { text: word, span: item.span.clone() }).collect()
    } else {
        item.words(problems)?
    };
    for word in &words {
        if word.text.contains('\0') {
            problems.error(word.span.clone(), "exec: an argument contains a NUL character", "remove it");
            return None;
        }
    }
    let Some(program) = words.first().filter(|word| !word.text.trim().is_empty()) else {
        problems.error(item.span, "exec is empty: what is to be run?", "write a command such as \"node worker.js\"");
        return None;
    };
    let whole = words.iter().map(|word| word.text.clone()).collect::<Vec<String>>();
    if let (false, Some(runner)) = (program.text.contains('/'), script_runner(&program.text)) {
        problems.error(
            program.span.clone(),
            format!("`{}` is a script, not a program", program.text),
            format!("write exec = \"{runner} {}\"", whole.join(" ")),
        );
    } else if ["npm", "npx", "yarn", "pnpm"].contains(&file_name(&program.text)) {
        problems.error(
            program.span.clone(),
            format!("`{}` runs the app as its child, but it is itself what the router would talk to", program.text),
            "write what it runs (see \"scripts\" in package.json), such as exec = \"node worker.js\"",
        );
    } else if program.text.contains('/') && !program.text.starts_with('/') && !rooted {
        problems.error(
            program.span.clone(),
            format!("`{}` is relative, and no directory is given", program.text),
            "write the whole path, or add directory = \"/srv/app\"",
        );
    } else if let Some(script) = words.iter().skip(1).find(|word| !word.text.starts_with(['/', '-'])) {
        if !rooted && script_runner(&script.text).is_some() {
            problems.warn(
                script.span.clone(),
                format!("`{}` is relative, and no directory is given: it will be looked for in /", script.text),
                "add directory = \"/srv/app\", or write the whole path",
            );
        }
    }
    Some(whole)
}

/// Refuses what only a shell could do with the words of a string.
fn no_shell(text: &str, words: Vec<String>) -> Result<Vec<String>, Wrong> {
    let operators = ["&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"];
    let found = words.iter().find(|word| operators.contains(&word.as_str()));
    match found {
        Some(operator) => Err(Wrong::new(
            format!("no shell reads this, `{operator}` would be an argument of the program"),
            format!("if a shell is wanted, write exec = [\"/bin/sh\", \"-c\", {:?}]", format!("exec {text}")),
        )),
        None => match words.first() {
            Some(first) if first.split_once('=').is_some_and(|(key, _)| is_variable(key)) => {
                let (key, value) = first.split_once('=').unwrap_or_default();
                Err(Wrong::new(
                    format!("no shell reads this, `{first}` would be the program"),
                    format!("put the variable under [environment]: {key} = \"{value}\""),
                ))
            }
            _ => Ok(words),
        },
    }
}

fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

fn guess_runtime(exec: &[String]) -> Runtime {
    let program = exec.iter().map(|word| file_name(word)).find(|word| *word != "env" && !word.starts_with('-'));
    match program {
        Some("bun" | "bunx") => Runtime::Bun,
        Some("deno") => Runtime::Deno,
        _ => Runtime::Node,
    }
}

fn read_account(item: &Item<'_>, scope: Scope, problems: &mut Problems) -> Option<String> {
    if scope == Scope::User {
        problems.error(
            item.span.clone(),
            format!("{}: the user's own manager cannot run an app as somebody else", item.path),
            "remove it, or put the file into /etc/appctl",
        );
        return None;
    }
    item.read(problems, |text| {
        if value::is_user_name(text) || text.parse::<u32>().is_ok() {
            Ok(text.to_owned())
        } else {
            Err(Wrong::new(
                format!("`{text}` cannot be an account"),
                "write a name of at most 31 ASCII letters, digits, `_` and `-`, or a number",
            ))
        }
    })
}

fn read_workers(item: &Item<'_>, problems: &mut Problems) -> Option<Workers> {
    const REMEDY: &str = "write a number from 1 to 500, \"max\" (one a processor) or \"max-1\"";
    item.read(problems, |text| {
        if text == "max" {
            return Ok(Workers::MaxMinus(0));
        }
        if let Some(less) = text.strip_prefix("max-") {
            let less =
                less.trim().parse().map_err(|_| Wrong::new(format!("`{text}` is not a number of workers"), REMEDY))?;
            return Ok(Workers::MaxMinus(less));
        }
        match text.parse::<i64>() {
            Ok(0) => Err(Wrong::new("an app needs a worker", "write \"max\" for one a processor, as 0 means to PM2")),
            Ok(n) if n < 0 => {
                Err(Wrong::new(format!("{n} workers?"), format!("write \"max{n}\" for all processors less {}", -n)))
            }
            Ok(n) => match u32::try_from(n) {
                Ok(count) if count <= WORKERS_MAX => Ok(Workers::Count(count)),
                _ => Err(Wrong::new(format!("{n} workers are too many"), REMEDY)),
            },
            Err(_) => Err(Wrong::new(format!("`{text}` is not a number of workers"), REMEDY)),
        }
    })
}

fn read_listen(item: &Item<'_>, scope: Scope, problems: &mut Problems) -> Vec<Listen> {
    let mut listen = Vec::new();
    let elements = item.elements();
    if elements.len() > LISTEN_MAX {
        problems.error(item.span.clone(), format!("listen: more than {LISTEN_MAX} addresses"), "");
        return listen;
    }
    for element in elements {
        let Some(address) = element.read(problems, Listen::read) else { continue };
        if let Some(other) = listen.iter().find(|other| address.overlaps(other)) {
            let message = if *other == address {
                format!("listen: `{address}` is there twice")
            } else {
                format!("listen: `{address}` and `{other}` overlap, the second could not be opened")
            };
            problems.error(element.span.clone(), message, "remove one");
            continue;
        }
        let port = match &address {
            Listen::Port(port) => Some(*port),
            Listen::Address(address) => Some(address.port()),
            Listen::Path(_) => None,
        };
        if let (Scope::User, Some(port @ ..1024)) = (scope, port) {
            problems.warn(
                element.span.clone(),
                format!("listen: a user may not listen on port {port} unless the machine's settings allow it"),
                "choose a port from 1024, or put the file into /etc/appctl",
            );
        }
        listen.push(address);
    }
    listen
}

fn read_runtime(item: &Item<'_>, problems: &mut Problems) -> Option<Runtime> {
    item.read(problems, |text| match text {
        "node" => Ok(Runtime::Node),
        "bun" => Ok(Runtime::Bun),
        "deno" => Ok(Runtime::Deno),
        _ => Err(Wrong::new(format!("there is no runtime `{text}`"), "write \"node\", \"bun\" or \"deno\"")),
    })
}

fn read_start(item: &Item<'_>, problems: &mut Problems) -> Option<Start> {
    item.read(problems, |text| match text {
        "boot" => Ok(Start::Boot),
        "demand" => Ok(Start::Demand),
        "manual" => Ok(Start::Manual),
        _ => Err(Wrong::new(
            format!("start: `{text}` is not one of the choices"),
            "write \"boot\", \"demand\" (on the first connection) or \"manual\"",
        )),
    })
}

fn read_environment_files(item: &Item<'_>, directory: Option<&Path>, problems: &mut Problems) -> Vec<String> {
    let mut files = Vec::new();
    for element in item.elements() {
        let Some(text) = element.text(problems) else { continue };
        let path = text.text.strip_prefix('-').unwrap_or(&text.text);
        let result = value::one_line(&text.text).and_then(|()| {
            if path.starts_with('/') {
                return Ok(text.text.clone());
            }
            let directory = directory.unwrap_or(Path::new("/srv/app"));
            Err(Wrong::new(
                format!("`{path}` is not an absolute path"),
                format!("write the whole path, such as \"{}\"", directory.join(path).display()),
            ))
        });
        files.extend(element.check(problems, result));
    }
    files
}

type Environment = BTreeMap<String, String>;

/// `[environment]`, `active_profile` and `[profile.NAME.environment]`: the variables in force, the profile, all profiles.
fn read_environment(top: &mut Table<'_>, problems: &mut Problems) -> (Environment, Option<String>, Vec<String>) {
    let mut environment = top.take("environment").map(|item| read_variables(&item, problems)).unwrap_or_default();
    let active = top.take("active_profile").and_then(|item| item.text(problems));
    let mut profiles = Vec::new();
    let mut found = None;
    for (name, item) in top.take_table("profile", problems).take_rest() {
        profiles.push(name.text.clone());
        let Some(mut table) = item.table(problems) else { continue };
        let variables = table.take("environment").map(|item| read_variables(&item, problems)).unwrap_or_default();
        table.finish(problems);
        if active.as_ref().is_some_and(|active| active.text == name.text) {
            found = Some(variables);
        }
    }
    profiles.sort_unstable();
    match (&active, found) {
        (Some(_), Some(variables)) => environment.extend(variables),
        (Some(active), None) => {
            let candidates: Vec<&str> = profiles.iter().map(String::as_str).collect();
            let remedy = match nearest(&active.text, &candidates) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("add [profile.{}.environment]", active.text),
            };
            problems.error(
                active.span.clone(),
                format!("active_profile: there is no profile `{}`", active.text),
                remedy,
            );
        }
        (None, _) => {}
    }
    (environment, active.map(|active| active.text), profiles)
}

/// Variables by which Node finds its channel: the worker's start sets them.
const OWN_VARIABLES: [&str; 3] = ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID"];

fn is_variable(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn read_variables(item: &Item<'_>, problems: &mut Problems) -> Environment {
    let mut variables = Environment::new();
    let Some(mut table) = item.table(problems) else { return variables };
    for (key, item) in table.take_rest() {
        if !is_variable(&key.text) {
            problems.error(
                key.span,
                format!("`{}` cannot be the name of a variable", key.text),
                "use ASCII letters, digits and `_`, a letter first",
            );
            continue;
        }
        if OWN_VARIABLES.contains(&key.text.as_str()) {
            problems.error(key.span, format!("{} is set by appctl for each worker", key.text), "remove it");
            continue;
        }
        let Some(text) = item.scalar(["false", "true"], problems) else { continue };
        if let Some(bad) = text.text.chars().find(|c| c.is_control() && !"\t\n".contains(*c)) {
            problems.error(
                item.span.clone(),
                format!(
                    "{}: it contains the control character U+{:04X}, which systemd refuses",
                    item.path,
                    u32::from(bad)
                ),
                "remove the character",
            );
            continue;
        }
        variables.insert(key.text, text.text);
    }
    variables
}

/// `[router]` and `[ready]`; the time until a worker is ready is systemd's to hold.
fn read_router(top: &mut Table<'_>, problems: &mut Problems) -> (RouterSettings, Duration) {
    let mut settings = RouterSettings::default();
    let mut table = top.take_table("router", problems);
    let mut ready = top.take_table("ready", problems);
    let mut grace = None;
    for field in &FIELDS {
        let item = match field.table {
            router::Table::Router => table.take(field.key),
            router::Table::Ready => ready.take(field.key.trim_start_matches("ready_")),
            router::Table::Top => None,
        };
        let Some(item) = item else { continue };
        item.read(problems, |text| field.read(&mut settings, text));
        if field.key == "ready_grace" {
            grace = Some(item);
        }
    }
    let timeout = ready.take("timeout").and_then(|item| item.read(problems, positive_span));
    let timeout = timeout.unwrap_or(Duration::from_secs(60));
    if settings.ready_grace >= timeout && settings.ready_on == router::ReadyOn::Auto {
        if let Some(grace) = grace {
            problems.error(
                grace.span,
                format!("ready.grace is not shorter than ready.timeout ({})", value::write_span(timeout)),
                "no silent worker could become ready: shorten grace, or lengthen timeout",
            );
        } else {
            settings.ready_grace = timeout / 2;
        }
    }
    table.finish(problems);
    ready.finish(problems);
    (settings, timeout)
}

/// systemd takes 0 for "no limit" where a limit of 0 makes no sense.
fn positive_span(text: &str) -> Result<Duration, Wrong> {
    let span = value::read_span(text)?;
    if span.is_zero() {
        return Err(Wrong::new("it must be longer than 0", "write \"infinity\" for no limit"));
    }
    Ok(span)
}

fn read_stop(top: &mut Table<'_>, problems: &mut Problems) -> Stop {
    let mut table = top.take_table("stop", problems);
    let signal = table.take("signal").and_then(|item| item.read(problems, value::read_signal));
    let timeout = table.take("timeout").and_then(|item| item.read(problems, value::read_span));
    table.finish(problems);
    Stop { signal: signal.unwrap_or("SIGTERM".to_owned()), timeout: timeout.unwrap_or(Duration::from_secs(10)) }
}

/// The values of `Restart=`, systemd.service(5).
const POLICIES: [&str; 7] = ["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"];

fn read_restart(top: &mut Table<'_>, problems: &mut Problems) -> Restart {
    let mut table = top.take_table("restart", problems);
    let policy = table.take("policy").and_then(|item| {
        let text = item.scalar(["no", "always"], problems)?;
        let known = POLICIES.contains(&text.text.as_str());
        let names = POLICIES.map(|name| format!("\"{name}\"")).join(", ");
        let wrong =
            || Wrong::new(format!("`{}` is not one of the choices", text.text), format!("write one of {names}"));
        item.check(problems, known.then(|| text.text.clone()).ok_or_else(wrong))
    });
    let delay = table.take("delay").and_then(|item| item.read(problems, value::read_span));
    let delay = delay.unwrap_or(Duration::from_millis(100));
    let limit_item = table.take("limit");
    let limit = limit_item.as_ref().and_then(|item| item.integer::<u32>(problems, "from 1"));
    if let (Some(0), Some(item)) = (limit, &limit_item) {
        problems.error(
            item.span.clone(),
            "restart.limit: 0 would forbid the first start",
            "write policy = \"no\" to never restart",
        );
    }
    let interval_item = table.take("interval");
    let interval = interval_item.as_ref().and_then(|item| item.read(problems, positive_span));
    match (limit, &interval_item) {
        (None, Some(item)) if limit_item.is_none() => problems.warn(
            item.span.clone(),
            "restart.interval has no effect without restart.limit",
            "add limit = 16: so many starts within the interval, then the worker stays down",
        ),
        _ => {}
    }
    let interval = interval.unwrap_or(Duration::from_secs(60));
    if let (Some(limit), Some(item)) = (limit, &limit_item) {
        if delay.checked_mul(limit).is_some_and(|least| least >= interval) && delay != Duration::MAX {
            problems.warn(
                item.span.clone(),
                format!(
                    "restart.limit is never reached: {limit} starts take longer than the interval ({}) with a delay of {}",
                    value::write_span(interval),
                    value::write_span(delay)
                ),
                "lengthen interval",
            );
        }
    }
    table.finish(problems);
    Restart { policy: policy.unwrap_or("always".to_owned()), delay, limit, interval }
}

fn read_limits(top: &mut Table<'_>, problems: &mut Problems) -> Limits {
    let mut table = top.take_table("limits", problems);
    let memory = table.take("memory").and_then(|item| item.read(problems, read_memory));
    let cpu = table.take("cpu").and_then(|item| item.read(problems, read_quota));
    let tasks = table.take("tasks").and_then(|item| {
        item.read(problems, |text| {
            let fits = text == "infinity" || is_percentage(text, 100.0) || text.parse::<u64>().is_ok_and(|n| n > 0);
            fits.then(|| text.to_owned()).ok_or_else(|| {
                Wrong::new(
                    format!("`{text}` is not a number of tasks"),
                    "write a number from 1, a percentage or \"infinity\"",
                )
            })
        })
    });
    let files = table.take("files").and_then(|item| {
        item.read(problems, |text| {
            let fits = |it: &str| it == "infinity" || it.parse::<u64>().is_ok_and(|n| n > 0);
            let all = text.split_once(':').map_or(fits(text), |(soft, hard)| fits(soft) && fits(hard));
            all.then(|| text.to_owned()).ok_or_else(|| {
                Wrong::new(
                    format!("`{text}` is not a number of files"),
                    "write a number such as 65536, or \"soft:hard\"",
                )
            })
        })
    });
    table.finish(problems);
    Limits { memory, cpu, tasks, files }
}

fn read_memory(text: &str) -> Result<String, Wrong> {
    if text == "infinity" || is_percentage(text, 100.0) {
        return Ok(text.to_owned());
    }
    let bytes = value::read_size(text)?;
    if bytes < 1 << 20 {
        return Err(Wrong::new(
            format!("{bytes} bytes are too few for any program"),
            if text.bytes().all(|byte| byte.is_ascii_digit()) {
                format!("write \"{text}M\" for mebibytes")
            } else {
                "write a size such as \"512M\"".to_owned()
            },
        ));
    }
    Ok(value::write_size(bytes))
}

fn read_quota(text: &str) -> Result<String, Wrong> {
    if is_percentage(text, 1e6) {
        return Ok(text.to_owned());
    }
    let remedy = match text.parse::<f64>() {
        Ok(processors) if processors > 0.0 && processors <= 64.0 => {
            format!("write \"{:.0}%\" for {text} processors", processors * 100.0)
        }
        _ => "write a percentage of one processor, such as \"150%\"".to_owned(),
    };
    Err(Wrong::new(format!("`{text}` is not a quota"), remedy))
}

/// `12.5%`, more than 0 and at most `most`.
fn is_percentage(text: &str, most: f64) -> bool {
    text.strip_suffix('%').is_some_and(|number| {
        number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && number.parse::<f64>().is_ok_and(|number| number > 0.0 && number <= most)
    })
}

/// What to do instead of passing a key through; `None`: it may be passed.
type Forbidden = fn(&str) -> Option<&'static str>;

fn service_key(key: &str) -> Option<&'static str> {
    Some(match key {
        "ExecStart" => "write the command with exec",
        "Type" | "NotifyAccess" | "PIDFile" | "GuessMainPID" | "RemainAfterExit" | "BusName" => {
            "remove it: the worker is ready when its app says so, see [ready]"
        }
        "Sockets" => "remove it: the router has the sockets; write addresses with listen",
        "FileDescriptorStoreMax" | "NonBlocking" | "StandardInput" => {
            "remove it: it would disturb the worker's channel"
        }
        "User" | "DynamicUser" => "write the account with user",
        "Group" => "write the group with group",
        "WorkingDirectory" => "write the directory with directory",
        "Environment" | "PassEnvironment" | "UnsetEnvironment" => "write variables in [environment]",
        "EnvironmentFile" => "write the files with environment_files",
        "KillSignal" | "RestartKillSignal" => "write signal in [stop]",
        "TimeoutStopSec" => "write timeout in [stop], and drain",
        "TimeoutStartSec" => "write timeout in [ready]",
        "TimeoutSec" => "write timeout in [ready] and in [stop]",
        "Restart" => "write policy in [restart]",
        "RestartSec" => "write delay in [restart]",
        "StartLimitInterval" | "StartLimitIntervalSec" => "write interval in [restart]",
        "StartLimitBurst" => "write limit in [restart]",
        "MemoryMax" | "MemoryLimit" => "write memory in [limits]",
        "CPUQuota" => "write cpu in [limits]",
        "TasksMax" => "write tasks in [limits]",
        "LimitNOFILE" => "write files in [limits]",
        "Slice" | "Delegate" => "remove it: the router knows its workers by their place in the slice of the app",
        "WatchdogSec" => "remove it: the worker cannot answer systemd's watchdog",
        "SyslogIdentifier" | "LogNamespace" => "remove it: `appctl logs` could not find the lines",
        _ if UNIT_KEYS.contains(&key) => "that key belongs into [Unit]: use `systemctl edit NAME@.service`",
        _ => return None,
    })
}

fn socket_key(key: &str) -> Option<&'static str> {
    Some(match key {
        "ListenStream" => "write addresses with listen",
        "FileDescriptorName" | "Service" | "Accept" => "remove it: the router finds its sockets by it",
        _ if key.starts_with("Listen") => "remove it: an app has stream sockets only; write addresses with listen",
        _ if UNIT_KEYS.contains(&key) => "that key belongs into [Unit]: use `systemctl edit NAME.socket`",
        _ => return None,
    })
}

/// Keys of `[Unit]` that people try to pass.
const UNIT_KEYS: [&str; 14] = [
    "After",
    "Before",
    "Wants",
    "Requires",
    "Requisite",
    "BindsTo",
    "PartOf",
    "Conflicts",
    "Upholds",
    "OnFailure",
    "Description",
    "Documentation",
    "ConditionPathExists",
    "RequiresMountsFor",
];

/// `[service]` and `[socket]`: systemd's own keys, an array is one line an element.
fn read_pass_through(
    top: &mut Table<'_>,
    name: &'static str,
    forbidden: Forbidden,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for (key, item) in top.take_table(name, problems).take_rest() {
        let shaped = key.text.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && key.text.bytes().next().is_some_and(|first| first.is_ascii_uppercase());
        if !shaped {
            problems.error(
                key.span,
                format!("`{}` is not a key of systemd", key.text),
                format!(
                    "[{name}] takes the keys of systemd.{name}(5), written as they are there, such as {}",
                    if name == "service" { "Nice" } else { "Backlog" }
                ),
            );
            continue;
        }
        if let Some(remedy) = forbidden(&key.text) {
            problems.error(key.span, format!("{} cannot be passed through", key.text), remedy);
            continue;
        }
        for element in item.elements() {
            let Some(text) = element.scalar(["no", "yes"], problems) else { continue };
            if element.check(problems, value::one_line(&text.text)).is_some() {
                lines.push((key.text.clone(), text.text));
            }
        }
    }
    lines
}
