//! Convolutions of 3 × 3 with stride 1 in fewer multiplications.
//!
//! Four outputs are computed from the 4 × 4 inputs they see with 16 multiplications for each pair of channels instead
//! of 36: input and weights are transformed, multiplied number by number (which is a matrix product for each of the 16
//! positions, over the channels), and the products transformed back. Channels are innermost all the while. Rounding
//! errors are about twice those of the plain sum.
//!
//! The gradient of the input is the same convolution of the output's gradient, with the kernel turned by half a turn
//! and the channels exchanged.
//!
//! # Source
//! Lavin & Gray 2016 (Fast algorithms for convolutional neural networks), F(2 × 2, 3 × 3).

use rayon::prelude::*;

use super::Window;
use super::aligned::Aligned;
use super::kernels::correlate::{Interleaved, Rows, correlate};
use super::kernels::transpose::{LANES, Lines};
use super::simd::{Instructions, vectorized};

/// Channels on either side from which on the transformations pay.
const LEAST_CHANNELS: usize = 32;
/// Tiles that are multiplied at once, about.
const TILES: usize = 64;
/// Positions of a transformed tile.
const POSITIONS: usize = 16;
/// Channels that are summed over at a time, so that a panel of weights stays in the first cache.
const INNER_BLOCK: usize = 128;

/// One number of each of 16 channels.
type Vector = [f32; LANES];

/// The sizes of such a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Geometry {
    /// Whether a convolution can be computed this way, and gains by it.
    pub(super) fn is_worth_it(self, window: Window) -> bool {
        window == Window::same(3, 1) && self.in_channels.min(self.out_channels) >= LEAST_CHANNELS
    }

    /// The convolution of the output's gradient that gives the input's.
    pub(super) fn turned(self) -> Self {
        Self {
            in_channels: self.out_channels,
            out_channels: self.in_channels,
            ..self
        }
    }

    fn in_padded(self) -> usize {
        self.in_channels.next_multiple_of(LANES)
    }

    fn out_padded(self) -> usize {
        self.out_channels.next_multiple_of(LANES)
    }

    fn tile_columns(self) -> usize {
        self.width.div_ceil(2)
    }

    fn tile_rows(self) -> usize {
        self.height.div_ceil(2)
    }

    /// Numbers of a line of an image with the border that its tiles see.
    fn bordered_line(self) -> usize {
        (2 * self.tile_columns() + 2) * self.in_padded()
    }

    /// Numbers of an image with the border that its tiles see.
    fn bordered(self) -> usize {
        (2 * self.tile_rows() + 2) * self.bordered_line()
    }

    fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Images that are worked on together.
    fn group(self) -> usize {
        (TILES / (self.tile_rows() * self.tile_columns())).max(1)
    }
}

/// Transformed weights: for each position a matrix `[in_channel][out_channel]`.
#[derive(Debug)]
pub(super) struct Weights {
    positions: Vec<Interleaved>,
}

impl Weights {
    /// Transforms weights, given by their value at (out channel, in channel, tap).
    pub(super) fn new(geometry: Geometry, value: impl Fn(usize, usize, usize) -> f32) -> Self {
        let Geometry {
            in_channels,
            out_channels,
            ..
        } = geometry;
        let mut positions: Vec<Interleaved> = (0..POSITIONS)
            .map(|_| Interleaved::zeros(out_channels, in_channels))
            .collect();
        for first in (0..out_channels).step_by(LANES) {
            let count = LANES.min(out_channels - first);
            for in_channel in 0..in_channels {
                let mut taps = [[0.0; LANES]; 9];
                for (tap, lanes) in taps.iter_mut().enumerate() {
                    for (lane, number) in lanes.iter_mut().take(count).enumerate() {
                        *number = value(first + lane, in_channel, tap);
                    }
                }
                let transformed = vectorized(|| transform_weights(&taps));
                for (matrix, vector) in positions.iter_mut().zip(transformed) {
                    *matrix.vector_mut(first / LANES, in_channel) = vector;
                }
            }
        }
        Self { positions }
    }
}

/// Memory that is used for group after group.
struct Scratch {
    /// `[image][line][column][in_channel]`, with zeros around each image.
    images: Aligned,
    /// `[position][tile][in_channel]`
    tiles: Aligned,
    /// `[position]`, each as [`correlate`] lays it out.
    products: Aligned,
    /// `[line][column][16]` of a row of tiles.
    outputs: Aligned,
}

