//! The loop of a trainer: look for an open job, claim it, evaluate it, publish the result or give the job back.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use shared::budget::short;
use shared::directory::{Directory, FinishedAs, attempt_end};
use shared::exit::{Code, Failure, code_of};
use shared::owner::new_owner;
use shared::record::{Fate, Job, JobResult, Outcome, TrainerState};
use shared::signal::Warning;
use shared::wait::{News, Waiter};
use shared::wording::one_line;
use shared::{AttemptId, Claim, OwnerId, Seed, cli, clock, layout};
use tracing::{error, info, warn};

use crate::assignment::{assignment, task_of};
use crate::claims::Selection;
use crate::control::JobControl;
use crate::evaluator::{Compute, Evaluator};
use crate::heartbeat::{HeartbeatThread, JobStatus};
use crate::objective::{Ended, StopReason};
use crate::outcome::{fate_of_words, outcome_of};
use crate::time_limit::TimeLimit;
use crate::watchdog;

/// Failures of this machine in a row after which the trainer gives up, so that it does not eat every job's attempts.
const MAX_FAILURES: u32 = 5;

/// The first pause after a failure; it doubles with each in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Jobs in a row that crash here, and after which the trainer looks whether that is so elsewhere, too.
const MAX_CRASHES: u32 = 3;
/// A job that crashes within this time, without any progress, may have met something wrong with this machine.
const SOON: f64 = 60.0;

/// Arguments of `trainer run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Search directory, as made by `scheduler init`
    #[arg(value_name = cli::DIRECTORY)]
    directory: PathBuf,
    /// How and where to compute
    #[command(flatten)]
    compute: Compute,
    /// Exit as soon as no job is open
    #[arg(long)]
    once: bool,
    /// Longest time between two looks at the directory, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = cli::seconds)]
    poll_s: f64,
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
    /// So many jobs in a row crashed here at once, while others' succeed.
    Crashes(u32),
}

