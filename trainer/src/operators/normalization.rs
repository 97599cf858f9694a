//! Batch normalisation of image batches on the CPU, with the `ReLU` that often follows it.
//!
//! Statistics are taken channel by channel: in 16 lanes of single precision over about a thousand values at a time,
//! and in double precision over those, so the sum over a large batch loses nothing. The `ReLU`'s gradient is found
//! again from the input instead of stored.

use rayon::prelude::*;

use super::simd::vectorized;

const LANES: usize = 16;
/// Values after which sums are carried on in double precision.
const BLOCK: usize = 1024;

/// The sizes of a batch: `[batch, channels, pixels]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) pixels: usize,
}

impl Geometry {
    fn count(&self) -> f64 {
        (self.batch * self.pixels) as f64
    }

    /// Images whose sums stay in single precision.
    fn block(&self) -> usize {
        (BLOCK / self.pixels).max(1)
    }

    /// A channel's pixels in each of some images.
    fn planes<'a>(&self, images: &'a [f32], channel: usize) -> impl Iterator<Item = &'a [f32]> {
        let (pixels, step) = (self.pixels, self.channels * self.pixels);
        images
            .chunks_exact(step)
            .map(move |image| &image[channel * pixels..][..pixels])
    }

    /// The batch, cut into blocks of images.
    fn blocks<'a>(&self, values: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        values.chunks(self.block() * self.channels * self.pixels)
    }
}

/// Mean and biased variance of a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    pub(super) mean: f32,
    pub(super) variance: f32,
}

/// The learnt scale and offset of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Affine<'a> {
    pub(super) gamma: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) epsilon: f32,
}

impl Affine<'_> {
    /// Normalisation and affine map as one: `slope · x + offset`.
    fn line(&self, channel: usize, moments: Moments) -> (f32, f32) {
        let slope = self.gamma[channel] / (moments.variance + self.epsilon).sqrt();
        (slope, self.beta[channel] - moments.mean * slope)
    }
}

/// Normalises a batch by its own statistics, which it returns.
pub(super) fn forward(
    geometry: &Geometry,
    input: &[f32],
    affine: Affine<'_>,
    activate: bool,
    output: &mut [f32],
) -> Vec<Moments> {
    let moments: Vec<Moments> = (0..geometry.channels)
        .into_par_iter()
        .map(|channel| vectorized(|| moments(geometry, input, channel)))
        .collect();
    apply(geometry, input, affine, &moments, activate, output);
    moments
}

/// Normalises a batch by given statistics.
pub(super) fn apply(
    geometry: &Geometry,
    input: &[f32],
    affine: Affine<'_>,
    moments: &[Moments],
    activate: bool,
    output: &mut [f32],
) {
    let lines: Vec<(f32, f32)> = moments
        .iter()
        .enumerate()
        .map(|(channel, &moments)| affine.line(channel, moments))
        .collect();
    let image = geometry.channels * geometry.pixels;
    output
        .par_chunks_exact_mut(image)
        .zip(input.par_chunks_exact(image))
        .for_each(|(output, input)| {
            vectorized(|| apply_lines(geometry.pixels, input, &lines, activate, output));
        });
}

#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn apply_lines(
    pixels: usize,
    input: &[f32],
    lines: &[(f32, f32)],
    activate: bool,
    output: &mut [f32],
) {
    // The activation costs nothing where memory is the limit; without one, everything is above the floor.
    let floor = if activate { 0.0 } else { f32::NEG_INFINITY };
    let planes = output
        .chunks_exact_mut(pixels)
        .zip(input.chunks_exact(pixels));
    for ((output, input), &(slope, offset)) in planes.zip(lines) {
        for (y, x) in output.iter_mut().zip(input) {
            let line = slope * x + offset;
            *y = if line < floor { floor } else { line };
        }
    }
}

#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn moments(geometry: &Geometry, input: &[f32], channel: usize) -> Moments {
    let mean = single(channel_sum(geometry, input, channel, |x| x) / geometry.count());
    let squares = channel_sum(geometry, input, channel, |x| (x - mean) * (x - mean));
    let variance = single(squares / geometry.count());
    Moments { mean, variance }
}

/// Sums a function of a channel's values.
#[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
#[inline(always)]
fn channel_sum(geometry: &Geometry, input: &[f32], channel: usize, f: impl Fn(f32) -> f32) -> f64 {
    let mut sum = 0.0;
    for block in geometry.blocks(input) {
        let mut lanes = [0.0f32; LANES];
        for plane in geometry.planes(block, channel) {
            let (chunks, rest) = plane.as_chunks::<LANES>();
            for chunk in chunks {
                for (lane, &value) in lanes.iter_mut().zip(chunk) {
                    *lane += f(value);
                }
            }
            for (lane, &value) in lanes.iter_mut().zip(rest) {
                *lane += f(value);
            }
        }
        sum += f64::from(lanes.iter().sum::<f32>());
    }
    sum
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "statistics and gradients are single precision"
)]
fn single(value: f64) -> f32 {
    value as f32
}

