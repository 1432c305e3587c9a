//! The gRPC services of an origin: `grpc.Test` with `Unary`, `Fail` and `Bidi`, and the health service.

use std::io;

use bytes::BytesMut;

use super::exchange::{End, Exchange, Length};
use super::{Counted, Shared};
use crate::harness::client::grpc::{decode, encode};
use crate::harness::wire::Fields;

/// Answers `/grpc.Test/METHOD`, and `Check` of the health service.
pub(super) async fn answer(exchange: &mut Exchange<'_>, shared: &Shared, method: &str) -> io::Result<End> {
    let mut head = Fields::default();
    head.push("content-type", "application/grpc");
    match method {
        "Unary" => {
            let mut received = BytesMut::new();
            while let Some(piece) = exchange.read().await? {
                received.extend_from_slice(&piece);
            }
            exchange.start(200, &head, Length::Open).await?;
            while let Some(message) = decode(&mut received) {
                exchange.write(encode(&message)).await?;
            }
            let (fails, slow) = shared.mood.lock().unwrap().turn();
            tokio::time::sleep(slow).await;
            let end = if fails { status(14, "not now") } else { status(0, "") };
            exchange.end(&end).await?;
        }
        "Bidi" => {
            let _open = Counted::new(&shared.streams);
            exchange.start(200, &head, Length::Open).await?;
            let mut received = BytesMut::new();
            while let Some(piece) = exchange.read().await? {
                received.extend_from_slice(&piece);
                while let Some(message) = decode(&mut received) {
                    exchange.write(encode(&message)).await?;
                }
            }
            exchange.end(&status(0, "")).await?;
        }
        "Check" => return check(exchange, shared).await,
        "Fail" => {
            head.0.extend(status(7, "not yours to see").0);
            exchange.start(200, &head, Length::None).await?;
        }
        _ => {
            head.0.extend(status(12, "no such method").0);
            exchange.start(200, &head, Length::None).await?;
        }
    }
    Ok(End::Done)
}

async fn check(exchange: &mut Exchange<'_>, shared: &Shared) -> io::Result<End> {
    let mut head = Fields::default();
    head.push("content-type", "application/grpc");
    let mut received = BytesMut::new();
    while let Some(piece) = exchange.read().await? {
        received.extend_from_slice(&piece);
    }
    let asked = decode(&mut received).expect("a message");
    // Field 1 of `HealthCheckRequest`, a string.
    if !asked.is_empty() && asked != b"\x0a\x0bshop.Prices"[..] {
        head.0.extend(status(5, "unknown service").0);
        exchange.start(200, &head, Length::None).await?;
        return Ok(End::Done);
    }
    let (fails, slow) = shared.mood.lock().unwrap().turn();
    tokio::time::sleep(slow).await;
    exchange.start(200, &head, Length::Open).await?;
    // Field 1 of `HealthCheckResponse`: SERVING or NOT_SERVING.
    exchange.write(encode(&[8, if fails { 2 } else { 1 }])).await?;
    exchange.end(&status(0, "")).await?;
    Ok(End::Done)
}

fn status(code: u8, message: &str) -> Fields {
    let mut fields = Fields::default();
    fields.push("grpc-status", code.to_string());
    if !message.is_empty() {
        fields.push("grpc-message", message);
    }
    fields
}
