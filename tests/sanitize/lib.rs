//! The kernels of the trainer's convolutions by themselves, and random convolutions for a sanitizer to watch.

mod aligned;
mod convolution;
mod grid;
mod kernels;
#[cfg(test)]
mod reference;
mod simd;
mod window;
mod winograd;

pub use window::Window;

/// As `shared::objective::Precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    Fp32,
}

#[cfg(test)]
mod tests {
    use crate::convolution::{self, Geometry};
    use crate::simd::Instructions;
    use crate::{Window, reference};

    /// Numbers that look random, by Knuth's linear congruences.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.0 >> 33
        }
        fn between(&mut self, least: usize, most: usize) -> usize {
            least + self.next() as usize % (most - least + 1)
        }
        fn values(&mut self, len: usize) -> Vec<f32> {
            (0..len).map(|_| self.next() as f32 / (1u64 << 30) as f32 - 1.0).collect()
        }
    }

    fn check(geometry: &Geometry, numbers: &mut Numbers) {
        let Geometry { batch, in_channels, height, width, out_channels, window } = *geometry;
        let input = numbers.values(batch * in_channels * height * width);
        let weight = numbers.values(out_channels * in_channels * window.kernel.pow(2));
        let expected = reference::convolution(geometry, &input, &weight);
        let gradient = numbers.values(expected.len());
        let (by_input, by_weight) =
            reference::convolution_gradients(geometry, &input, &weight, &gradient);
        for instructions in Instructions::all() {
            // Blocks of just the right size: one number further is somebody else's.
            let mut output = vec![0.0; expected.len()].into_boxed_slice();
            convolution::forward(instructions, geometry, &input, &weight, &mut output);
            close(&output, &expected);
            let mut input_gradient = vec![0.0; input.len()].into_boxed_slice();
            let mut weight_gradient = vec![0.0; weight.len()].into_boxed_slice();
            convolution::backward(
                instructions,
                geometry,
                &input,
                &weight,
                &gradient,
                Some(&mut input_gradient),
                Some(&mut weight_gradient),
            );
            close(&input_gradient, &by_input);
            close(&weight_gradient, &by_weight);
        }
    }

    fn close(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        let scale = expected.iter().fold(1.0f64, |scale, value| scale.max(value.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-4 * scale, "{found} {expected}");
        }
    }

    #[test]
    fn random_convolutions() {
        let (count, largest) = if cfg!(miri) { (12, 4) } else { (400, 40) };
        let mut numbers = Numbers(1);
        for _ in 0..count {
            let kernel = [1, 3, 5, 7][numbers.between(0, 3)];
            let padding = numbers.between(0, kernel / 2);
            let shift = if padding == 0 { numbers.between(0, 1) } else { 0 };
            let stride = numbers.between(1, 3);
            let geometry = Geometry {
                batch: numbers.between(1, 3),
                in_channels: numbers.between(1, largest),
                height: kernel + numbers.between(0, 8),
                width: kernel + numbers.between(0, largest),
                out_channels: numbers.between(1, largest),
                window: Window { kernel, stride, padding, shift, ..Window::same(1, 1) },
            };
            check(&geometry, &mut numbers);
        }
    }

    /// Those of 32 channels and more are computed in another way.
    #[test]
    fn convolutions_of_many_channels() {
        let count = if cfg!(miri) { 1 } else { 100 };
        let mut numbers = Numbers(2);
        for _ in 0..count {
            let geometry = Geometry {
                batch: numbers.between(1, 3),
                in_channels: numbers.between(32, 34),
                height: numbers.between(1, 4),
                width: numbers.between(1, 5),
                out_channels: numbers.between(32, 35),
                window: Window::same(3, 1),
            };
            check(&geometry, &mut numbers);
        }
    }
}
