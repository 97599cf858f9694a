//! The loop: scan, plan, act, wait.

mod records;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use shared::cli::{DIRECTORY, seconds};
use shared::exit::Code;
use shared::fs::{self, Moved, Published};
use shared::record::Finished;
use shared::signal::Warning;
use shared::sweeper::Sweeper;
use shared::wait::{News, Waiter};
use shared::{
    AttemptId, Claim, ConfigurationId, Directory, Error, Fate, JobResult, Outcome, OwnerId, clock,
    directory, error, layout, owner,
};
use tracing::{info, warn};

use crate::blame::{Again, Known};
use crate::plan::{Action, is_over, plan};
use crate::sample;
use crate::scan::Scanner;
use crate::state::State;
use crate::status::Pause;

use records::{Made, configurations, make_records};

/// How often leftovers of crashes are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_mins(10);
/// Turns in a row that may fail, for example on a full disk, before the scheduler gives up.
const MOST_FAILURES: u32 = 20;

/// A scheduler at work on one directory.
#[derive(Debug)]
pub struct Scheduler {
    scanner: Scanner,
    state: State,
    owner: OwnerId,
    longest_pause: Duration,
    waiter: Waiter,
    /// The shard of proposals that the waiter watches.
    watched: u32,
    failures: u32,
    sweeper: Sweeper,
    swept: Instant,
    started: Instant,
    paused: Option<Pause>,
}

/// What a turn of the loop came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Something was done.
    Acted,
    /// There was nothing to do: everything waits for the sampler or for trainers.
    Idle,
    /// Somebody asked the search to stop.
    Stopped,
    /// Nothing is left to do.
    Finished,
}

/// Whether an action was taken.
enum Taken {
    Yes,
    /// Another scheduler was faster; its act is known now, and the rest of the plan is out of date.
    Overtaken,
    /// It cannot be taken yet.
    NotYet,
}

impl Scheduler {
    /// Reads all that was written so far.
    pub fn new(directory: Directory, longest_pause: Duration) -> Result<Self> {
        let (scanner, state) = Scanner::load(directory)?;
        // A lease must be noticed when it ends, even a short one.
        let lease = scanner.directory().lease();
        let longest_pause = longest_pause.min(lease / 4);
        let watched = 0;
        Ok(Self {
            waiter: waiter(scanner.directory(), watched, longest_pause)?,
            watched,
            scanner,
            state,
            owner: owner::new_owner(),
            longest_pause,
            failures: 0,
            sweeper: Sweeper::default(),
            swept: clock::instant(),
            started: clock::instant(),
            paused: None,
        })
    }

    /// What is known of the search.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Since when it times the trainers.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// What is known of the trainers.
    pub fn scanner(&self) -> &Scanner {
        &self.scanner
    }

    /// Does all that can be done now.
    pub fn turn(&mut self) -> Result<Turn> {
        match self.try_turn() {
            Err(error) if is_transient(&error) && self.failures < MOST_FAILURES => {
                self.failures += 1;
                warn!(
                    "{}; will try again ({} of {MOST_FAILURES})",
                    error::chain(&error),
                    self.failures
                );
                Ok(Turn::Idle)
            }
            other => {
                self.failures = 0;
                Ok(other?)
            }
        }
    }

    /// Sleeps until something may have changed, or `interrupted`.
    pub fn wait(&mut self, turn: Turn, interrupted: &mut dyn FnMut() -> bool) -> Result<()> {
        if turn == Turn::Acted || self.scanner.is_searching() {
            self.waiter.progress();
        }
        let shard = self.state.num_requested.saturating_sub(1) / ConfigurationId::SHARD;
        if shard != self.watched {
            self.watched = shard;
            self.waiter = waiter(self.scanner.directory(), shard, self.longest_pause)?;
        }
        self.waiter.wait(interrupted);
        Ok(())
    }

    /// Takes note that a process of this machine has ended: its claims are taken back without waiting for the lease.
    pub fn report_dead(&mut self, process: u32) -> Result<()> {
        Ok(self.scanner.report_dead(process, clock::instant())?)
    }

