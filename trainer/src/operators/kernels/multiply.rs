//! A matrix product whose right factor has its rows at arbitrary places of one long array, overlapping as they like.

use super::super::simd::Instructions;

/// Columns that [`multiply`] computes at once; it reads and writes rows up to the next multiple of this.
pub(in super::super) const COLUMNS: usize = 48;
/// Rows of the right factor that are worked through at a time, so that they stay in the first cache.
const INNER_BLOCK: usize = 288;

/// A left factor, packed in panels of a few rows, as the tiles read it.
#[derive(Debug)]
pub(in super::super) struct Packed {
    inner: usize,
    /// First row, height, and start in `values`, of every panel.
    panels: Vec<(usize, usize, usize)>,
    /// `[panel][inner][height]`, zero where there is no row.
    values: Vec<f32>,
}

impl Packed {
    /// Packs a matrix of `rows` rows and `inner` columns, given by its values.
    pub(in super::super) fn new(
        instructions: Instructions,
        rows: usize,
        inner: usize,
        value: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let mut panels = Vec::new();
        let mut values = Vec::new();
        let mut first = 0;
        while first < rows {
            let height = height(instructions, rows - first);
            panels.push((first, height, values.len()));
            for k in 0..inner {
                for row in first..first + height {
                    values.push(if row < rows { value(row, k) } else { 0.0 });
                }
            }
            first += height;
        }
        Self {
            inner,
            panels,
            values,
        }
    }

    /// Rows that the product has in memory: those of the last panel may be too many.
    pub(in super::super) fn padded_rows(&self) -> usize {
        self.panels
            .last()
            .map_or(0, |(first, height, _)| first + height)
    }
}

/// The height of the next panel, if so many rows are left.
fn height(instructions: Instructions, rows: usize) -> usize {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 if rows > 4 => 8,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 | Instructions::Avx2 => 4,
        Instructions::Portable => 4,
    }
}

/// Computes `product[r][j] = Σ_k left[r][k] · right[offsets[k] + j]` for j below `columns`.
///
/// Rows of the product are `row` numbers apart; what lies between `columns` and the next multiple of [`COLUMNS`], and
/// rows that only pad the last panel, are overwritten with anything.
///
/// # Panics
/// If `right` or `product` is too short for that.
pub(in super::super) fn multiply(
    instructions: Instructions,
    left: &Packed,
    right: &[f32],
    offsets: &[usize],
    columns: usize,
    product: &mut [f32],
    row: usize,
) {
    let padded = columns.next_multiple_of(COLUMNS);
    let last = offsets.iter().max().expect("a product of something");
    assert!(
        left.inner == offsets.len(),
        "one offset per column of the left factor"
    );
    assert!(
        last + padded <= right.len(),
        "the right factor ends too early"
    );
    assert!(
        padded <= row && left.padded_rows() * row <= product.len(),
        "the product has no room"
    );
    for (block, offsets) in offsets.chunks(INNER_BLOCK).enumerate() {
        for column in (0..columns).step_by(COLUMNS) {
            for &(first, height, start) in &left.panels {
                let values =
                    &left.values[start + block * INNER_BLOCK * height..][..offsets.len() * height];
                let right = &right[column..];
                let product = &mut product[first * row + column..];
                tile(
                    instructions,
                    height,
                    values,
                    right,
                    offsets,
                    product,
                    row,
                    block > 0,
                );
            }
        }
    }
}

