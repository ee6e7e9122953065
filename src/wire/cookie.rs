//! The router's own cookie: it names a worker, and nobody else can make one (RFC 6265).
//!
//! All clients of a worker have the same cookie: it says nothing of who they are.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

/// Bytes of the MAC that a cookie carries (RFC 2104 §5: at least half of the hash).
const MAC: usize = 16;

/// Makes and reads the cookie of one app.
#[derive(Clone)]
pub struct Seal {
    name: String,
    mac: Hmac<Sha256>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.name)
    }
}

impl Seal {
    /// `name`: the cookie's; `secret`: what only routers of this app know.
    pub fn new(name: &str, secret: &[u8; 32]) -> Option<Self> {
        let mac = Hmac::new_from_slice(secret).ok()?;
        Some(Self { name: name.to_owned(), mac })
    }

    fn mac(&self, worker: &str) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(format!("appctl 1\n{}\n{worker}", self.name).as_bytes());
        mac
    }

    /// The cookie's value for a worker: its number and the MAC.
    pub fn value(&self, worker: u32) -> String {
        let mut value = format!("{worker}.");
        for byte in self.mac(&worker.to_string()).finalize().into_bytes().iter().take(MAC) {
            value.push_str(&format!("{byte:02x}"));
        }
        value
    }

    /// The worker that a value names; `None`: it is not ours.
    pub fn open(&self, value: &str) -> Option<u32> {
        let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
        let (worker, code) = value.split_once('.')?;
        let number: u32 = worker.parse().ok().filter(|number: &u32| number.to_string() == worker)?;
        if code.len() != 2 * MAC || !code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; MAC];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&code[2 * place..2 * place + 2], 16).ok()?;
        }
        self.mac(worker).verify_truncated_left(&bytes).ok()?;
        Some(number)
    }

    /// The worker that a request's Cookie fields name, by the first good cookie of this name.
    pub fn find<'f>(&self, lines: impl Iterator<Item = &'f [u8]>) -> Option<u32> {
        let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
        pairs.filter_map(|pair| self.value_of(pair)).find_map(|value| self.open(value))
    }

    /// The value of a cookie-pair, where it has our name.
    fn value_of<'p>(&self, pair: &'p [u8]) -> Option<&'p str> {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        (name.trim() == self.name).then(|| value.trim())
    }

    /// A Cookie field as the app is to see it. `None`: as it is; empty: not at all.
    pub fn strip(&self, line: &[u8]) -> Option<Vec<u8>> {
        let pairs = || line.split(|byte| *byte == b';');
        pairs().find_map(|pair| self.value_of(pair))?;
        let rest: Vec<&[u8]> = pairs().filter(|pair| self.value_of(pair).is_none()).collect();
        Some(rest.join(&b';').trim_ascii_start().to_vec())
    }

    /// What Set-Cookie says. It ends with the browser; `secure`: the client came by https.
    pub fn set(&self, worker: u32, secure: bool) -> String {
        let secure = if secure { "; Secure" } else { "" };
        format!("{}={}; Path=/; HttpOnly; SameSite=Lax{secure}", self.name, self.value(worker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal(name: &str, secret: u8) -> Seal {
        Seal::new(name, &[secret; 32]).unwrap()
    }

    #[test]
    fn only_our_own_are_read() {
        let ours = seal("appctl", 1);
        let value = ours.value(7);
        assert_eq!((ours.open(&value), ours.open(&format!("\"{value}\""))), (Some(7), Some(7)));
        assert_eq!(ours.open(&value.to_uppercase()), Some(7));
        for foreign in [seal("appctl", 2).value(7), seal("other", 1).value(7)] {
            assert_eq!(ours.open(&foreign), None);
        }
        let code = value.split_once('.').unwrap().1;
        for forged in
            [format!("8.{code}"), format!("07.{code}"), format!("+7.{code}"), value[..value.len() - 2].to_owned()]
        {
            assert_eq!(ours.open(&forged), None, "{forged}");
        }
        for garbage in ["", ".", "7.", "7", "7.zz", "4294967296.00", "7.é0000000000000000000000000000000"] {
            assert_eq!(ours.open(garbage), None, "{garbage}");
        }
    }

    /// RFC 4231's way to compute it, by another hand: `printf 'appctl 1\nappctl\n7' | openssl dgst -sha256 -hmac …`.
    #[test]
    fn it_is_hmac_sha256() {
        let seal = Seal::new("appctl", b"0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(seal.value(7), "7.6fab7163060167fd0b557a8585b010bf");
    }

    #[test]
    fn among_other_cookies() {
        let seal = seal("a", 1);
        let good = seal.value(3);
        let find = |lines: &[String]| seal.find(lines.iter().map(String::as_bytes));
        assert_eq!(find(&[format!("x=1; a={good}; y=2")]), Some(3));
        assert_eq!(find(&["x=1; a=bad".to_owned(), format!(" a = {good} ")]), Some(3));
        assert_eq!(find(&[format!("A={good}; aa={good}; x=a={good}"), "a".to_owned(), String::new()]), None);
        for (line, left) in [
            ("x=1; y=2", None),
            ("x=1; a=anything; y=2", Some("x=1; y=2")),
            ("a=1", Some("")),
            ("a=1; x=2", Some("x=2")),
            ("x=2; a=1;", Some("x=2;")),
        ] {
            assert_eq!(seal.strip(line.as_bytes()), left.map(|it| it.as_bytes().to_vec()), "{line}");
        }
        assert_eq!(seal.set(3, true), format!("a={good}; Path=/; HttpOnly; SameSite=Lax; Secure"));
        assert_eq!(seal.set(3, false), format!("a={good}; Path=/; HttpOnly; SameSite=Lax"));
    }

    proptest! {
        #[test]
        fn any_cookies_are_read(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4), text in "a=[0-9]{0,3}\\.[0-9a-fé]{0,34}") {
            let seal = seal("a", 1);
            let lines = || lines.iter().map(Vec::as_slice).chain([text.as_bytes()]);
            prop_assert_eq!(seal.find(lines()), None);
            lines().for_each(|line| drop(seal.strip(line)));
        }

        #[test]
        fn what_is_sealed_is_opened(worker: u32) {
            let seal = seal("a", 1);
            prop_assert_eq!(seal.open(&seal.value(worker)), Some(worker));
        }
    }
}
