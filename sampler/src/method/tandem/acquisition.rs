//! The acquisition function, expected improvement, and the search for the point where it is largest.
//!
//! Candidates: draws from the prior, mutations and crossings of the five points with the smallest mean. From the best
//! four of them it climbs: numbers along the slope of ln EI, step sizes by its sign only (resilient propagation), then
//! every category through all its levels; from the best point found so, once more. With difference δ = f(x*) - ξ - f(x),
//! of mean m and deviation s (x*: the reference; ξ: the margin):
//!
//! ```text
//! EI = s h(z),   h(z) = z Φ(z) + φ(z),   z = m / s          δ is normal
//! ```
//! Where costs are known, ln EI less ln cost in place of ln EI: the improvement that is expected in a second.
//!
//! Range of validity: s > 0, which the model guarantees. ln h is computed by its asymptotic form below z = -25, so
//! candidates that are far from promising are still compared.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::SearchSpace;
use shared::space::Kind;

use crate::kde::Dimension;
use crate::normal;
use crate::surrogate::{CostModel, Features, Observation, Prediction, Surrogate, Work};
use crate::user_prior::UserPrior;

/// Points with the smallest mean that are mutated and crossed.
const NUM_PARENTS: usize = 5;
const NUM_PRIOR: usize = 100;
/// Mutations of each parent for each size of step.
const NUM_MUTATIONS: usize = 8;
const STEP_SIZES: [f64; 3] = [0.3, 0.1, 0.03];
const NUM_CROSSINGS: usize = 30;
/// Candidates that are looked at closely.
const NUM_PROMISING: usize = 40;
/// Candidates that are climbed from.
const NUM_CLIMBS: usize = 4;
/// Climbs of the best one, in all.
const NUM_SWEEPS: usize = 2;
const NUM_STEPS: usize = 20;
/// A mutation changes about this many dimensions.
const NUM_MUTATED: f64 = 3.0;

/// A point of the space and what it promises.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) ln_improvement: f64,
    pub(super) vector: Vec<f64>,
}

/// One search.
pub(super) struct Maximizer<'a> {
    space: &'a SearchSpace,
    dimensions: &'a [Dimension],
    features: &'a Features,
    model: &'a Surrogate,
    /// Whether every vector stands for itself.
    is_plain: bool,
    /// Improvements count from here.
    margin: f64,
    /// What the user believes, and the share of draws that follow it.
    believed: Option<(&'a UserPrior, f64)>,
    /// What trainings cost, where that counts.
    costs: Option<&'a CostModel>,
    work: Work,
    num_candidates: u64,
}

impl<'a> Maximizer<'a> {
    pub(super) fn new(
        space: &'a SearchSpace,
        dimensions: &'a [Dimension],
        features: &'a Features,
        model: &'a Surrogate,
        margin: f64,
    ) -> Self {
        Self {
            space,
            dimensions,
            features,
            model,
            is_plain: space.is_plain(),
            margin,
            believed: None,
            costs: None,
            work: Work::default(),
            num_candidates: 0,
        }
    }

