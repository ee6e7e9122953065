//! Clients come back to their workers by other things than the sid of Engine.IO.

use crate::behind::Front;
use crate::kept::{Answer, Kept};
use crate::support::{Cluster, POLLING, signal};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Tells who answers and what it was asked. `/open` begins a session as MCP does, `/visit` counts the visits of a login.
const APP: &str = "
    const http = require('http'), crypto = require('crypto');
    const sessions = new Set();
    const server = http.createServer((q, r) => {
      const path = q.url.split('?')[0], id = q.headers['mcp-session-id'];
      if (path === '/open') {
        const fresh = crypto.randomUUID();
        sessions.add(fresh);
        r.setHeader('Mcp-Session-Id', fresh);
      } else if (path === '/mcp') {
        if (!sessions.has(id)) return r.writeHead(404).end('no session');
        if (q.method === 'DELETE') return sessions.delete(id), r.writeHead(204).end();
        r.setHeader('Mcp-Session-Id', id);
      } else if (path === '/repeat') {
        r.setHeader('Mcp-Session-Id', q.headers['x-say']);
      } else if (path === '/public') {
        r.setHeader('Cache-Control', 'public, max-age=60');
      } else if (path === '/private') {
        r.setHeader('Cache-Control', 'Private, max-age=60');
      } else if (path === '/never') {
        return;
      } else if (path === '/wait') {
        return setTimeout(() => r.end(process.env.NODE_APP_INSTANCE), 300);
      }
      r.end(JSON.stringify({ worker: process.env.NODE_APP_INSTANCE, pid: process.pid, headers: q.headers, port: q.socket.remotePort }));
    });
    server.on('upgrade', (q, socket) => {
      socket.on('error', () => {});
      socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n');
      socket.on('data', (data) => socket.write(data));
      console.log('switched', process.env.NODE_APP_INSTANCE, q.socket.remotePort);
    });
    server.listen(3000);
";

fn app(workers: usize, more: &str) -> Cluster {
    Cluster::script(APP, workers, more).until_ready(workers)
}

/// A request of a client that no proxy speaks for.
fn ask(client: &mut Kept, method: &str, target: &str, fields: &str) -> Answer {
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.answer(method)
}

