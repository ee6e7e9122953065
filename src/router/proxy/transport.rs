//! A client's bytes, in the clear or inside of TLS.

use crate::router::refuse::{Refusal, refuse};
use crate::system::stream::Stream;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::server::TlsStream;

/// How long a client may take to have the last words.
const LINGER: Duration = Duration::from_secs(2);

/// Its clones are the same connection.
#[derive(Debug, Clone)]
pub(super) enum Transport {
    Plain(Stream),
    /// (hyper wants what it hands back after an upgrade to be Send.)
    Tls(Arc<Mutex<TlsStream<Stream>>>),
}

impl Transport {
    pub(super) fn tls(stream: TlsStream<Stream>) -> Self {
        Self::Tls(Arc::new(Mutex::new(stream)))
    }

    /// The connection itself.
    pub(super) fn raw(&self) -> Stream {
        match self {
            Self::Plain(stream) => stream.clone(),
            Self::Tls(stream) => lock(stream).get_ref().0.clone(),
        }
    }

    /// Answers so, and ends the connection in order. This is its last clone.
    pub(super) async fn refuse(self, refusal: Refusal) {
        match self {
            Self::Plain(stream) => {
                if let Some(socket) = stream.into_socket() {
                    refuse(Rc::new(socket), refusal).await;
                }
            }
            Self::Tls(_) => self.end_with(refusal.response().as_bytes()).await,
        }
    }

    async fn end_with(mut self, words: &[u8]) {
        let said = async {
            self.write_all(words).await?;
            self.shutdown().await
        };
        // A client that is gone, or does not read, misses them.
        let _ = tokio::time::timeout(LINGER, said).await;
    }
}

fn lock(stream: &Mutex<TlsStream<Stream>>) -> MutexGuard<'_, TlsStream<Stream>> {
    // One thread.
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(&mut *lock(stream)).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut *lock(stream)).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Tls(stream) => Pin::new(&mut *lock(stream)).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut *lock(stream)).poll_flush(cx),
        }
    }

    /// Inside of TLS with a word that this is the end (close_notify, RFC 8446 §6.1).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut *lock(stream)).poll_shutdown(cx),
        }
    }
}
