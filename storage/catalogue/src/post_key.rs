//! Keys of the postings: all that belongs to a day lies together, so that a day can be dropped as one range.
//!
//! ```text
//! all     = day · u8 0                                         every id in use on the day
//! name    = day · u8 1 · name                                  ids that have the label
//! value   = day · u8 2 · name len u32 · name · value           ids that have the label with the value
//! day     = i32 + 2^31 as u32; all numbers big-endian, so that byte order is number order
//! ```

use model::Day;

const ALL: u8 = 0;
const NAME: u8 = 1;
const VALUE: u8 = 2;

/// The first key of a day.
pub(crate) fn day_start(day: Day) -> Vec<u8> {
    (day.0 as u32 ^ 0x8000_0000).to_be_bytes().to_vec()
}

/// Above every key of a day, at or below every key of later days.
pub(crate) fn day_end(day: Day) -> Vec<u8> {
    match day.0.checked_add(1) {
        Some(next) => day_start(Day(next)),
        None => vec![0xff; 5],
    }
}

/// The day a key belongs to.
pub(crate) fn day_of(key: &[u8]) -> Option<Day> {
    let bytes = key.first_chunk::<4>()?;
    Some(Day((u32::from_be_bytes(*bytes) ^ 0x8000_0000) as i32))
}

/// The key of all ids of a day.
pub(crate) fn all(day: Day) -> Vec<u8> {
    with(day, ALL, &[])
}

/// The key of the ids that have a label.
pub(crate) fn name(day: Day, name: &str) -> Vec<u8> {
    with(day, NAME, &[name.as_bytes()])
}

/// Before all [`name`] keys of a day; they are this and the name.
pub(crate) fn names(day: Day) -> Vec<u8> {
    with(day, NAME, &[])
}

/// The key of the ids that have a label with a value.
pub(crate) fn value(day: Day, name: &str, value: &str) -> Vec<u8> {
    with(
        day,
        VALUE,
        &[&(name.len() as u32).to_be_bytes(), name.as_bytes(), value.as_bytes()],
    )
}

/// Before all [`value`] keys of a label; they are this and the value.
pub(crate) fn values(day: Day, name: &str) -> Vec<u8> {
    value(day, name, "")
}

/// The smallest key above all keys that begin with `prefix`.
pub(crate) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0xff; prefix.len() + 1]
}

fn with(day: Day, tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + parts.iter().map(|p| p.len()).sum::<usize>());
    key.extend_from_slice(&(day.0 as u32 ^ 0x8000_0000).to_be_bytes());
    key.push(tag);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_day_order() {
        let days = [i32::MIN, -1, 0, 1, 20_000, i32::MAX];
        for pair in days.windows(2) {
            let (a, b) = (Day(pair[0]), Day(pair[1]));
            assert!(day_start(a) < all(a) && all(a) < name(a, "") && name(a, "zzz") < value(a, "a", ""));
            assert!(
                value(a, "z", "\u{10ffff}") < day_end(a) && day_end(a) <= day_start(b),
                "{a:?}"
            );
            assert_eq!(day_of(&value(a, "n", "v")), Some(a));
        }
        assert!(value(Day(i32::MAX), "z", "z") < day_end(Day(i32::MAX)));
    }

    /// `a` + `bc` and `ab` + `c` must not share a key, or a matcher on one label would see another.
    #[test]
    fn names_and_values_do_not_run_together() {
        assert_ne!(value(Day(0), "a", "bc"), value(Day(0), "ab", "c"));
        assert!(!value(Day(0), "ab", "c").starts_with(&values(Day(0), "a")));
        assert_eq!(after(&[1, 0xff, 0xff]), [2]);
        assert_eq!(after(&[0xff]), [0xff, 0xff]);
    }
}
