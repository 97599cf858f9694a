//! Which images a training step sees, and how they become numbers.
//!
//! Every step's batch is a function of the seed and the step: epoch e goes through the data in its own random order,
//! in full batches (what is left over has its turn in another epoch's order). So batches can be made ahead, on another
//! thread, and a resumed training goes on as if it had never stopped.

mod drawn;

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use rand::seq::SliceRandom as _;
use shared::Seed;

use crate::augment::{Augmentation, Mixup, PixelValues};
use data::{ImageShape, Images, Normalisation, Splits};

pub use self::drawn::{Drawn, NUMBERS_OF_IMAGE};

/// Batches that are made ahead of the one being trained on.
const AHEAD: usize = 4;

/// The data of one training.
#[derive(Debug, Clone)]
pub struct TrainingData<'a> {
    /// What the network learns from; at least one image.
    pub training: &'a Images,
    /// What its loss is measured on; at least one image.
    pub validation: &'a Images,
    /// What its test error is measured on, if there is any.
    pub test: Option<&'a Images>,
    /// The shape of all images.
    pub shape: ImageShape,
    /// How many classes there are.
    pub classes: usize,
    /// How bytes become numbers.
    pub pixel_values: PixelValues,
}

impl<'a> TrainingData<'a> {
    /// The data of a search's trainings.
    pub fn new(splits: &'a Splits) -> Self {
        let Normalisation { mean, std } = &splits.normalisation;
        Self {
            training: &splits.train,
            validation: &splits.validation,
            test: splits.test.as_ref(),
            shape: splits.shape,
            classes: splits.num_classes(),
            pixel_values: PixelValues::new(mean, std),
        }
    }
}

/// The images of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// As numbers. `[batch, channels, height, width]`
    Rendered(Vec<f32>),
    /// What the device makes them of, which keeps the training set.
    Drawn(Drawn),
}

/// What a network is given at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// What it sees.
    pub pixels: Pixels,
    /// What each image's class is; mixed images have two. `[batch, classes]`
    pub targets: Vec<f32>,
    /// How many images there are.
    pub len: usize,
}

/// Makes the batches of a training.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    data: &'a TrainingData<'a>,
    augmentation: Augmentation,
    mixup_alpha: f64,
    batch: usize,
    seed: Seed,
    are_rendered: bool,
}

impl<'a> Batches<'a> {
    /// Batches of `batch` images, or of all images where there are fewer.
    ///
    /// # Panics
    /// If there is no image at all, or `batch` is 0.
    pub fn new(
        data: &'a TrainingData<'a>,
        augmentation: Augmentation,
        mixup_alpha: f64,
        batch: usize,
        seed: Seed,
    ) -> Self {
        assert!(
            !data.training.is_empty() && batch > 0,
            "there is something to train on"
        );
        Self {
            data,
            augmentation,
            mixup_alpha,
            batch: batch.min(data.training.len()),
            seed,
            are_rendered: true,
        }
    }

    /// The same, whose images are only drawn, for a device that keeps them.
    #[must_use]
    pub fn only_drawn(mut self) -> Self {
        self.are_rendered = false;
        self
    }

    /// The first batch.
    pub fn first(&self) -> Batch {
        self.make(0, &self.order(0))
    }

    /// Images per batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Steps per pass through the data.
    pub(crate) fn steps_per_epoch(&self) -> u64 {
        (self.data.training.len() / self.batch) as u64
    }

    /// Makes batches from step `first` on, on a thread of their own, until the receiver is dropped.
    pub fn spawn<'scope>(self, scope: &'scope Scope<'scope, '_>, first: u64) -> Receiver<Batch>
    where
        'a: 'scope,
    {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            let mut order = (u64::MAX, Vec::new());
            for step in first.. {
                let epoch = step / self.steps_per_epoch();
                if order.0 != epoch {
                    order = (epoch, self.order(epoch));
                }
                if sender.send(self.make(step, &order.1)).is_err() {
                    return; // The training has ended.
                }
            }
        });
        receiver
    }

    /// The order of the images in an epoch.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.data.training.len()).collect();
        order.shuffle(&mut self.seed.child("order", epoch).rng());
        order
    }

    fn make(&self, step: u64, order: &[usize]) -> Batch {
        let TrainingData {
            training,
            shape,
            classes,
            pixel_values,
            ..
        } = self.data;
        let start =
            usize::try_from(step % self.steps_per_epoch()).expect("an epoch fits") * self.batch;
        let chosen = &order[start..start + self.batch];
        let mut rng = self.seed.child("augmentation", step).rng();
        let views = chosen.iter().map(|_| self.augmentation.draw(&mut rng));
        let mut drawn = Drawn {
            images: chosen.to_vec(),
            views: views.collect(),
            mixup: None,
        };
        let mut targets = vec![0.0; chosen.len() * classes];
        for (&index, targets) in chosen.iter().zip(targets.chunks_exact_mut(*classes)) {
            targets[usize::from(training.labels[index])] = 1.0;
        }
        drawn.mixup = Mixup::draw(self.mixup_alpha, chosen.len(), &mut rng);
        if let Some(mixup) = &drawn.mixup {
            mixup.apply(&mut targets, *classes);
        }
        Batch {
            pixels: if self.are_rendered {
                Pixels::Rendered(drawn.render(&training.pixels, *shape, pixel_values))
            } else {
                Pixels::Drawn(drawn)
            },
            targets,
            len: chosen.len(),
        }
    }
}

