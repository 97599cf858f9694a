//! Memory for numbers.

/// Numbers in a cache line.
pub(super) const LINE: usize = 16;

/// So many zeros.
pub(super) fn zeros(len: usize) -> Vec<f32> {
    vec![0.0; len]
}

/// Numbers that start with a cache line: vectors that straddle two lines are read at half the speed.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// So many zeros.
    pub(super) fn zeros(len: usize) -> Self {
        let memory = zeros(len + LINE);
        // Alignment only matters for speed; where it cannot be had, this is past the end.
        let start = memory
            .as_ptr()
            .align_offset(LINE * size_of::<f32>())
            .min(LINE);
        Self { memory, start, len }
    }

    /// At least so many numbers; which ones is not said.
    pub(super) fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeros(len);
        }
    }

    /// The numbers.
    pub(super) fn values(&self) -> &[f32] {
        &self.memory[self.start..][..self.len]
    }

    /// The numbers, to be changed.
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
    }
}
