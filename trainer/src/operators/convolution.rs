//! Cross-correlation of image batches on the CPU, forward and backward.
//!
//! Output and input's gradient of wide 3 × 3 convolutions are left to `winograd.rs`. In all others, a group of images
//! at a time is laid out on a [`Grid`], on which each kernel position is a shift. Then the output is the product of the
//! weights with shifted rows, the input's gradient the product of the transposed weights with rows of the output's
//! gradient, shifted the other way, and the weights' gradient the dot products of shifted rows with the output's
//! gradient; `kernels.rs` does these. Groups are chosen from the shape alone, and the weights' gradient is summed over a
//! fixed number of parts, so no result depends on the number of threads. It does depend, in the last bits, on the
//! processor's vector instructions.

use rayon::prelude::*;

use super::Window;
use super::aligned::{Aligned, zeros};
use super::grid::Grid;
use super::kernels::correlate::{Interleaved, Rows, correlate};
use super::kernels::multiply::{COLUMNS, Packed, multiply};
use super::simd::{Instructions, vectorized};
use super::winograd;

/// Outputs that a group of images should have at least, so that small images do not make for short rows.
const GROUP_PIXELS: usize = 1024;
/// Parts into which the batch is cut for the weights' gradient, at most.
const GRADIENT_PARTS: usize = 8;
/// Numbers that the parts' gradients may take up together.
const GRADIENT_NUMBERS: usize = 1 << 22;

/// The sizes of one convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) in_channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) out_channels: usize,
    pub(super) window: Window,
}

impl Geometry {
    pub(super) fn out_height(&self) -> usize {
        self.window.output(self.height)
    }

    pub(super) fn out_width(&self) -> usize {
        self.window.output(self.width)
    }

    /// Kernel positions of one channel.
    fn taps(&self) -> usize {
        self.window.kernel.pow(2)
    }

    /// Factors of one output.
    fn inner(&self) -> usize {
        self.in_channels * self.taps()
    }

    fn image_len(&self) -> usize {
        self.in_channels * self.height * self.width
    }

    fn out_image_len(&self) -> usize {
        self.out_channels * self.out_height() * self.out_width()
    }

    /// Images that are laid out together.
    fn group(&self) -> usize {
        let pixels = self.out_height() * self.out_width();
        (GROUP_PIXELS / pixels).clamp(1, self.batch.div_ceil(4))
    }

    /// What the faster way for some convolutions needs to know.
    pub(super) fn winograd(&self) -> winograd::Geometry {
        winograd::Geometry {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            height: self.height,
            width: self.width,
        }
    }

    fn grid(&self) -> Grid {
        Grid::new(self.height, self.width, self.window, self.group(), COLUMNS)
    }
}

/// Memory that is used for group after group.
struct Scratch {
    planes: Aligned,
    /// How many images the planes hold.
    images: usize,
    product: Aligned,
}

impl Scratch {
    fn new(planes: usize) -> Self {
        Self {
            planes: Aligned::zeros(planes),
            images: 0,
            product: Aligned::default(),
        }
    }

    /// The planes, with zeros wherever `images` images leave gaps.
    fn planes(&mut self, images: usize) -> &mut [f32] {
        if images < self.images {
            self.planes.values_mut().fill(0.0); // of images that are not there this time
        }
        self.images = images;
        self.planes.values_mut()
    }

    /// The planes, and room for a product of them.
    fn with_product(&mut self, len: usize) -> (&[f32], &mut [f32]) {
        self.product.reserve(len);
        (self.planes.values(), self.product.values_mut())
    }
}