    /// The same, with a share of draws that follow beliefs.
    pub(super) fn with_user_prior(mut self, believed: Option<(&'a UserPrior, f64)>) -> Self {
        self.believed = believed;
        self
    }

    /// The same, by the second.
    pub(super) fn with_costs(mut self, costs: Option<&'a CostModel>) -> Self {
        self.costs = costs;
        self
    }

    fn draw(&self, rng: &mut ChaCha12Rng) -> Vec<f64> {
        match self.believed {
            Some((user_prior, share)) if rng.random::<f64>() < share => {
                user_prior.draw(self.space, rng)
            }
            Some(_) | None => self.space.sample(rng),
        }
    }

    /// How many points were compared.
    pub(super) fn num_candidates(&self) -> u64 {
        self.num_candidates
    }

    /// The best of some draws from the prior.
    pub(super) fn best_of_prior(&mut self, count: usize, rng: &mut ChaCha12Rng) -> Candidate {
        let mut best = self.candidate(self.draw(rng));
        for _ in 1..count {
            let other = self.candidate(self.draw(rng));
            if other.ln_improvement > best.ln_improvement {
                best = other;
            }
        }
        best
    }

    /// The best point that climbing finds.
    pub(super) fn best(
        &mut self,
        observations: &[Observation],
        rng: &mut ChaCha12Rng,
    ) -> Candidate {
        let parents = self.parents(observations);
        let mut vectors: Vec<Vec<f64>> = (0..NUM_PRIOR).map(|_| self.draw(rng)).collect();
        for parent in &parents {
            for size in STEP_SIZES {
                vectors.extend((0..NUM_MUTATIONS).map(|_| self.mutate(parent, size, rng)));
            }
        }
        for _ in 0..NUM_CROSSINGS {
            let a = &parents[rng.random_range(0..parents.len())];
            let b = &parents[rng.random_range(0..parents.len())];
            let pick = |(a, b): (&f64, &f64)| if rng.random() { *a } else { *b };
            vectors.push(a.iter().zip(b).map(pick).collect());
        }
        let mut candidates: Vec<Candidate> = self
            .promising(vectors)
            .into_iter()
            .map(|vector| self.candidate(vector))
            .collect();
        // A stable sort: of equals, the first drawn.
        candidates.sort_by(|a, b| b.ln_improvement.total_cmp(&a.ln_improvement));
        candidates.truncate(NUM_CLIMBS);
        for candidate in &mut candidates {
            self.climb(candidate);
        }
        candidates.sort_by(|a, b| b.ln_improvement.total_cmp(&a.ln_improvement));
        let mut best = candidates.swap_remove(0);
        for _ in 1..NUM_SWEEPS {
            self.climb(&mut best);
        }
        best
    }

    /// The vectors that may improve most, by an upper bound that is cheap.
    fn promising(&mut self, vectors: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        let mut bounded: Vec<(f64, Vec<f64>)> = vectors
            .into_iter()
            .map(|vector| {
                let vector = self.canonical(vector);
                let point = self.features.of_vector(&vector);
                let rough = self.model.predict_roughly(&point, &mut self.work);
                self.num_candidates += 1;
                (self.ln_improvement(rough) - self.ln_cost(&point), vector)
            })
            .collect();
        bounded.sort_by(|a, b| b.0.total_cmp(&a.0));
        bounded.truncate(NUM_PROMISING);
        bounded.into_iter().map(|(_, vector)| vector).collect()
    }

    /// The observed points with the smallest means, each once.
    fn parents(&self, observations: &[Observation]) -> Vec<Vec<f64>> {
        let mut ranked: Vec<(f64, &Observation)> = self
            .model
            .means()
            .iter()
            .copied()
            .zip(observations)
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        // The same point on several rungs has the same mean.
        ranked.dedup_by(|a, b| (a.0 - b.0).abs() < 1e-12);
        ranked.truncate(NUM_PARENTS);
        ranked
            .into_iter()
            .map(|(_, o)| self.features.to_vector(&o.point))
            .collect()
    }

    fn candidate(&mut self, vector: Vec<f64>) -> Candidate {
        let vector = self.canonical(vector);
        self.num_candidates += 1;
        let point = self.features.of_vector(&vector);
        let found = self.model.predict(&point, &mut self.work);
        Candidate {
            ln_improvement: self.ln_improvement(found) - self.ln_cost(&point),
            vector,
        }
    }

    fn ln_cost(&self, point: &[f64]) -> f64 {
        let costs = self.costs.iter();
        costs.map(|costs| costs.ln_cost(self.features, point)).sum()
    }

    fn ln_improvement(&self, found: Prediction) -> f64 {
        let deviation = found.difference_variance.sqrt();
        let z = (self.model.reference_mean() - self.margin - found.mean) / deviation;
        ln_h(z) + libm::log(deviation)
    }

    /// Numbers first, then categories.
    fn climb(&mut self, candidate: &mut Candidate) {
        let vector = self.climb_numbers(&candidate.vector);
        let other = self.candidate(vector);
        if other.ln_improvement > candidate.ln_improvement {
            *candidate = other;
        }
        self.climb_categories(candidate);
    }

    fn climb_numbers(&mut self, vector: &[f64]) -> Vec<f64> {
        let d = vector.len();
        let mut point = self.features.of_vector(vector);
        let mut steps = vec![0.05; d];
        let mut last = vec![0.0; d];
        for _ in 0..NUM_STEPS {
            let found = self.model.predict_with_slopes(&point, &mut self.work);
            self.num_candidates += 1;
            let variance = found.difference_variance;
            let deviation = variance.sqrt();
            let z = (self.model.reference_mean() - self.margin - found.mean) / deviation;
            // ∂ ln EI = -Φ(z)/(s h) ∂ mean + φ(z)/(2 s² h) ∂ s²
            let ln_h = ln_h(z);
            let by_mean = -libm::exp(ln_distribution(z) - ln_h) / deviation;
            let by_variance =
                0.5 * libm::exp(-0.5 * z * z - normal::LN_SQRT_TWO_PI - ln_h) / variance;
            let mut has_moved = false;
            let costs = self.costs.map(|costs| costs.slopes(self.features, &point));
            for j in 0..d {
                let mut slope =
                    by_mean * self.work.mean_slopes[j] + by_variance * self.work.variance_slopes[j];
                if let Some(costs) = &costs {
                    slope -= costs[j];
                }
                let turn = slope * last[j];
                if turn > 0.0 {
                    steps[j] = f64::min(steps[j] * 1.3, 0.3);
                } else if turn < 0.0 {
                    steps[j] *= 0.4;
                }
                last[j] = slope;
                // Also false for NaN: an inactive dimension stays one.
                if slope.abs() > 0.0 && steps[j] > 1e-4 {
                    let moved = (point[j] + steps[j].copysign(slope)).clamp(0.0, 1.0);
                    has_moved |= (moved - point[j]).abs() > 0.0;
                    point[j] = moved;
                }
            }
            if !has_moved {
                break;
            }
        }
        self.features.to_vector(&point)
    }

    /// Puts each category to its best level, the others being as they are.
    fn climb_categories(&mut self, candidate: &mut Candidate) {
        for (j, dimension) in self.dimensions.iter().enumerate() {
            let Dimension::Unordered { levels: 2.. } = dimension else {
                continue;
            };
            for level in 0..dimension.levels().unwrap_or(0) {
                let x = candidate.vector[j];
                if x.is_nan() || (x - level as f64).abs() < 0.5 {
                    continue;
                }
                let mut vector = candidate.vector.clone();
                vector[j] = level as f64;
                let other = self.candidate(vector);
                if other.ln_improvement > candidate.ln_improvement {
                    *candidate = other;
                }
            }
        }
    }

    /// Changes some dimensions, one at least, by steps of about `size` of their range; a category to any level.
    fn mutate(&self, vector: &[f64], size: f64, rng: &mut ChaCha12Rng) -> Vec<f64> {
        let share = (NUM_MUTATED / vector.len() as f64).min(1.0);
        let forced = rng.random_range(0..vector.len());
        let mut mutated = vector.to_vec();
        for (j, (x, dimension)) in mutated.iter_mut().zip(self.dimensions).enumerate() {
            if j != forced && rng.random::<f64>() >= share {
                continue;
            }
            *x = match *dimension {
                Dimension::Continuous if x.is_nan() => rng.random(),
                Dimension::Continuous => normal::draw_in_unit_interval(*x, size, rng),
                Dimension::Ordered { levels } if !x.is_nan() => {
                    let step = if rng.random() { 1.0 } else { -1.0 };
                    (*x + step).clamp(0.0, levels as f64 - 1.0)
                }
                Dimension::Unordered { levels } | Dimension::Ordered { levels } => {
                    rng.random_range(0..levels) as f64
                }
            };
        }
        mutated
    }

    /// The vector as the history would have it: whole numbers in the middle of their step, whole levels, inactive
    /// dimensions NaN, nothing forbidden.
    fn canonical(&self, mut vector: Vec<f64>) -> Vec<f64> {
        for (x, hyperparameter) in vector.iter_mut().zip(self.space.dimensions()) {
            if x.is_nan() {
                // A change elsewhere may make it active: then it needs a value, the middle of its range.
                *x = hyperparameter
                    .kind
                    .num_levels()
                    .map_or(0.5, |levels| (levels / 2) as f64);
            }
            match hyperparameter.kind {
                Kind::Integer { .. } => {
                    let value = hyperparameter.kind.decode(*x);
                    *x = hyperparameter.kind.encode(&value).unwrap_or(*x); // always a value of its kind
                }
                Kind::Ordinal { .. } | Kind::Categorical { .. } => *x = x.round(),
                Kind::Float { .. } | Kind::Constant { .. } => {}
            }
        }
        if self.is_plain {
            return vector;
        }
        self.space.encode(&self.space.decode(&vector))
    }
}

/// Below this the series in 1/z² is the better form: its error is 6e-9 here, and falls.
const LOWEST: f64 = -25.0;

/// ln (z Φ(z) + φ(z)).
fn ln_h(z: f64) -> f64 {
    if z > LOWEST {
        libm::log(z * normal::distribution(z) + normal::density(z))
    } else {
        // φ(z) / z² (1 - 3/z² + 15/z⁴ …)
        let w = 1.0 / (z * z);
        -0.5 * z * z - normal::LN_SQRT_TWO_PI - 2.0 * libm::log(-z)
            + libm::log1p(w * (-3.0 + w * (15.0 - 105.0 * w)))
    }
}

/// ln Φ(z).
fn ln_distribution(z: f64) -> f64 {
    if z > LOWEST {
        libm::log(normal::distribution(z))
    } else {
        // φ(z) / -z (1 - 1/z² + 3/z⁴ …)
        let w = 1.0 / (z * z);
        -0.5 * z * z - normal::LN_SQRT_TWO_PI - libm::log(-z)
            + libm::log1p(w * (-1.0 + w * (3.0 - 15.0 * w)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_go_on_where_the_numbers_end() {
        // mpmath, 50 digits: log(z*ncdf(z)+npdf(z)), log(ncdf(z)).
        for (z, h, distribution) in [
            (0.0, -0.918_938_533_204_672_7, -std::f64::consts::LN_2),
            (2.0, 0.697_383_545_788_228_3, -0.023_012_909_328_963_49),
            (-5.0, -16.744_301_162_660_99, -15.064_998_393_988_726),
            (-20.0, -206.917_838_509_425_1, -203.917_155_371_097_26),
        ] {
            assert!(
                (ln_h(z) - h).abs() < 1e-12 * h.abs().max(1.0),
                "{z}: {}",
                ln_h(z)
            );
            assert!(
                (ln_distribution(z) - distribution).abs() < 1e-12 * h.abs().max(1.0),
                "{z}"
            );
        }
        // The two forms meet.
        for f in [ln_h, ln_distribution] {
            assert!((f(LOWEST + 1e-12) - f(LOWEST)).abs() < 1e-8);
        }
        assert!(ln_h(-1e8).is_finite());
    }
}
