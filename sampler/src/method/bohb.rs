//! Method `bohb`: the model of Bayesian optimisation and Hyperband, as HpBandSter 0.7.4 computes it.
//!
//! On a rung with N results, with n the setting `min_points_in_model` (at least d + 1) and α `top_n_percent`:
//!
//! ```text
//! good = the best max(n, ⌊α N / 100⌋)          bad = the next max(n, ⌊(100 - α) N / 100⌋)
//! l, g = product kernel densities of good and bad (`crate::kde`)
//! ```
//! A rung has a model when both sets have more than d rows, so from 2d + 2 results on; the largest rung that has one is
//! used for every proposal. With probability `random_fraction` a proposal is a draw from the prior. Else `num_samples`
//! (64) candidates are drawn, each around a random good row, and the one with the largest l/g is proposed: for numbers
//! a normal distribution cut off at 0 and 1, `bandwidth_factor` times as wide as the kernel; a category stays with
//! probability 1 - h, else it is any of its levels.
//!
//! Range of validity: any N, d ≥ 1. No model, or no dimension: a draw from the prior. All losses equal: job ids decide
//! what is good. All failed: likewise. Equal rows: bandwidth `min_bandwidth`.
//!
//! # What is repaired
//! With the setting `faithful` the first five, the eleventh and the last are as in HpBandSter, because they change
//! proposals.
//!
//! 1. *Pending jobs are seen*: configurations under way count as bad, the newest at most as many as there are bad rows,
//!    so that parallel proposals keep away from each other.
//! 2. *Levels are counted from the space*, not from the rows. HpBandSter divides by zero for a category of which the
//!    rows hold one level: such candidates look infinitely good (not in the good rows) or are taken at once (not in the
//!    bad rows).
//! 3. *Bandwidths of categories end at (c-1)/c*, where the kernel is uniform; HpBandSter's go on until densities are
//!    negative (here `faithful` stops at 1).
//! 4. *Densities are compared in log space*; HpBandSter's stop at 1e-32, which many rows reach in 20 dimensions and more.
//! 5. *Constants are no dimensions.* HpBandSter counts them, and so needs more results before its first model. (Not
//!    copied by `faithful` either: leave constants out for a comparison.)
//! 6. *Inactive dimensions are filled from other rows also in dimension 0*, which HpBandSter's loop leaves NaN.
//! 7. *Results below the largest rung with a model are kept.* HpBandSter drops them. Its proposals never use them
//!    either, so this changes what people can see, and no proposal.
//! 8. *A dead worker's job is no result*; HpBandSter counts it as loss +∞. A configuration's own failure is worse than
//!    every loss in both.
//! 9. *Chance comes from the search's seed*, not from a global generator.
//! 10. *A forbidden candidate is passed over*; HpBandSter draws from the prior where the best candidate is forbidden.
//! 11. *Draws from the prior follow the user's beliefs* where there are any; HpBandSter knows of none, nor does
//!     `faithful`.
//! 12. *Ordinals have a kernel of their own*; HpBandSter refuses them. A candidate's ordinal is drawn from the kernel.
//! 13. *A density has 512 rows at most*: of a larger set every k-th, from the best to the worst. HpBandSter's proposals
//!     cost more with every result. (With `faithful` so do these.)
//!
//! # Source
//! Falkner, Klein and Hutter 2018, BOHB: Robust and Efficient Hyperparameter Optimization at Scale, section 4;
//! HpBandSter 0.7.4, `optimizers/config_generators/bohb.py`.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use serde_json::{Map, Value as Json, json};
use shared::record::ModelUse;
use shared::search::BohbSettings;
use shared::{ConfigurationId, SearchSpace, Seed};

use crate::history::History;
use crate::kde::{Density, Dimension, normal_reference};
use crate::method::{Ask, Method, Suggestion, random};
use crate::normal;

/// Where HpBandSter's densities stop.
const FAITHFUL_SMALLEST_DENSITY: f64 = 1e-32;

