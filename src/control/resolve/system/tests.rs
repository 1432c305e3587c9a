//! What `resolv.conf` and the hosts file say of names.

use hickory_resolver::system_conf::parse_resolv_conf;

use super::*;

fn system(resolv_conf: &str, hosts: &str) -> SystemResolver {
    let (config, options) = parse_resolv_conf(resolv_conf).unwrap();
    let mut read = Hosts::default();
    read.read_hosts_conf(hosts.as_bytes()).unwrap();
    SystemResolver::new(&Dns::default(), config, options, read)
}

fn candidates(resolv_conf: &str, name: &str) -> Vec<String> {
    let resolver = system(&format!("nameserver 127.0.0.1\n{resolv_conf}"), "");
    Questions { resolver: &resolver, deadline: Instant::now() }.candidates(name)
}

#[tokio::test]
async fn names_are_completed_as_resolv_conf_says() {
    let cluster = "search shop.svc.cluster.local svc.cluster.local\noptions ndots:5";
    let rows: &[(&str, &str, &[&str])] = &[
        (cluster, "cart", &["cart.shop.svc.cluster.local.", "cart.svc.cluster.local.", "cart."]),
        (cluster, "a.b.c", &["a.b.c.shop.svc.cluster.local.", "a.b.c.svc.cluster.local.", "a.b.c."]),
        (
            cluster,
            "a.b.c.d.e.f",
            &["a.b.c.d.e.f.", "a.b.c.d.e.f.shop.svc.cluster.local.", "a.b.c.d.e.f.svc.cluster.local."],
        ),
        (cluster, "cart.shop.", &["cart.shop."]),
        (cluster, "localhost", &["localhost."]),
        ("search lan", "cart", &["cart.lan.", "cart."]),
        ("search lan", "cart.example", &["cart.example.", "cart.example.lan."]),
        ("search lan\nsearch net", "cart", &["cart.net.", "cart."]),
        ("domain corp.test", "cart", &["cart.corp.test.", "cart."]),
        ("search lan", "_http._tcp.cart", &["_http._tcp.cart.", "_http._tcp.cart.lan."]),
    ];
    for (resolv_conf, name, expected) in rows {
        assert_eq!(candidates(resolv_conf, name), *expected, "{name} with {resolv_conf}");
    }
}

#[tokio::test]
async fn the_hosts_file_is_read_for_both_families_and_any_case() {
    let hosts = "# comment\n10.0.0.7 Cart cart.lan # more\nfd00::7 cart\n\nnonsense x\n";
    let resolver = system("nameserver 127.0.0.1", hosts);
    let questions = Questions { resolver: &resolver, deadline: Instant::now() };
    let ips = |name| questions.hosts(name).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(ips("cart"), ["10.0.0.7", "fd00::7"]);
    assert_eq!(ips("cart."), ["10.0.0.7", "fd00::7"]);
    assert_eq!(ips("CART.lan"), ["10.0.0.7"]);
    assert_eq!(ips("x"), [""; 0]);
}

#[tokio::test]
async fn localhost_needs_no_server() {
    let resolver = system("nameserver 192.0.2.1", "");
    let questions = Questions { resolver: &resolver, deadline: Instant::now() + Duration::from_secs(5) };
    assert_eq!(questions.v4("localhost.").await.unwrap().records, [IpAddr::from([127, 0, 0, 1])]);
    assert_eq!(questions.v6("localhost.").await.unwrap().records.len(), 1);
    assert_eq!(questions.v4("x.invalid.").await.unwrap_err(), NoAnswer::no_name(), "RFC 6761 §6.4");
}

#[tokio::test]
async fn a_lookup_ends_at_its_deadline_where_nobody_answers() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (_, options) = parse_resolv_conf("nameserver 127.0.0.1").unwrap();
    let config = ResolverConfig::from_name_servers(vec![name_server(silent.local_addr().unwrap())]);
    let resolver = SystemResolver::new(&Dns::default(), config, options, Hosts::default());
    let questions = Questions { resolver: &resolver, deadline: Instant::now() + Duration::from_millis(50) };
    assert_eq!(questions.v4("a.test.").await.unwrap_err(), NoAnswer::timeout());
}
