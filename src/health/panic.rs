//! What a version does whose endpoints are mostly out: panic, as Envoy calls it.
//!
//! Where few endpoints are left, they get the requests of all, and fall too. So below a share of available ones health is
//! ignored: requests go to all endpoints that are wanted. Those that accept no connections are left out as long as there
//! are others, for nobody can be served there.

/// The endpoints of a version that are wanted, and which of them are in what health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Those that are wanted: their state is `ready`.
    pub(crate) ready: usize,
    /// Those of them that accept connections, as far as is known.
    pub(crate) reachable: usize,
    /// Those of them that are healthy.
    pub(crate) available: usize,
}

/// Whose health is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Panic {
    /// Nobody's.
    #[default]
    Calm = 0,
    /// That of endpoints that accept connections.
    Reachable = 1,
    /// Everybody's.
    All = 2,
}

/// What a version in this `standing` does below a `threshold` of available endpoints, in percent; 0 for never.
#[must_use]
pub(crate) fn panic(standing: Standing, threshold: u8) -> Panic {
    let Standing { ready, reachable, available } = standing;
    match available * 100 < ready * usize::from(threshold) {
        false => Panic::Calm,
        true if reachable > 0 => Panic::Reachable,
        true => Panic::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(ready: usize, reachable: usize, available: usize) -> Standing {
        Standing { ready, reachable, available }
    }

    #[test]
    fn below_the_threshold_health_is_ignored() {
        for (ready, reachable, available, threshold, expected) in [
            (4, 4, 1, 25, Panic::Calm),
            (5, 5, 1, 25, Panic::Reachable),
            (5, 1, 1, 25, Panic::Reachable),
            (3, 0, 0, 25, Panic::All),
            (3, 3, 0, 0, Panic::Calm),
            (0, 0, 0, 25, Panic::Calm),
            (2, 2, 1, 100, Panic::Reachable),
            (2, 2, 2, 100, Panic::Calm),
        ] {
            assert_eq!(panic(standing(ready, reachable, available), threshold), expected, "{ready} {available}");
        }
    }
}
