//! Method `tandem`: expected improvement at the largest budget, under a model of all budgets.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::record::ModelUse;
use shared::space::Kind;
use shared::{Search, SearchSpace};

use crate::history::{History, Ranked, Standing};
use crate::kde::Kernel;
use crate::method::{Ask, Method, Suggestion, prior};
use crate::normal;
use crate::surrogate::{Features, Observation, Scales, Surrogate, Work};

/// Results needed before the model is asked.
const FEWEST_RESULTS: usize = 4;
/// Observations the model is conditioned on at most.
const MOST_OBSERVATIONS: usize = 200;
/// Share of the proposals drawn from the prior.
const RANDOM_FRACTION: f64 = 0.1;
/// Steps of a fit of the scales.
const FIT_STEPS: usize = 40;

/// The method and what it fitted last.
#[derive(Debug)]
pub struct Tandem {
    kernels: Vec<Kernel>,
    features: Features,
    num_rungs: usize,
    fitted: Option<(usize, Scales)>,
}

impl Tandem {
    /// The method for a search.
    pub fn new(search: &Search) -> Self {
        let kernels = Kernel::of_space(&search.space);
        Self {
            features: Features::new(&kernels),
            kernels,
            num_rungs: usize::from(search.ladder.num_rungs()),
            fitted: None,
        }
    }

    /// Scales fitted on the first results named, as many as the largest of 4, 6, 8, … ×1.15 that are there.
    fn scales(&mut self, history: &History) -> &Scales {
        let count = last_threshold(history.arrivals().len());
        if self
            .fitted
            .as_ref()
            .is_none_or(|(fitted, _)| *fitted != count)
        {
            let observations = self.observations(history, &history.arrivals()[..count]);
            let scales = Scales::fit(&self.features, &observations, self.num_rungs, FIT_STEPS);
            self.fitted = Some((count, scales));
        }
        &self.fitted.as_ref().expect("fitted above").1
    }

    fn observations(&self, history: &History, results: &[Ranked]) -> Vec<Observation> {
        let chosen = choose(results, MOST_OBSERVATIONS, self.num_rungs);
        let scores = normal_scores(&chosen);
        chosen
            .iter()
            .zip(scores)
            .map(|(ranked, value)| Observation {
                point: self
                    .features
                    .of_vector(history.vector(ranked.job.configuration)),
                rung: usize::from(ranked.job.rung).min(self.num_rungs - 1),
                value,
            })
            .collect()
    }
}

/// The largest number of the row that is at most `count`.
fn last_threshold(count: usize) -> usize {
    let mut threshold = FEWEST_RESULTS;
    loop {
        let next = threshold + (threshold / 7).max(2);
        if next > count {
            return threshold;
        }
        threshold = next;
    }
}

/// At most `count` results: of each rung, from the top, its best and an even sample of the others.
fn choose(results: &[Ranked], count: usize, num_rungs: usize) -> Vec<Ranked> {
    let mut by_rung: Vec<Vec<Ranked>> = vec![Vec::new(); num_rungs];
    for ranked in results {
        by_rung[usize::from(ranked.job.rung).min(num_rungs - 1)].push(*ranked);
    }
    let mut chosen = Vec::new();
    let mut left = count;
    for (index, rung) in by_rung.iter_mut().enumerate().rev() {
        rung.sort_unstable();
        // What the rungs above have left over is shared by those below.
        let quota = (left / (index + 1))
            .min(rung.len())
            .max(left.min(rung.len()).min(1));
        let quota = if index == 0 {
            left.min(rung.len())
        } else {
            quota
        };
        let num_best = quota - quota / 3;
        let others = quota - num_best;
        chosen.extend(&rung[..num_best]);
        let rest = &rung[num_best..];
        chosen.extend((0..others).map(|i| rest[i * rest.len() / others]));
        left -= quota;
    }
    chosen.sort_unstable_by_key(|ranked| ranked.job);
    chosen
}

