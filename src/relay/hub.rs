//! Who gets what (pure): the routing that `setupPrimary()` of @socket.io/cluster-adapter does, for both of its dialects.
//!
//! Two additions: a dialect never reaches workers of the other (their message numbers differ), and the others learn at
//! once that a worker died, so that their requests do not wait for its answer.

use super::WorkerId;
use super::requests::{Orphan, Requests};
use crate::wire::Encoding;
use crate::wire::adapter::{Dialect, Envelope};
use std::collections::{BTreeMap, BTreeSet};

/// `type` of the two answers that go to one worker only, by dialect.
const FETCH_SOCKETS_RESPONSE: [u32; 2] = [9, 8];
const SERVER_SIDE_EMIT_RESPONSE: [u32; 2] = [11, 10];
/// 0.2.2
const FETCH_SOCKETS: u32 = 8;
/// 0.3.0: the node says goodbye itself.
const ADAPTER_CLOSE: u32 = 13;

/// What the workers must be told about one that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// To a worker of 0.3.0, once per namespace.
    Close { uid: String, nsp: String },
    /// To a worker of 0.2.2.
    Exit { id: WorkerId },
    /// To a worker of 0.2.2 whose fetchSockets the one that is gone had not answered: it has none.
    NoSockets { request: String, nsp: String },
}

/// What a packet told of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A node of it was not known before.
    Node,
    /// A node of it is no more.
    NodeGone,
}

#[derive(Debug)]
struct Member {
    encoding: Encoding,
    /// Learned from its first packet.
    dialect: Option<Dialect>,
    /// (uid, nsp) of each of its nodes: 0.3.0 has one a namespace.
    nodes: BTreeSet<(String, String)>,
}

/// The members of one app's relay.
#[derive(Debug, Default)]
pub struct Hub {
    members: BTreeMap<WorkerId, Member>,
    requests: Requests,
}

impl Hub {
    pub fn join(&mut self, worker: WorkerId, encoding: Encoding) {
        self.members.insert(worker, Member { encoding, dialect: None, nodes: BTreeSet::new() });
    }

    /// What a packet of `from` tells of its sender; `None`: nothing new.
    pub fn learn(&mut self, from: WorkerId, envelope: &Envelope) -> Option<News> {
        self.follow(from, envelope);
        let sender = self.members.get_mut(&from)?;
        let met = sender.dialect.replace(envelope.dialect) != Some(envelope.dialect);
        let (Some(uid), Some(nsp)) = (&envelope.uid, &envelope.nsp) else {
            return met.then_some(News::Node);
        };
        let node = (uid.clone(), nsp.clone());
        if envelope.kind == ADAPTER_CLOSE {
            return sender.nodes.remove(&node).then_some(News::NodeGone);
        }
        (sender.nodes.insert(node) || met).then_some(News::Node)
    }

    /// 0.3.0 knows whose answer is missing; 0.2.2 only counts.
    fn follow(&mut self, from: WorkerId, envelope: &Envelope) {
        let (Dialect::WorkerId, Some(request)) = (envelope.dialect, &envelope.request_id) else {
            return;
        };
        if envelope.kind == FETCH_SOCKETS
            && let Some(nsp) = &envelope.nsp
        {
            let targets = self.targets(from, envelope);
            self.requests.ask(from, request, nsp, targets);
        } else if envelope.kind == FETCH_SOCKETS_RESPONSE[0]
            && let Some(to) = self.addressee(envelope)
        {
            self.requests.answer(from, to, request);
        }
    }

    /// The workers that should have the same bytes as a packet of `from`.
    ///
    /// Bytes are forwarded verbatim, so only workers with the sender's encoding can be among them.
    pub fn targets(&self, from: WorkerId, envelope: &Envelope) -> Vec<WorkerId> {
        let Some(encoding) = self.members.get(&from).map(|sender| sender.encoding) else {
            return Vec::new();
        };
        if let Some(target) = self.addressee(envelope) {
            let reachable = |member: &Member| member.encoding == encoding;
            return self.members.get(&target).filter(|member| reachable(member)).map(|_| target).into_iter().collect();
        }
        self.members
            .iter()
            .filter(|(id, member)| **id != from && member.encoding == encoding)
            // One that has not spoken yet listens to neither dialect: an adapter's first act is a packet of type 1, and
            // those who get it answer with a type 2, by which both sides know each other.
            .filter(|(_, member)| member.dialect == Some(envelope.dialect))
            .map(|(id, _)| *id)
            .collect()
    }

