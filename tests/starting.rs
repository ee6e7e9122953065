//! When a worker counts as ready, and what becomes of connections while none is.

use crate::patient;
use crate::support::{Cluster, POLLING, Response, read_response, signal};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Listens when it gets SIGUSR2.
const LATE: &str = "
    let said = 'no';
    const server = require('http').createServer((q, r) => r.end('served, ready: ' + said));
    process.on('SIGUSR2', () => server.listen(1));
    console.log('pid', process.pid);
";

fn pid(line: &str) -> i32 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn ask(cluster: &Cluster) -> TcpStream {
    let mut client = cluster.connect();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    client
}

fn assert_unavailable(answer: &Response) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.head.contains("Retry-After: "), "{answer:?}");
}

/// Nothing comes for a while.
fn assert_waiting(client: &mut TcpStream) {
    let before = client.read_timeout().unwrap();
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = patient::read(&*client, &mut [0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    client.set_read_timeout(before).unwrap();
}

#[test]
fn connections_wait_while_the_app_starts() {
    let mut cluster = Cluster::script(LATE, 1, "");
    let line = cluster.until("pid");
    let mut clients: Vec<_> = (0..50).map(|_| ask(&cluster)).collect();
    assert_waiting(&mut clients[0]);
    signal(pid(&line), "USR2");
    for client in &mut clients {
        assert_eq!(read_response(client).status, 200);
    }
}

#[test]
fn those_over_the_limit_are_told_to_come_again() {
    let mut cluster = Cluster::script(LATE, 1, "[router]\nwaiting_limit = 5");
    let line = cluster.until("pid");
    let mut clients: Vec<_> = (0..8).map(|_| ask(&cluster)).collect();
    // Accepted in order: the last three find no place.
    let mut waiting = clients.drain(..5).collect::<Vec<_>>();
    for client in &mut clients {
        assert_unavailable(&read_response(client));
    }
    signal(pid(&line), "USR2");
    for client in &mut waiting {
        assert_eq!(read_response(client).status, 200);
    }
}

#[test]
fn no_worker_within_the_wait_is_503() {
    let mut cluster = Cluster::script("process.exit(1)", 1, "[router]\nwait_timeout = \"300ms\"");
    cluster.until("ended: exit status 1");
    assert_unavailable(&read_response(&mut ask(&cluster)));
}

/// The only worker has closed its channel and will not be replaced while it lives.
#[test]
fn no_worker_that_could_come_is_503() {
    let mut cluster = Cluster::script_by(
        &["sh", "-c", "exec 3>&-; exec sleep 1000"],
        &[crate::support::free_address().to_string()],
        "",
        1,
        "[router]\nwait_timeout = \"300ms\"\n[restart]\npolicy = \"no\"",
    );
    cluster.until("has closed its channel");
    assert_unavailable(&read_response(&mut ask(&cluster)));
}

#[test]
fn ready_by_message_only() {
    let mut cluster = Cluster::script(
        &format!(
            "{LATE}
             server.listen(1, () => console.log('listening'));
             process.removeAllListeners('SIGUSR2');
             process.on('SIGUSR2', () => {{ said = 'yes'; process.send('ready'); }});"
        ),
        1,
        "[ready]\non = \"message\"\ngrace = \"50ms\"",
    );
    let line = cluster.until("pid");
    cluster.until("listening");
    let mut client = ask(&cluster);
    assert_waiting(&mut client);
    signal(pid(&line), "USR2");
    assert_eq!(read_response(&mut client).text(), "served, ready: yes");
}

#[test]
fn ready_by_listening_only() {
    let mut cluster =
        Cluster::script(&format!("{LATE} process.send('ready');"), 1, "[ready]\non = \"listening\"\ngrace = \"50ms\"");
    let line = cluster.until("pid");
    let mut client = ask(&cluster);
    assert_waiting(&mut client);
    signal(pid(&line), "USR2");
    assert_eq!(read_response(&mut client).status, 200);
}

/// A sticky worker without an adapter gives no sign of its own.
#[test]
fn a_silent_worker_is_ready_after_the_grace_time() {
    let app = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/chat/node_modules");
    if !app.exists() {
        return crate::support::skip("no packages in tests/apps/chat: run npm ci there");
    }
    let cluster = Cluster::script(
        "const server = require('http').createServer();
         const io = new (require('socket.io').Server)(server);
         require('@socket.io/sticky').setupWorker(io);",
        2,
        &format!("[ready]\ngrace = \"300ms\"\n[environment]\nNODE_PATH = {app:?}"),
    )
    .until_ready(2);
    for _ in 0..10 {
        let sid = cluster.session();
        assert_eq!(cluster.send(&sid, "42[\"x\"]"), 200);
    }
    assert_eq!(cluster.get(&format!("{POLLING}&sid=unknown")).status, 400);
}
