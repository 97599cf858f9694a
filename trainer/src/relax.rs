//! `trainer relax`: an architecture by gradients, as the first step of two.
//!
//! The sizes of the network (filters, widening factors, blocks, branches, kernels) are relaxed: the largest network of the
//! space is trained, each part of which is there with some probability, and these probabilities follow their gradient on
//! held-back images. The most probable configuration that the space allows is the result; `scheduler init --fix-from`
//! holds it fast while the rest is searched.
//!
//! | file | from what to what |
//! |--|--|
//! | `choices` | search space → values that are weighed against each other, and the largest network |
//! | `architecture` | parameters → probabilities; their steps |
//! | `gates` | probabilities → what the parts of the network are multiplied by, and the way back |
//! | `supernet` | the training, which alone has tensors |
//! | `discretise` | probabilities → one allowed configuration |
//!
//! # Source
//! Liu, Simonyan and Yang 2018 (DARTS), first order.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use data::{Dataset, Splits};
use shared::exit::{Code, Failure};
use shared::format::Record as _;
use shared::objective::{NetworkObjective, Objective};
use shared::search::REVISION;
use shared::wording::{count, grouped};
use shared::{Configuration, Error, Invalid, Search, SearchFile, Seed, cli, fs};
use tracing::info;

use self::choices::Choices;
use self::gates::Probabilities;
use self::supernet::{Diverged, Point, Relaxation};
use crate::Compute;
use crate::device::{self, Device, with_backend};
use crate::memory::{Footprint, mib};
use crate::minibatch::TrainingData;
use crate::network::Summary;
use crate::worker;

mod architecture;
mod choices;
mod discretise;
mod gates;
mod supernet;
#[cfg(test)]
mod tests;

/// What `trainer relax` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Search file whose objective is a network
    search: PathBuf,
    /// File to write: the architecture, name to value; one that is there is replaced
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
    /// Passes through the training images
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Seed of everything random; default: the search's own
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How and where to compute
    #[command(flatten)]
    compute: Compute,
}

/// Runs the subcommand.
///
/// # Errors
/// A search that trains no network, or in which nothing can be relaxed; data or a device that cannot be had; a network that does
/// not fit into memory, or whose training diverges: exit code 3. A file that cannot be written: 5.
pub fn run(args: &Args) -> Result<Code> {
    let path = args.search.as_path();
    let (search, objective) = read(path)?;
    let choice = args.compute.device;
    let device = choice
        .resolve()
        .map_err(|error| Failure::because(Code::BadInput, format!("--device {choice}"), error))?;
    device::set_threads(usize::from(args.compute.threads))
        .map_err(|error| Failure::because(Code::Unforeseen, "cannot start the threads", error))?;
    crate::self_test::ensure_passed(device)?;
    let splits = Dataset::load(&objective.data)
        .map_err(|error| Failure::because(Code::BadInput, "cannot load the data set", error))?;
    worker::check_space(&search, &splits)?;
    let choices = Choices::new(&search.space, splits.shape, splits.num_classes())
        .map_err(|invalid| wrong(path, invalid.within("space")))?;
    check_memory(&choices, &splits, device)?;
    let relaxation = Relaxation {
        data: &TrainingData::new(&splits),
        choices: &choices,
        settings: &objective.training,
        epochs: args.epochs,
        seed: args.seed.map_or(search.seed, Seed::new),
    };
    let probabilities = optimise(&relaxation, device).map_err(|Diverged { step }| {
        let message = format!(
            "the relaxed network's loss is no number any more after step {step}: a narrower range of `learning_rate` has a \
             smaller one in its middle"
        );
        Failure::new(Code::BadInput, message)
    })?;
    let Some(configuration) = discretise::discretise(&choices, &probabilities) else {
        let message = "no probable configuration is allowed by the space and makes a network";
        return Err(Failure::new(Code::BadInput, message).into());
    };
    let result = choices.result_of(&configuration);
    let json = serde_json::to_string_pretty(&result)?;
    fs::replace(&args.out, format!("{json}\n").as_bytes())?;
    cli::print(&table(&choices, &probabilities, &result, args))?;
    Ok(Code::Done)
}