/// Rows of a density at most, so that a proposal costs the same however long the search is.
const MOST_ROWS: usize = 512;

/// The method and what it fitted last.
#[derive(Debug)]
pub struct Bohb {
    settings: BohbSettings,
    dimensions: Vec<Dimension>,
    names: Vec<String>,
    seed: Seed,
    fitted: Option<Model>,
}

/// The good and the bad density of a rung.
#[derive(Debug)]
struct Model {
    rung: u8,
    /// How many results the rung had.
    num_results: usize,
    good_rows: Vec<Vec<f64>>,
    good: Density,
    bad: Density,
    /// How many of the bad rows are configurations under way.
    num_under_way: usize,
    quirk: Option<Quirk>,
}

/// HpBandSter's division by zero: by dimension, the only level that the rows hold, if there is only one.
#[derive(Debug)]
struct Quirk {
    good: Vec<Option<f64>>,
    bad: Vec<Option<f64>>,
}

impl Bohb {
    /// The method for a space.
    pub fn new(space: &SearchSpace, settings: BohbSettings, seed: Seed) -> Self {
        Self {
            settings,
            dimensions: Dimension::of_space(space),
            names: space.dimensions().map(|h| h.name.clone()).collect(),
            seed,
            fitted: None,
        }
    }

    /// ln l(x)/g(x) of points under the model that a question would be answered with, as `propose` compares candidates;
    /// `None` where no rung has a model, NaN where the densities cannot be compared.
    pub fn log_acquisition(
        &self,
        history: &History,
        ask: &Ask<'_>,
        points: &[Vec<f64>],
    ) -> Option<Vec<f64>> {
        let model = self.fit(history, ask)?;
        let mut terms = Vec::new();
        let value = |point: &Vec<f64>| match model.score(point, &mut terms) {
            Acquisition::Known(score) => score,
            Acquisition::Unknown => f64::NAN,
            Acquisition::TakeAtOnce => f64::MAX,
        };
        Some(points.iter().map(value).collect())
    }

    /// Sizes of the good and the bad set of `num_results` results; `None` if they carry no model.
    fn split(&self, num_results: usize) -> Option<(usize, usize)> {
        let d = self.dimensions.len();
        let wanted = self.settings.min_points_in_model.unwrap_or(0);
        let min_points = usize::try_from(wanted).unwrap_or(usize::MAX).max(d + 1);
        let percent = usize::try_from(self.settings.top_n_percent).unwrap_or(100);
        let num_good = min_points.max(percent * num_results / 100);
        let num_bad = min_points.max((100 - percent) * num_results / 100);
        let num_bad = num_bad.min(num_results.checked_sub(num_good)?);
        (d > 0 && num_bad > d).then_some((num_good, num_bad))
    }

    /// The largest rung that has a model, and the sizes of its sets.
    fn best_rung(&self, history: &History) -> Option<(u8, usize, usize)> {
        (0..history.num_rungs()).rev().find_map(|rung| {
            let (num_good, num_bad) = self.split(history.rung(rung).len())?;
            Some((rung, num_good, num_bad))
        })
    }

