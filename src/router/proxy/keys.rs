//! What a request that is routed here says of where it belongs, and what its answer changes of that.

use super::client::Conn;
use crate::router::Router;
use crate::router::table::{Source, WorkerId};
use crate::wire::cookie::Seal;
use crate::wire::forward;
use crate::wire::sticky::{Fields, Key};
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
    pub(super) fn read(conn: &Conn, method: &str, target: &str, fields: &impl Fields) -> Self {
        let key = conn.router.key_of(target, fields, || conn.peer.address);
        if let Some(Key::Session(session)) = &key {
            conn.router.table.borrow_mut().hear(session, conn.router.now());
        }
        let assigned = matches!(key, None | Some(Key::Worker(_)));
        let cookie = conn.router.stick.seal().filter(|_| assigned);
        Self { key, cookie, secure: false, deletes: method == Method::DELETE.as_str() }
    }

    /// Takes our own cookie out of what the worker gets: it is no business of the app. After it was said how the client
    /// came.
    pub(super) fn prepare(&mut self, router: &Router, headers: &mut HeaderMap) {
        let Some(seal) = router.stick.seal() else { return };
        self.secure = forward::told_https(headers);
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

    /// The same where that is done elsewhere: `https` is how the client came.
    pub(super) fn came(&mut self, https: bool) {
        self.secure = https;
    }

    /// What this worker's answer says of keys; and the cookie that goes with it.
    pub(super) fn answered(&self, router: &Rc<Router>, id: WorkerId, status: StatusCode, headers: &mut HeaderMap) {
        let Some(Gift { cookie, private }) = self.learn(router, id, status, headers) else { return };
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.append(SET_COOKIE, cookie);
            if private {
                headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
            }
        }
    }

    /// What this worker's answer says of keys; says what the client gets with it.
    pub(super) fn learn(
        &self,
        router: &Rc<Router>,
        id: WorkerId,
        status: StatusCode,
        fields: &impl Fields,
    ) -> Option<Gift> {
        if let Some(Key::Kept(key)) = &self.key
            && key.is_of_header(MCP)
        {
            match status {
                // "Clients that no longer need a particular session […] SHOULD send an HTTP DELETE".
                _ if self.deletes && status.is_success() => {
                    router.unbind(key, None);
                    return None;
                }
                // The worker does not have it, which only the client had said.
                StatusCode::NOT_FOUND => router.unbind(key, Some(Source::Request)),
                _ => {}
            }
        }
        if !status.is_client_error() && !status.is_server_error() {
            router.learn_keys(id, fields);
        }
        let seal = self.cookie.as_ref().filter(|_| self.key != Some(Key::Worker(id)))?;
        // A cache between would give this client's worker to all others.
        let lines = fields.all(CACHE_CONTROL.as_str());
        let mut directives = lines.flat_map(|line| line.split(|byte| *byte == b','));
        let private = !directives.any(|directive| {
            let name = directive.trim_ascii();
            name.eq_ignore_ascii_case(b"private") || name.eq_ignore_ascii_case(b"no-store")
        });
        Some(Gift { cookie: seal.set(id, self.secure), private })
    }
}

/// The cookie that a client gets.
#[derive(Debug)]
pub(super) struct Gift {
    /// The field's value.
    pub(super) cookie: String,
    /// The answer does not say itself that it is this client's alone.
    pub(super) private: bool,
}
