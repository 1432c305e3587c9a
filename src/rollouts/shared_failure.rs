//! Whether what fails is more than one service: then the version that has all traffic is hardly to blame.

use std::time::{Duration, Instant};

use super::view::View;
use crate::model::Name;
use crate::telemetry::Class;

/// How far back is looked.
const SPAN: Duration = Duration::from_secs(10);
/// A service with fewer requests in that time says nothing.
const MIN_REQUESTS: u64 = 20;
/// A service with so many errors fails, in percent.
const FAILING: u64 = 5;

/// What the services beside `service` show, in words, if at least half of those with traffic fail now.
pub(super) fn shared_failure(service: &Name, view: &View<'_>, now: Instant) -> Option<String> {
    let (mut asked, mut failing) = (0_u32, 0_u32);
    for (other, file) in view.config.services.iter().filter(|(other, _)| *other != service) {
        let (mut requests, mut errors) = (0, 0);
        for version in file.versions.names() {
            let seen = view.recorder.version(other, version).window(SPAN, now);
            requests += seen.requests();
            errors += seen.of_class(Class::ServerError);
        }
        if requests >= MIN_REQUESTS {
            asked += 1;
            failing += u32::from(errors * 100 >= requests * FAILING);
        }
    }
    (failing > 0 && failing * 2 >= asked).then(|| match (failing, asked) {
        (1, 1) => "the other service with traffic fails as well".to_owned(),
        _ => format!("{failing} of {asked} other services with traffic fail as well"),
    })
}
