//! A compiled mirror: which requests of a service are copied, and what the copies are.

use std::sync::Arc;
use std::time::Duration;

use super::live::MirrorLive;
use crate::model::{Name, Weight};

/// Which requests of a service are copied, and for which version.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// The service's name.
    pub(crate) service: Name,
    /// The version that gets the copies.
    pub(crate) to: Name,
    /// Its index in the service.
    pub(crate) to_at: usize,
    /// The index of the version whose requests are copied; none for every other one.
    pub(crate) from: Option<usize>,
    /// The share of them that is copied.
    pub(crate) share: Weight,
    /// Their methods.
    pub(crate) methods: Vec<Box<str>>,
    /// Fields that copies do not have, in lower case.
    pub(crate) strip: Vec<Box<str>>,
    /// Headers by which responses are compared, in lower case; none if nothing is compared.
    pub(crate) compare: Option<Vec<Box<str>>>,
    /// The largest body that is copied.
    pub(crate) max_body: usize,
    /// Copies under way at once.
    pub(crate) max_in_flight: u64,
    /// How long a copy may take.
    pub(crate) timeout: Duration,
    /// What outlives this snapshot.
    pub(crate) live: Arc<MirrorLive>,
}

impl Mirror {
    /// Whether a request with this method to the version of this index is copied. Asked once for each.
    #[must_use]
    pub(crate) fn takes(&self, version: usize, method: &str) -> bool {
        version != self.to_at
            && self.from.is_none_or(|from| from == version)
            && self.methods.iter().any(|known| **known == *method)
            && self.live.is_next(self.share)
    }
}