/// Computes `output = weight ⋆ input`.
pub(super) fn convolve(
    instructions: Instructions,
    geometry: Geometry,
    weights: &Weights,
    input: &[f32],
    output: &mut [f32],
) {
    let (in_image, out_image) = (
        geometry.in_channels * geometry.pixels(),
        geometry.out_channels * geometry.pixels(),
    );
    let group = geometry.group();
    let work = Work {
        instructions,
        geometry,
        weights,
    };
    output
        .par_chunks_mut(group * out_image)
        .zip(input.par_chunks(group * in_image))
        .for_each_init(
            || work.scratch(),
            |scratch, (output, input)| {
                for (image, input) in input.chunks_exact(in_image).enumerate() {
                    work.interleave(input, scratch, image);
                }
                let images = input.len() / in_image;
                let rows: Vec<(usize, usize)> = (0..images)
                    .flat_map(|image| (0..geometry.tile_rows()).map(move |row| (image, row)))
                    .collect();
                let at_once = (TILES / geometry.tile_columns()).max(1);
                for rows in rows.chunks(at_once) {
                    work.tile_rows(rows, scratch, output);
                }
            },
        );
}

/// What all parts of a convolution share.
struct Work<'a> {
    instructions: Instructions,
    geometry: Geometry,
    weights: &'a Weights,
}

impl Work<'_> {
    fn scratch(&self) -> Scratch {
        let Geometry { width, .. } = self.geometry;
        let columns = self.geometry.tile_columns();
        let tiles = (TILES / columns).max(1) * columns;
        Scratch {
            images: Aligned::zeros(self.geometry.group() * self.geometry.bordered()),
            tiles: Aligned::zeros(POSITIONS * tiles * self.geometry.in_padded()),
            products: Aligned::zeros(POSITIONS * tiles * self.geometry.out_padded()),
            outputs: Aligned::zeros(2 * width * LANES),
        }
    }

    /// Lays an image out with its channels innermost, inside of its border.
    fn interleave(&self, input: &[f32], scratch: &mut Scratch, image: usize) {
        let geometry = self.geometry;
        let (width, padded) = (geometry.width, geometry.in_padded());
        let to = &mut scratch.images.values_mut()[image * geometry.bordered()..];
        for first in (0..geometry.in_channels).step_by(LANES) {
            let lines = Lines {
                channels: LANES.min(geometry.in_channels - first),
                stride: geometry.pixels(),
                pixels: width,
                width: padded,
            };
            for line in 0..geometry.height {
                let from = &input[first * geometry.pixels() + line * width..];
                let place = (line + 1) * geometry.bordered_line() + padded + first;
                lines.interleave(self.instructions, from, &mut to[place..]);
            }
        }
    }

    /// Computes the outputs of some rows of tiles, given by image and row.
    fn tile_rows(&self, rows: &[(usize, usize)], scratch: &mut Scratch, output: &mut [f32]) {
        let Self {
            instructions,
            geometry,
            ..
        } = *self;
        let (columns, padded) = (geometry.tile_columns(), geometry.in_padded());
        let tiles = rows.len() * columns;
        let images = scratch.images.values();
        let transformed = &mut scratch.tiles.values_mut()[..POSITIONS * tiles * padded];
        for (index, (image, row)) in rows.iter().enumerate() {
            let line = geometry.bordered_line();
            let lines = &images[image * geometry.bordered() + 2 * row * line..][..4 * line];
            vectorized(|| transform_row(geometry, lines, index * columns, tiles, transformed));
        }

        let starts: Vec<usize> = (0..tiles).map(|tile| tile * padded).collect();
        let width = if geometry.in_channels.is_multiple_of(INNER_BLOCK) {
            INNER_BLOCK
        } else {
            geometry.in_channels
        };
        let blocks: Vec<usize> = (0..geometry.in_channels).step_by(width).collect();
        let product_len = tiles * geometry.out_padded();
        let products = &mut scratch.products.values_mut()[..POSITIONS * product_len];
        products.fill(0.0);
        let factors = self
            .weights
            .positions
            .iter()
            .zip(scratch.tiles.values().chunks_exact(tiles * padded));
        for ((weights, values), products) in factors.zip(products.chunks_exact_mut(product_len)) {
            let right = Rows {
                values,
                starts: &starts,
                lines: &blocks,
                width,
            };
            correlate(instructions, weights, right, products);
        }

        for (index, (image, row)) in rows.iter().enumerate() {
            let pixels = (geometry.height - 2 * row).min(2) * geometry.width;
            let start =
                image * geometry.out_channels * geometry.pixels() + 2 * row * geometry.width;
            for first in (0..geometry.out_channels).step_by(LANES) {
                let matrix = &self.weights.positions[0];
                let (start_, step) = matrix.place(first / LANES, tiles);
                let from = &scratch.products.values()[start_ + index * columns * step..];
                let to = scratch.outputs.values_mut();
                vectorized(|| transform_back(geometry, from, step, product_len, to));
                let lines = Lines {
                    channels: LANES.min(geometry.out_channels - first),
                    stride: geometry.pixels(),
                    pixels,
                    width: LANES,
                };
                let output = &mut output[start + first * geometry.pixels()..];
                lines.separate(instructions, scratch.outputs.values(), output);
            }
        }
    }
}

