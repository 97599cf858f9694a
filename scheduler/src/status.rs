//! `scheduler status`: what the search is waiting for, for people and (as JSON) for scripts. Changes nothing.
//!
//! A [`Status`] is all that one look shows. It is written as text ([`table`]), as JSON, or drawn again and again on a
//! terminal ([`screen`]); [`watch`] is the loop around them.

mod ahead;
mod looker;
mod queue;
pub mod screen;
mod table;
mod terminal;
pub mod trouble;
pub mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use anyhow::Result;
use serde::{Serialize, Serializer};
use shared::directory::JobsView;
use shared::hyperband::NextPromotion;
use shared::pareto::{self, Point};
use shared::record::{Outcome, TrainerState};
use shared::search::Promotion;
use shared::wording::{one_line, shortened};
use shared::{BudgetUnit, Claim, Directory, JobId, OwnerId, Search, clock, fs, layout};

use crate::batch::Queued;
use crate::scan::Scanner;
use crate::state::{State, Tally};

use ahead::{remaining_s, waiting_for};

pub use trouble::{Ended, Overdue, Pause};
pub use watch::{StatusArgs, run};

/// Characters of a message that are shown.
const MOST_SHOWN: usize = 200;

/// What a look at a search shows; `docs/formats.md` describes it as scripts see it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// `status`.
    pub format: &'static str,
    /// 1.0: first. 1.1: `paused`, `overdue`, `ended_attempts`. 1.2: `infeasible` of rungs; `front`; `seeds` and
    /// `standard_error` of the incumbent. 1.3: `stopped` and `stopped_here` of rungs. 1.4: `unchecked`.
    pub version: [u32; 2],
    /// When the look was taken, RFC 3339 in UTC.
    pub at: String,
    /// The search's name.
    pub search: String,
    /// `running`, `stopped` or `finished`.
    pub phase: &'static str,
    /// Configurations requested so far.
    pub requested: u32,
    /// Configurations that there will be.
    pub configurations: u32,
    /// Requests that the sampler has not answered.
    pub awaited: usize,
    /// Trainings that could not be stopped where trainings are, because they told no loss on their way.
    pub unchecked: u64,
    /// One entry a rung, lowest first.
    pub rungs: Vec<RungStatus>,
    /// The best configuration at the highest budget that has one.
    pub incumbent: Option<Incumbent>,
    /// By several objectives: what nothing dominates at that budget, by loss; absent with one.
    pub front: Option<Vec<FrontMember>>,
    /// The promotion that comes next, as far as it can be foreseen.
    pub next_promotion: Option<NextPromotion>,
    /// What comes next, one sentence each.
    pub waiting_for: Vec<String>,
    /// Seconds until the end, estimated from mean durations; absent without results or trainers.
    pub remaining_s: Option<f64>,
    /// When that is, RFC 3339 in UTC.
    pub ends_at: Option<String>,
    /// Trainers that live.
    pub trainers_live: usize,
    /// Trainers that have been silent for longer than the lease.
    pub trainers_silent: usize,
    /// Trainers that left in good order.
    pub trainers_gone: usize,
    /// Every trainer that has not left.
    pub trainers: Vec<TrainerStatus>,
    /// SLURM's queue, where trainers were submitted by `scheduler slurm`.
    pub slurm: Vec<Queued>,
    /// Whether there ever was something of this search in SLURM's queue.
    #[serde(skip)]
    pub was_submitted: bool,
    /// Why SLURM's queue is not known.
    pub slurm_error: Option<String>,
    /// What the first jobs that crashed said.
    pub crashes: Vec<Crash>,
    /// Why no more jobs are offered, where a search began with crashes alone.
    pub paused: Option<Pause>,
    /// Jobs that take much longer than others of their rung.
    pub overdue: Vec<Overdue>,
    /// The newest attempt of each host that ended without a result.
    pub ended_attempts: Vec<Ended>,
    /// Bytes in `checkpoints/`.
    pub checkpoint_bytes: Option<u64>,
}

