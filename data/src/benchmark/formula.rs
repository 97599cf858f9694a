//! The functions themselves, without noise.

use std::f64::consts::PI;

/// Branin's function; `less_b` is what its coefficient b = 5.1/(4π²) is lowered by.
pub(super) fn branin(x1: f64, x2: f64, less_b: f64) -> f64 {
    let b = 5.1 / (4.0 * PI * PI) - less_b;
    let c = 5.0 / PI;
    let t = 1.0 / (8.0 * PI);
    let valley = x2 - b * x1 * x1 + c * x1 - 6.0;
    valley * valley + 10.0 * (1.0 - t) * libm::cos(x1) + 10.0
}

/// Hartmann's function of three or six numbers; `less_alpha` is what each of its four weights is lowered by.
pub(super) fn hartmann(x: &[f64], less_alpha: f64) -> f64 {
    let hills: [(&[f64], &[f64]); 4] = if x.len() == 3 {
        std::array::from_fn(|hill| (&A3[hill][..], &P3[hill][..]))
    } else {
        std::array::from_fn(|hill| (&A6[hill][..], &P6[hill][..]))
    };
    let height = |(alpha, (widths, place)): (f64, (&[f64], &[f64]))| {
        let distance = x.iter().zip(widths).zip(place);
        let distance = distance
            .map(|((x, width), p)| width * (x - 1e-4 * p).powi(2))
            .sum::<f64>();
        (alpha - less_alpha) * libm::exp(-distance)
    };
    -ALPHA.into_iter().zip(hills).map(height).sum::<f64>()
}

const ALPHA: [f64; 4] = [1.0, 1.2, 3.0, 3.2];
const A3: [[f64; 3]; 4] = [
    [3.0, 10.0, 30.0],
    [0.1, 10.0, 35.0],
    [3.0, 10.0, 30.0],
    [0.1, 10.0, 35.0],
];
/// The third row starts with 1091 as in mf-prior-bench; other sources print 1090.
const P3: [[f64; 3]; 4] = [
    [3689.0, 1170.0, 2673.0],
    [4699.0, 4387.0, 7470.0],
    [1091.0, 8732.0, 5547.0],
    [381.0, 5743.0, 8828.0],
];
const A6: [[f64; 6]; 4] = [
    [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
    [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
    [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
    [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
];
const P6: [[f64; 6]; 4] = [
    [1312.0, 1696.0, 5569.0, 124.0, 8283.0, 5886.0],
    [2329.0, 4135.0, 8307.0, 3736.0, 1004.0, 9991.0],
    [2348.0, 1451.0, 3522.0, 2883.0, 3047.0, 6650.0],
    [4047.0, 8828.0, 8732.0, 5743.0, 1091.0, 381.0],
];
