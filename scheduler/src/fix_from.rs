//! The second of two steps: hyperparameters fixed at the best values that a first search, or `trainer relax`, found.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use shared::error::{Error, Invalid};
use shared::exit::{Code, Failure};
use shared::system::FileKind;
use shared::{
    Configuration, ConfigurationId, Directory, JobResult, Search, SearchFile, SearchSpace, format,
    fs,
};
use tracing::warn;

/// Arguments for searches in two steps.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FixArgs {
    /// A search directory whose best configuration gives values to be fixed in this search; or a file with values
    ///
    /// The best is the one with the smallest loss at the largest budget. A file has one JSON object, name to value, as
    /// `trainer relax` writes it. The values become part of `search.json`.
    #[arg(long, value_name = "DIR|FILE")]
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
        let is_file = match fs::file_kind(root) {
            Ok(Some(FileKind::Other)) => true,
            Ok(Some(FileKind::Link)) => root.is_file(),
            Ok(Some(FileKind::Folder) | None) | Err(_) => false, // which reading complains of
        };
        let first = if is_file {
            First::of_file(root)?
        } else {
            First::of_search(root)?
        };
        // A space that is wrong is reported with its place later.
        let Ok(space) = SearchSpace::new(space) else {
            return Ok(());
        };
        let chosen = choose(&space, &first, &self.fix)?;
        let rest = space.dimensions().any(|h| !chosen.0.contains_key(&h.name));
        if !rest {
            let message =
                "every hyperparameter would be fixed: name those that are to be with --fix";
            bail!(Failure::new(Code::Usage, message));
        }
        for (name, value) in chosen.0 {
            file.fix.0.entry(name).or_insert(value);
        }
        file.fixed_from = Some(first.origin);
        Ok(())
    }
}

/// What the first step found.
struct First {
    values: Configuration,
    /// Where it is from, as written into the search file.
    origin: String,
    /// What it is, for messages.
    what: String,
    /// The file or search, for messages.
    whose: String,
}

impl First {
    /// What a file says.
    fn of_file(path: &Path) -> Result<Self> {
        let bytes = fs::read_named(path)?;
        let json: serde_json::Value = format::parse(&bytes).map_err(|source| Error::Syntax {
            path: path.to_path_buf(),
            source,
        })?;
        let found = json.to_string();
        let values = serde_json::from_value(json).map_err(|_no_object| {
            let expected = "an object of hyperparameters, name and value";
            Error::Value {
                path: path.to_path_buf(),
                format: "configuration",
                source: Invalid::new("", expected, found).into(),
            }
        })?;
        let shown = format!("`{}`", path.display());
        Ok(Self {
            values,
            origin: shown.clone(),
            what: shown.clone(),
            whose: shown,
        })
    }

    /// The best that a search has found.
    fn of_search(root: &Path) -> Result<Self> {
        let shown = format!("`{}`", root.display());
        let first = Directory::observe(root)?;
        if !first.flags()?.is_finished {
            warn!("the search in {shown} is not finished");
        }
        let results = first.all_results()?;
        let Some((id, values)) = best(first.search(), &results) else {
            let message = format!("no job at the largest budget of {shown} has a loss");
            bail!(Failure::new(Code::BadInput, message));
        };
        Ok(Self {
            values: values.clone(),
            origin: format!("{id} of `{}`", first.search().name),
            what: format!("the best configuration of {shown}"),
            whose: format!("that of {shown}"),
        })
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
fn choose(space: &SearchSpace, first: &First, names: &[String]) -> Result<Configuration> {
    let First {
        values,
        what,
        whose,
        ..
    } = first;
    let wrong = |message: String| Failure::new(Code::BadInput, message);
    let mut chosen = Configuration::default();
    if names.is_empty() {
        let shared = values.iter().filter(|(name, _)| space.find(name).is_some());
        for (name, value) in shared {
            chosen.set(name, value.clone());
        }
        if chosen.is_empty() {
            bail!(wrong(format!(
                "this search and {whose} have no hyperparameter in common"
            )));
        }
    }
    for name in names {
        let Some(value) = values.get(name) else {
            bail!(wrong(format!("{what} has no value of `{name}`")));
        };
        chosen.set(name.as_str(), value.clone());
    }
    let known = |(name, value)| Some((space.find(name)?, value));
    for (hyperparameter, value) in chosen.iter().filter_map(known) {
        if hyperparameter.kind.typed(value).is_none() {
            let (name, expected) = (&hyperparameter.name, hyperparameter.kind.describe());
            bail!(wrong(format!(
                "{what} does not fit this search: at `{name}`: expected {expected}, found {value}"
            )));
        }
    }
    Ok(chosen)
}
