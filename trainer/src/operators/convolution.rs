//! Cross-correlation of image batches on the CPU: the image is unrolled into columns and multiplied by the weights.
//!
//! A group of images at a time becomes a matrix `[in_channels · kernel², pixels of the group]` ("im2col"); the product
//! with the weights `[out_channels, in_channels · kernel²]` is the output. Groups are chosen from the shape alone, and
//! the weight gradient is summed over a fixed number of parts, so no result depends on the number of threads.

use rayon::prelude::*;

use super::Window;

/// Columns a group of images should have at least, so that small images do not make for small matrices.
const GROUP_PIXELS: usize = 1024;
/// Parts into which the batch is cut for the weight gradient.
const GRADIENT_PARTS: usize = 8;

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

    fn out_pixels(&self) -> usize {
        self.out_height() * self.out_width()
    }

    fn rows(&self) -> usize {
        self.in_channels * self.window.kernel * self.window.kernel
    }

    fn image_len(&self) -> usize {
        self.in_channels * self.height * self.width
    }

    fn out_image_len(&self) -> usize {
        self.out_channels * self.out_pixels()
    }

    /// Images that are unrolled together.
    fn group(&self) -> usize {
        (GROUP_PIXELS / self.out_pixels()).clamp(1, (self.batch / 4).max(1))
    }

    /// Whether an image is its own column matrix.
    fn is_pointwise(&self) -> bool {
        self.window
            == Window {
                kernel: 1,
                stride: 1,
                padding: 0,
                shift: 0,
            }
    }

    /// The outputs along an axis of `size` inputs whose `tap` falls into the image, and the input of output 0.
    fn valid(&self, tap: usize, size: usize) -> (usize, usize, isize) {
        let Window {
            stride,
            padding,
            shift,
            ..
        } = self.window;
        let outputs = self.window.output(size);
        let lead = tap + shift;
        let first = padding.saturating_sub(lead).div_ceil(stride).min(outputs);
        let end = (size + padding)
            .saturating_sub(lead)
            .div_ceil(stride)
            .min(outputs);
        (
            first,
            end.max(first),
            lead.cast_signed() - padding.cast_signed(),
        )
    }
}

/// Computes `output = weight ⋆ input`.
pub(super) fn forward(geometry: &Geometry, input: &[f32], weight: &[f32], output: &mut [f32]) {
    let (rows, pixels, group) = (geometry.rows(), geometry.out_pixels(), geometry.group());
    output
        .par_chunks_mut(group * geometry.out_image_len())
        .zip(input.par_chunks(group * geometry.image_len()))
        .for_each_init(
            || (Vec::new(), Vec::new()),
            |(columns, product), (output, input)| {
                let images = output.len() / geometry.out_image_len();
                let columns: &[f32] = if geometry.is_pointwise() && images == 1 {
                    input
                } else {
                    columns.resize(rows * images * pixels, 0.0);
                    unroll(geometry, input, columns);
                    columns
                };
                let columns = Matrix::rows(columns, images * pixels);
                let weight = Matrix::rows(weight, rows);
                if images == 1 {
                    multiply(output, pixels, weight, columns, rows, false);
                } else {
                    product.resize(output.len(), 0.0);
                    multiply(product, images * pixels, weight, columns, rows, false);
                    swap_leading(product, output, geometry.out_channels, images, pixels);
                }
            },
        );
}

