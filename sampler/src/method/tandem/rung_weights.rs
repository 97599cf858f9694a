//! Which rungs to believe: one model for each lowest rung, and how well it foretells the results of the top rung.
//!
//! ```text
//! model q      sees the results of rungs q, q + 1, …, R, and has kernel parameters of its own
//! weight q     ∝ p(y_R | results of rungs q … R - 1, model q)                 R: the top rung
//! ```
//! The density is that of all top-rung results together, each given those before it, so a model gains where lower
//! budgets told how a configuration would do, and loses where it was sure of something else. Scores are made for each
//! model from the results it sees; densities are compared in units of the standard deviation of the top rung's scores.
//! Where small budgets mislead, the weight goes to models that do not see them, after a handful of results at the top:
//! within one model, many misleading results outvote those few.
//!
//! Models that see an earlier search get the share that [`earlier`](super::earlier) gives it, and leave these the rest.
//!
//! Range of validity: with fewer than four results at the top rung, all rungs are believed.
//!
//! # Source
//! Weights by marginal likelihood: Kass and Raftery 1995. That surrogates should be weighted by how they foretell the
//! largest budget: Li et al. 2022 (Hyper-Tune), who do it by counting misordered pairs.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use super::{FEWEST_AT_TOP, FIT_STEPS, MOST_FITTED, Tandem, choose, earlier};
use crate::history::History;
use crate::surrogate::{KernelParameters, Observation, Surrogate};
use shared::Ranked;

/// What is fitted on some first results.
#[derive(Debug)]
pub(super) struct RungModels {
    /// How many results.
    pub(super) count: usize,
    /// At least one, by lowest rung; weights sum to 1.
    pub(super) models: Vec<RungModel>,
}

/// One model.
#[derive(Debug, Clone)]
pub(super) struct RungModel {
    /// Results of rungs below are not seen.
    pub(super) lowest_rung: usize,
    /// The earlier search that it sees, if any.
    pub(super) earlier: Option<usize>,
    /// How much it is believed.
    pub(super) weight: f64,
    pub(super) parameters: KernelParameters,
}

impl RungModels {
    /// Fits the models on the first `count` results named.
    pub(super) fn new(method: &Tandem, history: &History, count: usize) -> Self {
        let mut by_rung: Vec<Vec<Ranked>> = vec![Vec::new(); method.num_rungs];
        for ranked in &history.arrivals()[..count] {
            by_rung[method.rung(ranked.job.rung)].push(*ranked);
        }
        for rung in &mut by_rung {
            rung.sort_unstable();
        }
        let by_rung: Vec<&[Ranked]> = by_rung.iter().map(Vec::as_slice).collect();
        let top = by_rung[method.num_rungs - 1];
        // Every model is judged on the same results.
        let judged = choose(&[top], MOST_FITTED / method.num_rungs);
        let mut models = Vec::new();
        for lowest_rung in 0..method.num_rungs {
            if lowest_rung > 0 && (top.len() < FEWEST_AT_TOP || by_rung[lowest_rung - 1].is_empty())
            {
                continue;
            }
            let mut seen = by_rung.clone();
            seen[..lowest_rung].fill(&[]);
            let (observations, _) = method.observations(history, &seen, MOST_FITTED, None);
            let parameters = KernelParameters::fit(
                &method.features,
                &observations,
                method.num_rungs,
                method.length_prior,
                FIT_STEPS,
            );
            let ln_weight = if top.len() < FEWEST_AT_TOP {
                0.0
            } else if judged.len() == top.len() {
                ln_predictive_density(method, &parameters, observations)
            } else {
                seen[method.num_rungs - 1] = &judged;
                let (observations, _) = method.observations(history, &seen, MOST_FITTED, None);
                ln_predictive_density(method, &parameters, observations)
            };
            models.push((lowest_rung, ln_weight, parameters));
        }
        let shares = earlier::shares(method, history, &history.arrivals()[..count]);
        let mut models = normalised(models);
        for model in &mut models {
            model.weight *= 1.0 - shares.iter().sum::<f64>();
        }
        let seen = shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
        models.extend(seen.map(|(index, share)| RungModel {
            lowest_rung: 0,
            earlier: Some(index),
            weight: *share,
            parameters: parameters_with(method, history, &by_rung, index),
        }));
        Self { count, models }
    }

    /// One of them, by weight.
    pub(super) fn draw(&self, rng: &mut ChaCha12Rng) -> &RungModel {
        let mut rest = rng.random::<f64>();
        let drawn = self.models.iter().find(|fit| {
            rest -= fit.weight;
            rest < 0.0
        });
        // By rounding, the weights may sum to less than 1.
        drawn.unwrap_or(&self.models[0])
    }
}

/// The parameters of a model that sees all results and an earlier search.
fn parameters_with(
    method: &Tandem,
    history: &History,
    by_rung: &[&[Ranked]],
    earlier: usize,
) -> KernelParameters {
    let (observations, _) = method.observations(history, by_rung, MOST_FITTED, Some(earlier));
    KernelParameters::fit(
        &method.features,
        &observations,
        method.levels(history, Some(earlier)).count,
        method.length_prior,
        FIT_STEPS,
    )
}

