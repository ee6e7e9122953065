//! What Node's own primary would do for a cluster worker, done by the router: servers of every kind, their end, and the
//! worker's end.

use crate::support::{Cluster, free_address, read_response, signal};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

/// Answers with its process id.
const PID: &str = "
    const http = require('http'), cluster = require('cluster');
    console.log('pid', process.pid, 'index', process.env.NODE_APP_INSTANCE);
    const server = http.createServer((q, r) => r.end(String(process.pid)));
";

fn get_at(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    read_response(&mut stream).text()
}

/// The pid that the worker with this index has printed.
fn pid_of(cluster: &mut Cluster, index: usize) -> i32 {
    let ending = format!("index {index}");
    // Its line comes another way than the router's word that it is ready.
    let printed = cluster.output.iter().find(|line| line.ends_with(&ending)).cloned();
    let line = printed.unwrap_or_else(|| cluster.until(&ending));
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[test]
fn each_port_reaches_its_own_server() {
    let ports = [free_address(), free_address(), free_address()];
    let script = "
        const http = require('http');
        for (const port of process.env.PORTS.split(' '))
          http.createServer((q, r) => r.end(port)).listen(Number(port));
        // Of no public address: nobody gets here.
        http.createServer((q, r) => r.end('none')).listen(1);
    ";
    let list = ports.map(|address| address.port().to_string()).join(" ");
    let more = format!("[environment]\nPORTS = \"{list}\"");
    let _cluster =
        Cluster::script_by(&["node"], &ports.map(|address| address.to_string()), script, 2, &more).until_ready(2);
    for _ in 0..10 {
        for address in ports {
            assert_eq!(get_at(address, "/"), address.port().to_string());
        }
    }
}

/// One worker has closed the server of one port: this port's connections go to the other worker, and never to another
/// server.
#[test]
fn a_closed_port_is_served_by_the_workers_that_still_have_it() {
    let ports = [free_address(), free_address()];
    let script = "
        const http = require('http');
        const [a, b] = process.env.PORTS.split(' ').map(Number);
        const me = process.env.NODE_APP_INSTANCE;
        const first = http.createServer((q, r) => r.end('first ' + me)).listen(a);
        http.createServer((q, r) => {
          if (q.url === '/close') first.close(() => r.end('closed ' + me));
          else r.end('second ' + me);
        }).listen(b);
    ";
    let more = format!("[environment]\nPORTS = \"{} {}\"", ports[0].port(), ports[1].port());
    let _cluster =
        Cluster::script_by(&["node"], &ports.map(|address| address.to_string()), script, 2, &more).until_ready(2);
    let closed = get_at(ports[1], "/close");
    let other = if closed == "closed 0" { "first 1" } else { "first 0" };
    for _ in 0..20 {
        assert_eq!(get_at(ports[0], "/"), other);
    }
    let second: BTreeSet<_> = (0..20).map(|_| get_at(ports[1], "/")).collect();
    assert_eq!(second.into_iter().collect::<Vec<_>>(), ["second 0", "second 1"]);
}

#[test]
fn what_a_server_believes_to_listen_on() {
    let address = free_address();
    let port = address.port();
    for (listen, believed) in [
        (format!("{port}"), format!("\"address\":\"::\",\"family\":\"IPv6\",\"port\":{port}")),
        ("3000".into(), "\"address\":\"::\",\"family\":\"IPv6\",\"port\":3000".into()),
        ("0".into(), format!("\"address\":\"::\",\"family\":\"IPv6\",\"port\":{port}")),
        ("3000, '127.0.0.1'".into(), "\"address\":\"127.0.0.1\",\"family\":\"IPv4\",\"port\":3000".into()),
        (
            "{host: '::1', port: 3000, ipv6Only: true}".into(),
            "\"address\":\"::1\",\"family\":\"IPv6\",\"port\":3000".into(),
        ),
        ("'/somewhere/else.sock'".into(), "\"/somewhere/else.sock\"".into()),
    ] {
        let script = format!(
            "const server = require('http').createServer((q, r) => r.end(JSON.stringify(server.address())));
             server.listen({listen});"
        );
        let cluster = Cluster::script_by(&["node"], &[address.to_string()], &script, 2, "").until_ready(2);
        for _ in 0..4 {
            let answer = cluster.get("/").text();
            assert_eq!(answer.trim_matches(['{', '}']), believed, "listen({listen})");
        }
    }
}

#[test]
fn public_at_a_path_and_at_ipv6() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("public.sock");
    let six = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], free_address().port()));
    let mut listen = vec![path.to_str().unwrap().to_owned()];
    if std::net::TcpListener::bind(six).is_ok() {
        listen.push(six.to_string());
    }
    let cluster = Cluster::script_by(&["node"], &listen, &format!("{PID} server.listen(1);"), 2, "").until_ready(2);
    for _ in 0..10 {
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut client, &mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    if listen.len() > 1 {
        for _ in 0..10 {
            assert!(get_at(six, "/").parse::<i32>().is_ok());
        }
    }
    drop(cluster);
}

