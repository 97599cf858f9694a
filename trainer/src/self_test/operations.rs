//! What one operation gives on a device: its output and all gradients, for inputs that depend on its shapes alone.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use data::{ImageShape, Images};
use shared::Seed;
use shared::objective::Precision;

use crate::augment::{Augmentation, PixelValues};
use crate::minibatch::{Batches, Pixels, TrainingData};
use crate::operators::{
    Descent, KeptImages, Memory, Operators as _, Running, Slot, Step, TrainingBackend, Window,
};

/// Values by name, in the order in which they are computed.
pub type Results = Vec<(String, Vec<f32>)>;

/// A function of a tensor and a weight, as [`crate::operators::Operators::convolution`].
pub type Convolve<B> = fn(Tensor<B, 4>, Tensor<B, 4>, Window) -> Tensor<B, 4>;

/// A convolution's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// Channels of the input and of the output.
    pub channels: [usize; 2],
    /// Height and width.
    pub pixels: [usize; 2],
    /// What the kernel looks at.
    pub window: Window,
}

impl std::fmt::Display for Convolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            batch,
            channels: [from, to],
            pixels: [height, width],
            window,
        } = self;
        let Window { kernel, stride, .. } = window;
        write!(
            f,
            "convolution {kernel}×{kernel}, stride {stride}, {from} to {to} channels, {batch} images of {height}×{width}"
        )?;
        if window.shift > 0 {
            write!(f, ", shifted by {}", window.shift)?;
        }
        if window.precision == Precision::Tf32 {
            f.write_str(", in TF32")?;
        }
        Ok(())
    }
}

/// Numbers that look random, in −1..1.
fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let fraction = f64::from(state) / f64::from(u32::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "single precision will do")]
        let number = (2.0 * fraction - 1.0) as f32;
        number
    };
    (0..len).map(|_| next()).collect()
}

fn tensor<B: TrainingBackend, const D: usize>(
    seed: u32,
    dims: [usize; D],
    device: &B::Device,
) -> Tensor<B, D> {
    let data = TensorData::new(numbers(seed, dims.iter().product()), dims);
    Tensor::from_data(data, device)
}

/// Numbers that stay what they are in a precision, so that a product of two of them is the same in each.
fn tensor_in<B: TrainingBackend, const D: usize>(
    precision: Precision,
    seed: u32,
    dims: [usize; D],
    device: &B::Device,
) -> Tensor<B, D> {
    let mut numbers = numbers(seed, dims.iter().product());
    if precision == Precision::Tf32 {
        for number in &mut numbers {
            *number = f32::from_bits(number.to_bits() & 0xffff_e000);
        }
    }
    Tensor::from_data(TensorData::new(numbers, dims), device)
}

fn values<B: burn::tensor::backend::Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Output and gradients of inputs, where the result is the sum of the output weighted by numbers that look random.
fn differentiate<B: TrainingBackend, const D: usize>(
    output: Tensor<B, D>,
    device: &B::Device,
    gradients_of: impl FnOnce(&<B as AutodiffBackend>::Gradients) -> Results,
) -> Results {
    let weights = tensor::<B, D>(9, output.dims(), device);
    differentiate_by(output, weights, gradients_of)
}

/// The same with given weights.
fn differentiate_by<B: TrainingBackend, const D: usize>(
    output: Tensor<B, D>,
    weights: Tensor<B, D>,
    gradients_of: impl FnOnce(&<B as AutodiffBackend>::Gradients) -> Results,
) -> Results {
    let mut results = vec![("output".to_owned(), values(output.clone()))];
    let weighted = output * weights;
    results.push(("weighted output".to_owned(), values(weighted.clone())));
    // From a tensor, gradients are those of the sum of its values.
    let gradients = weighted.backward();
    results.extend(gradients_of(&gradients));
    results
}

/// A leaf's gradient; zeros where the result does not depend on it.
fn gradient<B: TrainingBackend, const D: usize>(
    name: &str,
    leaf: &Tensor<B, D>,
    gradients: &<B as AutodiffBackend>::Gradients,
) -> (String, Vec<f32>) {
    let found = leaf.grad(gradients);
    let found = found.map_or_else(|| vec![0.0; leaf.shape().num_elements()], values);
    (format!("gradient of the {name}"), found)
}

