//! How a worker's unit and the router meet on the channel socket: one line of JSON each way.
//!
//! After [`Answer::Attached`] the same stream is Node's IPC channel, unless the worker speaks none; the other verbs end
//! with the answer.

use super::Encoding;
use serde::{Deserialize, Serialize};

/// Longest line that either side accepts, bytes.
pub const LINE_LIMIT: usize = 4096;

/// What a process in a worker's unit wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase")]
pub enum Hello {
    /// This stream becomes the worker's channel. With `reach` there is none: the router connects to the worker.
    Attach {
        slot: String,
        /// What the worker's runtime speaks best.
        encoding: WireEncoding,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reach: Option<Reach>,
    },
    /// Answer when the slot's worker is ready, or is gone.
    Ready {
        slot: String,
        /// Its main process.
        pid: i32,
        /// It has told systemd that it is ready.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        notified: bool,
        /// Say meanwhile why it is not: [`Answer::NotYet`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        explain: bool,
    },
    /// Stay connected; the answer is an order.
    Guard { slot: String },
    /// Take the slot's worker out of rotation; answer when it has finished what is in flight.
    Drain {
        slot: String,
        /// How long it may take, milliseconds.
        within: u64,
        /// What the worker is told then, over its channel: `stop.message`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The slot's worker has ended; answer when that is written down.
    Ended { slot: String, end: Ended },
}

/// Where a worker without a channel listens. Never an address of its own choice: the router connects to nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// The slot's own socket.
    Socket,
    /// A TCP port of this machine.
    Port(u16),
    /// Nowhere: it takes no connections.
    Nowhere,
}

/// How a worker ended, by systemd's word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// `$SERVICE_RESULT`, `$EXIT_CODE`, `$EXIT_STATUS`.
    pub result: String,
    pub code: String,
    pub status: String,
    /// Of the run, in hex, when it wrote to the journal.
    pub invocation: Option<String>,
    pub next: Option<Next>,
    /// Its main process, where that is known better than to the router…
    #[serde(default)]
    pub pid: Option<i32>,
    /// …and whether it was told to stop.
    #[serde(default)]
    pub ordered: Option<bool>,
}

/// Before a pause that has not always the same length.
pub const UP_TO: &str = "up to ";

/// What comes after an end that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Next {
    /// It stays down.
    Nothing,
    /// It is started again after this pause, a span of time, maybe with [`UP_TO`].
    Restart(String),
}

impl Hello {
    pub fn slot(&self) -> &str {
        match self {
            Self::Attach { slot, .. }
            | Self::Ready { slot, .. }
            | Self::Guard { slot }
            | Self::Drain { slot, .. }
            | Self::Ended { slot, .. } => slot,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Answer {
    Attached {
        /// `NODE_UNIQUE_ID`
        id: u32,
        /// `NODE_APP_INSTANCE`
        index: u32,
        /// Number of workers that the app should have (PM2's `instances`).
        workers: u32,
        encoding: WireEncoding,
    },
    Done,
    /// It is not ready, for this reason; the answer is still to come.
    NotYet {
        reason: String,
    },
    /// To a worker that attaches: another one has this port.
    Again,
    /// To a guard: end your worker, it hangs.
    Abort,
    Refused {
        reason: String,
    },
}

/// [`Encoding`] as the two lines spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireEncoding {
    Json,
    Advanced,
    Bun,
}

impl From<WireEncoding> for Encoding {
    fn from(encoding: WireEncoding) -> Self {
        match encoding {
            WireEncoding::Json => Self::Json,
            WireEncoding::Advanced => Self::Advanced,
            WireEncoding::Bun => Self::Bun,
        }
    }
}

impl From<Encoding> for WireEncoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Json => Self::Json,
            Encoding::Advanced => Self::Advanced,
            Encoding::Bun => Self::Bun,
        }
    }
}

impl std::fmt::Display for WireEncoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Advanced => "advanced",
            Self::Bun => "bun",
        })
    }
}

/// Which release of appctl speaks. Both lines say it, beside what they say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub version: String,
    /// The number of what is said here: it rises when one side can no longer understand the other. What is only added keeps
    /// it: unknown fields are ignored, missing ones have a meaning.
    pub wire: u32,
}

impl Default for Release {
    /// Of those that did not say it yet.
    fn default() -> Self {
        Self { version: "an early build".to_owned(), wire: 1 }
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.version)
    }
}

/// What a line says.
#[derive(Debug, Deserialize)]
struct Spoken<T> {
    #[serde(flatten)]
    said: T,
}

