//! TLS at a real unit: keys that root alone may read, renewed while connections are held, and broken ones.

use crate::boxed::{Boxed, Options};
use crate::made::{Made, Secure, Settings, make};
use std::os::unix::fs::PermissionsExt;

const FILE: &str = "/etc/appctl/app.toml";
const CERT: &str = "/etc/ssl/app/cert.pem";
const KEY: &str = "/etc/ssl/app/key-100%.pem";

/// Says who it is, and sends back what comes after an upgrade.
const SCRIPT: &str = "
    const http = require('http');
    const server = http.createServer((q, r) => r.end(process.pid + ' ' + q.headers['x-forwarded-proto']));
    server.on('upgrade', (q, socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n');
      socket.on('data', (data) => socket.write(data));
      socket.on('error', () => {});
    });
    server.listen(3000);
";

fn boot() -> Option<Boxed> {
    let tls = format!("{{ address = \"443\", tls = {{ cert = \"{CERT}\", key = \"{KEY}\" }} }}");
    let text = format!(
        "exec = [\"node\", \"/srv/app.js\"]\nworkers = 2\nlisten = [\"8080\", {tls}]\n\
         [reload]\nsettle = \"100ms\"\n"
    );
    Options::default().file(FILE, &text).file("/srv/app.js", SCRIPT).boot()
}

