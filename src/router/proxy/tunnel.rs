//! Two connections that have switched to another protocol, joined: what comes from one goes to the other.

use super::client::{Conn, KEEP_ALIVE, socket_of};
use crate::router::Router;
use crate::router::link::Client;
use crate::router::sticky::Hold;
use crate::router::table::WorkerId;
use crate::system::stream::Stream;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::io::copy_bidirectional;

/// Joins the client's side and the worker's once both have switched, until both have ended or the router does. `hold`: of
/// the request's key.
pub(super) fn join(conn: &Conn, id: WorkerId, (client, worker): (OnUpgrade, OnUpgrade), hold: Option<Hold>) {
    let tunnel = Tunnel::enter(&conn.router, id);
    let held = conn.held.clone();
    tokio::task::spawn_local(async move {
        let _places = (hold, held);
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
            () = tunnel.router.proxy.cut.cancelled() => {}
        }
    });
}

/// Joins a client, of which nothing was read, with a connection to a worker, until both have ended or the router does.
pub(in crate::router) async fn pass(router: &Rc<Router>, id: WorkerId, client: Rc<Client>, worker: OwnedFd) {
    let tunnel = Tunnel::enter(router, id);
    let _held = client.held.take();
    let joined = async {
        let (mut client, mut worker) = (Stream::new(socket_of(client)?)?, Stream::new(worker)?);
        client.keep_alive(KEEP_ALIVE)?;
        copy_bidirectional(&mut client, &mut worker).await
    };
    tokio::select! {
        joined = joined => if let Err(error) = joined {
            tracing::debug!(%error, "a joined connection broke");
        },
        () = tunnel.router.proxy.cut.cancelled() => {}
    }
}

/// Counted as long as it is there.
struct Tunnel {
    router: Rc<Router>,
    id: WorkerId,
}

impl Tunnel {
    fn enter(router: &Rc<Router>, id: WorkerId) -> Self {
        router.proxy.tunnels.set(router.proxy.tunnels.get() + 1);
        router.table.borrow_mut().enter_tunnel(id);
        Self { router: Rc::clone(router), id }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.router.proxy.tunnels.set(self.router.proxy.tunnels.get() - 1);
        self.router.table.borrow_mut().leave_tunnel(self.id);
        self.router.drained.notify_waiters();
    }
}
