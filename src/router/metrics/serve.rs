//! The page on an address of its own: `GET /metrics`, and nothing else of what the control socket does.

use super::CONTENT_TYPE;
use crate::router::Router;
use crate::system::activation::Listener;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE as TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// From accept to the end of the answer.
const TIME: Duration = Duration::from_secs(10);
/// Connections at a time; it may be open to strangers.
const MOST: usize = 32;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

enum Socket {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// Accepts until it is dropped.
pub(in crate::router) async fn serve(router: &Rc<Router>, listener: Listener) -> io::Result<()> {
    // Once a router.
    let _ = router.metrics.address.set(listener.address().to_string());
    let socket = match listener {
        Listener::Tcp(tcp) => {
            tcp.set_nonblocking(true)?;
            Socket::Tcp(tokio::net::TcpListener::from_std(tcp)?)
        }
        Listener::Unix(unix) => {
            unix.set_nonblocking(true)?;
            Socket::Unix(tokio::net::UnixListener::from_std(unix)?)
        }
    };
    let open = Rc::new(Cell::new(0));
    loop {
        let accepted = match &socket {
            Socket::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| begin(router, &open, stream)),
            Socket::Unix(unix) => unix.accept().await.map(|(stream, _)| begin(router, &open, stream)),
        };
        if let Err(error) = accepted {
            tracing::error!(APP = router.app, %error, "cannot accept connections for metrics now");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn begin(router: &Rc<Router>, open: &Rc<Cell<usize>>, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    if open.get() >= MOST {
        return;
    }
    open.set(open.get() + 1);
    let (router, open) = (Rc::clone(router), Rc::clone(open));
    tokio::task::spawn_local(async move {
        let service = service_fn(|request| {
            let answer = answer(&router, &request);
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        match tokio::time::timeout(TIME, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(APP = router.app, %error, "a connection for metrics ended early"),
            Err(_) => tracing::debug!(APP = router.app, "a connection for metrics took too long"),
        }
        open.set(open.get() - 1);
    });
}

fn answer(router: &Router, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => page(router),
        ("/metrics", _) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        _ => {
            let mut response = Response::new(Full::from("the metrics are at /metrics\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

/// The answer with the page.
pub(in crate::router) fn page(router: &Router) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(router.metrics_page()));
    response.headers_mut().insert(TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}
