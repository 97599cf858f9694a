//! What happens to training images: random crop, mirror, normalisation, cutout, mixup.
//!
//! Images are bytes until here. A view of one is drawn ([`Augmentation::draw`]) and then rendered; the lengths given in
//! settings are for images of 32×32 and are scaled to the image at hand. All draws come from the generator passed in,
//! which the caller makes from the seed and the step, so a resumed training needs no state but its step.
//!
//! # Source
//! He et al. 2016 (crop and mirror), `DeVries` & Taylor 2017 (cutout), Zhang et al. 2018 (mixup).

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution as _, Gamma};

use data::ImageShape;

/// The side of the images for which lengths are given.
const REFERENCE_SIDE: usize = 32;

/// The random changes to an image, in pixels of that image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augmentation {
    shape: ImageShape,
    /// Black pixels added on each side before the crop: vertically, horizontally.
    padding: (usize, usize),
    flip: bool,
    /// Height and width of the square that is cut out.
    cutout: (usize, usize),
}

impl Augmentation {
    /// The changes for images of one shape; `padding` and `cutout` are lengths at 32×32, where 0 is none.
    pub fn new(shape: ImageShape, padding: usize, flip: bool, cutout: usize) -> Self {
        let scaled = |length| (scaled(length, shape.height), scaled(length, shape.width));
        Self {
            shape,
            padding: scaled(padding),
            flip,
            cutout: scaled(cutout),
        }
    }

    /// Draws one image's changes.
    pub fn draw(&self, rng: &mut ChaCha12Rng) -> View {
        let ImageShape { height, width, .. } = self.shape;
        // All numbers are drawn always, so that one setting does not move the draws of another.
        let rows = rng.random_range(0..=2 * self.padding.0).cast_signed();
        let columns = rng.random_range(0..=2 * self.padding.1).cast_signed();
        let is_mirrored = rng.random::<bool>() && self.flip;
        let centre = (rng.random_range(0..height), rng.random_range(0..width));
        View {
            rows: rows - self.padding.0.cast_signed(),
            columns: columns - self.padding.1.cast_signed(),
            is_mirrored,
            hole: Hole {
                rows: around(centre.0, self.cutout.0, height),
                columns: around(centre.1, self.cutout.1, width),
            },
        }
    }
}

/// A length at 32 pixels, for a side of `side` pixels; half to even.
fn scaled(length: usize, side: usize) -> usize {
    let scaled = (length * side) as f64 / REFERENCE_SIDE as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small length"
    )]
    let scaled = scaled.round_ties_even() as usize;
    scaled
}

/// `length` pixels around `centre` (one more before than after it where the length is even), as far as they lie
/// within `0..side`.
fn around(centre: usize, length: usize, side: usize) -> (usize, usize) {
    let start = centre.cast_signed() - (length / 2).cast_signed();
    let end = start + length.cast_signed();
    let clamp = |at: isize| at.clamp(0, side.cast_signed()).cast_unsigned();
    (clamp(start), clamp(end))
}

/// How one image is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The row of the image that is seen at the top.
    rows: isize,
    /// The column of the image that is seen at the left.
    columns: isize,
    is_mirrored: bool,
    hole: Hole,
}

/// Pixels that are replaced by the mean colour: from, to (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hole {
    rows: (usize, usize),
    columns: (usize, usize),
}

impl View {
    /// The image as it is.
    pub fn plain() -> Self {
        let hole = Hole {
            rows: (0, 0),
            columns: (0, 0),
        };
        Self {
            rows: 0,
            columns: 0,
            is_mirrored: false,
            hole,
        }
    }

    /// What a device makes the same of: rows and columns that the image is shifted by, 1 where it is mirrored, and first and
    /// last (exclusive) row and column of the hole.
    ///
    /// # Panics
    /// For images of more than 2³¹ rows or columns.
    pub fn numbers(&self) -> [i32; 7] {
        let Hole {
            rows: (top, bottom),
            columns: (left, right),
        } = self.hole;
        let number = |at: usize| i32::try_from(at).expect("images are small");
        let shift = |by: isize| i32::try_from(by).expect("images are small");
        [
            shift(self.rows),
            shift(self.columns),
            i32::from(self.is_mirrored),
            number(top),
            number(bottom),
            number(left),
            number(right),
        ]
    }

