//! What can be wrong with rules, and how many regular expressions they may have.

/// The most different regular expressions in a table: with the size limit of each, a bound for their memory.
pub(crate) const MAX_REGEXES: usize = 1_000;
/// The most rules with a path regex that one host may have: a bound for what one request may cost.
pub(crate) const MAX_REGEXES_PER_HOST: usize = 100;

/// What is wrong with a rule. Indices are those of the rules given to [`Table::build`](super::Table::build).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A host can match nothing.
    #[error("`{found}` is not a host: write `shop.example.com`, `*.example.com` or `*`, without port or path")]
    Host {
        /// The rule's index.
        rule: usize,
        /// The host that was found.
        found: String,
    },
    /// A path can match nothing: it is not in the form in which paths are matched.
    #[error("the path `{found}` would match nothing: {help}")]
    Path {
        /// The rule's index.
        rule: usize,
        /// The path that was found.
        found: String,
        /// What to write.
        help: String,
    },
    /// A method can match nothing.
    #[error("`{found}` is not a method: write it in upper case, like `GET`")]
    Method {
        /// The rule's index.
        rule: usize,
        /// The method that was found.
        found: String,
    },
    /// A header name can match nothing.
    #[error("`{found}` is not a header name: use letters, digits and hyphens")]
    Header {
        /// The rule's index.
        rule: usize,
        /// The name that was found.
        found: String,
    },
    /// A regular expression is invalid or too large.
    #[error("the regular expression `{pattern}` cannot be used: {reason}")]
    Regex {
        /// The rule's index.
        rule: usize,
        /// The expression that was found.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// One regular expression more than the table may have.
    #[error("more than {MAX_REGEXES} different regular expressions; use prefixes where they do")]
    Regexes {
        /// The rule's index.
        rule: usize,
    },
    /// One rule with a path regex more than a host may have.
    #[error("more than {MAX_REGEXES_PER_HOST} rules with a path regex for the host `{host}`; join some with `|`")]
    RegexesOfHost {
        /// The rule's index.
        rule: usize,
        /// The host.
        host: String,
    },
    /// Two rules match exactly the same requests.
    #[error("routes[{second}] is never reached for `{host}`: it asks the same of a request as routes[{first}]")]
    Duplicate {
        /// The index of the rule that wins.
        first: usize,
        /// The index of the rule that is never reached.
        second: usize,
        /// The host for which they are the same.
        host: String,
    },
    /// More hosts and paths than a table can hold.
    #[error("the routes do not fit: more than 4 GiB of hosts and paths")]
    Full {
        /// The index of the rule that does not fit.
        rule: usize,
    },
}

impl RouteError {
    /// The index of the rule to change.
    #[must_use]
    pub(crate) fn rule(&self) -> usize {
        match self {
            Self::Host { rule, .. }
            | Self::Path { rule, .. }
            | Self::Method { rule, .. }
            | Self::Header { rule, .. }
            | Self::Regex { rule, .. }
            | Self::Regexes { rule }
            | Self::RegexesOfHost { rule, .. }
            | Self::Full { rule } => *rule,
            Self::Duplicate { second, .. } => *second,
        }
    }
}
