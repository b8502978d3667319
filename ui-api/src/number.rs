//! How the APIs print and read numbers: values as Prometheus prints floats, times as seconds, durations.

use std::fmt::Write;

use query_exec::{push_exponent_number, push_plain_number};

/// Appends a value as Prometheus prints it: the shortest text that parses back, plain unless it is below 1e-6 or at
/// least 1e21; `NaN`, `+Inf`, `-Inf`.
pub(crate) fn push_value(out: &mut String, v: f64) {
    // Counts are whole, and most values are counts.
    let whole = v as i64;
    if whole as f64 == v && whole.unsigned_abs() < WHOLE_MAX {
        if whole == 0 && v.is_sign_negative() {
            out.push('-');
        }
        out.push_str(itoa::Buffer::new().format(whole));
        return;
    }
    if v.is_finite() {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(v);
        if !text.contains('e') {
            out.push_str(text.strip_suffix(".0").unwrap_or(text));
            return;
        }
    }
    push_rare_value(out, v);
}

/// Every whole number below has a double of its own.
const WHOLE_MAX: u64 = 1 << 53;

/// The same, slower, for numbers far from one, and those that are none.
fn push_rare_value(out: &mut String, v: f64) {
    let magnitude = v.abs();
    if v != 0.0 && v.is_finite() && !(1e-6..1e21).contains(&magnitude) {
        push_exponent_number(out, v);
    } else {
        push_plain_number(out, v);
    }
}

/// Appends a scalar: as [`push_value`], but never with an exponent.
pub(crate) fn push_scalar(out: &mut String, v: f64) {
    push_plain_number(out, v);
}

