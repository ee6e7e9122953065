//! The address that an app sees is the client's, on every way to it, and whatever the client says of itself.

use crate::boxed::{Boxed, Options};
use crate::made::make;
use serde_json::{Value, json};

/// A client and a server that are not this machine's loopback, though both are on it.
const CLIENT: [&str; 2] = ["203.0.113.9", "2001:db8::9"];
const SERVER: [&str; 2] = ["203.0.113.1", "2001:db8::1"];
/// What a client says that would like to be somebody else; last but not least this machine.
const FORGED: &str = "X-Forwarded-For: 198.51.100.6, 127.0.0.1\r\nForwarded: for=198.51.100.6\r\nX-Real-IP: 198.51.100.6\r\n\
                      X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil.example\r\n";

/// Answers with what it sees; `client` is what `app.set('trust proxy', 'loopback')` of Express makes of it: the last in the
/// row of connection and X-Forwarded-For that is not this machine.
const SCRIPT: &str = "
    const http = require('http');
    const seen = (q) => {
      const own = (it) => /^(::ffff:)?127\\./.test(it) || it === '::1';
      const row = [q.socket.remoteAddress, ...(q.headers['x-forwarded-for'] || '').split(/ *, */).filter(Boolean).reverse()];
      const client = row.find((it) => !own(it)) || row[row.length - 1];
      const trusted = own(row[0]);
      return JSON.stringify({ socket: row[0], client: client.replace('::ffff:', ''), for: q.headers['x-forwarded-for'],
        proto: trusted ? q.headers['x-forwarded-proto'] : 'http', real: q.headers['x-real-ip'], forwarded: q.headers.forwarded,
        host: q.headers['x-forwarded-host'] });
    };
    const server = http.createServer((q, r) => r.end(seen(q)));
    server.on('upgrade', (q, socket) => {
      socket.end('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n' +
        'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n' + seen(q));
    });
    server.listen(3000);
";

/// Makes one request from an address of its own, given as JSON, and prints the last line of the answer.
const DRIVER: &str = "
    const [net, tls] = [require('net'), require('tls')];
    const { from, to, port, secure, fields, upgrade } = JSON.parse(process.argv[2]);
    const options = { host: to, port, localAddress: from, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] };
    const socket = secure ? tls.connect(options) : net.connect(options);
    let text = '';
    socket.on('data', (data) => { text += data; });
    socket.on('end', () => { console.log(text.split('\\r\\n').pop()); process.exit(0); });
    socket.on('error', (error) => { console.log(JSON.stringify({ error: error.code, text })); process.exit(0); });
    const connection = upgrade ? 'Connection: Upgrade\\r\\nUpgrade: websocket\\r\\n' +
      'Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' : 'Connection: close';
    socket.write('GET / HTTP/1.1\\r\\nHost: shop.example\\r\\n' + connection + '\\r\\n' + fields + '\\r\\n');
";

const NGINX: &str = "
    pid /run/test-nginx.pid; error_log /dev/null;
    events {}
    http {
      access_log off;
      map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
      upstream app { server 127.0.0.1:8080; keepalive 4; }
      server {
        listen 203.0.113.1:9000; listen [2001:db8::1]:9000; listen 127.0.0.1:9000;
        location / {
          proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Host $http_host;
          proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
          proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
          proxy_set_header Forwarded ''; proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-Host $http_host;
        }
      }
    }";

/// Over nginx (mode http), and with the PROXY protocol in both versions, to plain HTTP and to TLS.
const HAPROXY: &str = "
defaults
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen before_nginx
  mode http
  option forwardfor
  bind 203.0.113.1:9001
  server nginx 127.0.0.1:9000
listen one
  mode tcp
  bind 203.0.113.1:9002
  bind 2001:db8::1:9002
  server app 127.0.0.1:8081 send-proxy
listen two
  mode tcp
  bind 203.0.113.1:9003
  bind 2001:db8::1:9003
  server app 127.0.0.1:8081 send-proxy-v2
listen secure
  mode tcp
  bind 203.0.113.1:9004
  server app 127.0.0.1:444 send-proxy-v2
listen checked
  mode tcp
  bind 203.0.113.1:9005
  server app 127.0.0.1:8081 send-proxy-v2 check-send-proxy check inter 100ms
";

struct Machine(Boxed);

