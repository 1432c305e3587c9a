//! A request's permit to be in flight in its version, where that is limited.

use tokio::time::Instant;

use super::failure::OVERFLOW;
use crate::snapshot::Version;
use crate::snapshot::live::Permit;
use crate::traffic::Refusal;

/// The permit of a request that must be over by `deadline`, which is waited for as long as it may be; none where nothing is
/// limited.
///
/// # Errors
/// What to answer if there is none.
pub(crate) async fn take(version: &Version, deadline: Option<Instant>) -> Result<Option<Permit>, Refusal> {
    let Some(limit) = &version.limit else { return Ok(None) };
    let permit = limit.enter(deadline).await.map_err(|_| {
        OVERFLOW.charge(&version.series);
        OVERFLOW.refusal
    })?;
    Ok(Some(permit))
}
