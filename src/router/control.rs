//! What the operator asks: HTTP over the control socket, answers in JSON.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | 200, [`Status`] |
//! | `GET /metrics` | 200, Prometheus' text format |
//! | `POST /v1/workers/SLOT/drain` | 204, or 404: no worker in that slot |
//! | `POST /v1/actions` | 200: the body's [`Wanted`] is called in each worker that is meant; a list of [`Called`] |
//! | `POST /v1/wanted/WORKERS` | 204: so many workers are wanted |
//! | `POST /v1/rollout/begin/WORKERS` | 204: the workers there are now are old; so many are wanted |
//! | `POST /v1/workers/SLOT/index/INDEX` | 204: the next worker in that slot is on trial, and gets that index |
//! | `POST /v1/workers/SLOT/admit` | 204: its trial is over, it gets all that is new |
//! | `POST /v1/rollout/end` | 204: all workers are alike again |
//! | `POST /v1/certificates` | 204: the body's certificates are served from now on; or 422, and why none of them is |
//! | `POST /v1/stopping/PID` | 204: no new worker is let in from now on; or 409: that was the router before |
//!
//! systemd made the socket with mode 0600: who can connect may ask.

use super::axm::{Called, Wanted};
use super::certificates::Material;
use super::doors::CertificateStatus;
use super::record::End;
use super::table::Rank;
use super::{Router, metrics};
use crate::wire::axm::{Action, Metric};
use crate::wire::hello::WireEncoding;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UnixListener;

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// All certificates and keys of an app, bytes.
const CERTIFICATES_LIMIT: usize = 8 << 20;
/// An action's name and parameter, bytes.
const CALL_LIMIT: usize = 128 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The router's state at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub app: String,
    pub pid: u32,
    pub version: String,
    pub workers_wanted: u32,
    /// The addresses where clients come in, as the kernel names them: `[::]:8080`, or a path.
    #[serde(default)]
    pub listening: Vec<String>,
    /// Where the metrics are, if anywhere.
    #[serde(default)]
    pub metrics: Option<String>,
    pub sessions: usize,
    /// Connections that wait for their head, a worker or its acknowledgement.
    pub waiting: usize,
    /// Handed over since the router started.
    pub connections: u64,
    /// Requests that were routed one by one since then.
    #[serde(default)]
    pub proxied: u64,
    /// Connections that have switched protocols and pass through the router.
    #[serde(default)]
    pub tunnels: usize,
    /// Answered with an error by the router itself.
    pub refused: u64,
    /// TLS handshakes that did not come to their end.
    #[serde(default)]
    pub handshakes_failed: u64,
    /// What TLS is served with.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// What the router itself used of a processor lately, in thousandths.
    #[serde(default)]
    pub cpu_permille: Option<u32>,
    pub workers: Vec<WorkerStatus>,
    /// The last end in every slot.
    #[serde(default)]
    pub ends: Vec<EndStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndStatus {
    pub slot: String,
    #[serde(flatten)]
    pub end: End,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub slot: String,
    /// `cluster.worker.id`
    pub id: u32,
    /// `NODE_APP_INSTANCE`
    pub index: u32,
    pub pid: i32,
    /// `starting`, `ready` or `draining`
    pub state: String,
    /// New in a reload, and not yet in the place of an old one.
    #[serde(default)]
    pub trial: bool,
    pub sessions: usize,
    /// Handed over and not acknowledged.
    pub pending: usize,
    pub handed: u64,
    /// Requests that the router has passed on, and whose answers are not over.
    #[serde(default)]
    pub in_flight: usize,
    /// Connections that have switched protocols and pass through the router.
    #[serde(default)]
    pub tunnels: usize,
    /// What it and its children used of a processor in the last seconds, in thousandths.
    #[serde(default)]
    pub cpu_permille: Option<u32>,
    /// How long its event loop takes to answer: of the last minute's handovers, microseconds; `None`: there were none.
    #[serde(default)]
    pub lag_micros: Option<u64>,
    /// Of its channel; `None`: it has none, the router connects to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<WireEncoding>,
    /// Seconds since 1970 when it came to the router.
    pub since: u64,
    /// What its app shows of itself by @pm2/io or the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_metrics: Vec<Metric>,
    /// How many more there are, which are too many or too long to be shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub app_metrics_left_out: usize,
    /// What `appctl trigger` can call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Router {
    pub fn status(&self) -> Status {
        let table = self.table.borrow();
        let links = self.links.borrow();
        let workers = table.workers().map(|worker| WorkerStatus {
            slot: worker.slot.clone(),
            id: worker.id,
            index: worker.index,
            pid: worker.pid,
            state: worker.phase.as_str().to_owned(),
            trial: worker.rank == Rank::Trial,
            sessions: worker.sessions.len() + worker.keys,
            pending: worker.pending,
            handed: worker.handed,
            in_flight: worker.in_flight,
            tunnels: worker.tunnels,
            cpu_permille: self.permille(worker.pid),
            lag_micros: worker.lag(self.now()).and_then(|lag| u64::try_from(lag.as_micros()).ok()),
            encoding: links.get(&worker.id).map(|link| link.encoding.into()),
            since: worker.since,
            app_metrics: self.metrics_of(worker.id),
            app_metrics_left_out: self.metrics_left_out(worker.id),
            actions: self.actions_of(worker.id),
        });
        Status {
            app: self.app.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workers_wanted: self.wanted.get(),
            listening: self.public.iter().map(ToString::to_string).collect(),
            metrics: self.metrics.address(),
            sessions: table.sessions(),
            waiting: self.waiting.get(),
            connections: self.handed.get(),
            proxied: self.proxied(),
            tunnels: self.tunnels(),
            refused: self.refused.get(),
            handshakes_failed: self.doors.failed.get(),
            certificates: self.certificates(),
            cpu_permille: i32::try_from(std::process::id()).ok().and_then(|pid| self.permille(pid)),
            workers: workers.collect(),
            ends: self.last_ends().into_iter().map(|(slot, end)| EndStatus { slot, end }).collect(),
        }
    }
}

