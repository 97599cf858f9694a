//! How an evaluation ended, as it is recorded.

use std::collections::BTreeMap;

use shared::CurvePoint;
use shared::constraint::{self, Constraint};
use shared::record::{Fate, Outcome};

use crate::objective::{Ended, Evaluation};

/// The record of how an objective ended under the constraints of its search, with numbers that JSON cannot hold left out.
pub fn outcome_of(
    ended: Ended,
    constraints: &[Constraint],
    objectives: &[String],
) -> (Outcome, BTreeMap<String, f64>, Vec<CurvePoint>) {
    let nothing = |outcome| (outcome, BTreeMap::new(), Vec::new());
    match ended {
        Ended::Evaluated(evaluation) if evaluation.loss.is_finite() => {
            let evaluation = finite(evaluation);
            let outcome = under(
                constraints,
                objectives,
                Some(evaluation.loss),
                &evaluation.measures,
            );
            (outcome, evaluation.measures, evaluation.curve)
        }
        Ended::Evaluated(evaluation) => {
            nothing(Outcome::crashed(format!("the loss is {}", evaluation.loss)))
        }
        Ended::Stopped {
            spent,
            limit,
            evaluation,
        } => {
            let evaluation = finite(evaluation);
            let loss = evaluation.loss;
            let outcome = Outcome::Stopped { spent, loss, limit };
            (outcome, evaluation.measures, evaluation.curve)
        }
        Ended::Untrained { mut measures } => {
            measures.retain(|_, number| number.is_finite());
            let outcome = under(constraints, objectives, None, &measures);
            (outcome, measures, Vec::new())
        }
        Ended::Diverged { spent, message } => nothing(Outcome::Diverged { spent, message }),
        Ended::OutOfMemory {
            needed_mib,
            available_mib,
        } => nothing(Outcome::OutOfMemory {
            needed_mib,
            available_mib,
        }),
        Ended::Crashed { message }
        | Ended::MachineFailed { message }
        | Ended::DeviceFailed { message } => nothing(Outcome::crashed(message)),
        Ended::Interrupted => nothing(Outcome::crashed("interrupted")),
    }
}

/// Without the numbers that JSON cannot hold.
fn finite(mut evaluation: Evaluation) -> Evaluation {
    evaluation.measures.retain(|_, number| number.is_finite());
    evaluation.curve.retain(|point| {
        let numbers = [Some(point.spent), point.training_loss, point.loss];
        numbers.into_iter().flatten().all(f64::is_finite)
    });
    evaluation
}

/// What comes of a loss and measures under constraints; without a loss nothing was trained.
fn under(
    constraints: &[Constraint],
    objectives: &[String],
    loss: Option<f64>,
    measures: &BTreeMap<String, f64>,
) -> Outcome {
    let violations = constraint::violations(constraints, measures);
    if !violations.is_empty() {
        return Outcome::Infeasible {
            violations,
            trained_loss: loss,
        };
    }
    let missing = |name: &&String| !measures.contains_key(*name);
    let objective = objectives.iter().skip(1).find(missing).map(String::as_str);
    let of = |field: &'static str| move |measure| (field, measure);
    let constraint = constraint::missing(constraints, measures).map(of("constraints"));
    match (loss, constraint.or(objective.map(of("objectives")))) {
        (Some(loss), None) => Outcome::Evaluated { loss },
        (Some(_), Some((field, measure))) => Outcome::crashed(format!(
            "the result has no measure `{measure}`, which `{field}` of the search is about"
        )),
        (None, _) => Outcome::crashed("the result has no `loss`, and breaks no constraint either"),
    }
}

/// What a failure of this machine is recorded as: a full disk, or something else.
pub(crate) fn fate_of_words(message: &str) -> Fate {
    if speaks_of_a_full_disk(message) {
        Fate::DiskFull
    } else {
        Fate::InputOutput
    }
}

/// Whether somebody says that a disk is full, in the system's words for it.
pub(crate) fn speaks_of_a_full_disk(words: &str) -> bool {
    const FULL: [&str; 4] = [
        "No space left on device",
        "Disk quota exceeded",
        "os error 28",
        "os error 122",
    ];
    FULL.iter().any(|full| words.contains(full))
}
