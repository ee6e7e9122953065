//! Clients and workers that take too long, and clients that are too many: each gets its stated answer, the others are served.

use crate::kept::{Kept, SHARED};
use crate::metrics::Metrics;
use crate::patient;
use crate::support::{Cluster, PATIENCE, free_address, read_to_end};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};
use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Reads bodies or lets them be, answers or does not.
const APP: &str = "
    const server = require('http').createServer((q, r) => {
      q.on('error', () => {});
      q.on('aborted', () => console.log('aborted', q.url));
      r.on('close', () => console.log('over', q.url, r.writableFinished));
      if (q.url === '/never') return q.resume();
      if (q.url === '/early') { q.resume(); r.writeHead(200, { 'Content-Length': 1000 }); r.write('early'); return; }
      if (q.url === '/unread') { setTimeout(() => q.resume().on('end', () => r.end('read at last')), 1500); return; }
      if (q.url === '/drip') {
        let n = 0;
        const drip = setInterval(() => { r.write('drip'); if (++n === 8) { clearInterval(drip); r.end(); } }, 250);
        return;
      }
      if (q.url.startsWith('/big')) {
        const piece = Buffer.alloc(65536, 'b');
        let left = Number(q.url.split('=')[1]) / piece.length;
        const more = () => { while (left-- > 0) if (!r.write(piece)) return r.once('drain', more); r.end(); };
        return more();
      }
      let length = 0;
      q.on('data', (data) => { length += data.length; });
      q.on('end', () => r.end(String(length)));
    });
    server.requestTimeout = 0;
    server.on('upgrade', (q, socket) => {
      socket.on('error', () => {});
      socket.on('data', (data) => socket.write(data));
      socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: x\\r\\nConnection: Upgrade\\r\\n\\r\\n');
    });
    server.listen(3000);
";

/// Clients that are routed request by request, and no proxies.
const STRANGERS: &str = "shared = \"always\"\ntrusted_proxies = []";

fn start(router: &str) -> (Cluster, Metrics) {
    let (metrics, line) = Metrics::new();
    let cluster = Cluster::script(APP, 1, &format!("[router]\n{line}\n{router}")).until_ready(1);
    (cluster, metrics)
}

