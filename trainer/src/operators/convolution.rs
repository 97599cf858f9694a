//! Cross-correlation of image batches on the CPU, forward and backward.
//!
//! A group of images at a time is laid out on a [`Grid`], on which each kernel position is a shift. Then the output is
//! the product of the weights with shifted rows, the input's gradient the product of the transposed weights with
//! rows of the output's gradient, shifted the other way, and the weights' gradient the dot products of both kinds of
//! rows; `kernels.rs` does these. Groups are chosen from the shape alone, and the weights' gradient is summed over a
//! fixed number of parts, so no result depends on the number of threads. It does depend, in the last bits, on the
//! processor's vector instructions.

use rayon::prelude::*;

use super::Window;
use super::grid::{Grid, LINE};
use super::kernels::{COLUMNS, Packed, Rows, correlate, multiply};
use super::simd::Instructions;

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

    fn grid(&self) -> Grid {
        Grid::new(self.height, self.width, self.window, self.group(), COLUMNS)
    }
}

/// Numbers that start with a cache line: vectors that straddle two lines are read at half the speed.
#[derive(Default)]
struct Aligned {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// So many zeros.
    fn zeros(len: usize) -> Self {
        let memory = vec![0.0; len + LINE];
        // Alignment only matters for speed; where it cannot be had, this is past the end.
        let start = memory
            .as_ptr()
            .align_offset(LINE * size_of::<f32>())
            .min(LINE);
        Self { memory, start, len }
    }

    /// At least so many numbers; which ones is not said.
    fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeros(len);
        }
    }

    fn values(&self) -> &[f32] {
        &self.memory[self.start..][..self.len]
    }

    fn values_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
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
    let grid = geometry.grid();
    let (in_channels, out_channels) = (geometry.in_channels, geometry.out_channels);
    let offsets = grid.input_offsets(in_channels);
    let inner = geometry.inner();
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
    let pass = Backward::new(instructions, geometry, weight);
    let weight_len = weight.len();
    let groups = geometry.batch.div_ceil(geometry.group());
    let parts = (GRADIENT_NUMBERS / weight_len)
        .clamp(1, GRADIENT_PARTS)
        .min(groups);
    let per_part = groups.div_ceil(parts) * geometry.group();
    let parts = geometry.batch.div_ceil(per_part);

    let mut partial = vec![
        0.0;
        if weight_gradient.is_some() {
            parts * weight_len
        } else {
            0
        }
    ];
    let input_parts: Vec<Option<&mut [f32]>> = match input_gradient {
        Some(all) => all
            .chunks_mut(per_part * geometry.image_len())
            .map(Some)
            .collect(),
        None => (0..parts).map(|_| None).collect(),
    };
    let weight_parts: Vec<Option<&mut [f32]>> = match weight_gradient {
        Some(_) => partial.chunks_mut(weight_len).map(Some).collect(),
        None => (0..parts).map(|_| None).collect(),
    };
    input
        .par_chunks(per_part * geometry.image_len())
        .zip(gradient.par_chunks(per_part * geometry.out_image_len()))
        .zip(input_parts.into_par_iter().zip(weight_parts))
        .for_each(|((input, gradient), (input_gradient, weight_gradient))| {
            pass.part(input, gradient, input_gradient, weight_gradient);
        });

    if let Some(sum) = weight_gradient {
        sum.copy_from_slice(&partial[..weight_len]);
        for part in partial[weight_len..].chunks(weight_len) {
            for (sum, value) in sum.iter_mut().zip(part) {
                *sum += value;
            }
        }
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
    /// Where the rows of the output's gradient start, one for each channel.
    gradients: Vec<usize>,
}

impl<'a> Backward<'a> {
    fn new(instructions: Instructions, geometry: &'a Geometry, weight: &[f32]) -> Self {
        let grid = geometry.grid();
        let (taps, inner) = (geometry.taps(), geometry.inner());
        let phases = (0..grid.phases())
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
        let gradients = (0..geometry.out_channels)
            .map(|channel| channel * grid.plane() + grid.lead())
            .collect();
        let inputs = grid.input_offsets(geometry.in_channels);
        Self {
            instructions,
            geometry,
            grid,
            phases,
            inputs,
            gradients,
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
        let mut gradients = Scratch::new(out_channels * grid.plane());
        let inputs = if weight_gradient.is_some() {
            in_channels * grid.phases()
        } else {
            0
        };
        let mut inputs = Scratch::new(inputs * grid.plane());
        for (index, gradient) in gradient
            .chunks(group * geometry.out_image_len())
            .enumerate()
        {
            let images = gradient.len() / geometry.out_image_len();
            let range = index * group * image_len..(index * group + images) * image_len;
            grid.lay_out_gradient(gradient, out_channels, gradients.planes(images));
            if let Some(sums) = weight_gradient.as_deref_mut() {
                grid.lay_out(&input[range.clone()], in_channels, inputs.planes(images));
                let left = Rows {
                    values: gradients.planes.values(),
                    starts: &self.gradients,
                };
                let right = Rows {
                    values: inputs.planes.values(),
                    starts: &self.inputs,
                };
                correlate(self.instructions, left, right, grid.len(images), sums);
            }
            if let Some(to) = input_gradient.as_deref_mut() {
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
