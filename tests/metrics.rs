//! The page for Prometheus: its form, by a strict reader of the text format, and that the counters count.

use crate::kept::{Kept, SHARED};
use crate::support::{Cluster, PATIENCE, POLLING, finish, free_address, read_response, read_to_end};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Where a cluster's metrics are.
pub(crate) struct Metrics(SocketAddr);

/// Samples by name and labels (without `app`), as the page has them.
pub(crate) type Page = BTreeMap<String, f64>;

impl Metrics {
    /// An address, and the line of `[router]` that says so.
    pub(crate) fn new() -> (Self, String) {
        let address = free_address();
        (Self(address), format!("metrics = \"{address}\""))
    }

    fn text(&self) -> String {
        let answer = self.ask("GET", "/metrics");
        assert!(
            answer.0.contains("Content-Type: text/plain; version=0.0.4")
                || answer.0.contains("content-type: text/plain; version=0.0.4"),
            "{}",
            answer.0
        );
        answer.1
    }

    fn ask(&self, method: &str, target: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.0).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let answer = read_response(&mut stream);
        (answer.head.clone(), String::from_utf8(answer.body).unwrap())
    }

    pub(crate) fn page(&self) -> Page {
        read(&self.text())
    }

    /// Waits until a sample has this value.
    #[track_caller]
    pub(crate) fn until(&self, sample: &str, value: f64) {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.page().get(sample).copied();
            if found == Some(value) {
                return;
            }
            assert!(Instant::now() < end, "{sample} is {found:?}, not {value}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn is_name(name: &str, colon: bool) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || (colon && c == ':');
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

/// The labels between the braces: name="value" with \\, \" and \n, commas between.
fn labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {rest}"));
        assert!(is_name(name, false), "{name}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("no end: {after}")) {
                (at, '"') => break at,
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => value.push('\n'),
                    c @ ('"' | '\\') => value.push(c),
                    c => panic!("\\{c}"),
                },
                (_, '\n') => panic!("a line break"),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.iter().all(|(known, _)| known != name), "{name} is there twice");
        labels.push((name.to_owned(), value));
        rest = &after[end + 1..];
        rest = match rest.strip_prefix(',') {
            Some(more) if !more.is_empty() => more,
            Some(_) => panic!("a comma at the end"),
            None => {
                assert!(rest.is_empty(), "{rest}");
                rest
            }
        };
    }
    labels
}

/// A reader that lets nothing pass that the format does not allow, nor what its conventions advise against.
fn read(text: &str) -> Page {
    assert!(text.ends_with('\n'));
    let mut page = Page::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(is_name(name, true) && help.ends_with('.'), "{line}");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            let told =
                lines.next().and_then(|line| line.strip_prefix("# TYPE ")).unwrap_or_else(|| panic!("{line}: no TYPE"));
            let (same, of) = told.split_once(' ').unwrap();
            assert_eq!(same, name);
            assert!(["counter", "gauge", "histogram"].contains(&of), "{told}");
            assert_eq!(name.ends_with("_total"), of == "counter", "{told}");
            (family, kind) = (name.to_owned(), of.to_owned());
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, rest) = series.split_once('{').unwrap_or_else(|| panic!("no labels: {line}"));
        let mut labels = labels(rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}")));
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.iter().any(|suffix| name == format!("{family}{suffix}")), "{name} in the family {family}");
        assert!(labels[0].0 == "app" && is_name(name, true), "{line}");
        labels.remove(0);
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(value >= 0.0, "{line}");
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let key = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) };
        assert!(page.insert(key, value).is_none(), "twice: {line}");
    }
    // OpenMetrics names a counter without its `_total`.
    let plain = families.iter().filter_map(|name| name.strip_suffix("_total"));
    assert_eq!(plain.filter(|name| families.contains(*name)).collect::<Vec<_>>(), [""; 0]);
    laws(&page);
    page
}

/// Buckets cumulate, and the last one is the count.
fn laws(page: &Page) {
    let mut last: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (key, count) in page.iter().filter(|(key, _)| key.contains("_bucket{")) {
        let (name, labels) = key.split_once("_bucket{").unwrap();
        let (others, bound) = labels.trim_end_matches('}').rsplit_once("le=").unwrap();
        let others = others.trim_end_matches(',');
        let series = if others.is_empty() { format!("{name}_count") } else { format!("{name}_count{{{others}}}") };
        let bound = bound.replace("+Inf", "inf").parse().unwrap();
        last.entry(series).or_default().push((bound, *count));
    }
    assert!(!last.is_empty());
    for (series, mut buckets) in last {
        buckets.sort_by(|one, two| one.0.total_cmp(&two.0));
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{series}: {buckets:?}");
        assert_eq!(buckets.last().unwrap(), &(f64::INFINITY, page[&series]), "{series}");
    }
}

