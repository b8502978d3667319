//! Quantities as Go writes them: durations (Go's and Prometheus' spellings), byte sizes, floats, quoted strings.
//! Queries, log values and templates all read and print them, so they live in one place with Go's error texts.

use std::borrow::Cow;

/// Nanoseconds of a second.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// A Prometheus duration (`1d12h`, `5m`, `100ms`): integers with falling units.
pub(crate) fn prometheus_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("not a valid duration string: {}", quote(text));
    match text {
        "0" => return Ok(0),
        "" => return Err("empty duration string".into()),
        _ => {}
    }
    let mut rest = text;
    let mut total: i64 = 0;
    let mut last = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        if unit == 0 {
            return Err(invalid());
        }
        let name = &rest[..unit];
        rest = &rest[unit..];
        let (rank, size) = match name {
            "y" => (1, 365 * 86_400 * SECOND),
            "w" => (2, 7 * 86_400 * SECOND),
            "d" => (3, 86_400 * SECOND),
            "h" => (4, 3_600 * SECOND),
            "m" => (5, 60 * SECOND),
            "s" => (6, SECOND),
            "ms" => (7, 1_000_000),
            _ => return Err(format!("unknown unit {} in duration {}", quote(name), quote(text))),
        };
        if rank <= last {
            return Err(invalid());
        }
        last = rank;
        total = i64::try_from(number)
            .ok()
            .and_then(|n| n.checked_mul(size))
            .and_then(|n| total.checked_add(n))
            .ok_or("duration out of range")?;
    }
    Ok(total)
}

/// A Go duration (`1h15m30.9s`, `-5m`, `1.5µs`).
pub(crate) fn go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
        let after = &rest[whole..];
        let fraction = after
            .strip_prefix('.')
            .map_or(0, |f| f.bytes().take_while(u8::is_ascii_digit).count());
        let dot = usize::from(after.starts_with('.'));
        if whole == 0 && fraction == 0 {
            return Err(invalid());
        }
        let whole_text = &rest[..whole];
        let fraction_text = &after[dot..dot + fraction];
        rest = &after[dot + fraction..];
        let unit = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let name = &rest[..unit];
        rest = &rest[unit..];
        let size: i128 = match name {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {}", quote(text))),
            _ => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    quote(name),
                    quote(text)
                ));
            }
        };
        if !whole_text.is_empty() {
            let n: i64 = whole_text.parse().map_err(|_| invalid())?;
            total += i128::from(n) * size;
        }
        // More digits than these are below a nanosecond for every unit.
        let kept = &fraction_text[..fraction_text.len().min(16)];
        if !kept.is_empty() {
            let n: i128 = kept.parse().map_err(|_| invalid())?;
            total += n * size / 10i128.pow(kept.len() as u32);
        }
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// A duration as a query writes it: Prometheus' spelling, else Go's.
pub(crate) fn query_duration(text: &str) -> Option<i64> {
    prometheus_duration(text).or_else(|_| go_duration(text)).ok()
}

/// As Prometheus prints a duration (`1h30m`, `0s`); below a millisecond as Go prints it.
pub(crate) fn print_duration(ns: i64) -> String {
    if ns == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    let mut rest = ns.unsigned_abs();
    if ns < 0 {
        out.push('-');
    }
    if !rest.is_multiple_of(1_000_000) {
        // Only Go's spelling knows finer units.
        return format!("{}{rest}ns", if ns < 0 { "-" } else { "" });
    }
    let only_whole = [(365 * 86_400_000_000_000u64, "y"), (7 * 86_400_000_000_000, "w")];
    for (size, unit) in only_whole {
        if rest.is_multiple_of(size) {
            out.push_str(&format!("{}{unit}", rest / size));
            return out;
        }
    }
    for (size, unit) in [
        (86_400_000_000_000u64, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
    ] {
        // Negative durations are Go's alone, which has no days.
        if unit == "d" && ns < 0 {
            continue;
        }
        if rest >= size {
            out.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    out
}

/// A byte size as a query writes it: case-sensitive, with a unit. `None` if it is none.
pub(crate) fn query_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let size = match &text[digits..] {
        "B" => 1u64,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "PB" => 1_000_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        _ => return None,
    };
    scaled(&text[..digits], size).ok()
}

/// A byte size in a log value: case-insensitive humanised sizes, a bare number counts bytes.
pub(crate) fn value_bytes(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))
        .unwrap_or(text.len());
    let unit = text[digits..].trim().to_ascii_lowercase();
    let size = match unit.as_str() {
        "" | "b" => 1u64,
        "k" | "kb" => 1_000,
        "ki" | "kib" => 1 << 10,
        "m" | "mb" => 1_000_000,
        "mi" | "mib" => 1 << 20,
        "g" | "gb" => 1_000_000_000,
        "gi" | "gib" => 1 << 30,
        "t" | "tb" => 1_000_000_000_000,
        "ti" | "tib" => 1 << 40,
        "p" | "pb" => 1_000_000_000_000_000,
        "pi" | "pib" => 1 << 50,
        "e" | "eb" => 1_000_000_000_000_000_000,
        "ei" | "eib" => 1 << 60,
        _ => {
            go_float(&text[..digits].replace(',', ""))?;
            return Err(format!("unhandled size name: {unit}"));
        }
    };
    scaled(&text[..digits].replace(',', ""), size)
}

