//! A limit on what is in use at once, and a bounded, timed queue before it.
//!
//! ```text
//! enter ─► a place is free and nobody waits ──────────────► Permit ─► drop: the first who waits gets it
//!      └─► queue full: Full ─ else waits: TimedOut, or ──┘
//! ```
//!
//! How many places there are is said by whoever publishes a snapshot; who is inside is counted here and outlives it. A limit
//! that a reload raises lets in who waits at once; one that it lowers takes effect as places become free.
//!
//! Invariants: no more places are taken than the limit; who came first is first; nobody waits for longer than told, and
//! no more wait than told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How many places there are, and how many may wait for one, for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Places.
    pub(crate) most: usize,
    /// Who may wait.
    pub(crate) queue: usize,
    /// For how long.
    pub(crate) timeout: Duration,
}

/// A limiter, and how it is bounded by a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    /// How many places there are.
    pub(crate) capacity: Capacity,
    /// Who is inside.
    pub(crate) limiter: Arc<Limiter>,
}

impl Limit {
    /// Takes a place, at once if one is free and nobody waits, and waits until `deadline` at the longest.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn enter(&self, deadline: Option<Instant>) -> Result<Permit, NoPermit> {
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        let capacity = Capacity { timeout: self.capacity.timeout.min(left), ..self.capacity };
        Arc::clone(&self.limiter).enter(capacity).await
    }

    /// Takes a place if one is free and nobody waits.
    pub(crate) fn try_enter(&self) -> Option<Permit> {
        Arc::clone(&self.limiter).try_enter()
    }

    /// Puts it into effect.
    pub(crate) fn apply(&self) {
        self.limiter.set_most(self.capacity.most);
    }

    /// Whether as much or more is in use than may be.
    pub(crate) fn is_full(&self) -> bool {
        self.limiter.used() >= self.capacity.most
    }

    /// Whether more is in use than may be.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.limiter.used() > self.capacity.most
    }
}

impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.capacity == other.capacity && Arc::ptr_eq(&self.limiter, &other.limiter)
    }
}

impl Eq for Limit {}

/// Places where nothing is limited: more than can be in use.
const OPEN: usize = u32::MAX as usize;

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// As many wait as may.
    Full,
    /// None became free in time.
    TimedOut,
}

/// What is in use, and who waits.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// Free places. Who waits for one is in line here.
    free: Semaphore,
    used: AtomicUsize,
    waiting: AtomicUsize,
    /// The limit as it was last told.
    most: AtomicUsize,
    /// Places in use that are gone once they are free.
    surplus: AtomicUsize,
    /// Locked while the limit changes.
    changing: Mutex<()>,
}

/// A place in use, until it is dropped.
#[derive(Debug)]
#[must_use = "the place is taken only while this lives"]
pub(crate) struct Permit(Arc<Limiter>);

impl Default for Limiter {
    fn default() -> Self {
        Self {
            free: Semaphore::new(0),
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            surplus: AtomicUsize::new(0),
            changing: Mutex::new(()),
        }
    }
}

