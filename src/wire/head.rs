//! An HTTP/1 request head, as far as routing needs it (RFC 9112 §2, §3).

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peeked {
    /// The head is not complete yet; so far nothing is wrong with it.
    Partial,
    /// A whole head.
    Complete(Head),
    /// A TLS ClientHello record (RFC 8446 §5.1).
    Tls,
    /// Not HTTP/1: answer 400.
    Bad(&'static str),
}

/// Of a whole request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes up to and including the empty line.
    pub length: usize,
    /// The request target as sent.
    pub target: String,
    /// `Upgrade: websocket`
    pub websocket: bool,
    /// Carries a Forwarded, X-Forwarded-For or Via field: comes from a proxy.
    pub forwarded: bool,
}

/// Looks at what has come so far. The caller bounds `bytes`.
pub fn peek(_bytes: &[u8]) -> Peeked {
    todo!()
}
