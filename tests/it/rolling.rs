//! Rolling updates: endpoints of a version are replaced under load, and `min_ready` keeps what serves.

use std::time::Duration;

use crate::harness::Fixture as _;
use crate::harness::{Client, Load, Origin, Protocol, Rewrite, Target, Weir, eventually, over_both, shop};

/// A configuration of one version with these endpoints.
fn version(endpoints: &[&Origin], min_ready: usize) -> String {
    let list = endpoints.iter().map(|origin| format!("\"{}\"", origin.address())).collect::<Vec<_>>().join(", ");
    let Some(first) = endpoints.first() else { panic!("a version has an endpoint") };
    shop(&[(first, 100.0)])
        .changed(&format!("\"{}\"", first.address()), &list)
        .changed("v1: { endpoints:", &format!("v1: {{ min_ready: {min_ready}, endpoints:"))
}

/// How often all endpoints are replaced.
const ROUNDS: usize = 20;

over_both!(all_endpoints_are_replaced_one_by_one_and_no_request_is_lost);

async fn all_endpoints_are_replaced_one_by_one_and_no_request_is_lost(protocol: Protocol) {
    // Four origins; three serve, and the fourth is the extra one that comes before another goes.
    let origins = tokio::join!(Origin::start("v1"), Origin::start("v1"), Origin::start("v1"), Origin::start("v1"));
    let origins: [Origin; 4] = origins.into();
    let mut serving = vec![0, 1, 2];
    let file = |serving: &[usize]| version(&serving.iter().map(|at| &origins[*at]).collect::<Vec<_>>(), 3);
    let weir = Weir::start(&file(&serving)).await;
    let web = Target::from(weir.address("web").await);
    let load = Load::at(web).clients(protocol, 4).think(Duration::from_millis(2)).start();
    for round in 0..ROUNDS * 3 {
        let (new, old) = ((round + 3) % 4, round % 4);
        if round > 0 {
            origins[new].restart().await;
        }
        serving.push(new);
        weir.reconfigure(&file(&serving)).await;
        serving.retain(|at| *at != old);
        weir.reconfigure(&file(&serving)).await;
        weir.until("the old one is empty", |status| status.services[0].versions[0].endpoints.len() == 3).await;
        origins[old].stop().await;
        load.wait_more(20).await;
    }
    let ledger = load.stop().await;
    ledger.assert_clean();
    ledger.assert_executed_once(&origins.iter().collect::<Vec<_>>());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_below_min_ready_is_refused_unless_it_is_forced() {
    let (a, b, c) = (Origin::start("v1").await, Origin::start("v1").await, Origin::start("v1").await);
    let weir = Weir::start(&version(&[&a, &b, &c], 2)).await;
    let of = |origin: &Origin| format!("shop/v1/{}", origin.address());
    assert_eq!(weir.cli(&["drain", &of(&a)]).await.status.code(), Some(0));
    for command in [["drain", &of(&b)], ["maint", &of(&c)], ["drain", "shop/v1"], ["maint", "shop"]] {
        let output = weir.cli(&command).await;
        assert_eq!(output.status.code(), Some(7), "{command:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("shop/v1 would have") && said.contains("min_ready is 2"), "{said}");
    }
    let shown = &weir.status().await.services[0].versions[0];
    assert_eq!((shown.ready, shown.min_ready), (2, 2), "what is refused changes nothing");
    assert_eq!(weir.cli(&["maint", &of(&a)]).await.status.code(), Some(0), "it is not ready as it is");
    assert_eq!(weir.cli(&["drain", &of(&b), "--force"]).await.status.code(), Some(0));
    assert_eq!(weir.cli(&["maint", &of(&b)]).await.status.code(), Some(0), "no further one is lost");
    assert_eq!(weir.status().await.services[0].versions[0].ready, 1);
    let web = Target::from(weir.address("web").await);
    Client::connect(Protocol::Http1, &web).await.get("/").await.expect(200);
    assert_eq!((a.requests(), b.requests(), c.requests()), (0, 0, 1));
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_leaves_too_few_ready_waits_for_others_or_is_forced() {
    let (a, b, c) = (Origin::start("v1").await, Origin::start("v1").await, Origin::start("v1").await);
    let weir = Weir::start(&version(&[&a, &b, &c], 2)).await;
    assert_eq!(weir.cli(&["drain", &format!("shop/v1/{}", a.address())]).await.status.code(), Some(0));
    weir.rewrite(Rewrite::Rename, &version(&[&a, &b], 2));
    let status = weir.until("the file is refused", |status| !status.config.current).await;
    let said = status.config.errors.unwrap_or_default();
    assert!(said.contains("shop/v1 would have 1 ready endpoint; its min_ready is 2"), "{said}");
    assert_eq!(status.services[0].versions[0].endpoints.len(), 3, "nothing of it is in effect");
    let output = weir.cli(&["reload"]).await;
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    // Nobody touches the file: it is tried again by itself.
    assert_eq!(weir.cli(&["ready", &format!("shop/v1/{}", a.address())]).await.status.code(), Some(0));
    weir.until("the file is in effect", |status| {
        status.config.current && status.services[0].versions[0].endpoints.len() == 2
    })
    .await;
    assert_eq!(
        weir.stderr().matches("reload refused").count(),
        2,
        "what is known is not said again: {}",
        weir.stderr()
    );
    let other = Weir::start(&version(&[&a, &b, &c], 2)).await;
    assert_eq!(other.cli(&["drain", &format!("shop/v1/{}", a.address())]).await.status.code(), Some(0));
    other.rewrite(Rewrite::Rename, &version(&[&a, &b], 2));
    other.until("the file is refused", |status| !status.config.current).await;
    assert_eq!(other.cli(&["reload", "--force"]).await.status.code(), Some(0));
    eventually("the file is in effect", async || other.status().await.config.current).await;
    other.stop().await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_keep_its_own_budget_is_not_valid() {
    let (a, b) = (Origin::start("v1").await, Origin::start("v1").await);
    let weir = Weir::start(&version(&[&a, &b], 2)).await;
    weir.rewrite(Rewrite::Rename, &version(&[&a], 2));
    let output = weir.cli(&["reload"]).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("services.shop.versions.v1.min_ready"), "{said}");
    weir.stop().await;
}
