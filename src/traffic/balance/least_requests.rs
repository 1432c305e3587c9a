//! Two endpoints at random, the one with less in flight.
//!
//! Mitzenmacher, *The power of two choices in randomized load balancing*, IEEE TPDS 12, 2001: nearly as even as looking
//! at all of them, and no herd runs to the one that happens to be idle.

/// How often a number is drawn again because the endpoint is not open, before open ones are counted.
const DRAWS: usize = 4;

/// An open endpoint of `count`: of two drawn at random, the one with the smaller load.
pub(super) fn pick(
    count: usize,
    is_open: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> u64,
    random: impl Fn() -> u64,
) -> Option<usize> {
    if count == 1 {
        return is_open(0).then_some(0);
    }
    let first = draw(count, &is_open, &random)?;
    let second = draw(count, &is_open, &random)?;
    Some(if load(second) < load(first) { second } else { first })
}

/// Any open endpoint, each with the same probability.
fn draw(count: usize, is_open: &impl Fn(usize) -> bool, random: &impl Fn() -> u64) -> Option<usize> {
    for _ in 0..DRAWS {
        let at = below(count, random)?;
        if is_open(at) {
            return Some(at);
        }
    }
    draw_counted(count, is_open, random)
}

/// Draws where few endpoints are open: counts them first.
#[cold]
fn draw_counted(count: usize, is_open: &impl Fn(usize) -> bool, random: &impl Fn() -> u64) -> Option<usize> {
    let open = (0..count).filter(|at| is_open(*at)).count();
    let nth = below(open, random)?;
    (0..count).filter(|at| is_open(*at)).nth(nth)
}

/// A random number below `count`; none below 0.
fn below(count: usize, random: &impl Fn() -> u64) -> Option<usize> {
    usize::try_from(random().checked_rem(u64::try_from(count).ok()?)?).ok()
}