/// Waits until the other side closes; a reset is an end, too.
fn end(stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut piece = [0; 65536];
    loop {
        match patient::read(stream, &mut piece) {
            Ok(0) => return bytes,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_body_that_does_not_come() {
    let (mut cluster, metrics) = start("body_timeout = \"1s\"");
    for request in [
        format!("POST /slow HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nContent-Length: 100\r\n\r\nsome"),
        format!("POST /slow HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"),
        format!("POST /slow HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n0\r\n"),
    ] {
        let mut client = Kept::new(&cluster);
        client.send(request);
        let began = Instant::now();
        let answer = client.answer("POST");
        assert_eq!(answer.status, 408, "{answer:?}");
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
        assert!(answer.head.to_lowercase().contains("connection: close"), "{answer:?}");
        assert_eq!(client.rest(), b"");
        // The worker is told, and lives.
        cluster.until("aborted /slow");
        assert_eq!(Kept::new(&cluster).get("/").status, 200);
    }
    assert_eq!(metrics.page()["appctl_refused_total{reason=body_timeout,code=408}"], 3.0);
}

/// What counts is the time between two pieces.
#[test]
fn a_body_that_comes_slowly_and_one_that_nobody_reads() {
    let (cluster, metrics) = start("body_timeout = \"1s\"");
    let mut client = Kept::new(&cluster);
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nContent-Length: 8\r\n\r\n"));
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(300));
        client.send("x");
    }
    assert_eq!(client.answer("POST").text(), "8");
    // The worker takes its time before it reads: that is not the client's fault.
    client.send("POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n");
    client.send(vec![b'x'; 8_000_000]);
    assert_eq!(client.answer("POST").text(), "read at last");
    assert_eq!(metrics.page()["appctl_refused_total{reason=body_timeout,code=408}"], 0.0);
}

/// The answer has begun: there is no place for a 408.
#[test]
fn a_body_that_stops_behind_its_answer() {
    let (mut cluster, metrics) = start("body_timeout = \"1s\"");
    let mut client = Kept::new(&cluster);
    client.send(format!("POST /early HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nContent-Length: 100\r\n\r\nsome"));
    let rest = String::from_utf8(end(&client.stream)).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200") && rest.ends_with("early"), "{rest}");
    cluster.until("aborted /early");
    metrics.until("appctl_closed_total{reason=body_timeout}", 1.0);
    assert_eq!(Kept::new(&cluster).get("/").status, 200);
}

#[test]
fn a_client_that_does_not_read_its_answer() {
    let (mut cluster, metrics) = start(&format!("{STRANGERS}\nsend_timeout = \"2s\""));
    let mut client = Kept::new(&cluster);
    client.send(format!("GET /big=100000000 HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n"));
    // Not by the client's own end.
    cluster.until("over /big=100000000 false");
    metrics.until("appctl_closed_total{reason=send_timeout}", 1.0);
    metrics.until("appctl_open_connections{state=routed}", 0.0);
    assert!(end(&client.stream).len() < 100_000_000);
    // One that reads slowly is not meant: it takes longer than the limit.
    let mut client = Kept::new(&cluster);
    client.send(format!("GET /big=60000000 HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nConnection: close\r\n\r\n"));
    let began = Instant::now();
    let mut piece = vec![0; 1_000_000];
    let mut total = 0;
    loop {
        match patient::read(&client.stream, &mut piece).unwrap() {
            0 => break,
            count => total += count,
        }
        if began.elapsed() < Duration::from_secs(6) {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    assert!(total > 60_000_000 && began.elapsed() > Duration::from_secs(6), "{total} {:?}", began.elapsed());
    assert_eq!(metrics.page()["appctl_closed_total{reason=send_timeout}"], 1.0);
}

/// A proxy may take as long as its own clients do.
#[test]
fn a_trusted_proxy_that_does_not_read_for_a_while() {
    const SIZE: usize = 20_000_000 / 65536 * 65536;
    let (cluster, metrics) = start("send_timeout = \"500ms\"");
    let mut client = Kept::new(&cluster);
    client.send(format!("GET /big={SIZE} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(client.answer("GET").body.len(), SIZE);
    assert_eq!(metrics.page()["appctl_closed_total{reason=send_timeout}"], 0.0);
}

/// An answer so small that the worker is rid of it waits in the router, and the connection is idle then.
#[test]
fn a_small_answer_that_nobody_reads() {
    let (cluster, metrics) = start(&format!("{STRANGERS}\nsend_timeout = \"2s\"\nkeepalive_timeout = \"1s\""));
    let client = cluster.connect();
    setsockopt(&client, sockopt::RcvBuf, &4096).unwrap();
    let mut client = Kept::over(client);
    // More than the kernel takes on both sides.
    let request = format!("GET /big=65536 HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n");
    client.send(request.repeat(200));
    metrics.until("appctl_closed_total{reason=send_timeout}", 1.0);
    metrics.until("appctl_open_connections{state=routed}", 0.0);
    end(&client.stream);
}

#[test]
fn an_answer_that_does_not_come() {
    let (mut cluster, metrics) = start("answer_timeout = \"1s\"");
    for method in ["GET", "POST"] {
        let mut client = Kept::new(&cluster);
        let began = Instant::now();
        let answer = client.ask(method, "/never", "");
        assert_eq!(answer.status, 504, "{answer:?}");
        assert!(began.elapsed() >= Duration::from_secs(1));
        assert!(answer.text().contains("did not answer in time"), "{answer:?}");
        assert_eq!(client.rest(), b"");
        cluster.until("over /never false");
        assert_eq!(Kept::new(&cluster).get("/").status, 200);
    }
    assert_eq!(metrics.page()["appctl_refused_total{reason=answer_timeout,code=504}"], 2.0);
    // An answer that has begun may take its time, and so may a body.
    let mut client = Kept::new(&cluster);
    assert_eq!(client.get("/drip").text(), "drip".repeat(8));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
    for pause in [300, 2000, 300, 300, 1500, 300, 300, 0] {
        client.send("x");
        std::thread::sleep(Duration::from_millis(pause));
    }
    assert_eq!(client.answer("POST").text(), "8");
}

/// `tr` of /proc/net/tcp for our end's peer: which timer runs at the router's end of a connection.
fn timer(client: &TcpStream) -> String {
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    let (ours, theirs) = (port(client.local_addr().unwrap()), port(client.peer_addr().unwrap()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut line = line.filter(|words| words[1].ends_with(&theirs) && words[2].ends_with(&ours));
    line.next().unwrap_or_else(|| panic!("no {theirs} {ours}:\n{table}"))[5].split(':').next().unwrap().to_owned()
}

/// A peer whose network is gone would hold them for ever.
#[test]
fn the_kernel_looks_after_tunnels() {
    let (cluster, metrics) = start("shared = \"always\"");
    let mut client = Kept::new(&cluster);
    client.get("/");
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.answer("GET").status, 101);
    client.send("echo");
    assert_eq!(client.bytes(4), b"echo");
    let end = Instant::now() + PATIENCE;
    // 02: keep-alive. What was sent last may still be under way (01).
    while timer(&client.stream) != "02" {
        assert!(Instant::now() < end, "no keep-alive");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(metrics.page()["appctl_open_connections{state=tunnel}"], 1.0);
}

/// A connection of another address of this machine's.
fn connect_from(last: u8, cluster: &Cluster) -> TcpStream {
    let SocketAddr::V4(to) = cluster.address else { panic!() };
    let ours = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let from = SocketAddrV4::new([127, 0, 0, last].into(), 0);
    bind(ours.as_raw_fd(), &SockaddrIn::from(from)).unwrap();
    connect(ours.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
    let stream = TcpStream::from(ours);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn too_many_connections_of_one_address() {
    let (cluster, metrics) = start("shared = \"always\"\ntrusted_proxies = [\"127.0.0.9\"]\naddress_limit = 3");
    let mut held: Vec<_> = (0..3).map(|_| Kept::new(&cluster)).collect();
    for client in &mut held {
        assert_eq!(client.get("/").status, 200);
    }
    let refused = |cluster: &Cluster| {
        let mut client = Kept::new(cluster);
        let answer = client.ask("GET", "/", "");
        assert_eq!(answer.status, 429, "{answer:?}");
        assert!(answer.head.contains("Retry-After: 2\n") && answer.head.contains("Connection: close\n"), "{answer:?}");
        assert_eq!(client.rest(), b"");
    };
    refused(&cluster);
    // Others are served; a trusted proxy has no limit.
    assert_eq!(Kept::over(connect_from(2, &cluster)).get("/").status, 200);
    let mut proxies: Vec<_> = (0..10).map(|_| Kept::over(connect_from(9, &cluster))).collect();
    for proxy in &mut proxies {
        assert_eq!(proxy.get("/").status, 200);
    }
    // A place that is given back is another one's.
    held.pop();
    metrics.until("appctl_open_connections{state=routed}", 12.0);
    let mut tunnel = loop {
        // The refused one counts until it has closed.
        let mut client = Kept::new(&cluster);
        if client.get("/").status == 200 {
            break client;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // A tunnel keeps its place.
    tunnel.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(tunnel.answer("GET").status, 101);
    metrics.until("appctl_open_connections{state=tunnel}", 1.0);
    refused(&cluster);
    let page = metrics.page();
    assert!(page["appctl_refused_total{reason=address_limit,code=429}"] >= 2.0, "{page:#?}");
    // One that does not let go gets no answers any more, but no more of this process either.
    let crowd: Vec<_> = (0..20).map(|_| cluster.connect()).collect();
    let without: usize = crowd.iter().filter(|stream| end(stream).is_empty()).count();
    assert!(without >= 10, "{without}");
    assert!(metrics.page()["appctl_closed_total{reason=address_limit}"] >= 10.0);
    assert_eq!(Kept::over(connect_from(2, &cluster)).get("/").status, 200);
}

/// A trusted proxy's connection counts for the client that it announces.
#[test]
fn whom_a_proxy_announces_is_who_counts() {
    let files = tempfile::tempdir().unwrap();
    let script = files.path().join("worker.js");
    std::fs::write(&script, APP).unwrap();
    let (metrics, line) = Metrics::new();
    let address = free_address();
    let mut cluster = Cluster::launch_text(&format!(
        "exec = [\"node\", {script:?}]\nlisten = [{{ address = \"{address}\", proxy_protocol = true }}]\n\
         [router]\n{line}\naddress_limit = 2\n"
    ));
    cluster.address = address;
    let cluster = cluster.until_ready(1);
    let open = |from: &str| {
        let mut client = Kept::new(&cluster);
        client.send(format!("PROXY TCP4 {from} 127.0.0.1 1234 80\r\n"));
        client
    };
    let mut held: Vec<_> = (0..2).map(|_| open("203.0.113.5")).collect();
    for client in &mut held {
        assert_eq!(client.get("/").status, 200);
    }
    let mut refused = open("203.0.113.5");
    assert_eq!(refused.get("/").status, 429);
    assert_eq!(open("203.0.113.6").get("/").status, 200);
    metrics.until("appctl_refused_total{reason=address_limit,code=429}", 1.0);
    let mut bad = Kept::new(&cluster);
    bad.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(bad.answer("GET").status, 400);
    metrics.until("appctl_malformed_total{shape=proxy_protocol}", 1.0);
}

/// What is with a worker is seen no more.
#[test]
fn connections_that_are_handed_over_have_no_limit() {
    let (cluster, metrics) = start("trusted_proxies = []\naddress_limit = 2");
    let mut held: Vec<_> = (0..10).map(|_| Kept::new(&cluster)).collect();
    for client in &mut held {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer("GET").status, 200);
    }
    // The worker's word that it has the last one may come after its answer.
    metrics.until("appctl_open_connections{state=waiting}", 0.0);
    // Those whose head has not come are here.
    let mut slow: Vec<_> = (0..2).map(|_| cluster.connect()).collect();
    for client in &mut slow {
        client.write_all(b"GET / HTTP").unwrap();
    }
    metrics.until("appctl_open_connections{state=waiting}", 2.0);
    let mut client = cluster.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(String::from_utf8(read_to_end(&mut client)).unwrap().starts_with("HTTP/1.1 429 "));
}

#[test]
fn a_unix_socket_has_no_addresses() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("public");
    let listen = [path.to_str().unwrap().to_owned()];
    let more = "[router]\nshared = \"always\"\naddress_limit = 1";
    let cluster = Cluster::script_by(&["node"], &listen, APP, 1, more).until_ready(1);
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        held.push(stream);
    }
    drop(cluster);
}

/// `VmRSS` of a process, KiB.
fn resident(pid: i32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Fifty clients that never read, and each has asked for a gigabyte: what does not fit into the kernel stays with the worker.
#[test]
fn answers_that_nobody_reads_stay_where_they_are() {
    const CLIENTS: usize = 50;
    let (cluster, metrics) = start("");
    Kept::new(&cluster).get("/");
    let before = resident(cluster.pid());
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Kept::new(&cluster)).collect();
    for client in &mut clients {
        client.send(format!("GET /big={} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n\r\n", 1 << 30));
        assert_eq!(client.line(), "HTTP/1.1 200 OK");
    }
    // All that can flow has flowed when the figure stands still.
    let mut last = 0;
    let mut same = 0;
    while same < 5 {
        std::thread::sleep(Duration::from_millis(300));
        let now = resident(cluster.pid());
        same = if now.abs_diff(last) < 256 { same + 1 } else { 0 };
        last = now;
        assert_eq!(Kept::new(&cluster).get("/").status, 200);
    }
    let grown = last.saturating_sub(before);
    println!("{grown} KiB more for {CLIENTS} clients");
    assert!(grown < 64 * 1024, "{grown} KiB");
    assert_eq!(metrics.page()["appctl_requests_in_flight{worker=1}"], CLIENTS as f64);
}
