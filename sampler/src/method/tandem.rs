//! Method `tandem`: expected improvement at the largest budget, under one model of the results of all budgets.
//!
//! The model is the Gaussian process of [`crate::surrogate`], over scores of losses ([`scores`]); small budgets are left
//! out of it as far as they foretell the largest one badly ([`rung_weights`]). A proposal is
//!
//! ```text
//! 10 %       a draw from the prior, so that no error of the model lasts
//! 54 %       the best of some draws from the prior, so that no region is forgotten and no corner overrated
//! 36 %       the best point found by climbing from many draws, mutations and crossings of the best ([`acquisition`])
//! ```
//! (22.5 % and 67.5 % in searches of revisions before the fourth). A proposal of the second kind is the best of as many draws
//! as half the number of results, 16 at least and 256 at most (before the fifth revision always 16): the more the model knows,
//! the more it is followed. "Best" means the largest expected improvement of f at the largest budget over the configuration
//! that is believed to be the best one: E max(f(x*) - ξ - f(x), 0), both uncertain and correlated. For half of the proposals
//! the margin ξ is 0, for the others a draw from `[0, 1]`: they leave the last digits of a known region to the former and look
//! for another one. A point next to x* shares its
//! uncertainty and has little to gain, however little is known of both; that keeps the method from asking the same
//! question again and again. Jobs under way count with their expected results.
//!
//! Where the search learns from earlier ones, models that see those are among the models ([`earlier`]).
//!
//! With `cost_aware`, "best" means the largest expected improvement by the second that a training takes, as far as results tell
//! ([`CostModel`]).
//!
//! Where the user believes in some values ([`crate::user_prior`]), the draws follow the belief as far as results bear it out,
//! and so do some proposals at first.
//!
//! Kernel parameters and weights are fitted when the number of results passes 8, 10, 12, … (about every 15 %), on the
//! results that were named first: what is fitted depends on the files alone, and one process that answered everything agrees with
//! another that starts now. In between, a proposal costs one factorisation of at most 200 observations.
//!
//! Range of validity: any space; fewer than eight results, or failures only: draws from the prior. Equal losses: the
//! model is flat and climbing spreads out. Scores, and with them proposals, do not change when every loss is shifted or
//! multiplied (but for rounding); other monotone transformations change them.
//!
//! # Source
//! Expected improvement: Jones, Schonlau and Welch 1998. Its logarithm: Ament et al. 2023. Budgets as steps of one
//! process: Kennedy and O'Hagan 2000. Comparison with an uncertain incumbent: Frazier, Powell and Dayanik 2009.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use serde_json::{Map, Value as Json, json};
use shared::record::ModelUse;
use shared::{Ranked, Score, Search, SearchSpace};

use crate::history::History;
use crate::kde::Dimension;
use crate::method::{Ask, Method, Suggestion, random};
use crate::surrogate::{Cost, CostModel, Features, LengthPrior, Observation, Surrogate};
use crate::user_prior::{MOST_RESULTS, UserPrior};

mod acquisition;
mod earlier;
mod rung_weights;
mod scores;

use earlier::Levels;
use rung_weights::{RungModel, RungModels};

/// Results needed before the model is asked. A model of fewer leads most of the first bracket after the best of a handful.
const FEWEST_RESULTS: usize = 8;
/// As many as that in searches of the first revision.
const FEWEST_RESULTS_AT_FIRST: usize = 4;
/// Results needed at the top rung before the rungs below are judged by it.
const FEWEST_AT_TOP: usize = 4;
/// Observations that the model is conditioned on at most: the factorisation's cost grows with the third power.
const MOST_OBSERVATIONS: usize = 200;
/// Observations that the parameters are fitted on at most: 40 factorisations.
const MOST_FITTED: usize = 120;
/// Configurations under way that are counted at most, the newest ones.
const MOST_UNDER_WAY: usize = 64;
/// Share of the proposals drawn from the prior.
const RANDOM_FRACTION: f64 = 0.1;
/// Share of the others that are the best of some draws from the prior.
const EXPLORING_FRACTION: f64 = 0.6;
/// The same in searches of revisions before the fourth.
const EXPLORING_FRACTION_BEFORE: f64 = 0.25;
/// Share of the proposals that follow what the user believes, if results bear it out fully.
const USER_PRIOR_FRACTION: f64 = 0.5;
/// Results after which that share is half.
const USER_PRIOR_HALF_LIFE: f64 = 20.0;
/// Draws that such a proposal is the best of, at least; in searches of revisions before the fifth always.
const NUM_EXPLORING: usize = 16;
/// As many at most.
const MOST_EXPLORING: usize = 256;
/// Between these bounds, results for each draw.
const RESULTS_PER_DRAW: usize = 2;
/// Share of the proposals that look for an improvement by more than a margin, drawn up to [`LARGEST_MARGIN`].
const AMBITIOUS_FRACTION: f64 = 0.5;
/// In units of scores, which have a standard deviation of about 1.
const LARGEST_MARGIN: f64 = 1.0;
/// Results whose costs are compared at most, the newest ones.
const MOST_COSTS: usize = 200;
/// Steps of a fit of the parameters.
const FIT_STEPS: usize = 40;

