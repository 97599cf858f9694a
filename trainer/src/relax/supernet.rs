//! The relaxed network's training: weights on training images and the architecture's parameters on images that are held
//! back, in turn.
//!
//! Weights are trained in one architecture at a time, drawn from the probabilities (Dong and Yang 2019). In a mixture of all
//! of them they would make up for their gates, twice as large where a gate is a half, and no gate would matter. The
//! parameters follow their derivative in the mixture, which says of every level what more of it would change.

use burn::module::Module as _;
use burn::tensor::{Tensor, TensorData};
use rand_chacha::ChaCha12Rng;
use shared::objective::TrainingSettings;
use shared::{Budget, BudgetUnit, Seed};

use super::architecture::Parameters;
use super::choices::Choices;
use super::gates::{self, Gates, Probabilities};
use crate::hyperparameters::TrainingConfig;
use crate::minibatch::{Batch, TrainingData};
use crate::network::{self, GroupGates, Network, weights};
use crate::operators::TrainingBackend;
use crate::schedule::Schedule;
use crate::train::{Optimizer, Training, loss};

/// The share of the steps in which weights are trained alone, since random weights say nothing of an architecture.
const WARM_UP: f64 = 0.2;

/// Everything that determines what is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relaxation<'a> {
    pub(super) data: &'a TrainingData<'a>,
    pub(super) choices: &'a Choices,
    pub(super) settings: &'a TrainingSettings,
    /// Passes through the training images.
    pub(super) epochs: u32,
    pub(super) seed: Seed,
}

/// How far it is after an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Epochs done.
    pub(super) epoch: u64,
    /// Mean cross-entropy of the epoch's training batches.
    pub(super) training: f64,
    /// The same of images that are held back, once the architecture's parameters are learnt.
    pub(super) held_back: Option<f64>,
}

/// The loss is no number any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Diverged {
    pub(super) step: u64,
}

/// Trains to the end; returns the probabilities of all levels.
pub(super) fn optimise<B: TrainingBackend>(
    relaxation: &Relaxation<'_>,
    device: &B::Device,
    tell: &mut dyn FnMut(Point, &Probabilities),
) -> Result<Probabilities, Diverged> {
    let Relaxation { data, choices, .. } = *relaxation;
    let held_back_data = TrainingData {
        training: data.validation,
        ..data.clone()
    };
    let plain_config = TrainingConfig {
        mixup_alpha: 0.0,
        cutout_length: 0,
        label_smoothing: 0.0,
        ..choices.training.clone()
    };
    let plain_settings = TrainingSettings {
        flip: false,
        crop_padding: 0,
        ..relaxation.settings.clone()
    };
    let training = relaxation.training(data, &choices.training, relaxation.settings, "weights");
    let held_back = relaxation.training(
        &held_back_data,
        &plain_config,
        &plain_settings,
        "architecture",
    );
    let batches = training.batches();
    let per_epoch = batches.steps_per_epoch();
    let steps = per_epoch * u64::from(relaxation.epochs);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of the steps"
    )]
    let warm_up = (steps as f64 * WARM_UP) as u64;
    let mut state = State::<B> {
        network: relaxation.network(device),
        optimizer: Optimizer::new(&choices.training),
        parameters: Parameters::new(choices, steps - warm_up),
        rng: relaxation.seed.child("relax", "architectures").rng(),
    };
    std::thread::scope(|scope| {
        let batches = batches.spawn(scope, 0);
        let others = held_back.batches().spawn(scope, 0);
        let next = |from: &std::sync::mpsc::Receiver<Batch>| from.recv().expect("made without end");
        let mut losses = Losses::default();
        for step in 0..steps {
            if step >= warm_up {
                let loss = state.learn_architecture(next(&others), &held_back, choices, device);
                losses.held_back.push(loss);
            }
            let spent = step as f64 / per_epoch as f64;
            let rate = choices.training.learning_rate * training.schedule.fraction(spent);
            let loss;
            (state, loss) =
                state.learn_weights(next(&batches), &training, choices, rate, step, device);
            losses.training.push(loss);
            if losses.are_lost(relaxation.settings.divergence_bound) {
                return Err(Diverged { step });
            }
            if (step + 1) % per_epoch == 0 {
                let point = losses.take((step + 1) / per_epoch);
                tell(point, &state.parameters.probabilities());
            }
        }
        Ok(state.parameters.probabilities())
    })
}

impl<'a> Relaxation<'a> {
    fn training(
        &self,
        data: &'a TrainingData<'a>,
        config: &'a TrainingConfig,
        settings: &'a TrainingSettings,
        purpose: &str,
    ) -> Training<'a> {
        let amount = f64::from(self.epochs);
        Training {
            data,
            network: &self.choices.largest,
            config,
            settings,
            budget: Budget {
                amount,
                unit: BudgetUnit::Epochs,
            },
            checks: &[],
            schedule: Schedule::new(amount, 0, &[]).with_warm_up(config.warm_up),
            seed: self.seed.child("relax", purpose),
            identity: String::new(), // nothing is resumed
            is_compiled: false,
            images_fit: false,
        }
    }

    fn network<B: TrainingBackend>(&self, device: &B::Device) -> Network<B> {
        let mut rng: ChaCha12Rng = self.seed.child("relax", "network").rng();
        Network::new(&self.choices.largest, &mut rng, device)
    }
}

