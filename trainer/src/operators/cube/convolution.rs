//! Convolution and its gradients as one product of matrices, whose right side is looked up instead of stored.
//!
//! | product | rows | columns | depth |
//! |--|--|--|--|
//! | output | output channels | images × output pixels | input channels × taps |
//! | gradient of the input | input channels | images × input pixels | output channels × taps |
//! | gradient of the weight | output channels | input channels × taps | images × output pixels |
//!
//! A cube of 256 units computes a tile of the result, 64 columns wide, in steps of 16 in depth; both sides of a step lie
//! in shared memory. Cubes along z are for more columns, where there are many. The third product is deep and small: there
//! they are for parts of its depth, whose sums are added in order.
//! All sums are in single precision, factors too unless TF32 is asked for (`tensor_cores.rs`), and their order depends on the shapes alone.

use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use shared::objective::Precision;

use super::tensor_cores::multiply_tf32_kernel;
use super::{UNITS, allocate, dims, elementwise, number_of_unit, spread_out, to_u32};
use crate::operators::Window;

/// Columns of a tile.
pub(super) const COLUMNS: u32 = 64;
/// How deep a step is.
pub(super) const DEPTH: u32 = 16;
/// Units along a tile's columns, and along its rows.
pub(super) const SIDE: u32 = 16;
/// As many cubes keep every GPU busy.
const ENOUGH_CUBES: usize = 512;

/// Which of the three products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Product {
    Output,
    InputGradient,
    WeightGradient,
}

/// What a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Task {
    product: Product,
    kernel: u32,
    stride: u32,
    padding: u32,
    shift: u32,
    /// Rows of a tile that each unit sums up: 1, 2 or 4.
    pub(super) rows: u32,
}

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    batch: usize,
    in_channels: usize,
    height: usize,
    width: usize,
    out_channels: usize,
    out_height: usize,
    out_width: usize,
    window: Window,
}

impl Geometry {
    pub(super) fn new<R: CubeRuntime>(
        input: &CubeTensor<R>,
        weight: &CubeTensor<R>,
        window: Window,
    ) -> Self {
        let [batch, in_channels, height, width] = dims(input);
        let [out_channels, weight_channels, kernel, _] = dims(weight);
        assert_eq!(
            in_channels, weight_channels,
            "the weight is for other inputs"
        );
        assert_eq!(kernel, window.kernel, "the weight is for another window");
        Self {
            batch,
            in_channels,
            height,
            width,
            out_channels,
            out_height: window.output(height),
            out_width: window.output(width),
            window,
        }
    }

    fn taps(&self) -> usize {
        self.window.kernel.pow(2)
    }

    /// Rows, columns and depth of a product.
    fn size(&self, product: Product) -> [usize; 3] {
        let out_pixels = self.batch * self.out_height * self.out_width;
        match product {
            Product::Output => [
                self.out_channels,
                out_pixels,
                self.in_channels * self.taps(),
            ],
            Product::InputGradient => [
                self.in_channels,
                self.batch * self.height * self.width,
                self.out_channels * self.taps(),
            ],
            Product::WeightGradient => [
                self.out_channels,
                self.in_channels * self.taps(),
                out_pixels,
            ],
        }
    }
}

pub(super) fn forward<R: CubeRuntime>(
    geometry: &Geometry,
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
) -> CubeTensor<R> {
    let Geometry {
        batch,
        out_channels,
        out_height,
        out_width,
        ..
    } = *geometry;
    let shape = Shape::from([batch, out_channels, out_height, out_width]);
    multiply(geometry, Product::Output, weight, input, &shape)
}

pub(super) fn input_gradient<R: CubeRuntime>(
    geometry: &Geometry,
    weight: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    let Geometry {
        batch,
        in_channels,
        height,
        width,
        ..
    } = *geometry;
    let shape = Shape::from([batch, in_channels, height, width]);
    multiply(geometry, Product::InputGradient, weight, gradient, &shape)
}

pub(super) fn weight_gradient<R: CubeRuntime>(
    geometry: &Geometry,
    input: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    let Geometry {
        in_channels,
        out_channels,
        window,
        ..
    } = *geometry;
    let shape = Shape::from([out_channels, in_channels, window.kernel, window.kernel]);
    multiply(geometry, Product::WeightGradient, gradient, input, &shape)
}

