//! The tail of a binomial distribution: how likely so many bad ones among so many are, where a share of all is bad.
//!
//! P(X ≥ k) of n trials with chance p is the regularised incomplete beta function Iₚ(k, n − k + 1) (Abramowitz and Stegun
//! 6.6.4), which is defined between whole numbers too. It is computed by its continued fraction (DLMF 8.17.22) after
//! Lentz, and ln Γ by Lanczos' series (SIAM J. Numer. Anal. B 1, 1964).

/// P(X ≥ `bad`) of `trials` trials with the chance `chance`. Counts need not be whole.
///
/// Not above 0 bad ones: 1. More than all: 0. A chance of nothing: 0 for any bad one.
pub(crate) fn upper_tail(bad: f64, trials: f64, chance: f64) -> f64 {
    if bad <= 0.0 || chance >= 1.0 {
        return 1.0;
    }
    if chance <= 0.0 || bad > trials {
        return 0.0;
    }
    incomplete_beta(chance, bad, trials - bad + 1.0)
}

/// The shares of which `share` of so many `trials` is hardly another one: not farther away than so many standard errors
/// (Wilson's interval, J. Am. Stat. Assoc. 22, 1927). Fewer than one trial count as one.
pub(crate) fn bounds(share: f64, trials: f64, standard_errors: f64) -> (f64, f64) {
    let square = standard_errors * standard_errors / trials.max(1.0);
    let middle = share + square / 2.0;
    let spread = (square * (share * (1.0 - share) + square / 4.0)).sqrt();
    ((middle - spread) / (1.0 + square), (middle + spread) / (1.0 + square))
}

/// Iₓ(a, b), for 0 < x < 1 and positive a and b.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    // The fraction converges fast on this side of the mean only; on the other it is that of the complement.
    if x < (a + 1.0) / (a + b + 2.0) {
        (front * fraction(x, a, b) / a).clamp(0.0, 1.0)
    } else {
        (1.0 - front * fraction(1.0 - x, b, a) / b).clamp(0.0, 1.0)
    }
}

/// Terms of the fraction, at most: it takes about √max(a, b).
const MAX_TERMS: u32 = 10_000;
const PRECISION: f64 = 1e-12;

fn fraction(x: f64, a: f64, b: f64) -> f64 {
    let nonzero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = nonzero(1.0 - (a + b) * x / (a + 1.0)).recip();
    let mut value = d;
    for term in 1..MAX_TERMS {
        let m = f64::from(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = nonzero(1.0 + even * d).recip();
        c = nonzero(1.0 + even / c);
        value *= c * d;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = nonzero(1.0 + odd * d).recip();
        c = nonzero(1.0 + odd / c);
        value *= c * d;
        if (c * d - 1.0).abs() < PRECISION {
            break;
        }
    }
    value
}

/// ln Γ(x) for positive x, to about 15 digits.
fn ln_gamma(x: f64) -> f64 {
    const SERIES: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let mut sum = 0.999_999_999_999_809_9;
    for (at, term) in (1_u32..).zip(SERIES) {
        sum += term / (x + f64::from(at));
    }
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By adding up.
    fn naive(bad: u32, trials: u32, chance: f64) -> f64 {
        let mut term = (1.0 - chance).powi(i32::try_from(trials).unwrap());
        let mut below = 0.0;
        for k in 0..bad {
            below += term;
            term *= f64::from(trials - k) / f64::from(k + 1) * chance / (1.0 - chance);
        }
        1.0 - below
    }

    #[test]
    fn it_is_the_sum_of_the_chances() {
        for trials in [1, 2, 10, 100, 500] {
            for chance in [0.001, 0.01, 0.1, 0.3] {
                for bad in (0..=trials).step_by(1 + usize::try_from(trials).unwrap() / 20) {
                    let (tail, want) =
                        (upper_tail(f64::from(bad), f64::from(trials), chance), naive(bad, trials, chance));
                    assert!((tail - want).abs() < 1e-9, "{bad} of {trials} at {chance}: {tail} is not {want}");
                }
            }
        }
    }

    #[test]
    fn it_falls_with_more_bad_ones_also_between_whole_numbers() {
        let mut last = 1.0;
        for tenth in 0..=400 {
            let tail = upper_tail(f64::from(tenth) / 10.0, 1_000.5, 0.01);
            assert!(tail <= last && (0.0..=1.0).contains(&tail), "{tenth}");
            last = tail;
        }
        assert!(last < 1e-10);
    }

    #[test]
    fn its_ends_and_large_counts() {
        assert_eq!(
            [upper_tail(0.0, 10.0, 0.5), upper_tail(11.0, 10.0, 0.5), upper_tail(1.0, 10.0, 0.0)],
            [1.0, 0.0, 0.0]
        );
        assert_eq!(upper_tail(3.0, 10.0, 1.0), 1.0);
        let half = upper_tail(1e6, 1e8, 0.01);
        assert!((half - 0.5).abs() < 1e-3, "{half}");
        // Ten standard deviations.
        assert!(upper_tail(1e6 + 1e4, 1e8, 0.01) < 1e-20);
    }
}
