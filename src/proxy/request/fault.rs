//! Fault injection: delays and errors that a drill puts before a version's endpoints, in every lane.

use super::context::RequestProgress;
use super::failure::INJECTED_FAULT;
use crate::snapshot::Version;
use crate::snapshot::live::Fault;
use crate::telemetry::{InjectedFault, VersionSeries};
use crate::traffic::Refusal;

/// The fault of a request that begins now, if it gets one. The caller waits as long as that says, and
/// then calls [`end`].
pub(crate) fn begin(version: &Version, progress: &mut RequestProgress) -> Option<Fault> {
    let fault = version.faults.as_deref()?.fault(std::time::Instant::now());
    let fault = fault.filter(|fault| fault.fails || !fault.delay.is_zero())?;
    progress.cause = Some(INJECTED_FAULT.cause);
    if !fault.delay.is_zero() {
        version.series.fault_injected(InjectedFault::Delay);
    }
    Some(fault)
}

/// The local response to a request that has waited, if it is to fail.
pub(crate) fn end(fault: Fault, series: &VersionSeries) -> Option<Refusal> {
    if !fault.fails {
        return None;
    }
    series.fault_injected(InjectedFault::Error);
    Some(INJECTED_FAULT)
}
