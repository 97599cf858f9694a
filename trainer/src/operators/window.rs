//! Where a convolution looks, and how precisely.

use super::Precision;

/// How a square kernel moves over an image.
///
/// Output `o` reads the input at `o · stride + tap + shift − padding`; what lies outside the image is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Side of the kernel, in pixels.
    pub kernel: usize,
    /// Distance between outputs, in input pixels.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: usize,
    /// How far the window starts from the upper left; the output has the size it has without the shift. 0 unless
    /// the padding is.
    pub shift: usize,
    /// What is multiplied in, where the device has a choice: a CPU has none.
    pub precision: Precision,
}

impl Window {
    /// The window that keeps an image's size at stride 1.
    ///
    /// # Panics
    /// If the kernel is even and has no centre.
    pub fn same(kernel: usize, stride: usize) -> Self {
        assert!(kernel % 2 == 1, "a kernel of {kernel} has no centre");
        Self {
            kernel,
            stride,
            padding: kernel / 2,
            shift: 0,
            precision: Precision::Fp32,
        }
    }

    /// The window of another size that looks as precisely.
    pub(crate) fn resized(self, kernel: usize, stride: usize) -> Self {
        Self {
            precision: self.precision,
            ..Self::same(kernel, stride)
        }
    }

    /// Side of the output for an input of `size` pixels.
    pub fn output(&self, size: usize) -> usize {
        (size + 2 * self.padding - self.kernel) / self.stride + 1
    }
}
