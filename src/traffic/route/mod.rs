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

mod build;
mod condition;
mod error;
mod index;
mod pattern;
mod rule;
mod table;

pub(crate) use self::condition::Test as ValueTest;
pub use self::error::RouteError;
pub(crate) use self::pattern::{HeaderMatch, HeaderTest};
pub use self::pattern::{HostPattern, PathPattern};
pub use self::rule::Rule;
pub use self::table::Table;

#[cfg(test)]
mod tests;