#[test]
fn what_cannot_be_shared_is_an_error_that_names_it() {
    let mut cluster = Cluster::script(
        "const dgram = require('dgram'), http = require('http'), net = require('net');
         dgram.createSocket('udp4').on('error', (e) => console.log('udp:', e.code)).bind(5353);
         net.createServer().on('error', (e) => console.log('fd:', e.code)).listen({ fd: 99 });
         // Its own affair, as with Node's primary.
         dgram.createSocket('udp4').bind({ port: 0, exclusive: true }, () => console.log('udp: exclusive'));
         http.createServer((q, r) => r.end('served')).listen(1);",
        1,
        "",
    );
    cluster.until("is ready");
    assert_eq!(cluster.get("/").text(), "served");
    cluster.stop();
    let output = cluster.output.join("\n");
    for text in ["udp: ENOTSUP", "fd: EBADF", "udp: exclusive", "UDP 0.0.0.0:5353", "descriptor 99"] {
        assert!(output.contains(text), "{text:?} is not in:\n{output}");
    }
}

#[test]
fn a_worker_that_closes_its_server_gets_nothing_until_it_listens_again() {
    let mut cluster = Cluster::script(
        &format!(
            "{PID}
             let open = true;
             process.on('SIGUSR2', () => {{
               if (open) server.close(() => console.log('closed', process.pid));
               else server.listen(3000, () => console.log('open', process.pid));
               open = !open;
             }});
             server.listen(3000);"
        ),
        2,
        "",
    )
    .until_ready(2);
    let pids = [pid_of(&mut cluster, 0), pid_of(&mut cluster, 1)];
    signal(pids[0], "USR2");
    cluster.until("closed");
    for _ in 0..10 {
        assert_eq!(cluster.get("/").text(), pids[1].to_string());
    }
    signal(pids[1], "USR2");
    cluster.until("closed");
    // Nobody listens: it waits.
    let mut client = cluster.connect();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    signal(pids[0], "USR2");
    cluster.until("open");
    assert_eq!(read_response(&mut client).text(), pids[0].to_string());
    signal(pids[1], "USR2");
    cluster.until("open");
    let answers: BTreeSet<_> = (0..10).map(|_| cluster.get("/").text()).collect();
    assert_eq!(answers, pids.map(|pid| pid.to_string()).into_iter().collect());
}

/// Each way in which a worker may leave of its own will: it gets what it waits for, its process ends well, nobody notices.
#[test]
fn workers_that_leave() {
    let mut cluster = Cluster::script(
        "const http = require('http'), cluster = require('cluster');
         const server = http.createServer((q, r) => {
           if (q.url === '/') return r.end(String(process.pid));
           r.end(String(process.pid));
           process.on('exit', (code) => {
             const { exitedAfterDisconnect: voluntary } = cluster.worker;
             console.log('left', q.url, code, !!voluntary);
           });
           r.on('close', () => {
             if (q.url === '/disconnect') cluster.worker.disconnect();
             if (q.url === '/kill') cluster.worker.kill();
             if (q.url === '/process') process.disconnect();
           });
         }).listen(3000);",
        2,
        "",
    )
    .until_ready(2);
    for (target, line) in [
        ("/disconnect", "left /disconnect 0 true"),
        ("/kill", "left /kill 0 true"),
        ("/process", "left /process 0 false"),
    ] {
        let gone = cluster.get(target).text();
        cluster.until_all(&[line, &format!("(pid {gone}) ended: exit status 0"), "is ready"]);
        for _ in 0..10 {
            assert_ne!(cluster.get("/").text(), gone, "{target}");
        }
    }
}

/// Node holds back all that a worker says after a handle until it is acknowledged.
#[test]
fn a_handle_from_a_worker_is_acknowledged() {
    let mut cluster = Cluster::script(
        "const net = require('net');
         const own = net.createServer().listen({ port: 0, exclusive: true }, () => {
           const client = net.connect(own.address().port, () => {
             for (let i = 0; i < 3; i++) process.send({ x: i }, client, { keepOpen: true });
             process.send('ready');
           });
         });
         require('http').createServer((q, r) => r.end('served')).listen(1);",
        2,
        "[ready]\non = \"message\"",
    )
    .until_ready(2);
    assert_eq!(cluster.get("/").text(), "served");
    cluster.stop();
}

/// Holds every connection open, having said something.
const HOLD: &str = "require('http').createServer((q, r) => { r.write('held'); })";

/// A connection that a worker has and keeps; `None`: not within `wait`.
fn held(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"held\r\n") {
        let mut piece = [0; 1024];
        let count = std::io::Read::read(stream, &mut piece).unwrap();
        assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&piece[..count]);
    }
}

fn hold(cluster: &Cluster) -> TcpStream {
    let mut stream = cluster.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream
}

#[test]
fn a_refused_connection_is_offered_to_another_worker() {
    let cluster = Cluster::script(
        &format!(
            "const server = {HOLD};
             server.maxConnections = process.env.NODE_APP_INSTANCE === '0' ? 1 : 20;
             server.listen(1);"
        ),
        2,
        "",
    )
    .until_ready(2);
    let mut clients: Vec<_> = (0..21).map(|_| hold(&cluster)).collect();
    clients.iter_mut().for_each(held);
    // Every worker is full: it waits for a place.
    let mut late = hold(&cluster);
    drop(clients.pop());
    held(&mut late);
}

/// A worker without free descriptors answers NODE_HANDLE_NACK.
#[test]
fn a_worker_out_of_descriptors_loses_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("hold.js");
    std::fs::write(&script, format!("{HOLD}.listen(1);")).unwrap();
    let shell = format!("[ $NODE_APP_INSTANCE = 0 ] && ulimit -n 50; exec node {}; :", script.display());
    let cluster = Cluster::script_by(&["sh", "-c", &shell], &[free_address().to_string()], "", 2, "").until_ready(2);
    let mut clients: Vec<_> = (0..100).map(|_| hold(&cluster)).collect();
    clients.iter_mut().for_each(held);
}
