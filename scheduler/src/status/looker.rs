//! One look at a search after the other, each for what can have changed.

use std::io::stdout;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::termios::{Action, QueueSelector, tcflow, tcflush};
use shared::exit::{Code, Failure};
use shared::signal::Warning;
use shared::{Directory, fs, layout};

use super::{FileClock, Status, crashes, look, num_heard, queue};
use crate::batch::{self, Queued};
use crate::scan::Scanner;
use crate::slurm::Slurm;
use crate::state::State;

/// Between two looks.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
/// Between two questions to SLURM: the whole cluster shares the controller that answers them.
const SLURM_INTERVAL: Duration = Duration::from_secs(30);
/// Between two looks at the sizes of all checkpoints.
const SIZE_INTERVAL: Duration = Duration::from_mins(1);

/// How long a terminal or a pipe that nobody reads may hold the program up after a signal.
const GRACE: Duration = Duration::from_secs(4);

/// Listens for signals, and ends the program after one even where nobody reads what it writes.
pub(super) fn listen() -> Result<Warning> {
    let warning = Warning::listen().context("cannot listen for signals")?;
    warning.insist(GRACE, || {
        // What a stopped terminal still holds is thrown away, and it goes on, so that it can be given back in order.
        // Elsewhere there is nothing of that kind.
        let _no_terminal = tcflush(stdout(), QueueSelector::OFlush);
        let _no_terminal = tcflow(stdout(), Action::OOn);
    });
    Ok(warning)
}

/// Looks at one search, each time for what can have changed.
pub(super) struct Looker {
    scanner: Scanner,
    state: State,
    start: Instant,
    files: FileClock,
    slurm: Remembered<Result<Option<Vec<Queued>>, String>>,
    checkpoint_bytes: Remembered<Option<u64>>,
}

impl Looker {
    /// Reads all that was written so far.
    pub(super) fn new(root: &Path) -> Result<Self> {
        let (scanner, state) = Scanner::load(Directory::observe(root)?)?;
        Ok(Self {
            files: FileClock::ask(scanner.directory()),
            scanner,
            state,
            start: Instant::now(),
            slurm: Remembered::new(SLURM_INTERVAL),
            checkpoint_bytes: Remembered::new(SIZE_INTERVAL),
        })
    }

    /// A look without others before it: how long trainers are silent is known from the age of their heartbeats alone.
    pub(super) fn look_once(&mut self) -> Result<Status> {
        self.scanner.scan(&mut self.state, Instant::now())?;
        self.read_the_end()?;
        self.state.num_trainers = num_heard(&self.scanner, &self.state, self.files);
        let status = look(&self.scanner, &self.state, None, self.files)?;
        self.complete(status)
    }

    /// The next look.
    pub(super) fn look_again(&mut self) -> Result<Status> {
        let root = self.scanner.directory().layout().root();
        if !fs::is_there(&root.join(layout::SEARCH))? {
            let message = format!("`{}` is no search any more", root.display());
            return Err(Failure::new(Code::BadInput, message).into());
        }
        self.scanner.scan(&mut self.state, Instant::now())?;
        self.read_the_end()?;
        let status = look(&self.scanner, &self.state, Some(self.start), self.files)?;
        self.complete(status)
    }

    /// Reads all again when the search is finished: more may have come since it was read than open and claimed jobs tell
    /// of. What was heard of trainers stays.
    fn read_the_end(&mut self) -> Result<()> {
        if self.state.flags.is_finished {
            let root = self.scanner.directory().layout().root();
            let (_, state) = Scanner::load(Directory::observe(root)?)?;
            self.state = state;
            self.scanner.scan(&mut self.state, Instant::now())?;
        }
        Ok(())
    }

    /// Adds what a scan does not see.
    fn complete(&mut self, mut status: Status) -> Result<Status> {
        let directory = self.scanner.directory();
        match self.slurm.get(|| {
            let queue = batch::queue_if_any(&Slurm, directory);
            queue.map_err(|error| format!("cannot see SLURM's queue: {error:#}"))
        }) {
            Ok(Some(queue)) => {
                status.slurm.clone_from(queue);
                status.was_submitted = true;
                if status.phase == "running" {
                    let sentences = queue::sentences(queue, status.trainers_live);
                    status.waiting_for.splice(0..0, sentences);
                }
            }
            Ok(None) => {}
            Err(error) => status.slurm_error = Some(error.clone()),
        }
        // A folder that goes while it is looked at is no reason to show nothing.
        let size = || directory.checkpoint_bytes().ok();
        status.checkpoint_bytes = *self.checkpoint_bytes.get(size);
        status.crashes = crashes(directory, &self.state.tally)?;
        Ok(status)
    }
}

/// An answer that is asked for again when it is old.
struct Remembered<T> {
    answer: Option<(Instant, T)>,
    interval: Duration,
}

impl<T> Remembered<T> {
    fn new(interval: Duration) -> Self {
        Self {
            answer: None,
            interval,
        }
    }

    fn get(&mut self, ask: impl FnOnce() -> T) -> &T {
        let known = self.answer.take();
        let fresh = known.filter(|(asked, _)| asked.elapsed() < self.interval);
        let answer = fresh.unwrap_or_else(|| (Instant::now(), ask()));
        &self.answer.insert(answer).1
    }
}
