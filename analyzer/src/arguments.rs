//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use shared::BudgetUnit;

use crate::correlation::RESAMPLES;
use crate::importance::Of;
use crate::table::Format;
use crate::trajectory::At;

/// Turn a search, or an HpBandSter log, into tables, plots and a report
///
/// Every command reads a search directory (also a running one, or a read-only copy), a directory made by `import`, or
/// an HpBandSter log as it is. Nothing that is read is changed. Data goes to stdout, remarks on unusable files to
/// stderr.
#[derive(Debug, Parser)]
#[command(version, help_expected = true, max_term_width = 100)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how rankings at each budget predict those at larger ones
    Correlation(CorrelationArgs),
    /// Show the best configuration at the largest budget
    Incumbent(IncumbentArgs),
    /// Show how the incumbent's loss fell with jobs, spent budget and time
    Trajectory(TrajectoryArgs),
    /// Show which hyperparameters matter, at each budget and around the best configuration
    Importance(ImportanceArgs),
    /// Show how losses develop while a job is trained
    LearningCurves(LearningCurvesArgs),
    /// Compare several searches, grouped by method or by name
    Compare(CompareArgs),
    /// Write everything there is to see into one HTML file, or single drawings
    Report(ReportArgs),
    /// Read another program's log or space
    #[command(subcommand)]
    Import(ImportCommand),
    /// Write results in another program's format
    #[command(subcommand)]
    Export(ExportCommand),
}

/// What most commands need.
#[derive(Debug, ClapArgs)]
pub struct Input {
    /// Search directory, imported directory, or HpBandSter log
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Arguments of `correlation`.
#[derive(Debug, ClapArgs)]
pub struct CorrelationArgs {
    /// Where the results are
    #[command(flatten)]
    pub input: Input,
    /// How the table is written; csv columns begin lower,upper,n,rho, and what does not exist is `-` (null in json)
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Resamples of the bootstrap interval
    #[arg(long, value_name = "N", default_value_t = RESAMPLES, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub resamples: u32,
    /// Seed of the bootstrap and of --extra
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Compare only the configurations listed in this file (ids separated by white space)
    #[arg(long, value_name = "FILE")]
    pub among: Option<PathBuf>,
    /// Instead of a table, make a search directory of configurations drawn at random, N of them not promoted to the
    /// largest budget, with the jobs that evaluate all of them at all budgets; needs --extra-out
    ///
    /// `trainer run FOLDER --once` then does the jobs, no scheduler is needed, and `analyzer correlation FOLDER` shows a
    /// table without the selection effect.
    #[arg(long, value_name = "N", requires = "extra_out", value_parser = clap::value_parser!(u32).range(1..))]
    pub extra: Option<u32>,
    /// New directory for --extra
    #[arg(long, value_name = "FOLDER", requires = "extra")]
    pub extra_out: Option<PathBuf>,
}

/// Arguments of `incumbent`.
#[derive(Debug, ClapArgs)]
pub struct IncumbentArgs {
    /// Where the results are
    #[command(flatten)]
    pub input: Input,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Which results may become the incumbent
    #[arg(long, value_enum, default_value_t = At::Reached)]
    pub at: At,
}

/// Arguments of `trajectory`.
#[derive(Debug, ClapArgs)]
pub struct TrajectoryArgs {
    /// Where the results are
    #[command(flatten)]
    pub input: Input,
    /// How it is written; one row for each change of the incumbent, and one for the last result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Which results may become the incumbent
    #[arg(long, value_enum, default_value_t = At::Reached)]
    pub at: At,
}

/// Arguments of `importance`.
#[derive(Debug, ClapArgs)]
pub struct ImportanceArgs {
    /// Where the results are
    #[command(flatten)]
    pub input: Input,
    /// How the table is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// At this budget only, in the search's unit; default: every budget that has at least 10 losses
    #[arg(long, value_name = "AMOUNT")]
    pub budget: Option<f64>,
    /// What the importance is of
    #[arg(long, value_enum, default_value_t = Of::Losses)]
    pub of: Of,
    /// Write marginal curves instead of shares: mean loss by value of each hyperparameter
    #[arg(long)]
    pub marginals: bool,
    /// Trees in each stage of the forest
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(4..=1000))]
    pub trees: u32,
    /// Fit the forest to at most this many losses, drawn at random
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    pub most_losses: u32,
    /// Seed of the forest
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Arguments of `learning-curves`.
#[derive(Debug, ClapArgs)]
pub struct LearningCurvesArgs {
    /// Where the results are
    #[command(flatten)]
    pub input: Input,
    /// How the table is written: one row for each point of each curve
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Jobs of this configuration only, such as c000012
    #[arg(long, value_name = "ID")]
    pub configuration: Option<shared::ConfigurationId>,
}

