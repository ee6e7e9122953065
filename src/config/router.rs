//! The router's settings, as they travel from `NAME.toml` through `ExecStart=` to the router.
//!
//! One table, [`FIELDS`], names each setting once: its key in the file (`head_limit`), its flag (`--head-limit=`), how to
//! read it and how to write it.

use std::time::Duration;

use super::listen::ListenOptions;
use super::networks::Networks;
use super::sticky::{Sticky, read_cookie_name};
use super::value::{self, Listen, Wrong};

/// What `[router]`, `[ready]` and `[health]` say, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterSettings {
    /// Number of workers that the app should have, for STATUS=.
    pub workers: u32,
    pub balance: Balance,
    /// `tcp`: hand over at once, without looking at what the client sends.
    pub protocol: Protocol,
    /// Which connections are routed request by request.
    pub shared: Shared,
    /// Whose word about clients is believed.
    pub trusted_proxies: Networks,
    /// How long a connection that is routed request by request may be idle.
    pub keepalive_timeout: Duration,
    /// Longest request head, bytes.
    pub head_limit: usize,
    /// From accept to the end of the request head.
    pub head_timeout: Duration,
    /// Connections that may wait at a time: for their head, or for a worker.
    pub waiting_limit: usize,
    /// How long a connection waits for a worker while the app starts.
    pub wait_timeout: Duration,
    /// How long a request with an unknown session waits for the worker's registration.
    pub session_wait: Duration,
    /// Bytes that may be queued for one worker before it counts as sick.
    pub queue_limit: usize,
    /// Longest frame accepted from a worker, bytes.
    pub frame_limit: usize,
    pub ready_on: ReadyOn,
    /// With [`ReadyOn::Auto`]: how long after `online` silence counts as readiness.
    pub ready_grace: Duration,
    /// How long a ready worker's event loop may stand still before the worker is aborted.
    pub health_timeout: Duration,
    /// Force a serialization; `None`: by the runtime's version.
    pub serialization: Option<Serialization>,
    /// What makes a client come back to its worker.
    pub sticky: Sticky,
    /// The name of the router's cookie; `None`: by the app's name.
    pub cookie: Option<String>,
    /// How long a key that no worker has registered is remembered without a request that carries it.
    pub key_timeout: Duration,
    /// What a worker without a channel is asked, until it says yes: a path; empty: nothing in particular.
    pub ready_http: String,
    /// Addresses with TLS or the PROXY protocol.
    pub listen: ListenOptions,
    /// Between two pieces of the body of a request that is routed here.
    pub body_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub send_timeout: Duration,
    /// From a whole request to the head of its worker's answer.
    pub answer_timeout: Duration,
    /// Connections of one client's address that this process holds; `usize::MAX`: any number.
    pub address_limit: usize,
    pub access_log: bool,
    /// Where the metrics are served, beside the control socket. (The router gets that socket ready-made.)
    pub metrics: Option<Listen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    LeastLoaded,
    RoundRobin,
    Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Tcp,
}

/// Whether the requests of one connection may be different clients'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// Where a trusted proxy says that it speaks for somebody.
    Auto,
    Always,
    Never,
}

/// What makes a worker ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyOn {
    /// `listening`, the first adapter message, `ready`, or silence after `online`: whichever comes first.
    Auto,
    /// `process.send('ready')` only (PM2's `wait_ready`).
    Message,
    /// `listening` only.
    Listening,
    /// Its word to systemd: READY=1, sd_notify(3).
    Notify,
}

/// Of Node's IPC channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serialization {
    Json,
    Advanced,
}

