//! Divides the training side of a data set into what is trained on and what the loss is measured on.
//!
//! Pure: the split follows from the number of images, their labels and the settings, on every machine.

use rand::Rng as _;
use shared::Seed;
use shared::dataset::{DataSettings, DatasetName, Validation};

use crate::dataset::{Dataset, Digest, ImageShape, Images};
use crate::error::Error;

/// CIFAR-10's published channel means and standard deviations, of pixels 0..=255.
///
/// # Source
/// Gastaldi, "Shake-Shake regularization", 2017: its training code.
const CIFAR_10_MEAN: [f64; 3] = [125.3, 123.0, 113.9];
const CIFAR_10_STD: [f64; 3] = [63.0, 62.1, 66.7];

/// A data set ready to train on.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// Which data set.
    pub name: DatasetName,
    /// The images to train on.
    pub train: Images,
    /// The images the loss is measured on.
    pub validation: Images,
    /// The images nothing is decided on, where the data set has some.
    pub test: Option<Images>,
    /// The form of every image.
    pub shape: ImageShape,
    /// The class of each label, in their order.
    pub class_names: Vec<String>,
    /// What brings a channel to mean 0 and standard deviation 1.
    pub normalisation: Normalisation,
    /// SHA-256 of content and split: equal digests mean equal images on equal sides in equal order.
    pub digest: Digest,
}

impl Splits {
    /// The number of classes.
    pub fn num_classes(&self) -> usize {
        self.class_names.len()
    }
}

/// Mean and standard deviation of each channel over the training images.
///
/// # Shapes
/// - `mean`, `std`: `[channels]`.
///
/// # Units
/// Of pixels divided by 255.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    /// The mean.
    pub mean: Vec<f64>,
    /// The standard deviation (divided by n); 1 where a channel is constant, so that it can be divided by.
    pub std: Vec<f64>,
}

impl Normalisation {
    /// Measures the images. The sums are whole numbers, so their order changes nothing.
    fn measure(images: &Images, shape: ImageShape) -> Self {
        let plane = shape.height * shape.width;
        let mut sums = vec![(0_u64, 0_u64); shape.channels];
        for image in images.pixels.chunks_exact(shape.image_len()) {
            for (pixels, (sum, squares)) in image.chunks_exact(plane).zip(&mut sums) {
                *sum += pixels.iter().map(|&pixel| u64::from(pixel)).sum::<u64>();
                *squares += pixels
                    .iter()
                    .map(|&pixel| u64::from(pixel).pow(2))
                    .sum::<u64>();
            }
        }
        let count = (images.len() * plane) as f64;
        let moments = |(sum, squares): &(u64, u64)| {
            let mean = *sum as f64 / count;
            let variance = *squares as f64 / count - mean * mean;
            // Below one part in 10^9 of the range the difference is rounding: the channel is constant.
            let std = variance.max(0.0).sqrt() / 255.0;
            (mean / 255.0, if std > 1e-9 { std } else { 1.0 })
        };
        let (mean, std) = sums.iter().map(moments).unzip();
        Self { mean, std }
    }
}

/// Divides a data set as the settings say.
pub(crate) fn split(dataset: Dataset, settings: &DataSettings) -> Result<Splits, Error> {
    let content = dataset.digest();
    let Dataset {
        name,
        mut train,
        test,
        shape,
        class_names,
        ..
    } = dataset;
    let num_validation = resolve(settings.validation, train.len()).ok_or_else(|| {
        let asked = match settings.validation {
            Validation::Fraction(fraction) => format!("a fraction of {fraction}"),
            Validation::Count(count) => format!("{count} images"),
        };
        Error::Validation {
            dataset: name,
            asked,
            num_images: train.len(),
        }
    })?;
    let positions = if settings.stratified {
        choose_stratified(&train.labels, num_validation, settings.seed)
    } else {
        choose((0..train.len()).collect(), num_validation, settings.seed, 0)
    };
    let validation = train.take_out(&positions, shape.image_len());
    let normalisation = if name == DatasetName::Cifar10 {
        Normalisation {
            mean: CIFAR_10_MEAN.map(|mean| mean / 255.0).to_vec(),
            std: CIFAR_10_STD.map(|std| std / 255.0).to_vec(),
        }
    } else {
        Normalisation::measure(&train, shape)
    };
    let digest = content.with_split(&positions);
    Ok(Splits {
        name,
        train,
        validation,
        test,
        shape,
        class_names,
        normalisation,
        digest,
    })
}

/// The number of validation images; `None` where one of the sides would be empty.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the product lies in 0..=num_images, or is refused by the range that follows"
)]
fn resolve(validation: Validation, num_images: usize) -> Option<usize> {
    let count = match validation {
        Validation::Fraction(fraction) => (fraction * num_images as f64).round() as usize,
        Validation::Count(count) => count,
    };
    (1..num_images).contains(&count).then_some(count)
}

