//! The optimizer over all of a network's parameters: SGD with Nesterov momentum, or `AdamW`; clipping of gradients; the
//! running average of weights.

use burn::module::{Module as _, ModuleMapper, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use crate::hyperparameters::{Rule, TrainingConfig};
use crate::network::Network;
use crate::operators::{
    AdamStep, Descent, Memory, Operators as _, SgdStep, Slot, Step, TrainingBackend,
};

/// Weight of the newest square of a gradient in the average of `AdamW`; the paper's.
const SQUARES: f64 = 0.999;

/// The optimizer with its state.
#[derive(Debug)]
pub(crate) struct Optimizer<B: TrainingBackend> {
    config: TrainingConfig,
    /// One for each tensor of the network, running statistics included, in the order in which modules are visited.
    pub(super) memories: Vec<Memory<B::Inner>>,
}

impl<B: TrainingBackend> Optimizer<B> {
    /// Before the first step.
    pub(crate) fn new(config: &TrainingConfig) -> Self {
        Self {
            config: config.clone(),
            memories: Vec::new(),
        }
    }

    /// Changes every parameter by its gradient; `step` counts from 0.
    pub(crate) fn step(
        &mut self,
        network: Network<B>,
        gradients: <B as AutodiffBackend>::Gradients,
        rate: f64,
        step: u64,
    ) -> Network<B> {
        let mut take = Take::<B> {
            gradients,
            slots: Vec::new(),
            place: None,
        };
        let network = network.map(&mut take);
        for (slot, memory) in take
            .slots
            .iter_mut()
            .zip(std::mem::take(&mut self.memories))
        {
            slot.memory = memory;
        }
        let slots = B::Inner::update(take.slots, &self.settings(rate, step));
        let (values, memories): (Vec<_>, Vec<_>) = slots
            .into_iter()
            .map(|slot| (slot.value, slot.memory))
            .unzip();
        self.memories = memories;
        network.map(&mut Put::<B> {
            values: values.into_iter(),
        })
    }

    /// What all tensors' steps have in common.
    fn settings(&self, rate: f64, step: u64) -> Step {
        let TrainingConfig {
            momentum,
            weight_decay,
            weight_average,
            gradient_clipping,
            ..
        } = self.config;
        let descent = match self.config.rule {
            Rule::Sgd => Descent::Sgd(SgdStep {
                rate: single(rate),
                momentum: single(momentum),
                weight_decay: single(weight_decay),
            }),
            Rule::AdamW => {
                let steps = i32::try_from(step + 1).unwrap_or(i32::MAX); // both powers are 0 long before
                Descent::AdamW(AdamStep {
                    rate: single(rate / (1.0 - momentum.powi(steps))),
                    momentum: single(momentum),
                    squares: single(SQUARES),
                    correction: single((1.0 - SQUARES.powi(steps)).sqrt()),
                    shrinkage: single(1.0 - rate * weight_decay),
                })
            }
        };
        // Early averages forget faster, or the first weights would stay in them for long.
        let steps = step as f64;
        let decay = weight_average.min((1.0 + steps) / (10.0 + steps));
        Step {
            descent,
            norm_bound: (gradient_clipping > 0.0).then_some(gradient_clipping),
            decay: (weight_average > 0.0).then_some(decay),
        }
    }

    /// The network with the running average of its weights, if there is one.
    pub(super) fn averaged(&self, network: Network<B::Inner>) -> Network<B::Inner> {
        network.map(&mut Average::<B> {
            memories: self.memories.iter(),
        })
    }
}

/// Takes all tensors out of a module, with their gradients, so that nobody else has them and they can change in place.
struct Take<B: TrainingBackend> {
    gradients: <B as AutodiffBackend>::Gradients,
    slots: Vec<Slot<B::Inner>>,
    place: Option<Tensor<B, 1>>,
}

impl<B: TrainingBackend> ModuleMapper<B> for Take<B> {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = parameter.consume();
        let learns = tensor.is_require_grad();
        let dims = tensor.dims();
        let len = dims.iter().product::<usize>();
        let gradient = tensor.grad_remove(&mut self.gradients);
        let value = tensor.inner().reshape([len]);
        // What is left tells the shape, and whether it learns.
        let nothing = || Tensor::<B, 1>::empty([1], &value.device());
        let place = self.place.get_or_insert_with(nothing).clone().expand(dims);
        self.slots.push(Slot {
            value,
            gradient: gradient.map(|gradient| gradient.reshape([len])),
            memory: Memory::nothing(),
        });
        Param::from_mapped_value(id, place.set_require_grad(learns), mapper)
    }
}

/// Puts tensors into the places that [`Take`] has left.
struct Put<B: TrainingBackend> {
    values: std::vec::IntoIter<Tensor<B::Inner, 1>>,
}

impl<B: TrainingBackend> ModuleMapper<B> for Put<B> {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, place, mapper) = parameter.consume();
        let value = self.values.next().expect("one for each that was taken");
        let tensor = Tensor::from_inner(value.reshape(place.dims()));
        Param::from_mapped_value(id, tensor.set_require_grad(place.is_require_grad()), mapper)
    }
}

