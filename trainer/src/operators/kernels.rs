//! The two inner loops of convolutions, for every set of vector instructions.
//!
//! [`multiply`] is a matrix product whose right factor has its rows at arbitrary places of one long array, overlapping
//! as they like; [`correlate`] takes the dot products of rows of two such arrays. Both are cut into tiles whose sums
//! stay in registers. This is the one module with code that the compiler cannot check; each block says what it relies
//! on, and the functions that other modules call check it.

use super::simd::Instructions;

/// Columns that [`multiply`] computes at once; it reads and writes rows up to the next multiple of this.
pub(super) const COLUMNS: usize = 48;
/// Numbers of a row that [`correlate`] takes at once; it reads rows up to the next multiple of this.
pub(super) const LANES: usize = 16;
/// Rows of the right factor that are worked through at a time, so that they stay in the first cache.
const INNER_BLOCK: usize = 288;
/// Numbers of a row that are correlated before the lanes are added up.
const CORRELATED_BLOCK: usize = 2048;

/// A left factor, packed in panels of a few rows, as the tiles read it.
#[derive(Debug)]
pub(super) struct Packed {
    inner: usize,
    /// First row, height, and start in `values`, of every panel.
    panels: Vec<(usize, usize, usize)>,
    /// `[panel][inner][height]`, zero where there is no row.
    values: Vec<f32>,
}

impl Packed {
    /// Packs a matrix of `rows` rows and `inner` columns, given by its values.
    pub(super) fn new(
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
    pub(super) fn padded_rows(&self) -> usize {
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
pub(super) fn multiply(
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

/// Rows of numbers in one array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    /// The array.
    pub(super) values: &'a [f32],
    /// Where each row starts.
    pub(super) starts: &'a [usize],
}

impl Rows<'_> {
    fn check(&self, len: usize) {
        let last = self.starts.iter().max().expect("there is a row");
        assert!(last + len <= self.values.len(), "a row ends too early");
    }
}

/// Computes `sums[l][r] += Σ_j left[l][j] · right[r][j]` for j below `len`.
///
/// Reads up to the next multiple of [`LANES`]; one of the two factors must be zero there.
///
/// # Panics
/// If a row is too short for that, or there is not one sum for each pair.
pub(super) fn correlate(
    instructions: Instructions,
    left: Rows<'_>,
    right: Rows<'_>,
    len: usize,
    sums: &mut [f32],
) {
    let padded = len.next_multiple_of(LANES);
    left.check(padded);
    right.check(padded);
    let columns = right.starts.len();
    assert_eq!(
        sums.len(),
        left.starts.len() * columns,
        "one sum for each pair"
    );
    let (height, width) = match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => (8, 3),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => (2, 4),
        Instructions::Portable => (1, 1),
    };
    for start in (0..padded).step_by(CORRELATED_BLOCK) {
        let len = CORRELATED_BLOCK.min(padded - start);
        // Rows on the left start with cache lines, those on the right anywhere, so a tile has more of the former. They
        // stay in the first cache, while those on the right, which overlap, pass by.
        for l in (0..left.starts.len()).step_by(height) {
            for r in (0..columns).step_by(width) {
                let pair = Pair {
                    left,
                    right,
                    l,
                    r,
                    start,
                    len,
                };
                match instructions {
                    #[cfg(target_arch = "x86_64")]
                    Instructions::Avx512 => {
                        let products = pair.pointers::<8, 3>();
                        #[expect(
                            unsafe_code,
                            reason = "vector instructions, and pointers for them"
                        )]
                        // SAFETY: `Instructions::best` has found them on this processor; `check` has made sure that
                        // `start + len` numbers of every row can be read.
                        let products = unsafe { avx512::dots(products.0, products.1, len) };
                        pair.add(&products, sums);
                    }
                    #[cfg(target_arch = "x86_64")]
                    Instructions::Avx2 => {
                        let products = pair.pointers::<2, 4>();
                        #[expect(
                            unsafe_code,
                            reason = "vector instructions, and pointers for them"
                        )]
                        // SAFETY: as above.
                        let products = unsafe { avx2::dots(products.0, products.1, len) };
                        pair.add(&products, sums);
                    }
                    Instructions::Portable => pair.add(&[[portable::dot(&pair)]], sums),
                }
            }
        }
    }
}

/// Where a tile of [`correlate`] is: the first row of either factor, and the part of the rows.
struct Pair<'a> {
    left: Rows<'a>,
    right: Rows<'a>,
    l: usize,
    r: usize,
    start: usize,
    len: usize,
}