/// Computes `output = weight ⋆ input`.
pub(super) fn forward(
    instructions: Instructions,
    geometry: &Geometry,
    input: &[f32],
    weight: &[f32],
    output: &mut [f32],
) {
    let (in_channels, out_channels) = (geometry.in_channels, geometry.out_channels);
    let (inner, taps) = (geometry.inner(), geometry.taps());
    let winograd = geometry.winograd();
    if winograd.is_worth_it(geometry.window) {
        let weights = winograd::Weights::new(winograd, |row, channel, tap| {
            weight[row * inner + channel * taps + tap]
        });
        winograd::convolve(instructions, winograd, &weights, input, output);
        return;
    }
    let grid = geometry.grid();
    let offsets = grid.input_offsets(in_channels);
    let packed = Packed::new(instructions, out_channels, inner, |row, k| {
        weight[row * inner + k]
    });
    let group = geometry.group();
    output
        .par_chunks_mut(group * geometry.out_image_len())
        .zip(input.par_chunks(group * geometry.image_len()))
        .for_each_init(
            || Scratch::new(in_channels * grid.phases() * grid.plane()),
            |scratch, (output, input)| {
                let images = output.len() / geometry.out_image_len();
                grid.lay_out(input, in_channels, scratch.planes(images));
                let columns = grid.len(images);
                let row = columns.next_multiple_of(COLUMNS);
                let (planes, product) = scratch.with_product(packed.padded_rows() * row);
                multiply(
                    instructions,
                    &packed,
                    planes,
                    &offsets,
                    columns,
                    product,
                    row,
                );
                grid.collect(product, row, out_channels, output);
            },
        );
}

/// Computes the gradients of input and weight, as far as there is a slice to put them in; the input's must be zeros.
pub(super) fn backward(
    instructions: Instructions,
    geometry: &Geometry,
    input: &[f32],
    weight: &[f32],
    gradient: &[f32],
    input_gradient: Option<&mut [f32]>,
    weight_gradient: Option<&mut [f32]>,
) {
    let turned = geometry.winograd().turned();
    let input_gradient = match input_gradient {
        Some(input_gradient) if turned.is_worth_it(geometry.window) => {
            let (inner, taps) = (geometry.inner(), geometry.taps());
            let weights = winograd::Weights::new(turned, |row, channel, tap| {
                weight[channel * inner + row * taps + taps - 1 - tap]
            });
            winograd::convolve(instructions, turned, &weights, gradient, input_gradient);
            None
        }
        other => other,
    };
    if input_gradient.is_none() && weight_gradient.is_none() {
        return;
    }
    let pass = Backward::new(instructions, geometry, weight, input_gradient.is_some());
    let weight_len = weight.len();
    let groups = geometry.batch.div_ceil(geometry.group());
    let parts = (GRADIENT_NUMBERS / weight_len)
        .clamp(1, GRADIENT_PARTS)
        .min(groups);
    let per_part = groups.div_ceil(parts) * geometry.group();
    let parts = geometry.batch.div_ceil(per_part);

    // As the sums are laid out while they are made.
    let interleaved = Interleaved::new(geometry.out_channels);
    let sums_len = interleaved.padded_channels() * geometry.inner();
    let mut partial = zeros(if weight_gradient.is_some() {
        parts * sums_len
    } else {
        0
    });
    let input_parts: Vec<Option<&mut [f32]>> = match input_gradient {
        Some(all) => all
            .chunks_mut(per_part * geometry.image_len())
            .map(Some)
            .collect(),
        None => (0..parts).map(|_| None).collect(),
    };
    let weight_parts: Vec<Option<&mut [f32]>> = match weight_gradient {
        Some(_) => partial.chunks_mut(sums_len).map(Some).collect(),
        None => (0..parts).map(|_| None).collect(),
    };
    input
        .par_chunks(per_part * geometry.image_len())
        .zip(gradient.par_chunks(per_part * geometry.out_image_len()))
        .zip(input_parts.into_par_iter().zip(weight_parts))
        .for_each(|((input, gradient), (input_gradient, weight_gradient))| {
            pass.part(input, gradient, input_gradient, weight_gradient);
        });

    if let Some(weight_gradient) = weight_gradient {
        let (sums, others) = partial.split_at_mut(sums_len);
        vectorized(|| {
            for part in others.chunks_exact(sums_len) {
                for (sum, value) in sums.iter_mut().zip(part) {
                    *sum += value;
                }
            }
        });
        interleaved.deal_out(sums, geometry.inner(), weight_gradient);
    }
}

