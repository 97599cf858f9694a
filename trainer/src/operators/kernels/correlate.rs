//! Sums over positions of products of two kinds of rows: the gradients of a convolution's weights.
//!
//! One factor has its channels innermost, so that a vector holds one position of 16 channels; of the other, one number
//! at a time is multiplied with it. So nothing has to be added across lanes, rows on the right may start anywhere, and
//! gaps between lines are left out.

use super::super::aligned::Aligned;
use super::super::simd::Instructions;
use super::transpose::{LANES, Lines};

/// Vectors of a panel, at most.
const VECTORS: usize = 3;
/// Rows whose sums stay in registers: the positions of a kernel of 3 × 3, or a power of two.
const ROWS: [usize; 2] = [9, 8];
/// Positions that are worked through at a time: those of a panel stay in the first cache.
const BLOCK: usize = 160;

/// The channels that stand together: `[position][channel]`.
#[derive(Debug, Clone, Copy)]
struct Panel {
    /// The first vector of channels.
    first: usize,
    /// Vectors of channels.
    vectors: usize,
}

impl Panel {
    fn width(self) -> usize {
        self.vectors * LANES
    }
}

/// Some images with their channels innermost, in panels; channels that only fill up a vector are zero.
#[derive(Debug)]
pub(in super::super) struct Interleaved {
    channels: usize,
    panels: Vec<Panel>,
    positions: usize,
    values: Aligned,
}

impl Interleaved {
    pub(in super::super) fn new(channels: usize) -> Self {
        let vectors = channels.div_ceil(LANES);
        let count = vectors.div_ceil(VECTORS);
        let panels = (0..count)
            .map(|panel| {
                // As equal as they can be.
                let (first, end) = (panel * vectors / count, (panel + 1) * vectors / count);
                Panel {
                    first,
                    vectors: end - first,
                }
            })
            .collect();
        Self {
            channels,
            panels,
            positions: 0,
            values: Aligned::default(),
        }
    }

    /// Zeros.
    pub(in super::super) fn zeros(channels: usize, positions: usize) -> Self {
        let empty = Self::new(channels);
        Self {
            positions,
            values: Aligned::zeros(empty.padded_channels() * positions),
            ..empty
        }
    }

    /// Where a vector of channels starts in such a layout of some positions, and its distance from position to position.
    pub(in super::super) fn place(&self, vector: usize, positions: usize) -> (usize, usize) {
        let panel = self
            .panels
            .iter()
            .rfind(|panel| panel.first <= vector)
            .expect("the first panel starts with the first vector");
        let start = panel.first * positions + vector - panel.first;
        (start * LANES, panel.width())
    }

    /// A position of 16 channels.
    pub(in super::super) fn vector_mut(
        &mut self,
        vector: usize,
        position: usize,
    ) -> &mut [f32; LANES] {
        let (start, step) = self.place(vector, self.positions);
        self.values.values_mut()[start + position * step..]
            .first_chunk_mut()
            .expect("a whole vector")
    }

    /// Numbers that the sums for one row take up.
    pub(in super::super) fn padded_channels(&self) -> usize {
        self.channels.next_multiple_of(LANES)
    }

    /// Takes up images of `pixels` pixels, given as `[image][channel][pixel]`.
    pub(in super::super) fn fill(
        &mut self,
        instructions: Instructions,
        images: &[f32],
        pixels: usize,
    ) {
        self.positions = images.len() / self.channels;
        self.values.reserve(self.padded_channels() * self.positions);
        let values = self.values.values_mut();
        for (index, image) in images.chunks_exact(self.channels * pixels).enumerate() {
            for &panel in &self.panels {
                let start = panel.first * LANES * self.positions + index * pixels * panel.width();
                let panel_values = &mut values[start..][..pixels * panel.width()];
                for vector in 0..panel.vectors {
                    let first = (panel.first + vector) * LANES;
                    let count = LANES.min(self.channels - first);
                    let lines = Lines {
                        channels: count,
                        stride: pixels,
                        pixels,
                        width: panel.width(),
                    };
                    let to = &mut panel_values[vector * LANES..];
                    lines.interleave(instructions, &image[first * pixels..], to);
                }
            }
        }
    }

