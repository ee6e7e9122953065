//! The loop: takes ready-made listeners and a stop signal, and serves until it comes.

use super::{Router, control, handover, health, meet, metrics, usage};
use crate::system::activation::{Address, Listener};
use crate::system::sock::{accept, set_nonblocking, watch};
use nix::errno::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

/// Connections accepted in a row before the workers' channels get their turn.
const ACCEPT_BATCH: usize = 32;
/// After accept(2) failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the loop serves.
pub struct Listeners {
    pub public: Vec<Listener>,
    pub channel: Option<UnixListener>,
    pub control: Option<UnixListener>,
    /// Where the metrics are served, beside the control socket.
    pub metrics: Option<Listener>,
}

/// Serves until `stop`, then lets go of what is on its way. Run it in a `LocalSet`.
pub async fn run(router: Rc<Router>, listeners: Listeners, stop: CancellationToken) -> io::Result<()> {
    for listener in listeners.public {
        let address = Rc::new(listener.address());
        let (router, stop) = (Rc::clone(&router), stop.clone());
        let socket = match listener {
            Listener::Tcp(tcp) => OwnedFd::from(tcp),
            Listener::Unix(unix) => OwnedFd::from(unix),
        };
        set_nonblocking(&socket)?;
        let socket = watch(socket, Interest::READABLE)?;
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = accept_clients(&router, &socket, &address) => {}
            }
        });
    }
    if let Some(channel) = listeners.channel {
        let (router, stop) = (Rc::clone(&router), stop.clone());
        channel.set_nonblocking(true)?;
        let channel = tokio::net::UnixListener::from_std(channel)?;
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = meet::accept_workers(&router, channel) => {}
            }
        });
    }
    if let Some(socket) = listeners.control {
        let (router, stop) = (Rc::clone(&router), stop.clone());
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixListener::from_std(socket)?;
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = control::serve(&router, socket) => {}
            }
        });
    }
    if let Some(listener) = listeners.metrics {
        let (router, stop) = (Rc::clone(&router), stop.clone());
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                Err(error) = metrics::serve(&router, listener) => {
                    tracing::error!(APP = router.app, %error, "cannot serve the metrics");
                }
            }
        });
    }
    tokio::task::spawn_local(health::watch(Rc::clone(&router)));
    tokio::task::spawn_local(usage::watch(Rc::clone(&router)));
    stop.cancelled().await;
    router.close_proxy().await;
    if router.hand_on() {
        return Ok(());
    }
    let last = async {
        while router.waiting.get() > router.silent.borrow().len() {
            router.drained.notified().await;
        }
    };
    // Whoever has not been taken by then is cut off by the exit.
    if tokio::time::timeout(Duration::from_secs(2), last).await.is_err() {
        tracing::warn!(APP = router.app, waiting = router.waiting.get(), "stopping with connections still waiting");
    }
    Ok(())
}

async fn accept_clients(router: &Rc<Router>, socket: &AsyncFd<OwnedFd>, address: &Rc<Address>) {
    router.until_resumed().await;
    loop {
        let Ok(mut guard) = socket.readable().await else {
            return;
        };
        for _ in 0..ACCEPT_BATCH {
            match accept(socket.get_ref()) {
                Ok(client) => {
                    handover::enter(router, client, Rc::clone(address));
                }
                Err(Errno::EAGAIN) => {
                    guard.clear_ready();
                    break;
                }
                // accept(2): errors of the new connection, not of the listener.
                Err(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO | Errno::EPERM) => {}
                Err(error) => {
                    tracing::error!(APP = router.app, %address, %error, "cannot accept connections now");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    break;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}
