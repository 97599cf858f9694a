//! What a training has become so far, in memory and as a checkpoint.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use shared::record::Checked;
use shared::{BudgetUnit, CurvePoint};

use super::{Optimizer, Training};
use crate::checkpoint::{self, Array, Arrays};
use crate::network::Network;
use crate::network::weights::{self, values};
use crate::operators::{Memory, TrainingBackend};

/// How far a training has come, as it is written into checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Steps taken.
    pub(super) step: u64,
    /// Budget spent, in the budget's unit.
    pub(super) spent: f64,
    /// Sum of the training losses since the last point of the curve.
    pub(super) loss_sum: f64,
    /// How many they are.
    pub(super) loss_count: u64,
    /// The learning curve so far.
    pub(super) curve: Vec<CurvePoint>,
    /// What was seen at the training's checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) checks: Vec<Checked>,
    /// Seconds for building the network or reading a checkpoint.
    pub(super) set_up_s: f64,
    /// Seconds for the device's compilations.
    pub(super) warm_up_s: f64,
    /// Seconds of forward passes, backward passes and optimizer steps.
    pub(super) training_s: f64,
    /// Seconds of waiting for batches.
    pub(super) loading_s: f64,
    /// Seconds of validation and test.
    pub(super) evaluation_s: f64,
}

impl Progress {
    fn new() -> Self {
        Self {
            step: 0,
            spent: 0.0,
            loss_sum: 0.0,
            loss_count: 0,
            curve: Vec::new(),
            checks: Vec::new(),
            set_up_s: 0.0,
            warm_up_s: 0.0,
            training_s: 0.0,
            loading_s: 0.0,
            evaluation_s: 0.0,
        }
    }

    /// The mean training loss since the last time this was asked.
    pub(super) fn mean_loss(&mut self) -> Option<f64> {
        let mean = (self.loss_count > 0).then(|| self.loss_sum / self.loss_count as f64);
        (self.loss_sum, self.loss_count) = (0.0, 0);
        mean
    }
}

/// The part of a checkpoint that is not numbers of the network.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// Whose training it is.
    identity: String,
    /// Of what the budget is an amount.
    unit: BudgetUnit,
    progress: Progress,
}

/// Why a checkpoint cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResumeError {
    /// It is none.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// It is somebody else's.
    #[error("it is of another training: `{found}` instead of `{expected}`")]
    Identity { expected: String, found: String },
    /// It counts something else.
    #[error("its budget is in {found}, not in {expected}")]
    Unit {
        expected: &'static str,
        found: &'static str,
    },
}

/// A training at some step.
#[derive(Debug)]
pub(super) struct State<B: TrainingBackend> {
    pub(super) network: Network<B>,
    pub(super) optimizer: Optimizer<B>,
    pub(super) progress: Progress,
}

impl<B: TrainingBackend> State<B> {
    /// Before the first step.
    pub(super) fn new(training: &Training<'_>, device: &B::Device) -> Self {
        let mut rng = training.seed.child("weights", "").rng();
        Self {
            network: Network::new(training.network, &mut rng, device),
            optimizer: Optimizer::new(training.config),
            progress: Progress::new(),
        }
    }

    /// As it was when [`Self::encode`] was called.
    pub(super) fn decode(
        training: &Training<'_>,
        bytes: &[u8],
        device: &B::Device,
    ) -> Result<Self, ResumeError> {
        let (arrays, header): (Arrays, Header) = checkpoint::decode(bytes)?;
        if header.identity != training.identity {
            let expected = training.identity.clone();
            return Err(ResumeError::Identity {
                expected,
                found: header.identity,
            });
        }
        if header.unit != training.budget.unit {
            let (expected, found) = (training.budget.unit.symbol(), header.unit.symbol());
            return Err(ResumeError::Unit { expected, found });
        }
        let mut state = Self::new(training, device);
        let names = weights::collect(&state.network);
        let (network, mut remembered) = split(arrays);
        state.network = weights::restore(state.network, network, device)?;
        for (name, Array { shape, values }) in names {
            // What was not remembered when the checkpoint was made is not there.
            let [velocity, squares, average] = KINDS.map(|kind| {
                let found = remembered.take(&format!("{kind}.{name}"), &shape).ok()?;
                let data = TensorData::new(found, [values.len()]);
                Some(Tensor::from_data(data, device))
            });
            state.optimizer.memories.push(Memory {
                velocity,
                squares,
                average,
            });
        }
        state.progress = header.progress;
        Ok(state)
    }

    /// All of it as bytes.
    pub(super) fn encode(&self, training: &Training<'_>) -> Vec<u8> {
        let mut arrays = Arrays::default();
        let mut memories = self.optimizer.memories.iter();
        for (name, array) in weights::collect(&self.network) {
            if let Some(Memory {
                velocity,
                squares,
                average,
            }) = memories.next()
            {
                for (kind, tensor) in KINDS.into_iter().zip([velocity, squares, average]) {
                    if let Some(tensor) = tensor {
                        let (shape, values) = (array.shape.clone(), values(tensor.clone()));
                        arrays
                            .0
                            .insert(format!("{kind}.{name}"), Array { shape, values });
                    }
                }
            }
            let previous = arrays.0.insert(format!("{NETWORK}{name}"), array);
            assert!(previous.is_none(), "two tensors are called `{name}`");
        }
        let header = Header {
            identity: training.identity.clone(),
            unit: training.budget.unit,
            progress: self.progress.clone(),
        };
        checkpoint::encode(&arrays, &header)
    }
}

/// What the optimizer remembers of a tensor, as it is called in checkpoints.
const KINDS: [&str; 3] = ["velocity", "squares", "average"];
/// What names of the network's own tensors start with in checkpoints.
const NETWORK: &str = "network.";

/// The tensors of the network, by the names they have there, and everything else.
fn split(arrays: Arrays) -> (BTreeMap<String, Array>, Arrays) {
    let mut network = BTreeMap::new();
    let mut rest = Arrays::default();
    for (name, array) in arrays.0 {
        match name.strip_prefix(NETWORK) {
            Some(name) => network.insert(name.to_owned(), array),
            None => rest.0.insert(name, array),
        };
    }
    (network, rest)
}

/// What a checkpoint has to give to those who do not go on with its training.
#[derive(Debug, Clone, PartialEq)]
pub struct Learnt {
    /// The tensors of the network as it is evaluated, by name: averaged weights where there are any.
    pub arrays: BTreeMap<String, Array>,
    /// Budget spent, in the budget's unit.
    pub spent: f64,
    /// What was learnt: the digest of the data set with its split.
    pub data_digest: String,
}

/// Reads what a training has learnt from its checkpoint.
///
/// # Errors
/// The bytes are no checkpoint.
pub fn learnt(bytes: &[u8]) -> Result<Learnt, checkpoint::Error> {
    /// What is needed of the training's identity.
    #[derive(Deserialize)]
    struct Identity {
        data: String,
    }
    let (arrays, header): (Arrays, Header) = checkpoint::decode(bytes)?;
    let identity: Identity = serde_json::from_str(&header.identity)
        .map_err(|source| checkpoint::Error::Header { source })?;
    let (mut arrays, mut rest) = split(arrays);
    for (name, array) in &mut arrays {
        if let Some(average) = rest.0.remove(&format!("average.{name}")) {
            *array = average;
        }
    }
    Ok(Learnt {
        arrays,
        spent: header.progress.spent,
        data_digest: identity.data,
    })
}
