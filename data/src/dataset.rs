//! A data set as it comes from its files: labelled images, not yet divided by a search's split.

use sha2::{Digest as _, Sha256};
use shared::dataset::DatasetName;

/// Labelled images.
///
/// # Shapes
/// - `pixels`: `[n, channels, height, width]`, row-major, 0..=255.
/// - `labels`: `[n]`, each below the number of classes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images {
    /// The pixels of all images, one image after the other.
    pub pixels: Vec<u8>,
    /// The class of each image.
    pub labels: Vec<u16>,
}

impl Images {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Takes the images at `positions` (ascending) out; the others close ranks in their order.
    pub(crate) fn take_out(&mut self, positions: &[usize], image_len: usize) -> Self {
        let mut taken = Self {
            pixels: Vec::with_capacity(positions.len() * image_len),
            labels: Vec::with_capacity(positions.len()),
        };
        let mut next = positions.iter().copied().peekable();
        let mut kept = 0;
        for position in 0..self.len() {
            let pixels = position * image_len..(position + 1) * image_len;
            if next.next_if_eq(&position).is_some() {
                taken.pixels.extend_from_slice(&self.pixels[pixels]);
                taken.labels.push(self.labels[position]);
            } else {
                self.pixels.copy_within(pixels, kept * image_len);
                self.labels[kept] = self.labels[position];
                kept += 1;
            }
        }
        self.pixels.truncate(kept * image_len);
        self.labels.truncate(kept);
        taken
    }
}

/// The form every image of a data set has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageShape {
    /// 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// Values in one image.
    pub fn image_len(self) -> usize {
        self.channels * self.height * self.width
    }
}

/// A data set before the split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Which one.
    pub name: DatasetName,
    /// The images to train and validate on.
    pub train: Images,
    /// The images to test on, where the data set has some.
    pub test: Option<Images>,
    /// The form of every image.
    pub shape: ImageShape,
    /// The class of each label, in their order.
    pub class_names: Vec<String>,
    digest: Digest,
}

impl Dataset {
    /// Puts a data set together and takes its digest.
    ///
    /// # Panics
    /// If the numbers of pixels and labels disagree: readers check before they call this.
    pub(crate) fn new(
        name: DatasetName,
        train: Images,
        test: Option<Images>,
        shape: ImageShape,
        class_names: Vec<String>,
    ) -> Self {
        for side in std::iter::once(&train).chain(&test) {
            assert_eq!(side.pixels.len(), side.len() * shape.image_len());
            assert!(
                side.labels
                    .iter()
                    .all(|&label| usize::from(label) < class_names.len())
            );
        }
        let digest = Digest::of_content(&train, test.as_ref(), shape, &class_names);
        Self {
            name,
            train,
            test,
            shape,
            class_names,
            digest,
        }
    }

    /// The SHA-256 of shape, classes, pixels and labels of both sides.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// A SHA-256, shown as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    fn of_content(
        train: &Images,
        test: Option<&Images>,
        shape: ImageShape,
        class_names: &[String],
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"tandem data set 1\n");
        for size in [shape.channels, shape.height, shape.width, class_names.len()] {
            update_number(&mut hash, size);
        }
        for name in class_names {
            update_number(&mut hash, name.len());
            hash.update(name);
        }
        for side in [Some(train), test] {
            // A side that is missing must not look like one that is empty.
            update_number(&mut hash, usize::from(side.is_some()));
            let Some(side) = side else { continue };
            update_number(&mut hash, side.len());
            hash.update(&side.pixels);
            for label in &side.labels {
                hash.update(label.to_le_bytes());
            }
        }
        Self::of(hash)
    }

    /// What a hash has come to.
    pub(crate) fn of(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    /// The digest of a content and of the positions that were taken out of it for validation.
    pub(crate) fn with_split(self, validation: &[usize]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"tandem split 1\n");
        hash.update(self.0);
        update_number(&mut hash, validation.len());
        for &position in validation {
            update_number(&mut hash, position);
        }
        Self::of(hash)
    }
}

/// Every number is hashed in 8 bytes, whatever the machine's word is.
fn update_number(hash: &mut Sha256, number: usize) {
    hash.update((number as u64).to_le_bytes());
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape {
        channels: 1,
        height: 1,
        width: 2,
    };

    #[test]
    fn what_is_taken_out_is_missing_from_what_is_left() {
        let mut images = Images {
            pixels: (0..10).collect(),
            labels: vec![0, 1, 2, 3, 4],
        };
        let taken = images.take_out(&[0, 3], SHAPE.image_len());
        assert_eq!(
            taken,
            Images {
                pixels: vec![0, 1, 6, 7],
                labels: vec![0, 3]
            }
        );
        assert_eq!(
            images,
            Images {
                pixels: vec![2, 3, 4, 5, 8, 9],
                labels: vec![1, 2, 4]
            }
        );
    }
}
