//! What is known of the stable version from before the requests that are judged, for one question.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clients::ClientEffect;
use super::dispersion::Dispersion;
use super::question::Question;
use super::sample::Tally;

/// What stable usually does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredPast", into = "StoredPast")]
pub(crate) struct Past {
    /// Its requests of the last hour.
    pub(crate) tally: Tally,
    /// How they came.
    pub(crate) dispersion: Dispersion,
    /// In which time they came.
    pub(crate) covered: Duration,
    /// The highest share of a minute of it.
    pub(crate) worst_minute: f64,
}

/// Where the judge learns what stable usually does: from the blocks that were kept of it, or from a history.
pub(crate) trait StablePast {
    /// All that is known for `question`.
    fn past(&self, question: Question) -> Past;

    /// How its requests with the property `question` came.
    fn dispersion(&self, question: Question) -> Dispersion {
        self.past(question).dispersion
    }
}

/// As it is in each line of the history, so it is short: requests, bad ones, seconds, correlations in short and in long
/// blocks, worst minute, and what is known of clients.
#[derive(Serialize, Deserialize)]
struct StoredPast(u64, u64, u64, f64, f64, f64, #[serde(default)] ClientEffect);

impl From<Past> for StoredPast {
    fn from(past: Past) -> Self {
        let Dispersion { short, long, clients } = past.dispersion;
        let [short, long, worst] = [short, long, past.worst_minute].map(|share| (share * 1e9).round() / 1e9);
        Self(past.tally.requests, past.tally.bad, past.covered.as_secs(), short, long, worst, clients)
    }
}

impl From<StoredPast> for Past {
    fn from(StoredPast(requests, bad, seconds, short, long, worst, clients): StoredPast) -> Self {
        let share = |share: f64| share.clamp(0.0, 1.0);
        let requests = requests.min(MOST);
        Self {
            tally: Tally { requests, bad: bad.min(requests) },
            dispersion: Dispersion { short: share(short), long: share(long), clients },
            covered: Duration::from_secs(seconds.min(3_600)),
            worst_minute: share(worst),
        }
    }
}

/// More than any version has in an hour.
const MOST: u64 = 1_000_000_000_000;
