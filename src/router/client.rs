//! The router's control socket, seen from outside: HTTP/1.1 over a Unix socket, JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

pub use super::axm::{Called, Outcome, Wanted};
use super::certificates::Material;
use super::control::server_name;
pub use super::control::{EndStatus, Status, WorkerStatus};
pub use super::doors::CertificateStatus;
pub use super::record::End;
use crate::system::stamp::Stamp;

/// Largest answer that is read, bytes.
const ANSWER_LIMIT: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot reach the router: {0}")]
    Unreachable(std::io::Error),
    #[error("the router did not answer in time")]
    TimedOut,
    #[error("the router's answer: {0}")]
    Answer(String),
    #[error("the router says {0}")]
    Status(StatusCode),
    /// It is of another release, and does not know or say what this one needs.
    #[error(
        "it is appctl {theirs}, this command {ours}, and they do not understand each other here ({problem}): run `appctl upgrade`"
    )]
    Foreign { theirs: String, ours: String, problem: String },
    /// What was sent cannot be used.
    #[error("{0}")]
    Refused(String),
}

/// Where one router answers.
#[derive(Debug, Clone)]
pub struct Control {
    socket: PathBuf,
    timeout: Duration,
}

impl Control {
    /// `timeout`: for one whole exchange.
    pub fn new(socket: impl Into<PathBuf>, timeout: Duration) -> Self {
        Self { socket: socket.into(), timeout }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub async fn status(&self) -> Result<Status, ControlError> {
        let (body, server) = self.exchange_with(Method::GET, "/v1/status", Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(|error| blame(&server, ControlError::Answer(error.to_string())))
    }

    /// Prometheus' text format.
    pub async fn metrics(&self) -> Result<String, ControlError> {
        let body = self.exchange(Method::GET, "/metrics").await?;
        String::from_utf8(body.into()).map_err(|error| ControlError::Answer(error.to_string()))
    }

    /// The app is being stopped: the router, if it is this process, takes no new workers from now on.
    pub async fn stopping(&self, router: u32) -> Result<(), ControlError> {
        self.exchange(Method::POST, &format!("/v1/stopping/{router}")).await.map(drop)
    }

    /// A reload begins, after which `workers` are wanted.
    pub async fn begin_rollout(&self, workers: u32) -> Result<(), ControlError> {
        self.exchange(Method::POST, &format!("/v1/rollout/begin/{workers}")).await.map(drop)
    }

    /// How many workers there should be from now on.
    pub async fn set_wanted(&self, workers: u32) -> Result<(), ControlError> {
        self.exchange(Method::POST, &format!("/v1/wanted/{workers}")).await.map(drop)
    }

    /// The trial of the worker in `slot` is over.
    pub async fn admit(&self, slot: u32) -> Result<(), ControlError> {
        self.exchange(Method::POST, &format!("/v1/workers/{slot}/admit")).await.map(drop)
    }

    /// The next worker in `slot` is on trial, and gets this index.
    pub async fn promise(&self, slot: u32, index: u32) -> Result<(), ControlError> {
        self.exchange(Method::POST, &format!("/v1/workers/{slot}/index/{index}")).await.map(drop)
    }

    /// Serves these certificates from now on, all or none.
    pub async fn renew_certificates(&self, all: &[Material]) -> Result<(), ControlError> {
        let body = serde_json::to_vec(all).map_err(|error| ControlError::Answer(error.to_string()))?;
        self.exchange_with(Method::POST, "/v1/certificates", body.into()).await.map(drop)
    }

    /// Calls an action of the app, and waits for the answers longer than for anything else.
    pub async fn call_action(&self, wanted: &Wanted) -> Result<Vec<Called>, ControlError> {
        let body = serde_json::to_vec(wanted).map_err(|error| ControlError::Answer(error.to_string()))?;
        let timeout = self.timeout.saturating_add(Duration::from_millis(wanted.timeout_ms));
        let patient = Self { timeout, ..self.clone() };
        let (answer, server) = patient.exchange_with(Method::POST, "/v1/actions", body.into()).await?;
        serde_json::from_slice(&answer).map_err(|error| blame(&server, ControlError::Answer(error.to_string())))
    }

    /// The reload is over.
    pub async fn end_rollout(&self) -> Result<(), ControlError> {
        self.exchange(Method::POST, "/v1/rollout/end").await.map(drop)
    }

    async fn exchange(&self, method: Method, target: &str) -> Result<Bytes, ControlError> {
        self.exchange_with(method, target, Bytes::new()).await.map(|(body, _)| body)
    }

    /// The answer, and what says so.
    async fn exchange_with(&self, method: Method, target: &str, body: Bytes) -> Result<(Bytes, String), ControlError> {
        tokio::time::timeout(self.timeout, self.exchange_unbounded(method, target, body))
            .await
            .map_err(|_| ControlError::TimedOut)?
    }

    async fn exchange_unbounded(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<(Bytes, String), ControlError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(ControlError::Unreachable)?;
        let answer = |error: hyper::Error| ControlError::Answer(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(answer)?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(hyper::header::HOST, "localhost")
            .body(Full::new(body))
            .map_err(|error| ControlError::Answer(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(answer)?;
        let status = response.status();
        let server = response.headers().get(hyper::header::SERVER).and_then(|name| name.to_str().ok());
        let server = server.unwrap_or_default().to_owned();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        driver.abort();
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            let text = body.map(Collected::to_bytes).unwrap_or_default();
            return Err(ControlError::Refused(String::from_utf8_lossy(&text).into_owned()));
        }
        if !status.is_success() {
            return Err(blame(&server, ControlError::Status(status)));
        }
        Ok((body.map_err(|error| ControlError::Answer(error.to_string()))?.to_bytes(), server))
    }
}

/// An answer that is not understood, from another release than this one, is that release's.
fn blame(server: &str, error: ControlError) -> ControlError {
    let known = server.is_empty() || server == server_name();
    let strange = match &error {
        ControlError::Answer(_) => true,
        // 422, 409 and the like are answers to what was understood.
        ControlError::Status(status) => {
            matches!(*status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST)
        }
        _ => false,
    };
    match server.strip_prefix("appctl/") {
        Some(theirs) if !known && strange => {
            let Stamp { version, build, .. } = Stamp::own();
            let (their_version, their_build) = theirs.split_once(' ').unwrap_or((theirs, ""));
            let (theirs, ours) = if their_version == version {
                // Only their builds tell them apart.
                (format!("{their_version} {their_build}"), format!("{version} ({build})"))
            } else {
                (their_version.to_owned(), version.clone())
            };
            ControlError::Foreign { theirs, ours, problem: error.to_string() }
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// A router that gives one answer; what it was asked.
    async fn ask(answer: impl Into<String>) -> (Result<Status, ControlError>, String) {
        let answer = answer.into();
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control");
        let listener = UnixListener::bind(&socket).unwrap();
        let router = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        let status = Control::new(&socket, Duration::from_secs(5)).status().await;
        (status, router.await.unwrap())
    }

    #[tokio::test]
    async fn a_status() {
        let body = r#"{"app":"shop","pid":1,"version":"1","workers_wanted":1,"sessions":7,"waiting":0,"connections":9,"refused":0,"workers":[{"slot":"2","id":3,"index":1,"pid":99,"state":"ready","sessions":7,"pending":0,"handed":9,"encoding":"json","since":5,"new":true}]}"#;
        let (status, request) = ask(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        assert!(request.starts_with("GET /v1/status HTTP/1.1\r\n"), "{request}");
        let status = status.unwrap();
        assert_eq!((status.sessions, status.workers[0].slot.as_str(), status.workers[0].index), (7, "2", 1));
    }

    #[tokio::test]
    async fn answers_that_are_none() {
        assert!(matches!(
            ask("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await.0,
            Err(ControlError::Status(StatusCode::SERVICE_UNAVAILABLE))
        ));
        assert!(matches!(ask("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").await.0, Err(ControlError::Answer(_))));
        assert!(matches!(ask("garbage\r\n\r\n").await.0, Err(ControlError::Answer(_))));
    }

    #[tokio::test]
    async fn a_router_of_another_release_is_named_where_it_is_not_understood() {
        let answers = [
            ("HTTP/1.1 404 Not Found\r\nServer: appctl/0.0.9 (abc)\r\nContent-Length: 0\r\n\r\n".to_owned(), "404"),
            (
                "HTTP/1.1 200 OK\r\nServer: appctl/0.0.9 (abc)\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
                "missing field",
            ),
        ];
        for (answer, problem) in answers {
            let error = ask(answer).await.0.unwrap_err().to_string();
            let ours = env!("CARGO_PKG_VERSION");
            assert!(error.starts_with(&format!("it is appctl 0.0.9, this command {ours}, and they do not")), "{error}");
            assert!(error.contains(problem) && error.ends_with("run `appctl upgrade`"), "{error}");
        }
        let ours = env!("CARGO_PKG_VERSION");
        let answer = format!("HTTP/1.1 404 Not Found\r\nServer: appctl/{ours} (abc)\r\nContent-Length: 0\r\n\r\n");
        let error = ask(answer).await.0.unwrap_err().to_string();
        let own = &Stamp::own().build;
        assert!(error.starts_with(&format!("it is appctl {ours} (abc), this command {ours} ({own}), and")), "{error}");
        let own = format!("HTTP/1.1 404 Not Found\r\nServer: {}\r\nContent-Length: 0\r\n\r\n", server_name());
        assert!(matches!(ask(own).await.0, Err(ControlError::Status(StatusCode::NOT_FOUND))));
    }

    #[tokio::test]
    async fn nobody_there() {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::new(directory.path().join("control"), Duration::from_secs(5));
        assert!(matches!(control.status().await, Err(ControlError::Unreachable(_))));
    }

    #[tokio::test]
    async fn a_router_that_is_silent() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(matches!(Control::new(&socket, Duration::from_millis(30)).status().await, Err(ControlError::TimedOut)));
    }
}
