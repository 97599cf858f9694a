//! Promotion without barriers: asynchronous successive halving.
//!
//! Whenever a trainer is free, the uppermost rung that has a configuration among the best 1/eta of its results so far,
//! not yet promoted, promotes the best such one; else a new configuration is tried. All results of a rung are compared
//! together, whichever bracket a configuration started in. Failures count as results, worse than every loss; lost jobs
//! and configurations that break a constraint do not count.
//!
//! Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::hyperband::NextPromotion;
use crate::id::{ConfigurationId, JobId};
use crate::pareto;
use crate::score::{Ranked, Score};

/// What is known of each rung.
#[derive(Debug, Clone)]
pub struct Asha {
    eta: f64,
    /// From here on all are promoted: to repetitions.
    first_repeated: u8,
    top: u8,
    rungs: Vec<Rung>,
}

/// One rung. Every change costs the logarithm of its size, so that plans cost the same at the end of a long search; by
/// several objectives at most its square.
#[derive(Debug, Clone, Default)]
struct Rung {
    /// Results, failures among them.
    num_results: usize,
    /// The best `num_results / eta` evaluated configurations, or all if there are fewer.
    top: BTreeSet<Ranked>,
    /// The other evaluated ones.
    rest: BTreeSet<Ranked>,
    /// Those of `top` that are not promoted.
    candidates: BTreeSet<Ranked>,
    /// Configurations that have a job at the next rung.
    promoted: BTreeSet<ConfigurationId>,
}

impl Asha {
    /// No results yet.
    pub fn new(num_rungs: u8, eta: f64, first_repeated: u8) -> Self {
        Self {
            eta,
            first_repeated,
            top: num_rungs - 1,
            rungs: vec![Rung::default(); usize::from(num_rungs)],
        }
    }

    /// Takes note of a result; returns the configurations that will get no job any more.
    ///
    /// The same results and offers in any order lead to the same state.
    pub fn record(&mut self, job: JobId, score: Option<Score>) -> Vec<ConfigurationId> {
        self.offered(job);
        let is_top = job.rung == self.top;
        let eta = self.eta_of(job.rung);
        let rung = &mut self.rungs[usize::from(job.rung)];
        let is_retired = match score {
            Some(score @ (Score::Loss(_) | Score::Point(_))) => {
                rung.num_results += 1;
                let ranked = Ranked { score, job };
                rung.top.insert(ranked);
                if !rung.promoted.contains(&job.configuration) {
                    rung.candidates.insert(ranked);
                }
                is_top
            }
            Some(Score::Failed) => {
                rung.num_results += 1;
                true
            }
            // It has cost nothing, or cannot be wanted: the best part of the others goes up.
            Some(Score::Infeasible(_)) | None => true,
        };
        rung.balance(eta);
        is_retired
            .then_some(job.configuration)
            .into_iter()
            .collect()
    }

    /// Takes note that a job exists: its configuration is promoted from the rung below.
    pub fn offered(&mut self, job: JobId) {
        let Some(below) = usize::from(job.rung).checked_sub(1) else {
            return;
        };
        let rung = &mut self.rungs[below];
        if rung.promoted.insert(job.configuration) {
            rung.candidates
                .retain(|ranked| ranked.job.configuration != job.configuration);
        }
    }

    fn eta_of(&self, rung: u8) -> f64 {
        if rung < self.first_repeated {
            self.eta
        } else {
            1.0
        }
    }

    /// At which rung the best third, say, grows first by one. The one that joins may be promoted already.
    pub fn next_promotion(&self) -> Option<NextPromotion> {
        let rungs = (0..self.top).zip(&self.rungs);
        rungs
            .map(|(rung, results)| NextPromotion {
                bracket: None,
                rung,
                missing: missing(results.num_results, self.eta_of(rung)),
                promoted: 1,
            })
            .min_by_key(|next| (next.missing, Reverse(next.rung)))
    }

    /// What may be promoted now, in the order in which it should be.
    pub fn promotions(&self) -> impl Iterator<Item = JobId> + '_ {
        (0..self.top).rev().flat_map(|rung| {
            let candidates = &self.rungs[usize::from(rung)].candidates;
            let candidates: Vec<Ranked> = candidates.iter().copied().collect();
            let promoted = move |ranked: Ranked| ranked.job.configuration.job(rung + 1);
            // One objective: as they are.
            pareto::order(&candidates).into_iter().map(promoted)
        })
    }
}

/// One in `eta` of so many, rounded down.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no more than a number of results"
)]
fn share(number: usize, eta: f64) -> usize {
    (number as f64 / eta) as usize
}