    /// Takes sums as [`correlate`] leaves them to where they belong: `[channel][row]`.
    pub(in super::super) fn deal_out(&self, sums: &[f32], rows: usize, to: &mut [f32]) {
        assert_eq!(to.len(), self.channels * rows, "one sum for each pair");
        for &panel in &self.panels {
            let from = &sums[panel.first * LANES * rows..][..panel.width() * rows];
            let channels = to
                .chunks_exact_mut(rows)
                .skip(panel.first * LANES)
                .take(panel.width());
            for (lane, to) in channels.enumerate() {
                let lane = from[lane..].iter().step_by(panel.width());
                to.iter_mut().zip(lane).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

/// Rows of numbers in one array, each cut into lines that lie the same way.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Rows<'a> {
    /// The array.
    pub(in super::super) values: &'a [f32],
    /// Where each row starts.
    pub(in super::super) starts: &'a [usize],
    /// Where each line starts, from the row's start.
    pub(in super::super) lines: &'a [usize],
    /// Numbers of a line.
    pub(in super::super) width: usize,
}

/// Computes `sums[r][c] += Σ_j left[j][c] · right[r][j]`, j running over the positions of all lines.
///
/// The sums are laid out like `left`, in panels of channels: `[panel][row][channel]`.
///
/// # Panics
/// If a row is too short for that, or there is not one sum for each pair.
pub(in super::super) fn correlate(
    instructions: Instructions,
    left: &Interleaved,
    right: Rows<'_>,
    sums: &mut [f32],
) {
    let Rows {
        values,
        starts,
        lines,
        width,
    } = right;
    let last = |places: &[usize]| *places.iter().max().expect("there is a row");
    assert!(
        last(starts) + last(lines) + width <= values.len(),
        "a row ends too early"
    );
    assert_eq!(lines.len() * width, left.positions, "as many positions");
    assert_eq!(
        sums.len(),
        starts.len() * left.padded_channels(),
        "one sum for each pair"
    );
    let rows = if starts.len().is_multiple_of(ROWS[0]) {
        ROWS[0]
    } else {
        ROWS[1]
    };
    let at_once = (BLOCK / width).max(1);
    for (block, lines) in lines.chunks(at_once).enumerate() {
        for &panel in &left.panels {
            let first = panel.first * LANES;
            let from = first * left.positions + block * at_once * width * panel.width();
            let columns = &left.values.values()[from..][..lines.len() * width * panel.width()];
            let sums = &mut sums[first * starts.len()..][..panel.width() * starts.len()];
            let sums = sums.chunks_mut(rows * panel.width());
            for (starts, sums) in starts.chunks(rows).zip(sums) {
                let tile = Tile {
                    columns,
                    values,
                    starts,
                    lines,
                    width,
                };
                tile.add(instructions, panel.vectors, sums);
            }
        }
    }
}

/// A few rows, a panel of channels, and some of the lines.
struct Tile<'a> {
    /// `[line][width][channel]`
    columns: &'a [f32],
    values: &'a [f32],
    starts: &'a [usize],
    lines: &'a [usize],
    width: usize,
}

impl Tile<'_> {
    /// Adds to `[row][channel]`.
    fn add(&self, instructions: Instructions, vectors: usize, sums: &mut [f32]) {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => {
                #[expect(unsafe_code, reason = "vector instructions, and pointers for them")]
                // SAFETY: `Instructions::best` has found them on this processor; `correlate` has made sure that all
                // lines of all rows lie in the array, and has cut columns and sums to size.
                unsafe {
                    match (self.starts.len() > ROWS[1], vectors) {
                        (false, 1) => avx512::outer::<{ ROWS[1] }, 1>(self, sums),
                        (false, 2) => avx512::outer::<{ ROWS[1] }, 2>(self, sums),
                        (false, _) => avx512::outer::<{ ROWS[1] }, 3>(self, sums),
                        (true, 1) => avx512::outer::<{ ROWS[0] }, 1>(self, sums),
                        (true, 2) => avx512::outer::<{ ROWS[0] }, 2>(self, sums),
                        (true, _) => avx512::outer::<{ ROWS[0] }, 3>(self, sums),
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => {
                #[expect(unsafe_code, reason = "vector instructions, and pointers for them")]
                // SAFETY: as above.
                unsafe {
                    avx2::outer(self, vectors, sums);
                }
            }
            Instructions::Portable => self.add_plainly(vectors, sums),
        }
    }

    fn add_plainly(&self, vectors: usize, sums: &mut [f32]) {
        let (columns, _) = self.columns.as_chunks::<LANES>();
        let (sums, _) = sums.as_chunks_mut::<LANES>();
        for (row, &start) in self.starts.iter().enumerate() {
            for vector in 0..vectors {
                let mut lanes = [0.0f32; LANES];
                let mut columns = columns.iter().skip(vector).step_by(vectors);
                for line in self.lines {
                    let line = &self.values[start + line..][..self.width];
                    for (value, column) in line.iter().zip(&mut columns) {
                        for (lane, column) in lanes.iter_mut().zip(column) {
                            *lane += value * column;
                        }
                    }
                }
                for (sum, lane) in sums[row * vectors + vector].iter_mut().zip(lanes) {
                    *sum += lane;
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions work on pointers")]
mod avx512 {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };

    use super::{LANES, Tile};

    /// Adds a tile with V vectors of channels.
    ///
    /// # Safety
    /// All lines of all rows lie in the tile's values; there are up to M of them, V vectors in its columns for every
    /// position, and V vectors of sums for every row.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn outer<const M: usize, const V: usize>(tile: &Tile<'_>, sums: &mut [f32]) {
        // The last row stands in for those that are missing.
        let mut rows = [std::ptr::null::<f32>(); M];
        for (row, pointer) in rows.iter_mut().enumerate() {
            let start = tile.starts[row.min(tile.starts.len() - 1)];
            *pointer = tile.values[start..].as_ptr();
        }
        let mut columns = tile.columns.as_ptr();
        let mut totals = [[_mm512_setzero_ps(); V]; M];
        for &line in tile.lines {
            for position in line..line + tile.width {
                let mut vectors = [_mm512_setzero_ps(); V];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    *vector = unsafe { _mm512_loadu_ps(columns.add(v * LANES)) };
                }
                for row in 0..M {
                    // SAFETY: the caller's promise.
                    let value = _mm512_set1_ps(unsafe { *rows[row].add(position) });
                    for v in 0..V {
                        totals[row][v] = _mm512_fmadd_ps(value, vectors[v], totals[row][v]);
                    }
                }
                // SAFETY: the caller's promise.
                columns = unsafe { columns.add(V * LANES) };
            }
        }
        let sums = sums.as_mut_ptr();
        for (row, totals) in totals.into_iter().enumerate() {
            if row < tile.starts.len() {
                for (v, total) in totals.into_iter().enumerate() {
                    // SAFETY: there are V times 16 sums for every row.
                    unsafe {
                        let place = sums.add((row * V + v) * LANES);
                        _mm512_storeu_ps(place, _mm512_add_ps(_mm512_loadu_ps(place), total));
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions work on pointers")]
mod avx2 {
    use std::arch::x86_64::{
        _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_storeu_ps,
    };

    use super::{LANES, Tile};

    /// Rows whose sums stay in registers.
    const ROWS: usize = 5;

    /// Adds a tile.
    ///
    /// # Safety
    /// All lines of all rows lie in the tile's values; there are `vectors` times 16 channels in its columns for every
    /// position, and in the sums for every row.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn outer(tile: &Tile<'_>, vectors: usize, sums: &mut [f32]) {
        for (starts, sums) in tile
            .starts
            .chunks(ROWS)
            .zip(sums.chunks_mut(ROWS * vectors * LANES))
        {
            // The last row stands in for those that are missing.
            let mut rows = [std::ptr::null::<f32>(); ROWS];
            for (row, pointer) in rows.iter_mut().enumerate() {
                *pointer = tile.values[starts[row.min(starts.len() - 1)]..].as_ptr();
            }
            for vector in 0..vectors {
                let mut columns = tile.columns[vector * LANES..].as_ptr();
                let mut totals = [[_mm256_setzero_ps(); 2]; ROWS];
                for &line in tile.lines {
                    for position in line..line + tile.width {
                        // SAFETY: the caller's promise.
                        let halves = unsafe {
                            [
                                _mm256_loadu_ps(columns),
                                _mm256_loadu_ps(columns.add(LANES / 2)),
                            ]
                        };
                        for row in 0..ROWS {
                            // SAFETY: the caller's promise.
                            let value = _mm256_set1_ps(unsafe { *rows[row].add(position) });
                            for half in 0..2 {
                                totals[row][half] =
                                    _mm256_fmadd_ps(value, halves[half], totals[row][half]);
                            }
                        }
                        columns = columns.wrapping_add(vectors * LANES);
                    }
                }
                let places = sums.chunks_exact_mut(vectors * LANES);
                for (totals, places) in totals.iter().zip(places) {
                    let places = places[vector * LANES..][..LANES].chunks_exact_mut(LANES / 2);
                    for (total, place) in totals.iter().zip(places) {
                        let place = place.as_mut_ptr();
                        // SAFETY: there is room for 8 numbers.
                        unsafe {
                            _mm256_storeu_ps(place, _mm256_add_ps(_mm256_loadu_ps(place), *total));
                        }
                    }
                }
            }
        }
    }
}
