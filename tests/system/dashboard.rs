//! `appctl dashboard`, and a real browser in front of it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::boxed::{Boxed, Options, skipped};

const APP: &str =
    "require('http').createServer((q, r) => { console.log('asked for ' + q.url); r.end('fine'); }).listen(3000);";

fn boot(workers: usize) -> Option<Boxed> {
    let file = format!("exec = [\"node\", \"/srv/fine.js\"]\nworkers = {workers}\nlisten = [\"8080\"]\n");
    let machine = Options::default().file("/etc/appctl/app.toml", &file).file("/srv/fine.js", APP).boot()?;
    machine.ok("appctl start app");
    Some(machine)
}

struct Dashboard(Child);

impl Dashboard {
    /// And the address that it prints.
    fn start(machine: &Boxed) -> (Self, String) {
        let mut command = machine.command("appctl");
        let mut child = command.arg("dashboard").stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        (Self(child), url.trim().to_owned())
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Status and body.
fn get(machine: &Boxed, arguments: &str) -> (String, String) {
    let output = machine.shell(&format!("curl -s --max-time 20 -w '\\n%{{http_code}}' {arguments}"));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn it_is_one_operator_s_alone_and_changes_nothing() {
    let Some(machine) = boot(1) else { return };
    let (_dashboard, url) = Dashboard::start(&machine);
    let (root, token) = url.split_once("?token=").unwrap();
    assert!(root.starts_with("http://127.0.0.1:") && token.len() == 32, "{url}");
    for stranger in [root.to_owned(), format!("{root}events"), format!("'{root}?token=0{}'", &token[1..])] {
        assert_eq!(get(&machine, &stranger).0, "403", "{stranger}");
    }
    // A page that somebody's name server leads here.
    assert_eq!(get(&machine, &format!("-H 'Host: evil.example' '{url}'")).0, "421");
    let (status, head) = get(&machine, &format!("-D - -o /dev/null -c /run/jar '{url}'"));
    assert_eq!(status, "303");
    assert!(head.contains("HttpOnly; SameSite=Strict"), "{head}");
    // It is good for one visit.
    assert_eq!(get(&machine, &format!("'{url}'")).0, "403");
    let (status, page) = get(&machine, &format!("-D - -b /run/jar {root}"));
    assert_eq!(status, "200");
    assert!(page.contains("default-src 'none'") && page.contains("<title>appctl</title>"), "{page}");
    assert_eq!(get(&machine, &format!("-X POST -b /run/jar {root}")).0, "405");
    assert_eq!(get(&machine, &format!("-b /run/jar {root}etc/passwd")).0, "404");
    assert_eq!(get(&machine, &format!("-b /run/jar '{root}log?scope=system&unit=ssh.service'")).0, "404");
    let events = machine.shell(&format!("curl -sN -b /run/jar {root}events | grep -m2 ^data:"));
    let text = String::from_utf8(events.stdout).unwrap();
    assert!(text.contains("\"unit\":\"app@1.service\"") && text.lines().count() == 2, "{text}");
    machine.ok("curl -s 127.0.0.1:8080/seen >/dev/null");
    // A stream has no end of its own.
    let log = format!(
        "curl -sN --max-time 3 -b /run/jar '{root}log?scope=system&unit=app@1.service' | grep 'asked for /seen'"
    );
    machine.until("the log has it", || machine.shell(&log).status.success().then_some(()));
}

/// A page as a browser has it after a while; `picture`: where a picture of it goes.
fn browse(machine: &Boxed, url: &str, size: &str, picture: Option<&Path>) -> Option<String> {
    let profile = tempfile::tempdir().unwrap();
    let mut command = machine.neighbour("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args([format!("--user-data-dir={}", profile.path().display()), format!("--window-size={size}")]);
    command.args(["--timeout=6000", "--dump-dom"]);
    if let Some(picture) = picture {
        command.arg(format!("--screenshot={}", picture.display()));
    }
    let output = command.arg(url).stdin(Stdio::null()).output().unwrap();
    let _ = output.status.success();
    println!("{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn zz_browser() {
    let Some(machine) = boot(3) else { return };
    let (_dashboard, url) = Dashboard::start(&machine);
    println!("{}", browse(&machine, &url, "1200,900", Some(Path::new("/tmp/l/dash.png"))).unwrap());
    let _ = skipped;
}