/// How many results more make the share larger by one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is at most a number of results"
)]
fn missing(number: usize, eta: f64) -> usize {
    let next = (share(number, eta) as f64 + 1.0) * eta;
    (next.ceil() as usize).saturating_sub(number).max(1)
}

impl Rung {
    /// The same by several objectives, where a new result may move all others.
    fn balance_by_fronts(&mut self, size: usize) {
        let all: Vec<Ranked> = self.top.iter().chain(&self.rest).copied().collect();
        let ordered = pareto::order(&all);
        let (best, others) = ordered.split_at(size.min(ordered.len()));
        self.top = best.iter().copied().collect();
        self.rest = others.iter().copied().collect();
        let is_free = |ranked: &&Ranked| !self.promoted.contains(&ranked.job.configuration);
        self.candidates = best.iter().filter(is_free).copied().collect();
    }

    /// Makes `top` hold as many as it should.
    fn balance(&mut self, eta: f64) {
        let size = share(self.num_results, eta);
        let is_point = |ranked: &Ranked| matches!(ranked.score, Score::Point(_));
        if self.top.first().is_some_and(is_point) || self.rest.first().is_some_and(is_point) {
            self.balance_by_fronts(size);
            return;
        }
        // Always moves one down, so that the newest is compared with those outside.
        while let Some(worst) = self.top.pop_last() {
            self.candidates.remove(&worst);
            self.rest.insert(worst);
            if self.top.len() <= size {
                break;
            }
        }
        while self.top.len() < size
            && let Some(best) = self.rest.pop_first()
        {
            self.top.insert(best);
            if !self.promoted.contains(&best.job.configuration) {
                self.candidates.insert(best);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hyperband::testing::{FAILED, loss};

    fn job(id: u32, rung: u8) -> JobId {
        ConfigurationId(id).job(rung)
    }

    fn promotions(asha: &Asha) -> Vec<String> {
        asha.promotions().map(|job| job.to_string()).collect()
    }

    #[test]
    fn the_best_third_so_far_may_go_up_without_waiting() {
        let mut asha = Asha::new(3, 3.0, 2);
        asha.record(job(0, 0), loss(0.5));
        asha.record(job(1, 0), loss(0.4));
        assert_eq!(promotions(&asha), [""; 0]);
        asha.record(job(2, 0), FAILED);
        assert_eq!(promotions(&asha), ["c000001-r1"]);
        // A better one comes before it is promoted, and takes its place.
        asha.record(job(3, 0), loss(0.3));
        assert_eq!(promotions(&asha), ["c000003-r1"]);
        asha.offered(job(3, 1));
        assert_eq!(promotions(&asha), [""; 0]);
        asha.record(job(4, 0), None);
        asha.record(job(5, 0), loss(0.9));
        assert_eq!(promotions(&asha), [""; 0]);
        asha.record(job(6, 0), loss(0.9));
        assert_eq!(promotions(&asha), ["c000001-r1"]);
    }

    #[test]
    fn upper_rungs_are_promoted_first() {
        let mut asha = Asha::new(3, 2.0, 2);
        for id in 0..4 {
            asha.record(job(id, 0), loss(f64::from(id)));
        }
        asha.record(job(0, 1), loss(1.0));
        asha.record(job(7, 1), loss(0.5));
        assert_eq!(promotions(&asha), ["c000007-r2", "c000001-r1"]);
    }

    proptest! {
        #[test]
        fn candidates_are_those_a_full_sort_finds(
            results in proptest::collection::vec((0u8..9, 0u8..8), 1..60),
            promoted in proptest::collection::btree_set(0u32..60, 0..10),
            eta in 2usize..5,
        ) {
            let mut asha = Asha::new(2, eta as f64, 1);
            let mut evaluated = Vec::new();
            let mut num_results = 0;
            for (id, (amount, kind)) in (0u32..).zip(&results) {
                if promoted.contains(&id) && id % 2 == 0 { asha.offered(job(id, 1)); }
                let score = match kind { 0 => FAILED, 1 => None, _ => loss(f64::from(*amount)) };
                asha.record(job(id, 0), score);
                if promoted.contains(&id) { asha.offered(job(id, 1)); }
                if score.is_some() { num_results += 1; }
                if let Some(score @ Score::Loss(_)) = score {
                    evaluated.push(Ranked { score, job: job(id, 0) });
                }
                evaluated.sort();
                let expected: Vec<JobId> = evaluated.iter().take(num_results / eta)
                    .filter(|ranked| !(promoted.contains(&ranked.job.configuration.0) && ranked.job.configuration.0 <= id))
                    .map(|ranked| ranked.job.configuration.job(1)).collect();
                prop_assert_eq!(asha.promotions().collect::<Vec<_>>(), expected);
            }
        }
    }
}