/// Output and both gradients of a convolution.
///
/// Input and output gradient come as training hands them on: behind an activation, and with their axes swapped in memory.
pub fn convolution<B: TrainingBackend>(
    convolve: Convolve<B>,
    sizes: Convolution,
    device: &B::Device,
) -> Results {
    let Convolution {
        batch,
        channels: [from, to],
        pixels: [height, width],
        window,
    } = sizes;
    let numbers = |seed, dims| tensor_in::<B, 4>(window.precision, seed, dims, device);
    let input = numbers(1, [batch, height, width, from]).require_grad();
    let weight = numbers(2, [to, from, window.kernel, window.kernel]).require_grad();
    let seen = burn::tensor::activation::relu(input.clone().permute([0, 3, 1, 2]));
    let output = convolve(seen, weight.clone(), window).permute([0, 2, 3, 1]);
    let weights = numbers(9, output.dims());
    differentiate_by(output, weights, |gradients| {
        vec![
            gradient("input", &input, gradients),
            gradient("weight", &weight, gradients),
        ]
    })
}

/// Output, moments and all gradients of a batch norm.
pub(crate) fn batch_norm<B: TrainingBackend>(
    dims: [usize; 4],
    activate: bool,
    device: &B::Device,
) -> Results {
    let channels = dims[1];
    let input = (tensor::<B, 4>(1, dims, device) + 3.0)
        .detach()
        .require_grad();
    let gamma = tensor::<B, 1>(2, [channels], device).require_grad();
    let beta = tensor::<B, 1>(3, [channels], device).require_grad();
    let running = Running {
        mean: tensor::<B, 1>(4, [channels], device),
        variance: tensor::<B, 1>(5, [channels], device).abs(),
    };
    let affine = [gamma.clone(), beta.clone()];
    let normalized = B::batch_norm(input.clone(), affine, running, 1e-5, activate);
    let moments = [
        ("mean".to_owned(), values(normalized.mean)),
        ("variance".to_owned(), values(normalized.variance)),
        ("running mean".to_owned(), values(normalized.running.mean)),
        (
            "running variance".to_owned(),
            values(normalized.running.variance),
        ),
    ];
    let mut results = differentiate(normalized.output, device, |gradients| {
        vec![
            gradient("input", &input, gradients),
            gradient("scale", &gamma, gradients),
            gradient("offset", &beta, gradients),
        ]
    });
    results.extend(moments);
    results
}

/// Normalisation by given moments.
pub(crate) fn normalize_by<B: TrainingBackend>(
    dims: [usize; 4],
    activate: bool,
    device: &B::Device,
) -> Results {
    let channels = [dims[1]];
    let device_tensor = |seed| tensor::<B, 1>(seed, channels, device).inner();
    let output = <B as TrainingBackend>::Inner::normalize_by(
        tensor::<B, 4>(1, dims, device).inner(),
        [device_tensor(2), device_tensor(3)],
        [device_tensor(4), device_tensor(5).abs()],
        1e-5,
        activate,
    );
    vec![("output".to_owned(), values(output))]
}

/// Output and both gradients of mixing a branch in.
pub fn mix<B: TrainingBackend>(dims: [usize; 4], device: &B::Device) -> Results {
    let sum = tensor::<B, 4>(1, dims, device).require_grad();
    let branch = tensor::<B, 4>(2, dims, device).require_grad();
    let factors = tensor::<B, 1>(3, [4 * dims[0]], device);
    let output = B::mix(sum.clone(), branch.clone(), &factors, 1);
    differentiate(output, device, |gradients| {
        vec![
            gradient("sum", &sum, gradients),
            gradient("branch", &branch, gradients),
        ]
    })
}

