//! Symmetric positive definite systems, small and dense.

/// The lower triangular L of L Lᵀ = K.
#[derive(Debug, Default)]
pub(super) struct Cholesky {
    /// Row-major; above the diagonal nothing is read.
    lower: Vec<f64>,
    n: usize,
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
        Some(Self { lower: a, n })
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

#[cfg(test)]
mod tests {
    use rand::RngExt as _;
    use shared::Seed;

    use super::*;

    #[test]
    fn the_inverse_inverts() {
        let n = 13;
        let mut rng = Seed::new(9).rng();
        let b: Vec<f64> = (0..n * n).map(|_| rng.random::<f64>() - 0.5).collect();
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for k in 0..n {
                a[i * n + k] = dot(&b[i * n..(i + 1) * n], &b[k * n..(k + 1) * n]);
            }
            a[i * n + i] += 0.1;
        }
        let inverse = Cholesky::new(a.clone(), n).unwrap().inverse();
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
