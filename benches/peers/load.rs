//! The loads: a closed loop (each client asks again when it has its answer) and an open loop (requests fall due at a
//! fixed rate whatever happens, and their latency counts from then).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::Failure;
use crate::client::Client;

/// Beyond the planned time, for the last answers.
const GRACE: Duration = Duration::from_secs(10);
/// Requests that are due and wait for a client; more than this is a rate that the contender cannot carry.
const DUE_LIMIT: usize = 100_000;

/// A closed loop that runs until it is told to stop.
pub(crate) struct Closed {
    stop: Rc<Cell<bool>>,
    clients: JoinSet<Result<(), Failure>>,
}

impl Closed {
    pub(crate) fn start(clients: Vec<Client>) -> Self {
        let stop = Rc::new(Cell::new(false));
        let mut set = JoinSet::new();
        for mut client in clients {
            let stop = Rc::clone(&stop);
            set.spawn_local(async move {
                while !stop.get() {
                    client.exchange().await?;
                }
                Ok(())
            });
        }
        Self { stop, clients: set }
    }

    /// Lets the requests in flight end; the first failure of any client is the answer.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        self.stop.set(true);
        all(self.clients, GRACE).await
    }
}

async fn all(mut set: JoinSet<Result<(), Failure>>, within: Duration) -> Result<(), Failure> {
    let joined = async {
        while let Some(ended) = set.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    };
    tokio::time::timeout(within, joined).await.map_err(|_late| "requests that never end".to_owned())?
}

/// What falls due.
struct Due {
    times: RefCell<VecDeque<Instant>>,
    more: Notify,
    over: Cell<bool>,
}

/// Sends at `rate` a second for `lasting` and returns the latencies, sorted. The first `warm` are not counted.
pub(crate) async fn open(
    clients: Vec<Client>,
    rate: f64,
    warm: Duration,
    lasting: Duration,
) -> Result<Latencies, Failure> {
    let due = Rc::new(Due { times: RefCell::default(), more: Notify::new(), over: Cell::new(false) });
    let latencies = Rc::new(RefCell::new(Vec::with_capacity((rate * lasting.as_secs_f64()) as usize + 1)));
    let begin = Instant::now();
    let mut set = JoinSet::new();
    for mut client in clients {
        let (due, latencies) = (Rc::clone(&due), Rc::clone(&latencies));
        set.spawn_local(async move {
            loop {
                let next = due.times.borrow_mut().pop_front();
                if let Some(intended) = next {
                    client.exchange().await?;
                    if intended.duration_since(begin) >= warm {
                        latencies.borrow_mut().push(intended.elapsed());
                    }
                } else if due.over.get() {
                    return Ok(());
                } else {
                    due.more.notified().await;
                }
            }
        });
    }
    let paced = pace(&due, rate, begin, warm + lasting);
    set.spawn_local(paced);
    all(set, warm + lasting + GRACE).await?;
    let mut sorted = latencies.take();
    sorted.sort_unstable();
    Ok(Latencies { sorted })
}

/// Makes requests due. The runtime's timers are good to a millisecond; the kernel's are to a few microseconds.
fn pace(
    due: &Rc<Due>,
    rate: f64,
    begin: Instant,
    lasting: Duration,
) -> impl Future<Output = Result<(), Failure>> + use<> {
    let due = Rc::clone(due);
    async move {
        let failed = |error: rustix::io::Errno| format!("timer: {error}");
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(failed)?;
        let gap = Timespec { tv_sec: (1.0 / rate) as i64, tv_nsec: ((1.0 / rate).fract() * 1e9) as i64 + 1 };
        let spec = Itimerspec { it_interval: gap, it_value: gap };
        rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec).map_err(failed)?;
        #[expect(deprecated, reason = "only for types whose descriptor may change; a timer keeps its own")]
        let timer = AsyncFd::new(timer).map_err(|error| error.to_string())?;
        let mut sent = 0_u64;
        loop {
            let mut ready = timer.readable().await.map_err(|error| error.to_string())?;
            let mut expirations = [0_u8; 8];
            let _count = rustix::io::read(timer.get_ref(), &mut expirations);
            ready.clear_ready();
            let past = begin.elapsed();
            if past >= lasting {
                due.over.set(true);
                // One wake-up each is kept for a client that is not waiting now; the waiting ones all wake.
                due.more.notify_waiters();
                return Ok(());
            }
            let mut times = due.times.borrow_mut();
            while sent as f64 <= past.as_secs_f64() * rate {
                times.push_back(begin + Duration::from_secs_f64(sent as f64 / rate));
                sent += 1;
                due.more.notify_one();
            }
            if times.len() > DUE_LIMIT {
                return Err(format!("{rate:.0} requests a second are too many"));
            }
        }
    }
}

/// Of an open loop.
pub(crate) struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    /// In microseconds, by nearest rank.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let at = ((self.sorted.len() as f64 * quantile).ceil() as usize).saturating_sub(1);
        self.sorted.get(at).map(|latency| latency.as_secs_f64() * 1e6)
    }
}
