//! Going on where the router before us stopped, and leaving the next one what it needs for that.

use super::memory::{Legacy, forget_worker};
use super::record::{Node, Picture, Record, WorkerRecord};
use super::table::{Phase, Source, WorkerId};
use super::{Router, handover, meet};
use crate::relay::hub::News;
use crate::system::activation::Address;
use crate::system::notify;
use crate::system::shared::Buffers;
use crate::wire::adapter::Envelope;
use crate::wire::hello::WireEncoding;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// Clients that a planned end leaves to the next router: systemd compares each new descriptor with all that it has.
const CLIENTS_KEPT: usize = 200;
/// How long new clients wait in the kernel for workers that were taken over. One that hangs must not hold up the others.
const PATIENCE: Duration = Duration::from_millis(500);

impl Router {
    /// Takes over the workers and sessions of the router before, if there was one, and begins to keep a memory of its own.
    ///
    /// A worker whose channel systemd no longer has died meanwhile: its sessions are gone, and the others are told.
    pub fn recover(self: &Rc<Self>, legacy: &mut Legacy) {
        let known = std::mem::take(&mut legacy.picture);
        self.memory.set_generation(known.generation + 1);
        self.table.borrow_mut().skip_to(known.last);
        self.ticket_keys.borrow_mut().extend(known.tickets.clone());
        self.restore_ends(known.ends.clone());
        let mut gone = Vec::new();
        for worker in known.workers.values() {
            self.table.borrow_mut().restore(worker);
            if worker.place.is_none() {
                self.hub.borrow_mut().join(worker.id, worker.encoding.into());
            }
            for node in known.nodes.get(&worker.id).into_iter().flatten() {
                let place = node.uid.clone().zip(node.nsp.clone());
                self.hub.borrow_mut().restore(worker.id, node.dialect, place);
            }
            if let Err(reason) = self.take_over(worker, legacy) {
                tracing::debug!(APP = self.app, WORKER = worker.slot, reason, "a worker left while no router ran");
                gone.push(worker.id);
            }
        }
        for (sid, owner) in &known.sessions {
            match known.learnt.get(sid) {
                Some(seconds) => {
                    self.table.borrow_mut().learn(*owner, sid, Duration::from_secs(*seconds), self.now());
                }
                None => self.table.borrow_mut().open(*owner, sid),
            }
        }
        self.restore_actions(&known);
        self.restore_keys(known.secret.as_deref(), known.keys.into_iter());
        for id in gone {
            let worker = self.table.borrow_mut().detach(id);
            self.forget_told(id);
            worker.iter().for_each(|worker| self.parted(worker));
            self.announce_departure(id);
            forget_worker(id);
        }
        // What no log explains: a worker that was not told its number yet; it connects again.
        legacy.channels.keys().chain(legacy.buffers.keys()).for_each(|id| forget_worker(*id));
        self.memory.begin(&self.picture());
        // The one before may not have done so.
        let workers: Vec<_> = self.table.borrow().workers().map(|worker| worker.id).collect();
        workers.iter().filter_map(|id| self.worker_record(*id)).for_each(|worker| self.jot(&worker));
        legacy.logs.iter().for_each(|name| notify::forget(name));
        let (workers, sessions) = (self.table.borrow().workers().count(), self.table.borrow().sessions());
        if known.generation > 0 {
            tracing::info!(APP = self.app, workers, sessions, "took over {workers} workers and {sessions} sessions");
        }
    }

    /// Serves the clients that waited when the router before ended.
    fn welcome(self: &Rc<Self>, legacy: &mut Legacy) {
        for (name, client) in legacy.clients.drain(..) {
            // Only we have it from now on: a copy that systemd holds would keep it open for ever.
            notify::forget(&name);
            let address = Address::of(&client);
            handover::enter(self, client, Rc::new(address));
        }
    }

    /// At the end of this router: leaves all that waits to the next one. `false`: there will be none that could take it.
    pub(super) fn hand_on(&self) -> bool {
        if !self.memory.is_kept() {
            return false;
        }
        for link in self.links.borrow().values() {
            if let Err(error) = link.leave() {
                tracing::error!(APP = self.app, id = link.id, %error, "what was queued for a worker is lost");
            }
        }
        let clients = self.clients.borrow();
        // One that is in a worker's channel already is served by that worker.
        let waiting: Vec<_> = clients.iter().filter(|(_, client)| !client.sent.get()).collect();
        for (number, client) in waiting.iter().take(CLIENTS_KEPT) {
            if let Err(error) = notify::store(&format!("k{number}"), client.socket.as_fd()) {
                tracing::error!(APP = self.app, %error, "a connection that waits is lost");
            }
        }
        if let Some(lost) = waiting.len().checked_sub(CLIENTS_KEPT).filter(|lost| *lost > 0) {
            tracing::warn!(APP = self.app, lost, "{lost} connections that wait are too many to be kept");
        }
        true
    }

