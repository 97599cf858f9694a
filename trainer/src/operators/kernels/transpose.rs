//! Channels from one after another to innermost, and back: 16 of them at a time.

use super::super::simd::Instructions;

/// Channels of one vector.
pub(in super::super) const LANES: usize = 16;

/// Lines of pixels, one for each of up to 16 channels.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Lines {
    /// How many.
    pub(in super::super) channels: usize,
    /// Numbers from one channel's line to the next one's.
    pub(in super::super) stride: usize,
    /// Numbers of a line.
    pub(in super::super) pixels: usize,
    /// Where the channels are innermost: numbers from one pixel's channels to the next one's.
    pub(in super::super) width: usize,
}

impl Lines {
    fn check(&self, lines: usize, interleaved: usize) {
        assert!(
            (1..=LANES).contains(&self.channels)
                && self.pixels > 0
                && (self.channels - 1) * self.stride + self.pixels <= lines
                && (self.pixels - 1) * self.width + LANES <= interleaved,
            "lines end too early"
        );
    }

    /// Sets `to[p · width + c] = from[c · stride + p]`, and 0 for channels that are missing from 16.
    ///
    /// # Panics
    /// If one of the slices is too short.
    pub(in super::super) fn interleave(
        self,
        instructions: Instructions,
        from: &[f32],
        to: &mut [f32],
    ) {
        self.check(from.len(), to.len());
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => {
                #[expect(unsafe_code, reason = "vector instructions, and pointers for them")]
                // SAFETY: `Instructions::best` has found them on this processor; the lengths have been checked.
                unsafe {
                    avx512::interleave(self, from.as_ptr(), to.as_mut_ptr());
                }
            }
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => self.interleave_plainly(from, to),
            Instructions::Portable => self.interleave_plainly(from, to),
        }
    }

    fn interleave_plainly(self, from: &[f32], to: &mut [f32]) {
        for pixel in 0..self.pixels {
            let to = &mut to[pixel * self.width..][..LANES];
            to.fill(0.0);
            for (channel, to) in to.iter_mut().take(self.channels).enumerate() {
                *to = from[channel * self.stride + pixel];
            }
        }
    }

    /// Sets `to[c · stride + p] = from[p · width + c]`.
    ///
    /// # Panics
    /// If one of the slices is too short.
    pub(in super::super) fn separate(
        self,
        instructions: Instructions,
        from: &[f32],
        to: &mut [f32],
    ) {
        self.check(to.len(), from.len());
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => {
                #[expect(unsafe_code, reason = "vector instructions, and pointers for them")]
                // SAFETY: as above.
                unsafe {
                    avx512::separate(self, from.as_ptr(), to.as_mut_ptr());
                }
            }
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => self.separate_plainly(from, to),
            Instructions::Portable => self.separate_plainly(from, to),
        }
    }

    fn separate_plainly(self, from: &[f32], to: &mut [f32]) {
        for channel in 0..self.channels {
            let to = &mut to[channel * self.stride..][..self.pixels];
            for (pixel, to) in to.iter_mut().enumerate() {
                *to = from[pixel * self.width + channel];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions work on pointers")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps,
        _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    use super::{LANES, Lines};

    /// [`Lines::interleave`].
    ///
    /// # Safety
    /// `from` and `to` are as long as [`Lines`] says.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn interleave(lines: Lines, from: *const f32, to: *mut f32) {
        for start in (0..lines.pixels).step_by(LANES) {
            let count = LANES.min(lines.pixels - start);
            let mask = u16::MAX >> (LANES - count);
            let mut rows = [_mm512_setzero_ps(); LANES];
            for (channel, row) in rows.iter_mut().take(lines.channels).enumerate() {
                // SAFETY: the caller's promise; what lies outside of the line is not read.
                *row = unsafe {
                    _mm512_maskz_loadu_ps(mask, from.add(channel * lines.stride + start))
                };
            }
            let columns = transpose(&rows);
            for (pixel, vector) in columns.into_iter().take(count).enumerate() {
                // SAFETY: the caller's promise.
                unsafe { _mm512_storeu_ps(to.add((start + pixel) * lines.width), vector) };
            }
        }
    }

    /// [`Lines::separate`].
    ///
    /// # Safety
    /// `from` and `to` are as long as [`Lines`] says.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn separate(lines: Lines, from: *const f32, to: *mut f32) {
        for start in (0..lines.pixels).step_by(LANES) {
            let count = LANES.min(lines.pixels - start);
            let mask = u16::MAX >> (LANES - count);
            let mut columns = [_mm512_setzero_ps(); LANES];
            for (pixel, column) in columns.iter_mut().take(count).enumerate() {
                // SAFETY: the caller's promise.
                *column = unsafe { _mm512_loadu_ps(from.add((start + pixel) * lines.width)) };
            }
            let rows = transpose(&columns);
            for (channel, row) in rows.into_iter().take(lines.channels).enumerate() {
                // SAFETY: the caller's promise; what lies outside of the line is not written.
                unsafe {
                    let place = to.add(channel * lines.stride + start);
                    _mm512_mask_storeu_ps(place, mask, row);
                }
            }
        }
    }

    /// Exchanges rows and columns.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn transpose(rows: &[__m512; LANES]) -> [__m512; LANES] {
        // Pairs of rows, then fours, within each quarter of a vector.
        let mut pairs = [_mm512_setzero_ps(); LANES];
        for i in 0..LANES / 2 {
            pairs[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        let mut fours = [_mm512_setzero_ps(); LANES];
        for i in 0..LANES / 4 {
            for half in 0..2 {
                let a = _mm512_castps_pd(pairs[4 * i + half]);
                let b = _mm512_castps_pd(pairs[4 * i + 2 + half]);
                fours[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                fours[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
        }
        // `fours[4 i + c]` holds columns c, 4 + c, 8 + c and 12 + c of rows 4 i to 4 i + 3, a quarter each.
        let mut columns = [_mm512_setzero_ps(); LANES];
        for c in 0..LANES / 4 {
            let even = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0b10_00_10_00);
            let odd = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0b11_01_11_01);
            let even_ = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0b10_00_10_00);
            let odd_ = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0b11_01_11_01);
            columns[c] = _mm512_shuffle_f32x4(even, even_, 0b10_00_10_00);
            columns[8 + c] = _mm512_shuffle_f32x4(even, even_, 0b11_01_11_01);
            columns[4 + c] = _mm512_shuffle_f32x4(odd, odd_, 0b10_00_10_00);
            columns[12 + c] = _mm512_shuffle_f32x4(odd, odd_, 0b11_01_11_01);
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_go_innermost_and_back() {
        for (channels, pixels) in [(1, 1), (16, 16), (3, 40), (13, 17), (16, 5)] {
            let lines = Lines {
                channels,
                stride: pixels + 3,
                pixels,
                width: 20,
            };
            let len = (channels - 1) * lines.stride + pixels;
            let numbers: Vec<f32> = (1u8..=200).cycle().take(len).map(f32::from).collect();
            for instructions in Instructions::all() {
                let mut interleaved = vec![-1.0; pixels * 20];
                lines.interleave(instructions, &numbers, &mut interleaved);
                let mut separated = vec![0.0; len];
                for pixel in 0..pixels {
                    for channel in 0..20 {
                        let expected = match channel {
                            _ if channel < channels => numbers[channel * lines.stride + pixel],
                            ..LANES => 0.0,
                            _ => -1.0,
                        };
                        let found = interleaved[pixel * 20 + channel];
                        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
                    }
                }
                lines.separate(instructions, &interleaved, &mut separated);
                for (index, found) in separated.into_iter().enumerate() {
                    let is_line = index % lines.stride < pixels;
                    let expected = if is_line { numbers[index] } else { 0.0 };
                    assert!((found - expected).abs() < 1e-9, "{found} {expected}");
                }
            }
        }
    }
}
