//! Times by Go's layouts: the reference time `Mon Jan 2 15:04:05 MST 2006` written as the result shall look.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::spelling::print_duration;
use super::value::Value;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// A piece of a layout.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part<'a> {
    Literal(&'a str),
    Year4,
    Year2,
    MonthName,
    MonthShort,
    Month2,
    Month,
    DayName,
    DayShort,
    Day2,
    DayPadded,
    Day,
    YearDay,
    Hour24,
    Hour12Padded,
    Hour12,
    Minute2,
    Minute,
    Second2,
    Second,
    /// The separator, how many digits, and whether trailing zeros go.
    Fraction(char, usize, bool),
    Upper,
    Lower,
    ZoneName,
    /// Colon between hours and minutes, `Z` for UTC, hours only.
    Zone {
        colon: bool,
        z: bool,
        short: bool,
    },
}

fn parts(layout: &str) -> Vec<Part<'_>> {
    const FIXED: [(&str, Part<'static>); 28] = [
        ("January", Part::MonthName),
        ("Jan", Part::MonthShort),
        ("Monday", Part::DayName),
        ("Mon", Part::DayShort),
        ("MST", Part::ZoneName),
        ("2006", Part::Year4),
        ("002", Part::YearDay),
        ("01", Part::Month2),
        ("02", Part::Day2),
        ("03", Part::Hour12Padded),
        ("04", Part::Minute2),
        ("05", Part::Second2),
        ("06", Part::Year2),
        ("15", Part::Hour24),
        ("_2", Part::DayPadded),
        ("PM", Part::Upper),
        ("pm", Part::Lower),
        (
            "Z07:00",
            Part::Zone {
                colon: true,
                z: true,
                short: false,
            },
        ),
        (
            "Z0700",
            Part::Zone {
                colon: false,
                z: true,
                short: false,
            },
        ),
        (
            "Z07",
            Part::Zone {
                colon: false,
                z: true,
                short: true,
            },
        ),
        (
            "-07:00",
            Part::Zone {
                colon: true,
                z: false,
                short: false,
            },
        ),
        (
            "-0700",
            Part::Zone {
                colon: false,
                z: false,
                short: false,
            },
        ),
        (
            "-07",
            Part::Zone {
                colon: false,
                z: false,
                short: true,
            },
        ),
        ("1", Part::Month),
        ("2", Part::Day),
        ("3", Part::Hour12),
        ("4", Part::Minute),
        ("5", Part::Second),
    ];
    let mut out = Vec::new();
    let mut at = 0;
    let mut literal = 0;
    while at < layout.len() {
        let rest = &layout[at..];
        let mut found = FIXED.iter().find(|(text, _)| rest.starts_with(text)).copied();
        // A fraction: a separator and a run of 0 or 9 that no digit follows.
        if let Some(separator @ ('.' | ',')) = rest.chars().next() {
            let digit = rest.as_bytes().get(1).copied().filter(|d| matches!(d, b'0' | b'9'));
            if let Some(digit) = digit {
                let len = rest[1..].bytes().take_while(|b| *b == digit).count();
                if !rest[1 + len..].starts_with(|c: char| c.is_ascii_digit()) {
                    found = Some((&rest[..1 + len], Part::Fraction(separator, len, digit == b'9')));
                }
            }
        }
        match found {
            Some((text, part)) => {
                if literal < at {
                    out.push(Part::Literal(&layout[literal..at]));
                }
                out.push(part);
                at += text.len();
                literal = at;
            }
            None => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    if literal < layout.len() {
        out.push(Part::Literal(&layout[literal..]));
    }
    out
}

/// Appends the instant, seen in `zone`, in the layout.
pub fn format(layout: &str, ns: i64, zone: &TimeZone, out: &mut String) {
    use std::fmt::Write;
    let Ok(instant) = Timestamp::from_nanosecond(i128::from(ns)) else {
        return;
    };
    let info = zone.to_offset_info(instant);
    let seconds = info.offset().seconds();
    let t = info.offset().to_datetime(instant);
    let hour12 = (t.hour() + 11) % 12 + 1;
    for part in parts(layout) {
        let written = match part {
            Part::Literal(text) => out.write_str(text),
            Part::Year4 => write!(out, "{:04}", t.year()),
            Part::Year2 => write!(out, "{:02}", t.year().rem_euclid(100)),
            Part::MonthName => out.write_str(MONTHS[(t.month() - 1) as usize]),
            Part::MonthShort => out.write_str(&MONTHS[(t.month() - 1) as usize][..3]),
            Part::Month2 => write!(out, "{:02}", t.month()),
            Part::Month => write!(out, "{}", t.month()),
            Part::DayName => out.write_str(DAYS[t.weekday().to_monday_zero_offset() as usize]),
            Part::DayShort => out.write_str(&DAYS[t.weekday().to_monday_zero_offset() as usize][..3]),
            Part::Day2 => write!(out, "{:02}", t.day()),
            Part::DayPadded => write!(out, "{:2}", t.day()),
            Part::Day => write!(out, "{}", t.day()),
            Part::YearDay => write!(out, "{:03}", t.day_of_year()),
            Part::Hour24 => write!(out, "{:02}", t.hour()),
            Part::Hour12Padded => write!(out, "{hour12:02}"),
            Part::Hour12 => write!(out, "{hour12}"),
            Part::Minute2 => write!(out, "{:02}", t.minute()),
            Part::Minute => write!(out, "{}", t.minute()),
            Part::Second2 => write!(out, "{:02}", t.second()),
            Part::Second => write!(out, "{}", t.second()),
            Part::Fraction(separator, digits, trim) => {
                let all = format!("{:09}", t.subsec_nanosecond());
                let mut kept = &all[..digits.min(9)];
                if trim {
                    kept = kept.trim_end_matches('0');
                }
                match kept.is_empty() {
                    true => Ok(()),
                    false => write!(out, "{separator}{kept}"),
                }
            }
            Part::Upper => out.write_str(if t.hour() < 12 { "AM" } else { "PM" }),
            Part::Lower => out.write_str(if t.hour() < 12 { "am" } else { "pm" }),
            Part::ZoneName => out.write_str(info.abbreviation()),
            Part::Zone { colon, z, short } => {
                if z && seconds == 0 {
                    out.write_str("Z")
                } else {
                    let sign = if seconds < 0 { '-' } else { '+' };
                    let (h, m) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
                    match (colon, short) {
                        (_, true) => write!(out, "{sign}{h:02}"),
                        (true, false) => write!(out, "{sign}{h:02}:{m:02}"),
                        (false, false) => write!(out, "{sign}{h:02}{m:02}"),
                    }
                }
            }
        };
        if written.is_err() {
            return;
        }
    }
}

/// Reads a time by its layout; without a zone in the text it is in `zone`. `None` if the text does not fit.
pub fn parse(layout: &str, text: &str, zone: &TimeZone) -> Option<(i64, TimeZone)> {
    let (mut year, mut month, mut day, mut yearday) = (0i16, 1i8, 1i8, None);
    let (mut hour, mut minute, mut second, mut nanosecond) = (0i8, 0i8, 0i8, 0i32);
    let mut afternoon = None;
    let mut offset = None;
    let mut rest = text;
    let parts = parts(layout);
    for (i, part) in parts.iter().enumerate() {
        match *part {
            Part::Literal(text) => rest = rest.strip_prefix(text)?,
            Part::Year4 => year = digits(&mut rest, 4, 4)? as i16,
            Part::Year2 => {
                let short = digits(&mut rest, 2, 2)? as i16;
                year = if short >= 69 { 1900 + short } else { 2000 + short };
            }
            Part::MonthName => month = name(&mut rest, &MONTHS, usize::MAX)?,
            Part::MonthShort => month = name(&mut rest, &MONTHS, 3)?,
            Part::Month2 => month = digits(&mut rest, 2, 2)? as i8,
            Part::Month => month = digits(&mut rest, 1, 2)? as i8,
            Part::DayName => drop(name(&mut rest, &DAYS, usize::MAX)?),
            Part::DayShort => drop(name(&mut rest, &DAYS, 3)?),
            Part::Day2 => day = digits(&mut rest, 2, 2)? as i8,
            Part::DayPadded => {
                rest = rest.strip_prefix(' ').unwrap_or(rest);
                day = digits(&mut rest, 1, 2)? as i8;
            }
            Part::Day => day = digits(&mut rest, 1, 2)? as i8,
            Part::YearDay => yearday = Some(digits(&mut rest, 3, 3)? as i16),
            Part::Hour24 | Part::Hour12Padded => hour = digits(&mut rest, 2, 2)? as i8,
            Part::Hour12 => hour = digits(&mut rest, 1, 2)? as i8,
            Part::Minute2 => minute = digits(&mut rest, 2, 2)? as i8,
            Part::Minute => minute = digits(&mut rest, 1, 2)? as i8,
            Part::Second2 | Part::Second => {
                let least = if *part == Part::Second2 { 2 } else { 1 };
                second = digits(&mut rest, least, 2)? as i8;
                // A fraction is read even where the layout has none.
                if !matches!(parts.get(i + 1), Some(Part::Fraction(..))) && rest.starts_with(['.', ',']) {
                    nanosecond = fraction(&mut rest).unwrap_or(0);
                }
            }
            Part::Fraction(..) => {
                if rest.starts_with(['.', ',']) {
                    nanosecond = fraction(&mut rest)?;
                } else if matches!(part, Part::Fraction(_, _, false)) {
                    return None;
                }
            }
            Part::Upper | Part::Lower => {
                let mark = rest.get(..2)?.to_ascii_uppercase();
                afternoon = Some(match mark.as_str() {
                    "AM" => false,
                    "PM" => true,
                    _ => return None,
                });
                rest = &rest[2..];
            }
            Part::ZoneName => {
                let len = rest.bytes().take_while(u8::is_ascii_uppercase).count();
                if len < 3 {
                    return None;
                }
                if &rest[..len] == "UTC" {
                    offset = Some(0);
                }
                rest = &rest[len..];
            }
            Part::Zone { colon, z, short } => {
                if z && rest.starts_with('Z') {
                    rest = &rest[1..];
                    offset = Some(0);
                    continue;
                }
                let sign = match rest.as_bytes().first()? {
                    b'+' => 1,
                    b'-' => -1,
                    _ => return None,
                };
                rest = &rest[1..];
                let mut seconds = digits(&mut rest, 2, 2)? as i32 * 3600;
                if colon {
                    rest = rest.strip_prefix(':')?;
                }
                if !short {
                    seconds += digits(&mut rest, 2, 2)? as i32 * 60;
                }
                offset = Some(sign * seconds);
            }
        }
    }
    if !rest.is_empty() {
        return None;
    }
    if let Some(afternoon) = afternoon {
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    }
    let mut t = DateTime::new(year, month, day, hour, minute, second, nanosecond).ok()?;
    if let Some(yearday) = yearday {
        t = t.with().day_of_year(yearday).build().ok()?;
    }
    let zone = match offset {
        Some(0) => TimeZone::UTC,
        Some(seconds) => TimeZone::fixed(Offset::from_seconds(seconds).ok()?),
        None => zone.clone(),
    };
    let ns = zone.to_timestamp(t).ok()?.as_nanosecond();
    Some((i64::try_from(ns).ok()?, zone))
}

fn digits(rest: &mut &str, least: usize, most: usize) -> Option<u32> {
    let len = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if len < least {
        return None;
    }
    let value = rest[..len].parse().ok();
    *rest = &rest[len..];
    value
}

fn name(rest: &mut &str, names: &[&str], len: usize) -> Option<i8> {
    for (i, name) in names.iter().enumerate() {
        let name = &name[..name.len().min(len)];
        if rest.get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name)) {
            *rest = &rest[name.len()..];
            return Some(i as i8 + 1);
        }
    }
    None
}

