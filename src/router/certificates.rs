//! Certificates and their keys: from PEM files to what TLS is served with.

use crate::config::listen::{CertificateFiles, ListenOptions, MISSING};
use crate::wire::certificate::{Facts, facts};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, ServerConfig};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest file, bytes: systemd takes no longer credential either.
const FILE_MAX: u64 = 1 << 20;
/// All that systemd gives one unit, bytes (systemd.exec(5), `LoadCredential=`).
pub const ALL_MAX: u64 = 1 << 20;
/// What is spoken inside of TLS (RFC 7301).
const PROTOCOL: &[u8] = b"http/1.1";

/// Why a certificate cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason} ({remedy})", file.display())]
pub struct BadCertificate {
    pub file: PathBuf,
    pub reason: String,
    pub remedy: String,
    /// It is there, but not for this user's eyes.
    pub denied: bool,
}

impl BadCertificate {
    fn new(file: &Path, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { file: file.to_owned(), reason: reason.into(), remedy: remedy.into(), denied: false }
    }
}

/// The contents of a certificate's files.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    #[serde(flatten)]
    pub files: CertificateFiles,
    cert_pem: String,
    key_pem: String,
}

/// Without the key.
impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Material {
    /// Reads both files.
    pub fn read(files: &CertificateFiles) -> Result<Self, BadCertificate> {
        Self::read_from(files, &files.cert, &files.key)
    }

    /// The same, below another root.
    pub fn read_under(files: &CertificateFiles, under: impl Fn(&Path) -> PathBuf) -> Result<Self, BadCertificate> {
        Self::read_from(files, &under(&files.cert), &under(&files.key))
    }

    /// The same, where the service's manager has put them: number `number` of all certificates. `None` as the directory:
    /// it has not.
    pub fn read_credential(
        files: &CertificateFiles,
        number: usize,
        directory: Option<&Path>,
    ) -> Result<Self, BadCertificate> {
        let place = |kind: &str| directory.map(|it| it.join(format!("tls{number}.{kind}"))).filter(|it| it.exists());
        let (cert, key) = (place("cert"), place("key"));
        Self::read_from(files, cert.as_ref().unwrap_or(&files.cert), key.as_ref().unwrap_or(&files.key))
    }

    fn read_from(files: &CertificateFiles, cert: &Path, key: &Path) -> Result<Self, BadCertificate> {
        let (cert_pem, key_pem) = (read_text(&files.cert, cert)?, read_text(&files.key, key)?);
        Ok(Self { files: files.clone(), cert_pem, key_pem })
    }

    /// Length of both files, bytes.
    pub fn length(&self) -> u64 {
        (self.cert_pem.len() + self.key_pem.len()) as u64
    }

    /// Whether it can be served: both are PEM, and the key is the certificate's.
    pub fn check(&self) -> Result<Certificate, BadCertificate> {
        let chain = self.chain()?;
        let key = self.key()?;
        let bad_cert = |reason: String, remedy: &str| Err(BadCertificate::new(&self.files.cert, reason, remedy));
        let Some(facts) = chain.first().and_then(|first| facts(first)) else {
            return bad_cert(
                "its first certificate cannot be read".to_owned(),
                "get the file again from your authority",
            );
        };
        let key = match ring::default_provider().key_provider.load_private_key(key) {
            Ok(key) => key,
            Err(error) => {
                let remedy = "make an RSA key of 2048 bits or more, or an ECDSA key of P-256 or P-384";
                return Err(BadCertificate::new(
                    &self.files.key,
                    format!("a key of this kind is not served: {error}"),
                    remedy,
                ));
            }
        };
        if facts.version < 3 {
            return bad_cert(
                format!("it is an X.509 certificate of version {}, which cannot be served", facts.version),
                "make one of version 3, with the host's names as subjectAltName: `openssl req -x509 -addext subjectAltName=DNS:NAME …`, or \
                 `openssl x509 -req -extfile …`",
            );
        }
        let others = chain.get(1..).unwrap_or_default().to_vec();
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                let later = others
                    .into_iter()
                    .any(|cert| CertifiedKey::new(vec![cert], Arc::clone(&key.key)).keys_match().is_ok());
                let remedy = if later {
                    "the key's own certificate must be the first in its file, its issuers' after it"
                } else {
                    "give the key that the certificate was made for, or the certificate of this key"
                };
                return bad_cert(format!("its key is not the one in {}", self.files.key.display()), remedy);
            }
            Err(Error::InvalidCertificate(_)) => {
                return bad_cert(
                    "its first certificate is damaged".to_owned(),
                    "get the file again from your authority; `openssl x509 -noout -text -in FILE` shows what there is",
                );
            }
            Err(error) => return bad_cert(error.to_string(), "get the file again from your authority"),
        }
        Ok(Certificate { files: self.files.clone(), key: Arc::new(key), facts })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, BadCertificate> {
        let file = &self.files.cert;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.cert_pem.as_bytes()).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) if PrivateKeyDer::from_pem_slice(self.cert_pem.as_bytes()).is_ok() => {
                Err(BadCertificate::new(file, "there is a key in it and no certificate", "exchange cert and key"))
            }
            Ok(_) => Err(BadCertificate::new(
                file,
                "there is no PEM certificate in it",
                "it must have a part that begins with -----BEGIN CERTIFICATE-----; `openssl x509 -inform der -in OLD -out NEW` makes PEM of DER",
            )),
            Err(error) => Err(BadCertificate::new(
                file,
                format!("it is not PEM: {error}"),
                "get the file again from your authority",
            )),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, BadCertificate> {
        let file = &self.files.key;
        if self.key_pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY") || self.key_pem.contains("Proc-Type: 4,ENCRYPTED")
        {
            return Err(BadCertificate::new(
                file,
                "the key is encrypted, and nobody is there to type its passphrase",
                "`openssl pkey -in OLD -out NEW` writes it without; keep it readable by root alone",
            ));
        }
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|_| {
            if CertificateDer::from_pem_slice(self.key_pem.as_bytes()).is_ok() {
                return BadCertificate::new(file, "there is a certificate in it and no key", "exchange cert and key");
            }
            let remedy =
                "it must have a part that begins with -----BEGIN PRIVATE KEY-----, or with RSA or EC before PRIVATE";
            BadCertificate::new(file, "there is no PEM key in it", remedy)
        })
    }
}