/// The method and what it fitted last.
#[derive(Debug)]
pub struct Tandem {
    space: SearchSpace,
    dimensions: Vec<Dimension>,
    features: Features,
    num_rungs: usize,
    fewest_results: usize,
    exploring_fraction: f64,
    most_exploring: usize,
    length_prior: LengthPrior,
    is_cost_aware: bool,
    fitted: Option<RungModels>,
    /// Of the last proposal.
    costs: Option<CostModel>,
}

impl Tandem {
    /// The method for a search.
    pub fn new(search: &Search) -> Self {
        let dimensions = Dimension::of_space(&search.space);
        let (fewest_results, length_prior) = match search.revision {
            1 => (FEWEST_RESULTS_AT_FIRST, LengthPrior::Short),
            _ => (FEWEST_RESULTS, LengthPrior::Medium),
        };
        Self {
            fewest_results,
            exploring_fraction: match search.revision {
                1..=3 => EXPLORING_FRACTION_BEFORE,
                _ => EXPLORING_FRACTION,
            },
            most_exploring: match search.revision {
                1..=4 => NUM_EXPLORING,
                _ => MOST_EXPLORING,
            },
            length_prior,
            space: search.space.clone(),
            features: Features::new(&dimensions),
            dimensions,
            num_rungs: usize::from(search.ladder.num_rungs()),
            is_cost_aware: search.is_cost_aware,
            fitted: None,
            costs: None,
        }
    }

    /// What trainings cost by the newest results, where that counts.
    fn cost_model(&self, history: &History) -> Option<CostModel> {
        if !self.is_cost_aware {
            return None;
        }
        let costs = history.arrivals().iter().rev().filter_map(|ranked| {
            let configuration = history.vector(ranked.job.configuration);
            Some(Cost {
                point: self.features.of_vector(configuration),
                rung: self.rung(ranked.job.rung),
                seconds: history.seconds(ranked.job)?,
            })
        });
        CostModel::new(&self.features, &costs.take(MOST_COSTS).collect::<Vec<_>>())
    }

    /// What is fitted on the first results named, as many as the last threshold passed.
    fn rung_models(&mut self, history: &History) -> &RungModels {
        let count = last_threshold(self.fewest_results, history.arrivals().len());
        let fits = match self.fitted.take() {
            Some(fits) if fits.count == count => fits,
            Some(_) | None => RungModels::new(self, history, count),
        };
        self.fitted.insert(fits)
    }

    /// What is suggested while a model cannot be asked, or must not be.
    fn without_model(&self, history: &History, rng: &mut ChaCha12Rng) -> Option<Suggestion> {
        let results = history.arrivals();
        if results.len() < self.fewest_results || self.dimensions.is_empty() {
            if let Some(suggestion) = earlier::first_ones(self, history, rng) {
                return Some(suggestion);
            }
            let reason = format!("a model needs {} results at least", self.fewest_results);
            return Some(random::draw(history, rng, reason));
        }
        if results.iter().all(|ranked| ranked.score == Score::Failed) {
            return Some(random::draw(
                history,
                rng,
                "every configuration so far has failed",
            ));
        }
        if rng.random::<f64>() < RANDOM_FRACTION {
            let reason = format!("a share of {RANDOM_FRACTION} is drawn from the prior");
            return Some(random::draw(history, rng, reason));
        }
        None
    }

    /// Some proposals follow what the user believes, fewer as results come.
    fn near_the_user_prior(
        &self,
        history: &History,
        believed: Option<(&UserPrior, f64)>,
        rng: &mut ChaCha12Rng,
    ) -> Option<Suggestion> {
        let (user_prior, trusted) = believed?;
        let num_results = history.arrivals().len() as f64;
        let fading = USER_PRIOR_HALF_LIFE / (USER_PRIOR_HALF_LIFE + num_results);
        let share = USER_PRIOR_FRACTION * trusted * fading;
        (rng.random::<f64>() < share).then(|| Suggestion {
            vector: user_prior.draw(&self.space, rng),
            source: "belief",
            reason: format!("a share of {share:.2} is near the values given as `prior`"),
            model: None,
        })
    }