    /// Leaves word for the next scheduler of this host of how long trainers have been silent, so that runs with pauses
    /// between them notice a dead one, too.
    pub fn leave_word(&self) {
        let Some(observation) = self.scanner.observation(clock::instant()) else {
            return;
        };
        if let Err(error) = self.scanner.directory().leave_observation(&observation) {
            warn!(
                "the next scheduler will time trainers anew: {}",
                error::chain(&error)
            );
        }
    }

    fn try_turn(&mut self) -> Result<Turn, Error> {
        self.scanner.scan(&mut self.state, clock::instant())?;
        self.sweep()?;
        let mut turn = Turn::Idle;
        loop {
            if self.state.flags.is_finished {
                self.drop_leftovers()?;
                return Ok(Turn::Finished);
            }
            if self.state.flags.is_stopped {
                return Ok(Turn::Stopped);
            }
            let settings = self.scanner.directory().search().trainers;
            self.tell_pause()?;
            let mut is_changed = false;
            let actions = plan(&self.state, &settings);
            for group in actions.chunk_by(|a, b| a.makes_a_record() && b.makes_a_record()) {
                let (taken, error) = self.take(group);
                is_changed |= taken.iter().any(|taken| !matches!(taken, Taken::NotYet));
                if let Some(error) = error {
                    return Err(error);
                }
                if taken.iter().any(|taken| matches!(taken, Taken::Overtaken)) {
                    break;
                }
            }
            if !is_changed {
                return Ok(turn);
            }
            turn = Turn::Acted;
        }
    }

