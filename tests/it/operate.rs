//! What operators do and see: shifts that last, the access log, exit codes.

use crate::harness::Fixture as _;
use crate::harness::{Client, Load, Origin, Protocol, Rewrite, Target, Weir, eventually, over_both, shop};

over_both!(a_shift_survives_a_restart_until_it_is_reset_or_the_file_changes);

async fn a_shift_survives_a_restart_until_it_is_reset_or_the_file_changes(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let state = tempfile::tempdir().unwrap();
    let yaml = |a: f64, b: f64| shop(&[(&v1, a), (&v2, b)]).changed("{dir}/state", &state.path().display().to_string());
    let effective = |status: &weir::admin::wire::Status| status.services[0].versions[1].effective;
    let weir = Weir::start(&yaml(100.0, 0.0)).await;
    assert!(weir.cli(&["weight", "shop", "v1=75", "v2=25", "--reason", "trial"]).await.status.success());
    let ledger = Load::at(weir.address("web").await).clients(protocol, 2).count(400).run().await;
    assert_eq!(ledger.counts().version("v2"), 100);
    weir.stop().await;
    let weir = Weir::start(&yaml(100.0, 0.0)).await;
    let status = weir.status().await;
    assert_eq!(effective(&status), 25.0);
    assert_eq!(status.services[0].shift.as_ref().map(|shift| shift.reason.as_str()), Some("trial"));
    assert!(weir.cli(&["weight", "shop", "--reset"]).await.status.success());
    assert_eq!(effective(&weir.status().await), 0.0);
    assert!(weir.cli(&["weight", "shop", "v1=50", "v2=50"]).await.status.success());
    weir.rewrite(Rewrite::Rename, &yaml(90.0, 10.0));
    weir.until("the file's new split ends the shift", |status| {
        status.services[0].shift.is_none() && effective(status) == 10.0
    })
    .await;
    assert_eq!(weir.cli(&["weight", "shp", "v1=100"]).await.status.code(), Some(1));
    let unknown = weir.cli(&["weight", "shop", "next=100"]).await;
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("there is no version `next`; there are `v1`, `v2`"), "{said}");
    assert_eq!(weir.cli(&["weight", "shop", "v1=99"]).await.status.code(), Some(2));
    weir.stop().await;
}

over_both!(the_access_log_says_what_happened);

async fn the_access_log_says_what_happened(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("shutdown:", "access_log: { output: \"{dir}/access.log\" }\nshutdown:");
    let weir = Weir::start(&yaml).await;
    let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    client.get("/status/418?token=secret").await.expect(418);
    let lines = || std::fs::read_to_string(weir.dir().join("access.log")).unwrap_or_default();
    let line: serde_json::Value = eventually("the line is written", async || {
        lines().lines().next().and_then(|line| serde_json::from_str(line).ok())
    })
    .await;
    for (field, value) in [("service", "shop"), ("version", "v1"), ("why", "weight"), ("path", "/status/418")] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!(line["status"], 418);
    assert!(!lines().contains("secret"));
    weir.stop().await;
}
