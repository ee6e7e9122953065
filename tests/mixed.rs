//! No answer ever reaches another than who has asked, whatever clients and workers do: a long random test with tagged
//! requests.
//!
//! `APPCTL_SEED` repeats a run (each prints its own), `APPCTL_REQUESTS` makes it longer.

use crate::kept::SHARED;
use crate::patient;
use crate::support::{Cluster, PATIENCE};
use std::collections::{BTreeMap, HashSet};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

const CLIENTS: usize = 16;
const REQUESTS: usize = 8_000;
const WORKERS: usize = 3;

/// Says of each request what it was, and cries out where its parts do not belong together.
const APP: &str = "
    const http = require('http');
    const server = http.createServer((q, r) => {
      const { tag, kind, wait } = Object.fromEntries(new URL(q.url, 'http://a').searchParams);
      if (kind === 'die') process.exit(1);
      let body = '';
      q.setEncoding('latin1');
      q.on('error', () => {});
      q.on('data', (data) => { body += data; });
      r.setHeader('X-Tag', tag);
      const check = () => {
        if (tag === undefined || q.headers['x-tag'] !== tag || body !== tag.repeat(body.length / tag.length))
          console.log('MIXED', q.url, q.headers['x-tag'], body.slice(0, 200));
      };
      const text = () => `${tag} ${body} ${tag}`;
      const answers = {
        plain: () => r.end(text()),
        chunked: () => { const whole = text(); const n = Math.ceil(whole.length / 5);
                         for (let i = 0; i < whole.length; i += n) r.write(whole.slice(i, i + n)); r.end(); },
        trailers: () => {
          // Node dies of a Trailer field where no body is.
          if (q.method === 'HEAD') return r.end();
          r.setHeader('Trailer', 'X-End'); r.write(text()); r.addTrailers({ 'X-End': tag }); r.end();
        },
        none: () => { r.writeHead(204); r.end(); },
        same: () => { r.writeHead(304, { ETag: tag }); r.end(); },
        hints: () => { r.writeEarlyHints({ link: `</${tag.slice(1, -1)}>; rel=preload` }); setTimeout(() => r.end(text()), 2); },
        close: () => { r.setHeader('Connection', 'close'); r.end(text()); },
        big: () => { const piece = tag.repeat(2000); for (let i = 0; i < 8; i++) r.write(piece); r.end(); },
        cut: () => { r.setHeader('Content-Length', text().length + 5000); r.write(text()); setTimeout(() => q.socket.destroy(), 2); },
      };
      if (kind === 'early') { r.end(`${tag}  ${tag}`); return; }
      q.on('end', () => { check(); setTimeout(answers[kind], Number(wait)); });
    });
    server.on('upgrade', (q, socket) => {
      const { tag } = Object.fromEntries(new URL(q.url, 'http://a').searchParams);
      socket.on('error', () => {});
      socket.write(`HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: x\\r\\nConnection: Upgrade\\r\\nX-Tag: ${tag}\\r\\n\\r\\n`);
      let all = '';
      socket.on('data', (data) => { all += data.toString('latin1'); socket.write(data); });
      socket.on('end', () => {
        if (!`${tag}/`.repeat(all.length / tag.length + 1).startsWith(all)) console.log('MIXED', tag, all.slice(0, 200));
        socket.end();
      });
    });
    server.listen(3000);
";

/// xorshift64
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % end
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// The connection ended before all of an answer had come.
#[derive(Debug)]
struct Broken;

/// One connection, and all that is asked over it.
struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
    /// All that has come.
    all: Vec<u8>,
    tags: Vec<String>,
    /// All its requests are plain ones; else any.
    plain: bool,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
    trailers: String,
}

