//! One line of an access log (pure).
//!
//! What a client sends must neither end a line nor reach a terminal as anything but text; and who reads a log must not
//! find sessions in it.

use super::engine::decode;
use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// Longest part of a client's own text, bytes.
const TEXT_LIMIT: usize = 2048;
/// What stands for a session's id.
const HIDDEN: &str = "***";
/// The parameter of a target whose value is one.
const SESSION: &str = "sid";

/// What is known of a request, or of a connection that was handed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Who asks; empty: somebody at a Unix socket.
    pub client: String,
    /// Empty: there was no request.
    pub method: String,
    pub target: String,
    pub version: String,
    pub user_agent: Option<String>,
    pub outcome: Outcome,
    /// Of the answer's body, as far as it has gone out.
    pub bytes: u64,
    pub duration: Duration,
    /// The slot of the worker.
    pub worker: Option<String>,
    /// Why the router refused it.
    pub reason: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outcome {
    /// The client left before there was an answer.
    #[default]
    Left,
    Status(u16),
    /// The worker has the connection; what it answers is not seen.
    HandedOver,
}

impl Entry {
    /// `203.0.113.9 "GET /x HTTP/1.1" 200 512 0.012 2 "curl/8"`: client, request, status, bytes, seconds, worker, agent.
    /// `keys`: parameters whose values are hidden as that of `sid` is.
    pub fn line(&self, keys: &[String]) -> String {
        let client = if self.client.is_empty() { "unix" } else { &self.client };
        let mut line = format!("{} ", text(client));
        match self.request(keys) {
            Some(request) => line.extend(["\"", request.as_str(), "\" "]),
            None => line.push_str("\"-\" "),
        }
        let agent = self.user_agent.as_deref().map_or(Cow::Borrowed("-"), text);
        let worker = self.worker.as_deref().unwrap_or("-");
        let bytes = match self.outcome {
            Outcome::HandedOver => "-".to_owned(),
            Outcome::Left | Outcome::Status(_) => self.bytes.to_string(),
        };
        // Writing to a String does not fail.
        let _ = write!(line, "{} {bytes} {:.3} {worker} \"{agent}\"", self.status(), self.duration.as_secs_f64());
        if let Some(reason) = self.reason {
            let _ = write!(line, " ({reason})");
        }
        line
    }

    /// What the journal has beside the line.
    pub fn fields(&self, keys: &[String]) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("CLIENT", text(&self.client).into_owned()),
            ("REQUEST_METHOD", text(&self.method).into_owned()),
            ("REQUEST_TARGET", self.target(keys).into_owned()),
            ("REQUEST_VERSION", text(&self.version).into_owned()),
            ("USER_AGENT", text(self.user_agent.as_deref().unwrap_or_default()).into_owned()),
            ("RESPONSE_STATUS", self.status()),
            ("WORKER", self.worker.clone().unwrap_or_default()),
            ("REFUSED", self.reason.unwrap_or_default().to_owned()),
            ("DURATION_USEC", self.duration.as_micros().to_string()),
        ];
        if self.outcome != Outcome::HandedOver {
            fields.push(("RESPONSE_BYTES", self.bytes.to_string()));
        }
        fields.retain(|(_, value)| !value.is_empty());
        fields
    }

    fn status(&self) -> String {
        match self.outcome {
            // As nginx has it.
            Outcome::Left => "499".to_owned(),
            Outcome::Status(status) => status.to_string(),
            Outcome::HandedOver => "handed-over".to_owned(),
        }
    }

    fn request(&self, keys: &[String]) -> Option<String> {
        if self.method.is_empty() {
            return None;
        }
        Some(format!("{} {} {}", text(&self.method), self.target(keys), text(&self.version)))
    }

    fn target(&self, keys: &[String]) -> Cow<'_, str> {
        match text(&self.target) {
            Cow::Borrowed(plain) => hide(plain, keys),
            Cow::Owned(escaped) => Cow::Owned(hide(&escaped, keys).into_owned()),
        }
    }
}

/// A client's text on one line, in ASCII, cut where it is too long: `"`, `\` and what does not print become `\xNN`.
pub fn text(raw: &str) -> Cow<'_, str> {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if raw.len() <= TEXT_LIMIT && raw.as_bytes().iter().all(plain) {
        return Cow::Borrowed(raw);
    }
    let mut escaped = String::new();
    for byte in raw.bytes() {
        if escaped.len() >= TEXT_LIMIT {
            escaped.push_str("...");
            break;
        }
        if plain(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    Cow::Owned(escaped)
}

/// The name of a parameter whose value is a key.
fn key_of<'p>(pair: &'p str, keys: &[String]) -> Option<Cow<'p, str>> {
    let name = decode(pair.split_once('=')?.0);
    (name == SESSION || keys.iter().any(|key| *key == name)).then_some(name)
}

