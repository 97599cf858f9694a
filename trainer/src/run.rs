//! The loop of a trainer: look for an open job, claim it, evaluate it, publish the result or give the job back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::RngExt as _;
use shared::exit::{Code, Failure, code_of};
use shared::record::{Fate, Job, JobResult, Outcome, TrainerState};
use shared::search::Promotion;
use shared::signal::Warning;
use shared::store::{Directory, FinishedAs, attempt_end, new_owner};
use shared::wait::{News, Waiter};
use shared::{AttemptId, Claim, JobId, OwnerId, Seed, clock, layout};
use tracing::{error, info, warn};

use crate::allocator;
use crate::control::JobControl;
use crate::device::DeviceChoice;
use crate::heart::{Heart, Pulse};
use crate::objective::command::Place;
use crate::objective::{Control as _, Ended, Task};
use crate::patience;
use crate::runner::{Runner, training_seed};
use crate::time_limit::TimeLimit;

/// Failures of this machine in a row after which the trainer gives up, so that it does not eat every job's attempts.
const MAX_FAILURES: u32 = 5;

/// How long a job is left to other trainers after this machine failed at it.
const REFUSAL: Duration = Duration::from_mins(5);
/// The first pause after a failure; it doubles with each in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How a trainer runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it computes on.
    pub device: DeviceChoice,
    /// Leave as soon as no job is open.
    pub is_once: bool,
    /// Longest time between two looks at the directory.
    pub longest_poll: Duration,
    /// The claim during whose evaluation this very process had no memory left, in an earlier life.
    pub exhausted: Option<Claim>,
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The search is finished.
    Finished,
    /// The search is stopped.
    Stopped,
    /// No job is open.
    NothingOpen,
    /// A warning signal, by name.
    Signal(&'static str),
    /// The SLURM job is about to end.
    TimeLimit,
    /// So many failures of this machine or directory in a row.
    Failures(u32),
}

/// Runs until the search is finished or stopped, a signal comes, or time is up.
///
/// # Errors
/// The directory cannot be used, or the objective cannot be made ready.
pub fn run(root: &Path, settings: &Settings) -> Result<Code> {
    let warning = Warning::listen().context("cannot listen for signals")?;
    let directory = Directory::open(root)?;
    let runner = Runner::new(directory.search(), settings.device)?;
    let (owner, beat) = match &settings.exhausted {
        None => (new_owner(), 0),
        // Still the same trainer, whose heartbeats go on counting.
        Some(claim) => {
            let last = directory.read_heartbeat(&claim.owner)?;
            (claim.owner.clone(), last.map_or(0, |last| last.beat + 1))
        }
    };
    let limit = TimeLimit::of_slurm_job();
    let heart = Heart::start(&directory, &owner, &runner.device(), beat)?;
    info!(
        "trainer {owner} on {} ready for search `{}`",
        runner.device(),
        directory.search().name
    );
    let pulse = Arc::clone(heart.pulse());
    patience::watch(&directory, &pulse, heart.beat(), &warning, limit);
    let trainer = Trainer::new(&directory, &runner, owner, pulse, warning, limit);
    if let Some(claim) = &settings.exhausted {
        trainer.publish_exhaustion(claim)?;
    }
    match trainer.work(settings)? {
        Leave::Finished => info!("leaving: the search is finished"),
        Leave::Stopped => info!("leaving: the search is stopped"),
        Leave::NothingOpen => info!("leaving: no job is open"),
        Leave::Signal(signal) => {
            info!("leaving on {signal}");
            return Ok(Code::Again);
        }
        Leave::TimeLimit => {
            info!("leaving: the SLURM job is about to end");
            return Ok(Code::Again);
        }
        Leave::Failures(number) => {
            let message =
                format!("failures of this machine or directory in a row: {number}; see above");
            return Err(Failure::new(Code::Directory, message).into());
        }
    }
    Ok(Code::Done)
}

