//! The training loop: from a network's first step, or a checkpoint, to the end of its budget.
//!
//! A step's data and noise are functions of the seed and the step's number, so that a training that was interrupted
//! and resumed equals one that was not, bit for bit on the CPU. The budget counts forward pass, backward pass and
//! optimizer step alone, by the wall clock or in CPU time; waiting for data, evaluation and the GPU's compilations are
//! measured apart.

mod losses;
mod optimizer;
#[cfg(test)]
mod pytorch;
mod state;
mod timer;

use std::sync::mpsc::Receiver;
use std::time::Instant;

use anyhow::Context as _;
use burn::module::AutodiffModule as _;
use burn::tensor::{Tensor, TensorData};
use shared::objective::TrainingSettings;
use shared::record::Check;
use shared::{Budget, BudgetUnit, CurvePoint, Seed};

use self::losses::{At, Unread};
pub(crate) use self::optimizer::Optimizer;
pub use self::state::{Learnt, learnt};
use self::state::{Progress, State};
use self::timer::{Elapsed, Timer};
use crate::augment::Augmentation;
use crate::checks::{Checks, Stop};
use data::Images;

use crate::hyperparameters::TrainingConfig;
use crate::minibatch::{self, Batch, Batches, Drawn, Pixels, TrainingData};
use crate::network::NetworkConfig;
use crate::objective::{Control, Ended, Evaluation};
use crate::operators::{KeptImages, Operators, TrainingBackend};
use crate::schedule::Schedule;

/// Points of the learning curve per learning rate cycle; the last of them is validated.
const POINTS_PER_CYCLE: u32 = 8;

/// Everything that determines a training.
#[derive(Debug)]
pub struct Training<'a> {
    /// What is learnt.
    pub data: &'a TrainingData<'a>,
    /// The network.
    pub network: &'a NetworkConfig,
    /// What the search space varies of the training.
    pub config: &'a TrainingConfig,
    /// What it does not.
    pub settings: &'a TrainingSettings,
    /// Where the training ends.
    pub budget: Budget,
    /// Where its loss is looked at on its way.
    pub checks: &'a [Check],
    /// The learning rate's cycles, the last of which ends with the budget.
    pub schedule: Schedule,
    /// Drives weights, order, augmentation and noise.
    pub seed: Seed,
    /// Whose checkpoints can be resumed: those with the same text.
    pub identity: String,
    /// Whether the device compiles its programs when they are first used, which is then done before the first step.
    pub is_compiled: bool,
    /// Whether the device has room for all training images beside what the training needs.
    pub images_fit: bool,
}

/// Trains to the end of the budget, from a checkpoint if there is one.
///
/// # Errors
/// A checkpoint cannot be saved.
pub fn train<B: TrainingBackend>(
    training: &Training<'_>,
    device: &B::Device,
    checkpoint: Option<&[u8]>,
    control: &mut dyn Control,
) -> anyhow::Result<Ended> {
    let started = Instant::now();
    let state = checkpoint.and_then(|bytes| match State::<B>::decode(training, bytes, device) {
        Ok(state) => Some(state),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(
                error,
                "the checkpoint cannot be used; training from scratch"
            );
            None
        }
    });
    let mut state = state.unwrap_or_else(|| State::new(training, device));
    let kept = training.keep_images::<B::Inner>(device);
    state.progress.set_up_s += started.elapsed().as_secs_f64();
    let mut batches = training.batches();
    if kept.is_some() {
        batches = batches.only_drawn();
    }
    if training.is_compiled {
        state.progress.warm_up_s += warm_up::<B>(training, &batches, kept.as_ref(), device);
        if let Some(ended) = failure::<B>(device) {
            return Ok(ended);
        }
    }
    let run = Run {
        training,
        kept,
        device,
        steps_per_epoch: batches.steps_per_epoch(),
    };
    std::thread::scope(|scope| {
        let batches = batches.spawn(scope, state.progress.step);
        run.to_the_end(state, &batches, control)
    })
}