impl Default for RouterSettings {
    fn default() -> Self {
        Self {
            workers: 1,
            balance: Balance::LeastLoaded,
            protocol: Protocol::Http,
            shared: Shared::Auto,
            trusted_proxies: Networks::default(),
            // Above the 60 s of nginx: who closes an idle connection first never meets a request on its way.
            keepalive_timeout: Duration::from_secs(75),
            head_limit: 16 * 1024,
            head_timeout: Duration::from_secs(30),
            waiting_limit: 4096,
            wait_timeout: Duration::from_secs(30),
            session_wait: Duration::from_secs(1),
            queue_limit: 64 * 1024 * 1024,
            frame_limit: 128 * 1024 * 1024,
            ready_on: ReadyOn::Auto,
            ready_grace: Duration::from_secs(3),
            health_timeout: Duration::from_secs(60),
            serialization: None,
            sticky: Sticky::default(),
            cookie: None,
            key_timeout: Duration::from_secs(3600),
            ready_http: String::new(),
            listen: ListenOptions::default(),
            // As nginx has it.
            body_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(60),
            // A long poll, an export: how long an answer may take is the app's own business.
            answer_timeout: FOREVER,
            address_limit: usize::MAX,
            access_log: false,
            metrics: None,
        }
    }
}

/// What `infinity` (and anything longer) is to the router: 30 years. Added to a clock it does not overflow, as it
/// would with [`Duration::MAX`].
pub const FOREVER: Duration = Duration::from_secs(30 * 31_557_600);

/// One setting: its key in the file, and how to read and write it as text.
pub struct Field {
    /// As the file has it; the flag has `-` in place of `_`.
    pub key: &'static str,
    pub table: Table,
    read: fn(&mut RouterSettings, &str) -> Result<(), Wrong>,
    write: fn(&RouterSettings) -> String,
}

/// The table of `NAME.toml` that a setting is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// `[router]`
    Router,
    /// `[ready]`, without the prefix `ready_`.
    Ready,
    /// `[health]`, without the prefix `health_`.
    Health,
    /// None: it comes from the keys `workers` and `listen`.
    Top,
    /// None: it is a key of the file itself.
    File,
}

impl Field {
    /// The command line's form, without `--`.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Reads `text` into `settings`.
    pub fn read(&self, settings: &mut RouterSettings, text: &str) -> Result<(), Wrong> {
        (self.read)(settings, text)
    }

    /// The value in `settings`; [`Field::read`] reads it back.
    pub fn write(&self, settings: &RouterSettings) -> String {
        (self.write)(settings)
    }
}

