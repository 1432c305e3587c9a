//! How much of a version is in use at once, and who waits when it is full.

use crate::config::syntax::fields::Fields;
use crate::config::syntax::section::section;
use crate::config::syntax::values::Period;

/// The most that can be in use at once, and that can wait.
const MOST: std::ops::RangeInclusive<u32> = 1..=1_000_000;

section! {
    /// How many requests and connections a version has at once, and who waits when it is full. It holds for each version by
    /// itself and for this Weir alone.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Concurrency {
        /// Requests in flight, streams included: 1 to 1000000; default: any number.
        pub(crate) requests: Option<u32> = within(MOST),
        /// Connections to its endpoints, idle ones included: 1 to 1000000; default: any number. When they are all made, idle
        /// ones close for new ones.
        pub(crate) connections: Option<u32> = within(MOST),
        // As Envoy's pending requests.
        /// Who may wait for each of them, 0 to 1000000; whoever comes then is answered with 503 at once.
        pub(crate) queue: u32 = bounded(1_024, 0..=1_000_000),
        // A client that waits for longer than this has mostly given up, and its turn would be wasted.
        /// How long one waits before it is answered with 503: `1ms` to `5m`.
        pub(crate) queue_timeout: Period = bounded(Period::SECOND, Period::from_millis(1)..=Period::from_secs(300)),
    }
    rules(fields) {
        check_limited(&mut fields);
    }
}

/// A queue before nothing.
fn check_limited(fields: &mut Fields<'_, '_>) {
    if fields.get("requests").is_none() && fields.get("connections").is_none() {
        fields.fault_here("nothing is limited", "add `requests: NUMBER` or `connections: NUMBER`");
    }
}