/// Parts that a product's depth is cut into, and its cubes; each sums up so many rows with every unit.
fn cubes(
    product: Product,
    [rows, columns, depth]: [usize; 3],
    units_rows: u32,
) -> (usize, CubeCount) {
    let column_tiles = columns.div_ceil(COLUMNS as usize);
    let row_tiles = rows.div_ceil((SIDE * units_rows) as usize);
    match product {
        Product::WeightGradient => {
            let parts = ENOUGH_CUBES / (column_tiles * row_tiles);
            let parts = parts.clamp(1, depth.div_ceil(256).max(1));
            let [x, y, z] = [column_tiles, row_tiles, parts].map(to_u32);
            (parts, CubeCount::Static(x, y, z))
        }
        Product::Output | Product::InputGradient => {
            let [x, z] = spread_out(column_tiles);
            (1, CubeCount::Static(x, to_u32(row_tiles), z))
        }
    }
}

fn multiply<R: CubeRuntime>(
    geometry: &Geometry,
    product: Product,
    left: CubeTensor<R>,
    right: CubeTensor<R>,
    shape: &Shape,
) -> CubeTensor<R> {
    let [rows, columns, depth] = geometry.size(product);
    let units_rows = match rows {
        0..=16 => 1,
        17..=32 => 2,
        _ => 4,
    };
    let (parts, count) = cubes(product, geometry.size(product), units_rows);
    let part = depth.div_ceil(parts).next_multiple_of(DEPTH as usize);
    let client = left.client.clone();
    let output = allocate(&left, shape.clone());
    let sums = if parts == 1 {
        output.clone()
    } else {
        allocate(&left, Shape::from([parts, rows, columns]))
    };
    let window = geometry.window;
    let task = Task {
        product,
        kernel: to_u32(window.kernel),
        stride: to_u32(window.stride),
        padding: to_u32(window.padding),
        shift: to_u32(window.shift),
        rows: units_rows,
    };
    let launch = match window.precision {
        Precision::Fp32 => multiply_kernel::launch::<R>,
        Precision::Tf32 => multiply_tf32_kernel::launch::<R>,
    };
    launch(
        &client,
        count,
        CubeDim::new_1d(UNITS),
        left.into_array_arg(),
        right.into_array_arg(),
        sums.clone().into_array_arg(),
        SizesLaunch::new(
            to_u32(geometry.batch),
            to_u32(geometry.in_channels),
            to_u32(geometry.height),
            to_u32(geometry.width),
            to_u32(geometry.out_channels),
            to_u32(geometry.out_height),
            to_u32(geometry.out_width),
        ),
        to_u32(part),
        task,
    );
    if parts > 1 {
        let (count, dim) = elementwise(rows * columns);
        add_parts_kernel::launch::<R>(
            &client,
            count,
            dim,
            sums.into_array_arg(),
            output.clone().into_array_arg(),
            to_u32(rows * columns),
            to_u32(parts),
        );
    }
    output
}

/// [`Geometry`] on the device.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Sizes {
    batch: u32,
    in_channels: u32,
    height: u32,
    width: u32,
    out_channels: u32,
    out_height: u32,
    out_width: u32,
}

/// Where a column of the right side begins: what does not change with depth. Numbers wrap around below 0.
#[derive(CubeType)]
pub(super) struct Start {
    base: u32,
    row: u32,
    column: u32,
}

#[cube]
pub(super) fn start_of(index: u32, sizes: &Sizes, #[comptime] task: Task) -> Start {
    let kernel = comptime!(task.kernel);
    let stride = comptime!(task.stride);
    let padding = comptime!(task.padding);
    let shift = comptime!(task.shift);
    if comptime!(task.product == Product::Output) {
        let pixels = sizes.out_height * sizes.out_width;
        let pixel = index % pixels;
        Start {
            base: index / pixels * sizes.in_channels * sizes.height * sizes.width,
            row: pixel / sizes.out_width * stride + shift - padding,
            column: pixel % sizes.out_width * stride + shift - padding,
        }
    } else if comptime!(task.product == Product::InputGradient) {
        let pixels = sizes.height * sizes.width;
        let pixel = index % pixels;
        Start {
            base: index / pixels * sizes.out_channels * sizes.out_height * sizes.out_width,
            row: pixel / sizes.width + padding - shift,
            column: pixel % sizes.width + padding - shift,
        }
    } else {
        let taps = kernel * kernel;
        let tap = index % taps;
        Start {
            base: index / taps * sizes.height * sizes.width,
            row: tap / kernel + shift - padding,
            column: tap % kernel + shift - padding,
        }
    }
}

