//! The bounds on what clients may ask. Each is on by default and has bounds of its own, so that a slip of the
//! hand in the file cannot switch one off.

use std::ops::RangeInclusive;

use schemars::JsonSchema;

use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::values::{Bytes, Period};
use crate::config::syntax::yaml::Node;

/// What a client may ask of Weir before it is refused. Every bound is on, and has bounds of its own.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Limits {
    /// Size of a request's header fields, also while they arrive: `1KiB` to `1MiB`.
    pub header_bytes: Bytes,
    /// Header fields of a request, 8 to 1000.
    #[schemars(range(min = 8, max = 1000))]
    pub header_fields: u16,
    /// Size of a request's target: `64B` to `64KiB`, and no more than `header_bytes`.
    pub uri_bytes: Bytes,
    /// Length of a method's name, 8 to 64.
    #[schemars(range(min = 8, max = 64))]
    pub method_bytes: u16,
    /// From the first byte of a request to the end of its header section: `100ms` to `10m`. For the first request of a
    /// connection it counts from the connection, or from the end of its TLS handshake.
    pub header_timeout: Period,
    /// From the connection to the end of the TLS handshake: `100ms` to `10m`.
    pub handshake_timeout: Period,
    /// How long a client's connection may be idle between requests: `1s` to `1h`.
    pub keepalive: Period,
    /// How long a client may take none of the answer's bytes: `1s` to `1h`.
    pub write_timeout: Period,
    /// Memory for answers that clients do not read and for uploads that endpoints do not, of all connections together:
    /// `16MiB` to `1TiB`. Beyond it those are cut that have waited longest.
    pub unread_bytes: Bytes,
    /// Requests at the same time on one HTTP/2 connection, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub h2_streams: u32,
    /// Size of a request's body; default: no bound. A service's `max_body` replaces it.
    pub body_bytes: Option<Bytes>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // What common origins accept (nginx 4 × 8 KiB, Go 1 MiB, Node 16 KiB), and 100 fields as Apache.
            header_bytes: Bytes::kib(32),
            header_fields: 100,
            // RFC 9110 section 4.1 asks for at least 8000 octets.
            uri_bytes: Bytes::kib(8),
            // The longest registered method has 17 (`UPDATEREDIRECTREF`).
            method_bytes: 32,
            // A header that takes longer is an attack or a broken client.
            header_timeout: Period::from_secs(10),
            handshake_timeout: Period::from_secs(10),
            // Longer than the minute-long pauses of people, shorter than middleboxes forget a flow.
            keepalive: Period::from_secs(60),
            write_timeout: Period::from_secs(30),
            // A thousand answers that stand still, and a quarter of what a small server has.
            unread_bytes: Bytes::kib(256 << 10),
            // What RFC 9113 section 6.5.2 recommends as the least.
            h2_streams: 100,
            body_bytes: None,
        }
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

impl Read for Limits {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let known = &[
            "header_bytes",
            "header_fields",
            "uri_bytes",
            "method_bytes",
            "header_timeout",
            "handshake_timeout",
            "keepalive",
            "write_timeout",
            "unread_bytes",
            "h2_streams",
            "body_bytes",
        ];
        let default = Self::default();
        let mut fields = reader.fields(node, known)?;
        let header_bytes = fields.bounded("header_bytes", default.header_bytes, Bytes::kib(1)..=Bytes::kib(1 << 10));
        let header_fields = fields.bounded("header_fields", default.header_fields, 8..=1_000);
        let uri_bytes = fields.within("uri_bytes", Bytes::new(64)..=Bytes::kib(64));
        let method_bytes = fields.bounded("method_bytes", default.method_bytes, 8..=64);
        let header_timeout = fields.bounded("header_timeout", default.header_timeout, HEAD_TIME);
        let handshake_timeout = fields.bounded("handshake_timeout", default.handshake_timeout, HEAD_TIME);
        let keepalive = fields.bounded("keepalive", default.keepalive, QUIET_TIME);
        let write_timeout = fields.bounded("write_timeout", default.write_timeout, QUIET_TIME);
        let unread_bytes = fields.bounded("unread_bytes", default.unread_bytes, UNREAD);
        let h2_streams = fields.bounded("h2_streams", default.h2_streams, 1..=10_000);
        let body_bytes = fields.within("body_bytes", BODY);
        if let (Some(Some(uri)), Some(header)) = (uri_bytes, header_bytes)
            && uri > header
        {
            fields.fault_at("uri_bytes", |place| {
                Problem::new(place, "`uri_bytes` is larger than `header_bytes`, which contains it")
                    .expected(format!("{header} at most"))
                    .help("raise `header_bytes` or lower `uri_bytes`")
            });
            return None;
        }
        fields.done()?;
        // A small `header_bytes` alone takes the default target's bound down with it.
        let uri_bytes = uri_bytes?.unwrap_or_else(|| default.uri_bytes.min(header_bytes.unwrap_or(default.uri_bytes)));
        Some(Self {
            header_bytes: header_bytes?,
            header_fields: header_fields?,
            uri_bytes,
            method_bytes: method_bytes?,
            header_timeout: header_timeout?,
            handshake_timeout: handshake_timeout?,
            keepalive: keepalive?,
            write_timeout: write_timeout?,
            unread_bytes: unread_bytes?,
            h2_streams: h2_streams?,
            body_bytes: body_bytes?,
        })
    }
}
