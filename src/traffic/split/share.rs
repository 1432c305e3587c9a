//! Versions and their shares, and how shares are scaled where some versions take no requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::{Name, Split, Weight};

/// One version, as the choice needs it.
#[derive(Clone, Debug)]
pub struct VersionShare {
    /// Its name.
    pub name: Name,
    /// Its share by the file or a shift.
    pub weight: Weight,
    /// Whether it takes requests at first: by its state, and because an endpoint of it is ready.
    pub available: bool,
    /// What takes it out at once, if it has a breaker.
    pub breaker: Option<BreakerFlag>,
}

/// The breaker of one version: whether the version is out, known to all threads at once.
#[derive(Clone, Debug)]
pub struct BreakerFlag {
    /// Up while the version is to get nothing.
    pub(crate) tripped: Arc<AtomicBool>,
    /// Who gets everything where no other version that takes requests has a weight.
    pub(crate) stable: Name,
}

impl VersionShare {
    /// Whether its breaker tripped.
    pub(super) fn is_tripped(&self) -> bool {
        self.breaker.as_ref().is_some_and(|breaker| breaker.tripped.load(Ordering::Acquire))
    }

    fn available_basis_points(&self) -> u32 {
        if self.available { u32::from(self.weight.basis_points()) } else { 0 }
    }
}

/// The split of `versions` with these weights. Weights that do not sum to 100 % give the first version everything.
pub(super) fn split(versions: &[VersionShare], weights: &[Weight]) -> Split {
    let named = versions.iter().map(|version| version.name.clone());
    Split::new(named.clone().zip(weights.iter().copied()).collect()).unwrap_or_else(|_| {
        let all_to_first = std::iter::once(Weight::FULL).chain(std::iter::repeat(Weight::ZERO));
        Split::new(named.zip(all_to_first).collect()).unwrap_or_else(|_| Split::all_to(Name::from("none")))
    })
}

/// The weights of the available versions, scaled to sum to 100 %: largest remainder, first version first.
pub(super) fn among_available(versions: &[VersionShare]) -> Vec<Weight> {
    let sum: u32 = versions.iter().map(VersionShare::available_basis_points).sum();
    if sum == 0 {
        return vec![Weight::ZERO; versions.len()];
    }
    let full = u32::from(Weight::FULL.basis_points());
    let parts = versions.iter().map(|version| version.available_basis_points() * full);
    let mut scaled: Vec<(u32, u32)> = parts.map(|part| (part / sum, part % sum)).collect();
    let mut missing = full - scaled.iter().map(|(share, _)| share).sum::<u32>();
    while missing > 0 {
        let most = scaled.iter().map(|(_, rest)| *rest).max().unwrap_or_default();
        let Some(one) = scaled.iter_mut().find(|(_, rest)| *rest == most) else { break };
        *one = (one.0 + 1, 0);
        missing -= 1;
    }
    scaled
        .into_iter()
        .map(|(share, _)| u16::try_from(share).ok().and_then(Weight::from_basis_points).unwrap_or_default())
        .collect()
}