/// Jobs of one rung.
#[derive(Debug, Clone, Serialize)]
pub struct RungStatus {
    /// The rung.
    pub rung: u8,
    /// Its budget.
    pub budget: f64,
    /// The budget's unit.
    #[serde(serialize_with = "by_symbol")]
    pub unit: BudgetUnit,
    /// Jobs it will have if no configuration fails; without barrier about.
    pub expected: u64,
    /// Free to claim.
    pub open: usize,
    /// In a trainer's hands.
    pub claimed: usize,
    /// Evaluated.
    pub evaluated: u64,
    /// Break a constraint.
    pub infeasible: u64,
    /// Diverged, out of memory or crashed.
    pub failed: u64,
    /// Lost.
    pub lost: u64,
    /// Jobs of this rung that were stopped on their way.
    pub stopped: u64,
    /// Trainings that were stopped at this rung's budget.
    pub stopped_here: u64,
    /// The smallest loss.
    pub best_loss: Option<f64>,
    /// Mean seconds of a job.
    pub mean_s: Option<f64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn by_symbol<S: Serializer>(unit: &BudgetUnit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(unit.symbol())
}

impl RungStatus {
    /// Jobs that have a result.
    pub fn done(&self) -> u64 {
        self.evaluated + self.infeasible + self.failed + self.lost + self.stopped
    }
}

/// A trainer.
#[derive(Debug, Clone, Serialize)]
pub struct TrainerStatus {
    /// Its owner name.
    pub owner: String,
    /// Its host.
    pub host: String,
    /// What it computes on.
    pub device: String,
    /// The SLURM job it runs in.
    pub slurm_job: Option<String>,
    /// The attempt that it holds.
    pub job: Option<String>,
    /// Budget spent on it so far, in its unit.
    pub spent: Option<f64>,
    /// Budget to be spent on it.
    pub budget: Option<f64>,
    /// Budget spent on its configuration before it, by the job that it continues.
    pub continued: Option<f64>,
    /// Seconds since its heartbeat, by the clock that stamps files or, while watched, by this program's.
    pub heard_s: Option<f64>,
    /// Silent for longer than the lease.
    pub is_silent: bool,
}

/// A job that crashed.
#[derive(Debug, Clone, Serialize)]
pub struct Crash {
    /// Which.
    pub job: String,
    /// What happened.
    pub message: String,
}

/// In one line, as a terminal may show it.
impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = shortened(&one_line(&self.message), MOST_SHOWN);
        write!(f, "{}: {message}", self.job)
    }
}

/// The best configuration so far.
#[derive(Debug, Clone, Serialize)]
pub struct Incumbent {
    /// Which.
    pub configuration: String,
    /// The rung it was evaluated at.
    pub rung: u8,
    /// That rung's budget.
    pub budget: String,
    /// Its loss there; of several seeds the mean.
    pub loss: f64,
    /// The standard error of the mean.
    pub standard_error: Option<f64>,
    /// How many seeds it is the mean of; absent with one.
    pub seeds: Option<usize>,
}

/// A configuration that none dominates.
#[derive(Debug, Clone, Serialize)]
pub struct FrontMember {
    /// Which.
    pub configuration: String,
    /// The values of the objectives, by name.
    pub objectives: BTreeMap<String, f64>,
}

/// The clock by which files of a search are stamped: the file server's or, on a local disk, this machine's.
///
/// The age of a file by it depends on no other clock.
#[derive(Debug, Clone, Copy)]
pub struct FileClock {
    /// Seconds by which it is ahead of this machine's.
    ahead_s: f64,
}

impl FileClock {
    /// Finds out what time it is there. Who may not write is told the time of this machine.
    pub fn ask(directory: &Directory) -> Self {
        let now_s = fs::now_s(&directory.layout().path(layout::TRAINERS));
        Self {
            ahead_s: now_s.map_or(0.0, |now_s| now_s - clock::unix_s()),
        }
    }

    /// Seconds since a file was written at `written_s`.
    fn age_s(self, written_s: f64) -> f64 {
        (clock::unix_s() + self.ahead_s - written_s).max(0.0)
    }
}

/// Trainers that live as far as one look can tell: by the age of their heartbeats. A scheduler that watches them knows
/// better.
pub fn num_heard(scanner: &Scanner, state: &State, files: FileClock) -> u32 {
    let trainers = trainers(scanner, state, &JobsView::default(), None, files);
    let heard = trainers.iter().filter(|trainer| !trainer.is_silent);
    u32::try_from(heard.count()).unwrap_or(u32::MAX) // fewer by far
}

