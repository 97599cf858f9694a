//! The standard normal distribution: density, distribution function, quantiles, and draws from a part of the line.
//!
//! Only arithmetic, `libm` and square roots are used, so every platform gives the same bits.
//!
//! # Source
//! Quantiles: Wichura 1988, algorithm AS 241 (PPND16), relative accuracy about 1e-16.

use rand::{Rng, RngExt as _};

/// ln √(2π).
pub(crate) const LN_SQRT_TWO_PI: f64 = 0.918_938_533_204_672_8;

/// Φ(x).
pub fn distribution(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// φ(x).
pub fn density(x: f64) -> f64 {
    libm::exp(-0.5 * x * x - LN_SQRT_TWO_PI)
}

/// Φ⁻¹(p); -∞ at 0, ∞ at 1, NaN outside.
pub fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * ratio(0.180_625 - q * q, &CENTRE);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail <= 0.0 {
        return if tail < 0.0 {
            f64::NAN
        } else {
            f64::INFINITY.copysign(q)
        };
    }
    let r = libm::sqrt(-libm::log(tail));
    let x = if r <= 5.0 {
        ratio(r - 1.6, &MIDDLE)
    } else {
        ratio(r - 5.0, &TAIL)
    };
    x.copysign(q)
}

/// A draw from the normal distribution around `mean`, cut off outside `[0, 1]`.
///
/// By inversion, so each draw uses one number. `mean` must lie in `[0, 1]` and `deviation` be positive: then the mode is
/// inside, and the inversion never works in the far tails, where it would lose accuracy.
pub(crate) fn draw_in_unit_interval(mean: f64, deviation: f64, rng: &mut impl Rng) -> f64 {
    let lower = distribution(-mean / deviation);
    let upper = distribution((1.0 - mean) / deviation);
    let u: f64 = rng.random();
    (mean + deviation * quantile(lower + u * (upper - lower))).clamp(0.0, 1.0)
}

/// A draw from the standard normal distribution, by inversion.
pub fn draw(rng: &mut impl Rng) -> f64 {
    // The open interval: 0 would give -∞.
    let u: f64 = rng.random();
    quantile(u.max(f64::EPSILON * 0.5))
}

fn ratio(r: f64, [numerator, denominator]: &[[f64; 8]; 2]) -> f64 {
    let polynomial = |c: &[f64; 8]| c.iter().rev().fold(0.0, |sum, c| sum * r + c);
    polynomial(numerator) / polynomial(denominator)
}

const CENTRE: [[f64; 8]; 2] = [
    [
        3.387_132_872_796_366_5,
        1.331_416_678_917_843_8e2,
        1.971_590_950_306_551_3e3,
        1.373_169_376_550_946e4,
        4.592_195_393_154_987e4,
        6.726_577_092_700_87e4,
        3.343_057_558_358_813e4,
        2.509_080_928_730_122_7e3,
    ],
    [
        1.0,
        4.231_333_070_160_091e1,
        6.871_870_074_920_579e2,
        5.394_196_021_424_751e3,
        2.121_379_430_158_659_7e4,
        3.930_789_580_009_271e4,
        2.872_908_573_572_194_3e4,
        5.226_495_278_852_854e3,
    ],
];
const MIDDLE: [[f64; 8]; 2] = [
    [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        2.417_807_251_774_506e-1,
        2.272_384_498_926_918_4e-2,
        7.745_450_142_783_414e-4,
    ],
    [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        6.897_673_349_851e-1,
        1.481_039_764_274_800_8e-1,
        1.519_866_656_361_645_7e-2,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ],
];
const TAIL: [[f64; 8]; 2] = [
    [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        2.965_605_718_285_048_7e-1,
        2.653_218_952_657_612_4e-2,
        1.242_660_947_388_078_4e-3,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    [
        1.0,
        5.998_322_065_558_88e-1,
        1.369_298_809_227_358e-1,
        1.487_536_129_085_061_5e-2,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_7e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ],
];

#[cfg(test)]
mod tests {
    use shared::Seed;

    use super::*;

    #[test]
    fn quantiles_invert_the_distribution() {
        // Published with AS 241, and scipy.stats.norm.ppf(0.975).
        assert!((quantile(0.25) + 0.674_489_750_196_081_7).abs() < 1e-15);
        assert!((quantile(1e-3) + 3.090_232_306_167_813_5).abs() < 1e-14);
        assert!((quantile(1e-20) + 9.262_340_089_798_408).abs() < 1e-13);
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-14);
        for i in 1..1000 {
            let p = f64::from(i) / 1000.0;
            assert!((distribution(quantile(p)) - p).abs() < 1e-15, "{p}");
        }
        let (lowest, highest) = (quantile(0.0), quantile(1.0));
        assert!(lowest.is_infinite() && highest.is_infinite() && lowest < highest);
        assert!(quantile(1.5).is_nan());
    }

    #[test]
    fn cut_off_draws_have_the_moments_of_the_truncated_normal() {
        // scipy.stats.truncnorm(-0.2/0.5, 0.8/0.5, loc=0.2, scale=0.5): mean 0.414236, standard deviation 0.262522.
        let mut rng = Seed::new(3).rng();
        let n = 200_000;
        let draws: Vec<f64> = (0..n)
            .map(|_| draw_in_unit_interval(0.2, 0.5, &mut rng))
            .collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(draws.iter().all(|x| (0.0..=1.0).contains(x)));
        // Four standard errors.
        assert!(
            (mean - 0.414_236).abs() < 4.0 * 0.2625 / f64::from(n).sqrt(),
            "{mean}"
        );
        assert!((variance.sqrt() - 0.262_522).abs() < 0.002, "{variance}");
        for mean in [0.0, 1.0] {
            let x = draw_in_unit_interval(mean, 1e-6, &mut rng);
            assert!((x - mean).abs() < 1e-5);
        }
    }
}
