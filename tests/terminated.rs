//! TLS that the router itself speaks, and the PROXY protocol: what comes before a request, and then requests as ever.

use crate::kept::Kept;
use crate::metrics::Metrics;
use crate::patient;
use crate::proxy::ECHO;
use crate::secure::{Made, Settings, make};
use crate::support::{Cluster, PATIENCE, free_address, read_to_end, skip};
use appctl::config::listen::CertificateFiles;
use appctl::router::certificates::Material;
use rustls::SignatureScheme;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// A cluster with TLS at one address, the PROXY protocol at another, and both at a third.
struct Served {
    cluster: Cluster,
    tls: SocketAddr,
    proxied: SocketAddr,
    both: SocketAddr,
    made: Vec<Made>,
    _files: tempfile::TempDir,
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// `None`: no openssl.
fn serve(exec: &[&str], certificates: &[(&[&str], &str)], more: &str) -> Option<Served> {
    let files = tempfile::tempdir().unwrap();
    let path = |name: String| files.path().join(name).display().to_string();
    let mut tables = String::new();
    let mut all = Vec::new();
    for (number, (names, kind)) in certificates.iter().enumerate() {
        let made = make(names, kind, 30)?;
        let (cert, key) = (path(format!("{number}.pem")), path(format!("{number}.key")));
        std::fs::write(&cert, &made.cert).unwrap();
        std::fs::write(&key, &made.key).unwrap();
        tables += &format!("{{ cert = {cert:?}, key = {key:?} }},");
        all.push(made);
    }
    let (tls, proxied, both) = (free_address(), free_address(), free_address());
    let script = path("worker.js".to_owned());
    std::fs::write(&script, ECHO).unwrap();
    let exec: Vec<&str> = if exec.is_empty() { vec!["node", &script] } else { exec.to_vec() };
    let text = format!(
        "exec = {exec:?}\nworkers = 2\nlisten = [{{ address = \"{tls}\", tls = [{tables}] }}, \
         {{ address = \"{proxied}\", proxy_protocol = true }}, \
         {{ address = \"{both}\", proxy_protocol = true, tls = [{tables}] }}]\n{more}"
    );
    let cluster = Cluster::launch_text(&text).until_ready(2);
    Some(Served { cluster, tls, proxied, both, made: all, _files: files })
}

fn echo(more: &str) -> Option<Served> {
    serve(&[], &[(&["a.example"], "ec")], more)
}

#[test]
fn requests_inside_of_tls() {
    let Some(served) = echo("") else { return };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = Settings::of(&[version]).connect(connect(served.tls), "a.example").unwrap();
        assert_eq!(client.serial(), served.made[0].serial);
        assert_eq!(client.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let seen: Vec<Value> = (0..6)
            .map(|_| {
                let forged = "X-Forwarded-Proto: gopher\r\nX-MiXed: 1\r\n";
                serde_json::from_str(&client.get("/", forged)).unwrap()
            })
            .collect();
        let workers: BTreeSet<_> = seen.iter().map(|seen| seen["worker"].to_string()).collect();
        assert_eq!(workers.len(), 2, "each request goes its own way");
        // This machine is trusted, so its word stands.
        assert_eq!(seen[0]["headers"]["x-forwarded-proto"], "gopher", "{}", seen[0]);
        let seen: Value = serde_json::from_str(&client.get("/", "")).unwrap();
        assert_eq!(
            (&seen["headers"]["x-forwarded-proto"], &seen["headers"]["x-forwarded-for"]),
            (&Value::from("https"), &Value::from("127.0.0.1"))
        );

        // An interim answer comes before the answer, at once.
        client.send("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 103 "));
        assert!(client.until("hinted").starts_with("HTTP/1.1 200 "));

        // Much in both directions.
        client.send("GET /big=8388608 HTTP/1.1\r\nHost: a\r\n\r\n");
        client.until("\r\n\r\n");
        let mut left = 8_388_608;
        while left > 0 {
            // Chunk by chunk.
            let size = usize::from_str_radix(client.until("\r\n").trim(), 16).unwrap();
            let mut piece = vec![0; size + 2];
            client.0.read_exact(&mut piece).unwrap();
            assert!(piece[..size].iter().all(|byte| *byte == b'b'));
            left -= size;
        }
        assert_eq!(client.until("\r\n\r\n"), "0\r\n\r\n");
        let body = vec![b'u'; 4 << 20];
        client.send(&format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.0.write_all(&body).unwrap();
        client.until("\r\n\r\n");
        assert!(client.until("}}").contains(&format!("\"length\":{}", body.len())));

        // The end is the server's own word, no cut.
        client.send("GET /early HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(client.rest().unwrap().ends_with("early"));
    }
}

#[test]
fn what_is_no_tls_and_what_is_asked_in_vain() {
    let Some(served) = echo("[router]\nhead_timeout = \"2s\"") else { return };
    // Plain HTTP.
    let mut client = Kept::over(connect(served.tls));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer("GET");
    assert!(answer.status == 400 && answer.text().contains("https"), "{answer:?}");
    // A client that speaks HTTP/2 alone; then one that does not say.
    assert!(Settings::new().protocols(&["h2"]).connect(connect(served.tls), "a.example").is_err());
    assert_eq!(Settings::new().protocols(&[]).connect(connect(served.tls), "a").unwrap().get("/early", ""), "early");
    // Garbage that begins as a handshake does, one that stands still, and one that ends in the middle.
    let mut garbage = connect(served.tls);
    garbage.write_all(b"\x16\x03\x01\x00\x04GET ").unwrap();
    let _ = garbage.read_to_end(&mut Vec::new());
    let began = Instant::now();
    let mut slow = connect(served.tls);
    slow.write_all(b"\x16\x03").unwrap();
    assert_eq!(read_to_end(&mut slow), b"");
    assert!(began.elapsed().as_millis() >= 1500, "{:?}", began.elapsed());
    // A head that stands still, inside of TLS.
    let mut client = Settings::new().connect(connect(served.tls), "a.example").unwrap();
    client.send("GET / HTTP/1.1\r\nHost:");
    let rest = client.rest().unwrap();
    assert!(rest.starts_with("HTTP/1.1 408 "), "{rest}");
    // What nobody may send.
    let mut client = Settings::new().connect(connect(served.tls), "a.example").unwrap();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(client.rest().unwrap().starts_with("HTTP/1.1 400 "));
}

/// Handshakes that have begun and stand still make way for whoever comes.
#[test]
fn slow_handshakes_make_way() {
    let Some(served) = echo("[router]\nwaiting_limit = 3\nhead_timeout = \"10min\"") else { return };
    let slow: Vec<_> = (0..12)
        .map(|_| {
            let mut slow = connect(served.tls);
            slow.write_all(b"\x16").unwrap();
            slow
        })
        .collect();
    let mut client = Settings::new().connect(connect(served.tls), "a.example").unwrap();
    assert_eq!(client.get("/early", ""), "early");
    // Places for three, of which the last client needs one for a moment.
    let closed = slow.into_iter().filter_map(|mut slow| {
        slow.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        match patient::read(&mut slow, &mut [0]) {
            Ok(count) => (count == 0).then_some(()),
            Err(error) => (error.kind() == ErrorKind::ConnectionReset).then_some(()),
        }
    });
    assert!(closed.count() >= 9);
}

#[test]
fn the_certificate_is_the_one_for_the_name() {
    let certificates: [(&[&str], &str); 4] = [
        (&["a.example"], "ec"),
        (&["b.example", "*.c.example"], "ec"),
        (&["d.example"], "ec"),
        (&["d.example"], "rsa:2048"),
    ];
    let Some(served) = serve(&[], &certificates, "") else { return };
    let number = |settings: &Settings, name: &str| {
        let client = settings.connect(connect(served.tls), name).unwrap();
        served.made.iter().position(|made| made.serial == client.serial()).unwrap()
    };
    let any = Settings::new();
    for (name, wanted) in [
        ("a.example", 0),
        ("b.example", 1),
        ("B.Example", 1),
        ("x.c.example", 1),
        ("x.y.c.example", 0),
        ("c.example", 0),
        ("d.example", 2),
        ("nobody.example", 0),
        ("127.0.0.1", 0),
    ] {
        assert_eq!(number(&any, name), wanted, "{name}");
    }
    let rsa = Settings::signed_by(&[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256]);
    assert_eq!((number(&rsa, "d.example"), number(&rsa, "a.example")), (3, 3));
}

#[test]
fn a_session_is_resumed() {
    let Some(served) = echo("") else { return };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let settings = Settings::of(&[version]);
        for time in 0..4 {
            let mut client = settings.connect(connect(served.tls), "a.example").unwrap();
            // Tickets come with the first answer.
            assert_eq!(client.get("/early", ""), "early");
            assert_eq!(client.resumed(), time > 0, "{version:?} {time}");
        }
    }
}

#[test]
fn a_websocket_inside_of_tls() {
    let Some(served) = echo("") else { return };
    let mut client = Settings::new().connect(connect(served.tls), "a.example").unwrap();
    // On a connection that has had other requests.
    assert_eq!(client.get("/early", ""), "early");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nsent before");
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    assert_eq!(client.until("sent before"), "early:sent before");
    for round in 0..64_u8 {
        let piece = vec![round; 32 * 1024];
        client.0.write_all(&piece).unwrap();
        let mut back = vec![0; piece.len()];
        client.0.read_exact(&mut back).unwrap();
        assert_eq!(back, piece);
    }
    // The client has said all; the worker has not.
    client.0.conn.send_close_notify();
    client.0.flush().unwrap();
    assert_eq!(client.rest().unwrap(), "bye");
}

#[test]
fn socket_io_by_tls() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/chat/worker.js");
    if !script.with_file_name("node_modules").exists() {
        return skip("no packages in tests/apps/chat: run npm ci there");
    }
    let script = script.display().to_string();
    let Some(served) = serve(&["node", &script], &[(&["a.example"], "ec")], "") else { return };
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/clients/sessions.js");
    let mut command = Command::new("node");
    command.arg(driver).arg(format!("https://{}", served.tls)).args(["--each", "20"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_str(String::from_utf8(output.stdout).unwrap().lines().last().unwrap()).unwrap();
    for kind in ["polling", "websocket", "upgrade"] {
        assert_eq!(seen["connected"][kind], 20, "{seen}");
    }
    assert_eq!((&seen["upgraded"], &seen["disconnects"]), (&20.into(), &0.into()), "{seen}");
    assert_eq!(seen["errors"].as_array().map(Vec::len), Some(0), "{seen}");
    for wrong in ["missing", "duplicates", "corrupted"] {
        assert_eq!(seen[wrong], 0, "{seen}");
    }
}

/// Version 2, from this IPv4 address, with these extensions.
fn version_two(command: u8, from: [u8; 4], extensions: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + extensions.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, 0x11][..], &length, &from, &[127, 0, 0, 1, 0, 80, 0, 80], extensions]
        .concat()
}

