//! The notations of systemd: sizes, time spans, listen addresses, app names.

use std::net::SocketAddr;
use std::path::PathBuf;

/// One `ListenStream=` of systemd.socket(5), as far as a stream socket of an app goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `8080`: all addresses, both families.
    Port(u16),
    /// `127.0.0.1:8080`, `[::1]:8080`
    Address(SocketAddr),
    /// `/run/app.sock`
    Path(PathBuf),
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}
