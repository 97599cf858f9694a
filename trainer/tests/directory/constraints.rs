//! Constraints: what breaks one is told before it is trained, or by what it measured.

use serde_json::{Value, json};
use shared::Outcome;

use super::Search;

/// Measures what it is told to, and gives some up before training.
const PROGRAM: &str = r#"
import json, sys
job = json.load(open(sys.argv[1]))
rate = job["configuration"]["learning_rate"]
result = {"loss": rate, "measures": {"latency_ms": 100 * rate}}
if rate == 0.75:
    del result["loss"]
if rate == 1:
    del result["measures"]
json.dump(result, open(job["result"], "w"))
"#;

fn network(widen: f64) -> Value {
    json!({
        "nr_residual_blocks_1": 1, "initial_filters": 4, "widen_factor_1": widen, "groups": 1,
        "learning_rate": 0.1, "batch_size": 64,
    })
}

#[test]
fn a_network_that_is_too_large_is_never_trained_and_costs_no_attempt() {
    let search = Search::new(&json!({
        "constraints": [{ "measure": "parameters", "max": 5000 }, { "measure": "memory_mib", "max": 1e6 }],
    }));
    // An hour of training, and more memory than there is: nothing of that is tried.
    let jobs = [1.0, 40.0, 40.0, 4000.0].map(network);
    let jobs: Vec<_> = (0..)
        .zip(&jobs)
        .map(|(id, values)| search.offer(id, 2, values))
        .collect();
    let said = search.work();
    assert!(search.loss(jobs[0]) < 1.0);
    let measures = search.result(jobs[0]).measures;
    assert!(
        measures["parameters"] <= 5000.0 && measures["memory_mib"] > 1.0,
        "{measures:?}"
    );
    assert!(
        measures["multiply_adds"] > measures["parameters"],
        "{measures:?}"
    );
    for job in &jobs[1..] {
        let result = search.result(*job);
        let Outcome::Infeasible {
            violations,
            trained_loss: None,
        } = &result.outcome
        else {
            panic!("{:?}", result.outcome)
        };
        assert_eq!(violations[0].measure, "parameters");
        assert_eq!((violations[0].min, violations[0].max), (None, Some(5000.0)));
        assert!((violations[0].value - result.measures["parameters"]).abs() < 0.5);
        assert!(result.elapsed_s < 60.0 && result.curve.is_empty() && result.attempt.attempt == 1);
        assert!(search.directory.attempt_ends(*job).unwrap().is_empty());
    }
    assert_eq!(said.matches("outcome=infeasible").count(), 3, "{said}");
}

#[test]
fn what_a_program_measures_decides_and_what_it_does_not_is_a_crash_with_the_name() {
    let search = Search::new(&json!({
        "objective": { "command": ["python3", "-c", PROGRAM] },
        "constraints": [{ "measure": "latency_ms", "min": 5, "max": 50 }],
    }));
    let jobs: Vec<_> = (0..)
        .zip([0.25, 0.5, 0.55, 0.01, 0.75, 1.0])
        .map(|(id, rate)| search.offer(id, 0, &json!({ "learning_rate": rate })))
        .collect();
    search.work();
    assert_eq!(search.loss(jobs[0]), 0.25);
    // Limits belong to what is allowed.
    assert_eq!(search.loss(jobs[1]), 0.5);
    let broken = |job| match search.result(job).outcome {
        Outcome::Infeasible {
            violations,
            trained_loss,
        } => (violations[0].to_string(), trained_loss),
        other => panic!("{other:?}"),
    };
    let (said, loss) = broken(jobs[2]);
    assert!(
        said.starts_with("latency_ms is 55") && said.ends_with("at most 50 is allowed"),
        "{said}"
    );
    assert_eq!(loss, Some(0.55));
    assert_eq!(broken(jobs[3]).0, "latency_ms is 1, at least 5 is allowed");
    // It knew before it trained.
    assert_eq!(
        broken(jobs[4]),
        ("latency_ms is 75, at most 50 is allowed".to_owned(), None)
    );
    let message = search.message(jobs[5]);
    assert_eq!(
        message,
        "the result has no measure `latency_ms`, which `constraints` of the search is about"
    );
}