/// As a certificate's own tool leaves them.
fn put(machine: &Boxed, made: &Made) {
    machine.write(CERT, &made.cert);
    machine.write(KEY, &made.key);
    std::fs::set_permissions(machine.path(KEY), std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn connect(machine: &Boxed) -> Secure {
    Settings::new().connect(machine.connect("127.0.0.1:443"), "a.example").unwrap()
}

/// A connection that has switched to another protocol.
fn tunnel(machine: &Boxed) -> Secure {
    let mut held = connect(machine);
    held.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert!(held.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    held
}

fn echo(held: &mut Secure, text: &str) {
    held.send(text);
    assert_eq!(held.until(text), text);
}

#[test]
fn certificates_are_renewed_under_connections_that_stay() {
    let Some(machine) = boot() else { return };
    let made: Option<Vec<Made>> = (0..3).map(|_| make(&["a.example"], "ec", 30)).collect();
    let Some(made) = made else { return };
    put(&machine, &made[0]);
    machine.ok("appctl check app && appctl start app");
    let mut kept = connect(&machine);
    assert_eq!(kept.serial(), made[0].serial);
    assert!(kept.get("/", "").ends_with(" https"));
    assert!(machine.ok("curl -s http://127.0.0.1:8080/").ends_with(" undefined"));

    // New files and nothing else: what is held stays with its worker.
    let mut held = tunnel(&machine);
    put(&machine, &made[1]);
    assert_eq!(connect(&machine).serial(), made[0].serial);
    machine.ok("appctl reload --certificates app");
    assert_eq!(connect(&machine).serial(), made[1].serial);
    echo(&mut held, "still here");

    // A reload replaces the workers as well; a client's connection is the router's.
    let before = kept.get("/", "");
    put(&machine, &made[2]);
    machine.ok("systemctl reload app.service");
    assert_eq!(connect(&machine).serial(), made[2].serial);
    assert_ne!(kept.get("/", ""), before);

    // Broken ones change nothing.
    let mut held = tunnel(&machine);
    let workers = machine.ok("systemctl show -P MainPID app@*.service");
    for (path, text, told) in [
        (CERT, "garbage", "no PEM certificate"),
        (CERT, made[0].cert.as_str(), "its key is not the one in"),
        (KEY, "", "no PEM key"),
    ] {
        put(&machine, &made[2]);
        machine.write(path, text);
        for command in ["appctl reload app", "appctl reload --certificates app"] {
            let output = machine.shell(command);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && error.contains(told), "{command}: {error}");
        }
        assert!(!machine.shell("systemctl reload app.service").status.success());
        let check = machine.shell("appctl check app");
        let text = String::from_utf8_lossy(&check.stdout);
        assert!(!check.status.success() && text.contains(told) && text.contains("app.toml:3:"), "{text}");
    }
    assert_eq!(connect(&machine).serial(), made[2].serial);
    assert_eq!(machine.ok("systemctl show -P MainPID app@*.service"), workers);
    echo(&mut held, "and here");

    // The next router serves what this one has served.
    let router = machine.main_pid("app.service");
    machine.ok("kill -KILL $(systemctl show -P MainPID app.service)");
    machine.until("the next router", || machine.main_pid("app.service").filter(|pid| Some(*pid) != router));
    assert_eq!(connect(&machine).serial(), made[2].serial);
    let told = machine.journal("-u app -p err");
    assert!(told.contains(KEY) && told.contains("the certificate before is served on"), "{told}");

    // No key is to be found anywhere but in its file.
    let secret = made[2].key.lines().nth(1).unwrap();
    for line in
        ["journalctl -q -o export", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ", "systemctl cat app.service"]
    {
        assert!(!machine.ok(&format!("({line}) | tr -d '\\0'")).contains(secret), "{line}");
    }
}

/// A key that is missing does not keep the others from serving.
#[test]
fn a_missing_certificate_closes_its_own_address_alone() {
    let Some(machine) = boot() else { return };
    let Some(made) = make(&["a.example"], "ec", 30) else { return };
    let check = machine.shell("appctl check app");
    assert!(!check.status.success() && String::from_utf8_lossy(&check.stdout).contains("it is not there"));
    machine.ok("appctl start app");
    assert!(machine.ok("curl -s http://127.0.0.1:8080/").ends_with(" undefined"));
    assert!(Settings::new().connect(machine.connect("127.0.0.1:443"), "a.example").is_err());
    let told = machine.journal("-u app -p err");
    assert!(told.contains("cert.pem: it is not there") && told.contains("443 has no certificate"), "{told}");

    put(&machine, &made);
    machine.ok("appctl reload --certificates app");
    assert_eq!(connect(&machine).serial(), made.serial);
    // And from the start, as the router's own user may read neither.
    machine.ok("appctl stop app && appctl start app");
    let mut client = connect(&machine);
    assert!(client.serial() == made.serial && client.get("/", "").ends_with(" https"));
    let user = machine.ok("ps -o uid= -p $(systemctl show -P MainPID app.service)");
    assert_ne!(user.trim(), "0");
    assert_eq!(machine.ok(&format!("stat -c %a '{KEY}'")), "600");
}

/// A user's own router reads the user's own files.
#[test]
fn a_users_own_certificate() {
    let Some(machine) = Options::default().file("/srv/app.js", SCRIPT).boot() else { return };
    let made: Option<Vec<Made>> = (0..2).map(|_| make(&["a.example"], "ec", 30)).collect();
    let Some(made) = made else { return };
    machine.ok("useradd --create-home alice");
    if !machine.shell("systemctl start user@$(id -u alice).service").status.success() {
        crate::boxed::skipped("user@.service does not start in the box; install libpam-systemd and dbus-user-session");
        return;
    }
    let alice = |line: &str| {
        let line = format!(
            "cd /home/alice && runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/$(id -u alice) bash -c '{line}'"
        );
        machine.ok(&line)
    };
    let put = |made: &Made| {
        machine.write("/home/alice/cert.pem", &made.cert);
        machine.write("/home/alice/key.pem", &made.key);
        machine.ok("chown -R alice /home/alice && chmod 600 /home/alice/key.pem");
    };
    let tls = "tls = { cert = \"/home/alice/cert.pem\", key = \"/home/alice/key.pem\" }";
    let text = format!("exec = [\"node\", \"/srv/app.js\"]\nlisten = [{{ address = \"8443\", {tls} }}]\n");
    machine.write("/home/alice/.config/appctl/app.toml", &text);
    put(&made[0]);
    alice("appctl check app && appctl start app");
    let serial = || Settings::new().connect(machine.connect("127.0.0.1:8443"), "a.example").unwrap().serial();
    assert_eq!(serial(), made[0].serial);
    put(&made[1]);
    alice("appctl reload app");
    assert_eq!(serial(), made[1].serial);
    put(&made[0]);
    alice("appctl reload --certificates app");
    assert_eq!(serial(), made[0].serial);
    let status = alice("appctl status app");
    assert!(status.contains("tls: 8443 with /home/alice/cert.pem, expires in 29d"), "{status}");
}

/// Whatever is in a certificate's place, it is told what is wrong with it.
#[test]
fn what_is_no_certificate_file_is_told_by_start() {
    let Some(machine) = boot() else { return };
    let Some(made) = make(&["a.example"], "ec", 30) else { return };
    put(&machine, &made);
    machine.ok("appctl start app");
    let router = machine.main_pid("app.service");
    for (line, told, starts) in [
        ("mkdir CERT", "it is a directory", true),
        ("ln -s /nowhere CERT", "it is a link that leads nowhere", true),
        ("ln -s CERT CERT", "it is a link that leads back to itself", false),
        ("truncate -s 2M CERT", "it is larger than 1 MiB", false),
    ] {
        machine.ok(&format!("rm -rf '{CERT}'; {}", line.replace("CERT", &format!("'{CERT}'"))));
        let check = machine.shell("appctl check app");
        let text = String::from_utf8_lossy(&check.stdout);
        assert!(!check.status.success() && text.contains(told) && text.contains("app.toml:3:"), "{line}: {text}");
        if starts {
            continue;
        }
        // Not even a restart ends what serves.
        for command in ["appctl restart app", "appctl reload app"] {
            let output = machine.shell(command);
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && text.contains(told), "{command}: {text}");
        }
        assert_eq!(machine.main_pid("app.service"), router);
    }
    machine.ok("appctl stop app");
    let start = machine.shell("appctl start app");
    let text = String::from_utf8_lossy(&start.stderr);
    assert!(start.status.code() == Some(1) && text.contains("it is larger than 1 MiB"), "{text}");
    assert!(!text.contains("CREDENTIALS") && !machine.is_active("app.socket"), "{text}");
    machine.ok(&format!("rm '{CERT}' && mkdir '{CERT}' && appctl start app"));
    assert!(machine.ok("curl -s http://127.0.0.1:8080/").ends_with(" undefined"));
}