/// A target without the id of the session that it names, and the other keys.
fn hide<'t>(target: &'t str, keys: &[String]) -> Cow<'t, str> {
    let Some((path, query)) = target.split_once('?') else { return Cow::Borrowed(target) };
    if !query.split('&').any(|pair| key_of(pair, keys).is_some()) {
        return Cow::Borrowed(target);
    }
    let pairs = query.split('&').map(|pair| match key_of(pair, keys) {
        Some(name) => Cow::Owned(format!("{name}={HIDDEN}")),
        None => Cow::Borrowed(pair),
    });
    Cow::Owned(format!("{path}?{}", pairs.collect::<Vec<_>>().join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> Entry {
        Entry {
            client: "203.0.113.9".into(),
            method: "GET".into(),
            target: "/socket.io/?EIO=4&sid=abcdef&t=1".into(),
            version: "HTTP/1.1".into(),
            user_agent: Some("curl/8 \"x\"\n".into()),
            outcome: Outcome::Status(200),
            bytes: 512,
            duration: Duration::from_millis(12),
            worker: Some("2".into()),
            reason: None,
        }
    }

    #[test]
    fn lines() {
        let line =
            "203.0.113.9 \"GET /socket.io/?EIO=4&sid=***&t=1 HTTP/1.1\" 200 512 0.012 2 \"curl/8 \\x22x\\x22\\x0a\"";
        assert_eq!(entry().line(&[]), line);
        let handed = Entry { outcome: Outcome::HandedOver, user_agent: None, target: "/x".into(), ..entry() };
        assert_eq!(handed.line(&[]), "203.0.113.9 \"GET /x HTTP/1.1\" handed-over - 0.012 2 \"-\"");
        let refused = Entry {
            client: "::1".into(),
            outcome: Outcome::Status(400),
            reason: Some("a NUL byte"),
            ..Entry::default()
        };
        assert_eq!(refused.line(&[]), "::1 \"-\" 400 0 0.000 - \"-\" (a NUL byte)");
        assert_eq!(Entry::default().line(&[]), "unix \"-\" 499 0 0.000 - \"-\"");
    }

    #[test]
    fn fields() {
        let fields = entry().fields(&[]);
        let of = |name: &str| fields.iter().find(|it| it.0 == name).map(|it| it.1.as_str());
        assert_eq!(of("REQUEST_TARGET"), Some("/socket.io/?EIO=4&sid=***&t=1"));
        assert_eq!((of("RESPONSE_STATUS"), of("RESPONSE_BYTES"), of("WORKER")), (Some("200"), Some("512"), Some("2")));
        assert_eq!((of("DURATION_USEC"), of("REFUSED")), (Some("12000"), None));
    }

    #[test]
    fn sessions_are_hidden() {
        for (target, hidden) in [
            ("/?sid=a", "/?sid=***"),
            ("/?a=1&sid=&b", "/?a=1&sid=***&b"),
            ("/?sid=a&sid=b", "/?sid=***&sid=***"),
            ("/?s%69d=a", "/?sid=***"),
            ("/?xsid=a", "/?xsid=a"),
            ("/sid=a", "/sid=a"),
        ] {
            assert_eq!(hide(target, &[]), hidden);
        }
        let keys = ["user".to_owned(), "room".to_owned()];
        assert_eq!(hide("/?a=1&us%65r=ann&sid=x&room=7&users=2", &keys), "/?a=1&user=***&sid=***&room=***&users=2");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(text(&"x".repeat(5000)).len(), TEXT_LIMIT + 3);
        assert!(text(&"\n".repeat(5000)).len() <= TEXT_LIMIT + 7);
    }

    proptest! {
        #[test]
        fn a_line_is_a_line(target in ".{0,60}", agent in ".{0,60}", method in ".{0,9}") {
            let line = Entry { target, method, user_agent: Some(agent), ..entry() }.line(&[]);
            prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
            // Quotes and what is between them are told apart.
            prop_assert_eq!(line.matches('"').count(), 4, "{:?}", line);
        }
    }
}
