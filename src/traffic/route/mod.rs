//! The second stage: which route a request takes, by host, path, method and headers.
//!
//! The most specific rule that matches wins, as in the Gateway API:
//!
//! 1. host: exact, then the longest wildcard, then any host
//! 2. path: exact, then regex (the longest pattern first), then the longest prefix
//! 3. a rule with methods before one without
//! 4. the rule with more header matches
//! 5. the rule that stands first
//!
//! The order ranks the rules *that match the whole request*: where no rule of the most specific host fits,
//! the rules of less specific hosts are asked, and a rule whose method does not fit makes way for the next
//! path. That is what the Gateway API says of routes. Where it leaves the place of regexes open, they come
//! before prefixes: there is nearly always a prefix `/`, and behind it no regex would ever be reached.
//!
//! All hosts and paths are one trie whose edges are in one hash table, so a request costs one look-up per host
//! suffix and path segment, whatever the number of rules. What cannot be looked up, regexes, is bounded in
//! number and size when the table is built.
//!
//! ```text
//! exact ── shop.example.com ──┐            (host)
//! wildcard ── example.com ────┼── checkout ── cart          (path segments)
//! any ────────────────────────┘   each node: rules that end here exactly, rules with this prefix
//! ```
//!
//! Invariant: [`Table::find`] allocates nothing (but for the caches that the regex engine keeps per thread).

use crate::traffic::Request;
use crate::traffic::validate::spelling::Paths;

mod build;
mod condition;
mod index;
mod pattern;

pub use build::{MAX_REGEXES, MAX_REGEXES_PER_HOST, RouteError};
pub use pattern::{HeaderMatch, HeaderTest, HostPattern, NotAHost, PathPattern};

use condition::Condition;
use index::{ANY, EXACT, Index, WILDCARD};

/// What a request must be to reach `target`. All parts must match; of the hosts and of the methods, one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<T> {
    /// The hosts; none means any.
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// The methods, in upper case; none means any.
    pub methods: Vec<String>,
    /// What the headers must be.
    pub headers: Vec<HeaderMatch>,
    /// Where the rule leads.
    pub target: T,
}

/// Rules, compiled for look-up.
#[derive(Debug)]
pub struct Table<T> {
    index: Index,
    /// The entries of all nodes, by node and then by precedence.
    entries: Box<[Entry]>,
    /// Where each node's entries are, and one more for the end.
    nodes: Box<[Span]>,
    /// What is to be checked beyond host and literal path. The first one is always met.
    conditions: Box<[Condition]>,
    targets: Box<[T]>,
    /// The length of the longest wildcard's suffix: longer ones need no look-up.
    longest_wildcard_bytes: usize,
}

/// A rule at a node.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rule: u32,
    condition: u32,
}

/// A node's part of the entries: up to the next node's `first`.
///
/// The entries before `prefixes` are exact paths; those of a host's root, where no exact path can end, are the
/// host's regexes.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u32,
    prefixes: u32,
}

impl<T> Table<T> {
    /// Compiles `rules`; their order is the last criterion of precedence.
    ///
    /// # Errors
    /// All that is wrong with the rules, in their order; see [`RouteError`].
    pub fn build(rules: Vec<Rule<T>>) -> Result<Self, Vec<RouteError>> {
        build::build(rules, Paths::default())
    }

    /// Compiles `rules` for requests whose paths are read as `paths` says: a path that could not come so is an error.
    ///
    /// # Errors
    /// As of [`Table::build`].
    pub fn build_for(rules: Vec<Rule<T>>, paths: Paths) -> Result<Self, Vec<RouteError>> {
        build::build(rules, paths)
    }

    /// The target of the rule that `request` takes, if one matches.
    ///
    /// `host` and `path` are those of [`Validated`](super::validate::Validated): the host in lower case without
    /// port, the path in normal form without query.
    #[must_use]
    pub fn find(&self, host: &str, path: &str, request: &impl Request) -> Option<&T> {
        let exact = self.index.child(EXACT, host);
        let wildcards = memchr::memchr_iter(b'.', if self.longest_wildcard_bytes > 0 { host.as_bytes() } else { b"" })
            .filter_map(|dot| host.get(dot + 1..))
            .filter(|suffix| suffix.len() <= self.longest_wildcard_bytes)
            .filter_map(|suffix| self.index.child(WILDCARD, suffix));
        let roots = exact.into_iter().chain(wildcards).chain(std::iter::once(ANY));
        roots.into_iter().find_map(|root| self.find_path(root, path, request))
    }

    /// Where the rules lead, in their order.
    #[must_use]
    pub fn into_targets(self) -> Box<[T]> {
        self.targets
    }

    /// The number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there are no rules, so that nothing matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The best rule of the host at `root`.
    fn find_path(&self, root: u32, path: &str, request: &impl Request) -> Option<&T> {
        let first = |entries: &[Entry]| entries.iter().find_map(|entry| self.check(*entry, path, request));
        let (deepest, whole) = self.descend(root, path);
        if whole && let Some(target) = first(self.exact(deepest)) {
            return Some(target);
        }
        if let Some(target) = first(self.exact(root)) {
            return Some(target);
        }
        let mut node = deepest;
        loop {
            if let Some(target) = first(self.prefixes(node)) {
                return Some(target);
            }
            if node == root {
                return None;
            }
            node = self.index.parent(node);
        }
    }

    /// The deepest node below `root` on `path`, and whether the whole path led there.
    fn descend(&self, root: u32, path: &str) -> (u32, bool) {
        let mut node = root;
        let mut rest = path;
        while let Some(slash) = memchr::memchr(b'/', rest.as_bytes()) {
            rest = rest.get(slash + 1..).unwrap_or_default();
            let end = memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len());
            let segment = rest.get(..end).unwrap_or_default();
            match self.index.child(node, segment) {
                Some(child) => node = child,
                None => return (node, false),
            }
        }
        (node, true)
    }

    /// The bytes that the table holds on the heap, without conditions and targets.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.index.bytes() + size_of_val(&*self.entries) + size_of_val(&*self.nodes)
    }

    fn exact(&self, node: u32) -> &[Entry] {
        self.slice(node, |span, _| (span.first, span.prefixes))
    }

    fn prefixes(&self, node: u32) -> &[Entry] {
        self.slice(node, |span, next| (span.prefixes, next.first))
    }

    fn slice(&self, node: u32, range: impl Fn(Span, Span) -> (u32, u32)) -> &[Entry] {
        match self.nodes.get(node as usize..) {
            Some([span, next, ..]) => {
                let (from, to) = range(*span, *next);
                self.entries.get(from as usize..to as usize).unwrap_or_default()
            }
            _ => &[],
        }
    }

    fn check(&self, entry: Entry, path: &str, request: &impl Request) -> Option<&T> {
        // The first condition asks nothing.
        let met = entry.condition == 0
            || self.conditions.get(entry.condition as usize).is_some_and(|condition| condition.is_met(path, request));
        if met { self.targets.get(entry.rule as usize) } else { None }
    }
}

#[cfg(test)]
mod tests;
