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

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use shared::record::Gift;
    use shared::{ConfigurationId, JobId, SearchFile};

    use super::*;
    use crate::proposer::Proposer;

    const TOP: u8 = 2;

    /// Budgets 1, 3 and 9.
    fn search() -> Search {
        let file = json!({
            "name": "test", "revision": 5,
            "space": { "hyperparameters": [{ "name": "x", "type": "float", "lower": 0, "upper": 1 }] },
            "objective": { "benchmark": "branin" },
            "budget": { "unit": "steps", "min": 1, "max": 9 },
            "limit": { "brackets": 9 }, "method": "hyperband", "promotion": "stopping",
        });
        let file: SearchFile = serde_json::from_value(file).unwrap();
        Search::new(&file).unwrap()
    }

    fn result(id: u32, attempt: u32, outcome: &Json, losses: &[f64]) -> JobResult {
        let checks: Vec<Json> = [1.0, 3.0]
            .iter()
            .zip(losses)
            .map(|(spent, loss)| json!({ "spent": spent, "loss": loss }))
            .collect();
        let job = ConfigurationId(id).job(TOP);
        let mut json = json!({
            "attempt": job.attempt(attempt), "owner": "tester", "bracket": 0,
            "budget": { "amount": 9.0, "unit": "steps" },
            "configuration": { "x": f64::from(id) / 100.0 },
            "outcome": outcome, "checks": checks,
            "started_at": "", "finished_at": "", "elapsed_s": 0.0, "program": "test",
        });
        if attempt > 1 {
            json["supersedes"] = json!(job.attempt(attempt - 1));
        }
        serde_json::from_value(json).unwrap()
    }

    fn stopped(id: u32, attempt: u32, losses: &[f64]) -> JobResult {
        let outcome = json!({ "kind": "stopped", "spent": 3.0, "loss": losses[losses.len() - 1], "limit": 0.0 });
        result(id, attempt, &outcome, losses)
    }

    fn evaluated(id: u32, losses: [f64; 3]) -> JobResult {
        let outcome = json!({ "kind": "evaluated", "loss": losses[2] });
        result(id, 1, &outcome, &losses[..2])
    }

    fn request(id: u32, finished: Vec<JobId>) -> Request {
        Request {
            configuration: ConfigurationId(id),
            bracket: 0,
            rung: TOP,
            finished,
            pending: Vec::new(),
            superseding: Vec::new(),
            given: None,
            top: None,
        }
    }

    fn limits(proposer: &mut Proposer, request: &Request) -> Vec<Option<f64>> {
        let checks = proposer.propose(request).checks;
        assert!(checks.iter().map(|check| check.rung).eq(0..TOP));
        checks.iter().map(|check| check.loss).collect()
    }

    #[test]
    fn a_result_tells_of_the_rungs_that_its_training_passed() {
        let search = search();
        let loss = Score::Loss;
        let said = |result: &JobResult| scores(&search, result);
        let all = [(0, loss(0.5)), (1, loss(0.4)), (2, loss(0.3))];
        assert_eq!(said(&evaluated(0, [0.5, 0.4, 0.3])), all);
        assert_eq!(said(&stopped(0, 1, &[0.5, 0.4])), all[..2]);
        let diverged = json!({ "kind": "diverged", "spent": 2.0, "message": "" });
        let failed = [(0, loss(0.5)), (1, Score::Failed)];
        assert_eq!(said(&result(0, 1, &diverged, &[0.5])), failed);
        assert_eq!(said(&result(0, 1, &diverged, &[])), [(0, Score::Failed)]);
        let lost = json!({ "kind": "lost", "attempts": 5, "fate": "node_lost" });
        assert_eq!(said(&result(0, 1, &lost, &[])), []);
        let violations = json!([{ "measure": "m", "value": 2.0, "max": 1.0 }]);
        let infeasible = json!({ "kind": "infeasible", "violations": violations });
        let score = Score::Infeasible(1.0);
        assert_eq!(
            said(&result(0, 1, &infeasible, &[0.5])),
            [(0, score), (2, score)]
        );
    }

    #[test]
    fn limits_are_those_of_the_results_that_requests_have_named() {
        let mut proposer = Proposer::new(&search());
        assert_eq!(limits(&mut proposer, &request(0, Vec::new())), [None, None]);
        proposer.ask(ConfigurationId(0).job(TOP));
        let first = evaluated(0, [0.5, 0.4, 0.3]);
        proposer.learn(std::slice::from_ref(&first));
        let next = request(1, vec![first.job()]);
        assert_eq!(limits(&mut proposer, &next), [Some(0.5), Some(0.4)]);
        // A second one, stopped at the lowest rung; the limit is the better of two there.
        proposer.ask(ConfigurationId(1).job(TOP));
        let second = stopped(1, 1, &[0.75]);
        proposer.learn(std::slice::from_ref(&second));
        let next = request(2, vec![second.job()]);
        assert_eq!(limits(&mut proposer, &next), [Some(0.5), Some(0.4)]);
        let num_results = proposer.propose(&next).origin.num_results;
        assert_eq!(num_results, 2, "results are counted, not what they tell");
        // What somebody gives is looked at and goes on.
        let mut given = next;
        given.given = Some(Gift {
            number: "0001".parse().unwrap(),
            values: first.configuration,
        });
        assert_eq!(limits(&mut proposer, &given), [None, None]);
    }

    #[test]
    fn a_superseded_result_leaves_no_trace_at_any_rung() {
        let mut proposer = Proposer::new(&search());
        proposer.ask(ConfigurationId(0).job(TOP));
        proposer.learn(&[evaluated(0, [0.5, 0.4, 0.3])]);
        proposer.learn(&[stopped(0, 2, &[0.25])]);
        let next = request(1, Vec::new());
        assert_eq!(limits(&mut proposer, &next), [Some(0.25), None]);
        assert!(proposer.history().rung(TOP).is_empty());
        assert_eq!(proposer.history().rung(0).len(), 1);
    }
}
