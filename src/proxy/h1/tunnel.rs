//! The tunnel that a request becomes when its endpoint takes an upgrade: carried by the client's own task, ended by the
//! client, the endpoint, or a drain.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::time::Instant;

use super::client::Client;
use super::forward::{H1Request, Next};
use crate::proxy::express::acquire::AcquiredConnection;
use crate::proxy::express::broken::Broken;
use crate::proxy::express::tunnel::{Tunnel, TunnelLimits};
use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::end::End;
use crate::snapshot::ClientLimits;

impl Client {
    /// Carries the tunnel that the endpoint of a request agreed to, and of which it has sent `begun` already.
    pub(super) async fn tunnel(
        &mut self,
        request: &mut H1Request<'_>,
        acquired: AcquiredConnection<'_>,
        begun: Buffer,
        limits: ClientLimits,
    ) -> Next {
        let AcquiredConnection { mut connection, ticket, .. } = acquired;
        let context = &mut request.context;
        // It ended when the head was written, as far as that was known.
        context.ended_at = None;
        let idle = context.assigned.service.timeouts.idle;
        let limits = TunnelLimits { idle, write_timeout: limits.write_timeout };
        let mut tunnel = Tunnel::new(std::mem::take(&mut self.input), begun, limits, Instant::now());
        let carried = poll_fn(|cx| {
            let carried = tunnel.poll(cx, Pin::new(&mut self.transport), Pin::new(&mut connection.transport));
            if carried.is_ready() {
                return carried;
            }
            if context.is_cut() || ticket.is_due() {
                ticket.count_cut();
                return Poll::Ready(Err(Broken::Ended(End::Cut)));
            }
            match tunnel.due() {
                Some((at, broken)) => self.timer.poll(cx, at).map(|()| Err(broken)),
                None => Poll::Pending,
            }
        })
        .await;
        (context.progress.bytes_in, context.progress.bytes_out) = (tunnel.bytes_in(), tunnel.bytes_out());
        match carried {
            Ok(()) => {
                context.progress.complete = true;
                Next::Abort
            }
            Err(broken) => {
                if let Broken::Endpoint(failure) = broken {
                    let version = context.assigned.version;
                    let sent = context.sent();
                    context.attempts.broke(failure, sent, version, || false);
                }
                self.ended(request, broken).await
            }
        }
    }
}
