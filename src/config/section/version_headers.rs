//! Who is told which version a request got.

use crate::config::syntax::section::section;

section! {
    /// Who is told which version a request got. What a client or an endpoint itself says in these fields ends at Weir.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct VersionHeaders {
        // On: what an endpoint logs can be told by version from the first day, without a change of the file.
        /// Endpoints: `weir-version` is the version's name, `weir-version-reason` is `weight`, `affinity`, `override` or
        /// `failover`.
        pub(crate) request: bool = or(true),
        // Off: which versions there are is nobody else's business.
        /// Clients: `weir-version`, with the responses of endpoints.
        pub(crate) response: bool = or(false),
    }
    default
}
