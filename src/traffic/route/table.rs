//! The table that finds the rule of a request.

use super::condition::Condition;
use super::index::{ANY, EXACT, Index, WILDCARD};
use crate::traffic::Request;

/// Rules, compiled for look-up.
#[derive(Debug)]
pub struct Table<T> {
    pub(super) index: Index,
    /// The entries of all nodes, by node and then by precedence.
    pub(super) entries: Box<[TableEntry]>,
    /// Where each node's entries are, and one more for the end.
    pub(super) nodes: Box<[Span]>,
    /// What is to be checked beyond host and literal path. The first one is always met.
    pub(super) conditions: Box<[Condition]>,
    pub(super) targets: Box<[T]>,
    /// The length of the longest wildcard's suffix: longer ones need no look-up.
    pub(super) longest_wildcard_bytes: usize,
}

/// A rule at a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableEntry {
    pub(super) rule: u32,
    pub(super) condition: u32,
}

/// A node's part of the entries: up to the next node's `first`.
///
/// The entries before `prefixes` are exact paths; those of a host's root, where no exact path can end, are the
/// host's regexes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) first: u32,
    pub(super) prefixes: u32,
}

impl<T> Table<T> {
    /// The target of the rule that `request` takes, if one matches.
    ///
    /// `host` and `path` are those of [`Validated`](crate::traffic::validate::Validated): the host in lower case without
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
    pub(crate) fn into_targets(self) -> Box<[T]> {
        self.targets
    }

    /// The best rule of the host at `root`.
    fn find_path(&self, root: u32, path: &str, request: &impl Request) -> Option<&T> {
        let first = |entries: &[TableEntry]| entries.iter().find_map(|entry| self.check(*entry, path, request));
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
        let mut left = path.strip_prefix('/');
        while let Some(rest) = left {
            let end = memchr::memchr(b'/', rest.as_bytes());
            let segment = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            match self.index.child(node, segment) {
                Some(child) => node = child,
                None => return (node, false),
            }
            left = end.and_then(|end| rest.get(end + 1..));
        }
        (node, true)
    }

    /// The bytes that the table holds on the heap, without conditions and targets.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.index.bytes() + size_of_val(&*self.entries) + size_of_val(&*self.nodes)
    }

    fn exact(&self, node: u32) -> &[TableEntry] {
        self.slice(node, |span, _| (span.first, span.prefixes))
    }

    fn prefixes(&self, node: u32) -> &[TableEntry] {
        self.slice(node, |span, next| (span.prefixes, next.first))
    }

    fn slice(&self, node: u32, range: impl Fn(Span, Span) -> (u32, u32)) -> &[TableEntry] {
        match self.nodes.get(node as usize..) {
            Some([span, next, ..]) => {
                let (from, to) = range(*span, *next);
                self.entries.get(from as usize..to as usize).unwrap_or_default()
            }
            _ => &[],
        }
    }

    fn check(&self, entry: TableEntry, path: &str, request: &impl Request) -> Option<&T> {
        // The first condition asks nothing.
        let met = entry.condition == 0
            || self.conditions.get(entry.condition as usize).is_some_and(|condition| condition.is_met(path, request));
        if met { self.targets.get(entry.rule as usize) } else { None }
    }
}
