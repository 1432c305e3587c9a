//! What the file says of health → policies.

use crate::config::OutlierDetection;
use crate::health::outlier::{OutlierPolicy, SuccessRate};

/// What takes a service's endpoints out.
pub(super) fn outliers(file: &OutlierDetection) -> OutlierPolicy {
    OutlierPolicy {
        consecutive_errors: file.consecutive_errors,
        interval: file.interval.get(),
        ejection_time: file.ejection_time.get(),
        max_ejection_time: file.max_ejection_time.get(),
        max_ejected: percent(file.max_ejected),
        success_rate: (file.success_rate_deviations > 0.0).then(|| SuccessRate {
            deviations: file.success_rate_deviations,
            min_endpoints: usize::try_from(file.success_rate_endpoints).unwrap_or(usize::MAX),
            min_requests: file.success_rate_requests.into(),
        }),
        connect_failures: file.connect_failures,
    }
}

/// A percentage of the file.
pub(super) fn percent(of_file: u32) -> u8 {
    u8::try_from(of_file).unwrap_or(100)
}
