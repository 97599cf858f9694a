//! A network's tensors by name, out and in.
//!
//! The names are those that the same modules have in PyTorch (`groups.0.blocks.1.branches.0.norm1.running_var`), and
//! the tensors have the same shapes there, so weights can be loaded by `load_state_dict` as they are.

use std::collections::BTreeMap;

use burn::module::{Module as _, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::Network;
use crate::checkpoint::{Array, Arrays, Error};

/// All tensors of a network, running statistics included, in the order in which its modules are visited.
pub fn collect<B: Backend>(network: &Network<B>) -> Vec<(String, Array)> {
    let mut collect = Collect {
        path: Vec::new(),
        arrays: Vec::new(),
    };
    network.visit(&mut collect);
    collect.arrays
}

/// Puts arrays in the place of a network's tensors.
///
/// # Errors
/// The first tensor for which there is no array of its name and shape.
pub(crate) fn restore<B: Backend>(
    network: Network<B>,
    arrays: BTreeMap<String, Array>,
    device: &B::Device,
) -> Result<Network<B>, Error> {
    let mut restore = Restore::<B> {
        path: Vec::new(),
        arrays: Arrays(arrays),
        device,
        error: None,
    };
    let network = network.map(&mut restore);
    match restore.error {
        Some(error) => Err(error),
        None => Ok(network),
    }
}

struct Collect {
    path: Vec<String>,
    arrays: Vec<(String, Array)>,
}

impl<B: Backend> ModuleVisitor<B> for Collect {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<B, D>>) {
        let tensor = parameter.val();
        let shape = tensor.dims().to_vec();
        self.arrays.push((
            self.path.join("."),
            Array {
                shape,
                values: values(tensor),
            },
        ));
    }
}

/// A tensor's numbers, row-major.
///
/// # Panics
/// Never: any tensor can be read as single precision.
pub fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .into_vec()
        .expect("just converted")
}

struct Restore<'a, B: Backend> {
    path: Vec<String>,
    arrays: Arrays,
    device: &'a B::Device,
    error: Option<Error>,
}

impl<B: Backend> ModuleMapper<B> for Restore<'_, B> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = parameter.consume();
        let dims = tensor.dims();
        let tensor = match self.arrays.take(&self.path.join("."), &dims) {
            Ok(values) => Tensor::from_data(TensorData::new(values, dims), self.device)
                .set_require_grad(tensor.is_require_grad()),
            Err(error) => {
                self.error.get_or_insert(error);
                tensor
            }
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}