    fn fit(&self, history: &History, ask: &Ask<'_>) -> Option<Model> {
        let (rung, num_good, num_bad) = self.best_rung(history)?;
        let results = history.rung(rung);
        let under_way = if self.settings.faithful {
            Vec::new()
        } else {
            history.under_way(ask.configuration, ask.pending)
        };
        let newest = &under_way[under_way.len().saturating_sub(num_bad)..];
        let row = |id: ConfigurationId| history.vector(id).to_vec();
        let good = self.chosen(num_good);
        let mut good_rows: Vec<Vec<f64>> =
            good.map(|i| row(results[i].job.configuration)).collect();
        let bad: Vec<usize> = self.chosen(num_bad + newest.len()).collect();
        let num_under_way = bad.iter().filter(|i| **i >= num_bad).count();
        let mut bad_rows: Vec<Vec<f64>> = bad
            .into_iter()
            .map(|i| match i.checked_sub(num_bad) {
                Some(i) => row(newest[i]),
                None => row(results[num_good + i].job.configuration),
            })
            .collect();
        let impute = |rows: &mut Vec<Vec<f64>>, set: &str| {
            let id = format!("{set} of {} on rung {rung}", results.len());
            impute(
                rows,
                &self.dimensions,
                &mut self.seed.child("imputation", id).rng(),
            );
        };
        impute(&mut good_rows, "good");
        impute(&mut bad_rows, "bad");
        Some(Model {
            rung,
            num_results: results.len(),
            good: self.density(&good_rows)?,
            bad: self.density(&bad_rows)?,
            quirk: self.settings.faithful.then(|| Quirk {
                good: only_levels(&self.dimensions, &good_rows),
                bad: only_levels(&self.dimensions, &bad_rows),
            }),
            good_rows,
            num_under_way,
        })
    }

    /// Which of `number` rows a density is made from: all, or if there are too many, some at equal distances.
    fn chosen(&self, number: usize) -> impl Iterator<Item = usize> + use<> {
        let most = if self.settings.faithful {
            usize::MAX
        } else {
            MOST_ROWS
        };
        let count = number.min(most);
        (0..count).map(move |i| {
            if count == number {
                i
            } else {
                i * number / count
            }
        })
    }

    fn density(&self, rows: &[Vec<f64>]) -> Option<Density> {
        let min_bandwidth = self.settings.min_bandwidth;
        if !self.settings.faithful {
            return Density::fit(&self.dimensions, rows, min_bandwidth);
        }
        let counted: Vec<Dimension> = self
            .dimensions
            .iter()
            .enumerate()
            .map(|(j, dimension)| match dimension {
                Dimension::Unordered { .. } => Dimension::Unordered {
                    levels: count_levels(rows, j),
                },
                Dimension::Continuous | Dimension::Ordered { .. } => *dimension,
            })
            .collect();
        let bandwidths: Vec<f64> = normal_reference(self.dimensions.len(), rows)
            .into_iter()
            .zip(&self.dimensions)
            .map(|(h, dimension)| match dimension {
                Dimension::Continuous => h.max(min_bandwidth),
                Dimension::Unordered { .. } => h.clamp(min_bandwidth, 1.0),
                Dimension::Ordered { .. } => {
                    h.max(min_bandwidth).min(dimension.largest_bandwidth())
                }
            })
            .collect();
        Density::new(&counted, rows, &bandwidths)
    }

    /// The candidate with the largest l/g that is not forbidden, the first of equals, and its ln l/g.
    fn best_candidate(
        &self,
        model: &Model,
        space: &SearchSpace,
        rng: &mut ChaCha12Rng,
    ) -> Option<(f64, Vec<f64>)> {
        let mut best: Option<(f64, Vec<f64>)> = None;
        let mut terms = Vec::new();
        for _ in 0..self.settings.num_samples {
            let candidate = self.candidate(model, rng);
            if !space.allows_vector(&candidate) {
                continue;
            }
            match model.score(&candidate, &mut terms) {
                Acquisition::TakeAtOnce => return Some((f64::MAX, candidate)),
                Acquisition::Unknown => {}
                Acquisition::Known(score) => {
                    if best.as_ref().is_none_or(|(best, _)| score > *best) {
                        best = Some((score, candidate));
                    }
                }
            }
        }
        best
    }

    /// A point near a random good row.
    fn candidate(&self, model: &Model, rng: &mut ChaCha12Rng) -> Vec<f64> {
        let centre = &model.good_rows[rng.random_range(0..model.good_rows.len())];
        self.dimensions
            .iter()
            .zip(centre)
            .zip(model.good.bandwidths())
            .map(|((dimension, centre), h)| match *dimension {
                Dimension::Continuous => {
                    normal::draw_in_unit_interval(*centre, self.settings.bandwidth_factor * h, rng)
                }
                Dimension::Unordered { levels } => {
                    if rng.random::<f64>() < 1.0 - h {
                        *centre
                    } else {
                        rng.random_range(0..levels) as f64
                    }
                }
                Dimension::Ordered { levels } => draw_ordered(*centre, *h, levels, rng),
            })
            .collect()
    }
}