    /// Draws from the prior that an exploring proposal is the best of: half as many as there are results, within bounds.
    fn num_exploring(&self, num_results: usize) -> usize {
        (num_results / RESULTS_PER_DRAW).clamp(NUM_EXPLORING, self.most_exploring)
    }

    fn rung(&self, rung: u8) -> usize {
        usize::from(rung).min(self.num_rungs - 1)
    }

    /// What a model sees, and how many of the first observations are those of the earlier search it sees, if any.
    ///
    /// # Shapes
    /// `by_rung`: the results of each rung, best first.
    fn observations(
        &self,
        history: &History,
        by_rung: &[&[Ranked]],
        most: usize,
        earlier: Option<usize>,
    ) -> (Vec<Observation>, usize) {
        let levels = self.levels(history, earlier);
        let mut observations = Vec::new();
        if let Some(earlier) = earlier {
            let num_own = by_rung.iter().map(|rung| rung.len()).sum();
            let search = &history.earlier()[earlier];
            observations = self.earlier_observations(search, &levels, num_own, most);
        }
        let num_earlier = observations.len();
        let chosen = choose(by_rung, most - num_earlier);
        let scores = scores::scores(&chosen);
        let observation = |(ranked, value): (&Ranked, f64)| Observation {
            point: self
                .features
                .of_vector(history.vector(ranked.job.configuration)),
            rung: levels.own[self.rung(ranked.job.rung)],
            value,
        };
        observations.extend(chosen.iter().zip(scores).map(observation));
        (observations, num_earlier)
    }

    fn levels(&self, history: &History, earlier: Option<usize>) -> Levels {
        Levels::new(
            self.num_rungs,
            earlier.map(|index| &history.earlier()[index]),
        )
    }

    /// What is under way, the newest first: jobs at their rungs, configurations without a job at the rung asked for.
    fn under_way(
        &self,
        history: &History,
        ask: &Ask<'_>,
        levels: &Levels,
    ) -> Vec<(Vec<f64>, usize)> {
        let ids = history.under_way(ask.configuration, ask.pending);
        let newest = ids.iter().rev().take(MOST_UNDER_WAY);
        newest
            .map(|id| {
                let job = ask.pending.iter().find(|job| job.configuration == *id);
                let rung = job.map_or(ask.rung, |job| job.rung);
                (
                    self.features.of_vector(history.vector(*id)),
                    levels.own[self.rung(rung)],
                )
            })
            .collect()
    }
}

