//! Real Node at the other end of a channel: it understands what we write and what we relay.
//!
//! Node's binaries are looked for as `MAJOR/bin/node` in `APPCTL_TEST_NODES`, or else in `.cache/nodes`.

use crate::corpus::{MAJORS, recording};
use crate::patient;
use appctl::wire::Encoding;
use appctl::wire::channel::{Decoder, Frame};
use appctl::wire::cluster::{FromWorker, Query, Sockname, ToWorker, encode};
use appctl::wire::message::{self, Message};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::ffi::OsStr;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Each Node there is, with each encoding.
fn nodes() -> Vec<(u32, PathBuf, Encoding)> {
    let cache = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/nodes");
    let directory = std::env::var_os("APPCTL_TEST_NODES").map_or_else(cache, PathBuf::from);
    let mut nodes = Vec::new();
    for major in MAJORS {
        let node = directory.join(format!("{major}/bin/node"));
        if node.exists() {
            nodes.extend([Encoding::Json, Encoding::Advanced].map(|encoding| (major, node.clone(), encoding)));
        } else {
            eprintln!("skipped: no {} (run tests/run, or set APPCTL_TEST_NODES)", node.display());
        }
    }
    nodes
}

/// Our end of a channel.
struct Channel {
    end: UnixStream,
    decoder: Decoder,
    seq: u64,
}

/// A Node process, killed at the latest when the test is done with it.
struct Worker {
    process: Child,
    channel: Channel,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both ends of a channel.
fn pair(encoding: Encoding) -> (Channel, UnixStream) {
    let (end, theirs) = UnixStream::pair().unwrap();
    end.set_read_timeout(Some(PATIENCE)).unwrap();
    end.set_write_timeout(Some(PATIENCE)).unwrap();
    (Channel { end, decoder: Decoder::new(encoding, 1 << 20), seq: 100 }, theirs)
}

/// `id`: of a cluster worker.
fn start(node: &Path, ends: (Channel, UnixStream), script: &str, id: Option<u64>) -> Worker {
    start_with(node, ends, script, id, &[])
}

fn start_with(
    node: &Path,
    (channel, theirs): (Channel, UnixStream),
    script: &str,
    id: Option<u64>,
    arguments: &[&OsStr],
) -> Worker {
    let script = format!("{}/tests/fixtures/frames/{script}", env!("CARGO_MANIFEST_DIR"));
    let mode = if channel.decoder.encoding() == Encoding::Advanced { "advanced" } else { "json" };
    let mut command = Command::new("sh");
    // std passes on no descriptor but the first three.
    command.args(["-c", "exec \"$0\" \"$@\" 3<&0 0</dev/null"]).arg(node).arg(script).arg(mode).args(arguments);
    command.env_remove("NODE_OPTIONS").env("NODE_CHANNEL_FD", "3").env("NODE_CHANNEL_SERIALIZATION_MODE", mode);
    command.envs(id.map(|id| ("NODE_UNIQUE_ID", id.to_string())));
    let process = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
    Worker { process, channel }
}

impl Channel {
    fn send(&self, message: &ToWorker<'_>) {
        (&self.end).write_all(&encode(self.decoder.encoding(), message)).unwrap();
    }

    /// With its descriptor on the last byte.
    fn hand_over(&self, message: &ToWorker<'_>, connection: &TcpStream) {
        connection.set_nonblocking(true).unwrap();
        let frame = encode(self.decoder.encoding(), message);
        let (last, front) = frame.split_last().unwrap();
        (&self.end).write_all(front).unwrap();
        let descriptors = [connection.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let last = [*last];
        sendmsg::<()>(self.end.as_raw_fd(), &[IoSlice::new(&last)], &rights, MsgFlags::empty(), None).unwrap();
    }

    /// The next frame; `None` when the worker closed the channel.
    fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let mut bytes = [0; 65536];
            let count = patient::read(&self.end, &mut bytes).unwrap();
            if count == 0 {
                return None;
            }
            self.decoder.buffer().extend_from_slice(&bytes[..count]);
        }
    }

    fn message(&mut self) -> Message {
        message::read(&self.frame().expect("an open channel")).unwrap()
    }

    fn query(&mut self) -> (u64, Query) {
        match self.message() {
            Message::Cluster(FromWorker::QueryServer { seq, query }) => (seq, query),
            other => panic!("{other:?}"),
        }
    }

    fn reply(&mut self, ack: u64, key: &str, outcome: Result<Sockname<'_>, i32>, ticket_keys: Option<&str>) {
        self.seq += 1;
        self.send(&ToWorker::QueryReply { ack, seq: self.seq, key, outcome, ticket_keys });
    }

    /// The worker's next message must be this string.
    fn expect(&mut self, text: &str) {
        let expected = encode(self.decoder.encoding(), &ToWorker::Text(text));
        assert_eq!(self.frame().unwrap().bytes, expected);
    }
}

/// A connection on which `request` waits unread: the worker's end and the client's.
fn connection(request: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    (listener.accept().unwrap().0, client)
}

