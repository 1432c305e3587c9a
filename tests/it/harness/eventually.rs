//! Waiting: for a condition that becomes true, or for a future that ends. Both are bounded by one knob.
//!
//! A story never sleeps for a guessed time. It states what shall become true; a slow machine only makes it wait
//! longer, and a condition that never holds fails with the last state that was seen.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// How long a story waits for anything: `WEIR_TEST_PATIENCE` in seconds, 20 without it.
pub(crate) fn patience() -> Duration {
    const DEFAULT: f64 = 20.0;
    let seconds = std::env::var("WEIR_TEST_PATIENCE").ok().and_then(|text| text.parse::<f64>().ok());
    Duration::try_from_secs_f64(seconds.unwrap_or(DEFAULT)).expect("WEIR_TEST_PATIENCE is a number of seconds")
}

/// What a probe of [`eventually`] saw: the thing waited for, or the state that was found instead.
pub(crate) trait Seen {
    /// The thing waited for.
    type Found;
    /// The thing, or a description of the present state.
    fn judge(self) -> Result<Self::Found, String>;
}

impl Seen for bool {
    type Found = ();
    fn judge(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".into()) }
    }
}

impl<T> Seen for Option<T> {
    type Found = T;
    fn judge(self) -> Result<T, String> {
        self.ok_or_else(|| "none".into())
    }
}

impl<T, E: Debug> Seen for Result<T, E> {
    type Found = T;
    fn judge(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// Probes until the condition holds and gives back what was found; panics with `what` and the last state seen when
/// patience ends.
///
/// The probe answers with a `bool`, an `Option`, or a `Result` whose error is the state to print.
pub(crate) async fn eventually<S: Seen, F: Future<Output = S>>(what: &str, mut probe: impl FnMut() -> F) -> S::Found {
    let patience = patience();
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut last = "nothing: the first probe has not answered".to_owned();
    loop {
        let left = patience.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, probe()).await.map(S::judge) {
            Ok(Ok(found)) => return found,
            Ok(Err(state)) => last = state,
            Err(_) => {}
        }
        let left = patience.saturating_sub(start.elapsed());
        assert!(left > Duration::ZERO, "{what}: not so after {patience:?}; last seen: {last}");
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// The outcome of `future`; panics with `what` when patience ends first.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let patience = patience();
    tokio::time::timeout(patience, future).await.unwrap_or_else(|_| panic!("{what}: nothing after {patience:?}"))
}