    fn take_over(self: &Rc<Self>, worker: &WorkerRecord, legacy: &mut Legacy) -> Result<(), String> {
        if worker.place.is_some() {
            return match meet::stray(self, worker.pid, &worker.slot) {
                Ok(None) => {
                    legacy
                        .buffers
                        .remove(&worker.id)
                        .into_iter()
                        .for_each(|note| self.memory.keep_note(worker.id, note));
                    Ok(())
                }
                Ok(Some(_)) => Err("its process has ended".into()),
                Err(error) => Err(error.to_string()),
            };
        }
        let channel = legacy.channels.remove(&worker.id).ok_or("its channel is closed")?;
        let buffers = legacy.buffers.remove(&worker.id).ok_or("its buffers are gone")?;
        let buffers = Buffers::open(buffers).map_err(|error| error.to_string())?;
        let link = self
            .make_link(worker.id, worker.encoding.into(), channel, buffers)
            .and_then(|link| link.resume().map(|()| link))
            .map_err(|error| error.to_string())?;
        self.links.borrow_mut().insert(worker.id, link);
        Ok(())
    }

    /// Serves the workers and clients that were taken over. Run it in a `LocalSet`.
    pub(super) fn serve_taken_over(self: &Rc<Self>, mut legacy: Legacy) {
        self.welcome(&mut legacy);
        let links: Vec<_> = self.links.borrow().values().cloned().collect();
        for link in links {
            self.serve_worker(link.id);
            let waits = self.table.borrow().worker(link.id).is_some_and(|w| w.online && w.phase == Phase::Starting);
            if waits {
                self.await_silence(&link);
            }
        }
        let table = self.table.borrow();
        table.workers().filter(|worker| worker.place.is_some()).for_each(|worker| self.serve_outside(worker.id));
    }

    /// Resolves when the workers that were taken over take connections: accepted before that, one would wait in this
    /// process, and be lost should it be killed as well.
    pub(super) async fn until_resumed(&self) {
        // One that is still starting gets none anyway.
        let starting = |id: &WorkerId| self.table.borrow().worker(*id).is_some_and(|it| it.phase == Phase::Starting);
        let links: Vec<_> = self.links.borrow().values().filter(|link| !starting(&link.id)).cloned().collect();
        let all = async {
            for link in links {
                link.until_passed().await;
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::debug!(APP = self.app, "a worker that was taken over has not answered yet");
        }
    }

    /// Writes down how a worker is now.
    pub(super) fn remember(&self, id: WorkerId) {
        if self.memory.is_kept()
            && let Some(worker) = self.worker_record(id)
        {
            self.jot(&worker);
            self.note(&Record::Worker(worker));
        }
    }

    /// Writes a worker down where a router that cannot read our log finds it.
    fn jot(&self, worker: &WorkerRecord) {
        if !self.memory.is_kept() {
            return;
        }
        let written =
            serde_json::to_vec(worker).map_err(io::Error::other).and_then(|note| match self.link(worker.id) {
                Some(link) => link.jot(&note),
                None => self.memory.jot(worker.id, &note),
            });
        if let Err(error) = written {
            tracing::warn!(APP = self.app, %error, "a router of another release will not know worker {}", worker.slot);
        }
    }

    pub(super) fn note(&self, record: &Record) {
        if self.memory.note(record) {
            self.memory.begin(&self.picture());
        }
    }

    fn worker_record(&self, id: WorkerId) -> Option<WorkerRecord> {
        let table = self.table.borrow();
        let worker = table.worker(id)?;
        let encoding = match &worker.place {
            Some(_) => WireEncoding::Json,
            None => self.link(id)?.encoding.into(),
        };
        Some(WorkerRecord {
            id,
            slot: worker.slot.clone(),
            index: worker.index,
            pid: worker.pid,
            phase: worker.phase,
            online: worker.online,
            sticky: worker.sticky,
            alone: worker.alone,
            stood: worker.stood,
            spoke: worker.spoke,
            ordered: worker.ordered,
            since: worker.since,
            handed: worker.handed,
            touched: worker.touched.is_some(),
            heard: !self.told.is_missed(id),
            encoding,
            servers: worker.servers.clone(),
            place: worker.place.clone(),
        })
    }

    /// All that the next router must know, as the beginning of a log.
    fn picture(&self) -> Picture {
        let table = self.table.borrow();
        let ids: Vec<_> = table.workers().map(|worker| worker.id).collect();
        let sessions =
            table.workers().flat_map(|worker| worker.sessions.iter().map(|sid| (sid.to_string(), worker.id)));
        let mut picture = Picture {
            generation: self.memory.next_generation(),
            last: table.last_id(),
            workers: ids.iter().filter_map(|id| Some((*id, self.worker_record(*id)?))).collect(),
            sessions: sessions.collect(),
            learnt: table.learnt().map(|(_, sid, lifetime)| (sid.to_owned(), lifetime.as_secs())).collect(),
            keys: table
                .keys()
                .map(|(id, key, source)| (key.as_str().to_owned(), (id, source == Source::Answer)))
                .collect(),
            secret: self.cookie_secret(),
            tickets: self.ticket_keys.borrow().clone().into_iter().collect(),
            ends: self.last_ends(),
            actions: self.known_actions(),
            ..Picture::default()
        };
        for (id, dialect, place) in self.hub.borrow().nodes() {
            let (uid, nsp) = place.cloned().unzip();
            picture.nodes.entry(id).or_default().insert(Node { dialect, uid, nsp });
        }
        picture
    }
}

/// What to write down of an adapter's packet.
pub(super) fn node_record(id: WorkerId, envelope: &Envelope, news: News) -> Record {
    let (uid, nsp) = envelope.uid.clone().zip(envelope.nsp.clone()).unzip();
    let node = Node { dialect: envelope.dialect, uid, nsp };
    match news {
        News::Node => Record::Node { id, node },
        News::NodeGone => Record::NodeGone { id, node },
    }
}
