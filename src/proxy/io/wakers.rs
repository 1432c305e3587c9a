//! Tasks that are to look up when somebody says so: connections that wait for bytes, when the process must stop.
//!
//! Invariant: whoever registered is woken after every [`Wakers::wake_all`].

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use slab::Slab;

/// The tasks that are woken.
#[derive(Default)]
pub(crate) struct Wakers(Mutex<Slab<Waker>>);

impl Wakers {
    /// Registers the task that calls, until it is [removed](Self::remove) by the number that is returned.
    pub(crate) async fn register(&self) -> usize {
        poll_fn(|cx| Poll::Ready(self.lock().insert(cx.waker().clone()))).await
    }

    /// Forgets a task.
    pub(crate) fn remove(&self, number: usize) {
        self.lock().try_remove(number);
    }

    /// Wakes every task that is registered.
    pub(crate) fn wake_all(&self) {
        self.lock().iter().for_each(|(_, waker)| waker.wake_by_ref());
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_registered_is_woken() {
        let wakers = Wakers::default();
        let number = wakers.register().await;
        let mut polls = 0;
        poll_fn(|_| {
            polls += 1;
            match polls {
                1 => {
                    wakers.wake_all();
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
        wakers.remove(number);
        assert!(wakers.lock().is_empty());
    }
}
