//! Numbers as Go prints them: clients know them from values, labels, annotations and errors.
//!
//! All are the shortest text that gives the number back. Where two such texts are equally near, Go takes the one with the
//! even last digit; Rust takes the one farther from zero.

use std::fmt::Write;

/// Appends a number without an exponent (`%f`); `NaN`, `+Inf`, `-Inf`.
pub fn push_plain_number(out: &mut String, v: f64) {
    if v.is_infinite() {
        out.push_str(if v > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    let start = out.len();
    let _ = write!(out, "{v}");
    settle_tie(out, start, v, 0);
}

/// Appends a finite number with an exponent (`%e`).
pub fn push_exponent_number(out: &mut String, v: f64) {
    let text = format!("{v:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
    let start = out.len();
    out.push_str(mantissa);
    // In a number of 1e17 or more no two texts are equally near.
    let shift: i32 = exponent.parse().unwrap_or(0);
    settle_tie(out, start, v, -shift);
    let _ = write!(out, "e{sign}{digits:0>2}");
}

/// A number as `%g` prints it, with an exponent below 1e-4 and from 1e6.
pub fn go_number(v: f64) -> String {
    let mut out = String::new();
    let magnitude = v.abs();
    if v == 0.0 || !v.is_finite() || (1e-4..1e6).contains(&magnitude) {
        push_plain_number(&mut out, v);
    } else {
        push_exponent_number(&mut out, v);
    }
    out
}

/// Two texts are equally near if the number has exactly one binary place more than the text has decimal places; `shift` more
/// of these are in the exponent.
fn settle_tie(out: &mut String, start: usize, v: f64, shift: i32) {
    let shown = out[start..].find('.').map_or(0, |dot| out.len() - start - dot - 1);
    let Ok(decimals) = usize::try_from(shown as i64 + i64::from(shift)) else {
        return;
    };
    if decimals == 0 || decimals + 1 != binary_places(v) {
        return;
    }
    if let Some(last @ (b'1' | b'3' | b'5' | b'7' | b'9')) = out.as_bytes().last().copied() {
        out.pop();
        out.push(char::from(last - 1));
    }
}

/// How many places after the point the number has in binary.
fn binary_places(v: f64) -> usize {
    let bits = v.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i64, bits & ((1 << 52) - 1));
    let (exponent, fraction) = match exponent {
        0 => (1, fraction),
        _ => (exponent, fraction | 1 << 52),
    };
    let lowest = exponent - 1075 + i64::from(fraction.trailing_zeros().min(52));
    usize::try_from(-lowest).unwrap_or(0)
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

    #[test]
    fn of_two_equally_near_texts_the_even_one_is_printed() {
        let cases = [
            (103_275_965_753.25 / 64.0, "1613686964.8945312"),
            (16_368_005_905.0 / 1024.0, "15984380.766601562"),
            (459_751_640_629.0 / 256.0, "1795904846.2070312"),
            (0.1, "0.1"),
            (0.375, "0.375"),
            (-0.0, "-0"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (v, want) in cases {
            let mut text = String::new();
            push_plain_number(&mut text, v);
            assert_eq!(text, want);
        }
        for (v, want) in [
            (1.0 / 33_554_432.0, "2.9802322387695312e-08"),
            (5e-324, "5e-324"),
            (1.5e21, "1.5e+21"),
        ] {
            let mut text = String::new();
            push_exponent_number(&mut text, v);
            assert_eq!(text, want);
        }
        assert_eq!(go_number(103_275_965_753.25 / 64.0), "1.6136869648945312e+09");
    }
}
