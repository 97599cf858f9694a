//! A network that has been trained: its scores for images.

use std::collections::BTreeMap;

use anyhow::Context as _;
use burn::backend::Flex;
use burn::backend::flex::FlexDevice;
use burn::tensor::{Tensor, TensorData};
use shared::{Configuration, Seed};

use crate::checkpoint::Array;
use crate::hyperparameters;
use crate::network::{Network, weights};
use data::ImageShape;

/// A network that only evaluates, on the CPU.
#[derive(Debug)]
pub struct Trained {
    network: Network<Flex>,
    shape: ImageShape,
}

impl Trained {
    /// Builds a configuration's network with the given weights.
    ///
    /// # Errors
    /// The configuration is none of a network, or the weights are another network's.
    pub fn new(
        configuration: &Configuration,
        shape: ImageShape,
        classes: usize,
        arrays: BTreeMap<String, Array>,
    ) -> anyhow::Result<Self> {
        let (config, _) = hyperparameters::read(configuration, shape, classes)
            .context("cannot build the network of this configuration")?;
        // All that is drawn here is replaced at once.
        let network = Network::new(&config, &mut Seed::new(0).rng(), &FlexDevice);
        let network = weights::restore(network, arrays, &FlexDevice)
            .context("cannot use the weights for this configuration's network")?;
        Ok(Self { network, shape })
    }

    /// The scores of some normalised images, one per class. `[images, classes]`
    ///
    /// # Panics
    /// If the pixels are not a whole number of images.
    pub fn scores(&self, pixels: Vec<f32>) -> Vec<f32> {
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        let images = pixels.len() / (channels * height * width);
        let data = TensorData::new(pixels, [images, channels, height, width]);
        weights::values(self.network.forward(Tensor::from_data(data, &FlexDevice)))
    }
}
