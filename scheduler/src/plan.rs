//! What to do next: a pure function of what is known.
//!
//! Two schedulers that know the same plan the same, so running two by accident is harmless. Applying a plan leaves
//! nothing to plan, so stopping between any two actions is harmless too.

use shared::record::{Finished, Request};
use shared::search::TrainerSettings;
use shared::{AttemptId, Claim, ConfigurationId, Fate, JobId};

use crate::state::State;

/// One change of the search directory.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask the sampler for a configuration.
    Request(Request),
    /// Offer a job to the trainers.
    Offer {
        /// Which.
        job: JobId,
        /// The number of the attempt, 1 unless a ticket was lost.
        attempt: u32,
    },
    /// End the attempt of a trainer that is gone, and offer the next one.
    TakeBack {
        /// Whose.
        claim: Claim,
        /// Budget that its newest checkpoint has spent, as far as known.
        spent: f64,
    },
    /// End a job that attempt after attempt does not get on with: its outcome is `lost`.
    GiveUp {
        /// The last attempt.
        attempt: AttemptId,
        /// Its claim, if it is claimed.
        claim: Option<Claim>,
        /// How many attempts there were in a row without progress.
        futile: u32,
        /// How the last one ended.
        fate: Fate,
    },
    /// Remove a claim of a job that has its result.
    DropClaim(Claim),
    /// Remove a ticket of a job that has its result.
    DropTicket(AttemptId),
    /// Remove checkpoints that nobody needs.
    DropCheckpoints {
        /// Whose.
        configuration: ConfigurationId,
        /// Those of lower rungs than this; `None` for all.
        below: Option<u8>,
    },
    /// Say that nothing is left to do.
    Finish(Finished),
}

/// Plans all that can be done now, in the order in which it should be done.
pub fn plan(state: &State, settings: &TrainerSettings) -> Vec<Action> {
    if state.signs.is_stopped || state.signs.is_finished {
        return Vec::new();
    }
    let mut actions = tidy(state, settings);
    let mut offered: Vec<JobId> = Vec::new();
    for (job, pending) in &state.pending {
        if pending.is_missing {
            actions.push(Action::Offer {
                job: *job,
                attempt: pending.attempt + 1,
            });
        }
    }
    for id in state.proposed.keys() {
        offered.push(id.job(state.table().place(*id).rung));
    }
    let wanted = (state.num_trainers.max(1) + settings.ahead) as usize;
    let mut free = wanted.saturating_sub(state.num_outstanding());
    // Promotions first: they belong to earlier brackets, or to higher rungs.
    let before = offered.len();
    offered.extend(state.promotions().take(free));
    free -= offered.len() - before;
    actions.extend(offered.iter().map(|job| Action::Offer {
        job: *job,
        attempt: 1,
    }));
    actions.extend(requests(state, &offered, free).map(Action::Request));
    if is_over(state) {
        actions.push(Action::Finish(Finished {
            configurations: u64::from(state.num_requested),
            jobs: state.results.len() as u64,
        }));
    }
    actions
}

/// What is done with jobs that trainers leave behind.
fn tidy(state: &State, settings: &TrainerSettings) -> Vec<Action> {
    let mut actions = Vec::new();
    actions.extend(state.spent_claims.iter().cloned().map(Action::DropClaim));
    actions.extend(state.spent_tickets.iter().copied().map(Action::DropTicket));
    for (attempt, over) in &state.over {
        match &over.claim {
            Some(claim) if over.futile < settings.max_attempts => actions.push(Action::TakeBack {
                claim: claim.clone(),
                spent: over.spent,
            }),
            claim => actions.push(Action::GiveUp {
                attempt: *attempt,
                claim: claim.clone(),
                futile: over.futile,
                fate: over.fate,
            }),
        }
    }
    for (configuration, below) in &state.spent_checkpoints {
        actions.push(Action::DropCheckpoints {
            configuration: *configuration,
            below: *below,
        });
    }
    actions
}

/// The next `number` requests; the first of them carries the results that are news.
fn requests<'a>(
    state: &'a State,
    offered: &'a [JobId],
    number: usize,
) -> impl Iterator<Item = Request> + 'a {
    let from = state.num_requested;
    let to = state
        .table()
        .total()
        .min(from.saturating_add(u32::try_from(number).unwrap_or(u32::MAX))); // capped by the total
    (from..to).map(ConfigurationId).map(move |configuration| {
        let place = state.table().place(configuration);
        let finished = if configuration.0 == from {
            state.unrecorded.iter().copied().collect()
        } else {
            Vec::new()
        };
        let mut pending: Vec<JobId> = state.pending.keys().chain(offered).copied().collect();
        pending.sort_unstable();
        Request {
            configuration,
            bracket: place.bracket,
            rung: place.rung,
            finished,
            pending,
        }
    })
}

fn is_over(state: &State) -> bool {
    state.num_requested == state.table().total()
        && state.num_outstanding() == 0
        && state.promotions().next().is_none()
}
