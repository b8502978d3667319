//! Durations as text: Prometheus' units first (`d`, `w`, `y`, whole numbers), then Go's (fractions, no days).

const SECOND: i64 = 1_000_000_000;

/// From text to nanoseconds; `None` for what is no duration, or too long.
pub(crate) fn from_text(text: &str) -> Option<i64> {
    prometheus(text).or_else(|| go(text))
}

/// Units once each, in falling order, whole numbers.
fn prometheus(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400 * SECOND),
        ("w", 7 * 86_400 * SECOND),
        ("d", 86_400 * SECOND),
        ("h", 3_600 * SECOND),
        ("m", 60 * SECOND),
        ("s", SECOND),
        ("ms", 1_000_000),
    ];
    let (mut rest, mut next, mut total) = (text, 0, 0i64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let at = UNITS.iter().position(|(unit, _)| *unit == &rest[..letters])?;
        if at < next {
            return None;
        }
        next = at + 1;
        total = total.checked_add(number.checked_mul(UNITS[at].1)?)?;
        rest = &rest[letters..];
    }
    (next > 0).then_some(total)
}

/// Any units in any order, with fractions.
fn go(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),
        ("\u{3bc}s", 1_000),
        ("ms", 1_000_000),
        ("s", SECOND),
        ("m", 60 * SECOND),
        ("h", 3_600 * SECOND),
    ];
    let (mut rest, mut total) = (text, 0i64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(whole);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let mut scale = unit as f64;
        let mut part = 0.0;
        for digit in fraction.bytes() {
            scale /= 10.0;
            part += f64::from(digit - b'0') * scale;
        }
        // Nanoseconds are whole: what lies beyond float noise below one is cut off.
        total = total.checked_add((part + 1e-6) as i64)?;
        rest = after;
    }
    Some(total)
}

/// As Go prints it: `1h15m0.5s`, `1.5ms`, `0s`.
pub fn to_text(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let (whole, rest) = (value / unit, value % unit);
        if rest == 0 {
            return whole.to_string();
        }
        let digits = unit.ilog10() as usize;
        let text = format!("{whole}.{rest:0digits$}");
        text.trim_end_matches('0').to_owned()
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{ns}ns"),
        1_000..1_000_000 => format!("{sign}{}\u{b5}s", fraction(ns, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", fraction(ns, 1_000_000)),
        _ => {
            let minutes = ns / (60 * SECOND as u64);
            let seconds = fraction(ns % (60 * SECOND as u64), SECOND as u64);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, m) => format!("{sign}{m}m{seconds}s"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_prometheus_or_go_write_them() {
        let cases = [
            ("1ns", Some(1)),
            ("1us", Some(1_000)),
            ("1\u{b5}s", Some(1_000)),
            ("1d", Some(86_400 * SECOND)),
            ("1w2d", Some(9 * 86_400 * SECOND)),
            ("1.5d", None),
            ("1.5h", Some(5_400 * SECOND)),
            ("1h15m30.918273645s", Some(4_530_918_273_645)),
            ("1", None),
            ("s", None),
            ("", None),
            ("99999999999h", None),
        ];
        for (text, ns) in cases {
            assert_eq!(from_text(text), ns, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for ns in [
            0,
            1,
            999,
            1_500,
            2_000_001,
            1_500_000_000,
            61 * SECOND,
            4_530_918_273_645,
            i64::MAX,
        ] {
            assert_eq!(from_text(&to_text(ns)), Some(ns), "{}", to_text(ns));
        }
    }
}
