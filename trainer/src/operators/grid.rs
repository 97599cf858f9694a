//! Images laid out so that every position of a convolution's kernel is a plain shift.
//!
//! The rows of all images of a group stand one after another in one long row, with gaps of zeros between them as wide
//! as the kernel reaches beyond the image. Then the input that output `j` sees through a kernel position lies at
//! `j + constant`, for all outputs at once: no column matrix is needed, and no border is a special case. Results that
//! fall into the gaps are thrown away.
//!
//! A stride s deals the pixels out to s × s planes by their remainders ("phases"); within each plane the stride is 1
//! again, and each kernel position reads one phase.
//!
//! ```text
//! image 0: a b c 0      stride 1, padding 1: gaps are 1 wide, shared between a row's end and the next one's start
//!          d e f 0      above left of position e is position e − 5, whatever is there
//!          0 0 0 0
//! image 1: g h i 0 …
//! ```

use super::Window;
use super::aligned::LINE;

/// One axis of a convolution.
#[derive(Debug, Clone)]
struct Axis {
    /// Pixels of the image.
    size: usize,
    stride: usize,
    /// Pixels of the output.
    outputs: usize,
    /// What each kernel position reads: the phase, and how far from the output's own place in it.
    taps: Vec<(usize, isize)>,
    /// Distance between the starts of two rows (of two images) on the grid.
    pitch: usize,
    /// The farthest that anything is read outside of rows (of images).
    reach: usize,
}

impl Axis {
    fn new(size: usize, window: Window) -> Self {
        let Window {
            kernel,
            stride,
            padding,
            shift,
            ..
        } = window;
        let outputs = window.output(size);
        let step = stride.cast_signed();
        let taps: Vec<(usize, isize)> = (0..kernel)
            .map(|tap| (tap + shift).cast_signed() - padding.cast_signed())
            .map(|place| {
                (
                    place.rem_euclid(step).cast_unsigned(),
                    place.div_euclid(step),
                )
            })
            .collect();
        let displacements = || taps.iter().map(|(_, displacement)| *displacement);
        let least = displacements().min().unwrap_or(0);
        let most = displacements().max().unwrap_or(0);
        let (inputs, outputs_) = (size.div_ceil(stride).cast_signed(), outputs.cast_signed());
        // Inputs are read from `least` to `outputs − 1 + most`; on the way back, gradients from `−most` to
        // `inputs − 1 − least`.
        let input_gap = (-least).max(outputs_ + most - inputs).max(0);
        let gradient_gap = most.max(inputs - least - outputs_).max(0);
        let pitch = (inputs + input_gap)
            .max(outputs_ + gradient_gap)
            .cast_unsigned();
        let reach = input_gap.max(gradient_gap).max(most.abs()).max(least.abs());
        Self {
            size,
            stride,
            outputs,
            taps,
            pitch,
            reach: reach.cast_unsigned(),
        }
    }

    /// Pixels of the image that belong to a phase.
    fn phase_len(&self, phase: usize) -> usize {
        self.size.saturating_sub(phase).div_ceil(self.stride)
    }
}

/// The layout of a group of images, for one convolution.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    rows: Axis,
    columns: Axis,
    /// Remainders of row and column of every plane that is read.
    phases: Vec<(usize, usize)>,
    /// Numbers before the first image.
    lead: usize,
    /// Numbers of a plane, with what is read and written beyond its end.
    plane: usize,
    images: usize,
}

impl Grid {
    /// The layout for up to `images` images; `slack` numbers can be read beyond every plane's last output.
    pub(super) fn new(
        height: usize,
        width: usize,
        window: Window,
        images: usize,
        slack: usize,
    ) -> Self {
        let (rows, columns) = (Axis::new(height, window), Axis::new(width, window));
        let mut phases: Vec<(usize, usize)> = Vec::new();
        for (row_phase, _) in &rows.taps {
            for (column_phase, _) in &columns.taps {
                if !phases.contains(&(*row_phase, *column_phase)) {
                    phases.push((*row_phase, *column_phase));
                }
            }
        }
        // Images start with a cache line in every plane.
        let lead = (rows.reach * columns.pitch + columns.reach).next_multiple_of(LINE);
        let plane = lead + images * rows.pitch * columns.pitch + lead + slack;
        let plane = plane.next_multiple_of(LINE);
        Self {
            rows,
            columns,
            phases,
            lead,
            plane,
            images,
        }
    }

