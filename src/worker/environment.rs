//! What a worker finds in its environment (pure): Node's channel, and the variables that PM2's users rely on.

use crate::config::Numbering;
use crate::wire::Encoding;

/// The channel's descriptor in the worker. Below 16, so that libuv sets close-on-exec and the worker's own children do
/// not inherit it.
pub const CHANNEL: i32 = 3;

/// What a worker is told of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity<'a> {
    pub app: &'a str,
    pub slot: &'a str,
    /// `cluster.worker.id`
    pub id: u32,
    /// 0…N−1
    pub index: u32,
    /// N
    pub workers: u32,
    pub encoding: Encoding,
}

/// Variables to set on top of what systemd or the shell gives.
pub fn variables(identity: &Identity<'_>) -> Vec<(&'static str, String)> {
    let serialization = match identity.encoding {
        Encoding::Advanced => "advanced",
        Encoding::Json | Encoding::Bun => "json",
    };
    vec![
        ("NODE_CHANNEL_FD", CHANNEL.to_string()),
        ("NODE_CHANNEL_SERIALIZATION_MODE", serialization.to_owned()),
        ("NODE_UNIQUE_ID", identity.id.to_string()),
        ("NODE_APP_INSTANCE", identity.index.to_string()),
        ("APPCTL_APP", identity.app.to_owned()),
        ("APPCTL_SLOT", identity.slot.to_owned()),
        // What apps written for PM2 look at.
        ("name", identity.app.to_owned()),
        ("namespace", "default".to_owned()),
        ("pm_id", identity.index.to_string()),
        ("exec_mode", "cluster_mode".to_owned()),
        ("instances", identity.workers.to_string()),
    ]
}

/// The same with the names that the operator chose. `own`: a variable's value as the program would have it.
pub fn numbered(
    variables: impl IntoIterator<Item = (&'static str, String)>,
    numbering: &Numbering,
    index: u32,
    own: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut named: Vec<(String, String)> = variables
        .into_iter()
        .map(|(name, value)| match &numbering.index {
            // node-config and others act upon NODE_APP_INSTANCE: who chose another name wants to be without it.
            Some(chosen) if name == "NODE_APP_INSTANCE" => (chosen.clone(), value),
            _ => (name.to_owned(), value),
        })
        .collect();
    if let Some(name) = &numbering.increment {
        // As PM2: what is no number counts as 0.
        let first: f64 = own(name).and_then(|value| value.trim().parse().ok()).unwrap_or(0.0);
        named.push((name.clone(), (first + f64::from(index)).to_string()));
    }
    named
}

/// The same without what only Node's channel explains: a Node that finds it would look for the channel.
pub fn without_channel<'a>(identity: &Identity<'a>) -> impl Iterator<Item = (&'static str, String)> + use<'a> {
    let channel = ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID"];
    let others = variables(identity).into_iter().filter(move |(name, _)| !channel.contains(name));
    // To PM2 that is fork mode.
    others.map(|(name, value)| if name == "exec_mode" { (name, "fork_mode".to_owned()) } else { (name, value) })
}

/// What a Node of this version speaks best: releases before 20 can hang on V8 frames (a length prefix split by a read).
pub fn node_encoding(version: &str) -> Option<Encoding> {
    let major: u32 = version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()?;
    Some(if major >= 20 { Encoding::Advanced } else { Encoding::Json })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_releases_get_json() {
        assert_eq!(node_encoding("v18.20.8\n"), Some(Encoding::Json));
        assert_eq!(node_encoding("v20.0.0\n"), Some(Encoding::Advanced));
        assert_eq!(node_encoding("v26.10.0-nightly\n"), Some(Encoding::Advanced));
        assert_eq!(node_encoding("20.1.0"), None);
        assert_eq!(node_encoding("Welcome"), None);
    }

    #[test]
    fn numbers_under_other_names() {
        let identity = Identity { app: "a", slot: "2", id: 7, index: 2, workers: 4, encoding: Encoding::Json };
        let own = |name: &str| (name == "PORT").then(|| "3000".to_owned());
        let with = |index: Option<&str>, increment: Option<&str>| {
            let numbering = Numbering { index: index.map(str::to_owned), increment: increment.map(str::to_owned) };
            let variables = numbered(variables(&identity), &numbering, 2, own);
            move |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let plain = with(None, None);
        assert_eq!((plain("NODE_APP_INSTANCE"), plain("PORT")), (Some("2".to_owned()), None));
        let named = with(Some("MY_INDEX"), Some("PORT"));
        assert_eq!((named("NODE_APP_INSTANCE"), named("MY_INDEX")), (None, Some("2".to_owned())));
        assert_eq!(named("PORT"), Some("3002".to_owned()));
        assert_eq!(with(None, Some("COUNT"))("COUNT"), Some("2".to_owned()), "what is not there counts as 0");
    }

    #[test]
    fn bun_speaks_json_in_its_own_way() {
        let identity = Identity { app: "a", slot: "2", id: 7, index: 1, workers: 4, encoding: Encoding::Bun };
        let variables = variables(&identity);
        let value = |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(value("NODE_CHANNEL_SERIALIZATION_MODE"), Some("json"));
        assert_eq!(value("NODE_UNIQUE_ID"), Some("7"));
        assert_eq!(value("NODE_APP_INSTANCE"), Some("1"));
        assert_eq!(value("instances"), Some("4"));
    }
}
