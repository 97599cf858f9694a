//! The trainer: claims a job, evaluates it to its budget, publishes the result.
//!
//! | module | what it is for |
//! |--|--|
//! | [`run`], [`claims`], [`control`], [`heartbeat`], [`watchdog`], [`time_limit`] | the supervisor: claims, warnings, heartbeats |
//! | [`evaluator`], [`assignment`], [`resume`], [`outcome`] | has a worker process do a job, and judges how that ended |
//! | [`adapt`] | `tandem-run`: an unchanged script as a worker |
//! | [`job`], [`describe`] | one job by hand; what a configuration is before it is trained |
//! | [`worker`], [`objective`] | the process that trains; what this program evaluates by itself |
//! | [`hyperparameters`], [`network`], [`memory`] | configuration → network, its size, its memory |
//! | [`train`], [`schedule`], [`augment`], [`batch`], [`checkpoint`] | the training |
//! | [`trained`], [`finished`] | a trained network: its scores, its weights for PyTorch |
//! | [`operators`] | convolution and batch norm for the CPU |
//! | [`device`], [`self_test`] | CPU or GPU, chosen when the program runs, and whether it computes right |

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use shared::ConfigurationId;
use shared::cli::{self, Format};
use shared::exit::{Code, Failure};

use crate::device::DeviceChoice;
use data::ImageShape;

pub mod adapt;
mod assignment;
pub mod augment;
pub mod batch;
pub mod checkpoint;
mod claims;
pub mod control;
pub mod describe;
pub mod device;
pub mod evaluator;
pub mod finished;
pub mod heartbeat;
pub mod hyperparameters;
pub mod job;
pub mod memory;
pub mod network;
pub mod objective;
pub mod operators;
pub mod outcome;
mod resume;
pub mod run;
pub mod schedule;
pub mod self_test;
pub mod time_limit;
pub mod train;
pub mod trained;
mod watchdog;
pub mod worker;

/// Train networks: claim jobs of a search, evaluate them to their budget, publish the results
#[derive(Debug, Parser)]
#[command(name = "trainer", version, help_expected = true)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What the trainer can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Claim and evaluate jobs until the search is finished
    ///
    /// Leaves with exit code 0 when the search is finished or stopped, and with 75 after SIGUSR1, SIGUSR2, SIGTERM or
    /// SIGINT, or when the SLURM job is about to end: the job in hand is then saved and given back.
    Run {
        /// Search directory, as made by `scheduler init`
        #[arg(value_name = cli::DIRECTORY)]
        directory: PathBuf,
        /// How and where to compute
        #[command(flatten)]
        compute: Compute,
        /// Leave as soon as no job is open
        #[arg(long)]
        once: bool,
        /// Longest time between two looks at the directory, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = cli::seconds)]
        poll_s: f64,
    },
    /// Evaluate one job file by hand: nothing is claimed, the outcome is printed as JSON
    Job {
        /// A job file, such as DIR/jobs/open/c000000-r0-a1.json
        file: PathBuf,
        /// Search directory that the file belongs to; default: the one that it lies in
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
        /// How and where to compute
        #[command(flatten)]
        compute: Compute,
    },
    /// Train networks, one job file after the other as named on standard input: what `run` starts
    #[command(hide = true)]
    Worker {
        /// Search directory
        #[arg(value_name = cli::DIRECTORY)]
        directory: PathBuf,
        /// How and where to compute
        #[command(flatten)]
        compute: Compute,
    },
    /// Compare what the device computes with what the CPU computes: convolutions, norms, a training of two steps
    ///
    /// `run` does the same once for each device, driver and program before its first job. Leaves with exit code 3 and the
    /// name of the operation where a result is wrong.
    SelfTest {
        /// How and where to compute
        #[command(flatten)]
        compute: Compute,
    },
    /// Show the network of a configuration layer by layer: shapes, parameters, multiply-adds, memory
    ///
    /// Nothing is trained. Says so where the training would not fit into this machine's free memory.
    Describe {
        /// Search space file, such as data/spaces/joint-resnet.json
        #[arg(required_unless_present = "known")]
        space: Option<PathBuf>,
        /// Configuration file: one JSON object, name to value
        #[arg(required_unless_present = "known")]
        configuration: Option<PathBuf>,
        /// List the published networks that `start_with` may name, instead
        #[arg(long, conflicts_with_all = ["space", "configuration"])]
        known: bool,
        /// Output format
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Shape of an image: channels, height, width in pixels
        #[arg(long, value_name = "CxHxW", default_value = "3x32x32", value_parser = image_shape)]
        image: ImageShape,
        /// Number of classes
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
        classes: u16,
    },
    /// Write the weights of a finished training as a safetensors file that PyTorch loads
    ///
    /// Those of the configuration's highest rung, which must be the full budget: other trainings do not keep theirs.
    /// docs/export.md has the few lines of PyTorch.
    Export {
        /// Search directory
        #[arg(value_name = cli::DIRECTORY)]
        directory: PathBuf,
        /// Id of the configuration, such as c000123
        configuration: ConfigurationId,
        /// File to write; one that is there is replaced
        #[arg(long, value_name = "FILE.safetensors")]
        out: PathBuf,
    },
    /// Show what a finished training makes of images
    ///
    /// Each image is brought to the size and the colours of the data set that was trained on, and normalised as in
    /// training. The scores are the network's output; their softmax are probabilities.
    Predict {
        /// Search directory
        #[arg(value_name = cli::DIRECTORY)]
        directory: PathBuf,
        /// Id of the configuration, such as c000123
        configuration: ConfigurationId,
        /// An image, or a folder with images in it and in its folders (.png, .jpg, .jpeg)
        images: PathBuf,
        /// Output format
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
}

