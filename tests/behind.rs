//! Behind real reverse proxies, which share their connections to the app among all their clients.

use crate::kept::Kept;
use crate::support::{Cluster, PATIENCE, POLLING, free_address, skip};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A reverse proxy before a cluster; ended when dropped.
pub(crate) struct Front {
    child: Child,
    pub(crate) address: SocketAddr,
    _files: tempfile::TempDir,
}

/// A shipped text with other words in it; each must be there.
#[track_caller]
pub(crate) fn changed(shipped: &str, changes: &[(&str, &str)]) -> String {
    let mut text = shipped.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "no {from:?} in:\n{text}");
        text = text.replace(from, to);
    }
    text
}

impl Front {
    /// nginx, by the shipped file. `kept`: how many connections to the app it keeps; 0: it closes each after one request, as
    /// it does by default.
    pub(crate) fn nginx(app: impl std::fmt::Display, kept: usize) -> Option<Self> {
        let (keep, otherwise) = if kept > 0 { (format!("keepalive {kept};"), "''") } else { (String::new(), "close") };
        Self::start("nginx", |address, directory| {
            let site = changed(
                include_str!("../packaging/snippets/nginx.conf"),
                &[
                    ("    listen [::]:80;\n", ""),
                    ("listen 80;", &format!("listen {address};")),
                    ("server 127.0.0.1:8080;", &format!("server {app};")),
                    ("    keepalive 32;\n", &keep),
                    ("''      ''", &format!("'' {otherwise}")),
                ],
            );
            let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|name| format!("{name}_temp_path {}/{name};\n", directory.display()));
            format!(
                "daemon off; master_process off; worker_processes 1; pid {}/pid; error_log stderr;
                 events {{ worker_connections 2000; }}
                 http {{ access_log off; {} {site} }}",
                directory.display(),
                paths.concat(),
            )
        })
    }

    /// HAProxy, by the shipped file.
    fn haproxy(app: SocketAddr) -> Option<Self> {
        Self::start("haproxy", |address, _| {
            let (bind, server) = (format!("bind {address}"), format!("server app {app}"));
            let shipped = include_str!("../packaging/snippets/haproxy.cfg");
            let text = changed(shipped, &[("bind :::80 v4v6", &bind), ("server app 127.0.0.1:8080", &server)]);
            format!("global\n  maxconn 2000\n{text}")
        })
    }

    /// Caddy, by the shipped file.
    fn caddy(app: SocketAddr) -> Option<Self> {
        Self::start("caddy", |address, directory| {
            let (site, server) = (format!("http://{address} {{"), app.to_string());
            let shipped = include_str!("../packaging/snippets/Caddyfile");
            let text = changed(shipped, &[("app.example {", &site), ("127.0.0.1:8080", &server)]);
            format!(
                "{{\n  admin off\n  auto_https off\n  storage file_system {}\n  log {{\n    level ERROR\n  }}\n}}\n{text}",
                directory.display(),
            )
        })
    }

    fn start(program: &str, text: impl Fn(SocketAddr, &Path) -> String) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let (address, file) = (free_address(), files.path().join("configuration"));
        std::fs::write(&file, text(address, files.path())).unwrap();
        let mut command = Command::new(program);
        match program {
            "nginx" => command.arg("-e").arg("stderr").arg("-p").arg(files.path()).arg("-c").arg(&file),
            "caddy" => command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(&file)
                .envs(["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| (name, files.path()))),
            _ => command.arg("-db").arg("-q").arg("-f").arg(&file),
        };
        // Debian has them where only root looks.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let errors = files.path().join("errors");
        command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null());
        let Ok(mut child) = command.stderr(std::fs::File::create(&errors).unwrap()).spawn() else {
            skip(&format!("{program} is not installed"));
            return None;
        };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            let waiting = Instant::now() < until && child.try_wait().unwrap().is_none();
            assert!(waiting, "{program} does not start: {}", std::fs::read_to_string(&errors).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Some(Self { child, address, _files: files })
    }

    pub(crate) fn client(&self) -> Kept {
        Kept::over(TcpStream::connect(self.address).unwrap())
    }

    /// What the driver of sessions saw.
    fn sessions(&self, flags: &[&str]) -> Value {
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/clients/sessions.js");
        let url = format!("http://{}", self.address);
        let output = Command::new("node").arg(driver).arg(url).args(["--each", "40"]).args(flags).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let last = String::from_utf8(output.stdout).unwrap().lines().last().unwrap().to_owned();
        serde_json::from_str(&last).unwrap()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The apps: with sticky of today, with the one before, and with none at all.
const APPS: [(&str, &str); 4] = [
    ("chat/worker.js", "PAIR = \"new\""),
    ("chat/worker.js", "PAIR = \"old\""),
    ("chat/listen.js", "ADAPTER = \"yes\""),
    ("chat/listen.js", ""),
];

/// 40 sessions of each transport; with `talk` all of them are heard by all.
fn all_sessions(talk: bool, front: impl Fn(SocketAddr) -> Option<Front>) {
    for (script, environment) in APPS {
        let Some(cluster) = Cluster::start(script, 3, &format!("[environment]\n{environment}")) else { return };
        let Some(front) = front(cluster.address) else { return };
        // Without an adapter nobody hears the other workers' clients.
        let alone = environment.is_empty() || !talk;
        let seen = front.sessions(if alone { &["--connect-only"] } else { &[] });
        let case = format!("{script} {environment}: {seen}");
        println!("{case}");
        for kind in ["polling", "websocket", "upgrade"] {
            assert_eq!(seen["connected"][kind], 40, "{case}");
        }
        assert_eq!((&seen["upgraded"], &seen["disconnects"]), (&40.into(), &0.into()), "{case}");
        assert_eq!(seen["errors"].as_array().map(Vec::len), Some(0), "{case}");
        if !alone {
            assert_eq!(seen["workers"].as_object().map(serde_json::Map::len), Some(3), "{case}");
            for wrong in ["missing", "duplicates", "corrupted"] {
                assert_eq!(seen[wrong], 0, "{case}");
            }
        }
    }
}

#[test]
fn behind_nginx_that_keeps_its_connections() {
    all_sessions(true, |app| Front::nginx(app, 16));
}

#[test]
fn behind_nginx_that_closes_its_connections() {
    all_sessions(false, |app| Front::nginx(app, 0));
}

#[test]
fn behind_haproxy() {
    all_sessions(false, Front::haproxy);
}

#[test]
fn behind_caddy() {
    all_sessions(false, Front::caddy);
}

/// Two tabs of one browser, whose sessions are different workers', over the one connection that nginx keeps.
#[test]
fn two_tabs_and_one_kept_connection() {
    for (script, environment) in [APPS[1], APPS[3]] {
        let Some(cluster) = Cluster::start(script, 2, &format!("[environment]\n{environment}")) else { return };
        let Some(front) = Front::nginx(cluster.address, 1) else { return };
        let mut workers = BTreeSet::new();
        for visit in 0..100 {
            let mut tabs = [front.client(), front.client()];
            let sids = tabs.each_mut().map(|tab| {
                let opened = tab.get(POLLING);
                let packet: Value = serde_json::from_str(opened.text().trim_start_matches('0'))
                    .unwrap_or_else(|_| panic!("{opened:?}"));
                packet["sid"].as_str().unwrap().to_owned()
            });
            for _ in 0..2 {
                for (tab, sid) in tabs.iter_mut().zip(&sids) {
                    let who = tab.get(&format!("/who?sid={sid}"));
                    workers.insert(who.json()["index"].to_string());
                }
            }
            for (tab, sid) in tabs.iter_mut().zip(&sids) {
                tab.send(format!("POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n40"));
                let said = tab.answer("POST");
                assert_eq!((said.status, said.text().as_str()), (200, "ok"), "visit {visit}");
            }
            for (tab, sid) in tabs.iter_mut().zip(&sids) {
                let polled = tab.get(&format!("{POLLING}&sid={sid}"));
                assert!(polled.status == 200 && polled.text().starts_with("40{\"sid\""), "visit {visit}: {polled:?}");
            }
        }
        assert_eq!(workers.len(), 2);
    }
}

/// The address that an app sees is the client's, whatever the client says.
#[test]
fn the_clients_address_is_what_the_proxy_says() {
    let script = "require('http').createServer((q, r) => r.end(JSON.stringify(
                    [q.socket.remoteAddress, q.headers['x-forwarded-for'], q.headers['x-forwarded-proto'], q.headers.host]))).listen(3000);";
    let cluster = Cluster::script(script, 2, "").until_ready(2);
    for front in [Front::nginx(cluster.address, 4), Front::haproxy(cluster.address), Front::caddy(cluster.address)] {
        let Some(front) = front else { continue };
        let mut client = front.client();
        // Caddy serves the names alone that its file has.
        let host = front.address.to_string();
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let seen = client.answer("GET").json();
        assert_eq!(seen, serde_json::json!(["127.0.0.1", "127.0.0.1", "http", host]));
    }
}

/// At a Unix socket there is no address; the router's own connection to the worker has one.
#[test]
fn behind_nginx_at_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let script = "require('http').createServer((q, r) => r.end(q.socket.remoteAddress + ' ' + q.headers['x-forwarded-for'])).listen(1);";
    let _cluster = Cluster::script_by(&["node"], &[path.to_str().unwrap().to_owned()], script, 2, "").until_ready(2);
    let Some(front) = Front::nginx(format!("unix:{}", path.display()), 4) else { return };
    let mut client = front.client();
    for _ in 0..4 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer("GET").text(), "127.0.0.1 127.0.0.1");
    }
}
