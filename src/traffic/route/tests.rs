//! Precedence by examples; `properties` compares all of it with a naive model.

use super::error::{MAX_REGEXES, MAX_REGEXES_PER_HOST, RouteError};
use super::{HeaderMatch, HeaderTest, HostPattern, PathPattern, Rule, Table};
use crate::traffic::validate::spelling::{EncodedSlash, Paths};
use crate::traffic::validate::tests::Head;

mod properties;

fn hosts(hosts: &[&str]) -> Vec<HostPattern> {
    hosts.iter().map(|host| host.parse().unwrap()).collect()
}

/// A path as the tests write it: `=/exact`, `~regex`, `/prefix`.
fn path(text: &str) -> PathPattern {
    match text.split_at(1) {
        ("=", exact) => PathPattern::Exact(exact.to_owned()),
        ("~", regex) => PathPattern::Regex(regex.to_owned()),
        _ => PathPattern::Prefix(text.to_owned()),
    }
}

/// A rule that leads to its own description.
fn rule(host: &str, path_text: &str) -> Rule<String> {
    let target = format!("{host} {path_text}");
    Rule { hosts: hosts(&[host]), path: path(path_text), methods: vec![], headers: vec![], target }
}

impl Rule<String> {
    fn methods(mut self, methods: &[&str]) -> Self {
        self.methods = methods.iter().map(|method| (*method).to_owned()).collect();
        self.target.push_str(&format!(" {methods:?}"));
        self
    }

    fn header(mut self, name: &str, test: HeaderTest) -> Self {
        self.target.push_str(&format!(" {name}"));
        self.headers.push(HeaderMatch { name: name.to_owned(), test });
        self
    }

    fn to(mut self, target: &str) -> Self {
        self.target = target.to_owned();
        self
    }
}

fn table(rules: &[Rule<String>]) -> Table<String> {
    Table::build(rules.to_vec()).unwrap()
}

fn find<'t>(table: &'t Table<String>, host: &str, path: &str) -> Option<&'t str> {
    table.find(host, path, &Head::get(path)).map(String::as_str)
}

fn errors(rules: &[Rule<String>]) -> Vec<RouteError> {
    Table::build(rules.to_vec()).err().unwrap_or_default()
}

#[test]
fn an_empty_table_matches_nothing() {
    let table = table(&[]);
    assert_eq!(find(&table, "a", "/"), None);
    assert_eq!(find(&table, "", ""), None);
}

#[test]
fn a_prefix_ends_on_segment_boundaries() {
    for spelling in ["/checkout", "/checkout/"] {
        let table = table(&[rule("*", spelling)]);
        for path in ["/checkout", "/checkout/", "/checkout/cart", "/checkout/a/b/c"] {
            assert!(find(&table, "a", path).is_some(), "{path}");
        }
        for path in ["/checkouts", "/check", "/", "/a/checkout", "/Checkout"] {
            assert_eq!(find(&table, "a", path), None, "{path}");
        }
    }
}

#[test]
fn an_empty_segment_is_a_segment() {
    let table = table(&[rule("*", "/"), rule("*", "/admin"), rule("*", "//x"), rule("*", "=/a//b"), rule("*", "/c//")]);
    for (path, found) in [
        ("/admin", "* /admin"),
        ("//admin", "* /"),
        ("/admin//x", "* /admin"),
        ("/x", "* /"),
        ("//x/y", "* //x"),
        ("///x", "* /"),
        ("/a//b", "* =/a//b"),
        ("/a/b", "* /"),
        ("/c/x", "* /"),
        ("/c//x", "* /c//"),
    ] {
        assert_eq!(find(&table, "h", path), Some(found), "{path}");
    }
}

#[test]
fn an_exact_path_is_exact_to_the_final_slash() {
    let table = table(&[rule("*", "=/a"), rule("*", "=/b/"), rule("*", "=/")]);
    for (path, found) in
        [("/a", Some("* =/a")), ("/a/", None), ("/b/", Some("* =/b/")), ("/b", None), ("/", Some("* =/")), ("/c", None)]
    {
        assert_eq!(find(&table, "x", path), found, "{path}");
    }
}