    /// Writes the normalised pixels that are seen.
    ///
    /// # Shapes
    /// - `image`, `output`: `[channels, height, width]`
    /// # Panics
    /// If the normalisation is for another number of channels.
    pub fn render(
        &self,
        image: &[u8],
        shape: ImageShape,
        values: &PixelValues,
        output: &mut [f32],
    ) {
        let ImageShape {
            channels,
            height,
            width,
        } = shape;
        assert_eq!(values.tables.len(), channels, "one table per channel");
        let plane = height * width;
        let planes = output
            .chunks_exact_mut(plane)
            .zip(image.chunks_exact(plane));
        for ((output, image), table) in planes.zip(&values.tables) {
            for (row, output) in output.chunks_exact_mut(width).enumerate() {
                let source = row
                    .checked_add_signed(self.rows)
                    .filter(|&source| source < height)
                    .map(|source| &image[source * width..][..width]);
                self.render_row(source, table, output);
                if (self.hole.rows.0..self.hole.rows.1).contains(&row) {
                    output[self.hole.columns.0..self.hole.columns.1].fill(0.0);
                }
            }
        }
    }

    fn render_row(&self, source: Option<&[u8]>, table: &[f32; 256], output: &mut [f32]) {
        let Some(source) = source else {
            output.fill(table[0]);
            return;
        };
        let width = output.len();
        for (column, pixel) in output.iter_mut().enumerate() {
            let seen = if self.is_mirrored {
                width - 1 - column
            } else {
                column
            };
            let source = seen
                .checked_add_signed(self.columns)
                .and_then(|seen| source.get(seen));
            *pixel = table[usize::from(source.copied().unwrap_or(0))];
        }
    }
}

/// What each byte of each channel becomes: a number, of mean 0 and deviation 1 over the data.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelValues {
    tables: Vec<[f32; 256]>,
}

impl PixelValues {
    /// From the values of each byte, one channel after the other. `[channels · 256]`
    pub fn from_flat(values: &[f32]) -> Self {
        Self {
            tables: values.as_chunks().0.to_vec(),
        }
    }

    /// The values of each byte, one channel after the other. `[channels · 256]`
    pub fn flat(&self) -> Vec<f32> {
        self.tables.concat()
    }

    /// From each channel's mean and standard deviation, as shares of full brightness.
    ///
    /// # Panics
    /// If there are more of one than of the other.
    pub fn new(mean: &[f64], deviation: &[f64]) -> Self {
        assert_eq!(
            mean.len(),
            deviation.len(),
            "a mean and a deviation per channel"
        );
        let table = |(mean, deviation): (&f64, &f64)| {
            // A channel of one brightness only has no deviation; it becomes 0.
            let scale = if *deviation > 0.0 {
                1.0 / deviation
            } else {
                0.0
            };
            std::array::from_fn(|byte| {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "pixels are single precision"
                )]
                let value = ((byte as f64 / 255.0 - mean) * scale) as f32;
                value
            })
        };
        Self {
            tables: mean.iter().zip(deviation).map(table).collect(),
        }
    }
}

/// Two batches become one: `weight · batch + (1 − weight) · the batch in another order`, labels likewise.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixup {
    /// The share of the image itself.
    pub weight: f32,
    /// The image that each one is mixed with.
    pub partners: Vec<usize>,
}

impl Mixup {
    /// Draws the weight from Beta(alpha, alpha), for the whole batch, and the partners; `None` if alpha is 0.
    pub fn draw(alpha: f64, batch: usize, rng: &mut ChaCha12Rng) -> Option<Self> {
        let weight = symmetric_beta(alpha, rng)?;
        let mut partners: Vec<usize> = (0..batch).collect();
        partners.shuffle(rng);
        Some(Self { weight, partners })
    }