/// Computes the gradients of input and weight, as far as there is a slice to put them in.
pub(super) fn backward(
    geometry: &Geometry,
    input: &[f32],
    weight: &[f32],
    gradient: &[f32],
    mut input_gradient: Option<&mut [f32]>,
    weight_gradient: Option<&mut [f32]>,
) {
    let groups = geometry.batch.div_ceil(geometry.group());
    let per_part = groups.div_ceil(GRADIENT_PARTS.min(groups)) * geometry.group();
    let parts = geometry.batch.div_ceil(per_part);
    let weight_len = geometry.out_channels * geometry.rows();
    let mut partial = vec![
        0.0;
        if weight_gradient.is_some() {
            parts * weight_len
        } else {
            0
        }
    ];

    let input_chunks: Vec<Option<&mut [f32]>> = match &mut input_gradient {
        Some(all) => all
            .chunks_mut(per_part * geometry.image_len())
            .map(Some)
            .collect(),
        None => (0..parts).map(|_| None).collect(),
    };
    let weight_chunks: Vec<Option<&mut [f32]>> = if partial.is_empty() {
        (0..parts).map(|_| None).collect()
    } else {
        partial.chunks_mut(weight_len).map(Some).collect()
    };
    input
        .par_chunks(per_part * geometry.image_len())
        .zip(gradient.par_chunks(per_part * geometry.out_image_len()))
        .zip(input_chunks.into_par_iter().zip(weight_chunks))
        .for_each(|((input, gradient), (input_gradient, weight_gradient))| {
            backward_part(
                geometry,
                input,
                weight,
                gradient,
                input_gradient,
                weight_gradient,
            );
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

/// [`backward`] for the images of one part; `weight_gradient` is added to.
fn backward_part(
    geometry: &Geometry,
    input: &[f32],
    weight: &[f32],
    gradient: &[f32],
    mut input_gradient: Option<&mut [f32]>,
    mut weight_gradient: Option<&mut [f32]>,
) {
    let (rows, pixels, group) = (geometry.rows(), geometry.out_pixels(), geometry.group());
    let (image_len, channels) = (geometry.image_len(), geometry.out_channels);
    let (mut columns, mut transposed) = (Vec::new(), Vec::new());
    for (index, gradient) in gradient
        .chunks(group * geometry.out_image_len())
        .enumerate()
    {
        let images = gradient.len() / geometry.out_image_len();
        let group_range = index * group * image_len..(index * group + images) * image_len;
        let gradient: &[f32] = if images == 1 {
            gradient
        } else {
            transposed.resize(gradient.len(), 0.0);
            swap_leading(gradient, &mut transposed, images, channels, pixels);
            &transposed
        };
        let columns_len = images * pixels;
        let gradient = Matrix::rows(gradient, columns_len);
        columns.resize(rows * columns_len, 0.0);
        if let Some(sum) = weight_gradient.as_deref_mut() {
            unroll(geometry, &input[group_range.clone()], &mut columns);
            let transposed = Matrix::rows(&columns, columns_len).transposed();
            multiply(sum, rows, gradient, transposed, columns_len, true);
        }
        if let Some(input_gradient) = input_gradient.as_deref_mut() {
            let transposed = Matrix::rows(weight, rows).transposed();
            multiply(
                &mut columns,
                columns_len,
                transposed,
                gradient,
                channels,
                false,
            );
            roll(geometry, &columns, &mut input_gradient[group_range]);
        }
    }
}

/// Writes the column matrix `[in_channels · kernel², images · out_pixels]` of some images.
fn unroll(geometry: &Geometry, images: &[f32], columns: &mut [f32]) {
    let stride = geometry.window.stride;
    for_each_tap(geometry, images.len(), |tap, image_range, column_range| {
        let image = &images[image_range];
        let columns = &mut columns[column_range];
        for (row, columns) in columns.chunks_exact_mut(geometry.out_width()).enumerate() {
            let Some(image_row) = tap.input_row(geometry, row) else {
                columns.fill(0.0);
                continue;
            };
            let image_row = &image[image_row * geometry.width..][..geometry.width];
            columns[..tap.first].fill(0.0);
            columns[tap.end..].fill(0.0);
            let Some(start) = tap.input_column(geometry) else {
                continue;
            };
            let valid = &mut columns[tap.first..tap.end];
            if stride == 1 {
                valid.copy_from_slice(&image_row[start..start + valid.len()]);
            } else {
                for (value, pixel) in valid
                    .iter_mut()
                    .zip(image_row[start..].iter().step_by(stride))
                {
                    *value = *pixel;
                }
            }
        }
    });
}

/// Adds the columns back to the pixels they came from: the transpose of [`unroll`].
fn roll(geometry: &Geometry, columns: &[f32], images: &mut [f32]) {
    let stride = geometry.window.stride;
    images.fill(0.0);
    for_each_tap(geometry, images.len(), |tap, image_range, column_range| {
        let image = &mut images[image_range];
        let columns = &columns[column_range];
        let Some(start) = tap.input_column(geometry) else {
            return;
        };
        for (row, columns) in columns.chunks_exact(geometry.out_width()).enumerate() {
            let Some(image_row) = tap.input_row(geometry, row) else {
                continue;
            };
            let image_row = &mut image[image_row * geometry.width..][..geometry.width];
            let valid = &columns[tap.first..tap.end];
            if stride == 1 {
                for (pixel, value) in image_row[start..].iter_mut().zip(valid) {
                    *pixel += value;
                }
            } else {
                for (pixel, value) in image_row[start..].iter_mut().step_by(stride).zip(valid) {
                    *pixel += value;
                }
            }
        }
    });
}

/// One position of the kernel, and which outputs see the image through it.
struct Tap {
    first: usize,
    end: usize,
    column_lead: isize,
    row_lead: isize,
}

impl Tap {
    /// The row of the image that output row `row` reads, unless it lies outside.
    fn input_row(&self, geometry: &Geometry, row: usize) -> Option<usize> {
        (row * geometry.window.stride)
            .checked_add_signed(self.row_lead)
            .filter(|&row| row < geometry.height)
    }

    /// The column of the image that the first valid output reads, unless there is none.
    fn input_column(&self, geometry: &Geometry) -> Option<usize> {
        (self.first < self.end)
            .then(|| (self.first * geometry.window.stride).checked_add_signed(self.column_lead))
            .flatten()
    }
}

/// Visits every (channel, kernel position, image) with the ranges of its pixels and of its columns.
fn for_each_tap(
    geometry: &Geometry,
    images_len: usize,
    mut visit: impl FnMut(&Tap, std::ops::Range<usize>, std::ops::Range<usize>),
) {
    let (kernel, pixels) = (geometry.window.kernel, geometry.out_pixels());
    let plane = geometry.height * geometry.width;
    let images = images_len / geometry.image_len();
    for channel in 0..geometry.in_channels {
        for tap_row in 0..kernel {
            let (_, _, row_lead) = geometry.valid(tap_row, geometry.height);
            for tap_column in 0..kernel {
                let (first, end, column_lead) = geometry.valid(tap_column, geometry.width);
                let tap = Tap {
                    first,
                    end,
                    column_lead,
                    row_lead,
                };
                let matrix_row = (channel * kernel + tap_row) * kernel + tap_column;
                for image in 0..images {
                    let pixel = (image * geometry.in_channels + channel) * plane;
                    let column = (matrix_row * images + image) * pixels;
                    visit(&tap, pixel..pixel + plane, column..column + pixels);
                }
            }
        }
    }
}

/// Copies `[first, second, rest]` to `[second, first, rest]`.
fn swap_leading(from: &[f32], to: &mut [f32], first: usize, second: usize, rest: usize) {
    for (a, from) in from.chunks_exact(second * rest).enumerate() {
        for (b, from) in from.chunks_exact(rest).enumerate() {
            to[(b * first + a) * rest..][..rest].copy_from_slice(from);
        }
    }
}

/// A matrix in memory, read by rows or by columns.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row after row of `columns` values each.
    fn rows(values: &'a [f32], columns: usize) -> Self {
        Self {
            values,
            row_stride: columns,
            column_stride: 1,
        }
    }

    fn transposed(self) -> Self {
        Self {
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Panics unless the matrix holds `rows · columns` values.
    fn check(&self, rows: usize, columns: usize) {
        let last = (rows - 1) * self.row_stride + (columns - 1) * self.column_stride;
        assert!(
            last < self.values.len(),
            "a matrix of {rows}×{columns} reaches past its values"
        );
    }
}

/// Computes `product = left · right`, or adds it if `add`; `product` is row after row of `columns` values.
fn multiply(
    product: &mut [f32],
    columns: usize,
    left: Matrix<'_>,
    right: Matrix<'_>,
    inner: usize,
    add: bool,
) {
    let rows = product.len() / columns;
    assert!(
        rows * columns == product.len() && rows > 0 && inner > 0,
        "an empty product"
    );
    left.check(rows, inner);
    right.check(inner, columns);
    #[expect(
        unsafe_code,
        reason = "the gemm crate takes matrices by pointer and stride"
    )]
    // SAFETY: `product` is borrowed mutably and has exactly `rows · columns` values, row after row; `check` has
    // made sure that the last value of either factor lies in its slice, and all strides are positive.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            product.as_mut_ptr(),
            1,
            columns.cast_signed(),
            add,
            left.values.as_ptr(),
            left.column_stride.cast_signed(),
            left.row_stride.cast_signed(),
            right.values.as_ptr(),
            right.column_stride.cast_signed(),
            right.row_stride.cast_signed(),
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
