//! A future beside a busy one: both wake the same task, but this one is only polled when it was itself woken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Timers and signals of a connection, which a task that is polled for every request need not look at each time.
pub(super) struct Seldom<F> {
    future: Pin<Box<F>>,
    call: Arc<Call>,
    /// [`Call`] as a waker.
    own: Waker,
    /// The task's waker that `call` has.
    task: Option<Waker>,
}

struct Call {
    called: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.called.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Seldom<F> {
    pub(super) fn new(future: F) -> Self {
        let call = Arc::new(Call { called: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future: Box::pin(future), own: Waker::from(Arc::clone(&call)), call, task: None }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            this.call.task.register(cx.waker());
            this.task = Some(cx.waker().clone());
        }
        // A call takes the waker with it.
        if this.call.called.swap(false, Ordering::AcqRel) {
            this.call.task.register(cx.waker());
            return this.future.as_mut().poll(&mut Context::from_waker(&this.own));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::sync::Notify;

    /// By this task, once.
    async fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        std::future::poll_fn(|cx| Poll::Ready(future.poll_unpin(cx))).await
    }

    #[test]
    fn it_is_polled_when_it_is_woken_and_at_no_other_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (polls, notify) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
            let mut inner = Box::pin({
                let notify = Rc::clone(&notify);
                async move {
                    notify.notified().await;
                    notify.notified().await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            let counted = Rc::clone(&polls);
            let mut seldom = Seldom::new(std::future::poll_fn(move |cx| {
                counted.set(counted.get() + 1);
                inner.poll_unpin(cx)
            }));
            for _ in 0..5 {
                assert!(poll(&mut seldom).await.is_pending());
            }
            assert_eq!(polls.get(), 1, "the first time only");
            for times in 2..4 {
                notify.notify_one();
                for _ in 0..5 {
                    assert!(poll(&mut seldom).await.is_pending());
                }
                assert_eq!(polls.get(), times);
            }
            // Its wake-up reaches whichever task has polled it last.
            tokio::time::timeout(Duration::from_secs(20), &mut seldom).await.unwrap();
        });
    }
}