/// Ranks among all results, equal ones sharing the mean rank, as quantiles of the normal distribution.
fn normal_scores(results: &[Ranked]) -> Vec<f64> {
    let n = results.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_unstable_by_key(|i| results[*i]);
    let mut scores = vec![0.0; n];
    let mut start = 0;
    while start < n {
        let standing = results[order[start]].standing;
        let len = order[start..]
            .iter()
            .take_while(|i| results[**i].standing == standing)
            .count();
        let mean_rank = start as f64 + len as f64 / 2.0;
        let score = normal::quantile(mean_rank / n as f64);
        for i in &order[start..start + len] {
            scores[*i] = score;
        }
        start += len;
    }
    scores
}

impl Method for Tandem {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        let mut rng = ask.seed.rng();
        let num_results = history.arrivals().len();
        if num_results < FEWEST_RESULTS || self.kernels.is_empty() {
            return prior::draw(history, &mut rng, "too few results for a model");
        }
        if history
            .arrivals()
            .iter()
            .all(|r| r.standing == Standing::Failed)
        {
            return prior::draw(history, &mut rng, "every result so far is a failure");
        }
        if rng.random::<f64>() < RANDOM_FRACTION {
            return prior::draw(
                history,
                &mut rng,
                "a share of the proposals is drawn from the prior",
            );
        }
        let scales = self.scales(history).clone();
        let observations = self.observations(history, history.arrivals());
        let under_way: Vec<(Vec<f64>, usize)> = history
            .under_way(ask.configuration, ask.pending)
            .iter()
            .rev()
            .take(64)
            .map(|id| {
                (
                    self.features.of_vector(history.vector(*id)),
                    usize::from(ask.rung),
                )
            })
            .collect();
        let Some(model) = Surrogate::new(&self.features, &scales, &observations, &under_way) else {
            return prior::draw(history, &mut rng, "the model's matrix is singular");
        };
        let search = Climb {
            space: history.space(),
            kernels: &self.kernels,
            features: &self.features,
            model: &model,
        };
        let (vector, ln_improvement, num_candidates) = search.run(history, &observations, &mut rng);
        Suggestion {
            vector,
            source: "model",
            reason: format!("the largest expected improvement among {num_candidates} candidates"),
            model: Some(ModelUse {
                rung: history.num_rungs() - 1,
                num_good: observations.len() as u64,
                num_bad: 0,
                num_candidates,
                log_acquisition: ln_improvement,
            }),
        }
    }
}

/// The search for the largest expected improvement.
struct Climb<'a> {
    space: &'a SearchSpace,
    kernels: &'a [Kernel],
    features: &'a Features,
    model: &'a Surrogate,
}

