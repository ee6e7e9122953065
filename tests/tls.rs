//! A TLS server behind the router: handed over unread, and a session ticket of one worker is good at every other.

use crate::support::{Cluster, skip};
use std::path::Path;
use std::process::Command;

/// An https app with a certificate of its own; `None`: no openssl.
fn cluster() -> Option<Cluster> {
    let directory = tempfile::tempdir().unwrap();
    let (key, certificate) = (directory.path().join("key.pem"), directory.path().join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        skip("openssl is not installed");
        return None;
    }
    let text = |path: &Path| serde_json::to_string(&std::fs::read_to_string(path).unwrap()).unwrap();
    let script = format!(
        "const https = require('https');
         https.createServer({{ key: {}, cert: {} }}, (q, r) => r.end(String(process.pid))).listen(3000);",
        text(&key),
        text(&certificate)
    );
    Some(Cluster::script(&script, 3, "").until_ready(3))
}

/// Opens 30 connections one after the other, each with the ticket of the one before.
const CLIENT: &str = "
    const tls = require('tls');
    const [port, maxVersion] = [Number(process.argv[1]), process.argv[2]];
    let session;
    const once = () => new Promise((resolve, reject) => {
      const socket = tls.connect({ port, host: '127.0.0.1', session, maxVersion, rejectUnauthorized: false });
      let text = '';
      socket.on('session', (it) => { session = it; });
      socket.on('secureConnect', () => socket.write('GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n'));
      socket.on('data', (data) => { text += data; });
      socket.on('error', reject);
      socket.on('end', () => resolve([socket.isSessionReused(), text.split('\\r\\n\\r\\n')[1].match(/\\d{3,}/)[0]]));
    });
    (async () => {
      const all = [];
      for (let i = 0; i < 30; i++) all.push(await once());
      console.log(JSON.stringify({ reused: all.slice(1).filter(([reused]) => reused).length, first: all[0][0],
                                   workers: new Set(all.map(([, pid]) => pid)).size }));
    })();
";

#[test]
fn a_ticket_of_one_worker_is_good_at_every_other() {
    let Some(cluster) = cluster() else { return };
    for version in ["TLSv1.2", "TLSv1.3"] {
        let port = cluster.address.port().to_string();
        let output = Command::new("node").args(["-e", CLIENT, &port, version]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(seen, serde_json::json!({"reused": 29, "first": false, "workers": 3}), "{version}");
    }
}

#[test]
fn plain_http_to_a_tls_server_is_an_error_of_its_own_connection() {
    let Some(cluster) = cluster() else { return };
    for _ in 0..6 {
        let mut stream = cluster.connect();
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // A reset is an answer as well.
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    assert!(cluster.output.iter().all(|line| !line.contains("ended")), "{:#?}", cluster.output);
}

#[test]
fn tls_to_a_plain_server_is_400() {
    let cluster = Cluster::script("require('http').createServer((q, r) => r.end()).listen(1)", 1, "").until_ready(1);
    let mut stream = cluster.connect();
    // The beginning of a ClientHello (RFC 8446 §5.1).
    std::io::Write::write_all(&mut stream, &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]).unwrap();
    assert_eq!(crate::support::read_response(&mut stream).status, 400);
}
