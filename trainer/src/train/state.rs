//! What a training has become so far, in memory and as a checkpoint.

use burn::module::{Module as _, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use shared::{BudgetUnit, CurvePoint};

use super::optimizer::Slot;
use super::{Optimizer, Training};
use crate::checkpoint::{self, Array, Arrays};
use crate::network::Network;
use crate::operators::TrainingBackend;

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
        let mut restore = Restore::<B> {
            arrays,
            device,
            path: Vec::new(),
            slots: Vec::new(),
            error: None,
        };
        state.network = state.network.map(&mut restore);
        if let Some(error) = restore.error {
            return Err(error.into());
        }
        state.optimizer.slots = restore.slots;
        state.progress = header.progress;
        Ok(state)
    }

    /// All of it as bytes.
    pub(super) fn encode(&self, training: &Training<'_>) -> Vec<u8> {
        let mut collect = Collect {
            arrays: Arrays::default(),
            path: Vec::new(),
            slots: self.optimizer.slots.iter(),
        };
        self.network.visit(&mut collect);
        let header = Header {
            identity: training.identity.clone(),
            unit: training.budget.unit,
            progress: self.progress.clone(),
        };
        checkpoint::encode(&collect.arrays, &header)
    }
}

fn values<B: burn::tensor::backend::Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .into_vec()
        .expect("just converted")
}

/// What the optimizer remembers of a tensor, as it is called in checkpoints.
const KINDS: [&str; 3] = ["velocity", "squares", "average"];

/// Gathers a network's tensors, and what the optimizer remembers of each, by name.
struct Collect<'a, B: TrainingBackend> {
    arrays: Arrays,
    path: Vec<String>,
    slots: std::slice::Iter<'a, Slot<B>>,
}

impl<B: TrainingBackend> ModuleVisitor<B> for Collect<'_, B> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<B, D>>) {
        let name = self.path.join(".");
        let tensor = parameter.val();
        let shape = tensor.dims().to_vec();
        if let Some(Slot {
            velocity,
            squares,
            average,
        }) = self.slots.next()
        {
            for (kind, tensor) in KINDS.into_iter().zip([velocity, squares, average]) {
                if let Some(tensor) = tensor {
                    let array = Array {
                        shape: shape.clone(),
                        values: values(tensor.clone()),
                    };
                    self.arrays.0.insert(format!("{kind}.{name}"), array);
                }
            }
        }
        let array = Array {
            shape,
            values: values(tensor),
        };
        let previous = self.arrays.0.insert(format!("network.{name}"), array);
        assert!(previous.is_none(), "two tensors are called `{name}`");
    }
}

/// Puts the tensors of a checkpoint into a network.
struct Restore<'a, B: TrainingBackend> {
    arrays: Arrays,
    device: &'a B::Device,
    path: Vec<String>,
    slots: Vec<Slot<B>>,
    error: Option<checkpoint::Error>,
}

impl<B: TrainingBackend> ModuleMapper<B> for Restore<'_, B> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = self.path.join(".");
        let (id, tensor, mapper) = parameter.consume();
        let learns = tensor.is_require_grad();
        let dims = tensor.dims();
        let tensor = match self.arrays.take(&format!("network.{name}"), &dims) {
            Ok(values) => {
                let restored = Tensor::from_data(TensorData::new(values, dims), self.device);
                restored.set_require_grad(learns)
            }
            Err(error) => {
                self.error.get_or_insert(error);
                tensor
            }
        };
        let len = dims.iter().product::<usize>();
        // What was not remembered when the checkpoint was made is not there.
        let [velocity, squares, average] = KINDS.map(|kind| {
            let values = self.arrays.take(&format!("{kind}.{name}"), &dims).ok()?;
            Some(Tensor::from_data(
                TensorData::new(values, [len]),
                self.device,
            ))
        });
        self.slots.push(Slot {
            velocity,
            squares,
            average,
        });
        Param::from_mapped_value(id, tensor, mapper)
    }
}
