//! `analyzer import`

use std::path::PathBuf;

use anyhow::Result;
use shared::cli::report;
use shared::fs;

use crate::wording::count;
use crate::{configspace, hpbandster};

/// What to import.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Import an HpBandSter log (configs.json, results.json, and configspace.json if it is there)
    Hpbandster(HpbandsterArgs),
    /// Translate a search space from ConfigSpace's JSON
    Configspace(ConfigspaceArgs),
}

/// Arguments of `import hpbandster`.
#[derive(Debug, clap::Args)]
pub(crate) struct HpbandsterArgs {
    /// Folder with configs.json and results.json
    #[arg(value_name = "LOGDIR")]
    log: PathBuf,
    /// New directory for the results
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// What the log's budgets are amounts of; not known unless given
    #[arg(long, value_enum)]
    unit: Option<Unit>,
}

/// Arguments of `import configspace` and `export configspace`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigspaceArgs {
    /// File to translate: ConfigSpace's JSON to import; a space file or a search file to export
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

/// A unit of budgets on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Unit {
    /// Seconds of training
    Seconds,
    /// Seconds of training in CPU time
    CpuSeconds,
    /// Passes over the training data
    Epochs,
    /// Optimizer steps
    Steps,
}

impl From<Unit> for shared::BudgetUnit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Seconds => Self::Seconds,
            Unit::CpuSeconds => Self::CpuSeconds,
            Unit::Epochs => Self::Epochs,
            Unit::Steps => Self::Steps,
        }
    }
}

/// Runs `import`.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Hpbandster(args) => hpbandster(args),
        Command::Configspace(args) => configspace(args),
    }
}

fn hpbandster(args: &HpbandsterArgs) -> Result<()> {
    let history = hpbandster::read(&args.log, args.unit.map(Into::into))?;
    for problem in history.problems.lines() {
        tracing::warn!("{problem}");
    }
    hpbandster::import(&history, &args.out)?;
    report(&format!(
        "imported {} of {} into `{}`",
        count(history.results.len(), "result"),
        count(history.configurations.len(), "configuration"),
        args.out.display()
    ));
    Ok(())
}

fn configspace(args: &ConfigspaceArgs) -> Result<()> {
    let read = configspace::from_json(&args.file, &fs::read_named(&args.file)?)?;
    for note in &read.notes {
        tracing::warn!("`{}`: {note}", args.file.display());
    }
    fs::replace_record(&args.out, &read.space)?;
    Ok(())
}
