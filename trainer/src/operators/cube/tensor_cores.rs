//! The products of `convolution.rs` on tensor cores, which multiply in TF32 and add in single precision.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{cmma, tf32 as Tf32};

use super::UNITS;
use super::convolution::{COLUMNS, DEPTH, SIDE, Sizes, Task};
use super::convolution::{column_of_tile, depth_of_part, extent, load_tiles};
use super::convolution::{result_index, start_of};

/// How deep a tensor core's step is.
const CORE_DEPTH: u32 = 8;
/// What keeps the rows of both sides in different banks, and each tile that is loaded at a multiple of 32 bytes.
const PAD: u32 = 8;

/// Eight groups of 32 units, each with a 16×16 part of the tile's sums, or with two 32 rows apart.
#[cube(launch)]
pub(super) fn multiply_tf32_kernel(
    left: &Array<f32>,
    right: &Array<f32>,
    result: &mut Array<f32>,
    sizes: Sizes,
    part: u32,
    #[comptime] task: Task,
) {
    let unit_rows = comptime!(task.rows);
    let tile_rows = comptime!(SIDE * task.rows);
    let left_pitch = comptime!(SIDE * task.rows + PAD);
    let right_pitch = comptime!(COLUMNS + PAD);
    let left_len = comptime!((DEPTH * (SIDE * task.rows + PAD)) as usize);
    let right_len = comptime!((DEPTH * (COLUMNS + PAD)) as usize);
    let found_len = comptime!((SIDE * task.rows * COLUMNS) as usize);
    let mut left_tile = SharedMemory::<Tf32>::new_aligned(left_len, 32usize);
    let mut right_tile = SharedMemory::<Tf32>::new_aligned(right_len, 32usize);
    let mut found = SharedMemory::<f32>::new_aligned(found_len, 32usize);
    let upper = nothing();
    let lower = nothing();

    let unit = UNIT_POS;
    let own_row = unit / 128 * SIDE;
    let own_place = unit / 32 % 4 * SIDE;
    let (rows, columns, depth) = extent(&sizes, task);
    let (first_row, first_column) = (CUBE_POS_Y * tile_rows, column_of_tile(task));
    let mut start = depth_of_part(part, task);
    let end = u32::min(start + part, depth);
    let at = start_of(first_column + unit % COLUMNS, &sizes, task);
    while start < end {
        load_tiles::<Tf32>(
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
            right_pitch,
        );
        sync_cube();
        if own_row < tile_rows {
            add_products(
                &left_tile,
                &right_tile,
                own_row,
                own_place,
                task,
                &upper,
                &lower,
            );
        }
        sync_cube();
        start += DEPTH;
    }
    if own_row < tile_rows {
        let place = own_row * COLUMNS + own_place;
        store(&mut found, place, found_len, &upper);
        if comptime!(unit_rows == 4) {
            let place = place + 2 * SIDE * COLUMNS;
            store(&mut found, place, found_len, &lower);
        }
    }
    sync_cube();
    #[unroll]
    for index in 0..comptime!(4 * unit_rows) {
        let place = index * UNITS + unit;
        let (row, column) = (first_row + place / COLUMNS, first_column + place % COLUMNS);
        if row < rows && column < columns {
            let to = result_index(row, column, &sizes, task);
            result[to as usize] = found[place as usize];
        }
    }
}

/// Sums with nothing in them yet.
#[cube]
fn nothing() -> cmma::Matrix<f32> {
    cmma::Matrix::<f32>::from_value(
        cmma::MatrixIdent::Accumulator,
        16usize,
        16usize,
        8usize,
        cmma::MatrixLayout::Undefined,
        0.0f32,
    )
}

/// Adds the products of both tiles to the sums of these 32 units.
#[cube]
fn add_products(
    left_tile: &SharedMemory<Tf32>,
    right_tile: &SharedMemory<Tf32>,
    own_row: u32,
    own_place: u32,
    #[comptime] task: Task,
    upper: &cmma::Matrix<f32>,
    lower: &cmma::Matrix<f32>,
) {
    let left_pitch = comptime!(SIDE * task.rows + PAD);
    let right_pitch = comptime!(COLUMNS + PAD);
    let left_len = comptime!((DEPTH * (SIDE * task.rows + PAD)) as usize);
    let right_len = comptime!((DEPTH * (COLUMNS + PAD)) as usize);
    #[unroll]
    for step in 0..comptime!(DEPTH / CORE_DEPTH) {
        let depth_here = step * CORE_DEPTH;
        let columns_here = depth_here * right_pitch + own_place;
        let factors = cmma::Matrix::<Tf32>::from_slice(
            cmma::MatrixIdent::B,
            16usize,
            16usize,
            8usize,
            cmma::MatrixLayout::RowMajor,
            &right_tile.slice(columns_here as usize, right_len),
            right_pitch,
        );
        let rows_here = depth_here * left_pitch + own_row;
        add_product(left_tile, rows_here, left_pitch, left_len, &factors, upper);
        if comptime!(task.rows == 4) {
            let rows_here = rows_here + 2 * SIDE;
            add_product(left_tile, rows_here, left_pitch, left_len, &factors, lower);
        }
    }
}

/// Adds the product of a 16×8 part of the left side, which begins at `place`, with the factors.
#[cube]
fn add_product(
    left: &SharedMemory<Tf32>,
    place: u32,
    pitch: u32,
    #[comptime] len: usize,
    factors: &cmma::Matrix<Tf32>,
    sums: &cmma::Matrix<f32>,
) {
    let rows = cmma::Matrix::<Tf32>::from_slice(
        cmma::MatrixIdent::A,
        16usize,
        16usize,
        8usize,
        cmma::MatrixLayout::ColMajor,
        &left.slice(place as usize, len),
        pitch,
    );
    cmma::execute::<Tf32, Tf32, f32, f32>(&rows, factors, sums, sums);
}

/// Writes sums to where their part of the tile begins.
#[cube]
fn store(
    found: &mut SharedMemory<f32>,
    place: u32,
    #[comptime] len: usize,
    sums: &cmma::Matrix<f32>,
) {
    cmma::store(
        &mut found.slice_mut(place as usize, len),
        sums,
        COLUMNS,
        cmma::MatrixLayout::RowMajor,
    );
}
