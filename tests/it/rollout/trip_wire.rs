//! The trip wire at a real rate of requests: how many errors users see of a canary that fails, and of which it does not
//! trip.

use std::time::{Duration, Instant};

use super::{PLAN, rolled};
use crate::harness::Fixture as _;
use crate::harness::ledger::Outcome;
use crate::harness::{Load, Origin, Protocol, Weir, over_both};

/// A plan whose analysis decides nothing.
fn unjudged(condition: &str) -> String {
    PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }")
        .changed("name: errors,", "name: errors, dry_run: true,")
        + &format!("\n      rollback_when: [{condition}]")
}

async fn at_half(plan: &str) -> (Origin, Origin, Weir) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&rolled(&[&v1, &v2], "v1", plan)).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", plan)).await;
    weir.rolls("shop", "50 %", |r| r.weights.configured == 50.0).await;
    (v1, v2, weir)
}

over_both!(a_burst_of_errors_trips_where_it_is_a_share_of_the_requests);

async fn a_burst_of_errors_trips_where_it_is_a_share_of_the_requests(protocol: Protocol) {
    let (_v1, v2, weir) = at_half(&unjudged("{ errors: 5, within: 10s, share: 20 }")).await;
    let load = Load::at(weir.address("web").await).clients(protocol, 4);
    v2.fail(10);
    let counts = load.clone().count(600).run().await.counts();
    let errors = counts.outcome(Outcome::ServerError);
    assert!(errors >= 25, "{counts}");
    // Had it tripped, v2 would get nothing.
    v2.fail(0);
    let after = load.clone().count(40).run().await.counts();
    assert!(after.version("v2") >= 15, "{after}");
    assert_eq!(weir.rollout("shop").await.phase, "progressing");
    v2.fail(50);
    let counts = load.count(600).run().await.counts();
    let errors = counts.outcome(Outcome::ServerError);
    // Every other request fails: five errors are there after ten, and a few are on their way.
    assert!((5..=12).contains(&errors), "{counts}");
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.reason.contains("trip wire: v2 had 5 errors within 10s"), "{}", rollout.reason);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_totally_is_out_of_traffic_within_a_few_requests() {
    let (_v1, v2, weir) = at_half(&unjudged("{ errors: 10, in_a_row: true }, { errors: 20, within: 1s }")).await;
    let (kept, streams) = (8, 8);
    let clients = (kept + streams) as u64;
    let load = Load::at(weir.address("web").await).keep_alive(kept).http2(1, streams).start();
    load.wait_more(1_000).await;
    let (begun, before) = (Instant::now(), load.ledger().settled());
    load.wait_more(1_000).await;
    let rate = (load.ledger().settled() - before) as f64 / begun.elapsed().as_secs_f64();
    v2.fail(100);
    let failed = Instant::now();
    let (mut errors, mut last) = (0, Duration::ZERO);
    let end = load.ledger().settled() + 1_000;
    while load.ledger().settled() < end {
        let now = load.ledger().of(Outcome::ServerError);
        if now > errors {
            (errors, last) = (now, failed.elapsed());
        }
        tokio::task::yield_now().await;
    }
    let rollout = weir.until_phase("shop", "rolled_back").await;
    let counts = load.stop().await.counts();
    eprintln!("total failure at {rate:.0} requests/s: {errors} errors, the last after {last:?}");
    assert_eq!(counts.outcome(Outcome::ServerError), errors, "none after that\n{counts}");
    // Ten in a row; what was on its way; and the answers from before, each of which begins the row anew.
    assert!((10..10 + 2 * clients).contains(&errors), "{counts}");
    assert!(rollout.reason.contains("trip wire"), "{}", rollout.reason);
    weir.stop().await;
}