#[test]
fn the_proxy_protocol_says_whose_connection_it_is() {
    let Some(served) = echo("") else { return };
    let tls = [&[4, 0, 3, 0, 0, 0][..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
    let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    for (header, client, proto) in [
        (line("TCP4 203.0.113.9 192.0.2.1 4000 80"), "203.0.113.9", "http"),
        (line("TCP6 2001:db8::9 2001:db8::1 4000 80"), "2001:db8::9", "http"),
        (line("TCP6 ::ffff:203.0.113.9 ::ffff:192.0.2.1 4000 80"), "203.0.113.9", "http"),
        (line("UNKNOWN"), "127.0.0.1", "http"),
        (version_two(1, [203, 0, 113, 9], b""), "203.0.113.9", "http"),
        (version_two(1, [203, 0, 113, 9], &tls), "203.0.113.9", "https"),
        (version_two(0, [203, 0, 113, 9], b""), "127.0.0.1", "http"),
    ] {
        // All at once; and the header byte by byte, so that none comes with another.
        for split in [false, true] {
            let mut stream = connect(served.proxied);
            let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            if split {
                for byte in &header {
                    stream.write_all(&[*byte]).unwrap();
                    std::thread::yield_now();
                }
                stream.write_all(request).unwrap();
            } else {
                stream.write_all(&[&header[..], request].concat()).unwrap();
            }
            let mut kept = Kept::over(stream);
            for _ in 0..3 {
                let seen = kept.answer("GET").json();
                assert_eq!(seen["headers"]["x-forwarded-for"], client, "{}: {seen}", header.escape_ascii());
                assert_eq!(seen["headers"]["x-forwarded-proto"], proto, "{}: {seen}", header.escape_ascii());
                kept.send(request);
            }
        }
    }
    // Who is named there is not trusted by that.
    let mut kept = Kept::over(connect(served.proxied));
    let forged = "X-Forwarded-For: 198.51.100.6\r\nForwarded: for=198.51.100.6\r\nX-Real-IP: 198.51.100.6\r\n";
    kept.send(format!("PROXY TCP4 203.0.113.9 192.0.2.1 4000 80\r\nGET / HTTP/1.1\r\nHost: a\r\n{forged}\r\n"));
    let seen = kept.answer("GET").json();
    assert_eq!(seen["headers"]["x-forwarded-for"], "203.0.113.9", "{seen}");
    assert!(seen["headers"]["forwarded"].is_null() && seen["headers"]["x-real-ip"].is_null(), "{seen}");
    // A WebSocket, too.
    let mut kept = Kept::over(connect(served.proxied));
    kept.send(version_two(1, [203, 0, 113, 9], b""));
    kept.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(kept.answer("GET").status, 101);
    assert_eq!(kept.bytes(6), b"early:");
    kept.send("there and back");
    assert_eq!(kept.bytes(14), b"there and back");
}

#[test]
fn the_header_comes_before_the_handshake() {
    let Some(served) = echo("[router]\nhead_timeout = \"2s\"") else { return };
    for header in [b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 80\r\n".to_vec(), version_two(1, [203, 0, 113, 9], b"")] {
        let mut stream = connect(served.both);
        stream.write_all(&header).unwrap();
        let mut client = Settings::new().connect(stream, "a.example").unwrap();
        let seen: Value = serde_json::from_str(&client.get("/", "X-Forwarded-For: 198.51.100.6\r\n")).unwrap();
        assert_eq!(seen["headers"]["x-forwarded-for"], "203.0.113.9", "{seen}");
        assert_eq!(seen["headers"]["x-forwarded-proto"], "https", "{seen}");
    }
    assert!(Settings::new().connect(connect(served.both), "a.example").is_err(), "TLS without a header");
    let mut plain = Kept::over(connect(served.both));
    plain.send("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(plain.answer("GET").status, 400);
}

#[test]
fn without_a_header_there_is_no_service() {
    let Some(served) = echo("[router]\nhead_timeout = \"1s\"") else { return };
    for (text, status) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], "HTTP/1.1 400 "),
        (b"PROXY TCP4 nonsense\r\n", "HTTP/1.1 400 "),
        (b"PROXY TCP4 203.0.113.9", "HTTP/1.1 408 "),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF", "HTTP/1.1 400 "),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0C\x01", "HTTP/1.1 408 "),
    ] {
        let mut stream = connect(served.proxied);
        stream.write_all(text).unwrap();
        let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
        assert!(answer.starts_with(status), "{}: {answer}", text.escape_ascii());
    }
    let Some(mut strangers) = echo("[router]\ntrusted_proxies = [\"10.0.0.0/8\"]") else { return };
    let mut stream = connect(strangers.proxied);
    stream.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("trusted proxies only"), "{answer}");
    // By TLS a stranger's word does not count, and nothing keeps it out.
    let mut client = Settings::new().connect(connect(strangers.tls), "a.example").unwrap();
    let seen: Value = serde_json::from_str(&client.get("/", "X-Forwarded-For: 198.51.100.6\r\n")).unwrap();
    assert_eq!(seen["headers"]["x-forwarded-for"], "127.0.0.1", "{seen}");
    strangers.cluster.stop();
}