/// Runs until the search is finished or stopped, a signal comes, or time is up.
///
/// # Errors
/// The directory cannot be used, or the objective cannot be made ready.
pub fn run(args: &Args) -> Result<Code> {
    let warning = Warning::listen().context("cannot listen for signals")?;
    // Paths are handed to programs that may run elsewhere.
    let root = std::path::absolute(&args.directory).context("cannot find the working directory")?;
    let directory = Directory::open(&root)?;
    let evaluator = Evaluator::new(&directory, args.compute, &warning)?;
    let owner = new_owner();
    let limit = TimeLimit::of_slurm_job();
    let computer = evaluator.computer();
    let heartbeats = HeartbeatThread::start(&directory, &owner, &computer)?;
    info!(
        "trainer {owner} on {} ready for search `{}`",
        computer.device,
        directory.search().name
    );
    let status = heartbeats.status();
    watchdog::watch(status, &warning, limit, evaluator.grace());
    let trainer = Trainer::new(
        &directory,
        &evaluator,
        owner,
        Arc::clone(status),
        warning,
        limit,
    );
    match trainer.work(args.once, Duration::from_secs_f64(args.poll_s))? {
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
        Leave::Crashes(number) => {
            let message = format!(
                "the last {number} jobs crashed here at once while others' succeed: something is wrong with this host; see above"
            );
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
    evaluator: &'a Evaluator,
    owner: OwnerId,
    warning: Warning,
    limit: TimeLimit,
    status: Arc<JobStatus>,
    selection: Selection<'a>,
    /// Jobs in a row that crashed here at once; `None` once one did not.
    num_crashes: Cell<Option<u32>>,
}

impl<'a> Trainer<'a> {
    /// A trainer whose heartbeats are written elsewhere.
    pub fn new(
        directory: &'a Directory,
        evaluator: &'a Evaluator,
        owner: OwnerId,
        status: Arc<JobStatus>,
        warning: Warning,
        limit: TimeLimit,
    ) -> Self {
        Self {
            directory,
            selection: Selection::new(directory, evaluator, owner.clone(), limit),
            evaluator,
            owner,
            warning,
            limit,
            status,
            num_crashes: Cell::new(Some(0)),
        }
    }

    /// Evaluates job after job until there is a reason to leave, with `is_once` as soon as no job is open; looks at the
    /// directory every `longest_poll` at least.
    ///
    /// # Errors
    /// What trying again does not help with.
    pub fn work(&self, is_once: bool, longest_poll: Duration) -> Result<Leave> {
        let layout = self.directory.layout();
        let folders = [layout.root().to_path_buf(), layout.path(layout::OPEN)]
            .map(|folder| (folder, News::Arrivals));
        let mut waiter = Waiter::new(&folders, longest_poll);
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
            let has_failed = match self.step(is_once, &mut rng) {
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
    fn step(&self, is_once: bool, rng: &mut impl rand::Rng) -> Result<Step> {
        let flags = self.directory.flags()?;
        if flags.is_stopped {
            return Ok(Step::Leave(Leave::Stopped));
        }
        let mut open = self.directory.open_jobs()?;
        order(&mut open);
        // Where nothing can be started there is no need to try that on a job.
        let has_failed_before = open
            .iter()
            .any(|attempt| self.selection.has_refused(attempt.job));
        if has_failed_before && !self.evaluator.can_start() {
            return Ok(Step::Failed);
        }
        if let Some((claim, job)) = self.selection.claim_one(open, rng)? {
            let is_well = self.evaluate(&claim, &job);
            if !is_well {
                self.selection.refuse(job.job);
            } else if let Some(num_crashes) = self.crashes_of_this_host() {
                return Ok(Step::Leave(Leave::Crashes(num_crashes)));
            }
            return Ok(if is_well { Step::Worked } else { Step::Failed });
        }
        if flags.is_finished {
            return Ok(Step::Leave(Leave::Finished));
        }
        Ok(if is_once {
            Step::Leave(Leave::NothingOpen)
        } else {
            Step::Idle
        })
    }

    /// Evaluates a claimed job to its end, whichever it is; false if this machine failed.
    fn evaluate(&self, claim: &Claim, job: &Job) -> bool {
        self.status.start(claim);
        let started_at = clock::now();
        let start = clock::instant();
        let mut control = JobControl::new(
            self.directory,
            claim,
            job.budget,
            Arc::clone(&self.status),
            &self.warning,
            self.limit,
        );
        let ended = assignment(self.directory, claim, job).and_then(|assignment| {
            self.evaluator
                .evaluate(self.directory, &assignment, &mut control)
        });
        let is_well = match self.attempt(claim, ended, &control) {
            Attempt::Over(fate, message) => {
                self.give_back(claim, fate, control.saved(), &message);
                matches!(
                    fate,
                    Fate::Preempted | Fate::TimeLimit | Fate::Stopped | Fate::NodeLost
                )
            }
            Attempt::Done(ended) => {
                let result = self.result(claim, job, ended, &control, (started_at, start));
                self.count_crashes(&result);
                self.publish(claim, &result)
            }
        };
        self.status.set_state(TrainerState::Waiting);
        is_well
    }

    /// What an evaluation's end means for the attempt.
    fn attempt(&self, claim: &Claim, ended: Result<Ended>, control: &JobControl<'_>) -> Attempt {
        let failed = |fate, message: String| {
            error!(
                "job={} failed for reasons of this machine: {message}",
                claim.attempt
            );
            Attempt::Over(fate, message)
        };
        match ended {
            Ok(Ended::Interrupted) => {
                let reason = control.reason();
                if let Some(limit) = reason.and_then(StopReason::limit) {
                    let message = format!("ended because {limit}");
                    return Attempt::Done(Ended::Crashed { message });
                }
                let fate = reason.map_or(Fate::Preempted, StopReason::fate);
                Attempt::Over(fate, String::new())
            }
            Ok(Ended::MachineFailed { message }) => failed(fate_of_words(&message), message),
            Ok(Ended::DeviceFailed { message }) if self.has_failed_on_another_device(claim) => {
                Attempt::Done(Ended::Crashed { message })
            }
            Ok(Ended::DeviceFailed { message }) => failed(Fate::DeviceFailed, message),
            Ok(ended) => Attempt::Done(ended),
            Err(failure) => {
                let message = format!("{failure:#}");
                failed(fate_of_words(&message), message)
            }
        }
    }

    /// Whether an earlier attempt at this job ended with a failed device, too, in another trainer's hands.
    fn has_failed_on_another_device(&self, claim: &Claim) -> bool {
        let ends = self.directory.attempt_ends(claim.attempt.job);
        // Where nobody can tell, it is tried once more.
        ends.is_ok_and(|ends| ends.iter().any(|end| end.fate == Fate::DeviceFailed))
    }

    /// How many jobs in a row crashed here at once, if they are too many and others' succeed.
    fn crashes_of_this_host(&self) -> Option<u32> {
        let num_crashes = self
            .num_crashes
            .get()
            .filter(|number| *number >= MAX_CRASHES)?;
        let is_others =
            |result: &JobResult| result.owner != self.owner && has_done_well(&result.outcome);
        let others_succeed = self.directory.any_result(NUM_LOOKED_AT, is_others);
        others_succeed
            .is_ok_and(|is_so| is_so)
            .then_some(num_crashes)
    }

    fn count_crashes(&self, result: &JobResult) {
        let is_crash = matches!(&result.outcome, Outcome::Crashed { progressed, .. } if *progressed != Some(true));
        self.num_crashes.set(match self.num_crashes.get() {
            Some(number) if is_crash && result.elapsed_s < SOON => Some(number + 1),
            // One that went well shows that this host is not at fault.
            _ => None,
        });
    }

    fn result(
        &self,
        claim: &Claim,
        job: &Job,
        mut ended: Ended,
        control: &JobControl<'_>,
        (started_at, start): (String, Instant),
    ) -> JobResult {
        let mut notes = self.evaluator.notes();
        let seed = task_of(self.directory.search(), job).seed;
        notes.insert("seed".to_owned(), seed.to_string());
        notes.insert("host".to_owned(), shared::owner::host_name());
        notes.insert("device".to_owned(), self.evaluator.device().to_owned());
        if let Ended::Evaluated(evaluation) | Ended::Stopped { evaluation, .. } = &mut ended {
            notes.append(&mut evaluation.notes);
        }
        let search = self.directory.search();
        let (mut outcome, measures, curve) =
            outcome_of(ended, &search.constraints, &search.objectives);
        if let Outcome::Crashed {
            progressed, log, ..
        } = &mut outcome
        {
            *progressed = Some(control.has_progressed());
            let path = self.directory.layout().log(claim);
            let relative = path.strip_prefix(self.directory.layout().root());
            *log = relative
                .ok()
                .filter(|_| control.has_log())
                .map(|path| path.display().to_string());
        }
        JobResult {
            attempt: claim.attempt,
            supersedes: job.supersedes,
            owner: claim.owner.clone(),
            bracket: job.bracket,
            budget: job.budget,
            configuration: job.configuration.clone(),
            outcome,
            measures,
            curve,
            checks: control.checks().to_vec(),
            notes,
            started_at,
            finished_at: clock::now(),
            elapsed_s: clock::since(start).as_secs_f64(),
            program: concat!("trainer ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    fn publish(&self, claim: &Claim, result: &JobResult) -> bool {
        match self.directory.finish(claim, result) {
            Ok(FinishedAs::First) => {
                let more = match (&result.outcome, result.outcome.loss()) {
                    (_, Some(loss)) => format!(" loss={loss}"),
                    (Outcome::Stopped { spent, loss, limit }, None) => {
                        format!(" at {} with loss={loss} limit={limit}", short(*spent))
                    }
                    (Outcome::Crashed { message, .. }, None) => format!(": {}", one_line(message)),
                    (_, None) => String::new(),
                };
                info!(
                    "finished job={} in {:.1} s, outcome={}{more}",
                    claim.attempt,
                    result.elapsed_s,
                    result.outcome.as_str(),
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
                let message = shared::error::chain(&error);
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
                shared::error::chain(&error)
            ),
        }
    }
}

/// Jobs at higher rungs first (others wait for them), then in the order of their ids.
fn order(open: &mut [AttemptId]) {
    open.sort_by_key(|attempt| (std::cmp::Reverse(attempt.job.rung), *attempt));
}

/// What came of an attempt.
enum Attempt {
    /// It has an outcome.
    Done(Ended),
    /// It ended without one: whose fault that was, and why.
    Over(Fate, String),
}

/// Whether a training came to its end, or was stopped on its way.
fn has_done_well(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Evaluated { .. } | Outcome::Stopped { .. })
}

/// Results of others that are looked at to see whether a crash is this host's fault.
const NUM_LOOKED_AT: usize = 30;
