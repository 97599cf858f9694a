//! Jobs for a correlation table without the selection effect.
//!
//! A search evaluates at larger budgets what did well at smaller ones, so its own pairs are no random sample. Here
//! configurations are drawn in random order from all that have a loss at the smallest budget, until the draw holds the
//! wanted number of configurations that were not evaluated everywhere (of a search that stops trainings: that were
//! stopped). The draw as a whole, promoted ones included, is a uniform sample. It becomes a search directory of its own,
//! with the results it has and the jobs it lacks: trainers work on it with `--once`, no scheduler is needed, and its
//! correlation table is free of the selection. The search it comes from stays as it is.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use rand::seq::SliceRandom as _;
use shared::budget::is_same_budget;
use shared::exit::{Code, Failure};
use shared::layout::{self, Layout};
use shared::record::{Check, Job};
use shared::{ConfigurationId, Directory, Search, SearchFile, Seed, fs};

use crate::history::History;
use crate::retrain::job_of;

/// A uniform sample of configurations, and the jobs it lacks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Extra {
    /// The sample, ascending.
    pub(crate) sample: Vec<ConfigurationId>,
    /// The jobs that would evaluate it at all budgets, ascending.
    pub(crate) jobs: Vec<Job>,
}

/// Draws configurations until `num_unpromoted` of them lack a result at some budget of the search, and lists the jobs
/// for those results. Fewer where the search has no more.
pub(crate) fn draw(history: &History, num_unpromoted: usize, seed: Seed) -> Result<Extra> {
    let Some(search) = &history.search else {
        let message = "no jobs can be written for another program's log: it has no `search.json`";
        return Err(Failure::new(Code::Usage, message).into());
    };
    let mut done = BTreeSet::new();
    let mut candidates = Vec::new();
    let lowest = search.ladder.budget(0).amount;
    let is_lowest = |budget: usize| is_same_budget(history.budgets[budget], lowest);
    for result in &history.results {
        if !result.was_stopped() {
            done.insert(result.job);
        }
        if result.all_losses().any(|(budget, _)| is_lowest(budget))
            && candidates.last() != Some(&result.configuration)
        {
            candidates.push(result.configuration);
        }
    }
    // Where trainings are stopped, one of them tells of all rungs.
    let rungs = if search.is_stopping() {
        search.ladder.top()..search.ladder.num_rungs()
    } else {
        0..search.ladder.num_rungs()
    };
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
        let missing: Vec<Job> = rungs
            .clone()
            .map(|rung| tried.id.job(rung))
            .filter(|job| !done.contains(job))
            .map(|job| Job {
                checks: looks(search, job.rung),
                ..job_of(history, index, job, search)
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

/// Where the losses of a training are looked at that nothing stops; nowhere, unless the search stops trainings.
fn looks(search: &Search, rung: u8) -> Vec<Check> {
    let below = if search.is_stopping() { rung } else { 0 };
    (0..below)
        .map(|lower| Check {
            spent: search.ladder.budget(lower).amount,
            loss: None,
        })
        .collect()
}

/// Makes a new search directory of a sample: the same search, copies of the sample's proposals and results, and an
/// open job for every job it lacks. What was stopped is trained anew.
///
/// # Errors
/// Where `to` is not empty: a directory that a search is in would be changed.
pub(crate) fn write(history: &History, extra: &Extra, to: &Path) -> Result<()> {
    if !fs::list_named(to)?.is_empty() {
        let message = format!("`{}` is not empty: name a new directory", to.display());
        return Err(Failure::new(Code::Usage, message).into());
    }
    let from = Layout::new(&history.path);
    let given = from.path(layout::SEARCH);
    let file: SearchFile = fs::read_record(&given)?;
    let directory = Directory::create(to, &file, &given)?;
    // Jobs may be on rungs that these have added.
    for name in fs::list(&from.path(layout::EXTENSIONS))? {
        let path = |layout: &Layout| layout.path(layout::EXTENSIONS).join(&name);
        copy(&path(&from), &path(directory.layout()))?;
    }
    for id in &extra.sample {
        copy(
            &from.configuration(*id),
            &directory.layout().configuration(*id),
        )?;
    }
    let sample: BTreeSet<ConfigurationId> = extra.sample.iter().copied().collect();
    for result in &history.results {
        if sample.contains(&result.job.configuration) && !result.was_stopped() {
            copy(
                &from.result(result.job),
                &directory.layout().result(result.job),
            )?;
        }
    }
    for job in &extra.jobs {
        directory.offer(job, 1)?;
    }
    Ok(())
}

/// Copies a record as it is; one that is not there any more is no loss.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(bytes) = fs::read_if_there(from)? {
        fs::publish_new(to, &bytes)?;
    }
    Ok(())
}

/// Reads a sample: ids such as `c000012`, separated by white space.
pub(crate) fn read_sample(path: &Path) -> Result<BTreeSet<ConfigurationId>> {
    let bytes = fs::read_named(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let ids = text.split_whitespace().map(|word| {
        word.parse::<ConfigurationId>().map_err(|error| {
            let message = format!("cannot read the sample in `{}`", path.display());
            Failure::because(Code::BadInput, message, error)
        })
    });
    Ok(ids.collect::<Result<_, _>>()?)
}