fn response(mut client: TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

const REQUEST: &str = "GET /path HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A message that a process gets as `message`; those with `cmd: 'NODE_…'` it would keep to itself.
fn is_users(frame: &Frame) -> bool {
    let internal = |name: &[u8]| frame.bytes.windows(name.len()).any(|part| part == name);
    !internal(b"NODE_X")
        && !internal(b"NODE_NOTHING")
        && !matches!(
            message::read(frame).unwrap(),
            Message::Handle | Message::Ack | Message::Nack | Message::Cluster(_)
        )
        && !internal(b"NODE_SOCKET_NOTIFY_CLOSE")
}

/// Sends `frames` as they stand; the worker compares what it gets with what Node's decoders make of the same bytes.
fn relay(node: &Path, encoding: Encoding, frames: &[Frame]) {
    assert!(frames.len() > 80);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for frame in frames {
        file.write_all(&frame.bytes).unwrap();
    }
    let mut worker = start_with(node, pair(encoding), "compare.js", None, &[file.path().as_os_str()]);
    for frame in frames {
        (&worker.channel.end).write_all(&frame.bytes).unwrap();
        worker.channel.expect("same");
    }
}

#[test]
fn relayed_frames_arrive_as_they_were_sent() {
    for (major, node, encoding) in nodes() {
        let frames: Vec<Frame> = recording(major, encoding).frames(usize::MAX).into_iter().filter(is_users).collect();
        relay(&node, encoding, &frames);
    }
}

#[test]
fn relayed_frames_arrive_in_another_version() {
    for (major, node, encoding) in nodes() {
        for other in MAJORS.into_iter().filter(|other| *other != major) {
            // V8's own limits: the order of an error's fields, resizable buffers, Float16Array.
            let unreadable = |frame: &Frame| {
                let has = |name: &[u8]| frame.bytes.windows(name.len()).any(|part| part == name);
                encoding == Encoding::Advanced
                    && (major >= 22 && other < 22 && has(b"TypeError: wrong")
                        || major == 18 && has(b"~\x05\x09")
                        || major < 24 && has(b"\\\x00\x0D"))
            };
            let mut frames = recording(other, encoding).frames(usize::MAX);
            frames.retain(|frame| is_users(frame) && !unreadable(frame));
            relay(&node, encoding, &frames);
        }
    }
}

#[test]
fn a_child_understands_what_we_write() {
    for (_, node, encoding) in nodes() {
        let mut worker = start(&node, pair(encoding), "echo.js", None);
        let channel = &mut worker.channel;
        for message in [
            ToWorker::Text("shutdown"),
            ToWorker::Text(""),
            ToWorker::Text("caf\u{e9} \u{20ac} \u{1F600} \"\\\n\u{2028}\0"),
            ToWorker::AdapterClose { uid: "0123456789abcdef", nsp: "/\u{20ac}" },
            ToWorker::WorkerExit { id: 7 },
            ToWorker::WorkerExit { id: 1 << 40 },
        ] {
            channel.send(&message);
            let echo = channel.frame().unwrap();
            let sent = encode(encoding, &message);
            // V8 aligns two-byte strings, we do not.
            let bare = |bytes: &[u8]| bytes.iter().copied().skip(4).filter(|byte| *byte != 0).collect::<Vec<_>>();
            assert_eq!(bare(&echo.bytes), bare(&sent), "{}", echo.bytes.escape_ascii());
        }
        channel.send(&ToWorker::Probe);
        assert_eq!(channel.message(), Message::Nack);
    }
}

#[test]
fn a_cluster_worker_understands_what_we_write() {
    for (_, node, encoding) in nodes() {
        let mut worker = start(&node, pair(encoding), "cluster.js", Some(5));
        let channel = &mut worker.channel;
        assert_eq!(channel.message(), Message::Cluster(FromWorker::Online));

        // It listens.
        let listening = |channel: &mut Channel| match channel.message() {
            Message::Cluster(FromWorker::Listening(query)) => query,
            other => panic!("{other:?}"),
        };
        let (ack, query) = channel.query();
        assert_eq!(query.port, Some(3000));
        channel.reply(ack, "web", Ok(Sockname::Internet { address: "127.0.0.1", six: false, port: 3000 }), None);
        assert_eq!(listening(channel).port, Some(3000));
        let (ack, _) = channel.query();
        channel.reply(ack, "six", Ok(Sockname::Internet { address: "::1", six: true, port: 3001 }), None);
        listening(channel);
        let (ack, query) = channel.query();
        assert_eq!(query.address.as_deref(), Some("/run/app/app.sock"));
        channel.reply(ack, "path \u{20ac}", Ok(Sockname::Path), None);
        listening(channel);
        let (ack, query) = channel.query();
        let sockname = Sockname::Internet { address: "0.0.0.0", six: false, port: 3443 };
        channel.reply(ack, "tls", Ok(sockname), query.ticket_keys.as_deref());
        assert_eq!(listening(channel).ticket_keys, Some("ab".repeat(48)));
        let (ack, _) = channel.query();
        channel.reply(ack, "refused", Err(-98), None);
        channel.expect(
            r#"[{"address":"127.0.0.1","family":"IPv4","port":3000},{"address":"::1","family":"IPv6","port":3001},"/run/app/app.sock",{"address":"0.0.0.0","family":"IPv4","port":3443},"EADDRINUSE"]"#,
        );

        // It takes connections, many at once, in both ways.
        let mut clients = Vec::new();
        for seq in 0..20 {
            let (connection, client) = connection(REQUEST);
            let message =
                if seq % 2 == 0 { ToWorker::NewConnection { key: "web", seq } } else { ToWorker::StickyConnection };
            channel.hand_over(&message, &connection);
            clients.push(client);
        }
        channel.send(&ToWorker::Probe);
        let mut answers: Vec<Message> = (0..31).map(|_| channel.message()).collect();
        assert_eq!(answers.pop(), Some(Message::Nack));
        assert_eq!(answers.iter().filter(|answer| **answer == Message::Ack).count(), 20);
        for seq in (0..20).step_by(2) {
            assert!(answers.contains(&Message::Cluster(FromWorker::Reply { ack: seq, accepted: Some(true) })));
        }
        for client in clients {
            let text = response(client);
            assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("GET /path"), "{text}");
        }
        let (connection, client) = connection(REQUEST);
        channel.hand_over(&ToWorker::NewConnection { key: "none", seq: 99 }, &connection);
        assert_eq!(channel.message(), Message::Ack);
        assert_eq!(channel.message(), Message::Cluster(FromWorker::Reply { ack: 99, accepted: Some(false) }));
        drop(client);

        // It sends a handle of its own, and goes on when that was acknowledged.
        channel.send(&ToWorker::Text("handle"));
        assert_eq!(channel.message(), Message::Handle);
        channel.send(&ToWorker::HandleAck);
        let acknowledged = encode(encoding, &ToWorker::Text("acknowledged"));
        while channel.frame().unwrap().bytes != acknowledged {}

        // It leaves.
        channel.send(&ToWorker::Text("leave"));
        let seq = loop {
            match channel.message() {
                Message::Cluster(FromWorker::ExitedAfterDisconnect { seq }) => break seq,
                Message::Cluster(FromWorker::Close { key }) => assert_ne!(key, "refused"),
                other => panic!("{other:?}"),
            }
        };
        channel.send(&ToWorker::Acknowledge { ack: seq, seq: 1000 });
        assert_eq!(channel.frame(), None);
        assert!(worker.process.wait().unwrap().success());
    }
}

