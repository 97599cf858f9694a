//! `sampler run`: look, answer, wait, until the search is finished or stopped.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use shared::cli;
use shared::exit::Code;
use shared::format::Record;
use shared::fs::Published;
use shared::parallel::read_ahead;
use shared::record::Proposal;
use shared::signal::Warning;
use shared::wait::{News, Waiter, Woken};
use shared::{
    ConfigurationId, Directory, Error, Invalid, OwnerId, clock, error, fs, layout, owner,
};
use tracing::{debug, info, warn};

use crate::follow::{Follower, Next};

/// Arguments of `sampler run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The search directory
    #[arg(value_name = cli::DIRECTORY)]
    directory: PathBuf,
    /// Answer what can be answered now, then exit
    #[arg(long)]
    once: bool,
    /// Longest time between two looks at the directory, in seconds
    ///
    /// File events end the wait early, but only for changes made on this machine.
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = cli::seconds)]
    poll_s: f64,
}

/// How often the snapshot of the model is written at most.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(5);
/// After so many failed looks in a row, each after a longer wait, the directory counts as unusable.
const MOST_FAILURES: u32 = 20;

/// What was fitted last, for people: `models/OWNER.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSnapshot {
    /// The sampler that wrote it.
    pub owner: OwnerId,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// The search method.
    pub method: String,
    /// The newest configuration proposed.
    pub newest: Option<ConfigurationId>,
    /// How many results it knew.
    pub num_results: u64,
    /// What the method fitted; its fields depend on the method.
    pub fitted: Map<String, Json>,
    /// Version of the sampler.
    pub program: String,
}

impl Record for ModelSnapshot {
    const FORMAT: &'static str = "model";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Code> {
    let warning = Warning::listen().context("cannot listen for signals")?;
    let directory = Directory::open(&args.directory)?;
    read_ahead(&directory, &[layout::REQUESTS, layout::RESULTS])?;
    let longest = Duration::from_secs_f64(args.poll_s);
    answer(directory, args.once, longest, &warning)
}

