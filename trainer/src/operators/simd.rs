//! The widest vector instructions that this processor has, chosen when the program runs.
//!
//! The program is compiled for any x86-64 (or other) processor. [`vectorized`] runs a loop as if it had been compiled
//! for the processor at hand; that changes its speed and not its results, since the compiler neither reorders sums nor
//! fuses multiplications with additions by itself.

use std::sync::LazyLock;

/// Sets of vector instructions for which kernels exist, from the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// 16 single-precision numbers at once, with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 at once, with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What every processor of this kind has.
    Portable,
}

impl Instructions {
    /// The widest ones of this processor.
    pub(super) fn best() -> Self {
        static BEST: LazyLock<Instructions> = LazyLock::new(Instructions::detect);
        *BEST
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Self {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
            Self::Avx512
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            Self::Avx2
        } else {
            Self::Portable
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Self {
        Self::Portable
    }

    /// Those that this processor can run, for tests.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let (all, best) = (vec![Self::Avx512, Self::Avx2, Self::Portable], Self::best());
        #[cfg(not(target_arch = "x86_64"))]
        let (all, best) = (vec![Self::Portable], Self::best());
        all.into_iter()
            .skip_while(|instructions| *instructions != best)
            .collect()
    }
}

/// Runs `work`, compiled for the widest instructions of this processor as far as it is inlined here.
#[inline]
pub(super) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    match Instructions::best() {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => {
            #[expect(
                unsafe_code,
                reason = "the compiler cannot know what the processor has"
            )]
            // SAFETY: `best` has found these instructions on this processor.
            unsafe {
                run_avx512(work)
            }
        }
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => {
            #[expect(
                unsafe_code,
                reason = "the compiler cannot know what the processor has"
            )]
            // SAFETY: as above.
            unsafe {
                run_avx2(work)
            }
        }
        Instructions::Portable => work(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
fn run_avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