/// Draws `count` of `candidates` without replacement, in ascending order.
///
/// `stream` keeps several draws under one seed apart.
fn choose(mut candidates: Vec<usize>, count: usize, seed: u64, stream: u64) -> Vec<usize> {
    let mut generator = Seed::new(seed).child("split", stream).rng();
    // Our own shuffle, since a library's may change between versions and a split may not.
    for done in 0..count {
        let left = (candidates.len() - done) as u128;
        // A fixed-point product: its bias is below left / 2^64.
        let offset = (u128::from(generator.next_u64()) * left) >> 64;
        let offset = usize::try_from(offset).expect("an offset is below the number left");
        candidates.swap(done, done + offset);
    }
    candidates.truncate(count);
    candidates.sort_unstable();
    candidates
}

/// Draws `count` positions so that each class gives its share, rounded up or down.
///
/// The images that rounding down leaves over go to the classes with the largest remainders;
/// equal remainders: the lower label first, so that every machine agrees.
pub(crate) fn choose_stratified(labels: &[u16], count: usize, seed: u64) -> Vec<usize> {
    let num_classes = labels
        .iter()
        .max()
        .map_or(0, |&label| usize::from(label) + 1);
    let mut members = vec![Vec::new(); num_classes];
    for (position, &label) in labels.iter().enumerate() {
        members[usize::from(label)].push(position);
    }
    let share = |class: &Vec<usize>| class.len() as u128 * count as u128;
    let total = labels.len() as u128;
    let mut counts: Vec<usize> = members
        .iter()
        .map(|class| usize::try_from(share(class) / total).expect("a share is below the class"))
        .collect();
    let mut order: Vec<usize> = (0..num_classes).collect();
    order.sort_by_key(|&class| (std::cmp::Reverse(share(&members[class]) % total), class));
    let left_over = count - counts.iter().sum::<usize>();
    for &class in &order[..left_over] {
        counts[class] += 1;
    }
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    for (class, (candidates, count)) in members.into_iter().zip(counts).enumerate() {
        chosen.extend(choose(candidates, count, seed, class as u64));
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: ImageShape = ImageShape {
        channels: 1,
        height: 1,
        width: 2,
    };

    /// A data set whose images are all different: image i holds i in its two pixels.
    fn dataset(labels: Vec<u16>, num_classes: usize) -> Dataset {
        let numbers = 0..u16::try_from(labels.len()).unwrap();
        let pixels = numbers.flat_map(u16::to_le_bytes).collect();
        let class_names = (0..num_classes)
            .map(|class| format!("class {class}"))
            .collect();
        let train = Images { pixels, labels };
        Dataset::new(DatasetName::Folder, train, None, SHAPE, class_names)
    }

    fn settings(validation: Validation, stratified: bool, seed: u64) -> DataSettings {
        let settings = DataSettings::new(DatasetName::Folder);
        DataSettings {
            validation,
            stratified,
            seed,
            ..settings
        }
    }

    /// The images as (number, label) pairs.
    fn items(images: &Images) -> Vec<(u16, u16)> {
        let numbers = images
            .pixels
            .chunks(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        numbers.zip(images.labels.iter().copied()).collect()
    }

    fn per_class(labels: &[u16], num_classes: usize) -> Vec<usize> {
        let mut counts = vec![0; num_classes];
        for &label in labels {
            counts[usize::from(label)] += 1;
        }
        counts
    }

    prop_compose! {
        fn any_case()(
            labels in prop::collection::vec(0_u16..5, 2..200),
            count in any::<prop::sample::Index>(),
            stratified in any::<bool>(),
            seed in any::<u64>(),
        ) -> (Vec<u16>, DataSettings) {
            let count = 1 + count.index(labels.len() - 1);
            (labels, settings(Validation::Count(count), stratified, seed))
        }
    }

    proptest! {
        #[test]
        fn a_split_is_a_partition_in_the_original_order((labels, settings) in any_case()) {
            let all = items(&dataset(labels.clone(), 5).train);
            let splits = split(dataset(labels, 5), &settings).unwrap();
            let (train, validation) = (items(&splits.train), items(&splits.validation));
            prop_assert!(train.is_sorted() && validation.is_sorted());
            prop_assert_eq!(Validation::Count(validation.len()), settings.validation);
            let mut both = [train, validation].concat();
            both.sort_unstable();
            prop_assert_eq!(both, all);
        }

        #[test]
        fn one_seed_gives_one_split((labels, settings) in any_case()) {
            let first = split(dataset(labels.clone(), 5), &settings).unwrap();
            prop_assert_eq!(first, split(dataset(labels, 5), &settings).unwrap());
        }

        #[test]
        fn a_stratified_split_keeps_class_shares_within_one((labels, settings) in any_case()) {
            let settings = DataSettings { stratified: true, ..settings };
            let splits = split(dataset(labels.clone(), 5), &settings).unwrap();
            let share = splits.validation.len() as f64 / labels.len() as f64;
            let all = per_class(&labels, 5);
            for (found, all) in per_class(&splits.validation.labels, 5).into_iter().zip(all) {
                prop_assert!((found as f64 - all as f64 * share).abs() < 1.0);
            }
        }

        #[test]
        fn the_digest_follows_the_split(labels in prop::collection::vec(0_u16..5, 2..200), a: u64, b: u64) {
            let of = |seed| split(dataset(labels.clone(), 5), &settings(Validation::Count(1), false, seed)).unwrap();
            let (a, b) = (of(a), of(b));
            prop_assert_eq!(a.digest == b.digest, a.validation == b.validation);
        }
    }

    #[test]
    fn the_draw_of_seed_0_is_the_one_every_earlier_version_made() {
        assert_eq!(choose((0..20).collect(), 5, 0, 0), DRAWN);
        assert_eq!(choose((0..20).collect(), 5, 0, 1), DRAWN_FROM_STREAM_1);
    }

    const DRAWN: [usize; 5] = [1, 2, 7, 8, 17];
    const DRAWN_FROM_STREAM_1: [usize; 5] = [4, 10, 13, 15, 16];

    #[test]
    fn another_seed_gives_another_split() {
        let labels: Vec<u16> = vec![0; 100];
        let of = |seed| {
            let settings = settings(Validation::Count(10), false, seed);
            split(dataset(labels.clone(), 1), &settings)
                .unwrap()
                .validation
        };
        assert_ne!(of(0), of(1));
    }

    #[test]
    fn the_digest_changes_with_every_part_of_the_content() {
        let base = || dataset(vec![0, 1, 0, 1], 2);
        let rebuilt = |change: fn(&mut Dataset)| {
            let mut changed = base();
            change(&mut changed);
            let Dataset {
                name,
                train,
                test,
                shape,
                class_names,
                ..
            } = changed;
            Dataset::new(name, train, test, shape, class_names).digest()
        };
        let digests = [
            rebuilt(|_| ()),
            rebuilt(|set| set.train.pixels[3] ^= 1),
            rebuilt(|set| set.train.labels[2] = 1),
            rebuilt(|set| set.class_names[0].push('s')),
            rebuilt(|set| set.class_names.push("one more".to_owned())),
            rebuilt(|set| {
                set.shape = ImageShape {
                    channels: 2,
                    height: 1,
                    width: 1,
                }
            }),
            rebuilt(|set| {
                set.shape = ImageShape {
                    channels: 1,
                    height: 2,
                    width: 1,
                }
            }),
            rebuilt(|set| set.test = Some(Images::default())),
            rebuilt(|set| set.test = Some(set.train.clone())),
            rebuilt(|set| {
                set.train.labels.pop();
                set.train.pixels.truncate(6);
            }),
        ];
        assert_eq!(digests[0], base().digest());
        let different: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(different.len(), digests.len());
    }

    #[test]
    fn a_fraction_is_rounded_to_whole_images() {
        assert_eq!(resolve(Validation::Fraction(0.1), 50_000), Some(5_000));
        assert_eq!(resolve(Validation::Fraction(0.1), 25), Some(3));
        assert_eq!(resolve(Validation::Fraction(0.1), 24), Some(2));
    }

    #[test]
    fn a_split_that_leaves_a_side_empty_is_refused() {
        for validation in [
            Validation::Count(0),
            Validation::Count(4),
            Validation::Fraction(0.0),
            Validation::Fraction(1.0),
            Validation::Fraction(-0.5),
            Validation::Fraction(f64::NAN),
            Validation::Fraction(f64::INFINITY),
        ] {
            let error = split(dataset(vec![0; 4], 1), &settings(validation, false, 0)).unwrap_err();
            assert!(
                matches!(error, Error::Validation { num_images: 4, .. }),
                "{validation:?}"
            );
        }
        let error = split(
            dataset(vec![0; 4], 1),
            &settings(Validation::Count(4), false, 0),
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "cannot keep 4 images of data set `folder` for validation: both sides need an image, and there are 4"
        );
    }

    #[test]
    fn mean_and_deviation_are_those_of_the_training_side_per_channel() {
        // Channel 0: 0, 255, 0, 255; channel 1: always 51.
        let train = Images {
            pixels: vec![0, 255, 51, 51, 0, 255, 51, 51],
            labels: vec![0, 0],
        };
        let shape = ImageShape {
            channels: 2,
            height: 1,
            width: 2,
        };
        let found = Normalisation::measure(&train, shape);
        assert_eq!(
            found,
            Normalisation {
                mean: vec![0.5, 0.2],
                std: vec![0.5, 1.0]
            }
        );
    }

    #[test]
    fn cifar_10_is_normalised_by_its_published_constants() {
        let base = dataset(vec![0; 6], 1);
        let shape = ImageShape {
            channels: 3,
            height: 1,
            width: 2,
        };
        let train = Images {
            pixels: vec![9; 36],
            labels: base.train.labels,
        };
        let set = Dataset::new(DatasetName::Cifar10, train, None, shape, base.class_names);
        let settings = settings(Validation::Count(2), false, 0);
        let found = split(set, &settings).unwrap().normalisation;
        assert_eq!(found.mean, [125.3 / 255.0, 123.0 / 255.0, 113.9 / 255.0]);
        assert_eq!(found.std, [63.0 / 255.0, 62.1 / 255.0, 66.7 / 255.0]);
    }
}
