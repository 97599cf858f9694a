//! What a search is waiting for in SLURM's queue.

use crate::batch::{Kind, Meaning, Queued, number_of};

/// One sentence each for trainers and coordinator of which none can be at work, given that some were submitted.
pub(super) fn sentences(queue: &[Queued], trainers_live: usize) -> Vec<String> {
    let mut sentences = Vec::new();
    sentences.extend(sentence(queue, Kind::Coordinator));
    if trainers_live == 0 {
        sentences.extend(sentence(queue, Kind::Trainers));
    }
    sentences
}

/// Nothing if one of that kind runs, or is about to end.
fn sentence(queue: &[Queued], kind: Kind) -> Option<String> {
    let (mut tasks, mut reasons) = (0, Vec::new());
    for queued in queue.iter().filter(|queued| queued.kind == kind) {
        match queued.meaning {
            Meaning::Living => return None,
            Meaning::Waiting => {
                tasks += queued.tasks;
                reasons.extend(queued.reason());
            }
            Meaning::Done | Meaning::Failed | Meaning::Ended(_) => {}
        }
    }
    if tasks == 0 {
        let by_whom = match kind {
            Kind::Coordinator => "",
            Kind::Trainers => ", or for a coordinator that keeps trainers",
        };
        return Some(format!(
            "somebody to run `scheduler slurm` again{by_whom}: no {} is queued or running",
            kind.one()
        ));
    }
    let number = match kind {
        Kind::Coordinator => "the coordinator".to_owned(),
        Kind::Trainers => number_of(kind, None, tasks),
    };
    let reasons = match &*reasons {
        [] => String::new(),
        reasons => format!(" ({})", reasons.join("; ")),
    };
    Some(format!("SLURM to start {number}{reasons}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(kind: Kind, state: &str, reason: &str, tasks: u32) -> Queued {
        Queued {
            kind,
            group: None,
            meaning: crate::slurm::meaning(state),
            state: state.into(),
            reason: reason.into(),
            tasks,
        }
    }

    #[test]
    fn what_nobody_works_on_waits_for_slurm_with_its_reasons_or_for_somebody_to_submit() {
        let coordinator = |state, reason| queued(Kind::Coordinator, state, reason, 1);
        let trainers = |state, reason, tasks| queued(Kind::Trainers, state, reason, tasks);
        let queue = [
            trainers("PENDING", "Resources", 1),
            trainers("PENDING", "Priority", 3),
            trainers("CANCELLED", "None", 3),
            coordinator("PENDING", "None"),
        ];
        assert_eq!(
            sentences(&queue, 0),
            [
                "SLURM to start the coordinator",
                "SLURM to start 4 trainers (Resources; Priority)"
            ]
        );
        // Trainers that live may be others than those in the queue.
        assert_eq!(sentences(&queue, 1), ["SLURM to start the coordinator"]);
        let queue = [
            trainers("RUNNING", "None", 1),
            trainers("PENDING", "Priority", 3),
            coordinator("RUNNING", "None"),
        ];
        assert_eq!(sentences(&queue, 0), [""; 0]);
        let queue = [
            trainers("FAILED", "NonZeroExitCode", 3),
            coordinator("TIMEOUT", "TimeLimit"),
        ];
        for queue in [&queue[..], &[]] {
            assert_eq!(
                sentences(queue, 0),
                [
                    "somebody to run `scheduler slurm` again: no coordinator is queued or running",
                    "somebody to run `scheduler slurm` again, or for a coordinator that keeps trainers: no trainer is queued or running"
                ]
            );
        }
    }
}
