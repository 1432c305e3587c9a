//! The trip wire against a list of all requests, and on threads.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::{ErrorBurst, ErrorCounter, FailedRequest, MAX_WITHIN, RecentErrors};

const SECOND: Duration = Duration::from_secs(1);

/// So many errors within a time, whatever their share.
const fn burst(errors: u32, within: Duration) -> ErrorBurst {
    ErrorBurst { errors, within, share: 0.0 }
}

fn at(at_ms: u64) -> FailedRequest {
    FailedRequest { at_ms, ..FailedRequest::default() }
}

/// Counts one request.
fn observe(trip: &ErrorCounter, is_error: bool, now: u64) -> bool {
    if !is_error {
        trip.succeeded();
    }
    is_error && trip.failed(at(now))
}

/// The naive model: every request since the beginning.
#[derive(Default)]
struct Model {
    requests: Vec<(bool, u64)>,
    tripped: bool,
}

impl Model {
    fn observe(&mut self, trip: (Option<u32>, Option<(u32, u64)>), is_error: bool, now: u64) -> bool {
        self.requests.push((is_error, now));
        let streak = self.requests.iter().rev().take_while(|(error, _)| *error).count();
        let in_a_row = trip.0.is_some_and(|n| streak >= n.max(1) as usize);
        let errors: Vec<u64> = self.requests.iter().filter(|(error, _)| *error).map(|(_, at)| *at).collect();
        let within = trip.1.is_some_and(|(n, time)| {
            let n = n.max(1) as usize;
            errors.len() >= n && now - errors[errors.len() - n] <= time
        });
        let trips = is_error && !self.tripped && (in_a_row || within);
        self.tripped |= trips;
        trips
    }
}

proptest! {
    #[test]
    fn it_trips_when_a_list_of_all_requests_says_so(
        in_a_row in prop::option::of(0..6_u32),
        within in prop::option::of((0..8_u32, 0..50_u64)),
        requests in prop::collection::vec((prop::bool::weighted(0.6), 0..20_u64), 1..200),
    ) {
        let trip = ErrorCounter::new(in_a_row, within.map(|(n, ms)| burst(n, Duration::from_millis(ms))));
        let (mut model, mut now) = (Model::default(), 1 << 39);
        for (is_error, later) in requests {
            now += later;
            prop_assert_eq!(observe(&trip, is_error, now), model.observe((in_a_row, within), is_error, now));
        }
    }
}

#[test]
fn a_success_breaks_the_row_and_not_the_count_within_a_time() {
    let trip = ErrorCounter::new(Some(3), Some(burst(4, SECOND)));
    assert!(!observe(&trip, true, 0));
    assert!(!observe(&trip, true, 1));
    assert!(!observe(&trip, false, 2));
    assert!(!observe(&trip, true, 3));
    assert!(observe(&trip, true, 1_000), "four within a second, its end included");
    assert!(!observe(&trip, true, 1_001), "only once");
}

#[test]
fn a_row_of_one_endpoint_of_several_is_four_times_as_long() {
    let errors = |endpoints: &[u64], several| {
        let trip = ErrorCounter::new(Some(8), None);
        let mut endpoints = endpoints.iter().cycle();
        (1..100).find(|_| trip.failed(FailedRequest { endpoint: *endpoints.next().unwrap(), several, ..at(0) }))
    };
    assert_eq!(errors(&[1], false), Some(8), "a version with one endpoint or two is judged by them");
    assert_eq!(errors(&[1, 2, 3], true), Some(8));
    assert_eq!(errors(&[1], true), Some(32));
    assert_eq!(errors(&[1, 1, 1, 1, 1, 1, 1, 2], true), Some(16), "the second of another endpoint");
    let trip = ErrorCounter::new(Some(8), None);
    let of = |endpoint| FailedRequest { endpoint, several: true, ..at(0) };
    for _ in 0..100 {
        // What others had in an earlier row is over.
        assert!(!(0..7).any(|request| trip.failed(of(request % 3))));
        trip.succeeded();
        assert!(!(0..31).any(|_| trip.failed(of(1))));
        trip.succeeded();
    }
}

#[test]
fn without_limits_it_never_trips() {
    let trip = ErrorCounter::new(None, None);
    assert!((0..10_000).all(|now| !observe(&trip, true, now)));
}

#[test]
fn the_ring_is_bounded_and_goes_round_for_long() {
    let trip = ErrorCounter::new(None, Some(burst(u32::MAX, SECOND)));
    // One error every other millisecond is 500 in a second; the ring asks for 1,024.
    assert!((0..3_000_000).all(|at| !observe(&trip, true, at * 2)));
    let burst = (0..MAX_WITHIN).position(|_| observe(&trip, true, 6_000_000));
    assert!(burst.is_some(), "{MAX_WITHIN} at once are within a second");
}

