//! The bounds on what clients may ask. Each is on by default and has bounds of its own, so that a slip of the
//! hand in the file cannot switch one off.

use std::ops::RangeInclusive;

use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::section::section;
use crate::config::syntax::values::{Bytes, Period};

section! {
    /// What a client may ask of Weir before it is refused. Every bound is on, and has bounds of its own.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Limits {
        // What common origins accept (nginx 4 × 8 KiB, Go 1 MiB, Node 16 KiB), and 100 fields as Apache.
        /// Size of a request's header fields, also while they arrive: `1KiB` to `1MiB`.
        pub(crate) header_bytes: Bytes = bounded(Bytes::kib(32), Bytes::kib(1)..=Bytes::kib(1 << 10)),
        /// Header fields of a request, 8 to 1000.
        pub(crate) header_fields: u16 = bounded(100, 8..=1_000),
        // RFC 9110 section 4.1 asks for at least 8000 octets.
        /// Size of a request's target: `64B` to `64KiB`, and no more than `header_bytes`.
        pub(crate) uri_bytes: Bytes = bounded(Bytes::kib(8), Bytes::new(64)..=Bytes::kib(64)),
        // The longest registered method has 17 (`UPDATEREDIRECTREF`).
        /// Length of a method's name, 8 to 64.
        pub(crate) method_bytes: u16 = bounded(32, 8..=64),
        // A header that takes longer is an attack or a broken client.
        /// From the first byte of a request to the end of its header section: `100ms` to `10m`. For the first request of a
        /// connection it counts from the connection, or from the end of its TLS handshake.
        pub(crate) header_timeout: Period = bounded(Period::from_secs(10), HEAD_TIME),
        /// From the connection to the end of the TLS handshake: `100ms` to `10m`.
        pub(crate) handshake_timeout: Period = bounded(Period::from_secs(10), HEAD_TIME),
        // Longer than the minute-long pauses of people, shorter than middleboxes forget a flow.
        /// How long a client's connection may be idle between requests: `1s` to `1h`.
        pub(crate) keepalive: Period = bounded(Period::from_secs(60), QUIET_TIME),
        /// How long a client may take none of the answer's bytes: `1s` to `1h`.
        pub(crate) write_timeout: Period = bounded(Period::from_secs(30), QUIET_TIME),
        // A thousand answers that stand still, and a quarter of what a small server has.
        /// Memory for answers that clients do not read and for uploads that endpoints do not, of all connections together:
        /// `16MiB` to `1TiB`. Beyond it those are cut that have waited longest.
        pub(crate) unread_bytes: Bytes = bounded(Bytes::kib(256 << 10), UNREAD),
        // What RFC 9113 section 6.5.2 recommends as the least.
        /// Requests at the same time on one HTTP/2 connection, 1 to 10000.
        pub(crate) h2_streams: u32 = bounded(100, 1..=10_000),
        /// Size of a request's body; default: no bound. A service's `max_body` replaces it.
        pub(crate) body_bytes: Option<Bytes> = within(BODY),
    }
    default
    rules(fields) {
        let uri_bytes = uri_within_header(&mut fields, uri_bytes, header_bytes);
    }
}

/// Bounds of what waits for the network during a request's head.
const HEAD_TIME: RangeInclusive<Period> = Period::from_millis(100)..=Period::from_secs(600);
/// Bounds of what waits for the network between or after requests.
const QUIET_TIME: RangeInclusive<Period> = Period::from_secs(1)..=Period::from_secs(3_600);
/// Bounds of what is held for clients: some hundred answers at least.
const UNREAD: RangeInclusive<Bytes> = Bytes::kib(16 << 10)..=Bytes::kib(1 << 30);
/// Bounds of a body: from nothing to more than a disk holds.
pub(crate) const BODY: RangeInclusive<Bytes> = Bytes::new(0)..=Bytes::kib(1 << 40);

/// The bound on the target, which the header contains. A small `header_bytes` alone takes its default down with it.
fn uri_within_header(fields: &mut Fields<'_, '_>, uri: Option<Bytes>, header: Option<Bytes>) -> Option<Bytes> {
    let (uri, header) = (uri?, header?);
    if uri > header && fields.get("uri_bytes").is_some() {
        fields.fault_at("uri_bytes", |place| {
            Problem::new(place, "`uri_bytes` is larger than `header_bytes`, which contains it")
                .expected(format!("{header} at most"))
                .help("raise `header_bytes` or lower `uri_bytes`")
        });
    }
    Some(uri.min(header))
}
