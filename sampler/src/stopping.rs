//! Stopping in place of promoting: what a training's loss is compared with on its way, and what its result says of the
//! rungs that it passed.

use shared::hyperband::stopping;
use shared::record::{JobResult, Outcome, Request, RungCheck};
use shared::{Score, Search};

use crate::history::History;

/// Where the training that a request leads to is looked at, and which loss it may have there, by what is known now; nothing
/// where the search stops none. What somebody gave goes on whatever its losses are.
pub(crate) fn checks(search: &Search, history: &History, request: &Request) -> Vec<RungCheck> {
    if !search.is_stopping() {
        return Vec::new();
    }
    let eta = search.ladder.eta();
    let limit = |rung| stopping::limit(history.rung(rung), eta);
    (0..request.rung.min(search.ladder.top()))
        .map(|rung| RungCheck {
            rung,
            loss: if request.given.is_some() {
                None
            } else {
                limit(rung)
            },
        })
        .collect()
}

/// How good a result says its configuration is, by rung, lowest first.
///
/// A training that failed on its way did so at the rung that it would have come to next.
pub(crate) fn scores(search: &Search, result: &JobResult) -> Vec<(u8, Score)> {
    let own = result.job().rung;
    let score = result.score(&search.objectives);
    let lower = |spent| search.lower_rung(spent).filter(|rung| *rung < own);
    let checks = result.checks.iter().filter(|_| search.is_stopping());
    let seen =
        checks.filter_map(|check| Some((lower(check.spent)?, Score::Loss(check.loss + 0.0))));
    let mut scores: Vec<(u8, Score)> = seen.collect();
    match &result.outcome {
        Outcome::Evaluated { .. } => scores.extend(score.map(|score| (own, score))),
        Outcome::Stopped { .. } | Outcome::Lost { .. } => {}
        // Nowhere is it to be taken for a good one.
        Outcome::Infeasible { .. } => {
            let rungs = scores.iter().map(|(rung, _)| *rung).chain([own]);
            scores = rungs.filter_map(|rung| Some((rung, score?))).collect();
        }
        Outcome::Diverged { .. } | Outcome::OutOfMemory { .. } | Outcome::Crashed { .. } => {
            let next = scores.last().map_or(0, |(rung, _)| rung + 1);
            let rung = if search.is_stopping() {
                next.min(own)
            } else {
                own
            };
            scores.extend(score.map(|score| (rung, score)));
        }
    }
    scores
}