impl Pair<'_> {
    /// The rows of the tile. At the end, where there are too few, the last one stands in for those that are missing.
    #[cfg(target_arch = "x86_64")]
    fn pointers<const L: usize, const R: usize>(&self) -> ([*const f32; L], [*const f32; R]) {
        let pointer = |rows: Rows<'_>, index: usize| {
            let start = rows.starts[index.min(rows.starts.len() - 1)] + self.start;
            rows.values[start..].as_ptr()
        };
        (
            std::array::from_fn(|index| pointer(self.left, self.l + index)),
            std::array::from_fn(|index| pointer(self.right, self.r + index)),
        )
    }

    /// Adds a tile's products to the sums, leaving out those of rows that stood in.
    fn add<const L: usize, const R: usize>(&self, products: &[[f32; R]; L], sums: &mut [f32]) {
        let columns = self.right.starts.len();
        let width = R.min(columns - self.r);
        for (row, products) in sums.chunks_exact_mut(columns).skip(self.l).zip(products) {
            for (sum, product) in row[self.r..self.r + width].iter_mut().zip(products) {
                *sum += product;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions work on pointers")]
mod avx512 {
    use std::arch::x86_64::{
        __m128, __m256, __m512, _mm_add_ps, _mm_storeu_ps, _mm256_add_ps, _mm256_castpd_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_hadd_ps, _mm512_add_ps,
        _mm512_castps_pd, _mm512_castps512_ps256, _mm512_extractf64x4_pd, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    const LANES: usize = super::LANES;

    /// M rows by 48 columns of a product.
    ///
    /// # Safety
    /// `left` has M numbers for every offset, `right` 48 numbers from every offset on, and `product` room for 48
    /// numbers in each of M rows.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn tile<const M: usize>(
        left: &[f32],
        right: &[f32],
        offsets: &[usize],
        product: *mut f32,
        row: usize,
        add: bool,
    ) {
        debug_assert_eq!(left.len(), M * offsets.len());
        let mut sums: [[__m512; 3]; M] = [[_mm512_setzero_ps(); 3]; M];
        let (mut left, right) = (left.as_ptr(), right.as_ptr());
        for &offset in offsets {
            // SAFETY: the caller's promise.
            unsafe {
                let right = right.add(offset);
                let columns = [
                    _mm512_loadu_ps(right),
                    _mm512_loadu_ps(right.add(LANES)),
                    _mm512_loadu_ps(right.add(2 * LANES)),
                ];
                for (m, sums) in sums.iter_mut().enumerate() {
                    let factor = _mm512_set1_ps(*left.add(m));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_fmadd_ps(factor, column, *sum);
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
                    let sum = if add {
                        _mm512_add_ps(_mm512_loadu_ps(place), sum)
                    } else {
                        sum
                    };
                    _mm512_storeu_ps(place, sum);
                }
            }
        }
    }

    /// The dot products of L rows with R rows; L · R must be a multiple of 4.
    ///
    /// # Safety
    /// Every row has `len` numbers, a multiple of 16.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn dots<const L: usize, const R: usize>(
        left: [*const f32; L],
        right: [*const f32; R],
        len: usize,
    ) -> [[f32; R]; L] {
        // Closures would not be compiled for these instructions where they are called from elsewhere: plain loops.
        let mut sums: [[__m512; R]; L] = [[_mm512_setzero_ps(); R]; L];
        for start in (0..len).step_by(LANES) {
            let mut rows = [_mm512_setzero_ps(); L];
            for l in 0..L {
                // SAFETY: the caller's promise.
                rows[l] = unsafe { _mm512_loadu_ps(left[l].add(start)) };
            }
            for r in 0..R {
                // SAFETY: the caller's promise.
                let right = unsafe { _mm512_loadu_ps(right[r].add(start)) };
                for l in 0..L {
                    sums[l][r] = _mm512_fmadd_ps(rows[l], right, sums[l][r]);
                }
            }
        }
        let mut products = [[0.0; R]; L];
        let (sums, products_) = (sums.as_flattened(), products.as_flattened_mut());
        for (sums, products) in sums.chunks_exact(4).zip(products_.chunks_exact_mut(4)) {
            let sums = add_lanes(sums[0], sums[1], sums[2], sums[3]);
            // SAFETY: there is room for four numbers.
            unsafe { _mm_storeu_ps(products.as_mut_ptr(), sums) };
        }
        products
    }

    /// The sums of the lanes of four vectors.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn add_lanes(a: __m512, b: __m512, c: __m512, d: __m512) -> __m128 {
        let ab = _mm256_hadd_ps(halves(a), halves(b));
        let cd = _mm256_hadd_ps(halves(c), halves(d));
        let abcd = _mm256_hadd_ps(ab, cd);
        _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1))
    }

    /// The sum of a vector's halves.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn halves(vector: __m512) -> __m256 {
        let upper = _mm512_extractf64x4_pd(_mm512_castps_pd(vector), 1);
        _mm256_add_ps(_mm512_castps512_ps256(vector), _mm256_castpd_ps(upper))
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions work on pointers")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm_add_ps, _mm_storeu_ps, _mm256_add_ps, _mm256_castps256_ps128,
        _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_hadd_ps, _mm256_loadu_ps, _mm256_set1_ps,
        _mm256_setzero_ps, _mm256_storeu_ps,
    };

    const LANES: usize = 8;

    /// M rows by 24 columns of a product.
    ///
    /// # Safety
    /// `left` has M numbers for every offset, `right` 24 numbers from every offset on, and `product` room for 24
    /// numbers in each of M rows.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tile<const M: usize>(
        left: &[f32],
        right: &[f32],
        offsets: &[usize],
        product: *mut f32,
        row: usize,
        add: bool,
    ) {
        debug_assert_eq!(left.len(), M * offsets.len());
        let mut sums: [[__m256; 3]; M] = [[_mm256_setzero_ps(); 3]; M];
        let (mut left, right) = (left.as_ptr(), right.as_ptr());
        for &offset in offsets {
            // SAFETY: the caller's promise.
            unsafe {
                let right = right.add(offset);
                let columns = [
                    _mm256_loadu_ps(right),
                    _mm256_loadu_ps(right.add(LANES)),
                    _mm256_loadu_ps(right.add(2 * LANES)),
                ];
                for (m, sums) in sums.iter_mut().enumerate() {
                    let factor = _mm256_set1_ps(*left.add(m));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm256_fmadd_ps(factor, column, *sum);
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
                    let sum = if add {
                        _mm256_add_ps(_mm256_loadu_ps(place), sum)
                    } else {
                        sum
                    };
                    _mm256_storeu_ps(place, sum);
                }
            }
        }
    }

    /// The dot products of L rows with R rows; L · R must be a multiple of 4.
    ///
    /// # Safety
    /// Every row has `len` numbers, a multiple of 8.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn dots<const L: usize, const R: usize>(
        left: [*const f32; L],
        right: [*const f32; R],
        len: usize,
    ) -> [[f32; R]; L] {
        let mut sums: [[__m256; R]; L] = [[_mm256_setzero_ps(); R]; L];
        for start in (0..len).step_by(LANES) {
            let mut rows = [_mm256_setzero_ps(); L];
            for l in 0..L {
                // SAFETY: the caller's promise.
                rows[l] = unsafe { _mm256_loadu_ps(left[l].add(start)) };
            }
            for r in 0..R {
                // SAFETY: the caller's promise.
                let right = unsafe { _mm256_loadu_ps(right[r].add(start)) };
                for l in 0..L {
                    sums[l][r] = _mm256_fmadd_ps(rows[l], right, sums[l][r]);
                }
            }
        }
        let mut products = [[0.0; R]; L];
        let (sums, products_) = (sums.as_flattened(), products.as_flattened_mut());
        for (sums, products) in sums.chunks_exact(4).zip(products_.chunks_exact_mut(4)) {
            let ab = _mm256_hadd_ps(sums[0], sums[1]);
            let cd = _mm256_hadd_ps(sums[2], sums[3]);
            let abcd = _mm256_hadd_ps(ab, cd);
            let sums = _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
            // SAFETY: there is room for four numbers.
            unsafe { _mm_storeu_ps(products.as_mut_ptr(), sums) };
        }
        products
    }
}

mod portable {
    use super::Pair;

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

    /// The dot product of the first two rows of a tile.
    pub(super) fn dot(pair: &Pair<'_>) -> f32 {
        let (left, _) = row(pair.left, pair.l, pair).as_chunks::<COLUMNS>();
        let (right, _) = row(pair.right, pair.r, pair).as_chunks::<COLUMNS>();
        let mut sums = [0.0f32; COLUMNS];
        for (left, right) in left.iter().zip(right) {
            for (sum, (left, right)) in sums.iter_mut().zip(left.iter().zip(right)) {
                *sum += left * right;
            }
        }
        sums.iter().sum()
    }

    fn row<'a>(rows: super::Rows<'a>, index: usize, pair: &Pair<'_>) -> &'a [f32] {
        &rows.values[rows.starts[index] + pair.start..][..pair.len]
    }
}