#[test]
fn the_most_specific_host_wins() {
    let table =
        table(&[rule("*", "/"), rule("*.a.b", "/"), rule("*.x.a.b", "/"), rule("y.x.a.b", "/"), rule("b", "/")]);
    for (host, found) in [
        ("y.x.a.b", "y.x.a.b /"),
        ("z.x.a.b", "*.x.a.b /"),
        ("w.z.x.a.b", "*.x.a.b /"),
        ("x.a.b", "*.a.b /"),
        ("c.a.b", "*.a.b /"),
        ("a.b", "* /"),
        ("ca.b", "* /"),
        ("b", "b /"),
        ("", "* /"),
        ("[::1]", "* /"),
    ] {
        assert_eq!(find(&table, host, "/"), Some(found), "{host}");
    }
}

#[test]
fn where_no_rule_of_a_host_fits_less_specific_hosts_are_asked() {
    let table = table(&[rule("*", "/a"), rule("*.b.c", "/a/b"), rule("a.b.c", "/a/b/c")]);
    for (path, found) in
        [("/a/b/c", Some("a.b.c /a/b/c")), ("/a/b/x", Some("*.b.c /a/b")), ("/a/x", Some("* /a")), ("/x", None)]
    {
        assert_eq!(find(&table, "a.b.c", path), found, "{path}");
    }
}

#[test]
fn a_host_comes_before_a_path() {
    let table = table(&[rule("*", "=/a/b"), rule("h", "/")]);
    assert_eq!(find(&table, "h", "/a/b"), Some("h /"));
}

#[test]
fn exact_comes_before_regex_before_the_longest_prefix() {
    let table = table(&[
        rule("*", "/"),
        rule("*", "/users/7/orders"),
        rule("*", "~/users/[0-9]+"),
        rule("*", "~/users/[0-9]+(/.*)?"),
        rule("*", "=/users/7"),
    ]);
    for (path, found) in [
        ("/users/7", "* =/users/7"),
        ("/users/8", "* ~/users/[0-9]+(/.*)?"),
        ("/users/7/orders", "* ~/users/[0-9]+(/.*)?"),
        ("/users/x", "* /"),
    ] {
        assert_eq!(find(&table, "a", path), Some(found), "{path}");
    }
}

#[test]
fn a_regex_matches_the_whole_path() {
    let table = table(&[rule("*", "~/a|/bc")]);
    assert!(find(&table, "h", "/a").is_some() && find(&table, "h", "/bc").is_some());
    for path in ["/ab", "/x/a", "/xbc", "/a\n"] {
        assert_eq!(find(&table, "h", path), None, "{path:?}");
    }
}

#[test]
fn a_method_comes_before_header_matches_and_these_before_the_order() {
    let test = || HeaderTest::Present;
    let table = table(&[
        rule("*", "/"),
        rule("*", "/").header("x-a", test()),
        rule("*", "/").header("x-b", test()),
        rule("*", "/").header("x-a", test()).header("x-b", test()),
        rule("*", "/").methods(&["POST", "PUT"]),
        rule("*", "/").methods(&["PUT"]).header("x-a", test()),
    ]);
    let found = |method: &str, headers: &[&str]| {
        let head = headers.iter().fold(Head::get("/"), |head, name| head.with(name, "1"));
        table.find("h", "/", &Head { method: method.to_owned(), ..head }).cloned().unwrap()
    };
    assert_eq!(found("GET", &[]), "* /");
    assert_eq!(found("GET", &["X-B"]), "* / x-b");
    assert_eq!(found("GET", &["X-A", "X-B"]), "* / x-a x-b");
    assert_eq!(found("POST", &["X-A", "X-B"]), "* / [\"POST\", \"PUT\"]");
    assert_eq!(found("PUT", &["X-A"]), "* / [\"PUT\"] x-a");
    let order = Table::build(vec![rule("*", "/").header("x-a", test()), rule("*", "/").header("x-b", test())]).unwrap();
    let head = Head::get("/").with("X-A", "1").with("X-B", "1");
    assert_eq!(order.find("h", "/", &head).map(String::as_str), Some("* / x-a"));
}

#[test]
fn a_method_that_does_not_fit_makes_way_for_the_next_path() {
    let table = table(&[rule("*", "/"), rule("*", "/a").methods(&["POST"]), rule("*", "=/a").methods(&["PUT"])]);
    assert_eq!(find(&table, "h", "/a"), Some("* /"));
}