/// The release alone, whatever else the line says.
#[derive(Debug, Deserialize)]
struct Speaker {
    #[serde(default)]
    appctl: Release,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It speaks of another kind, or says what is not known here.
    #[error("it is of appctl {theirs}, this is {ours}, and they do not understand each other: {problem}")]
    Foreign { theirs: Release, ours: Release, problem: String },
    #[error("{0}")]
    Broken(String),
}

/// What a line says; `ours`: who reads it.
pub fn read<T: serde::de::DeserializeOwned>(text: &[u8], ours: &Release) -> Result<T, LineError> {
    let speaker: Speaker = serde_json::from_slice(text).map_err(|error| LineError::Broken(error.to_string()))?;
    let theirs = speaker.appctl;
    if theirs.wire != ours.wire {
        let problem = format!("its protocol is {}, this one's {}", theirs.wire, ours.wire);
        return Err(LineError::Foreign { theirs, ours: ours.clone(), problem });
    }
    match serde_json::from_slice::<Spoken<T>>(text) {
        Ok(line) => Ok(line.said),
        Err(error) if theirs != *ours => {
            Err(LineError::Foreign { theirs, ours: ours.clone(), problem: error.to_string() })
        }
        Err(error) => Err(LineError::Broken(error.to_string())),
    }
}

/// One line, newline included; `appctl`: who writes it.
pub fn line(said: &impl Serialize, appctl: &Release) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        #[serde(flatten)]
        said: &'a T,
        appctl: &'a Release,
    }
    let mut line = serde_json::to_vec(&Line { said, appctl })?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(version: &str, wire: u32) -> Release {
        Release { version: version.to_owned(), wire }
    }

    #[test]
    fn both_lines_read_back() {
        let ours = release("0.1.0", 1);
        let hello = Hello::Attach { slot: "3".into(), encoding: WireEncoding::Advanced, reach: None };
        let text = line(&hello, &ours).unwrap();
        let wanted = r#"{"verb":"attach","slot":"3","encoding":"advanced","appctl":{"version":"0.1.0","wire":1}}"#;
        assert_eq!(String::from_utf8(text.clone()).unwrap(), format!("{wanted}\n"));
        assert_eq!(read::<Hello>(&text, &ours).unwrap(), hello);
        let reach = Some(Reach::Port(4000));
        let hello = Hello::Attach { slot: "3".into(), encoding: WireEncoding::Json, reach };
        let text = line(&hello, &ours).unwrap();
        assert!(String::from_utf8_lossy(&text).contains(r#""reach":{"port":4000}"#));
        assert_eq!(read::<Hello>(&text, &ours).unwrap(), hello);
        for answer in [Answer::Refused { reason: "no".into() }, Answer::Done] {
            assert_eq!(read::<Answer>(&line(&answer, &ours).unwrap(), &ours).unwrap(), answer);
        }
    }

    #[test]
    fn another_release_is_understood_or_named() {
        let ours = release("0.1.0", 1);
        let drain = Hello::Drain { slot: "1".into(), within: 5, message: None };
        // From before anybody said it, and with what came later.
        for text in [
            r#"{"verb":"drain","slot":"1","within":5}"#,
            r#"{"verb":"drain","slot":"1","within":5,"gently":true,"appctl":{"version":"0.3.0","wire":1,"build":"x"}}"#,
        ] {
            assert_eq!(read::<Hello>(text.as_bytes(), &ours).unwrap(), drain, "{text}");
        }
        let wrong = |text: &str| read::<Hello>(text.as_bytes(), &ours).unwrap_err().to_string();
        let other = wrong(r#"{"verb":"drain","slot":"1","within":5,"appctl":{"version":"0.3.0","wire":2}}"#);
        assert_eq!(
            other,
            "it is of appctl 0.3.0, this is 0.1.0, and they do not understand each other: its protocol is 2, this one's 1"
        );
        let verb = wrong(r#"{"verb":"dance","slot":"1","appctl":{"version":"0.3.0","wire":1}}"#);
        assert!(verb.starts_with("it is of appctl 0.3.0, this is 0.1.0, ") && verb.contains("dance"), "{verb}");
        let own = wrong(r#"{"verb":"dance","slot":"1","appctl":{"version":"0.1.0","wire":1}}"#);
        assert!(own.starts_with("unknown variant"), "{own}");
        assert!(wrong("GET /").starts_with("expected value"), "{}", wrong("GET /"));
    }
}