impl Wire {
    fn new(address: SocketAddr, random: &mut Random) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new(), all: Vec::new(), tags: Vec::new(), plain: random.one_in(2) }
    }

    /// In pieces. One that is closed already is found so when it is read.
    fn send(&mut self, bytes: &[u8], random: &mut Random) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = if random.one_in(3) { 1 + random.below(rest.len()) } else { rest.len() };
            if self.stream.write_all(&rest[..count]).is_err() {
                return;
            }
            rest = &rest[count..];
        }
    }

    fn fill(&mut self) -> Result<(), Broken> {
        let mut piece = [0; 32 * 1024];
        match patient::read(&mut self.stream, &mut piece) {
            Ok(0) => Err(Broken),
            Ok(count) => {
                self.read.extend_from_slice(&piece[..count]);
                self.all.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(Broken),
            Err(error) => panic!("{error}; asked: {:?}; came: {:?}", self.tags, String::from_utf8_lossy(&self.all)),
        }
    }

    fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill()?;
        }
    }

    fn bytes(&mut self, count: usize) -> Result<String, Broken> {
        while self.read.len() < count {
            self.fill()?;
        }
        Ok(String::from_utf8_lossy(&self.read.drain(..count).collect::<Vec<_>>()).into_owned())
    }

    fn lines(&mut self) -> Result<String, Broken> {
        let mut lines = String::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(lines);
            }
            lines += &(line + "\n");
        }
    }

    fn answer(&mut self, method: &str) -> Result<Answer, Broken> {
        let head = self.lines()?;
        assert!(head.starts_with("HTTP/1.1 "), "no answer begins so: {head:?}");
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: String::new(), trailers: String::new() };
        let field = |name: &str| {
            let mut lines = answer.head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        if method == "HEAD" || status < 200 || [204, 304].contains(&status) {
            return Ok(answer);
        }
        if field("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).unwrap();
                if size == 0 {
                    break;
                }
                answer.body += &self.bytes(size)?;
                assert_eq!(self.bytes(2)?, "\r\n");
            }
            answer.trailers = self.lines()?;
        } else {
            let length = field("content-length").unwrap_or_else(|| panic!("no length: {answer:?}"));
            answer.body = self.bytes(length.parse().unwrap())?;
        }
        Ok(answer)
    }

    /// Every tag that has come belongs to a request of this connection.
    fn check(&self) {
        let text = String::from_utf8_lossy(&self.all);
        let own: HashSet<&str> = self.tags.iter().map(String::as_str).collect();
        for tag in text.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag) {
            // The end of a chunk goes through it.
            if tag.contains("\r\n") {
                continue;
            }
            assert!(own.contains(tag.trim_start_matches('/')), "{tag} came to the one who asked for {:?}", self.tags);
        }
    }
}

/// One request: its text, and what is expected.
struct Asked {
    method: &'static str,
    kind: &'static str,
    tag: String,
    body: String,
    /// It asks for trailer fields.
    trailers: bool,
    text: String,
}

const KINDS: [&str; 10] = ["plain", "chunked", "trailers", "none", "same", "hints", "close", "big", "early", "cut"];

/// `plain`: one that needs nothing but to be passed on. Others are some of the rest.
fn request(tag: String, plain: bool, random: &mut Random) -> Asked {
    let plain = plain || random.one_in(2);
    // The rare one is rare because it costs a connection.
    let kind = if random.one_in(60) { "cut" } else { KINDS[random.below(KINDS.len() - 1)] };
    let method = ["GET", "GET", "HEAD", "POST", "PUT", "DELETE"][random.below(6)];
    let marked = format!("<{tag}>");
    let body = match method {
        "POST" | "PUT" => {
            let most = if random.one_in(5) { 4000 } else { 20 };
            marked.repeat(random.below(most))
        }
        _ => String::new(),
    };
    let wait = [0, 0, 0, 1, 4][random.below(5)];
    let target = format!("/?tag=%3C{tag}%3E&kind={kind}&wait={wait}");
    let target = if !plain && random.one_in(10) { format!("http://a{target}") } else { target };
    let trailers = !plain && !random.one_in(5);
    let more = if trailers { "TE: trailers\r\nConnection: TE\r\n" } else { "Connection: keep-alive\r\n" };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n{more}X-Tag: {marked}\r\n");
    let text = match random.below(3) {
        _ if body.is_empty() && method != "POST" => format!("{head}\r\n"),
        0 if !plain => {
            let mut text = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
            for piece in body.as_bytes().chunks(1 + random.below(5000)) {
                text += &format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
            }
            text + "0\r\n\r\n"
        }
        _ => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
    };
    Asked { method, kind, tag, body, trailers, text }
}

