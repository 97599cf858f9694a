//! `scheduler retry`: jobs that failed are done again.
//!
//! Each gets a record that supersedes its last outcome; nothing is deleted. A scheduler sees the records, also while it
//! runs, and offers the jobs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use shared::cli::{DIRECTORY, print};
use shared::exit::{Code, Failure};
use shared::fs::Published;
use shared::wording::count;
use shared::{AttemptId, Directory, JobId, JobResult, Outcome};

use crate::blame::Again;
use crate::sample;

/// What `scheduler retry` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// The search directory
    #[arg(value_name = DIRECTORY)]
    directory: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Which jobs are done again.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Which {
    /// Every job that has crashed
    #[arg(long)]
    crashed: bool,
    /// Every job that was lost, because attempt after attempt brought no progress; in a directory of `analyzer correlation
    /// --extra`, where no scheduler works, also every job of a trainer that is silent
    #[arg(long)]
    lost: bool,
    /// Every job that ran out of memory
    #[arg(long)]
    out_of_memory: bool,
    /// This job, however it has failed; may be repeated
    #[arg(long, value_name = "JOB")]
    job: Vec<JobId>,
}

impl Which {
    fn names(&self, result: &JobResult) -> bool {
        match result.outcome {
            Outcome::Crashed { .. } => self.crashed,
            Outcome::Lost { .. } => self.lost,
            Outcome::OutOfMemory { .. } => self.out_of_memory,
            Outcome::Evaluated { .. }
            | Outcome::Stopped { .. }
            | Outcome::Diverged { .. }
            | Outcome::Infeasible { .. } => false,
        }
    }
}

/// Runs the subcommand.
pub(crate) fn run(args: &RetryArgs) -> Result<Code> {
    let directory = Directory::open(&args.directory)?;
    if args.which.lost && sample::is_sample(&directory)? {
        let number = sample::take_back(&directory)?;
        if number > 0 {
            let jobs = count(number, "job");
            return print(&format!("took back {jobs} of silent trainers\n")).map(|()| Code::Done);
        }
    }
    let superseded = failures(&directory, &args.which)?;
    let mut number = 0;
    for attempt in &superseded {
        if directory.retry(&Again::asked(*attempt).record())? == Published::New {
            number += 1;
        }
    }
    // After the records: a scheduler that finishes the search meanwhile looks for them once more.
    let was_finished = !superseded.is_empty() && directory.reopen(0)?;
    print(&told(
        &args.directory,
        number,
        superseded.len(),
        was_finished,
    ))?;
    Ok(Code::Done)
}

fn told(root: &Path, number: usize, found: usize, was_finished: bool) -> String {
    let root = root.display();
    let mut text = match (found, number) {
        (0, _) => format!("nothing to do again in `{root}`: no such job has failed\n"),
        (_, 0) => format!("nothing to do again in `{root}`: that was asked for already\n"),
        (_, _) => format!("{} will be done again\n", count(number, "job")),
    };
    if was_finished {
        text.push_str("the search was finished: start its programs again\n");
    }
    text
}

/// The attempts that gave the outcomes to be superseded.
fn failures(directory: &Directory, which: &Which) -> Result<Vec<AttemptId>> {
    let mut attempts = Vec::new();
    for job in &which.job {
        let refused = |why: &str| Failure::new(Code::BadInput, format!("{job} {why}"));
        let Some(result) = directory.last_result(*job)? else {
            return Err(refused("has no result yet: there is nothing to do again").into());
        };
        if result.outcome.loss().is_some() {
            return Err(refused("has a loss: only failures are done again").into());
        }
        attempts.push(result.attempt);
    }
    if which.crashed || which.lost || which.out_of_memory {
        let results = directory.all_results()?;
        let named = results.iter().filter(|result| which.names(result));
        attempts.extend(named.map(|result| result.attempt));
    }
    attempts.sort_unstable();
    attempts.dedup();
    Ok(attempts)
}
