//! Fault injection: delays and errors that a drill puts before a version's endpoints, in every lane.

use super::failure::INJECTED_FAULT;
use crate::snapshot::live::{Fault, FaultInjection};
use crate::telemetry::{InjectedFault, VersionSeries};
use crate::traffic::Refusal;

/// The fault of a request that begins now, if it gets one. The caller waits as long as that says, and
/// then calls [`end`].
pub(crate) fn begin(injection: &FaultInjection, series: &VersionSeries) -> Option<Fault> {
    let fault = injection.fault(std::time::Instant::now()).filter(|fault| fault.fails || !fault.delay.is_zero())?;
    if !fault.delay.is_zero() {
        series.fault_injected(InjectedFault::Delay);
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
