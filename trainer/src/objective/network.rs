//! The objective that trains a network: validation error on clean images, in 0..=1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::constraint::KNOWN_BEFORE_TRAINING;
use shared::objective::TrainingSettings;
use shared::{Configuration, Seed};

use crate::device::{Device, with_backend};
use crate::hyperparameters::{self, TrainingConfig};
use crate::memory::{self, Footprint};
use crate::minibatch::TrainingData;
use crate::network::{NetworkConfig, Summary};
use crate::objective::{Control, Ended, Task};
use crate::schedule::Schedule;
use crate::train::{Training, train};
use data::ImageShape;

/// Trains configurations on one data set.
#[derive(Debug)]
pub struct NetworkTrainer<'a> {
    /// What is learnt.
    pub data: TrainingData<'a>,
    /// What tells this data set from others, and this split of it; checkpoints are only resumed on the same.
    pub data_digest: String,
    /// How networks are trained, beyond what the search space varies.
    pub settings: TrainingSettings,
    /// What they are trained on.
    pub device: Device,
}

impl NetworkTrainer<'_> {
    /// Trains the task's configuration to its budget.
    ///
    /// # Errors
    /// A checkpoint cannot be saved.
    pub fn evaluate(&self, task: &Task, control: &mut dyn Control) -> anyhow::Result<Ended> {
        let read = hyperparameters::read(&task.configuration, self.data.shape, self.data.classes);
        let (mut network, config) = match read {
            Ok(configs) => configs,
            Err(invalid) => {
                return Ok(Ended::Crashed {
                    message: format!("no such network: {invalid}"),
                });
            }
        };
        network.precision = self.settings.precision;
        let needed = self.data_size().footprint(&network, &config).total();
        let available = self.device.available_memory();
        if let Some(available) = available.filter(|available| needed > *available) {
            return Ok(Ended::OutOfMemory {
                needed_mib: memory::mib(needed),
                available_mib: memory::mib(available),
            });
        }
        let with_images = needed + self.data.training.pixels.len() as u64;
        let earlier: Vec<f64> = task
            .earlier_budgets
            .iter()
            .map(|budget| budget.amount)
            .collect();
        let training = Training {
            data: &self.data,
            network: &network,
            config: &config,
            settings: &self.settings,
            budget: task.budget,
            checks: &task.checks,
            schedule: Schedule::new(task.budget.amount, task.job.rung, &earlier)
                .with_warm_up(config.warm_up),
            seed: Seed::new(task.seed),
            identity: self.identity(&task.configuration, task.seed),
            is_compiled: self.device != Device::Cpu,
            images_fit: available.is_none_or(|available| with_images <= available),
        };
        let checkpoint = task.checkpoint.as_deref();
        let mut ended = self.train(&training, checkpoint, control)?;
        if let Ended::Evaluated(evaluation) | Ended::Stopped { evaluation, .. } = &mut ended {
            let known = self.data_size().measures_of(&network, &config);
            evaluation.measures.extend(known);
        }
        Ok(ended)
    }

    fn train(
        &self,
        training: &Training<'_>,
        checkpoint: Option<&[u8]>,
        control: &mut dyn Control,
    ) -> anyhow::Result<Ended> {
        with_backend!(self.device, |B, place| {
            train::<B>(training, place, checkpoint, control)
        })
    }

    /// What decides how much memory a configuration's training takes.
    pub fn data_size(&self) -> DataSize {
        let evaluated = self
            .data
            .validation
            .len()
            .max(self.data.test.map_or(0, data::Images::len));
        DataSize {
            shape: self.data.shape,
            classes: self.data.classes,
            training: self.data.training.len(),
            evaluated_at_once: usize::try_from(self.settings.evaluation_batch)
                .map_or(evaluated, |batch| batch.min(evaluated)),
        }
    }

    fn identity(&self, configuration: &Configuration, seed: u64) -> String {
        json!({
            "configuration": configuration,
            "settings": self.settings,
            "data": self.data_digest,
            "seed": seed,
        })
        .to_string()
    }
}

/// What decides, beside the configuration, how much memory a training takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSize {
    shape: ImageShape,
    classes: usize,
    /// Training images.
    training: usize,
    /// Images that are evaluated at once.
    evaluated_at_once: usize,
}

impl DataSize {
    /// Bytes that training a configuration takes; `None` where it makes no network.
    pub fn needed(&self, configuration: &Configuration) -> Option<u64> {
        let (network, config) =
            hyperparameters::read(configuration, self.shape, self.classes).ok()?; // see `evaluate`
        Some(self.footprint(&network, &config).total())
    }

    /// What is known of a configuration before it is trained, by the names of [`KNOWN_BEFORE_TRAINING`]; `None` where it
    /// makes no network.
    pub fn measures(&self, configuration: &Configuration) -> Option<BTreeMap<String, f64>> {
        let (network, config) =
            hyperparameters::read(configuration, self.shape, self.classes).ok()?; // see `evaluate`
        Some(self.measures_of(&network, &config))
    }

    fn measures_of(
        &self,
        network: &NetworkConfig,
        config: &TrainingConfig,
    ) -> BTreeMap<String, f64> {
        let summary = Summary::new(network);
        let memory = memory::mib(self.footprint(network, config).total());
        let numbers = [
            summary.parameters() as f64,
            summary.multiply_adds() as f64,
            memory,
        ];
        let names = KNOWN_BEFORE_TRAINING.map(str::to_owned);
        names.into_iter().zip(numbers).collect()
    }

    fn footprint(&self, network: &NetworkConfig, config: &TrainingConfig) -> Footprint {
        let batch = config.batch_size.min(self.training);
        Footprint::new(
            &Summary::new(network),
            config,
            batch,
            self.evaluated_at_once,
        )
    }
}