impl<'a> Training<'a> {
    /// The batches of its steps.
    pub(crate) fn batches(&self) -> Batches<'a> {
        let shape = self.data.shape;
        let TrainingConfig {
            batch_size,
            mixup_alpha,
            cutout_length,
            ..
        } = *self.config;
        let padding = usize::try_from(self.settings.crop_padding).expect("32 bits fit");
        let augmentation = Augmentation::new(shape, padding, self.settings.flip, cutout_length);
        let seed = self.seed.child("data", "");
        Batches::new(self.data, augmentation, mixup_alpha, batch_size, seed)
    }

    /// The training images on the device, if it makes batches of them by itself and has room for them.
    fn keep_images<B: Operators>(&self, device: &B::Device) -> Option<KeptImages<B>> {
        self.images_fit
            .then(|| self.bring(&self.data.training.pixels, device))
            .flatten()
    }

    /// Images on the device, if it makes numbers of so many by itself.
    fn bring<B: Operators>(&self, pixels: &[u8], device: &B::Device) -> Option<KeptImages<B>> {
        let TrainingData {
            shape,
            pixel_values,
            ..
        } = self.data;
        let fits = pixels.len() <= B::most_kept_bytes(device);
        fits.then(|| KeptImages::new(pixels, *shape, pixel_values, device))
    }

    fn noise(&self, step: u64) -> rand_chacha::ChaCha12Rng {
        self.seed.child("noise", step).rng()
    }
}

/// A training on its device.
struct Run<'a, B: TrainingBackend> {
    training: &'a Training<'a>,
    kept: Option<KeptImages<B::Inner>>,
    device: &'a B::Device,
    steps_per_epoch: u64,
}

