//! How an evaluation ended, as it is recorded.

use std::collections::BTreeMap;

use shared::CurvePoint;
use shared::constraint::{self, Constraint};
use shared::record::{Fate, Outcome};

use crate::objective::Ended;

/// The record of how an objective ended under the constraints of its search, with numbers that JSON cannot hold left out.
pub fn outcome_of(
    ended: Ended,
    constraints: &[Constraint],
) -> (Outcome, BTreeMap<String, f64>, Vec<CurvePoint>) {
    let nothing = |outcome| (outcome, BTreeMap::new(), Vec::new());
    match ended {
        Ended::Evaluated(mut evaluation) if evaluation.loss.is_finite() => {
            evaluation.measures.retain(|_, number| number.is_finite());
            evaluation.curve.retain(|point| {
                let numbers = [Some(point.spent), point.training_loss, point.loss];
                numbers.into_iter().flatten().all(f64::is_finite)
            });
            let outcome = under(constraints, Some(evaluation.loss), &evaluation.measures);
            (outcome, evaluation.measures, evaluation.curve)
        }
        Ended::Evaluated(evaluation) => {
            nothing(Outcome::crashed(format!("the loss is {}", evaluation.loss)))
        }
        Ended::Untrained { mut measures } => {
            measures.retain(|_, number| number.is_finite());
            let outcome = under(constraints, None, &measures);
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

/// What comes of a loss and measures under constraints; without a loss nothing was trained.
fn under(
    constraints: &[Constraint],
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
    match (loss, constraint::missing(constraints, measures)) {
        (Some(loss), None) => Outcome::Evaluated { loss },
        (Some(_), Some(measure)) => Outcome::crashed(format!(
            "the result has no measure `{measure}`, which `constraints` of the search is about"
        )),
        (None, _) => Outcome::crashed("the result has no `loss`, and breaks no constraint either"),
    }
}

/// What a failure of this machine is recorded as: a full disk, told by the system's words for it, or something else.
pub(crate) fn fate_of_words(message: &str) -> Fate {
    const FULL: [&str; 4] = [
        "No space left on device",
        "Disk quota exceeded",
        "os error 28",
        "os error 122",
    ];
    if FULL.iter().any(|words| message.contains(words)) {
        Fate::DiskFull
    } else {
        Fate::InputOutput
    }
}
