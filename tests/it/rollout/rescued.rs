//! Requests that fail on the canary and that stable answers: what their clients see, and what the canary is charged with.

use serde_json::Value;

use super::{PLAN, rolled};
use crate::harness::Fixture as _;
use crate::harness::{Client, Load, Origin, Protocol, Request, Target, Weir, over_both};
use crate::http1::lines;

/// Half of the traffic is the canary's, and nothing but `condition` sends it back.
fn plan(condition: &str) -> String {
    PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }")
        .changed("name: errors,", "name: errors, dry_run: true,")
        + &format!("\n      rollback_when: [{condition}]")
}

/// An endpoint that fails is asked again all the same.
const PATIENT: &str = "outlier_detection: { consecutive_errors: 0, connect_failures: 0 }";

async fn at_half(protocol: &str, retry: &str, condition: &str) -> (Origin, Origin, Weir) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let file = |release: &str| {
        rolled(&[&v1, &v2], release, &plan(condition))
            .changed(
                "    rollout:",
                &format!(
                    "    protocol: {protocol}\n    retry: {{ rescue: true, {retry} }}\n    {PATIENT}\n    rollout:"
                ),
            )
            .changed("shutdown:", "access_log: { output: \"{dir}/access.log\" }\nshutdown:")
    };
    let weir = Weir::start(&file("v1")).await;
    weir.reconfigure(&file("v2")).await;
    weir.rolls("shop", "50 %", |r| r.weights.configured == 50.0).await;
    (v1, v2, weir)
}

over_both!(what_fails_on_the_canary_is_answered_by_stable_and_charged_to_the_canary);

async fn what_fails_on_the_canary_is_answered_by_stable_and_charged_to_the_canary(protocol: Protocol) {
    for upstream in ["http1", "h2"] {
        let (v1, v2, weir) = at_half(upstream, "attempts: 1", "{ errors: 1000, within: 1s }").await;
        let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
        v2.fail(100);
        for _ in 0..20 {
            assert_eq!(client.get("/").await.expect(200).origin(), "v1");
        }
        let body = "x".repeat(20_000);
        for _ in 0..20 {
            client.send(&Request::post("/", body.clone()).method("PUT")).await.expect(200);
        }
        let failed = v2.requests();
        assert!((18..=22).contains(&failed), "{failed}: half of them, each once");
        assert_eq!(v1.requests(), 40);
        let count = async |metric: &str, labels: &[(&str, &str)]| weir.metrics().await.value(metric, labels);
        let rescued = failed as f64;
        assert_eq!(count("weir_requests_total", &[("version", "v2"), ("code", "500")]).await, rescued, "{upstream}");
        assert_eq!(count("weir_requests_total", &[("version", "v1"), ("code", "200")]).await, 40.0, "{upstream}");
        assert_eq!(count("weir_rescued_requests_total", &[("version", "v2")]).await, rescued, "{upstream}");
        let retries = &[("version", "v2"), ("reason", "rescue")];
        assert_eq!(count("weir_upstream_retries_total", retries).await, rescued, "{upstream}");
        assert_eq!(count("weir_requests_in_flight", &[]).await, 0.0, "{upstream}");
        let logged = lines(&weir, 40).await;
        assert!(logged.iter().all(|line| line["version"] == "v1" && line["status"] == 200), "{logged:?}");
        assert_eq!(logged.iter().filter(|line| line["rescued_from"] == "v2").count(), failed, "{upstream}");
        // What may have an effect is not done twice.
        let mut seen = [0, 0];
        for _ in 0..10 {
            seen[usize::from(client.send(&Request::post("/", "x")).await.status == 500)] += 1;
        }
        assert_eq!(seen, [5, 5]);
        weir.stop().await;
    }
}

over_both!(a_canary_that_cannot_be_reached_costs_no_idempotent_request_and_stable_is_told_that_it_is_stable);

async fn a_canary_that_cannot_be_reached_costs_no_idempotent_request_and_stable_is_told_that_it_is_stable(
    protocol: Protocol,
) {
    for upstream in ["http1", "h2"] {
        let (_v1, v2, weir) = at_half(upstream, "attempts: 2, backoff: 1ms", "{ errors: 1000, within: 1s }").await;
        let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
        v2.kill().await;
        for _ in 0..10 {
            let seen: Value = client.get("/headers").await.expect(200).json();
            let sent: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
            let told: Vec<&str> =
                sent.iter().filter(|(name, _)| name.eq_ignore_ascii_case("weir-version")).map(|(_, v)| &**v).collect();
            assert_eq!(told, ["v1"], "{upstream}: {sent:?}");
        }
        let metrics = weir.metrics().await;
        assert_eq!(metrics.value("weir_requests_total", &[("version", "v2"), ("code", "502")]), 5.0, "{upstream}");
        assert_eq!(metrics.value("weir_upstream_errors_total", &[("version", "v2"), ("kind", "connect")]), 10.0);
        assert_eq!(metrics.value("weir_rescued_requests_total", &[("version", "v2")]), 5.0, "{upstream}");
        weir.stop().await;
    }
}

over_both!(a_canary_that_fails_goes_back_though_no_client_saw_it);

async fn a_canary_that_fails_goes_back_though_no_client_saw_it(protocol: Protocol) {
    let (_v1, v2, weir) = at_half("http1", "attempts: 1", "{ errors: 10, in_a_row: true }").await;
    v2.fail(100);
    let ledger = Load::at(weir.address("web").await).clients(protocol, 2).count(100).run().await;
    ledger.assert_clean();
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.reason.contains("trip wire"), "{}", rollout.reason);
    weir.stop().await;
}
