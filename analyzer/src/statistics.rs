//! Rank correlations and what may be concluded from them: average ranks, Spearman's rho, Kendall's tau-b, p values,
//! bootstrap intervals.
//!
//! All functions take finite numbers. A correlation with a constant side does not exist and is `None`, never 0.

use std::cmp::Ordering;

use rand::RngExt as _;
use rayon::prelude::*;
use shared::Seed;
use shared::ranks::{correlation, mean_ranks};

/// Up to this many pairs, p values are counted over all orders of one side: 9! = 362,880.
const MOST_COUNTED: usize = 9;
/// Up to this many pairs without ties, Kendall's p value is exact (the bound of `scipy.stats.kendalltau`).
const MOST_EXACT_TAU: usize = 33;

/// A two-sided p value, and how it was had.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PValue {
    /// Chance of a correlation at least as far from 0 if the two sides have nothing to do with each other.
    pub(crate) p: f64,
    /// How it was computed.
    pub(crate) method: PMethod,
}

/// How a p value was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PMethod {
    /// Exactly, over all orders of one side.
    Exact,
    /// By Student's t distribution with n − 2 degrees of freedom.
    StudentT,
    /// By the normal distribution, its variance corrected for ties.
    Normal,
}

impl PMethod {
    /// The word in tables: `exact`, `t`, `normal`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::StudentT => "t",
            Self::Normal => "normal",
        }
    }
}

/// Ranks from 1; equal values share the mean of the ranks they take up.
pub(crate) fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut ranks = mean_ranks(values, f64::total_cmp, |a, b| is_tied(*a, *b));
    for rank in &mut ranks {
        *rank += 1.0;
    }
    ranks
}

/// Equal numbers; 0 and −0 are.
#[expect(clippy::float_cmp, reason = "a tie is exact equality")]
fn is_tied(a: f64, b: f64) -> bool {
    a == b
}

/// Spearman's rho: Pearson's correlation of the average ranks.
///
/// # Source
/// Spearman 1904; the form with ties of Kendall 1945. Fewer than 3 pairs or a constant side: `None`.
pub(crate) fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() < 3 {
        return None;
    }
    correlation(&average_ranks(x), &average_ranks(y)).map(|rho| rho.clamp(-1.0, 1.0))
}

/// Two-sided p of Spearman's rho: counted over all orders up to 9 pairs, else by t = rho·√((n−2)/(1−rho²)).
///
/// At rho = ±1 the approximation gives 0. Fewer than 3 pairs or a constant side: `None`.
pub(crate) fn spearman_p(x: &[f64], y: &[f64]) -> Option<PValue> {
    let rho = spearman(x, y)?;
    if x.len() <= MOST_COUNTED {
        let (x, y) = (average_ranks(x), average_ranks(y));
        // Means and variances do not change with the order, so the products decide.
        let middle = f64::midpoint(x.len() as f64, 1.0);
        let centred: Vec<f64> = x.iter().map(|rank| rank - middle).collect();
        let product = |y: &[f64]| centred.iter().zip(y).map(|(a, b)| a * b).sum::<f64>().abs();
        let p = share_of_orders(&y, product);
        return Some(PValue {
            p,
            method: PMethod::Exact,
        });
    }
    let freedom = x.len() as f64 - 2.0;
    let rest = 1.0 - rho * rho;
    let p = if rest <= 0.0 {
        0.0
    } else {
        student_two_sided(rho * (freedom / rest).sqrt(), freedom)
    };
    Some(PValue {
        p,
        method: PMethod::StudentT,
    })
}

/// Share of the orders of `y` in which `distance` is at least what it is in the given order (Heap's algorithm).
fn share_of_orders(y: &[f64], distance: impl Fn(&[f64]) -> f64) -> f64 {
    let mut y = y.to_vec();
    // Rounding must not turn an equal order into a smaller one.
    let given = distance(&y) - 1e-9;
    let (mut as_far, mut all) = (0_u64, 0_u64);
    let mut count = |y: &[f64]| {
        all += 1;
        as_far += u64::from(distance(y) >= given);
    };
    count(&y);
    let mut counters = vec![0; y.len()];
    let mut position = 1;
    while position < y.len() {
        if counters[position] < position {
            let from = if position % 2 == 0 {
                0
            } else {
                counters[position]
            };
            y.swap(from, position);
            count(&y);
            counters[position] += 1;
            position = 1;
        } else {
            counters[position] = 0;
            position += 1;
        }
    }
    as_far as f64 / all as f64
}

