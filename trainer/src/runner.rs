//! The search's objective, made ready once, then asked to evaluate job after job.

use data::{Dataset, Splits};
use shared::exit::{Code, Failure};
use shared::objective::{NetworkObjective, Objective};
use shared::{Configuration, Search, Seed};

use crate::batch::Images;
use crate::device::{Device, DeviceChoice};
use crate::hyperparameters;
use crate::network::ImageShape;
use crate::objective::benchmark::BenchmarkRunner;
use crate::objective::command::{CommandRunner, Place};
use crate::objective::network::{NetworkTrainer, training_data};
use crate::objective::{Control, Ended, Task};

/// What evaluates jobs.
#[derive(Debug)]
pub enum Runner {
    /// Trains networks.
    Network {
        /// How.
        objective: NetworkObjective,
        /// On what data.
        splits: Box<Splits>,
        /// On what device.
        device: Device,
    },
    /// Runs a program.
    Command(CommandRunner),
    /// Evaluates a function.
    Benchmark(BenchmarkRunner),
}

impl Runner {
    /// Loads the data and finds the device, if the objective needs them.
    ///
    /// # Errors
    /// The data set is missing or damaged, or the device cannot be had: exit code 3.
    pub fn new(search: &Search, choice: DeviceChoice) -> anyhow::Result<Self> {
        match &search.objective {
            Objective::Network(objective) => {
                let device = choice.found()?;
                crate::self_test::run(device)?;
                let splits = Dataset::load(&objective.data)
                    .map_err(|e| Failure::because(Code::BadInput, "cannot load the data set", e))?;
                check_space(search, &splits)?;
                Ok(Self::Network {
                    objective: objective.clone(),
                    splits: Box::new(splits),
                    device,
                })
            }
            Objective::Command(command) => {
                Ok(Self::Command(CommandRunner::new(command.command.clone())))
            }
            Objective::Benchmark(objective) => {
                let max_budget = search.ladder.budget(search.ladder.top()).amount;
                let seed = search.seed.child("benchmark", &objective.name);
                let runner = BenchmarkRunner::new(objective, max_budget, seed)?;
                let lowest = search
                    .space
                    .decode(&vec![0.0; search.space.num_dimensions()]);
                runner.check(&lowest).map_err(|error| {
                    let message = "the search space does not fit the benchmark function";
                    Failure::because(Code::BadInput, message, error)
                })?;
                Ok(Self::Benchmark(runner))
            }
        }
    }

    /// What it computes on, for heartbeats and results.
    pub fn device(&self) -> String {
        match self {
            Self::Network { device, .. } => device.to_string(),
            Self::Command(_) | Self::Benchmark(_) => "cpu".to_owned(),
        }
    }

    /// What the results are made from, by name, for people.
    pub fn notes(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Network { splits, .. } => vec![("data_digest", splits.digest.to_string())],
            Self::Command(_) | Self::Benchmark(_) => Vec::new(),
        }
    }

    /// Whether a job that is interrupted can go on from where it was.
    pub fn can_continue(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Benchmark(_) => true,
            // Only the program knows.
            Self::Command(_) => false,
        }
    }

    /// Whether jobs are evaluated in this very process and may take all memory it can have.
    pub fn trains(&self) -> bool {
        matches!(self, Self::Network { .. })
    }

    /// The outcome of a job for which this process had no memory left.
    pub fn exhausted(&self, configuration: &Configuration) -> Ended {
        match self {
            Self::Network {
                objective,
                splits,
                device,
            } => trainer_of(objective, splits, *device).exhausted(configuration),
            Self::Command(_) | Self::Benchmark(_) => Ended::Crashed {
                message: "there was no memory left".to_owned(),
            },
        }
    }

    /// Evaluates one job.
    ///
    /// # Errors
    /// This machine or its files fail; whatever the configuration itself does wrong is an [`Ended`].
    pub fn evaluate(
        &self,
        task: &Task,
        place: &Place,
        control: &mut dyn Control,
    ) -> anyhow::Result<Ended> {
        match self {
            Self::Network {
                objective,
                splits,
                device,
            } => trainer_of(objective, splits, *device).evaluate(task, control),
            Self::Command(runner) => runner.evaluate(task, place, control),
            Self::Benchmark(runner) => runner.evaluate(task, control),
        }
    }
}

fn trainer_of<'a>(
    objective: &NetworkObjective,
    splits: &'a Splits,
    device: Device,
) -> NetworkTrainer<'a> {
    NetworkTrainer {
        data: data_of(splits),
        data_digest: splits.digest.to_string(),
        settings: objective.training.clone(),
        device,
    }
}

/// Finds out before the first job whether the network knows every hyperparameter of the space, with all its values.
fn check_space(search: &Search, splits: &Splits) -> anyhow::Result<()> {
    /// Draws from the space, so that conditional hyperparameters are seen too.
    const NUM_DRAWS: usize = 64;
    let space = &search.space;
    let mut rng = Seed::new(0).child("space check", "").rng();
    let corners = [0.0, 1.0].map(|coordinate| vec![coordinate; space.num_dimensions()]);
    let draws = (0..NUM_DRAWS).map(|_| space.sample(&mut rng));
    for vector in corners.into_iter().chain(draws) {
        let configuration = space.decode(&vector);
        let read = hyperparameters::read(&configuration, shape_of(splits), splits.num_classes());
        // Too many channels is one point's fault; a name or range is the space's.
        if let Err(invalid) = read
            && !invalid.at.starts_with("widen_factor")
        {
            let message = "the search space does not fit the network";
            return Err(Failure::because(Code::BadInput, message, invalid).into());
        }
    }
    Ok(())
}

/// The shape of a data set's images.
pub(crate) fn shape_of(splits: &Splits) -> ImageShape {
    ImageShape {
        channels: splits.shape.channels,
        height: splits.shape.height,
        width: splits.shape.width,
    }
}

/// The data of a training.
pub(crate) fn data_of(splits: &Splits) -> crate::batch::TrainingData<'_> {
    fn images(images: &data::Images) -> Images<'_> {
        Images {
            pixels: &images.images,
            labels: &images.labels,
        }
    }
    let shape = shape_of(splits);
    training_data(
        images(&splits.train),
        images(&splits.validation),
        splits.test.as_ref().map(images),
        shape,
        splits.num_classes(),
        &splits.normalisation.mean,
        &splits.normalisation.std,
    )
}

/// The seed of a configuration's training: the same at every rung and attempt.
pub fn training_seed(search: &Search, configuration: shared::ConfigurationId) -> Seed {
    search.seed.child("training", configuration)
}
