//! The kernel that makes a batch of images that a device keeps: crop, mirror, hole, normalisation and mixing in one.

use burn::tensor::{Int, Shape, Tensor, TensorData};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime};

use super::{allocate, dense, elementwise, number_of_unit, to_u32, unwrap};
use crate::minibatch::{Drawn, NUMBERS_OF_IMAGE};
use crate::operators::KeptImages;

/// As [`crate::operators::Operators::see`].
pub(super) fn see<R: CubeRuntime, BT: BoolElement>(
    kept: &KeptImages<CubeBackend<R, f32, i32, BT>>,
    drawn: &Drawn,
) -> CubeTensor<R> {
    let numbers = drawn.numbers();
    let len = numbers.len();
    let device = kept.bytes.device();
    let numbers: Tensor<CubeBackend<R, f32, i32, BT>, 1, Int> =
        Tensor::from_data(TensorData::new(numbers, [len]), &device);
    let values = dense(&unwrap(kept.values.clone()));
    let output = allocate(&values, Shape::from(kept.dims(drawn)));
    let all = output.meta.num_elements();
    let (count, dim) = elementwise(all);
    let share = drawn.mixup.as_ref().map(|mixup| mixup.weight);
    see_kernel::launch::<R>(
        &output.client,
        count,
        dim,
        kept.bytes.clone().into_primitive().into_array_arg(),
        values.into_array_arg(),
        numbers.into_primitive().into_array_arg(),
        output.clone().into_array_arg(),
        share.unwrap_or(1.0),
        to_u32(all),
        to_u32(kept.shape.channels),
        to_u32(kept.shape.height),
        to_u32(kept.shape.width),
        share.is_some(),
    );
    output
}

#[cube(launch)]
fn see_kernel(
    bytes: &Array<u32>,
    values: &Array<f32>,
    numbers: &Array<i32>,
    output: &mut Array<f32>,
    share: f32,
    len: u32,
    channels: u32,
    height: u32,
    width: u32,
    #[comptime] is_mixed: bool,
) {
    let number = number_of_unit();
    if number < len {
        let plane = height * width;
        let pixel = number % plane;
        let channel = number / plane % channels;
        let view = number / (plane * channels) * comptime!(NUMBERS_OF_IMAGE as u32);
        let own = seen(
            bytes, values, numbers, view, channel, pixel, channels, height, width,
        );
        output[number as usize] = if comptime!(is_mixed) {
            let partner = u32::cast_from(numbers[(view + 8) as usize]);
            let view = partner * comptime!(NUMBERS_OF_IMAGE as u32);
            let other = seen(
                bytes, values, numbers, view, channel, pixel, channels, height, width,
            );
            share * own + (1.0f32 - share) * other
        } else {
            own
        };
    }
}

/// A pixel of the image whose numbers begin at `view`.
#[cube]
fn seen(
    bytes: &Array<u32>,
    values: &Array<f32>,
    numbers: &Array<i32>,
    view: u32,
    channel: u32,
    pixel: u32,
    channels: u32,
    height: u32,
    width: u32,
) -> f32 {
    let first = view as usize;
    let row = i32::cast_from(pixel / width);
    let column = i32::cast_from(pixel % width);
    let mut value = 0.0f32;
    let is_cut = row >= numbers[first + 4]
        && row < numbers[first + 5]
        && column >= numbers[first + 6]
        && column < numbers[first + 7];
    if !is_cut {
        let (rows, columns) = (i32::cast_from(height), i32::cast_from(width));
        let source_row = row + numbers[first + 1];
        let mut source_column = column;
        if numbers[first + 3] != 0 {
            source_column = columns - 1 - column;
        }
        source_column += numbers[first + 2];
        let mut byte = 0u32;
        if source_row >= 0 && source_row < rows && source_column >= 0 && source_column < columns {
            let image = u32::cast_from(numbers[first]);
            let row = (image * channels + channel) * height + u32::cast_from(source_row);
            let place = row * width + u32::cast_from(source_column);
            byte = (bytes[(place / 4) as usize] >> (place % 4 * 8)) & 255;
        }
        value = values[(channel * 256 + byte) as usize];
    }
    value
}
