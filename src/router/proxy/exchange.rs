//! One request: to its worker, and the answer back.

use super::body::{Answer, Flight, Running, Turn, Upload, Wanted};
use super::client::Conn;
use super::keys::Stay;
use super::limits::in_time;
use super::tunnel;
use super::upstream::{Sender, Upstream, Wish, reach};
use crate::router::access::{self, By};
use crate::router::metrics::Again;
use crate::router::refuse::Refusal;
use crate::router::search::{Search, Way};
use crate::wire::{engine, forward};
use hyper::body::{Body, Bytes, Incoming};
use hyper::ext::on_informational;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, TRANSFER_ENCODING,
};
use hyper::http::uri::PathAndQuery;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// What is taken off the time that a worker says it keeps a connection: our request may be on its way then.
pub(super) const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);
/// How often a request is given to a connection, that of which nothing was sent included.
pub(super) const TRIES: usize = 3;

/// Answers one request. Never fails: what cannot be served is told.
pub(super) async fn answer(conn: Rc<Conn>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let mut turn = Turn::begin(&conn);
    if conn.router.access.is_on() {
        let (target, version) = (request.uri().to_string(), format!("{:?}", request.version()));
        turn.entry = Some(access::begin([request.method().as_str(), &target, &version], request.headers(), conn.peer));
    }
    let exchanged = exchange(&conn, request).await;
    turn.answered = true;
    Ok(match exchanged {
        Ok(mut response) => {
            if let Some(pending) = &mut turn.entry {
                let worker = response.extensions_mut().remove::<By>().and_then(|By(id)| conn.router.slot_of(id));
                pending.answered(response.status(), worker, None);
            }
            match response.body_mut() {
                Answer::Own(_, place) => *place = Some(turn),
                Answer::Worker(running) => running.turn = Some(turn),
            }
            response
        }
        Err(refusal) => {
            conn.gate.decide(false);
            conn.chosen.refused(&conn.router, refusal);
            if !conn.is_told(refusal) {
                conn.router.count_refusal(refusal);
            }
            if let Some(pending) = &mut turn.entry {
                pending.answered(refusal.code(), conn.chosen.slot(&conn.router), Some(refusal.reason()));
            }
            tracing::debug!(address = %conn.address, reason = refusal.reason(), "refused a request");
            own(refusal, turn)
        }
    })
}

/// What is asked, apart from what goes on to the worker.
struct Asked {
    stay: Stay,
    /// The answer may open a session.
    opens: bool,
    /// The client's side, where it asks to switch protocols.
    switching: Option<OnUpgrade>,
    /// The client understands interim answers.
    newest: bool,
    wanted: Option<Wanted>,
}

async fn exchange(conn: &Rc<Conn>, request: Request<Incoming>) -> Result<Response<Answer>, Refusal> {
    let router = &conn.router;
    let (asked, mut request) = prepare(conn, request)?;
    let mut search = Search::new(router, asked.stay.key.clone(), &conn.address);
    // What may be asked twice, because it changes nothing or the same, and has no body that could be half sent.
    let again = request.body().is_end_stream() && is_idempotent(request.method());
    let mut spare = None;
    let mut fresh = false;
    for _ in 0..TRIES {
        let (mut upstream, mut flight) =
            reach::<Sender>(conn, &mut search, if fresh { Wish::Fresh } else { Wish::Sure }).await?;
        if again && !fresh {
            spare = Some(Spare::of(&request));
        }
        let sent = upstream.line.requests.try_send_request(request);
        match in_time(conn, sent).await.ok_or(Refusal::AnswerTimeout)? {
            Ok(response) => {
                flight.answered();
                router.count_answer(upstream.id, response.status().as_u16());
                return respond(conn, asked, response, upstream, flight);
            }
            Err(mut error) => {
                tracing::debug!(APP = router.app, error = %error.error(), "a worker ended a connection without an answer");
                drop(flight);
                if let Some(reason) = conn.gate.wrong() {
                    return Err(Refusal::Malformed(reason));
                }
                if conn.limits.is_late() {
                    return Err(Refusal::BodyTimeout);
                }
                // Once more, over a connection that nobody has used: what was not sent at all, and what does no harm.
                request = match (error.take_message(), spare.take()) {
                    (Some(unsent), _) => unsent,
                    (None, Some(spare)) => spare.again(conn, asked.newest),
                    (None, None) => return Err(Refusal::Broken),
                };
                fresh = true;
                search.again();
                router.metrics.again(Again::Broken);
                // Its socket may take a connection also when it has just died: systemd holds that.
                if upstream.way == Way::Connect {
                    search.tried.push(upstream.id);
                }
            }
        }
    }
    Err(Refusal::Broken)
}

/// Makes of a client's request what the worker gets.
fn prepare(conn: &Rc<Conn>, mut request: Request<Incoming>) -> Result<(Asked, Request<Upload>), Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::Malformed("CONNECT is not served here"));
    }
    to_origin_form(&mut request)?;
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let mut stay = Stay::read(conn, request.method().as_str(), target, request.headers());
    let opens = request.method() == Method::GET && engine::opens_session(target);
    let newest = request.version() == Version::HTTP_11;
    let switching = newest && forward::wants_upgrade(request.headers());
    let client = hyper::upgrade::on(&mut request);
    let body = request.body();
    let chunked = !body.is_end_stream() && body.size_hint().exact().is_none();
    let bodiless = body.is_end_stream();
    let headers = request.headers_mut();
    forward::strip(headers, switching);
    forward::tell_client(headers, conn.peer.address, conn.peer.trusted, conn.peer.https);
    stay.prepare(&conn.router, headers);
    if !headers.contains_key(HOST) {
        // HTTP/1.0 (RFC 9112 §3.2).
        headers.insert(HOST, HeaderValue::from_static(""));
    }
    if chunked {
        // Whatever the method: hyper would send none with GET.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    // A client of HTTP/1.0 knows of no 100 (RFC 9110 §10.1.1).
    let expects = headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if !newest {
        headers.remove(EXPECT);
    }
    let (wanted, hold) = if expects && newest && !bodiless {
        let (want, wanted) = oneshot::channel();
        (Some(Arc::new(Mutex::new(Some(want)))), Some(wanted))
    } else {
        (None, None)
    };
    *request.version_mut() = Version::HTTP_11;
    let mut request = request.map(|body| Upload::new(conn, body, hold));
    if newest {
        pass_informational(conn, &mut request, wanted.clone());
    }
    Ok((Asked { stay, opens, switching: switching.then_some(client), newest, wanted }, request))
}