impl Bohb {
    /// HpBandSter knows of no beliefs.
    fn draw(
        &self,
        history: &History,
        rng: &mut ChaCha12Rng,
        reason: impl Into<String>,
    ) -> Suggestion {
        if self.settings.faithful {
            random::uniform(history, rng, reason)
        } else {
            random::draw(history, rng, reason)
        }
    }
}

impl Method for Bohb {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        let mut rng = ask.seed.rng();
        if self.best_rung(history).is_none() {
            let needed = 2 * (self.dimensions.len() + 1);
            let reason = format!("no rung has the {needed} results that a model needs at least");
            return self.draw(history, &mut rng, reason);
        }
        // As in HpBandSter, chance is asked only where there is a choice.
        if rng.random::<f64>() < self.settings.random_fraction {
            let share = self.settings.random_fraction;
            let reason = format!("a share of {share:.3} of the proposals is drawn from the prior");
            return self.draw(history, &mut rng, reason);
        }
        let Some(model) = self.fit(history, ask) else {
            return self.draw(history, &mut rng, "no density could be fitted");
        };
        let suggestion = match self.best_candidate(&model, history.space(), &mut rng) {
            Some((score, vector)) => Suggestion {
                vector,
                source: "model",
                reason: format!(
                    "the largest l/g among {} candidates near the best of rung {}",
                    self.settings.num_samples, model.rung
                ),
                model: Some(model.usage(score, self.settings.num_samples)),
            },
            None => self.draw(
                history,
                &mut rng,
                "no candidate is allowed and has a density",
            ),
        };
        self.fitted = Some(model);
        suggestion
    }

    fn fitted(&self) -> Map<String, Json> {
        let Some(model) = &self.fitted else {
            return Map::new();
        };
        let bandwidths = |density: &Density| -> Json {
            let pairs = self.names.iter().cloned().zip(density.bandwidths());
            pairs
                .map(|(name, h)| (name, json!(h)))
                .collect::<Map<_, _>>()
                .into()
        };
        let mut fitted = Map::new();
        fitted.insert("rung".into(), model.rung.into());
        fitted.insert("num_results".into(), model.num_results.into());
        fitted.insert("num_good".into(), model.good.num_rows().into());
        fitted.insert("num_bad".into(), model.bad.num_rows().into());
        fitted.insert("num_under_way".into(), model.num_under_way.into());
        fitted.insert("good_bandwidths".into(), bandwidths(&model.good));
        fitted.insert("bad_bandwidths".into(), bandwidths(&model.bad));
        fitted
    }
}

/// What a candidate is worth.
enum Acquisition {
    /// ln l(x)/g(x), finite.
    Known(f64),
    /// The densities divide to nothing that could be compared.
    Unknown,
    /// HpBandSter's way out of an infinite g: no candidate after this one is looked at.
    TakeAtOnce,
}

impl Model {
    fn score(&self, candidate: &[f64], terms: &mut Vec<f64>) -> Acquisition {
        let ln_good = self.good.ln_pdf_into(candidate, terms);
        let ln_bad = self.bad.ln_pdf_into(candidate, terms);
        let Some(quirk) = &self.quirk else {
            // Two densities that underflow even as logarithms say nothing about each other.
            let score = ln_good - ln_bad;
            return if score.is_nan() {
                Acquisition::Unknown
            } else {
                Acquisition::Known(score.clamp(f64::MIN, f64::MAX))
            };
        };
        let is_infinite = |only: &[Option<f64>]| {
            only.iter()
                .zip(candidate)
                .any(|(only, x)| only.is_some_and(|level| (level - x).abs() > 0.5))
        };
        let smallest = libm::log(FAITHFUL_SMALLEST_DENSITY);
        match (is_infinite(&quirk.good), is_infinite(&quirk.bad)) {
            (false, false) => Acquisition::Known(ln_good.max(smallest) - ln_bad.max(smallest)),
            (true, false) => Acquisition::Known(f64::MAX),
            (false, true) => Acquisition::TakeAtOnce,
            (true, true) => Acquisition::Unknown,
        }
    }

