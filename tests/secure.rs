//! Certificates of a test's own, and a TLS client that takes any and says which it was.

use crate::patient;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use appctl::wire::certificate::facts;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned};

/// A certificate that signs itself; PEM.
pub(crate) struct Made {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) serial: String,
}

/// For these names. `kind`: openssl's `-newkey`; `days`: from now, or ago where it is negative. `None`: no openssl.
pub(crate) fn make(names: &[&str], kind: &str, days: i32) -> Option<Made> {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let openssl = |arguments: &[&str]| Command::new("openssl").args(arguments).output();
    let names: Vec<_> = names.iter().map(|name| format!("DNS:{name}")).collect();
    std::fs::write(path("ext"), format!("subjectAltName={}", names.join(","))).unwrap();
    let (key, request, cert, days) = (path("key"), path("request"), path("cert"), days.to_string());
    let curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"];
    let curve: &[&str] = if kind == "ec" { &curve } else { &[] };
    let asked = ["req", "-newkey", kind, "-nodes", "-subj", "/CN=test", "-keyout", &key, "-out", &request];
    if !openssl(&[&asked, curve].concat()).is_ok_and(|made| made.status.success()) {
        println!("skipped: openssl is not installed");
        return None;
    }
    let ext = path("ext");
    let signed = ["x509", "-req", "-in", &request, "-signkey", &key, "-days", &days, "-extfile", &ext, "-out", &cert];
    let signed = openssl(&signed).unwrap();
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let serial = String::from_utf8(openssl(&["x509", "-noout", "-serial", "-in", &cert]).unwrap().stdout).unwrap();
    let text = |path: &str| std::fs::read_to_string(path).unwrap();
    let serial = serial.trim().trim_start_matches("serial=").to_owned();
    Some(Made { cert: text(&cert), key: text(&key), serial })
}

/// One connection.
pub(crate) struct Secure(pub(crate) StreamOwned<ClientConnection, TcpStream>);

/// What a client needs for resumption, and to say what it wants.
#[derive(Clone)]
pub(crate) struct Settings(ClientConfig);

impl Settings {
    pub(crate) fn new() -> Self {
        Self::of(rustls::DEFAULT_VERSIONS)
    }

    pub(crate) fn of(versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Any)).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(config)
    }

    /// Only this kind of keys.
    pub(crate) fn signed_by(schemes: &'static [SignatureScheme]) -> Self {
        let mut settings = Self::new();
        settings.0.dangerous().set_certificate_verifier(Arc::new(AnyOf(schemes)));
        settings
    }

    pub(crate) fn protocols(mut self, protocols: &[&str]) -> Self {
        self.0.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        self
    }

    /// Handshakes over `stream`, asking for `name`.
    pub(crate) fn connect(&self, stream: TcpStream, name: &str) -> io::Result<Secure> {
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::new(self.0.clone()), name).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Secure(stream))
    }
}

impl Secure {
    /// Of the certificate that the server showed.
    pub(crate) fn serial(&self) -> String {
        let certificates = self.0.conn.peer_certificates().unwrap();
        facts(&certificates[0]).unwrap().serial
    }

    pub(crate) fn resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until these bytes have come, and gives all that came.
    pub(crate) fn until(&mut self, end: &str) -> String {
        let (mut read, mut byte) = (Vec::new(), [0]);
        while !read.ends_with(end.as_bytes()) {
            let count = patient::read(&mut self.0, &mut byte)
                .unwrap_or_else(|error| panic!("{error}: {}", read.escape_ascii()));
            assert!(count > 0, "the end instead of {end:?}: {}", read.escape_ascii());
            read.extend_from_slice(&byte);
        }
        String::from_utf8(read).unwrap()
    }

    /// One request on this connection, and the body of its answer, which has a Content-Length.
    pub(crate) fn get(&mut self, target: &str, fields: &str) -> String {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n"));
        let head = self.until("\r\n\r\n").to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap_or_else(|| panic!("{head}"));
        let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    /// Reads to the end. An error where that is not the server's own word (close_notify).
    pub(crate) fn rest(&mut self) -> io::Result<String> {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).map(|_| rest)
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct Any;

#[derive(Debug)]
struct AnyOf(&'static [SignatureScheme]);

macro_rules! takes_any {
    ($verifier:ty, $schemes:expr) => {
        impl ServerCertVerifier for $verifier {
            fn verify_server_cert(
                &self,
                _: &CertificateDer<'_>,
                _: &[CertificateDer<'_>],
                _: &ServerName<'_>,
                _: &[u8],
                _: UnixTime,
            ) -> Result<ServerCertVerified, rustls::Error> {
                Ok(ServerCertVerified::assertion())
            }

            fn verify_tls12_signature(
                &self,
                _: &[u8],
                _: &CertificateDer<'_>,
                _: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                Ok(HandshakeSignatureValid::assertion())
            }

            fn verify_tls13_signature(
                &self,
                _: &[u8],
                _: &CertificateDer<'_>,
                _: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                Ok(HandshakeSignatureValid::assertion())
            }

            fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
                let schemes: fn(&Self) -> Vec<SignatureScheme> = $schemes;
                schemes(self)
            }
        }
    };
}

takes_any!(Any, |_| { rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes() });
takes_any!(AnyOf, |it| it.0.to_vec());
