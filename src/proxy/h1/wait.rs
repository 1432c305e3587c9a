//! What a connection on the express lane waits for beside bytes: its time, and the word that it must look up.
//!
//! A connection has one timer for all of its deadlines. A deadline that moves away leaves the timer where it is; when
//! it fires, it is set to the deadline of that moment. So a request that follows another sets no timer at all.
//!
//! A connection is one task, so whom the timer wakes never changes.
//!
//! Invariant: whoever registered is woken after every [`wake_all`] of its worker.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;
use tokio::time::{Instant, Sleep};

/// One timer for deadlines that come and go.
#[derive(Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when `at` has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = match &mut self.0 {
            // It is set already, and fires in time to be set again.
            Some(sleep) if sleep.deadline() <= at && !sleep.is_elapsed() => return Poll::Pending,
            Some(sleep) => {
                if at <= Instant::now() {
                    return Poll::Ready(());
                }
                sleep.as_mut().reset(at);
                sleep
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(at))),
        };
        // Without the runtime's budget: with it spent, the timer would not be set, and it is looked at only once.
        Pin::new(&mut tokio::task::unconstrained(sleep.as_mut())).poll(cx)
    }
}

thread_local! {
    static WAITING: RefCell<Slab<Waker>> = const { RefCell::new(Slab::new()) };
}

/// Wakes every connection of this worker, so that it looks whether it must end.
pub(crate) fn wake_all() {
    WAITING.with_borrow(|waiting| waiting.iter().for_each(|(_, waker)| waker.wake_by_ref()));
}

/// A connection's place among those that are woken.
pub(super) struct Registered(usize);

impl Registered {
    /// Registers the task that calls.
    pub(super) async fn new() -> Self {
        std::future::poll_fn(|cx| {
            Poll::Ready(Self(WAITING.with_borrow_mut(|waiting| waiting.insert(cx.waker().clone()))))
        })
        .await
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // A runtime that ends drops its tasks, perhaps on another thread or after this one's statics.
        let _ = WAITING.try_with(|waiting| waiting.borrow_mut().try_remove(self.0));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_timer_follows_the_deadline_both_ways() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        // Far, nearer, far again: only the last one counts.
        for deadline in [at(60), at(5), at(30)] {
            let now = poll_fn(|cx| Poll::Ready(alarm.poll(cx, deadline))).await;
            assert!(now.is_pending());
        }
        poll_fn(|cx| alarm.poll(cx, at(30))).await;
        assert_eq!(Instant::now(), at(30));
        // It fired; the next deadline is another.
        poll_fn(|cx| alarm.poll(cx, at(31))).await;
        assert_eq!(Instant::now(), at(31));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_does_not_cost_the_timer() {
        let mut alarm = Alarm::default();
        let at = Instant::now() + Duration::from_secs(5);
        poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let _ = std::pin::pin!(tokio::task::consume_budget()).poll(cx);
            }
            assert!(alarm.poll(cx, at).is_pending());
            Poll::Ready(())
        })
        .await;
        let woken = tokio::time::timeout(Duration::from_secs(60), poll_fn(|cx| alarm.poll(cx, at))).await;
        assert!(woken.is_ok(), "nothing woke it");
        assert_eq!(Instant::now(), at);
    }

    #[tokio::test]
    async fn who_is_registered_is_woken() {
        let registered = Registered::new().await;
        let mut polls = 0;
        poll_fn(|_| {
            polls += 1;
            match polls {
                1 => {
                    wake_all();
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
        drop(registered);
        WAITING.with_borrow(|waiting| assert!(waiting.is_empty()));
    }
}
