//! What the router writes down to survive its own death (pure): a log of lines, and the picture that it adds up to.
//!
//! A line is written by one call, so a process that is killed leaves whole lines and perhaps the beginning of one. Records
//! say how things are, not what changed: reading one twice, or the same again, does no harm.
//!
//! The next router may be of another release. What it does not know it skips, what it misses has a default. Where that is not
//! enough, the layout gets another number: a router reads only logs of its own, and of others knows no more than the workers,
//! by their [`WorkerRecord`]s, which are kept beside each one's channel as well.

use super::table::{Phase, Place, Server, WorkerId};
use crate::wire::adapter::Dialect;
use crate::wire::axm::Action;
use crate::wire::hello::WireEncoding;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// The first line. `last`: the highest number that a worker ever had; `generation`: how many routers there were.
    Log {
        generation: u64,
        last: WorkerId,
        #[serde(default = "first")]
        layout: u32,
    },
    /// A worker as it is now.
    Worker(WorkerRecord),
    /// It is gone, and all that is known of it.
    Gone { id: WorkerId },
    /// It has this session.
    Open { id: WorkerId, sid: String },
    /// The same, seen in its answer: without a sign for so many seconds the session is over.
    Learnt { id: WorkerId, sid: String, lifetime: u64 },
    /// It has it no longer.
    Close { id: WorkerId, sid: String },
    /// It has this key, by the word of an answer or of a client.
    Bound { id: WorkerId, key: String, answered: bool },
    /// Nobody has it any longer.
    Unbound { key: String },
    /// What cookies are signed with.
    Secret { secret: String },
    /// A node of its broadcast adapter.
    Node { id: WorkerId, node: Node },
    /// The node said goodbye.
    NodeGone { id: WorkerId, node: Node },
    /// Session ticket keys of the TLS servers at a place.
    Tickets { place: String, keys: String },
    /// How the last worker of a slot ended.
    Ended { slot: String, end: End },
    /// What its app lets others call, which it says once.
    Action { id: WorkerId, action: Action },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// In a few words.
    pub reason: String,
    /// Seconds since 1970.
    pub at: u64,
    /// systemd calls it a failure.
    pub failed: bool,
    /// A stop or restart was asked for.
    #[serde(default)]
    pub ordered: bool,
}

/// The layout of logs that do not say theirs.
fn first() -> u32 {
    1
}

/// Every release must be able to read this: fields may be added, with a default, none may change its meaning or go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerRecord {
    pub id: WorkerId,
    pub slot: String,
    pub index: u32,
    pub pid: i32,
    pub phase: Phase,
    pub online: bool,
    pub sticky: bool,
    pub alone: bool,
    #[serde(default)]
    pub stood: bool,
    #[serde(default)]
    pub spoke: bool,
    #[serde(default)]
    pub ordered: bool,
    pub since: u64,
    pub handed: u64,
    /// It was given a connection.
    #[serde(default)]
    pub touched: bool,
    /// All that it ever told of its actions is written down.
    #[serde(default)]
    pub heard: bool,
    pub encoding: WireEncoding,
    pub servers: Vec<Server>,
    /// Where the router connects to it; then the encoding says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    pub dialect: Dialect,
    /// Only 0.3.0 has them.
    pub uid: Option<String>,
    pub nsp: Option<String>,
}

/// What a log adds up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    pub generation: u64,
    pub last: WorkerId,
    pub workers: BTreeMap<WorkerId, WorkerRecord>,
    pub sessions: BTreeMap<String, WorkerId>,
    /// Those of them that were learnt, and their lifetimes.
    pub learnt: BTreeMap<String, u64>,
    /// Other keys, and whether an answer said so.
    pub keys: BTreeMap<String, (WorkerId, bool)>,
    pub secret: Option<String>,
    pub nodes: BTreeMap<WorkerId, BTreeSet<Node>>,
    pub tickets: BTreeMap<String, String>,
    pub ends: BTreeMap<String, End>,
    pub actions: BTreeMap<WorkerId, BTreeMap<String, Action>>,
}

impl Picture {
    /// Reads a log of that layout. `None`: it is none. A last line that is cut off does not count.
    pub fn read(log: &[u8], ours: u32) -> Option<Self> {
        let mut picture = Self::default();
        let whole = log.rsplit_once_newline()?;
        let mut lines = whole.split(|byte| *byte == b'\n').map(serde_json::from_slice::<Record>);
        match lines.next()? {
            Ok(Record::Log { generation, last, layout }) if layout == ours => {
                (picture.generation, picture.last) = (generation, last);
            }
            _ => return None,
        }
        // What cannot be read was written by another release; what can is still true.
        lines.flatten().for_each(|record| picture.add(record));
        Some(picture)
    }

