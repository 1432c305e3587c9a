//! What a lookup makes of what servers answer.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::config::AddressFamily::{Any, Ipv4, Ipv6};

/// A DNS by hand: what is not in it does not exist.
#[derive(Default)]
struct Zone {
    hosts: Vec<(&'static str, &'static str)>,
    search: Vec<&'static str>,
    /// By `KIND NAME`.
    answers: HashMap<&'static str, Given>,
    asked: Mutex<Vec<String>>,
}

#[derive(Clone)]
enum Given {
    Ips(&'static [&'static str], u64),
    Services(&'static [(u16, u16, u16, &'static str)], u64),
    Fails(fn() -> NoAnswer),
}

use Given::{Fails, Ips, Services};

impl Zone {
    fn with(answers: &[(&'static str, Given)]) -> Self {
        Self { answers: answers.iter().cloned().collect(), ..Self::default() }
    }

    fn given(&self, kind: &str, name: &str) -> Result<Given, NoAnswer> {
        self.asked.lock().unwrap().push(format!("{kind} {name}"));
        match self.answers.get(&*format!("{kind} {name}")) {
            None => Err(NoAnswer::no_name()),
            Some(Fails(why)) => Err(why()),
            Some(given) => Ok(given.clone()),
        }
    }

    fn ips(&self, kind: &str, name: &str) -> Result<Records<IpAddr>, NoAnswer> {
        let Ips(ips, ttl) = self.given(kind, name)? else { panic!("no addresses") };
        let records = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        Ok(Records { records, ttl: Duration::from_secs(ttl) })
    }

    /// The addresses, the TTL in seconds and which families are missing; or the word for why there is nothing.
    async fn look_up(&self, question: Question, family: AddressFamily) -> Result<(Vec<String>, u64, Missing), &str> {
        let answer = look_up(self, &question, family).await.map_err(|why| why.result.as_str())?;
        Ok((answer.addresses.iter().map(text).collect(), answer.ttl.as_secs(), answer.missing))
    }
}

impl Ask for Zone {
    fn hosts(&self, name: &str) -> Vec<IpAddr> {
        self.hosts.iter().filter(|(host, _)| *host == name).map(|(_, ip)| ip.parse().unwrap()).collect()
    }
    fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let completed = self.search.iter().map(|domain| format!("{name}.{domain}."));
        completed.chain([format!("{name}.")]).collect()
    }
    async fn v4(&self, name: &str) -> Result<Records<IpAddr>, NoAnswer> {
        self.ips("A", name)
    }
    async fn v6(&self, name: &str) -> Result<Records<IpAddr>, NoAnswer> {
        self.ips("AAAA", name)
    }
    async fn services(&self, name: &str) -> Result<Records<Service>, NoAnswer> {
        let Services(services, ttl) = self.given("SRV", name)? else { panic!("no services") };
        let service = |(priority, weight, port, target): &(u16, u16, u16, &str)| Service {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: (*target).to_owned(),
        };
        Ok(Records { records: services.iter().map(service).collect(), ttl: Duration::from_secs(ttl) })
    }
}

/// An address, with its weight if that is not 1.
fn text(one: &ResolvedAddress) -> String {
    if one.weight == 1 { one.address.to_string() } else { format!("{}x{}", one.address, one.weight) }
}

fn host(name: &str) -> Question {
    Question::Addresses { host: name.to_owned(), port: 80 }
}

fn found(addresses: &[&str], ttl: u64) -> Result<(Vec<String>, u64, Missing), &'static str> {
    Ok((addresses.iter().map(ToString::to_string).collect(), ttl, Missing::default()))
}

#[tokio::test]
async fn both_families_are_used_in_one_order_for_the_shorter_ttl() {
    let zone =
        Zone::with(&[("A a.", Ips(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], 9)), ("AAAA a.", Ips(&["fd00::1"], 7))]);
    let both = ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"];
    assert_eq!(zone.look_up(host("a."), Any).await, found(&both, 7));
    assert_eq!(zone.look_up(host("a."), Ipv4).await, found(&both[..2], 9));
    assert_eq!(zone.look_up(host("a."), Ipv6).await, found(&both[2..], 7));
}

#[tokio::test]
async fn what_is_missing_is_told_apart_from_what_is_not_there() {
    for (fails, result) in [(NoAnswer::timeout as fn() -> NoAnswer, "timeout"), (|| NoAnswer::failed("x"), "failed")] {
        let zone = Zone::with(&[("A a.", Ips(&["10.0.0.1"], 5)), ("AAAA a.", Fails(fails))]);
        let (_, _, missing) = zone.look_up(host("a."), Any).await.unwrap();
        assert_eq!(missing, Missing { v4: false, v6: true });
        let zone = Zone::with(&[("A a.", Fails(fails)), ("AAAA a.", Ips(&["fd00::1"], 5))]);
        let (_, _, missing) = zone.look_up(host("a."), Any).await.unwrap();
        assert_eq!(missing, Missing { v4: true, v6: false });
        for other in [NoAnswer::empty as fn() -> NoAnswer, NoAnswer::no_name] {
            let zone = Zone::with(&[("A a.", Fails(fails)), ("AAAA a.", Fails(other))]);
            assert_eq!(zone.look_up(host("a."), Any).await, Err(result));
            let zone = Zone::with(&[("A a.", Fails(other)), ("AAAA a.", Fails(fails))]);
            assert_eq!(zone.look_up(host("a."), Any).await, Err(result));
        }
    }
    let zone = Zone::with(&[("A a.", Ips(&["10.0.0.1"], 5)), ("AAAA a.", Fails(NoAnswer::empty))]);
    assert_eq!(zone.look_up(host("a."), Any).await, found(&["10.0.0.1:80"], 5));
    let zone = Zone::with(&[("A a.", Fails(NoAnswer::empty)), ("AAAA a.", Fails(NoAnswer::no_name))]);
    assert_eq!(zone.look_up(host("a."), Any).await, Err("empty"));
    assert_eq!(Zone::default().look_up(host("a."), Any).await, Err("no_name"));
}

