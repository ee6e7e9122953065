//! Where our own lines go: the journal with structured fields, or standard error.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
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

/// Whether standard error goes to the journal. systemd.exec(5): JOURNAL_STREAM is device and inode of the journal's end.
pub fn stderr_is_journal() -> bool {
    let Ok(expected) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|found| expected == format!("{}:{}", found.dev(), found.ino()))
}