const APP: &str = "
    require('http').createServer((q, r) => {
      q.on('error', () => {});
      if (q.url === '/break') return q.socket.destroy();
      if (q.url === '/early') return r.end('early');
      q.resume();
      q.on('end', () => { r.statusCode = Number(q.url.slice(1)) || 200; r.end('fine'); });
    }).listen(3000);
";

fn start(workers: usize, router: &str) -> (Cluster, Metrics) {
    let (metrics, line) = Metrics::new();
    let more = format!("[router]\n{line}\n{router}");
    (Cluster::script(APP, workers, &more).until_ready(workers), metrics)
}

#[test]
fn the_page_is_for_prometheus_and_there_is_nothing_else() {
    let (cluster, metrics) = start(2, "");
    for _ in 0..10 {
        assert_eq!(cluster.get("/").status, 200);
    }
    let mut kept = Kept::new(&cluster);
    for status in ["200", "404", "404", "500"] {
        assert_eq!(kept.get(&format!("/{status}")).status.to_string(), status);
    }
    let page = metrics.page();
    let sum = |name: &str| page.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, value)| value).sum::<f64>();
    assert_eq!(page["appctl_connections_total"], 11.0);
    // Those of the clients, and those that the requests of the kept one went over.
    assert!((11.0..=12.0).contains(&sum("appctl_handovers_total{")), "{page:#?}");
    assert_eq!(sum("appctl_handover_ack_seconds_count{"), sum("appctl_handovers_total{"));
    assert_eq!(page["appctl_open_connections{state=routed}"], 1.0);
    let codes = |code: &str| {
        page.iter()
            .filter(|(key, _)| key.starts_with("appctl_requests_total{") && key.contains(code))
            .map(|it| it.1)
            .sum::<f64>()
    };
    assert_eq!((codes("code=200"), codes("code=404"), codes("code=500")), (1.0, 2.0, 1.0), "{page:#?}");
    assert_eq!(codes("code="), 4.0, "and nothing else: {page:#?}");
    assert_eq!((page["appctl_workers{state=ready}"], page["appctl_workers_wanted"]), (2.0, 2.0));
    assert_eq!(
        (page["appctl_worker_starts_total{worker=1}"], page["appctl_worker_starts_total{worker=2}"]),
        (1.0, 1.0)
    );
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((now - 3600.0..=now).contains(&page["process_start_time_seconds"]), "{now}");
    assert!(page["process_resident_memory_bytes"] > 1e6 && page["process_cpu_seconds_total"] > 0.0);
    assert!(page["process_open_fds"] > 5.0 && page["process_open_fds"] < 200.0);
    for (method, target, status) in
        [("POST", "/metrics", 405), ("GET", "/", 404), ("GET", "/v1/status", 404), ("POST", "/v1/rollout/end", 404)]
    {
        let answer = metrics.ask(method, target);
        assert!(answer.0.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {target}: {answer:?}");
    }
}

#[test]
fn packets_and_sessions_are_counted() {
    let (metrics, line) = Metrics::new();
    let more = format!("[router]\n{line}\nsession_wait = \"100ms\"\n[environment]\nPAIR = \"new\"");
    let Some(cluster) = Cluster::start("chat/worker.js", 2, &more) else { return };
    let (one, _other) = (cluster.session(), cluster.session());
    let before = metrics.page();
    for _ in 0..20 {
        assert_eq!(cluster.send(&one, &format!("42[\"all\",\"{}\"]", "x".repeat(1000))), 200);
        assert_eq!(cluster.get(&format!("{POLLING}&sid={one}")).status, 200);
    }
    let after = metrics.page();
    let grown = |name: &str, direction: &str| {
        let of = |page: &Page| {
            (1..=2).map(|worker| page[&format!("{name}{{worker={worker},direction={direction}}}")]).sum::<f64>()
        };
        of(&after) - of(&before)
    };
    for direction in ["in", "out"] {
        assert!(grown("appctl_relay_frames_total", direction) >= 20.0, "{direction}");
        assert!(grown("appctl_relay_bytes_total", direction) >= 20_000.0, "{direction}");
    }
    let sessions = |page: &Page| page["appctl_sessions{worker=1}"] + page["appctl_sessions{worker=2}"];
    assert_eq!(sessions(&after), 2.0);
    assert!(after.contains_key("appctl_channel_queue_bytes{worker=1}"));
    assert_eq!(cluster.get(&format!("{POLLING}&sid=AAAAAAAAAAAAAAAAAAAA")).status, 400);
    let page = metrics.page();
    let unknown = "appctl_unknown_sessions_total{outcome=unknown}";
    assert_eq!(page[unknown] - after[unknown], 1.0);
    assert!(page["appctl_unknown_session_wait_seconds_sum"] - after["appctl_unknown_session_wait_seconds_sum"] >= 0.1);
}

