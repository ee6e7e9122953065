//! How clients come back to their workers: which keys requests are searched for, and what is remembered of them.

use super::Router;
use super::record::Record;
use super::table::{Source, WorkerId};
use crate::config::router::RouterSettings;
use crate::config::sticky;
use crate::wire::cookie::Seal;
use crate::wire::head::Head;
use crate::wire::sticky::{Fields, Kept, Key, Kind, client, find, wanted};
use hyper::HeaderMap;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// What the app's file says of stickiness, ready for use.
pub(super) struct Stick {
    kinds: RefCell<Rc<[Kind]>>,
    /// Header fields that are read of a head.
    pub(super) wanted: Vec<String>,
    /// What cookies are signed with; `None`: there are none.
    secret: Cell<Option<[u8; 32]>>,
    /// The cookie's name.
    name: String,
}

impl Stick {
    pub(super) fn new(app: &str, settings: &RouterSettings) -> Self {
        // Browsers do not tell ports apart: two apps of one host need two names.
        let name = settings.cookie.clone().unwrap_or_else(|| format!("appctl-{app}"));
        let mut secret = None;
        if settings.sticky.kinds().contains(&sticky::Kind::Cookie) {
            let mut bytes = [0; 32];
            match getrandom::fill(&mut bytes) {
                Ok(()) => secret = Some(bytes),
                Err(error) => tracing::error!(APP = app, %error, "no random numbers: clients get no cookies"),
            }
        }
        let kinds = kinds(settings, &name, secret);
        let wanted = wanted(&kinds);
        Self { kinds: RefCell::new(kinds), wanted, secret: Cell::new(secret), name }
    }

    /// The kinds of keys, in their order.
    pub(super) fn kinds(&self) -> Rc<[Kind]> {
        Rc::clone(&self.kinds.borrow())
    }

    /// What makes and reads the cookies.
    pub(super) fn seal(&self) -> Option<Arc<Seal>> {
        self.kinds.borrow().iter().find_map(|kind| match kind {
            Kind::Cookie(seal) => Some(Arc::clone(seal)),
            _ => None,
        })
    }

    fn has_cookies(&self) -> bool {
        self.kinds.borrow().iter().any(|kind| matches!(kind, Kind::Cookie(_)))
    }

    /// A kind whose keys may differ from request to request of one client.
    fn differs(&self) -> bool {
        self.kinds.borrow().iter().any(|kind| matches!(kind, Kind::Header(_) | Kind::Query(_)))
    }
}

fn kinds(settings: &RouterSettings, name: &str, secret: Option<[u8; 32]>) -> Rc<[Kind]> {
    let kind = |kind: &sticky::Kind| match kind {
        sticky::Kind::EngineIo => Some(Kind::Engine),
        sticky::Kind::Cookie => Seal::new(name, &secret?).map(|seal| Kind::Cookie(seal.into())),
        sticky::Kind::Header(name) => Some(Kind::Header(name.clone())),
        sticky::Kind::Query(name) => Some(Kind::Query(name.clone())),
        sticky::Kind::Address => Some(Kind::Address),
    };
    settings.sticky.kinds().iter().filter_map(kind).collect()
}

impl Router {
    /// What this request says of where it belongs. `peer`: who is at the other end, `None` at a Unix socket. A cookie of a
    /// worker that is gone says nothing.
    pub(super) fn key_of(&self, target: &str, fields: &impl Fields, peer: impl Fn() -> Option<IpAddr>) -> Option<Key> {
        let trusted = |address| self.settings.trusted_proxies.contain(address);
        let key = find(&self.stick.kinds(), target, fields, || client(fields, peer(), trusted))?;
        match key {
            Key::Worker(id) if !self.table.borrow().keeps(id) => None,
            key => Some(key),
        }
    }

    /// The same of a connection that is not looked into.
    pub(super) fn key_unseen(&self, peer: impl Fn() -> Option<IpAddr>) -> Option<Key> {
        self.key_of("", &HeaderMap::new(), peer)
    }

    /// Whether a connection that begins like this has keys that can only be read, learnt or set request by request. What
    /// switches protocols has one request.
    pub(super) fn reads_requests(&self, head: &Head, key: Option<&Key>) -> bool {
        (!head.websocket && self.stick.differs()) || (key.is_none() && self.stick.has_cookies())
    }

    /// This worker has this key from now on.
    pub(super) fn bind(self: &Rc<Self>, key: &Kept, id: WorkerId, source: Source) {
        let binding = self.table.borrow_mut().bind(key, id, source, self.now());
        if binding.news {
            let answered = source == Source::Answer;
            self.note(&Record::Bound { id, key: key.as_str().to_owned(), answered });
            self.sweep();
        }
        self.note_unbound(binding.dropped.as_slice());
    }

    /// What an answer says of this worker's keys.
    pub(super) fn learn_keys(self: &Rc<Self>, id: WorkerId, fields: &impl Fields) {
        for kind in self.stick.kinds().iter() {
            if let Kind::Header(name) = kind
                && let Some(key) = Kept::of_header(name, fields)
            {
                self.bind(&key, id, Source::Answer);
            }
        }
    }

    /// A key is over. `only`: if it is of this source.
    pub(super) fn unbind(&self, key: &Kept, only: Option<Source>) {
        let was = match only {
            Some(source) => self.table.borrow_mut().unbind_if(key, source),
            None => self.table.borrow_mut().unbind(key),
        };
        if was {
            self.note_unbound(std::slice::from_ref(key));
        }
    }

    /// Forgets the keys of which nothing was heard for too long.
    pub(super) fn forget_idle_keys(&self) {
        let over = self.table.borrow_mut().forget_idle(self.settings.key_timeout, self.now());
        self.note_unbound(&over);
    }

    fn note_unbound(&self, keys: &[Kept]) {
        for key in keys {
            self.note(&Record::Unbound { key: key.as_str().to_owned() });
        }
        if !keys.is_empty() {
            self.drained.notify_waiters();
        }
    }

    /// The secret of this app's cookies, for the next router.
    pub(super) fn cookie_secret(&self) -> Option<String> {
        self.stick.secret.get().map(|secret| secret.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Goes on with the cookies and keys of the router before.
    pub(super) fn restore_keys(
        self: &Rc<Self>,
        secret: Option<&str>,
        keys: impl Iterator<Item = (String, (WorkerId, bool))>,
    ) {
        let known = secret.and_then(read_secret);
        if let (Some(secret), true) = (known, self.stick.secret.get().is_some()) {
            self.stick.secret.set(Some(secret));
            *self.stick.kinds.borrow_mut() = kinds(&self.settings, &self.stick.name, Some(secret));
        }
        for (key, (id, answered)) in keys {
            let source = if answered { Source::Answer } else { Source::Request };
            self.table.borrow_mut().bind(&Kept::from_text(&key), id, source, self.now());
            self.sweep();
        }
    }
}

fn read_secret(text: &str) -> Option<[u8; 32]> {
    let mut secret = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (place, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(secret)
}

/// As long as it is there, a request with this key has not ended.
#[derive(Debug)]
pub(super) struct Hold(Rc<Router>, Kept);

impl Hold {
    pub(super) fn new(router: &Rc<Router>, key: &Kept) -> Self {
        router.table.borrow_mut().hold(key);
        Self(Rc::clone(router), key.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.table.borrow_mut().release(&self.1, self.0.now());
    }
}
