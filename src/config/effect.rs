//! Where each key of the file is, and keys that mean nothing beside the others.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Runtime;
use super::file::Table;
use super::report::Problems;
use super::router::{Protocol, ReadyOn, RouterSettings};
use super::sticky::Kind;

/// `profile.NAME.environment.VARIABLE`
const DEPTH: usize = 4;

/// The values' places by their whole keys, such as `ready.http`.
pub(super) struct Places(BTreeMap<String, Range<usize>>);

impl Places {
    /// Of all keys that nobody has taken yet.
    pub(super) fn of(top: &Table<'_>) -> Self {
        let mut places = BTreeMap::new();
        top.places(DEPTH, &mut places);
        Self(places)
    }

    pub(super) fn get(&self, key: &str) -> Option<Range<usize>> {
        self.0.get(key).cloned()
    }

    /// The place of the first of these keys that is there.
    pub(super) fn first(&self, keys: &[&str]) -> Option<Range<usize>> {
        keys.iter().find_map(|key| self.get(key))
    }
}

/// Warns of keys that are there for nothing.
pub(super) fn check_effect(runtime: Runtime, settings: &RouterSettings, places: &Places, problems: &mut Problems) {
    let mut warn = |useless: bool, key: &str, why: &str, remedy: &str| {
        if let Some(place) = places.get(key).filter(|_| useless) {
            problems.warn(place, format!("{key} has no effect {why}"), remedy);
        }
    };
    const REMOVE: &str = "remove it";
    let kinds = settings.sticky.kinds();
    warn(
        !kinds.contains(&Kind::Cookie),
        "router.cookie",
        "without sticky = \"cookie\"",
        "add sticky = [\"engine.io\", \"cookie\"], or remove it",
    );
    warn(
        !kinds.iter().any(|kind| matches!(kind, Kind::Header(_) | Kind::Query(_) | Kind::Address)),
        "router.key_timeout",
        "without a header, a parameter or the address in sticky",
        "the router keeps no keys then: sessions of Engine.IO end with their connections, a cookie with the browser; remove it",
    );
    let by_runtime = format!("with runtime = \"{runtime}\"");
    let channel = runtime.has_channel();
    let serialized = channel && runtime != Runtime::Bun;
    let auto = settings.serialization.is_none();
    warn(!serialized && !auto, "router.serialization", &by_runtime, REMOVE);
    for key in ["router.queue_limit", "router.frame_limit"] {
        warn(!channel, key, &by_runtime, "there is no channel that it could limit: remove it");
    }
    let by_on = "unless ready.on is \"auto\"";
    warn(channel && settings.ready_on != ReadyOn::Auto, "ready.grace", by_on, REMOVE);
    warn(!channel, "ready.grace", &by_runtime, "such a worker is asked: ready.http says for what; remove grace");
    warn(
        !channel && settings.ready_http.is_empty(),
        "health.timeout",
        "on workers without Node's channel unless they are asked something",
        "add http = \"/health\" in [ready], or remove it",
    );
    for key in ["head_limit", "head_timeout", "session_wait", "keepalive_timeout", "body_timeout", "answer_timeout"] {
        warn(
            settings.protocol == Protocol::Tcp,
            &format!("router.{key}"),
            "with router.protocol = \"tcp\", where nothing is read",
            REMOVE,
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Level, Scope, parse};
    use std::path::Path;

    fn told(text: &str) -> Vec<(Level, String, usize)> {
        let report = parse("app", Path::new("/etc/appctl/app.toml"), text, Scope::System);
        report.problems.into_iter().map(|it| (it.level, it.message, it.line)).collect()
    }

    #[test]
    fn keys_for_nothing() {
        for (text, key) in [
            ("[router]\ncookie = 'x'", "router.cookie"),
            ("[router]\nkey_timeout = '1h'", "router.key_timeout"),
            ("sticky = 'cookie'\n[router]\nkey_timeout = '1h'", "router.key_timeout"),
            ("runtime = 'port'\n[router]\nserialization = 'json'", "router.serialization"),
            ("runtime = 'bun'\n[router]\nserialization = 'advanced'", "router.serialization"),
            ("runtime = 'socket'\n[router]\nqueue_limit = '1M'", "router.queue_limit"),
            ("runtime = 'socket'\n[ready]\ngrace = '1s'", "ready.grace"),
            ("[ready]\ngrace = '1s'\non = 'message'", "ready.grace"),
            ("runtime = 'port'\n[health]\ntimeout = '1s'", "health.timeout"),
            ("sticky = 'none'\n[router]\nhead_limit = '2K'\nprotocol = 'tcp'", "router.head_limit"),
        ] {
            let text = format!("exec = '/x'\n{text}");
            let found = told(&text);
            let place = text.lines().position(|line| line.starts_with(key.split('.').nth(1).unwrap())).unwrap() + 1;
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            let (level, message, line) = &found[0];
            let begins = message.starts_with(&format!("{key} has no effect "));
            assert!(*level == Level::Warning && begins && *line == place, "{text}: {found:?}");
        }
        for text in [
            "sticky = ['engine.io', 'cookie']\n[router]\ncookie = 'x'",
            "sticky = 'query:key'\n[router]\nkey_timeout = '1h'",
            "[router]\nserialization = 'json'\nqueue_limit = '1M'\nhead_limit = '2K'\n[ready]\ngrace = '1s'\n[health]\ntimeout = '9s'",
            "runtime = 'port'\n[router]\nserialization = 'auto'\n[ready]\nhttp = '/'\n[health]\ntimeout = '9s'",
        ] {
            assert_eq!(told(&format!("exec = '/x'\n{text}")), [], "{text}");
        }
    }

    /// A problem is where its key is, not where the runtime is.
    #[test]
    fn mistakes_beside_the_runtime_have_their_own_lines() {
        for (text, line) in [
            ("exec = 'node /x'\n[ready]\nhttp = '/'", 3),
            ("exec = '/x'\nruntime = 'port'\n[ready]\non = 'message'", 4),
            ("exec = '/x'\nruntime = 'socket'\n[ready]\non = 'notify'\nhttp = '/'", 5),
            ("exec = '/x'\nruntime = 'port'\n[stop]\nmessage = 'x'", 4),
            ("exec = '/x'\nruntime = 'port'\n[environment]\nA = 'b'\nPORT = 80", 5),
            ("exec = '/x'\nruntime = 'port'\nactive_profile = 'p'\n[profile.p.environment]\nPORT = 80", 5),
            ("exec = '/x'\nruntime = 'socket'\n[router]\nprotocol = 'tcp'\n[ready]\ntimeout = '9s'", 4),
            ("exec = '/x'\nlisten = [{ address = 80, proxy_protocol = true }]\n[router]\ntrusted_proxies = []", 4),
        ] {
            let found = told(text);
            assert_eq!(found.iter().map(|it| it.2).collect::<Vec<_>>(), [line], "{text}: {found:?}");
        }
    }
}