/// What a whole answer must be.
fn judge(asked: &Asked, answer: &Answer) {
    let tag = format!("<{}>", asked.tag);
    let status = match asked.kind {
        "none" => 204,
        "same" => 304,
        _ => 200,
    };
    assert_eq!(answer.status, status, "{tag} {}: {answer:?}", asked.kind);
    assert!(answer.head.to_lowercase().contains(&format!("x-tag: {tag}\n")), "{tag}: {answer:?}");
    let body = match asked.kind {
        _ if asked.method == "HEAD" || status != 200 => String::new(),
        "big" => tag.repeat(16_000),
        "early" => format!("{tag}  {tag}"),
        _ => format!("{tag} {} {tag}", asked.body),
    };
    assert!(answer.body == body, "{tag} {}: {:.300} instead of {body:.300}", asked.kind, answer.body);
    if asked.kind == "trailers" && asked.method != "HEAD" && asked.trailers {
        assert_eq!(answer.trailers.to_lowercase(), format!("x-end: {tag}\n"));
    } else {
        assert_eq!(answer.trailers, "");
    }
}

#[derive(Debug, Default)]
struct Client {
    /// What has happened how often.
    seen: BTreeMap<&'static str, usize>,
}

impl Client {
    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn run(mut self, number: usize, address: SocketAddr, seed: u64, requests: usize) -> Self {
        let mut random = Random(seed.wrapping_mul(number as u64 * 2 + 3) | 1);
        let mut wire = Wire::new(address, &mut random);
        let mut done = 0;
        while done < requests {
            let next = |wire: &mut Wire, done: &mut usize, random: &mut Random| {
                *done += 1;
                let tag = format!("{number}-{done}-{}", random.below(1 << 30));
                wire.tags.push(tag.clone());
                request(tag, wire.plain, random)
            };
            let again = |wire: &mut Wire, random: &mut Random| {
                wire.check();
                *wire = Wire::new(address, random);
            };
            match random.below(120) {
                0 | 1 => {
                    // Gone in the middle of a request, perhaps with others before it.
                    let first = next(&mut wire, &mut done, &mut random);
                    let asked = next(&mut wire, &mut done, &mut random);
                    let text = if random.one_in(2) { first.text + &asked.text } else { asked.text };
                    let end = random.below(text.len());
                    wire.send(&text.as_bytes()[..end], &mut random);
                    self.count("left in a request");
                    again(&mut wire, &mut random);
                }
                2 | 3 => {
                    // Gone in the middle of an answer.
                    let asked = next(&mut wire, &mut done, &mut random);
                    wire.send(asked.text.as_bytes(), &mut random);
                    // No answer is shorter.
                    let _ = wire.bytes(1 + random.below(80));
                    self.count("left in an answer");
                    again(&mut wire, &mut random);
                }
                4 => {
                    self.smuggle(&mut wire, &mut random, number, &mut done);
                    again(&mut wire, &mut random);
                }
                5 | 6 => {
                    self.switch(&mut wire, &mut random, number, &mut done);
                    again(&mut wire, &mut random);
                }
                7 if random.one_in(3) => {
                    // A worker dies of this one.
                    let text = format!("GET /?kind=die HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nConnection: x\r\n\r\n");
                    wire.send(text.replace("GET", "POST").as_bytes(), &mut random);
                    let _ = wire.answer("POST");
                    self.count("killed a worker");
                    again(&mut wire, &mut random);
                }
                _ => {
                    let batch: Vec<_> =
                        (0..1 + random.below(5)).map(|_| next(&mut wire, &mut done, &mut random)).collect();
                    let text: String = batch.iter().map(|asked| asked.text.as_str()).collect();
                    // What is written must be read meanwhile, lest both sides wait for each other.
                    let mut writer = wire.stream.try_clone().unwrap();
                    let writing = std::thread::spawn(move || drop(writer.write_all(text.as_bytes())));
                    let whole = batch.iter().all(|asked| self.read(&mut wire, asked));
                    if !whole {
                        again(&mut wire, &mut random);
                    }
                    writing.join().unwrap();
                }
            }
        }
        wire.check();
        self
    }

