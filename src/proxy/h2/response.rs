//! What a client gets of an endpoint's response, or instead of it.

use std::fmt::{Arguments, Write as _};

use super::state::{HeadKind, LockedStream};
use crate::algorithm::decimal::decimal;
use crate::proxy::codec::date::with_date;
use crate::proxy::codec::hpack::{Encoder, FieldLines};
use crate::proxy::codec::response::Head;
use crate::proxy::request::local_response;
use crate::proxy::request::response::{self as response_rules, ClientFields};
use crate::traffic::Refusal;

/// Writes the head of an HTTP/1 endpoint's response, informational or final.
pub(super) fn write_http1(head: &Head<'_, '_>, ours: &ClientFields<'_>, encoder: &mut Encoder, block: &mut Vec<u8>) {
    encoder.status(head.status, block);
    response_rules::each(head, |name, value| encoder.field(name.as_bytes(), value, block));
    if head.status >= 200 {
        if let Some(length) = head.found.restated_length() {
            number(encoder, length, block);
        }
        finish(head.found.date, ours, encoder, block);
    }
}

/// Writes the head of the response with which an HTTP/1 endpoint opened a tunnel. The handshake of WebSocket is the
/// endpoint's and ours (RFC 8441 §5.1).
pub(super) fn write_tunnel(
    head: &Head<'_, '_>,
    status: u16,
    ours: &ClientFields<'_>,
    encoder: &mut Encoder,
    block: &mut Vec<u8>,
) {
    encoder.status(status, block);
    response_rules::each(head, |name, value| {
        if !name.eq_ignore_ascii_case("sec-websocket-accept") {
            encoder.field(name.as_bytes(), value, block);
        }
    });
    finish(head.found.date, ours, encoder, block);
}

/// Writes the head of an HTTP/2 endpoint's response, informational or final.
pub(super) fn write_http2(
    status: u16,
    fields: &FieldLines,
    ours: &ClientFields<'_>,
    encoder: &mut Encoder,
    block: &mut Vec<u8>,
) {
    encoder.status(status, block);
    let mut date = false;
    let mut length = None;
    for field in fields.iter().filter(|field| response_rules::passes(field.name, false)) {
        date |= field.name == "date";
        if field.name == "content-length" {
            length = decimal(field.value);
        } else if field.never_indexed {
            encoder.secret(field.name.as_bytes(), field.value, block);
        } else {
            encoder.field(field.name.as_bytes(), field.value, block);
        }
    }
    if status >= 200 {
        // Plainly, and once, however the endpoint wrote it.
        if let Some(length) = length {
            number(encoder, length, block);
        }
        finish(date, ours, encoder, block);
    }
}

/// Writes the trailers that go on.
pub(super) fn write_trailers(
    fields: &FieldLines,
    passes: fn(&str) -> bool,
    encoder: &mut Encoder,
    block: &mut Vec<u8>,
) {
    for field in fields.iter().filter(|field| passes(field.name)) {
        encoder.field(field.name.as_bytes(), field.value, block);
    }
}

/// The end of a final head: what we add. `date`: the endpoint has said it.
fn finish(date: bool, ours: &ClientFields<'_>, encoder: &mut Encoder, block: &mut Vec<u8>) {
    if !date {
        with_date(|date| encoder.field(b"date", date.as_bytes(), block));
    }
    ours.each(|name, value| encoder.field(name.as_bytes(), value, block));
}

fn number(encoder: &mut Encoder, length: u64, block: &mut Vec<u8>) {
    encoder.field(b"content-length", length.to_string().as_bytes(), block);
}

/// Writes the head of a local response; `ends`: its body does not follow.
pub(super) fn write_local_head(refusal: Refusal, ends: bool, stream: &mut LockedStream<'_>) {
    stream.head(HeadKind::Final, ends, |encoder, block| {
        encoder.status(refusal.status, block);
        let mut text = String::new();
        local_response::fields(refusal, |name, value: Arguments<'_>| {
            text.clear();
            // Writing to a string cannot fail.
            let _ = text.write_fmt(value);
            encoder.field(name.as_bytes(), text.as_bytes(), block);
        });
        with_date(|date| encoder.field(b"date", date.as_bytes(), block));
    });
}