#[test]
fn on_threads_the_row_is_exact_and_trips_once() {
    for round in 0..200 {
        let limit = 1 + round % 40;
        let trips = race(&ErrorCounter::new(Some(limit), None), 4, limit.div_ceil(4) as usize);
        assert_eq!(trips, 1, "{limit} errors in a row, on four threads");
    }
}

#[test]
fn on_threads_errors_within_a_time_are_never_missed() {
    for round in 0..400 {
        // Exactly as many errors as it takes: nobody comes later to make up for one that was missed.
        let each = 1 + round % 8;
        let limit = u32::try_from(4 * each).unwrap();
        let trips = race(&ErrorCounter::new(None, Some(burst(limit, SECOND))), 4, each);
        assert_eq!(trips, 1, "{limit} errors within a second, on four threads");
    }
}

/// All orders of `0..count`.
fn orders(count: u64) -> Vec<Vec<u64>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let shorter = orders(last).into_iter();
    let with_last = |order: Vec<u64>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, last);
            order
        })
    };
    shorter.flat_map(with_last).collect()
}

#[test]
fn in_whatever_order_threads_write_what_they_took_nothing_is_missed() {
    for limit in 1..=5_u32 {
        for more in 0..=2 {
            let count = u64::from(limit) + more;
            for order in orders(count) {
                // Every thread has its position before the first of them writes.
                let ring = RecentErrors::new(burst(limit, SECOND));
                (0..count).for_each(|position| assert_eq!(ring.take(), position));
                let found = order.iter().filter(|position| ring.write(**position, at(5))).count();
                assert!(found > 0, "{limit} errors within a second, written in the order {order:?}");
                // Far apart, they are never too many.
                let ring = RecentErrors::new(burst(limit.max(2), SECOND));
                assert!(!order.iter().any(|position| ring.write(*position, at(5 + position * 1_001))), "{order:?}");
            }
        }
    }
}

#[test]
fn on_threads_too_few_errors_never_trip() {
    for round in 0..200 {
        let each = 1 + round % 8;
        let limit = u32::try_from(4 * each + 1).unwrap();
        assert_eq!(race(&ErrorCounter::new(Some(limit), Some(burst(limit, SECOND))), 4, each), 0);
    }
}

#[test]
fn on_threads_a_burst_after_a_long_trickle_trips_once() {
    let trip = ErrorCounter::new(None, Some(burst(16, SECOND)));
    // 100 ms between errors: at most 11 in any second.
    assert!((0..20_000).all(|at| !observe(&trip, true, at * 100)));
    let (start, trips) = (Barrier::new(4), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..100 {
                    trips.fetch_add(usize::from(observe(&trip, true, 2_010_000)), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(trips.load(Ordering::SeqCst), 1);
}

/// How often it trips while `threads` threads each tell it of `each` errors, all at the same moment.
fn race(trip: &ErrorCounter, threads: usize, each: usize) -> usize {
    let (start, trips) = (Barrier::new(threads), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                start.wait();
                for _ in 0..each {
                    trips.fetch_add(usize::from(observe(trip, true, 7)), Ordering::SeqCst);
                }
            });
        }
    });
    trips.load(Ordering::SeqCst)
}

#[test]
fn a_burst_is_a_share_of_the_requests_too() {
    let trip = ErrorCounter::new(None, Some(ErrorBurst { errors: 20, within: SECOND, share: 10.0 }));
    // One of 250 fails: twenty within a second, of 5,000.
    let few = |at: u64| FailedRequest { at_ms: at * 10, finished: at * 250, ..FailedRequest::default() };
    assert!((0..1_000).all(|at| !trip.failed(few(at))));
    // One of five.
    let many = |at: u64| FailedRequest { at_ms: 10_000 + at, finished: 250_000 + at * 5, ..FailedRequest::default() };
    assert_eq!((0..100).position(|at| trip.failed(many(at))), Some(19));
}

#[test]
fn errors_of_one_endpoint_of_several_must_be_most_of_the_requests() {
    let new = || ErrorCounter::new(None, Some(ErrorBurst { errors: 20, within: SECOND, share: 10.0 }));
    let on =
        |endpoint: u64, each: u64, at: u64| FailedRequest { at_ms: at, finished: at * each, endpoint, several: true };
    let trip = new();
    assert!((0..100).all(|at| !trip.failed(on(7, 5, at))), "a fifth of the requests, on one endpoint");
    assert!((101..140).any(|at| trip.failed(on(at % 2, 2, at))), "two of them fail");
    assert_eq!((0..100).position(|at| new().failed(on(7, 5, at))), None);
    let trip = new();
    assert_eq!((0..100).position(|at| trip.failed(on(7, 1, at))), Some(19), "all that users see");
    let trip = new();
    let alone = |at: u64| FailedRequest { several: false, ..on(7, 5, at) };
    assert_eq!((0..100).position(|at| trip.failed(alone(at))), Some(19), "of few endpoints one is the version");
}
