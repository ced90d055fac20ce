//! Whether this processor can run this build, which uses AVX2 and FMA.
//!
//! `is_x86_feature_detected!` is no help: in a build for x86-64-v3 it is a constant. So the
//! processor is asked itself, before anything that could contain such an instruction.

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
mod check {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    const FMA: u32 = 1 << 12;
    const OSXSAVE: u32 = 1 << 27;
    const BMI1: u32 = 1 << 3;
    const AVX2: u32 = 1 << 5;
    const BMI2: u32 = 1 << 8;

    /// Whether all of x86-64-v3 that the compiler makes use of is there.
    pub fn is_fit() -> bool {
        if __cpuid(0).eax < 7 {
            return false;
        }
        let (basic, extended) = (__cpuid(1).ecx, __cpuid_count(7, 0).ebx);
        basic & (FMA | OSXSAVE) == FMA | OSXSAVE && extended & (BMI1 | AVX2 | BMI2) == BMI1 | AVX2 | BMI2
    }
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
mod check {
    /// A build without special instructions runs everywhere.
    pub const fn is_fit() -> bool {
        true
    }
}

pub use check::is_fit;
