//! Drills: what a version's requests go through before an endpoint is asked, in both lanes.

use super::failure::DRILL;
use crate::snapshot::live::{Fault, FaultInjection};
use crate::telemetry::{InjectedFault, VersionSeries};
use crate::traffic::Refusal;

/// What a drill does to a request that begins now, if it does anything. The caller waits as long as that says, and
/// then calls [`end`].
pub(crate) fn begin(drill: &FaultInjection, series: &VersionSeries) -> Option<Fault> {
    let fault = drill.fault(std::time::Instant::now()).filter(|fault| fault.fails || !fault.delay.is_zero())?;
    if !fault.delay.is_zero() {
        series.fault_injected(InjectedFault::Delay);
    }
    Some(fault)
}

/// The answer to a request that has waited, if it is to fail.
pub(crate) fn end(fault: Fault, series: &VersionSeries) -> Option<Refusal> {
    if !fault.fails {
        return None;
    }
    series.fault_injected(InjectedFault::Error);
    Some(DRILL)
}