/// Describes what a scanner has seen; `watched_since` is when this program's clock began to time the trainers.
///
/// What is not in the scanner is left out: SLURM's queue, messages of crashes, the size of checkpoints.
pub fn look(
    scanner: &Scanner,
    state: &State,
    watched_since: Option<Instant>,
    files: FileClock,
) -> Result<Status> {
    let directory = scanner.directory();
    let view = directory.jobs()?;
    let rungs = rungs(directory, state, &view);
    let trainers = trainers(scanner, state, &view, watched_since, files);
    let phase = match (state.flags.is_finished, state.flags.is_stopped) {
        (true, _) => "finished",
        (false, true) => "stopped",
        (false, false) => "running",
    };
    let trainers_live = trainers.iter().filter(|trainer| !trainer.is_silent).count();
    // Where trainings are stopped, those that come to the top are repeated at most.
    let search = directory.search();
    let next_promotion = (phase == "running")
        .then(|| state.next_promotion())
        .flatten()
        .filter(|next| !search.is_stopping() || next.rung >= search.ladder.top());
    let overdue = trouble::overdue(directory, state, &view, &trainers, files);
    // Nobody knows how long such a job will take.
    let remaining_s = remaining_s(&rungs, &trainers).filter(|_| overdue.is_empty());
    let paused = Pause::of(directory, state)?;
    let mut waiting_for = waiting_for(directory, state, &view, &trainers, next_promotion);
    if phase == "running" {
        let time_left_s: Vec<Option<f64>> = scanner.times_left_s().collect();
        let left_open = trouble::left_open(state, &rungs, &time_left_s);
        let first = paused.iter().map(|paused| paused.sentence(directory));
        let overdue = overdue.iter().map(Overdue::sentence);
        waiting_for.splice(0..0, first.chain(left_open).chain(overdue));
    }
    let ends_at = remaining_s
        .filter(|_| phase == "running")
        .and_then(|remaining_s| clock::stamp((clock::unix_s() + remaining_s).round()));
    Ok(Status {
        format: "status",
        version: [1, 4],
        at: clock::now(),
        search: directory.search().name.clone(),
        phase,
        requested: state.num_requested,
        configurations: state.total(),
        awaited: state.awaited.len(),
        unchecked: state.tally.unchecked,
        waiting_for,
        paused,
        overdue,
        ended_attempts: trouble::ended_attempts(scanner)?,
        incumbent: incumbent(directory, state),
        front: front(directory, state),
        next_promotion,
        remaining_s,
        ends_at,
        trainers_live,
        trainers_silent: trainers.len() - trainers_live,
        trainers_gone: scanner.trainers().values().filter(|t| t.is_gone()).count(),
        slurm: Vec::new(),
        was_submitted: false,
        slurm_error: None,
        crashes: Vec::new(),
        checkpoint_bytes: None,
        rungs,
        trainers,
    })
}

fn rungs(directory: &Directory, state: &State, view: &JobsView) -> Vec<RungStatus> {
    let ladder = directory.search().ladder;
    let expected = state.table().expected_jobs();
    let of = |rung: u8| {
        let tally = state.tally.rungs[usize::from(rung)];
        let timed = tally.evaluated + tally.infeasible + tally.failed + tally.stopped;
        RungStatus {
            rung,
            budget: ladder.budget(rung).amount,
            unit: ladder.unit(),
            expected: expected[usize::from(rung)],
            open: view.open.iter().filter(|a| a.job.rung == rung).count(),
            claimed: view
                .claimed
                .iter()
                .filter(|c| c.attempt.job.rung == rung)
                .count(),
            evaluated: tally.evaluated,
            infeasible: tally.infeasible,
            failed: tally.failed,
            lost: tally.lost,
            stopped: tally.stopped,
            stopped_here: tally.stopped_here,
            best_loss: tally.best.and_then(|best| best.score.loss()),
            mean_s: (timed > 0).then(|| tally.elapsed_s / timed as f64),
        }
    };
    (0..ladder.num_levels()).map(of).collect()
}

