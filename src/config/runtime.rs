//! `runtime`: what runs the program, and what follows from that for other keys.

use std::collections::BTreeMap;
use std::ops::Range;

use super::effect::Places;
use super::exec::{guess_runtime, speaks_no_channel};
use super::file::Item;
use super::report::Problems;
use super::router::{Protocol, ReadyOn, RouterSettings};
use super::value::{self, Wrong};
use super::{Runtime, Stop};

pub(super) fn read_runtime(item: &Item<'_>, problems: &mut Problems) -> Option<Runtime> {
    item.read(problems, |text| {
        Runtime::ALL.into_iter().find(|runtime| runtime.to_string() == text).ok_or_else(|| {
            let names = Runtime::ALL.map(|runtime| runtime.to_string());
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Wrong::new(format!("there is no runtime `{text}`"), format!("write {}", value::one_of(&names)))
        })
    })
}

/// What the file says beside the runtime.
pub(super) struct Beside<'a> {
    pub(super) exec: &'a [String],
    /// Where the command is in the file.
    pub(super) exec_span: Range<usize>,
    pub(super) settings: &'a RouterSettings,
    pub(super) stop: &'a Stop,
    pub(super) environment: &'a BTreeMap<String, String>,
    /// There is an address where clients connect.
    pub(super) listens: bool,
    /// The active one.
    pub(super) profile: Option<&'a str>,
    pub(super) places: &'a Places,
}

/// The runtime, written or guessed. Tells what cannot be together with it.
pub(super) fn check_runtime(
    written: Option<(Runtime, Range<usize>)>,
    beside: &Beside<'_>,
    problems: &mut Problems,
) -> Runtime {
    let (runtime, span) = match written {
        Some(written) => written,
        None => {
            if let Some(program) = speaks_no_channel(beside.exec) {
                problems.error(
                    beside.exec_span.clone(),
                    format!("`{program}` does not speak Node's channel, so the router must know where it listens"),
                    "write runtime = \"port\" if it listens on the port in PORT, runtime = \"socket\" if it takes its socket \
                     from systemd, runtime = \"none\" if it takes no connections (appctl start: --runtime)",
                );
            }
            (guess_runtime(beside.exec), beside.exec_span.clone())
        }
    };
    let (settings, places) = (beside.settings, beside.places);
    let mut error = |key: &str, message: &str, remedy: &str| {
        let place = places.get(key).unwrap_or(span.clone());
        problems.error(place, format!("runtime = \"{runtime}\": {message}"), remedy);
    };
    if runtime.has_channel() {
        if !settings.ready_http.is_empty() {
            error(
                "ready.http",
                "ready.http is for workers that the router connects to",
                "remove it: such a worker is ready when it listens, or says so",
            );
        }
        return runtime;
    }
    if matches!(settings.ready_on, ReadyOn::Message | ReadyOn::Listening) {
        error(
            "ready.on",
            "without Node's channel a worker cannot say that it is ready in that way",
            "remove ready.on, write ready.on = \"notify\" (sd_notify), or ready.http = \"/health\"",
        );
    }
    if runtime == Runtime::None {
        if beside.listens {
            error(
                "listen",
                "nobody would serve the clients of listen",
                "remove listen; or write runtime = \"port\" if it listens on the port in PORT, \"socket\" if it takes its \
                 socket from systemd",
            );
        }
        if !settings.ready_http.is_empty() {
            error("ready.http", "such a worker cannot be asked", "remove ready.http");
        }
    }
    if settings.ready_on == ReadyOn::Notify && !settings.ready_http.is_empty() {
        error(
            "ready.http",
            "ready.on = \"notify\" and ready.http are two answers to one question",
            "remove one of them",
        );
    }
    if runtime == Runtime::Socket && settings.protocol == Protocol::Tcp && settings.ready_on != ReadyOn::Notify {
        error(
            "router.protocol",
            "with router.protocol = \"tcp\" nothing shows from outside that it reads from its socket",
            "write ready.on = \"notify\" (sd_notify)",
        );
    }
    if beside.stop.message.is_some() {
        error("stop.message", "stop.message needs Node's channel", "remove it: the worker is told by stop.signal");
    }
    if runtime == Runtime::Port && beside.environment.contains_key("PORT") {
        let profile = beside.profile.map(|profile| format!("profile.{profile}.environment.PORT"));
        let keys = [profile.as_deref().unwrap_or_default(), "environment.PORT"];
        problems.warn(
            places.first(&keys).unwrap_or(span),
            "runtime = \"port\": PORT of [environment] is replaced by the port of each worker",
            "remove PORT from [environment]; where clients connect is listen",
        );
    }
    runtime
}

