//! `listen`: addresses, and what is special about the connections of some of them.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::file::Item;
use super::report::Problems;
use super::value::{self, Listen, Wrong};

/// Of all addresses together. systemd reads at most 1 MiB of credentials for one unit.
const CERTIFICATES_MAX: usize = 64;

/// What the router gets as the content of a certificate or key that systemd did not find.
pub const MISSING: &str = "missing";

/// The addresses with options, as the router's flag `--listen=` carries them (JSON).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListenOptions(pub Vec<AddressOptions>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressOptions {
    #[serde(serialize_with = "write_address", deserialize_with = "read_address")]
    pub address: Listen,
    /// What TLS is served with; the first is for clients that name no host, or none that a certificate is for. Empty:
    /// no TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tls: Vec<CertificateFiles>,
    /// Every connection begins with a header of the PROXY protocol.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy_protocol: bool,
}

/// A certificate with its chain, and its key; PEM, absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CertificateFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl ListenOptions {
    /// All certificates, in the order of the file. Its number is the name of a certificate's credential.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateFiles> {
        self.0.iter().flat_map(|options| &options.tls)
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn read(text: &str) -> Result<Self, Wrong> {
        serde_json::from_str(text).map_err(|error| Wrong::new(format!("`{text}`: {error}"), ""))
    }
}

impl fmt::Display for ListenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

fn write_address<S: Serializer>(address: &Listen, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(address)
}