fn read_facts(path: &Path) -> Option<appctl::wire::certificate::Facts> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    appctl::wire::certificate::facts(&CertificateDer::from_pem_file(path).ok()?)
}

/// What is wrong with files is told with the file and a remedy.
#[test]
fn files_that_cannot_be_served() {
    let (Some(one), Some(two)) = (make(&["a.example"], "ec", 30), make(&["b.example"], "rsa:2048", 3)) else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let put = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    let openssl = |arguments: &[&str]| {
        assert!(
            Command::new("openssl").current_dir(directory.path()).args(arguments).output().unwrap().status.success()
        );
    };
    put("cert", &one.cert);
    put("key", &one.key);
    put("chain", &format!("{}{}", one.cert, two.cert));
    put("turned", &format!("{}{}", two.cert, one.cert));
    put("other", &two.cert);
    put("garbage", "garbage");
    put("broken", &one.cert.replace("END", "AND"));
    put("empty", "");
    openssl(&["x509", "-in", "cert", "-outform", "der", "-out", "der"]);
    openssl(&["pkey", "-in", "key", "-aes128", "-passout", "pass:x", "-out", "locked"]);
    openssl(&["genpkey", "-algorithm", "ED448", "-out", "strange"]);
    openssl(&["genrsa", "-traditional", "-out", "small", "1024"]);
    // Without extensions it is of version 1. (OpenSSL 3.4 and newer always make version 3.)
    openssl(&["req", "-new", "-key", "key", "-subj", "/CN=a", "-out", "request"]);
    openssl(&["x509", "-req", "-in", "request", "-signkey", "key", "-out", "old"]);
    let old = read_facts(&path("old")).is_some_and(|facts| facts.version == 1);
    // Its dates can be read, what follows them cannot.
    let mut der = std::fs::read(path("der")).unwrap();
    let date = der.windows(2).rposition(|window| window == [0x17, 13]).unwrap();
    der[date + 2 + 13] = 0x05;
    std::fs::write(path("damaged.der"), der).unwrap();
    openssl(&["base64", "-in", "damaged.der", "-out", "damaged.text"]);
    let text = std::fs::read_to_string(path("damaged.text")).unwrap();
    put("damaged", &format!("-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"));
    std::fs::create_dir(path("directory")).unwrap();
    std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
    std::os::unix::fs::symlink("loop", path("loop")).unwrap();
    put("large", &"x".repeat(1 << 21));
    let read = |cert: &str, key: &str| {
        let files = CertificateFiles { cert: path(cert), key: path(key) };
        Material::read(&files).and_then(|material| material.check())
    };
    for (cert, key) in [("cert", "key"), ("chain", "key")] {
        assert_eq!(read(cert, key).unwrap().facts.serial, one.serial, "{cert}");
    }
    for (cert, key, file, reason, remedy) in [
        ("nowhere", "key", "nowhere", "not there", "put it there"),
        ("cert", "nowhere", "nowhere", "not there", "put it there"),
        ("directory", "key", "directory", "a directory", "path of a PEM file"),
        ("dangling", "key", "dangling", "a link that leads nowhere", "mend the link"),
        ("loop", "key", "loop", "a link that leads back to itself", "mend the link"),
        ("large", "key", "large", "larger than 1 MiB", "path of a PEM file"),
        ("damaged", "key", "damaged", "damaged", "openssl x509"),
        (
            if old { "old" } else { "empty" },
            "key",
            if old { "old" } else { "empty" },
            if old { "of version 1" } else { "" },
            "",
        ),
        ("garbage", "key", "garbage", "no PEM certificate", "BEGIN CERTIFICATE"),
        ("empty", "key", "empty", "no PEM certificate", "BEGIN CERTIFICATE"),
        ("broken", "key", "broken", "not PEM", "again"),
        ("der", "key", "der", "not PEM", "openssl x509 -inform der"),
        ("key", "cert", "key", "a key in it and no certificate", "exchange"),
        ("cert", "cert", "cert", "a certificate in it and no key", "exchange"),
        ("cert", "garbage", "garbage", "no PEM key", "PRIVATE KEY"),
        ("cert", "locked", "locked", "encrypted", "openssl pkey"),
        ("cert", "strange", "strange", "of this kind", "ECDSA"),
        ("cert", "small", "small", "of this kind", "2048"),
        ("other", "key", "other", "its key is not the one in", "that the certificate was made for"),
        ("turned", "key", "turned", "its key is not the one in", "must be the first"),
    ] {
        let error = read(cert, key).unwrap_err();
        assert_eq!(error.file, path(file), "{error}");
        assert!(error.reason.contains(reason) && error.remedy.contains(remedy), "{cert} {key}: {error}");
    }
    if old {
        let error = read("old", "key").unwrap_err();
        assert!(error.reason.contains("of version 1,") && error.remedy.contains("subjectAltName"), "{error}");
    }
    // What is over, and what soon will be.
    let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    put("rsa", &two.key);
    let (far, near) = (read("cert", "key").unwrap(), read("other", "rsa").unwrap());
    assert_eq!(far.warning(now), None);
    assert!(near.warning(now + 3600).unwrap().contains("expires in 2 days"), "{near:?}");
    assert!(far.warning(now + 40 * 86_400 + 3600).unwrap().contains("expired 10 days ago"), "{far:?}");
    assert!(far.warning(now - 3 * 86_400).unwrap().contains("valid from"), "{far:?}");
}

