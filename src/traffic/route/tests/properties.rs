//! The table against a naive model: all rules that match, sorted by the documented precedence.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::error::RouteError;
use super::super::{HeaderMatch, HeaderTest, HostPattern, PathPattern, Rule, Table};
use super::path;
use crate::traffic::Request;
use crate::traffic::validate::tests::Head;

const HOSTS: &[&str] = &["*", "*.c", "*.b.c", "b.c", "a.b.c", "c"];
const PATHS: &[&str] = &[
    "/", "/a", "/a/b", "/a/b/", "=/", "=/a", "=/a/", "=/a/b", "~/a", "~/a/.*", "~/[ab]+", "~.*b", "/aa", "=/aa/b",
    "//a", "/a//", "=//", "=/a//b",
];

fn any_rule() -> impl Strategy<Value = Rule<usize>> {
    let headers = subsequence(
        vec![
            ("x-a", HeaderTest::Present),
            ("x-a", HeaderTest::Exact("1".to_owned())),
            ("x-b", HeaderTest::Prefix("1".to_owned())),
            ("x-b", HeaderTest::Regex("1?2".to_owned())),
        ],
        0..3,
    );
    let headers = headers.prop_map(|headers| {
        headers.into_iter().map(|(name, test)| HeaderMatch { name: name.to_owned(), test }).collect::<Vec<_>>()
    });
    let methods = subsequence(vec!["GET".to_owned(), "POST".to_owned(), "PUT".to_owned()], 0..3);
    // Most rules ask for nothing else, as in life; else few would meet.
    let methods = prop_oneof![3 => Just(vec![]), 1 => methods];
    let headers = prop_oneof![3 => Just(vec![]), 1 => headers];
    (subsequence(HOSTS.to_vec(), 0..3), select(PATHS), methods, headers).prop_map(|(hosts, text, methods, headers)| {
        Rule { hosts: super::hosts(&hosts), path: path(text), methods, headers, target: 0 }
    })
}

fn any_request() -> impl Strategy<Value = (String, String, Head)> {
    let host = select(vec!["a.b.c", "b.c", "c", "x.b.c", "x.y.b.c", "x.c", "other", ""]);
    let path = select(vec![
        "/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/aa", "/aa/b", "/b", "/c", "/ab", "//", "//a", "/a//", "/a//b",
        "//a/b",
    ]);
    let method = select(vec!["GET", "POST", "PUT", "DELETE"]);
    let headers = vec((select(vec!["X-A", "X-B"]), select(vec!["1", "2", "12", ""])), 0..3);
    (host, path, method, headers).prop_map(|(host, path, method, headers)| {
        let head = Head { method: method.to_owned(), ..Head::get(path) };
        let head = headers.into_iter().fold(head, |head, (name, value)| head.with(name, value));
        (host.to_owned(), path.to_owned(), head)
    })
}

/// How well `rule`'s hosts match: the better the greater.
fn host_rank(rule: &Rule<usize>, host: &str) -> Option<(u8, usize)> {
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (name == host).then_some((2, 0)),
        HostPattern::Wildcard(suffix) => host.ends_with(&format!(".{suffix}")).then_some((1, suffix.len())),
        HostPattern::Any => Some((0, 0)),
    };
    if rule.hosts.is_empty() { Some((0, 0)) } else { rule.hosts.iter().filter_map(rank).max() }
}

fn path_rank(rule: &Rule<usize>, path: &str) -> Option<(u8, usize)> {
    match &rule.path {
        PathPattern::Exact(exact) => (exact == path).then_some((2, 0)),
        PathPattern::Regex(pattern) => matches_whole(pattern, path).then_some((1, pattern.len())),
        PathPattern::Prefix(prefix) => {
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            (path == prefix || path.starts_with(&format!("{prefix}/"))).then_some((0, prefix.len()))
        }
    }
}

/// Whether all of `text` matches; each expression is compiled once a thread.
fn matches_whole(pattern: &str, text: &str) -> bool {
    thread_local!(static KNOWN: RefCell<HashMap<String, regex::Regex>> = RefCell::default());
    let compile = || regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
    KNOWN.with_borrow_mut(|known| known.entry(pattern.to_owned()).or_insert_with(compile).is_match(text))
}

fn header_matches(header: &HeaderMatch, request: &Head) -> bool {
    let value = request.header(&header.name).map(|value| str::from_utf8(value).unwrap());
    if header.test == HeaderTest::Absent {
        return value.is_none();
    }
    value.is_some_and(|value| match &header.test {
        HeaderTest::Absent => false,
        HeaderTest::Present => true,
        HeaderTest::Exact(text) => value == text,
        HeaderTest::Prefix(text) => value.starts_with(text),
        HeaderTest::Regex(pattern) => matches_whole(pattern, value),
    })
}

fn naive<'r>(rules: &'r [Rule<usize>], host: &str, path: &str, request: &Head) -> Option<&'r Rule<usize>> {
    let ranked = rules.iter().filter_map(|rule| {
        let fits = (rule.methods.is_empty() || rule.methods.iter().any(|method| method == request.method()))
            && rule.headers.iter().all(|header| header_matches(header, request));
        let rank = (host_rank(rule, host)?, path_rank(rule, path)?, !rule.methods.is_empty(), rule.headers.len());
        fits.then_some((rank, Reverse(rule.target), rule))
    });
    ranked.max_by_key(|(rank, order, _)| (*rank, *order)).map(|(_, _, rule)| rule)
}

/// The table of `rules` without those that it refuses as duplicates, and what is left of them.
fn build(mut rules: Vec<Rule<usize>>) -> (Table<usize>, Vec<Rule<usize>>) {
    loop {
        rules.iter_mut().enumerate().for_each(|(at, rule)| rule.target = at);
        let errors = match Table::build(rules.clone()) {
            Ok(table) => return (table, rules),
            Err(errors) => errors,
        };
        // From the last to the first, so that the indices stay true.
        let seconds: BTreeSet<_> = errors.iter().map(RouteError::rule).collect();
        for error in &errors {
            let RouteError::Duplicate { first, second, .. } = error else { panic!("{error}") };
            assert!(first < second && rules[*first].path_is_like(&rules[*second]));
        }
        seconds.into_iter().rev().for_each(|second| drop(rules.remove(second)));
    }
}

impl Rule<usize> {
    fn path_is_like(&self, other: &Self) -> bool {
        let trim = |path: &PathPattern| match path {
            PathPattern::Prefix(prefix) => PathPattern::Prefix(prefix.strip_suffix('/').unwrap_or(prefix).to_owned()),
            other => other.clone(),
        };
        trim(&self.path) == trim(&other.path)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_table_finds_what_a_naive_search_finds(
        rules in vec(any_rule(), 0..30), requests in vec(any_request(), 1..10),
    ) {
        let (table, rules) = build(rules);
        for (host, path, request) in requests {
            let found = table.find(&host, &path, &request).copied();
            let expected = naive(&rules, &host, &path, &request).map(|rule| rule.target);
            prop_assert_eq!(found, expected, "{} {} {:?}\n{:#?}", host, path, request, rules);
        }
    }

    #[test]
    fn no_input_makes_a_look_up_panic(rules in vec(any_rule(), 0..10), host in any::<String>(), path in any::<String>()) {
        let (table, _) = build(rules);
        let _ = table.find(&host, &path, &Head::get("/"));
    }
}
