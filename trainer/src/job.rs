//! `trainer job FILE`: evaluates one job file by hand, claims nothing and publishes nothing.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use shared::exit::{Code, Failure};
use shared::record::Job;
use shared::signal::Warning;
use shared::store::{Directory, new_owner};
use shared::{Claim, Error, Invalid, fs, layout};
use tracing::info;

use crate::allocator;
use crate::device::DeviceChoice;
use crate::objective::command::Place;
use crate::objective::{Control, StopReason};
use crate::run::{outcome_of, task_of};
use crate::runner::Runner;

/// Evaluates the job and gives the text of its outcome. `is_exhausted`: that has been tried, and there was no memory left.
///
/// # Errors
/// The file is no job of a search directory, or this machine fails.
pub fn run(
    file: &Path,
    directory: Option<&Path>,
    device: DeviceChoice,
    is_exhausted: bool,
) -> Result<(Code, String)> {
    let warning = Warning::listen().context("cannot listen for signals")?;
    let job: Job = fs::read_named_record(file)?;
    let root = match directory {
        Some(root) => root.to_path_buf(),
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
    let runner = Runner::new(search, device)?;
    info!(
        "evaluating job={} on {} to {}; nothing is published",
        job.job,
        runner.device(),
        job.budget
    );
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let claim = Claim {
        attempt: job.job.attempt(1),
        owner: new_owner(),
    };
    let log = folder.path().join("program.log");
    let place = Place {
        job: job.job,
        log: log.clone(),
        checkpoints: folder.path().join("checkpoints"),
    };
    let mut control = ByHand { warning: &warning };
    let start = Instant::now();
    let ended = if is_exhausted {
        runner.exhausted(&job.configuration)
    } else {
        let _armed = runner.trains().then(|| allocator::arm(&claim));
        runner.evaluate(&task_of(search, &job, None), &place, &mut control)?
    };
    if let Ok(printed) = std::fs::read_to_string(&log) {
        shared::cli::report(printed.trim_end());
    }
    if ended == crate::objective::Ended::Interrupted {
        info!("interrupted job={}", claim.attempt);
        return Ok((Code::Again, String::new()));
    }
    let (outcome, measures, curve) = outcome_of(ended);
    let text = serde_json::json!({
        "job": job.job,
        "budget": job.budget,
        "outcome": outcome,
        "measures": measures,
        "curve": curve,
        "elapsed_s": start.elapsed().as_secs_f64(),
    });
    Ok((Code::Done, format!("{text:#}\n")))
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
    if job.job.rung > search.ladder.top() {
        let invalid = Invalid::new(
            "job",
            format!("a rung up to r{}", search.ladder.top()),
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