impl Climb<'_> {
    fn run(
        &self,
        history: &History,
        observations: &[Observation],
        rng: &mut ChaCha12Rng,
    ) -> (Vec<f64>, f64, u64) {
        let mut buffer = Work::default();
        // Distinct configurations by posterior mean.
        let mut ids: Vec<_> = history
            .arrivals()
            .iter()
            .map(|r| r.job.configuration)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let mut incumbents: Vec<(f64, Vec<f64>)> = observations
            .iter()
            .map(|o| {
                (
                    self.model.mean(&o.point, &mut buffer),
                    self.unfeature(&o.point),
                )
            })
            .collect();
        incumbents.sort_by(|a, b| a.0.total_cmp(&b.0));
        incumbents.dedup_by(|a, b| (a.0 - b.0).abs() < 1e-12);
        let best_mean = incumbents[0].0;
        incumbents.truncate(5);
        let mut count = 0;
        let value = |vector: &[f64], buffer: &mut Work| {
            let found = self.model.predict(&self.features.of_vector(vector), buffer);
            ln_expected_improvement(best_mean, found.mean, found.difference_variance.sqrt())
        };
        let mut candidates: Vec<(f64, Vec<f64>)> = Vec::new();
        for _ in 0..100 {
            let vector = self.canonical(self.space.sample(rng));
            candidates.push((value(&vector, &mut buffer), vector));
        }
        for (_, incumbent) in &incumbents {
            for scale in [0.3, 0.1, 0.03] {
                for _ in 0..8 {
                    let vector = self.canonical(self.mutate(incumbent, scale, rng));
                    candidates.push((value(&vector, &mut buffer), vector));
                }
            }
        }
        if incumbents.len() > 1 {
            for _ in 0..30 {
                let a = &incumbents[rng.random_range(0..incumbents.len())].1;
                let b = &incumbents[rng.random_range(0..incumbents.len())].1;
                let mixed: Vec<f64> = a
                    .iter()
                    .zip(b)
                    .map(|(a, b)| if rng.random() { *a } else { *b })
                    .collect();
                let vector = self.canonical(mixed);
                candidates.push((value(&vector, &mut buffer), vector));
            }
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        candidates.truncate(4);
        let mut work = Work::default();
        for candidate in &mut candidates {
            count += self.climb(candidate, best_mean, &mut work);
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        count += 250;
        let (value, vector) = candidates.swap_remove(0);
        (vector, value, count)
    }

    /// Climbs from a candidate: numbers along the slope, then each category to its best level.
    fn climb(&self, candidate: &mut (f64, Vec<f64>), best_mean: f64, work: &mut Work) -> u64 {
        let mut count = 0;
        let d = self.kernels.len();
        let scale_of = |j: usize| match self.kernels[j] {
            Kernel::Ordered { levels } => levels.saturating_sub(1).max(1) as f64,
            Kernel::Continuous | Kernel::Unordered { .. } => 1.0,
        };
        for _sweep in 0..2 {
            let before = candidate.0;
            let mut point = self.features.of_vector(&candidate.1);
            let mut steps = vec![0.05; d];
            let mut last = vec![0.0; d];
            for _ in 0..25 {
                let found = self.model.predict_with_slopes(&point, work);
                let (mean, variance) = (found.mean, found.difference_variance);
                count += 1;
                let deviation = variance.sqrt();
                let z = (best_mean - mean) / deviation;
                // ∂ ln EI = -Φ/(σ h) ∂μ + φ/(2 σ² h) ∂σ²,   h = z Φ + φ
                let ln_h =
                    ln_expected_improvement(best_mean, mean, deviation) - libm::log(deviation);
                let by_mean = -libm::exp(ln_distribution(z) - ln_h) / deviation;
                let by_variance =
                    0.5 * libm::exp(-0.5 * z * z - normal::LN_SQRT_TWO_PI - ln_h) / variance;
                let mut has_moved = false;
                for j in 0..d {
                    let slope =
                        by_mean * work.mean_slopes[j] + by_variance * work.variance_slopes[j];
                    let turn = slope * last[j];
                    if turn > 0.0 {
                        steps[j] = f64::min(steps[j] * 1.3, 0.3);
                    } else if turn < 0.0 {
                        steps[j] *= 0.4;
                    }
                    last[j] = slope;
                    if slope != 0.0 && steps[j] > 1e-4 {
                        let moved = (point[j] + steps[j].copysign(slope)).clamp(0.0, 1.0);
                        has_moved |= moved != point[j];
                        point[j] = moved;
                    }
                }
                if !has_moved {
                    break;
                }
            }
            let vector = self.canonical(
                point
                    .iter()
                    .enumerate()
                    .map(|(j, x)| {
                        let x = x * scale_of(j);
                        if let Kernel::Ordered { .. } = self.kernels[j] {
                            x.round()
                        } else {
                            x
                        }
                    })
                    .collect(),
            );
            let found = self.model.predict(&self.features.of_vector(&vector), work);
            let value =
                ln_expected_improvement(best_mean, found.mean, found.difference_variance.sqrt());
            if value > candidate.0 {
                *candidate = (value, vector);
            }
            count += 1;
            for j in 0..d {
                let levels = match self.kernels[j] {
                    Kernel::Unordered { levels } if levels > 1 => levels,
                    _ => continue,
                };
                for level in 0..levels {
                    let mut vector = candidate.1.clone();
                    if vector[j].is_nan() || (vector[j] - level as f64).abs() < 0.5 {
                        continue;
                    }
                    vector[j] = level as f64;
                    let vector = self.canonical(vector);
                    let found = self.model.predict(&self.features.of_vector(&vector), work);
                    let value = ln_expected_improvement(
                        best_mean,
                        found.mean,
                        found.difference_variance.sqrt(),
                    );
                    count += 1;
                    if value > candidate.0 {
                        *candidate = (value, vector);
                    }
                }
            }
            if candidate.0 - before < 1e-3 {
                break;
            }
        }
        count
    }

    /// The vector of a point.
    fn unfeature(&self, point: &[f64]) -> Vec<f64> {
        point
            .iter()
            .zip(self.kernels)
            .map(|(x, kernel)| match kernel {
                Kernel::Ordered { levels } => x * (levels.saturating_sub(1).max(1) as f64),
                Kernel::Continuous | Kernel::Unordered { .. } => *x,
            })
            .collect()
    }

    /// Changes some dimensions, on average three at most, by steps of about `scale` of their range.
    fn mutate(&self, vector: &[f64], scale: f64, rng: &mut ChaCha12Rng) -> Vec<f64> {
        let d = vector.len();
        let share = (3.0 / d as f64).min(1.0);
        let forced = rng.random_range(0..d);
        vector
            .iter()
            .enumerate()
            .zip(self.kernels)
            .map(|((j, x), kernel)| {
                if j != forced && rng.random::<f64>() >= share {
                    return *x;
                }
                match *kernel {
                    Kernel::Continuous if x.is_nan() => rng.random(),
                    Kernel::Continuous => normal::draw_in_unit_interval(*x, scale, rng),
                    Kernel::Unordered { levels } => rng.random_range(0..levels) as f64,
                    Kernel::Ordered { levels } if x.is_nan() => rng.random_range(0..levels) as f64,
                    Kernel::Ordered { levels } => {
                        let step = if rng.random() { 1.0 } else { -1.0 };
                        (x + step).clamp(0.0, (levels - 1) as f64)
                    }
                }
            })
            .collect()
    }

    /// The vector as the history would have it: whole numbers in the middle of their step, inactive dimensions NaN.
    fn canonical(&self, mut vector: Vec<f64>) -> Vec<f64> {
        let has_conditions = self
            .space
            .hyperparameters()
            .iter()
            .any(|h| h.condition.is_some());
        if has_conditions {
            // Inactive dimensions that become active by a change need a value.
            for x in &mut vector {
                if x.is_nan() {
                    *x = 0.5;
                }
            }
            return self.space.encode(&self.space.decode(&vector));
        }
        for (x, hyperparameter) in vector.iter_mut().zip(self.space.dimensions()) {
            if let Kind::Integer { .. } = hyperparameter.kind {
                *x = hyperparameter
                    .kind
                    .encode(&hyperparameter.kind.decode(*x))
                    .unwrap_or(*x);
            }
        }
        vector
    }
}

/// ln Φ(z).
fn ln_distribution(z: f64) -> f64 {
    if z > -6.0 {
        libm::log(normal::distribution(z))
    } else {
        -0.5 * z * z - normal::LN_SQRT_TWO_PI - libm::log(-z) + libm::log1p(-1.0 / (z * z))
    }
}

/// ln E[max(best - Y, 0)] for Y normal with this mean and standard deviation.
fn ln_expected_improvement(best: f64, mean: f64, deviation: f64) -> f64 {
    let z = (best - mean) / deviation;
    let ln_h = if z > -6.0 {
        libm::log(z * normal::distribution(z) + normal::density(z))
    } else {
        // z Φ(z) + φ(z) → φ(z) / z² (1 - 3/z² …)
        -0.5 * z * z - normal::LN_SQRT_TWO_PI - 2.0 * libm::log(-z) + libm::log1p(-3.0 / (z * z))
    };
    ln_h + libm::log(deviation)
}
