use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> OutlierPolicy {
    OutlierPolicy {
        consecutive_errors: 5,
        interval: 10 * SECOND,
        ejection_time: 30 * SECOND,
        max_ejection_time: 300 * SECOND,
        max_ejected: 50,
        success_rate: Some(SuccessRate { deviations: 1.9, min_endpoints: 5, min_requests: 100 }),
        connect_failures: 3,
    }
}

fn of(rates: &[(u64, u64)]) -> Vec<usize> {
    let tallies: Vec<Tally> =
        rates.iter().map(|(requests, errors)| Tally { requests: *requests, errors: *errors }).collect();
    policy().success_rate.unwrap().outliers(&tallies)
}

#[test]
fn each_ejection_takes_longer_and_good_intervals_are_counted_off() {
    let (policy, begin) = (policy(), Instant::now());
    let mut ejections = Ejections::default();
    let mut now = begin;
    let mut eject = |good: u32| {
        now += good * SECOND;
        let ejection = ejections.eject(&policy, now);
        assert!(!ejections.is_over(now) && ejections.is_over(ejection.until));
        let took = ejection.until - ejection.since;
        now = ejection.until;
        ejections.readmit(now);
        took.as_secs()
    };
    assert_eq!([eject(0), eject(0), eject(9)], [30, 60, 90]);
    assert_eq!(eject(10), 90, "one good interval makes up for one ejection");
    assert_eq!(eject(1_000), 30, "in the end all are forgotten");
    let longest = (0..50).map(|_| eject(0)).max();
    assert_eq!(longest, Some(300));
    assert_eq!(eject(90), 60, "what was never longer is not counted off longer");
}

proptest! {
    /// The naive model counts each interval as it passes, as Envoy does.
    #[test]
    fn ejections_are_as_long_as_those_of_a_clock_that_ticks(good in prop::collection::vec(0_u64..40, 1..30)) {
        let policy = policy();
        let mut ejections = Ejections::default();
        let (mut now, mut multiplier) = (Instant::now(), 0_u64);
        for seconds in good {
            for second in 1..=seconds {
                if second % 10 == 0 {
                    multiplier = multiplier.saturating_sub(1);
                }
            }
            now += Duration::from_secs(seconds);
            multiplier = (multiplier + 1).min(10);
            let ejection = ejections.eject(&policy, now);
            prop_assert_eq!((ejection.until - ejection.since).as_secs(), 30 * multiplier);
            now = ejection.until;
            ejections.readmit(now);
        }
    }

    #[test]
    fn the_last_endpoint_is_never_ejected_and_never_more_than_the_share(
        ready in 0_usize..100, ejected in 0_usize..100, others in 0_usize..100, share in 0_u8..=100,
    ) {
        let policy = OutlierPolicy { max_ejected: share, ..policy() };
        if policy.has_room(Pool { ready, ejected, others }) {
            prop_assert!(others > 0 && share > 0);
            prop_assert!(ejected == 0 || (ejected + 1) * 100 <= ready * usize::from(share));
        }
    }

    #[test]
    fn outliers_are_below_the_mean_and_had_enough_requests(
        rates in prop::collection::vec((0_u64..500, 0_u64..500), 0..20),
    ) {
        for at in of(&rates) {
            let (requests, errors) = rates[at];
            prop_assert!(requests >= 100 && errors > 0);
        }
    }
}

#[test]
fn room_for_ejections() {
    let room = |ready, ejected| policy().has_room(Pool { ready, ejected, others: ready - ejected - 1 });
    assert!(!room(1, 0), "the last one");
    assert!(room(2, 0) && !room(2, 1));
    assert!(room(3, 0) && !room(3, 1));
    assert!(room(4, 1) && !room(4, 2));
    let none = OutlierPolicy { max_ejected: 0, ..policy() };
    assert!(!none.has_room(Pool { ready: 10, ejected: 0, others: 9 }));
}

#[test]
fn success_rates() {
    assert_eq!(of(&[(100, 0), (100, 0), (100, 50), (100, 0), (100, 0)]), [2]);
    assert_eq!(of(&[(100, 0), (100, 0), (100, 50), (100, 0)]), [] as [usize; 0], "too few endpoints");
    assert_eq!(of(&[(100, 0), (100, 0), (100, 50), (100, 0), (99, 0)]), [] as [usize; 0], "too few requests");
    assert_eq!(of(&[(1_000, 0), (1_000, 0), (1_000, 1), (1_000, 0), (1_000, 0)]), [] as [usize; 0], "hardly worse");
    assert_eq!(of(&[(100, 50), (100, 50), (100, 50), (100, 50), (100, 50)]), [] as [usize; 0], "all alike");
}