fn scaled(number: &str, size: u64) -> Result<u64, String> {
    // Whole numbers stay exact beyond 2^53.
    if let Ok(n) = number.parse::<u64>()
        && let Some(bytes) = n.checked_mul(size)
    {
        return Ok(bytes);
    }
    let bytes = go_float(number)? * size as f64;
    if bytes >= u64::MAX as f64 {
        return Err(format!("too large: {number}"));
    }
    Ok(bytes as u64)
}

/// As humanised sizes are printed, without the space: `1.0MB`, `512B`, `82kB`.
pub(crate) fn print_bytes(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < 6 {
        value /= 1000.0;
        unit += 1;
    }
    value = (value * 10.0 + 0.5).floor() / 10.0;
    let name = ["B", "kB", "MB", "GB", "TB", "PB", "EB"][unit];
    if value < 10.0 {
        format!("{value:.1}{name}")
    } else {
        format!("{value:.0}{name}")
    }
}

/// A float as Go's `strconv.ParseFloat` reads it, with its error text.
pub(crate) fn go_float(text: &str) -> Result<f64, String> {
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
pub(crate) fn print_float(v: f64) -> String {
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

/// A string literal as Go quotes it.
pub(crate) fn quote(text: &str) -> String {
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
pub(crate) fn unescape(inside: &str) -> Option<String> {
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
    fn durations_in_both_spellings() {
        for (text, want) in [
            ("5m", 300 * SECOND),
            ("1d12h", 129_600 * SECOND),
            ("1y", 31_536_000 * SECOND),
            ("100ms", 100_000_000),
        ] {
            assert_eq!(prometheus_duration(text), Ok(want), "{text}");
            assert_eq!(print_duration(want), text);
        }
        for (text, want) in [
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("-1s", -SECOND),
            (".5s", SECOND / 2),
            ("1ns", 1),
            ("0", 0),
        ] {
            assert_eq!(go_duration(text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("5minutes", "unknown unit \"minutes\" in duration \"5minutes\""),
            ("1h1d", "not a valid duration string: \"1h1d\""),
            ("5", "not a valid duration string: \"5\""),
        ] {
            assert_eq!(prometheus_duration(text), Err(want.to_owned()));
        }
        for (text, want) in [
            ("90", "time: missing unit in duration \"90\""),
            ("oops", "time: invalid duration \"oops\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
        ] {
            assert_eq!(go_duration(text), Err(want.to_owned()));
        }
        assert!(go_duration("99999999999999999999h").is_err());
    }

    #[test]
    fn byte_sizes() {
        assert_eq!(query_bytes("5MB"), Some(5_000_000));
        assert_eq!(query_bytes("1.5KiB"), Some(1536));
        assert_eq!(query_bytes("1mb"), None);
        assert_eq!(value_bytes("13 MiB"), Ok(13_631_488));
        assert_eq!(value_bytes("1,024"), Ok(1024));
        assert_eq!(
            value_bytes("oops"),
            Err("strconv.ParseFloat: parsing \"\": invalid syntax".into())
        );
        assert_eq!(print_bytes(1_048_576), "1.0MB");
        assert_eq!(print_bytes(82_854), "83kB");
        assert_eq!(print_bytes(7), "7B");
    }

    #[test]
    fn floats_as_go_reads_and_prints_them() {
        assert_eq!(go_float("0X1p3"), Ok(8.0));
        assert!(go_float("0x10").is_err());
        assert!(go_float("1e999").is_err());
        assert_eq!(print_float(3e6), "3e+06");
        assert_eq!(print_float(3000.0), "3000");
        assert_eq!(print_float(0.00001), "1e-05");
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