impl Method for Tandem {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        let mut rng = ask.seed.rng();
        if let Some(suggestion) = self.without_model(history, &mut rng) {
            return suggestion;
        }
        let share = |prior: &UserPrior| prior.share(&history.newest(MOST_RESULTS));
        let believed = history.user_prior().map(|prior| (prior, share(prior)));
        if let Some(suggestion) = self.near_the_user_prior(history, believed, &mut rng) {
            return suggestion;
        }
        let RungModel {
            lowest_rung,
            earlier,
            weight,
            parameters,
        } = self.rung_models(history).draw(&mut rng).clone();
        let mut by_rung: Vec<&[Ranked]> = (0..ask_rungs(history, self.num_rungs))
            .map(|rung| history.rung(rung))
            .collect();
        by_rung[..lowest_rung].fill(&[]);
        let (observations, num_earlier) =
            self.observations(history, &by_rung, MOST_OBSERVATIONS, earlier);
        let under_way = self.under_way(history, ask, &self.levels(history, earlier));
        let model = Surrogate::new(
            &self.features,
            &parameters,
            &observations,
            &under_way,
            num_earlier,
        );
        let Some(model) = model else {
            return random::draw(history, &mut rng, "the model's covariances are singular");
        };
        let margin = draw_margin(&mut rng);
        self.costs = self.cost_model(history);
        let mut climb = acquisition::Maximizer::new(
            &self.space,
            &self.dimensions,
            &self.features,
            &model,
            margin,
        )
        .with_user_prior(believed)
        .with_costs(self.costs.as_ref());
        let is_exploring = rng.random::<f64>() < self.exploring_fraction;
        let best = if is_exploring {
            climb.best_of_prior(self.num_exploring(history.arrivals().len()), &mut rng)
        } else {
            climb.best(&observations, &mut rng)
        };
        let act = ["candidates", "draws from the prior"][usize::from(is_exploring)];
        Suggestion {
            vector: best.vector,
            source: "model",
            reason: format!(
                "the largest expected improvement{} among {} {act}, by {} results of {}",
                ["", " by the second"][usize::from(self.costs.is_some())],
                climb.num_candidates(),
                observations.len() - num_earlier,
                believed_results(history, lowest_rung, self.num_rungs, earlier, weight)
            ),
            model: Some(ModelUse {
                rung: history.num_rungs() - 1,
                num_good: observations.len() as u64,
                num_bad: 0,
                num_candidates: climb.num_candidates(),
                log_acquisition: best.ln_improvement,
            }),
        }
    }

    fn fitted(&self) -> Map<String, Json> {
        let Some(fits) = &self.fitted else {
            return Map::new();
        };
        let by_name = |numbers: Vec<f64>| -> Map<String, Json> {
            let names = self.space.dimensions().map(|h| h.name.clone());
            let pairs = names.zip(numbers);
            pairs.map(|(name, number)| (name, json!(number))).collect()
        };
        let model = |fit: &RungModel| {
            let lengths = by_name(fit.parameters.lengths());
            json!({
                "lowest_rung": fit.lowest_rung,
                "earlier_search": fit.earlier,
                "weight": fit.weight,
                "lengths": lengths,
                "correlation_with_top_rung": fit.parameters.correlations(),
            })
        };
        let mut fitted = Map::new();
        fitted.insert("num_results".into(), json!(fits.count));
        fitted.insert(
            "models".into(),
            fits.models.iter().map(model).collect::<Vec<Json>>().into(),
        );
        if let Some(costs) = &self.costs {
            let factors = by_name(costs.factors(&self.features));
            fitted.insert("largest_ratio_of_costs".into(), factors.into());
        }
        fitted
    }
}

fn draw_margin(rng: &mut ChaCha12Rng) -> f64 {
    if rng.random::<f64>() < AMBITIOUS_FRACTION {
        LARGEST_MARGIN * rng.random::<f64>()
    } else {
        0.0
    }
}

/// Words for what a model sees.
fn believed_results(
    history: &History,
    lowest: usize,
    num_rungs: usize,
    earlier: Option<usize>,
    weight: f64,
) -> String {
    let Some(earlier) = earlier else {
        return believed_rungs(lowest, num_rungs, weight);
    };
    let search = &history.earlier()[earlier];
    let share = 100.0 * weight;
    format!(
        "all rungs and those of `{}` (weight {share:.0} %)",
        search.source
    )
}

/// Words for the results a model sees.
fn believed_rungs(lowest: usize, num_rungs: usize, weight: f64) -> String {
    let share = 100.0 * weight;
    match lowest {
        0 => format!("all rungs (weight {share:.0} %)"),
        _ if lowest + 1 == num_rungs => {
            format!(
                "the top rung alone, because those below foretell it badly (weight {share:.0} %)"
            )
        }
        _ => format!(
            "rungs {lowest} and up, because those below foretell the top badly (weight {share:.0} %)"
        ),
    }
}

/// How many rungs the history has results of, as far as the ladder goes.
fn ask_rungs(history: &History, num_rungs: usize) -> u8 {
    history
        .num_rungs()
        .min(u8::try_from(num_rungs).unwrap_or(u8::MAX)) // a ladder has at most 54
}

/// The largest number, of `fewest` and others of which each is a seventh (at least 2) more than the one before, that is at
/// most `count`.
fn last_threshold(fewest: usize, count: usize) -> usize {
    let mut threshold = fewest;
    loop {
        let next = threshold + (threshold / 7).max(2);
        if next > count {
            return threshold;
        }
        threshold = next;
    }
}

/// At most `count` results, in the order of their jobs: equal shares for the rungs, and what the upper ones do not need
/// for the lower ones. Two thirds of a rung's share are its best, the rest an even sample of the others.
fn choose(by_rung: &[&[Ranked]], count: usize) -> Vec<Ranked> {
    let mut chosen = Vec::new();
    let mut left = count;
    for (rungs_below, rung) in by_rung.iter().enumerate().rev() {
        let share = (left / (rungs_below + 1)).min(rung.len());
        let num_others = if share < rung.len() { share / 3 } else { 0 };
        let (best, others) = rung.split_at(share - num_others);
        chosen.extend(best);
        chosen.extend((0..num_others).map(|i| others[i * others.len() / num_others]));
        left -= share;
    }
    chosen.sort_unstable_by_key(|ranked| ranked.job);
    chosen
}

