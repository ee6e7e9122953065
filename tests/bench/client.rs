//! The least that a client can do: HTTP/1.1, WebSocket (RFC 6455) and Engine.IO over either, so that the load costs as
//! little as possible, and the same for every peer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// The answer to a request. `body` is kept as text: all that is asked for here is.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// The connection is at its end.
    pub(crate) close: bool,
    /// `name=value` of a cookie that was set.
    pub(crate) cookie: Option<String>,
}

/// One connection, and what was read of it ahead.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(from: Ipv4Addr, to: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).context("no free port for a client")?;
        let stream = socket.connect(to).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(1024) })
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> Result<bool> {
        Ok(self.stream.read_buf(&mut self.read).await.context("reading")? > 0)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("writing")
    }

    /// One whole response.
    pub(crate) async fn response(&mut self) -> Result<Response> {
        loop {
            if let Some((mut response, head, length)) = parse(&self.read)? {
                match length {
                    Length::Chunks => {
                        let mut at = head;
                        loop {
                            match httparse::parse_chunk_size(&self.read[at..]) {
                                Ok(httparse::Status::Complete((start, size))) => {
                                    let (start, size) = (at + start, usize::try_from(size)?);
                                    while self.read.len() < start + size + 2 {
                                        ensure!(self.more().await?, "the body ended early");
                                    }
                                    response.body.push_str(&String::from_utf8_lossy(&self.read[start..start + size]));
                                    at = start + size + 2;
                                    if size == 0 {
                                        break;
                                    }
                                }
                                Ok(httparse::Status::Partial) => ensure!(self.more().await?, "the body ended early"),
                                Err(_) => bail!("a broken chunk"),
                            }
                        }
                        self.read.drain(..at);
                    }
                    Length::Known(length) => {
                        while self.read.len() < head + length {
                            ensure!(self.more().await?, "the body ended early");
                        }
                        response.body = String::from_utf8_lossy(&self.read[head..head + length]).into_owned();
                        self.read.drain(..head + length);
                    }
                    Length::Rest => {
                        while self.more().await? {}
                        response.body = String::from_utf8_lossy(&self.read[head..]).into_owned();
                        self.read.clear();
                        response.close = true;
                    }
                }
                return Ok(response);
            }
            let start = self.read.is_empty();
            ensure!(
                self.more().await?,
                "closed {}",
                if start { "instead of an answer" } else { "in the answer's head" }
            );
        }
    }

    /// Waits for the other side to close.
    async fn ended(&mut self) -> Result<()> {
        while self.more().await? {
            self.read.clear();
        }
        Ok(())
    }
}

/// How long a body is.
enum Length {
    Known(usize),
    Chunks,
    /// All until the connection's end.
    Rest,
}

/// A response's head, its length, and that of the body.
fn parse(bytes: &[u8]) -> Result<Option<(Response, usize, Length)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = parsed.parse(bytes).context("the answer is not HTTP")? else {
        return Ok(None);
    };
    let status = parsed.code.unwrap_or(0);
    let mut response = Response { status, body: String::new(), close: parsed.version == Some(0), cookie: None };
    let mut length = Length::Rest;
    for header in parsed.headers {
        let value = String::from_utf8_lossy(header.value);
        if header.name.eq_ignore_ascii_case("content-length") {
            length = Length::Known(value.trim().parse().context("Content-Length")?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            length = Length::Chunks;
        } else if header.name.eq_ignore_ascii_case("connection") {
            response.close |= value.eq_ignore_ascii_case("close");
        } else if header.name.eq_ignore_ascii_case("set-cookie") {
            response.cookie = value.split(';').next().map(str::to_owned);
        }
    }
    if (100..200).contains(&status) || status == 204 {
        length = Length::Known(0);
    }
    Ok(Some((response, head, length)))
}

/// Where a client comes from and goes to.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: SocketAddr,
}

impl Way {
    pub(crate) async fn connect(self) -> Result<Connection> {
        Connection::open(self.from, self.to).await
    }
}

