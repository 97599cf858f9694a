//! Symmetric positive definite systems, small and dense.

/// Numbers in single precision that are worked on together.
const ROUGH_LANES: usize = 16;

/// The lower triangular L of L Lᵀ = K.
#[derive(Debug, Default)]
pub(super) struct Cholesky {
    /// Row-major; above the diagonal nothing is read.
    lower: Vec<f64>,
    n: usize,
    /// Rows of L before and of Lᵀ behind the diagonal, one after the other, in single precision, each filled up with
    /// zeros to whole blocks.
    rough_lower: Vec<f32>,
    rough_upper: Vec<f32>,
    /// 1 / `L_ii`.
    rough_inverse: Vec<f32>,
}

impl Cholesky {
    /// Factors a matrix of which the lower triangle is given; `None` if it is not positive definite.
    pub(super) fn new(mut a: Vec<f64>, n: usize) -> Option<Self> {
        for i in 0..n {
            let (above, from_i) = a.split_at_mut(i * n);
            let row = &mut from_i[..=i];
            for k in 0..i {
                let other = &above[k * n..=k * n + k];
                row[k] = (row[k] - dot(&row[..k], &other[..k])) / other[k];
            }
            let square = row[i] - dot(&row[..i], &row[..i]);
            if square.is_nan() || square <= 0.0 {
                return None;
            }
            row[i] = square.sqrt();
        }
        Some(Self {
            lower: a,
            n,
            ..Self::default()
        })
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.lower[i * self.n..=i * self.n + i]
    }

    /// x := L⁻¹ x, for the first rows if x is shorter.
    pub(super) fn forward(&self, x: &mut [f64]) {
        for i in 0..x.len() {
            let row = self.row(i);
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
    }

    /// x := L⁻ᵀ x.
    pub(super) fn backward(&self, x: &mut [f64]) {
        for i in (0..x.len()).rev() {
            let row = self.row(i);
            x[i] /= row[i];
            let value = x[i];
            for (x, l) in x[..i].iter_mut().zip(row) {
                *x -= value * l;
            }
        }
    }

    /// Makes ready for [`solve_roughly`](Self::solve_roughly).
    #[expect(clippy::cast_possible_truncation, reason = "single precision is meant")]
    pub(super) fn prepare_rough(&mut self) {
        let n = self.n;
        for i in 0..n {
            let row = &self.lower[i * n..i * n + i];
            self.rough_lower.extend(row.iter().map(|x| *x as f32));
            let padded = self.rough_lower.len() + i.next_multiple_of(ROUGH_LANES) - i;
            self.rough_lower.resize(padded, 0.0);
        }
        for k in 0..n {
            let column = (k + 1..n).map(|i| self.lower[i * n + k] as f32);
            self.rough_upper.extend(column);
            let count = n - 1 - k;
            let padded = self.rough_upper.len() + count.next_multiple_of(ROUGH_LANES) - count;
            self.rough_upper.resize(padded, 0.0);
        }
        let diagonal = (0..n).map(|i| 1.0 / self.lower[i * n + i]);
        self.rough_inverse = diagonal.map(|x| x as f32).collect();
    }

    /// x := K⁻¹ x to a relative error of about 1e-5, several times faster; returns |L⁻¹ x|².
    #[expect(clippy::cast_possible_truncation, reason = "single precision is meant")]
    pub(super) fn solve_roughly(&self, x: &mut [f64]) -> f64 {
        let n = self.n;
        // A row's block may reach beyond its end, where it is zero and this is finite.
        let mut rough: Vec<f32> = Vec::with_capacity(n + ROUGH_LANES);
        rough.extend(x.iter().map(|x| *x as f32));
        rough.resize(n + ROUGH_LANES, 0.0);
        let mut start = 0;
        for i in 0..n {
            let end = start + i.next_multiple_of(ROUGH_LANES);
            let sum = rough_dot(&self.rough_lower[start..end], &rough);
            rough[i] = (rough[i] - sum) * self.rough_inverse[i];
            start = end;
        }
        let square = rough_dot(&rough, &rough);
        let mut end = self.rough_upper.len();
        for k in (0..n).rev() {
            let start = end - (n - 1 - k).next_multiple_of(ROUGH_LANES);
            let sum = rough_dot(&self.rough_upper[start..end], &rough[k + 1..]);
            rough[k] = (rough[k] - sum) * self.rough_inverse[k];
            end = start;
        }
        for (x, rough) in x.iter_mut().zip(rough) {
            *x = f64::from(rough);
        }
        f64::from(square)
    }

    pub(super) fn solve(&self, values: &[f64]) -> Vec<f64> {
        let mut x = values.to_vec();
        self.forward(&mut x);
        self.backward(&mut x);
        x
    }

    pub(super) fn half_ln_determinant(&self) -> f64 {
        (0..self.n)
            .map(|i| libm::log(self.lower[i * self.n + i]))
            .sum()
    }

    /// `L_ii`.
    pub(super) fn diagonal(&self, i: usize) -> f64 {
        self.lower[i * self.n + i]
    }

    /// K⁻¹, row-major, the lower triangle only.
    pub(super) fn inverse(&self) -> Vec<f64> {
        let n = self.n;
        // Rows of `columns` are the columns of L⁻¹: zero before the diagonal.
        let mut columns = vec![0.0; n * n];
        for c in 0..n {
            let x = &mut columns[c * n..(c + 1) * n];
            x[c] = 1.0 / self.lower[c * n + c];
            for i in c + 1..n {
                let row = self.row(i);
                x[i] = -dot(&row[c..i], &x[c..i]) / row[i];
            }
        }
        let mut inverse = vec![0.0; n * n];
        for i in 0..n {
            for k in 0..=i {
                // Σ_m (L⁻¹)_{m i} (L⁻¹)_{m k}, m from i on.
                let a = &columns[i * n + i..(i + 1) * n];
                let b = &columns[k * n + i..(k + 1) * n];
                inverse[i * n + k] = dot(a, b);
            }
        }
        inverse
    }
}

/// Σ aᵢ bᵢ in eight interleaved sums: a fixed order, which the compiler can vectorise.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let mut sum =
        (sums[0] + sums[4]) + (sums[1] + sums[5]) + (sums[2] + sums[6]) + (sums[3] + sums[7]);
    for (a, b) in a_rest.iter().zip(b_rest) {
        sum += a * b;
    }
    sum
}