/// Answers requests until the search is finished or stopped, or a signal comes.
pub fn answer(
    directory: Directory,
    is_once: bool,
    longest: Duration,
    warning: &Warning,
) -> Result<Code> {
    let mut sampler = Sampler::new(directory)?;
    let mut waiter = sampler.waiter(longest);
    let mut failures = 0;
    loop {
        let progress = match sampler.pass(&|| warning.received().is_some()) {
            Ok(progress) => {
                failures = 0;
                progress
            }
            // A file server that restarts comes back; a bad search file does not.
            Err(error @ Error::Io { .. }) if !is_once && failures < MOST_FAILURES => {
                failures += 1;
                warn!("will look again: {}", error::chain(&error));
                Progress::Waits("the directory".to_owned())
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(signal) = warning.received() {
            info!("leaving on {signal}, every answer so far is published");
            sampler.snapshot(true);
            return Ok(Code::Again);
        }
        match progress {
            Progress::Over(why) => {
                info!("leaving: {why}");
                sampler.snapshot(true);
                return Ok(Code::Done);
            }
            Progress::Waits(what) if is_once => {
                info!("leaving after one look, waiting for {what}");
                sampler.snapshot(true);
                return Ok(Code::Done);
            }
            Progress::Waits(what) => debug!("waiting for {what}"),
            Progress::Answered => waiter.progress(),
        }
        sampler.snapshot(false);
        if sampler.watches_change() {
            waiter = sampler.waiter(longest);
        }
        let woken = waiter.wait(&mut || warning.received().is_some());
        sampler.is_idle = woken == Woken::Poll;
    }
}

/// What one pass over the directory came to.
#[derive(Debug)]
enum Progress {
    /// Something was answered, and all that could be was.
    Answered,
    /// Nothing could be answered: it waits for this.
    Waits(String),
    /// The search is stopped or finished.
    Over(&'static str),
}

struct Sampler {
    directory: Directory,
    owner: OwnerId,
    follower: Follower,
    /// Nothing has happened since the last look: time for a look at what should not change.
    is_idle: bool,
    /// Proposals had vanished, so that what is proposed may have been set aside before.
    has_started_again: bool,
    watched: Vec<PathBuf>,
    snapshot_at: Option<Instant>,
    newest: Option<ConfigurationId>,
    unsaved: bool,
}

impl Sampler {
    fn new(directory: Directory) -> shared::Result<Self> {
        let owner = owner::new_owner();
        info!(owner = %owner, "answering requests in `{}`", directory.layout().root().display());
        Ok(Self {
            follower: Follower::new(&directory)?,
            directory,
            owner,
            is_idle: false,
            has_started_again: false,
            watched: Vec::new(),
            snapshot_at: None,
            newest: None,
            unsaved: false,
        })
    }

    fn pass(&mut self, is_interrupted: &dyn Fn() -> bool) -> shared::Result<Progress> {
        let flags = self.directory.flags()?;
        if flags.is_stopped {
            return Ok(Progress::Over("somebody asked the search to stop"));
        }
        if flags.is_finished {
            return Ok(Progress::Over("the search is finished"));
        }
        if self.is_idle {
            self.start_again_if_proposals_vanished()?;
        }
        let mut has_answered = false;
        while !is_interrupted() {
            match self.follower.look()? {
                Next::Answered(_) => self.follower.advance(None),
                Next::Open(request) => {
                    let started = clock::instant();
                    let proposal = self.follower.propose(&request);
                    let id = proposal.configuration;
                    if self.has_started_again {
                        self.refuse_to_go_round(&proposal)?;
                    }
                    let published = self.directory.propose(&proposal)?;
                    let seconds = clock::since(started).as_secs_f64();
                    match published {
                        Published::New => info!(
                            configuration = %id, source = %proposal.origin.source,
                            results = proposal.origin.num_results, "proposed in {seconds:.4} s"
                        ),
                        Published::AlreadyThere => {
                            debug!(configuration = %id, "another sampler was faster");
                        }
                    }
                    // What is in the directory counts, whoever wrote it.
                    let ours = (published == Published::New).then_some(&proposal);
                    self.follower.advance(ours);
                    self.newest = Some(id);
                    self.unsaved = true;
                    has_answered = true;
                }
                Next::NoRequest if has_answered => return Ok(Progress::Answered),
                Next::NoRequest => {
                    return Ok(Progress::Waits(format!("request {}", self.follower.next())));
                }
                Next::NoResult(job) => return Ok(Progress::Waits(format!("result {job}"))),
                Next::NoProposal(id) => {
                    if !self.start_again_if_proposals_vanished()? {
                        return Ok(Progress::Waits(format!("configuration {id}")));
                    }
                }
            }
        }
        Ok(Progress::Answered)
    }

    /// A proposal that was set aside or removed is computed again; the others are as they were.
    fn start_again_if_proposals_vanished(&mut self) -> shared::Result<bool> {
        let vanished = self.follower.vanished()?;
        if let Some(first) = vanished.first() {
            warn!(
                "{} proposals have vanished, the first is {first}: going through all requests again",
                vanished.len()
            );
            self.follower = Follower::new(&self.directory)?;
            self.has_started_again = true;
        }
        Ok(!vanished.is_empty())
    }

    /// A proposal that was set aside twice as it is would be so for ever.
    fn refuse_to_go_round(&self, proposal: &Proposal) -> shared::Result<()> {
        const TWICE: usize = 2;
        let times = self.directory.times_quarantined(proposal)?;
        if times < TWICE {
            return Ok(());
        }
        let layout = self.directory.layout();
        let expected = format!(
            "a proposal that every program reads: the versions of sampler ({}) and scheduler may differ",
            proposal.program
        );
        let found = format!(
            "one that was set aside {times} times as it is, to `{}`",
            layout.path(layout::ASIDE).display()
        );
        Err(Error::Value {
            path: layout.configuration(proposal.configuration),
            format: Proposal::FORMAT,
            source: Invalid::new("", expected, found).into(),
        })
    }

    /// The folders in which the next thing will happen.
    fn folders(&self) -> Vec<PathBuf> {
        let layout = self.directory.layout();
        let shard = self.follower.next().shard();
        // A request names results that the scheduler has read, so no result is news.
        let mut folders = vec![layout.root().to_path_buf(), layout.path(layout::REQUESTS)];
        let requests = layout.shard(layout::REQUESTS, shard);
        folders.extend(requests.is_dir().then_some(requests));
        folders
    }

    fn watches_change(&self) -> bool {
        self.watched != self.folders()
    }

    fn waiter(&mut self, longest: Duration) -> Waiter {
        self.watched = self.folders();
        let folders: Vec<(PathBuf, News)> = self
            .watched
            .iter()
            .map(|folder| (folder.clone(), News::Arrivals))
            .collect();
        Waiter::new(&folders, longest)
    }

    /// Writes the model down for people, at most every few seconds; without it the search goes on all the same.
    fn snapshot(&mut self, is_last: bool) {
        let is_due = self
            .snapshot_at
            .is_none_or(|at| clock::since(at) >= SNAPSHOT_EVERY);
        if !self.unsaved || !(is_due || is_last) {
            return;
        }
        let proposer = self.follower.proposer();
        let snapshot = ModelSnapshot {
            owner: self.owner.clone(),
            at: clock::now(),
            method: self.directory.search().method.as_str().to_owned(),
            newest: self.newest,
            num_results: proposer.history().named().len() as u64,
            fitted: proposer.method().fitted(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let path = self.directory.layout().model(&self.owner);
        if let Err(error) = fs::replace_record(&path, &snapshot) {
            warn!("cannot write the model down: {}", error::chain(&error));
        }
        self.unsaved = false;
        self.snapshot_at = Some(clock::instant());
    }
}
