//! The standard normal distribution, also far from its centre.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// The probability of values below `x`.
pub(crate) fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// The probability of values above `x`.
pub(crate) fn sf(x: f64) -> f64 {
    0.5 * libm::erfc(x / SQRT_2)
}

/// The logarithm of half the complementary error function, also where the function itself underflows.
pub(crate) fn ln_half_erfc(x: f64) -> f64 {
    if x < 25.0 {
        return libm::erfc(x).ln() - LN_2;
    }
    // The asymptotic series; its next term is below 1e-11.
    let inverse = 1.0 / (2.0 * x * x);
    let series = 1.0 - inverse * (1.0 - 3.0 * inverse * (1.0 - 5.0 * inverse));
    -x * x - (x * PI.sqrt()).ln() + series.ln() - LN_2
}

/// The 97.5 % quantile of the standard normal distribution.
pub(crate) fn quantile_975() -> f64 {
    1.959_963_984_540_054
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_continues_where_the_function_underflows() {
        for x in [24.0, 24.9, 25.1, 26.0] {
            assert!((ln_half_erfc(x) - (libm::erfc(x).ln() - LN_2)).abs() < 1e-9, "{x}");
        }
        // SciPy 1.17: log_ndtr(-100 sqrt(2)).
        assert!((ln_half_erfc(100.0) + 10_005.870_717_8).abs() < 1e-3, "{}", ln_half_erfc(100.0));
        assert!((cdf(0.5) + sf(0.5) - 1.0).abs() < 1e-15 && ln_half_erfc(-30.0).abs() < 1e-15);
    }
}
