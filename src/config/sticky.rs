//! What makes a client come back to its worker: the list of keys that a request may carry.

use super::value::{Wrong, one_of};
use std::fmt;

/// The longest list.
const MOST: usize = 8;

/// A kind of key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The `sid` of Engine.IO.
    EngineIo,
    /// A cookie that the router sets.
    Cookie,
    /// A header field, its name in lower case.
    Header(String),
    /// A parameter of the query.
    Query(String),
    /// The client's address.
    Address,
}

/// The kinds in the order in which they are looked for; none: clients go anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky(Vec<Kind>);

impl Default for Sticky {
    fn default() -> Self {
        Self(vec![Kind::EngineIo])
    }
}

impl Sticky {
    pub fn kinds(&self) -> &[Kind] {
        &self.0
    }

    /// Reads a list with commas: `none`, or kinds of which each can have its turn.
    pub fn read(text: &str) -> Result<Self, Wrong> {
        let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        if words == ["none"] {
            return Ok(Self(Vec::new()));
        }
        if words.is_empty() {
            return Err(Wrong::new("no kind of stickiness is named", "write \"none\" if clients may go anywhere"));
        }
        if words.len() > MOST {
            return Err(Wrong::new(format!("more than {MOST} kinds of stickiness"), "name those that the app has"));
        }
        let mut kinds = Vec::new();
        for word in words {
            if word == "none" {
                return Err(Wrong::new(
                    "\"none\" beside other kinds: one of both can never have its turn",
                    "remove one; where a request has no key, clients go anywhere anyway",
                ));
            }
            let kind = Kind::read(word)?;
            if kinds.contains(&kind) {
                return Err(Wrong::new(format!("\"{kind}\" is there twice"), "remove one"));
            }
            if kinds.contains(&Kind::Address) {
                return Err(Wrong::new(
                    format!("\"{kind}\" after \"address\" can never have its turn: every client has an address"),
                    "write \"address\" last, or remove it",
                ));
            }
            if kind == Kind::Address && kinds.contains(&Kind::Cookie) {
                return Err(Wrong::new(
                    "\"address\" after \"cookie\" can never have its turn: who has no cookie gets one",
                    "remove one",
                ));
            }
            kinds.push(kind);
        }
        Ok(Self(kinds))
    }

    /// A kind that can only be read or set where the router sees each request.
    pub fn needs_requests(&self) -> Option<&Kind> {
        self.0.iter().find(|kind| matches!(kind, Kind::Cookie | Kind::Header(_) | Kind::Query(_)))
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (number, kind) in self.0.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{kind}")?;
        }
        Ok(())
    }
}

impl Kind {
    /// Reads one kind; `none` is not one.
    pub fn read(text: &str) -> Result<Self, Wrong> {
        match text {
            "engine.io" => return Ok(Self::EngineIo),
            "cookie" => return Ok(Self::Cookie),
            "address" => return Ok(Self::Address),
            _ => {}
        }
        match text.split_once(':') {
            Some(("header", name)) => read_header(name).map(Self::Header),
            Some(("query", name)) => read_parameter(name).map(Self::Query),
            Some(("cookie", _)) => Err(Wrong::new(
                format!("`{text}`: the cookie is the router's own, not the app's"),
                "write \"cookie\"; router.cookie is its name",
            )),
            _ => Err(Wrong::new(
                format!("there is no stickiness `{text}`"),
                format!("write {}", one_of(&["engine.io", "cookie", "header:NAME", "query:NAME", "address", "none"])),
            )),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EngineIo => f.write_str("engine.io"),
            Self::Cookie => f.write_str("cookie"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Address => f.write_str("address"),
        }
    }
}

/// RFC 9110 §5.6.2, `token`.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn read_header(name: &str) -> Result<String, Wrong> {
    /// They belong to the connection or to the body, not to the client.
    const OTHERS: [&str; 11] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    let lower = name.to_ascii_lowercase();
    let whole = format!("`header:{name}`");
    if !is_token(name) || name.len() > 64 {
        let remedy = "write letters, digits and `-`, such as \"header:Mcp-Session-Id\"";
        return Err(Wrong::new(format!("{whole} does not name a header field"), remedy));
    }
    match lower.as_str() {
        "cookie" | "set-cookie" => {
            Err(Wrong::new(format!("{whole}: all cookies together are no key"), "write \"cookie\""))
        }
        "x-forwarded-for" | "forwarded" | "x-real-ip" => Err(Wrong::new(
            format!("{whole}: anybody can send it"),
            "write \"address\", which believes trusted proxies",
        )),
        other if OTHERS.contains(&other) => {
            Err(Wrong::new(format!("{whole} says nothing of the client"), "name the header that has the session's id"))
        }
        _ => Ok(lower),
    }
}