    /// Mixes the items of a batch, each of `len` numbers.
    pub fn apply(&self, batch: &mut Vec<f32>, len: usize) {
        let mut mixed = Vec::with_capacity(batch.len());
        for (own, &partner) in batch.chunks_exact(len).zip(&self.partners) {
            let partner = &batch[partner * len..][..len];
            let pairs = own.iter().zip(partner);
            mixed.extend(pairs.map(|(own, other)| self.weight * own + (1.0 - self.weight) * other));
        }
        *batch = mixed;
    }
}

/// A number from Beta(alpha, alpha), as X / (X + Y) with X, Y from Gamma(alpha); `None` if alpha is 0.
///
/// For a small alpha both may be too small for a floating-point number; the limit of the distribution is then 0 or 1
/// with equal probability.
fn symmetric_beta(alpha: f64, rng: &mut ChaCha12Rng) -> Option<f32> {
    let gamma = Gamma::new(alpha, 1.0).ok()?; // an error means that alpha is not positive
    let (x, y) = (gamma.sample(rng), gamma.sample(rng));
    let limit = if rng.random::<bool>() { 1.0 } else { 0.0 };
    let share = x / (x + y);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "pixels are single precision"
    )]
    let weight = if share.is_finite() {
        share as f32
    } else {
        limit
    };
    Some(weight)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact values are expected")]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn shape(channels: usize, height: usize, width: usize) -> ImageShape {
        ImageShape {
            channels,
            height,
            width,
        }
    }

    fn rng(seed: u64) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(seed)
    }

    /// Bytes 0, 51, 102, … become 0, 1, 2, …
    fn fifths(channels: usize) -> PixelValues {
        PixelValues::new(&vec![0.0; channels], &vec![0.2; channels])
    }

    fn render(view: View, shape: ImageShape, image: &[u8]) -> Vec<f32> {
        let mut output = vec![f32::NAN; image.len()];
        view.render(image, shape, &fifths(shape.channels), &mut output);
        output.into_iter().map(f32::round).collect()
    }

    #[test]
    fn normalisation_of_cifar_worked_by_hand() {
        let values = PixelValues::new(&[125.3 / 255.0], &[63.0 / 255.0]);
        let mut output = [0.0; 3];
        View::plain().render(&[0, 125, 255], shape(1, 1, 3), &values, &mut output);
        for (found, byte) in output.into_iter().zip([0.0, 125.0, 255.0]) {
            assert!((f64::from(found) - (byte - 125.3) / 63.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_channel_of_one_brightness_becomes_zero() {
        let values = PixelValues::new(&[0.0], &[0.0]);
        let mut output = [1.0; 2];
        View::plain().render(&[0, 0], shape(1, 1, 2), &values, &mut output);
        assert_eq!(output, [0.0, 0.0]);
    }

    #[test]
    fn a_view_is_shifted_then_mirrored_then_cut() {
        // In fifths of full brightness: 1 2 3 / 4 5 0, and 0 1 2 / 3 4 5.
        let image = [51, 102, 153, 204, 255, 0, 0, 51, 102, 153, 204, 255];
        let shape = shape(2, 2, 3);
        let plain = View::plain();
        assert_eq!(
            render(plain, shape, &image),
            [1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        );
        let shifted = View {
            rows: 1,
            columns: -1,
            ..plain
        };
        assert_eq!(
            render(shifted, shape, &image),
            [0.0, 4.0, 5.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0]
        );
        let mirrored = View {
            is_mirrored: true,
            ..shifted
        };
        assert_eq!(
            render(mirrored, shape, &image),
            [5.0, 4.0, 0.0, 0.0, 0.0, 0.0, 4.0, 3.0, 0.0, 0.0, 0.0, 0.0]
        );
        let cut = View {
            hole: Hole {
                rows: (0, 1),
                columns: (1, 3),
            },
            ..mirrored
        };
        assert_eq!(
            render(cut, shape, &image),
            [5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        );
    }

    #[test]
    fn a_hole_is_filled_with_the_mean_and_the_border_with_black() {
        let values = PixelValues::new(&[0.5], &[0.5]);
        let view = View {
            columns: 1,
            hole: Hole {
                rows: (0, 1),
                columns: (0, 1),
            },
            ..View::plain()
        };
        let mut output = [9.0; 3];
        view.render(&[255, 255, 255], shape(1, 1, 3), &values, &mut output);
        assert_eq!(output, [0.0, 1.0, -1.0]);
    }

    #[test]
    fn lengths_are_scaled_from_32_pixels() {
        let at = |side| Augmentation::new(shape(1, side, side), 4, true, 16);
        assert_eq!((at(32).padding, at(32).cutout), ((4, 4), (16, 16)));
        assert_eq!((at(8).padding, at(8).cutout), ((1, 1), (4, 4)));
        assert_eq!((at(28).padding, at(28).cutout), ((4, 4), (14, 14)));
        assert_eq!(
            Augmentation::new(shape(3, 16, 64), 4, false, 8).padding,
            (2, 8)
        );
    }

    #[test]
    fn cutout_worked_by_hand() {
        // Length 4 around pixel 0 keeps the half that is inside, around 3 all of it.
        assert_eq!(around(0, 4, 8), (0, 2));
        assert_eq!(around(3, 4, 8), (1, 5));
        assert_eq!(around(7, 4, 8), (5, 8));
        assert_eq!(around(3, 3, 8), (2, 5));
        let none = around(3, 0, 8);
        assert_eq!(none.0, none.1);
    }

    #[test]
    fn draws_cover_their_ranges_and_nothing_else() {
        let augmentation = Augmentation::new(shape(3, 32, 32), 4, true, 20);
        let mut rng = rng(1);
        let views: Vec<View> = (0..3000).map(|_| augmentation.draw(&mut rng)).collect();
        assert!(
            views
                .iter()
                .all(|v| (-4..=4).contains(&v.rows) && (-4..=4).contains(&v.columns))
        );
        for shift in -4..=4 {
            assert!(views.iter().any(|v| v.rows == shift));
        }
        let mirrored = views.iter().filter(|v| v.is_mirrored).count();
        assert!((1350..1650).contains(&mirrored), "{mirrored}");
        let still = Augmentation::new(shape(3, 32, 32), 0, false, 0);
        let view = still.draw(&mut rng);
        assert!(view.rows == 0 && view.columns == 0 && !view.is_mirrored);
        assert_eq!(view.hole.rows.0, view.hole.rows.1);
    }

    #[test]
    fn mixup_worked_by_hand() {
        let mut batch = vec![1.0, 2.0, 3.0, 4.0];
        Mixup {
            weight: 0.75,
            partners: vec![1, 1],
        }
        .apply(&mut batch, 2);
        assert_eq!(batch, [1.5, 2.5, 3.0, 4.0]);
    }

    #[test]
    fn mixup_weights_follow_the_beta_distribution() {
        let mut rng = rng(2);
        for alpha in [0.2, 1.0] {
            let weights: Vec<f64> = (0..20_000)
                .map(|_| f64::from(Mixup::draw(alpha, 1, &mut rng).unwrap().weight))
                .collect();
            let mean = weights.iter().sum::<f64>() / 20_000.0;
            let variance = weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / 20_000.0;
            assert!((mean - 0.5).abs() < 0.01, "{mean}");
            // The variance of Beta(a, a) is 1 / (4 (2a + 1)).
            assert!(
                (variance - 0.25 / (2.0 * alpha + 1.0)).abs() < 0.005,
                "{variance}"
            );
        }
    }

    #[test]
    fn mixup_with_alpha_near_zero_mixes_nothing_and_with_zero_is_off() {
        let mut rng = rng(3);
        assert_eq!(Mixup::draw(0.0, 4, &mut rng), None);
        for alpha in [1e-3, 1e-9, 1e-300] {
            let ones = (0..200)
                .map(|_| Mixup::draw(alpha, 1, &mut rng).unwrap().weight)
                .inspect(|weight| assert!((0.0..=1.0).contains(weight)))
                .filter(|weight| *weight > 0.5)
                .count();
            assert!((60..140).contains(&ones), "{ones} of 200 at alpha {alpha}");
        }
    }
}