/// Kendall's tau-b and its two-sided p.
///
/// tau-b = (concordant − discordant) / √((pairs − ties in x)·(pairs − ties in y)). p is exact without ties up to 33
/// pairs (or where at most one pair is out of order), counted over all orders with ties up to 9, else normal with the
/// variance corrected for ties. Fewer than 3 pairs or a constant side: `None`.
///
/// # Source
/// Kendall 1945 and 1970 (Rank Correlation Methods, chapter 4), as in `scipy.stats.kendalltau`; counting by Knight 1966.
pub(crate) fn kendall(x: &[f64], y: &[f64]) -> Option<(f64, PValue)> {
    let n = x.len();
    if n < 3 {
        return None;
    }
    let counts = PairCounts::new(x, y);
    let (free_x, free_y) = (counts.all - counts.x.pairs, counts.all - counts.y.pairs);
    if free_x <= 0.0 || free_y <= 0.0 {
        return None;
    }
    let excess = counts.excess();
    let tau = (excess / free_x.sqrt() / free_y.sqrt()).clamp(-1.0, 1.0);
    let has_ties = counts.x.pairs > 0.0 || counts.y.pairs > 0.0;
    let fewest = counts.discordant.min(counts.all - counts.discordant);
    let p = if !has_ties && (n <= MOST_EXACT_TAU || fewest <= 1.0) {
        PValue {
            p: exact_kendall_p(n, fewest),
            method: PMethod::Exact,
        }
    } else if n <= MOST_COUNTED {
        let distance = |y: &[f64]| PairCounts::new(x, y).excess().abs();
        PValue {
            p: share_of_orders(y, distance),
            method: PMethod::Exact,
        }
    } else {
        let (x, y) = (&counts.x, &counts.y);
        let n = n as f64;
        let m = n * (n - 1.0);
        let variance = (m * (2.0 * n + 5.0) - x.first - y.first) / 18.0
            + 2.0 * x.pairs * y.pairs / m
            + x.second * y.second / (9.0 * m * (n - 2.0));
        PValue {
            p: libm::erfc(excess.abs() / variance.sqrt() / std::f64::consts::SQRT_2),
            method: PMethod::Normal,
        }
    };
    Some((tau, p))
}

/// How the pairs of pairs stand to each other.
struct PairCounts {
    all: f64,
    x: Ties,
    y: Ties,
    both: f64,
    discordant: f64,
}

impl PairCounts {
    fn new(x: &[f64], y: &[f64]) -> Self {
        assert_eq!(x.len(), y.len(), "pairs");
        let mut pairs: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
        let by_x_then_y = |a: &(f64, f64), b: &(f64, f64)| {
            let first = if is_tied(a.0, b.0) {
                Ordering::Equal
            } else {
                a.0.total_cmp(&b.0)
            };
            first.then_with(|| a.1.total_cmp(&b.1))
        };
        pairs.sort_by(by_x_then_y);
        let both = pairs
            .chunk_by(|a, b| is_tied(a.0, b.0) && is_tied(a.1, b.1))
            .map(|group| choose_two(group.len()))
            .sum();
        let x: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
        let mut y: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        let discordant = sort_counting_inversions(&mut y);
        Self {
            all: choose_two(x.len()),
            x: Ties::of_sorted(&x),
            y: Ties::of_sorted(&y),
            both,
            discordant,
        }
    }

    /// Concordant less discordant.
    fn excess(&self) -> f64 {
        self.all - self.x.pairs - self.y.pairs + self.both - 2.0 * self.discordant
    }
}

/// Sums over the groups of t equal values.
struct Ties {
    /// Σ t(t−1)/2
    pairs: f64,
    /// Σ t(t−1)(2t+5)
    first: f64,
    /// Σ t(t−1)(t−2)
    second: f64,
}

impl Ties {
    fn of_sorted(values: &[f64]) -> Self {
        let mut ties = Self {
            pairs: 0.0,
            first: 0.0,
            second: 0.0,
        };
        for group in values.chunk_by(|a, b| is_tied(*a, *b)) {
            let t = group.len() as f64;
            ties.pairs += t * (t - 1.0) / 2.0;
            ties.first += t * (t - 1.0) * (2.0 * t + 5.0);
            ties.second += t * (t - 1.0) * (t - 2.0);
        }
        ties
    }
}

fn choose_two(n: usize) -> f64 {
    let n = n as f64;
    n * (n - 1.0) / 2.0
}

/// Sorts by merging and counts the pairs that were out of order; equal values are in order.
fn sort_counting_inversions(values: &mut [f64]) -> f64 {
    let n = values.len();
    let mut inversions = 0.0;
    let mut merged = Vec::with_capacity(n);
    let mut width = 1;
    while width < n {
        for start in (0..n).step_by(2 * width) {
            let middle = (start + width).min(n);
            let end = (start + 2 * width).min(n);
            let (mut left, mut right) = (start, middle);
            merged.clear();
            while left < middle && right < end {
                if values[right] < values[left] {
                    inversions += (middle - left) as f64;
                    merged.push(values[right]);
                    right += 1;
                } else {
                    merged.push(values[left]);
                    left += 1;
                }
            }
            merged.extend_from_slice(&values[left..middle]);
            let start_of_rest = start + merged.len();
            values[start..start_of_rest].copy_from_slice(&merged);
        }
        width *= 2;
    }
    inversions
}

