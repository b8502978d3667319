//! Numbers in answers: what Go reads as a float, and how Go's clients write the floats that become labels.

use std::fmt::Write;

/// The NaN that stands for "not a number", and not for the end of a series.
pub(crate) const NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// A float as Go reads it: any case of `Inf` and `NaN`, no hexadecimal, no underscores.
#[inline]
pub(crate) fn parse_float(bytes: &[u8]) -> Option<f64> {
    if let Some(whole) = parse_whole(bytes) {
        return Some(whole);
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let v: f64 = text.parse().ok()?;
    if v.is_nan() {
        return (bytes.len() == 3).then_some(NAN);
    }
    // What is too large to be written as a number is none; infinity has a name.
    (v.is_finite() || !bytes.iter().any(u8::is_ascii_digit)).then_some(v)
}

/// Most values are small whole numbers.
#[inline]
fn parse_whole(bytes: &[u8]) -> Option<f64> {
    if bytes.is_empty() || bytes.len() > 15 {
        return None;
    }
    let mut n: u64 = 0;
    for b in bytes {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        n = n * 10 + u64::from(digit);
    }
    Some(n as f64)
}

/// The one spelling that a float has as the value of `le` or `quantile`: `1.0`, `0.25`, `1e+06`, `+Inf`.
pub(crate) fn canonical_float(v: f64, out: &mut String) {
    if v.is_nan() {
        out.push_str("NaN");
        return;
    }
    if v.is_infinite() {
        out.push_str(if v > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    let mut scientific = String::new();
    let _ = write!(scientific, "{v:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !GO_EXPONENTS.contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.unsigned_abs());
        return;
    }
    let from = out.len();
    let _ = write!(out, "{v}");
    if !out[from..].contains('.') {
        out.push_str(".0");
    }
}

/// Exponents that Go's shortest form does not write.
const GO_EXPONENTS: std::ops::Range<i32> = -4..6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_go_reads_them() {
        for (text, want) in [
            ("1", 1.0),
            ("-3.5e0", -3.5),
            ("+Inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("INFINITY", f64::INFINITY),
            ("1e3", 1000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("123456789012345678", 123456789012345678.0),
        ] {
            assert_eq!(parse_float(text.as_bytes()), Some(want), "{text}");
        }
        assert_eq!(parse_float(b"Nan").map(f64::to_bits), Some(NAN.to_bits()));
        for text in ["", "1_0", "0x1p3", "1e", "+", "one", "-nan", "+NaN", " 1"] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn floats_in_labels_have_one_spelling() {
        for (v, want) in [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-1.0, "-1.0"),
            (0.25, "0.25"),
            (10.0, "10.0"),
            (100_000.0, "100000.0"),
            (1e6, "1e+06"),
            (1234567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e-9, "1e-09"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut out = String::new();
            canonical_float(v, &mut out);
            assert_eq!(out, want);
        }
    }
}