    fn add(&mut self, record: Record) {
        match record {
            Record::Log { generation, last, .. } => (self.generation, self.last) = (generation, last),
            Record::Worker(worker) => {
                self.last = self.last.max(worker.id);
                self.workers.insert(worker.id, worker);
            }
            Record::Gone { id } => {
                self.workers.remove(&id);
                self.nodes.remove(&id);
                self.sessions.retain(|_, owner| *owner != id);
                self.learnt.retain(|sid, _| self.sessions.contains_key(sid));
                self.keys.retain(|_, (owner, _)| *owner != id);
                self.actions.remove(&id);
            }
            Record::Bound { id, key, answered } => {
                self.keys.insert(key, (id, answered));
            }
            Record::Unbound { key } => {
                self.keys.remove(&key);
            }
            Record::Secret { secret } => self.secret = Some(secret),
            Record::Open { id, sid } => {
                self.learnt.remove(&sid);
                self.sessions.insert(sid, id);
            }
            Record::Learnt { id, sid, lifetime } => {
                self.learnt.insert(sid.clone(), lifetime);
                self.sessions.insert(sid, id);
            }
            Record::Close { id, sid } => {
                if self.sessions.get(&sid) == Some(&id) {
                    self.sessions.remove(&sid);
                    self.learnt.remove(&sid);
                }
            }
            Record::Node { id, node } => {
                self.nodes.entry(id).or_default().insert(node);
            }
            Record::NodeGone { id, node } => {
                if let Some(nodes) = self.nodes.get_mut(&id) {
                    nodes.remove(&node);
                }
            }
            Record::Tickets { place, keys } => {
                self.tickets.insert(place, keys);
            }
            Record::Ended { slot, end } => {
                self.ends.insert(slot, end);
            }
            Record::Action { id, action } => {
                self.actions.entry(id).or_default().insert(action.name.clone(), action);
            }
        }
    }

    /// The shortest log with this picture.
    pub fn records(&self, layout: u32) -> impl Iterator<Item = Record> {
        let head = Record::Log { generation: self.generation, last: self.last, layout };
        let workers = self.workers.values().cloned().map(Record::Worker);
        let sessions = self.sessions.iter().map(|(sid, id)| match self.learnt.get(sid) {
            Some(lifetime) => Record::Learnt { id: *id, sid: sid.clone(), lifetime: *lifetime },
            None => Record::Open { id: *id, sid: sid.clone() },
        });
        let secret = self.secret.iter().map(|secret| Record::Secret { secret: secret.clone() });
        let keys = self.keys.iter();
        let keys = keys.map(|(key, (id, answered))| Record::Bound { id: *id, key: key.clone(), answered: *answered });
        let nodes = self
            .nodes
            .iter()
            .flat_map(|(id, nodes)| nodes.iter().map(|node| Record::Node { id: *id, node: node.clone() }));
        let tickets =
            self.tickets.iter().map(|(place, keys)| Record::Tickets { place: place.clone(), keys: keys.clone() });
        let ends = self.ends.iter().map(|(slot, end)| Record::Ended { slot: slot.clone(), end: end.clone() });
        let actions = self.actions.iter().flat_map(|(id, actions)| {
            actions.values().map(|action| Record::Action { id: *id, action: action.clone() })
        });
        std::iter::once(head)
            .chain(secret)
            .chain(workers)
            .chain(sessions)
            .chain(keys)
            .chain(nodes)
            .chain(tickets)
            .chain(ends)
            .chain(actions)
    }

    /// [`Self::records`] as lines.
    pub fn log(&self, layout: u32) -> Vec<u8> {
        self.records(layout).filter_map(|record| line(&record)).flatten().collect()
    }
}

/// A record as a line, newline included. `None`: it cannot be written (no such record is known).
pub fn line(record: &Record) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(record).ok()?;
    line.push(b'\n');
    Some(line)
}

trait Lines {
    /// All before the last newline.
    fn rsplit_once_newline(&self) -> Option<&[u8]>;
}

