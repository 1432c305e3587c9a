//! HTTP/2 frame by frame: what a client may do wrong or oddly, by the sections of RFC 9113 (HTTP/2), RFC 7541 (HPACK) and
//! RFC 8441 (WebSocket), and what comes back.
//!
//! [`table`] sends the rows over a clear port and over TLS, to whichever lane carries HTTP/2; where the engine of the
//! general lane does something else, the row says what.

#![expect(clippy::too_many_lines, reason = "a section of an RFC is one table of rows")]

mod compression;
mod connection;
mod flow;
mod kinds;
mod message;
mod streams;
mod table;
mod websocket;