    fn usage(&self, log_acquisition: f64, num_candidates: u32) -> ModelUse {
        ModelUse {
            rung: self.rung,
            num_good: self.good.num_rows() as u64,
            num_bad: self.bad.num_rows() as u64,
            num_candidates: u64::from(num_candidates),
            log_acquisition,
        }
    }
}

/// A level drawn from the ordered kernel around `centre`, restricted to the levels there are.
fn draw_ordered(centre: f64, h: f64, levels: usize, rng: &mut ChaCha12Rng) -> f64 {
    let weight = |level: usize| {
        let steps = (level as f64 - centre).abs();
        if steps < 0.5 {
            1.0 - h
        } else {
            0.5 * (1.0 - h) * libm::pow(h, steps)
        }
    };
    let total: f64 = (0..levels).map(weight).sum();
    let mut left = rng.random::<f64>() * total;
    for level in 0..levels {
        left -= weight(level);
        if left < 0.0 {
            return level as f64;
        }
    }
    centre
}

/// Fills the inactive dimensions (NaN) of each row: from another random row that has a value for the first of them,
/// which gives its values for all of them that it has; from the prior where no row has a value.
pub fn impute(rows: &mut Vec<Vec<f64>>, dimensions: &[Dimension], rng: &mut ChaCha12Rng) {
    if rows.iter().all(|row| row.iter().all(|x| !x.is_nan())) {
        return;
    }
    let original = rows.clone();
    // Rows that have a value, by dimension.
    let with_value: Vec<Vec<usize>> = (0..dimensions.len())
        .map(|j| {
            (0..original.len())
                .filter(|i| !original[*i][j].is_nan())
                .collect()
        })
        .collect();
    for row in rows {
        while let Some(first) = row.iter().position(|x| x.is_nan()) {
            let donors = &with_value[first];
            if donors.is_empty() {
                row[first] = match dimensions[first].levels() {
                    None => rng.random(),
                    Some(levels) => rng.random_range(0..levels) as f64,
                };
                continue;
            }
            let donor = &original[donors[rng.random_range(0..donors.len())]];
            for (x, given) in row.iter_mut().zip(donor) {
                if x.is_nan() {
                    *x = *given;
                }
            }
        }
    }
}

fn count_levels(rows: &[Vec<f64>], j: usize) -> usize {
    let mut levels: Vec<f64> = rows.iter().map(|row| row[j]).collect();
    levels.sort_unstable_by(f64::total_cmp);
    levels.dedup_by(|a, b| (*a - *b).abs() < 0.5);
    levels.len()
}

fn only_levels(dimensions: &[Dimension], rows: &[Vec<f64>]) -> Vec<Option<f64>> {
    let only = |(j, dimension): (usize, &Dimension)| match dimension {
        Dimension::Unordered { .. } if count_levels(rows, j) == 1 => Some(rows[0][j]),
        Dimension::Unordered { .. } | Dimension::Continuous | Dimension::Ordered { .. } => None,
    };
    dimensions.iter().enumerate().map(only).collect()
}

#[cfg(test)]
mod tests {
    use shared::Score;

    use super::*;

    fn space(json: &str) -> SearchSpace {
        let json = format!(r#"{{"hyperparameters":[{json}]}}"#);
        SearchSpace::new(&serde_json::from_str(&json).unwrap()).unwrap()
    }

    fn bohb(space: &SearchSpace, faithful: bool) -> Bohb {
        let settings = BohbSettings {
            faithful,
            ..BohbSettings::default()
        };
        Bohb::new(space, settings, Seed::new(1))
    }

    fn ask() -> Ask<'static> {
        Ask {
            configuration: ConfigurationId(1000),
            rung: 0,
            pending: &[],
            seed: Seed::new(2),
        }
    }

