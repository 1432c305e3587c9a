//! One rule: what a request must be, and where it then goes.

use super::pattern::{HeaderMatch, HostPattern, PathPattern};

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
