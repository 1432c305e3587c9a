//! The vocabulary of the stories.
//!
//! ```text
//! Client (of either protocol: H1, H2; Frames, WebSocket, Sse, grpc) ──► Weir (the real binary) ──► Origin (one behaviour per path)
//!        └── Load + Ledger: every request is accounted for      journal: every request that arrived ──┘
//! ```
//!
//! Rules that hold for all of it: no fixed ports (configurations say port 0, the status tells the real one), no
//! sleeps ([`eventually()`] and [`within`] wait for a condition and are bounded by one knob, the environment variable
//! `WEIR_TEST_PATIENCE` in seconds), no retries that a story does not ask for, nothing shared between stories.

/// Tells a story twice, with clients of either protocol: a story is an `async fn` of a [`Protocol`].
macro_rules! over_both {
    ($story:ident) => {
        mod $story {
            use crate::harness::Protocol;

            #[tokio::test(flavor = "multi_thread")]
            async fn over_http1() {
                super::$story(Protocol::Http1).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_http2() {
                super::$story(Protocol::Http2).await;
            }
        }
    };
}

pub(crate) mod certs;
pub(crate) mod client;
pub(crate) mod dns;
pub(crate) mod eventually;
pub(crate) mod fault;
pub(crate) mod faulty;
pub(crate) mod fixture;
pub(crate) mod frame;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod origin;
pub(crate) mod receiver;
pub(crate) mod socket;
mod tunnel;
pub(crate) mod weir;
pub(crate) mod wire;

pub(crate) use certs::Authority;
pub(crate) use client::{Client, Failure, Frames, H1, H2, Protocol, Request, Sse, WebSocket, grpc};
pub(crate) use dns::Dns;
pub(crate) use eventually::{eventually, within};
pub(crate) use faulty::{Fault, FaultyOrigin};
pub(crate) use fixture::Fixture;
pub(crate) use ledger::Ledger;
pub(crate) use load::Load;
pub(crate) use origin::Origin;
pub(crate) use over_both;
pub(crate) use receiver::Receiver;
pub(crate) use socket::{Target, Tls};
pub(crate) use weir::{Rewrite, Signal, Weir, express_lane, run_weir, shop};