    pub(super) fn phases(&self) -> usize {
        self.phases.len()
    }

    /// Numbers from one plane to the next.
    pub(super) fn plane(&self) -> usize {
        self.plane
    }

    /// Positions that some images take up.
    pub(super) fn len(&self, images: usize) -> usize {
        assert!(images <= self.images, "the grid has room for fewer images");
        images * self.rows.pitch * self.columns.pitch
    }

    /// How far a kernel position's input lies from the output, and in which phase.
    fn tap(&self, row: usize, column: usize) -> ((usize, usize), isize) {
        let (row_phase, rows) = self.rows.taps[row];
        let (column_phase, columns) = self.columns.taps[column];
        (
            (row_phase, column_phase),
            rows * self.columns.pitch.cast_signed() + columns,
        )
    }

    fn taps(&self) -> impl Iterator<Item = ((usize, usize), isize)> {
        let kernel = self.rows.taps.len();
        (0..kernel * kernel).map(move |tap| self.tap(tap / kernel, tap % kernel))
    }

    /// Where in the planes of the input the output at position 0 reads, for every (channel, kernel position).
    pub(super) fn input_offsets(&self, channels: usize) -> Vec<usize> {
        let mut offsets = Vec::new();
        for channel in 0..channels {
            for (phase, distance) in self.taps() {
                let phase = self
                    .phases
                    .iter()
                    .position(|p| *p == phase)
                    .expect("a tap's phase");
                let plane = (channel * self.phases.len() + phase) * self.plane + self.lead;
                offsets.push(plane.strict_add_signed(distance));
            }
        }
        offsets
    }

    /// Where in the planes of the output's gradient the input at position 0 of a phase reads, for every (channel,
    /// kernel position that reads the phase), and which positions these are.
    pub(super) fn gradient_offsets(
        &self,
        channels: usize,
        phase: usize,
    ) -> (Vec<usize>, Vec<usize>) {
        let (positions, distances): (Vec<usize>, Vec<isize>) = self
            .taps()
            .enumerate()
            .filter(|(_, (of, _))| *of == self.phases[phase])
            .map(|(position, (_, distance))| (position, distance))
            .unzip();
        let offsets = (0..channels)
            .flat_map(|channel| {
                let start = channel * self.plane + self.lead;
                distances
                    .iter()
                    .map(move |distance| start.strict_add_signed(-distance))
            })
            .collect();
        (offsets, positions)
    }

    /// Where every line of the output starts, image by image.
    pub(super) fn lines(&self, images: usize) -> Vec<usize> {
        (0..images)
            .flat_map(|image| (0..self.rows.outputs).map(move |row| self.position(image, row)))
            .collect()
    }