/// A target in absolute form counts, its Host does not (RFC 9112 §3.2.2).
fn to_origin_form(request: &mut Request<Incoming>) -> Result<(), Refusal> {
    const BAD: Refusal = Refusal::Malformed("a bad request target");
    let Some(authority) = request.uri().authority().cloned() else {
        // Origin form, or `OPTIONS *`.
        let path = request.uri().path();
        let star = path == "*" && request.method() == Method::OPTIONS;
        return if path.starts_with('/') || star { Ok(()) } else { Err(BAD) };
    };
    let scheme = request.uri().scheme_str();
    if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        || authority.as_str().contains('@')
    {
        return Err(BAD);
    }
    let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(target);
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| BAD)?;
    request.headers_mut().insert(HOST, host);
    Ok(())
}

/// Interim answers (RFC 9110 §15.2): 100 asks the client for its body, by hyper; others go to it as they are.
fn pass_informational(conn: &Rc<Conn>, request: &mut Request<Upload>, wanted: Option<Wanted>) {
    let gate = conn.gate.clone();
    on_informational(request, move |response| {
        if response.status() != StatusCode::CONTINUE {
            gate.inform(&interim(response.status(), response.headers()));
        } else if let Some(wanted) = &wanted
            && let Some(want) = wanted.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // A request that is gone wants nothing.
            let _ = want.send(());
        }
    });
}

fn interim(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut headers = headers.clone();
    forward::strip(&mut headers, false);
    let mut text = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in &headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// What a request without a body is made of, to be sent once more. A whole copy would cost as much as all else that is done
/// for a request; how its field names were spelled is not in here.
struct Spare {
    method: Method,
    uri: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Spare {
    fn of(request: &Request<Upload>) -> Self {
        let mut fields = Vec::with_capacity(request.headers().len());
        fields.extend(request.headers().iter().map(|(name, value)| (name.clone(), value.clone())));
        Self { method: request.method().clone(), uri: request.uri().clone(), fields }
    }

    fn again(self, conn: &Rc<Conn>, newest: bool) -> Request<Upload> {
        let mut request = Request::new(Upload::default());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        request.headers_mut().extend(self.fields);
        if newest {
            pass_informational(conn, &mut request, None);
        }
        request
    }
}

/// Makes of a worker's answer what the client gets.
fn respond(
    conn: &Rc<Conn>,
    asked: Asked,
    mut response: Response<Incoming>,
    mut upstream: Upstream<Sender>,
    mut flight: Flight,
) -> Result<Response<Answer>, Refusal> {
    if conn.router.access.is_on() {
        response.extensions_mut().insert(By(upstream.id));
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = asked.switching.filter(|_| forward::wants_upgrade(response.headers())) else {
            return Err(Refusal::Broken);
        };
        let worker = hyper::upgrade::on(&mut response);
        forward::strip(response.headers_mut(), true);
        asked.stay.answered(&conn.router, upstream.id, StatusCode::SWITCHING_PROTOCOLS, response.headers_mut());
        conn.gate.decide(true);
        tunnel::join(conn, upstream.id, (client, worker), flight.hold.take());
        flight.opened();
        return Ok(response.map(|_| Answer::Own(None, None)));
    }
    conn.gate.decide(false);
    let status = response.status();
    let headers = response.headers_mut();
    let closes = forward::says_close(headers);
    if let Some(kept_for) = kept_for(headers) {
        upstream.kept_for = upstream.kept_for.min(kept_for);
    }
    let plain = headers.get(CONTENT_ENCODING).is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    forward::strip(headers, false);
    asked.stay.answered(&conn.router, upstream.id, status, headers);
    let closes = closes || response.version() != Version::HTTP_11;
    *response.version_mut() = Version::HTTP_11;
    let looked_at = asked.opens && plain && response.status() == StatusCode::OK;
    Ok(response.map(|body| {
        Answer::worker(Running {
            body,
            upstream: (!closes).then_some(upstream),
            prefix: looked_at.then(Vec::new),
            flight: Some(flight),
            wanted: asked.wanted,
            turn: None,
        })
    }))
}

/// How long an idle connection may be used, by what Node says of it (`Keep-Alive: timeout=5`).
fn kept_for(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(HeaderName::from_static("keep-alive"))?.to_str().ok()?;
    let seconds = text.split(',').find_map(|one| one.trim().strip_prefix("timeout="))?.parse().ok()?;
    Some(Duration::from_secs(seconds).saturating_sub(KEEP_ALIVE_MARGIN))
}

/// An answer of the router's own; the connection ends with it.
fn own(refusal: Refusal, turn: Turn) -> Response<Answer> {
    let body = Bytes::from(format!("{}\n", refusal.reason()));
    let mut response = Response::new(Answer::Own(Some(body), Some(turn)));
    *response.status_mut() = refusal.code();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}