impl<B: TrainingBackend> Run<'_, B> {
    fn to_the_end(
        &self,
        mut state: State<B>,
        batches: &Receiver<Batch>,
        control: &mut dyn Control,
    ) -> anyhow::Result<Ended> {
        let Training {
            data,
            budget,
            checks,
            ..
        } = self.training;
        let mut checks = Checks::new(checks, budget.amount, &state.progress.checks);
        if !checks.seen().is_empty() {
            control.checked(checks.seen());
        }
        let mut has_changed = false;
        let mut unread = Unread::<B::Inner>::new(self.training.is_compiled);
        loop {
            let stops = control.stop_reason().is_some();
            let must_know = stops || self.due(&state.progress, &checks).is_some();
            if (must_know || unread.is_due())
                && let Some(ended) = self.read_losses(&mut unread, &mut state.progress)
            {
                return Ok(ended);
            }
            let spent = state.progress.spent;
            if stops {
                return self.interrupted(has_changed.then_some(&state), control);
            }
            if let Some(due) = self.due(&state.progress, &checks) {
                match self.add_point(due, &mut state, &mut checks, control) {
                    Point::Added => has_changed = true,
                    Point::Interrupted => continue, // and be told so once more
                    Point::End(ended) => return Ok(ended),
                }
            }
            if control.checkpoint_due(spent) && has_changed {
                if let Some(ended) = self.read_losses(&mut unread, &mut state.progress) {
                    return Ok(ended);
                }
                if let Some(ended) = self.save(&state, control)? {
                    return Ok(ended);
                }
            }
            if spent >= budget.amount {
                break;
            }
            let waiting = Instant::now();
            let batch = batches
                .recv()
                .context("the thread that makes batches has ended")?;
            state.progress.loading_s += waiting.elapsed().as_secs_f64();
            let loss;
            (state, loss) = self.step(state, batch);
            let Progress { step, spent, .. } = state.progress;
            unread.push(At { step, spent }, loss);
            has_changed = true;
            control.progress(spent);
        }
        let test_error = match data.test {
            None => None,
            Some(test) => match self.evaluate(&mut state, test, control) {
                Evaluated::Error(error) => Some(error),
                Evaluated::NotFinite => return Ok(diverged(&state.progress)),
                Evaluated::Stopped => return self.interrupted(Some(&state), control),
            },
        };
        let loss = state.progress.curve.last().and_then(|point| point.loss);
        let loss = loss.expect("the end of the budget is a point of the curve that is validated");
        let ended = || Ended::Evaluated(self.evaluation(&state.progress, loss, test_error));
        Ok(failure::<B>(self.device).unwrap_or_else(ended))
    }

    /// Adds a point to the learning curve, which may be a check.
    fn add_point(
        &self,
        due: Due,
        state: &mut State<B>,
        checks: &mut Checks<'_>,
        control: &mut dyn Control,
    ) -> Point {
        let loss = match due {
            Due::TrainingLoss => None,
            Due::Validation => match self.evaluate(state, self.training.data.validation, control) {
                Evaluated::Error(error) => Some(error),
                Evaluated::NotFinite => return Point::End(diverged(&state.progress)),
                Evaluated::Stopped => return Point::Interrupted,
            },
        };
        let progress = &mut state.progress;
        let spent = progress.spent;
        let training_loss = progress.mean_loss();
        progress.curve.push(CurvePoint {
            spent,
            training_loss,
            loss,
        });
        let Some(loss) = loss.filter(|_| checks.is_due(spent)) else {
            return Point::Added;
        };
        let stop = checks.see(spent, loss);
        progress.checks = checks.seen().to_vec();
        control.checked(checks.seen());
        let Some(Stop { spent, limit, .. }) = stop else {
            return Point::Added;
        };
        let stopped = || Ended::Stopped {
            spent,
            limit,
            evaluation: self.evaluation(&state.progress, loss, None),
        };
        Point::End(failure::<B>(self.device).unwrap_or_else(stopped))
    }

    /// Saves a checkpoint, unless the device has failed: then its state is no longer what was learnt.
    fn save(&self, state: &State<B>, control: &mut dyn Control) -> anyhow::Result<Option<Ended>> {
        let checkpoint = state.encode(self.training);
        let failed = failure::<B>(self.device);
        if failed.is_none() {
            control.save_checkpoint(state.progress.spent, &checkpoint)?;
        }
        Ok(failed)
    }

    /// The end of a training that goes on later, from what there is to be saved.
    fn interrupted(
        &self,
        state: Option<&State<B>>,
        control: &mut dyn Control,
    ) -> anyhow::Result<Ended> {
        let failed = match state {
            Some(state) => self.save(state, control)?,
            None => None,
        };
        Ok(failed.unwrap_or(Ended::Interrupted))
    }

    /// One step; returns the loss before it, too, which nobody has waited for.
    fn step(&self, mut state: State<B>, batch: Batch) -> (State<B>, Tensor<B::Inner, 1>) {
        let Training {
            config, schedule, ..
        } = self.training;
        let timer = self.timer();
        let rate = config.learning_rate * schedule.fraction(state.progress.spent);
        let mut noise = self.training.noise(state.progress.step);
        let kept = self.kept.as_ref();
        let loss = loss::<B>(batch, self.training, kept, self.device, |images| {
            state.network.forward_training(images, &mut noise)
        });
        let gradients = loss.backward();
        let step = state.progress.step;
        state.network = state.optimizer.step(state.network, gradients, rate, step);
        state.progress.step += 1;
        self.take_time(&mut state.progress, timer.elapsed());
        (state, loss.inner())
    }

    fn timer(&self) -> Timer {
        Timer::start(self.training.budget.unit == BudgetUnit::CpuSeconds)
    }

    /// Counts what has been done as training, of which the budget is made.
    fn take_time(&self, progress: &mut Progress, elapsed: Elapsed) {
        progress.training_s += elapsed.wall_s;
        progress.spent = match self.training.budget.unit {
            BudgetUnit::Seconds => progress.spent + elapsed.wall_s,
            BudgetUnit::CpuSeconds => progress.spent + elapsed.cpu_s.unwrap_or(elapsed.wall_s),
            BudgetUnit::Epochs => progress.step as f64 / self.steps_per_epoch as f64,
            BudgetUnit::Steps => progress.step as f64,
        };
    }

    /// Waits for the device, and takes up all losses of its steps; ends the training where one of them says so.
    fn read_losses(&self, unread: &mut Unread<B::Inner>, progress: &mut Progress) -> Option<Ended> {
        let timer = self.timer();
        let losses = unread.read();
        self.take_time(progress, timer.elapsed());
        for (At { step, spent }, loss) in losses {
            if !loss.is_finite() || loss > self.training.settings.divergence_bound {
                return Some(Ended::Diverged {
                    spent,
                    message: format!("training loss {loss} at step {step}"),
                });
            }
            progress.loss_sum += loss;
            progress.loss_count += 1;
        }
        None
    }

    /// What the next point of the learning curve needs, if it is due: at a check as at the end of a cycle.
    fn due(&self, progress: &Progress, checks: &Checks<'_>) -> Option<Due> {
        if checks.is_due(progress.spent) {
            return Some(Due::Validation);
        }
        self.due_point(progress)
    }

    /// Whether a point of the learning curve has been passed since the last one.
    fn due_point(&self, progress: &Progress) -> Option<Due> {
        let last = progress.curve.last().map_or(0.0, |point| point.spent);
        let is_passed = |mark: f64| last < mark && mark <= progress.spent;
        let mut start = 0.0;
        let mut due = None;
        for &end in self.training.schedule.ends() {
            if is_passed(end) {
                return Some(Due::Validation);
            }
            let part = (end - start) / f64::from(POINTS_PER_CYCLE);
            if (1..POINTS_PER_CYCLE).any(|index| is_passed(start + part * f64::from(index))) {
                due = Some(Due::TrainingLoss);
            }
            start = end;
        }
        due
    }

    /// The share of images that are taken for something else than they are.
    fn evaluate(
        &self,
        state: &mut State<B>,
        images: &Images,
        control: &mut dyn Control,
    ) -> Evaluated {
        let started = Instant::now();
        let network = state.optimizer.averaged(state.network.valid());
        let len = self.training.data.shape.image_len();
        let at_once =
            usize::try_from(self.training.settings.evaluation_batch).expect("32 bits fit");
        let mut errors = 0;
        let mut result = None;
        for start in (0..images.len()).step_by(at_once) {
            if control.stop_reason().is_some() {
                result = Some(Evaluated::Stopped);
                break;
            }
            let range = start..(start + at_once).min(images.len());
            let pixels = self.whole(&images.pixels[range.start * len..range.end * len]);
            if let Some(wrong) = count_errors(network.forward(pixels), &images.labels[range]) {
                errors += wrong;
            } else {
                result = Some(Evaluated::NotFinite);
                break;
            }
        }
        state.progress.evaluation_s += started.elapsed().as_secs_f64();
        result.unwrap_or_else(|| Evaluated::Error(errors as f64 / images.len() as f64))
    }

    /// Whole images, as they are. `[images, channels, height, width]`
    fn whole(&self, bytes: &[u8]) -> Tensor<B::Inner, 4> {
        let TrainingData {
            shape,
            pixel_values,
            ..
        } = self.training.data;
        let count = bytes.len() / shape.image_len();
        if let Some(images) = self.training.bring::<B::Inner>(bytes, self.device) {
            return B::Inner::see(&images, &Drawn::plain(count));
        }
        let pixels = minibatch::plain_pixels(bytes, *shape, pixel_values);
        let dims = [count, shape.channels, shape.height, shape.width];
        Tensor::from_data(TensorData::new(pixels, dims), self.device)
    }

    fn evaluation(&self, progress: &Progress, loss: f64, test_error: Option<f64>) -> Evaluation {
        let mut measures = std::collections::BTreeMap::from(
            [
                ("steps", progress.step as f64),
                ("epochs", progress.step as f64 / self.steps_per_epoch as f64),
                ("set_up_s", progress.set_up_s),
                ("training_s", progress.training_s),
                ("loading_s", progress.loading_s),
                ("evaluation_s", progress.evaluation_s),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if self.training.budget.unit == BudgetUnit::CpuSeconds {
            measures.insert("training_cpu_s".to_owned(), progress.spent);
        }
        if self.training.is_compiled {
            measures.insert("warm_up_s".to_owned(), progress.warm_up_s);
        }
        if let Some(error) = test_error {
            measures.insert("test_error".to_owned(), error);
        }
        Evaluation {
            loss,
            measures,
            curve: progress.curve.clone(),
            notes: std::collections::BTreeMap::new(),
        }
    }
}

/// What a point of the learning curve needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    TrainingLoss,
    Validation,
}