/// Activation, joining of channels, mean over pixels and a linear map, with all gradients.
pub fn head<B: TrainingBackend>(dims: [usize; 4], outputs: usize, device: &B::Device) -> Results {
    let input = tensor::<B, 4>(1, dims, device).require_grad();
    let weight = tensor::<B, 2>(2, [outputs, 2 * dims[1]], device).require_grad();
    let bias = tensor::<B, 1>(3, [outputs], device).require_grad();
    let joined = B::join(input.clone(), B::rectify(input.clone()));
    let output = B::project(B::pixel_mean(joined), weight.clone(), bias.clone());
    differentiate(output, device, |gradients| {
        vec![
            gradient("input", &input, gradients),
            gradient("weight", &weight, gradients),
            gradient("offset", &bias, gradients),
        ]
    })
}

/// The loss, and the gradient of the scores.
pub(crate) fn cross_entropy<B: TrainingBackend>(dims: [usize; 2], device: &B::Device) -> Results {
    let scores = (tensor::<B, 2>(1, dims, device) * 5.0)
        .detach()
        .require_grad();
    let targets = tensor::<B, 2>(2, dims, device).abs();
    let output = B::cross_entropy(scores.clone(), targets);
    differentiate(output, device, |gradients| {
        vec![gradient("scores", &scores, gradients)]
    })
}

/// What two steps of an optimizer leave of tensors of the given lengths, the last of which learns nothing.
pub fn update<B: TrainingBackend>(
    lengths: &[usize],
    descent: Descent,
    device: &B::Device,
) -> Results {
    let vector = |seed: u32, len| tensor::<B, 1>(seed, [len], device).inner();
    let mut slots: Vec<Slot<<B as TrainingBackend>::Inner>> = (0..)
        .zip(lengths)
        .map(|(seed, len)| Slot {
            value: vector(seed, *len),
            gradient: None,
            memory: Memory::nothing(),
        })
        .collect();
    let step = Step {
        descent,
        norm_bound: Some(2.0),
        decay: Some(0.75),
    };
    for first_seed in [1000, 2000] {
        let learning = lengths.len() - 1;
        for (seed, slot) in (first_seed..).zip(&mut slots[..learning]) {
            slot.gradient = Some(vector(seed, slot.value.dims()[0]));
        }
        slots = <B as TrainingBackend>::Inner::update(slots, &step);
    }
    let mut results = Results::new();
    for (number, Slot { value, memory, .. }) in slots.into_iter().enumerate() {
        let Memory {
            velocity,
            squares,
            average,
        } = memory;
        let named = [
            ("value", Some(value)),
            ("velocity", velocity),
            ("squares", squares),
            ("average", average),
        ];
        for (name, tensor) in named {
            if let Some(tensor) = tensor {
                results.push((format!("{name} of tensor {number}"), values(tensor)));
            }
        }
    }
    results
}

/// A batch of images that the device keeps, mixed or not.
pub(super) fn see<B: TrainingBackend>(mixup_alpha: f64, device: &B::Device) -> Results {
    let shape = ImageShape {
        channels: 3,
        height: 13,
        width: 11,
    };
    let number = 40;
    let bytes = numbers(7, number * shape.image_len());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers in −1..1 become bytes"
    )]
    let bytes = bytes.into_iter().map(|x| (127.5 * (x + 1.0)) as u8);
    let training = Images {
        pixels: bytes.collect(),
        labels: vec![0; number],
    };
    let data = TrainingData {
        training: &training,
        validation: &training,
        test: None,
        shape,
        classes: 1,
        pixel_values: PixelValues::new(&[0.5, 0.4, 0.3], &[0.2, 0.3, 0.25]),
    };
    let augmentation = Augmentation::new(shape, 8, true, 12);
    let batches = Batches::new(&data, augmentation, mixup_alpha, 33, Seed::new(5)).only_drawn();
    let Pixels::Drawn(drawn) = batches.first().pixels else {
        return Results::new(); // rendered, which these are not
    };
    let kept = KeptImages::<B::Inner>::new(
        &data.training.pixels,
        data.shape,
        &data.pixel_values,
        device,
    );
    let seen = <B as TrainingBackend>::Inner::see(&kept, &drawn);
    vec![("batch".to_owned(), values(seen))]
}
