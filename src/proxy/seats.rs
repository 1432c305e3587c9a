//! The seats of a listener: who has been idle longest and gives way where all are taken, and how many each address has.
//!
//! A connection tells its seat when it begins to wait for a request and when one begins: an atomic store and a swap. The
//! order is put right only when somebody needs a seat, so requests pay nothing for it: a connection that was busy since
//! it was put in its place is found there, and moved back.
//!
//! ```text
//! accept ─► take ─► idle ⇄ busy ─► (dropped) left
//!                    └── evicted: woken, closes as an idle connection does
//! ```
//!
//! Invariant: a place in the order is never later than the moment since which its connection is idle. So the first one
//! that is where it belongs is the one that has been idle longest.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};

use ahash::HashMap;
use tokio::time::Instant;

/// Connections that are looked at to find one that gives way. Where more were busy since they were looked at last, the
/// one of these that has been idle longest goes: an accept must not take as long as there are connections.
const LOOKS: usize = 512;

/// The seats of one listener.
pub(crate) struct Seats {
    born: Instant,
    /// Connections that one address may have.
    per_address: Option<u32>,
    /// Workers contend for it when they accept, when a connection ends, and when one is to give way; no request does.
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// By the moment that the invariant speaks of, and by number.
    order: BTreeMap<(u64, u64), Arc<Place>>,
    next: u64,
    addresses: HashMap<IpAddr, u32>,
}

/// What the order and the connection share.
#[derive(Debug)]
struct Place {
    number: u64,
    /// [`BUSY`], [`EVICTED`], or since when it is idle.
    state: AtomicU64,
    /// Its moment in the order; changed only with the order.
    moment: AtomicU64,
    /// Wakes the connection's task, which is one for all its life.
    waker: OnceLock<Waker>,
}

const BUSY: u64 = 0;
const EVICTED: u64 = 1;
/// What moments are counted from.
const FIRST: u64 = 2;

/// A connection's seat; left when dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    place: Arc<Place>,
    address: OnceLock<IpAddr>,
}

impl Seats {
    pub(crate) fn new(per_address: Option<u32>) -> Arc<Self> {
        Arc::new(Self { born: Instant::now(), per_address, taken: Mutex::default() })
    }

    /// A seat for a connection that was just accepted. It is idle.
    pub(crate) fn take(self: &Arc<Self>) -> Arc<Seat> {
        let moment = self.moment(Instant::now());
        let mut taken = self.lock();
        let number = taken.next;
        taken.next += 1;
        let (state, at) = (AtomicU64::new(moment), AtomicU64::new(moment));
        let place = Arc::new(Place { number, state, moment: at, waker: OnceLock::new() });
        taken.order.insert((moment, number), Arc::clone(&place));
        drop(taken);
        Arc::new(Seat { seats: Arc::clone(self), place, address: OnceLock::new() })
    }

    /// Has the connection that has been idle longest give way, if any is idle.
    pub(crate) fn evict(&self) -> bool {
        let now = self.moment(Instant::now());
        let mut taken = self.lock();
        let mut best: Option<(u64, Arc<Place>)> = None;
        let mut busy = Vec::new();
        let mut evicted = false;
        for _ in 0..LOOKS {
            let Some(((moment, number), place)) = taken.order.pop_first() else { break };
            let state = place.state.load(Ordering::Acquire);
            match state {
                _ if state == moment && place.evict(state) => evicted = true,
                // It gives way already, and is on its way out.
                EVICTED => {}
                BUSY => busy.push(place),
                idle => {
                    place.moment.store(idle, Ordering::Relaxed);
                    if best.as_ref().is_none_or(|(least, _)| idle < *least) {
                        best = Some((idle, Arc::clone(&place)));
                    }
                    taken.order.insert((idle, number), place);
                }
            }
            if evicted {
                break;
            }
        }
        // Who is busy now cannot have been idle for longer than from now.
        for place in busy {
            place.moment.store(now, Ordering::Relaxed);
            taken.order.insert((now, place.number), place);
        }
        drop(taken);
        evicted || best.is_some_and(|(state, place)| place.evict(state))
    }

    fn moment(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.born).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(FIRST)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether it was idle in that way still, and now gives way.
    fn evict(&self, state: u64) -> bool {
        let evicted = self.state.compare_exchange(state, EVICTED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if let (true, Some(waker)) = (evicted, self.waker.get()) {
            waker.wake_by_ref();
        }
        evicted
    }
}

impl Seat {
    /// A seat of nobody else's, for tests and for what has no listener.
    pub(crate) fn alone() -> Arc<Self> {
        Seats::new(None).take()
    }

    /// Notes the client's address. False if that has as many connections as it may have: then it is not let in.
    pub(crate) fn is_admitted(&self, client: Option<IpAddr>) -> bool {
        let (Some(most), Some(client)) = (self.seats.per_address, client) else { return true };
        let network = network(client);
        let mut taken = self.seats.lock();
        let seats = taken.addresses.entry(network).or_default();
        if *seats >= most {
            return false;
        }
        *seats += 1;
        // Told once; a second address would be counted and never given back.
        if self.address.set(network).is_err() {
            *seats -= 1;
        }
        true
    }