/// Slow, idle, too long, too many: by which counter each is seen.
#[test]
fn every_end_has_its_counter() {
    let (cluster, metrics) = start(1, "head_timeout = \"1s\"\nkeepalive_timeout = \"2s\"\nhead_limit = \"2K\"");
    let mut wanted = BTreeMap::new();
    let mut seen = |sample: &'static str| {
        let count = wanted.entry(sample).or_insert(0.0);
        *count += 1.0;
        metrics.until(sample, *count);
    };
    let (routed, direct) = (true, false);
    let open = |routed: bool| {
        let mut client = Kept::new(&cluster);
        if routed {
            assert_eq!(client.get("/").status, 200);
        }
        client
    };
    for kind in [direct, routed] {
        let mut client = open(kind);
        client.send("GET / HTTP/1.1\r\nHost:");
        assert_eq!(client.answer("GET").status, 408);
        seen("appctl_refused_total{reason=head_timeout,code=408}");
        let mut client = open(kind);
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(3000)));
        assert_eq!(client.answer("GET").status, 431);
        seen("appctl_refused_total{reason=head_limit,code=431}");
        assert_eq!(open(kind).rest(), b"");
        seen(if kind { "appctl_closed_total{reason=idle}" } else { "appctl_closed_total{reason=silent}" });
    }
    let mut client = open(routed);
    assert_eq!(client.ask("POST", "/break", "").status, 502);
    seen("appctl_refused_total{reason=worker_broke_off,code=502}");
    let page = metrics.page();
    assert_eq!(page["appctl_requests_total{worker=1,code=502}"], 1.0);
}

#[test]
fn what_is_too_much_has_its_counter() {
    let (cluster, metrics) = start(1, "waiting_limit = 2");
    let mut silent: Vec<_> = (0..2).map(|_| Kept::new(&cluster)).collect();
    metrics.until("appctl_open_connections{state=waiting}", 2.0);
    assert_eq!(cluster.get("/").status, 200);
    metrics.until("appctl_closed_total{reason=evicted}", 1.0);
    assert_eq!(silent.remove(0).rest(), b"");

    let (metrics, line) = Metrics::new();
    let more = format!("[router]\n{line}\nwaiting_limit = 1\nwait_timeout = \"5s\"\n[ready]\non = \"message\"");
    let mut cluster = Cluster::script(APP, 1, &more);
    cluster.until("the metrics of");
    let mut waiting = cluster.connect();
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    metrics.until("appctl_open_connections{state=waiting}", 1.0);
    let refused = cluster.get("/");
    assert!(refused.status == 503 && refused.head.contains("Retry-After: 2"), "{refused:?}");
    metrics.until("appctl_refused_total{reason=waiting_limit,code=503}", 1.0);
    assert_eq!(read_response(&mut waiting).status, 503);
    metrics.until("appctl_refused_total{reason=no_worker,code=503}", 1.0);
}