/// Each connection that comes to nothing is counted, by what it was.
#[test]
fn what_came_to_nothing_is_counted() {
    let (metrics, line) = Metrics::new();
    let Some(served) = echo(&format!("[router]\n{line}\nhead_timeout = \"1s\"\n")) else { return };
    let mut slow = connect(served.tls);
    slow.write_all(b"\x16\x03").unwrap();
    assert_eq!(read_to_end(&mut slow), b"");
    metrics.until("appctl_closed_total{reason=tls_handshake}", 1.0);
    assert!(Settings::new().protocols(&["h2"]).connect(connect(served.tls), "a").is_err());
    metrics.until("appctl_closed_total{reason=tls_handshake}", 2.0);
    let mut plain = Kept::over(connect(served.tls));
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(plain.answer("GET").status, 400);
    metrics.until("appctl_malformed_total{shape=tls}", 1.0);
    let mut bare = Kept::over(connect(served.proxied));
    bare.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(bare.answer("GET").status, 400);
    assert!(Settings::new().connect(connect(served.both), "a").is_err());
    metrics.until("appctl_malformed_total{shape=proxy_protocol}", 2.0);
    drop(connect(served.tls));
    assert_eq!(metrics.page()["appctl_closed_total{reason=tls_handshake}"], 2.0);
}

