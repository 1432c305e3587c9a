//! A modest load: a few kept connections, each asking once in a while, and every answer counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::origin;

/// Requests a second, all workers together.
pub(super) const RATE: u32 = 50;
/// Connections that are kept.
const WORKERS: u32 = 5;
/// How long an answer may take before it counts as failed.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Before another try to connect.
const PAUSE: Duration = Duration::from_millis(200);
/// How far back the recent shares look.
const RECENT: Duration = Duration::from_secs(5);
/// Answers that are remembered for them: twice what comes in that time.
const REMEMBERED: usize = 500;
/// The largest answer that is read.
const ANSWER: usize = 64 * 1024;

/// What was asked and answered.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Locked for a moment by each answer and each redraw, all on one thread.
    counts: Mutex<LoadCounts>,
}

#[derive(Debug, Default)]
struct LoadCounts {
    answered: u64,
    errors: u64,
    failed: u64,
    /// When an answer came, and from which version.
    recent: VecDeque<(Instant, String)>,
}

impl Load {
    /// Starts asking `authority`; it ends when what this returns is dropped.
    #[must_use]
    pub(super) fn start(self: &Arc<Self>, authority: &str) -> JoinSet<()> {
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let every = Duration::from_secs(1) * WORKERS / RATE;
            workers.spawn(Arc::clone(self).work(authority.to_owned(), every * worker / WORKERS, every));
        }
        workers
    }

    /// Requests that were answered, those of them that were answered with an error, and those that were not.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        self.with(|counts| (counts.answered, counts.errors, counts.failed))
    }

    /// The percentages of the versions among the answers of the last seconds.
    pub(super) fn recent(&self) -> BTreeMap<String, f64> {
        let now = Instant::now();
        let mut found: BTreeMap<String, u32> = BTreeMap::new();
        self.with(|counts| {
            let recent = counts.recent.iter().filter(|(at, _)| now.saturating_duration_since(*at) <= RECENT);
            recent.for_each(|(_, version)| *found.entry(version.clone()).or_default() += 1);
        });
        let all: u32 = found.values().sum();
        found.into_iter().map(|(version, count)| (version, f64::from(count) * 100.0 / f64::from(all))).collect()
    }

    async fn work(self: Arc<Self>, authority: String, offset: Duration, every: Duration) {
        sleep(offset).await;
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kept: Option<SendRequest<Empty<Bytes>>> = None;
        loop {
            ticks.tick().await;
            let connection = match kept.take().filter(|connection| !connection.is_closed()) {
                Some(connection) => Some(connection),
                None => connect(&authority).await,
            };
            let Some(mut connection) = connection else {
                self.count(None);
                sleep(PAUSE).await;
                continue;
            };
            let answer = timeout(RESPONSE_TIMEOUT, ask(&mut connection, &authority)).await.ok().flatten();
            if answer.is_some() {
                kept = Some(connection);
            }
            self.count(answer);
        }
    }

    /// Counts one answer, with its version and whether it was good, or the lack of one.
    fn count(&self, answer: Option<(String, bool)>) {
        self.with(|counts| match answer {
            None => counts.failed += 1,
            Some((version, good)) => {
                counts.answered += 1;
                counts.errors += u64::from(!good);
                if counts.recent.len() == REMEMBERED {
                    counts.recent.pop_front();
                }
                counts.recent.push_back((Instant::now(), version));
            }
        });
    }

    fn with<T>(&self, look: impl FnOnce(&mut LoadCounts) -> T) -> T {
        look(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn connect(authority: &str) -> Option<SendRequest<Empty<Bytes>>> {
    let socket = timeout(RESPONSE_TIMEOUT, TcpStream::connect(authority)).await.ok()?.ok()?;
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// Which version answered, and whether well, if one did properly.
async fn ask(connection: &mut SendRequest<Empty<Bytes>>, authority: &str) -> Option<(String, bool)> {
    connection.ready().await.ok()?;
    let request = Request::get("/").header(header::HOST, authority).body(Empty::new()).ok()?;
    let response = connection.send_request(request).await.ok()?;
    let (head, body) = response.into_parts();
    Limited::new(body, ANSWER).collect().await.ok()?;
    let version = head.headers.get(origin::VERSION)?.to_str().ok()?;
    Some((version.to_owned(), head.status.is_success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_request_is_counted_by_its_version() {
        let character = origin::Character { version: "v1", delay: Duration::ZERO, fails: 10 };
        let port = origin::start(character).await.unwrap();
        let load = Arc::new(Load::default());
        let workers = load.start(&format!("127.0.0.1:{port}"));
        while load.totals().0 < 20 {
            tokio::task::yield_now().await;
        }
        drop(workers);
        let (answered, errors, failed) = load.totals();
        assert!(errors >= answered / 10 && errors <= answered / 10 + 1, "{errors} of {answered}");
        assert_eq!((failed, load.recent()), (0, BTreeMap::from([("v1".to_owned(), 100.0)])));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let load = Load::default();
        for _ in 0..REMEMBERED * 3 {
            load.count(Some(("v2".to_owned(), true)));
        }
        load.count(None);
        assert_eq!(load.with(|counts| counts.recent.len()), REMEMBERED);
        assert_eq!(load.totals(), (1_500, 0, 1));
    }
}
