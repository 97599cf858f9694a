//! `scheduler slurm --keep`: submits trainers in place of those that have ended, until the search is finished.
//!
//! A trainer that is warned, preempted, or on a node that fails is queued again by its script or by SLURM. What that
//! leaves out is done here: tasks that were cancelled, ended at their limit without having heard the warning, or
//! failed. All it decides by is in files and in SLURM's queue, so it may be ended and started again anywhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use shared::cli::report;
use shared::exit::Code;
use shared::signal::Warning;
use shared::{Directory, fs, layout, store};
use tracing::{error, info, warn};

use crate::slurm::{self, Kind, SlurmArgs, Submission};

/// Arrays that ended without one good start, and none with one since, after which no more are submitted.
pub const MOST_FAILED: usize = 3;
/// Heartbeats of a trainer whose start was a good one.
const GOOD_BEATS: u64 = 3;
/// The longest pause after SLURM has refused something or not answered.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// How often it is looked whether the search is over.
const LOOK: Duration = Duration::from_secs(5);

/// Looks at the queue every `args.poll_s` seconds and submits what is missing.
pub fn keep(args: &SlurmArgs, directory: &Directory, programs: &Path) -> Result<Code> {
    let warning = Warning::listen().context("cannot listen for signals")?;
    if store::slurm_job().is_none() {
        report(&format!(
            "keeping {} trainers in SLURM's queue; where compute nodes may submit, the coordinator does so too, and this \
             may be ended",
            args.num_trainers
        ));
    }
    let mut refusals = 0_u32;
    let mut was_broken = false;
    loop {
        let refused = turn(args, directory, programs, &mut was_broken).err();
        refusals = refused.as_ref().map_or(0, |_error| refusals + 1);
        let pause = Duration::from_secs_f64(args.poll_s)
            .saturating_mul(1 << refusals.min(10))
            .min(LONGEST_PAUSE);
        if let Some(error) = refused {
            warn!(
                "cannot keep trainers in the queue, next try in {} s: {error:#}; if other arguments are needed, end this \
                 and the coordinator (`scancel`), and start anew",
                pause.as_secs_f64()
            );
        }
        let start = Instant::now();
        let mut looked = start;
        while start.elapsed() < pause {
            if let Some(signal) = warning.received() {
                info!("{signal}: leaving; SLURM's queue stays as it is");
                return Ok(Code::Again);
            }
            std::thread::sleep(Duration::from_millis(200).min(pause));
            if looked.elapsed() < LOOK.min(pause) {
                continue;
            }
            looked = Instant::now();
            if is_over(directory) {
                report("the search is finished or stopped: no more trainers are needed");
                return Ok(Code::Done);
            }
        }
    }
}

/// Whether no program of the search is needed any more; what cannot be read now may be later.
fn is_over(directory: &Directory) -> bool {
    let signs = directory.signs().unwrap_or_default();
    signs.is_finished || signs.is_stopped
}

fn turn(
    args: &SlurmArgs,
    directory: &Directory,
    programs: &Path,
    was_broken: &mut bool,
) -> Result<()> {
    let root = directory.layout().root();
    let last = slurm::last_submission(directory)?;
    let tasks = slurm::tasks(root)?;
    let live: BTreeSet<&str> = tasks
        .iter()
        .filter(|task| task.is_live())
        .map(|task| task.slurm_job.as_str())
        .collect();
    let num_failed = failed_starts(&arrays(directory)?, &live, &started_well(directory)?);
    let is_broken = num_failed >= MOST_FAILED;
    if is_broken && !*was_broken {
        error!(
            "{num_failed} arrays of trainers have ended, one after the other, before any of them had run for \
             {GOOD_BEATS} heartbeats: no more are submitted. See the logs in `{}`; when the cause is gone, `scheduler \
             slurm` without --keep submits once more, and if those run, this goes on",
            root.join(layout::SLURM).display()
        );
    }
    *was_broken = is_broken;
    if is_broken {
        return Ok(());
    }
    let queue = slurm::count(&tasks);
    slurm::submit_missing(args, directory, programs, &queue, last)
}