/// What one look at the directory led to.
enum Step {
    Worked,
    Idle,
    /// A job failed for reasons of this machine.
    Failed,
    Leave(Leave),
}

/// A trainer at work on one directory.
#[derive(Debug)]
pub struct Trainer<'a> {
    directory: &'a Directory,
    runner: &'a Runner,
    owner: OwnerId,
    warning: Warning,
    limit: TimeLimit,
    pulse: Arc<Pulse>,
    /// Jobs that this trainer gave back because its machine failed, and when: others shall have them first.
    refused: RefCell<BTreeMap<JobId, Instant>>,
    /// Tickets for which the SLURM job is too short, as the log has said.
    too_long: RefCell<BTreeSet<AttemptId>>,
}

impl<'a> Trainer<'a> {
    /// A trainer whose heart beats elsewhere.
    pub fn new(
        directory: &'a Directory,
        runner: &'a Runner,
        owner: OwnerId,
        pulse: Arc<Pulse>,
        warning: Warning,
        limit: TimeLimit,
    ) -> Self {
        Self {
            directory,
            runner,
            owner,
            warning,
            limit,
            pulse,
            refused: RefCell::default(),
            too_long: RefCell::default(),
        }
    }

    /// Evaluates job after job until there is a reason to leave.
    ///
    /// # Errors
    /// What trying again does not help with.
    pub fn work(&self, settings: &Settings) -> Result<Leave> {
        let layout = self.directory.layout();
        let folders = [layout.root().to_path_buf(), layout.path(layout::OPEN)]
            .map(|folder| (folder, News::Arrivals));
        let mut waiter = Waiter::new(&folders, settings.longest_poll);
        // Which of several open jobs is tried after a lost race; not part of any result.
        let mut rng = Seed::new(0).child("claims", &self.owner).rng();
        let mut num_failures = 0;
        loop {
            if let Some(signal) = self.warning.received() {
                return Ok(Leave::Signal(signal));
            }
            if self.limit.is_near() {
                return Ok(Leave::TimeLimit);
            }
            let has_failed = match self.step(settings, &mut rng) {
                // What is open is what this machine failed at.
                Ok(Step::Leave(Leave::NothingOpen)) if num_failures > 0 => {
                    return Ok(Leave::Failures(num_failures));
                }
                Ok(Step::Leave(leave)) => return Ok(leave),
                Ok(Step::Worked) => {
                    num_failures = 0;
                    waiter.progress();
                    continue;
                }
                Ok(Step::Idle) => false,
                Ok(Step::Failed) => true,
                // A file server may be away for a moment.
                Err(error) if code_of(&error) == Code::Directory => {
                    warn!("cannot look for work: {error:#}");
                    true
                }
                Err(error) => return Err(error),
            };
            if has_failed {
                num_failures += 1;
                if num_failures >= MAX_FAILURES {
                    return Ok(Leave::Failures(num_failures));
                }
                // File events do not shorten this one.
                let end = clock::instant() + FIRST_PAUSE * 2u32.pow(num_failures - 1);
                while clock::instant() < end && self.warning.received().is_none() {
                    clock::sleep(Duration::from_millis(50));
                }
                continue;
            }
            waiter.wait(&mut || self.warning.received().is_some() || self.limit.is_near());
        }
    }

    /// One look at the directory, and the job it may lead to.
    fn step(&self, settings: &Settings, rng: &mut impl rand::Rng) -> Result<Step> {
        let signs = self.directory.signs()?;
        if signs.is_stopped {
            return Ok(Step::Leave(Leave::Stopped));
        }
        let mut open = self.directory.open_jobs()?;
        order(&mut open);
        if let Some((claim, job)) = self.claim_one(open, rng)? {
            let is_well = self.evaluate(&claim, &job);
            if !is_well {
                self.refused.borrow_mut().insert(job.job, clock::instant());
            }
            return Ok(if is_well { Step::Worked } else { Step::Failed });
        }
        if signs.is_finished {
            return Ok(Step::Leave(Leave::Finished));
        }
        Ok(if settings.is_once {
            Step::Leave(Leave::NothingOpen)
        } else {
            Step::Idle
        })
    }

