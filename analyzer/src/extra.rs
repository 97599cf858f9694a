//! Jobs for a correlation table without the selection effect.
//!
//! A search evaluates at larger budgets what did well at smaller ones, so its own pairs are no random sample. Here
//! configurations are drawn in random order from all that have a loss at the smallest budget, until the draw holds the
//! wanted number of configurations that were not evaluated everywhere. For these the missing jobs are written. The draw
//! as a whole, promoted ones included, is a uniform sample: `correlation --among` compares it alone.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use rand::seq::SliceRandom as _;
use shared::exit::{Code, Failure};
use shared::record::Job;
use shared::{ConfigurationId, Seed, fs};

use crate::load::History;

/// The file that lists the sample, one id a line.
pub const SAMPLE: &str = "sample.txt";
/// The folder with the job files.
pub const JOBS: &str = "open";

/// A uniform sample of configurations, and the jobs it lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra {
    /// The sample, ascending.
    pub sample: Vec<ConfigurationId>,
    /// The jobs that would evaluate it at all budgets, ascending.
    pub jobs: Vec<Job>,
}

/// Draws configurations until `num_unpromoted` of them lack a result at some budget of the search, and lists the jobs
/// for those results. Fewer where the search has no more.
pub fn draw(history: &History, num_unpromoted: usize, seed: Seed) -> Result<Extra> {
    let Some(search) = &history.search else {
        let message = "no jobs can be written for another program's log: it has no `search.json`";
        return Err(Failure::new(Code::Usage, message).into());
    };
    let mut done = BTreeSet::new();
    let mut candidates = Vec::new();
    for result in &history.results {
        done.insert(result.job);
        if result.job.rung == 0 && result.loss().is_some() {
            candidates.push(result.configuration);
        }
    }
    candidates.shuffle(&mut seed.child("extra", "order").rng());
    let mut extra = Extra {
        sample: Vec::new(),
        jobs: Vec::new(),
    };
    let mut drawn = 0;
    for index in candidates {
        if drawn == num_unpromoted {
            break;
        }
        let tried = &history.configurations[index];
        let missing: Vec<Job> = (0..search.ladder.num_rungs())
            .map(|rung| tried.id.job(rung))
            .filter(|job| !done.contains(job))
            .map(|job| Job {
                job,
                bracket: tried.bracket,
                budget: search.ladder.budget(job.rung),
                configuration: tried.values.clone(),
                continues: None,
                search: search.digest.clone(),
            })
            .collect();
        drawn += usize::from(!missing.is_empty());
        extra.sample.push(tried.id);
        extra.jobs.extend(missing);
    }
    extra.sample.sort_unstable();
    extra.jobs.sort_by_key(|job| job.job);
    Ok(extra)
}

/// Writes the sample to `sample.txt`, and each job as a file in `open/`: moved to the search's `jobs/open`, they are
/// done by its trainers; `trainer job` runs one by hand.
pub fn write(extra: &Extra, to: &Path) -> Result<()> {
    for job in &extra.jobs {
        let path = to.join(JOBS).join(format!("{}.json", job.job.attempt(1)));
        fs::replace_record(&path, job)?;
    }
    let lines = extra.sample.iter().map(|id| format!("{id}\n"));
    fs::replace(&to.join(SAMPLE), lines.collect::<String>().as_bytes())?;
    Ok(())
}

/// Reads a sample: ids such as `c000012`, separated by white space.
pub fn read_sample(path: &Path) -> Result<BTreeSet<ConfigurationId>> {
    let bytes = fs::read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let ids = text.split_whitespace().map(|word| {
        word.parse::<ConfigurationId>().map_err(|error| {
            let message = format!("cannot read the sample in `{}`", path.display());
            Failure::because(Code::BadInput, message, error)
        })
    });
    Ok(ids.collect::<Result<_, _>>()?)
}
