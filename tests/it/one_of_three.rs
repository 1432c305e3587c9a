//! One of three endpoints fails, in each way that endpoints have: what clients notice, and what it costs the others.

use std::time::{Duration, Instant};

use weir::model::Address;

use crate::harness::{Fault, FaultyOrigin, Fixture as _, Load, Origin, Protocol, Target, Weir, over_both, shop};

/// How an endpoint can fail. What takes long takes longer than any timeout.
const FAULTS: [Fault; 13] = [
    Fault::Refuse,
    Fault::BlackHole,
    Fault::HalfOpen,
    Fault::ResetBefore,
    Fault::SlowReset(Duration::from_millis(20)),
    Fault::ResetMidHead,
    Fault::ResetMidBody,
    Fault::Garbage,
    Fault::SlowFirstByte(Duration::from_secs(60)),
    Fault::SlowBody(Duration::from_secs(60)),
    Fault::Status(500),
    Fault::EverySecond(503),
    Fault::Flapping(Duration::from_millis(300)),
];

/// Short, so that a story meets them often; the budget of retries is that of a service with more clients.
const KEYS: &str = "timeouts: { connect: 200ms, first_byte: 2s, idle: 300ms }
    retry: { on: [connect, reset, timeout, 502, 503, 504], per_try_timeout: 200ms, min_retries: 10 }";

over_both!(once_it_is_noticed_no_idempotent_request_fails_and_few_are_tried_twice);

async fn once_it_is_noticed_no_idempotent_request_fails_and_few_are_tried_twice(protocol: Protocol) {
    for fault in FAULTS {
        let (a, b, c) =
            (FaultyOrigin::start("a").await, FaultyOrigin::start("b").await, FaultyOrigin::start("c").await);
        let v1 = Origin::plan("v1").down();
        let addresses: Vec<Address> = [&a, &b, &c].map(|origin| origin.address()).into();
        let list: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        let yaml = shop(&[(&v1, 100.0)]).changed(&format!("\"{}\"", v1.address()), &list.join(", "));
        let weir = Weir::start(&yaml.changed("    split:", &format!("    {KEYS}\n    split:"))).await;
        let web = Target::from(weir.address("web").await);
        let load = |count| Load::at(&web).clients(protocol, 8).count(count);
        load(100).run().await.assert_clean();
        a.set(fault).await;
        // A second, and as many requests as it takes on a machine that is slow.
        let (began, mut asked) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(1) || asked < 300 {
            load(50).run().await;
            asked += 50;
        }
        let retries = async || weir.metrics().await.value("weir_upstream_retries_total", &[]);
        let before = retries().await;
        load(1_000).run().await.assert_clean();
        let tried_again = retries().await - before;
        assert!(tried_again <= 200.0, "{fault:?}: {tried_again} of 1,000 requests were tried again");
        eprintln!("{fault:?}: {tried_again} of 1,000 requests were tried again, {asked} were asked before");
        weir.stop().await;
    }
}