    /// The connection waits for a request since then.
    pub(crate) fn idle(&self, since: Instant) {
        let moment = self.seats.moment(since);
        // One that was evicted stays so.
        let _ = self
            .place
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| (state != EVICTED).then_some(moment));
    }

    /// A request begins to arrive. False if the connection has given way in this very moment.
    pub(crate) fn busy(&self) -> bool {
        if self.place.state.swap(BUSY, Ordering::AcqRel) != EVICTED {
            return true;
        }
        self.place.state.store(EVICTED, Ordering::Release);
        false
    }

    /// Whether the connection is to give way.
    pub(crate) fn is_evicted(&self) -> bool {
        self.place.state.load(Ordering::Acquire) == EVICTED
    }

    /// Names the task that is woken when it is to give way: the one that calls, for as long as the connection lives.
    pub(crate) async fn settle(&self) {
        poll_fn(|cx| {
            let _ = self.place.waker.set(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
    }

    /// Until the connection is to give way. To be waited for in the task that [settled](Self::settle).
    pub(crate) async fn evicted(&self) {
        poll_fn(|_| if self.is_evicted() { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.order.remove(&(self.place.moment.load(Ordering::Relaxed), self.place.number));
        if let Some(address) = self.address.get()
            && let Some(seats) = taken.addresses.get_mut(address)
        {
            *seats = seats.saturating_sub(1);
            if *seats == 0 {
                taken.addresses.remove(address);
            }
        }
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Whom an address stands for: of IPv6 a /64, which is the least that a household or a machine gets.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(client) => {
            let [a, b, c, d, ..] = client.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn after(seats: &Seats, seconds: u64) -> Instant {
        seats.born + Duration::from_secs(seconds)
    }

    #[test]
    fn who_has_been_idle_longest_gives_way_first() {
        let seats = Seats::new(None);
        let taken: Vec<_> = (0..100).map(|_| seats.take()).collect();
        // In another order than they came, some of them more than once, and some busy.
        for (at, seat) in taken.iter().enumerate() {
            assert!(seat.busy());
            seat.idle(after(&seats, 1_000));
            seat.idle(after(&seats, 10 + (at as u64 * 37) % 100));
        }
        let mut expected: Vec<usize> = (0..100).filter(|at| at % 10 != 3).collect();
        expected.sort_by_key(|at| (at * 37) % 100);
        assert!(taken.iter().skip(3).step_by(10).all(|seat| seat.busy()));
        for at in expected {
            assert!(seats.evict());
            let evicted: Vec<usize> = (0..100).filter(|at| taken[*at].is_evicted()).collect();
            assert!(taken[at].is_evicted(), "{at} was to go, not {evicted:?}");
        }
        assert!(!seats.evict(), "who is busy stays");
        taken[3].idle(Instant::now());
        assert!(seats.evict() && taken[3].is_evicted());
        drop(taken);
        assert!(seats.lock().order.is_empty() && !seats.evict());
    }

    #[test]
    fn a_request_and_an_eviction_of_one_moment_do_not_both_happen() {
        let seats = Seats::new(None);
        let seat = seats.take();
        assert!(seats.evict() && !seats.evict());
        assert!(!seat.busy(), "it has given way");
        seat.idle(Instant::now());
        assert!(seat.is_evicted());
        let seat = seats.take();
        assert!(seat.busy() && !seats.evict() && !seat.is_evicted());
    }

    #[test]
    fn a_look_for_one_that_gives_way_is_bounded_and_finds_one() {
        let seats = Seats::new(None);
        let taken: Vec<_> = (0..20 * LOOKS).map(|_| seats.take()).collect();
        taken.iter().for_each(|seat| seat.idle(after(&seats, 50)));
        for _ in 0..40 {
            assert!(seats.evict());
        }
        assert_eq!(taken.iter().filter(|seat| seat.is_evicted()).count(), 40);
    }

    #[test]
    fn an_address_has_as_many_seats_as_it_may_and_gets_them_back() {
        let seats = Seats::new(Some(2));
        let come = |client: &str| {
            let seat = seats.take();
            seat.is_admitted(Some(client.parse().unwrap())).then_some(seat)
        };
        let held = [come("10.0.0.1"), come("::ffff:10.0.0.1"), come("2001:db8::1"), come("2001:db8::ffff:2")];
        assert!(held.iter().all(Option::is_some));
        assert!(come("10.0.0.1").is_none() && come("2001:db8:0:0:1::9").is_none(), "one address, and one /64");
        assert!(come("10.0.0.2").is_some() && come("2001:db8:0:1::1").is_some());
        assert!(seats.take().is_admitted(None), "a unix socket has none");
        drop(held);
        assert!(seats.lock().addresses.is_empty());
        assert!(come("10.0.0.1").is_some());
    }
}