fn worker(answer: &Answer) -> String {
    answer.json()["worker"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

fn field<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(its, _)| its.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Whether the worker has the client's own connection.
fn is_handed_over(client: &Kept, answer: &Answer) -> bool {
    answer.json()["port"] == client.stream.local_addr().unwrap().port()
}

/// `name=value` of the cookie that an answer sets.
fn cookie(answer: &Answer) -> Option<String> {
    field(answer, "set-cookie").map(|it| it.split(';').next().unwrap().to_owned())
}

#[test]
fn sessions_of_a_header_are_learnt_from_the_answers() {
    let cluster = app(3, "sticky = \"header:Mcp-Session-Id\"");
    // Many sessions over one connection of a direct client, and each over others, too.
    let mut client = Kept::new(&cluster);
    let mut sessions = Vec::new();
    for _ in 0..12 {
        let opened = ask(&mut client, "POST", "/open", "Content-Length: 0\r\n");
        sessions.push((field(&opened, "mcp-session-id").unwrap().to_owned(), worker(&opened)));
    }
    let workers: BTreeSet<_> = sessions.iter().map(|(_, worker)| worker.clone()).collect();
    assert_eq!(workers.len(), 3, "{sessions:?}");
    for round in 0..3 {
        let mut other = Kept::new(&cluster);
        // Not in the order in which they would be spread anew.
        for (session, its) in sessions.iter().rev().step_by(2).chain(&sessions) {
            for client in [&mut client, &mut other] {
                let answer = ask(client, "GET", "/mcp", &format!("mcp-session-id: {session}\r\n"));
                assert_eq!((answer.status, &worker(&answer)), (200, its), "round {round}");
                assert!(!is_handed_over(client, &answer));
            }
        }
    }
    // What an app repeats moves nobody's session.
    let (session, its) = &sessions[0];
    for _ in 0..6 {
        assert_eq!(ask(&mut client, "GET", "/repeat", &format!("X-Say: {session}\r\n")).status, 200);
    }
    let again = ask(&mut client, "GET", "/mcp", &format!("mcp-session-id: {session}\r\n"));
    assert_eq!(&worker(&again), its);
}

#[test]
fn what_ends_a_session_of_mcp() {
    let cluster = app(3, "sticky = \"header:Mcp-Session-Id\"\n[router]\nbalance = \"round-robin\"");
    let mut client = Kept::new(&cluster);
    let opened = ask(&mut client, "POST", "/open", "Content-Length: 0\r\n");
    let id = format!("Mcp-Session-Id: {}\r\n", field(&opened, "mcp-session-id").unwrap());
    assert_eq!(ask(&mut client, "DELETE", "/other", &id).status, 200, "so it is taken for over");
    // Nobody's any more: whoever is asked next has it from now on, as long as it does not say 404.
    let workers: BTreeSet<_> = (0..6).map(|_| ask(&mut client, "GET", "/mcp", &id).status).collect();
    assert!(workers.contains(&200) && workers.contains(&404), "{workers:?}: it was asked for here and there");
}

#[test]
fn a_new_key_goes_to_one_worker_however_many_come_with_it() {
    for (sticky, target, fields) in
        [("header:X-User", "/wait", "X-User: ann\r\n"), ("query:user", "/wait?x=1&user=%61nn", "")]
    {
        let cluster = app(3, &format!("sticky = {sticky:?}"));
        let mut clients: Vec<_> = (0..9).map(|_| Kept::new(&cluster)).collect();
        for client in &mut clients {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        }
        let answers: BTreeSet<_> = clients.iter_mut().map(|client| client.answer("GET").text()).collect();
        assert_eq!(answers.len(), 1, "{sticky}: {answers:?}");
        // Others are spread.
        let spread = |n: usize| format!("X-User: {n}\r\n");
        let mut client = Kept::new(&cluster);
        let workers: BTreeSet<_> =
            (0..9).map(|n| worker(&ask(&mut client, "GET", &format!("/?user={n}"), &spread(n)))).collect();
        assert_eq!(workers.len(), 3, "{sticky}");
        // A WebSocket with a key is handed over, to the same worker.
        let mut cluster = cluster;
        let upgrade = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{fields}");
        let mut client = Kept::new(&cluster);
        assert_eq!(ask(&mut client, "GET", target, &upgrade).status, 101);
        let port = client.stream.local_addr().unwrap().port();
        cluster.until(&format!("switched {} {port}", answers.first().unwrap()));
    }
}

#[test]
fn a_cookie_that_the_router_sets() {
    let cluster = app(3, "sticky = \"cookie\"\n[router]\ncookie = \"stay\"");
    let mut cookies = BTreeMap::new();
    for _ in 0..12 {
        let mut client = Kept::new(&cluster);
        let first = ask(&mut client, "GET", "/", "Cookie: a=b\r\n");
        let set = field(&first, "set-cookie").unwrap();
        assert!(set.starts_with("stay=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
        assert_eq!(field(&first, "cache-control"), Some("private"));
        assert!(!is_handed_over(&client, &first), "it is set here");
        let mine = cookie(&first).unwrap();
        cookies.insert(worker(&first), mine.clone());
        for target in ["/", "/x"] {
            let next = ask(&mut client, "GET", target, &format!("Cookie: a=b; {mine}; c=d\r\n"));
            assert_eq!((worker(&next), field(&next, "set-cookie")), (worker(&first), None));
            assert_eq!(next.json()["headers"]["cookie"], "a=b; c=d", "it is no business of the app");
        }
        // A connection that begins with it is handed over.
        let mut other = Kept::new(&cluster);
        for _ in 0..2 {
            let next = ask(&mut other, "GET", "/", &format!("Cookie: {mine}\r\n"));
            assert_eq!((worker(&next), field(&next, "set-cookie")), (worker(&first), None));
            assert!(is_handed_over(&other, &next));
        }
    }
    assert_eq!(cookies.len(), 3, "all clients of one worker have one cookie: {cookies:?}");
    let mut client = Kept::new(&cluster);
    let good = cookies.values().next().unwrap();
    let foreign = good.replacen("stay=", "appctl=", 1);
    let forged = good.replace('.', "0.");
    for bad in [&foreign, &forged, "stay=", "stay", "stay=1.00; stay", "\u{1f36a}"] {
        let answer = ask(&mut client, "GET", "/", &format!("Cookie: {bad}\r\n"));
        let set = cookie(&answer).unwrap_or_else(|| panic!("{bad}: {answer:?}"));
        assert_eq!(Some(&set), cookies.get(&worker(&answer)), "{bad}");
    }
}

#[test]
fn where_a_cookie_goes() {
    let mut cluster = app(2, "sticky = [\"engine.io\", \"cookie\"]");
    let mut client = Kept::new(&cluster);
    // The name is the app's, whose file is app.toml.
    assert!(cookie(&ask(&mut client, "GET", "/", "")).unwrap().starts_with("appctl-app="));
    let cached = |answer: &Answer| {
        let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(name, _)| name.eq_ignore_ascii_case("cache-control"))
            .map(|(_, value)| value.to_owned())
            .collect()
    };
    let public: Vec<String> = cached(&ask(&mut client, "GET", "/public", ""));
    assert_eq!(public, ["public, max-age=60", "private"]);
    let private: Vec<String> = cached(&ask(&mut client, "GET", "/private", ""));
    assert_eq!(private, ["Private, max-age=60"]);
    // Over https, by a trusted proxy's word.
    let secure = client.ask("GET", "/", "X-Forwarded-Proto: https\r\n");
    assert!(field(&secure, "set-cookie").unwrap().ends_with("; SameSite=Lax; Secure"), "{secure:?}");
    let plain = client.ask("GET", "/", "X-Forwarded-Proto: http\r\n");
    assert!(!plain.head.contains("Secure"), "{plain:?}");
    // With a WebSocket; and where there is one already, that is handed over.
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut client = Kept::new(&cluster);
    let switched = ask(&mut client, "GET", "/ws", upgrade);
    let mine = cookie(&switched).unwrap();
    assert_eq!(switched.status, 101);
    let own = cluster.until("switched").split(' ').nth_back(1).unwrap().to_owned();
    client.send("abc");
    assert_eq!(client.bytes(3), b"abc");
    let mut client = Kept::new(&cluster);
    assert_eq!(ask(&mut client, "GET", "/ws", &format!("{upgrade}Cookie: {mine}\r\n")).status, 101);
    cluster.until(&format!("switched {own} {}", client.stream.local_addr().unwrap().port()));
    // An Engine.IO session comes first, and needs none.
    let mut client = Kept::new(&cluster);
    let answer = ask(&mut client, "GET", "/?sid=nobody", "");
    assert!(cookie(&answer).is_none() && is_handed_over(&client, &answer));
}

/// A worker that is gone: its clients go to another one, once.
#[test]
fn a_dead_workers_clients_move_once() {
    let fields = |n: usize| [format!("X-User: {n}\r\n"), format!("X-Forwarded-For: 203.0.113.{n}\r\n"), String::new()];
    for (at, sticky) in ["header:X-User", "address", "cookie"].into_iter().enumerate() {
        let mut cluster = app(3, &format!("sticky = {sticky:?}"));
        let mut client = Kept::new(&cluster);
        let mut cookies = vec![String::new(); 12];
        let address = cluster.address;
        let mut ask_all = |client: &mut Kept, set: &mut usize| -> Vec<(String, u64)> {
            (0..12)
                .map(|n| {
                    let cookie_field =
                        if cookies[n].is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies[n]) };
                    // One that begins with a cookie is handed over: each has a connection of its own then.
                    let mut own = (sticky == "cookie").then(|| Kept::over(TcpStream::connect(address).unwrap()));
                    let client = own.as_mut().unwrap_or(client);
                    let answer = ask(client, "GET", "/", &format!("{}{cookie_field}", fields(n)[at]));
                    if let Some(new) = cookie(&answer) {
                        cookies[n] = new;
                        *set += 1;
                    }
                    (worker(&answer), answer.json()["pid"].as_u64().unwrap())
                })
                .collect()
        };
        let mut set = 0;
        // With address, the proxy's connection is one that is routed request by request.
        let before = ask_all(&mut client, &mut set);
        assert_eq!(ask_all(&mut client, &mut set), before, "{sticky}");
        let (dead, pid) = before[0].clone();
        signal(pid as i32, "KILL");
        cluster.until(&format!("worker {} (pid {pid}) ended", dead.parse::<u32>().unwrap() + 1));
        let after = ask_all(&mut client, &mut set);
        for (before, after) in before.iter().zip(&after) {
            assert!((before == after) != (before.0 == dead), "{sticky}: {before:?} → {after:?}");
        }
        cluster.until("is ready");
        let moved = before.iter().filter(|(worker, _)| *worker == dead).count();
        for _ in 0..3 {
            assert_eq!(ask_all(&mut client, &mut set), after, "{sticky}: once");
        }
        assert_eq!(set, if sticky == "cookie" { 12 + moved } else { 0 }, "{sticky}");
    }
}

#[test]
fn a_clients_address() {
    let cluster = app(3, "sticky = \"address\"");
    // Direct clients: one address, one worker, and the connection is the worker's.
    let mut workers = BTreeSet::new();
    for _ in 0..6 {
        let mut client = Kept::new(&cluster);
        let answer = ask(&mut client, "GET", "/", "");
        assert!(is_handed_over(&client, &answer));
        workers.insert(worker(&answer));
    }
    assert_eq!(workers.len(), 1);
    let mut client = Kept::new(&cluster);
    let mut by = |told: &str| worker(&ask(&mut client, "GET", "/", &format!("X-Forwarded-For: {told}\r\n")));
    let each: Vec<_> = (1..=9).map(|n| by(&format!("203.0.113.{n}"))).collect();
    assert_eq!(each.iter().collect::<BTreeSet<_>>().len(), 3, "{each:?}");
    for (n, before) in (1..=9).zip(&each) {
        // What the client said before the proxy did is not believed.
        assert_eq!(&by(&format!("203.0.113.{}, 203.0.113.{n}", n % 9 + 1)), before);
    }
    let six: BTreeSet<_> = (1..=6).map(|n| by(&format!("2001:db8:1:2:{n}::1"))).collect();
    assert_eq!(six.len(), 1, "one network of one client");
    let six: BTreeSet<_> = (1..=9).map(|n| by(&format!("2001:db8:1:{n}::1"))).collect();
    assert_eq!(six.len(), 3);
}

#[test]
fn addresses_where_nothing_is_read() {
    let cluster = app(3, "sticky = \"address\"\n[router]\nprotocol = \"tcp\"\nbalance = \"round-robin\"");
    let workers: BTreeSet<_> = (0..6).map(|_| worker(&ask(&mut Kept::new(&cluster), "GET", "/", ""))).collect();
    assert_eq!(workers.len(), 1);
}

#[test]
fn none_is_balance_alone() {
    let cluster = app(2, "sticky = \"none\"\n[router]\nsession_wait = \"50s\"\nbalance = \"round-robin\"");
    let began = Instant::now();
    let workers: BTreeSet<_> = (0..4).map(|_| worker(&ask(&mut Kept::new(&cluster), "GET", "/?sid=x", ""))).collect();
    assert!(workers.len() == 2 && began.elapsed() < Duration::from_secs(40), "{workers:?}");
}

/// Keys are forgotten when nobody comes with them, but not while an answer is under way.
#[test]
fn keys_that_nobody_uses_are_forgotten() {
    let cluster = app(2, "sticky = \"header:X-User\"\n[router]\nkey_timeout = \"1s\"\nbalance = \"round-robin\"");
    let mut client = Kept::new(&cluster);
    let mut count = 0;
    let mut user = |name: &str| worker(&ask(&mut client, "GET", "/", &format!("X-User: {name}\r\n")));
    // Whoever is new next goes to the other worker.
    let mut new_ones_go_elsewhere_than = |its: &str, user: &mut dyn FnMut(&str) -> String| {
        for _ in 0..2 {
            count += 1;
            if user(&count.to_string()) == its {
                return;
            }
        }
        panic!("not in turn");
    };
    let (ann, mut dave) = (user("ann"), user("dave"));
    let mut waiting = Kept::new(&cluster);
    waiting.send("GET /never HTTP/1.1\r\nHost: a\r\nX-User: ann\r\n\r\n");
    let forgotten = [3, 6, 12, 24].into_iter().any(|seconds| {
        std::thread::sleep(Duration::from_secs(seconds));
        new_ones_go_elsewhere_than(&dave, &mut user);
        let before = std::mem::replace(&mut dave, user("dave"));
        before != dave
    });
    assert!(forgotten, "nobody came with it");
    new_ones_go_elsewhere_than(&ann, &mut user);
    assert_eq!(user("ann"), ann, "she is being answered");
}

/// A session that was closed is nobody's: its client is told so at once.
#[test]
fn a_request_for_a_session_that_is_over_does_not_wait() {
    let Some(cluster) = Cluster::start("chat/worker.js", 2, "[router]\nsession_wait = \"50s\"") else { return };
    let sid = cluster.session();
    // Engine.IO's close packet.
    assert_eq!(cluster.send(&sid, "1"), 200);
    let began = Instant::now();
    let answer = cluster.get(&format!("{POLLING}&sid={sid}"));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

/// Scripts that old browsers poll with.
#[test]
fn handshakes_of_jsonp_are_learnt() {
    let Some(cluster) = Cluster::start("chat/listen.js", 3, "[environment]\nEIO3 = \"yes\"") else { return };
    for version in [3, 4] {
        let mut workers = BTreeSet::new();
        for visit in 0..9 {
            let mut client = Kept::new(&cluster);
            let target = format!("/socket.io/?EIO={version}&transport=polling&j={visit}");
            let answer = client.get(&target);
            let (text, own) = (answer.text(), field(&answer, "x-worker").unwrap());
            assert!(text.starts_with(&format!("___eio[{visit}](\"")) && text.ends_with("\");"), "{text}");
            let inner = text.split_once('(').unwrap().1.trim_end_matches(");");
            let packet: String = serde_json::from_str(inner).unwrap();
            let packet = &packet[packet.find("0{").unwrap() + 1..];
            let opened: Value = serde_json::Deserializer::from_str(packet).into_iter().next().unwrap().unwrap();
            let sid = opened["sid"].as_str().unwrap();
            for _ in 0..4 {
                let who = client.get(&format!("/who?sid={sid}")).json();
                assert_eq!(who["pid"].to_string(), own, "version {version}");
            }
            workers.insert(own.to_owned());
        }
        assert_eq!(workers.len(), 3);
    }
}

/// What a client of `tests/apps` saw.
fn drive(client: &str, url: &str, flags: &[&str]) -> Value {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(client);
    let output = Command::new("node").arg(client).arg(url).args(flags).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let seen = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let seen: Value = seen.unwrap_or_else(|| panic!("{text}\n{error}"));
    println!("{seen}");
    assert_eq!(seen["errors"].as_array().map(Vec::len), Some(0), "{seen}\n{error}");
    seen
}

/// Where an app is asked: directly, behind nginx that keeps its connections and behind one that does not.
fn ways(app: SocketAddr) -> Vec<(SocketAddr, Option<Front>)> {
    let fronts = [Front::nginx(app, 16), Front::nginx(app, 0)].into_iter().flatten();
    [(app, None)].into_iter().chain(fronts.map(|front| (front.address, Some(front)))).collect()
}

/// The real SDK: sessions that live in one worker's memory, each with requests and a stream of its own.
#[test]
fn sessions_of_mcp() {
    let Some(cluster) = Cluster::start("mcp/server.js", 3, "sticky = \"header:Mcp-Session-Id\"") else { return };
    for (address, _front) in ways(cluster.address) {
        let seen = drive("mcp/client.js", &format!("http://{address}/mcp"), &["--sessions", "50"]);
        for (what, count) in [("sessions", 50), ("heard", 50), ("closed", 50), ("moved", 0), ("lost", 0)] {
            assert_eq!(seen[what], count, "{what}: {seen}");
        }
        let workers = seen["workers"].as_object().unwrap();
        // On a busy machine one may be late, and gets fewer.
        assert!(workers.len() > 1, "{seen}");
    }
}

/// The real SockJS: by cookies as in a browser, and by addresses.
#[test]
fn sessions_of_sockjs() {
    for (sticky, flags) in [("cookie", &["--cookies"][..]), ("address", &[])] {
        let Some(cluster) = Cluster::start("sockjs/server.js", 3, &format!("sticky = {sticky:?}")) else { return };
        for (address, _front) in ways(cluster.address) {
            let seen = drive("sockjs/client.js", &format!("http://{address}"), flags);
            for (what, count) in [("opened", 30), ("echoed", 30), ("moved", 0)] {
                assert_eq!(seen[what], count, "{sticky}, {what}: {seen}");
            }
            assert_eq!(seen["workers"].as_object().map(serde_json::Map::len), Some(3), "{sticky}: {seen}");
        }
    }
}

/// A login as apps without any store keep it.
const LOGIN: &str = "
    const logins = new Map();
    require('http').createServer((q, r) => {
      const id = /login=([0-9a-f-]+)/.exec(q.headers.cookie || '')?.[1];
      if (q.url === '/login') {
        const fresh = require('crypto').randomUUID();
        logins.set(fresh, 0);
        r.setHeader('Set-Cookie', ['login=' + fresh + '; Path=/', 'theme=dark']);
        return r.end('welcome');
      }
      if (!logins.has(id)) return r.writeHead(401).end('who are you?');
      logins.set(id, logins.get(id) + 1);
      r.end(JSON.stringify({ worker: process.env.NODE_APP_INSTANCE, visits: logins.get(id), cookie: q.headers.cookie }));
    }).listen(3000);
";

#[test]
fn logins_in_a_workers_memory() {
    let cluster = Cluster::script(LOGIN, 3, "sticky = \"cookie\"").until_ready(3);
    for (address, front) in ways(cluster.address) {
        let client = || match &front {
            Some(front) => front.client(),
            None => Kept::new(&cluster),
        };
        let users: Vec<String> = (0..20)
            .map(|_| {
                let answer = ask(&mut client(), "POST", "/login", "Content-Length: 0\r\n");
                let set = answer.head.lines().filter_map(|line| line.split_once(": "));
                let set = set.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
                let set: Vec<_> = set.map(|(_, value)| value.split(';').next().unwrap()).collect();
                assert!(set.len() == 3 && set[2].starts_with("appctl-app="), "{answer:?}");
                set.join("; ")
            })
            .collect();
        let mut workers = BTreeSet::new();
        for visit in 1..=4 {
            for user in &users {
                let answer = ask(&mut client(), "GET", "/", &format!("Cookie: {user}\r\n"));
                assert_eq!(answer.status, 200, "{address}, visit {visit}");
                let seen = answer.json();
                assert_eq!(seen["visits"], visit, "{address}: {seen}");
                // Behind a proxy the app never sees the router's own.
                assert!(front.is_none() || !seen["cookie"].as_str().unwrap().contains("appctl"), "{seen}");
                workers.insert(seen["worker"].to_string());
            }
        }
        assert_eq!(workers.len(), 3, "{address}");
    }
}

/// Keys that are bound count among the sessions of their worker.
#[test]
fn keys_are_in_the_metrics() {
    let (metrics, line) = crate::metrics::Metrics::new();
    let cluster = app(1, &format!("sticky = \"header:X-User\"\n[router]\n{line}"));
    let mut client = Kept::new(&cluster);
    for user in ["ann", "bob", "cleo", "ann"] {
        ask(&mut client, "GET", "/", &format!("X-User: {user}\r\n"));
    }
    metrics.until("appctl_sessions{worker=1}", 3.0);
}

/// What README's table of addresses says of direct clients where something of theirs is sticky.
#[test]
fn whose_address_the_app_sees() {
    let forged = "X-Forwarded-For: 6.6.6.6\r\n";
    let strangers = "[router]\ntrusted_proxies = []";
    let told = |answer: &Answer| answer.json()["headers"]["x-forwarded-for"].as_str().map(str::to_owned);
    for sticky in ["header:X-User", "query:user"] {
        let cluster = app(1, &format!("sticky = {sticky:?}\n{strangers}"));
        let answer = ask(&mut Kept::new(&cluster), "GET", "/?user=ann", &format!("X-User: ann\r\n{forged}"));
        assert_eq!(told(&answer).as_deref(), Some("127.0.0.1"), "{sticky}: the router's word");
    }
    let cluster = app(1, &format!("sticky = \"cookie\"\n{strangers}"));
    let mut client = Kept::new(&cluster);
    let answer = ask(&mut client, "GET", "/", forged);
    assert_eq!(told(&answer).as_deref(), Some("127.0.0.1"), "without the cookie: the router's word");
    let cookie = format!("Cookie: {}\r\n", cookie(&answer).unwrap());
    let mut client = Kept::new(&cluster);
    let answer = ask(&mut client, "GET", "/", &format!("{cookie}{forged}"));
    assert!(is_handed_over(&client, &answer), "{answer:?}");
    assert_eq!(told(&answer).as_deref(), Some("6.6.6.6"), "the client's own");
}