fn read_parameter(name: &str) -> Result<String, Wrong> {
    // As it is after decoding; a comma would end it in the router's flag.
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"&=#%+,\"'\\".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(Wrong::new(
            format!("`query:{name}` does not name a parameter"),
            "write its name as it is in the address, such as \"query:room\" for /chat?room=7",
        ));
    }
    Ok(name.to_owned())
}

/// The name of the cookie (RFC 6265 §4.1.1).
pub fn read_cookie_name(text: &str) -> Result<String, Wrong> {
    if is_token(text) && text.len() <= 64 {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("`{text}` cannot be the name of a cookie"),
        "write letters, digits, `-` and `_`, 64 at the most",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists() {
        for (text, written) in [
            ("engine.io", "engine.io"),
            ("none", "none"),
            (" engine.io , header:Mcp-Session-Id,cookie", "engine.io,header:mcp-session-id,cookie"),
            ("query:Room,address", "query:Room,address"),
        ] {
            assert_eq!(Sticky::read(text).unwrap().to_string(), written);
        }
        assert_eq!(Sticky::read("none").unwrap().kinds(), []);
        assert_eq!(Sticky::read("engine.io,address").unwrap().needs_requests(), None);
        assert_eq!(Sticky::read("engine.io,query:a").unwrap().needs_requests(), Some(&Kind::Query("a".to_owned())));
    }

    #[test]
    fn mistakes() {
        for (text, told, remedy) in [
            ("sid", "no stickiness `sid`", "engine.io"),
            ("", "no kind", "none"),
            ("none,cookie", "never", "remove"),
            ("cookie,none", "never", "remove"),
            ("address,cookie", "\"cookie\" after \"address\"", "last"),
            ("cookie,address", "never", "remove"),
            ("header:a,header:A", "twice", "remove"),
            ("header:", "does not name", "Mcp-Session-Id"),
            ("header:a b", "does not name", "Mcp-Session-Id"),
            ("header:Cookie", "no key", "write \"cookie\""),
            ("header:X-Forwarded-For", "anybody", "address"),
            ("header:Host", "nothing of the client", "session's id"),
            ("query:a&b", "does not name", "query:room"),
            ("query:", "does not name", "query:room"),
            ("cookie:mine", "router's own", "router.cookie"),
            ("header", "no stickiness", "header:NAME"),
            ("query:1,query:2,query:3,query:4,query:5,query:6,query:7,query:8,query:9", "more than 8", "name"),
        ] {
            let wrong = Sticky::read(text).unwrap_err();
            assert!(wrong.reason.contains(told) && wrong.remedy.contains(remedy), "{text}: {wrong} ({})", wrong.remedy);
        }
        for bad in ["", "a b", "a=b", "a;b", "é"] {
            assert!(read_cookie_name(bad).is_err(), "{bad}");
        }
        assert_eq!(read_cookie_name("__Host-x").as_deref(), Ok("__Host-x"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "((engine\\.io|cookie|address|none|header:[a-zA-Z-]{0,3}|query:\\PC{0,3}),){0,4}") {
            if let Ok(sticky) = Sticky::read(&text) {
                prop_assert_eq!(Sticky::read(&sticky.to_string()), Ok(sticky));
            }
        }
    }
}