fn fraction(rest: &mut &str) -> Option<i32> {
    let len = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
    if len == 0 {
        return None;
    }
    let kept = &rest[1..1 + len.min(9)];
    let value: i32 = kept.parse().ok()?;
    *rest = &rest[1 + len..];
    Some(value * 10i32.pow(9 - kept.len() as u32))
}

/// The zone of what says none.
pub fn utc() -> TimeZone {
    TimeZone::UTC
}

/// A method of a time or a duration. `None`: there is no such method, or not with these arguments.
pub fn method(value: &Value, method: &str, arguments: &[Value]) -> Option<Value> {
    match value {
        Value::Time(ns, zone) => of_time(*ns, zone, method, arguments),
        Value::Duration(ns) => of_duration(*ns, method, arguments),
        _ => None,
    }
}

fn of_duration(ns: i64, method: &str, arguments: &[Value]) -> Option<Value> {
    Some(match (method, arguments) {
        ("String", []) => Value::Text(print_duration(ns)),
        ("Nanoseconds", []) => Value::Int(ns),
        ("Microseconds", []) => Value::Int(ns / 1_000),
        ("Milliseconds", []) => Value::Int(ns / 1_000_000),
        ("Seconds", []) => Value::Float(ns as f64 / 1e9),
        ("Minutes", []) => Value::Float(ns as f64 / 6e10),
        ("Hours", []) => Value::Float(ns as f64 / 3.6e12),
        ("Abs", []) => Value::Duration(ns.saturating_abs()),
        ("Truncate", [Value::Duration(by)]) if *by > 0 => Value::Duration(ns - ns % by),
        ("Round", [Value::Duration(by)]) if *by > 0 => {
            let rest = ns % by;
            let away = rest.unsigned_abs() >= by.unsigned_abs() - rest.unsigned_abs();
            let step = if away { by * ns.signum() } else { 0 };
            Value::Duration((ns - rest).saturating_add(step))
        }
        _ => return None,
    })
}

