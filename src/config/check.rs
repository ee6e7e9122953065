//! From the file as typed to the checked [`App`]: every key, its default, and what is wrong with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::effect::{Places, check_effect};
use super::environment::{read_environment, read_environment_files, read_numbering};
use super::exec::read_exec;
use super::file::{Item, Table};
use super::limits::read_limits;
use super::listen::{self, ListenOptions};
use super::networks::Networks;
use super::pass::{read_pass_through, service_key, socket_key};
use super::report::{Level, Problem, Problems, Report};
use super::restart::read_restart;
use super::router::{self, FIELDS, Protocol, RouterSettings};
use super::runtime::{Beside, check_runtime, read_runtime};
use super::schedule::read_schedule;
use super::sticky::{Kind, Sticky};
use super::stop::read_stop;
use super::value::{self, Listen, Wrong};
use super::watch::read_watch;
use super::{App, Reload, Runtime, Scope, Start, Workers};

/// The most workers of one app: the router's descriptor store holds their channels (`FileDescriptorStoreMax=512`).
pub const WORKERS_MAX: u32 = 500;

/// The longest list of addresses.
const LISTEN_MAX: usize = 64;

/// Reads the file of the app `name`. Pure: `source` is only remembered.
pub fn parse(name: &str, source: &Path, text: &str, scope: Scope) -> Report {
    let mut problems = Problems::new(text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        problems.syntax(error.span().unwrap_or(0..0), error.message());
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
    let places = Places::of(&top);
    let directory_item = top.take("directory");
    let directory = directory_item.as_ref().and_then(|item| read_directory(item, problems));
    let exec_item = top.take("exec");
    let exec_span = exec_item.as_ref().map_or(0..0, |item| item.span.clone());
    let exec = read_exec(exec_item, directory.is_some() || scope == Scope::User, problems);
    let user = top.take("user").and_then(|item| read_account(&item, scope, problems));
    let group = top.take("group").and_then(|item| read_account(&item, scope, problems));
    let workers = top.take("workers").and_then(|item| read_workers(&item, problems)).unwrap_or(Workers::Count(1));
    let listen_item = top.take("listen");
    let mut options = ListenOptions::default();
    let listen = listen_item.as_ref().map(|item| read_listen(item, scope, &mut options, problems)).unwrap_or_default();
    let runtime =
        top.take("runtime").map(|item| read_runtime(&item, problems).map(|runtime| (runtime, item.span.clone())));
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
    let numbering = read_numbering(&mut top, problems);
    let drain = top.take("drain").and_then(|item| item.read(problems, value::read_span));
    let (mut settings, ready_timeout) = read_router(&mut top, &listen, problems);
    if let (Protocol::Tcp, false, Some(item)) = (settings.protocol, options.0.is_empty(), &listen_item) {
        problems.error(
            item.span.clone(),
            "listen: with router.protocol = \"tcp\" the router reads nothing, so neither tls nor proxy_protocol",
            "remove them, and let the app do that; or remove protocol",
        );
    }
    let proxied = options.0.iter().find(|options| options.proxy_protocol);
    if let (Some(options), true, Some(place)) =
        (proxied, settings.trusted_proxies.is_empty(), places.get("router.trusted_proxies"))
    {
        problems.warn(
            place,
            format!(
                "router.trusted_proxies is empty, so every connection to `{}` is refused: proxy_protocol is for trusted \
                 proxies alone",
                options.address
            ),
            "write where the balancer is, such as [\"10.0.0.0/8\"], and \"127.0.0.0/8\" if it is on this machine",
        );
    }
    settings.listen = options;
    let stop = read_stop(&mut top, problems);
    let restart = read_restart(&mut top, problems);
    let reload = read_reload(&mut top, problems);
    let limits = read_limits(&mut top, problems);
    let schedule = read_schedule(&mut top, problems);
    // One that is wrong has been told of.
    let base = directory.as_deref().or(directory_item.map(|_| Path::new("/")));
    let watch = read_watch(&mut top, base, problems);
    let notifies = settings.ready_on == router::ReadyOn::Notify;
    let service_key = |key: &str| if notifies && key == "WatchdogSec" { None } else { service_key(key) };
    let service = read_pass_through(&mut top, "service", service_key, problems);
    let socket = read_pass_through(&mut top, "socket", socket_key, problems);
    top.finish(problems);

    let exec = exec?;
    let beside = Beside {
        exec: &exec,
        exec_span,
        settings: &settings,
        stop: &stop,
        environment: &environment,
        listens: !listen.is_empty(),
        profile: profile.as_deref(),
        places: &places,
    };
    let runtime = match runtime {
        // What is wrong has been told.
        Some(None) => Runtime::Node,
        Some(written) => check_runtime(written, &beside, problems),
        None => check_runtime(None, &beside, problems),
    };
    // What has mistakes may mean something else.
    if !problems.has_error() {
        check_effect(runtime, &settings, &places, problems);
    }
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
        numbering,
        runtime,
        start,
        stop,
        drain: drain.unwrap_or(Duration::from_secs(2)),
        restart,
        reload,
        limits,
        schedule,
        watch,
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
                format!("write the whole path, such as \"{}{text}\"", if text.contains('/') { "/" } else { "/srv/" }),
            ))
        }
    });
    item.check(problems, result)
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
    if item.is_text_of(&["nobody", "nogroup"]) {
        problems.warn(
            item.span.clone(),
            format!("{}: systemd warns of that account: others use it for what should have no rights", item.path),
            "remove it, and the app gets a user of its own",
        );
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

fn read_listen(item: &Item<'_>, scope: Scope, options: &mut ListenOptions, problems: &mut Problems) -> Vec<Listen> {
    let mut listen = Vec::new();
    let elements = item.elements();
    if elements.len() > LISTEN_MAX {
        problems.error(item.span.clone(), format!("listen: more than {LISTEN_MAX} addresses"), "");
        return listen;
    }
    for element in elements {
        let Some(address) = listen::read_element(&element, options, problems) else { continue };
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

fn read_start(item: &Item<'_>, problems: &mut Problems) -> Option<Start> {
    item.read(problems, |text| match text {
        "boot" => Ok(Start::Boot),
        "demand" => Ok(Start::Demand),
        "manual" => Ok(Start::Manual),
        _ => Err(Wrong::new(
            format!("`{text}` is not one of the choices"),
            "write \"boot\", \"demand\" (on the first connection) or \"manual\"",
        )),
    })
}

/// `[router]`, `[ready]` and `[health]`; the time until a worker is ready is systemd's to hold.
fn read_router(top: &mut Table<'_>, listen: &[Listen], problems: &mut Problems) -> (RouterSettings, Duration) {
    let mut settings = RouterSettings::default();
    let mut table = top.take_table("router", problems);
    let mut ready = top.take_table("ready", problems);
    let mut health = top.take_table("health", problems);
    let (mut grace, mut metrics, mut sticky) = (None, None, None);
    for field in &FIELDS {
        let item = match field.table {
            router::Table::Router => table.take(field.key),
            router::Table::Ready => ready.take(field.key.trim_start_matches("ready_")),
            router::Table::Health => health.take(field.key.trim_start_matches("health_")),
            router::Table::Top => None,
            router::Table::File => top.take(field.key),
        };
        let Some(item) = item else { continue };
        read_field(&item, field, &mut settings, problems);
        if field.key == "metrics" {
            metrics = Some(item.clone());
        }
        if field.key == "ready_grace" {
            grace = Some(item);
        } else if field.key == "sticky" {
            sticky = Some(item);
        }
    }
    if let Some(item) = sticky {
        check_sticky(&item, &settings, problems);
    }
    if let (Some(item), Some(address)) = (metrics, &settings.metrics)
        && let Some(other) = listen.iter().find(|other| address.overlaps(other))
    {
        problems.error(
            item.span,
            format!("router.metrics: clients come in at `{other}`"),
            "give the metrics an address of their own",
        );
    }
    let timeout = ready.take("timeout").and_then(|item| item.read(problems, value::positive_span));
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
    health.finish(problems);
    (settings, timeout)
}

/// One setting; a list is read element by element, so that each mistake has its place, and then as a whole.
fn read_field(item: &Item<'_>, field: &router::Field, settings: &mut RouterSettings, problems: &mut Problems) {
    if field.key == "access_log" {
        if let Some(text) = item.scalar(["false", "true"], problems) {
            let read = field.read(settings, &text.text);
            item.check(problems, read.map_err(|wrong| Wrong::new(wrong.reason, "write true or false")));
        }
        return;
    }
    let one: fn(&str) -> Result<String, Wrong> = match field.key {
        "trusted_proxies" => |text| Networks::read(text).map(|networks| networks.to_string()),
        "sticky" => |text| Sticky::read(text).map(|sticky| sticky.to_string()),
        _ => {
            item.read(problems, |text| field.read(settings, text));
            return;
        }
    };
    let elements = item.elements();
    let good: Vec<_> = elements.iter().filter_map(|element| element.read(problems, one)).collect();
    if good.len() == elements.len() || field.key != "sticky" {
        item.check(problems, field.read(settings, &good.join(",")));
    }
}

/// Whether there is a place where these keys can be read.
fn check_sticky(item: &Item<'_>, settings: &RouterSettings, problems: &mut Problems) {
    let unread = |kind: &&Kind| **kind != Kind::Address;
    let kinds = settings.sticky.kinds();
    if let (Protocol::Tcp, Some(kind)) = (settings.protocol, kinds.iter().find(unread)) {
        problems.error(
            item.span.clone(),
            format!("sticky: with router.protocol = \"tcp\" nothing is read, and \"{kind}\" cannot be found"),
            "write \"address\" or \"none\", or remove router.protocol",
        );
    } else if let (router::Shared::Never, Some(kind)) = (settings.shared, settings.sticky.needs_requests()) {
        problems.error(
            item.span.clone(),
            format!("sticky: \"{kind}\" needs requests that are routed one by one, and router.shared is \"never\""),
            "remove router.shared",
        );
    }
}

fn read_reload(top: &mut Table<'_>, problems: &mut Problems) -> Reload {
    let mut table = top.take_table("reload", problems);
    let surge_item = table.take("surge");
    let surge = surge_item.as_ref().and_then(|item| item.integer::<u32>(problems, "from 1"));
    if let (Some(0), Some(item)) = (surge, &surge_item) {
        problems.error(
            item.span.clone(),
            "reload.surge: with 0 nothing would be replaced",
            "write how many workers may be replaced at a time, such as 1",
        );
    }
    let settle = table.take("settle").and_then(|item| item.read(problems, value::read_span));
    table.finish(problems);
    Reload { surge: surge.unwrap_or(1).max(1), settle: settle.unwrap_or(Duration::from_secs(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Stop;
    use proptest::prelude::*;

    fn parse_app(text: &str) -> Report {
        parse("app", Path::new("/etc/appctl/app.toml"), text, Scope::System)
    }

    fn app(text: &str) -> App {
        let report = parse_app(&format!("exec = 'a'\n{text}"));
        report.app.unwrap_or_else(|| panic!("{:#?}", report.problems))
    }

    #[test]
    fn defaults() {
        let app = app("");
        assert_eq!(app.workers, Workers::Count(1));
        assert_eq!((app.start, app.runtime), (Start::Boot, Runtime::Node));
        assert_eq!((app.restart.policy.as_str(), app.restart.limit), ("always", None));
        assert_eq!(app.restart.delay, Duration::from_millis(100));
        assert_eq!(app.stop, Stop { signal: "SIGTERM".to_owned(), timeout: Duration::from_secs(10), message: None });
        assert_eq!(app.router, RouterSettings::default());
        assert!(app.listen.is_empty() && app.environment.is_empty() && app.service.is_empty());
    }

    #[test]
    fn a_command_is_a_string_or_an_array() {
        for (text, words) in [
            ("exec = 'node \"my worker.js\" --x=1'", vec!["node", "my worker.js", "--x=1"]),
            ("exec = ['node', 'a b', 3, '']", vec!["node", "a b", "3", ""]),
            ("exec = 'node a\\ b'", vec!["node", "a b"]),
            ("exec = ['/bin/sh', '-c', 'a && b']", vec!["/bin/sh", "-c", "a && b"]),
        ] {
            let report = parse_app(text);
            assert_eq!(
                report.app.map(|app| app.exec),
                Some(words.iter().map(|it| (*it).to_owned()).collect()),
                "{text}"
            );
        }
    }

    #[test]
    fn the_runtime_is_guessed() {
        for (exec, runtime) in [
            ("node /x.js", Runtime::Node),
            ("/usr/local/bin/bun /x.ts", Runtime::Bun),
            ("deno run -A /x.ts", Runtime::Deno),
            ("/usr/bin/env bun /x.ts", Runtime::Bun),
            ("/srv/serve", Runtime::Node),
        ] {
            assert_eq!(parse_app(&format!("exec = '{exec}'")).app.unwrap().runtime, runtime, "{exec}");
        }
        assert_eq!(app("runtime = 'deno'").runtime, Runtime::Deno);
    }

    #[test]
    fn the_active_profile_is_merged_on_top() {
        let text = "active_profile = 'p'\n[environment]\nA = 1\nB = 1\n[profile.p.environment]\nB = 2\n[profile.q.environment]\nB = 3";
        let app = app(text);
        let variables: Vec<(&str, &str)> =
            app.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(variables, [("A", "1"), ("B", "2")]);
        assert_eq!(
            (app.profile.as_deref(), app.profiles.as_slice()),
            (Some("p"), ["p".to_owned(), "q".to_owned()].as_slice())
        );
    }

    #[test]
    fn stickiness_that_nothing_can_read() {
        let told = |text: &str| {
            let report = parse_app(&format!("exec = 'a'\n{text}"));
            assert!(report.app.is_none() || report.problems.is_empty(), "{text}");
            report.problems.iter().map(|it| format!("{} ({})", it.message, it.remedy)).collect::<Vec<_>>().join("\n")
        };
        for (text, want) in [
            ("sticky = 'cookie'", ""),
            ("sticky = ['engine.io', 'header:A']", ""),
            ("[router]\nprotocol = 'tcp'", ""),
            ("sticky = 'address'\n[router]\nprotocol = 'tcp'\nshared = 'never'", ""),
            ("sticky = ['engine.io', 'address']\n[router]\nshared = 'never'", ""),
            ("sticky = []", "no kind of stickiness"),
            ("sticky = ['cookie', 'sid', 'header:']", "no stickiness `sid`"),
            ("sticky = ['cookie', 'sid', 'header:']", "does not name a header"),
            ("sticky = ['none', 'cookie']", "never have its turn"),
            ("sticky = 'engine.io'\n[router]\nprotocol = 'tcp'", "nothing is read, and \"engine.io\""),
            ("sticky = ['address', 'cookie']", "\"cookie\" after \"address\""),
            ("sticky = ['engine.io', 'cookie']\n[router]\nshared = 'never'", "\"cookie\" needs requests"),
            ("[router]\ncookie = 'a b'", "name of a cookie"),
            ("[router]\nkey_timeout = '100ms'", "at least 1s"),
        ] {
            let told = told(text);
            assert!(told.contains(want) && told.is_empty() == want.is_empty(), "{text}: {told}");
        }
    }

    #[test]
    fn listen_is_one_or_many() {
        assert_eq!(app("listen = 80").listen, [Listen::Port(80)]);
        assert_eq!(app("listen = '80'").listen, [Listen::Port(80)]);
        assert_eq!(app("listen = [80, '/run/x']").listen, [Listen::Port(80), Listen::Path("/run/x".into())]);
    }

    #[test]
    fn passed_keys_keep_their_order_and_lines() {
        let app = app("[service]\nNice = 5\nIPAddressAllow = ['a', 'b']\nPrivateTmp = true\nCPUWeight = 10");
        let lines: Vec<String> = app.service.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(lines, ["Nice=5", "IPAddressAllow=a", "IPAddressAllow=b", "PrivateTmp=yes", "CPUWeight=10"]);
    }

    #[test]
    fn an_unknown_key_leaves_the_app_usable() {
        let report = parse_app("exec = 'a'\nfoo = 1");
        assert!(report.app.is_some() && !report.passes());
        assert_eq!(report.problems[0].level, Level::UnknownKey);
    }

    #[test]
    fn a_file_of_garbage_is_told_briefly() {
        let garbage = "= [}\n".repeat(100_000);
        let unknown: String = (0..100_000).map(|number| format!("k{number} = 1\n")).collect();
        for text in [garbage, unknown] {
            let report = parse_app(&text);
            assert!(report.app.is_none() && report.problems.len() < 110, "{}", report.problems.len());
        }
    }

    /// Text that is nearly a good file.
    fn near_files() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec![
            "exec",
            "directory",
            "user",
            "workers",
            "listen",
            "runtime",
            "start",
            "drain",
            "environment.A",
            "environment",
            "environment_files",
            "active_profile",
            "profile.p.environment.A",
            "profile",
            "ready.on",
            "ready.timeout",
            "ready.grace",
            "stop.signal",
            "stop.timeout",
            "stop",
            "restart.policy",
            "restart.delay",
            "restart.limit",
            "restart.interval",
            "restart.backoff",
            "restart.stop_exit_codes",
            "reload.surge",
            "reload.settle",
            "limits.memory",
            "limits.memory_reload",
            "limits.cpu",
            "limits.tasks",
            "limits.files",
            "schedule.reload",
            "schedule.restart",
            "watch",
            "ignore",
            "router.head_limit",
            "router.balance",
            "router.wait_timeout",
            "router.trusted_proxies",
            "service.Nice",
            "service.ExecStart",
            "socket.Backlog",
            "unknown",
        ]);
        let value = prop_oneof![
            "-?[0-9]{1,20}",
            "[0-9.]{1,5}",
            "true|false|inf|nan|1979-05-27",
            "'[^'\n]{0,12}'",
            "\"[a-z0-9 %$/:.\\\\-]{0,12}\"",
            "'(80|max|max-1|daily|0 4 \\* \\* \\*|\\*.log|512M|1min 30s|/srv/a b|p|no|auto|SIGINT|50%|node x.js)'",
            "\\['[a-z0-9/:]{0,9}'(, '[^'\n]{0,9}')?\\]",
            "\\{ [a-z] = 1 \\}",
            ".{0,6}",
        ];
        prop::collection::vec((key, value), 0..12)
            .prop_map(|lines| lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect())
    }

    fn check_laws(text: &str, scope: Scope) -> Result<(), TestCaseError> {
        let report = parse("app", Path::new("/x.toml"), text, scope);
        prop_assert_eq!(report.app.is_none(), report.error().is_some());
        for problem in &report.problems {
            prop_assert!(problem.line <= text.lines().count() + 1);
            prop_assert!(!problem.message.is_empty());
            let _ = (problem.render("x", text, true), problem.short("x"));
        }
        if let Some(app) = report.app {
            for (name, unit) in crate::unit::plan::plan(&app, 2).units {
                let printed = unit.to_string();
                prop_assert_eq!(crate::unit::UnitFile::parse(&printed), Ok(unit), "{}", name);
                prop_assert!(!printed.contains("=@\n"), "{}", printed);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(.|\n|\\[|\\]|=|\"|'|\r|\t){0,80}") {
            check_laws(&text, Scope::User)?;
        }

        #[test]
        fn near_files_are_read_or_refused(text in near_files(), system: bool) {
            let text = format!("exec = 'a'\n{text}");
            check_laws(&text, if system { Scope::System } else { Scope::User })?;
        }
    }
}