    /// Claims the first open job that can be had.
    fn claim_one(
        &self,
        mut open: Vec<AttemptId>,
        rng: &mut impl rand::Rng,
    ) -> Result<Option<(Claim, Job)>> {
        open.retain(|attempt| self.has_time_for(*attempt) && !self.has_refused(attempt.job));
        let mut index = 0;
        while !open.is_empty() {
            let attempt = open.remove(index);
            if let Some(claimed) = self.directory.claim(attempt, &self.owner)? {
                info!("claimed job={attempt} budget={}", claimed.1.budget);
                return Ok(Some(claimed));
            }
            // Somebody was faster; others go down the same list, so go on elsewhere.
            index = if open.is_empty() {
                0
            } else {
                rng.random_range(0..open.len())
            };
        }
        Ok(None)
    }

    /// Whether this machine failed at a job a short while ago.
    fn has_refused(&self, job: JobId) -> bool {
        self.refused
            .borrow()
            .get(&job)
            .is_some_and(|at| clock::since(*at) < REFUSAL)
    }

    /// A job that cannot be continued later must be able to end before the SLURM job does.
    fn has_time_for(&self, attempt: AttemptId) -> bool {
        let Some(left) = self.limit.left() else {
            return true;
        };
        if self.runner.can_continue() {
            return true;
        }
        let ladder = &self.directory.search().ladder;
        if attempt.job.rung > ladder.top() {
            return true; // a foreign job: claiming it finds that out
        }
        match ladder.unit() {
            shared::BudgetUnit::Seconds => {
                let needed = ladder.budget(attempt.job.rung).amount
                    + crate::time_limit::MARGIN.as_secs_f64();
                let is_enough = left.as_secs_f64() > needed;
                if !is_enough && self.too_long.borrow_mut().insert(attempt) {
                    warn!(
                        "job={attempt} needs {needed} s and this SLURM job has {} s left: left to trainers with more time",
                        left.as_secs()
                    );
                }
                is_enough
            }
            // Nobody knows how long an epoch of somebody else's program takes.
            shared::BudgetUnit::Epochs | shared::BudgetUnit::Steps => true,
        }
    }