#[test]
fn a_header_is_there_equal_starts_or_matches() {
    let test = |test: HeaderTest, value: &[u8]| {
        let table = table(&[rule("*", "/").header("X-Tier", test)]);
        table.find("h", "/", &Head::get("/").with("x-tier", value)).is_some()
    };
    let text = str::to_owned;
    assert!(test(HeaderTest::Present, b""));
    assert!(test(HeaderTest::Exact(text("gold")), b"gold") && !test(HeaderTest::Exact(text("gold")), b"Gold"));
    assert!(test(HeaderTest::Prefix(text("go")), b"gold") && !test(HeaderTest::Prefix(text("old")), b"gold"));
    assert!(test(HeaderTest::Regex(text("go.d|x")), b"gold") && !test(HeaderTest::Regex(text("go")), b"gold"));
    assert!(!test(HeaderTest::Regex(text(".")), b"\xff"));
    let absent = table(&[rule("*", "/").header("X-Tier", HeaderTest::Present)]);
    assert_eq!(find(&absent, "h", "/"), None);
}

#[test]
fn a_rule_serves_all_its_hosts_and_any_host_without_one() {
    let several = Rule { hosts: hosts(&["a", "*.b", "A."]), ..rule("*", "/x").to("several") };
    let none = Rule { hosts: vec![], ..rule("*", "/x").to("none") };
    let table = table(&[several, none]);
    for (host, found) in [("a", "several"), ("c.b", "several"), ("b", "none"), ("c", "none")] {
        assert_eq!(find(&table, host, "/x"), Some(found), "{host}");
    }
}

#[test]
fn hosts_parse_and_print() {
    for (text, printed) in [("*", "*"), ("*.Example.COM", "*.example.com"), ("a.b.", "a.b"), ("[::1]", "[::1]")] {
        assert_eq!(text.parse::<HostPattern>().map(|host| host.to_string()), Ok(printed.to_owned()));
    }
    for text in ["", "*.", "*a", "a.*", "*.*.a", "a:80", "a/b", "a b", "é", "**", "*.[::1]"] {
        assert!(text.parse::<HostPattern>().is_err(), "{text}");
    }
}

#[test]
fn rules_that_match_the_same_requests_are_named_both() {
    let present = || HeaderTest::Present;
    let duplicate = |first, second, host: &str| RouteError::Duplicate { first, second, host: host.to_owned() };
    assert_eq!(errors(&[rule("a", "/x"), rule("b", "/x"), rule("a", "/x/")]), [duplicate(0, 2, "a")]);
    assert_eq!(errors(&[rule("*", "=/x"), rule("*", "=/x")]), [duplicate(0, 1, "*")]);
    assert_eq!(errors(&[rule("*.a", "~/x"), rule("*.a", "~/x")]), [duplicate(0, 1, "*.a")]);
    assert_eq!(
        errors(&[
            rule("a", "/").methods(&["GET", "PUT"]).header("X-A", present()).header("x-b", present()),
            rule("a", "/").methods(&["PUT", "GET", "PUT"]).header("X-B", present()).header("x-a", present()),
        ]),
        [duplicate(0, 1, "a")]
    );
    let shared = |path| Rule { hosts: hosts(&["c", "a", "b"]), ..rule("*", path) };
    assert_eq!(errors(&[shared("/"), rule("b", "/")]), [duplicate(0, 1, "b")]);
    assert_eq!(errors(&[shared("/"), shared("/")]).len(), 1, "once a pair, not once a host");
    assert_eq!(errors(&[rule("a", "/x"), rule("a", "=/x"), rule("a", "/x").methods(&["GET"])]), []);
}

#[test]
fn all_faults_are_reported_with_their_rule() {
    let found = errors(&[
        rule("*", "/").methods(&["get", "G T"]),
        rule("*", "/a").header("x_y", HeaderTest::Present),
        Rule {
            hosts: vec![HostPattern::Exact("a:80".to_owned()), HostPattern::Wildcard("UP".to_owned())],
            ..rule("*", "/b")
        },
        rule("*", "~/("),
        rule("*", "/ok"),
        rule("*", "/ok"),
    ]);
    assert_eq!(found.iter().map(RouteError::rule).collect::<Vec<_>>(), [0, 0, 1, 2, 2, 3, 5]);
}