/// Every setting of the router.
pub const FIELDS: [Field; 28] = [
    Field {
        key: "workers",
        table: Table::Top,
        read: |settings, text| put(&mut settings.workers, bounded(text, 1, u32::MAX as usize).map(|n| n as u32)),
        write: |settings| settings.workers.to_string(),
    },
    Field {
        key: "balance",
        table: Table::Router,
        read: |settings, text| put(&mut settings.balance, choice(text, &BALANCES)),
        write: |settings| name_of(settings.balance, &BALANCES),
    },
    Field {
        key: "protocol",
        table: Table::Router,
        read: |settings, text| put(&mut settings.protocol, choice(text, &PROTOCOLS)),
        write: |settings| name_of(settings.protocol, &PROTOCOLS),
    },
    Field {
        key: "shared",
        table: Table::Router,
        read: |settings, text| put(&mut settings.shared, choice(text, &SHAREDS)),
        write: |settings| name_of(settings.shared, &SHAREDS),
    },
    Field {
        key: "trusted_proxies",
        table: Table::Router,
        read: |settings, text| put(&mut settings.trusted_proxies, Networks::read(text)),
        write: |settings| settings.trusted_proxies.to_string(),
    },
    Field {
        key: "keepalive_timeout",
        table: Table::Router,
        read: |settings, text| put(&mut settings.keepalive_timeout, span(text, Duration::from_secs(1))),
        write: |settings| write_span(settings.keepalive_timeout),
    },
    Field {
        key: "head_limit",
        table: Table::Router,
        // The kernel keeps an unread head in the receive buffer: it must fit there.
        read: |settings, text| put(&mut settings.head_limit, size(text, 1 << 10, 1 << 20)),
        write: |settings| value::write_size(settings.head_limit as u64),
    },
    Field {
        key: "head_timeout",
        table: Table::Router,
        read: |settings, text| put(&mut settings.head_timeout, span(text, Duration::from_millis(1))),
        write: |settings| write_span(settings.head_timeout),
    },
    Field {
        key: "waiting_limit",
        table: Table::Router,
        // Each waiting connection is a descriptor of the router: LimitNOFILE=65536.
        read: |settings, text| put(&mut settings.waiting_limit, bounded(text, 1, 60_000)),
        write: |settings| settings.waiting_limit.to_string(),
    },
    Field {
        key: "wait_timeout",
        table: Table::Router,
        read: |settings, text| put(&mut settings.wait_timeout, span(text, Duration::ZERO)),
        write: |settings| write_span(settings.wait_timeout),
    },
    Field {
        key: "session_wait",
        table: Table::Router,
        read: |settings, text| put(&mut settings.session_wait, span(text, Duration::ZERO)),
        write: |settings| write_span(settings.session_wait),
    },
    Field {
        key: "queue_limit",
        table: Table::Router,
        read: |settings, text| put(&mut settings.queue_limit, size(text, 64 << 10, usize::MAX)),
        write: |settings| value::write_size(settings.queue_limit as u64),
    },
    Field {
        key: "frame_limit",
        table: Table::Router,
        // A frame's length is 32 bits on the channel.
        read: |settings, text| put(&mut settings.frame_limit, size(text, 64 << 10, u32::MAX as usize)),
        write: |settings| value::write_size(settings.frame_limit as u64),
    },
    Field {
        key: "ready_on",
        table: Table::Ready,
        read: |settings, text| put(&mut settings.ready_on, choice(text, &READY_ONS)),
        write: |settings| name_of(settings.ready_on, &READY_ONS),
    },
    Field {
        key: "ready_grace",
        table: Table::Ready,
        read: |settings, text| put(&mut settings.ready_grace, span(text, Duration::ZERO)),
        write: |settings| write_span(settings.ready_grace),
    },
    Field {
        key: "health_timeout",
        table: Table::Health,
        read: |settings, text| put(&mut settings.health_timeout, span(text, Duration::from_secs(1))),
        write: |settings| write_span(settings.health_timeout),
    },
    Field {
        key: "serialization",
        table: Table::Router,
        read: |settings, text| {
            settings.serialization = if text == "auto" { None } else { Some(choice(text, &SERIALIZATIONS)?) };
            Ok(())
        },
        write: |settings| settings.serialization.map_or("auto".to_owned(), |it| name_of(it, &SERIALIZATIONS)),
    },
    Field {
        key: "sticky",
        table: Table::File,
        read: |settings, text| put(&mut settings.sticky, Sticky::read(text)),
        write: |settings| settings.sticky.to_string(),
    },
    Field {
        key: "cookie",
        table: Table::Router,
        read: |settings, text| put(&mut settings.cookie, read_cookie_name(text).map(Some)),
        write: |settings| settings.cookie.clone().unwrap_or_default(),
    },
    Field {
        key: "key_timeout",
        table: Table::Router,
        read: |settings, text| put(&mut settings.key_timeout, span(text, Duration::from_secs(1))),
        write: |settings| write_span(settings.key_timeout),
    },
    Field {
        key: "ready_http",
        table: Table::Ready,
        read: |settings, text| put(&mut settings.ready_http, path(text)),
        write: |settings| settings.ready_http.clone(),
    },
    Field {
        key: "listen",
        table: Table::Top,
        read: |settings, text| put(&mut settings.listen, ListenOptions::read(text)),
        write: |settings| settings.listen.to_string(),
    },
    Field {
        key: "body_timeout",
        table: Table::Router,
        read: |settings, text| put(&mut settings.body_timeout, span(text, Duration::from_millis(1))),
        write: |settings| write_span(settings.body_timeout),
    },
    Field {
        key: "send_timeout",
        table: Table::Router,
        read: |settings, text| put(&mut settings.send_timeout, span(text, Duration::from_millis(1))),
        write: |settings| write_span(settings.send_timeout),
    },
    Field {
        key: "answer_timeout",
        table: Table::Router,
        read: |settings, text| put(&mut settings.answer_timeout, span(text, Duration::from_millis(1))),
        write: |settings| write_span(settings.answer_timeout),
    },
    Field {
        key: "address_limit",
        table: Table::Router,
        read: |settings, text| put(&mut settings.address_limit, limit(text, 60_000)),
        write: |settings| write_limit(settings.address_limit),
    },
    Field {
        key: "access_log",
        table: Table::Router,
        read: |settings, text| put(&mut settings.access_log, choice(text, &TRUTHS)),
        write: |settings| name_of(settings.access_log, &TRUTHS),
    },
    Field {
        key: "metrics",
        table: Table::Router,
        read: |settings, text| put(&mut settings.metrics, Listen::read(text).map(Some)),
        write: |settings| settings.metrics.as_ref().map_or_else(String::new, Listen::to_string),
    },
];