/// The right side's value at a depth, 0 outside of images.
#[cube]
pub(super) fn right_at(
    right: &Array<f32>,
    at: &Start,
    depth: u32,
    sizes: &Sizes,
    #[comptime] task: Task,
) -> f32 {
    let kernel = comptime!(task.kernel);
    let stride = comptime!(task.stride);
    let taps = kernel * kernel;
    let mut value = 0.0f32;
    if comptime!(task.product == Product::Output) {
        let tap = depth % taps;
        let row = at.row + tap / kernel;
        let column = at.column + tap % kernel;
        if row < sizes.height && column < sizes.width {
            let index = at.base + (depth / taps * sizes.height + row) * sizes.width + column;
            value = right[index as usize];
        }
    } else if comptime!(task.product == Product::InputGradient) {
        let tap = depth % taps;
        let row = at.row - tap / kernel;
        let column = at.column - tap % kernel;
        let (out_row, out_column) = (row / stride, column / stride);
        let is_seen = row.is_multiple_of(stride) && column.is_multiple_of(stride);
        if is_seen && out_row < sizes.out_height && out_column < sizes.out_width {
            let index = at.base
                + (depth / taps * sizes.out_height + out_row) * sizes.out_width
                + out_column;
            value = right[index as usize];
        }
    } else {
        let pixels = sizes.out_height * sizes.out_width;
        let pixel = depth % pixels;
        let row = at.row + pixel / sizes.out_width * stride;
        let column = at.column + pixel % sizes.out_width * stride;
        if row < sizes.height && column < sizes.width {
            let image = depth / pixels * sizes.in_channels * sizes.height * sizes.width;
            let index = image + at.base + row * sizes.width + column;
            value = right[index as usize];
        }
    }
    value
}

/// The left side's value.
#[cube]
pub(super) fn left_at(
    left: &Array<f32>,
    row: u32,
    depth: u32,
    sizes: &Sizes,
    #[comptime] task: Task,
) -> f32 {
    let taps = comptime!(task.kernel * task.kernel);
    if comptime!(task.product == Product::Output) {
        left[(row * sizes.in_channels * taps + depth) as usize]
    } else if comptime!(task.product == Product::InputGradient) {
        left[((depth / taps * sizes.in_channels + row) * taps + depth % taps) as usize]
    } else {
        let pixels = sizes.out_height * sizes.out_width;
        left[((depth / pixels * sizes.out_channels + row) * pixels + depth % pixels) as usize]
    }
}

/// Rows, columns and depth of the product.
#[cube]
pub(super) fn extent(sizes: &Sizes, #[comptime] task: Task) -> (u32, u32, u32) {
    let taps = comptime!(task.kernel * task.kernel);
    let out_pixels = sizes.batch * sizes.out_height * sizes.out_width;
    if comptime!(task.product == Product::Output) {
        (sizes.out_channels, out_pixels, sizes.in_channels * taps)
    } else if comptime!(task.product == Product::InputGradient) {
        let pixels = sizes.batch * sizes.height * sizes.width;
        (sizes.in_channels, pixels, sizes.out_channels * taps)
    } else {
        (sizes.out_channels, sizes.in_channels * taps, out_pixels)
    }
}

/// The first column of this cube's tile.
#[cube]
pub(super) fn column_of_tile(#[comptime] task: Task) -> u32 {
    if comptime!(task.product == Product::WeightGradient) {
        CUBE_POS_X * COLUMNS
    } else {
        (CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X) * COLUMNS
    }
}

/// The depth at which this cube's part begins.
#[cube]
pub(super) fn depth_of_part(part: u32, #[comptime] task: Task) -> u32 {
    if comptime!(task.product == Product::WeightGradient) {
        CUBE_POS_Z * part
    } else {
        0u32.runtime()
    }
}

/// Where a value of the result lies.
#[cube]
pub(super) fn result_index(row: u32, column: u32, sizes: &Sizes, #[comptime] task: Task) -> u32 {
    let taps = comptime!(task.kernel * task.kernel);
    if comptime!(task.product == Product::Output) {
        let pixels = sizes.out_height * sizes.out_width;
        (column / pixels * sizes.out_channels + row) * pixels + column % pixels
    } else if comptime!(task.product == Product::InputGradient) {
        let pixels = sizes.height * sizes.width;
        (column / pixels * sizes.in_channels + row) * pixels + column % pixels
    } else {
        let columns = sizes.in_channels * taps;
        (CUBE_POS_Z * sizes.out_channels + row) * columns + column
    }
}

