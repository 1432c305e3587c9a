//! The weights of endpoints: which one a random number falls on.
//!
//! Where weights differ, a number is drawn by Walker's alias method, with the tables of Vose (*A linear algorithm for
//! generating random numbers with a given distribution*, IEEE TSE 17, 1991): two numbers and one look into the table,
//! however many endpoints there are. In integers, so that the shares are exact.

/// Weights, at least 1 each.
#[derive(Debug)]
pub(super) struct Weights {
    all: Box<[u32]>,
    /// None where all weights are alike.
    alias: Option<Alias>,
}

/// For each endpoint, below what it is drawn itself, and who is drawn otherwise.
#[derive(Debug)]
struct Alias {
    slots: Box<[(u64, usize)]>,
    /// The sum of the weights, which thresholds are parts of.
    total: u64,
}

impl Weights {
    /// These weights; 0 counts as 1.
    pub(super) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let all: Box<[u32]> = weights.map(|weight| weight.max(1)).collect();
        let alike = all.windows(2).all(|pair| pair.first() == pair.last());
        let alias = if alike { None } else { Some(Alias::new(&all)) };
        Self { all, alias }
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.all.len()
    }

    /// All weights.
    pub(super) const fn all(&self) -> &[u32] {
        &self.all
    }

    /// Whether all weights are alike.
    pub(super) const fn are_alike(&self) -> bool {
        self.alias.is_none()
    }

    /// The weight of an endpoint, as it compares with those of the others.
    #[inline]
    pub(super) fn of(&self, at: usize) -> u64 {
        match self.alias {
            None => 1,
            Some(_) => self.all.get(at).copied().unwrap_or(1).into(),
        }
    }

    /// An endpoint, each as often as its weight says. None without endpoints.
    #[inline]
    pub(super) fn draw(&self, random: &impl Fn() -> u64) -> Option<usize> {
        let at = below(self.all.len() as u64, random).and_then(|at| usize::try_from(at).ok())?;
        let Some(Alias { slots, total }) = &self.alias else { return Some(at) };
        let (own, other) = slots.get(at)?;
        if below(*total, random)? < *own { Some(at) } else { Some(*other) }
    }
}

impl Alias {
    fn new(weights: &[u32]) -> Self {
        let count = weights.len() as u64;
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        // What is left of each weight, in parts of which each slot has room for `total`.
        let mut slots: Vec<(u64, usize)> =
            weights.iter().enumerate().map(|(at, weight)| (u64::from(*weight) * count, at)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            slots.iter().map(|(_, at)| *at).partition(|at| slots.get(*at).is_some_and(|(left, _)| *left < total));
        while let (Some(few), Some(many)) = (small.pop(), large.last().copied()) {
            let missing = slots.get(few).map_or(0, |(left, _)| total.saturating_sub(*left));
            if let Some((_, other)) = slots.get_mut(few) {
                *other = many;
            }
            let Some((left, _)) = slots.get_mut(many) else { break };
            *left = left.saturating_sub(missing);
            if *left < total {
                large.pop();
                small.push(many);
            }
        }
        Self { slots: slots.into(), total }
    }
}

/// A random number below `count`; none below 0.
pub(super) fn below(count: u64, random: &impl Fn() -> u64) -> Option<u64> {
    random().checked_rem(count)
}