impl Machine {
    /// What the app sees of one request.
    fn ask(&self, family: usize, port: u16, secure: bool, fields: &str, upgrade: bool) -> Value {
        let (from, to) = (CLIENT[family], SERVER[family]);
        let case =
            json!({ "from": from, "to": to, "port": port, "secure": secure, "fields": fields, "upgrade": upgrade });
        let output = self.0.command("node").args(["/srv/driver.js", &case.to_string()]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let seen = serde_json::from_str(text.lines().last().unwrap_or_default());
        seen.unwrap_or_else(|error| panic!("{case}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn boot() -> Option<Machine> {
    let made = make(&["shop.example"], "ec", 30)?;
    let tls = "tls = { cert = \"/etc/ssl/app.pem\", key = \"/etc/ssl/app.key\" }";
    let text = format!(
        "exec = [\"node\", \"/srv/app.js\"]\nworkers = 2\nlisten = [\"8080\", {{ address = \"443\", {tls} }}, \
         {{ address = \"8081\", proxy_protocol = true }}, {{ address = \"444\", proxy_protocol = true, {tls} }}]\n"
    );
    let machine = Options::default()
        .file("/etc/appctl/app.toml", &text)
        .file("/etc/ssl/app.pem", &made.cert)
        .file("/etc/ssl/app.key", &made.key)
        .file("/srv/app.js", SCRIPT)
        .file("/srv/driver.js", DRIVER)
        .file("/etc/test-nginx.conf", NGINX)
        .file("/etc/test-haproxy.cfg", HAPROXY)
        .boot()?;
    for address in CLIENT.iter().chain(&SERVER) {
        let width = if address.contains(':') { "128 nodad" } else { "32" };
        machine.ok(&format!("ip address add {address}/{width} dev lo"));
    }
    machine.ok("appctl start app");
    Some(Machine(machine))
}

#[test]
fn an_app_sees_the_clients_address_on_every_way() {
    let Some(machine) = boot() else { return };
    if !machine.0.shell("command -v nginx && command -v haproxy").status.success() {
        crate::boxed::skipped("nginx or haproxy is not installed");
        return;
    }
    machine.0.ok("systemd-run -q --unit=proxy-one nginx -c /etc/test-nginx.conf -g 'daemon off;'");
    machine.0.ok("systemd-run -q --unit=proxy-two haproxy -db -f /etc/test-haproxy.cfg");
    for port in [9000, 9005] {
        let line = format!("ss -Hltn sport = :{port} | grep -q .");
        machine.0.until("the proxies", || machine.0.shell(&line).status.success().then_some(()));
    }
    let (own, mapped) = ("127.0.0.1", "::ffff:203.0.113.9");
    // Port, TLS, families, and what the socket says of the plain request and of the upgrade; `-`: the client itself; `?`:
    // this machine or nginx, as it takes a new connection for the upgrade or one that it has.
    for (way, port, secure, families, socket, upgraded) in [
        ("directly", 8080, false, 2, "-", "-"),
        ("by TLS", 443, true, 2, own, own),
        ("behind nginx", 9000, false, 2, own, "?"),
        ("behind HAProxy and nginx", 9001, false, 1, own, "?"),
        ("PROXY protocol 1", 9002, false, 2, own, own),
        ("PROXY protocol 2", 9003, false, 2, own, own),
        ("PROXY protocol 2 and TLS", 9004, true, 1, own, own),
        ("with health checks", 9005, false, 1, own, own),
    ] {
        for (family, client) in CLIENT.into_iter().enumerate().take(families) {
            for (fields, upgrade) in [("", false), (FORGED, false), ("", true), (FORGED, true)] {
                let seen = machine.ask(family, port, secure, fields, upgrade);
                let case = format!("{way}, {}, {fields:?}, upgrade {upgrade}: {seen}", client);
                println!("{case}");
                assert_eq!(seen["client"], client, "{case}");
                assert_eq!(seen["proto"], if secure { "https" } else { "http" }, "{case}");
                let direct = if family == 0 { mapped } else { client };
                let socket = if upgrade { upgraded } else { socket };
                if socket != "?" {
                    assert_eq!(seen["socket"], if socket == "-" { direct } else { socket }, "{case}");
                }
                // What is forged reaches the app only where the connection is the client's own, or as a proxy let it pass.
                if socket == own && way != "behind nginx" && way != "behind HAProxy and nginx" {
                    assert_eq!(seen["for"], client, "{case}");
                    assert_eq!((&seen["real"], &seen["forwarded"]), (&Value::Null, &Value::Null), "{case}");
                    assert_eq!(seen["host"], "shop.example", "{case}");
                }
            }
        }
    }
}

/// Who is no trusted proxy cannot say whose connection it is; with `shared = "always"` not even in headers.
#[test]
fn strangers_are_not_believed() {
    let Some(machine) = boot() else { return };
    let header = "PROXY TCP4 198.51.100.6 203.0.113.1 1 2";
    // The same line from a stranger and from this machine.
    let ask = |from: &str, to: &str| {
        let script = "const s = require('net').connect({ host: process.argv[2], port: 8081, localAddress: process.argv[1] });
                      s.on('data', (d) => process.stdout.write(d)); s.on('error', () => {});
                      s.write(process.argv[3] + '\\r\\nGET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n');";
        let output = machine.0.command("node").args(["-e", script, from, to, header]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let stranger = ask(CLIENT[0], SERVER[0]);
    assert!(stranger.starts_with("HTTP/1.1 400 ") && stranger.contains("trusted proxies only"), "{stranger}");
    let trusted = ask("127.0.0.1", "127.0.0.1");
    assert!(trusted.starts_with("HTTP/1.1 200 ") && trusted.contains("\"client\":\"198.51.100.6\""), "{trusted}");

    // A direct connection is handed over as it is: an app that believes this machine alone is not deceived.
    let seen = machine.ask(0, 8080, false, FORGED, false);
    assert_eq!((&seen["client"], &seen["for"]), (&json!(CLIENT[0]), &json!("198.51.100.6, 127.0.0.1")), "{seen}");

    let file = std::fs::read_to_string(machine.0.path("/etc/appctl/app.toml")).unwrap();
    machine.0.write("/etc/appctl/app.toml", &format!("{file}[router]\nshared = \"always\"\n"));
    machine.0.ok("appctl restart app");
    for upgrade in [false, true] {
        for fields in [FORGED, "X-Real-IP: 198.51.100.6\r\n", "X-Forwarded-Proto: https\r\n"] {
            let seen = machine.ask(0, 8080, false, fields, upgrade);
            assert_eq!((&seen["client"], &seen["for"]), (&json!(CLIENT[0]), &json!(CLIENT[0])), "{fields}: {seen}");
            assert_eq!(
                (&seen["real"], &seen["forwarded"], &seen["proto"]),
                (&Value::Null, &Value::Null, &json!("http"))
            );
        }
    }
}
