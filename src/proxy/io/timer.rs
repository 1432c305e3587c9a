//! One timer for all deadlines of a connection.
//!
//! A connection has one timer for all of its deadlines. A deadline that moves away leaves the timer where it is; when
//! it fires, it is set to the deadline of that moment. So a request that follows another sets no timer at all.
//!
//! A connection is one task, so whom the timer wakes never changes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

/// One timer for deadlines that come and go.
#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when `at` has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_timer_follows_the_deadline_both_ways() {
        let mut timer = Timer::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        // Far, nearer, far again: only the last one counts.
        for deadline in [at(60), at(5), at(30)] {
            let now = poll_fn(|cx| Poll::Ready(timer.poll(cx, deadline))).await;
            assert!(now.is_pending());
        }
        poll_fn(|cx| timer.poll(cx, at(30))).await;
        assert_eq!(Instant::now(), at(30));
        // It fired; the next deadline is another.
        poll_fn(|cx| timer.poll(cx, at(31))).await;
        assert_eq!(Instant::now(), at(31));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_does_not_cost_the_timer() {
        let mut timer = Timer::default();
        let at = Instant::now() + Duration::from_secs(5);
        poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let _ = std::pin::pin!(tokio::task::consume_budget()).poll(cx);
            }
            assert!(timer.poll(cx, at).is_pending());
            Poll::Ready(())
        })
        .await;
        let woken = tokio::time::timeout(Duration::from_secs(60), poll_fn(|cx| timer.poll(cx, at))).await;
        assert!(woken.is_ok(), "nothing woke it");
        assert_eq!(Instant::now(), at);
    }
}
