//! Batch normalisation of image batches on the CPU, with the `ReLU` that often follows it.
//!
//! Statistics are taken channel by channel: 16 lanes in single precision within an image, images in double precision,
//! so the sum over a large batch loses nothing. The `ReLU`'s gradient is found again from the input instead of stored.

use rayon::prelude::*;

const LANES: usize = 16;

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

    /// The pixels of one channel, image after image.
    fn planes<'a>(&self, values: &'a [f32], channel: usize) -> impl Iterator<Item = &'a [f32]> {
        let (pixels, step) = (self.pixels, self.channels * self.pixels);
        values
            .chunks_exact(step)
            .map(move |image| &image[channel * pixels..][..pixels])
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
        .map(|channel| moments(geometry, input, channel))
        .collect();
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
            let planes = output
                .chunks_exact_mut(geometry.pixels)
                .zip(input.chunks_exact(geometry.pixels));
            for ((output, input), &(slope, offset)) in planes.zip(&lines) {
                if activate {
                    for (y, x) in output.iter_mut().zip(input) {
                        *y = (slope * x + offset).max(0.0);
                    }
                } else {
                    for (y, x) in output.iter_mut().zip(input) {
                        *y = slope * x + offset;
                    }
                }
            }
        });
    moments
}

fn moments(geometry: &Geometry, input: &[f32], channel: usize) -> Moments {
    let mean = geometry
        .planes(input, channel)
        .map(|plane| f64::from(lane_sum(plane, |x| x)))
        .sum::<f64>()
        / geometry.count();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the statistics are single precision"
    )]
    let mean = mean as f32;
    let variance = geometry
        .planes(input, channel)
        .map(|plane| f64::from(lane_sum(plane, |x| (x - mean) * (x - mean))))
        .sum::<f64>()
        / geometry.count();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the statistics are single precision"
    )]
    let variance = variance as f32;
    Moments { mean, variance }
}

/// Sums a function of the values in lanes, an order that the processor's vectors can follow.
fn lane_sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += f(value);
    }
    lanes.iter().sum()
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
    let gradients: Vec<AffineGradient> = (0..geometry.channels)
        .into_par_iter()
        .map(|channel| {
            affine_gradient(
                geometry,
                input,
                gradient,
                affine,
                moments[channel],
                channel,
                activate,
            )
        })
        .collect();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the gradients are single precision"
    )]
    let count = geometry.count() as f32;
    let image = geometry.channels * geometry.pixels;
    input_gradient
        .par_chunks_exact_mut(image)
        .zip(
            input
                .par_chunks_exact(image)
                .zip(gradient.par_chunks_exact(image)),
        )
        .for_each(|(output, (input, gradient))| {
            for channel in 0..geometry.channels {
                let plane = channel * geometry.pixels..(channel + 1) * geometry.pixels;
                let (slope, offset) = affine.line(channel, moments[channel]);
                let Moments { mean, variance } = moments[channel];
                let deviation = (variance + affine.epsilon).sqrt();
                let by_input = -slope * gradients[channel].gamma / (count * deviation);
                let constant = -slope * gradients[channel].beta / count - by_input * mean;
                let values = input[plane.clone()].iter().zip(&gradient[plane.clone()]);
                for (out, (&x, &g)) in output[plane].iter_mut().zip(values) {
                    let g = if !activate || slope * x + offset > 0.0 {
                        g
                    } else {
                        0.0
                    };
                    *out = slope * g + by_input * x + constant;
                }
            }
        });
    gradients
}

fn affine_gradient(
    geometry: &Geometry,
    input: &[f32],
    gradient: &[f32],
    affine: Affine<'_>,
    moments: Moments,
    channel: usize,
    activate: bool,
) -> AffineGradient {
    let (slope, offset) = affine.line(channel, moments);
    let (mut sum, mut sum_by_input) = (0.0f64, 0.0f64);
    let planes = geometry
        .planes(input, channel)
        .zip(geometry.planes(gradient, channel));
    for (input, gradient) in planes {
        let (mut lanes, mut lanes_by_input) = ([0.0f32; LANES], [0.0f32; LANES]);
        let mut add = |input: &[f32], gradient: &[f32]| {
            for lane in 0..input.len().min(LANES) {
                let (x, g) = (input[lane], gradient[lane]);
                let g = if !activate || slope * x + offset > 0.0 {
                    g
                } else {
                    0.0
                };
                lanes[lane] += g;
                lanes_by_input[lane] += g * (x - moments.mean);
            }
        };
        let ((inputs, input_rest), (gradients, gradient_rest)) =
            (input.as_chunks::<LANES>(), gradient.as_chunks::<LANES>());
        for (input, gradient) in inputs.iter().zip(gradients) {
            add(input, gradient);
        }
        add(input_rest, gradient_rest);
        sum += f64::from(lanes.iter().sum::<f32>());
        sum_by_input += f64::from(lanes_by_input.iter().sum::<f32>());
    }
    let deviation = f64::from(moments.variance + affine.epsilon).sqrt();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the gradients are single precision"
    )]
    AffineGradient {
        gamma: (sum_by_input / deviation) as f32,
        beta: sum as f32,
    }
}
