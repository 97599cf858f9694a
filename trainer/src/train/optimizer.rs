//! Stochastic gradient descent with Nesterov momentum and weight decay, over all of a network's parameters.

use burn::module::{Module as _, ModuleMapper, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use crate::hyperparameters::TrainingConfig;
use crate::network::Network;
use crate::operators::{Operators as _, SgdStep, TrainingBackend};

/// The optimizer with its state.
#[derive(Debug)]
pub(super) struct Sgd<B: TrainingBackend> {
    step: SgdStep,
    /// One for each parameter that has had a gradient, flat, in the order in which modules are visited.
    pub(super) velocities: Vec<Option<Tensor<B::Inner, 1>>>,
}

impl<B: TrainingBackend> Sgd<B> {
    pub(super) fn new(config: &TrainingConfig) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "weights are single precision"
        )]
        let step = SgdStep {
            rate: 0.0,
            momentum: config.momentum as f32,
            weight_decay: config.weight_decay as f32,
        };
        Self {
            step,
            velocities: Vec::new(),
        }
    }

    /// Changes every parameter by its gradient.
    pub(super) fn step(
        &mut self,
        network: Network<B>,
        gradients: <B as AutodiffBackend>::Gradients,
        rate: f64,
    ) -> Network<B> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "weights are single precision"
        )]
        let step = SgdStep {
            rate: rate as f32,
            ..self.step
        };
        network.map(&mut Update {
            step,
            velocities: &mut self.velocities,
            gradients,
            index: 0,
        })
    }
}

/// One step on its way through a module.
struct Update<'a, B: TrainingBackend> {
    step: SgdStep,
    velocities: &'a mut Vec<Option<Tensor<B::Inner, 1>>>,
    gradients: <B as AutodiffBackend>::Gradients,
    index: usize,
}

impl<B: TrainingBackend> ModuleMapper<B> for Update<'_, B> {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = parameter.consume();
        if !tensor.is_require_grad() {
            return Param::from_mapped_value(id, tensor, mapper); // a running statistic
        }
        let index = self.index;
        self.index += 1;
        if self.velocities.len() <= index {
            self.velocities.push(None);
        }
        let Some(gradient) = tensor.grad_remove(&mut self.gradients) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let dims = tensor.dims();
        let len = dims.iter().product::<usize>();
        let (tensor, velocity) = B::Inner::sgd::<1>(
            tensor.inner().reshape([len]),
            gradient.reshape([len]),
            self.velocities[index].take(),
            self.step,
        );
        self.velocities[index] = Some(velocity);
        let tensor = Tensor::from_inner(tensor.reshape(dims)).require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}
