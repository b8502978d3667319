//! Floats and quoted strings as Go reads and prints them, with Go's error texts.

use std::borrow::Cow;

/// A float as Go's `strconv.ParseFloat` reads it, with its error text.
pub fn go_float(text: &str) -> Result<f64, String> {
    let invalid = || format!("strconv.ParseFloat: parsing {}: invalid syntax", quote(text));
    let bare = text.trim_start_matches(['+', '-']);
    if bare.len() >= 2 && bare.as_bytes()[0] == b'0' && matches!(bare.as_bytes()[1], b'x' | b'X') {
        return hex_float(text).ok_or_else(invalid);
    }
    // An underscore may stand between digits.
    let bytes = text.as_bytes();
    let is_digit = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let is_sound = |(i, _): (usize, &str)| is_digit(i.checked_sub(1)) && is_digit(Some(i + 1));
    let joined = match text.contains('_') && text.match_indices('_').all(is_sound) {
        true => Cow::Owned(text.replace('_', "")),
        false => Cow::Borrowed(text),
    };
    match joined.parse::<f64>() {
        Ok(v) if v.is_infinite() && !bare.starts_with(['i', 'I']) => Err(format!(
            "strconv.ParseFloat: parsing {}: value out of range",
            quote(text)
        )),
        Ok(v) => Ok(v),
        Err(_) => Err(invalid()),
    }
}

/// `0x1.8p3`; the exponent is required.
fn hex_float(text: &str) -> Option<f64> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let rest = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X"))?;
    let (mantissa, exponent) = rest.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0f64;
    for c in whole.chars() {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    let mut place = 1.0 / 16.0;
    for c in fraction.chars() {
        value += f64::from(c.to_digit(16)?) * place;
        place /= 16.0;
    }
    Some(sign * value * 2f64.powi(exponent.clamp(-2000, 2000)))
}

/// A float in its shortest digits as Go's `%v` prints it: with an exponent below 1e-4 and from 1e6 on.
pub fn print_float(v: f64) -> String {
    if v.is_nan() {
        return "NaN".into();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    if v == 0.0 {
        return if v.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let e = format!("{v:e}");
    let (mantissa, exponent) = e.split_once('e').unwrap_or((&e, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.abs())
    } else {
        format!("{v}")
    }
}

/// A Go duration as it prints itself: `1h30m0s`, `1.5ms`, `0s`.
pub fn print_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let decimal = |unit: u64, name: &str| {
        let (whole, rest) = (ns / unit, ns % unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        match rest {
            0 => format!("{sign}{whole}{name}"),
            _ => format!("{sign}{whole}.{}{name}", fraction.trim_end_matches('0')),
        }
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{ns}ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (ns / 60_000_000_000, ns % 60_000_000_000);
            let fraction = format!("{:09}", rest % 1_000_000_000);
            let seconds = match fraction.trim_end_matches('0') {
                "" => format!("{}s", rest / 1_000_000_000),
                fraction => format!("{}.{fraction}s", rest / 1_000_000_000),
            };
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, m) => format!("{sign}{m}m{seconds}"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}"),
            }
        }
    }
}

/// A string literal as Go quotes it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The inside of a double-quoted Go string literal, unescaped. `None` if an escape is malformed.
pub fn unescape(inside: &str) -> Option<String> {
    if !inside.contains('\\') {
        return Some(inside.to_owned());
    }
    // Byte escapes can build UTF-8 piece by piece; what does not become UTF-8 is replaced.
    let mut out = Vec::with_capacity(inside.len());
    let mut chars = inside.chars();
    let mut buffer = [0u8; 4];
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        let escape = chars.next()?;
        let byte = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            '"' => b'"',
            '\'' => b'\'',
            'x' | '0'..='7' => {
                let (radix, mut value, more) = match escape.to_digit(8) {
                    Some(d) => (8, d, 2),
                    None => (16, 0, 2),
                };
                for _ in 0..more {
                    value = value * radix + chars.next()?.to_digit(radix)?;
                }
                u8::try_from(value).ok()?
            }
            'u' | 'U' => {
                let mut value = 0u32;
                for _ in 0..if escape == 'u' { 4 } else { 8 } {
                    value = value.checked_mul(16)? + chars.next()?.to_digit(16)?;
                }
                let c = char::from_u32(value)?;
                out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                continue;
            }
            _ => return None,
        };
        out.push(byte);
    }
    Some(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_go_reads_and_prints_them() {
        assert_eq!(go_float("0X1p3"), Ok(8.0));
        assert!(go_float("0x10").is_err());
        assert!(go_float("1e999").is_err());
        assert_eq!(print_float(3e6), "3e+06");
        assert_eq!(print_float(3000.0), "3000");
        assert_eq!(print_float(0.00001), "1e-05");
        for (ns, want) in [
            (1_800_000_000_000, "30m0s"),
            (-5_400_500_000_000, "-1h30m0.5s"),
            (1_500_000, "1.5ms"),
            (1_500, "1.5µs"),
            (0, "0s"),
        ] {
            assert_eq!(print_duration(ns), want);
        }
    }

    #[test]
    fn strings_are_quoted_and_unescaped() {
        let text = "a\"b\\c\n\t\u{1}é\u{feff}";
        let quoted = quote(text);
        assert_eq!(unescape(&quoted[1..quoted.len() - 1]).as_deref(), Some(text));
        assert_eq!(unescape(r"\x1b[31m\101\u00e9").as_deref(), Some("\u{1b}[31mAé"));
        assert_eq!(unescape(r"\q"), None);
        assert_eq!(unescape(r"\x1"), None);
    }
}