const BALANCES: [(&str, Balance); 3] =
    [("least-loaded", Balance::LeastLoaded), ("round-robin", Balance::RoundRobin), ("random", Balance::Random)];
const PROTOCOLS: [(&str, Protocol); 2] = [("http", Protocol::Http), ("tcp", Protocol::Tcp)];
const SHAREDS: [(&str, Shared); 3] = [("auto", Shared::Auto), ("always", Shared::Always), ("never", Shared::Never)];
const READY_ONS: [(&str, ReadyOn); 4] = [
    ("auto", ReadyOn::Auto),
    ("message", ReadyOn::Message),
    ("listening", ReadyOn::Listening),
    ("notify", ReadyOn::Notify),
];
const SERIALIZATIONS: [(&str, Serialization); 2] =
    [("json", Serialization::Json), ("advanced", Serialization::Advanced)];

const TRUTHS: [(&str, bool); 2] = [("false", false), ("true", true)];

fn put<T>(place: &mut T, value: Result<T, Wrong>) -> Result<(), Wrong> {
    *place = value?;
    Ok(())
}

fn choice<T: Copy>(text: &str, table: &[(&str, T)]) -> Result<T, Wrong> {
    table.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        Wrong::new(format!("`{text}` is not one of the choices"), format!("write {}", value::one_of(&names)))
    })
}

fn name_of<T: PartialEq + Copy>(value: T, table: &[(&str, T)]) -> String {
    table.iter().find(|(_, it)| *it == value).map_or_else(String::new, |(name, _)| (*name).to_owned())
}

fn bounded(text: &str, least: usize, most: usize) -> Result<usize, Wrong> {
    match text.parse::<usize>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(number) => {
            Err(Wrong::new(format!("{number} is out of range"), format!("write a number from {least} to {most}")))
        }
        Err(_) => {
            Err(Wrong::new(format!("`{text}` is not a number"), format!("write a number from {least} to {most}")))
        }
    }
}

/// A number from 1, or none.
fn limit(text: &str, most: usize) -> Result<usize, Wrong> {
    if text == "infinity" {
        return Ok(usize::MAX);
    }
    bounded(text, 1, most)
        .map_err(|wrong| Wrong::new(wrong.reason, format!("{}, or \"infinity\" for no limit", wrong.remedy)))
}

fn write_limit(limit: usize) -> String {
    if limit == usize::MAX { "infinity".to_owned() } else { limit.to_string() }
}

