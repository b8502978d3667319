//! Functions of single values.

/// -1, 0 or 1; NaN of NaN.
pub(crate) fn sgn(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

pub(crate) fn deg(v: f64) -> f64 {
    v * 180.0 / std::f64::consts::PI
}

pub(crate) fn rad(v: f64) -> f64 {
    v * std::f64::consts::PI / 180.0
}

/// Beyond this the square of a number swallows a one.
const LARGE: f64 = 268_435_456.0;

/// The inverse of `cosh`, also of numbers whose squares overflow.
pub(crate) fn acosh(x: f64) -> f64 {
    match () {
        () if x.is_nan() || x < 1.0 => f64::NAN,
        () if x >= LARGE => x.ln() + std::f64::consts::LN_2,
        () if x > 2.0 => (2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt())).ln(),
        () => {
            let t = x - 1.0;
            (t + (2.0 * t + t * t).sqrt()).ln_1p()
        }
    }
}

/// The inverse of `sinh`, also of numbers whose squares overflow.
pub(crate) fn asinh(v: f64) -> f64 {
    let x = v.abs();
    let y = match () {
        () if !v.is_finite() || x < 1.0 / LARGE => return v,
        () if x > LARGE => x.ln() + std::f64::consts::LN_2,
        () if x > 2.0 => (2.0 * x + 1.0 / ((x * x + 1.0).sqrt() + x)).ln(),
        () => (x + x * x / (1.0 + (1.0 + x * x).sqrt())).ln_1p(),
    };
    y.copysign(v)
}

/// To the nearest multiple of the parameter (1), halves up.
pub(crate) fn round(v: f64, params: &[f64]) -> Option<f64> {
    let inverse = 1.0 / params.first().copied().unwrap_or(1.0);
    Some((v * inverse + 0.5).floor() / inverse)
}

pub(crate) fn clamp(v: f64, params: &[f64]) -> Option<f64> {
    let (&min, &max) = (params.first()?, params.get(1)?);
    if max < min {
        None
    } else {
        Some(larger(min, smaller(max, v)))
    }
}

pub(crate) fn clamp_min(v: f64, params: &[f64]) -> Option<f64> {
    Some(larger(*params.first()?, v))
}

pub(crate) fn clamp_max(v: f64, params: &[f64]) -> Option<f64> {
    Some(smaller(*params.first()?, v))
}

/// The larger one; an infinity beats NaN, NaN beats the rest.
pub(crate) fn larger(a: f64, b: f64) -> f64 {
    match () {
        () if a == f64::INFINITY || b == f64::INFINITY => f64::INFINITY,
        () if a.is_nan() || b.is_nan() => f64::NAN,
        () => a.max(b),
    }
}

/// The smaller one; minus infinity beats NaN, NaN beats the rest.
pub(crate) fn smaller(a: f64, b: f64) -> f64 {
    -larger(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_hyperbolics_of_large_and_small_numbers() {
        let cases = [
            (acosh(1.0), 0.0),
            (acosh(f64::MAX), 710.4758600739439),
            (asinh(-f64::MAX), -710.4758600739439),
            (asinh(1e-300), 1e-300),
            (asinh(f64::NEG_INFINITY), f64::NEG_INFINITY),
        ];
        for (found, want) in cases {
            assert_eq!(found, want);
        }
        assert!(acosh(0.5).is_nan() && asinh(f64::NAN).is_nan());
        for x in [0.25, 1.5, 3.0, 1e6, 1e9] {
            assert!((asinh(x).sinh() / x - 1.0).abs() < 1e-13, "{x}");
            assert!(x < 1.0 || (acosh(x).cosh() / x - 1.0).abs() < 1e-13, "{x}");
        }
    }
}
