//! Which endpoint of a version gets a request: by weight, in turns, by client.

use crate::harness::Fixture as _;
use crate::harness::{Client, Load, Origin, Protocol, Request, Target, Weir, eventually, over_both, shop};

/// The configuration of [`shop`] with these endpoints, each with its weight, and more keys of the service.
fn weighted(endpoints: &[(&Origin, u16)], keys: &str) -> String {
    let one = |(origin, weight): &(&Origin, u16)| format!("{{ address: \"{}\", weight: {weight} }}", origin.address());
    let list: Vec<String> = endpoints.iter().map(one).collect();
    let (first, _) = endpoints[0];
    shop(&[(first, 100.0)])
        .changed(&format!("\"{}\"", first.address()), &list.join(", "))
        .changed("    split:", &format!("    {keys}\n    split:"))
}

over_both!(turns_are_taken_by_weight_and_a_reload_changes_the_weights);

async fn turns_are_taken_by_weight_and_a_reload_changes_the_weights(protocol: Protocol) {
    let (heavy, light) = (Origin::start("v1").await, Origin::start("light").await);
    let weir = Weir::start(&weighted(&[(&heavy, 3), (&light, 1)], "balance: round_robin")).await;
    let web = Target::from(weir.address("web").await);
    let run = async || {
        let before = (heavy.requests(), light.requests());
        Load::at(&web).request(Request::get("/")).clients(protocol, 4).count(400).run().await.assert_clean();
        (heavy.requests() - before.0, light.requests() - before.1)
    };
    assert_eq!(run().await, (300, 100), "whole periods are exact, whoever's requests they are");
    weir.reconfigure(&weighted(&[(&heavy, 1), (&light, 4)], "balance: round_robin")).await;
    assert_eq!(run().await, (80, 320));
    weir.stop().await;
}

over_both!(with_hash_a_client_keeps_its_endpoint_by_its_address);

async fn with_hash_a_client_keeps_its_endpoint_by_its_address(protocol: Protocol) {
    let (a, b, c) = (Origin::start("v1").await, Origin::start("b").await, Origin::start("c").await);
    let config = weighted(&[(&a, 1), (&b, 2), (&c, 1)], "balance: hash")
        .changed("services:", "trusted_proxies: [127.0.0.0/8]\nservices:");
    let weir = Weir::start(&config).await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    let mut seen = std::collections::HashMap::new();
    for user in (0..24).chain(0..24) {
        let request = Request::get("/").header("x-forwarded-for", format!("192.0.2.{user}"));
        let origin = client.send(&request).await.expect(200).header("x-origin").to_owned();
        assert_eq!(seen.entry(user).or_insert_with(|| origin.clone()), &origin, "{user}");
    }
    let all: std::collections::HashSet<_> = seen.into_values().collect();
    assert_eq!(all.len(), 3, "the clients are not all with {all:?}");
    weir.stop().await;
}

over_both!(with_affinity_a_client_keeps_its_endpoint_and_without_a_key_requests_spread);

async fn with_affinity_a_client_keeps_its_endpoint_and_without_a_key_requests_spread(protocol: Protocol) {
    for balance in ["least_requests", "round_robin", "hash"] {
        let (a, b) = (Origin::start("v1").await, Origin::start("b").await);
        let keys = format!("balance: {balance}\n    affinity: {{ header: x-user }}");
        let weir = Weir::start(&weighted(&[(&a, 1), (&b, 1)], &keys)).await;
        let web = Target::from(weir.address("web").await);
        let mut client = Client::connect(protocol, &web).await;
        let mut seen = std::collections::HashSet::new();
        for user in 0..16 {
            let mut of_user = std::collections::HashSet::new();
            for _ in 0..4 {
                let request = Request::get("/").header("x-user", format!("user-{user}"));
                of_user.insert(client.send(&request).await.expect(200).header("x-origin").to_owned());
            }
            assert_eq!(of_user.len(), 1, "{balance}: user-{user} was with {of_user:?}");
            seen.extend(of_user);
        }
        assert_eq!(seen.len(), 2, "{balance}: the users are not all with one");
        let mut spread = std::collections::HashSet::new();
        for _ in 0..64 {
            spread.insert(client.get("/").await.expect(200).header("x-origin").to_owned());
        }
        assert_eq!(spread.len(), 2, "{balance}");
        weir.stop().await;
    }
}

over_both!(a_newcomer_gets_its_share_little_by_little);

async fn a_newcomer_gets_its_share_little_by_little(protocol: Protocol) {
    let (a, b, new) = (Origin::start("v1").await, Origin::start("b").await, Origin::start("new").await);
    for balance in ["round_robin", "least_requests"] {
        let keys = |window: &str| format!("balance: {balance}\n    slow_start: {window}");
        let weir = Weir::start(&weighted(&[(&a, 1), (&b, 1)], &keys("1h"))).await;
        let web = Target::from(weir.address("web").await);
        // How many of 300 requests the newcomer gets, and how many the first.
        let run = async || {
            let before = (new.requests(), a.requests());
            Load::at(&web).request(Request::get("/")).clients(protocol, 4).count(300).run().await.assert_clean();
            (new.requests() - before.0, a.requests() - before.1)
        };
        let (none, first) = run().await;
        assert!(none == 0 && first > 90, "those that came together share from the beginning: {first}");
        let three = [(&a, 1), (&b, 1), (&new, 1)];
        weir.reconfigure(&weighted(&three, &keys("1h"))).await;
        // A tenth of what the others get: 1 of 21. Twice that is far below its share of 100.
        let (few, _) = run().await;
        assert!((1..50).contains(&few), "{balance}: {few} of 300");
        // It came more than the new window ago, now or soon.
        weir.reconfigure(&weighted(&three, &keys("1s"))).await;
        eventually("it has its share", async || (70..130).contains(&run().await.0)).await;
        weir.stop().await;
    }
}