/// One tile of [`multiply`]: `height` rows by [`COLUMNS`] columns, added to what is there if `add`.
#[expect(clippy::too_many_arguments, reason = "a kernel's operands")]
#[inline]
fn tile(
    instructions: Instructions,
    height: usize,
    left: &[f32],
    right: &[f32],
    offsets: &[usize],
    product: &mut [f32],
    row: usize,
    add: bool,
) {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => {
            let product = product.as_mut_ptr();
            #[expect(unsafe_code, reason = "vector instructions, and pointers for them")]
            // SAFETY: `Instructions::best` has found them on this processor. `multiply` has checked that every offset
            // plus the columns of all tiles lie in the right factor, and all rows of the tile in the product; the
            // left factor has `height` numbers for every offset.
            unsafe {
                match height {
                    8 => avx512::tile::<8>(left, right, offsets, product, row, add),
                    _ => avx512::tile::<4>(left, right, offsets, product, row, add),
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => {
            for half in [0, COLUMNS / 2] {
                let product = product[half..].as_mut_ptr();
                #[expect(unsafe_code, reason = "vector instructions, and pointers for them")]
                // SAFETY: as above, for half of the columns.
                unsafe {
                    avx2::tile::<4>(left, &right[half..], offsets, product, row, add);
                }
            }
        }
        Instructions::Portable => {
            for part in (0..COLUMNS).step_by(portable::COLUMNS) {
                portable::tile(
                    left,
                    &right[part..],
                    offsets,
                    &mut product[part..],
                    row,
                    add,
                );
            }
        }
    }
}

/// A module with the tile for one set of vector instructions, which differ in nothing but width and names.
#[cfg(target_arch = "x86_64")]
macro_rules! vector_tile {
    (
        $module:ident, $features:literal, $lanes:literal, $vector:ident,
        $add:ident, $fmadd:ident, $loadu:ident, $set1:ident, $setzero:ident, $storeu:ident
    ) => {
        #[expect(unsafe_code, reason = "vector instructions work on pointers")]
        mod $module {
            use std::arch::x86_64::{$add, $fmadd, $loadu, $set1, $setzero, $storeu, $vector};

            const LANES: usize = $lanes;

            /// M rows by three vectors of columns of a product.
            ///
            /// # Safety
            /// `left` has M numbers for every offset, `right` three vectors from every offset on, and `product` room
            /// for three vectors in each of M rows.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn tile<const M: usize>(
                left: &[f32],
                right: &[f32],
                offsets: &[usize],
                product: *mut f32,
                row: usize,
                add: bool,
            ) {
                debug_assert_eq!(left.len(), M * offsets.len());
                let mut sums: [[$vector; 3]; M] = [[$setzero(); 3]; M];
                let (mut left, right) = (left.as_ptr(), right.as_ptr());
                for &offset in offsets {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let right = right.add(offset);
                        let columns = [
                            $loadu(right),
                            $loadu(right.add(LANES)),
                            $loadu(right.add(2 * LANES)),
                        ];
                        for (m, sums) in sums.iter_mut().enumerate() {
                            let factor = $set1(*left.add(m));
                            for (sum, column) in sums.iter_mut().zip(columns) {
                                *sum = $fmadd(factor, column, *sum);
                            }
                        }
                        left = left.add(M);
                    }
                }
                for (m, sums) in sums.into_iter().enumerate() {
                    for (v, sum) in sums.into_iter().enumerate() {
                        // SAFETY: the caller's promise.
                        unsafe {
                            let place = product.add(m * row + v * LANES);
                            let sum = if add { $add($loadu(place), sum) } else { sum };
                            $storeu(place, sum);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vector_tile!(
    avx512,
    "avx512f",
    16,
    __m512,
    _mm512_add_ps,
    _mm512_fmadd_ps,
    _mm512_loadu_ps,
    _mm512_set1_ps,
    _mm512_setzero_ps,
    _mm512_storeu_ps
);
#[cfg(target_arch = "x86_64")]
vector_tile!(
    avx2,
    "avx2,fma",
    8,
    __m256,
    _mm256_add_ps,
    _mm256_fmadd_ps,
    _mm256_loadu_ps,
    _mm256_set1_ps,
    _mm256_setzero_ps,
    _mm256_storeu_ps
);

mod portable {
    pub(super) const COLUMNS: usize = 8;
    const ROWS: usize = 4;

    /// 4 rows by 8 columns of a product.
    pub(super) fn tile(
        left: &[f32],
        right: &[f32],
        offsets: &[usize],
        product: &mut [f32],
        row: usize,
        add: bool,
    ) {
        let mut sums = [[0.0f32; COLUMNS]; ROWS];
        let (factors, _) = left.as_chunks::<ROWS>();
        for (factors, &offset) in factors.iter().zip(offsets) {
            let columns = &right[offset..offset + COLUMNS];
            for (sums, factor) in sums.iter_mut().zip(factors) {
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum += factor * column;
                }
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            for (place, sum) in product[m * row..][..COLUMNS].iter_mut().zip(sums) {
                *place = if add { *place + sum } else { *sum };
            }
        }
    }
}