/// The losses of an epoch's steps.
#[derive(Debug, Default)]
struct Losses {
    training: Vec<f64>,
    held_back: Vec<f64>,
}

impl Losses {
    fn are_lost(&self, bound: f64) -> bool {
        let last = self
            .training
            .last()
            .into_iter()
            .chain(self.held_back.last());
        last.into_iter()
            .any(|loss| !loss.is_finite() || *loss > bound)
    }

    fn take(&mut self, epoch: u64) -> Point {
        let mean = |losses: Vec<f64>| {
            let number = losses.len() as f64;
            (!losses.is_empty()).then(|| losses.into_iter().sum::<f64>() / number)
        };
        Point {
            epoch,
            training: mean(std::mem::take(&mut self.training)).unwrap_or(f64::NAN), // a step at least
            held_back: mean(std::mem::take(&mut self.held_back)),
        }
    }
}

/// What has been learnt so far.
struct State<B: TrainingBackend> {
    network: Network<B>,
    optimizer: Optimizer<B>,
    parameters: Parameters,
    /// Draws the architectures in which weights are trained.
    rng: ChaCha12Rng,
}

impl<B: TrainingBackend> State<B> {
    /// One step of the weights in an architecture that is drawn; returns the loss before it, too.
    fn learn_weights(
        mut self,
        batch: Batch,
        training: &Training<'_>,
        choices: &Choices,
        rate: f64,
        step: u64,
        device: &B::Device,
    ) -> (Self, f64) {
        let drawn = gates::draw(&self.parameters.probabilities(), &mut self.rng);
        let gates = gates::gates(choices, &drawn);
        let gates = on_device(&gates, &flat_tensor::<B>(&gates, device), choices);
        let loss = loss::<B>(batch, training, None, device, |images| {
            self.network.forward_relaxed(images, &gates)
        });
        let gradients = loss.backward();
        self.network = self.optimizer.step(self.network, gradients, rate, step);
        let loss = number(loss);
        (self, loss)
    }

    /// One step of the architecture's parameters; returns the loss before it.
    fn learn_architecture(
        &mut self,
        batch: Batch,
        held_back: &Training<'_>,
        choices: &Choices,
        device: &B::Device,
    ) -> f64 {
        let probabilities = self.parameters.probabilities();
        let (loss, by_gate) = loss_and_gradient(
            &self.network,
            batch,
            held_back,
            choices,
            &probabilities,
            device,
        );
        let by_probability = gates::by_probability(choices, &probabilities, &by_gate);
        self.parameters.step(&by_probability);
        loss
    }
}

/// The loss of a batch, and its derivative by each gate, one after the other.
fn loss_and_gradient<B: TrainingBackend>(
    network: &Network<B>,
    batch: Batch,
    training: &Training<'_>,
    choices: &Choices,
    probabilities: &Probabilities,
    device: &B::Device,
) -> (f64, Vec<f64>) {
    let numbers = gates::gates(choices, probabilities);
    let flat = flat_tensor::<B>(&numbers, device).require_grad();
    let gates = on_device(&numbers, &flat, choices);
    let network = network.clone().no_grad();
    let loss = loss::<B>(batch, training, None, device, |images| {
        network.forward_relaxed(images, &gates)
    });
    let gradients = loss.backward();
    let by_gate = flat.grad(&gradients).map_or_else(Vec::new, weights::values);
    (number(loss), by_gate.into_iter().map(f64::from).collect())
}

fn number<B: TrainingBackend>(loss: Tensor<B, 1>) -> f64 {
    loss.into_data().iter::<f64>().sum() // of a single one
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "tensors are single precision"
)]
fn flat_tensor<B: TrainingBackend>(gates: &Gates, device: &B::Device) -> Tensor<B, 1> {
    let values: Vec<f32> = gates.flat().into_iter().map(|gate| gate as f32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Cuts the gates out of a tensor that has all of them one after the other.
fn on_device<B: TrainingBackend>(
    numbers: &Gates,
    flat: &Tensor<B, 1>,
    choices: &Choices,
) -> network::Gates<B> {
    let mut start = 0;
    let mut next = |len: usize| {
        start += len;
        flat.clone().slice(start - len..start)
    };
    let side = choices.largest.kernel;
    let kernel = next_kernel(numbers, side, &mut next);
    let stem = next(numbers.stem.len());
    let sizes = numbers.groups.iter().zip(&choices.largest.groups);
    let groups = sizes.map(|(group, size)| {
        let channels = next(group.channels.len());
        let branch = |_| channels.clone() * next(1);
        let all: Vec<Tensor<B, 1>> = (0..group.branches.len()).map(branch).collect();
        let branches = all.chunks(size.branches).map(<[_]>::to_vec).collect();
        GroupGates { channels, branches }
    });
    network::Gates {
        groups: groups.collect(),
        kernel,
        stem,
    }
}

fn next_kernel<B: TrainingBackend>(
    numbers: &Gates,
    side: usize,
    next: &mut impl FnMut(usize) -> Tensor<B, 1>,
) -> Option<Tensor<B, 4>> {
    let len = numbers.kernel.len();
    (len > 0).then(|| next(len).reshape([1, 1, side, side]))
}

#[cfg(test)]
mod tests;
