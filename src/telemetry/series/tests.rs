use super::*;

const MS: Duration = Duration::from_millis(1);

fn version(shards: usize) -> Arc<VersionSeries> {
    let edges = Arc::new(Edges::standard());
    Arc::new(VersionSeries::new("shop".into(), "v1".into(), shards, edges, Instant::now()))
}

#[test]
fn a_series_without_traffic_is_small() {
    // Two words for the counts of the `Arc`.
    assert!(size_of::<RouteSeries>() + 16 <= 64, "{}", size_of::<RouteSeries>());
    assert!(size_of::<VersionSeries>() <= 288, "{}", size_of::<VersionSeries>());
    let version = version(4);
    let route = version.route(&"checkout".into());
    assert!(!version.has_traffic() && route.codes.get().is_none());
    version.tick(Instant::now());
    assert_eq!(version.requests_total() + version.in_flight(), 0);
    assert!(!version.has_traffic(), "looking allocates nothing");
}

#[test]
fn slots_do_not_overlap() {
    let slots = (DECISIONS, RETRIES, ERRORS, CUTS, INJECTED, GRPC, CONNECTS, OVERFLOWS, RESCUED, BUCKETS);
    assert_eq!(slots, (7, 11, 19, 27, 32, 34, 35, 36, 37, 38), "as the header draws them");
    let version = version(1);
    let mut all = Vec::new();
    let mut expect = |what: &dyn Fn() -> u64| all.push(what());
    StreamKind::ALL.iter().for_each(|kind| std::mem::forget(version.stream(*kind)));
    DecisionReason::ALL.iter().for_each(|reason| version.decided(*reason));
    RetryReason::ALL.iter().for_each(|reason| version.retried(*reason));
    UpstreamError::ALL.iter().for_each(|kind| version.upstream_error(*kind));
    CutKind::ALL.iter().for_each(|kind| version.cut(*kind));
    InjectedFault::ALL.iter().for_each(|fault| version.fault_injected(*fault));
    version.grpc_failed();
    version.upstream_connected(1);
    version.retry_overflowed();
    version.rescued();
    std::mem::forget(version.enter());
    StreamKind::ALL.iter().for_each(|kind| expect(&|| version.streams_open(*kind)));
    DecisionReason::ALL.iter().for_each(|reason| expect(&|| version.decisions(*reason)));
    RetryReason::ALL.iter().for_each(|reason| expect(&|| version.retries(*reason)));
    UpstreamError::ALL.iter().for_each(|kind| expect(&|| version.upstream_errors(*kind)));
    CutKind::ALL.iter().for_each(|kind| expect(&|| version.cuts(*kind)));
    InjectedFault::ALL.iter().for_each(|fault| expect(&|| version.injected_faults(*fault)));
    expect(&|| version.grpc_failures());
    expect(&|| version.upstream_connects());
    expect(&|| version.retry_overflows());
    expect(&|| version.rescues());
    expect(&|| version.in_flight());
    assert_eq!(all, vec![1; 36]);
    assert_eq!(version.requests_total(), 0);
    assert_eq!((version.durations().1, version.upstream_durations()), (0, (vec![0; 20], 0)));
}

#[test]
fn the_end_of_a_request_is_counted_by_code_class_and_duration() {
    let version = version(2);
    let route = version.route(&"checkout".into());
    route.finish(Outcome::Status(200), 3 * MS);
    route.finish(Outcome::Status(200), 60_000 * MS);
    route.finish(Outcome::Status(503), 7 * MS);
    route.finish(Outcome::ClientClosed, 7 * MS);
    let by_code = [("client_closed", 1), ("200", 2), ("503", 1)];
    assert_eq!(route.requests_by_code(), by_code.map(|(code, count)| (code.to_owned(), count)));
    assert_eq!(version.totals().by_class, [0, 2, 0, 0, 1, 1]);
    let (buckets, sum) = version.durations();
    assert_eq!((buckets[0], buckets[1], buckets[19]), (1, 2, 1));
    assert_eq!(sum, 60_017_000);
    assert_eq!(version.requests_total(), 4);
}

#[test]
fn what_is_open_closes_when_it_is_dropped_on_any_thread() {
    let version = version(8);
    let (request, stream) = (version.enter(), version.stream(StreamKind::Sse));
    assert_eq!((version.in_flight(), version.streams_open(StreamKind::Sse)), (1, 1));
    std::thread::scope(|scope| {
        scope.spawn(move || drop((request, stream)));
    });
    assert_eq!((version.in_flight(), version.streams_open(StreamKind::Sse)), (0, 0));
}

#[test]
fn eight_threads_count_exactly() {
    const EACH: u64 = 25_000;
    let version = version(4);
    let barrier = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let (version, barrier) = (&version, &barrier);
            scope.spawn(move || {
                let route = version.route(&format!("route-{}", thread % 2).into());
                barrier.wait();
                for n in 0..EACH {
                    let _request = version.enter();
                    version.decided(DecisionReason::Weight);
                    version.upstream_answered(MS);
                    let status = if n % 10 == 0 { 503 } else { 200 };
                    route.finish(Outcome::Status(status), Duration::from_micros(10));
                }
            });
        }
    });
    let total = 8 * EACH;
    assert_eq!(version.requests_total(), total);
    assert_eq!(version.totals().by_class, [0, total / 10 * 9, 0, 0, total / 10, 0]);
    assert_eq!(version.durations(), ([vec![total], vec![0; 19]].concat(), total * 10));
    assert_eq!(version.upstream_durations(), ([vec![total], vec![0; 19]].concat(), total * 1_000));
    assert_eq!((version.decisions(DecisionReason::Weight), version.in_flight()), (total, 0));
    assert!(version.routes_with_traffic().is_empty(), "nobody holds the routes any more");
}

#[test]
fn a_scrape_beside_traffic_sees_counts_that_never_fall() {
    let version = version(2);
    let route = version.route(&"checkout".into());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        let _request = version.enter();
                        route.finish(Outcome::Status(200), MS);
                    }
                })
            })
            .collect();
        let (version, route, done) = (&version, &route, &done);
        scope.spawn(move || {
            let (mut total, mut code) = (0, 0);
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let now = (version.requests_total(), route.requests_by_code().first().map_or(0, |(_, count)| *count));
                assert!(now.0 >= total && now.1 >= code, "{now:?} after {total}, {code}");
                assert!(version.in_flight() <= 2);
                (total, code) = now;
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Release);
    });
}

#[test]
fn sums_round_to_the_nearest_microsecond_and_never_overflow() {
    assert_eq!(micros(Duration::from_nanos(1_499)), 1);
    assert_eq!(micros(Duration::from_nanos(1_500)), 2);
    assert_eq!(micros(Duration::MAX), u64::MAX);
}

#[test]
fn the_last_minute_is_asked_of_the_version() {
    let born = Instant::now();
    let version = version(2);
    let route = version.route(&"checkout".into());
    route.finish(Outcome::Status(200), MS);
    for second in 1..=120 {
        version.tick(born + Duration::from_secs(second));
        route.finish(Outcome::Status(if second % 2 == 0 { 200 } else { 500 }), MS);
    }
    let stats = version.window(Duration::from_secs(60), born + Duration::from_secs(120));
    assert_eq!((stats.requests(), stats.error_ratio()), (61, Some(30.0 / 61.0)));
    assert_eq!(stats.covered, Duration::from_secs(60));
}
