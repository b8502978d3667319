//! Numbers as Go prints them with `%g`: clients know them from annotations, errors and labels.

/// The shortest text that gives the number back, with an exponent below 1e-4 and from 1e6.
pub fn go_number(v: f64) -> String {
    if v.is_infinite() {
        return (if v > 0.0 { "+Inf" } else { "-Inf" }).to_owned();
    }
    if v.is_nan() || v == 0.0 {
        return v.to_string();
    }
    let text = format!("{v:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    if (-4..6).contains(&exponent.parse().unwrap_or(0i32)) {
        return v.to_string();
    }
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_prints_them() {
        let cases = [
            (1.5, "1.5"),
            (100000.0, "100000"),
            (1e6, "1e+06"),
            (123456789.0, "1.23456789e+08"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1e100, "-1e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ];
        for (v, want) in cases {
            assert_eq!(go_number(v), want);
        }
    }
}
