//! What to do next: a pure function of what is known.
//!
//! Two schedulers that know the same plan the same, so running two by accident is harmless. When a plan is applied,
//! planning again gives what that made possible, and soon nothing; stopping between any two actions is harmless.

use std::fmt;

use shared::record::{Finished, Gift, Request};
use shared::search::TrainerSettings;
use shared::{AttemptId, Claim, ConfigurationId, Fate, JobId, ResultId};

use crate::blame::{Again, Known};
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
        /// The number of the attempt, 1 unless its file was lost.
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
        without_progress: u32,
        /// How the last one ended.
        fate: Fate,
    },
    /// Count a failure, which nobody else could do better.
    Accept(JobId),
    /// Do a job again, whose failure may be the machine's fault.
    Retry(Again),
    /// Remove an open job, to offer the job differently or later.
    Withdraw(AttemptId),
    /// Remove a claim of a job that has its result.
    DropClaim(Claim),
    /// Remove an open job that has its result.
    DropOpen(AttemptId),
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

impl Action {
    /// Whether it makes a new record and does nothing else, so that several such actions may be taken at the same time.
    pub(crate) fn makes_a_record(&self) -> bool {
        match self {
            Self::Request(_) | Self::Offer { .. } => true,
            Self::TakeBack { .. }
            | Self::GiveUp { .. }
            | Self::Accept(_)
            | Self::Retry(_)
            | Self::Withdraw(_)
            | Self::DropClaim(_)
            | Self::DropOpen(_)
            | Self::DropCheckpoints { .. }
            | Self::Finish(_) => false,
        }
    }
}

impl Action {
    /// Makes the effect of this action, when it was taken, known.
    pub fn apply(&self, state: &mut State) {
        match self {
            Self::Request(request) => state.see_request(request),
            Self::Offer { job, attempt } => {
                let offered = job.attempt(*attempt);
                state.see_attempt(offered);
                state.open.insert(offered);
                let restrictions = state.faults.restrictions(*job);
                state.left_to.insert(offered, restrictions);
            }
            Self::TakeBack { claim, .. } => {
                state.over.remove(&claim.attempt);
                state.see_attempt(claim.attempt.next());
            }
            Self::GiveUp {
                attempt,
                without_progress,
                ..
            } => {
                state.over.remove(attempt);
                state.see_result(Known {
                    id: state.next_result(attempt.job),
                    fruitless: *without_progress,
                    ..Known::certain(*attempt, None)
                });
            }
            Self::Accept(job) => {
                if let Some(known) = state.doubtful.get(job).cloned() {
                    state.accept(&known);
                }
            }
            Self::Retry(again) => state.see_retry(again.clone()),
            Self::Withdraw(attempt) => state.offer_again(*attempt),
            Self::DropClaim(claim) => {
                state.spent_claims.remove(claim);
            }
            Self::DropOpen(attempt) => {
                state.spent_open.remove(attempt);
            }
            Self::DropCheckpoints { configuration, .. } => {
                state.spent_checkpoints.remove(configuration);
            }
            Self::Finish(_) => state.flags.is_finished = true,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(request) => write!(
                f,
                "request configuration {} for bracket {}, rung {}, with {} new results",
                request.configuration,
                request.bracket,
                request.rung,
                request.finished.len()
            ),
            Self::Offer { job, attempt } => write!(f, "offer {}", job.attempt(*attempt)),
            Self::TakeBack { claim, .. } => write!(f, "take back {claim}"),
            Self::GiveUp {
                attempt,
                without_progress,
                ..
            } => write!(
                f,
                "give up {attempt} after {without_progress} attempts without progress"
            ),
            Self::Accept(job) => write!(f, "count the failure of {job}"),
            Self::Retry(again) => match (&*again.avoid_hosts, again.memory_mib) {
                (_, Some(mib)) => write!(
                    f,
                    "repeat {} where there are {mib:.0} MiB of memory",
                    again.supersedes
                ),
                (hosts, None) => write!(
                    f,
                    "repeat {} on another host than {}",
                    again.supersedes,
                    hosts.join(", ")
                ),
            },
            Self::Withdraw(attempt) => write!(f, "withdraw the open job {attempt}"),
            Self::DropClaim(claim) => write!(f, "remove the claim {claim}, which has its result"),
            Self::DropOpen(attempt) => {
                write!(f, "remove the open job {attempt}, which nobody needs")
            }
            Self::DropCheckpoints {
                configuration,
                below: None,
            } => write!(f, "remove the checkpoints of {configuration}"),
            Self::DropCheckpoints {
                configuration,
                below: Some(rung),
            } => write!(
                f,
                "remove the checkpoints of {configuration} below rung {rung}"
            ),
            Self::Finish(finished) => write!(
                f,
                "finish with {} configurations and {} jobs",
                finished.configurations, finished.jobs
            ),
        }
    }
}