/// ln p(y of the top rung | y of the rungs below), in units of the standard deviation of the former.
fn ln_predictive_density(
    method: &Tandem,
    parameters: &KernelParameters,
    mut observations: Vec<Observation>,
) -> f64 {
    observations.sort_by_key(|o| o.rung);
    let top = observations.partition_point(|o| o.rung + 1 < method.num_rungs);
    let values: Vec<f64> = observations[top..].iter().map(|o| o.value).collect();
    match Surrogate::new(&method.features, parameters, &observations, &[], 0) {
        Some(model) => {
            model.ln_density_of_last(values.len()) + values.len() as f64 * ln_deviation(&values)
        }
        None => f64::NEG_INFINITY, // singular
    }
}

/// Of equal values: a small number, the same for all models.
fn ln_deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / n;
    0.5 * libm::log(square.max(1e-18))
}

fn normalised(models: Vec<(usize, f64, KernelParameters)>) -> Vec<RungModel> {
    let largest = models
        .iter()
        .map(|(_, ln_weight, _)| *ln_weight)
        .fold(f64::NEG_INFINITY, f64::max);
    // All singular: all alike.
    let largest = if largest.is_finite() { largest } else { 0.0 };
    let sum: f64 = models.iter().map(|m| libm::exp(m.1 - largest)).sum();
    let alike = 1.0 / models.len() as f64;
    models
        .into_iter()
        .map(|(lowest_rung, ln_weight, parameters)| RungModel {
            lowest_rung,
            earlier: None,
            weight: if sum > 0.0 {
                libm::exp(ln_weight - largest) / sum
            } else {
                alike
            },
            parameters,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;
    use shared::search::MethodName;
    use shared::{ConfigurationId, Score, Seed};

    use super::*;
    use crate::bench::problem::Problem;
    use crate::bench::simulate;

    /// The models after 30 results of the lowest rung, whose loss at a point is `low`, and `num_top` of the top rung, of
    /// other configurations, whose loss is a bowl.
    fn fits(low: fn(&[f64], f64) -> f64, num_top: u32) -> RungModels {
        let mut problem = Problem::function("mf-hartmann3", None, None).unwrap();
        // With a rung between the lowest and the top.
        problem.first_rungs = Some(vec![0]);
        let search = simulate::search(&problem, MethodName::Tandem, false, 0).unwrap();
        let method = Tandem::new(&search);
        let mut history = History::new(&search.space);
        let mut rng = Seed::new(5).rng();
        for number in 0..30 + num_top {
            let id = ConfigurationId(number);
            let vector = search.space.sample(&mut rng);
            let (rung, loss) = if number < 30 {
                (0, low(&vector, rng.random()))
            } else {
                (search.ladder.top(), bowl(&vector))
            };
            history.ask(id);
            history.know(id, vector.clone());
            history.learn(id.job(rung), Some(Score::Loss(loss)), vector);
        }
        let count = history.arrivals().len();
        RungModels::new(&method, &history, count)
    }

    fn bowl(x: &[f64]) -> f64 {
        x.iter().map(|x| (x - 0.6) * (x - 0.6)).sum()
    }

    fn weight_of_all(fits: &RungModels) -> f64 {
        let sum: f64 = fits.models.iter().map(|fit| fit.weight).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{fits:?}");
        assert_eq!(fits.models[0].lowest_rung, 0);
        fits.models[0].weight
    }

    #[test]
    fn small_budgets_are_believed_as_far_as_they_foretell_the_largest() {
        let informative = fits(|x, noise| bowl(x) + 0.02 * noise, 8);
        assert!(weight_of_all(&informative) > 0.9, "{informative:?}");
        let misleading = fits(|x, noise| -3.0 * bowl(x) + 0.02 * noise, 8);
        assert!(weight_of_all(&misleading) < 0.2, "{misleading:?}");
        let lengths: Vec<usize> = misleading.models.iter().map(|f| f.lowest_rung).collect();
        // Rungs without results make no models of their own.
        assert_eq!(lengths, [0, 1]);
    }

    #[test]
    fn all_are_believed_while_the_top_has_few_results() {
        let few = fits(|x, _| -bowl(x), 3);
        assert_eq!(few.models.len(), 1);
        assert!(weight_of_all(&few) > 0.999);
    }

    #[test]
    fn models_are_drawn_by_weight() {
        let mut fits = fits(|x, _| bowl(x), 4);
        for (fit, weight) in fits.models.iter_mut().zip([0.25, 0.75]) {
            fit.weight = weight;
        }
        let mut rng = Seed::new(1).rng();
        let lowest = (0..4000)
            .filter(|_| fits.draw(&mut rng).lowest_rung == 0)
            .count();
        // Four standard deviations are 110.
        assert!(lowest.abs_diff(1000) < 110, "{lowest}");
    }

    #[test]
    fn models_that_fail_count_alike() {
        let parameters = KernelParameters::prior(2, 2, crate::surrogate::LengthPrior::Medium);
        let models = vec![
            (0, f64::NEG_INFINITY, parameters.clone()),
            (1, f64::NEG_INFINITY, parameters),
        ];
        let weights: Vec<f64> = normalised(models).iter().map(|fit| fit.weight).collect();
        assert!(
            weights.iter().all(|w| (w - 0.5).abs() < 1e-15),
            "{weights:?}"
        );
    }
}
