//! `trainer job FILE`: evaluates one job file by hand, claims nothing and publishes nothing.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use shared::directory::Directory;
use shared::exit::{Code, Failure};
use shared::record::Job;
use shared::signal::Warning;
use shared::{Error, Invalid, cli, fs, layout};
use tracing::info;

use crate::assignment::task_of;
use crate::evaluator::{Assignment, Compute, Evaluator, Place};
use crate::objective::{Control, Ended, StopReason};
use crate::outcome::outcome_of;

/// Arguments of `trainer job`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A job file, such as DIR/jobs/open/c000000-r0-a1.json
    file: PathBuf,
    /// Search directory that the file belongs to; default: the one that it lies in
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// How and where to compute
    #[command(flatten)]
    compute: Compute,
}

/// Evaluates the job and prints its outcome.
///
/// # Errors
/// The file is no job of a search directory, or this machine fails.
pub(crate) fn run(args: &Args) -> Result<Code> {
    let file = args.file.as_path();
    let warning = Warning::listen().context("cannot listen for signals")?;
    let job: Job = fs::read_named_record(file)?;
    let root = match &args.directory {
        Some(root) => std::path::absolute(root)?,
        None => find_search(file).ok_or_else(|| {
            let message = format!(
                "`{}` is in no search directory; `--directory DIR` names the one it belongs to",
                file.display()
            );
            Failure::new(Code::BadInput, message)
        })?,
    };
    let directory = Directory::open(&root)?;
    let search = directory.search();
    check(file, &job, search)?;
    let evaluator = Evaluator::new(&directory, args.compute, &warning)?;
    info!(
        "evaluating job={} on {} to {}; nothing is published",
        job.job,
        evaluator.device(),
        job.budget
    );
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let log = folder.path().join("program.log");
    let assignment = Assignment {
        task: task_of(search, &job),
        claim: None,
        resume: Vec::new(),
        seen: Vec::new(),
        place: Place {
            log: log.clone(),
            checkpoints: folder.path().join("checkpoints"),
        },
    };
    let mut control = ByHand { warning: &warning };
    let start = Instant::now();
    let ended = evaluator.evaluate(&directory, &assignment, &mut control)?;
    if let Ok(printed) = std::fs::read(&log) {
        cli::report(String::from_utf8_lossy(&printed).trim_end());
    }
    match &ended {
        Ended::Interrupted => {
            info!("interrupted job={}", job.job);
            return Ok(Code::Again);
        }
        Ended::MachineFailed { message } | Ended::DeviceFailed { message } => {
            let message = format!("this machine failed: {message}");
            return Err(Failure::new(Code::Unforeseen, message).into());
        }
        _ => {}
    }
    let (outcome, measures, curve) = outcome_of(ended, &search.constraints, &search.objectives);
    let json = serde_json::json!({
        "job": job.job,
        "budget": job.budget,
        "outcome": outcome,
        "measures": measures,
        "curve": curve,
        "elapsed_s": start.elapsed().as_secs_f64(),
    });
    cli::print(&format!("{json:#}\n"))?;
    Ok(Code::Done)
}

/// Whether a job belongs to the search.
fn check(file: &Path, job: &Job, search: &shared::Search) -> Result<()> {
    search
        .space
        .check_configuration(&job.configuration)
        .map_err(|invalid: Invalid| Error::Value {
            path: file.to_path_buf(),
            format: "job",
            source: invalid.within("configuration").into(),
        })?;
    if search.ladder.up_to(job.job.rung).is_none() {
        let invalid = Invalid::new(
            "job",
            format!("a rung up to r{}", search.ladder.last()),
            job.job,
        );
        return Err(Error::Value {
            path: file.to_path_buf(),
            format: "job",
            source: invalid.into(),
        }
        .into());
    }
    Ok(())
}

/// The search directory that a file lies in.
fn find_search(file: &Path) -> Option<PathBuf> {
    let file = file.canonicalize().ok()?; // a file that was read a moment ago
    file.ancestors()
        .skip(1)
        .find(|folder| folder.join(layout::SEARCH).is_file())
        .map(Path::to_path_buf)
}

struct ByHand<'a> {
    warning: &'a Warning,
}

impl Control for ByHand<'_> {
    fn stop_reason(&mut self) -> Option<StopReason> {
        self.warning.received().map(|_| StopReason::Signal)
    }
    fn progress(&mut self, _spent: f64) {}
    fn checkpoint_due(&mut self, _spent: f64) -> bool {
        false
    }
    fn save_checkpoint(&mut self, _spent: f64, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }
}