fn trainers(
    scanner: &Scanner,
    state: &State,
    view: &JobsView,
    watched_since: Option<Instant>,
    files: FileClock,
) -> Vec<TrainerStatus> {
    let directory = scanner.directory();
    let lease = directory.lease();
    let now = Instant::now();
    let held: BTreeMap<&OwnerId, &Claim> = view.claimed.iter().map(|c| (&c.owner, c)).collect();
    let mut trainers = Vec::new();
    for (owner, trainer) in scanner.trainers() {
        if trainer.is_gone() {
            continue;
        }
        let beat = &trainer.heartbeat;
        let silent = trainer.silent(now);
        let has_changed = watched_since.is_some_and(|start| silent < start.elapsed());
        let heard_s = if has_changed {
            Some(silent.as_secs_f64())
        } else {
            trainer.written_s.map(|written_s| files.age_s(written_s))
        };
        let claim = held.get(owner).copied();
        let spent = match &beat.state {
            TrainerState::Working {
                claim: working,
                spent,
            } if Some(working) == claim => Some(*spent),
            TrainerState::Working { .. } | TrainerState::Waiting | TrainerState::Gone => None,
        };
        let ladder = directory.search().ladder;
        let rung = claim.map(|claim| claim.attempt.job.rung);
        trainers.push(TrainerStatus {
            owner: owner.to_string(),
            host: beat.host.clone(),
            device: beat.device.clone(),
            slurm_job: beat.slurm_job.clone(),
            job: claim.map(|claim| claim.attempt.to_string()),
            spent,
            budget: rung
                .filter(|rung| *rung < ladder.num_levels())
                .map(|rung| ladder.budget(rung).amount),
            continued: claim.and_then(|claim| continued(directory.search(), state, claim)),
            heard_s,
            is_silent: heard_s.is_some_and(|seconds| seconds > lease.as_secs_f64())
                || silent >= lease,
        });
    }
    trainers
}

/// The budget from which a claimed job goes on, if it continues the one on the rung below.
fn continued(search: &Search, state: &State, claim: &Claim) -> Option<f64> {
    let JobId {
        configuration,
        rung,
    } = claim.attempt.job;
    let is_known = configuration.0 < state.total() && rung < search.ladder.num_levels();
    let continues = search.promotion_to(rung) == Promotion::Continue
        && is_known
        && rung > state.table().place(configuration).rung;
    continues.then(|| search.ladder.budget(rung - 1).amount)
}

/// What the first jobs that crashed said.
pub fn crashes(directory: &Directory, tally: &Tally) -> Result<Vec<Crash>> {
    let mut crashes = Vec::new();
    for job in &tally.crashed {
        let outcome = directory.read_result(*job)?.map(|result| result.outcome);
        if let Some(Outcome::Crashed { message, .. }) = outcome {
            let job = job.to_string();
            crashes.push(Crash { job, message });
        }
    }
    Ok(crashes)
}

fn incumbent(directory: &Directory, state: &State) -> Option<Incumbent> {
    let rungs = (0u8..).zip(&state.tally.rungs);
    let (rung, best) = rungs
        .filter_map(|(rung, tally)| Some((rung, tally.best?)))
        .last()?;
    let ladder = directory.search().ladder;
    let mean = if ladder.repetition(rung) > 0 {
        state.best_mean(ladder.top()..=rung)
    } else {
        None
    };
    let (configuration, loss) = match mean {
        Some((id, mean)) => (id, mean.loss),
        None => (best.job.configuration, best.score.loss()?),
    };
    Some(Incumbent {
        configuration: configuration.to_string(),
        rung,
        budget: ladder.budget(rung).to_string(),
        loss,
        standard_error: mean.map(|(_, mean)| mean.standard_error),
        seeds: mean.map(|(_, mean)| mean.seeds),
    })
}

/// What nothing dominates at the highest rung that has a loss.
fn front(directory: &Directory, state: &State) -> Option<Vec<FrontMember>> {
    let names = &directory.search().objectives;
    if names.is_empty() {
        return None;
    }
    let highest = state
        .tally
        .rungs
        .iter()
        .rposition(|tally| tally.best.is_some());
    let results: Vec<(JobId, Point)> = state.points(highest.unwrap_or_default());
    let values: Vec<&[f64]> = results.iter().map(|(_, point)| point.values()).collect();
    let front_of = pareto::fronts(&values);
    let first = results
        .iter()
        .zip(front_of)
        .filter(|(_, front)| *front == 0);
    let mut front: Vec<&(JobId, Point)> = first.map(|(result, _)| result).collect();
    front.sort_by(|a, b| a.1.values()[0].total_cmp(&b.1.values()[0]));
    let member = |(job, point): &(JobId, Point)| FrontMember {
        configuration: job.configuration.to_string(),
        objectives: names
            .iter()
            .cloned()
            .zip(point.values().iter().copied())
            .collect(),
    };
    Some(front.into_iter().map(member).collect())
}

#[cfg(test)]
mod tests;
