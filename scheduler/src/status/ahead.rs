//! What is ahead of a search: what it waits for, and for how long.

use shared::Directory;
use shared::directory::JobsView;
use shared::hyperband::NextPromotion;
use shared::search::Scheduling;
use shared::wording::count;

use super::{RungStatus, TrainerStatus};
use crate::plan::{Action, plan};
use crate::sample;
use crate::state::State;

/// One sentence for everything that must happen before the search is finished, the nearest first.
pub(super) fn waiting_for(
    directory: &Directory,
    state: &State,
    view: &JobsView,
    trainers: &[TrainerStatus],
    next_promotion: Option<NextPromotion>,
) -> Vec<String> {
    if state.flags.is_finished {
        let finished = directory.read_finished().ok().flatten();
        let number = finished.map_or(0, |finished| {
            finished.jobs.saturating_sub(state.results.len() as u64)
        });
        let number = usize::try_from(number).unwrap_or(usize::MAX); // fewer by far
        return vec![match number {
            0 => "nothing: the search is finished".into(),
            _ => format!(
                "somebody to remove `finished.json` and run the search again: {} with which it finished {} gone or \
                 corrupt",
                count(number, "result"),
                if number == 1 { "is" } else { "are" }
            ),
        }];
    }
    if state.flags.is_stopped {
        return vec!["`scheduler stop --undo`: the search is stopped".into()];
    }
    if sample::is_sample(directory).is_ok_and(|is_so| is_so) {
        return sample::waiting_for(view, trainers);
    }
    let mut sentences = Vec::new();
    let settings = directory.search().trainers;
    let due: Vec<Action> = plan(state, &settings);
    if let Some(first) = due.first() {
        let more = if due.len() > 1 { ", and more" } else { "" };
        sentences.push(format!("a scheduler, which would {first}{more}"));
    }
    if let Some(first) = state.missing_results.first() {
        let results = count(state.missing_results.len(), "result");
        sentences.push(format!(
            "{results} that requests name and that are gone, {first} first: those jobs are done again"
        ));
    }
    if let Some(first) = state.awaited.first() {
        let number = state.awaited.len();
        sentences.push(match number {
            1 => format!("the sampler, for configuration {first}"),
            _ => format!("the sampler, for {number} configurations from {first} on"),
        });
    }
    if !view.open.is_empty() {
        let is_any_live = trainers.iter().any(|trainer| !trainer.is_silent);
        let who = if is_any_live { "" } else { "; none is alive" };
        let jobs = count(view.open.len(), "open job");
        sentences.push(format!("trainers to claim {jobs}{who}"));
    }
    let num_held = trainers.iter().filter(|t| !t.is_silent && t.job.is_some());
    let num_held = num_held.count();
    let num_abandoned = view.claimed.len().saturating_sub(num_held);
    if num_abandoned > 0 {
        let jobs = count(num_abandoned, "claimed job");
        sentences.push(format!(
            "a scheduler to take back {jobs} of silent trainers"
        ));
    }
    let num_held = view.claimed.len().saturating_sub(num_abandoned);
    if num_held > 0 {
        let jobs = count(num_held, "claimed job");
        sentences.push(format!("trainers to finish {jobs}"));
    }
    sentences.extend(next_promotion.map(|next| promotion(next, directory.search().scheduling)));
    sentences
}

fn promotion(next: NextPromotion, scheduling: Scheduling) -> String {
    let results = count(next.missing, "more result");
    let rung = next.rung;
    match (scheduling, next.bracket, next.promoted) {
        (Scheduling::Synchronous, Some(bracket), 0) => {
            format!("{results} at rung {rung}, then bracket {bracket} ends")
        }
        (Scheduling::Synchronous, Some(bracket), 1) => {
            format!("{results} at rung {rung}, for the next promotion of bracket {bracket}")
        }
        (Scheduling::Synchronous, Some(bracket), number) => {
            format!(
                "{results} at rung {rung}, for the next {number} promotions of bracket {bracket}"
            )
        }
        (Scheduling::Synchronous, None, 0) => format!("{results} at rung {rung}"),
        (Scheduling::Synchronous, None, number) => {
            let promotions = count(number, "promotion");
            format!("{results} at rung {rung}, for {promotions} to the budgets that were added")
        }
        (Scheduling::Asynchronous, ..) => {
            format!("about {results} at rung {rung}, for the next promotion")
        }
    }
}

/// Seconds until the end: the jobs that remain on each rung times its mean duration, shared by the live trainers, but no
/// less than a job on the lowest of these rungs and one on each above it take one after the other.
pub(super) fn remaining_s(rungs: &[RungStatus], trainers: &[TrainerStatus]) -> Option<f64> {
    // Durations of rungs without results follow from the nearest rung that has some, in proportion to the budget.
    let known: Vec<(f64, f64)> = rungs
        .iter()
        .filter_map(|r| Some((r.budget, r.mean_s?)))
        .collect();
    let mean_s = |rung: &RungStatus| {
        rung.mean_s.or_else(|| {
            let (budget, mean_s) = known.iter().min_by(|a, b| {
                let distance = |known: &(f64, f64)| (known.0 / rung.budget).ln().abs();
                distance(a).total_cmp(&distance(b))
            })?;
            Some(mean_s * rung.budget / budget)
        })
    };
    let live: Vec<&TrainerStatus> = trainers.iter().filter(|t| !t.is_silent).collect();
    let (mut sum_s, mut chain_s) = (0.0, 0.0);
    let mut is_lowest = true;
    for rung in rungs {
        let num_left = rung.expected.saturating_sub(rung.done());
        if num_left == 0 {
            continue;
        }
        let mean_s = mean_s(rung)?;
        // What is done of the jobs in hand; a trainer does not say which rung its job is on, but its budget does.
        let in_hand = live.iter().filter(|t| t.budget == Some(rung.budget));
        let parts: Vec<f64> = in_hand
            .map(|trainer| {
                let before = trainer.continued.unwrap_or(0.0);
                let spent = trainer.spent.unwrap_or(0.0) - before;
                (spent / (rung.budget - before)).clamp(0.0, 1.0)
            })
            .collect();
        let done: f64 = parts.iter().sum();
        sum_s += (num_left as f64 - done).max(0.0) * mean_s;
        // The last one waits for the slowest of those that are all in hand, or for one that nobody has yet.
        let is_all_in_hand = is_lowest && u64::try_from(parts.len()) == Ok(num_left);
        let least = parts.into_iter().reduce(f64::min).unwrap_or(0.0);
        chain_s += mean_s * if is_all_in_hand { 1.0 - least } else { 1.0 };
        is_lowest = false;
    }
    (!live.is_empty()).then(|| (sum_s / live.len() as f64).max(chain_s))
}