/// Each kind of smuggling by its name: what it is counted as, and a request of that kind.
const SHAPES: [(&str, &str); 26] = [
    (
        "length_and_chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "length_and_chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    ("content_length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345"),
    ("content_length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n12345"),
    ("content_length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n12345"),
    ("transfer_encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("transfer_encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    (
        "transfer_encoding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("transfer_encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n12345\r\n0\r\n\r\n"),
    ("chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n12345\r\n0\r\n\r\n"),
    ("chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123456\r\n0\r\n\r\n"),
    ("chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
    ("chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\n12345\r\n0\r\n\r\n"),
    ("folded_line", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n"),
    ("folded_line", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n"),
    ("line_end", "GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n"),
    ("line_end", "GET / HTTP/1.1\nHost: a\n\n"),
    ("nul", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    ("nul", "GET / HTTP/1.1\r\nHost: a\r\nX\0: a\r\n\r\n"),
    ("host", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("host", "GET / HTTP/1.1\r\nX: a\r\n\r\n"),
    ("target", "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("request_line", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
];

/// Routed request by request: each gets its 400, once, and its counter goes up by one, be it the first request of its
/// connection or a later one. What comes behind it is not looked at.
#[test]
fn every_shape_of_smuggling_has_its_counter() {
    let (cluster, metrics) = start(1, "");
    let smuggled = "GET /201 HTTP/1.1\r\nHost: a\r\n\r\n";
    for (shape, request) in SHAPES {
        for later in [false, true] {
            let before = metrics.page();
            let mut client = Kept::new(&cluster);
            let mut text = request.to_owned();
            if later {
                assert_eq!(client.get("/").status, 200);
            } else {
                let (line, end) = request.find("\r\n").map_or((request.find('\n').unwrap(), "\n"), |at| (at, "\r\n"));
                text.insert_str(line + end.len(), &format!("{SHARED}{end}"));
            }
            client.send(text + smuggled);
            let answer = client.answer("POST");
            assert_eq!(answer.status, 400, "{request:?}: {answer:?}");
            assert_eq!(String::from_utf8_lossy(&client.rest()), "", "{request:?}: more than one answer");
            metrics.until(
                "appctl_refused_total{reason=malformed,code=400}",
                before["appctl_refused_total{reason=malformed,code=400}"] + 1.0,
            );
            let after = metrics.page();
            for (key, value) in before.iter().filter(|(key, _)| key.starts_with("appctl_malformed_total{")) {
                // What the first look at a connection sees has the parser's own name for it.
                let wanted = f64::from(*key == format!("appctl_malformed_total{{shape={shape}}}"));
                assert_eq!(after[key] - value, wanted, "{request:?} {later}: {key}");
            }
        }
    }
    assert_eq!(Kept::new(&cluster).get("/").status, 200);
}

/// It is answered before its mistake comes: no second answer, but counted all the same.
#[test]
fn a_mistake_behind_the_answer_is_counted() {
    let (cluster, metrics) = start(1, "");
    let mut client = Kept::new(&cluster);
    client.send(format!(
        "POST /early HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    ));
    assert_eq!(client.answer("POST").text(), "early");
    client.send("0x5\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.rest(), b"");
    metrics.until("appctl_malformed_total{shape=chunk}", 1.0);
}

/// Of a worker that works, and has a lot of memory, and one that has nothing to do.
#[test]
fn what_workers_use() {
    const BUSY: &str = "
        if (process.env.NODE_APP_INSTANCE === '1') {
          global.kept = Buffer.alloc(100e6).fill(1);
          setInterval(() => { for (const end = Date.now() + 50; Date.now() < end;); }, 60);
        }
        require('http').createServer((q, r) => r.end('fine')).listen(3000);
    ";
    let (metrics, line) = Metrics::new();
    let _cluster = Cluster::script(BUSY, 2, &format!("[router]\n{line}")).until_ready(2);
    let end = Instant::now() + PATIENCE;
    loop {
        let page = metrics.page();
        let of = |name: &str, slot: u8| page.get(&format!("appctl_worker_{name}{{worker={slot}}}")).copied();
        let both = |name: &str| of(name, 1).zip(of(name, 2));
        if let (Some(cpu), Some(memory)) = (both("cpu_seconds_total"), both("memory_bytes"))
            && cpu.1 > cpu.0 + 1.0
        {
            assert!(memory.1 > memory.0 + 50e6 && memory.0 > 5e6, "{memory:?}");
            return;
        }
        assert!(Instant::now() < end, "{page:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A direct client's connection: what the router's look at the first head does not refuse, the worker's parser does, or
/// serves in a way that nobody else is touched by. Nothing behind it is ever answered on its own.
#[test]
fn what_direct_clients_smuggle() {
    let (cluster, metrics) = start(1, "");
    let smuggled = "GET /201 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut by_router = BTreeSet::new();
    for (shape, request) in SHAPES {
        let before = metrics.page();
        let mut client = cluster.connect();
        client.write_all((request.to_owned() + smuggled).as_bytes()).unwrap();
        finish(&client);
        let answer = String::from_utf8_lossy(&read_to_end(&mut client)).into_owned();
        let after = metrics.page();
        let counted = after["appctl_refused_total{reason=malformed,code=400}"]
            - before["appctl_refused_total{reason=malformed,code=400}"];
        println!("{shape}: {counted} {request:?}: {:?}", answer.split("\r\n\r\n").next());
        if counted > 0.0 {
            by_router.insert(shape);
            assert_eq!(
                after[&format!("appctl_malformed_total{{shape={shape}}}")],
                before[&format!("appctl_malformed_total{{shape={shape}}}")] + 1.0,
                "{request:?}"
            );
        }
        // Node 20 and newer; what is behind a well framed request is the same client's next one.
        let served = ["host", "target", "transfer_encoding"].contains(&shape) && counted == 0.0;
        assert!(answer.starts_with("HTTP/1.1 400 ") || served, "{request:?}: {answer}");
        let next = answer.contains("HTTP/1.1 201 ");
        assert_eq!(next, answer.starts_with("HTTP/1.1 200 "), "{request:?}: {answer}");
    }
    let refused: Vec<&str> = by_router.into_iter().collect();
    assert_eq!(refused, ["folded_line", "nul", "request_line", "version"]);
}