/// Whom a proxy names has no more places than if it had come itself.
#[test]
fn clients_behind_a_balancer_are_counted_by_their_own_addresses() {
    let Some(served) = echo("[router]\naddress_limit = 2\n") else { return };
    let ask = |client: &str| {
        let mut kept = Kept::over(connect(served.proxied));
        kept.send(format!("PROXY TCP4 {client} 192.0.2.1 4000 80\r\nGET /early HTTP/1.1\r\nHost: a\r\n\r\n"));
        (kept.answer("GET").status, kept)
    };
    let held: Vec<_> = (0..2).map(|_| ask("203.0.113.9")).collect();
    assert!(held.iter().all(|(status, _)| *status == 200));
    assert_eq!(ask("203.0.113.9").0, 429);
    assert_eq!(ask("203.0.113.10").0, 200);
    drop(held);
    let end = Instant::now() + PATIENCE;
    while ask("203.0.113.9").0 != 200 {
        assert!(Instant::now() < end, "the places are not given back");
    }
}

/// What was written waits inside of TLS, not in the kernel alone.
#[test]
fn a_client_of_tls_that_does_not_read() {
    let (metrics, line) = Metrics::new();
    let limits = "trusted_proxies = []\nsend_timeout = \"2s\"\nkeepalive_timeout = \"1s\"";
    let Some(served) = echo(&format!("[router]\n{line}\n{limits}\n")) else { return };
    // An answer that is too long for all buffers together; and one that the router has taken from the worker at once.
    for (number, size) in [(1.0, 100_000_000), (2.0, 65_536)] {
        let stream = connect(served.tls);
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::RcvBuf, &4096).unwrap();
        let mut client = Settings::new().connect(stream, "a.example").unwrap();
        let requests = if size > 1_000_000 { 1 } else { 200 };
        client.send(&format!("GET /big={size} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(requests));
        metrics.until("appctl_closed_total{reason=send_timeout}", number);
        metrics.until("appctl_open_connections{state=routed}", 0.0);
    }
}
