//! Calls out of a rollout.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::config::syntax::section::{section, words};
use crate::config::syntax::url::HttpUrl;
use crate::config::syntax::values::Period;
use crate::rollout::plan::{Hook, HookPoint};

const TIMEOUT: Period = Period::from_secs(10);
const TIMEOUTS: RangeInclusive<Period> = Period::from_millis(100)..=Period::HOUR;

section! {
    /// A call out: a POST.
    impl Hook as "Hook" {
        /// At which point.
        when: HookPoint = required(),
        /// Where to.
        url: HttpUrl = required(),
        /// How long one try may take: `100ms` to `1h`.
        timeout: Period = bounded(TIMEOUT, TIMEOUTS),
        /// Tries after the first, 0 to 10.
        retries: u32 = bounded(0, 0..=10),
        /// A file with the key that signs the call (HMAC-SHA256); default: it is not signed.
        secret_file: Option<PathBuf> = optional(),
    }
    => Hook { when, url: url.get(), timeout: timeout.get(), retries, secret_file: secret_file.map(Into::into) }
}

words! {
    /// When a hook is called.
    impl HookPoint as "When" {
        /// Before any weight moves; a refusal is waited upon.
        BeforeStart = "before_start",
        /// Before each step; a refusal is waited upon.
        BeforeStep = "before_step",
        /// At each analysis run; its answer decides nothing.
        During = "during",
        /// Before the promotion; a refusal is waited upon.
        BeforePromote = "before_promote",
        /// When all is over; its answer decides nothing.
        After = "after",
        /// At each analysis run; a 2xx answer demands the rollback.
        DemandRollback = "demand_rollback",
    }
}
