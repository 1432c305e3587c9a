use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Totals of `requests` that were all answered with 2xx in up to 5 ms.
fn totals(requests: u64) -> Totals {
    let mut buckets = vec![0; Edges::standard().buckets()];
    buckets[0] = requests;
    Totals { by_class: [0, requests, 0, 0, 0, 0], buckets, grpc_failures: 0 }
}

fn requests(window: &Window, now: Instant, span: Duration, total: u64) -> (u64, Duration) {
    let stats = window.stats(now, span, &totals(total), Arc::new(Edges::standard()));
    assert_eq!(stats.buckets.iter().sum::<u64>(), stats.requests());
    (stats.requests(), stats.covered)
}

#[test]
fn a_young_version_is_judged_on_all_it_did() {
    let born = Instant::now();
    let mut window = Window::new(born);
    assert_eq!(requests(&window, born, MINUTE, 7), (7, Duration::ZERO));
    window.keep(born + SECOND, &totals(10));
    assert_eq!(requests(&window, born + 3 * SECOND, MINUTE, 30), (30, 3 * SECOND));
}

#[test]
fn a_window_holds_what_happened_in_it_and_nothing_else() {
    let born = Instant::now();
    let mut window = Window::new(born);
    for n in 1..=300 {
        window.keep(born + n * SECOND, &totals(u64::from(n) * 10));
    }
    let now = born + 300 * SECOND;
    assert_eq!(requests(&window, now, MINUTE, 3_000), (600, MINUTE));
    assert_eq!(requests(&window, now, 10 * SECOND, 3_000), (100, 10 * SECOND));
    assert_eq!(requests(&window, now + SECOND / 2, SECOND, 3_007), (17, SECOND * 3 / 2));
    assert_eq!(window.copies.count(), KEPT);
}

#[test]
fn a_window_longer_than_the_memory_reaches_to_the_oldest_copy_and_says_so() {
    let born = Instant::now();
    let mut window = Window::new(born);
    for n in 1..=300 {
        window.keep(born + n * SECOND, &totals(u64::from(n)));
    }
    let kept = u32::try_from(KEPT).unwrap() - 1;
    assert_eq!(requests(&window, born + 300 * SECOND, 5 * MINUTE, 300), (u64::from(kept), kept * SECOND));
    assert_eq!(requests(&window, born + 300 * SECOND, Duration::MAX, 300), (u64::from(kept), kept * SECOND));
}

#[test]
fn after_a_stall_the_window_is_longer_and_not_wrong() {
    let born = Instant::now();
    let mut window = Window::new(born);
    window.keep(born + SECOND, &totals(10));
    window.keep(born + 2 * SECOND, &totals(20));
    let now = born + 92 * SECOND; // 90 seconds without a tick
    assert_eq!(requests(&window, now, 10 * SECOND, 500), (480, 90 * SECOND));
    window.keep(now, &totals(500));
    assert_eq!(requests(&window, now + SECOND, SECOND, 501), (1, SECOND));
}

#[test]
fn a_burst_of_late_ticks_does_not_push_the_minute_out() {
    let born = Instant::now();
    let mut window = Window::new(born);
    let mut kept = 0;
    for tick in 0..100_000_u32 {
        let now = born + tick * Duration::from_millis(1);
        if window.is_due(now) {
            window.keep(now, &totals(u64::from(tick)));
            kept += 1;
        }
    }
    assert_eq!(kept, 106);
    let (_, covered) = requests(&window, born + 100 * SECOND, MINUTE, 100_000);
    assert!(covered >= MINUTE && covered <= MINUTE + SECOND, "{covered:?}");
}

#[test]
fn a_tick_from_the_past_is_not_due() {
    let born = Instant::now();
    let mut window = Window::new(born);
    window.keep(born + 10 * SECOND, &totals(1));
    assert!(!window.is_due(born));
}

#[test]
fn totals_beyond_32_bits_subtract_exactly() {
    let born = Instant::now();
    let mut window = Window::new(born);
    let large = u64::from(u32::MAX) - 5;
    window.keep(born + SECOND, &totals(large));
    assert_eq!(requests(&window, born + 2 * SECOND, SECOND, large + 100), (100, SECOND));
}

#[test]
fn rates_and_shares_are_of_what_was_counted() {
    let mut now = totals(0);
    now.by_class = [0, 80, 5, 5, 10, 100];
    now.buckets[0] = 200;
    let born = Instant::now();
    let stats = Window::new(born).stats(born + 10 * SECOND, MINUTE, &now, Arc::new(Edges::standard()));
    assert_eq!(stats.requests(), 200);
    assert_eq!(stats.requests_per_second(), 20.0);
    assert_eq!(stats.error_ratio(), Some(0.1), "clients that went away are no responses");
    assert_eq!(stats.quantile(0.5), Some(Duration::from_micros(2_500)));
    let none = Window::new(born).stats(born, MINUTE, &totals(0), Arc::new(Edges::standard()));
    assert_eq!((none.requests_per_second(), none.error_ratio(), none.quantile(0.5)), (0.0, None, None));
}

proptest! {
    #[test]
    fn a_window_equals_a_count_of_the_requests_since_its_beginning(
        steps in prop::collection::vec((1_u64..4_000, 0_u64..50), 1..200),
        span_ms in 0_u64..70_000,
    ) {
        let born = Instant::now();
        let mut window = Window::new(born);
        let mut history = vec![(born, 0)]; // every (time, total) at which a copy was kept
        let (mut now, mut total) = (born, 0);
        for (millis, requests) in steps {
            now += Duration::from_millis(millis);
            total += requests;
            if window.is_due(now) {
                window.keep(now, &totals(total));
                history.push((now, total));
            }
        }
        let span = Duration::from_millis(span_ms);
        let known = if history.len() > KEPT { &history[history.len() - KEPT..] } else { &history[..] };
        let base = known.iter().rev().find(|(at, _)| *at + span <= now).unwrap_or(&known[0]);
        prop_assert_eq!(requests(&window, now, span, total), (total - base.1, now - base.0));
    }
}

#[test]
fn grpc_failures_are_errors_of_their_window() {
    let born = Instant::now();
    let mut window = Window::new(born);
    window.keep(born + SECOND, &Totals { grpc_failures: 7, ..totals(10) });
    let now = Totals { grpc_failures: 9, ..totals(20) };
    let stats = |span| window.stats(born + 2 * SECOND, span, &now, Arc::new(Edges::standard()));
    assert_eq!((stats(SECOND).error_ratio(), stats(MINUTE).error_ratio()), (Some(0.2), Some(0.45)));
}
