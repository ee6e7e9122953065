//! What the page is told while it is open: server-sent events (HTML, 9.2).

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::cli::follow::{Entry, Follower};
use crate::cli::ids;
use crate::cli::list::AppNow;
use crate::cli::names::Asked;
use crate::cli::selector::wanted;

const INTERVAL: Duration = Duration::from_secs(2);
/// Events that wait for a slow browser; then it gets no more until it reads.
const WAITING: usize = 64;

/// A body that never ends by itself.
#[derive(Debug)]
pub(super) struct Stream(Receiver<Bytes>);

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The apps as they are, looked at only while somebody sees it.
pub(super) struct Facts {
    names: Vec<String>,
    asked: Asked,
    last: RefCell<Vec<AppNow>>,
    listeners: RefCell<Vec<Sender<Bytes>>>,
    looking: Cell<bool>,
}

impl Facts {
    pub(super) fn new(names: Vec<String>, asked: Asked, now: Vec<AppNow>) -> Self {
        let (last, listeners, looking) = (RefCell::new(now), RefCell::default(), Cell::new(false));
        Self { names, asked, last, listeners, looking }
    }

    /// What is known now, and from then on every change.
    pub(super) fn listen(self: &Rc<Self>) -> Stream {
        let (sender, receiver) = channel(WAITING);
        // There is room for it.
        let _ = sender.try_send(event("apps", &json(&*self.last.borrow())));
        self.listeners.borrow_mut().push(sender);
        if !self.looking.replace(true) {
            tokio::task::spawn_local(Rc::clone(self).watch());
        }
        Stream(receiver)
    }

    async fn watch(self: Rc<Self>) {
        loop {
            self.listeners.borrow_mut().retain(|listener| !listener.is_closed());
            if self.listeners.borrow().is_empty() {
                self.looking.set(false);
                return;
            }
            let looked = match wanted(&self.names, self.asked).await {
                Ok(wanted) => ids::look(&wanted, self.asked).await,
                Err(failure) => Err(failure),
            };
            let event = match looked {
                Ok(apps) => {
                    let event = event("apps", &json(&apps));
                    *self.last.borrow_mut() = apps;
                    event
                }
                Err(failure) => event("trouble", &json(&failure.to_string())),
            };
            for listener in self.listeners.borrow().iter() {
                // Who does not keep up misses this one.
                let _ = listener.try_send(event.clone());
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// The log of a unit that is shown; `None`: there is no such one.
    pub(super) fn log(&self, scope: &str, name: &str) -> Option<Stream> {
        let last = self.last.borrow();
        let mut all = last.iter().flat_map(|app| app.workers.iter().chain([&app.router]).map(move |unit| (app, unit)));
        let (app, unit) = all.find(|(app, unit)| app.scope == scope && unit.unit == name)?;
        let (sender, receiver) = channel(WAITING);
        let follower = Follower::of(app, unit);
        tokio::task::spawn_local(async move {
            match follower {
                Ok(follower) => pass(follower, sender).await,
                Err(error) => {
                    let problem = Entry::problem(format!("cannot run journalctl: {error}"));
                    drop(sender.send(event("line", &json(&problem))).await);
                }
            }
        });
        Some(Stream(receiver))
    }
}

/// journalctl waits while the browser does.
async fn pass(mut follower: Follower, sender: Sender<Bytes>) {
    loop {
        let line = tokio::select! {
            line = follower.line() => line,
            () = sender.closed() => return,
        };
        let over = line.is_err();
        let (Ok(entry) | Err(entry)) = line;
        if sender.send(event("line", &json(&entry))).await.is_err() || over {
            return;
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Of what is shown nothing can fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// JSON has no line ends.
fn event(kind: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {kind}\ndata: {data}\n\n"))
}