/// Two-sided p of a tau without ties: 2·(orders of n values with at most `fewest` inversions)/n!.
///
/// The counts are kept divided by j! at step j, so that nothing overflows; where they underflow, p is 0.
fn exact_kendall_p(n: usize, fewest: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of inversions, small where p is exact"
    )]
    let c = fewest as usize;
    if 4 * c == n * (n - 1) {
        return 1.0;
    }
    let mut shares = vec![0.0; c + 1];
    shares[0] = 1.0;
    // A j-th value can stand in j places and adds 0 to j − 1 inversions.
    for j in 2..=n {
        let mut window = 0.0;
        let before = shares.clone();
        for inversions in 0..=c {
            window += before[inversions];
            if inversions >= j {
                window -= before[inversions - j];
            }
            shares[inversions] = window / j as f64;
        }
    }
    (2.0 * shares.iter().sum::<f64>()).min(1.0)
}

/// P(|T| ≥ |t|) for Student's t with `freedom` degrees of freedom: `I_x(freedom/2, 1/2)` at `x = freedom/(freedom + t²)`.
pub(crate) fn student_two_sided(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// The t that a two-sided Student test with this p needs; by bisection, to full precision.
pub(crate) fn student_quantile(p: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while student_two_sided(high, freedom) > p && high < 1e15 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if student_two_sided(middle, freedom) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The regularised incomplete beta function `I_x(a, b)`, by its continued fraction (Lentz); about 14 digits.
///
/// # Source
/// DLMF 8.17.22; the symmetry `I_x(a, b) = 1 − I_{1−x}(b, a)` where the fraction converges slowly.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = libm::exp(
        a * libm::log(x) + b * libm::log1p(-x) + libm::lgamma(a + b)
            - libm::lgamma(a)
            - libm::lgamma(b),
    ) / a;
    let tiny = 1e-300;
    let guard = |value: f64| if value.abs() < tiny { tiny } else { value };
    let (mut c, mut d) = (1.0, 1.0 / guard(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * fraction
}

/// The value below which a share of the sorted values lies, interpolated between neighbours (numpy's default).
///
/// # Panics
/// Without values.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted
        .len()
        .checked_sub(1)
        .expect("a quantile needs a value");
    let position = share.clamp(0.0, 1.0) * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the last index"
    )]
    let below = position as usize;
    let above = (below + 1).min(last);
    let part = position - below as f64;
    sorted[below] + part * (sorted[above] - sorted[below])
}

/// The percentile bootstrap's 95 % interval of Spearman's rho: pairs are drawn with replacement, `resamples` times.
///
/// Draws in which a side is constant have no rho and are left out; where that is more than half of them, and where
/// there is no rho at all, the answer is `None`. The same seed gives the same interval on every machine.
///
/// # Source
/// Efron 1979. As `scipy.stats.bootstrap(method="percentile")`, but for the draws left out.
pub(crate) fn spearman_interval(
    x: &[f64],
    y: &[f64],
    resamples: u32,
    seed: Seed,
) -> Option<(f64, f64)> {
    spearman(x, y)?;
    let n = u32::try_from(x.len()).ok()?; // no search has more
    let (x, y) = (Grouped::new(x), Grouped::new(y));
    let mut drawn: Vec<f64> = (0..resamples)
        .into_par_iter()
        .filter_map(|resample| {
            let mut rng = seed.child("bootstrap", resample).rng();
            let mut counts = vec![0_u32; x.order.len()];
            for _ in 0..n {
                counts[rng.random_range(0..n) as usize] += 1; // numbers of 32 bits take half the time of 64
            }
            weighted_correlation(&counts, &x.ranks(&counts), &y.ranks(&counts))
        })
        .collect();
    if drawn.len() * 2 < resamples as usize {
        return None;
    }
    drawn.sort_by(f64::total_cmp);
    Some((quantile(&drawn, 0.025), quantile(&drawn, 0.975)))
}

/// Values sorted once, so that every resample's ranks are had by counting.
struct Grouped {
    order: Vec<usize>,
    /// Ends of the groups of equal values in `order`.
    ends: Vec<usize>,
}

impl Grouped {
    fn new(values: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        let mut ends = Vec::new();
        for group in order.chunk_by(|&a, &b| is_tied(values[a], values[b])) {
            ends.push(ends.last().copied().unwrap_or(0) + group.len());
        }
        Self { order, ends }
    }

    /// Average ranks, less their mean, of a sample that holds each value as often as `counts` says.
    fn ranks(&self, counts: &[u32]) -> Vec<f64> {
        let middle = f64::midpoint(self.order.len() as f64, 1.0);
        let mut ranks = vec![0.0; self.order.len()];
        let (mut start, mut before) = (0, 0.0);
        for &end in &self.ends {
            let group = &self.order[start..end];
            let size: u32 = group.iter().map(|&index| counts[index]).sum();
            let rank = before + f64::midpoint(f64::from(size), 1.0) - middle;
            for &index in group {
                ranks[index] = rank;
            }
            before += f64::from(size);
            start = end;
        }
        ranks
    }
}

fn weighted_correlation(counts: &[u32], x: &[f64], y: &[f64]) -> Option<f64> {
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for ((count, a), b) in counts.iter().zip(x).zip(y) {
        let count = f64::from(*count);
        xx += count * a * a;
        yy += count * b * b;
        xy += count * a * b;
    }
    (xx > 0.0 && yy > 0.0).then(|| (xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests;
