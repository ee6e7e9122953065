//! What the operator calls things, and what systemd calls them.

use std::fmt;

use super::apps;
use super::exit::Failure;
use crate::config::Scope;
use crate::unit::plan::Names;

/// The units of an app.
pub fn units(scope: Scope, app: &str) -> Names {
    Names::of(app, scope)
}

/// Public, channel, control, metrics; whether the app has them or not.
pub fn sockets(names: &Names) -> [&str; 4] {
    [&names.public, &names.channel, &names.control, &names.metrics]
}

/// The slot of a worker's unit, `NAME@SLOT.service`.
pub fn slot(unit: &str) -> Option<&str> {
    unit.split_once('@')?.1.strip_suffix(".service")
}

/// What a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    App(String),
    Worker { app: String, slot: String },
}

impl Target {
    /// `NAME`, `NAME@SLOT`; with or without the `.service` of a unit's name.
    pub fn read(text: &str) -> Self {
        let text = text.strip_suffix(".service").unwrap_or(text);
        match text.split_once('@') {
            Some((app, slot)) if !app.is_empty() && !slot.is_empty() => {
                Self::Worker { app: app.to_owned(), slot: slot.to_owned() }
            }
            _ => Self::App(text.to_owned()),
        }
    }

    pub fn app(&self) -> &str {
        match self {
            Self::App(app) | Self::Worker { app, .. } => app,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(app) => f.write_str(app),
            Self::Worker { app, slot } => write!(f, "{app}@{slot}"),
        }
    }
}

/// The scope that the flags name; `None`: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked(pub Option<Scope>);

impl Asked {
    /// For an app that should be there: root's are the system's; another user's are his own where he has one of that
    /// name, else the system's.
    pub fn for_app(self, name: &str) -> Scope {
        self.0.unwrap_or_else(
            || {
                if !is_root() && apps::exists(Scope::User, name) { Scope::User } else { Scope::System }
            },
        )
    }

    /// For an app that is about to be made.
    pub fn for_new_app(self) -> Scope {
        self.0.unwrap_or_else(|| if is_root() { Scope::System } else { Scope::User })
    }

    /// For all apps: root sees the system's, others their own as well.
    pub fn for_all(self) -> Vec<Scope> {
        match self.0 {
            Some(scope) => vec![scope],
            None if is_root() => vec![Scope::System],
            None => vec![Scope::System, Scope::User],
        }
    }

    /// All apps that the caller may see, in the order of the list.
    pub fn every(self) -> Result<Vec<(Scope, String)>, Failure> {
        let mut all = Vec::new();
        for scope in self.for_all() {
            all.extend(apps::names(scope)?.into_iter().map(|name| (scope, name)));
        }
        Ok(all)
    }
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_knows_the_slice_of_a_users_app() {
        for app in ["shop", "my-shop", "a_b.c"] {
            assert_eq!(units(Scope::User, app).slice, crate::system::journal::user_slice(app));
        }
    }

    #[test]
    fn targets_as_typed() {
        assert_eq!(Target::read("shop"), Target::App("shop".into()));
        assert_eq!(Target::read("shop.service"), Target::App("shop".into()));
        let worker = Target::Worker { app: "shop".into(), slot: "3".into() };
        assert_eq!([Target::read("shop@3"), Target::read("shop@3.service")], [worker.clone(), worker]);
        assert_eq!(Target::read("shop@"), Target::App("shop@".into()));
    }

    #[test]
    fn slots() {
        assert_eq!(slot("shop@3.service"), Some("3"));
        assert_eq!(slot("shop.service"), None);
    }
}
