//! How an evaluation ended, as it is recorded.

use std::collections::BTreeMap;

use shared::CurvePoint;
use shared::record::{Fate, Outcome};

use crate::objective::Ended;

/// The record of how an objective ended, with numbers that JSON cannot hold left out.
pub fn outcome_of(ended: Ended) -> (Outcome, BTreeMap<String, f64>, Vec<CurvePoint>) {
    let nothing = |outcome| (outcome, BTreeMap::new(), Vec::new());
    match ended {
        Ended::Evaluated(mut evaluation) if evaluation.loss.is_finite() => {
            evaluation.measures.retain(|_, number| number.is_finite());
            evaluation.curve.retain(|point| {
                let numbers = [Some(point.spent), point.training_loss, point.loss];
                numbers.into_iter().flatten().all(f64::is_finite)
            });
            let outcome = Outcome::Evaluated {
                loss: evaluation.loss,
            };
            (outcome, evaluation.measures, evaluation.curve)
        }
        Ended::Evaluated(evaluation) => {
            nothing(Outcome::crashed(format!("the loss is {}", evaluation.loss)))
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
