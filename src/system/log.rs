//! Where our own lines go: the journal with structured fields, or standard error.

use std::fmt;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Sets up logging for a long-running part. `APPCTL_LOG` is a `tracing` filter, by default `info`.
///
/// `identifier`: SYSLOG_IDENTIFIER of our lines in the journal.
pub fn init(identifier: &str) {
    let filter = EnvFilter::try_from_env("APPCTL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    if stderr_is_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal.with_field_prefix(None).with_syslog_identifier(identifier.to_owned());
        if tracing_subscriber::registry().with(filter).with(journal).try_init().is_ok() {
            return;
        }
    } else {
        // A person reads these: the sentence, and what went wrong; the fields are for the journal.
        let fields = debug_fn(|writer, field, value| match field.name() {
            "message" => write!(writer, "{value:?}"),
            "error" => write!(writer, " [{value:?}]"),
            _ => Ok(()),
        });
        let plain = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .without_time()
            .with_target(false)
            .fmt_fields(fields);
        if tracing_subscriber::registry().with(filter).with(plain).try_init().is_ok() {
            return;
        }
    }
    tracing::debug!("logging was set up already");
}

/// The same for a program that collects lines of JSON: to standard error, each line an object.
pub fn init_json(app: &str) {
    let filter = EnvFilter::try_from_env("APPCTL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(Json { app: app.to_owned() });
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_err() {
        tracing::debug!("logging was set up already");
    }
}

struct Json {
    app: String,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        let line = serde_json::json!({
            "message": sentence.0,
            "timestamp": humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
            "type": "appctl",
            "level": event.metadata().level().as_str().to_lowercase(),
            "app_name": self.app,
        });
        writeln!(writer, "{line}")
    }
}

/// The sentence, and what went wrong.
#[derive(Default)]
struct Sentence(String);

impl Visit for Sentence {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            "error" => self.0.push_str(&format!(" [{value:?}]")),
            _ => {}
        }
    }
}

/// Whether standard error goes to the journal. systemd.exec(5): JOURNAL_STREAM is device and inode of the journal's end.
pub fn stderr_is_journal() -> bool {
    let Ok(expected) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|found| expected == format!("{}:{}", found.dev(), found.ino()))
}
