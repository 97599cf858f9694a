//! The second of two searches: hyperparameters fixed at the best values that a first search found.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use shared::exit::{Code, Failure};
use shared::{
    Configuration, ConfigurationId, Directory, JobResult, Search, SearchFile, SearchSpace,
};
use tracing::warn;

/// Arguments for searches in two steps.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FixArgs {
    /// A search directory whose best configuration gives values to be fixed in this search
    ///
    /// The best is the one with the smallest loss at the largest budget. The values become part of `search.json`.
    #[arg(long, value_name = shared::cli::DIRECTORY)]
    fix_from: Option<PathBuf>,
    /// Hyperparameters to fix, separated by commas; default: all that both searches have
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "fix_from"
    )]
    fix: Vec<String>,
}

impl FixArgs {
    /// Adds the values to a search file; those it has itself stay.
    pub(crate) fn apply(&self, file: &mut SearchFile) -> Result<()> {
        let Some(root) = &self.fix_from else {
            return Ok(());
        };
        let Some(space) = &file.space else {
            return Ok(()); // The check of the file says so.
        };
        let wrong = |message: String| Failure::new(Code::BadInput, message);
        let first = Directory::observe(root)?;
        if !first.flags()?.is_finished {
            warn!("the search in `{}` is not finished", root.display());
        }
        let results = first.all_results()?;
        let Some((id, values)) = best(first.search(), &results) else {
            let shown = root.display();
            bail!(wrong(format!(
                "no job at the largest budget of `{shown}` has a loss"
            )));
        };
        // A space that is wrong is reported with its place later.
        let Ok(space) = SearchSpace::new(space) else {
            return Ok(());
        };
        let chosen = choose(&space, values, &self.fix, root)?;
        let rest = space.dimensions().any(|h| !chosen.0.contains_key(&h.name));
        if !rest {
            let message =
                "every hyperparameter would be fixed: name those that are to be with --fix";
            bail!(Failure::new(Code::Usage, message));
        }
        for (name, value) in chosen.0 {
            file.fix.0.entry(name).or_insert(value);
        }
        file.fixed_from = Some(format!("{id} of `{}`", first.search().name));
        Ok(())
    }
}

/// The configuration with the smallest loss at the largest budget; of equals the first.
fn best<'a>(
    search: &Search,
    results: &'a [JobResult],
) -> Option<(ConfigurationId, &'a Configuration)> {
    let top = search.ladder.top();
    let at_top = results.iter().filter(|result| result.job().rung == top);
    at_top
        .filter_map(|result| Some((result.outcome.loss()?, result)))
        .min_by(|(a, x), (b, y)| a.total_cmp(b).then(x.job().cmp(&y.job())))
        .map(|(_, result)| (result.job().configuration, &result.configuration))
}

/// The values of the hyperparameters named, or of all that the space has too.
fn choose(
    space: &SearchSpace,
    values: &Configuration,
    names: &[String],
    root: &Path,
) -> Result<Configuration> {
    let wrong = |message: String| Failure::new(Code::BadInput, message);
    let mut chosen = Configuration::default();
    if names.is_empty() {
        let shared = values.iter().filter(|(name, _)| space.find(name).is_some());
        for (name, value) in shared {
            chosen.set(name, value.clone());
        }
        if chosen.is_empty() {
            let shown = root.display();
            bail!(wrong(format!(
                "this search and that of `{shown}` have no hyperparameter in common"
            )));
        }
    }
    for name in names {
        let Some(value) = values.get(name) else {
            let shown = root.display();
            bail!(wrong(format!(
                "the best configuration of `{shown}` has no value of `{name}`"
            )));
        };
        chosen.set(name.as_str(), value.clone());
    }
    let known = |(name, value)| Some((space.find(name)?, value));
    for (hyperparameter, value) in chosen.iter().filter_map(known) {
        if hyperparameter.kind.typed(value).is_none() {
            let (name, expected) = (&hyperparameter.name, hyperparameter.kind.describe());
            let shown = root.display();
            bail!(wrong(format!(
                "the best configuration of `{shown}` does not fit this search: at `{name}`: expected {expected}, found {value}"
            )));
        }
    }
    Ok(chosen)
}