#[tokio::test]
async fn search_domains_are_walked_once_for_both_families_and_not_past_a_failure() {
    let answers = [("A a.two.", Ips(&["10.0.0.2"], 5)), ("AAAA a.", Ips(&["fd00::3"], 5))];
    let zone = Zone { search: vec!["one", "two"], ..Zone::with(&answers) };
    assert_eq!(zone.look_up(host("a"), Any).await, found(&["10.0.0.2:80"], 5), "not the AAAA of another host");
    let mut zone = zone;
    zone.answers.insert("A a.one.", Fails(NoAnswer::timeout));
    assert_eq!(zone.look_up(host("a"), Any).await, Err("timeout"), "a.one. may be what is meant");
    zone.answers.insert("A a.one.", Fails(NoAnswer::empty));
    zone.answers.remove("A a.two.");
    zone.answers.remove("AAAA a.");
    assert_eq!(zone.look_up(host("a"), Any).await, Err("empty"));
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_nobody_else_is_asked() {
    let zone = Zone { hosts: vec![("a", "10.0.0.7"), ("a", "fd00::7")], search: vec!["one"], ..Zone::default() };
    let (addresses, _, _) = zone.look_up(host("a"), Any).await.unwrap();
    assert_eq!(addresses, ["10.0.0.7:80", "[fd00::7]:80"]);
    let (addresses, _, _) = zone.look_up(host("a"), Ipv6).await.unwrap();
    assert_eq!(addresses, ["[fd00::7]:80"]);
    assert!(zone.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn of_srv_records_the_lowest_priority_counts_with_its_ports() {
    const SERVICES: [(u16, u16, u16, &str); 5] = [
        (10, 0, 8080, "one."),
        (10, 5, 8081, "one."),
        (20, 9, 80, "far."),
        (10, 0, 8080, "two."),
        (10, 1, 8080, "gone."),
    ];
    let zone = Zone::with(&[
        ("SRV _http._tcp.a.", Services(&SERVICES, 30)),
        ("A one.", Ips(&["10.0.0.1"], 20)),
        ("A two.", Ips(&["10.0.0.2", "10.0.0.3"], 40)),
        ("A far.", Ips(&["10.0.0.9"], 1)),
    ]);
    let expected = ["10.0.0.1:8080", "10.0.0.1:8081x5", "10.0.0.2:8080", "10.0.0.3:8080"];
    let question = || Question::Services("_http._tcp.a.".to_owned());
    assert_eq!(zone.look_up(question(), Any).await, found(&expected, 20));
    let mut zone = zone;
    zone.answers.insert("A two.", Fails(NoAnswer::timeout));
    let (addresses, _, missing) = zone.look_up(question(), Any).await.unwrap();
    assert_eq!((addresses.len(), missing), (2, Missing { v4: true, v6: true }), "those of two. are to stay");
    zone.answers.insert("A one.", Fails(|| NoAnswer::failed("x")));
    assert!(matches!(zone.look_up(question(), Any).await, Err("failed" | "timeout")));
    zone.answers.insert("SRV _http._tcp.a.", Services(&[(0, 0, 0, ".")], 30));
    assert_eq!(zone.look_up(question(), Any).await, Err("empty"), "decidedly not available");
}

#[tokio::test]
async fn of_too_many_addresses_the_same_are_kept_whatever_their_order() {
    let ips: Vec<ResolvedAddress> = (0..1_000_u32).map(|at| SocketAddr::from((at.to_be_bytes(), 80)).into()).collect();
    let first = answer(ips.clone(), Duration::ZERO, Missing::default()).unwrap();
    let again = answer(ips.into_iter().rev().collect(), Duration::ZERO, Missing::default()).unwrap();
    assert_eq!(first.addresses.len(), MAX_ADDRESSES);
    assert_eq!(first, again);
}

#[test]
fn weights_of_srv_records_keep_their_proportions() {
    let rows = [((0, 0), 1), ((0, 50), 1), ((1, 1), 1), ((10, 60), 10), ((256, 256), 256), ((65_535, 65_535), 256)];
    for ((one, heaviest), expected) in rows {
        assert_eq!(weight(one, heaviest), expected, "{one} of {heaviest}");
    }
    assert_eq!((weight(1_000, 2_000), weight(1, 65_535)), (128, 1));
}