    /// Evaluates a claimed job to its end, whichever it is; false if this machine failed.
    fn evaluate(&self, claim: &Claim, job: &Job) -> bool {
        let pulse = &self.pulse;
        pulse.start(claim);
        let started_at = clock::now();
        let start = clock::instant();
        let mut control = JobControl::new(
            self.directory,
            claim,
            job.budget,
            Arc::clone(pulse),
            &self.warning,
            self.limit,
        );
        let ended = prepare(self.directory, claim, job).and_then(|(task, place)| {
            let _armed = self.runner.trains().then(|| allocator::arm(claim));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.runner.evaluate(&task, &place, &mut control)
            }))
            .unwrap_or_else(|panic| {
                Ok(Ended::Crashed {
                    message: panic_message(panic.as_ref()),
                })
            })
        });
        pulse.let_go();
        let is_well = match ended {
            Ok(Ended::Interrupted) => {
                let fate = control
                    .stop_reason()
                    .map_or(Fate::Preempted, crate::objective::StopReason::fate);
                self.give_back(claim, fate, control.saved(), "");
                true
            }
            Ok(ended) => {
                let result = result_of(self.runner, claim, job, ended, started_at, start);
                self.publish(claim, &result)
            }
            Err(failure) => {
                let message = format!("{failure:#}");
                error!(
                    "job={} failed for reasons of this machine: {message}",
                    claim.attempt
                );
                self.give_back(claim, fate_of(&failure), control.saved(), &message);
                false
            }
        };
        pulse.set_state(TrainerState::Waiting);
        is_well
    }

    /// Publishes what came of a job for which there was not enough memory; its times are those of the publication.
    fn publish_exhaustion(&self, claim: &Claim) -> Result<()> {
        let (started_at, start) = (clock::now(), clock::instant());
        warn!("there was no memory left for job={}", claim.attempt);
        let Some(job) = self.directory.read_claimed(claim)? else {
            info!("job={} had been taken back already", claim.attempt);
            return Ok(());
        };
        let ended = self.runner.exhausted(&job.configuration);
        let result = result_of(self.runner, claim, &job, ended, started_at, start);
        // Where that fails, the job is given back.
        let _is_well = self.publish(claim, &result);
        Ok(())
    }

    fn publish(&self, claim: &Claim, result: &JobResult) -> bool {
        match self.directory.finish(claim, result) {
            Ok(FinishedAs::First) => {
                let loss = result
                    .outcome
                    .loss()
                    .map_or_else(String::new, |loss| format!(" loss={loss}"));
                let outcome = result.outcome.as_str();
                info!(
                    "finished job={} outcome={outcome}{loss} in {:.1} s",
                    claim.attempt, result.elapsed_s
                );
                true
            }
            Ok(FinishedAs::Late) => {
                warn!(
                    "job={} had a result already; this one is kept aside and ignored",
                    claim.attempt
                );
                true
            }
            Err(error) => {
                let message = shared::store::chain(&error);
                error!(
                    "cannot publish the result of job={}: {message}",
                    claim.attempt
                );
                let fate = if error.is_disk_full() {
                    Fate::DiskFull
                } else {
                    Fate::InputOutput
                };
                self.give_back(claim, fate, 0.0, &message);
                false
            }
        }
    }

    fn give_back(&self, claim: &Claim, fate: Fate, saved: f64, message: &str) {
        let end = attempt_end(claim, fate, saved, message);
        match self.directory.end_attempt(&end) {
            Ok(shared::fs::Moved::Done) => {
                info!("gave back job={} ({})", claim.attempt, fate.as_str());
            }
            Ok(shared::fs::Moved::Gone) => {
                info!("job={} had been taken back already", claim.attempt);
            }
            // The scheduler takes it back when the lease is over.
            Err(error) => warn!(
                "cannot give back job={}: {}",
                claim.attempt,
                shared::store::chain(&error)
            ),
        }
    }
}

/// Jobs at higher rungs first (others wait for them), then in the order of their ids.
fn order(open: &mut [AttemptId]) {
    open.sort_by_key(|attempt| (std::cmp::Reverse(attempt.job.rung), *attempt));
}

/// What a job needs to be evaluated: its newest usable checkpoint, and its places.
///
/// # Errors
/// The checkpoints cannot be read.
pub fn prepare(directory: &Directory, claim: &Claim, job: &Job) -> Result<(Task, Place)> {
    let id = job.job.configuration;
    let mut checkpoint = None;
    for from in usable_checkpoints(directory, claim, job)? {
        match directory.read_checkpoint(&from, largest_checkpoint()) {
            Ok(Some(bytes)) => {
                info!("job={} goes on from checkpoint {from}", claim.attempt);
                checkpoint = Some(bytes);
                break;
            }
            Ok(None) => {}
            // An older one, or none, is better than no training.
            Err(error) => warn!(
                "cannot use checkpoint {from}: {}",
                shared::store::chain(&error)
            ),
        }
    }
    let task = task_of(directory.search(), job, checkpoint);
    let layout = directory.layout();
    let place = Place {
        job: job.job,
        log: directory.inside(layout.log(claim))?,
        checkpoints: directory.inside(layout.checkpoints(id).join("program"))?,
    };
    Ok((task, place))
}

/// Bytes that a checkpoint may have to be read: its numbers are in memory twice for a moment.
pub(crate) fn largest_checkpoint() -> u64 {
    crate::memory::available().map_or(u64::MAX, |available| available / 2)
}

