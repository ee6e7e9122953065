//! A directory of files as a site: what `appctl serve` makes an app of. It is a worker like any other, on a socket that it
//! gets from systemd, behind the router.
//!
//! Files are tower-http's business: types, ranges, `ETag`, `Last-Modified`, `index.html`. What is here is who may have
//! which file ([`beneath`]: none outside of the directory, whatever links say; none whose name begins with a dot), the
//! page of an application that has only one, and a password.

mod beneath;

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::services::ServeDir;

use beneath::Beneath;

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Between two tries of accept(2), when there are no descriptors left.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// Errors of a path that a client made up, or of a file that is nobody's business.
const NO_FILE: [io::ErrorKind; 5] = [
    io::ErrorKind::NotFound,
    io::ErrorKind::NotADirectory,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::InvalidFilename,
    // A NUL in it.
    io::ErrorKind::InvalidInput,
];

/// What is served, and to whom.
#[derive(Debug, Clone)]
pub struct Options {
    pub directory: PathBuf,
    /// Where there is no file, `index.html` is the answer: the application in it knows the address.
    pub one_page: bool,
    /// `user:password` of HTTP's basic authentication.
    pub password: Option<String>,
}

/// A directory that is open.
#[derive(Debug, Clone)]
struct Site {
    files: ServeDir<tower_http::services::fs::DefaultServeDirFallback, Beneath>,
    one_page: bool,
    /// Digest of the value of `Authorization` that is right.
    authorization: Option<[u8; 32]>,
}

/// Serves until it is told to stop; then what is under way is finished.
pub async fn serve(listener: UnixListener, options: &Options, stop: CancellationToken) -> io::Result<()> {
    let site = Site::open(options)?;
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("<3>cannot accept connections now: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (site, stop) = (site.clone(), stop.clone());
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let site = site.clone();
                async move { Ok::<_, Infallible>(site.answer(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            // Whoever is at the other end, the router or nobody, knows that it broke.
            tokio::select! {
                _ = &mut connection => return,
                () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

impl Site {
    fn open(options: &Options) -> io::Result<Self> {
        let authorization = options.password.as_ref().map(|password| {
            let value = format!("Basic {}", base64(password.as_bytes()));
            Sha256::digest(value.as_bytes()).into()
        });
        let files = ServeDir::with_backend("", Beneath::open(&options.directory)?);
        Ok(Self { files, one_page: options.one_page, authorization })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if !self.is_let_in(&request) {
            let mut response = empty(StatusCode::UNAUTHORIZED);
            let challenge = HeaderValue::from_static("Basic realm=\"appctl\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            return response;
        }
        // What a client sends with it is nothing for us.
        let (parts, _) = request.into_parts();
        if is_hidden(parts.uri.path()) {
            return empty(StatusCode::NOT_FOUND);
        }
        let may_be_a_page = self.one_page && is_a_page(&parts.method, parts.uri.path());
        let page = may_be_a_page.then(|| {
            let mut page = Request::new(Empty::<Bytes>::new());
            page.headers_mut().clone_from(&parts.headers);
            page.method_mut().clone_from(&parts.method);
            *page.uri_mut() = Uri::from_static("/index.html");
            page
        });
        let mut response = self.file(Request::from_parts(parts, Empty::new())).await;
        if let Some(page) = page.filter(|_| response.status() == StatusCode::NOT_FOUND) {
            response = self.file(page).await;
        }
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn file(&self, request: Request<Empty<Bytes>>) -> Response<Body> {
        match self.files.clone().try_call(request).await {
            Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
            Err(error) if NO_FILE.contains(&error.kind()) => empty(StatusCode::NOT_FOUND),
            Err(error) => {
                eprintln!("<3>cannot read a file: {error}");
                empty(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// By digests, so that how long it takes says nothing of the password.
    fn is_let_in(&self, request: &Request<Incoming>) -> bool {
        let Some(right) = self.authorization else { return true };
        let said = request.headers().get(header::AUTHORIZATION);
        said.is_some_and(|said| Sha256::digest(said.as_bytes()).as_slice() == right)
    }
}

/// Whether a path is of a file that is nobody's business: `.git`, `.env` and their like. `//host/` would be another site's
/// address in a redirection.
fn is_hidden(path: &str) -> bool {
    let lower = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/");
    path.starts_with("//")
        || lower.split('/').any(|part| part.starts_with('.') && part != ".well-known")
        || Path::new(&lower).components().any(|part| part == std::path::Component::ParentDir)
}

/// A place within an application of one page, and no file of its own: its last part has no ending.
fn is_a_page(method: &Method, path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    [Method::GET, Method::HEAD].contains(method) && !last.contains('.')
}

fn empty(status: StatusCode) -> Response<Body> {
    let text = status.canonical_reason().unwrap_or_default();
    let mut response = Response::new(Full::from(format!("{text}\n")).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let [first, second, third] = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or(0)));
        let bits = first << 16 | second << 8 | third;
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at)) & 63;
            text.push(if at <= group.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden() {
        for path in
            ["/.git/config", "/.env", "/a/.htpasswd", "/%2egit/HEAD", "/a%2f.env", "/%2E%2e/x", "//host/", "/a/../b"]
        {
            assert!(is_hidden(path), "{path}");
        }
        for path in ["/", "/index.html", "/.well-known/acme-challenge/x", "/a.b/c", "/a..b"] {
            assert!(!is_hidden(path), "{path}");
        }
    }

    #[test]
    fn pages_of_an_application() {
        for (method, path, page) in [
            (Method::GET, "/users/7", true),
            (Method::HEAD, "/users/", true),
            (Method::GET, "/app.js", false),
            (Method::POST, "/users/7", false),
        ] {
            assert_eq!(is_a_page(&method, path), page, "{path}");
        }
    }

    #[test]
    fn base64_of_the_rfc() {
        for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
        assert_eq!(base64(b"Aladdin:open sesame"), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