    /// Reads the answer to one request. `false`: the connection has ended, or is about to.
    fn read(&mut self, wire: &mut Wire, asked: &Asked) -> bool {
        let mut answer = wire.answer(asked.method);
        // Once more, when the worker died behind it and another was asked.
        while let Ok(hints) = &answer
            && hints.status == 103
        {
            assert!(hints.head.to_lowercase().contains(&format!("link: </{}>; rel=preload\n", asked.tag)), "{hints:?}");
            self.count("103");
            answer = wire.answer(asked.method);
        }
        match answer {
            Ok(answer) if [502, 503].contains(&answer.status) => {
                assert!(
                    asked.method == "HEAD" || answer.body.ends_with('\n') && !answer.body.contains('<'),
                    "{answer:?}"
                );
                self.count(if answer.status == 502 { "502" } else { "503" });
                false
            }
            Ok(answer) => {
                judge(asked, &answer);
                self.count(asked.kind);
                true
            }
            Err(Broken) => {
                self.count("broken off");
                false
            }
        }
    }

    /// A request that two parsers could read differently, and another that hides in it.
    fn smuggle(&mut self, wire: &mut Wire, random: &mut Random, number: usize, done: &mut usize) {
        *done += 1;
        let hidden = format!(
            "GET /?tag=%3Csmuggled-{number}-{done}%3E&kind=plain&wait=0 HTTP/1.1\r\nHost: a\r\nX-Tag: x\r\n\r\n"
        );
        let head = format!("POST /?tag=x&kind=plain&wait=0 HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n");
        let text = match random.below(4) {
            0 => format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
            1 => format!("{head}Content-Length: {}\r\nContent-Length: 0\r\n\r\n{hidden}", hidden.len()),
            2 => format!("{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
            _ => format!("{head}X: a\nContent-Length: 0\r\n\r\n{hidden}"),
        };
        wire.send(text.as_bytes(), random);
        if let Ok(answer) = wire.answer("POST") {
            assert_eq!(answer.status, 400, "{answer:?}");
        }
        while wire.fill().is_ok() {}
        assert!(wire.read.is_empty(), "more than one answer: {}", String::from_utf8_lossy(&wire.read));
        self.count("smuggled");
    }

    /// Switches to another protocol.
    fn switch(&mut self, wire: &mut Wire, random: &mut Random, number: usize, done: &mut usize) {
        *done += 1;
        let tag = format!("{number}-{done}-{}", random.below(1 << 30));
        wire.tags.push(tag.clone());
        let marked = format!("<{tag}>");
        let text = format!(
            "GET /?tag=%3C{tag}%3E HTTP/1.1\r\nHost: a\r\n{SHARED}\r\nX-Tag: {marked}\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
        );
        wire.send(text.as_bytes(), random);
        let Ok(answer) = wire.answer("GET") else { return self.count("broken off") };
        if [502, 503].contains(&answer.status) {
            return self.count("502");
        }
        assert_eq!(answer.status, 101, "{answer:?}");
        assert!(answer.head.contains(&format!("X-Tag: {marked}\n")), "{tag}: {answer:?}");
        for _ in 0..random.below(5) {
            let piece = format!("{marked}/").repeat(1 + random.below(500));
            wire.send(piece.as_bytes(), random);
            match wire.bytes(piece.len()) {
                Ok(echo) => assert!(echo == piece, "{tag}: {echo:.300}"),
                Err(Broken) => return self.count("broken off"),
            }
        }
        self.count("101");
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn every_answer_goes_to_who_has_asked() {
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = variable("APPCTL_SEED").unwrap_or(clock);
    let requests = variable("APPCTL_REQUESTS").map_or(REQUESTS, |count| count as usize);
    println!("APPCTL_SEED={seed} APPCTL_REQUESTS={requests}");
    let mut cluster = Cluster::script(APP, WORKERS, "").until_ready(WORKERS);
    let address = cluster.address;
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || Client::default().run(number, address, seed, requests / CLIENTS)))
            .collect();
        for client in clients {
            for (what, count) in client.join().expect("a client").seen {
                *seen.entry(what).or_default() += count;
            }
        }
    });
    println!("{seen:?}");
    cluster.stop();
    let mixed: Vec<_> = cluster.output.iter().filter(|line| line.contains("MIXED")).collect();
    assert!(mixed.is_empty(), "{mixed:#?}");
    // All of it has happened.
    let whole = KINDS.iter().filter(|kind| **kind != "cut").copied();
    let others = ["103", "101", "smuggled", "left in a request", "left in an answer", "broken off"];
    for what in whole.chain(others) {
        assert!(seen.contains_key(what), "{what} has not happened: {seen:?}");
    }
    if requests >= REQUESTS {
        assert!(seen.contains_key("killed a worker"), "{seen:?}");
    }
}
