//! What the file says of health → policies.

use crate::config::{self, HostHeader, OutlierDetection, StartHealth};
use crate::health::check::Thresholds;
use crate::health::outlier::{OutlierPolicy, SuccessRate};
use crate::snapshot::{CheckKind, HealthCheck};

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

/// How endpoints are checked that get requests with this `Host`.
pub(super) fn check(file: &config::HealthCheck, host: &HostHeader) -> HealthCheck {
    let of_requests = match host {
        HostHeader::Preserve => None,
        HostHeader::Fixed(host) => Some(host.as_str()),
    };
    let kind = match (&file.http, &file.grpc) {
        (Some(http), _) => CheckKind::Http {
            target: http.path.as_str().into(),
            statuses: http.status.iter().map(|range| range.first..=range.last).collect(),
        },
        (None, Some(grpc)) => CheckKind::Grpc { service: grpc.service.as_deref().unwrap_or_default().into() },
        (None, None) => CheckKind::Tcp,
    };
    HealthCheck {
        kind,
        host: file.http.as_ref().and_then(|http| http.host.as_deref()).or(of_requests).map(Into::into),
        port: file.port,
        interval: file.interval.get(),
        timeout: file.timeout.get(),
        thresholds: Thresholds { unhealthy_after: file.unhealthy_after, healthy_after: file.healthy_after },
        starts_unhealthy: file.start == StartHealth::Unhealthy,
    }
}

/// A percentage of the file.
pub(super) fn percent(of_file: u32) -> u8 {
    u8::try_from(of_file).unwrap_or(100)
}
