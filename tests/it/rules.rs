//! The rules for one request, row by row, over every lane: what reaches the endpoint, what the client gets, what is
//! tried again, what the access log and the metrics say.
//!
//! [`rows`] has the rows by what they are sent to, [`table`] sends them; [`sequences`] has what takes more than one request.

mod rows;
mod sequences;
mod table;

use self::table::{Endpoints, Setup};

/// Of a service that takes bodies of 1 KiB.
const SMALL_BODIES: &str = "max_body: 1KiB\n    ";

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_strangers_are_the_same_on_every_lane() {
    Setup { keys: SMALL_BODIES, ..Setup::default() }.check(rows::strangers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_trusted_proxies_are_the_same_on_every_lane() {
    let top = "trusted_proxies: [127.0.0.0/8]\n";
    Setup { top, keys: "host: inner.test\n    ", ..Setup::default() }.check(rows::trusted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_names_with_an_underscore_are_the_same_on_every_lane() {
    Setup { top: "headers: { underscore: allow }\n", ..Setup::default() }.check(rows::underscores_allowed).await;
    Setup { top: "headers: { underscore: refuse }\n", ..Setup::default() }.check(rows::underscores_refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_endpoints_that_refuse_are_the_same_on_every_lane() {
    Setup { endpoints: Endpoints::Refusing, ..Setup::default() }.check(rows::unreachable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_endpoints_that_do_not_answer_are_the_same_on_every_lane() {
    let keys = "timeouts: { connect: 100ms }\n    ";
    Setup { endpoints: Endpoints::Silent, keys, ..Setup::default() }.check(rows::silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_endpoints_that_fall_silent_are_the_same_on_every_lane() {
    let keys = "timeouts: { first_byte: 100ms, idle: 100ms }\n    ";
    Setup { keys, ..Setup::default() }.check(rows::late).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_stale_connections_are_the_same_on_every_lane() {
    Setup::default().check_on(table::HTTP1_ENDPOINT, rows::stale).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_versions_without_an_endpoint_are_the_same_on_every_lane() {
    Setup { command: &["maint", "shop/v1"], ..Setup::default() }.check(rows::in_maintenance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_injected_faults_are_the_same_on_every_lane() {
    let command = &["drill", "shop", "--version", "v1", "--errors", "100%", "--for", "1m"];
    Setup { command, ..Setup::default() }.check(rows::faulty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_affinity_are_the_same_on_every_lane() {
    Setup { keys: "affinity: { cookie: weir-shop, ttl: 1h }\n    ", ..Setup::default() }.check(rows::affine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_overrides_are_the_same_on_every_lane() {
    let keys = "override: { header: x-version, cookie: version, from: anyone }\n    \
        version_headers: { request: false, response: true }\n    ";
    Setup { keys, ..Setup::default() }.check(rows::overridden).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_tls_are_the_same_on_every_lane() {
    let keys = "tls: { ca: \"{dir}/ca.crt\", sni: v1.test }\n    max_body: 1KiB\n    affinity: { cookie: weir-shop, ttl: 1h }\n    ";
    Setup { endpoints: Endpoints::Tls, tls: true, keys, ..Setup::default() }.check(rows::over_tls).await;
    let keys = "tls: { ca: \"{dir}/ca.crt\", sni: other.test }\n    ";
    Setup { endpoints: Endpoints::Tls, keys, ..Setup::default() }.check(rows::untrusted).await;
}
