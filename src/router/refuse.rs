//! Answers that the router gives itself, where no worker can.

use crate::system::sock::watch_shared;
use hyper::StatusCode;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;

/// How long a refused client may take to read its answer and close.
const LINGER: Duration = Duration::from_secs(2);
/// How much of what it still sends is read and thrown away meanwhile, bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// Why a connection is not served (RFC 9110 §15, RFC 6585 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What came is not HTTP/1.
    Malformed(&'static str),
    /// The head did not come in time.
    HeadTimeout,
    HeadTooLong,
    /// No worker can take it now.
    NoWorker,
    /// Too many connections wait already.
    TooMany,
    /// The worker's connection ended before it had answered.
    Broken,
    /// Nothing of the body came for too long.
    BodyTimeout,
    /// The worker has not answered in time.
    AnswerTimeout,
    /// Its address has too many connections.
    AddressLimit,
}

impl Refusal {
    /// How many kinds there are.
    pub(crate) const KINDS: usize = 9;

    /// One of each kind, in the order of [`Self::kind`].
    pub(crate) fn all() -> [Self; Self::KINDS] {
        [
            Self::Malformed("malformed"),
            Self::HeadTimeout,
            Self::HeadTooLong,
            Self::NoWorker,
            Self::TooMany,
            Self::Broken,
            Self::BodyTimeout,
            Self::AnswerTimeout,
            Self::AddressLimit,
        ]
    }

    /// For counting: an index below [`Self::KINDS`].
    pub(crate) fn kind(self) -> usize {
        match self {
            Self::Malformed(_) => 0,
            Self::HeadTimeout => 1,
            Self::HeadTooLong => 2,
            Self::NoWorker => 3,
            Self::TooMany => 4,
            Self::Broken => 5,
            Self::BodyTimeout => 6,
            Self::AnswerTimeout => 7,
            Self::AddressLimit => 8,
        }
    }

    /// The counter's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::HeadTimeout => "head_timeout",
            Self::HeadTooLong => "head_limit",
            Self::NoWorker => "no_worker",
            Self::TooMany => "waiting_limit",
            Self::Broken => "worker_broke_off",
            Self::BodyTimeout => "body_timeout",
            Self::AnswerTimeout => "answer_timeout",
            Self::AddressLimit => "address_limit",
        }
    }

    fn status(self) -> &'static str {
        match self {
            Self::Malformed(_) => "400 Bad Request",
            Self::HeadTimeout | Self::BodyTimeout => "408 Request Timeout",
            Self::HeadTooLong => "431 Request Header Fields Too Large",
            Self::NoWorker | Self::TooMany => "503 Service Unavailable",
            Self::Broken => "502 Bad Gateway",
            Self::AnswerTimeout => "504 Gateway Timeout",
            Self::AddressLimit => "429 Too Many Requests",
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Malformed(reason) => reason,
            Self::HeadTimeout => "the request head did not arrive in time",
            Self::HeadTooLong => "the request head is too long",
            Self::NoWorker => "no worker of this app is ready",
            Self::TooMany => "too many connections are waiting",
            Self::Broken => "the worker ended the connection before it had answered",
            Self::BodyTimeout => "the request body did not arrive in time",
            Self::AnswerTimeout => "the worker did not answer in time",
            Self::AddressLimit => "too many connections from this address",
        }
    }

    pub(crate) fn code(self) -> StatusCode {
        StatusCode::from_bytes(&self.status().as_bytes()[..3]).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Seconds, where trying again makes sense.
    pub(crate) fn retry_after(self) -> Option<&'static str> {
        matches!(self, Self::NoWorker | Self::TooMany | Self::AddressLimit).then_some("2")
    }

    /// The whole response.
    pub(crate) fn response(self) -> String {
        let retry = self.retry_after().map_or_else(String::new, |seconds| format!("Retry-After: {seconds}\r\n"));
        let (status, body) = (self.status(), self.reason());
        let length = body.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\n{retry}Cache-Control: no-store\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{body}\n"
        )
    }
}

/// Answers, then waits a little for the client to close: closing with unread bytes would reset the connection, and the
/// reset can overtake the answer.
pub(crate) async fn refuse(client: Rc<OwnedFd>, refusal: Refusal) {
    // A fresh or idle connection has room for a few hundred bytes; a client that left no room gets nothing.
    let response = refusal.response();
    let sent = send(client.as_raw_fd(), response.as_bytes(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    if sent.is_err() || shutdown(client.as_raw_fd(), Shutdown::Write).is_err() {
        return;
    }
    let Ok(registered) = watch_shared(client, Interest::READABLE) else {
        return;
    };
    let drained = async {
        let mut scrap = [0; 4096];
        let mut total = 0;
        while total < LINGER_BYTES {
            let Ok(mut guard) = registered.readable().await else {
                return;
            };
            match guard.try_io(|inner| Ok(recv(inner.get_ref().as_raw_fd(), &mut scrap, MsgFlags::MSG_DONTWAIT)?)) {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(count)) => total += count,
                Err(_would_block) => {}
            }
        }
    };
    // Past the time the client has had its chance.
    let _ = tokio::time::timeout(LINGER, drained).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_a_whole_response() {
        for (kind, refusal) in Refusal::all().into_iter().enumerate() {
            assert_eq!(refusal.kind(), kind);
            let text = refusal.response();
            let mut headers = [httparse::EMPTY_HEADER; 8];
            let mut response = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(head) = response.parse(text.as_bytes()).unwrap() else {
                panic!("incomplete: {text}")
            };
            let length = response.headers.iter().find(|header| header.name == "Content-Length").unwrap().value;
            assert_eq!(std::str::from_utf8(length).unwrap().parse::<usize>().unwrap(), text.len() - head);
            let retry = response.headers.iter().any(|header| header.name == "Retry-After");
            assert_eq!(retry, matches!(response.code, Some(429 | 503)));
            assert_eq!(response.code, Some(refusal.code().as_u16()));
        }
    }
}
