//! What a request that is routed here says of where it belongs, and what its answer changes of that.

use super::client::Conn;
use crate::router::Router;
use crate::router::table::{Source, WorkerId};
use crate::wire::cookie::Seal;
use crate::wire::forward;
use crate::wire::sticky::Key;
use hyper::header::{CACHE_CONTROL, COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use hyper::{Method, StatusCode};
use std::rc::Rc;
use std::sync::Arc;

/// The one header whose meaning is known: sessions of MCP (Streamable HTTP, "Session Management").
const MCP: &str = "mcp-session-id";

/// Of one request.
#[derive(Debug)]
pub(super) struct Stay {
    pub(super) key: Option<Key>,
    /// The client gets a cookie, unless it has that of the worker that answers.
    cookie: Option<Arc<Seal>>,
    secure: bool,
    deletes: bool,
}

impl Stay {
    /// Reads the key. Before anything is taken out of the header.
    pub(super) fn read(conn: &Conn, method: &Method, target: &str, headers: &HeaderMap) -> Self {
        let key = conn.router.key_of(target, headers, || conn.peer.address);
        if let Some(Key::Session(session)) = &key {
            conn.router.table.borrow_mut().hear(session, conn.router.now());
        }
        let assigned = matches!(key, None | Some(Key::Worker(_)));
        let cookie = conn.router.stick.seal().filter(|_| assigned);
        Self { key, cookie, secure: false, deletes: method == Method::DELETE }
    }

    /// Takes our own cookie out of what the worker gets: it is no business of the app. After it was said how the client
    /// came.
    pub(super) fn prepare(&mut self, router: &Router, headers: &mut HeaderMap) {
        self.secure = forward::came_by_https(headers);
        let Some(seal) = router.stick.seal() else { return };
        if !headers.get_all(COOKIE).into_iter().any(|line| seal.strip(line.as_bytes()).is_some()) {
            return;
        }
        let lines: Vec<HeaderValue> = headers.get_all(COOKIE).into_iter().cloned().collect();
        headers.remove(COOKIE);
        for line in lines {
            let left = match seal.strip(line.as_bytes()) {
                Some(left) if left.is_empty() => continue,
                Some(left) => HeaderValue::from_bytes(&left).unwrap_or(line),
                None => line,
            };
            headers.append(COOKIE, left);
        }
    }

    /// What this worker's answer says of keys; and the cookie that goes with it.
    pub(super) fn answered(&self, router: &Rc<Router>, id: WorkerId, status: StatusCode, headers: &mut HeaderMap) {
        if let Some(Key::Kept(key)) = &self.key
            && key.is_of_header(MCP)
        {
            match status {
                // "Clients that no longer need a particular session […] SHOULD send an HTTP DELETE".
                _ if self.deletes && status.is_success() => return router.unbind(key, None),
                // The worker does not have it, which only the client had said.
                StatusCode::NOT_FOUND => router.unbind(key, Some(Source::Request)),
                _ => {}
            }
        }
        if !status.is_client_error() && !status.is_server_error() {
            router.learn_keys(id, headers);
        }
        if let Some(seal) = self.cookie.as_ref().filter(|_| self.key != Some(Key::Worker(id)))
            && let Ok(cookie) = HeaderValue::from_str(&seal.set(id, self.secure))
        {
            headers.append(SET_COOKIE, cookie);
            // A cache between would give this client's worker to all others.
            let lines = headers.get_all(CACHE_CONTROL).into_iter();
            let mut directives = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
            let private = |directive: &[u8]| {
                let name = directive.trim_ascii();
                name.eq_ignore_ascii_case(b"private") || name.eq_ignore_ascii_case(b"no-store")
            };
            if !directives.any(private) {
                headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
            }
        }
    }
}