#[cfg(test)]
mod tests {
    use shared::ConfigurationId;
    use shared::search::MethodName;

    use super::*;
    use crate::bench::problem::Problem;
    use crate::bench::simulate;

    #[test]
    fn scales_are_fitted_again_every_seventh() {
        let thresholds: Vec<usize> = (8..=30).map(|count| last_threshold(8, count)).collect();
        assert_eq!(thresholds[..5], [8, 8, 10, 10, 12]);
        assert_eq!(last_threshold(8, 1000), last_threshold(8, 1001));
        let mut all: Vec<usize> = (8..100_000).map(|count| last_threshold(8, count)).collect();
        all.dedup();
        assert!(all.len() < 80, "{}", all.len());
    }

    #[test]
    fn more_draws_are_compared_as_results_come_since_the_fifth_revision() {
        let problem = Problem::function("branin", None, None).unwrap();
        let mut search = simulate::search(&problem, MethodName::Tandem, false, 0).unwrap();
        let counts = |search: &Search| {
            let tandem = Tandem::new(search);
            [8, 33, 40, 320, 100_000].map(|num_results| tandem.num_exploring(num_results))
        };
        assert_eq!(counts(&search), [16, 16, 20, 160, 256]);
        search.revision = 4;
        assert_eq!(counts(&search), [16; 5]);
    }

    #[test]
    fn the_model_sees_the_best_of_every_rung_and_some_of_the_rest() {
        let rung = |rung: u8, count: u32| -> Vec<Ranked> {
            (0..count)
                .map(|number| Ranked {
                    score: Score::Loss(f64::from(number)),
                    job: ConfigurationId(number).job(rung),
                })
                .collect()
        };
        let (lower, middle, upper) = (rung(0, 1000), rung(1, 300), rung(2, 5));
        let chosen = choose(&[&lower, &middle, &upper], 100);
        assert_eq!(chosen.len(), 100);
        let of = |wanted: u8| -> Vec<u32> {
            let on_rung = chosen.iter().filter(|r| r.job.rung == wanted);
            on_rung.map(|r| r.job.configuration.0).collect()
        };
        assert_eq!(of(2), [0, 1, 2, 3, 4]);
        assert_eq!(of(1).len(), 47);
        assert_eq!(of(1)[..32], (0..32).collect::<Vec<u32>>());
        assert!(of(0).len() == 48 && of(0)[47] > 900);
        assert_eq!(choose(&[&lower[..7], &[], &upper], 100).len(), 12);
    }

    /// Mean x of what is proposed after twenty results at the top rung whose losses say nothing of x, and whose trainings take
    /// 16 times as long at x = 1 as at x = 0, if their seconds are known.
    fn mean_of_proposals(is_cost_aware: bool, are_known: bool) -> f64 {
        let problem = Problem::function("branin", None, None).unwrap();
        let mut search = simulate::search(&problem, MethodName::Tandem, false, 0).unwrap();
        search.is_cost_aware = is_cost_aware;
        let mut history = History::new(&search.space);
        for number in 0..20 {
            let (x, y) = (f64::from(number) / 19.0, f64::from(number * 7 % 20) / 19.0);
            let job = ConfigurationId(number).job(search.ladder.top());
            history.ask(job.configuration);
            history.learn(job, Some(Score::Loss((y - 0.5) * (y - 0.5))), vec![x, y]);
            if are_known {
                history.took(job, libm::exp2(4.0 * x));
            }
        }
        let mut tandem = Tandem::new(&search);
        let proposals = (0..60).map(|seed| {
            let ask = Ask {
                configuration: ConfigurationId(20),
                rung: 0,
                pending: &[],
                seed: shared::Seed::new(seed),
            };
            tandem.propose(&history, &ask).vector[0]
        });
        proposals.sum::<f64>() / 60.0
    }

    #[test]
    fn of_equally_good_configurations_the_cheaper_ones_are_asked_for_where_costs_count() {
        let cheap = mean_of_proposals(true, true);
        let plain = mean_of_proposals(false, true);
        assert!(cheap < plain - 0.1, "{cheap} {plain}");
        // Nothing is known of costs.
        let unknown = mean_of_proposals(true, false);
        assert!((unknown - plain).abs() < f64::EPSILON, "{unknown} {plain}");
    }
}