    /// What is known of all nodes: worker, dialect, and uid and namespace where the dialect has them.
    pub fn nodes(&self) -> impl Iterator<Item = (WorkerId, Dialect, Option<&(String, String)>)> {
        self.members.iter().filter_map(|(id, member)| Some((*id, member.dialect?, &member.nodes))).flat_map(
            |(id, dialect, nodes)| {
                std::iter::once((id, dialect, None)).chain(nodes.iter().map(move |node| (id, dialect, Some(node))))
            },
        )
    }

    /// Puts back what [`Self::nodes`] told.
    pub fn restore(&mut self, worker: WorkerId, dialect: Dialect, node: Option<(String, String)>) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.dialect = Some(dialect);
            member.nodes.extend(node);
        }
    }

    /// The one worker that an answer is for; `None`: it is for all.
    fn addressee(&self, envelope: &Envelope) -> Option<WorkerId> {
        let by_dialect = match envelope.dialect {
            Dialect::WorkerId => 0,
            Dialect::Uid => 1,
        };
        let answers = [FETCH_SOCKETS_RESPONSE[by_dialect], SERVER_SIDE_EMIT_RESPONSE[by_dialect]];
        if !answers.contains(&envelope.kind) {
            return None;
        }
        match envelope.dialect {
            Dialect::WorkerId => envelope.worker_id.and_then(|id| WorkerId::try_from(id).ok()),
            Dialect::Uid => {
                let uid = envelope.requester_uid.as_deref()?;
                self.members
                    .iter()
                    .find(|(_, member)| member.nodes.iter().any(|(known, _)| known == uid))
                    .map(|(id, _)| *id)
            }
        }
    }

    /// `worker` is gone: what to tell whom.
    pub fn leave(&mut self, worker: WorkerId) -> Vec<(WorkerId, Notice)> {
        let Some(gone) = self.members.remove(&worker) else {
            return Vec::new();
        };
        let answers = self.requests.leave(worker).into_iter();
        let mut notices: Vec<_> =
            answers.map(|Orphan { from, request, nsp }| (from, Notice::NoSockets { request, nsp })).collect();
        for (id, member) in &self.members {
            match (gone.dialect, member.dialect) {
                (Some(Dialect::WorkerId), Some(Dialect::WorkerId)) => {
                    notices.push((*id, Notice::Exit { id: worker }));
                }
                (Some(Dialect::Uid), Some(Dialect::Uid)) => notices.extend(
                    gone.nodes.iter().map(|(uid, nsp)| (*id, Notice::Close { uid: uid.clone(), nsp: nsp.clone() })),
                ),
                _ => {}
            }
        }
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Hub {
        fn packet(&mut self, from: WorkerId, envelope: &Envelope) -> Vec<WorkerId> {
            self.learn(from, envelope);
            self.targets(from, envelope)
        }
    }

    #[test]
    fn what_is_known_can_be_put_back() {
        let mut hub = hub(2);
        hub.join(3, Encoding::Advanced);
        hub.packet(3, &old(1, None));
        let mut again = Hub::default();
        (1..=3).for_each(|id| again.join(id, Encoding::Advanced));
        for (id, dialect, node) in hub.nodes() {
            again.restore(id, dialect, node.cloned());
        }
        assert!(again.nodes().eq(hub.nodes()));
        assert_eq!(again.packet(2, &uid(8, "u2", Some("u1"))), [1]);
        assert_eq!(hub.learn(1, &uid(3, "u1", None)), None);
        assert_eq!(hub.learn(1, &uid(3, "more", None)), Some(News::Node));
    }

    fn uid(kind: u32, uid: &str, requester: Option<&str>) -> Envelope {
        Envelope {
            dialect: Dialect::Uid,
            kind,
            uid: Some(uid.into()),
            nsp: Some("/".into()),
            requester_uid: requester.map(str::to_owned),
            worker_id: None,
            request_id: None,
        }
    }

    fn old(kind: u32, worker_id: Option<u64>) -> Envelope {
        Envelope {
            dialect: Dialect::WorkerId,
            kind,
            uid: None,
            nsp: Some("/".into()),
            requester_uid: None,
            worker_id,
            request_id: None,
        }
    }

    /// A hub whose first members speak 0.3.0.
    fn hub(members: u32) -> Hub {
        let mut hub = Hub::default();
        for id in 1..=members {
            hub.join(id, Encoding::Advanced);
            hub.packet(id, &uid(1, &format!("u{id}"), None));
        }
        hub
    }

    fn old_hub(members: u32) -> Hub {
        let mut hub = Hub::default();
        for id in 1..=members {
            hub.join(id, Encoding::Advanced);
            hub.packet(id, &old(1, None));
        }
        hub
    }

    #[test]
    fn a_broadcast_goes_to_all_others() {
        assert_eq!(hub(3).packet(2, &uid(3, "u2", None)), [1, 3]);
        assert_eq!(old_hub(3).packet(2, &old(4, None)), [1, 3]);
    }

    #[test]
    fn an_answer_goes_to_its_requester_only() {
        let mut hub = hub(3);
        assert_eq!(hub.packet(2, &uid(8, "u2", Some("u1"))), [1]);
        assert_eq!(hub.packet(2, &uid(10, "u2", Some("u1"))), [1]);
        // Client counts and acknowledgements go to all, as in the adapter's own primary.
        assert_eq!(hub.packet(2, &uid(11, "u2", Some("u1"))), [1, 3]);
    }

    #[test]
    fn an_old_answer_goes_to_the_worker_that_it_names() {
        let mut hub = old_hub(3);
        assert_eq!(hub.packet(2, &old(9, Some(3))), [3]);
        assert_eq!(hub.packet(2, &old(11, Some(1))), [1]);
        assert_eq!(hub.packet(2, &old(9, Some(77))), [] as [u32; 0]);
        // 8 is a request in this dialect.
        assert_eq!(hub.packet(2, &old(8, Some(2))), [1, 3]);
    }

    #[test]
    fn dialects_and_encodings_do_not_mix() {
        let mut hub = hub(3);
        hub.join(4, Encoding::Json);
        hub.packet(1, &old(1, None));
        assert_eq!(hub.packet(2, &uid(3, "u2", None)), [3]);
        assert_eq!(hub.packet(4, &uid(3, "u4", None)), [] as [u32; 0]);
    }

    #[test]
    fn one_that_has_not_spoken_gets_nothing() {
        let mut hub = hub(2);
        hub.join(3, Encoding::Advanced);
        assert_eq!(hub.packet(1, &uid(3, "u1", None)), [2]);
    }

    #[test]
    fn the_others_learn_of_a_death() {
        let mut hub = hub(2);
        let close = Notice::Close { uid: "u1".into(), nsp: "/".into() };
        assert_eq!(hub.leave(1), [(2, close)]);
        assert_eq!(hub.leave(1), []);
        assert_eq!(old_hub(2).leave(2), [(1, Notice::Exit { id: 2 })]);
    }

    #[test]
    fn a_request_that_the_dead_will_not_answer_is_answered() {
        let request = |kind, worker_id| Envelope { request_id: Some("r".into()), ..old(kind, worker_id) };
        let mut hub = old_hub(3);
        assert_eq!(hub.packet(1, &request(8, Some(1))), [2, 3]);
        assert_eq!(hub.packet(2, &request(9, Some(1))), [1]);
        let answer = Notice::NoSockets { request: "r".into(), nsp: "/".into() };
        let exit = |id| Notice::Exit { id };
        assert_eq!(hub.leave(3), [(1, answer), (1, exit(3)), (2, exit(3))]);
        assert_eq!(hub.leave(2), [(1, exit(2))]);
    }

    #[test]
    fn a_node_that_said_goodbye_is_not_announced_again() {
        let mut hub = hub(2);
        hub.packet(1, &uid(ADAPTER_CLOSE, "u1", None));
        assert_eq!(hub.leave(1), []);
    }
}