/// Transforms the tiles of four lines of an image.
#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn transform_row(
    geometry: Geometry,
    lines: &[f32],
    first: usize,
    tiles: usize,
    transformed: &mut [f32],
) {
    let padded = geometry.in_padded();
    for channel in (0..padded).step_by(LANES) {
        for column in 0..geometry.tile_columns() {
            // Down the columns, then along the lines.
            let mut columns = [[[0.0f32; LANES]; 4]; 4];
            for (x, to) in columns.iter_mut().enumerate() {
                let place = (2 * column + x) * padded + channel;
                let at = |y: usize| vector(lines, y * geometry.bordered_line() + place);
                *to = spread(at(0), at(1), at(2), at(3));
            }
            let [a, b, c, d] = &columns;
            for y in 0..4 {
                let numbers = spread(&a[y], &b[y], &c[y], &d[y]);
                for (x, numbers) in numbers.iter().enumerate() {
                    let position = 4 * y + x;
                    let place = (position * tiles + first + column) * padded + channel;
                    transformed[place..][..LANES].copy_from_slice(numbers);
                }
            }
        }
    }
}

/// Transforms the products of a row of tiles back, into two lines of 16 channels.
#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn transform_back(
    geometry: Geometry,
    products: &[f32],
    step: usize,
    position_len: usize,
    outputs: &mut [f32],
) {
    let width = geometry.width;
    for column in 0..geometry.tile_columns() {
        let mut columns = [[[0.0f32; LANES]; 2]; 4];
        for (x, to) in columns.iter_mut().enumerate() {
            let at = |y: usize| vector(products, (4 * y + x) * position_len + column * step);
            *to = gather(at(0), at(1), at(2), at(3));
        }
        let [a, b, c, d] = &columns;
        for y in 0..2 {
            let numbers = gather(&a[y], &b[y], &c[y], &d[y]);
            for (x, numbers) in numbers.iter().enumerate() {
                if 2 * column + x < width {
                    let place = (y * width + 2 * column + x) * LANES;
                    outputs[place..][..LANES].copy_from_slice(numbers);
                }
            }
        }
    }
}

/// Four inputs, transformed along one axis.
#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn spread(a: &Vector, b: &Vector, c: &Vector, d: &Vector) -> [Vector; 4] {
    [minus(a, c), plus(b, c), minus(c, b), minus(b, d)]
}

/// Two outputs from four products, along one axis.
#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn gather(a: &Vector, b: &Vector, c: &Vector, d: &Vector) -> [Vector; 2] {
    [plus(&plus(a, b), c), minus(&minus(b, c), d)]
}

/// Transforms a kernel of 3 × 3 into one of 4 × 4.
#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn transform_weights(taps: &[Vector; 9]) -> [Vector; POSITIONS] {
    let widen = |a: &Vector, b: &Vector, c: &Vector| {
        let (outer, inner) = (half(&plus(a, c)), half(b));
        [*a, plus(&outer, &inner), minus(&outer, &inner), *c]
    };
    let columns: [[Vector; 4]; 3] =
        std::array::from_fn(|x| widen(&taps[x], &taps[3 + x], &taps[6 + x]));
    let mut transformed = [[0.0; LANES]; POSITIONS];
    for y in 0..4 {
        let row = widen(&columns[0][y], &columns[1][y], &columns[2][y]);
        transformed[4 * y..][..4].copy_from_slice(&row);
    }
    transformed
}

#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn vector(numbers: &[f32], start: usize) -> &Vector {
    numbers[start..].first_chunk().expect("a whole vector")
}

#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn plus(a: &Vector, b: &Vector) -> Vector {
    let mut sum = *a;
    for lane in 0..LANES {
        sum[lane] += b[lane];
    }
    sum
}

#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn minus(a: &Vector, b: &Vector) -> Vector {
    let mut difference = *a;
    for lane in 0..LANES {
        difference[lane] -= b[lane];
    }
    difference
}

#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn half(a: &Vector) -> Vector {
    let mut half = *a;
    for lane in &mut half {
        *lane *= 0.5;
    }
    half
}
