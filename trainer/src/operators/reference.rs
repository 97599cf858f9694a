//! The operators as their definitions say, one value at a time, for tests to compare with.

use super::Window;
use super::convolution::Geometry;

/// Convolution by its definition; `visit` is given (output, input, weight) indices of every product.
fn for_each_product(geometry: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
    let Geometry {
        batch,
        in_channels,
        height,
        width,
        out_channels,
        window,
    } = *geometry;
    let Window {
        kernel,
        stride,
        padding,
        shift,
        ..
    } = window;
    let (out_height, out_width) = (geometry.out_height(), geometry.out_width());
    for image in 0..batch {
        for out_channel in 0..out_channels {
            for in_channel in 0..in_channels {
                for out_row in 0..out_height {
                    for out_column in 0..out_width {
                        for tap_row in 0..kernel {
                            for tap_column in 0..kernel {
                                let row =
                                    (out_row * stride + tap_row + shift).wrapping_sub(padding);
                                let column = (out_column * stride + tap_column + shift)
                                    .wrapping_sub(padding);
                                if row >= height || column >= width {
                                    continue;
                                }
                                visit(
                                    ((image * out_channels + out_channel) * out_height + out_row)
                                        * out_width
                                        + out_column,
                                    ((image * in_channels + in_channel) * height + row) * width
                                        + column,
                                    ((out_channel * in_channels + in_channel) * kernel + tap_row)
                                        * kernel
                                        + tap_column,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn convolution(geometry: &Geometry, input: &[f32], weight: &[f32]) -> Vec<f64> {
    let outputs = geometry.batch * geometry.out_channels;
    let mut output = vec![0.0; outputs * geometry.out_height() * geometry.out_width()];
    for_each_product(geometry, |out, x, w| {
        output[out] += f64::from(input[x]) * f64::from(weight[w]);
    });
    output
}

/// Gradients of input and weight.
pub(super) fn convolution_gradients(
    geometry: &Geometry,
    input: &[f32],
    weight: &[f32],
    gradient: &[f32],
) -> (Vec<f64>, Vec<f64>) {
    let mut input_gradient = vec![0.0; input.len()];
    let mut weight_gradient = vec![0.0; weight.len()];
    for_each_product(geometry, |out, x, w| {
        let gradient = f64::from(gradient[out]);
        input_gradient[x] += gradient * f64::from(weight[w]);
        weight_gradient[w] += gradient * f64::from(input[x]);
    });
    (input_gradient, weight_gradient)
}

/// What batch normalisation gives, and its gradients.
pub(super) struct Normalization {
    pub(super) output: Vec<f64>,
    pub(super) mean: Vec<f64>,
    pub(super) variance: Vec<f64>,
    pub(super) input_gradient: Vec<f64>,
    pub(super) gamma_gradient: Vec<f64>,
    pub(super) beta_gradient: Vec<f64>,
}

/// Batch normalisation of `[batch, channels, pixels]`, followed by a `ReLU` if `activate`.
pub(super) fn batch_norm(
    dims: [usize; 3],
    input: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f64,
    activate: bool,
    gradient: &[f32],
) -> Normalization {
    let [batch, channels, pixels] = dims;
    let mut result = Normalization {
        output: vec![0.0; input.len()],
        mean: vec![0.0; channels],
        variance: vec![0.0; channels],
        input_gradient: vec![0.0; input.len()],
        gamma_gradient: vec![0.0; channels],
        beta_gradient: vec![0.0; channels],
    };
    let count = (batch * pixels) as f64;
    for channel in 0..channels {
        let members: Vec<usize> = (0..batch)
            .flat_map(|image| (0..pixels).map(move |p| (image * channels + channel) * pixels + p))
            .collect();
        let mean = members.iter().map(|&i| f64::from(input[i])).sum::<f64>() / count;
        let variance = members
            .iter()
            .map(|&i| (f64::from(input[i]) - mean).powi(2))
            .sum::<f64>()
            / count;
        let deviation = (variance + epsilon).sqrt();
        let (scale, offset) = (f64::from(gamma[channel]), f64::from(beta[channel]));
        let normal = |i: usize| (f64::from(input[i]) - mean) / deviation;
        let passes = |i: usize| !activate || scale * normal(i) + offset > 0.0;
        let behind = |i: usize| {
            if passes(i) {
                f64::from(gradient[i])
            } else {
                0.0
            }
        };
        let sum: f64 = members.iter().map(|&i| behind(i)).sum();
        let sum_by_normal: f64 = members.iter().map(|&i| behind(i) * normal(i)).sum();
        for &i in &members {
            result.output[i] = if passes(i) {
                scale * normal(i) + offset
            } else {
                0.0
            };
            result.input_gradient[i] =
                scale / deviation * (behind(i) - sum / count - normal(i) * sum_by_normal / count);
        }
        result.mean[channel] = mean;
        result.variance[channel] = variance;
        result.gamma_gradient[channel] = sum_by_normal;
        result.beta_gradient[channel] = sum;
    }
    result
}