/// Accepts until it is dropped.
pub(super) async fn serve(router: &Rc<Router>, socket: UnixListener) {
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(APP = router.app, %error, "cannot accept on the control socket now");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = Rc::clone(router);
        tokio::task::spawn_local(async move {
            let service = service_fn(|request: Request<Incoming>| async {
                Ok::<_, Infallible>(match (request.method(), request.uri().path()) {
                    (&Method::POST, "/v1/certificates") => renew_certificates(&router, request.into_body()).await,
                    (&Method::POST, "/v1/actions") => call_action(&router, request.into_body()).await,
                    _ => answer(&router, &request),
                })
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(APP = router.app, %error, "a control connection ended early");
            }
        });
    }
}

fn answer(router: &Router, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let drained = path.strip_prefix("/v1/workers/").and_then(|rest| rest.strip_suffix("/drain"));
    match (request.method(), path, drained) {
        (&Method::GET, "/v1/status", _) => json(&router.status()),
        (&Method::GET, "/metrics", _) => metrics::page(router),
        (&Method::POST, _, Some(slot)) => match router.drain(slot) {
            Some(_) => empty(StatusCode::NO_CONTENT),
            None => empty(StatusCode::NOT_FOUND),
        },
        (_, "/v1/status" | "/metrics", _) | (_, _, Some(_)) => empty(StatusCode::METHOD_NOT_ALLOWED),
        (&Method::POST, ..) => empty(rollout(router, path)),
        _ => empty(StatusCode::NOT_FOUND),
    }
}

/// What `appctl rollout`, `stopping` and `scale` ask.
fn rollout(router: &Router, path: &str) -> StatusCode {
    let words: Vec<&str> = path.split('/').skip(1).collect();
    match words[..] {
        ["v1", "wanted", workers] => match workers.parse() {
            Ok(workers) => router.set_wanted(workers),
            Err(_) => return StatusCode::BAD_REQUEST,
        },
        ["v1", "rollout", "begin", workers] => match workers.parse() {
            Ok(workers) => router.begin_rollout(workers),
            Err(_) => return StatusCode::BAD_REQUEST,
        },
        // A request that nobody answered waits in the socket for the next router.
        ["v1", "stopping", pid] if pid.parse() != Ok(std::process::id()) => return StatusCode::CONFLICT,
        ["v1", "stopping", _] => router.stopping.cancel(),
        ["v1", "workers", slot, "admit"] => router.table.borrow_mut().admit(slot),
        ["v1", "rollout", "end"] => router.end_rollout(),
        ["v1", "workers", slot, "index", index] => match index.parse() {
            Ok(index) => router.table.borrow_mut().promise(slot, index),
            Err(_) => return StatusCode::BAD_REQUEST,
        },
        _ => return StatusCode::NOT_FOUND,
    }
    StatusCode::NO_CONTENT
}

/// What `appctl rollout` and `appctl reload --certificates` have read as root. It is written down nowhere.
async fn renew_certificates(router: &Router, body: Incoming) -> Response<Full<Bytes>> {
    let body = Limited::new(body, CERTIFICATES_LIMIT).collect().await.map(Collected::to_bytes);
    let Ok(all) = body.map_err(drop).and_then(|body| serde_json::from_slice::<Vec<Material>>(&body).map_err(drop))
    else {
        return empty(StatusCode::BAD_REQUEST);
    };
    match router.renew_certificates(&all) {
        Ok(()) => empty(StatusCode::NO_CONTENT),
        Err(error) => {
            let mut response = Response::new(Full::from(error.to_string()));
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
            response
        }
    }
}

/// What `appctl trigger` asks.
async fn call_action(router: &Rc<Router>, body: Incoming) -> Response<Full<Bytes>> {
    let body = Limited::new(body, CALL_LIMIT).collect().await.map(Collected::to_bytes);
    let Ok(wanted) = body.map_err(drop).and_then(|body| serde_json::from_slice::<Wanted>(&body).map_err(drop)) else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let called: Vec<Called> = router.call_action(&wanted).await;
    json(&called)
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = Response::new(Full::from(body));
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
            response
        }
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