impl Lines for [u8] {
    fn rsplit_once_newline(&self) -> Option<&[u8]> {
        self.iter().rposition(|byte| *byte == b'\n').map(|end| &self[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let node = (any::<bool>(), "[a-c]").prop_map(|(uid, name)| Node {
            dialect: if uid { Dialect::Uid } else { Dialect::WorkerId },
            uid: uid.then(|| name.clone()),
            nsp: uid.then(|| "/".to_owned()),
        });
        let id = 1..5_u32;
        prop_oneof![
            (id.clone(), any::<i32>()).prop_map(|(id, pid)| Record::Worker(WorkerRecord {
                id,
                slot: id.to_string(),
                index: id,
                pid,
                phase: Phase::Ready,
                online: true,
                sticky: false,
                alone: false,
                stood: true,
                spoke: pid % 3 == 0,
                ordered: false,
                since: 7,
                handed: 9,
                touched: true,
                heard: true,
                encoding: WireEncoding::Advanced,
                servers: Vec::new(),
                place: (pid % 2 == 0).then_some(Place::Port(4000)),
            })),
            id.clone().prop_map(|id| Record::Gone { id }),
            (id.clone(), "[a-e]").prop_map(|(id, sid)| Record::Open { id, sid }),
            (id.clone(), "[a-e]", 0..9_u64).prop_map(|(id, sid, lifetime)| Record::Learnt { id, sid, lifetime }),
            (id.clone(), "[a-e]").prop_map(|(id, sid)| Record::Close { id, sid }),
            (id.clone(), "[a-e]", any::<bool>()).prop_map(|(id, key, answered)| Record::Bound { id, key, answered }),
            "[a-e]".prop_map(|key| Record::Unbound { key }),
            "[0-9a-f]{0,4}".prop_map(|secret| Record::Secret { secret }),
            (id.clone(), node.clone()).prop_map(|(id, node)| Record::Node { id, node }),
            (id.clone(), node).prop_map(|(id, node)| Record::NodeGone { id, node }),
            (id, "[a-c]", prop::option::of(0..3_u64)).prop_map(|(id, name, arity)| Record::Action {
                id,
                action: Action { name, kind: Some("custom".into()), arity, opts: None },
            }),
            ("[ab]", "\\PC{0,9}").prop_map(|(place, keys)| Record::Tickets { place, keys }),
            ("[12]", "[a-z]{1,5}", any::<bool>()).prop_map(|(slot, reason, failed)| Record::Ended {
                slot,
                end: End { reason, at: 9, failed, ordered: !failed },
            }),
        ]
    }

    fn log(records: &[Record]) -> Vec<u8> {
        let head = Record::Log { generation: 3, last: 2, layout: 1 };
        std::iter::once(&head).chain(records).filter_map(line).flatten().collect()
    }

    #[test]
    fn a_log_of_another_release() {
        let read = |text: &str| Picture::read(text.as_bytes(), 1);
        // As it was before layouts had a number, with what came later, and with what is no longer there.
        let old =
            read("{\"Log\":{\"generation\":7,\"last\":3}}\n{\"Open\":{\"id\":3,\"sid\":\"a\",\"by\":\"hand\"}}\n");
        assert_eq!(old.map(|picture| (picture.generation, picture.sessions.len())), Some((7, 1)));
        let new = "{\"Log\":{\"generation\":7,\"last\":3,\"layout\":1,\"x\":1}}\n{\"Weather\":{\"fine\":true}}\n\
                   {\"Open\":{\"id\":3,\"sid\":\"a\"}}\n";
        assert_eq!(read(new).map(|picture| picture.sessions.len()), Some(1));
        assert_eq!(read("{\"Log\":{\"generation\":7,\"last\":3,\"layout\":2}}\n"), None);
    }

    proptest! {
        #[test]
        fn the_shortest_log_has_the_same_picture(records in prop::collection::vec(record(), 0..40)) {
            let picture = Picture::read(&log(&records), 1).unwrap();
            let mut again = Picture::read(&picture.log(1), 1).unwrap();
            again.nodes.retain(|_, nodes| !nodes.is_empty());
            let mut wanted = picture;
            wanted.nodes.retain(|_, nodes| !nodes.is_empty());
            prop_assert_eq!(again, wanted);
        }

        #[test]
        fn a_log_that_is_cut_off_is_the_log_of_its_whole_lines(
            records in prop::collection::vec(record(), 0..20), cut in any::<prop::sample::Index>()
        ) {
            let whole = log(&records);
            let cut = cut.index(whole.len() + 1);
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            let expected = (lines > 0).then(|| Picture::read(&log(&records[..lines - 1]), 1).unwrap());
            prop_assert_eq!(Picture::read(&whole[..cut], 1), expected);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            Picture::read(&bytes, 1);
        }
    }
}
