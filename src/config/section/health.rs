//! The health of endpoints: when one is taken out for what happens to requests, and what a version does without them.

use std::ops::RangeInclusive;

use crate::config::syntax::section::section;
use crate::config::syntax::values::Period;

section! {
    /// Takes endpoints out for what happens to requests, as Envoy's outlier detection does. A version's last available
    /// endpoint is never ejected; one that accepts no connections is out even so.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct OutlierDetection {
        /// Errors in a row that eject an endpoint, 0 to 1000: a status of 500 or above, a failed connect, a reset, a
        /// timeout, an answer that is not HTTP. 0: none does.
        pub(crate) consecutive_errors: u32 = bounded(5, IN_A_ROW),
        /// How often success rates are compared, `1s` to `1h`; one ejection is forgotten after each such time in which the
        /// endpoint was good.
        pub(crate) interval: Period = bounded(Period::from_secs(10), Period::SECOND..=Period::HOUR),
        /// How long the first ejection takes, `1s` to `1h`; the second takes twice as long, and so on.
        pub(crate) ejection_time: Period = bounded(Period::from_secs(30), Period::SECOND..=Period::HOUR),
        /// How long an ejection takes at most, `1s` to `24h`.
        pub(crate) max_ejection_time: Period = bounded(Period::from_secs(300), Period::SECOND..=Period::DAY),
        // A canary has few endpoints: Envoy's 10 % would mean one, whether it has two or nineteen.
        /// Percentage of a version's endpoints that may be ejected at once, 0 to 100; one always may, unless this is 0.
        pub(crate) max_ejected: u32 = bounded(50, PERCENT),
        /// Ejects an endpoint whose success rate is more than so many standard deviations below the mean of its version,
        /// 0 to 10, and more than 5 points; 0: none is.
        pub(crate) success_rate_deviations: f64 = bounded(1.9, 0.0..=10.0),
        /// Success rates are compared among at least so many endpoints, 3 to 1024 …
        pub(crate) success_rate_endpoints: u32 = bounded(5, 3..=1_024),
        /// … that had at least so many requests in the interval, 1 to 1000000.
        pub(crate) success_rate_requests: u32 = bounded(100, 1..=1_000_000),
        /// Failed connects in a row after which an endpoint counts as unreachable, 0 to 1000; it is asked each few seconds
        /// and is back when it accepts. 0: it never does.
        pub(crate) connect_failures: u32 = bounded(3, IN_A_ROW),
    }
    default
}

/// How many failures in a row may be waited for.
const IN_A_ROW: RangeInclusive<u32> = 0..=1_000;
/// A share in percent.
pub(super) const PERCENT: RangeInclusive<u32> = 0..=100;