fn image_shape(text: &str) -> Result<ImageShape, String> {
    let numbers: Vec<usize> = text
        .split('x')
        .filter_map(|part| part.parse().ok())
        .collect(); // counted below
    match numbers[..] {
        [channels @ 1..=1024, height @ 1..=4096, width @ 1..=4096]
            if text.matches('x').count() == 2 =>
        {
            Ok(ImageShape {
                channels,
                height,
                width,
            })
        }
        _ => Err("expected channels, height and width, such as 3x32x32".to_owned()),
    }
}

/// How and where to compute.
#[derive(Debug, clap::Args)]
pub struct Compute {
    /// Device to compute on; `auto` takes a GPU if there is one that works, else the CPU
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Threads to compute with on the CPU; several trainers with one each do more than one with several
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
}

impl From<&Compute> for evaluator::Compute {
    fn from(compute: &Compute) -> Self {
        Self {
            device: compute.device,
            threads: compute.threads,
        }
    }
}

/// Runs the program.
///
/// # Errors
/// With the exit code of [`shared::exit`].
pub fn main(args: Args) -> anyhow::Result<Code> {
    match args.command {
        Command::Run {
            directory,
            compute,
            once,
            poll_s,
        } => {
            let settings = run::Settings {
                is_once: once,
                longest_poll: Duration::from_secs_f64(poll_s),
            };
            run::run(&directory, (&compute).into(), &settings)
        }
        Command::Job {
            file,
            directory,
            compute,
        } => {
            let (code, text) = job::run(&file, directory.as_deref(), (&compute).into())?;
            cli::print(&text)?;
            Ok(code)
        }
        Command::SelfTest { compute } => {
            cli::print(&self_test::report(compute.device)?)?;
            Ok(Code::Done)
        }
        Command::Worker { directory, compute } => {
            device::set_threads(usize::from(compute.threads)).map_err(|error| {
                Failure::because(Code::Unforeseen, "cannot start the threads", error)
            })?;
            worker::run(&directory, compute.device)
        }
        Command::Describe {
            space,
            configuration,
            known: _,
            format,
            image,
            classes,
        } => {
            let files = space.as_deref().zip(configuration.as_deref());
            let classes = usize::from(classes);
            cli::print(&describe::text(files, image, classes, format)?)?;
            Ok(Code::Done)
        }
        Command::Export {
            directory,
            configuration,
            out,
        } => {
            finished::export(&directory, configuration, &out)?;
            Ok(Code::Done)
        }
        Command::Predict {
            directory,
            configuration,
            images,
            format,
        } => {
            let predictions = finished::predict(&directory, configuration, &images)?;
            cli::print(&match format {
                Format::Table => predictions.table(),
                Format::Json => format!("{:#}\n", predictions.json()),
            })?;
            Ok(Code::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