/// What came of a point of the learning curve.
enum Point {
    Added,
    /// Nothing, because the training is to stop.
    Interrupted,
    /// The training's end.
    End(Ended),
}

/// How an evaluation ended.
enum Evaluated {
    /// With the share of errors.
    Error(f64),
    /// With scores that are not finite.
    NotFinite,
    /// Too early, because the training is to stop.
    Stopped,
}

fn diverged(progress: &Progress) -> Ended {
    Ended::Diverged {
        spent: progress.spent,
        message: format!("the scores are not finite after step {}", progress.step),
    }
}

/// Cross-entropy of a network's scores for a batch, with targets that may be shared between classes, and smoothed.
pub(crate) fn loss<B: TrainingBackend>(
    batch: Batch,
    training: &Training<'_>,
    kept: Option<&KeptImages<B::Inner>>,
    device: &B::Device,
    network: impl FnOnce(Tensor<B, 4>) -> Tensor<B, 2>,
) -> Tensor<B, 1> {
    let images = match batch.pixels {
        Pixels::Rendered(pixels) => {
            let shape = training.data.shape;
            let dims = [batch.len, shape.channels, shape.height, shape.width];
            flat::<B>(pixels, device).reshape(dims)
        }
        Pixels::Drawn(drawn) => {
            let kept = kept.expect("images are only drawn where the device keeps them");
            Tensor::from_inner(B::Inner::see(kept, &drawn))
        }
    };
    let classes = training.data.classes;
    let smoothed = smooth(batch.targets, training.config.label_smoothing, classes);
    let targets = flat::<B>(smoothed, device).reshape([batch.len, classes]);
    let scores = network(images); // [batch, classes]
    B::cross_entropy(scores, targets)
}