fn read_address<'de, D: Deserializer<'de>>(from: D) -> Result<Listen, D::Error> {
    Listen::read(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// One element of `listen`: an address, or a table with one and its options, which go to `options`.
pub(super) fn read_element(item: &Item<'_>, options: &mut ListenOptions, problems: &mut Problems) -> Option<Listen> {
    if !item.is_table() {
        return item.read(problems, Listen::read);
    }
    let mut table = item.table(problems)?;
    let address = match table.take("address") {
        Some(address) => address.read(problems, Listen::read),
        None => {
            problems.error(item.span.clone(), "listen: an address is missing", "write { address = \"443\", … }");
            None
        }
    };
    let tls = table.take("tls").map(|item| read_tls(&item, problems)).unwrap_or_default();
    let proxy_protocol = table.take("proxy_protocol").is_some_and(|item| match item.truth() {
        Some(truth) => truth,
        None => {
            problems.error(item.span, "listen.proxy_protocol must be a truth value", "write true or false");
            false
        }
    });
    table.finish(problems);
    let address = address?;
    if proxy_protocol || !tls.is_empty() {
        if options.certificates().count() + tls.len() > CERTIFICATES_MAX {
            problems.error(item.span.clone(), format!("listen: more than {CERTIFICATES_MAX} certificates"), "");
        }
        options.0.push(AddressOptions { address: address.clone(), tls, proxy_protocol });
    }
    Some(address)
}

/// `tls = { cert, key }`, or a list of such.
fn read_tls(item: &Item<'_>, problems: &mut Problems) -> Vec<CertificateFiles> {
    let elements = item.elements();
    if elements.is_empty() {
        problems.error(item.span.clone(), "listen.tls: a certificate is missing", EXAMPLE);
    }
    elements.iter().filter_map(|element| read_certificate(element, problems)).collect()
}

const EXAMPLE: &str = "write tls = { cert = \"/etc/ssl/app.pem\", key = \"/etc/ssl/app.key\" }";

fn read_certificate(item: &Item<'_>, problems: &mut Problems) -> Option<CertificateFiles> {
    if !item.is_table() {
        problems.error(item.span.clone(), "listen.tls must be a table with a certificate and its key", EXAMPLE);
        return None;
    }
    let mut table = item.table(problems)?;
    let mut path = |key: &'static str, problems: &mut Problems| match table.take(key) {
        Some(item) => {
            let text = item.text(problems)?.text;
            let checked = check_path(&text).map(|()| PathBuf::from(&text));
            item.check(problems, checked)
        }
        None => {
            problems.error(item.span.clone(), format!("listen.tls: `{key}` is missing"), EXAMPLE);
            None
        }
    };
    let (cert, key) = (path("cert", problems), path("key", problems));
    table.finish(problems);
    Some(CertificateFiles { cert: cert?, key: key? })
}

fn check_path(text: &str) -> Result<(), Wrong> {
    value::one_line(text)?;
    if text.starts_with("-----BEGIN") {
        return Err(Wrong::new("this is the content of a file, not its path", EXAMPLE));
    }
    if !text.starts_with('/') {
        return Err(Wrong::new(
            format!("`{text}` is not an absolute path"),
            format!("write the whole path, such as \"/etc/ssl/{}\"", text.trim_start_matches("./")),
        ));
    }
    if text.contains(' ') {
        // Its executor cannot read what its manager has written of such a `LoadCredential=`, and starts nothing.
        return Err(Wrong::new(
            format!("`{text}` contains a blank, with which systemd from 255 on starts no service"),
            "rename the file, or give the path of a link to it",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{App, Listen, Report, RouterSettings, Scope, parse};
    use std::path::Path;

    fn read(text: &str) -> Report {
        parse("app", Path::new("/etc/appctl/app.toml"), &format!("exec = 'a'\n{text}"), Scope::System)
    }

    fn app(text: &str) -> App {
        let report = read(text);
        assert!(report.problems.is_empty(), "{text}: {:#?}", report.problems);
        report.app.unwrap()
    }

    #[test]
    fn strings_tables_and_both() {
        let tls = "{ address = '443', tls = { cert = '/c', key = '/k' } }";
        let flag = r#"[{"address":"443","tls":[{"cert":"/c","key":"/k"}]}]"#;
        for (text, addresses, options) in [
            ("listen = ['80', '/run/x']".to_owned(), vec!["80", "/run/x"], "[]".to_owned()),
            ("listen = [{ address = 80 }]".to_owned(), vec!["80"], "[]".to_owned()),
            (format!("listen = {tls}"), vec!["443"], flag.to_owned()),
            (format!("listen = ['80', {tls}]"), vec!["80", "443"], flag.to_owned()),
            (
                "[[listen]]\naddress = '127.0.0.1:443'\n[[listen.tls]]\ncert = '/c'\nkey = '/k'\n\
                 [[listen.tls]]\ncert = '/c2'\nkey = '/k'\n[[listen]]\naddress = '/run/a b'\nproxy_protocol = true"
                    .to_owned(),
                vec!["127.0.0.1:443", "/run/a b"],
                r#"[{"address":"127.0.0.1:443","tls":[{"cert":"/c","key":"/k"},{"cert":"/c2","key":"/k"}]},{"address":"/run/a b","proxy_protocol":true}]"#
                    .to_owned(),
            ),
        ] {
            let app = app(&text);
            assert_eq!(app.listen.iter().map(Listen::to_string).collect::<Vec<_>>(), addresses, "{text}");
            assert_eq!(app.router.listen.to_string(), options, "{text}");
            assert_eq!(RouterSettings::from_args(app.router.to_args()), Ok(app.router), "{text}");
        }
    }

    #[test]
    fn mistakes_and_what_to_write() {
        for (text, reason, remedy) in [
            ("listen = [{ tls = { cert = '/c', key = '/k' } }]", "an address is missing", "address ="),
            ("listen = [{ address = '443', tls = { cert = '/c' } }]", "`key` is missing", "key ="),
            ("listen = [{ address = '443', tls = { key = '/c' } }]", "`cert` is missing", "cert ="),
            ("listen = [{ address = '443', tls = true }]", "must be a table", "cert ="),
            ("listen = [{ address = '443', tls = [] }]", "a certificate is missing", "cert ="),
            ("listen = [{ address = '443', tls = { cert = './c', key = '/k' } }]", "absolute", "/etc/ssl/c"),
            ("listen = [{ address = '443', tls = { cert = '/c', key = '/k ' } }]", "blank", "remove"),
            ("listen = [{ address = '443', tls = { cert = '/c', key = '/my key' } }]", "blank", "rename"),
            (
                "listen = [{ address = '443', tls = { cert = '-----BEGIN CERTIFICATE-----', key = '/k' } }]",
                "content",
                "cert =",
            ),
            ("listen = [{ address = '443', tsl = { cert = '/c', key = '/k' } }]", "unknown key `tsl`", "`tls`"),
            ("listen = [{ address = '443', proxy_protocol = 'v2' }]", "truth value", "true"),
            ("listen = ['443', { address = '443', proxy_protocol = true }]", "twice", "remove"),
            (
                "listen = [{ address = '443', proxy_protocol = true }]\n[router]\nprotocol = 'tcp'",
                "reads nothing",
                "protocol",
            ),
        ] {
            let report = read(text);
            let problem = report.problems.first().unwrap_or_else(|| panic!("{text} is fine"));
            assert!(problem.message.contains(reason) && problem.remedy.contains(remedy), "{text}: {problem:#?}");
            assert!(problem.line > 0, "{text}: {problem:#?}");
        }
        let many =
            |count| format!("listen = [{{ address = '443', tls = [{}] }}]", "{cert='/c',key='/k'},".repeat(count));
        assert!(read(&many(64)).app.is_some() && read(&many(65)).app.is_none());
    }
}