impl Limiter {
    /// Places in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Who waits for one.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn enter(self: Arc<Self>, capacity: Capacity) -> Result<Permit, NoPermit> {
        // Who waits gets what becomes free, so that nothing is free while somebody waits.
        if let Ok(place) = self.free.try_acquire() {
            place.forget();
        } else {
            let _waiting = Waiting::begin(&self, capacity.queue)?;
            let acquired = tokio::time::timeout(capacity.timeout, self.free.acquire()).await;
            // It is never closed.
            acquired.ok().and_then(Result::ok).ok_or(NoPermit::TimedOut)?.forget();
        }
        self.used.fetch_add(1, Ordering::Relaxed);
        Ok(Permit(self))
    }

    fn try_enter(self: Arc<Self>) -> Option<Permit> {
        self.free.try_acquire().ok()?.forget();
        self.used.fetch_add(1, Ordering::Relaxed);
        Some(Permit(self))
    }

    /// Nothing is limited any more: who waits comes in.
    pub(crate) fn open(&self) {
        self.set_most(OPEN);
    }

    /// There are so many places from now on.
    #[cold]
    fn set_most(&self, most: usize) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.most.swap(most, Ordering::AcqRel);
        if let Some(fewer) = before.checked_sub(most) {
            self.surplus.fetch_add(fewer - self.free.forget_permits(fewer), Ordering::AcqRel);
            return;
        }
        let more = most - before;
        let kept = self.surplus.load(Ordering::Acquire).min(more);
        let kept = (0..kept).filter(|_| self.take_surplus()).count();
        self.free.add_permits(more - kept);
    }

    /// Whether there was a place too many, and there is one less of them now.
    fn take_surplus(&self) -> bool {
        self.surplus.fetch_update(Ordering::AcqRel, Ordering::Acquire, |surplus| surplus.checked_sub(1)).is_ok()
    }

    fn leave(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
        if !self.take_surplus() {
            self.free.add_permits(1);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// One who waits, until this is dropped.
struct Waiting<'l>(&'l Limiter);

impl<'l> Waiting<'l> {
    fn begin(limiter: &'l Limiter, queue: usize) -> Result<Self, NoPermit> {
        let add = |waiting: usize| (waiting < queue).then(|| waiting + 1);
        let joined = limiter.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
        joined.map(|_| Self(limiter)).map_err(|_| NoPermit::Full)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::{FutureExt as _, poll};
    use tokio::task::JoinSet;

    use super::*;

    const fn capacity(most: usize, queue: usize) -> Capacity {
        Capacity { most, queue, timeout: Duration::from_secs(1) }
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_taken_waited_for_in_order_and_refused() {
        let limiter = Arc::new(Limiter::default());
        limiter.set_most(2);
        let enter = |queue| Arc::clone(&limiter).enter(capacity(2, queue));
        let (first, second) = (enter(2).await.unwrap(), enter(2).await.unwrap());
        let (mut third, mut fourth) = (pin!(enter(2)), pin!(enter(2)));
        assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending());
        assert_eq!((limiter.used(), limiter.waiting()), (2, 2));
        assert_eq!(enter(2).await.unwrap_err(), NoPermit::Full);
        drop(first);
        // Who comes now stands behind those who wait, though a place is free.
        let mut late = pin!(enter(3));
        assert!(poll!(&mut late).is_pending());
        assert!(poll!(&mut fourth).is_pending(), "the third came before");
        let third = third.now_or_never().unwrap().unwrap();
        drop(second);
        let fourth = fourth.await.unwrap();
        assert_eq!(late.await.unwrap_err(), NoPermit::TimedOut);
        drop((third, fourth));
        assert_eq!((limiter.used(), limiter.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_no_turn_with_it() {
        let limiter = Arc::new(Limiter::default());
        limiter.set_most(1);
        let enter = || Arc::clone(&limiter).enter(capacity(1, 8));
        let held = enter().await.unwrap();
        {
            let mut gone = pin!(enter());
            assert!(poll!(&mut gone).is_pending());
            let mut next = pin!(enter());
            assert!(poll!(&mut next).is_pending());
            drop(held);
            // The turn was given to the first, which leaves before it looks.
            gone.set(enter());
            drop(next.await.unwrap());
        }
        assert_eq!((limiter.used(), limiter.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_raised_lets_in_who_waits_and_one_that_is_lowered_waits_for_places() {
        let limiter = Arc::new(Limiter::default());
        let enter = |most| {
            limiter.set_most(most);
            Arc::clone(&limiter).enter(capacity(most, 8))
        };
        let held = enter(1).await.unwrap();
        let mut waiting = Box::pin(enter(1));
        assert!(poll!(&mut waiting).is_pending());
        limiter.set_most(2);
        let waited = waiting.now_or_never().expect("it is let in at once").unwrap();
        let raised = enter(3).await.unwrap();
        assert_eq!(limiter.used(), 3);
        let mut lowered = pin!(enter(1));
        for place in [held, raised] {
            assert!(poll!(&mut lowered).is_pending());
            drop(place);
        }
        assert!(poll!(&mut lowered).is_pending(), "one is still in");
        drop(waited);
        drop(lowered.await.unwrap());
        let all = [enter(2).await, enter(2).await];
        assert!(all.iter().all(Result::is_ok), "no place was lost");
        assert!(Arc::clone(&limiter).try_enter().is_none());
        assert_eq!(enter(2).await.unwrap_err(), NoPermit::TimedOut);
        limiter.open();
        let many: Vec<_> = (0..100).map(|_| Arc::clone(&limiter).try_enter().unwrap()).collect();
        limiter.set_most(101);
        drop(many);
        let again: Vec<_> = std::iter::from_fn(|| Arc::clone(&limiter).try_enter()).take(200).collect();
        assert_eq!(again.len(), 99, "two are in beside");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_are_in_than_the_limit_and_all_get_their_turn() {
        const MOST: usize = 3;
        let limiter = Arc::new(Limiter::default());
        limiter.set_most(MOST);
        let inside = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let (limiter, inside) = (Arc::clone(&limiter), Arc::clone(&inside));
            tasks.spawn(async move {
                let capacity = Capacity { most: MOST, queue: 64, timeout: Duration::from_secs(60) };
                for _ in 0..200 {
                    let place = Arc::clone(&limiter).enter(capacity).await.unwrap();
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < MOST);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(place);
                }
            });
        }
        tasks.join_all().await;
        assert_eq!((limiter.used(), limiter.waiting()), (0, 0));
    }
}