#[test]
fn a_path_that_would_match_nothing_says_what_to_write() {
    let help = |text: &str| match errors(&[rule("*", text)]).pop() {
        Some(RouteError::Path { help, .. }) => help,
        other => panic!("{other:?}"),
    };
    assert_eq!(help("/a/../b"), "write `/b`");
    let merged = Paths { merge_slashes: true, encoded_slash: EncodedSlash::Decode, ..Paths::default() };
    let help_for =
        |text: &str| match Table::build_for(vec![rule("*", text)], merged).err().and_then(|mut all| all.pop()) {
            Some(RouteError::Path { help, .. }) => help,
            other => panic!("{other:?}"),
        };
    assert_eq!(help_for("//a"), "write `/a`");
    assert_eq!(help_for("/a%2Fb"), "write `/a/b`");
    assert_eq!(errors(&[rule("*", "//a"), rule("*", "/a%2Fb")]), [], "where they may come so");
    assert_eq!(help("/a%2fb"), "write `/a%2Fb`");
    assert_eq!(help("/a|b"), "write `/a%7Cb`");
    assert_eq!(help("/caf%c3%a9"), "write `/caf%C3%A9`");
    assert!(help("a").contains("start with `/`"));
    assert!(help("=a").contains("start with `/`"));
    assert!(help("/a?b").contains("query"));
    assert!(help("/a;b").contains("parameters"));
    assert!(help("/café").contains("percent-encoded"));
    assert!(help("/a%zz").contains("hexadecimal"));
}

#[test]
fn a_hostile_regex_is_refused_and_not_compiled() {
    for pattern in ["(a{1000}){1000}", r"\w{500}", "a)|(?:b", "(", "(?x)a #"] {
        assert!(matches!(errors(&[rule("*", &format!("~{pattern}"))])[..], [RouteError::Regex { .. }]), "{pattern}");
    }
}

#[test]
fn regexes_are_bounded_in_number() {
    let of_host = |count: usize| (0..count).map(|at| rule("a", &format!("~/{at}"))).collect::<Vec<_>>();
    assert_eq!(errors(&of_host(MAX_REGEXES_PER_HOST)), []);
    let host = "a".to_owned();
    let rule_index = MAX_REGEXES_PER_HOST;
    assert!(
        matches!(&errors(&of_host(MAX_REGEXES_PER_HOST + 1))[..], [RouteError::RegexesOfHost { host: found, .. }] if *found == host),
        "{rule_index}"
    );
    let different = |count: usize| (0..count).map(|at| rule(&format!("h{at}"), &format!("~/{at}"))).collect::<Vec<_>>();
    assert_eq!(errors(&different(MAX_REGEXES)), []);
    assert_eq!(errors(&different(MAX_REGEXES + 1)), [RouteError::Regexes { rule: MAX_REGEXES }]);
    let same: Vec<_> = (0..MAX_REGEXES + 1).map(|at| rule(&format!("h{at}"), "~/x")).collect();
    assert_eq!(errors(&same), [], "one expression for many hosts is compiled once");
}

#[test]
fn long_paths_and_hosts_cost_one_look_up_a_part() {
    let deep = "/a".repeat(2_000);
    let table = table(&[rule("*", "/"), rule("*.a", &deep), rule("*.b", "/")]);
    let host = "a.".repeat(126) + "b";
    assert_eq!(find(&table, &host, &(deep.clone() + "/a")), Some("*.b /"));
    assert!(find(&table, "x.a", &(deep + "/a")).unwrap().starts_with("*.a /a"));
}

#[test]
fn ten_thousand_hosts_with_ten_paths_are_found_and_lean() {
    let rule = |at: usize| Rule {
        hosts: vec![HostPattern::Exact(format!("host-{}.example.com", at / 10))],
        path: PathPattern::Prefix(format!("/path-{}", at % 10)),
        methods: vec![],
        headers: vec![],
        target: at,
    };
    let table = Table::build((0..100_000).map(rule).collect()).unwrap();
    for at in (0..100_000).step_by(997) {
        let (host, path) = (format!("host-{}.example.com", at / 10), format!("/path-{}/x", at % 10));
        assert_eq!(table.find(&host, &path, &Head::get(&path)), Some(&at));
    }
    let bytes = table.bytes() / 100_000;
    println!("{bytes} bytes a rule, beside its target");
    assert!(bytes <= 80, "{bytes} bytes a rule");
}