fn size(text: &str, least: usize, most: usize) -> Result<usize, Wrong> {
    let bytes = value::read_size(text)?;
    match usize::try_from(bytes) {
        Ok(bytes) if (least..=most).contains(&bytes) => Ok(bytes),
        _ => Err(Wrong::new(
            format!("`{text}` is out of range"),
            if most == usize::MAX {
                format!("write at least \"{}\"", value::write_size(least as u64))
            } else {
                format!(
                    "write a size from \"{}\" to \"{}\"",
                    value::write_size(least as u64),
                    value::write_size(most as u64)
                )
            },
        )),
    }
}

/// A request's target in origin form; or nothing.
fn path(text: &str) -> Result<String, Wrong> {
    let fits =
        text.is_empty() || (text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
    if !fits || text.len() > 1000 {
        return Err(Wrong::new(
            format!("`{text}` is not a path that can be asked for"),
            "write one such as \"/health\"",
        ));
    }
    Ok(text.to_owned())
}

fn span(text: &str, least: Duration) -> Result<Duration, Wrong> {
    let span = value::read_span(text)?;
    if span < least {
        return Err(Wrong::new(
            format!("it must be at least {}", value::write_span(least)),
            "write \"infinity\" for no limit",
        ));
    }
    Ok(span.min(FOREVER))
}

fn write_span(span: Duration) -> String {
    if span >= FOREVER { "infinity".to_owned() } else { value::write_span(span) }
}

/// Why a router cannot start with the flags it got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    #[error("`{0}` is not of the form --KEY=VALUE")]
    Shape(String),
    #[error("there is no setting --{0}")]
    Unknown(String),
    #[error("--{flag}: {wrong} ({})", wrong.remedy)]
    Value { flag: String, wrong: Wrong },
}

impl RouterSettings {
    /// The flags for the router's command line: what differs from the default, `--key=value` each.
    pub fn to_args(&self) -> Vec<String> {
        let default = Self::default();
        FIELDS
            .iter()
            .filter(|field| field.write(self) != field.write(&default))
            .map(|field| format!("--{}={}", field.flag(), field.write(self)))
            .collect()
    }

