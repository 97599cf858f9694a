//! Images as bytes on a device, which makes numbers of them: training images stay there, and each step's batch is made of them.
//!
//! What is drawn comes from the CPU, and what it becomes is defined there ([`Drawn::render`]).

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use data::ImageShape;

use crate::augment::PixelValues;
use crate::minibatch::Drawn;

/// Images on a device.
#[derive(Debug)]
pub struct KeptImages<B: Backend> {
    /// Four bytes a number, the first of them lowest, zeros behind the last. `[images · channels · height · width / 4]`
    pub(super) bytes: Tensor<B, 1, Int>,
    /// What each byte of each channel becomes. `[channels · 256]`
    pub(super) values: Tensor<B, 1>,
    /// Of each image.
    pub(super) shape: ImageShape,
}

impl<B: Backend> KeptImages<B> {
    /// Brings images to a device.
    ///
    /// # Shapes
    /// - `pixels`: `[images, channels, height, width]`
    pub fn new(pixels: &[u8], shape: ImageShape, values: &PixelValues, device: &B::Device) -> Self {
        let (whole, rest) = pixels.as_chunks();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        let words = whole.iter().chain((!rest.is_empty()).then_some(&last));
        let words: Vec<i32> = words.map(|word| i32::from_le_bytes(*word)).collect();
        let len = words.len();
        Self {
            bytes: Tensor::from_data(TensorData::new(words, [len]), device),
            values: Tensor::from_data(values.flat().as_slice(), device),
            shape,
        }
    }

    /// What is drawn, made by the CPU of what the device keeps.
    pub(super) fn render(&self, drawn: &Drawn) -> Tensor<B, 4> {
        let words = self.bytes.to_data();
        let bytes: Vec<u8> = words.iter::<i32>().flat_map(i32::to_le_bytes).collect();
        let values: Vec<f32> = self.values.to_data().iter().collect();
        let values = PixelValues::from_flat(&values);
        let pixels = drawn.render(&bytes, self.shape, &values);
        let data = TensorData::new(pixels, self.dims(drawn));
        Tensor::from_data(data, &self.bytes.device())
    }

    /// `[batch, channels, height, width]`
    pub(super) fn dims(&self, drawn: &Drawn) -> [usize; 4] {
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        [drawn.images.len(), channels, height, width]
    }
}