    /// Lays images out, channel by channel and phase by phase. Gaps are left as they are.
    pub(super) fn lay_out(&self, images: &[f32], channels: usize, planes: &mut [f32]) {
        let (height, width) = (self.rows.size, self.columns.size);
        let stride = self.columns.stride;
        let image_planes = images.chunks_exact(height * width).enumerate();
        for (index, pixels) in image_planes {
            let (image, channel) = (index / channels, index % channels);
            for (phase, &(row_phase, column_phase)) in self.phases.iter().enumerate() {
                let plane = (channel * self.phases.len() + phase) * self.plane + self.lead;
                let len = self.columns.phase_len(column_phase);
                for row in 0..self.rows.phase_len(row_phase) {
                    let from = &pixels[(row * stride + row_phase) * width..][..width];
                    let to = &mut planes[plane + self.position(image, row)..][..len];
                    if stride == 1 {
                        copy(from, to);
                    } else {
                        let from = from.iter().skip(column_phase).step_by(stride);
                        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
    }

    /// Lays out what has the output's shape. Gaps are left as they are.
    pub(super) fn lay_out_gradient(&self, gradient: &[f32], channels: usize, planes: &mut [f32]) {
        let (height, width) = (self.rows.outputs, self.columns.outputs);
        for (index, pixels) in gradient.chunks_exact(height * width).enumerate() {
            let (image, channel) = (index / channels, index % channels);
            let plane = channel * self.plane + self.lead;
            for (row, from) in pixels.chunks_exact(width).enumerate() {
                let start = plane + self.position(image, row);
                copy(from, &mut planes[start..start + width]);
            }
        }
    }

    /// Takes the outputs out of rows of `row` positions each, one row per channel.
    pub(super) fn collect(&self, positions: &[f32], row: usize, channels: usize, to: &mut [f32]) {
        let (height, width) = (self.rows.outputs, self.columns.outputs);
        for (index, pixels) in to.chunks_exact_mut(height * width).enumerate() {
            let (image, channel) = (index / channels, index % channels);
            for (line, to) in pixels.chunks_exact_mut(width).enumerate() {
                let start = channel * row + self.position(image, line);
                copy(&positions[start..start + width], to);
            }
        }
    }

    /// Takes the gradients of the input's pixels of one phase out of rows of `row` positions each, one row per channel.
    pub(super) fn collect_phase(
        &self,
        phase: usize,
        positions: &[f32],
        row: usize,
        channels: usize,
        to: &mut [f32],
    ) {
        let (height, width) = (self.rows.size, self.columns.size);
        let stride = self.columns.stride;
        let (row_phase, column_phase) = self.phases[phase];
        let len = self.columns.phase_len(column_phase);
        for (index, pixels) in to.chunks_exact_mut(height * width).enumerate() {
            let (image, channel) = (index / channels, index % channels);
            for line in 0..self.rows.phase_len(row_phase) {
                let start = channel * row + self.position(image, line);
                let from = &positions[start..start + len];
                let to = &mut pixels[(line * stride + row_phase) * width..][..width];
                if stride == 1 {
                    copy(from, to);
                } else {
                    let to = to.iter_mut().skip(column_phase).step_by(stride);
                    to.zip(from).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }

    fn position(&self, image: usize, row: usize) -> usize {
        (image * self.rows.pitch + row) * self.columns.pitch
    }
}

/// Copies a row. Short rows of the usual lengths are copied without a call, which would cost more than the copy.
#[inline]
fn copy(from: &[f32], to: &mut [f32]) {
    match to.len() {
        4 => copy_exactly::<4>(from, to),
        8 => copy_exactly::<8>(from, to),
        16 => copy_exactly::<16>(from, to),
        32 => copy_exactly::<32>(from, to),
        _ => to.copy_from_slice(from),
    }
}

#[inline]
fn copy_exactly<const N: usize>(from: &[f32], to: &mut [f32]) {
    let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) else {
        unreachable!("rows of the same grid have one length")
    };
    *to = *from;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_share_the_zeros_between_them() {
        let grid = Grid::new(2, 3, Window::same(3, 1), 2, 0);
        assert_eq!((grid.columns.pitch, grid.rows.pitch), (4, 3));
        let mut planes = vec![0.0; grid.plane()];
        grid.lay_out(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1, &mut planes);
        assert_eq!(
            planes[grid.lead..][..8],
            [1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 6.0, 0.0]
        );
        // Nine positions around output 0, row by row.
        let lead = grid.lead.cast_signed();
        let distances: Vec<isize> = grid
            .input_offsets(1)
            .iter()
            .map(|offset| offset.cast_signed() - lead)
            .collect();
        assert_eq!(distances, [-5, -4, -3, -1, 0, 1, 3, 4, 5]);
    }

    #[test]
    fn a_stride_deals_pixels_out_by_their_remainders() {
        let grid = Grid::new(1, 5, Window::same(3, 2), 1, 0);
        assert_eq!(grid.columns.outputs, 3);
        let mut planes = vec![0.0; grid.phases() * grid.plane()];
        grid.lay_out(&[1.0, 2.0, 3.0, 4.0, 5.0], 1, &mut planes);
        let of_phase = |phase| {
            let index = grid.phases.iter().position(|p| *p == phase).unwrap();
            planes[index * grid.plane() + grid.lead..][..3].to_vec()
        };
        assert_eq!(of_phase((0, 0)), [1.0, 3.0, 5.0]);
        assert_eq!(of_phase((0, 1)), [2.0, 4.0, 0.0]);
        assert_eq!(of_phase((1, 1)), [0.0, 0.0, 0.0]);
    }
}