/// What all parts of a backward pass share.
struct Backward<'a> {
    instructions: Instructions,
    geometry: &'a Geometry,
    grid: Grid,
    /// Weights and offsets with which each phase of the input's gradient is computed.
    phases: Vec<(Packed, Vec<usize>)>,
    /// Where the rows of the input start, one for each (channel, kernel position).
    inputs: Vec<usize>,
}

impl<'a> Backward<'a> {
    fn new(
        instructions: Instructions,
        geometry: &'a Geometry,
        weight: &[f32],
        with_input: bool,
    ) -> Self {
        let grid = geometry.grid();
        let (taps, inner) = (geometry.taps(), geometry.inner());
        let phases = if with_input { grid.phases() } else { 0 };
        let phases = (0..phases)
            .map(|phase| {
                let (offsets, positions) = grid.gradient_offsets(geometry.out_channels, phase);
                let packed = Packed::new(
                    instructions,
                    geometry.in_channels,
                    offsets.len(),
                    |row, k| {
                        let (channel, tap) = (k / positions.len(), positions[k % positions.len()]);
                        weight[channel * inner + row * taps + tap]
                    },
                );
                (packed, offsets)
            })
            .collect();
        let inputs = grid.input_offsets(geometry.in_channels);
        Self {
            instructions,
            geometry,
            grid,
            phases,
            inputs,
        }
    }

    /// The gradients of some images; the weights' is added to.
    fn part(
        &self,
        input: &[f32],
        gradient: &[f32],
        mut input_gradient: Option<&mut [f32]>,
        mut weight_gradient: Option<&mut [f32]>,
    ) {
        let Self { geometry, grid, .. } = self;
        let (in_channels, out_channels) = (geometry.in_channels, geometry.out_channels);
        let (group, image_len) = (geometry.group(), geometry.image_len());
        let planes = |is_needed: bool, count: usize| {
            Scratch::new(if is_needed { count * grid.plane() } else { 0 })
        };
        let mut gradients = planes(input_gradient.is_some(), out_channels);
        let mut inputs = planes(weight_gradient.is_some(), in_channels * grid.phases());
        let mut interleaved = Interleaved::new(out_channels);
        for (index, gradient) in gradient
            .chunks(group * geometry.out_image_len())
            .enumerate()
        {
            let images = gradient.len() / geometry.out_image_len();
            let range = index * group * image_len..(index * group + images) * image_len;
            if let Some(sums) = weight_gradient.as_deref_mut() {
                let pixels = geometry.out_height() * geometry.out_width();
                interleaved.fill(self.instructions, gradient, pixels);
                grid.lay_out(&input[range.clone()], in_channels, inputs.planes(images));
                let rows = Rows {
                    values: inputs.planes.values(),
                    starts: &self.inputs,
                    lines: &grid.lines(images),
                    width: geometry.out_width(),
                };
                correlate(self.instructions, &interleaved, rows, sums);
            }
            if let Some(to) = input_gradient.as_deref_mut() {
                grid.lay_out_gradient(gradient, out_channels, gradients.planes(images));
                self.input_gradient(&mut gradients, images, &mut to[range]);
            }
        }
    }

    fn input_gradient(&self, gradients: &mut Scratch, images: usize, to: &mut [f32]) {
        let columns = self.grid.len(images);
        let row = columns.next_multiple_of(COLUMNS);
        for (phase, (packed, offsets)) in self.phases.iter().enumerate() {
            let (planes, product) = gradients.with_product(packed.padded_rows() * row);
            multiply(
                self.instructions,
                packed,
                planes,
                offsets,
                columns,
                product,
                row,
            );
            self.grid
                .collect_phase(phase, product, row, self.geometry.in_channels, to);
        }
    }
}