/// The gradients of scale and offset of each channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct AffineGradient {
    pub(super) gamma: f32,
    pub(super) beta: f32,
}

/// Computes the gradient of the input into `input_gradient`, and returns those of scale and offset.
///
/// With x̂ the normalised input, g the gradient behind the `ReLU` and m values per channel:
/// `dx = gamma/σ · (g − mean(g) − x̂ · mean(g·x̂))`.
pub(super) fn backward(
    geometry: &Geometry,
    input: &[f32],
    gradient: &[f32],
    affine: Affine<'_>,
    moments: &[Moments],
    activate: bool,
    input_gradient: &mut [f32],
) -> Vec<AffineGradient> {
    let channels: Vec<Channel> = moments
        .iter()
        .enumerate()
        .map(|(channel, &moments)| Channel::new(channel, affine, moments, activate))
        .collect();
    let gradients: Vec<AffineGradient> = channels
        .par_iter()
        .map(|channel| vectorized(|| channel.affine_gradient(geometry, input, gradient)))
        .collect();
    let image = geometry.channels * geometry.pixels;
    let count = single(geometry.count());
    input_gradient
        .par_chunks_exact_mut(image)
        .zip(input.par_chunks_exact(image))
        .zip(gradient.par_chunks_exact(image))
        .for_each(|((output, input), gradient)| {
            vectorized(|| {
                let planes = output
                    .chunks_exact_mut(geometry.pixels)
                    .zip(input.chunks_exact(geometry.pixels))
                    .zip(gradient.chunks_exact(geometry.pixels));
                let learnt = channels.iter().zip(&gradients);
                for (((output, input), gradient), (channel, affine)) in planes.zip(learnt) {
                    channel.input_gradient(*affine, count, input, gradient, output);
                }
            });
        });
    gradients
}

/// What the backward pass needs to know of a channel.
#[derive(Debug, Clone, Copy)]
struct Channel {
    index: usize,
    mean: f32,
    deviation: f32,
    slope: f32,
    offset: f32,
    /// Where `slope · x + offset` is not above it, the gradient does not pass.
    floor: f32,
}

impl Channel {
    fn new(index: usize, affine: Affine<'_>, moments: Moments, activate: bool) -> Self {
        let (slope, offset) = affine.line(index, moments);
        Self {
            index,
            mean: moments.mean,
            deviation: (moments.variance + affine.epsilon).sqrt(),
            slope,
            offset,
            floor: if activate { 0.0 } else { f32::NEG_INFINITY },
        }
    }

    /// The gradient as it arrives behind the `ReLU`, if there is one.
    #[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
    #[inline(always)]
    fn behind(&self, x: f32, gradient: f32) -> f32 {
        if self.slope * x + self.offset > self.floor {
            gradient
        } else {
            0.0
        }
    }

    #[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
    #[inline(always)]
    fn affine_gradient(
        &self,
        geometry: &Geometry,
        input: &[f32],
        gradient: &[f32],
    ) -> AffineGradient {
        let (mut sum, mut sum_by_input) = (0.0, 0.0);
        for (input, gradient) in geometry.blocks(input).zip(geometry.blocks(gradient)) {
            let (mut lanes, mut lanes_by_input) = ([0.0f32; LANES], [0.0f32; LANES]);
            let planes = geometry
                .planes(input, self.index)
                .zip(geometry.planes(gradient, self.index));
            for (input, gradient) in planes {
                let (inputs, input_rest) = input.as_chunks::<LANES>();
                let (gradients, gradient_rest) = gradient.as_chunks::<LANES>();
                for (input, gradient) in inputs.iter().zip(gradients) {
                    for lane in 0..LANES {
                        let g = self.behind(input[lane], gradient[lane]);
                        lanes[lane] += g;
                        lanes_by_input[lane] += g * (input[lane] - self.mean);
                    }
                }
                for (lane, (&x, &g)) in input_rest.iter().zip(gradient_rest).enumerate() {
                    let g = self.behind(x, g);
                    lanes[lane] += g;
                    lanes_by_input[lane] += g * (x - self.mean);
                }
            }
            sum += f64::from(lanes.iter().sum::<f32>());
            sum_by_input += f64::from(lanes_by_input.iter().sum::<f32>());
        }
        AffineGradient {
            gamma: single(sum_by_input / f64::from(self.deviation)),
            beta: single(sum),
        }
    }

    #[expect(clippy::inline_always, reason = "compiled as part of `vectorized`")]
    #[inline(always)]
    fn input_gradient(
        &self,
        affine: AffineGradient,
        count: f32,
        input: &[f32],
        gradient: &[f32],
        output: &mut [f32],
    ) {
        let by_input = -self.slope * affine.gamma / (count * self.deviation);
        let constant = -self.slope * affine.beta / count - by_input * self.mean;
        for ((out, &x), &g) in output.iter_mut().zip(input).zip(gradient) {
            *out = self.slope * self.behind(x, g) + by_input * x + constant;
        }
    }
}