/// A request's bytes; with the cookie that a proxy has set, as a browser sends it.
pub(crate) fn request(target: &str, body: Option<&str>, keep: bool, cookie: Option<&str>) -> Vec<u8> {
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n");
    if !keep {
        text.push_str("Connection: close\r\n");
    }
    if let Some(cookie) = cookie {
        text.push_str(&format!("Cookie: {cookie}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!(
            "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    } else {
        text.push_str("\r\n");
    }
    text.into_bytes()
}

/// A Socket.IO session over HTTP long-polling.
pub(crate) struct Polling {
    way: Way,
    /// Kept from request to request.
    connection: Option<Connection>,
    keep: bool,
    target: String,
    cookie: Option<String>,
}

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

impl Polling {
    /// Handshake, connection to the main namespace, and its answer: three requests. The second leaves as soon as the first is
    /// answered: a router may not know the session yet.
    pub(crate) async fn open(way: Way, keep: bool) -> Result<Self> {
        let mut session = Self { way, connection: None, keep, target: POLLING.to_owned(), cookie: None };
        let opened = session.ask(None).await.context("handshake")?;
        let sid = opened.split_once(r#""sid":""#).and_then(|(_, rest)| rest.split_once('"'));
        let Some((sid, _)) = sid else { bail!("handshake: {opened:?}") };
        session.target = format!("{POLLING}&sid={sid}");
        session.post("40").await.context("connect")?;
        let answer = session.ask(None).await.context("poll")?;
        ensure!(answer.starts_with(r#"40{"sid""#), "poll: {answer:?}");
        Ok(session)
    }

    /// One event there and its acknowledgement back: two requests.
    pub(crate) async fn echo(&mut self, text: &str) -> Result<()> {
        self.post(&format!(r#"420["echo","{text}"]"#)).await.context("send")?;
        let answer = self.ask(None).await.context("poll")?;
        ensure!(answer == format!(r#"430["{text}"]"#), "a wrong echo: {answer:?}");
        Ok(())
    }

    pub(crate) async fn close(mut self) -> Result<()> {
        self.post("1").await.context("close")
    }

    async fn post(&mut self, packet: &str) -> Result<()> {
        let answer = self.ask(Some(packet)).await?;
        ensure!(answer == "ok", "{answer:?}");
        Ok(())
    }

    async fn ask(&mut self, body: Option<&str>) -> Result<String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.way.connect().await?,
        };
        connection.send(&request(&self.target, body, self.keep, self.cookie.as_deref())).await?;
        let response = connection.response().await?;
        if self.keep && !response.close {
            self.connection = Some(connection);
        }
        if response.cookie.is_some() {
            self.cookie = response.cookie;
        }
        ensure!(response.status == 200, "status {}: {}", response.status, response.body.trim());
        Ok(response.body)
    }
}

/// A Socket.IO session over WebSocket.
pub(crate) struct WebSocket {
    connection: Connection,
}

impl WebSocket {
    /// The upgrade and Engine.IO's open packet.
    pub(crate) async fn open(way: Way) -> Result<Self> {
        const UPGRADE: &[u8] = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
            Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut connection = way.connect().await?;
        connection.send(UPGRADE).await?;
        let response = connection.response().await.context("upgrade")?;
        ensure!(response.status == 101, "upgrade: status {}: {}", response.status, response.body.trim());
        let mut socket = Self { connection };
        let opened = socket.receive().await.context("open packet")?;
        ensure!(opened.starts_with(r#"0{"sid""#), "open packet: {opened:?}");
        Ok(socket)
    }

    /// The same, connected to the main namespace.
    pub(crate) async fn session(way: Way) -> Result<Self> {
        let mut socket = Self::open(way).await?;
        socket.send("40").await?;
        let answer = socket.receive().await.context("connect")?;
        ensure!(answer.starts_with(r#"40{"sid""#), "connect: {answer:?}");
        Ok(socket)
    }

    pub(crate) async fn send(&mut self, text: &str) -> Result<()> {
        self.connection.send(&frame(TEXT, text.as_bytes())).await
    }

    /// The next text message.
    pub(crate) async fn receive(&mut self) -> Result<String> {
        loop {
            if let Some((opcode, head, length)) = header(&self.connection.read)
                && self.connection.read.len() >= head + length
            {
                let payload = String::from_utf8_lossy(&self.connection.read[head..head + length]).into_owned();
                self.connection.read.drain(..head + length);
                ensure!(opcode == TEXT, "a frame of kind {opcode} came: {payload:?}");
                if payload != "2" {
                    return Ok(payload);
                }
                self.send("3").await?;
                continue;
            }
            ensure!(self.connection.more().await?, "closed");
        }
    }

    pub(crate) async fn echo(&mut self, text: &str) -> Result<()> {
        self.send(&format!(r#"420["echo","{text}"]"#)).await?;
        let answer = self.receive().await?;
        ensure!(answer == format!(r#"430["{text}"]"#), "a wrong echo: {answer:?}");
        Ok(())
    }

    /// The process that serves it.
    pub(crate) async fn who(&mut self) -> Result<i32> {
        self.send(r#"421["who"]"#).await?;
        let answer = self.receive().await?;
        let pid = answer.strip_prefix("431[").and_then(|rest| rest.strip_suffix(']'));
        pid.and_then(|pid| pid.parse().ok()).with_context(|| format!("who: {answer:?}"))
    }

    /// In order: we say so, the other side closes.
    pub(crate) async fn close(mut self) -> Result<()> {
        self.connection.send(&frame(CLOSE, &1000_u16.to_be_bytes())).await?;
        self.connection.ended().await
    }
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// A client's frame. The mask is there because servers insist; it need not be a secret here.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    bytes.push(0x80 | opcode);
    match u16::try_from(payload.len()) {
        Ok(length) if length < 126 => bytes.push(0x80 | length as u8),
        Ok(length) => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Kind, length of the header and of the payload of a server's frame; none if there are too few bytes.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    let opcode = first & 0x0f;
    match second & 0x7f {
        126 => Some((opcode, 4, usize::from(u16::from_be_bytes(*rest.first_chunk()?)))),
        127 => Some((opcode, 10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?)),
        length => Some((opcode, 2, usize::from(length))),
    }
}
