//! Laws of a worker's channel.

use super::*;
use tokio::task::{LocalSet, spawn_local};

/// The other end: what came, and behind how many bytes each descriptor did.
struct Peer {
    stream: tokio::net::UnixStream,
    bytes: bytes::BytesMut,
    descriptors: Vec<(usize, OwnedFd)>,
}

impl Peer {
    /// Waits, then reads at most `most` bytes.
    async fn read(&mut self, most: usize) -> usize {
        loop {
            self.stream.readable().await.unwrap();
            if let Some(count) = self.read_now(most) {
                return count;
            }
        }
    }

    fn read_now(&mut self, most: usize) -> Option<usize> {
        let (bytes, mut new) = (&mut self.bytes, Vec::new());
        let stream = &self.stream;
        let read = stream.try_io(Interest::READABLE, || scm::receive(stream.as_fd(), bytes, most, &mut new));
        self.descriptors.extend(new.into_iter().map(|descriptor| (self.bytes.len(), descriptor)));
        read.ok()
    }

    fn lines(&self) -> Vec<&str> {
        std::str::from_utf8(&self.bytes).unwrap().lines().collect()
    }
}

fn link(encoding: Encoding, queue_limit: usize) -> (Rc<Link>, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let link = Rc::new(
        Link::new(1, Cutter::new(encoding, 1 << 20), ours.into(), Buffers::create().unwrap(), 0, queue_limit).unwrap(),
    );
    let writer = Rc::clone(&link);
    spawn_local(async move { writer.write().await });
    let stream = tokio::net::UnixStream::from_std(theirs).unwrap();
    (link, Peer { stream, bytes: bytes::BytesMut::new(), descriptors: Vec::new() })
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// A client's connection that is told apart by what it has to say.
fn client(number: usize) -> (Rc<Client>, UnixStream) {
    use std::io::Write;
    let (end, mut other) = UnixStream::pair().unwrap();
    other.write_all(&number.to_be_bytes()).unwrap();
    (Rc::new(Client::new(end.into())), other)
}

fn number_of(descriptor: BorrowedFd<'_>) -> usize {
    use std::io::Read;
    let mut number = [0; 8];
    UnixStream::from(descriptor.try_clone_to_owned().unwrap()).read_exact(&mut number).unwrap();
    usize::from_be_bytes(number)
}

/// Far more than the channel's buffer holds, read in pieces of one byte first and of any size later: every frame
/// comes whole, in order, and each descriptor with the last byte of its own.
#[test]
fn frames_come_whole_in_order_and_with_their_descriptors() {
    run(async {
        let (link, mut peer) = link(Encoding::Json, usize::MAX);
        let mut wanted = Vec::new();
        let mut clients = Vec::new();
        let mut outcomes = Vec::new();
        for number in 0..300 {
            let frame = format!("\"{number}{}\"\n", "x".repeat(number * 97 % 7001));
            wanted.push(frame.trim_end().to_owned());
            assert!(link.forward(frame.into()));
            if number % 3 == 0 {
                let (end, other) = client(number);
                let frame = encode(Encoding::Json, &ToWorker::StickyConnection);
                wanted.push(String::from_utf8(frame.to_vec()).unwrap().trim_end().to_owned());
                outcomes.push(link.hand(end, &Manner::Sticky));
                clients.push((number, other));
            }
        }
        let total: usize = wanted.iter().map(|frame| frame.len() + 1).sum();
        while peer.bytes.len() < total {
            let most = if peer.bytes.len() < 20_000 { 1 } else { 1 + peer.bytes.len() * 31 % 9000 };
            assert!(peer.read(most).await > 0);
        }
        assert_eq!(peer.lines(), wanted);
        let mut ends = Vec::new();
        let mut at = 0;
        for frame in &wanted {
            at += frame.len() + 1;
            ends.extend(frame.contains("NODE_HANDLE").then_some(at));
        }
        assert_eq!(peer.descriptors.iter().map(|(at, _)| *at).collect::<Vec<_>>(), ends);
        for ((_, descriptor), (number, _)) in peer.descriptors.iter().zip(&clients) {
            assert_eq!(number_of(descriptor.as_fd()), *number);
        }
        // Answers are for the handovers in their order.
        for taken in (0..outcomes.len()).map(|place| place % 5 != 0) {
            assert!(link.acknowledged(taken));
        }
        assert!(!link.acknowledged(true), "nobody asked for that one");
        for (place, outcome) in outcomes.into_iter().enumerate() {
            let wanted = if place % 5 == 0 { Outcome::Refused } else { Outcome::Taken };
            assert_eq!(outcome.await, Ok(wanted));
        }
    });
}

/// A descriptor behind a probe without one would be given to the probe.
#[test]
fn no_descriptor_follows_a_bare_probe_before_its_answer() {
    run(async {
        let (link, mut peer) = link(Encoding::Bun, 1 << 20);
        let answered = link.probe();
        let (end, _other) = client(7);
        let _outcome = link.hand(end, &Manner::Sticky);
        peer.read(1 << 16).await;
        // The writer has had its turn.
        tokio::task::yield_now().await;
        assert_eq!(peer.read_now(1 << 16), None);
        assert_eq!((peer.lines().len(), peer.descriptors.len()), (1, 0));
        assert!(link.acknowledged(false));
        assert_eq!(answered.await, Ok(()));
        while peer.descriptors.is_empty() {
            peer.read(1 << 16).await;
        }
        assert_eq!(number_of(peer.descriptors[0].1.as_fd()), 7);
    });
}

/// The other runtimes' probes have one of their own, and hold up nothing.
#[test]
fn a_probe_with_a_descriptor_holds_up_nothing() {
    run(async {
        for encoding in [Encoding::Json, Encoding::Advanced] {
            let (link, mut peer) = link(encoding, 1 << 20);
            let answered = link.probe();
            let (end, _other) = client(7);
            let outcome = link.hand(end, &Manner::Server("key".into()));
            while peer.descriptors.len() < 2 {
                peer.read(1 << 16).await;
            }
            assert_eq!(number_of(peer.descriptors[1].1.as_fd()), 7);
            assert!(link.acknowledged(true));
            assert_eq!(answered.await, Ok(()));
            // What the worker says of a server that it does not have.
            link.replied(1, false);
            assert!(link.acknowledged(true));
            link.replied(2, true);
            assert_eq!(outcome.await, Ok(Outcome::Taken));
        }
    });
}

/// For Deno, which is served in JSON.
#[test]
fn in_json_a_descriptor_never_comes_in_one_read_with_the_frame_before() {
    run(async {
        let (link, mut peer) = link(Encoding::Json, 1 << 20);
        let (end, _other) = client(7);
        for number in 0..50 {
            assert!(link.forward(format!("{number}\n").into()));
            let _outcome = link.hand(Rc::clone(&end), &Manner::Sticky);
        }
        let mut descriptors = 0;
        for _ in 0..50 {
            peer.read(1 << 16).await;
            assert_eq!(peer.descriptors.len(), descriptors, "the plain frame alone");
            peer.read(1 << 16).await;
            descriptors += 1;
            assert_eq!(peer.descriptors.len(), descriptors);
        }
    });
}

#[test]
fn closing_drops_all_that_waits() {
    run(async {
        let (link, mut peer) = link(Encoding::Json, usize::MAX);
        let (end, _other) = client(1);
        let sent = link.hand(Rc::clone(&end), &Manner::Sticky);
        // More than the channel takes.
        assert!(link.forward(vec![b'x'; 8 << 20].into()));
        let queued = link.hand(Rc::clone(&end), &Manner::Sticky);
        let probe = link.probe();
        link.close();
        assert!(sent.await.is_err() && queued.await.is_err() && probe.await.is_err());
        assert_eq!(Rc::strong_count(&end), 1, "the connection is kept by nobody");
        assert!(link.hand(Rc::clone(&end), &Manner::Sticky).await.is_err(), "after the end");
        while peer.read(1 << 20).await > 0 {}
        assert!(link.outbox.borrow().queue.is_empty());
    });
}

#[test]
fn a_full_queue_takes_no_more() {
    run(async {
        let (link, mut peer) = link(Encoding::Json, 1 << 20);
        let frame = Bytes::from(vec![b'x'; 64 << 10]);
        let taken = (0..1000).take_while(|_| link.forward(frame.clone())).count();
        // The limit, and what the kernel has taken.
        assert!((16..300).contains(&taken), "{taken}");
        for _ in 0..taken * 64 {
            peer.read(1 << 10).await;
        }
        assert!(link.forward(frame), "there is room again");
    });
}
