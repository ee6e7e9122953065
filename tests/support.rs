//! A real cluster in the foreground (`appctl run`, real Node, real npm releases) and a plain HTTP client.

use crate::patient;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Generous: two slow cores, other tests beside this one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// `appctl run` with an app of `tests/apps`; stopped when dropped.
pub(crate) struct Cluster {
    child: Child,
    pub(crate) address: SocketAddr,
    lines: Receiver<String>,
    /// All that it has printed so far.
    pub(crate) output: Vec<String>,
    /// Places in `output` that [`Self::until`] has given.
    found: HashSet<usize>,
    files: tempfile::TempDir,
}

/// An address that nobody uses: below the ports that the kernel gives to clients, and another one each time.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 20_000 + (std::process::id() as u16 % 50) * 200 + NEXT.fetch_add(1, Ordering::Relaxed) % 200;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Why a test cannot run here; printed, so that nobody takes it for a pass.
pub(crate) fn skip(reason: &str) {
    println!("skipped: {reason}");
}

impl Cluster {
    /// Starts `tests/apps/SCRIPT` and waits until all workers are ready. `more`: lines for the app's file, tables last.
    /// `None`: the app's packages are not installed.
    pub(crate) fn start(script: &str, workers: usize, more: &str) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(script);
        let directory = script.parent().unwrap();
        if std::fs::read_to_string(directory.join("package.json")).unwrap().contains("dependencies")
            && !directory.join("node_modules").exists()
        {
            skip(&format!("no packages in {}: run npm ci there", directory.display()));
            return None;
        }
        let mut cluster = Self::launch(&script, workers, more);
        for _ in 0..workers {
            cluster.until("is ready");
        }
        Some(cluster)
    }

    /// The same for any script, without waiting.
    pub(crate) fn launch(script: &Path, workers: usize, more: &str) -> Self {
        let address = free_address();
        let exec = format!("exec = [\"node\", {script:?}]\nworkers = {workers}");
        let mut cluster = Self::launch_text(&format!("{exec}\nlisten = [\"{address}\"]\n{more}\n"));
        cluster.address = address;
        cluster
    }

    /// The same for a script that the test brings along, on a free address.
    pub(crate) fn script(text: &str, workers: usize, more: &str) -> Self {
        Self::script_by(&["node"], &[free_address().to_string()], text, workers, more)
    }

    /// A script of the test's own, run by `program` (its path is added) and public at `listen`.
    pub(crate) fn script_by(program: &[&str], listen: &[String], text: &str, workers: usize, more: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let script = files.path().join("worker.js");
        std::fs::write(&script, text).unwrap();
        let mut exec: Vec<&str> = program.to_vec();
        exec.push(script.to_str().unwrap());
        let text = format!("exec = {exec:?}\nworkers = {workers}\nlisten = {listen:?}\n{more}\n");
        let mut cluster = Self::launch_in(files, &text);
        if let Some(address) = listen.iter().find_map(|listen| listen.parse().ok()) {
            cluster.address = address;
        }
        cluster
    }

    /// The same for any file of an app.
    pub(crate) fn launch_text(text: &str) -> Self {
        Self::launch_in(tempfile::tempdir().unwrap(), text)
    }

    fn launch_in(files: tempfile::TempDir, text: &str) -> Self {
        let file = files.path().join("app.toml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_appctl"));
        command.arg("run").arg(file);
        Self::spawn(command, files)
    }

    /// The same by any command.
    pub(crate) fn spawn(mut command: Command, files: tempfile::TempDir) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        for stream in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().unwrap()) as Box<dyn Read + Send>,
        ] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, address, lines, output: Vec::new(), found: HashSet::new(), files }
    }

    /// Waits for a line that contains `text`, and returns it. Each line is found once; one that came earlier and was not
    /// looked for yet counts, because standard output and standard error come in no order.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) -> String {
        let mut from = 0;
        // An app that crashes again and again prints without end.
        let end = Instant::now() + PATIENCE;
        loop {
            while from < self.output.len() {
                if !self.found.contains(&from) && self.output[from].contains(text) {
                    self.found.insert(from);
                    return self.output[from].clone();
                }
                from += 1;
            }
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.output.push(line),
                Err(_) => panic!("no line with {text:?} came; all lines:\n{}", self.output.join("\n")),
            }
        }
    }

    /// Waits for a line with each of these, in any order: the workers' lines and the router's come by two ways.
    pub(crate) fn until_all(&mut self, texts: &[&str]) {
        let from = self.output.len();
        for text in texts {
            if !self.output[from..].iter().any(|line| line.contains(text)) {
                self.until(text);
            }
        }
    }

    /// Waits until all workers are ready.
    pub(crate) fn until_ready(mut self, workers: usize) -> Self {
        for _ in 0..workers {
            self.until("is ready");
        }
        self
    }

    /// Of the router.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Where its files are.
    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One request on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.request("GET", target, b"")
    }

    pub(crate) fn request(&self, method: &str, target: &str, body: &[u8]) -> Response {
        let mut stream = self.connect();
        stream.write_all(&head(method, target, body.len())).unwrap();
        stream.write_all(body).unwrap();
        read_response(&mut stream)
    }

    /// A Socket.IO session over polling, connected to the main namespace. Gives its sid.
    pub(crate) fn session(&self) -> String {
        let opened = self.get(POLLING);
        assert_eq!(opened.status, 200, "{}", opened.text());
        let text = opened.text();
        let packet: serde_json::Value = serde_json::from_str(text.trim_start_matches('0')).unwrap();
        let sid = packet["sid"].as_str().unwrap().to_owned();
        assert_eq!(self.send(&sid, "40"), 200);
        // The answer to the connect packet.
        assert_eq!(self.get(&format!("{POLLING}&sid={sid}")).status, 200);
        sid
    }

    /// Sends one Engine.IO packet; says the status.
    pub(crate) fn send(&self, sid: &str, packet: &str) -> u16 {
        self.request("POST", &format!("{POLLING}&sid={sid}"), packet.as_bytes()).status
    }

    /// Tells it to stop as Ctrl-C does, and waits for the end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(self.child.id() as i32, "INT");
        self.wait()
    }

    /// Waits for the end: until it has closed what it prints to.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.output.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.output.join("\n")),
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub(crate) const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// `kill -NAME pid`
pub(crate) fn signal(pid: i32, name: &str) {
    assert!(pid > 1);
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

pub(crate) fn head(method: &str, target: &str, length: usize) -> Vec<u8> {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }
}

