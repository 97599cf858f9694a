//! `analyzer export`

use std::path::PathBuf;

use anyhow::Result;
use shared::cli::print;
use shared::exit::{Code, Failure};
use shared::space::SpaceFile;
use shared::{Configuration, fs};

use super::import::ConfigspaceArgs;
use super::{Input, opened};
use crate::load::Wanted;
use crate::{configspace, hpbandster, optuna, rows, tensorboard};

/// What to export.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write an HpBandSter log, which HpBandSter and DeepCAVE read
    Hpbandster(HpbandsterArgs),
    /// Write one row for each result: what came out, every hyperparameter, every measure
    Csv(CsvArgs),
    /// Write one row for each result as a Parquet file, for pandas and polars; the columns are those of csv
    Parquet(ParquetArgs),
    /// Write an Optuna journal, which optuna-dashboard and Optuna's plots open: a trial for each configuration
    Optuna(OptunaArgs),
    /// Write TensorBoard's event files: a run for each job with its learning curve and hyperparameters
    Tensorboard(TensorboardArgs),
    /// Translate a search space to ConfigSpace's JSON
    Configspace(ConfigspaceArgs),
}

/// Arguments of `export hpbandster`.
#[derive(Debug, clap::Args)]
pub(crate) struct HpbandsterArgs {
    /// Where the results are
    #[command(flatten)]
    input: Input,
    /// Folder for configs.json, results.json and configspace.json
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// Arguments of `export csv`.
#[derive(Debug, clap::Args)]
pub(crate) struct CsvArgs {
    /// Where the results are
    #[command(flatten)]
    input: Input,
    /// File to write; stdout if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Arguments of `export parquet`.
#[derive(Debug, clap::Args)]
pub(crate) struct ParquetArgs {
    /// Where the results are
    #[command(flatten)]
    input: Input,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Arguments of `export optuna`.
#[derive(Debug, clap::Args)]
pub(crate) struct OptunaArgs {
    /// Where the results are
    #[command(flatten)]
    input: Input,
    /// File to write; `JournalStorage(JournalFileBackend(FILE))` reads it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Arguments of `export tensorboard`.
#[derive(Debug, clap::Args)]
pub(crate) struct TensorboardArgs {
    /// Where the results are
    #[command(flatten)]
    input: Input,
    /// Folder to write into; `tensorboard --logdir FOLDER` shows it
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// Runs `export`.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Hpbandster(args) => hpbandster(args),
        Command::Csv(args) => csv(args),
        Command::Parquet(args) => parquet(args),
        Command::Optuna(args) => optuna(args),
        Command::Tensorboard(args) => tensorboard(args),
        Command::Configspace(args) => configspace(args),
    }
}

fn hpbandster(args: &HpbandsterArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::ALL)?;
    hpbandster::export(&history, &args.out)
}

fn csv(args: &CsvArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::ALL)?;
    let text = rows::csv(&history)?;
    match &args.out {
        Some(path) => Ok(fs::replace(path, text.as_bytes())?),
        None => print(&text),
    }
}

fn parquet(args: &ParquetArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::ALL)?;
    Ok(fs::replace(&args.out, &rows::parquet(&history)?)?)
}

fn optuna(args: &OptunaArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::ALL)?;
    Ok(fs::replace(
        &args.out,
        optuna::journal(&history)?.as_bytes(),
    )?)
}

fn tensorboard(args: &TensorboardArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::ALL)?;
    tensorboard::write(&history, &args.out)
}

fn configspace(args: &ConfigspaceArgs) -> Result<()> {
    let bytes = fs::read_named(&args.file)?;
    let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok(); // what is wrong with it is said below
    let is_search = json.is_some_and(|json| json.get("objective").is_some());
    let (space, fix) = if is_search {
        let search: shared::SearchFile = shared::format::from_bytes(&args.file, &bytes)?;
        let space = search.space.ok_or_else(|| {
            let other = search.space_file.unwrap_or_default();
            let message = format!(
                "`{}` holds no space: export its `space_file`, `{other}`",
                args.file.display()
            );
            Failure::new(Code::BadInput, message)
        })?;
        (space, search.fix)
    } else {
        let space: SpaceFile = shared::format::from_bytes(&args.file, &bytes)?;
        (space, Configuration::default())
    };
    // What a search fixes is constant in its space.
    let checked = shared::SearchSpace::new(&space).and_then(|space| space.fix(&fix));
    let space = checked.map_err(|source| shared::Error::Value {
        path: args.file.clone(),
        format: "space",
        source: source.into(),
    })?;
    let name = args.file.file_stem().unwrap_or_default().to_string_lossy();
    let json = configspace::to_json(&space, &name, configspace::Generation::One)?;
    fs::replace(&args.out, format!("{json:#}\n").as_bytes())?;
    Ok(())
}