/// Arguments of `compare`.
#[derive(Debug, ClapArgs)]
pub struct CompareArgs {
    /// Search directories, imported directories, or HpBandSter logs
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Searches with the same of these are repetitions of each other
    #[arg(long, value_enum, default_value_t = GroupBy::Method)]
    pub by: GroupBy,
    /// What the searches are compared along
    #[arg(long, value_enum, default_value_t = Along::Spent)]
    pub along: Along,
    /// Which results may become the incumbent
    #[arg(long, value_enum, default_value_t = At::Reached)]
    pub at: At,
    /// Places at which they are compared, evenly spaced up to where the shortest search ends
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub points: u32,
    /// How the table is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Also draw the curves into this SVG file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// What makes searches repetitions of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// The search method: bohb, hyperband, random (a log of another program: its folder's name)
    Method,
    /// The search's name
    Name,
    /// Nothing: every search stands for itself
    Dir,
}

/// What searches are compared along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Along {
    /// Number of jobs that have a result
    Jobs,
    /// Budget spent by all jobs together
    Spent,
    /// Seconds since the first job started
    Wall,
}

/// Arguments of `report`.
#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("output").required(true).multiple(true))]
pub struct ReportArgs {
    /// Where the results are
    #[command(flatten)]
    pub input: Input,
    /// HTML file to write; it needs no network and opens from disk
    #[arg(long, value_name = "FILE", group = "output")]
    pub out: Option<PathBuf>,
    /// Folder for every drawing as an SVG file
    #[arg(long, value_name = "FOLDER", group = "output")]
    pub svg: Option<PathBuf>,
    /// Folder for every drawing as a PNG file of twice the size
    #[arg(long, value_name = "FOLDER", group = "output")]
    pub png: Option<PathBuf>,
    /// Seed of samples, intervals and forests
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// What to import.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Import an HpBandSter log (configs.json, results.json, and configspace.json if it is there)
    Hpbandster(ImportHpbandsterArgs),
    /// Translate a search space from ConfigSpace's JSON
    Configspace(ConfigspaceArgs),
}

/// Arguments of `import hpbandster`.
#[derive(Debug, ClapArgs)]
pub struct ImportHpbandsterArgs {
    /// Folder with configs.json and results.json
    #[arg(value_name = "LOGDIR")]
    pub log: PathBuf,
    /// New directory for the results
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// What the log's budgets are amounts of; not known unless given
    #[arg(long, value_enum)]
    pub unit: Option<Unit>,
}

/// Arguments of `import configspace` and `export configspace`.
#[derive(Debug, ClapArgs)]
pub struct ConfigspaceArgs {
    /// File to translate: ConfigSpace's JSON to import; a space file or a search file to export
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// A unit of budgets on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// Seconds of training
    Seconds,
    /// Passes over the training data
    Epochs,
    /// Optimizer steps
    Steps,
}

impl From<Unit> for BudgetUnit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Seconds => Self::Seconds,
            Unit::Epochs => Self::Epochs,
            Unit::Steps => Self::Steps,
        }
    }
}

/// What to export.
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Write an HpBandSter log, which HpBandSter and DeepCAVE read
    Hpbandster(ExportHpbandsterArgs),
    /// Write one row for each result: what came out, every hyperparameter, every measure
    Csv(ExportCsvArgs),
    /// Write one row for each result as a Parquet file, for pandas and polars; the columns are those of csv
    Parquet(ExportParquetArgs),
    /// Translate a search space to ConfigSpace's JSON
    Configspace(ConfigspaceArgs),
}

/// Arguments of `export hpbandster`.
#[derive(Debug, ClapArgs)]
pub struct ExportHpbandsterArgs {
    /// Where the results are
    #[command(flatten)]
    pub input: Input,
    /// Folder for configs.json, results.json and configspace.json
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

/// Arguments of `export csv`.
#[derive(Debug, ClapArgs)]
pub struct ExportCsvArgs {
    /// Where the results are
    #[command(flatten)]
    pub input: Input,
    /// File to write; stdout if not given
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Arguments of `export parquet`.
#[derive(Debug, ClapArgs)]
pub struct ExportParquetArgs {
    /// Where the results are
    #[command(flatten)]
    pub input: Input,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