/// Puts averages in the place of weights.
struct Average<'a, B: TrainingBackend> {
    memories: std::slice::Iter<'a, Memory<B::Inner>>,
}

impl<B: TrainingBackend> ModuleMapper<B::Inner> for Average<'_, B> {
    fn map_float<const D: usize>(
        &mut self,
        parameter: Param<Tensor<B::Inner, D>>,
    ) -> Param<Tensor<B::Inner, D>> {
        let (id, tensor, mapper) = parameter.consume();
        let average = self
            .memories
            .next()
            .and_then(|memory| memory.average.clone());
        let tensor = match average {
            Some(average) => average.reshape(tensor.dims()),
            None => tensor,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "weights are single precision"
)]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use burn::backend::flex::FlexDevice;
    use burn::backend::{Autodiff, Flex};
    use burn::module::ModuleVisitor;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::hyperparameters;
    use crate::network::NetworkConfig;
    use data::ImageShape;

    type Cpu = Autodiff<Flex>;

    fn small() -> (NetworkConfig, TrainingConfig) {
        let mut configuration = shared::Configuration::default();
        configuration.set("initial_filters", shared::Value::Integer(2));
        let shape = ImageShape {
            channels: 1,
            height: 8,
            width: 8,
        };
        let (network, config) = hyperparameters::read(&configuration, shape, 3).unwrap();
        let config = TrainingConfig {
            momentum: 0.0,
            weight_decay: 0.0,
            ..config
        };
        (network, config)
    }

    fn build(config: &NetworkConfig) -> Network<Cpu> {
        Network::new(config, &mut ChaCha12Rng::seed_from_u64(1), &FlexDevice)
    }

    /// The sum of all parameters, which has the gradient 1 for each.
    struct Sum(Tensor<Cpu, 1>);

    impl ModuleVisitor<Cpu> for Sum {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<Cpu, D>>) {
            let tensor = parameter.val();
            if tensor.is_require_grad() {
                self.0 = self.0.clone() + tensor.sum();
            }
        }
    }

    fn ones(network: &Network<Cpu>) -> <Cpu as AutodiffBackend>::Gradients {
        let mut sum = Sum(Tensor::zeros([1], &FlexDevice));
        network.visit(&mut sum);
        sum.0.backward()
    }

    /// All that is learnt.
    struct Values(Vec<f32>);

    impl<B: burn::tensor::backend::Backend> ModuleVisitor<B> for Values {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<B, D>>) {
            self.0.extend(parameter.val().into_data().iter::<f32>());
        }
    }

    fn values<B: burn::tensor::backend::Backend>(
        network: &impl burn::module::Module<B>,
    ) -> Vec<f32> {
        let mut values = Values(Vec::new());
        network.visit(&mut values);
        values.0
    }

    /// The amounts by which values differ that are learnt; running statistics never change here.
    fn differences(before: &[f32], after: &[f32]) -> Vec<f32> {
        let differences = before
            .iter()
            .zip(after)
            .map(|(before, after)| before - after);
        differences
            .filter(|difference| *difference != 0.0)
            .collect()
    }

    #[test]
    fn gradients_are_clipped_to_a_norm_worked_by_hand() {
        let (network, config) = small();
        let start = build(&network);
        let count = crate::network::Summary::new(&network).parameters();
        // n ones have the norm √n: clipped to 0.5, each is 0.5/√n; a bound above √n changes nothing.
        let norm = (count as f64).sqrt();
        for (bound, expected) in [(0.5, 0.25 * 0.5 / norm), (norm + 0.1, 0.25), (0.0, 0.25)] {
            let config = TrainingConfig {
                gradient_clipping: bound,
                ..config.clone()
            };
            let mut optimizer = Optimizer::<Cpu>::new(&config);
            let before = values(&start);
            let network = optimizer.step(start.clone(), ones(&start), 0.25, 0);
            let found = differences(&before, &values(&network));
            assert_eq!(found.len() as u64, count, "every parameter moves");
            for found in found {
                assert!(
                    (f64::from(found) - expected).abs() < 1e-6,
                    "{found} {expected}"
                );
            }
        }
    }

    #[test]
    fn the_average_of_weights_worked_by_hand() {
        use burn::module::AutodiffModule as _;

        let (network, config) = small();
        let config = TrainingConfig {
            weight_average: 0.2,
            ..config
        };
        let mut network = build(&network);
        let start = values(&network);
        let mut optimizer = Optimizer::<Cpu>::new(&config);
        // Weights fall by 1 at every step. What stays of the average is at most (1 + step) / (10 + step): 2/11 at the
        // second step, and the 0.2 that were asked for from the third on, where 3/12 are allowed.
        let second = 2.0 / 11.0 + 9.0 / 11.0 * 2.0;
        let falls = [1.0, second, 0.2 * second + 0.8 * 3.0];
        for (step, expected) in falls.into_iter().enumerate() {
            let gradients = ones(&network);
            network = optimizer.step(network, gradients, 1.0, step as u64);
            let average = values(&optimizer.averaged(network.valid()));
            for found in differences(&start, &average) {
                assert!(
                    (f64::from(found) - expected).abs() < 1e-5,
                    "{found} {expected}"
                );
            }
        }
    }
}
