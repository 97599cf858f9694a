//! What the user believes about good values (`prior` and `confidence` in the space), and how far results bear it out.
//!
//! ```text
//! π(x) = Πⱼ πⱼ(xⱼ)      over the dimensions that have a belief, relative to the uniform density; κ: sharpness
//! number, ordinal   ∝ exp(-½ κ² (x - c)²), cut off at the ends of the range      c: the believed value
//! category          ∝ κ at the believed level, 1 at each other one
//! trust = Φ(Σᵣ zᵣ / √R),   zᵣ = -(rank correlation of π and loss on rung r) √(nᵣ - 1)
//! ```
//! over the R rungs with three results or more, each with its newest [`MOST_RESULTS`]. Where π has nothing to do with
//! the losses, the trust is uniform over `[0, 1]`; it goes to 0 where believed configurations do worse than others, and
//! to 1 where they do better. A wrong belief is therefore given up after a handful of results.
//!
//! Range of validity: any space with a belief. Results with equal losses share their rank; a rung on which all are
//! equal says nothing. Failures rank last. Inactive dimensions say nothing. No result: trust ½.
//!
//! # Source
//! The shape of the density: Mallik et al. 2023, `PriorBand`. That a belief is to lose its weight as results come: Hvarfner
//! et al. 2022, `πBO`, who let it fade with their number and not by what they say.

use rand_chacha::ChaCha12Rng;
use shared::ranks::{correlation, mean_ranks};
use shared::space::Kind;
use shared::{Ranked, SearchSpace};

use crate::draw;
use crate::normal;

/// Results of a rung that are compared with the belief at most, so that the cost of a proposal stays the same.
pub const MOST_RESULTS: usize = 100;
/// The largest share of draws that follow the belief: the others go on to test it.
const LARGEST_SHARE: f64 = 0.75;

/// The beliefs of a space, by dimension.
#[derive(Debug, Clone)]
pub struct UserPrior {
    marginals: Vec<Option<Marginal>>,
}

/// One dimension's belief.
#[derive(Debug, Clone)]
enum Marginal {
    /// Centre and standard deviation, in the unit interval.
    Number { centre: f64, deviation: f64 },
    /// Probability of each level.
    Levels(Vec<f64>),
}

impl UserPrior {
    /// Those of a space; `None` where there are none.
    pub(crate) fn of_space(space: &SearchSpace) -> Option<Self> {
        let marginal = |h: &shared::space::Hyperparameter| {
            let belief = h.user_prior.as_ref()?;
            let centre = h.kind.encode(&belief.value)?;
            let sharpness = belief.confidence.sharpness();
            Some(match (&h.kind, h.kind.num_levels()) {
                (Kind::Categorical { .. }, Some(levels)) => Marginal::levels(levels, |level| {
                    if (level - centre).abs() < 0.5 {
                        sharpness
                    } else {
                        1.0
                    }
                }),
                (_, Some(levels)) => Marginal::levels(levels, |level| {
                    let z = sharpness * (level - centre) / (levels.max(2) - 1) as f64;
                    libm::exp(-0.5 * z * z)
                }),
                (_, None) => Marginal::Number {
                    centre,
                    deviation: 1.0 / sharpness,
                },
            })
        };
        let marginals: Vec<Option<Marginal>> = space.dimensions().map(marginal).collect();
        let has_any = marginals.iter().any(Option::is_some);
        has_any.then_some(Self { marginals })
    }

    /// A draw from π that is not forbidden, uniform where there is no belief.
    pub fn draw(&self, space: &SearchSpace, rng: &mut ChaCha12Rng) -> Vec<f64> {
        space.first_allowed(rng, |rng| {
            let mut vector = space.sample(rng);
            for (x, marginal) in vector.iter_mut().zip(&self.marginals) {
                match marginal {
                    None => {}
                    Some(Marginal::Number { centre, deviation }) => {
                        *x = normal::draw_in_unit_interval(*centre, *deviation, rng);
                    }
                    Some(Marginal::Levels(shares)) => {
                        *x = draw::index(shares, rng) as f64;
                    }
                }
            }
            vector
        })
    }

    /// The believed values; uniform draws where there is no belief.
    pub fn centre(&self, space: &SearchSpace, rng: &mut ChaCha12Rng) -> Vec<f64> {
        let mut vector = space.sample(rng);
        for (x, marginal) in vector.iter_mut().zip(&self.marginals) {
            match marginal {
                None => {}
                Some(Marginal::Number { centre, .. }) => *x = *centre,
                Some(Marginal::Levels(shares)) => {
                    let likelier = |best: usize, level: usize| {
                        if shares[level] > shares[best] {
                            level
                        } else {
                            best
                        }
                    };
                    *x = (0..shares.len()).fold(0, likelier) as f64;
                }
            }
        }
        vector
    }

    /// ln π, relative to the uniform density.
    pub(crate) fn ln_density(&self, vector: &[f64]) -> f64 {
        let pairs = vector.iter().zip(&self.marginals);
        pairs
            .map(|(x, marginal)| match marginal {
                Some(marginal) if !x.is_nan() => marginal.ln_density(*x),
                _ => 0.0,
            })
            .sum()
    }

