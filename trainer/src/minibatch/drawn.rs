//! What is drawn for a batch: which images, how each of them is seen, and what it is mixed with.

use crate::augment::{Mixup, PixelValues, View};
use data::ImageShape;

/// How many numbers tell a device what is drawn for an image.
pub const NUMBERS_OF_IMAGE: usize = 9;

/// What is drawn for the images of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Where each one is among all images. `[batch]`
    pub images: Vec<usize>,
    /// How each one is seen. `[batch]`
    pub views: Vec<View>,
    /// What they are mixed with, if they are.
    pub mixup: Option<Mixup>,
}

impl Drawn {
    /// The first images, whole and as they are.
    pub fn plain(count: usize) -> Self {
        Self {
            images: (0..count).collect(),
            views: vec![View::plain(); count],
            mixup: None,
        }
    }

    /// The pixels that a network sees. `[batch, channels, height, width]`
    ///
    /// # Shapes
    /// - `training`: `[images, channels, height, width]`
    pub fn render(&self, training: &[u8], shape: ImageShape, values: &PixelValues) -> Vec<f32> {
        let len = shape.image_len();
        let mut pixels = vec![0.0; self.images.len() * len];
        let drawn = self.images.iter().zip(&self.views);
        for ((&image, view), pixels) in drawn.zip(pixels.chunks_exact_mut(len)) {
            view.render(&training[image * len..][..len], shape, values, pixels);
        }
        if let Some(mixup) = &self.mixup {
            mixup.apply(&mut pixels, len);
        }
        pixels
    }

    /// The same for a device: where the image is, its [`View::numbers`], and the place in the batch of the one that it is mixed
    /// with. `[batch, NUMBERS_OF_IMAGE]`
    ///
    /// # Panics
    /// For more than 2³¹ images.
    pub fn numbers(&self) -> Vec<i32> {
        let number = |at: usize| i32::try_from(at).expect("images that a device keeps");
        let mut numbers = Vec::with_capacity(self.images.len() * NUMBERS_OF_IMAGE);
        for (place, (&image, view)) in self.images.iter().zip(&self.views).enumerate() {
            let partner = self
                .mixup
                .as_ref()
                .map_or(place, |mixup| mixup.partners[place]);
            numbers.push(number(image));
            numbers.extend(view.numbers());
            numbers.push(number(partner));
        }
        numbers
    }
}