/// The numbers that the pixels of whole images become, for evaluation. `[images, channels, height, width]`
pub(crate) fn plain_pixels(bytes: &[u8], shape: ImageShape, values: &PixelValues) -> Vec<f32> {
    let count = bytes.len() / shape.image_len();
    Drawn::plain(count).render(bytes, shape, values)
}

#[cfg(test)]
mod tests {
    use burn::backend::flex::FlexDevice;

    use super::*;
    use crate::operators::{KeptImages, Operators as _};

    /// Ten images of 1×1×2 whose first pixel is their index, in five classes.
    fn with_batches(batch: usize, mixup_alpha: f64, check: impl FnOnce(Batches<'_>)) {
        let pixels: Vec<u8> = (0..10).flat_map(|index| [index, 0]).collect();
        let labels: Vec<u16> = (0..10).map(|index| index / 2).collect();
        let training = Images { pixels, labels };
        let shape = ImageShape {
            channels: 1,
            height: 1,
            width: 2,
        };
        let data = TrainingData {
            training: &training,
            validation: &training,
            test: None,
            shape,
            classes: 5,
            pixel_values: PixelValues::new(&[0.0], &[1.0 / 255.0]),
        };
        let augmentation = Augmentation::new(shape, 0, false, 0);
        check(Batches::new(
            &data,
            augmentation,
            mixup_alpha,
            batch,
            Seed::new(7),
        ));
    }

    fn take(batches: &Batches<'_>, first: u64, count: usize) -> Vec<Batch> {
        std::thread::scope(|scope| {
            let receiver = batches.clone().spawn(scope, first);
            receiver.iter().take(count).collect()
        })
    }

    fn rendered(batch: &Batch) -> &[f32] {
        match &batch.pixels {
            Pixels::Rendered(pixels) => pixels,
            Pixels::Drawn(_) => panic!("these are rendered"),
        }
    }

    fn indices(batch: &Batch) -> Vec<u8> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small numbers"
        )]
        rendered(batch)
            .iter()
            .step_by(2)
            .map(|pixel| pixel.round() as u8)
            .collect()
    }

    #[test]
    fn an_epoch_shows_every_image_once_in_an_order_of_its_own() {
        with_batches(5, 0.0, |batches| {
            assert_eq!(batches.steps_per_epoch(), 2);
            let made = take(&batches, 0, 4);
            let epochs: Vec<Vec<u8>> = made
                .chunks(2)
                .map(|e| e.iter().flat_map(indices).collect())
                .collect();
            for epoch in &epochs {
                let mut sorted = epoch.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..10).collect::<Vec<u8>>());
            }
            assert_ne!(epochs[0], epochs[1]);
            for batch in &made {
                for (index, target) in indices(batch).into_iter().zip(batch.targets.chunks(5)) {
                    assert!((target[usize::from(index) / 2] - 1.0).abs() < f32::EPSILON);
                    assert!((target.iter().sum::<f32>() - 1.0).abs() < f32::EPSILON);
                }
            }
        });
    }

    #[test]
    fn batches_do_not_depend_on_where_one_starts() {
        with_batches(3, 1.0, |batches| {
            let all = take(&batches, 0, 9);
            assert_eq!(all[4..], take(&batches, 4, 5));
        });
    }

    #[test]
    fn a_batch_larger_than_the_data_is_all_of_it() {
        with_batches(128, 0.0, |batches| {
            assert_eq!((batches.batch(), batches.steps_per_epoch()), (10, 1));
            assert_eq!(take(&batches, 3, 1)[0].len, 10);
        });
    }

    #[test]
    fn a_device_makes_the_same_of_what_is_drawn() {
        type Cpu = burn::backend::Flex;

        let shape = ImageShape {
            channels: 3,
            height: 7,
            width: 5,
        };
        let pixels: Vec<u8> = (0..9 * shape.image_len())
            .map(|at| u8::try_from(at * 7 % 256).unwrap())
            .collect();
        let training = Images {
            pixels,
            labels: vec![0; 9],
        };
        let data = TrainingData {
            training: &training,
            validation: &training,
            test: None,
            shape,
            classes: 1,
            pixel_values: PixelValues::new(&[0.5, 0.4, 0.3], &[0.2, 0.3, 0.0]),
        };
        let kept = KeptImages::<Cpu>::new(&training.pixels, shape, &data.pixel_values, &FlexDevice);
        let augmentation = Augmentation::new(shape, 9, true, 12);
        for mixup_alpha in [0.0, 1.0] {
            let batches = Batches::new(&data, augmentation, mixup_alpha, 4, Seed::new(3));
            let drawn = take(&batches.clone().only_drawn(), 0, 3);
            for (drawn, rendered) in drawn.iter().zip(take(&batches, 0, 3)) {
                let Pixels::Drawn(drawn) = &drawn.pixels else {
                    panic!("these are only drawn")
                };
                let seen = Cpu::see(&kept, drawn);
                assert_eq!(seen.dims(), [4, 3, 7, 5]);
                let seen: Vec<f32> = seen.into_data().to_vec().unwrap();
                assert_eq!(Pixels::Rendered(seen), rendered.pixels);
                assert_eq!(drawn.numbers().len(), 4 * NUMBERS_OF_IMAGE);
            }
        }
    }

    #[test]
    fn mixed_images_have_the_targets_of_both() {
        with_batches(10, 1.0, |batches| {
            let batch = &take(&batches, 0, 1)[0];
            let mixed = batch
                .targets
                .chunks(5)
                .filter(|t| t.iter().all(|&share| share < 0.99))
                .count();
            assert!(mixed > 4, "{mixed}");
            for target in batch.targets.chunks(5) {
                assert!((target.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            }
        });
    }
}
