//! Searches in the middle of their lives, made by the programs themselves: what a record from anywhere is put into.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use scheduler::run::Scheduler;
use serde_json::{Value, json};
use shared::record::TrainerState;
use shared::search::SearchFile;
use shared::signal::Warning;
use shared::{Claim, Directory, format, owner};
use trainer::device::DeviceChoice;
use trainer::evaluator::{Compute, Evaluator};
use trainer::heartbeat::{Computer, HeartbeatWriter, JobStatus};
use trainer::run::Trainer;
use trainer::time_limit::TimeLimit;

use super::disk::{Disk, ROOT};

/// Files by their paths in the search directory.
pub(crate) type Files = BTreeMap<String, Rc<[u8]>>;

/// Between two looks.
const POLL: Duration = Duration::from_secs(1);
/// Jobs that are done before the search is left as it is.
const NUM_JOBS: usize = 14;

thread_local! {
    static BASES: [Files; 2] = [false, true].map(|is_asynchronous| made(&search(is_asynchronous)));
}

/// One of the searches: synchronous with Tandem's model, or asynchronous with BOHB's and promotions that continue.
pub(crate) fn files(is_asynchronous: bool) -> Files {
    BASES.with(|bases| bases[usize::from(is_asynchronous)].clone())
}

/// The search file of one of them.
pub(crate) fn search(is_asynchronous: bool) -> SearchFile {
    let mut json = json!({
        "format": "search",
        "version": [1, 0],
        "name": "records",
        "space": { "hyperparameters": [
            { "name": "x1", "type": "float", "lower": -5.0, "upper": 10.0, "prior": 3.0 },
            { "name": "x2", "type": "float", "lower": 0.0, "upper": 15.0 },
        ] },
        "objective": { "benchmark": "branin", "seconds_per_unit": 1.0 },
        "budget": { "unit": "steps", "min": 1, "max": 9, "eta": 3 },
        "limit": { "brackets": 6 },
        "trainers": { "heartbeat_s": 1.0, "lease_s": 30.0, "max_attempts": 3, "checkpoint_s": 1.0,
            "ahead": 2 },
    });
    if is_asynchronous {
        json["limit"] = json!({ "configurations": 60 });
        json["method"] = json!("bohb");
        json["scheduling"] = json!("asynchronous");
        json["promotion"] = json!("continue");
    }
    let bytes = serde_json::to_vec(&json).expect("a JSON value can be written");
    format::from_bytes(Path::new("search.json"), &bytes).expect("a valid search")
}

/// The files of a search after some jobs: two trainers hold a job each, one of them with a checkpoint, and nobody has
/// heard of one of them for longer than the lease.
fn made(search: &SearchFile) -> Files {
    let disk = Disk::new([]);
    let made: anyhow::Result<()> = disk.with(|| {
        let directory = Directory::create(Path::new(ROOT), search, Path::new("search.json"))?;
        while directory.finished_jobs()?.len() < NUM_JOBS {
            turn(&directory)?;
            train(&directory, &Warning::default())?;
        }
        let mut scheduler = Scheduler::new(Directory::open(Path::new(ROOT))?, POLL)?;
        for _ in 0..2 {
            scheduler.turn()?;
            sampler::run::answer(directory.clone(), true, POLL, &Warning::default())?;
            scheduler.turn()?;
            fall_silent(&directory)?;
            scheduler.turn()?;
            disk.pass(directory.lease() * 2);
        }
        scheduler.turn()?;
        fall_silent(&directory)?;
        scheduler.turn()?;
        scheduler.leave_word();
        Ok(())
    });
    made.expect("nothing is wrong in these searches");
    let files = disk.files();
    let seen = |folder: &str| files.keys().any(|path| path.starts_with(folder));
    for folder in [
        "jobs/open/",
        "jobs/claimed/",
        "attempts/",
        "checkpoints/",
        "observations/",
    ] {
        assert!(seen(folder), "no file in {folder}");
    }
    files
}

fn turn(directory: &Directory) -> anyhow::Result<()> {
    let mut scheduler = Scheduler::new(Directory::open(directory.layout().root())?, POLL)?;
    scheduler.turn()?;
    sampler::run::answer(directory.clone(), true, POLL, &Warning::default())?;
    scheduler.turn()?;
    Ok(())
}

fn train(directory: &Directory, warning: &Warning) -> anyhow::Result<()> {
    let compute = Compute {
        device: DeviceChoice::Cpu,
        threads: 1,
    };
    let evaluator = Evaluator::new(directory, compute, warning)?;
    let owner = owner::new_owner();
    let status = Arc::new(JobStatus::waiting());
    let mut writer =
        HeartbeatWriter::first(directory, Arc::clone(&status), &owner, &Computer::default())?;
    let limit = TimeLimit::none();
    let trainer = Trainer::new(directory, &evaluator, owner, status, warning.clone(), limit);
    trainer.work(true, POLL)?;
    writer.last();
    Ok(())
}

/// A trainer that claims a job, saves a checkpoint, and is never heard of again.
fn fall_silent(directory: &Directory) -> anyhow::Result<()> {
    let owner = owner::new_owner();
    let status = Arc::new(JobStatus::waiting());
    let mut writer =
        HeartbeatWriter::first(directory, Arc::clone(&status), &owner, &Computer::default())?;
    for attempt in directory.open_jobs()? {
        if directory.claim(attempt, &owner)?.is_none() {
            continue;
        }
        let claim = Claim { attempt, owner };
        directory.save_checkpoint(&claim, b"0.5")?;
        status.set_state(TrainerState::Working { claim, spent: 0.5 });
        break;
    }
    writer.next();
    Ok(())
}

/// The record with the host and the start of this machine in place of those it was written on, so that an observation
/// is taken for this machine's own.
pub(crate) fn localised(json: &mut Value) {
    let Some(reading) = shared::clock::Reading::now() else {
        return;
    };
    if json["host"] == "@HOST@" {
        json["host"] = owner::host_name().into();
    }
    if json["reading"]["boot"] == "@BOOT@" {
        json["reading"]["boot"] = reading.boot.into();
    }
}
