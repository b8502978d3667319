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