/// Plans all that can be done now, in the order in which it should be done.
pub fn plan(state: &State, settings: &TrainerSettings) -> Vec<Action> {
    if state.flags.is_stopped || state.flags.is_finished {
        return Vec::new();
    }
    let mut actions = tidy(state, settings);
    if !state.over.is_empty() {
        // What is given up makes room for other jobs: plan those when it is done.
        return actions;
    }
    if state.faults.pause(settings.pause_after()).is_some() {
        actions.extend(state.open.iter().copied().map(Action::Withdraw));
        return actions;
    }
    if !state.doubtful.is_empty() {
        // So does a failure that counts.
        actions.extend(decide(state));
        return actions;
    }
    actions.extend(reconsider(state));
    for (job, pending) in &state.pending {
        if pending.is_missing {
            actions.push(Action::Offer {
                job: *job,
                attempt: pending.attempt.saturating_add(1),
            });
        }
    }
    let wanted = (state.num_trainers.max(1) + settings.ahead) as usize;
    let slots = wanted.saturating_sub(state.pending.len());
    // What was asked for has its trainer already, unless it is in store.
    let reserved = if state.learns() {
        state.num_in_store()
    } else {
        0
    };
    // What the sampler waits for comes first, whoever has no trainer then.
    let is_awaited = |job: &JobId| state.missing_results.contains(job);
    let mut promoted: Vec<JobId> = Vec::new();
    if !state.missing_results.is_empty() {
        promoted.extend(state.promotions().filter(is_awaited));
    }
    // Promotions before new configurations: they belong to earlier brackets, or to higher rungs.
    let others = state.promotions().filter(|job| !is_awaited(job));
    promoted.extend(others.take(slots.saturating_sub(reserved + promoted.len())));
    let free = slots.saturating_sub(promoted.len());
    let first = state.proposed.keys().take(free);
    let mut offered: Vec<JobId> = first
        .map(|id| id.job(state.table().place(*id).rung))
        .collect();
    let free = free - offered.len();
    let in_store = state.num_in_store() - offered.len();
    offered.extend(promoted);
    actions.extend(offered.iter().map(|job| Action::Offer {
        job: *job,
        attempt: state.next_attempt(*job),
    }));
    // The store is filled when every trainer has a job.
    let missing = if free > 0 {
        free.saturating_sub(in_store)
    } else if in_store < *state.store_size().start() {
        state.store_size().end() - in_store
    } else {
        0
    };
    actions.extend(requests(state, &offered, missing).map(Action::Request));
    if is_over(state) {
        actions.push(Action::Finish(Finished {
            configurations: u64::from(state.num_requested),
            jobs: state.results.len() as u64,
            retries: state.num_retries,
            top: state.table().raised_top(),
        }));
    }
    actions
}

/// What is done with jobs that trainers leave behind.
fn tidy(state: &State, settings: &TrainerSettings) -> Vec<Action> {
    let mut actions = Vec::new();
    actions.extend(state.spent_claims.iter().cloned().map(Action::DropClaim));
    actions.extend(state.spent_open.iter().copied().map(Action::DropOpen));
    for (attempt, over) in &state.over {
        match &over.claim {
            Some(claim) if over.without_progress < settings.max_attempts => {
                actions.push(Action::TakeBack {
                    claim: claim.clone(),
                    spent: over.spent,
                });
            }
            claim => actions.push(Action::GiveUp {
                attempt: *attempt,
                claim: claim.clone(),
                without_progress: over.without_progress,
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

/// The next `number` requests; the first of them carries the results and the promotions that are news.
fn requests<'a>(
    state: &'a State,
    offered: &'a [JobId],
    number: usize,
) -> impl Iterator<Item = Request> + 'a {
    let from = state.num_requested;
    // What somebody gave comes first, and one at a time: it moves all that come after it.
    let gift = state.waiting.first_key_value();
    let number = if gift.is_some() {
        number.min(1)
    } else {
        number
    };
    let to = state
        .total()
        .min(from.saturating_add(u32::try_from(number).unwrap_or(u32::MAX))); // capped by the total
    (from..to).map(ConfigurationId).map(move |configuration| {
        let place = state.table().place(configuration);
        let (mut finished, mut superseding) = (Vec::new(), Vec::new());
        let mut pending = Vec::new();
        if configuration.0 == from {
            let (first, later): (Vec<ResultId>, Vec<ResultId>) = state
                .unrecorded
                .iter()
                .partition(|result| result.from.is_none());
            finished.extend(first.into_iter().map(|result| result.job));
            superseding = later;
            pending.extend(&state.unreported);
            let is_promoted = |job: &&JobId| job.rung > state.table().place(job.configuration).rung;
            pending.extend(offered.iter().filter(is_promoted));
            pending.sort_unstable();
        }
        Request {
            configuration,
            bracket: place.bracket,
            rung: gift.map_or(place.rung, |(_, (rung, _))| *rung),
            finished,
            pending,
            superseding,
            given: gift.map(|(number, (_, values))| Gift {
                number: *number,
                values: values.clone(),
            }),
            top: state.table().raised_top(),
        }
    })
}

/// Which failures count, and which jobs are done again.
fn decide(state: &State) -> impl Iterator<Item = Action> + '_ {
    state.doubtful.values().map(|known| {
        let again = state.faults.decide(known);
        again.map_or(Action::Accept(known.id.job), Action::Retry)
    })
}

/// What those who live now change: crashes that counted, and open jobs that are for trainers of which none is left.
fn reconsider(state: &State) -> impl Iterator<Item = Action> + '_ {
    let counted = state.counted.values();
    let again = counted.filter_map(|known| state.faults.reconsider(known));
    let open = reserved_for_nobody(state).map(Action::Withdraw);
    again.map(Action::Retry).chain(open)
}

/// Open jobs that are for trainers of which none lives any more.
fn reserved_for_nobody(state: &State) -> impl Iterator<Item = AttemptId> + '_ {
    state.open.iter().copied().filter(|attempt| {
        // What a scheduler before this one has offered may be left to the fewest.
        let left_to = state.left_to.get(attempt).cloned();
        let left_to = left_to.unwrap_or_else(|| state.faults.wanted(attempt.job));
        left_to.is_some_and(|restrictions| !state.faults.lives_any(&restrictions))
    })
}

/// Whether nothing is left to do.
pub(crate) fn is_over(state: &State) -> bool {
    state.num_requested == state.total()
        && state.pending.is_empty()
        && state.doubtful.is_empty()
        && state.num_in_store() == 0
        && state.promotions().next().is_none()
}

#[cfg(test)]
mod tests;
