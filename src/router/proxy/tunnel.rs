//! Two connections that have switched to another protocol, joined: what comes from one goes to the other.

use crate::router::Router;
use crate::router::sticky::Hold;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::rc::Rc;
use tokio::io::copy_bidirectional;

/// Joins them once both have switched, until both have ended or the router does. `hold`: of the request's key.
pub(super) fn join(router: &Rc<Router>, client: OnUpgrade, worker: OnUpgrade, hold: Option<Hold>) {
    let tunnel = Tunnel::enter(router);
    tokio::task::spawn_local(async move {
        let _hold = hold;
        let joined = async {
            // What either has sent already comes first.
            let (client, worker) = (client.await?, worker.await?);
            let copied = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(worker)).await;
            if let Err(error) = copied {
                tracing::debug!(%error, "a joined connection broke");
            }
            Ok::<_, hyper::Error>(())
        };
        tokio::select! {
            joined = joined => if let Err(error) = joined {
                tracing::debug!(%error, "a connection ended while it switched protocols");
            },
            () = tunnel.0.proxy.cut.cancelled() => {}
        }
    });
}

/// Counted as long as it is there.
struct Tunnel(Rc<Router>);

impl Tunnel {
    fn enter(router: &Rc<Router>) -> Self {
        router.proxy.tunnels.set(router.proxy.tunnels.get() + 1);
        Self(Rc::clone(router))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.proxy.tunnels.set(self.0.proxy.tunnels.get() - 1);
        self.0.drained.notify_waiters();
    }
}