    /// The inverse of [`RouterSettings::to_args`]; a later flag wins.
    pub fn from_args<I>(arguments: I) -> Result<Self, ArgumentError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut settings = Self::default();
        for argument in arguments {
            let argument = argument.as_ref();
            let Some((flag, text)) = argument.strip_prefix("--").and_then(|rest| rest.split_once('=')) else {
                return Err(ArgumentError::Shape(argument.to_owned()));
            };
            let field = FIELDS.iter().find(|field| field.flag() == flag);
            let field = field.ok_or_else(|| ArgumentError::Unknown(flag.to_owned()))?;
            field.read(&mut settings, text).map_err(|wrong| ArgumentError::Value { flag: flag.to_owned(), wrong })?;
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spans(least: u64) -> impl Strategy<Value = Duration> {
        prop_oneof![
            (least..FOREVER.as_micros() as u64).prop_map(Duration::from_micros),
            (1..100u64).prop_map(Duration::from_secs),
            Just(FOREVER)
        ]
    }

    fn settings() -> impl Strategy<Value = RouterSettings> {
        let choices = (
            prop::sample::select(BALANCES.map(|it| it.1).to_vec()),
            prop::sample::select(PROTOCOLS.map(|it| it.1).to_vec()),
            prop::sample::select(SHAREDS.map(|it| it.1).to_vec()),
            prop::sample::select(vec!["", "unix", "10.0.0.0/8,fd00::/8", "127.0.0.0/8,::1,unix"]),
            prop::sample::select(READY_ONS.map(|it| it.1).to_vec()),
            prop::option::of(prop::sample::select(SERIALIZATIONS.map(|it| it.1).to_vec())),
            prop::sample::select(vec!["none", "engine.io", "cookie", "engine.io,header:a,query:B,address"]),
            prop::option::of("[a-z_-]{1,9}"),
            "(/[!-\"$-~]{0,12})?",
            (
                any::<bool>(),
                prop::option::of(prop::sample::select(vec!["9100", "127.0.0.1:9100", "[::1]:9100", "/run/x.sock"])),
                prop_oneof![1..=60_000usize, Just(usize::MAX)],
            ),
        );
        let sizes = (1024..=1usize << 20, 1..=60_000usize, 65_536..usize::MAX, 65_536..=u32::MAX as usize);
        let limits = (spans(1000), spans(1000), spans(1000), spans(1_000_000));
        let times = (spans(1000), spans(0), spans(0), spans(0), spans(1_000_000), spans(1_000_000), limits);
        (1..u32::MAX, choices, sizes, times).prop_map(|(workers, choices, sizes, times)| RouterSettings {
            workers,
            balance: choices.0,
            protocol: choices.1,
            shared: choices.2,
            trusted_proxies: Networks::read(choices.3).unwrap(),
            ready_on: choices.4,
            serialization: choices.5,
            ready_http: choices.8,
            head_limit: sizes.0,
            waiting_limit: sizes.1,
            queue_limit: sizes.2,
            frame_limit: sizes.3,
            head_timeout: times.0,
            wait_timeout: times.1,
            session_wait: times.2,
            ready_grace: times.3,
            health_timeout: times.4,
            keepalive_timeout: times.5,
            sticky: Sticky::read(choices.6).unwrap(),
            cookie: choices.7,
            key_timeout: times.6.3,
            listen: ListenOptions::default(),
            body_timeout: times.6.0,
            send_timeout: times.6.1,
            answer_timeout: times.6.2,
            access_log: choices.9.0,
            metrics: choices.9.1.map(|text| Listen::read(text).unwrap()),
            address_limit: choices.9.2,
        })
    }

    proptest! {
        #[test]
        fn flags_round_trip(settings in settings()) {
            prop_assert_eq!(RouterSettings::from_args(settings.to_args()), Ok(settings));
        }

        #[test]
        fn any_flags_are_read_or_refused(arguments in prop::collection::vec("(--[a-z-]{1,14}=)?.{0,12}", 0..4)) {
            let _ = RouterSettings::from_args(arguments);
        }
    }

    #[test]
    fn the_default_needs_no_flags() {
        assert_eq!(RouterSettings::default().to_args(), Vec::<String>::new());
        assert_eq!(RouterSettings::from_args(Vec::<String>::new()), Ok(RouterSettings::default()));
    }

    #[test]
    fn flags_are_few_and_readable() {
        let settings = RouterSettings {
            workers: 4,
            balance: Balance::RoundRobin,
            head_limit: 32 * 1024,
            wait_timeout: Duration::from_secs(90),
            ..RouterSettings::default()
        };
        let flags = ["--workers=4", "--balance=round-robin", "--head-limit=32K", "--wait-timeout=1min30s"];
        assert_eq!(settings.to_args(), flags);
    }

    /// The router adds these to the time of day.
    #[test]
    fn no_span_overflows_the_clock() {
        for text in ["infinity", "100000y"] {
            let arguments = ["head", "wait"].map(|name| format!("--{name}-timeout={text}"));
            let settings = RouterSettings::from_args(&arguments).unwrap();
            let _ = std::time::Instant::now() + settings.head_timeout + settings.wait_timeout;
            assert_eq!(settings.to_args(), ["--head-timeout=infinity", "--wait-timeout=infinity"]);
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (argument, told) in [
            ("workers=4", "--KEY=VALUE"),
            ("--workers", "--KEY=VALUE"),
            ("--worker=4", "--worker"),
            ("--workers=0", "from 1"),
            ("--head-limit=1", "from \"1K\""),
            ("--balance=best", "least-loaded"),
        ] {
            let error = RouterSettings::from_args([argument]).unwrap_err().to_string();
            assert!(error.contains(told), "{argument}: {error}");
        }
    }
}
