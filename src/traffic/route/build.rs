//! Rules into a table: checks them, gives each its nodes, and orders what meets at one node.
//!
//! Invariant: no two entries of a node have the same condition, so precedence decides between rules that
//! differ, and the order of the rules only where they overlap.

use ahash::AHashSet;

use crate::coop::in_pieces;
use crate::traffic::validate::path::{Normal, normalise};
use crate::traffic::validate::spelling::Paths;

use super::condition::{Conditions, Rank};
use super::error::{MAX_REGEXES_PER_HOST, RouteError};
use super::index::{ANY, EXACT, Index, WILDCARD};
use super::pattern::{HostPattern, PathPattern};
use super::rule::Rule;
use super::table::{Span, Table, TableEntry};

impl<T> Table<T> {
    /// Compiles `rules`; their order is the last criterion of precedence.
    ///
    /// # Errors
    /// All that is wrong with the rules, in their order; see [`RouteError`].
    pub fn build(rules: Vec<Rule<T>>) -> Result<Self, Vec<RouteError>> {
        build(rules, Paths::default())
    }

    /// Compiles `rules` for requests whose paths are read as `paths` says: a path that could not come so is an error.
    ///
    /// # Errors
    /// As of [`Table::build`].
    pub(crate) fn build_for(rules: Vec<Rule<T>>, paths: Paths) -> Result<Self, Vec<RouteError>> {
        build(rules, paths)
    }
}

/// Compiles `rules`; see [`Table::build_for`].
fn build<T>(rules: Vec<Rule<T>>, paths: Paths) -> Result<Table<T>, Vec<RouteError>> {
    let mut build = TableBuilder {
        paths,
        index: Index::new(),
        placed: Vec::with_capacity(rules.len()),
        conditions: Conditions::new(),
        errors: vec![],
        longest_wildcard_bytes: 0,
    };
    for (rule, given) in in_pieces(rules.iter().enumerate()) {
        build.add(rule, given);
    }
    // Mostly in order already, since nodes are numbered as the rules come: a sort that sees runs is linear then.
    build.placed.sort_by_key(Placed::order);
    // One rule may name a host twice.
    build.placed.dedup_by_key(|placed| (placed.node, placed.kind, placed.rule));
    build.find_clashes(&rules);
    if !build.errors.is_empty() {
        build.errors.sort_by_key(RouteError::rule);
        return Err(build.errors);
    }
    build.index.shrink();
    Ok(Table {
        nodes: spans(build.index.len(), &build.placed),
        index: build.index,
        entries: build.placed.iter().map(|own| TableEntry { rule: own.rule, condition: own.condition }).collect(),
        conditions: build.conditions.all.into_boxed_slice(),
        targets: in_pieces(rules).map(|rule| rule.target).collect(),
        longest_wildcard_bytes: build.longest_wildcard_bytes,
    })
}

struct TableBuilder {
    paths: Paths,
    index: Index,
    placed: Vec<Placed>,
    conditions: Conditions,
    errors: Vec<RouteError>,
    longest_wildcard_bytes: usize,
}

/// One rule at one node.
#[derive(Clone, Copy)]
struct Placed {
    node: u32,
    kind: PathKind,
    rank: Rank,
    rule: u32,
    condition: u32,
}

/// How a rule's path ends at its node. At a host's root `Exact` is a regex, since no literal path ends there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PathKind {
    Exact,
    Prefix,
}

impl Placed {
    fn order(&self) -> (u32, PathKind, std::cmp::Reverse<Rank>, u32) {
        (self.node, self.kind, std::cmp::Reverse(self.rank), self.rule)
    }
}

impl TableBuilder {
    fn add<T>(&mut self, rule: usize, given: &Rule<T>) {
        let errors_before = self.errors.len();
        self.check_path(rule, &given.path);
        let Some((condition, rank)) = self.conditions.intern(rule, given, &mut self.errors) else { return };
        let any = [HostPattern::Any];
        let hosts = if given.hosts.is_empty() { any.as_slice() } else { &given.hosts };
        for host in hosts {
            if !host.is_valid() {
                self.errors.push(RouteError::Host { rule, found: host.to_string() });
            }
        }
        // Nothing of a faulty rule is placed, so that it causes no second error.
        if self.errors.len() > errors_before {
            return;
        }
        for host in hosts {
            match (self.place(host, &given.path), u32::try_from(rule)) {
                (Some((node, kind)), Ok(rule)) => self.placed.push(Placed { node, kind, rank, rule, condition }),
                _ => return self.errors.push(RouteError::Full { rule }),
            }
        }
    }