fn of_time(ns: i64, zone: &TimeZone, method: &str, arguments: &[Value]) -> Option<Value> {
    let instant = Timestamp::from_nanosecond(i128::from(ns)).ok()?;
    let t = zone.to_datetime(instant);
    Some(match (method, arguments) {
        ("Unix", []) => Value::Int(ns.div_euclid(1_000_000_000)),
        ("UnixMilli", []) => Value::Int(ns.div_euclid(1_000_000)),
        ("UnixMicro", []) => Value::Int(ns.div_euclid(1_000)),
        ("UnixNano", []) => Value::Int(ns),
        ("Add", [Value::Duration(by)]) => Value::Time(ns.saturating_add(*by), zone.clone()),
        ("Sub", [Value::Time(other, _)]) => Value::Duration(ns.saturating_sub(*other)),
        ("Before", [Value::Time(other, _)]) => Value::Bool(ns < *other),
        ("After", [Value::Time(other, _)]) => Value::Bool(ns > *other),
        ("Equal", [Value::Time(other, _)]) => Value::Bool(ns == *other),
        ("UTC", []) => Value::Time(ns, TimeZone::UTC),
        ("Local", []) => Value::Time(ns, TimeZone::UTC),
        ("Year", []) => Value::Int(t.year().into()),
        ("Month", []) => Value::Text(MONTHS[(t.month() - 1) as usize].into()),
        ("Day", []) => Value::Int(t.day().into()),
        ("Weekday", []) => Value::Text(DAYS[t.weekday().to_monday_zero_offset() as usize].into()),
        ("YearDay", []) => Value::Int(t.day_of_year().into()),
        ("Hour", []) => Value::Int(t.hour().into()),
        ("Minute", []) => Value::Int(t.minute().into()),
        ("Second", []) => Value::Int(t.second().into()),
        ("Nanosecond", []) => Value::Int(t.subsec_nanosecond().into()),
        ("String", []) => {
            let mut out = String::new();
            Value::Time(ns, zone.clone()).print(&mut out);
            Value::Text(out)
        }
        ("Format", [layout]) => {
            let mut out = String::new();
            format(&layout.text(), ns, zone, &mut out);
            Value::Text(out)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_print_and_read() {
        let ns = 1_678_411_960_340_485_723;
        for (layout, want) in [
            ("2006-01-02T15:04:05.999999999Z07:00", "2023-03-10T01:32:40.340485723Z"),
            ("Mon Jan _2 3:04PM 06 -0700 MST", "Fri Mar 10 1:32AM 23 +0000 UTC"),
            ("15:04:05.000", "01:32:40.340"),
            ("January 2, Monday", "March 10, Friday"),
        ] {
            let mut out = String::new();
            format(layout, ns, &TimeZone::UTC, &mut out);
            assert_eq!(out, want);
        }
        let read = |layout: &str, text: &str| parse(layout, text, &TimeZone::UTC).map(|(ns, _)| ns);
        assert_eq!(
            read("2006-01-02T15:04:05.999999999Z", "2023-03-10T01:32:40.340485723Z"),
            Some(ns)
        );
        assert_eq!(
            read("2006-01-02T15:04:05Z07:00", "2023-03-10T02:32:40+01:00"),
            Some(1_678_411_960_000_000_000)
        );
        assert_eq!(read("2006-01-02", "2021-13-01"), None);
        assert_eq!(read("2006-01-02", "x"), None);
        assert_eq!(read("2006 3:04 PM", "1970 12:30 am"), Some(1_800_000_000_000));
    }
}