    /// How far the results bear the beliefs out: 0 to 1, ½ where they say nothing.
    ///
    /// `rungs`: of each rung the newest [`MOST_RESULTS`] results, best first, with their vectors.
    pub fn trust(&self, rungs: &[Vec<(Ranked, &[f64])>]) -> f64 {
        let mut sum = 0.0;
        let mut num_rungs = 0.0;
        for newest in rungs {
            let densities: Vec<f64> = newest
                .iter()
                .map(|(_, vector)| self.ln_density(vector))
                .collect();
            let by_loss = mean_ranks(newest, |a, b| a.0.cmp(&b.0), |a, b| a.0.score == b.0.score);
            let by_density = mean_ranks(&densities, f64::total_cmp, |a, b| a.total_cmp(b).is_eq());
            if newest.len() >= 3
                && let Some(correlation) = correlation(&by_loss, &by_density)
            {
                sum -= correlation * (newest.len() as f64 - 1.0).sqrt();
                num_rungs += 1.0;
            }
        }
        normal::distribution(sum / f64::max(num_rungs, 1.0).sqrt())
    }

    /// The share of draws that is to follow the belief: as much as it is trusted. `rungs` as in [`trust`](Self::trust).
    pub fn share(&self, rungs: &[Vec<(Ranked, &[f64])>]) -> f64 {
        self.trust(rungs).min(LARGEST_SHARE)
    }
}

impl Marginal {
    fn levels(count: usize, weight: impl Fn(f64) -> f64) -> Self {
        let weights: Vec<f64> = (0..count).map(|level| weight(level as f64)).collect();
        let sum: f64 = weights.iter().sum();
        Self::Levels(weights.iter().map(|w| w / sum).collect())
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "levels are not negative, and the cast saturates"
    )]
    fn ln_density(&self, x: f64) -> f64 {
        match self {
            Self::Number { centre, deviation } => {
                let z = (x - centre) / deviation;
                let inside = normal::distribution((1.0 - centre) / deviation)
                    - normal::distribution(-centre / deviation);
                -0.5 * z * z - normal::LN_SQRT_TWO_PI - libm::log(deviation * inside)
            }
            Self::Levels(shares) => {
                let level = (x.round() as usize).min(shares.len() - 1);
                libm::log(shares[level] * shares.len() as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::{ConfigurationId, Score, Seed};

    use super::*;
    use crate::history::History;

    fn space(more: &str) -> SearchSpace {
        let json = format!(
            r#"{{"hyperparameters":[
            {{"name":"x","type":"float","lower":0,"upper":2,"prior":0.5,"confidence":"high"}},
            {{"name":"k","type":"categorical","choices":["a","b","c"],"prior":"b","confidence":2}},
            {{"name":"s","type":"ordinal","sequence":[1,2,4],"prior":4,"confidence":"low"}},
            {{"name":"free","type":"float","lower":0,"upper":1}}{more}]}}"#
        );
        SearchSpace::new(&serde_json::from_str(&json).unwrap()).unwrap()
    }

    #[test]
    fn densities_integrate_to_one_and_draws_follow_them() {
        let space = space("");
        let user_prior = UserPrior::of_space(&space).unwrap();
        // The midpoint rule over x, the mean over the levels (the uniform density is 1 over each).
        let n = 2000;
        let mut sum = 0.0;
        for i in 0..n {
            for level in 0..9 {
                let x = (f64::from(i) + 0.5) / f64::from(n);
                let point = [x, f64::from(level % 3), f64::from(level / 3), 0.5];
                sum += libm::exp(user_prior.ln_density(&point)) / (9.0 * f64::from(n));
            }
        }
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        let mut rng = Seed::new(1).rng();
        let draws: Vec<Vec<f64>> = (0..20_000)
            .map(|_| user_prior.draw(&space, &mut rng))
            .collect();
        let share = |is: &dyn Fn(&Vec<f64>) -> bool| {
            draws.iter().filter(|v| is(v)).count() as f64 / draws.len() as f64
        };
        // Level b is twice as likely as a and c each. Ordinal weights exp(-2), exp(-1/2), 1.
        assert!((share(&|v| v[1] > 0.5 && v[1] < 1.5) - 0.5).abs() < 0.015);
        let total = (-2.0_f64).exp() + (-0.5_f64).exp() + 1.0;
        assert!((share(&|v| v[2] > 1.5) - 1.0 / total).abs() < 0.015);
        // One deviation (1/8) on both sides of 1/4, cut off two deviations below.
        let expected = 0.682_689_5 / 0.977_249_9;
        assert!((share(&|v| (v[0] - 0.25).abs() < 0.125) - expected).abs() < 0.015);
        assert!((share(&|v| v[3] < 0.5) - 0.5).abs() < 0.015);
        let centre = user_prior.centre(&space, &mut rng);
        assert!(
            centre[..3]
                .iter()
                .zip([0.25, 1.0, 2.0])
                .all(|(a, b)| (a - b).abs() < 1e-12)
        );
    }

    #[test]
    fn trust_is_what_results_say() {
        let space = space("");
        let user_prior = UserPrior::of_space(&space).unwrap();
        let trust = |count: u32, loss: &dyn Fn(&[f64]) -> Option<f64>| {
            let mut history = History::new(&space);
            let mut rng = Seed::new(7).rng();
            for number in 0..count {
                let vector = space.sample(&mut rng);
                let score = loss(&vector).map_or(Score::Failed, Score::Loss);
                let job = ConfigurationId(number).job(u8::from(number % 3 == 0));
                history.learn(job, Some(score), vector);
            }
            user_prior.trust(&history.newest(MOST_RESULTS))
        };
        assert!((trust(0, &|_| None) - 0.5).abs() < f64::MIN_POSITIVE);
        assert!((trust(30, &|_| None) - 0.5).abs() < 1e-15);
        assert!((trust(30, &|_| Some(1.0)) - 0.5).abs() < 1e-15);
        assert!(trust(30, &|v| Some((v[0] - 0.25).abs())) > 0.99);
        assert!(trust(30, &|v| Some(-(v[0] - 0.25).abs())) < 0.01);
        assert!(trust(120, &|v| (v[0] > 0.4).then_some(0.0)) < 0.01);
    }
}
