use burn::backend::flex::FlexDevice;
use burn::backend::{Autodiff, Flex};
use burn::tensor::Tensor;

use super::*;
use crate::operators::Operators as _;
use shared::objective::Precision;

type Cpu = Autodiff<Flex>;

const SIZES: Convolution = Convolution {
    batch: 4,
    channels: [16, 8],
    pixels: [7, 6],
    window: Window {
        kernel: 3,
        stride: 2,
        padding: 1,
        shift: 0,
        precision: Precision::Fp32,
    },
};

fn right() -> Results {
    operations::convolution::<Cpu>(Cpu::convolution, SIZES, &FlexDevice)
}

/// What the self-test says of a wrong kernel.
fn fault_of(planted: operations::Convolve<Cpu>) -> (String, f32) {
    let found = operations::convolution::<Cpu>(planted, SIZES, &FlexDevice);
    match compare("planted", &right(), &found).unwrap_err() {
        Fault::Wrong { result, error, .. } => (result, error),
        other @ Fault::Failed { .. } => panic!("{other}"),
    }
}

/// The tensor itself, but with its gradient multiplied.
fn with_scaled_gradient(x: Tensor<Cpu, 4>, factor: f32) -> Tensor<Cpu, 4> {
    x.clone() * factor + x.detach() * (1.0 - factor)
}

#[test]
fn the_cpu_is_right_and_right_again() {
    let passed = run_anew(Device::Cpu).unwrap();
    assert!(passed.worst == 0.0 && passed.operations > 10, "{passed:?}");
    assert!(ensure_passed(Device::Cpu).is_ok());
}

#[test]
fn a_scaled_gradient_of_the_input_is_found() {
    let (result, error) =
        fault_of(|x, w, window| Cpu::convolution(with_scaled_gradient(x, 0.999), w, window));
    assert_eq!(result, "gradient of the input");
    assert!((5e-4..2e-3).contains(&error), "{error}");
}

#[test]
fn a_scaled_gradient_of_the_weight_is_found() {
    let (result, _) =
        fault_of(|x, w, window| Cpu::convolution(x, with_scaled_gradient(w, 1.001), window));
    assert_eq!(result, "gradient of the weight");
}

#[test]
fn a_gradient_that_is_zero_is_found() {
    let (result, error) =
        fault_of(|x, w, window| Cpu::convolution(with_scaled_gradient(x, 0.0), w, window));
    assert_eq!(result, "gradient of the input");
    assert!(error > 0.1, "{error}");
}

#[test]
fn a_skipped_channel_is_found() {
    let (result, _) = fault_of(|x, w, window| {
        let [batch, channels, height, width] = x.dims();
        let seen = x.slice([0..batch, 0..channels - 1, 0..height, 0..width]);
        let lost = Tensor::zeros([batch, 1, height, width], &FlexDevice);
        Cpu::convolution(Tensor::cat(vec![seen, lost], 1), w, window)
    });
    assert_eq!(result, "output");
}

#[test]
fn rounding_to_tf32_is_found() {
    let (result, error) = fault_of(|x, w, window| {
        let exact = w.clone().into_data();
        let round = |value: f32| f32::from_bits(value.to_bits().wrapping_add(0x1000) & 0xffff_e000);
        let rounded: Vec<f32> = exact.iter::<f32>().map(round).collect();
        let rounded = Tensor::<Cpu, 1>::from_floats(rounded.as_slice(), &FlexDevice);
        let difference = rounded.reshape(w.dims()) - w.clone();
        Cpu::convolution(x, w + difference.detach(), window)
    });
    assert_eq!(result, "output");
    assert!(error < 1e-3, "{error}");
}

#[test]
fn what_is_not_a_number_is_found() {
    let mut found = right();
    found[3].1[5] = f32::NAN;
    let fault = compare("convolution", &right(), &found)
        .unwrap_err()
        .to_string();
    assert!(
        fault.starts_with("convolution: the gradient of the weight is off by NaN"),
        "{fault}"
    );
}
