//! What is tried again when an attempt on an endpoint fails, how often, and within which budget.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::section::section;
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::{Bytes, Period};
use crate::model::Weight;

section! {
    /// What is tried again when an attempt on an endpoint fails. A request that an endpoint provably did not process is sent
    /// again whatever stands here.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Retry {
        // HAProxy's and Envoy's neighbourhood. More of them only help where most endpoints are down at once.
        /// Tries of a request in all, the first one included, 1 to 5. With `1` nothing is tried again.
        pub(crate) attempts: u16 = bounded(3, 1..=5),
        // What says nothing about the request itself. A status is the application's own word: whoever wants others to
        // be asked says so.
        /// After what a request is tried again; all but `connect` for idempotent requests only. A status with `retry-after`
        /// is passed on: the endpoint says that it is not to be asked again at once.
        pub(crate) on: Vec<RetryOn> = list_or(DEFAULT_ON.to_vec(), DEFAULT_ON, 0..=RetryOn::ALL.len(), read_on),
        // As Envoy has it: without one, an endpoint has all of `first_byte`.
        /// How long one try may take from the request's last byte to the answer's first, for requests that may be tried
        /// again after `timeout`: `10ms` to `24h`, at most `timeouts.first_byte`; default: `timeouts.first_byte`, after which
        /// nothing is tried again.
        pub(crate) per_try_timeout: Option<Period> = within(Period::from_millis(10)..=Period::DAY),
        // Envoy's budget.
        /// Retries that may be under way at once, in percent of the version's requests in flight that are no retries. A
        /// retry after `connect` needs none of it, for the endpoint had no work with it.
        pub(crate) budget: Weight = with_or(DEFAULT_BUDGET, 20, |reader, node| Weight::read(node, reader)),
        /// Retries that may be under way at once whatever `budget` says, 0 to 1000: of few requests a share is none.
        pub(crate) min_retries: u16 = bounded(3, 0..=1000),
        // Envoy's.
        /// How long to wait before an endpoint is tried that was tried already, when no other is ready: at random up to
        /// this long the first time, up to three times that the second, ten times at most; `0s` to `10s`.
        pub(crate) backoff: Period = bounded(Period::from_millis(25), Period::ZERO..=Period::from_secs(10)),
        /// The largest body that is kept to be sent again, at most `64KiB`. A request with a larger one is tried again only
        /// while nothing of it was sent.
        pub(crate) max_body: Bytes = bounded(Bytes::kib(64), Bytes::new(0)..=Bytes::kib(64)),
        /// Whether an idempotent request that fails on the canary of a rollout, after its own retries, is tried once on the
        /// stable version. Its client then sees what that answers, and the canary is charged with the failure all the same.
        pub(crate) rescue: bool = or(false),
    }
    default
}

/// A fifth, as Envoy has it.
const DEFAULT_BUDGET: Weight = match Weight::from_basis_points(2_000) {
    Some(share) => share,
    None => Weight::FULL,
};

const DEFAULT_ON: [RetryOn; 3] = [RetryOn::Connect, RetryOn::Reset, RetryOn::Timeout];

/// What a request is tried again after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RetryOn {
    /// No connection came about: refused, not in time, or without a TLS handshake.
    Connect,
    /// The connection ended, or what came on it was not HTTP, before the client had anything of the response.
    Reset,
    /// The response did not begin within `per_try_timeout`.
    Timeout,
    /// The endpoint answered with 502.
    BadGateway,
    /// The endpoint answered with 503.
    Unavailable,
    /// The endpoint answered with 504.
    GatewayTimeout,
}

impl RetryOn {
    const ALL: [Self; 6] =
        [Self::Connect, Self::Reset, Self::Timeout, Self::BadGateway, Self::Unavailable, Self::GatewayTimeout];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::BadGateway => "502",
            Self::Unavailable => "503",
            Self::GatewayTimeout => "504",
        }
    }
}

impl Read for RetryOn {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        reader.choose(node, &Self::ALL.map(|on| (on.as_str(), on)))
    }
}

impl Serialize for RetryOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Without quotes, a status is a number to YAML.
impl JsonSchema for RetryOn {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RetryOn".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["connect", "reset", "timeout", "502", "503", "504", 502, 503, 504] })
    }
}

fn read_on<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>, bounds: RangeInclusive<usize>) -> Option<Vec<RetryOn>> {
    let items = reader.items(node, "a list, such as `[connect, reset]`", |reader, node| RetryOn::read(node, reader))?;
    reader.count(items.total, &bounds, node.place)?;
    let mut on = items.all()?;
    on.sort_unstable();
    on.dedup();
    Some(on)
}