/// Reads what `file` is called in the app's file, and is at `place`.
fn read_text(file: &Path, place: &Path) -> Result<String, BadCertificate> {
    let bad = |error: &io::Error| {
        let link = std::fs::symlink_metadata(place).is_ok_and(|found| found.is_symlink());
        let (reason, remedy) = match error.kind() {
            io::ErrorKind::NotFound if link => {
                ("it is a link that leads nowhere".to_owned(), "mend the link, or write in listen where the file is")
            }
            _ if error.raw_os_error() == Some(libc::ELOOP) => (
                "it is a link that leads back to itself".to_owned(),
                "mend the link, or write in listen where the file is",
            ),
            io::ErrorKind::NotFound => ("it is not there".to_owned(), "put it there, or write in listen where it is"),
            io::ErrorKind::PermissionDenied => ("this user may not read it".to_owned(), "run this as root"),
            _ => (format!("it cannot be read: {error}"), "write the path of a PEM file in listen"),
        };
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        BadCertificate { denied, ..BadCertificate::new(file, reason, remedy) }
    };
    // A FIFO would be waited for.
    let mut opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(place).map_err(|it| bad(&it))?;
    let metadata = opened.metadata().map_err(|it| bad(&it))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "it is a directory" } else { "it is not a regular file" };
        return Err(BadCertificate::new(file, what, "write the path of a PEM file in listen"));
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut opened).take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|it| bad(&it))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(BadCertificate::new(
            file,
            "it is larger than 1 MiB, which no certificate is",
            "write the path of a PEM file in listen",
        ));
    }
    // What systemd gives in place of a file that is not there (`SetCredential=`).
    if bytes == MISSING.as_bytes() && place != file {
        return Err(bad(&io::ErrorKind::NotFound.into()));
    }
    String::from_utf8(bytes).map_err(|_| {
        let remedy =
            "`openssl x509 -inform der -in OLD -out NEW` makes PEM of a certificate in DER, `openssl pkey` of a key";
        BadCertificate::new(file, "it is not PEM", remedy)
    })
}

/// The contents of all files, each of which can be served.
pub fn read_all(options: &ListenOptions) -> Result<Vec<Material>, BadCertificate> {
    let read = |files| Material::read(files).and_then(|material| material.check().map(|_| material));
    options.certificates().map(read).collect()
}

/// What can be served.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub files: CertificateFiles,
    key: Arc<CertifiedKey>,
    pub facts: Facts,
}

impl Certificate {
    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let parsed = self.key.end_entity_cert().and_then(ParsedCertificate::try_from);
        parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
    }

    /// What its owner should know: that it is over, or soon will be. `now`: seconds since 1970.
    pub fn warning(&self, now: i64) -> Option<String> {
        const DAY: i64 = 86_400;
        let file = self.files.cert.display();
        let Facts { not_before, not_after, .. } = self.facts;
        if now > not_after {
            Some(format!("{file}: the certificate expired {} days ago: clients refuse it", (now - not_after) / DAY))
        } else if now < not_before {
            Some(format!(
                "{file}: the certificate is valid from {} days on: clients refuse it",
                (not_before - now).div_euclid(DAY)
            ))
        } else if not_after - now < 7 * DAY {
            Some(format!("{file}: the certificate expires in {} days", (not_after - now) / DAY))
        } else {
            None
        }
    }
}

/// The certificates of one address; the first is for whoever names none.
#[derive(Debug)]
struct Resolver(Vec<Certificate>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suits = |it: &&Certificate| it.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        // With one certificate there is nothing to choose by the name.
        let named =
            name.filter(|_| self.0.len() > 1).and_then(|name| self.0.iter().filter(suits).find(|it| it.is_for(&name)));
        let found = named.or_else(|| self.0.iter().find(suits)).or(self.0.first());
        found.map(|certificate| Arc::clone(&certificate.key))
    }
}

/// How TLS is served with these certificates, at least one. Tickets of `ticketer` are good whatever the certificates are.
pub(super) fn server_config(
    certificates: Vec<Certificate>,
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, Error> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(certificates)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.ticketer = ticketer;
    Ok(Arc::new(config))
}