/// [`dot`] in single precision, of whole blocks: what is beyond the last one is left out.
fn rough_dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; ROUGH_LANES];
    let (a, _) = a.as_chunks::<ROUGH_LANES>();
    let (b, _) = b.as_chunks::<ROUGH_LANES>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..ROUGH_LANES {
            sums[i] += a[i] * b[i];
        }
    }
    let mut four = [0.0; 4];
    for i in 0..4 {
        four[i] = (sums[i] + sums[i + 8]) + (sums[i + 4] + sums[i + 12]);
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;
    use shared::Seed;

    use super::*;

    #[test]
    fn the_inverse_inverts_and_rough_solutions_are_near() {
        let n = 37;
        let mut rng = Seed::new(9).rng();
        let b: Vec<f64> = (0..n * n).map(|_| rng.random::<f64>() - 0.5).collect();
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for k in 0..n {
                a[i * n + k] = dot(&b[i * n..(i + 1) * n], &b[k * n..(k + 1) * n]);
            }
            a[i * n + i] += 0.1;
        }
        let mut factor = Cholesky::new(a.clone(), n).unwrap();
        let inverse = factor.inverse();
        factor.prepare_rough();
        let values: Vec<f64> = (0..n).map(|_| rng.random::<f64>()).collect();
        let (mut forward, mut rough) = (values.clone(), values.clone());
        factor.forward(&mut forward);
        let square = factor.solve_roughly(&mut rough);
        assert!((square / dot(&forward, &forward) - 1.0).abs() < 1e-4);
        let exact = factor.solve(&values);
        let largest = exact
            .iter()
            .fold(0.0, |largest, x| f64::max(largest, x.abs()));
        assert!(
            exact
                .iter()
                .zip(&rough)
                .all(|(a, b)| (a - b).abs() < 1e-4 * largest)
        );
        let at = |i: usize, k: usize| inverse[i.max(k) * n + i.min(k)];
        for i in 0..n {
            for k in 0..n {
                let product: f64 = (0..n).map(|m| a[i * n + m] * at(m, k)).sum();
                let expected = f64::from(u8::from(i == k));
                assert!((product - expected).abs() < 1e-10, "{i} {k} {product}");
            }
        }
        assert!(Cholesky::new(vec![1.0, 0.0, 2.0, 1.0], 2).is_none());
    }
}