/// Values on a device, one after the other; with several axes, a GPU would have their rows padded.
fn flat<B: TrainingBackend>(values: Vec<f32>, device: &B::Device) -> Tensor<B, 1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Spreads a share of the targets over all classes.
fn smooth(mut targets: Vec<f32>, share: f64, classes: usize) -> Vec<f32> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "targets are single precision"
    )]
    let (rest, each) = ((1.0 - share) as f32, (share / classes as f64) as f32);
    for target in &mut targets {
        *target = rest * *target + each;
    }
    targets
}

/// How many images have their highest score elsewhere than at their label; `None` if a score is not finite.
fn count_errors<B: Operators>(scores: Tensor<B, 2>, labels: &[u16]) -> Option<usize> {
    let classes = scores.dims()[1];
    let scores: Vec<f32> = scores
        .into_data()
        .convert::<f32>()
        .into_vec()
        .expect("just converted");
    if scores.iter().any(|score| !score.is_finite()) {
        return None;
    }
    let is_wrong = |(scores, label): &(&[f32], &u16)| {
        // Among equal scores the first one counts.
        let best = (0..classes)
            .rev()
            .max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        best != Some(usize::from(**label))
    };
    Some(
        scores
            .chunks_exact(classes)
            .zip(labels)
            .filter(is_wrong)
            .count(),
    )
}

/// What the device could not do so far, which reading its values does not always say: with Vulkan a kernel that cannot be
/// launched is left out.
fn failure<B: TrainingBackend>(device: &B::Device) -> Option<Ended> {
    let error = B::sync(device).err()?;
    Some(Ended::DeviceFailed {
        message: error.to_string(),
    })
}

/// Takes one step with a network that is thrown away, so that the device has compiled everything; returns the seconds.
fn warm_up<B: TrainingBackend>(
    training: &Training<'_>,
    batches: &Batches<'_>,
    kept: Option<&KeptImages<B::Inner>>,
    device: &B::Device,
) -> f64 {
    let started = Instant::now();
    let mut state = State::<B>::new(training, device);
    let batch = batches.first();
    for _ in 0..2 {
        let loss = loss::<B>(batch.clone(), training, kept, device, |images| {
            let mut noise = training.noise(0);
            state.network.forward_training(images, &mut noise)
        });
        let gradients = loss.backward();
        state.network = state.optimizer.step(state.network, gradients, 0.0, 0);
        drop(loss.into_data()); // read only to wait for it
    }
    started.elapsed().as_secs_f64()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact values are expected")]
mod tests;
