//! Plain requests and WebSockets: `/who`, `/path?n=`, `/slow?ms=&n=`, `/health`, `/ws` (an echo; `who` is answered), and
//! `/exit` and `/hang` for those who want to see it fail.

use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use listenfd::ListenFd;
use std::convert::Infallible;
use std::env::var;
use std::error::Error;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

fn main() -> Result<(), Box<dyn Error>> {
    // Before anything of its own is open.
    println!("open descriptors: {}", descriptors()?);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    // Its first words, and its readiness, may wait for a file.
    while let Ok(file) = var("WAIT_FOR") {
        if Path::new(&file).exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut term = signal(SignalKind::terminate())?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let listener = match ListenFd::from_env().take_unix_listener(0)? {
        Some(unix) => {
            unix.set_nonblocking(true)?;
            Listener::Unix(UnixListener::from_std(unix)?)
        }
        None => {
            let port = var("PORT")?.parse()?;
            Listener::Tcp(TcpListener::bind(("127.0.0.1", port)).await?)
        }
    };
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;
    loop {
        tokio::select! {
            _ = term.recv() => break,
            accepted = accept(&listener, &stop, &tasks) => accepted?,
        }
    }
    drop(listener);
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

async fn accept(listener: &Listener, stop: &CancellationToken, tasks: &TaskTracker) -> std::io::Result<()> {
    match listener {
        Listener::Unix(unix) => drop(tasks.spawn(serve(unix.accept().await?.0, stop.clone(), tasks.clone()))),
        Listener::Tcp(tcp) => drop(tasks.spawn(serve(tcp.accept().await?.0, stop.clone(), tasks.clone()))),
    }
    Ok(())
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let service = service_fn(|request| answer(request, stop.clone(), tasks.clone()));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection.with_upgrades());
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        eprintln!("a connection ended early: {error}");
    }
}

async fn answer(
    mut request: Request<Incoming>,
    stop: CancellationToken,
    tasks: TaskTracker,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let query = request.uri().query().unwrap_or("").to_owned();
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or("");
    let mut status = StatusCode::OK;
    let text = match request.uri().path() {
        "/who" => {
            let forwarded = request.headers().get("x-forwarded-for").and_then(|it| it.to_str().ok()).unwrap_or("-");
            who(forwarded)
        }
        "/path" => format!("{}\n", value("n")),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(value("ms").parse().unwrap_or(0))).await;
            format!("{}\n", value("n"))
        }
        "/health" => {
            if Path::new("/run/sick").exists() {
                status = StatusCode::SERVICE_UNAVAILABLE;
            }
            "health\n".to_owned()
        }
        "/exit" => std::process::exit(7),
        "/hang" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "/ws" => {
            let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
                return Ok(bad("no WebSocket"));
            };
            let accept = derive_accept_key(key.as_bytes());
            let upgrade = hyper::upgrade::on(&mut request);
            tasks.spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
                    talk(socket, stop).await;
                }
            });
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).unwrap());
            return Ok(response);
        }
        _ => {
            status = StatusCode::NOT_FOUND;
            "no such page\n".to_owned()
        }
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

fn bad(text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, stop: CancellationToken) {
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = stop.cancelled() => {
                let frame = CloseFrame { code: CloseCode::Restart, reason: "".into() };
                // A client that is gone needs no word. Bytes that nobody has read would take the word with them.
                let _ = socket.close(Some(frame)).await;
                let rest = async { while let Some(Ok(_)) = socket.next().await {} };
                let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
                return;
            }
        };
        let answer = match message {
            Some(Ok(Message::Text(text))) if text.as_str() == "who" => Message::text(who("-")),
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => message,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            Some(Ok(_)) => continue,
        };
        if socket.send(answer).await.is_err() {
            return;
        }
    }
}

fn who(forwarded: &str) -> String {
    let index = var("NODE_APP_INSTANCE").unwrap_or_default();
    let version = var("VERSION").unwrap_or_default();
    let pid = std::process::id();
    format!("{{\"pid\":{pid},\"index\":\"{index}\",\"version\":\"{version}\",\"forwarded\":\"{forwarded}\"}}")
}

/// What it was given beside standard input and output.
fn descriptors() -> std::io::Result<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().into_owned();
        let itself = std::fs::read_link(entry.path()).is_ok_and(|target| target.starts_with("/proc"));
        if !itself && !["0", "1", "2"].contains(&number.as_str()) {
            found.push(number);
        }
    }
    Ok(if found.is_empty() { "none".to_owned() } else { found.join(" ") })
}