    #[test]
    fn a_density_has_so_many_rows_at_most_from_the_best_to_the_worst() {
        let space = space(TWO);
        let chosen =
            |faithful, number| -> Vec<usize> { bohb(&space, faithful).chosen(number).collect() };
        assert_eq!(chosen(false, 512), (0..512).collect::<Vec<_>>());
        let some = chosen(false, 100_000);
        assert_eq!(
            (some.len(), some[0], some[1], some[511]),
            (512, 0, 195, 99_804)
        );
        assert_eq!(chosen(true, 100_000).len(), 100_000);

        // 3,000 results: 450 good ones and 2,550 bad ones, with 2 configurations under way among the bad.
        let rows: Vec<[f64; 2]> = (0..3000).map(|i| [f64::from(i) / 3000.0, 0.0]).collect();
        let mut history = history(&space, 0, &rows);
        for id in 3000..3002 {
            history.ask(ConfigurationId(id));
            history.know(ConfigurationId(id), vec![0.5, 1.0]);
        }
        let ask = Ask {
            configuration: ConfigurationId(4000),
            ..ask()
        };
        let model = bohb(&space, false).fit(&history, &ask).unwrap();
        assert_eq!((model.good.num_rows(), model.bad.num_rows()), (450, 512));
        assert!(model.num_under_way <= 1);
        let model = bohb(&space, true).fit(&history, &ask).unwrap();
        assert_eq!((model.good.num_rows(), model.bad.num_rows()), (450, 2550));
    }

    const TWO: &str = r#"{"name":"x","type":"float","lower":0,"upper":1},
        {"name":"k","type":"categorical","choices":["a","b"]}"#;

    /// Results whose loss is their number, so the first are the good ones.
    fn history(space: &SearchSpace, rung: u8, rows: &[[f64; 2]]) -> History {
        let mut history = History::new(space);
        for (number, row) in (0_u32..).zip(rows) {
            let score = Score::Loss(f64::from(number));
            history.learn(ConfigurationId(number).job(rung), Some(score), row.to_vec());
        }
        history
    }

    #[test]
    fn sets_have_hpbandsters_sizes() {
        let space = space(TWO);
        let method = bohb(&space, false);
        // d = 2: at least 3 rows each, so 6 results; then 15 and 85 %.
        assert_eq!(method.split(5), None);
        assert_eq!(method.split(6), Some((3, 3)));
        assert_eq!(method.split(20), Some((3, 17)));
        assert_eq!(method.split(27), Some((4, 22)));
        assert_eq!(method.split(101), Some((15, 85)));
        let settings = BohbSettings {
            min_points_in_model: Some(10),
            ..BohbSettings::default()
        };
        let method = Bohb::new(&space, settings, Seed::new(1));
        assert_eq!(method.split(12), None);
        assert_eq!(method.split(13), Some((10, 3)));
        assert_eq!(method.split(40), Some((10, 30)));
    }

    #[test]
    fn the_largest_rung_that_has_a_model_is_used() {
        let space = space(TWO);
        let method = bohb(&space, false);
        let mut history = history(&space, 0, &[[0.5, 0.0]; 20]);
        assert_eq!(method.best_rung(&history), Some((0, 3, 17)));
        for number in 0..6 {
            let job = ConfigurationId(number).job(2);
            history.learn(job, Some(Score::Failed), vec![0.5, 0.0]);
            let expected = if number < 5 { (0, 3, 17) } else { (2, 3, 3) };
            assert_eq!(method.best_rung(&history), Some(expected));
        }
    }

