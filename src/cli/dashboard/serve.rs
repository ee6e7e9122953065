//! The page, to one operator's browser.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Either;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::events::{Facts, Stream};
use crate::cli::exit::Failure;

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at a time; any user of this machine may make one.
const MOST: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is sent with everything: nothing from elsewhere, nothing for elsewhere, nothing kept.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

type Answer = Response<Either<Full<Bytes>, Stream>>;

pub(super) struct Page {
    address: SocketAddr,
    facts: Rc<Facts>,
    /// Until it was used.
    token: RefCell<Option<String>>,
    cookie: String,
}

fn secret() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::failed(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Page {
    pub(super) fn new(address: SocketAddr, facts: Rc<Facts>) -> Result<Self, Failure> {
        Ok(Self { address, facts, token: RefCell::new(Some(secret()?)), cookie: secret()? })
    }

    /// The address with the token, where it was not used yet.
    pub(super) fn url(&self) -> String {
        format!("http://{}/?token={}", self.address, self.token.borrow().as_deref().unwrap_or_default())
    }

    /// Cookies are one jar for all ports of a host.
    fn cookie_name(&self) -> String {
        format!("appctl-{}", self.address.port())
    }

    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if !self.is_meant(request) {
            return text(StatusCode::MISDIRECTED_REQUEST, "This is not the host that you asked for.\n");
        }
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "Nothing can be changed here.\n");
        }
        if path == "/"
            && let Some(entered) = self.enter(request)
        {
            return entered;
        }
        if !self.is_known(request) {
            let why = "This address is good for one visit. Run `appctl dashboard` again for another one.\n";
            return text(StatusCode::FORBIDDEN, why);
        }
        match path {
            "/" => file("text/html; charset=utf-8", include_str!("page.html")),
            "/page.css" => file("text/css; charset=utf-8", include_str!("page.css")),
            "/page.js" => file("text/javascript; charset=utf-8", include_str!("page.js")),
            "/events" => stream(self.facts.listen()),
            "/log" => match self.log(request) {
                Some(log) => stream(log),
                None => text(StatusCode::NOT_FOUND, "There is no such unit.\n"),
            },
            _ => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
        }
    }

    /// A page of somebody else's whose name leads to this machine has another host.
    fn is_meant(&self, request: &Request<Incoming>) -> bool {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        host == self.address.to_string() || host == format!("localhost:{}", self.address.port())
    }

    /// The first visit: the token becomes a cookie, and leaves the address.
    fn enter(&self, request: &Request<Incoming>) -> Option<Answer> {
        let given = request.uri().query()?.strip_prefix("token=")?;
        if !self.token.borrow().as_deref().is_some_and(|token| is_same(token, given)) {
            return None;
        }
        self.token.take();
        let mut answer = text(StatusCode::SEE_OTHER, "");
        let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie_name(), self.cookie);
        answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
        answer.headers_mut().insert(header::SET_COOKIE, HeaderValue::try_from(cookie).ok()?);
        Some(answer)
    }

    fn is_known(&self, request: &Request<Incoming>) -> bool {
        let name = self.cookie_name();
        let cookies = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(key, value)| key == name && is_same(&self.cookie, value))
    }

    /// `/log?scope=SCOPE&unit=UNIT`
    fn log(&self, request: &Request<Incoming>) -> Option<Stream> {
        let (scope, unit) = request.uri().query()?.strip_prefix("scope=")?.split_once("&unit=")?;
        // Of what is in units' names only this one is escaped by browsers.
        self.facts.log(scope, &unit.replace("%40", "@"))
    }
}

/// Takes as long whatever is wrong.
fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = file("text/plain; charset=utf-8", text);
    *answer.status_mut() = status;
    answer
}

fn file(kind: &'static str, content: &'static str) -> Answer {
    with(kind, Either::Left(Full::from(content)))
}

fn stream(stream: Stream) -> Answer {
    with("text/event-stream", Either::Right(stream))
}

fn with(kind: &'static str, body: Either<Full<Bytes>, Stream>) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Accepts until it is dropped.
pub(super) async fn serve(page: Rc<Page>, listener: TcpListener) -> Infallible {
    let open = Rc::new(Cell::new(0));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if open.get() >= MOST {
            continue;
        }
        open.set(open.get() + 1);
        let (page, open) = (Rc::clone(&page), Rc::clone(&open));
        tokio::task::spawn_local(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = page.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // A browser that goes away is a normal end.
            let _ = connection.await;
            open.set(open.get() - 1);
        });
    }
}