    fn check_path(&mut self, rule: usize, path: &PathPattern) {
        let (PathPattern::Exact(path) | PathPattern::Prefix(path)) = path else { return };
        let help = match normalise(path, self.paths).map(Normal::into_matched) {
            _ if !path.starts_with('/') => "it has to start with `/`".to_owned(),
            _ if path.contains(['?', '#', ';']) => {
                "query, fragment and `;parameters` are not part of what is matched".to_owned()
            }
            _ if !path.bytes().all(|byte| byte.is_ascii_graphic()) => {
                "blanks and characters beyond ASCII have to be percent-encoded as UTF-8".to_owned()
            }
            Ok(normal) if normal == *path => return,
            Ok(normal) => format!("write `{normal}`"),
            Err(refusal) => refusal.text.to_owned(),
        };
        self.errors.push(RouteError::Path { rule, found: path.clone(), help });
    }

    /// The node at which `path` of `host` ends.
    fn place(&mut self, host: &HostPattern, path: &PathPattern) -> Option<(u32, PathKind)> {
        let root = match host {
            HostPattern::Exact(name) => self.index.child_or_insert(EXACT, name)?,
            HostPattern::Wildcard(suffix) => {
                self.longest_wildcard_bytes = self.longest_wildcard_bytes.max(suffix.len());
                self.index.child_or_insert(WILDCARD, suffix)?
            }
            HostPattern::Any => ANY,
        };
        let (path, kind) = match path {
            PathPattern::Regex(_) => return Some((root, PathKind::Exact)),
            PathPattern::Exact(path) => (path.as_str(), PathKind::Exact),
            PathPattern::Prefix(path) => (path.strip_suffix('/').unwrap_or(path), PathKind::Prefix),
        };
        let node = path.split('/').skip(1).try_fold(root, |node, segment| self.index.child_or_insert(node, segment))?;
        Some((node, kind))
    }

    /// Finds rules that match the same requests, and hosts with too many regexes.
    fn find_clashes<T>(&mut self, rules: &[Rule<T>]) {
        let mut told = AHashSet::new();
        for group in in_pieces(self.placed.chunk_by(|one, next| (one.node, one.kind) == (next.node, next.kind))) {
            let mut same: Vec<_> = match group {
                [_] => continue,
                _ => group.iter().map(|placed| (placed.condition, placed.rule)).collect(),
            };
            same.sort_unstable();
            for twins in same.chunk_by(|one, next| one.0 == next.0) {
                let (Some((_, first)), rest) = (twins.first(), twins.iter().skip(1)) else { continue };
                // Once a pair, however many hosts they share.
                let news = rest.filter(|(_, second)| told.insert((*first, *second)));
                let duplicates: Vec<_> = news
                    .map(|(_, second)| RouteError::Duplicate {
                        first: *first as usize,
                        second: *second as usize,
                        host: self.host_of(rules, group),
                    })
                    .collect();
                self.errors.extend(duplicates);
            }
            if let Some(excess) = group.iter().filter(|one| one.rank.regex_bytes > 0).nth(MAX_REGEXES_PER_HOST) {
                let host = self.host_of(rules, group);
                self.errors.push(RouteError::RegexesOfHost { rule: excess.rule as usize, host });
            }
        }
    }

    /// The host, for people, that all of `group` share.
    fn host_of<T>(&self, rules: &[Rule<T>], group: &[Placed]) -> String {
        let hosts = |placed: &Placed| rules.get(placed.rule as usize).map_or(&[][..], |rule| rule.hosts.as_slice());
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return String::new() };
        let root = self.index.root(first.node);
        let shared = hosts(first).iter().chain(hosts(last)).find(|host| match host {
            HostPattern::Exact(name) => self.index.child(EXACT, name) == Some(root),
            HostPattern::Wildcard(suffix) => self.index.child(WILDCARD, suffix) == Some(root),
            HostPattern::Any => root == ANY,
        });
        shared.map_or_else(|| HostPattern::Any.to_string(), ToString::to_string)
    }
}

/// Where each node's entries are in `placed`, which is in order.
fn spans(nodes: usize, placed: &[Placed]) -> Box<[Span]> {
    let mut rest = placed.iter().peekable();
    let mut at = 0;
    let mut take = |node: usize, kind: PathKind| {
        while rest.next_if(|own| own.node as usize == node && own.kind == kind).is_some() {
            at += 1;
        }
        at
    };
    let mut spans = Vec::with_capacity(nodes + 1);
    let mut first = 0;
    for node in 0..nodes {
        let prefixes = take(node, PathKind::Exact);
        spans.push(Span { first, prefixes });
        first = take(node, PathKind::Prefix);
    }
    spans.push(Span { first, prefixes: first });
    spans.into_boxed_slice()
}
