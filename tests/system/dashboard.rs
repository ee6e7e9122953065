//! `appctl dashboard`, and a real browser in front of it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

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
    let wrong = "a".repeat(32);
    for stranger in [root.to_owned(), format!("{root}events"), format!("'{root}?token={wrong}'")] {
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

/// Steps of `browser.js` on the page, and what they gave; `None`: there is no browser here.
fn browse(machine: &Boxed, url: &str, steps: &[&str]) -> Option<Vec<Value>> {
    if !machine.shell("command -v chromium").status.success() {
        skipped("no chromium; tests/run installs it");
        return None;
    }
    let gave = machine.drive("browser.js", &[&[url], steps].concat());
    Some(gave.as_array().unwrap().clone())
}

/// It says what @pm2/io would.
const SHOWING: &str = "require('http').createServer((q, r) => r.end('fine')).listen(3000);
    const data = { Users: { value: 7, unit: 'users' }, Heap: { value: '9.5', unit: 'MiB', type: 'internal/v8' } };
    data['<img src=x onerror=alert(1)>'] = { value: '<b>' };
    setInterval(() => process.send({ type: 'axm:monitor', data }), 500);";

#[test]
fn a_browser_shows_what_an_app_shows_of_itself() {
    let Some(machine) = boot(1) else { return };
    machine.write("/srv/fine.js", SHOWING);
    machine.ok("appctl restart app");
    let (_dashboard, url) = Dashboard::start(&machine);
    let list = "[...document.querySelectorAll('#metrics div')].map((it) => it.textContent).join('|')";
    let steps = [
        "until=document.querySelector('#rows tr') !== null",
        "give=document.getElementById('shown').hidden",
        "give=document.querySelector('#rows tr').focus()",
        "press=ArrowDown",
        "until=!document.getElementById('shown').hidden",
        &format!("give={list}"),
        "size=360x740",
        "give=document.documentElement.scrollWidth <= innerWidth",
    ];
    let Some(gave) = browse(&machine, &url, &steps) else { return };
    let wanted =
        serde_json::json!([true, true, null, true, "<img src=x onerror=alert(1)><b>|Users7 users|Heap9.5 MiB", true,]);
    assert_eq!(Value::Array(gave), wanted);
}

const ROWS: &str = "document.querySelectorAll('#rows tr').length";
const CHOSEN: &str = "document.querySelector('tr[aria-selected=true]').dataset.key";

#[test]
fn a_browser_shows_forty_workers() {
    let Some(machine) = boot(40) else { return };
    let (_dashboard, url) = Dashboard::start(&machine);
    machine.ok("curl -s 127.0.0.1:8080/seen >/dev/null");
    let until_rows = format!("until={ROWS} === 41 && document.querySelectorAll('#rows .good').length === 41");
    let steps = [
        &*until_rows,
        "picture=/run/wide.png",
        "give=document.getElementById('sum').textContent",
        // Nothing is wider than the window.
        "give=document.documentElement.scrollWidth <= innerWidth",
        "give=location.href",
        // By keys alone.
        "give=document.querySelector('#rows tr').focus()",
        "press=ArrowDown",
        "press=ArrowDown",
        &format!("give={CHOSEN}"),
        &format!("give=document.activeElement.dataset.key === {CHOSEN}"),
        "press=Home",
        "until=document.getElementById('log').textContent.includes('is ready')",
        "until=document.querySelectorAll('#graphs svg polyline').length === 4",
        // As seconds go by.
        "until=document.querySelector('#graphs polyline').getAttribute('points').split(' ').length > 2",
        "dark",
        "give=getComputedStyle(document.body).backgroundColor",
        "picture=/run/dark.png",
        "size=360x740",
        "give=document.documentElement.scrollWidth <= innerWidth",
        "picture=/run/phone.png",
        "give=document.getElementById('trouble').hidden",
    ];
    let Some(gave) = browse(&machine, &url, &steps) else { return };
    let wanted = serde_json::json!([
        true,
        "1 app, 40 workers, 0 sessions",
        true,
        url.split('?').next().unwrap(),
        null,
        "system app@2.service",
        true,
        true,
        true,
        true,
        "rgb(20, 23, 27)",
        true,
        true,
    ]);
    assert_eq!(Value::Array(gave), wanted);
    for picture in ["wide", "dark", "phone"] {
        let bytes = std::fs::read(machine.path(&format!("/run/{picture}.png"))).unwrap();
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 10_000, "{picture}: {} bytes", bytes.len());
        if let Some(directory) = std::env::var_os("PICTURES") {
            std::fs::write(std::path::Path::new(&directory).join(format!("{picture}.png")), bytes).unwrap();
        }
    }
}
