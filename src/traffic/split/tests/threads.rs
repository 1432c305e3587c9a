//! The exact schedule on several threads: what counts is the sum over all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arc_swap::ArcSwap;

use super::*;

/// Takes `each` turns on each of `threads` threads; how many each of `versions` versions had.
fn counts(splitter: &Splitter, versions: usize, threads: usize, each: usize) -> Vec<i64> {
    let count = || {
        let mut counts = vec![0; versions];
        (0..each).for_each(|_| counts[splitter.choose()] += 1);
        counts
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(count)).collect();
        let all = running.into_iter().map(|one| one.join().unwrap());
        all.fold(vec![0; versions], |sum, one| sum.iter().zip(one).map(|(a, b)| a + b).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_sum_over_all_threads_is_exact(weights in weights_of(2..=8), threads in 1..=8_usize, each in 1..3_000_usize) {
        let counts = counts(&splitter(&weights, None), weights.len(), threads, each);
        let requests = i64::try_from(threads * each).unwrap();
        for (count, weight) in counts.iter().zip(&weights) {
            let off = count * REQUEST - requests * i64::from(*weight);
            prop_assert!(off.abs() < REQUEST, "{} of {} at weight {}", count, requests, weight);
            prop_assert!(*weight > 0 || *count == 0);
        }
    }
}

/// The deficits after threads chose while the weights changed under them, and what the books say.
fn under_changes(plans: &[&[u16]], threads: usize, changes: usize) -> (Vec<i64>, Vec<i64>) {
    let current = ArcSwap::from_pointee((0, splitter(plans[0], None)));
    let over = AtomicBool::new(false);
    let take = || {
        let mut deficit = Deficit::nothing(plans[0].len());
        while !over.load(Ordering::Relaxed) {
            let held = current.load();
            let (plan, splitter) = &**held;
            deficit.request(plans[*plan], splitter.choose());
        }
        deficit
    };
    let deficit = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        for change in 1..=changes {
            let plan = change % plans.len();
            let next = splitter(plans[plan], Some(&current.load().1));
            current.store(Arc::new((plan, next)));
            thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
        let all = running.into_iter().map(|one| one.join().unwrap().0);
        all.fold(vec![0; plans[0].len()], |sum, one| sum.iter().zip(one).map(|(a, b)| a + b).collect())
    });
    let books = current.load().1.deficits(&split(plans[0]));
    (deficit, books)
}

#[test]
fn two_versions_stay_exact_while_weights_change_under_threads() {
    for threads in [1, 2, 4] {
        let (deficit, books) = under_changes(&[&[9_000, 1_000], &[5_000, 5_000], &[3_333, 6_667]], threads, 300);
        assert!(deficit.iter().all(|deficit| deficit.abs() < REQUEST), "{deficit:?} on {threads} threads");
        assert_eq!(deficit, books);
    }
}

#[test]
fn three_versions_lose_no_turn_while_weights_change_under_threads() {
    for threads in [1, 2, 4] {
        let plans: &[&[u16]] = &[&[9_000, 500, 500], &[5_000, 2_500, 2_500], &[2_000, 3_000, 5_000]];
        let (deficit, books) = under_changes(plans, threads, 100);
        // Below one by the schedule, and below two by turns taken from an old schedule after its successor began.
        assert!(deficit.iter().all(|deficit| deficit.abs() < 3 * REQUEST), "{deficit:?} on {threads} threads");
        assert_eq!(deficit, books, "the books know every turn");
    }
}
