//! Quantities as Go writes them: durations (Go's and Prometheus' spellings), byte sizes; floats and quoted strings.
//! Queries, log values and templates all read and print them, so they live in one place with Go's error texts.

pub(crate) use query_template::{go_float, quote, unescape};

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

/// As faults of Go's durations print text: byte by byte what is not ASCII.
fn quote_bytes(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..0x80 => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

/// A Go duration (`1h15m30.9s`, `-5m`, `1.5µs`).
pub(crate) fn go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote_bytes(text));
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
            "" => return Err(format!("time: missing unit in duration {}", quote_bytes(text))),
            _ => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    quote_bytes(name),
                    quote_bytes(text)
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

/// As Go prints a duration (`1h30m0s`, `1.5s`, `100ns`).
pub(crate) fn print_go_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let rest = ns.unsigned_abs();
    let decimal = |size: u64, unit: &str| {
        let fraction = format!("{:0width$}", rest % size, width = size.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() || size == 1 { "" } else { "." };
        let fraction = if size == 1 { "" } else { fraction };
        format!("{}{dot}{fraction}{unit}", rest / size)
    };
    match rest {
        0 => return "0s".into(),
        1..1_000 => return format!("{sign}{}", decimal(1, "ns")),
        1_000..1_000_000 => return format!("{sign}{}", decimal(1_000, "µs")),
        1_000_000..1_000_000_000 => return format!("{sign}{}", decimal(1_000_000, "ms")),
        _ => {}
    }
    let (hours, minutes) = (rest / 3_600_000_000_000, rest / 60_000_000_000 % 60);
    let fraction = format!("{:09}", rest % 1_000_000_000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{dot}{fraction}s", rest / 1_000_000_000 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, _) => format!("{sign}{minutes}m{seconds}"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

/// As Go prints a number (`0.5`, `1e+06`, `+Inf`).
pub(crate) fn print_number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
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
            ("Zoë\"", "time: invalid duration \"Zo\\xc3\\xab\\\"\""),
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
}