/// Reads a search file and what it says of a network.
fn read(path: &Path) -> Result<(Search, NetworkObjective)> {
    let mut file = SearchFile::read(path)?;
    let folder = file.working_directory.take(); // for data alone
    file.revision.get_or_insert(REVISION);
    let search = Search::check(&file).map_err(|source| Error::Value {
        path: path.to_path_buf(),
        format: SearchFile::FORMAT,
        source,
    })?;
    let mut objective = match &search.objective {
        Objective::Network(objective) => objective.clone(),
        Objective::Command(_) => return Err(no_network(path, "`command`").into()),
        Objective::Benchmark(_) => return Err(no_network(path, "`benchmark`").into()),
    };
    if let Some(folder) = folder {
        let folder = path.parent().unwrap_or(Path::new("")).join(folder);
        let data = &mut objective.data;
        for file in [&mut data.path, &mut data.cache].into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
    Ok((search, objective))
}

fn no_network(path: &Path, found: &str) -> Error {
    let expected = "`network`: only the built-in network can be relaxed";
    wrong(path, Invalid::new("objective", expected, found))
}

fn wrong(path: &Path, invalid: Invalid) -> Error {
    Error::Value {
        path: path.to_path_buf(),
        format: SearchFile::FORMAT,
        source: invalid.into(),
    }
}

/// Says how large the relaxed network is, and refuses one that does not fit.
fn check_memory(choices: &Choices, splits: &Splits, device: Device) -> Result<(), Failure> {
    let summary = Summary::new(&choices.largest);
    let batch = choices.training.batch_size;
    let held_back = batch.min(splits.validation.len());
    let batch = batch.min(splits.train.len());
    let needed = Footprint::new(&summary, &choices.training, batch.max(held_back), 0).total();
    let relaxed = choices.all.iter().filter(|choice| choice.levels.len() > 1);
    let parameters = grouped(summary.parameters(), ' ');
    info!(
        "relaxing {} in a network of {parameters} parameters, which needs {:.1} MiB with batches of {batch}",
        count(relaxed.count(), "hyperparameter"),
        mib(needed)
    );
    match device.available_memory() {
        Some(available) if available < needed => {
            let message = format!(
                "the relaxed network needs {:.1} MiB, and {:.1} MiB are available: lower the largest values of \
                 `initial_filters`, `widen_factor_…`, `nr_residual_blocks_…` or `res_branches_…`",
                mib(needed),
                mib(available)
            );
            Err(Failure::new(Code::BadInput, message))
        }
        _ => Ok(()),
    }
}

fn optimise(relaxation: &Relaxation<'_>, device: Device) -> Result<Probabilities, Diverged> {
    let epochs = u64::from(relaxation.epochs);
    let mut tell = |point: Point, _: &Probabilities| {
        // Ten times in all.
        if point.epoch * 10 / epochs > (point.epoch - 1) * 10 / epochs {
            let held_back = point.held_back.map_or_else(String::new, |loss| {
                format!(", {loss:.4} on held-back images")
            });
            let Point {
                epoch, training, ..
            } = point;
            info!("epoch {epoch} of {epochs}: loss {training:.4}{held_back}");
        }
    };
    with_backend!(device, |B, place| {
        supernet::optimise::<B>(relaxation, place, &mut tell)
    })
}

/// What was found, for people.
fn table(
    choices: &Choices,
    probabilities: &Probabilities,
    result: &Configuration,
    args: &Args,
) -> String {
    let mut text = format!("{:24} {:>8}  probability\n", "hyperparameter", "value");
    for (name, value) in result.iter() {
        let place = choices.all.iter().position(|choice| choice.name == name);
        let probability = place.and_then(|place| {
            let levels = &choices.all[place].levels;
            let level = levels.iter().position(|level| level.same(value))?;
            (levels.len() > 1).then(|| format!("{:.3}", probabilities[place][level]))
        });
        let (value, probability) = (value.to_string(), probability.unwrap_or_default());
        let line = format!("{name:24} {value:>8}  {probability}");
        text += line.trim_end();
        text.push('\n');
    }
    let (search, out) = (args.search.display(), args.out.display());
    writeln!(
        text,
        "\nwritten to {out}; the rest is searched with: scheduler init {search} DIR --fix-from {out}"
    )
    .expect("a string takes everything");
    text
}
