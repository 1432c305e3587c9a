//! Sends copies of requests to the version that is their service's mirror, on a thread and on connections of its own. Nobody
//! gets the responses. Where they are compared, the version that has the request gets the copy as well.
//!
//! ```text
//! queue ─► endpoint of the mirror ─► connection of this thread ─► head, as the mirror gets it, and body ─► response, dropped
//! ```
//!
//! Invariants: a copy takes no longer than its mirror's timeout, and of its response at most [`MAX_RESPONSE`] is read; no
//! more copies are under way than have a permit; a copy counts for no version, for its client has another response.

mod answer;
mod head;
mod http1;
mod http2;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use self::answer::{Answer, compare};
use self::head::CopiedHead;
use super::mirror_queue::MirroredRequest;
use super::shared::Shared;
use super::upstream::Pools;
use super::upstream::destination::{Destination, PoolKey};
use crate::drain::{Notifier, Ticket};
use crate::model::Name;
use crate::snapshot::{Endpoint, Service, Snapshot, Version};
use crate::telemetry::MirrorOutcome;
use crate::traffic::balance::Tried;

/// What is read of a response at most; a connection with more of it is closed.
const MAX_RESPONSE: usize = 1024 * 1024;

/// How often connections are looked through that nobody uses.
const SWEEP: Duration = Duration::from_secs(1);

/// The copy was not answered.
#[derive(Clone, Copy, Debug)]
struct NotAnswered;

/// Where a copy goes.
struct Target {
    key: PoolKey,
    to: Destination,
    http2: bool,
    tls: bool,
    /// A drain waits for it, as for any request.
    ticket: Ticket,
}

/// Sends what comes from the queue, for ever.
pub(super) async fn send(shared: &Arc<Shared>) {
    let mut copies = shared.mirrored.receiver.lock().await;
    let pools = Arc::new(Pools::default());
    let mut under_way = JoinSet::new();
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            copy = copies.recv() => {
                let Some(copy) = copy else { return };
                let (shared, pools) = (Arc::clone(shared), Arc::clone(&pools));
                under_way.spawn(async move { send_one(&shared, &pools, *copy).await });
            }
            Some(_) = under_way.join_next() => {}
            _ = sweep.tick() => pools.sweep(),
        }
    }
}

async fn send_one(shared: &Shared, pools: &Pools, copy: MirroredRequest) {
    let series = &copy.mirror.live.series;
    let compared = async { if copy.compares { Some(ask(shared, pools, &copy, &copy.from).await) } else { None } };
    let (answer, compared) = tokio::join!(ask(shared, pools, &copy, &copy.mirror.to), compared);
    series.ended(match answer.map(|answer| answer.status) {
        Some(500..) => MirrorOutcome::Error,
        Some(_) => MirrorOutcome::Answered,
        None => MirrorOutcome::Failed,
    });
    if let Some(compared) = compared {
        series.compared(&copy.route, compare(compared, answer));
    }
}

/// The response of the version `to` to a copy, if it comes in time.
async fn ask(shared: &Shared, pools: &Pools, copy: &MirroredRequest, to: &Name) -> Option<Answer> {
    let target = target(&shared.current.load(), copy, to)?;
    tokio::select! {
        answered = timeout(copy.mirror.timeout, exchange(pools, &target, copy, to)) => answered.ok()?.ok(),
        () = cut(&shared.notifier, &target.ticket) => None,
    }
}

/// An endpoint of the version `to` that takes requests.
fn target(snapshot: &Snapshot, copy: &MirroredRequest, to: &Name) -> Option<Target> {
    let service: &Service = snapshot.service(&copy.mirror.service)?;
    let version: &Version = service.versions.iter().find(|version| version.name == *to)?;
    // No client depends on it: where clients would be sent to what is not wanted rather than refused, a copy ends.
    let tried = Tried::default();
    if !version.has_ready(&tried) {
        return None;
    }
    let endpoint: &Endpoint = version.endpoints.get(version.pick(&tried, None)?)?;
    Some(Target {
        key: PoolKey::of(endpoint),
        // The places are for those whom clients wait for; `max_in_flight` limits these connections.
        to: Destination::of(endpoint, &service.timeouts).without_limit(),
        http2: endpoint.upstream.http2,
        tls: endpoint.upstream.tls.is_some(),
        ticket: endpoint.live.ledger.enter(),
    })
}

/// Sends a copy to a version and reads its response.
async fn exchange(pools: &Pools, target: &Target, copy: &MirroredRequest, to: &Name) -> Result<Answer, NotAnswered> {
    let compared = copy.mirror.compare.as_deref().unwrap_or_default();
    let mut room = vec![httparse::EMPTY_HEADER; CopiedHead::most_fields(&copy.head)];
    let head = CopiedHead::of(copy, to, &mut room).ok_or(NotAnswered)?;
    if target.http2 {
        return http2::exchange(pools, target, &head, &copy.body, compared).await;
    }
    let request = head.http1(&copy.body);
    let mut fresh = false;
    loop {
        let reused = if fresh { None } else { pools.http1.checkout(target.key, Instant::now()) };
        let is_reused = reused.is_some();
        let connection = match reused {
            Some(connection) => connection,
            None => http1::connect(pools, target).await?,
        };
        match http1::exchange(pools, target, connection, (&request, head.is_for_head()), compared).await {
            // An idle connection whose endpoint closed it.
            Err(http1::Broken { begun: false }) if is_reused && head.is_idempotent() => fresh = true,
            Err(_) => return Err(NotAnswered),
            Ok(answer) => return Ok(answer),
        }
    }
}

/// Waits until a drain's deadline ends what the endpoint has.
async fn cut(notifier: &Notifier, ticket: &Ticket) {
    let mut notified = notifier.subscribe();
    while !ticket.is_due() {
        if notified.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}
