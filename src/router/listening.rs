//! Workers that listen: what each of their servers is told (Node's `queryServer`).

use super::link::Link;
use super::record::Record;
use super::table::{Server, WorkerId};
use super::{Router, server};
use crate::wire::cluster::{AddressType, Query, Sockname, ToWorker};
use nix::errno::Errno;

impl Router {
    /// Bun does not ask before its servers bind their ports, and has no way to take a connection for them.
    pub(super) fn on_own_server(&self, id: WorkerId, query: &Query) {
        if let Some(worker) = self.table.borrow_mut().worker_mut(id) {
            worker.alone = true;
            let (slot, place) = (&worker.slot, server::name(query));
            tracing::error!(
                APP = self.app,
                WORKER = slot,
                "worker {slot} has bound {place} by itself, as Bun does: the router cannot hand connections to it. \
                 Use setupWorker() of @socket.io/sticky without listen(), or run it with Node"
            );
        }
    }

    /// A worker wants to listen: it gets its connections from us, one by one (lib/internal/cluster/round_robin_handle.js).
    pub(super) fn on_query(&self, link: &Link, seq: u64, query: &Query) {
        let errno = match query.address_type {
            AddressType::Tcp4 | AddressType::Tcp6 | AddressType::Path => None,
            // The number means something in the worker only.
            AddressType::Descriptor => Some(Errno::EBADF),
            AddressType::Udp4 | AddressType::Udp6 => Some(Errno::EOPNOTSUPP),
        };
        let port = query.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        let place = format!("{}:{port}:{:?}", query.address.as_deref().unwrap_or("null"), query.address_type);
        if let Some(errno) = errno {
            let table = self.table.borrow();
            let slot = table.worker(link.id).map_or("?", |worker| worker.slot.as_str());
            let wanted = server::name(query);
            tracing::warn!(
                APP = self.app,
                WORKER = slot,
                "worker {slot} asked for {wanted}, which workers cannot share: it got {errno}"
            );
            let outcome = Err(-(errno as i32));
            link.send(&ToWorker::QueryReply {
                ack: seq,
                seq: link.next_seq(),
                key: &place,
                outcome,
                ticket_keys: None,
            });
            return;
        }
        let ticket_keys = query
            .ticket_keys
            .as_ref()
            .map(|keys| self.ticket_keys.borrow_mut().entry(place.clone()).or_insert_with(|| keys.clone()).clone());
        if let Some(keys) = &ticket_keys {
            self.note(&Record::Tickets { place: place.clone(), keys: keys.clone() });
        }
        // Two live servers of one worker with one key are a fatal assertion there; seq makes it unique.
        let key = format!("{place}:{}:{seq}", query.index);
        if let Some(worker) = self.table.borrow_mut().worker_mut(link.id)
            // The router before us may have come as far as this with the same query.
            && !worker.servers.iter().any(|server| server.key == key)
        {
            worker.servers.push(Server { key: key.clone(), query: query.clone() });
        }
        self.remember(link.id);
        if self.public.is_empty() {
            let table = self.table.borrow();
            let slot = table.worker(link.id).map_or("?", |worker| worker.slot.as_str());
            let wanted = server::name(query);
            tracing::warn!(
                APP = self.app,
                WORKER = slot,
                "worker {slot} listens on {wanted}, where nobody reaches it: the app has no address. Write one into its \
                 file, such as listen = [\"{}\"]",
                if port == 0 { 8080 } else { port }
            );
        }
        let six = query.address_type == AddressType::Tcp6 || query.address.is_none();
        let sockname = match query.address_type {
            AddressType::Path => Sockname::Path,
            _ => Sockname::Internet {
                address: query.address.as_deref().unwrap_or("::"),
                six,
                port: if port == 0 { self.port } else { port },
            },
        };
        link.send(&ToWorker::QueryReply {
            ack: seq,
            seq: link.next_seq(),
            key: &key,
            outcome: Ok(sockname),
            ticket_keys: ticket_keys.as_deref(),
        });
    }
}
