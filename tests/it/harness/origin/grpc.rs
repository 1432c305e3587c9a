//! The gRPC service `grpc.Test` of an origin: `Unary`, `Fail`, `Bidi`.

use std::io;

use bytes::BytesMut;

use super::exchange::{End, Exchange, Length};
use super::{Counted, Shared};
use crate::harness::client::grpc::{decode, encode};
use crate::harness::wire::Fields;

/// Answers `/grpc.Test/METHOD`.
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

fn status(code: u8, message: &str) -> Fields {
    let mut fields = Fields::default();
    fields.push("grpc-status", code.to_string());
    if !message.is_empty() {
        fields.push("grpc-message", message);
    }
    fields
}
