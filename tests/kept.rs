//! A client that sends many requests over one connection, as a reverse proxy does.

use crate::patient;
use crate::support::{Cluster, PATIENCE};
use serde_json::Value;
use std::io::Write;
use std::net::TcpStream;

/// What the first request of a shared connection carries.
pub(crate) const SHARED: &str = "X-Forwarded-For: 203.0.113.9";

/// A client of one connection and many requests.
pub(crate) struct Kept {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// What came between the last chunk and the end.
    pub(crate) trailers: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Kept {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self::over(cluster.connect())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// One whose requests go the plain way as long as they are plain, and one on which none will any more.
    pub(crate) fn both(cluster: &Cluster) -> [Self; 2] {
        let mut other = Self::new(cluster);
        assert_eq!(other.ask("GET", "/", "TE: trailers\r\nConnection: TE\r\n").status, 200);
        [Self::new(cluster), other]
    }

    pub(crate) fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    /// Says how much came; 0 at the end.
    fn fill(&mut self) -> usize {
        let mut piece = [0; 64 * 1024];
        let count = patient::read(&self.stream, &mut piece).unwrap();
        self.read.extend_from_slice(&piece[..count]);
        count
    }

    pub(crate) fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8(self.read.drain(..end + 2).collect()).unwrap();
                return line.trim_end().to_owned();
            }
            assert!(self.fill() > 0, "the end instead of a line: {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.fill() > 0, "it ends after {} of {count} bytes", self.read.len());
        }
        self.read.drain(..count).collect()
    }

    /// One answer to a request with this method.
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        let mut head = String::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            head += &(line + "\n");
        }
        let status = head[9..12].parse().unwrap();
        let field = |name: &str| {
            let find = |line: &str| {
                Some(line.split_once(": ")?).filter(|it| it.0.eq_ignore_ascii_case(name)).map(|it| it.1.to_owned())
            };
            head.lines().find_map(find)
        };
        let mut answer = Answer { status, head: head.clone(), body: Vec::new(), trailers: String::new() };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return answer;
        }
        if field("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(&self.line(), 16).unwrap();
                if size == 0 {
                    break;
                }
                answer.body.extend(self.bytes(size));
                assert_eq!(self.line(), "");
            }
            loop {
                let line = self.line();
                if line.is_empty() {
                    return answer;
                }
                answer.trailers += &(line + "\n");
            }
        }
        match field("content-length") {
            Some(length) => answer.body = self.bytes(length.parse().unwrap()),
            None => {
                while self.fill() > 0 {}
                answer.body = std::mem::take(&mut self.read);
            }
        }
        answer
    }

    /// Sends a request without a body.
    pub(crate) fn ask(&mut self, method: &str, target: &str, fields: &str) -> Answer {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{SHARED}\r\n{fields}\r\n"));
        self.answer(method)
    }

    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, "")
    }

    /// Reads to the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.read)
    }
}