#[test]
fn a_disconnected_worker_closes_its_servers_and_goes() {
    for (_, node, encoding) in nodes() {
        let mut worker = start(&node, pair(encoding), "cluster.js", Some(5));
        let channel = &mut worker.channel;
        assert_eq!(channel.message(), Message::Cluster(FromWorker::Online));
        let (ack, _) = channel.query();
        channel.reply(ack, "web", Ok(Sockname::Internet { address: "127.0.0.1", six: false, port: 3000 }), None);
        channel.message();
        let (ack, _) = channel.query();
        channel.reply(ack, "six", Err(-98), None);
        channel.query();
        channel.send(&ToWorker::Disconnect { seq: 4 });
        assert_eq!(channel.message(), Message::Cluster(FromWorker::Close { key: "web".to_owned() }));
        assert_eq!(channel.frame(), None);
        assert!(worker.process.wait().unwrap().success());
    }
}

/// Why [`ToWorker::Probe`] says that no descriptor may follow it before its answer.
#[test]
fn a_probe_read_together_with_a_handover_takes_its_descriptor() {
    for (_, node, encoding) in nodes() {
        let (channel, theirs) = pair(encoding);
        let (connection, client) = connection("");
        channel.send(&ToWorker::Probe);
        channel.hand_over(&ToWorker::StickyConnection, &connection);
        let mut worker = start(&node, (channel, theirs), "echo.js", None);
        assert_eq!(worker.channel.message(), Message::Ack, "to the probe");
        assert_eq!(worker.channel.message(), Message::Nack, "to the handover");
        drop(connection);
        assert_eq!(response(client), "");
        let frame = worker.channel.frame().unwrap();
        let report = frame.bytes.escape_ascii().to_string();
        assert!(report.contains("undefined\\\":true") || report.contains("undefinedT"), "{report}");
    }
}

#[test]
fn a_probe_behind_handovers_is_safe() {
    for (_, node, encoding) in nodes() {
        let (channel, theirs) = pair(encoding);
        let (connection, client) = connection("");
        channel.hand_over(&ToWorker::StickyConnection, &connection);
        channel.send(&ToWorker::Probe);
        let mut worker = start(&node, (channel, theirs), "echo.js", None);
        let answers: Vec<Message> =
            (0..3).map(|_| worker.channel.message()).filter(|one| *one != Message::Other).collect();
        assert_eq!(answers, [Message::Ack, Message::Nack]);
        drop(connection);
        assert_eq!(response(client), "handed over");
    }
}
