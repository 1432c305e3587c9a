//! The engine's values as labels of metrics and words of the API.

use crate::rollout::engine::{By, WaitingFor, What};

/// Who decided, and the operator's name if it was one. The label is of a closed set; the name is not.
#[must_use]
pub(crate) fn by(by: &By) -> (&'static str, Option<&str>) {
    match by {
        By::Judge => ("judge", None),
        By::TripWire => ("trip_wire", None),
        By::Hook => ("hook", None),
        By::File => ("file", None),
        By::Restart => ("restart", None),
        By::Operator(name) => ("person", Some(name)),
    }
}

/// What kind of thing happened.
#[must_use]
pub(crate) const fn what(what: What) -> &'static str {
    match what {
        What::Served => "served",
        What::Started => "started",
        What::NotTried => "not_tried",
        What::Analyzed => "looked",
        What::Stepped => "stepped",
        What::Held => "held",
        What::Waited => "waited",
        What::Answered => "answered",
        What::Commanded => "commanded",
        What::Moved => "moved",
        What::Promoted => "promoted",
        What::WentBack => "went_back",
        What::Paused => "paused",
        What::Changed => "changed",
        What::Restored => "restored",
    }
}

/// What is waited for.
#[must_use]
pub(crate) const fn waiting(waiting: WaitingFor) -> &'static str {
    match waiting {
        WaitingFor::Health => "health",
        WaitingFor::Gate => "gate",
        WaitingFor::Hook(_) => "hook",
    }
}