/// Appends milliseconds as seconds: no fraction when it is zero, otherwise exactly three digits.
pub(crate) fn push_seconds(out: &mut String, ms: i64) {
    let (whole, rest) = ((ms / 1000).unsigned_abs(), (ms % 1000).unsigned_abs());
    if ms < 0 {
        out.push('-');
    }
    out.push_str(itoa::Buffer::new().format(whole));
    if rest != 0 {
        let digit = |n: u64| char::from(b'0' + (n % 10) as u8);
        out.extend(['.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }
}

/// Appends a JSON string.
pub(crate) fn push_json(out: &mut String, s: &str) {
    out.push('"');
    let mut plain = 0;
    for (i, b) in s.bytes().enumerate() {
        let escape = match b {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&s[plain..i]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{b:04x}");
        } else {
            out.push_str(escape);
        }
        plain = i + 1;
    }
    out.push_str(&s[plain..]);
    out.push('"');
}

/// Nanoseconds of a time as Loki and Tempo read it: with a dot, seconds (to the millisecond); up to ten digits, seconds;
/// more digits, nanoseconds; else RFC 3339. Far-away times saturate.
pub(crate) fn time_by_digits_ns(text: &str) -> Option<i64> {
    if text.contains('.')
        && let Some(seconds) = finite(text)
    {
        return Some(((seconds * 1000.0).round() as i64).saturating_mul(1_000_000));
    }
    if let Ok(n) = text.parse::<i64>() {
        return Some(if text.len() <= 10 {
            n.saturating_mul(1_000_000_000)
        } else {
            n
        });
    }
    rfc3339_ns(text)
}

/// Milliseconds of a time as Prometheus reads it: decimal Unix seconds (fraction, sign and exponent allowed), RFC 3339,
/// and two strings for the ends of time.
pub(crate) fn time_ms(text: &str) -> Option<i64> {
    if let Some(seconds) = finite(text) {
        // The fraction by itself, as it has more digits there.
        let whole = (seconds.trunc() as i64).saturating_mul(1000);
        return Some(whole.saturating_add((seconds.fract() * 1000.0).round() as i64));
    }
    match text {
        "-292273086-05-16T16:47:06Z" => Some(i64::MIN / 1000),
        "292277025-08-18T07:12:54.999999999Z" => Some(i64::MAX / 1000),
        _ => rfc3339_ms(text),
    }
}

fn finite(text: &str) -> Option<f64> {
    let looks_numeric = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    text.parse::<f64>().ok().filter(|v| looks_numeric && v.is_finite())
}

/// RFC 3339 in ns; outside of the years 1677 to 2262 it saturates.
fn rfc3339_ns(text: &str) -> Option<i64> {
    let t: jiff::Timestamp = text.parse().ok()?;
    Some(t.as_nanosecond().clamp(i64::MIN as i128, i64::MAX as i128) as i64)
}

fn rfc3339_ms(text: &str) -> Option<i64> {
    let t: jiff::Timestamp = text.parse().ok()?;
    Some(t.as_nanosecond().div_euclid(1_000_000) as i64)
}

/// Nanoseconds of a duration as Prometheus writes them: decimal seconds, or `1h30m`, `15s`, `500ms`, each unit once, in
/// order.
pub(crate) fn prometheus_duration_ns(text: &str) -> Option<i64> {
    if let Some(seconds) = finite(text) {
        let ns = seconds * 1e9;
        return (ns.abs() < i64::MAX as f64).then_some(ns as i64);
    }
    const UNITS: [(&str, i64); 7] = [
        ("y", 31_536_000_000_000_000),
        ("w", 604_800_000_000_000),
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
    ];
    let mut rest = text;
    let mut next_unit = 0;
    let mut total: i64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let n: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let at = UNITS
            .iter()
            .position(|(u, _)| *u == &rest[..letters])
            .filter(|at| *at >= next_unit)?;
        next_unit = at + 1;
        rest = &rest[letters..];
        total = n.checked_mul(UNITS[at].1).and_then(|ns| total.checked_add(ns))?;
    }
    Some(total)
}

/// Whether a duration is not one because it is a number of seconds that is too large.
pub(crate) fn is_long_duration(text: &str) -> bool {
    finite(text).is_some_and(|seconds| (seconds * 1e9).abs() >= i64::MAX as f64)
        || matches!(text.trim_start_matches(['+', '-']), "Inf" | "inf")
}

/// Nanoseconds of a duration as Go writes them: `1m30s`, `1.5s`, `100ms`, `2us`; units may repeat and stand in any order.
pub(crate) fn go_duration_ns(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let number = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let n: f64 = rest[..number].parse().ok()?;
        rest = &rest[number..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        rest = &rest[letters..];
        total += n * unit;
    }
    (!text.is_empty() && total < 9.2e18).then_some(total.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(v: f64) -> String {
        let mut s = String::new();
        push_value(&mut s, v);
        s
    }

    #[test]
    fn values_print_as_prometheus_prints_them() {
        for (v, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e21, "1.5e+21"),
            (1e-6, "0.000001"),
            (1e-7, "1e-07"),
            (-2.5e-300, "-2.5e-300"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (123456789.125, "123456789.125"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (-9_007_199_254_740_991.0, "-9007199254740991"),
            (123456789012345680.0, "123456789012345680"),
            (1.5e-5, "0.000015"),
            (1.5e-6, "0.0000015"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            assert_eq!(value(v), text);
        }
    }

    #[test]
    fn scalars_have_no_exponent() {
        for (v, text) in [
            (5e-10, "0.0000000005"),
            (1e21, "1000000000000000000000"),
            (f64::NAN, "NaN"),
        ] {
            let mut s = String::new();
            push_scalar(&mut s, v);
            assert_eq!(s, text);
        }
    }

    /// Whichever way a number takes, the digits are those of the slow one.
    #[test]
    fn the_fast_ways_print_as_the_slow_one() {
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let near_one = f64::from_bits(bits & 0x803f_ffff_ffff_ffff | 0x3fc0_0000_0000_0000);
            for v in [f64::from_bits(bits), near_one, near_one * 1e9, (near_one * 1e6).trunc()] {
                if v.is_finite() {
                    let mut slow = String::new();
                    push_rare_value(&mut slow, v);
                    assert_eq!(value(v), slow);
                }
            }
        }
    }

    #[test]
    fn seconds_have_no_fraction_or_three_digits() {
        for (ms, text) in [
            (0, "0"),
            (1_700_000_000_500, "1700000000.500"),
            (-1500, "-1.500"),
            (-2000, "-2"),
            (7, "0.007"),
        ] {
            let mut s = String::new();
            push_seconds(&mut s, ms);
            assert_eq!(s, text);
        }
    }

    #[test]
    fn times_and_durations_parse() {
        // As a double it is below the half.
        assert_eq!(time_ms("1.0005"), Some(1000));
        assert_eq!(time_ms("1.0015"), Some(1002));
        assert_eq!(time_ms("-1.9996"), Some(-2000));
        assert_eq!(time_ms("1e3"), Some(1_000_000));
        assert_eq!(time_ms("2026-01-01T00:00:00Z"), Some(1_767_225_600_000));
        assert_eq!(time_ms("2026-01-01T01:00:00+01:00"), Some(1_767_225_600_000));
        assert_eq!(
            time_by_digits_ns("2026-01-01T00:00:00.000000001Z"),
            Some(1_767_225_600_000_000_001)
        );
        assert_eq!(time_ms("inf"), None);
        assert_eq!(time_ms("NaN"), None);
        assert_eq!(prometheus_duration_ns("1h30m"), Some(5_400_000_000_000));
        assert_eq!(prometheus_duration_ns("0.5"), Some(500_000_000));
        assert_eq!(prometheus_duration_ns("30m1h"), None);
        assert_eq!(prometheus_duration_ns("1m1m"), None);
        assert_eq!(prometheus_duration_ns(""), None);
        assert_eq!(prometheus_duration_ns("x"), None);
    }

    #[test]
    fn the_unit_of_a_time_depends_on_its_digits() {
        for (text, ns) in [
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("4000000000", Some(4_000_000_000_000_000_000)),
            ("1700000000000000001", Some(1_700_000_000_000_000_001)),
            ("1700000000000", Some(1_700_000_000_000)),
            ("1700000000.1239", Some(1_700_000_000_124_000_000)),
            ("2026-01-01T00:00:00.000Z", Some(1_767_225_600_000_000_000)),
            ("yesterday", None),
        ] {
            assert_eq!(time_by_digits_ns(text), ns, "{text}");
        }
    }

    #[test]
    fn go_durations_parse() {
        for (text, ns) in [
            ("100ms", Some(100_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("2us", Some(2_000)),
            ("2µs", Some(2_000)),
            ("1h", Some(3_600_000_000_000)),
            ("0", Some(0)),
            ("5", None),
            ("", None),
            ("s", None),
            ("9999999999999h", None),
        ] {
            assert_eq!(go_duration_ns(text), ns, "{text}");
        }
    }

    #[test]
    fn json_strings_are_escaped() {
        let mut s = String::new();
        push_json(&mut s, "a\"b\\c\nd\u{1}é");
        assert_eq!(s, "\"a\\\"b\\\\c\\nd\\u0001é\"");
    }
}