#[cfg(test)]
mod tests {
    use crate::config::{Level, Runtime, Scope, parse};
    use std::path::Path;

    fn told(text: &str) -> (Option<Runtime>, Vec<(Level, String)>) {
        let report = parse("app", Path::new("/etc/appctl/app.toml"), text, Scope::System);
        (report.app.map(|app| app.runtime), report.problems.into_iter().map(|it| (it.level, it.message)).collect())
    }

    #[test]
    fn a_program_that_is_not_node_needs_a_word_about_it() {
        for exec in [
            "python3.12 /srv/app.py",
            "/usr/bin/env python3 /a.py",
            "/srv/venv/bin/uvicorn app:app",
            "puma",
            "java -jar /a.jar",
        ] {
            let (runtime, problems) = told(&format!("exec = '{exec}'"));
            assert!(
                runtime.is_none() && problems[0].1.contains("does not speak Node's channel"),
                "{exec} {problems:?}"
            );
            let (runtime, problems) = told(&format!("exec = '{exec}'\nruntime = 'socket'"));
            assert_eq!((runtime, problems), (Some(Runtime::Socket), Vec::new()), "{exec}");
        }
        assert_eq!(told("exec = '/srv/python-like'").0, Some(Runtime::Node));
    }

    #[test]
    fn what_cannot_be_together() {
        for (runtime, more, level, message) in [
            ("port", "[ready]\non = 'message'", Level::Error, "cannot say that it is ready"),
            ("socket", "[ready]\non = 'listening'", Level::Error, "cannot say that it is ready"),
            ("socket", "[ready]\non = 'notify'\nhttp = '/'", Level::Error, "two answers"),
            ("socket", "[router]\nprotocol = 'tcp'", Level::Error, "nothing shows"),
            ("port", "[stop]\nmessage = 'x'", Level::Error, "stop.message"),
            ("port", "[environment]\nPORT = 80", Level::Warning, "replaced"),
            ("node", "[ready]\nhttp = '/health'", Level::Error, "ready.http"),
            ("none", "listen = '80'", Level::Error, "nobody would serve"),
            ("none", "[ready]\nhttp = '/health'", Level::Error, "cannot be asked"),
        ] {
            let (_, problems) = told(&format!("exec = '/srv/serve'\nruntime = '{runtime}'\n{more}"));
            assert!(
                problems.iter().any(|it| it.0 == level && it.1.contains(message)),
                "{runtime} {more}: {problems:?}"
            );
        }
        for (runtime, more) in [
            ("port", "[router]\nprotocol = 'tcp'"),
            ("port", "[ready]\nhttp = '/health?x=1'"),
            ("node", "[ready]\non = 'notify'\n[service]\nWatchdogSec = 10"),
            ("socket", "[ready]\non = 'notify'\n[router]\nprotocol = 'tcp'"),
        ] {
            let (read, problems) = told(&format!("exec = '/srv/serve'\nruntime = '{runtime}'\n{more}"));
            assert!(read.is_some() && problems.is_empty(), "{runtime} {more}: {problems:?}");
        }
    }
}