/// Reads one whole response by its Content-Length, or to the end.
pub(crate) fn read_response(stream: &mut TcpStream) -> Response {
    let mut bytes = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        if let httparse::Status::Complete(length) = response.parse(&bytes).unwrap() {
            let status = response.code.unwrap();
            let find = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            let body =
                find("content-length").map(|it| std::str::from_utf8(it.value).unwrap().parse::<usize>().unwrap());
            let chunked = find("transfer-encoding").is_some();
            let head = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let mut rest = bytes[length..].to_vec();
            match body {
                Some(wanted) => {
                    while rest.len() < wanted {
                        assert!(read_some(stream, &mut rest) > 0, "the body ends early: {head}");
                    }
                    rest.truncate(wanted);
                }
                None => while !(100..200).contains(&status) && read_some(stream, &mut rest) > 0 {},
            }
            let body = if chunked { unchunk(&rest) } else { rest };
            return Response { status, head, body };
        }
        assert!(read_some(stream, &mut bytes) > 0, "no response: {:?}", String::from_utf8_lossy(&bytes));
    }
}

/// All until the other side closes.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn read_some(stream: &mut TcpStream, to: &mut Vec<u8>) -> usize {
    let mut piece = [0; 16 * 1024];
    let count = patient::read(stream, &mut piece).unwrap();
    to.extend_from_slice(&piece[..count]);
    count
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let httparse::Status::Complete((start, size)) = httparse::parse_chunk_size(rest).unwrap() else {
            panic!("a chunk is cut off")
        };
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[start..start + size as usize]);
        rest = &rest[start + size as usize + 2..];
    }
}

/// Ends our side; the other may still answer.
pub(crate) fn finish(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}