/// The task that a job is, from a checkpoint if there is one.
pub fn task_of(search: &shared::Search, job: &Job, checkpoint: Option<Vec<u8>>) -> Task {
    let first = match (job.continues, search.promotion) {
        // All rungs below, down to the bracket's first: the cycles of the learning rate were laid out for them.
        (Some(_), Promotion::Continue) => first_rung(search, job),
        _ => job.job.rung,
    };
    Task {
        configuration: job.configuration.clone(),
        budget: job.budget,
        rung: job.job.rung,
        earlier_budgets: (first..job.job.rung)
            .map(|rung| search.ladder.budget(rung))
            .collect(),
        seed: training_seed(search, job.job.configuration).number(),
        checkpoint,
    }
}

/// The rung at which the job's bracket starts.
fn first_rung(search: &shared::Search, job: &Job) -> u8 {
    let num_sizes = u8::try_from(search.bracket_sizes(job.bracket).len()).unwrap_or(u8::MAX); // at most 54
    search
        .ladder
        .num_rungs()
        .saturating_sub(num_sizes)
        .min(job.job.rung)
}

/// This job's own checkpoints, newest first; then those its lower rung ended with, where promotions continue.
fn usable_checkpoints(directory: &Directory, claim: &Claim, job: &Job) -> Result<Vec<Claim>> {
    let mut own = Vec::new();
    let mut lower = Vec::new();
    for found in directory.checkpoints(job.job.configuration)? {
        if found.attempt.job == claim.attempt.job {
            own.push(found);
        } else if Some(found.attempt.job) == job.continues {
            lower.push(found);
        }
    }
    // A lower rung ended with the checkpoint of the attempt that has the result.
    if let Some(lower_job) = job.continues
        && !lower.is_empty()
        && let Some(result) = directory.read_result(lower_job)?
    {
        lower.sort_by_key(|c| (c.attempt, &c.owner) != (result.attempt, &result.owner));
    }
    own.append(&mut lower);
    Ok(own)
}

fn result_of(
    runner: &Runner,
    claim: &Claim,
    job: &Job,
    ended: Ended,
    started_at: String,
    start: Instant,
) -> JobResult {
    let (outcome, measures, curve) = outcome_of(ended);
    let mut notes: BTreeMap<String, String> = [
        ("host".to_owned(), shared::store::host_name()),
        ("device".to_owned(), runner.device()),
    ]
    .into();
    notes.extend(
        runner
            .notes()
            .into_iter()
            .map(|(name, note)| (name.to_owned(), note)),
    );
    JobResult {
        attempt: claim.attempt,
        owner: claim.owner.clone(),
        bracket: job.bracket,
        budget: job.budget,
        configuration: job.configuration.clone(),
        outcome,
        measures,
        curve,
        notes,
        started_at,
        finished_at: clock::now(),
        elapsed_s: clock::since(start).as_secs_f64(),
        program: concat!("trainer ", env!("CARGO_PKG_VERSION")).to_owned(),
        supersedes: job.supersedes,
    }
}

/// The record of how an objective ended, with numbers that JSON cannot hold left out.
pub fn outcome_of(ended: Ended) -> (Outcome, BTreeMap<String, f64>, Vec<shared::CurvePoint>) {
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
        Ended::Crashed { message } => nothing(Outcome::crashed(message)),
        Ended::Interrupted => nothing(Outcome::crashed("interrupted")),
    }
}

fn fate_of(failure: &anyhow::Error) -> Fate {
    let is_full = failure.chain().any(|cause| {
        cause
            .downcast_ref::<shared::Error>()
            .is_some_and(shared::Error::is_disk_full)
            || cause.downcast_ref::<std::io::Error>().is_some_and(|io| {
                matches!(
                    io.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                )
            })
    });
    if is_full {
        Fate::DiskFull
    } else {
        Fate::InputOutput
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "panicked: {}",
        text.unwrap_or_else(|| "no message".to_owned())
    )
}