    /// Takes actions that do not depend on one another; what was done is known afterwards, even if some failed.
    fn take(&mut self, actions: &[Action]) -> (Vec<Taken>, Option<Error>) {
        let made = make_records(self.scanner.directory(), &self.state, actions);
        let (mut all, mut first_error) = (Vec::new(), None);
        for (action, made) in actions.iter().zip(made) {
            match made.and_then(|made| self.act(action, made)) {
                Ok(taken) => {
                    if matches!(taken, Taken::Yes) {
                        action.apply(&mut self.state);
                    }
                    all.push(taken);
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        (all, first_error)
    }

    /// Does what an action means beyond the record that it may have made.
    fn act(&mut self, action: &Action, made: Made) -> Result<Taken, Error> {
        let directory = self.scanner.directory().clone();
        match action {
            Action::Request(request) if made == Made::Another => {
                let id = request.configuration;
                return Ok(match directory.read_request(id)? {
                    Some(theirs) => {
                        self.state.see_request(&theirs);
                        Taken::Overtaken
                    }
                    None => Taken::NotYet,
                });
            }
            Action::Offer { .. } if made == Made::Nothing => return Ok(Taken::NotYet),
            Action::Request(_) | Action::Offer { .. } => {}
            Action::TakeBack { claim, spent } => {
                let message = "no sign of life for longer than the lease";
                let end = directory::attempt_end(claim, Fate::NodeLost, *spent, message);
                if directory.end_attempt(&end)? == Moved::Done {
                    info!("took back claim={claim}");
                }
            }
            Action::GiveUp {
                attempt,
                claim,
                without_progress,
                fate,
            } => {
                let number = *without_progress;
                return self.give_up(&directory, *attempt, claim.as_ref(), number, *fate);
            }
            Action::Accept(job) => info!("the failure of job={job} counts"),
            Action::Retry(again) => {
                if directory.retry(&again.record())? == Published::AlreadyThere {
                    // One that cannot be seen yet says the same at least: the outcome does not count.
                    let theirs = directory.read_retry(again.supersedes)?.map(Again::from);
                    self.state
                        .see_retry(theirs.unwrap_or_else(|| again.clone()));
                    return Ok(Taken::Overtaken);
                }
                warn!("{action}");
            }
            Action::Withdraw(attempt) => {
                if !directory.drop_open(*attempt)? {
                    return Ok(Taken::NotYet);
                }
                info!("withdrew open={attempt}");
            }
            Action::DropClaim(claim) => {
                directory.drop_claim(claim)?;
                info!("dropped claim={claim}, which has its result");
            }
            Action::DropOpen(attempt) => {
                directory.drop_open(*attempt)?;
                info!("dropped open={attempt}, which nobody needs");
            }
            Action::DropCheckpoints {
                configuration,
                below,
            } => drop_checkpoints(&directory, *configuration, *below),
            Action::Finish(finished) => return self.finish(&directory, finished),
        }
        Ok(Taken::Yes)
    }

    /// Says that nothing is left to do, unless somebody has asked for more.
    fn finish(&mut self, directory: &Directory, finished: &Finished) -> Result<Taken, Error> {
        // Somebody may have done so meanwhile; or do so before the last word is there.
        self.scanner.see_wishes(&mut self.state)?;
        let is_all = self.state.num_retries == finished.retries
            && self.state.table().raised_top() == finished.top;
        if !is_over(&self.state) || !is_all {
            return Ok(Taken::Overtaken);
        }
        self.drop_last_checkpoints(directory)?;
        directory.sync_results(configurations(&self.state.unrecorded))?;
        directory.finish_search(finished)?;
        self.scanner.see_wishes(&mut self.state)?;
        if self.scanner.reopen(&self.state)? {
            return Ok(Taken::Overtaken);
        }
        info!(
            "finished: configurations={} jobs={}",
            finished.configurations, finished.jobs
        );
        Ok(Taken::Yes)
    }

    /// Removes what is left of configurations that never came to the full budget, now that none can be promoted any
    /// more, and what a program that was given up has written since.
    fn drop_last_checkpoints(&self, directory: &Directory) -> Result<(), Error> {
        for id in directory.checkpointed()? {
            if !self.state.is_trained_in_full(id) {
                drop_checkpoints(directory, id, None);
            }
        }
        Ok(())
    }

    fn give_up(
        &mut self,
        directory: &Directory,
        attempt: AttemptId,
        claim: Option<&Claim>,
        without_progress: u32,
        fate: Fate,
    ) -> Result<Taken, Error> {
        let job = attempt.job;
        let Some(proposal) = directory.read_proposal(job.configuration)? else {
            warn!("cannot give up {job}: its configuration is gone; waiting for the sampler");
            return Ok(Taken::NotYet);
        };
        let now = clock::now();
        let result = JobResult {
            attempt,
            owner: self.owner.clone(),
            bracket: self.state.table().place(job.configuration).bracket,
            budget: directory.search().ladder.budget(job.rung),
            configuration: proposal.values,
            outcome: Outcome::Lost {
                attempts: without_progress,
                fate,
            },
            measures: [].into(),
            curve: Vec::new(),
            checks: Vec::new(),
            notes: [].into(),
            started_at: now.clone(),
            finished_at: now,
            elapsed_s: 0.0,
            program: concat!("scheduler ", env!("CARGO_PKG_VERSION")).to_owned(),
            supersedes: self.state.faults.superseded(job),
        };
        if directory.publish_result(&result)? == Published::AlreadyThere {
            // The trainer has come back at the last moment: what it found counts.
            if let Some(theirs) = directory.read_result(result.id())? {
                self.state
                    .see_result(Known::of(&theirs, &directory.search().objectives));
            }
            return Ok(Taken::Overtaken);
        }
        warn!(
            "gave up job={job}: {without_progress} attempts in a row without progress, the last one {}",
            fate.as_str()
        );
        match claim {
            Some(claim) => directory.drop_claim(claim)?,
            None => {
                directory.drop_open(attempt)?;
            }
        }
        Ok(Taken::Yes)
    }

    /// Removes open jobs and claims of a finished search. A scheduler that was slow may have offered a job once more that
    /// another scheduler had offered, and a trainer had finished, in between.
    fn drop_leftovers(&self) -> Result<(), Error> {
        let directory = self.scanner.directory();
        let view = directory.jobs()?;
        for attempt in view.open {
            if directory.has_result(self.state.expected_result(attempt.job))? {
                directory.drop_open(attempt)?;
                info!("dropped open={attempt}, which nobody needs");
            }
        }
        for claim in view.claimed {
            if directory.has_result(self.state.expected_result(claim.attempt.job))? {
                directory.drop_claim(&claim)?;
                info!("dropped claim={claim}, which has its result");
            }
        }
        Ok(())
    }

    /// Says once that no more jobs are offered, and what to do about it.
    fn tell_pause(&mut self) -> Result<(), Error> {
        let paused = Pause::of(self.scanner.directory(), &self.state)?;
        if let Some(paused) = paused.as_ref().filter(|_| self.paused.is_none()) {
            let sentence = paused.sentence(self.scanner.directory());
            warn!("waiting for {sentence}");
        }
        self.paused = paused;
        Ok(())
    }

    /// Why no more jobs are offered, if they are not.
    pub(crate) fn paused(&self) -> Option<&Pause> {
        self.paused.as_ref()
    }

    /// Removes drafts that crashes have left.
    fn sweep(&mut self) -> Result<(), Error> {
        let now = clock::instant();
        if now.saturating_duration_since(self.swept) < SWEEP_INTERVAL {
            return Ok(());
        }
        self.swept = now;
        let directory = self.scanner.directory();
        let paths = directory.layout();
        let mut folders: Vec<PathBuf> = vec![paths.root().to_path_buf()];
        folders.extend(layout::FOLDERS.iter().map(|name| paths.path(name)));
        for kind in [
            layout::REQUESTS,
            layout::CONFIGURATIONS,
            layout::RESULTS,
            layout::RETRIES,
            layout::ATTEMPTS,
        ] {
            let shards = directory.shards(kind)?;
            folders.extend(shards.into_iter().map(|shard| paths.shard(kind, shard)));
        }
        self.sweeper.sweep(&folders, now)
    }
}

/// What `scheduler run` is told.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The search directory
    #[arg(value_name = DIRECTORY)]
    directory: PathBuf,
    /// Do all that can be done now, then exit
    #[arg(long)]
    once: bool,
    /// Longest pause between two looks at the directory, in seconds
    #[arg(long, default_value_t = 5.0, value_name = "S", value_parser = seconds)]
    poll_s: f64,
}

/// Runs the scheduler until the search is finished or stopped, or a signal comes.
pub fn run(args: &RunArgs) -> Result<Code> {
    let root = &args.directory;
    let warning = Warning::listen().context("cannot listen for signals")?;
    let longest_pause = Duration::from_secs_f64(args.poll_s);
    let directory = Directory::open(root)?;
    sample::refuse(&directory)?;
    let mut scheduler = Scheduler::new(directory, longest_pause)?;
    info!(
        "scheduling the search `{}` in `{}`",
        scheduler.scanner.directory().search().name,
        root.display()
    );
    loop {
        if let Some(signal) = warning.received() {
            scheduler.leave_word();
            info!("{signal}: leaving; all that is known is in the directory");
            return Ok(Code::Again);
        }
        // Who asks for one run is told when it could not be done; nobody waits for a better moment.
        let turn = if args.once {
            scheduler.try_turn()?
        } else {
            scheduler.turn()?
        };
        match turn {
            Turn::Finished => {
                info!("the search is finished");
                return Ok(Code::Done);
            }
            Turn::Stopped => {
                info!("the search is stopped: leaving (`scheduler stop --undo` takes that back)");
                return Ok(Code::Done);
            }
            Turn::Idle if args.once => {
                scheduler.leave_word();
                return Ok(Code::Done);
            }
            Turn::Acted if args.once => {}
            Turn::Idle | Turn::Acted => {
                scheduler.wait(turn, &mut || warning.received().is_some())?;
            }
        }
    }
}

/// Removes checkpoints. What cannot be removed, because a program that was given up still writes there, is left for the
/// end of the search.
fn drop_checkpoints(directory: &Directory, id: ConfigurationId, below: Option<u8>) {
    if let Err(error) = directory.drop_checkpoints(id, below) {
        warn!(
            "cannot remove checkpoints of {id}: {}",
            error::chain(&error)
        );
    }
}

/// Whether trying again later may help: it does not for permissions.
fn is_transient(error: &Error) -> bool {
    use std::io::ErrorKind;
    match error {
        Error::Io { source, .. } => !matches!(
            source.kind(),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory
        ),
        _ => false,
    }
}

fn waiter(directory: &Directory, shard: u32, longest: Duration) -> Result<Waiter> {
    let paths = directory.layout();
    let proposals = paths.shard(layout::CONFIGURATIONS, shard);
    // A folder that does not exist cannot be watched.
    fs::make_folder(&proposals)?;
    let folders = [
        (paths.root().to_path_buf(), News::Arrivals),
        // A job that is claimed was open before: nothing to be done.
        (paths.path(layout::CLAIMED), News::Departures),
        (proposals, News::Arrivals),
    ];
    Ok(Waiter::new(&folders, longest))
}