/// Loads the tiles of both sides between two depths, with zeros where there is nothing.
///
/// # Shapes
/// - `left_tile`: `[DEPTH, left_pitch]`, of which a tile's rows are used
/// - `right_tile`: `[DEPTH, right_pitch]`, of which [`COLUMNS`] are used
#[cube]
#[expect(
    clippy::too_many_arguments,
    reason = "kernels have no structures of arrays"
)]
pub(super) fn load_tiles<E: Numeric>(
    left: &Array<f32>,
    right: &Array<f32>,
    left_tile: &mut SharedMemory<E>,
    right_tile: &mut SharedMemory<E>,
    at: &Start,
    start: u32,
    end: u32,
    sizes: &Sizes,
    #[comptime] task: Task,
    #[comptime] left_pitch: u32,
    #[comptime] right_pitch: u32,
) {
    let unit = UNIT_POS;
    let (rows, columns, _) = extent(sizes, task);
    let first_row = CUBE_POS_Y * comptime!(SIDE * task.rows);
    let own_column = column_of_tile(task) + unit % COLUMNS;
    let left_depth = start + unit % DEPTH;
    #[unroll]
    for index in 0..comptime!(task.rows) {
        let row = unit / DEPTH + index * SIDE;
        let mut value = 0.0f32;
        if left_depth < end && first_row + row < rows {
            value = left_at(left, first_row + row, left_depth, sizes, task);
        }
        left_tile[(unit % DEPTH * left_pitch + row) as usize] = E::cast_from(value);
    }
    #[unroll]
    for index in 0..4u32 {
        let step = unit / COLUMNS + index * 4;
        let mut value = 0.0f32;
        if start + step < end && own_column < columns {
            value = right_at(right, at, start + step, sizes, task);
        }
        right_tile[(step * right_pitch + unit % COLUMNS) as usize] = E::cast_from(value);
    }
}

#[cube(launch)]
fn multiply_kernel(
    left: &Array<f32>,
    right: &Array<f32>,
    result: &mut Array<f32>,
    sizes: Sizes,
    part: u32,
    #[comptime] task: Task,
) {
    let unit_rows = comptime!(task.rows);
    let tile_rows = comptime!(SIDE * task.rows);
    // One more than there are rows, so that units which write next to one another use different banks.
    let left_pitch = comptime!(SIDE * task.rows + 1);
    let mut left_tile = SharedMemory::<f32>::new(comptime!((DEPTH * left_pitch) as usize));
    let mut right_tile = SharedMemory::<f32>::new(comptime!((DEPTH * COLUMNS) as usize));
    let mut sums = Array::<f32>::new(comptime!((4 * unit_rows) as usize));
    #[unroll]
    for index in 0..comptime!(4 * unit_rows) {
        sums[index as usize] = 0.0f32;
    }

    let unit = UNIT_POS;
    let (rows, columns, depth) = extent(&sizes, task);
    let (first_row, first_column) = (CUBE_POS_Y * tile_rows, column_of_tile(task));
    let mut start = depth_of_part(part, task);
    let end = u32::min(start + part, depth);
    let at = start_of(first_column + unit % COLUMNS, &sizes, task);
    while start < end {
        load_tiles::<f32>(
            left,
            right,
            &mut left_tile,
            &mut right_tile,
            &at,
            start,
            end,
            &sizes,
            task,
            left_pitch,
            COLUMNS,
        );
        sync_cube();
        for step in 0..DEPTH {
            #[unroll]
            for row in 0..unit_rows {
                let factor =
                    left_tile[(step * left_pitch + unit / SIDE * unit_rows + row) as usize];
                #[unroll]
                for column in 0..4u32 {
                    let other = right_tile[(step * COLUMNS + unit % SIDE + column * SIDE) as usize];
                    sums[comptime!((row * 4 + column) as usize)] += factor * other;
                }
            }
        }
        sync_cube();
        start += DEPTH;
    }
    #[unroll]
    for row in 0..unit_rows {
        #[unroll]
        for column in 0..4u32 {
            let to_row = first_row + unit / SIDE * unit_rows + row;
            let to_column = first_column + unit % SIDE + column * SIDE;
            if to_row < rows && to_column < columns {
                let index = result_index(to_row, to_column, &sizes, task);
                result[index as usize] = sums[comptime!((row * 4 + column) as usize)];
            }
        }
    }
}

#[cube(launch)]
fn add_parts_kernel(parts: &Array<f32>, sums: &mut Array<f32>, len: u32, count: u32) {
    let index = number_of_unit();
    if index < len {
        let mut sum = 0.0f32;
        for part in 0..count {
            sum += parts[(part * len + index) as usize];
        }
        sums[index as usize] = sum;
    }
}