/// The arrays of trainers that were submitted, oldest first.
fn arrays(directory: &Directory) -> Result<Vec<Submission>> {
    let folder = directory.layout().path(layout::SLURM);
    let mut arrays = Vec::new();
    for name in fs::list(&folder)? {
        if !name.ends_with("-trainers.json") {
            continue;
        }
        let path = folder.join(name);
        match fs::read_record(&path) {
            Ok(array) => arrays.push(array),
            // What is in SLURM's queue is known by name all the same.
            Err(error) if error.is_bad_file() => {
                directory.set_aside(&path, &store::chain(&error))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(arrays)
}

/// The SLURM arrays of which a trainer has run for some time.
fn started_well(directory: &Directory) -> Result<BTreeSet<String>> {
    let heartbeats = directory.heartbeats()?;
    let good = heartbeats
        .into_values()
        .filter(|heartbeat| heartbeat.beat >= GOOD_BEATS)
        .filter_map(|heartbeat| heartbeat.slurm_job);
    // `123_4` is a task of the array 123.
    Ok(good
        .map(|job| job.split('_').next().unwrap_or_default().to_owned())
        .collect())
}

/// How many arrays are over without a good start since the last one that had one.
///
/// Those that are queued or running, and may still have one, neither count nor excuse the others: where few tasks run at a
/// time, the newest array is always queued.
fn failed_starts(arrays: &[Submission], live: &BTreeSet<&str>, good: &BTreeSet<String>) -> usize {
    debug_assert!(arrays.iter().all(|array| array.kind == Kind::Trainers));
    let jobs = arrays.iter().rev().map(|array| array.slurm_job.as_str());
    jobs.take_while(|job| !good.contains(*job))
        .filter(|job| !live.contains(job))
        .count()
}

/// The command that keeps trainers in the queue, for the coordinator's script.
pub fn command(args: &SlurmArgs, root: &Path, programs: &Path) -> Vec<String> {
    let mut words = vec![
        programs.join("scheduler").to_string_lossy().into_owned(),
        "slurm".into(),
        root.to_string_lossy().into_owned(),
        "--keep".into(),
        format!("--trainers={}", args.num_trainers),
        format!("--gpus-per-trainer={}", args.gpus_per_trainer),
        format!("--poll-s={}", args.poll_s),
    ];
    words.extend(args.time.iter().map(|time| format!("--time={time}")));
    words.extend(
        args.partition
            .iter()
            .map(|partition| format!("--partition={partition}")),
    );
    if !args.sbatch.is_empty() {
        words.push("--".into());
        words.extend(args.sbatch.iter().cloned());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(number: u32) -> Submission {
        Submission {
            kind: Kind::Trainers,
            slurm_job: number.to_string(),
            name: "tandem".into(),
            tasks: 2,
            script: "x.sh".into(),
            at: String::new(),
        }
    }

    #[test]
    fn a_corrupt_record_of_an_array_is_set_aside_and_the_others_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = crate::test_search::search_file(1, 9, 3);
        let directory = Directory::create(folder.path(), &file, Path::new("x")).unwrap();
        let slurm = directory.layout().path(layout::SLURM);
        fs::publish_record(&slurm.join("0001-trainers.json"), &array(1)).unwrap();
        fs::publish_new(&slurm.join("0002-trainers.json"), b"{ \"format\"").unwrap();
        assert_eq!(arrays(&directory).unwrap().len(), 1);
        assert_eq!(
            fs::list(&directory.layout().path(layout::ASIDE))
                .unwrap()
                .len(),
            1
        );
        assert_eq!(arrays(&directory).unwrap().len(), 1);
    }

    #[test]
    fn arrays_that_came_to_nothing_count_since_the_last_good_one() {
        let arrays: Vec<Submission> = (1..=5).map(array).collect();
        let good: BTreeSet<String> = ["2".to_owned()].into();
        assert_eq!(failed_starts(&arrays, &[].into(), &good), 3);
        // One that is queued or running may still come to something, which it has when it is good.
        assert_eq!(failed_starts(&arrays, &["5"].into(), &good), 2);
        assert_eq!(failed_starts(&arrays, &["3", "4"].into(), &good), 1);
        assert_eq!(
            failed_starts(&arrays, &["5"].into(), &["5".to_owned()].into()),
            0
        );
        assert_eq!(failed_starts(&[], &[].into(), &good), 0);
    }
}
