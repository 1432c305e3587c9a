//! A response of Weir's own on a stream.

use std::future::poll_fn;
use std::task::Poll;

use tokio::time::Instant;

use super::ended::Ended;
use super::response;
use super::state::StreamHandle;
use crate::proxy::codec::frame::ErrorCode;
use crate::proxy::request::context::{Logged, RequestProgress};
use crate::proxy::request::end::LOCAL_RESPONSE_TIMEOUT;
use crate::proxy::request::local_response;
use crate::proxy::request::record::{self, Finished};
use crate::proxy::shared::Shared;
use crate::telemetry::Lane;
use crate::traffic::Refusal;

/// A request that is refused before a version is chosen: recorded once, when it is dropped.
pub(super) struct RefusedRequest<'s> {
    shared: &'s Shared,
    began: Instant,
    progress: RequestProgress,
    logged: Option<Box<Logged>>,
}

impl<'s> RefusedRequest<'s> {
    pub(super) fn enter(shared: &'s Shared, logged: Option<Box<Logged>>) -> Self {
        shared.request_begun();
        let progress = RequestProgress { client_gone: true, ..RequestProgress::new() };
        Self { shared, began: Instant::now(), progress, logged }
    }

    pub(super) async fn answer(&mut self, stream: &StreamHandle, refusal: Refusal, head_only: bool) -> Ended {
        answer(stream, refusal, head_only, &mut self.progress).await
    }
}

impl Drop for RefusedRequest<'_> {
    fn drop(&mut self) {
        let finished = Finished {
            lane: Lane::Express,
            assigned: None,
            progress: &self.progress,
            duration: self.began.elapsed(),
            logged: self.logged.as_deref(),
        };
        record::record(self.shared, &finished);
    }
}

/// Writes a local response, as the client takes it.
pub(super) async fn answer(
    stream: &StreamHandle,
    refusal: Refusal,
    head_only: bool,
    progress: &mut RequestProgress,
) -> Ended {
    let until = Instant::now() + LOCAL_RESPONSE_TIMEOUT;
    let mut told = false;
    let mut body = if head_only { String::new() } else { local_response::body(refusal).to_string() };
    progress.answered_locally(refusal);
    let written = poll_fn(|_| {
        let mut locked = stream.lock();
        if !told {
            if !locked.has_room() {
                drop(locked);
                return if stream.is_late(until) { Poll::Ready(false) } else { Poll::Pending };
            }
            response::write_local_head(refusal, head_only, &mut locked);
            told = true;
        }
        while !body.is_empty() {
            let Some(room) = locked.room() else {
                drop(locked);
                return if stream.is_late(until) { Poll::Ready(false) } else { Poll::Pending };
            };
            // It is ASCII.
            let rest = body.split_off(body.len().min(room));
            locked.send(rest.is_empty(), body.as_bytes());
            body = rest;
        }
        Poll::Ready(true)
    })
    .await;
    if !written {
        return Ended::Reset(ErrorCode::CANCEL);
    }
    (progress.complete, progress.client_gone) = (true, false);
    progress.bytes_out = refusal.body_bytes(head_only);
    Ended::Answered
}