    #[test]
    fn faithful_divides_by_zero_where_hpbandster_does() {
        let space = space(TWO);
        let point = [vec![0.5, 1.0]];
        // The good rows hold one level: another one looks infinitely good.
        let rows = [
            [0.4, 0.0],
            [0.5, 0.0],
            [0.6, 0.0],
            [0.4, 1.0],
            [0.5, 0.0],
            [0.6, 1.0],
        ];
        let one_good = history(&space, 0, &rows);
        let value = |faithful: bool, history: &History| {
            bohb(&space, faithful)
                .log_acquisition(history, &ask(), &point)
                .unwrap()[0]
        };
        assert!(value(true, &one_good) >= f64::MAX);
        assert!(value(false, &one_good) < -5.0);
        // The bad rows hold one level: another one is taken at once.
        let rows = [
            [0.4, 0.0],
            [0.5, 1.0],
            [0.6, 0.0],
            [0.4, 0.0],
            [0.5, 0.0],
            [0.6, 0.0],
        ];
        let one_bad = history(&space, 0, &rows);
        let model = bohb(&space, true).fit(&one_bad, &ask()).unwrap();
        assert!(matches!(
            model.score(&point[0], &mut Vec::new()),
            Acquisition::TakeAtOnce
        ));
        assert!(value(false, &one_bad) > 5.0 && value(false, &one_bad) < 10.0);
    }

    #[test]
    fn configurations_under_way_count_as_bad_unless_faithful() {
        let space = space(TWO);
        let rows: Vec<[f64; 2]> = (0..20)
            .map(|i| [f64::from(i) / 20.0, f64::from(i % 2)])
            .collect();
        let plain = history(&space, 0, &rows);
        let mut busy = plain.clone();
        for number in 100..105 {
            busy.ask(ConfigurationId(number));
            busy.know(ConfigurationId(number), vec![0.1, 0.0]);
        }
        let point = [vec![0.1, 0.0]];
        let value = |faithful: bool, history: &History| {
            bohb(&space, faithful)
                .log_acquisition(history, &ask(), &point)
                .unwrap()[0]
        };
        assert!(value(false, &busy) < value(false, &plain) - 0.5);
        assert!((value(true, &busy) - value(true, &plain)).abs() < f64::MIN_POSITIVE);
    }

    #[test]
    fn inactive_values_come_from_other_rows_in_dimension_0_too() {
        let dimensions = [
            Dimension::Continuous,
            Dimension::Unordered { levels: 2 },
            Dimension::Continuous,
        ];
        let nan = f64::NAN;
        let mut rows = vec![
            vec![nan, 1.0, nan],
            vec![0.25, 0.0, nan],
            vec![nan, nan, nan],
        ];
        impute(&mut rows, &dimensions, &mut Seed::new(4).rng());
        assert_eq!(rows[1][..2], [0.25, 0.0]);
        for row in &rows {
            assert!((row[0] - 0.25).abs() < f64::MIN_POSITIVE, "{rows:?}");
            assert!(row[1].fract().abs() < f64::MIN_POSITIVE && row[1] <= 1.0);
            // No row has a value here: each gets one from the prior.
            assert!((0.0..1.0).contains(&row[2]));
        }
        assert!((rows[0][2] - rows[1][2]).abs() > 1e-9);
    }

    #[test]
    fn ordered_draws_prefer_near_levels_and_stay_within() {
        let mut rng = Seed::new(5).rng();
        let mut counts = [0_u32; 4];
        for _ in 0..10_000 {
            match draw_ordered(1.0, 0.5, 4, &mut rng) {
                x if x < 0.5 => counts[0] += 1,
                x if x < 1.5 => counts[1] += 1,
                x if x < 2.5 => counts[2] += 1,
                _ => counts[3] += 1,
            }
        }
        // Weights 1/8, 1/2, 1/8, 1/16 of 13/16.
        for (count, share) in counts.iter().zip([2.0, 8.0, 2.0, 1.0]) {
            let expected: f64 = 10_000.0 * share / 13.0;
            assert!(
                (f64::from(*count) - expected).abs() < 4.0 * expected.sqrt(),
                "{counts:?}"
            );
        }
    }
}
